"""The law between measured points: latency of a batch as a function of batch, processes and the shares of the GPU.

    latency(b, p) = (c^K + (p b e_p (A / compute share + B / memory share))^K)^(1/K)  [ms]

Below the knee a batch takes the fixed time c (launches, host), above it grows with the work; K says how sharp the knee
is. With shares g/7 and m/8 and one process this is the form published with the shipped tables (within 3-7% for ten of
eleven models). e_p is the work of a batch with p processes at a time against one: below 1 where a process alone leaves
the GPU idle. Fitted in logarithms by damped Gauss-Newton for each K of a grid; deterministic. Knows no GPUs or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Latency = Callable[[Any], Any]
"""Latency of a batch on one profile [ms], by its size, which may be an array."""

_KNEES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_STEPS = 60
_CONVERGED = 1e-7  # largest step of a logarithm, after which a fit is done
_STUCK = 1e6  # damping above which no step makes a fit better
_EFFICIENCIES = 200  # values tried between 0.2 and 1.4


@dataclass(frozen=True, slots=True)
class Sample:
    """One observation: `latency_ms` of a batch with `processes` at a time on shares of the GPU."""

    compute: float
    memory: float
    batch: int
    processes: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Law:
    """The fitted law of a model on a GPU.

    Parameters
    ----------
    knee : exponent K.
    fixed_ms : c [ms].
    compute_ms : A, work of one sample bound by compute on the whole GPU [ms].
    memory_ms : B, work of one sample bound by memory on the whole GPU [ms].
    efficiency : e_p by number of processes, with 1 for one.
    error : mean relative error over the points it was fitted to.
    """

    knee: float
    fixed_ms: float
    compute_ms: float
    memory_ms: float
    efficiency: Mapping[int, float]
    error: float

    def latency_ms(self, compute: float, memory: float, batch: Any, processes: int) -> Any:
        """Return the latency of one batch [ms]; `batch` may be an array."""
        work = processes * self._efficiency(processes) * (self.compute_ms / compute + self.memory_ms / memory)
        return (self.fixed_ms**self.knee + (batch * work) ** self.knee) ** (1 / self.knee)

    def through(self, compute: float, memory: float, processes: int, measured: Iterable[tuple[int, float]]) -> Curve:
        """Return the latency on one profile as a function of the batch, which meets the points measured there.

        Parameters
        ----------
        compute, memory : shares of the GPU that the profile owns.
        processes : processes on it.
        measured : (batch, latency [ms]) of points on the profile with as many processes; none is fine.
        """
        import numpy as np

        known = np.array(sorted(measured), dtype=float).reshape(-1, 2)
        rest = np.log(known[:, 1] / self.latency_ms(compute, memory, known[:, 0], processes))
        work = processes * self._efficiency(processes) * (self.compute_ms / compute + self.memory_ms / memory)
        return Curve(self.knee, self.fixed_ms, work, np.log(known[:, 0]), rest)

    def _efficiency(self, processes: int) -> float:
        """Return e_p: fitted, between its neighbours, or that of the most processes measured."""
        known = sorted(self.efficiency)
        below = max((p for p in known if p <= processes), default=known[0])
        above = min((p for p in known if p >= processes), default=known[-1])
        if above <= below:
            return self.efficiency[below]
        part = (processes - below) / (above - below)
        return self.efficiency[below] * (1 - part) + self.efficiency[above] * part


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Latency of a batch on one profile [ms], as a function of its size: a law, scaled to go through measured points.

    Parameters
    ----------
    knee, fixed_ms : as of `Law`.
    work_ms : work of one sample on the profile, with its number of processes [ms].
    log_batches, log_ratios : logarithms of the batches measured, ascending, and of latency measured over the law's.
    """

    knee: float
    fixed_ms: float
    work_ms: float
    log_batches: Array
    log_ratios: Array

    def __call__(self, batch: Any) -> Any:
        """Return the latency of a batch [ms], which may be an array; ratios are interpolated over the logarithm of the batch."""
        import numpy as np

        base = (self.fixed_ms**self.knee + (batch * self.work_ms) ** self.knee) ** (1 / self.knee)
        if not len(self.log_batches):
            return base
        return base * np.exp(np.interp(np.log(batch), self.log_batches, self.log_ratios))


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """Latency of a batch on a profile without points [ms]: the law's, kept between those of measured profiles.

    Parameters
    ----------
    law : the law's curve.
    larger : curves of measured profiles that own as much or more; it is no faster than these.
    smaller : curves of measured profiles that own as much or less; it is no slower than these.
    """

    law: Curve
    larger: tuple[Latency, ...]
    smaller: tuple[Latency, ...]

    def __call__(self, batch: Any) -> Any:
        """Return the latency of a batch [ms], which may be an array."""
        import numpy as np

        latency = self.law(batch)
        for curve in self.larger:
            latency = np.maximum(latency, curve(batch))
        for curve in self.smaller:
            latency = np.minimum(latency, curve(batch))
        return latency


