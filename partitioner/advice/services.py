"""The profiles a service could take, what it does on each, and why the plan took others. Must not know how plans are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.layout import Layout
from partitioner.performance import Calibration, Rating
from partitioner.solver.inquiry import Inquiry, RatingKey, supply_of
from partitioner.solver.options import large_enough
from partitioner.workload import Workload

_AS_GOOD = 0.005  # throughput per GPU that differs by less is called the same


@dataclass(frozen=True, slots=True)
class Choice:
    """A profile for one instance of a service.

    Parameters
    ----------
    gpu, mode, profile : what it is.
    throughput_rps : what one instance serves there [1/s]; 0 where it cannot serve at all.
    per_gpu_rps : throughput of a GPU that holds as many of them as it can, and nothing else [1/s].
    batch, processes : how it is run there; None where that is not known.
    instances : how many the plan has.
    why : why it has them, or no more.
    """

    gpu: str
    mode: str
    profile: str
    throughput_rps: float
    per_gpu_rps: float
    batch: int | None
    processes: int | None
    instances: int
    why: str


def choices(inquiry: Inquiry, ratings: Mapping[RatingKey, Rating], layout: Layout, workload: Workload) -> tuple[Choice, ...]:
    """Return the profiles considered for a service, those in use first, then by throughput per GPU."""
    models = {gpu.model: gpu.model for gpu in layout.patterns}
    taken = _taken(layout, workload.name)
    rated = {key[1:]: rating for key, rating in ratings.items() if key[0] == workload.name}
    per_gpu = {key: rating.throughput_rps * _most(*key) for key, rating in rated.items()}
    best = max((per_gpu[key] for key in taken if key in per_gpu), default=max(per_gpu.values(), default=0.0))
    found = [
        Choice(
            *key,
            rating.throughput_rps,
            per_gpu[key],
            rating.batch,
            rating.processes,
            taken[key],
            _why(taken[key], per_gpu[key], best, in_use=bool(taken), there=key[0] in models),
        )
        for key, rating in rated.items()
    ]
    found.sort(key=lambda choice: (-min(choice.instances, 1), -choice.per_gpu_rps, choice.gpu, choice.mode, choice.profile))
    return (*found, *_too_slow(inquiry, workload, set(rated)))


def _taken(layout: Layout, name: str) -> Counter[tuple[str, str, str]]:
    if name not in layout.workloads:
        return Counter()
    number = layout.workloads.index(name)
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in set((layout.offsets.searchsorted((layout.occupant == number).nonzero()[0], side="right") - 1).tolist()):
        pattern = layout.patterns[layout.gpu_pattern[row]]
        first = int(layout.offsets[row])
        for position, placement in enumerate(pattern.placements, first):
            if layout.occupant[position] == number:
                counts[pattern.model, pattern.mode or "", placement.profile.name] += 1
    return counts


def _most(gpu: str, mode: str, profile: str) -> int:
    return catalog.gpu(gpu).geometry(mode).profile(profile).max_count


def _why(instances: int, per_gpu: float, best: float, *, in_use: bool, there: bool) -> str:
    if instances:
        return "in use"
    if per_gpu < best * (1 - _AS_GOOD):
        return f"{1 - per_gpu / best:.0%} less per GPU"
    if not there:
        return "no GPU of this model"
    return "no fewer GPUs beside the other workloads" if in_use else "possible"


def _too_slow(inquiry: Inquiry, workload: Workload, rated: set[tuple[str, str, str]]) -> Iterator[Choice]:
    """Iterate over profiles that are large enough and calibrated, on which the service cannot keep its latency."""
    if inquiry.calibration is None or workload.model is None or workload.latency_ms is None or workload.profile is not None:
        return
    seen = set(rated)
    for kind in supply_of(inquiry).kinds:
        for mode, profile in large_enough(workload, catalog.gpu(kind.model), kind.modes, kind.kept):
            key = (kind.model, mode, profile.name)
            if key not in seen:
                seen.add(key)
                lowest = _lowest_ms(inquiry.calibration, workload, kind.model, profile.name)
                if lowest is not None and lowest > workload.latency_ms:
                    yield Choice(*key, 0.0, 0.0, None, None, 0, f"too slow: {lowest:.3g} ms at best")


def _lowest_ms(calibration: Calibration, workload: Workload, gpu: str, profile: str) -> float | None:
    assert workload.model is not None
    try:
        return calibration.lowest_latency(workload.model, gpu, profile, scenario=workload.scenario)
    except SpecError:  # not calibrated there, or does not fit into its memory
        return None
