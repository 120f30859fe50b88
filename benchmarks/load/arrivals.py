"""When the queries of mode server are sent: a seeded Poisson process. Knows numbers only."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from partitioner.errors import SpecError

MAX_QUERIES = 20_000_000
"""More than this does not fit into memory beside the queries' log; at 10,000/s it is half an hour."""


def poisson(rate_per_s: float, *, duration_s: float, min_queries: int = 1, seed: int) -> npt.NDArray[np.float64]:
    """Return when each query is due, so that the last one is due at `duration_s` or later, as LoadGen does it.

    One seed gives one stream of gaps, which the rate only scales: a longer schedule goes on where a shorter one ends, and
    trials at different rates meet the same bursts.

    Parameters
    ----------
    rate_per_s : mean rate [1/s].
    duration_s : the schedule ends with the first query that is due then or later [s].
    min_queries : it does not end before this many.
    seed : of the gaps.

    Returns
    -------
    Times after the start [s], ascending, shape ``(n_queries,)``.

    Raises
    ------
    SpecError
        The rate is not a positive number, or the queries are too many to be kept in memory.

    Examples
    --------
    >>> poisson(2.0, duration_s=1.0, min_queries=3, seed=0).round(3).tolist()
    [0.34, 0.85, 0.86, 0.861, 1.136]
    """
    if not (math.isfinite(rate_per_s) and rate_per_s > 0):
        raise SpecError(f"arrivals - a rate of {rate_per_s:g} queries/s cannot be sent; give a positive number")
    expected = max(rate_per_s * duration_s, min_queries)
    if expected > MAX_QUERIES:
        raise SpecError(
            f"arrivals - {rate_per_s:g} queries/s for {duration_s:g} s are {expected:,.0f} queries, more than the "
            f"{MAX_QUERIES:,} that fit; ask for a shorter run or a lower rate"
        )
    generator = np.random.default_rng(seed)
    enough = math.ceil(expected + 6 * math.sqrt(expected)) + 16  # in all but one of a billion schedules
    gaps = generator.standard_exponential(enough)
    while gaps.sum() < duration_s * rate_per_s:
        gaps = np.concatenate((gaps, generator.standard_exponential(enough)))
    due = np.cumsum(gaps) / rate_per_s
    last = max(int(np.searchsorted(due, duration_s)), min_queries - 1)
    return due[: last + 1]
