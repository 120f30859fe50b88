"""What is known of one model on one GPU from batches: points, the law between them, and what fits into memory.

Knows no scenarios or latency bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from partitioner.catalog import GpuModel
from partitioner.errors import did_you_mean
from partitioner.geometry import Profile
from partitioner.performance import law as laws
from partitioner.performance.busy import Ratio
from partitioner.performance.points import MEASURED_ERROR, CalibrationError, Estimate, Point, shares
from partitioner.performance.queueing import BatchServer

_EXTRAPOLATED = 0.25  # relative error added where the law is asked outside the range of its points
_MOST_CURVES = 4096  # kept; anybody may ask for any number of processes
_FEW_PROFILES = 0.3  # relative error of a profile between others, where too few profiles are measured to test that


@dataclass(frozen=True, slots=True)
class Figures:
    """What a profile does with a batch size and a number of processes.

    Parameters
    ----------
    batch, processes : the pair.
    throughput_per_s : of all processes together [1/s].
    latency_ms : of one batch [ms].
    """

    batch: int
    processes: int
    throughput_per_s: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class _Service:
    """Seconds that a batch takes: its latency, in `per_s` to the second."""

    curve: laws.Latency
    per_s: float

    def __call__(self, batch: Any) -> Any:
        return self.curve(batch) / self.per_s


class Batches:
    """The batch points of one model on one GPU.

    What follows from them is worked out when it is first asked for, and kept: there are no more answers to keep than
    profiles of the GPU times pairs of batch and processes measured.

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
        self._shapes = {name: gpu.profile(name) for name in self.profiles}
        self._limits: dict[int, _Limits] = {}
        self._pairs: dict[str, tuple[tuple[int, int], ...]] = {}
        self._curves: dict[tuple[str, int], laws.Latency] = {}
        self._alone: dict[tuple[str, int], dict[int, float]] = {}
        self._figures: dict[tuple[str, bool], tuple[Figures, ...]] = {}
        self._servers: dict[tuple[str, int, int, bool], BatchServer] = {}

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """Names of the measured profiles."""
        return tuple(dict.fromkeys(point.profile for point in self.points))

    @cached_property
    def grid(self) -> tuple[tuple[int, int], ...]:
        """All (batch, processes) measured on any profile."""
        return tuple(sorted({(p.batch, p.processes) for p in self.points if p.batch and p.processes}))

    @cached_property
    def _batches_of(self) -> dict[int, list[int]]:
        """The batches of the grid, ascending, by number of processes."""
        found: dict[int, list[int]] = {}
        for batch, processes in self.grid:
            found.setdefault(processes, []).append(batch)
        return found

    def counts_as_busy(self, profile: Profile, *, busy: bool) -> bool:
        """Whether neighbours matter: a profile that stands alone on its GPU has none."""
        return busy and profile.max_count > 1

    # -- memory ----------------------------------------------------------------------------------------------------

    def fits(self, profile: Profile, batch: int, processes: int) -> bool | None:
        """Return whether a batch fits into the memory of a profile; None where the points do not tell.

        What fits, fits with a smaller batch, fewer processes and more memory; what does not, neither with larger ones.
        """
        limits = self._limits.get(profile.memory_mib)
        if limits is None:
            limits = self._limits[profile.memory_mib] = self._limits_of(profile.memory_mib)
        return limits.fits(batch, processes)

    def _limits_of(self, memory_mib: int) -> _Limits:
        """Return what the points tell of all profiles with some memory."""
        failing = {_pair(p) for p in self.points if not p.fits and self._shapes[p.profile].memory_mib >= memory_mib}
        fitting = {_pair(p) for p in self.points if p.fits and self._shapes[p.profile].memory_mib <= memory_mib}
        return _Limits.of(failing, fitting, min(b for b, _ in self.grid))

    def fitting(self, profile: Profile) -> tuple[tuple[int, int], ...]:
        """Return all measured (batch, processes) that are known to fit into a profile and can be given figures there.

        On a profile that shares its compute, which no law foresees, these are the ones measured on it.
        """
        if profile.name not in self._pairs:
            foreseen = shares(self.gpu, profile) is not None
            self._pairs[profile.name] = tuple(
                (b, p)
                for b, p in self.grid
                if self.fits(profile, b, p) and (foreseen or self._find(profile, b, p, busy=True)[0] is not None)
            )
        return self._pairs[profile.name]

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

    def figures(self, profile: Profile, *, busy: bool) -> tuple[Figures, ...]:
        """Return throughput and latency of every pair that `fitting` names."""
        key = (profile.name, busy)
        if key not in self._figures:
            self._figures[key] = tuple(
                Figures(
                    batch,
                    processes,
                    self.throughput(profile, batch, processes, busy=busy, extrapolate=True).value,
                    self.latency_ms(profile, batch, processes, busy=busy, extrapolate=True).value,
                )
                for batch, processes in self.fitting(profile)
            )
        return self._figures[key]

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
        alone = self._alone_on_grid(profile, processes).get(batch) or float(self.alone_ms(profile, batch, processes))
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
        known = [s for shape in self._shapes.values() if (s := shares(self.gpu, shape))]
        if owned is None or not known:
            return False
        return all(min(s[i] for s in known) - 1e-9 <= owned[i] <= max(s[i] for s in known) + 1e-9 for i in (0, 1))

    # -- the law ---------------------------------------------------------------------------------------------------

    @cached_property
    def samples(self) -> dict[str, list[laws.Sample]]:
        """What the law is fitted to, by profile: latencies alone on the GPU, from throughput, which is not rounded."""
        found: dict[str, list[laws.Sample]] = {}
        for point in self.points:
            profile = self._shapes[point.profile]
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
        return self._laws[""]

    @cached_property
    def _laws(self) -> dict[str, laws.Law]:
        """The law fitted to all points, under the empty name, and to those of all profiles but one, under its name."""
        if not self.samples:
            raise CalibrationError(f"{self.model} on {self.gpu.name} - no point fits in memory, so that no law can be fitted")
        left_out = ["", *(self.samples if len(self.samples) >= 3 else ())]
        groups = [[s for other, group in self.samples.items() if other != name for s in group] for name in left_out]
        return dict(zip(left_out, laws.fit_each(groups), strict=True))

    def law_without(self, profile: str) -> laws.Law:
        """Return the law fitted to all points but those of one profile, of three at least."""
        return self._laws[profile]

    @cached_property
    def held_out(self) -> dict[str, list[float]]:
        """Relative errors on each profile of the law fitted to the others; the outermost too, which is cautious."""
        if len(self.samples) < 3:
            return {}
        return {name: laws.errors(self.law_without(name), group) for name, group in self.samples.items()}

    def _error(self, profile: Profile) -> float:
        if profile.name in self.profiles:
            return max(MEASURED_ERROR, self.law.error)
        errors = [error for group in self.held_out.values() for error in group]
        return max(MEASURED_ERROR, sum(errors) / len(errors)) if errors else _FEW_PROFILES

    def alone_ms(self, profile: Profile, batch: Any, processes: int) -> Any:
        """Return the latency of a batch without busy neighbours [ms], through the points where there are some.

        The law times the ratio of point to law, interpolated over the logarithm of the batch; on a profile without
        points no longer than on a measured one that owns no more, no shorter than on a larger one. `batch` may be an array.
        """
        return self._curve(profile, processes)(batch)

    def _alone_on_grid(self, profile: Profile, processes: int) -> dict[int, float]:
        """Return `alone_ms` of the batches measured with as many processes on any profile."""
        key, batches = (profile.name, processes), self._batches_of.get(processes)
        if batches is None:
            return {}
        if key not in self._alone:
            import numpy as np

            values = self.alone_ms(profile, np.array(batches, dtype=float), processes)
            self._alone[key] = dict(zip(batches, (float(value) for value in values), strict=True))
        return self._alone[key]

    def _curve(self, profile: Profile, processes: int) -> laws.Latency:
        key = (profile.name, processes)
        curve = self._curves.get(key)
        if curve is None:
            own = self._own_curve(profile, processes)
            curve = own if profile.name in self.profiles else self._between(profile, processes, own)
            if len(self._curves) < _MOST_CURVES:
                self._curves[key] = curve
        return curve

    def _own_curve(self, profile: Profile, processes: int) -> laws.Curve:
        owned = shares(self.gpu, profile)
        assert owned is not None
        here = ((s.batch, s.latency_ms) for s in self.samples.get(profile.name, ()) if s.processes == processes)
        return self.law.through(*owned, processes, here)

    def _between(self, profile: Profile, processes: int, law: laws.Curve) -> laws.Between:
        """Return the law's latency, no longer than on a measured profile that owns no more, no shorter than on a larger one."""
        owned = shares(self.gpu, profile)
        assert owned is not None
        curves = [(g[0], self._curve(self._shapes[name], processes)) for name, g in self.samples.items()]
        larger = tuple(curve for first, curve in curves if first.compute >= owned[0] and first.memory >= owned[1])
        smaller = tuple(curve for first, curve in curves if first.compute <= owned[0] and first.memory <= owned[1])
        return laws.Between(law, larger, smaller)

    def service_s(self, profile: Profile, processes: int, *, busy: bool) -> Any:
        """Return the function from batch size to the time that a batch takes [s], for queues."""
        return _Service(self._curve(profile, processes), 1000 * self._slower(profile, busy=busy))

    def service_ms(self, profile: Profile, batch: int, processes: int, *, busy: bool) -> float:
        """Return the time that a batch of the grid takes, as `service_s` gives it [ms]."""
        return self._alone_on_grid(profile, processes)[batch] / self._slower(profile, busy=busy)

    def _slower(self, profile: Profile, *, busy: bool) -> float:
        return self.ratio.value if self.counts_as_busy(profile, busy=busy) else 1.0

    def server(self, profile: Profile, batch: int, processes: int, *, busy: bool) -> BatchServer:
        """Return the queueing model of a pair that `fitting` names, one for all who ask, so that it remembers its answers."""
        key = (profile.name, batch, processes, self.counts_as_busy(profile, busy=busy))
        if key not in self._servers:
            self._servers[key] = BatchServer(self.service_s(profile, processes, busy=busy), batch, processes)
        return self._servers[key]


