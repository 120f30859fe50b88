"""LoadGen's seeds and its schedule of mode server, computed without LoadGen. Knows numbers only.

LoadGen tells nobody when a query was due: its trace does, but writes hundreds of bytes for each query while it measures. The
schedule follows from the seed, so it is computed a second time here, and the tests hold it against the trace.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.load.log import Seconds

_BLOCK = 65_536


def seeds(seed: int) -> tuple[int, int, int]:
    """Return LoadGen's seeds of the samples in memory, of their order and of the schedule, which must not be alike.

    Parameters
    ----------
    seed : of the load.
    """
    loaded, order, schedule = np.random.SeedSequence(seed).generate_state(3, np.uint32)
    return int(loaded), int(order), int(schedule)


def server_schedule(seed: int, rate_per_s: float, *, min_duration_s: float, min_queries: int) -> Seconds:
    """Return when LoadGen schedules each query of mode server, after its start [s], shape ``(n_queries,)``.

    Parameters
    ----------
    seed : LoadGen's `schedule_rng_seed`.
    rate_per_s : its `server_target_qps` [1/s].
    min_duration_s : its minimum duration, in whole milliseconds [s].
    min_queries : its `min_query_count`.

    Notes
    -----
    As `GenerateQueries` of LoadGen 6.0.17 (loadgen.cc): the first query at 0, then gaps of `std::exponential_distribution` on a
    `std::mt19937`, each cut to whole nanoseconds, until a query stands at or after the minimum duration.
    """
    # std::mt19937(seed) is the generator that numpy calls its legacy one; no other is seeded in this way
    generator = np.random.RandomState(seed)
    end_ns = round(min_duration_s * 1000) * 1_000_000
    parts: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    count, last_ns = 1, 0
    while last_ns < end_ns or count < min_queries:
        times = last_ns + np.cumsum(_gaps_ns(generator, rate_per_s))
        parts.append(times)
        count, last_ns = count + len(times), int(times[-1])
    times = np.concatenate(parts)
    # a query is added while the one before it stands before the end
    needed = max(int(np.searchsorted(times, end_ns, side="left")) + 1, min_queries)
    return times[:needed] / 1e9


def _gaps_ns(generator: np.random.RandomState, rate_per_s: float) -> npt.NDArray[np.int64]:
    """Return a block of gaps [ns]: two 32-bit words make a uniform number, the first of them the lower one (libstdc++)."""
    words = np.frombuffer(generator.bytes(8 * _BLOCK), dtype="<u8")
    uniform = np.minimum(words / 2.0**64, np.nextafter(1.0, 0.0))
    return (-np.log(1.0 - uniform) / rate_per_s * 1e9).astype(np.int64)
