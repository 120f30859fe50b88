"""The default engine: sends a load from one asyncio loop and writes down when each query was due, sent and done.

It knows `System` only, no network. Few things happen for each query, since they are part of what is measured: the schedule
and the samples' order are made before the start, times go into arrays, and a single timer looks for queries that hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

from benchmarks.errors import BenchmarkError, LoadGeneratorError
from benchmarks.load.alarm import Alarm, sleep_until
from benchmarks.load.arrivals import poisson
from benchmarks.load.early_stopping import fewest_queries
from benchmarks.load.log import RequestLog, Seconds
from benchmarks.load.values import Load, Progress, System

FAILURES_IN_A_ROW = 100
"""After so many the rest is not sent: the run is INVALID already, and a dead server would be asked thousands of times."""
_LOOK_S = 0.2

Samples = tuple[int, ...]


def arrivals_of(load: Load) -> Seconds:
    """Return when each query of mode server is due after the start [s]: Poisson arrivals, enough of them for early stopping.

    Raises
    ------
    SpecError
        The load's rate makes no schedule.
    """
    assert load.rate_per_s is not None  # a load of mode server has one
    return poisson(load.rate_per_s, duration_s=load.rules.min_duration_s, min_queries=fewest_queries(load), seed=load.seed)


class AsyncioEngine:
    """Sends a load from one asyncio loop.

    Parameters
    ----------
    arrivals : when the queries of mode server are due after the start [s], ascending.
    """

    def __init__(self, arrivals: Callable[[Load], Seconds] = arrivals_of) -> None:
        self._arrivals = arrivals

    async def run(self, system: System, load: Load, *, start_s: float, progress: Progress) -> RequestLog:
        """Wait for `start_s` (of `time.monotonic`), send the load, and return what was seen of each query.

        Offline keeps `load.concurrency` requests of `load.batch` samples in flight; server sends at seeded Poisson times,
        whatever is still in flight; the stream modes send the next query when the last one is done. All go on until both
        the least duration and the least number of queries (or samples, offline) are reached. A failed query is written
        down as such. Where `FAILURES_IN_A_ROW` fail, or some and none is answered for as long as a request may take, the
        rest is not sent.

        Raises
        ------
        LoadGeneratorError
            The system raised something that no system should.
        SpecError
            The load's rate makes no schedule.
        """
        due_s = self._arrivals(load) if load.mode == "server" else None
        batches = _batches(system.n_samples, load)
        run = _Run(system, load, start_s=start_s, progress=progress)
        with _little_garbage_collection():
            await sleep_until(start_s)
            try:
                await (run.open_loop(due_s, batches) if due_s is not None else run.closed_loop(batches))
            except ExceptionGroup as errors:
                first = errors.exceptions[0]
                raise LoadGeneratorError(
                    f"asyncio engine - the system raised {first!r}; a system may raise RequestError only"
                ) from first
        return run.log()


def _batches(n_samples: int, load: Load) -> Iterator[Samples]:
    """Return the samples of one query after the other: a seeded order of all samples, over and over."""
    size = {"offline": load.batch, "multi_stream": load.samples_per_query}.get(load.mode, 1)
    # A generator of its own: the arrivals' one starts from the plain seed.
    order = np.random.default_rng([load.seed, 1]).permutation(n_samples)
    turns = np.resize(order, max(n_samples // size, 1) * size)  # few distinct batches, which a system may keep ready
    return cycle(map(tuple, turns.reshape(-1, size).tolist()))


@contextlib.contextmanager
def _little_garbage_collection() -> Iterator[None]:
    """Take what is there out of the garbage collector's sight, so that it does not stop the loop to look through it."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Run:
    """One run while it lasts: what was seen so far, and which queries are in flight."""

    def __init__(self, system: System, load: Load, *, start_s: float, progress: Progress) -> None:
        self._infer, self._load, self._start_s, self._progress = system.infer, load, start_s, progress
        self._due_s, self._sent_s, self._done_s, self._samples = array("d"), array("d"), array("d"), array("q")
        self._samples_sent = self._samples_done = 0
        self._in_flight: dict[int, asyncio.Task[None]] = {}  # in the order of sending
        self._broken_off: dict[int, str] = {}  # queries that we stopped waiting for, and why
        self._failures: dict[int, str] = {}
        self._in_a_row, self._answered_s = 0, 0.0
        self._given_up = False
        self._all_sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began_s = self._cpu_s = self._loop_cpu_s = 0.0

    async def open_loop(self, due_s: Seconds, batches: Iterator[Samples]) -> None:
        """Send each query when it is due, whatever is still in flight."""
        schedule, next_one = due_s.data, 0  # an element of which is a float, not one of numpy's slow ones
        sender = asyncio.current_task()
        assert sender

        def send() -> None:
            nonlocal next_one
            if sender.cancelling():  # the group takes no more tasks
                return
            now_s = time.monotonic() - self._start_s
            while next_one < len(schedule) and schedule[next_one] <= now_s and not self._given_up:
                create_task(self._ask(next(batches), schedule[next_one]))
                next_one += 1
            if next_one < len(schedule) and not self._given_up:
                alarm.set(self._start_s + schedule[next_one])
            elif not self._all_sent.done():
                self._all_sent.set_result(None)

        alarm = Alarm(asyncio.get_running_loop(), send)
        try:
            with self._watched():
                async with asyncio.TaskGroup() as group:
                    create_task = group.create_task
                    send()
                    await self._all_sent
        finally:
            alarm.close()

    async def closed_loop(self, batches: Iterator[Samples]) -> None:
        """Keep a fixed number of queries in flight."""
        rules, offline = self._load.rules, self._load.mode == "offline"
        enough = rules.min_samples if offline else fewest_queries(self._load)

        async def ask_on() -> None:
            while not self._given_up:
                now_s = time.monotonic() - self._start_s
                if now_s >= rules.min_duration_s and (self._samples_sent if offline else len(self._due_s)) >= enough:
                    break
                await self._ask(next(batches), now_s)

        with self._watched():
            async with asyncio.TaskGroup() as group:
                for _ in range(self._load.concurrency if offline else 1):
                    group.create_task(ask_on())

    async def _ask(self, samples: Samples, due_s: float) -> None:
        """Send one query, wait for its answer, and write down what happened."""
        index = len(self._due_s)
        task = asyncio.current_task()
        assert task
        self._in_flight[index] = task
        self._due_s.append(due_s)
        self._done_s.append(math.nan)
        self._samples.append(len(samples))
        self._samples_sent += len(samples)
        failure = None
        self._sent_s.append(time.monotonic() - self._start_s)
        try:
            await self._infer(samples)
        except (BenchmarkError, OSError) as error:
            failure = str(error)
        except asyncio.CancelledError:
            if index not in self._broken_off or task.uncancel():  # it is the run that is cancelled
                raise
            failure = self._broken_off[index]
        self._done_s[index] = now_s = time.monotonic() - self._start_s
        del self._in_flight[index]
        if failure is None:
            self._samples_done += len(samples)
            self._in_a_row, self._answered_s = 0, now_s
        else:
            self._fail(index, failure)

    def _fail(self, index: int, message: str) -> None:
        self._failures[index] = message
        self._in_a_row += 1
        silent_s = self._done_s[index] - self._answered_s
        if self._in_a_row >= FAILURES_IN_A_ROW or (self._in_a_row > 1 and silent_s > self._load.timeout_s):
            self._give_up(silent_s)

    def _give_up(self, silent_s: float) -> None:
        if self._given_up:
            return
        self._given_up = True
        if not self._all_sent.done():
            self._all_sent.set_result(None)
        why = f"given up: nothing was answered for {silent_s:.1f} s while {self._in_a_row} requests in a row failed"
        for index in list(self._in_flight):
            self._break_off(index, why)

    def _break_off(self, index: int, why: str) -> None:
        if index not in self._broken_off:
            self._broken_off[index] = why
            self._in_flight[index].cancel()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Look from time to time for queries that hang, and tell how far the run is."""
        loop = asyncio.get_running_loop()
        every_s = min(_LOOK_S, self._load.timeout_s / 4)
        handle: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal handle
            handle = loop.call_later(every_s, look)
            sent_before_s = time.monotonic() - self._start_s - self._load.timeout_s
            for index in [index for index in self._in_flight if self._sent_s[index] < sent_before_s]:
                self._break_off(index, f"no answer within {self._load.timeout_s:g} s")
            self._progress(self._samples_done)

        look()
        self._began_s, cpu_s, loop_cpu_s = time.monotonic(), time.process_time(), time.thread_time()  # the thread's within
        try:
            yield
        finally:
            if handle:
                handle.cancel()
            self._loop_cpu_s, self._cpu_s = time.thread_time() - loop_cpu_s, time.process_time() - cpu_s
            self._progress(self._samples_done)

    def log(self) -> RequestLog:
        """Return what was seen."""
        failed = np.zeros(len(self._due_s), dtype=np.bool_)
        failed[list(self._failures)] = True
        return RequestLog(
            began_s=self._began_s,
            due_s=np.array(self._due_s),
            sent_s=np.array(self._sent_s),
            done_s=np.array(self._done_s),
            samples=np.array(self._samples, dtype=np.int64),
            failed=failed,
            cpu_s=self._cpu_s,
            failures=tuple(Counter(self._failures.values()).most_common(10)),
            loop_cpu_s=self._loop_cpu_s,
        )
