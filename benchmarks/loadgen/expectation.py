"""What LoadGen has to be told before: how fast the system is. Knows systems, no LoadGen."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from benchmarks.errors import BenchmarkError
from benchmarks.load.values import Load, System

_NONE_ANSWERED_PER_S = 1.0
_LEAST_S = 20e-6  # a query on its way through two threads; no system is faster
_MOST_PER_S = 200_000.0  # requests that the relay can carry, alone with LoadGen


async def expected_rate(system: System, load: Load, *, for_s: float = 0.5) -> float:
    """Measure about how many samples a second a system answers in the way in which a load asks [1/s].

    Parameters
    ----------
    system : what answers; it is open.
    load : what will be asked.
    for_s : how long to measure, plus the last request [s].

    Notes
    -----
    Offline `concurrency` requests of `batch` are kept in flight; else one after the other, and the fastest counts, for LoadGen
    makes its queries before it starts and runs out of them when the system is over twice as fast as expected.
    """
    began_s, done, fastest_s = time.monotonic(), 0, float("inf")
    batch, lanes = _shape(load)

    async def ask(lane: int) -> None:
        nonlocal done, fastest_s
        at = lane * batch
        while (sent_s := time.monotonic()) < began_s + for_s:
            await system.infer([(at + i) % system.n_samples for i in range(batch)])
            done, fastest_s, at = done + batch, min(fastest_s, time.monotonic() - sent_s), at + lanes * batch

    with suppress(BenchmarkError, OSError):  # the run itself will tell of it; what was answered before is the best that is known
        async with asyncio.timeout(load.timeout_s + for_s):
            await asyncio.gather(*(ask(lane) for lane in range(lanes)))
    if not done:
        return _NONE_ANSWERED_PER_S
    if load.mode == "offline":
        return min(done / (time.monotonic() - began_s), batch * _MOST_PER_S)
    return batch / max(fastest_s, _LEAST_S)


def _shape(load: Load) -> tuple[int, int]:
    """Return the samples of a request and the requests in flight."""
    if load.mode == "offline":
        return load.batch, load.concurrency
    return (load.samples_per_query if load.mode == "multi_stream" else 1), 1
