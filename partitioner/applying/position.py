"""How far changes are carried out already, read off a layout. Must not know targets that can be written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from partitioner.applying.drift import differences, other_boards
from partitioner.applying.goals import hosts_of, named
from partitioner.applying.words import some_lines
from partitioner.changes import Changes
from partitioner.changes.state import State
from partitioner.changes.step import Step
from partitioner.errors import DriftError
from partitioner.layout import GpuKey, GpuLayout, Layout, gpu_label
from partitioner.targets import begun

Gpus = dict[GpuKey, GpuLayout]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a layout stands between the base and the goal of changes.

    Parameters
    ----------
    done : steps carried out already, in order.
    remaining : steps still to be carried out, in order; the first of them may be begun.
    final : the GPUs that the changes touch, after all steps.
    """

    done: tuple[Step, ...]
    remaining: tuple[Step, ...]
    final: Gpus


def by_key(layout: Iterable[GpuLayout]) -> Gpus:
    """Return the GPUs of a layout by host and index."""
    return {(gpu.host, gpu.gpu): gpu for gpu in layout}


def touched(layout: Layout, keys: Iterable[GpuKey], *, target: str) -> Gpus:
    """Return some of the GPUs of a target.

    Raises
    ------
    DriftError
        It does not have all of them: names its hosts, or its GPUs.
    """
    wanted = dict.fromkeys(keys)
    missing = [key for key in wanted if key not in layout.rows]
    if not missing:
        return {key: layout.gpu(layout.rows[key]) for key in wanted}
    there = hosts_of(layout.rows)
    strange = [host for host in hosts_of(missing) if host not in there]
    if strange:
        raise DriftError(
            f"the changes are for {named(strange)}, and {target} has {named(there)}; "
            "apply them there, or compute them anew from this target's layout"
        )
    raise DriftError(
        f"{target}: GPUs of the changes are not there; see whether they fell off the bus, then compute the changes anew",
        some_lines([gpu_label(*key) for key in missing]),
    )


def position(changes: Changes, now: Layout, *, target: str) -> Position:
    """Return how far changes are carried out on a target.

    Parameters
    ----------
    changes : what shall be, or was being, carried out.
    now : the target's layout, of all its GPUs.
    target : its name, for messages.

    Raises
    ------
    DriftError
        A GPU that the changes touch is not there, is another board, or is neither as before nor as after one of the steps.

    Notes
    -----
    Layouts along the way can repeat; the first that fits is taken, since the steps from there on do all that is to be done.
    Linear in the steps.
    """
    base = by_key(changes.base)
    here = touched(now, base, target=target)
    boards = other_boards(base.values(), here.values())
    if boards:
        raise DriftError(f"{target}: the changes were made for other boards; compute them anew", boards)
    steps = tuple(step for step in changes.steps if step.kind != "keep")
    state = State(base.values())
    wrong = {key for key, gpu in here.items() if base[key] != gpu}
    nearest = (len(wrong), {key: base[key] for key in wrong})
    done = None if wrong else 0
    for number, step in enumerate(steps):
        own = (step.host, step.gpu)
        if done is None and wrong == {own} and begun(state.gpu(own), step) == here[own]:
            done = number
        state.perform(step)
        for key in _keys(step):
            (wrong.discard if state.gpu(key) == here[key] else wrong.add)(key)
        if done is None and len(wrong) < nearest[0]:
            nearest = (len(wrong), {key: state.gpu(key) for key in wrong})
            done = None if wrong else number + 1
    if done is None:
        raise _drift(nearest[1], here, target)
    return Position(steps[:done], steps[done:], {key: state.gpu(key) for key in base})


def _drift(there: Gpus, here: Gpus, target: str) -> DriftError:
    lines = [line for key, gpu in there.items() for line in differences(gpu, here[key])]
    said = f"{target}: is not as it was when the changes were computed; compute them anew"
    return DriftError(said, some_lines(lines))


def _keys(step: Step) -> tuple[GpuKey, ...]:
    key = (step.host, step.gpu)
    if step.source is None or (step.source.host, step.source.gpu) == key:
        return (key,)
    return key, (step.source.host, step.source.gpu)
