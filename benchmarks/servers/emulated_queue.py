"""The queue of an emulated device in virtual time: who is served when. Knows no clocks, no servers and no models.

Times are those at which things would happen on a device that is never late. Whoever keeps the clock may look late: what was
due before is then done as of when it was due, so that lateness does not add up.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from partitioner.errors import SpecError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Requests that are served together.

    Parameters
    ----------
    start_s, done_s : when the batch is taken and when it is done [s].
    arrivals_s : of its requests [s].
    samples : of its requests.
    tokens : what the requests were named by.
    """

    start_s: float
    done_s: float
    arrivals_s: tuple[float, ...]
    samples: tuple[int, ...]
    tokens: tuple[T, ...]


class BatchQueue(Generic[T]):
    """One queue before several servers, each of which takes all that waits, up to a batch, whenever it is free.

    Parameters
    ----------
    service_s : time that a batch of 1, 2, ... samples takes [s]; as many as fit into a batch.
    processes : servers.

    Raises
    ------
    SpecError
        There is no service time, a negative one, or no server.
    """

    def __init__(self, service_s: Sequence[float], processes: int = 1) -> None:
        if not service_s or min(service_s) < 0 or processes < 1:
            raise SpecError(
                f"emulated queue - {len(service_s)} service times and {processes} processes; at least one of each is wanted,"
                " and no time below 0"
            )
        self._service_s = tuple(service_s)
        self._free_s = [float("-inf")] * processes  # a heap
        self._waiting: deque[tuple[float, int, T]] = deque()

    @property
    def most(self) -> int:
        """Samples in the largest batch."""
        return len(self._service_s)

    @property
    def next_start_s(self) -> float | None:
        """When the next batch will be taken, if nothing else arrives [s]; None where nothing waits."""
        return max(self._free_s[0], self._waiting[0][0]) if self._waiting else None

    def arrive(self, now_s: float, samples: int, token: T) -> list[Batch[T]]:
        """Put a request of 1 to `most` samples at the end; return the batches that were taken up to now, in order.

        Parameters
        ----------
        now_s : not before the request that arrived last [s].
        samples : of the request.
        token : what to name it by.

        Notes
        -----
        A server that is free takes the request at once, alone. What waited already is taken without it.
        """
        before = self.advance(now_s)
        self._waiting.append((now_s, samples, token))
        return before + self.advance(now_s)

    def advance(self, now_s: float) -> list[Batch[T]]:
        """Return the batches that were taken up to now, in order."""
        taken = []
        while (start_s := self.next_start_s) is not None and start_s <= now_s:
            taken.append(self._take(start_s))
        return taken

    def _take(self, start_s: float) -> Batch[T]:
        requests, total = [], 0
        while self._waiting and self._waiting[0][0] <= start_s and total + self._waiting[0][1] <= self.most:
            requests.append(self._waiting.popleft())
            total += requests[-1][1]
        done_s = start_s + self._service_s[total - 1]
        heapq.heapreplace(self._free_s, done_s)
        arrivals, samples, tokens = zip(*requests, strict=True)
        return Batch(start_s, done_s, arrivals, samples, tokens)
