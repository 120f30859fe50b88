"""Figures of a layout: what is used, wasted, stranded and still free. Must not know solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from partitioner import catalog
from partitioner.geometry import Geometry, Placement
from partitioner.layout import NOBODY, Layout, Pattern
from partitioner.workload import Workload


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of a layout, over the GPUs in use.

    Parameters
    ----------
    gpus_used, gpus_unused : GPUs with and without placements.
    memory_mib : memory of the GPUs in use [MiB].
    memory_allocated_mib : memory of all placements [MiB].
    memory_waste_mib : memory of placements beyond what their occupants asked for [MiB].
    compute_slices : MIG compute slices of the GPUs in use.
    compute_slices_allocated : those that placements own.
    compute_waste_slices : slices of placements beyond what their occupants asked for; a demand by memory asks for
        the slices of the smallest profile with that memory.
    stranded_memory_slices, stranded_compute_slices : free MIG slices that no further placement can reach.
    free_profiles : for each GPU model and mode in use, how many more of each profile fit, one profile at a time.
    """

    gpus_used: int
    gpus_unused: int
    memory_mib: int
    memory_allocated_mib: int
    memory_waste_mib: int
    compute_slices: int
    compute_slices_allocated: int
    compute_waste_slices: int
    stranded_memory_slices: int
    stranded_compute_slices: int
    free_profiles: Mapping[str, Mapping[str, int]]

    def to_data(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


@lru_cache(maxsize=65536)
def stranded(pattern: Pattern) -> tuple[int, int]:
    """Return the free memory slices and free compute slices of one MIG GPU that no further placement can reach.

    3g.40gb + 3g.40gb on an A100 strands one compute slice; seven 1g.10gb strand one memory slice.
    """
    model = catalog.gpu(pattern.model)
    if pattern.mode != "mig":
        return 0, 0
    geometry = model.geometry("mig")
    free_memory = geometry.units - sum(p.profile.extent for p in pattern.placements)
    free_compute = model.compute_slices - sum(p.profile.compute_slices for p in pattern.placements)
    return (
        free_memory - _most_added(geometry, pattern.placements, lambda p: p.profile.extent),
        free_compute - _most_added(geometry, pattern.placements, lambda p: p.profile.compute_slices),
    )


def _most_added(geometry: Geometry, placements: tuple[Placement, ...], weight: Callable[[Placement], int], first: int = 0) -> int:
    """Return the largest weight of placements, from start `first` on, that can be added at once.

    Tries all: a MIG GPU has few free placements.
    """
    return max(
        (
            weight(placement) + _most_added(geometry, (*placements, placement), weight, placement.end)
            for placement in geometry.free(placements)
            if placement.start >= first
        ),
        default=0,
    )


@lru_cache(maxsize=65536)
def room(pattern: Pattern) -> Mapping[str, int]:
    """Return how many more of each profile fit on a GPU of this pattern, one profile at a time."""
    geometry = pattern.geometry
    return geometry.room(pattern.placements) if geometry else {}


def measure(layout: Layout, workloads: Sequence[Workload]) -> Metrics:
    """Return the figures of a layout whose occupants are the given workloads."""
    groups = [group for group in layout.groups() if group.pattern.placements]
    free: dict[str, dict[str, int]] = {}
    totals = dict.fromkeys(("memory", "allocated", "compute", "slices", "stranded_memory", "stranded_compute"), 0)
    for group in groups:
        pattern, n = group.pattern, len(group)
        model = catalog.gpu(pattern.model)
        totals["memory"] += n * model.memory_mib
        totals["allocated"] += n * sum(p.profile.memory_mib for p in pattern.placements)
        if pattern.mode == "mig":
            totals["compute"] += n * model.compute_slices
            totals["slices"] += n * sum(p.profile.compute_slices for p in pattern.placements)
        memory, compute = stranded(pattern)
        totals["stranded_memory"] += n * memory
        totals["stranded_compute"] += n * compute
        more = free.setdefault(f"{pattern.model} {pattern.mode}", {})
        for name, count in room(pattern).items():
            more[name] = more.get(name, 0) + n * count
    memory_waste, compute_waste = _waste(layout, workloads)
    used = sum(len(group) for group in groups)
    return Metrics(
        used,
        len(layout) - used,
        totals["memory"],
        totals["allocated"],
        memory_waste,
        totals["compute"],
        totals["slices"],
        compute_waste,
        totals["stranded_memory"],
        totals["stranded_compute"],
        {key: dict(sorted(more.items())) for key, more in sorted(free.items())},
    )


def _waste(layout: Layout, workloads: Sequence[Workload]) -> tuple[int, int]:
    """Return the memory [MiB] and compute slices of placements beyond the demands of their occupants."""
    held = layout.occupant != NOBODY
    sizes = np.diff(layout.offsets)
    gpu = np.repeat(np.arange(len(layout)), sizes)
    position = np.arange(len(layout.occupant)) - layout.offsets[gpu]
    most = max((len(p.placements) for p in layout.patterns), default=0)
    if not most or not held.any():
        return 0, 0
    asked: dict[tuple[float | None, int | None, float | None, str | None], int] = {}
    keys = [asked.setdefault((w.memory_gib, w.compute_slices, w.gpu_share, w.profile), len(asked)) for w in workloads]
    rows = {w.name: key for w, key in zip(workloads, keys, strict=True)}
    demand_of = np.array([rows[name] for name in layout.workloads], dtype=np.int64)
    slots = layout.gpu_pattern[gpu].astype(np.int64) * most + position
    pairs, counts = np.unique(demand_of[layout.occupant[held]] * (len(layout.patterns) * most) + slots[held], return_counts=True)
    demands = list(asked)
    memory_waste = compute_waste = 0.0
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        demand, slot = divmod(pair, len(layout.patterns) * most)
        pattern, place = layout.patterns[slot // most], slot % most
        memory, compute = _beyond(pattern, pattern.placements[place], demands[demand])
        memory_waste += memory * count
        compute_waste += compute * count
    return int(memory_waste), int(compute_waste)


def _beyond(
    pattern: Pattern, placement: Placement, asked: tuple[float | None, int | None, float | None, str | None]
) -> tuple[float, float]:
    """Return memory [MiB] and compute slices of a placement beyond what was asked for."""
    memory_gib, slices, gpu_share, profile = asked
    if profile is not None:
        return 0.0, 0.0
    model = catalog.gpu(pattern.model)
    memory = max((memory_gib or 0) * 1024, (gpu_share or 0) * model.memory_mib)
    needed = max(float(slices or 0), (gpu_share or 0) * model.compute_slices)
    if pattern.mode == "mig" and not needed:
        geometry = model.geometry("mig")
        needed = min(p.compute_slices for p in geometry.profiles if p.memory_mib >= memory - 1)
    compute = placement.profile.compute_slices - needed if pattern.mode == "mig" else 0.0
    return max(0.0, placement.profile.memory_mib - memory), max(0.0, compute)