@dataclass(frozen=True, slots=True)
class _Limits:
    """What fits into some memory.

    Parameters
    ----------
    failing : the smallest (batch, processes) that do not fit, none within another.
    fitting : the largest that do, none within another.
    smallest : the smallest batch measured.
    """

    failing: tuple[tuple[int, int], ...]
    fitting: tuple[tuple[int, int], ...]
    smallest: int

    @staticmethod
    def of(failing: set[tuple[int, int]], fitting: set[tuple[int, int]], smallest: int) -> _Limits:
        least: list[tuple[int, int]] = []
        for pair in sorted(failing):
            if not least or pair[1] < least[-1][1]:
                least.append(pair)
        most: list[tuple[int, int]] = []
        for pair in sorted(fitting, reverse=True):
            if not most or pair[1] > most[-1][1]:
                most.append(pair)
        return _Limits(tuple(least), tuple(most), smallest)

    def fits(self, batch: int, processes: int) -> bool | None:
        pair = (batch, processes)
        if any(_within(known, pair) for known in self.failing):
            return False
        return True if batch >= self.smallest and any(_within(pair, known) for known in self.fitting) else None


def _pair(point: Point) -> tuple[int, int]:
    assert point.batch is not None
    assert point.processes is not None
    return point.batch, point.processes


def _within(small: tuple[int, int], large: tuple[int, int]) -> bool:
    return small[0] <= large[0] and small[1] <= large[1]


def _rounding(latency_ms: float) -> float:
    """Relative error of a latency that is given in whole milliseconds."""
    return 0.29 / latency_ms if latency_ms == round(latency_ms) else 0.0
