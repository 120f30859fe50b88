"""What-if questions: who stays, what changes, and whether it then fits. Must not know what the answers are used for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter

from partitioner.errors import SpecError
from partitioner.solver.inquiry import Answer, Inquiry, answer
from partitioner.workload import FIELDS, Workload, Workloads

_SHARE, _LEAST_S = 0.25, 1.0  # of what is left of the time, one question takes this much at most, or this many seconds
_LABELS = ("name", "count", "priority", "labels")
_TERMS = attrgetter(*(name for name in FIELDS if name not in _LABELS))


def placed_of(inquiry: Inquiry, found: Answer) -> dict[str, int]:
    """Return how many replicas of each workload are placed; of a service 1 or 0."""
    left = {entry.workload: entry.count for entry in found.unplaced}
    return {workload.name: workload.count - left.get(workload.name, 0) for workload in inquiry.workloads}


def question(inquiry: Inquiry, counts: Mapping[str, int], *, single: Collection[str] = ()) -> Inquiry:
    """Return the question whether workloads fit in these numbers.

    Parameters
    ----------
    inquiry : what was asked.
    counts : name to replicas; who is not named, or with 0, is absent, and so are the rules about him.
    single : names of workloads that keep their names; others are counted together where they ask for the same.

    Returns
    -------
    A question without priorities whose stages are ``placed`` and ``gpus``.
    """
    present = {name for name, count in counts.items() if count}
    chosen = [workload for workload in inquiry.workloads if workload.name in present]
    named = {name for w in chosen for name in (*w.apart_from, *w.together_with)} | set(single)
    merged: dict[object, tuple[Workload, int]] = {}
    for workload in chosen:
        plain = not (workload.spread or workload.apart_from or workload.together_with or workload.model is not None)
        key = _TERMS(workload) if plain and workload.name not in named else workload.name
        first, count = merged.get(key, (workload, 0))
        merged[key] = first, count + counts[workload.name]
    workloads = (_standing(workload, count, present) for workload, count in merged.values())
    return replace(inquiry, workloads=Workloads(workloads), objective=("placed", "gpus"))


def _standing(workload: Workload, count: int, present: Collection[str]) -> Workload:
    apart = tuple(name for name in workload.apart_from if name in present)
    together = tuple(name for name in workload.together_with if name in present)
    if (count, 0, apart, together) == (workload.count, workload.priority, workload.apart_from, workload.together_with):
        return workload
    return replace(workload, count=count, priority=0, apart_from=apart, together_with=together)


def change_workload(inquiry: Inquiry, name: str, change: Callable[[Workload], Workload]) -> Inquiry:
    """Return a question with one workload changed."""
    workloads = (change(workload) if workload.name == name else workload for workload in inquiry.workloads)
    return replace(inquiry, workloads=Workloads(workloads))


@dataclass
class Trials:
    """Answers what-if questions one after the other, until a deadline.

    Parameters
    ----------
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines.
    unfinished : what could not be settled in time, in words, in order.
    """

    deadline: float
    seed: int
    unfinished: dict[str, None] = field(default_factory=dict)

    def solve(self, inquiry: Inquiry) -> Answer:
        """Return the best answer found in this question's share of the time.

        Raises
        ------
        SpecError
            Nothing here offers what is asked for.
        """
        now = time.monotonic()
        left = max(0.0, self.deadline - now)
        return answer(inquiry, deadline=now + max(_SHARE * left, min(left, _LEAST_S)), seed=self.seed, why=False)

    def fits(self, inquiry: Inquiry, words: str) -> bool | None:
        """Return whether everything in a question fits; None, remembered by `words`, where that is not settled in time."""
        if not self.left:
            self.unfinished[words] = None
            return None
        try:
            found = self.solve(inquiry)
        except SpecError:  # not to be had here, in any number
            return False
        if not found.unplaced:
            return True
        placed = next(stage for stage in found.objectives if stage.name == "placed")
        if placed.bound < sum(workload.count for workload in inquiry.workloads):
            return False
        self.unfinished[words] = None
        return None

    @property
    def left(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.deadline

    def until(self, share: float) -> Trials:
        """Return trials that take a share of the time that is left, and remember in the same place."""
        now = time.monotonic()
        return Trials(now + share * max(0.0, self.deadline - now), self.seed, self.unfinished)
