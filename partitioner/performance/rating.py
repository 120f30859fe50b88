"""The best that an instance does, from batches: the highest throughput, or the highest rate under a latency bound.

Knows one model on one GPU, no calibrations.
"""

from __future__ import annotations

from partitioner.geometry import Profile
from partitioner.performance.batches import Batches
from partitioner.performance.points import CalibrationError, Estimate, Rating, shares
from partitioner.performance.queueing import BatchServer

_QUEUE_ERROR = 0.05  # of the rate, from the queueing model's p99 (within 5% of simulation up to 85% load)
_TRIED = 2  # largest batches tried for each number of processes in a server


def candidates(batches: Batches, profile: Profile) -> list[tuple[int, int]]:
    """Return all measured (batch, processes) that are known to fit into a profile."""
    return [(b, p) for b, p in batches.grid if batches.fits(profile, b, p)]


def published_offline(estimate: Estimate) -> Rating:
    """Return the rating that a published offline figure is."""
    return Rating(estimate.value, None, None, None, estimate.error, estimate.sources, estimate.measured)


def best_batch(
    batches: Batches, profile: Profile, pairs: list[tuple[int, int]], bound: float | None, *, busy: bool, extrapolate: bool
) -> Rating | None:
    """Return the pair with the highest throughput whose batches keep the bound; ties go to the lower latency."""
    best: tuple[float, float, Rating] | None = None
    for batch, processes in pairs:
        latency = batches.latency_ms(profile, batch, processes, busy=busy, extrapolate=extrapolate)
        rate = batches.throughput(profile, batch, processes, busy=busy, extrapolate=extrapolate)
        if bound is not None and latency.value > bound:
            continue
        if best is None or (rate.value, -latency.value) > best[:2]:
            rating = Rating(rate.value, latency.value, batch, processes, rate.error, rate.sources, rate.measured)
            best = (rate.value, -latency.value, rating)
    return best[2] if best else None


def best_server(
    batches: Batches, profile: Profile, pairs: list[tuple[int, int]], bound: float, *, busy: bool, extrapolate: bool
) -> Rating | None:
    """Return the highest rate over processes and batches; a batch that takes longer than the bound helps nobody."""
    servers: list[tuple[BatchServer, int, int]] = []
    for processes in sorted({p for _, p in pairs}):
        service = batches.service_s(profile, processes, busy=busy)
        usable = [b for b, p in pairs if p == processes and float(service(float(b))) * 1000 <= bound]
        servers += [(BatchServer(service, b, processes), b, processes) for b in sorted(usable)[-_TRIED:]]
    rate, chosen = 0.0, None
    for server, batch, processes in sorted(servers, key=lambda entry: -entry[0].capacity):
        found = server.highest_rate(bound / 1000, above=rate)
        if found > rate:
            rate, chosen = found, (server, batch, processes)
    if chosen is None:
        return None
    server, batch, processes = chosen
    p99 = min(bound, 1000 * server.quantile_s(rate))
    figure = batches.throughput(profile, batch, processes, busy=busy, extrapolate=extrapolate)
    error = (figure.error**2 + _QUEUE_ERROR**2) ** 0.5
    return Rating(rate, p99, batch, processes, error, figure.sources, measured=False)


def check_covered(batches: Batches, profile: Profile, *, extrapolate: bool) -> None:
    """Refuse a profile outside the known range."""
    if not batches.covers(profile) and not (extrapolate and shares(batches.gpu, profile)):
        smallest = min(batches.grid)
        batches.throughput(profile, *smallest, busy=False, extrapolate=False)  # says what is measured
        raise CalibrationError(f"{batches.model} on {batches.gpu.name} - {profile.name} is outside the known range")
