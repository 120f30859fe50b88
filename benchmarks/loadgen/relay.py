"""Carries queries from LoadGen's thread to a system in the event loop, answers back, and writes both down.

Every query is completed towards LoadGen whatever becomes of it, so that its test ends. Knows no LoadGen and no settings.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from benchmarks.errors import BenchmarkError
from benchmarks.load.engine import FAILURES_IN_A_ROW
from benchmarks.load.values import Load, System

_LOOK_S = 0.2


@dataclass(slots=True, eq=False)
class Relay:
    """Queries of one test, under way and done.

    Parameters
    ----------
    system : what answers; it is open.
    load : what is asked.
    complete : tells LoadGen the ids of samples that were answered, or failed.
    planned : queries that LoadGen issues in mode server, unless it ends the test because too many are in flight; 0 in others.
    """

    system: System
    load: Load
    complete: Callable[[Sequence[int]], None]
    planned: int
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    calls_s: array[float] = field(default_factory=lambda: array("d"))
    """When LoadGen called with one or several queries."""
    call_starts: array[int] = field(default_factory=lambda: array("q"))
    """How many samples it had issued before each call; each of them is a query of its own in mode server."""
    due_s: array[float] = field(default_factory=lambda: array("d"))
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    done_s: array[float] = field(default_factory=lambda: array("d"))
    samples: array[int] = field(default_factory=lambda: array("q"))
    failed: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    samples_done: int = 0
    given_up: str | None = None
    """Why no more is sent; what LoadGen still asks for is not written down."""
    overloaded: bool = False
    """Whether LoadGen ended the test because too many queries were in flight."""
    broken: Exception | None = None
    """What the system raised that no system should."""
    _issued: int = 0
    _arrived: deque[tuple[float, list[int], list[int]]] = field(default_factory=deque)
    _woken: bool = False
    _under_way: dict[int, tuple[asyncio.Task[None], Sequence[int]]] = field(default_factory=dict)
    _backlog: Iterator[tuple[list[int], list[int]]] = field(default_factory=lambda: iter(()))
    _held: list[int] = field(default_factory=list)
    _flushed: bool = False
    _holding: threading.Lock = field(default_factory=threading.Lock)
    _answered_s: float = 0.0
    _failures_in_a_row: int = 0

    def issue(self, ids: list[int], samples: list[int]) -> None:
        """Take queries from LoadGen, in its thread."""
        try:
            now = time.monotonic()
            if self.given_up is None:
                self.calls_s.append(now)
                self.call_starts.append(self._issued)
                self._issued += len(ids)
                self._arrived.append((now, ids, samples))
                if not self._woken:
                    self._woken = True  # one wake-up brings all queries that arrive until it is carried out
                    self.loop.call_soon_threadsafe(self._send_arrived)
                return
        except Exception as error:  # noqa: BLE001 - one that got out of here would end the process without a word
            self.given_up = f"the event loop takes no more queries: {error}"
        self._refuse(ids)

    def flush(self) -> None:
        """Complete what was held back; LoadGen calls this, in its thread, when it issues no more."""
        with self._holding:
            self._flushed, ids, self._held = True, self._held, []
        if ids:
            self.complete(ids)
        if self.given_up is None and self._issued < self.planned:
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._overload)

    def _overload(self) -> None:
        self.overloaded = True
        self.give_up(f"LoadGen ended the test with {len(self._under_way)} queries in flight")

    def _send_arrived(self) -> None:
        self._woken = False
        while self._arrived:
            now, ids, samples = self._arrived.popleft()
            if self.given_up is not None:
                self._refuse(ids)
            elif self.load.mode == "server":
                for one, sample in zip(ids, samples, strict=True):
                    self._send(now, (one,), (sample,))
            elif self.load.mode == "offline":
                self._backlog = _batches(ids, samples, self.load.batch)
                for batch in islice(self._backlog, self.load.concurrency):
                    self._send(None, *batch)
            else:
                self._send(now, ids, samples)

    def _send(self, due_s: float | None, ids: Sequence[int], samples: Sequence[int]) -> None:
        query = len(self.sent_s)
        now = time.monotonic()
        self.due_s.append(now if due_s is None else due_s)
        self.sent_s.append(now)
        self.done_s.append(0.0)
        self.samples.append(len(ids))
        self._under_way[query] = (self.loop.create_task(self._ask(query, samples)), ids)

    async def _ask(self, query: int, samples: Sequence[int]) -> None:
        self.sent_s[query] = time.monotonic()
        try:
            await self.system.infer(samples)
        except (BenchmarkError, OSError) as error:
            self._settle(query, str(error))
        except Exception as error:  # noqa: BLE001 - whatever went wrong, LoadGen must be told, or it waits for ever
            self.broken = error
            self.give_up(f"the system raised {error!r}")
        else:
            self._settle(query, None)

    def _settle(self, query: int, failure: str | None) -> None:
        """Write down how a query ended, tell LoadGen, and send the next where one waits for it."""
        entry = self._under_way.pop(query, None)
        if entry is None:
            return  # it has failed before: too late, or given up
        _, ids = entry
        now = self.done_s[query] = time.monotonic()
        if self.given_up is None:
            self.complete(ids)
        else:
            self._refuse(ids)
        if failure is None:
            self.samples_done += len(ids)
            self._answered_s, self._failures_in_a_row = now, 0
        else:
            self._fail(query, failure)
        if self.given_up is None:
            for batch in islice(self._backlog, 1):
                self._send(None, *batch)

    def _fail(self, query: int, failure: str) -> None:
        self.failed.append(query)
        self.failures[failure] += 1
        self._failures_in_a_row += 1
        silent_s = time.monotonic() - max(self._answered_s, self.calls_s[0])
        hangs = self._failures_in_a_row > 1 and silent_s > self.load.timeout_s
        if hangs or self._failures_in_a_row >= FAILURES_IN_A_ROW:
            self.give_up(f"nothing was answered for {silent_s:.1f} s while {self._failures_in_a_row} requests in a row failed")

    def give_up(self, why: str) -> None:
        """Fail what is under way and send no more, so that LoadGen's test ends."""
        if self.given_up is not None:
            return
        self.given_up = why
        for query, (task, _) in list(self._under_way.items()):
            self._settle(query, f"given up: {why}")
            task.cancel()
        for ids, _ in self._backlog:
            self._refuse(ids)

    def _refuse(self, ids: Sequence[int]) -> None:
        """End queries that will not be sent: in mode server by holding them back until LoadGen sees too many of them.

        LoadGen cannot be stopped, but ends by itself when more queries are in flight than it was told to bear. In the other
        modes it waits for each query, and comes to its end at once when they are completed.
        """
        with self._holding:
            if self.load.mode == "server" and not self._flushed:
                self._held.extend(ids)
                return
        self.complete(ids)

    async def watch(self, progress: Callable[[int], None]) -> None:
        """Fail queries that wait too long and tell the progress, until cancelled."""
        late = f"no answer within {self.load.timeout_s:g} s"
        while True:
            await asyncio.sleep(min(_LOOK_S, self.load.timeout_s / 4))
            progress(self.samples_done)
            before_s = time.monotonic() - self.load.timeout_s
            for query in [query for query in self._under_way if self.sent_s[query] < before_s]:
                if query in self._under_way:  # giving up settles all of them
                    task, _ = self._under_way[query]
                    self._settle(query, late)
                    task.cancel()


def _batches(ids: list[int], samples: list[int], size: int) -> Iterator[tuple[list[int], list[int]]]:
    for at in range(0, len(ids), size):
        yield ids[at : at + size], samples[at : at + size]
