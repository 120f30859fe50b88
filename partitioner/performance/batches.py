"""What is known of one model on one GPU from batches: points, the law between them, and what fits into memory.

Knows no scenarios, rates or latency bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from partitioner.catalog import GpuModel
from partitioner.errors import did_you_mean
from partitioner.geometry import Profile
from partitioner.performance import law as laws
from partitioner.performance.busy import Ratio
from partitioner.performance.points import MEASURED_ERROR, CalibrationError, Estimate, Point, shares

_EXTRAPOLATED = 0.25  # relative error added where the law is asked outside the range of its points
_FEW_PROFILES = 0.3  # relative error of a profile between others, where too few profiles are measured to test that


class Batches:
    """The batch points of one model on one GPU.

    Parameters
    ----------
    gpu : the GPU.
    model : name of the model.
    points : at least one point with a batch size, all of this GPU and model.
    ratio : throughput busy over alone.
    """

    def __init__(self, gpu: GpuModel, model: str, points: Iterable[Point], ratio: Ratio) -> None:
        self.gpu, self.model, self.ratio = gpu, model, ratio
        self.points = tuple(points)
        self._by_key = {(p.profile, p.batch, p.processes, p.busy): p for p in self.points}
        self.sources = tuple(dict.fromkeys(p.source for p in self.points if p.source))
        self._memory = {name: gpu.profile(name).memory_mib for name in self.profiles}

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """Names of the measured profiles."""
        return tuple(dict.fromkeys(point.profile for point in self.points))

    @cached_property
    def grid(self) -> tuple[tuple[int, int], ...]:
        """All (batch, processes) measured on any profile."""
        return tuple(sorted({(p.batch, p.processes) for p in self.points if p.batch and p.processes}))

    def counts_as_busy(self, profile: Profile, *, busy: bool) -> bool:
        """Whether neighbours matter: a profile that stands alone on its GPU has none."""
        return busy and profile.max_count > 1

    # -- memory ----------------------------------------------------------------------------------------------------

    def fits(self, profile: Profile, batch: int, processes: int) -> bool | None:
        """Return whether a batch fits into the memory of a profile; None where the points do not tell.

        What fits, fits with a smaller batch, fewer processes and more memory; what does not, neither with larger ones.
        """
        room = profile.memory_mib
        for point in self.points:
            memory = self._memory[point.profile]
            assert point.batch is not None
            assert point.processes is not None
            if not point.fits and memory >= room and point.batch <= batch and point.processes <= processes:
                return False
        fitting = [
            p
            for p in self.points
            if p.fits and self._memory[p.profile] <= room and (p.batch or 0) >= batch and (p.processes or 0) >= processes
        ]
        smallest = min(b for b, _ in self.grid)
        return True if fitting and batch >= smallest else None

    # -- figures ---------------------------------------------------------------------------------------------------

    def throughput(self, profile: Profile, batch: int, processes: int, *, busy: bool, extrapolate: bool) -> Estimate:
        """Return the throughput of all processes together [1/s]."""
        point, same = self._find(profile, batch, processes, busy=busy)
        if point is None:
            return self._derived(profile, batch, processes, busy=busy, extrapolate=extrapolate, rate=True)
        self._require_fit(profile, batch, processes, fits=point.fits)
        error = MEASURED_ERROR if point.error is None else point.error
        found = Estimate(point.throughput_per_s, "1/s", error, True, (point.source,))
        return found if same else self._to_busy(found, busy=busy, rate=True)

    def latency_ms(self, profile: Profile, batch: int, processes: int, *, busy: bool, extrapolate: bool) -> Estimate:
        """Return the latency of one batch [ms]."""
        point, same = self._find(profile, batch, processes, busy=busy)
        if point is None or (point.fits and not point.latency_ms):
            return self._derived(profile, batch, processes, busy=busy, extrapolate=extrapolate, rate=False)
        self._require_fit(profile, batch, processes, fits=point.fits)
        assert point.latency_ms is not None
        error = math.hypot(MEASURED_ERROR if point.error is None else point.error, _rounding(point.latency_ms))
        found = Estimate(point.latency_ms, "ms", error, True, (point.source,))
        return found if same else self._to_busy(found, busy=busy, rate=False)

    def _find(self, profile: Profile, batch: int, processes: int, *, busy: bool) -> tuple[Point | None, bool]:
        """Return the measured point, and whether it was measured in the state that is asked for."""
        for state in (busy, not busy):
            point = self._by_key.get((profile.name, batch, processes, state))
            if point is not None:
                return point, state == busy or profile.max_count == 1
        return None, False

    def _to_busy(self, estimate: Estimate, *, busy: bool, rate: bool) -> Estimate:
        slower = self.ratio.value if busy else 1 / self.ratio.value
        return estimate.scaled(slower if rate else 1 / slower, self.ratio.error, self.ratio.source)

    def _require_fit(self, profile: Profile, batch: int, processes: int, *, fits: bool | None) -> None:
        if fits is False:
            what = f"batch {batch} with {processes} process{'es' * (processes > 1)}"
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} {profile.name} - {what} does not fit into"
                f" {profile.memory_mib / 1024:.3g} GiB; {self._known_on(profile)}"
            )

    def _known_on(self, profile: Profile) -> str:
        known = [(b, p) for b, p in self.grid if self.fits(profile, b, p)]
        if not known:
            return f"measured are {', '.join(self.profiles)}"
        by_processes = {p: max(b for b, q in known if q == p) for p in sorted({p for _, p in known})}
        smallest = min(b for b, _ in known)
        return "known to fit are batches from " + ", ".join(
            f"{smallest} to {most} with {p} process{'es' * (p > 1)}" for p, most in by_processes.items()
        )

    def _derived(self, profile: Profile, batch: int, processes: int, *, busy: bool, extrapolate: bool, rate: bool) -> Estimate:
        outside = self._check_range(profile, batch, processes, extrapolate=extrapolate)
        alone = float(self.alone_ms(profile, batch, processes))
        value = batch * processes * 1000 / alone if rate else alone
        error = self._error(profile) + _EXTRAPOLATED * outside
        found = Estimate(value, "1/s" if rate else "ms", error, False, self.sources)
        return self._to_busy(found, busy=True, rate=rate) if self.counts_as_busy(profile, busy=busy) else found

    def _check_range(self, profile: Profile, batch: int, processes: int, *, extrapolate: bool) -> bool:
        """Return whether the law is asked outside the range of its points; refuse where that is not allowed."""
        owned = shares(self.gpu, profile)
        if owned is None:
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} - {profile.name} shares its compute, which no law foresees;"
                f" measure it; measured are {', '.join(self.profiles)}"
            )
        fits = self.fits(profile, batch, processes)
        self._require_fit(profile, batch, processes, fits=fits)
        if fits and self.covers(profile):
            return False
        if not extrapolate:
            what = f"batch {batch} with {processes} process{'es' * (processes > 1)} on " if self.covers(profile) else ""
            hint = self._known_on(profile) if self.covers(profile) else self._near_profiles(profile)
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} - {what}{profile.name} is outside the known range; {hint};"
                " or allow extrapolation (extrapolate=True)"
            )
        return True

    def _near_profiles(self, profile: Profile) -> str:
        return f"measured are {', '.join(self.profiles)}; {did_you_mean(profile.name, self.profiles)}".removesuffix("; ")

    def covers(self, profile: Profile) -> bool:
        """Whether a profile is measured, or its shares of the GPU lie between those of measured profiles."""
        if profile.name in self.profiles:
            return True
        owned = shares(self.gpu, profile)
        known = [s for name in self.profiles if (s := shares(self.gpu, self.gpu.profile(name)))]
        if owned is None or not known:
            return False
        return all(min(s[i] for s in known) - 1e-9 <= owned[i] <= max(s[i] for s in known) + 1e-9 for i in (0, 1))

    # -- the law ---------------------------------------------------------------------------------------------------

    @cached_property
    def samples(self) -> dict[str, list[laws.Sample]]:
        """What the law is fitted to, by profile: latencies alone on the GPU, from throughput, which is not rounded."""
        found: dict[str, list[laws.Sample]] = {}
        for point in self.points:
            profile = self.gpu.profile(point.profile)
            owned = shares(self.gpu, profile)
            twin = (point.profile, point.batch, point.processes, False)
            if not point.fits or owned is None or (point.busy and twin in self._by_key):
                continue
            assert point.batch is not None
            assert point.processes is not None
            slower = self.ratio.value if self.counts_as_busy(profile, busy=point.busy) else 1.0
            latency = point.batch * point.processes * 1000 / point.throughput_per_s * slower
            found.setdefault(point.profile, []).append(laws.Sample(*owned, point.batch, point.processes, latency))
        return found

    @cached_property
    def law(self) -> laws.Law:
        """The law, fitted to all points."""
        samples = [sample for group in self.samples.values() for sample in group]
        if not samples:
            raise CalibrationError(f"{self.model} on {self.gpu.name} - no point fits in memory, so that no law can be fitted")
        return laws.fit(samples)

    @cached_property
    def held_out(self) -> dict[str, list[float]]:
        """Relative errors on each profile of the law fitted to the others; the outermost too, which is cautious."""
        if len(self.samples) < 3:
            return {}
        result = {}
        for name, group in self.samples.items():
            rest = [sample for other, found in self.samples.items() if other != name for sample in found]
            result[name] = laws.errors(laws.fit(rest), group)
        return result

    def _error(self, profile: Profile) -> float:
        if profile.name in self.profiles:
            return max(MEASURED_ERROR, self.law.error)
        errors = [error for group in self.held_out.values() for error in group]
        return max(MEASURED_ERROR, sum(errors) / len(errors)) if errors else _FEW_PROFILES

    def alone_ms(self, profile: Profile, batch: Any, processes: int) -> Any:
        """Return the latency of a batch without busy neighbours [ms], through the points where there are some.

        The law times the ratio of point to law, interpolated over the logarithm of the batch. `batch` may be an array.
        """
        import numpy as np

        if profile.name not in self.profiles:
            return self._unmeasured_ms(profile, batch, processes)
        owned = shares(self.gpu, profile)
        assert owned is not None
        base = self.law.latency_ms(*owned, batch, processes)
        here = sorted((s.batch, s.latency_ms) for s in self.samples.get(profile.name, ()) if s.processes == processes)
        if not here:
            return base
        known = np.array(here, dtype=float)
        rest = np.log(known[:, 1] / self.law.latency_ms(*owned, known[:, 0], processes))
        return base * np.exp(np.interp(np.log(batch), np.log(known[:, 0]), rest))

    def _unmeasured_ms(self, profile: Profile, batch: Any, processes: int) -> Any:
        """Return the law's latency, no longer than on a measured profile that owns no more, no shorter than on a larger one."""
        import numpy as np

        owned = shares(self.gpu, profile)
        assert owned is not None
        latency = self.law.latency_ms(*owned, batch, processes)
        for name, group in self.samples.items():
            compute, memory = group[0].compute, group[0].memory
            if compute >= owned[0] and memory >= owned[1]:
                latency = np.maximum(latency, self.alone_ms(self.gpu.profile(name), batch, processes))
        for name, group in self.samples.items():
            if group[0].compute <= owned[0] and group[0].memory <= owned[1]:
                latency = np.minimum(latency, self.alone_ms(self.gpu.profile(name), batch, processes))
        return latency

    def service_s(self, profile: Profile, processes: int, *, busy: bool) -> Any:
        """Return the function from batch size to the time that a batch takes [s], for queues."""
        slower = self.ratio.value if self.counts_as_busy(profile, busy=busy) else 1.0
        return lambda batch: self.alone_ms(profile, batch, processes) / (1000 * slower)


def _rounding(latency_ms: float) -> float:
    """Relative error of a latency that is given in whole milliseconds."""
    return 0.29 / latency_ms if latency_ms == round(latency_ms) else 0.0
