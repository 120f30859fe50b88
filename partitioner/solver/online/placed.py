"""What an allocator answers with: placements, migrations, numbers of replicas. Must not know how they are chosen."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

from partitioner.errors import SpecError
from partitioner.layout import gpu_label


class Placement(NamedTuple):
    """An instance given to a request, until it is released.

    A tuple, because making one takes a fifth of the time of a dataclass, and there is one for every request.

    Parameters
    ----------
    id : to release it by; never given twice by one allocator.
    host, gpu : the GPU, by host and index in the host.
    mode, profile, start : the instance, in the catalogue's names.
    workload, replica : who it was given to; None where a profile was asked for by name alone.
    """

    id: int
    host: str
    gpu: int
    mode: str
    profile: str
    start: int
    workload: str | None = None
    replica: int | None = None

    def __str__(self) -> str:
        who = "" if self.workload is None else f" for {self.workload}/{self.replica}"
        return f"#{self.id} {gpu_label(self.host, self.gpu)} {self.profile}@{self.start}{who}"


class Migration(NamedTuple):
    """One instance that moved: made at `target`, which was free then, and after that given up at `source`.

    Parameters
    ----------
    source, target : the placement before and after; both have the same id.
    """

    source: Placement
    target: Placement

    def __str__(self) -> str:
        return f"~ {self.source} -> {gpu_label(self.target.host, self.target.gpu)} {self.target.profile}@{self.target.start}"


class ReplicaNumbers:
    """Numbers of the replicas of one workload: the lowest free one is next."""

    def __init__(self) -> None:
        self._next = 0
        self._returned: list[int] = []

    def new(self) -> int:
        """Return a number that is free, and take it."""
        if self._returned:
            return heappop(self._returned)
        self._next += 1
        return self._next - 1

    def take(self, number: int) -> None:
        """Take a number.

        Raises
        ------
        SpecError
            It is taken.
        """
        if number < self._next:
            if number not in self._returned:
                raise SpecError(f"replica {number} of one workload stands twice")
            self._returned.remove(number)
            heapify(self._returned)
            return
        for missing in range(self._next, number):
            heappush(self._returned, missing)
        self._next = number + 1

    def give_back(self, number: int) -> None:
        """Let a number be taken again."""
        heappush(self._returned, number)
