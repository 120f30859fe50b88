"""What is known of one model on one GPU from scenarios (MLPerf's Offline and Server): figures and rates between them.

Between measured profiles, throughput is interpolated by multiprocessors, in logarithms. A server rate at another bound
than the measured one comes from the queueing model, with the fixed time of a batch chosen so that it gives the measured
rate at the measured bound. Knows no batch points.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from partitioner.catalog import GpuModel
from partitioner.geometry import Profile
from partitioner.performance.busy import Ratio
from partitioner.performance.points import MEASURED_ERROR, CalibrationError, Estimate, Point, Rating, shares
from partitioner.performance.queueing import BatchServer

_UNCUT = {"A100-40GB": 108, "A100-80GB": 108}  # multiprocessors without MIG, where MIG leaves some idle (NVIDIA A100 data sheet)
INTERPOLATED = 0.11
"""Relative error of a profile between the smallest and the whole: the mean of the best throughput of 2g, 3g and 4g
interpolated from 1g and 7g, over the eleven models of the ParvaGPU tables (``partitioner calibration check``)."""
_EXTRAPOLATED = 0.25
_OTHER_BOUND = 0.20  # of a server rate at another bound than the published one
_VIRTUAL = Ratio(0.945, 0.035, "virtual/bare .91-.98: MLPerf Inference v0.7, T4 on vSphere, six models")
_MOST = 100_000  # largest batch of the model of a server whose batch size is not published


class Published:
    """The scenario points of one model on one GPU.

    Parameters
    ----------
    gpu : the GPU.
    model : name of the model.
    points : at least one point of a scenario, all of this GPU and model.
    ratio : throughput busy over alone.
    memory_mib : the smallest memory in which the model is known to run [MiB].
    """

    def __init__(self, gpu: GpuModel, model: str, points: Iterable[Point], ratio: Ratio, memory_mib: int = 0) -> None:
        self.gpu, self.model, self.ratio, self.memory_mib = gpu, model, ratio, memory_mib
        self.points = tuple(points)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of the measured profiles."""
        return tuple(dict.fromkeys(point.profile for point in self.points))

    def bounds(self) -> tuple[float, ...]:
        """Return the p99 bounds of the server figures [ms], ascending."""
        return tuple(sorted({p.latency_ms for p in self.points if p.scenario == "server" and p.latency_ms}))

    def covers(self, profile: Profile, scenario: str) -> bool:
        """Whether figures of a scenario can be given for a profile without extrapolation."""
        try:
            if scenario == "offline":
                self.offline(profile, busy=True, extrapolate=False)
            else:
                self._at_bound(profile, self._nearest_bound(math.inf), busy=True, extrapolate=False)
        except CalibrationError:
            return False
        return True

    # -- figures ---------------------------------------------------------------------------------------------------

    def offline(self, profile: Profile, *, busy: bool, extrapolate: bool) -> Estimate:
        """Return the offline throughput [1/s]."""
        if shares(self.gpu, profile) is None and not any(p.profile == profile.name for p in self._of("offline", None)):
            self._check_virtual(profile, extrapolate=extrapolate)
            whole = self._interpolated(self.gpu.profile("whole"), "offline", None, busy=busy, extrapolate=extrapolate)
            part = 1 / profile.max_count if busy else 1.0  # equal time slices for all; alone, the slices of idle vGPUs too
            return whole.scaled(_VIRTUAL.value * part, _VIRTUAL.error, _VIRTUAL.source)
        return self._interpolated(profile, "offline", None, busy=busy, extrapolate=extrapolate)

    def _at_bound(self, profile: Profile, bound: float, *, busy: bool, extrapolate: bool) -> Estimate:
        if shares(self.gpu, profile) is None and not any(p.profile == profile.name for p in self._of("server", bound)):
            if profile.max_count > 1:
                raise CalibrationError(
                    f"{self.model} on {self.gpu.name} - no server rate is known for {profile.name}: time slices add latency"
                    f" that was not measured; measured are {', '.join(self.profiles)}"
                )
            self._check_virtual(profile, extrapolate=extrapolate)
            whole = self._interpolated(self.gpu.profile("whole"), "server", bound, busy=busy, extrapolate=extrapolate)
            return whole.scaled(_VIRTUAL.value, _VIRTUAL.error, _VIRTUAL.source)
        return self._interpolated(profile, "server", bound, busy=busy, extrapolate=extrapolate)

    def _check_virtual(self, profile: Profile, *, extrapolate: bool) -> None:
        if not re.search(r"\d[CQ]$", profile.name):
            raise CalibrationError(f"{self.model} on {self.gpu.name} - {profile.name} runs no CUDA; take a C or Q type")
        self._check_memory(profile, extrapolate=extrapolate)

    def _check_memory(self, profile: Profile, *, extrapolate: bool) -> None:
        if profile.memory_mib < self.memory_mib and not extrapolate:
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} - {profile.name} has {profile.memory_mib / 1024:.3g} GiB; the least in which"
                f" it is known to run is {self.memory_mib / 1024:.3g} GiB; or allow extrapolation (extrapolate=True)"
            )

    def _of(self, scenario: str, bound: float | None) -> list[Point]:
        return [p for p in self.points if p.scenario == scenario and (bound is None or p.latency_ms == bound)]

    def _on(self, profile: Profile, points: list[Point], *, busy: bool) -> Estimate | None:
        """Return the figure measured on a profile, brought to the state asked for."""
        here = {point.busy: point for point in points if point.profile == profile.name}
        point = here.get(busy) or here.get(not busy)
        if point is None:
            return None
        error = MEASURED_ERROR if point.error is None else point.error
        found = Estimate(point.throughput_per_s, "1/s", error, True, (point.source,))
        if point.busy == busy or profile.max_count == 1:
            return found
        return found.scaled(self.ratio.value if busy else 1 / self.ratio.value, self.ratio.error, self.ratio.source)

    def _interpolated(self, profile: Profile, scenario: str, bound: float | None, *, busy: bool, extrapolate: bool) -> Estimate:
        points = self._of(scenario, bound)
        found = self._on(profile, points, busy=busy)
        if found is not None:
            return found
        self._check_memory(profile, extrapolate=extrapolate)
        size = self._size(profile)
        known = {}
        for name in dict.fromkeys(point.profile for point in points):
            other = self.gpu.profile(name)
            if shares(self.gpu, other) and (figure := self._on(other, points, busy=busy)):
                known[self._size(other)] = figure
        below, above = (max((s for s in known if s <= size), default=None), min((s for s in known if s >= size), default=None))
        if not known or size is None or ((below is None or above is None) and not extrapolate):
            names = ", ".join(dict.fromkeys(point.profile for point in points)) or "nothing"
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} - {profile.name} is outside the known range; measured in the scenario"
                f" {scenario} is {names}; or allow extrapolation (extrapolate=True)"
            )
        return _between(known, size, below, above)

    def _size(self, profile: Profile) -> float:
        """Multiprocessors of a profile, or its share of the compute where they are not known."""
        if profile.name == "whole":
            return _UNCUT.get(self.gpu.name, profile.multiprocessors or 1)
        owned = shares(self.gpu, profile)
        assert owned is not None
        return profile.multiprocessors or owned[0]

    # -- servers ---------------------------------------------------------------------------------------------------

    def _nearest_bound(self, latency_ms: float) -> float:
        bounds = self.bounds()
        if not bounds:
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} - no server figure was published; ask for scenario='offline',"
                " or add measurements with a calibration file"
            )
        return max((b for b in bounds if b <= latency_ms), default=bounds[0])

    def server(self, profile: Profile, latency_ms: float, *, busy: bool, extrapolate: bool) -> Rating | None:
        """Return the rate at which the 99th percentile stays under a bound [ms]; None where it cannot."""
        bound = self._nearest_bound(latency_ms)
        figure = self._at_bound(profile, bound, busy=busy, extrapolate=extrapolate)
        rate, p99, error, measured = figure.value, latency_ms, figure.error, figure.measured
        if latency_ms != bound:
            peak = self.offline(profile, busy=busy, extrapolate=extrapolate).value
            model = _calibrated(rate, peak, bound)
            other = model.highest_rate(latency_ms / 1000)
            rate, measured = (max(rate, other) if latency_ms > bound else min(rate, other)), False
            p99, error = latency_ms, math.hypot(error, _OTHER_BOUND)
        if rate <= 0:
            return None
        return Rating(rate, p99, None, None, error, figure.sources, measured)

    def lowest_ms(self, profile: Profile, *, busy: bool, extrapolate: bool) -> float:
        """Return the lowest p99 bound that can be kept at all [ms]: that of single requests."""
        bound = self._nearest_bound(math.inf)
        rate = self._at_bound(profile, bound, busy=busy, extrapolate=extrapolate).value
        peak = self.offline(profile, busy=busy, extrapolate=extrapolate).value
        return 1000 * float(_calibrated(rate, peak, bound).service_s(1.0))


