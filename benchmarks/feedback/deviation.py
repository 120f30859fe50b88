"""Prediction against measurement: how far the calibration was off. Knows results and predictions, measures nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.feedback.prediction import Asked, InstancePrediction, Prediction, predicted
from benchmarks.results.points import batch_of
from benchmarks.results.values import InstanceSummary, Result
from benchmarks.scenarios.scenario import Instance

if TYPE_CHECKING:
    from partitioner.performance import Calibration


@dataclass(frozen=True, slots=True)
class InstanceDeviation:
    """One instance as predicted and as measured.

    Parameters
    ----------
    predicted, measured : both sides.
    ratio : measured over predicted throughput; None without a prediction.
    within : whether the difference is within the errors of both; None without a prediction.
    """

    predicted: InstancePrediction
    measured: InstanceSummary
    ratio: float | None
    within: bool | None


@dataclass(frozen=True, slots=True)
class Deviation:
    """A scenario as predicted and as measured.

    Parameters
    ----------
    scenario : its name.
    prediction : what the calibration said.
    measured_per_s : system throughput [1/s].
    spread : standard deviation of it over its mean.
    ratio : measured over predicted throughput; None where an instance has no prediction.
    within : whether the difference is within the error of the prediction and the spread together; None as above.
    instances : in the order of the scenario.
    notes : what has to be known to read it, such as the label of a stand-in.
    """

    scenario: str
    prediction: Prediction
    measured_per_s: float
    spread: float
    ratio: float | None
    within: bool | None
    instances: tuple[InstanceDeviation, ...]
    notes: tuple[str, ...]


def deviations(results: Iterable[Result], *, calibration: Calibration | None = None) -> tuple[Deviation, ...]:
    """Return how far measurements are from what a calibration says, one entry for each result.

    Parameters
    ----------
    results : what was measured; nothing is refused, what does not count is noted.
    calibration : measured performance to predict from, which must not be these results; None: the shipped one.

    Raises
    ------
    SpecError
        A GPU or a profile is not in the catalogue.
    """
    return tuple(_deviation(result, calibration) for result in results)


def _deviation(result: Result, calibration: Calibration | None) -> Deviation:
    prediction, more = _prediction(result, calibration)
    parts = tuple(_instance(*pair) for pair in zip(prediction.instances, result.instances, strict=True))
    ratio, within = _against(result.system_throughput, result.spread, prediction.throughput_per_s, prediction.error)
    rate, notes = result.system_throughput, (*_notes(result), *more)
    return Deviation(result.metadata.scenario, prediction, rate, result.spread, ratio, within, parts, notes)


def _prediction(result: Result, calibration: Calibration | None) -> tuple[Prediction, tuple[str, ...]]:
    """Return what the calibration says of what was asked, and what has to be known of that."""
    how = result.metadata
    if how.mode == "server" and how.rules.get("latency_bound_ms") is None:
        unknown = tuple(
            InstancePrediction(entry.instance, entry.profile, False, None, None, False, (), "no latency bound, no rate")
            for entry in result.instances
        )
        return Prediction(how.scenario, unknown), ()
    asked = [_asked(result, place) for place in range(len(result.instances))]
    found = predicted(how.scenario, how.gpu, asked, calibration=calibration)
    if how.mode == "offline" and found.throughput_per_s is None:
        freely = [(instance, Asked(how.model)) for instance, _ in asked]
        best = predicted(how.scenario, how.gpu, freely, calibration=calibration)
        if best.throughput_per_s is not None:
            return best, ("nothing is known of this batch size: the prediction is the best known offline, of any batch size",)
    return found, ()


def _asked(result: Result, place: int) -> tuple[Instance, Asked]:
    """Return an instance, by its place in the scenario, and what was asked of it."""
    how, runs = result.metadata, [repeat.instances[place] for repeat in result.repeats]
    instance = Instance(runs[0].instance, runs[0].profile, runs[0].gpu, host=runs[0].host)
    batch = None
    if how.mode == "offline":  # where the server chooses, half of what is in flight is served while the other half waits
        batch = batch_of(how, runs) or max(1, how.batch * how.concurrency // 2)
    return instance, Asked(how.model, how.mode, batch, latency_bound_ms=how.rules.get("latency_bound_ms"))


def _notes(result: Result) -> tuple[str, ...]:
    notes = []
    if result.label:
        notes.append(f"{result.label}: the prediction is of {result.metadata.gpu}, unless own results of the stand-in are in it")
    if not result.valid:
        notes.append("INVALID: the measurement does not count")
    runs = zip(*(repeat.instances for repeat in result.repeats), strict=True)
    if result.metadata.mode == "offline" and any(batch_of(result.metadata, own) is None for own in runs):
        notes.append("the server may put requests together: the prediction is of batches of half of what is in flight")
    if result.metadata.mode == "server":
        notes.append("the prediction is the highest rate under the bound, the measurement the rate that was asked for")
    return tuple(notes)


def _instance(prediction: InstancePrediction, measured: InstanceSummary) -> InstanceDeviation:
    figures = (prediction.throughput_per_s, prediction.error)
    return InstanceDeviation(prediction, measured, *_against(measured.throughput_per_s, measured.spread, *figures))


def _against(measured: float, spread: float, expected: float | None, error: float | None) -> tuple[float | None, bool | None]:
    """Return measured over expected, and whether it differs from 1 by no more than both errors together."""
    if not expected:
        return None, None
    ratio = measured / expected
    return ratio, abs(ratio - 1) <= math.hypot(error or 0.0, spread * ratio)
