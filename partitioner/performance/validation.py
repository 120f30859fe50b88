"""How wrong a calibration is where it was not measured: parts are held out, predicted from the rest, and compared.

Knows calibrations; decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from partitioner import catalog
from partitioner.performance import law as laws
from partitioner.performance.batches import Batches
from partitioner.performance.busy import Ratio
from partitioner.performance.calibration import Calibration
from partitioner.performance.points import Point, shares
from partitioner.performance.published import Published

LEAVE_OUT = ("profile", "model", "between")
"""What a fold holds out. ``profile``: all points of one profile, for the law of the same model. ``model``: the split of
work between compute and memory and the gain of processes, taken as the median of the other models; the held-out model
is measured with one process on its largest profile only. ``between``: the highest throughput of all profiles between
the smallest and the largest, interpolated from these two as scenario figures are."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Errors of predictions for one held-out part.

    Parameters
    ----------
    model : name of the model.
    gpu : name of the GPU model.
    leave_out : what is held out, one of `LEAVE_OUT`.
    held_out : the name of the held-out profile or model.
    throughput_errors : relative errors of the throughput, one for each point.
    latency_errors : relative errors of the latency of a batch as it was measured; empty where only throughput is known.
    """

    model: str
    gpu: str
    leave_out: str
    held_out: str
    throughput_errors: tuple[float, ...]
    latency_errors: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and 90th percentile of relative errors, over folds."""

    points: int
    throughput_mean: float
    throughput_p90: float
    latency_mean: float | None
    latency_p90: float | None


def cross_validate(calibration: Calibration) -> tuple[Fold, ...]:
    """Hold out each profile and each model of a calibration's batch points in turn, and predict it from the rest.

    Returns
    -------
    Folds by GPU and model, in order; none for a model with fewer than three profiles on a GPU.

    Notes
    -----
    Deterministic; one fit for each fold.
    """
    folds: list[Fold] = []
    for gpu in sorted({gpu for model in calibration.models() for gpu in calibration.gpus(model)}):
        found = [batches for model in calibration.models() if (batches := calibration.batches(model, gpu))]
        usable = [batches for batches in found if len(batches.samples) >= 3]
        for batches in usable:
            folds += _by_profile(batches)
            folds += _by_model(batches, [other for other in usable if other is not batches])
            folds += _between(batches)
    return tuple(folds)


def summarise(folds: Iterable[Fold]) -> Summary:
    """Return mean and 90th percentile of the errors of folds, all points alike; at least one fold is wanted."""
    chosen = tuple(folds)
    throughput = sorted(error for fold in chosen for error in fold.throughput_errors)
    latency = sorted(error for fold in chosen for error in fold.latency_errors)
    return Summary(
        len(throughput),
        fmean(throughput),
        _p90(throughput),
        fmean(latency) if latency else None,
        _p90(latency) if latency else None,
    )


def _p90(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


def _fold(batches: Batches, leave_out: str, held_out: str, law: laws.Law, points: Iterable[Point]) -> Fold:
    throughput, latency = [], []
    for point in points:
        owned = shares(batches.gpu, batches.gpu.profile(point.profile))
        if not point.fits or owned is None or point.busy:
            continue
        assert point.batch is not None
        assert point.processes is not None
        predicted = float(law.latency_ms(*owned, point.batch, point.processes))
        rate = point.batch * point.processes * 1000 / predicted
        throughput.append(abs(rate / point.throughput_per_s - 1))
        if point.latency_ms:
            latency.append(abs(predicted / point.latency_ms - 1))
    return Fold(batches.model, batches.gpu.name, leave_out, held_out, tuple(throughput), tuple(latency))


def _by_profile(batches: Batches) -> list[Fold]:
    folds = []
    for name in batches.samples:
        held_out = [point for point in batches.points if point.profile == name]
        folds.append(_fold(batches, "profile", name, batches.law_without(name), held_out))
    return [fold for fold in folds if fold.throughput_errors]


def _largest(batches: Batches) -> str:
    return max(batches.samples, key=lambda name: batches.samples[name][0].compute)


def _by_model(batches: Batches, others: Sequence[Batches]) -> list[Fold]:
    if len(others) < 2:
        return []
    largest = _largest(batches)
    fewest = min(sample.processes for sample in batches.samples[largest])
    own = laws.fit([sample for sample in batches.samples[largest] if sample.processes == fewest])
    work = own.compute_ms + own.memory_ms
    split = median(other.law.compute_ms / (other.law.compute_ms + other.law.memory_ms) for other in others)
    counts = {p for other in others for p in other.law.efficiency}
    gain = {p: median(o.law.efficiency[p] for o in others if p in o.law.efficiency) for p in counts}
    law = laws.Law(own.knee, own.fixed_ms, work * split, work * (1 - split), gain, 0.0)
    fold = _fold(batches, "model", batches.model, law, (p for p in batches.points if p.profile != largest))
    return [fold] if fold.throughput_errors else []


def _between(batches: Batches) -> list[Fold]:
    peaks: dict[str, float] = {}
    for point in batches.points:
        if point.profile in batches.samples and not point.busy:
            peaks[point.profile] = max(peaks.get(point.profile, 0.0), point.throughput_per_s)
    order = sorted(peaks, key=lambda name: batches.samples[name][0].compute)
    ends = [Point(batches.gpu.name, name, batches.model, peaks[name], scenario="offline") for name in (order[0], order[-1])]
    known = Published(batches.gpu, batches.model, ends, Ratio(1.0, 0.0, ""))
    gpu = catalog.gpu(batches.gpu.name)
    folds = []
    for name in order[1:-1]:
        value = known.offline(gpu.profile(name), busy=False, extrapolate=False).value
        folds.append(Fold(batches.model, gpu.name, "between", name, (abs(value / peaks[name] - 1),), ()))
    return folds
