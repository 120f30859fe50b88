"""Performing steps on a target, one after the other, up to the first that fails. Must not know journals or rolling back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from partitioner.applying.drift import differences
from partitioner.applying.interrupting import between_steps
from partitioner.applying.position import Gpus, touched
from partitioner.changes import Step
from partitioner.errors import PartitionerError
from partitioner.layout import Layout
from partitioner.targets import Target, stoppable

Progress = Callable[[int, int, Step | None], None]
"""Called before each step with the number done, the number of all, and the step; after the last one with None."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far steps were performed.

    Parameters
    ----------
    done : steps performed, in order.
    remaining : those that were not, the failed one first.
    durations_s : what each step done took [s].
    error : why the first of the remaining ones failed; None where none remains.
    """

    done: tuple[Step, ...]
    remaining: tuple[Step, ...]
    durations_s: tuple[float, ...]
    error: PartitionerError | None = None


def perform(steps: Sequence[Step], target: Target, progress: Progress | None = None) -> Outcome:
    """Perform steps in order and stop at the first that fails.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C; the step under way was finished first, one that waited for processes was not begun.
    """
    durations: list[float] = []
    with between_steps() as asked, stoppable(asked):
        for number, step in enumerate(steps):
            if asked():
                raise _stopped(number, len(steps))
            if progress is not None:
                progress(number, len(steps), step)
            began = time.perf_counter()
            try:
                target.perform(step)
            except KeyboardInterrupt as stop:
                if asked():  # it only waited, so that nothing of the step is under way
                    raise _stopped(number, len(steps)) from stop
                raise
            except PartitionerError as error:
                return Outcome(tuple(steps[:number]), tuple(steps[number:]), tuple(durations), error)
            durations.append(time.perf_counter() - began)
        if asked():
            raise _stopped(len(steps), len(steps))
    if progress is not None:
        progress(len(steps), len(steps), None)
    return Outcome(tuple(steps), (), tuple(durations))


def not_reached(final: Gpus, layout: Layout, *, target: str) -> list[str]:
    """Return one line for each difference between what GPUs should be like in the end and what they are like.

    Raises
    ------
    DriftError
        A GPU is not there any more.
    """
    here = touched(layout, final, target=target)
    return [line for key, gpu in final.items() if here[key] != gpu for line in differences(gpu, here[key])]


def _stopped(done: int, total: int) -> KeyboardInterrupt:
    return KeyboardInterrupt(f"stopped after {done} of {total} steps; run it again to go on, or roll back")