def fit(samples: Sequence[Sample]) -> Law:
    """Fit the law to observations of one model on one GPU.

    Parameters
    ----------
    samples : at least one; those with the fewest processes settle knee, c, A and B, the others e_p.

    Notes
    -----
    Squared errors of logarithms; O(K-grid x steps x samples).
    """
    return fit_each([samples])[0]


def fit_each(groups: Sequence[Sequence[Sample]]) -> list[Law]:
    """Fit a law to each of several groups of observations, as `fit` does; all at once, which is much faster."""
    import numpy as np

    if not groups:
        return []
    fewest = [min(sample.processes for sample in group) for group in groups]
    single = [_columns([s for s in group if s.processes == few]) for group, few in zip(groups, fewest, strict=True)]
    knees = np.tile(_KNEES, len(groups))
    thetas, values = _solve(_Problems.of([data for data in single for _ in _KNEES], knees))
    best = values.reshape(len(groups), -1).argmin(axis=1) + np.arange(len(groups)) * len(_KNEES)
    return [
        _with_processes(group, few, float(knees[at]), *(float(value) for value in np.exp(thetas[at])))
        for group, few, at in zip(groups, fewest, best, strict=True)
    ]


def _with_processes(samples: Sequence[Sample], fewest: int, knee: float, fixed: float, compute: float, memory: float) -> Law:
    """Return the law whose constants are given, with the gain of processes and the error fitted to all observations."""
    efficiency = {fewest: 1.0}
    for processes in sorted({sample.processes for sample in samples} - {fewest}):
        group = _columns([sample for sample in samples if sample.processes == processes])
        efficiency[processes] = _efficiency_of(group, knee, fixed, compute, memory)
    law = Law(knee, fixed, compute, memory, efficiency, 0.0)
    return Law(knee, fixed, compute, memory, efficiency, mean_error(law, samples))


def mean_error(law: Law, samples: Sequence[Sample]) -> float:
    """Return the mean relative error of a law over observations."""
    return sum(errors(law, samples)) / len(samples)


def errors(law: Law, samples: Sequence[Sample]) -> list[float]:
    """Return the relative error of a law's latency for each observation."""
    import numpy as np

    result = np.empty(len(samples))
    for processes in {sample.processes for sample in samples}:
        at = [i for i, sample in enumerate(samples) if sample.processes == processes]
        rows = np.array([(samples[i].compute, samples[i].memory, samples[i].batch, samples[i].latency_ms) for i in at])
        compute, memory, batch, observed = rows.T
        result[at] = abs(law.latency_ms(compute, memory, batch, processes) / observed - 1)
    return [float(error) for error in result]


def _columns(samples: Sequence[Sample]) -> tuple[Array, Array, Array]:
    """Return compute work and memory work in units of A and B, and the logarithm of the latency."""
    import numpy as np

    work = np.array([[s.batch * s.processes / s.compute, s.batch * s.processes / s.memory] for s in samples], dtype=float)
    return work[:, 0], work[:, 1], np.log([s.latency_ms for s in samples])


