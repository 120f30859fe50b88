"""Files that say what shall be, and the changes that lead there. Asks no questions and carries nothing out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from partitioner.cli.output import some
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.changes import Changes
    from partitioner.documents import Document
    from partitioner.layout import GpuLayout, Layout

STATUS_FORMAT = "gpu-partitioner/status"
_MAX_MIB = 2048


@dataclass(frozen=True)
class Goal:
    """A layout to be reached.

    Parameters
    ----------
    layout : it.
    numbered : whether the numbers of replicas mean something: a plan made without looking at what runs numbers them as it
        comes.
    origin : the file.
    current : what ran when a plan was made that looked at it; None of others.
    """

    layout: Layout
    numbered: bool
    origin: str
    current: Layout | None = None


def read_goal(path: str | os.PathLike[str]) -> Goal | Changes:
    """Return what a file says: a plan, a recorded status, or changes.

    Raises
    ------
    SpecError
        The file is none of them, or not consistent.
    """
    from partitioner.changes import FORMAT as CHANGES
    from partitioner.changes import Changes
    from partitioner.documents import read
    from partitioner.plans import FORMAT as PLAN
    from partitioner.plans import Plan

    document = read(path, max_mib=_MAX_MIB, syntax="json")
    kind = document.data.get("format") if isinstance(document.data, dict) else None
    if kind == CHANGES:
        return Changes.from_json(document.text, origin=document.origin)
    if kind == PLAN:
        plan = Plan.from_json(document.text, origin=document.origin)
        return Goal(plan.layout, plan.current is not None, document.origin, plan.current)
    if kind == STATUS_FORMAT:
        return Goal(_status_layout(document), numbered=True, origin=document.origin)
    raise SpecError(
        document.problem(
            f"its format is {kind!r}; a plan (partitioner plan ... --out), changes (partitioner diff ... --out)"
            " or a status (partitioner status --json) is wanted"
        )
    )


def _status_layout(document: Document) -> Layout:
    from partitioner.layout import Layout

    try:
        return Layout.from_data(document.data.get("layout"))
    except SpecError as error:
        raise SpecError(document.problem(f"status is not consistent: {error}")) from error


def read_layout(path: str | os.PathLike[str], *, wanted: str) -> Layout:
    """Return the layout of a plan or a recorded status.

    Parameters
    ----------
    path : the file.
    wanted : what it is for, for the message.

    Raises
    ------
    SpecError
        The file is neither.
    """
    found = read_goal(path)
    if not isinstance(found, Goal):
        raise SpecError(f"{os.fspath(path)}: holds changes, not a layout; {wanted} takes a plan or a status")
    return found.layout


def goal_here(goal: Goal, now: Layout, *, target: str) -> tuple[Layout, tuple[str, ...]]:
    """Return the part of a goal that is this target's, with notes on what was left out or taken for something else.

    Parameters
    ----------
    goal : what shall be, perhaps of more hosts than the target has.
    now : the target's layout.
    target : its name.

    Raises
    ------
    SpecError
        No host of the goal is there, or its GPUs are of no host and the target has several.
    """
    from partitioner.changes import renumbered

    wanted = _hosts(goal.layout)
    there = _hosts(now)
    if wanted == [None] and None not in there:
        layout, notes = _placed_in_host(goal, now, there, target=target)
    else:
        strange = [host for host in wanted if host not in there]
        if len(strange) == len(wanted):
            raise SpecError(
                f"{goal.origin}: is for {_named(wanted)}, and {target} has {_named(there)}; take it there, or say with"
                f" --target nvml:NAME how this machine is called in it"
            )
        layout, notes = goal.layout, ()
        if strange:
            layout = layout.only(key for key in layout.rows if key[0] in set(there))
            notes = (f"left out {_named(strange)}, which {target} does not have",)
    return (layout if goal.numbered else renumbered(layout, now)), notes


def _placed_in_host(goal: Goal, now: Layout, there: list[str | None], *, target: str) -> tuple[Layout, tuple[str, ...]]:
    """Take the GPUs of a plan without hosts for the target's GPUs of the same model, in their order."""
    from partitioner.layout import Layout, gpu_label

    if len(there) != 1:
        raise SpecError(
            f"{goal.origin}: its GPUs are of no host, and {target} has {_named(there)}; plan with --target {target} instead"
        )
    free: dict[str, list[GpuLayout]] = {}
    for gpu in now:
        free.setdefault(gpu.model, []).append(gpu)
    placed = []
    for gpu in goal.layout:
        own = free.get(gpu.model)
        if not own:
            count = sum(gpu.model == other.model for other in now)
            has = f"{count} of it" if count else ", ".join(sorted({other.model for other in now}))
            raise SpecError(
                f"{goal.origin}: {gpu_label(None, gpu.gpu)} is a {gpu.model}, and {target} has {has};"
                f" plan with --target {target} instead"
            )
        here = own.pop(0)
        placed.append(replace(gpu, host=here.host, gpu=here.gpu))
    names = some([gpu_label(gpu.host, gpu.gpu) for gpu in placed])
    return Layout.of(placed), (f"{goal.origin} names no host: its GPUs are taken for {names}",)


def changes_to(
    found: Goal | Changes, now: Layout, *, target: str, max_interruptions: int | None
) -> tuple[Changes, tuple[str, ...]]:
    """Return the changes that lead from a target's layout to what a file says, with notes.

    Parameters
    ----------
    found : what the file says; changes are returned as they are.
    now, target : the target's layout and name.
    max_interruptions : as of `diff`; does not go with changes.

    Raises
    ------
    SpecError
        The goal is not for this target.
    InfeasibleError
        No order was found that keeps to `max_interruptions`.
    """
    from partitioner.changes import diff

    if not isinstance(found, Goal):
        if max_interruptions is not None:
            raise SpecError("the order of saved changes is settled; give --max-interruptions to `partitioner diff` instead")
        return found, ()
    goal, notes = goal_here(found, now, target=target)
    changes = diff(now, goal, max_interruptions=max_interruptions)
    return changes, (*notes, *_outdated(found, changes)) if changes else notes


def _outdated(found: Goal, changes: Changes) -> Iterator[str]:
    """Say which GPUs are not as they were when a plan was made."""
    from partitioner.layout import gpu_label

    if found.current is not None:
        rows = found.current.rows
        moved = [gpu for gpu in changes.base if (row := rows.get((gpu.host, gpu.gpu))) is None or found.current.gpu(row) != gpu]
        if moved:
            names = some([gpu_label(gpu.host, gpu.gpu) for gpu in moved])
            yield f"{names}: not as when {found.origin} was made; the steps begin with what is there now"


def _hosts(layout: Layout) -> list[str | None]:
    return list(dict.fromkeys(host for host, _ in layout.rows))


def _named(hosts: list[str | None]) -> str:
    names = ["GPUs of no host" if host is None else host for host in hosts]
    word = "hosts " if len(names) > 1 else "host " if hosts != [None] else ""
    return f"{word}{some(names)}" if names else "no host"
