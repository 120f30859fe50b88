"""`partitioner watch`: reads a target again and again, and says what changes, one line each. Changes nothing."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.events import Event, events
from partitioner.cli.goals import read_layout_goal
from partitioner.cli.output import counted, note, printable
from partitioner.cli.reading import Status, now, read_status
from partitioner.cli.target import TargetName, opened
from partitioner.errors import TargetError

if TYPE_CHECKING:
    from partitioner.applying import Goal
    from partitioner.targets import Target

WATCH_HELP = """Read a target again and again, and say what changes: instances, who holds them, processes, modes.

With --plan also where it is not as planned. One line each, with the time and + came, - went, ~ changed; with --json one
object a line. Ends on Ctrl-C, or after --count readings.

\b
Examples:
  partitioner watch --target nvml --plan plan.json
  partitioner watch --target sim:fleet.yaml --interval 0.5 --json
"""


def watch(
    *,
    target: TargetName = None,
    interval: Annotated[float, typer.Option(metavar="S", min=0.01, max=86_400, help="Seconds between readings.")] = 2.0,
    plan: Annotated[str | None, typer.Option(metavar="PLAN", help="A plan, or a status: say where it is not as this.")] = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many readings.")] = None,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
) -> None:
    """Read a target again and again, and say what changes."""
    add_catalog_files(catalog_files)
    with opened(target) as there:
        first = read_status(there)
        goal = None if plan is None else read_layout_goal(plan, wanted="watch")
        try:
            for event in _watched(there, first, goal, interval, count):
                line = json.dumps(event.to_data(), ensure_ascii=True) if as_json else printable(str(event))
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        except KeyboardInterrupt:  # that is how it ends
            return


def _watched(there: Target, first: Status, goal: Goal | None, interval: float, count: int | None) -> Iterator[Event]:
    """Iterate over what happens, for ever or for so many readings."""
    instances = counted(sum(len(gpu.instances or ()) for gpu in first.gpus), "instance")
    text = f"{first.target}: {counted(len(first.gpus), 'GPU')}, {instances}"
    yield Event(first.time, "start", "", text, None, {"target": first.target})
    wanted = _wanted(goal, first)
    before, drift, failure = first, _drift(wanted, first), None
    yield from _of_plan((), drift, first.time, said=goal is not None)
    for number in itertools.count(2):
        if count is not None and number > count:
            return
        time.sleep(interval)
        try:
            after = read_status(there)
        except TargetError as error:
            if str(error) != failure:  # said once, not at each reading
                failure = str(error)
                yield Event(now(), "error", "-", failure)
            continue
        if failure is not None:
            failure = None
            yield Event(after.time, "error", "+", f"{after.target} answers again")
        yield from events(before, after)
        found = _drift(wanted, after)
        yield from _of_plan(drift, found, after.time)
        before, drift = after, found


def _of_plan(was: tuple[str, ...], is_: tuple[str, ...], time_: str, *, said: bool = False) -> Iterator[Event]:
    for line in is_:
        if line not in was:
            yield Event(time_, "plan", "-", f"not as planned: {line}", None, {"difference": line})
    for line in was:
        if line not in is_ and is_:
            yield Event(time_, "plan", "+", f"as planned again: {line}", None, {"difference": line})
    if not is_ and (was or said):
        yield Event(time_, "plan", "+", "as planned", None, {"difference": None})


def _wanted(goal: Goal | None, first: Status) -> Goal | None:
    """Return the part of a goal that is this target's."""
    if goal is None:
        return None
    from partitioner.applying import goal_here

    layout, notes = goal_here(goal, first.layout, target=first.target)
    for text in notes:
        note(text)
    return replace(goal, layout=layout)


def _drift(goal: Goal | None, status: Status) -> tuple[str, ...]:
    """Return in what a target is not as planned, one line each."""
    if goal is None:
        return ()
    from partitioner.applying.drift import differences
    from partitioner.changes import renumbered
    from partitioner.layout import gpu_label

    here = status.layout
    lines: list[str] = []
    for gpu in goal.layout if goal.numbered else renumbered(goal.layout, here):
        key = (gpu.host, gpu.gpu)
        row = here.rows.get(key)
        if row is None:
            lines.append(f"{gpu_label(*key)} ({gpu.model}): cannot be read")
            continue
        found = here.gpu(row)
        if gpu.mode is None:  # to be empty, in whatever mode
            lines += [f"{gpu_label(*key)} ({gpu.model}): {slot.profile}@{slot.start} is there too" for slot in found.slots]
        else:
            lines += differences(gpu, found)
    return tuple(lines)
