"""What the calibration says a scenario will do, before it is measured. Knows no results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.load.values import MODES
from benchmarks.scenarios.scenario import Instance, Scenario
from partitioner.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from partitioner.performance import Calibration, Estimate, Rating

_SAMPLES_PER_QUERY = 8  # of MultiStream, MLPerf Inference rules from v2.0 on


@dataclass(frozen=True, slots=True)
class InstancePrediction:
    """What one instance will do.

    Parameters
    ----------
    instance, profile : which.
    busy : whether others of its GPU are at work.
    throughput_per_s : samples a second [1/s]; None where the calibration does not know.
    error : relative error to expect; None as above.
    measured : whether it was measured just so, not derived.
    sources : where the measurements stand.
    reason : why there is no figure; empty where there is one.
    """

    instance: str
    profile: str
    busy: bool
    throughput_per_s: float | None
    error: float | None
    measured: bool
    sources: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a scenario will do.

    Parameters
    ----------
    scenario : its name.
    instances : in its order.
    """

    scenario: str
    instances: tuple[InstancePrediction, ...]

    @property
    def throughput_per_s(self) -> float | None:
        """Samples a second of all instances [1/s]; None where one of them is not known."""
        known = [entry.throughput_per_s for entry in self.instances if entry.throughput_per_s is not None]
        return sum(known) if len(known) == len(self.instances) else None

    @property
    def error(self) -> float | None:
        """Relative error of the sum, as if all instances erred alike, which is cautious; None where it is not known."""
        total = self.throughput_per_s
        if not total:
            return None
        return sum((entry.throughput_per_s or 0.0) * (entry.error or 0.0) for entry in self.instances) / total

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why there is no figure, each reason once."""
        return tuple(dict.fromkeys(entry.reason for entry in self.instances if entry.reason))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every instance.

    Parameters
    ----------
    model : name of the model in the calibration.
    mode : offline, server, single_stream or multi_stream.
    batch : samples in one request offline; None: the best that is known offline, at whatever batch size.
    processes : copies of the model on an instance.
    latency_bound_ms : of the 99th percentile in mode server [ms].
    """

    model: str
    mode: str = "offline"
    batch: int | None = None
    processes: int = 1
    latency_bound_ms: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise SpecError(f"mode {self.mode!r} is unknown; {did_you_mean(self.mode, MODES)}")
        if self.mode == "server" and self.latency_bound_ms is None:
            raise SpecError("mode server - no bound on the latency is given; give latency_bound_ms=")


def predict(
    scenario: Scenario,
    *,
    model: str,
    mode: str = "offline",
    batch: int | None = None,
    processes: int = 1,
    latency_bound_ms: float | None = None,
    calibration: Calibration | None = None,
) -> Prediction:
    """Return what a calibration says that a scenario will do.

    Parameters
    ----------
    scenario : the instances.
    model, mode, batch, processes, latency_bound_ms : as of `Asked`.
    calibration : measured performance; None: the shipped one.

    Raises
    ------
    SpecError
        The mode, the GPU or a profile is unknown, or mode server is without a bound.
    """
    asked = Asked(model, mode, batch, processes, latency_bound_ms)
    pairs = [(instance, asked) for instance in scenario.instances]
    return predicted(scenario.name, scenario.gpu, pairs, calibration=calibration)


def predicted(
    name: str, gpu: str, asked: Sequence[tuple[Instance, Asked]], *, calibration: Calibration | None = None
) -> Prediction:
    """Return the prediction for instances of one GPU model and what is asked of each; errors as of `predict`."""
    from partitioner.performance import Calibration

    known = Calibration.default() if calibration is None else calibration
    together = [(instance.host, instance.gpu) for instance, _ in asked]
    return Prediction(
        name,
        tuple(
            _one(known, gpu, instance, question, busy=together.count((instance.host, instance.gpu)) > 1)
            for instance, question in asked
        ),
    )


def _one(known: Calibration, gpu: str, instance: Instance, asked: Asked, *, busy: bool) -> InstancePrediction:
    from partitioner.performance import CalibrationError

    try:
        found = _figure(known, gpu, instance.profile, asked, busy=busy)
    except CalibrationError as error:
        return InstancePrediction(instance.name, instance.profile, busy, None, None, False, (), str(error))
    if found is None:
        reason = f"{asked.model} on {gpu} {instance.profile} - cannot keep {asked.latency_bound_ms:g} ms at any rate"
        return InstancePrediction(instance.name, instance.profile, busy, None, None, False, (), reason)
    rate, figure = found
    return InstancePrediction(
        instance.name, instance.profile, busy, rate, figure.error, figure.measured, tuple(figure.sources), ""
    )


def _figure(known: Calibration, gpu: str, profile: str, asked: Asked, *, busy: bool) -> tuple[float, Estimate | Rating] | None:
    """Return samples a second and the figure that says so; None where a bound cannot be kept."""
    if asked.mode == "server":
        rating = known.best(asked.model, gpu, profile, latency_ms=asked.latency_bound_ms, scenario="server", busy=busy)
        return None if rating is None else (rating.throughput_rps, rating)
    if asked.mode == "offline" and asked.batch is None:
        rating = known.best(asked.model, gpu, profile, scenario="offline", busy=busy)
        return None if rating is None else (rating.throughput_rps, rating)
    sizes = {"offline": asked.batch, "single_stream": 1, "multi_stream": _SAMPLES_PER_QUERY}
    estimate = known.throughput(asked.model, gpu, profile, batch=sizes[asked.mode], processes=asked.processes, busy=busy)
    return estimate.value, estimate