def _between(known: dict[float, Estimate], size: float, below: float | None, above: float | None) -> Estimate:
    """Interpolate over sizes in logarithms; beyond the known ones in proportion to the nearest."""
    if below is None or above is None:
        nearest = above if below is None else below
        assert nearest is not None
        return known[nearest].scaled(size / nearest, _EXTRAPOLATED, f"in proportion to {nearest:g} multiprocessors")
    part = math.log(size / below) / math.log(above / below) if above > below else 0.0
    value = known[below].value ** (1 - part) * known[above].value ** part
    low, high = known[below], known[above]
    error = math.hypot(max(low.error, high.error), INTERPOLATED)
    return replace(low, value=value, error=error, measured=False, sources=tuple(dict.fromkeys((*low.sources, *high.sources))))


@lru_cache(maxsize=4096)
def _calibrated(rate: float, peak: float, bound_ms: float) -> BatchServer:
    """Return the server of one process whose p99 at `rate` is `bound_ms`, and whose throughput tends to `peak`.

    Service: (c^2 + (n / peak)^2)^(1/2), the law with K = 2; c by bisection.
    """
    peak = max(peak, rate / 0.95)
    most = int(min(_MOST, max(8.0, math.ceil(8 * peak * bound_ms / 1000))))

    def server(fixed_s: float) -> BatchServer:
        return BatchServer(lambda batch: (fixed_s**2 + (batch / peak) ** 2) ** 0.5, most)

    low, high = 0.0, bound_ms / 1000
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if server(middle).late(rate, bound_ms / 1000) <= 0.01 else (low, middle)
    return server(low)
