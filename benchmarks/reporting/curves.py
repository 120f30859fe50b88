"""How latencies are distributed: points of a curve from what was kept of them. Knows numbers only, no plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.results.values import InstanceRun, Latencies

Numbers = npt.NDArray[np.float64]

SHARES: Numbers = np.concatenate((np.linspace(0.0, 0.9, 91), 1 - np.geomspace(0.1, 0.001, 61)[1:]))
"""Shares of the queries at which a curve is drawn, up to 99.9%."""
_KNOTS: Numbers = np.array([0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0])


class Curve(NamedTuple):
    """Latencies within which shares of the queries were answered [ms], and whether every query was looked at."""

    shares: Numbers
    latency_ms: Numbers
    exact: bool


def curve(runs: Iterable[InstanceRun]) -> Curve | None:
    """Return the distribution of the latencies of some runs together; None where no query was answered.

    Failed queries count as never answered. Where the latencies of single queries were not kept, the percentiles of each run
    are joined by straight lines (on a logarithmic axis), and runs weigh as much as they have queries.
    """
    kept = [run for run in runs if run.queries]
    if kept and all(run.latencies_ms is not None for run in kept):
        return _of_queries([run.latencies_ms for run in kept if run.latencies_ms is not None])
    known = [(run.latency, run.queries, run.failed) for run in kept if run.latency is not None]
    return _of_percentiles(known) if known else None


def _of_queries(latencies: Sequence[Numbers]) -> Curve | None:
    together = np.sort(np.nan_to_num(np.concatenate(latencies), nan=np.inf))
    shares = SHARES[1 - 1 / len(together) >= SHARES] if len(together) > 1 else SHARES[:1]
    found = together[np.minimum((shares * len(together)).astype(np.int64), len(together) - 1)]
    answered = np.isfinite(found)
    return Curve(shares[answered], found[answered], exact=True) if answered.any() else None


def _of_percentiles(known: Sequence[tuple[Latencies, int, int]]) -> Curve:
    n_queries = sum(queries for _, queries, _ in known)
    grid = np.geomspace(min(_knots(part)[0] for part, *_ in known), max(_knots(part)[-1] for part, *_ in known), 400)
    within = np.zeros_like(grid)
    for latency, queries, failed in known:
        within += np.interp(np.log(grid), np.log(_knots(latency)), _KNOTS) * (queries - failed) / n_queries
    shares = SHARES[within[-1] >= SHARES]
    return Curve(shares, np.interp(shares, within, grid), exact=False)


def _knots(latency: Latencies) -> Numbers:
    """Return the percentiles, ascending and above 0 even where means of several repeats are not."""
    values = np.array([latency.min, latency.p50, latency.p90, latency.p95, latency.p99, latency.p999, latency.max])
    return np.asarray(np.maximum.accumulate(np.maximum(values, 1e-6)), dtype=np.float64)
