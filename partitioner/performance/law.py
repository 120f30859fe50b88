"""The law between measured points: latency of a batch as a function of batch, processes and the shares of the GPU.

    latency(b, p) = (c^K + (p b e_p (A / compute share + B / memory share))^K)^(1/K)  [ms]

Below the knee a batch takes the fixed time c (launches, host), above it grows with the work; K says how sharp the knee
is. With shares g/7 and m/8 and one process this is the form published with the shipped tables (within 3-7% for ten of
eleven models). e_p is the work of a batch with p processes at a time against one: below 1 where a process alone leaves
the GPU idle. Fitted in logarithms by damped Gauss-Newton for each K of a grid; deterministic. Knows no GPUs or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_KNEES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_STEPS = 60
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

    def _efficiency(self, processes: int) -> float:
        """Return e_p: fitted, between its neighbours, or that of the most processes measured."""
        known = sorted(self.efficiency)
        below = max((p for p in known if p <= processes), default=known[0])
        above = min((p for p in known if p >= processes), default=known[-1])
        if above <= below:
            return self.efficiency[below]
        part = (processes - below) / (above - below)
        return self.efficiency[below] * (1 - part) + self.efficiency[above] * part


def fit(samples: Sequence[Sample]) -> Law:
    """Fit the law to observations of one model on one GPU.

    Parameters
    ----------
    samples : at least one; those with the fewest processes settle knee, c, A and B, the others e_p.

    Notes
    -----
    Squared errors of logarithms; O(K-grid x steps x samples).
    """
    import numpy as np

    fewest = min(sample.processes for sample in samples)
    single = _columns([sample for sample in samples if sample.processes == fewest])
    knee, theta = min(((k, *_solve(single, k)) for k in _KNEES), key=lambda found: found[2])[:2]
    fixed, compute, memory = (float(value) for value in np.exp(theta))
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
    return [abs(float(law.latency_ms(s.compute, s.memory, s.batch, s.processes)) / s.latency_ms - 1) for s in samples]


def _columns(samples: Sequence[Sample]) -> tuple[Array, Array, Array]:
    """Return compute work and memory work in units of A and B, and the logarithm of the latency."""
    import numpy as np

    work = np.array([[s.batch * s.processes / s.compute, s.batch * s.processes / s.memory] for s in samples], dtype=float)
    return work[:, 0], work[:, 1], np.log([s.latency_ms for s in samples])


def _model(theta: Array, compute: Array, memory: Array, knee: float) -> tuple[Array, Array]:
    """Return log latency and its derivatives by the logarithms of c, A and B."""
    import numpy as np

    parts_a, parts_b = np.exp(theta[1]) * compute, np.exp(theta[2]) * memory
    work = parts_a + parts_b
    log_c, log_w = knee * theta[0], knee * np.log(work)
    log_sum = np.logaddexp(log_c, log_w)
    of_work = np.exp(log_w - log_sum)
    slope = np.stack([np.exp(log_c - log_sum), of_work * parts_a / work, of_work * parts_b / work], axis=1)
    return log_sum / knee, slope


def _solve(data: tuple[Array, Array, Array], knee: float) -> tuple[Array, float]:
    """Return the logarithms of c, A and B for a knee, and the sum of squares."""
    import numpy as np

    compute, memory, observed = data
    heavy = int(np.argmax(compute))
    per_sample = np.exp(observed[heavy]) / (compute[heavy] + memory[heavy])
    theta = np.array([observed.min(), np.log(per_sample), np.log(per_sample)])
    damping, value = 1e-2, np.inf
    for _ in range(_STEPS):
        predicted, slope = _model(theta, compute, memory, knee)
        rest = observed - predicted
        value = float(rest @ rest)
        normal = slope.T @ slope
        step = np.linalg.solve(normal + damping * np.eye(3), slope.T @ rest).clip(-2, 2)
        after = observed - _model(theta + step, compute, memory, knee)[0]
        if float(after @ after) < value:
            theta, damping = theta + step, max(damping / 5, 1e-9)
            if float(abs(step).max()) < 1e-7:
                break
        else:
            damping *= 5
            if damping > 1e6:
                break
    rest = observed - _model(theta, compute, memory, knee)[0]
    return theta, float(rest @ rest)


def _efficiency_of(data: tuple[Array, Array, Array], knee: float, fixed: float, a: float, b: float) -> float:
    import numpy as np

    compute, memory, observed = data
    tried = np.linspace(0.2, 1.4, _EFFICIENCIES + 1)
    work = tried[:, None] * (a * compute + b * memory)
    predicted = np.log(fixed**knee + work**knee) / knee
    return float(tried[int(((predicted - observed) ** 2).sum(axis=1).argmin())])
