"""The best that an instance does, from batches: the highest throughput, or the highest rate under a latency bound.

Knows one model on one GPU, no calibrations.
"""

from __future__ import annotations

from dataclasses import dataclass

from partitioner.geometry import Profile
from partitioner.performance.batches import Batches
from partitioner.performance.points import CalibrationError, Estimate, Rating, shares
from partitioner.performance.queueing import ROUNDING

_QUEUE_ERROR = 0.05  # of the rate, from the queueing model's p99 (within 5% of simulation up to 85% load)
_TRIED = 2  # largest batches tried for each number of processes in a server


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest batch and the most processes allowed; None: any."""

    batch: int | None = None
    processes: int | None = None

    def allow(self, batch: int, processes: int) -> bool:
        """Whether both keep their limits."""
        return (self.batch is None or batch <= self.batch) and (self.processes is None or processes <= self.processes)


def published_offline(estimate: Estimate) -> Rating:
    """Return the rating that a published offline figure is."""
    return Rating(estimate.value, None, None, None, estimate.error, estimate.sources, estimate.measured)


def best_batch(
    batches: Batches, profile: Profile, limits: Limits, bound: float | None, *, busy: bool, extrapolate: bool
) -> Rating | None:
    """Return the pair with the highest throughput whose batches keep the bound; ties go to the lower latency."""
    within = [
        f
        for f in batches.figures(profile, busy=busy)
        if limits.allow(f.batch, f.processes) and (bound is None or f.latency_ms <= bound)
    ]
    if not within:
        return None
    best = max(within, key=lambda figures: (figures.throughput_per_s, -figures.latency_ms))
    rate = batches.throughput(profile, best.batch, best.processes, busy=busy, extrapolate=extrapolate)
    return Rating(rate.value, best.latency_ms, best.batch, best.processes, rate.error, rate.sources, rate.measured)


def best_server(
    batches: Batches, profile: Profile, limits: Limits, bound: float, *, busy: bool, extrapolate: bool
) -> Rating | None:
    """Return the highest rate over processes and batches; a batch that takes longer than the bound helps nobody."""
    usable: dict[int, list[int]] = {}
    for b, p in batches.fitting(profile):  # ascending
        if limits.allow(b, p) and batches.service_ms(profile, b, p, busy=busy) <= bound * (1 + ROUNDING):
            usable.setdefault(p, []).append(b)
    servers = [batches.server(profile, b, p, busy=busy) for p in sorted(usable) for b in usable[p][-_TRIED:]]
    rate, chosen = 0.0, None
    for server in sorted(servers, key=lambda server: (-server.likely_rate(bound / 1000), -server.capacity)):
        found = server.highest_rate(bound / 1000, above=rate)
        if found > rate:
            rate, chosen = found, server
    if chosen is None:
        return None
    p99 = min(bound, 1000 * chosen.quantile_s(rate))
    figure = batches.throughput(profile, chosen.most, chosen.processes, busy=busy, extrapolate=extrapolate)
    error = (figure.error**2 + _QUEUE_ERROR**2) ** 0.5
    return Rating(rate, p99, chosen.most, chosen.processes, error, figure.sources, measured=False)


def check_covered(batches: Batches, profile: Profile, scenario: str, *, extrapolate: bool) -> None:
    """Refuse a profile outside the known range, and what no law foresees."""
    if scenario == "server" and shares(batches.gpu, profile) is None:
        raise CalibrationError(
            f"{batches.model} on {batches.gpu.name} - no server rate is known for {profile.name}, whose time slices add latency"
            " that batches do not tell; ask for scenario 'batch' or 'offline'"
        )
    if not batches.covers(profile) and not (extrapolate and shares(batches.gpu, profile)):
        smallest = min(batches.grid)
        batches.throughput(profile, *smallest, busy=False, extrapolate=False)  # says what is measured
        raise CalibrationError(f"{batches.model} on {batches.gpu.name} - {profile.name} is outside the known range")