@dataclass(frozen=True, slots=True, eq=False)
class _Problems:
    """Fits of c, A and B for given knees, one for each row.

    Parameters
    ----------
    compute, memory, observed : as of `_columns`, (problems, samples); short rows are filled up with their first sample.
    weight : 1 for samples, 0 for what fills up, (problems, samples).
    knee : (problems, 1).
    """

    compute: Array
    memory: Array
    observed: Array
    weight: Array
    knee: Array

    @staticmethod
    def of(rows: Sequence[tuple[Array, Array, Array]], knees: Array) -> _Problems:
        import numpy as np

        longest = max(len(row[0]) for row in rows)
        index = [np.where(np.arange(longest) < len(row[0]), np.arange(longest), 0) for row in rows]
        columns = [np.array([row[k][at] for row, at in zip(rows, index, strict=True)]) for k in range(3)]
        weight = np.array([np.arange(longest) < len(row[0]) for row in rows], dtype=float)
        return _Problems(columns[0], columns[1], columns[2], weight, knees[:, None])

    def __getitem__(self, rows: Any) -> _Problems:
        return _Problems(self.compute[rows], self.memory[rows], self.observed[rows], self.weight[rows], self.knee[rows])

    def start(self) -> Array:
        """Return logarithms of c, A and B to begin with, (problems, 3)."""
        import numpy as np

        heavy = self.compute.argmax(axis=1)[:, None]
        compute, memory, observed = (np.take_along_axis(a, heavy, 1) for a in (self.compute, self.memory, self.observed))
        per_sample = observed - np.log(compute + memory)
        return np.concatenate([self.observed.min(axis=1)[:, None], per_sample, per_sample], axis=1)

    def rest(self, theta: Array) -> tuple[Array, Array]:
        """Return observed less predicted log latency, and the derivatives of the latter by theta, (problems, 3, samples)."""
        import numpy as np

        part_a, part_b = np.exp(theta[:, 1:2]) * self.compute, np.exp(theta[:, 2:3]) * self.memory
        work = part_a + part_b
        log_c, log_w = self.knee * theta[:, :1], self.knee * np.log(work)
        log_sum = np.logaddexp(log_c, log_w)
        of_work = np.exp(log_w - log_sum) * self.weight
        slope = np.stack([np.exp(log_c - log_sum) * self.weight, of_work * part_a / work, of_work * part_b / work], axis=1)
        return (self.observed - log_sum / self.knee) * self.weight, slope


def _solve(problems: _Problems) -> tuple[Array, Array]:
    """Return the logarithms of c, A and B, (problems, 3), and the sums of squares: damped Gauss-Newton, all rows at once."""
    import numpy as np

    theta = problems.start()
    rest, slope = problems.rest(theta)
    value = (rest * rest).sum(axis=1)
    damping = np.full(len(theta), 1e-2)
    active = np.arange(len(theta))
    for _ in range(_STEPS):
        normal = slope[active] @ slope[active].transpose(0, 2, 1) + damping[active, None, None] * np.eye(3)
        step = np.linalg.solve(normal, slope[active] @ rest[active, :, None])[:, :, 0].clip(-2, 2)
        after, its_slope = problems[active].rest(theta[active] + step)
        its_value = (after * after).sum(axis=1)
        better = its_value < value[active]
        moved = active[better]
        theta[moved] += step[better]
        rest[moved], slope[moved], value[moved] = after[better], its_slope[better], its_value[better]
        damping[active] = np.where(better, np.maximum(damping[active] / 5, 1e-9), damping[active] * 5)
        done = np.where(better, abs(step).max(axis=1) < _CONVERGED, damping[active] > _STUCK)
        active = active[~done]
        if not len(active):
            break
    return theta, value


def _efficiency_of(data: tuple[Array, Array, Array], knee: float, fixed: float, a: float, b: float) -> float:
    import numpy as np

    compute, memory, observed = data
    tried = np.linspace(0.2, 1.4, _EFFICIENCIES + 1)
    work = tried[:, None] * (a * compute + b * memory)
    predicted = np.log(fixed**knee + work**knee) / knee
    return float(tried[int(((predicted - observed) ** 2).sum(axis=1).argmin())])
