"""Figures of a layout: what is used, kept, spare, wasted, stranded and still free. Must not know how plans are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.fleet import Fleet
from partitioner.geometry import Geometry, Placement
from partitioner.layout import NOBODY, Layout, Pattern
from partitioner.solver.migration import migration
from partitioner.workload import Workload


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of a layout, over the GPUs in use.

    Parameters
    ----------
    gpus_used, gpus_unused : GPUs with and without placements.
    replicas : replicas that are placed; one on several GPUs counts once, a service counts its instances.
    memory_mib : memory of the GPUs in use [MiB].
    memory_allocated_mib : memory of the placements that the plan makes [MiB].
    memory_spare_mib : memory of those among them that nobody holds, so that replicas of a failed host find room [MiB].
    memory_kept_mib : memory of existing instances, which are not of the plan's making [MiB].
    memory_waste_mib : memory of placements beyond what their occupants asked for [MiB]; a service asks for requests, so
        that none of its memory counts as waste.
    compute_slices : MIG compute slices of the GPUs in use.
    compute_slices_allocated, compute_slices_spare, compute_slices_kept : those that placements own, as for memory.
    compute_waste_slices : slices of placements beyond what their occupants asked for; a demand by memory asks for
        the slices of the smallest profile with that memory, a service for all it has.
    stranded_memory_slices, stranded_compute_slices : free MIG slices that no further placement can reach.
    free_profiles : for each GPU model and mode in use, how many more of each profile fit, one profile at a time.
    migrations : instances that ran before the plan and move, or are left out.
    sequential_migrations : those among them that go where somebody has to leave first.
    pending : replicas that were asked for and are not placed; a service counts once.
    """

    gpus_used: int
    gpus_unused: int
    replicas: int
    memory_mib: int
    memory_allocated_mib: int
    memory_spare_mib: int
    memory_kept_mib: int
    memory_waste_mib: int
    compute_slices: int
    compute_slices_allocated: int
    compute_slices_spare: int
    compute_slices_kept: int
    compute_waste_slices: int
    stranded_memory_slices: int
    stranded_compute_slices: int
    free_profiles: Mapping[str, Mapping[str, int]]
    migrations: int = 0
    sequential_migrations: int = 0
    pending: int = 0

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


def existing(layout: Layout, fleet: Fleet | None) -> npt.NDArray[np.bool_]:
    """Return whether each placement is an instance that existed before the plan and stays; shape ``(n_placements,)``.

    Parameters
    ----------
    layout : the placements.
    fleet : the GPUs with their existing instances; None where there are none.
    """
    found = np.zeros(len(layout.occupant), dtype=np.bool_)
    instances = {(host, index): gpu.instances for host, index, gpu in fleet or () if gpu.instances}
    if not instances:
        return found
    gpus = zip(layout.gpu_host.tolist(), layout.gpu_index.tolist(), layout.gpu_pattern.tolist(), strict=True)
    for row, (host, index, pattern) in enumerate(gpus):
        stay = instances.get((layout.hosts[host] or "", index), ())
        for position, placement in enumerate(layout.patterns[pattern].placements if stay else (), int(layout.offsets[row])):
            found[position] = str(placement) in stay
    return found


def measure(
    layout: Layout, workloads: Sequence[Workload], fleet: Fleet | None = None, *, current: Layout | None = None
) -> Metrics:
    """Return the figures of a layout.

    Parameters
    ----------
    layout : what is measured.
    workloads : those that occupy it.
    fleet : its GPUs, which say what existed before the plan.
    current : what ran before the plan, where it started from that.
    """
    moves = None if current is None else migration(current, layout, workloads)
    groups = [group for group in layout.groups() if group.pattern.placements]
    free: dict[str, dict[str, int]] = {}
    memory = compute = stranded_memory = stranded_compute = 0
    for group in groups:
        pattern, n = group.pattern, len(group)
        model = catalog.gpu(pattern.model)
        memory += n * model.memory_mib
        compute += n * model.compute_slices if pattern.mode == "mig" else 0
        out_of_reach = stranded(pattern)
        stranded_memory += n * out_of_reach[0]
        stranded_compute += n * out_of_reach[1]
        more = free.setdefault(f"{pattern.model} {pattern.mode}", {})
        for name, count in room(pattern).items():
            more[name] = more.get(name, 0) + n * count
    kept, held = existing(layout, fleet), layout.occupant != NOBODY
    allocated, spare, of_others = (_sizes(layout, which) for which in (~kept, ~kept & ~held, kept))
    memory_waste, compute_waste = _waste(layout, workloads)
    used = sum(len(group) for group in groups)
    return Metrics(
        gpus_used=used,
        gpus_unused=len(layout) - used,
        replicas=_replicas(layout),
        memory_mib=memory,
        memory_allocated_mib=allocated[0],
        memory_spare_mib=spare[0],
        memory_kept_mib=of_others[0],
        memory_waste_mib=memory_waste,
        compute_slices=compute,
        compute_slices_allocated=allocated[1],
        compute_slices_spare=spare[1],
        compute_slices_kept=of_others[1],
        compute_waste_slices=compute_waste,
        stranded_memory_slices=stranded_memory,
        stranded_compute_slices=stranded_compute,
        free_profiles={key: dict(sorted(more.items())) for key, more in sorted(free.items())},
        migrations=0 if moves is None else len(moves),
        sequential_migrations=0 if moves is None else moves.sequential(),
        pending=_pending(layout, workloads),
    )


def _pending(layout: Layout, workloads: Sequence[Workload]) -> int:
    """Count replicas that were asked for and are not placed."""
    services = np.array([w.model is not None for w in workloads], dtype=np.bool_)
    held = layout.occupant != NOBODY
    keys = np.unique(layout.occupant[held].astype(np.int64) << 32 | layout.replica[held]) >> 32
    names = {name: row for row, name in enumerate(layout.workloads)}
    rows = [names.get(w.name, -1) for w in workloads]
    placed = np.bincount(keys, minlength=len(layout.workloads) + 1)[rows] if rows else np.zeros(0, dtype=np.int64)
    asked = np.array([w.count for w in workloads], dtype=np.int64)
    return int((asked - np.where(services, np.minimum(placed, 1), np.minimum(placed, asked))).sum())


def _replicas(layout: Layout) -> int:
    """Count the replicas placed, each once however many placements it has."""
    held = layout.occupant != NOBODY
    return len(np.unique(layout.occupant[held].astype(np.int64) << 32 | layout.replica[held]))


def _sizes(layout: Layout, which: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return memory [MiB] and MIG compute slices of some placements."""
    memory = [p.profile.memory_mib for pattern in layout.patterns for p in pattern.placements]
    compute = [p.profile.compute_slices * (pattern.mode == "mig") for pattern in layout.patterns for p in pattern.placements]
    chosen = _kinds(layout)[which]
    return int(np.array(memory, dtype=np.int64)[chosen].sum()), int(np.array(compute, dtype=np.int64)[chosen].sum())


def _kinds(layout: Layout) -> npt.NDArray[np.int64]:
    """Return the place of each placement in the list of all patterns' placements; shape ``(n_placements,)``."""
    first = np.concatenate(([0], np.cumsum([len(pattern.placements) for pattern in layout.patterns]))).astype(np.int64)
    gpu = np.repeat(np.arange(len(layout)), np.diff(layout.offsets))
    kinds: npt.NDArray[np.int64] = first[layout.gpu_pattern[gpu]] + np.arange(len(layout.occupant)) - layout.offsets[gpu]
    return kinds


_Demand = tuple[bool, float | None, int | None, float | None, str | None]


def _waste(layout: Layout, workloads: Sequence[Workload]) -> tuple[int, int]:
    """Return the memory [MiB] and compute slices of placements beyond the demands of their occupants."""
    held = layout.occupant != NOBODY
    if not held.any():
        return 0, 0
    asked: dict[_Demand, int] = {}
    rows = {w.name: asked.setdefault(_demand(w), len(asked)) for w in workloads}
    demand_of = np.array([rows[name] for name in layout.workloads], dtype=np.int64)
    places = [(pattern, placement) for pattern in layout.patterns for placement in pattern.placements]
    pairs, counts = np.unique(demand_of[layout.occupant[held]] * len(places) + _kinds(layout)[held], return_counts=True)
    demands = list(asked)
    memory_waste = compute_waste = 0.0
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        demand, place = divmod(pair, len(places))
        pattern, placement = places[place]
        memory, compute = _beyond(pattern, placement, demands[demand])
        memory_waste += memory * count
        compute_waste += compute * count
    return int(memory_waste), int(compute_waste)


def _demand(workload: Workload) -> _Demand:
    return workload.model is not None, workload.memory_gib, workload.compute_slices, workload.gpu_share, workload.profile


def _beyond(pattern: Pattern, placement: Placement, asked: _Demand) -> tuple[float, float]:
    """Return memory [MiB] and compute slices of a placement beyond what was asked for."""
    service, memory_gib, slices, gpu_share, profile = asked
    if service or profile is not None:
        return 0.0, 0.0
    model = catalog.gpu(pattern.model)
    memory = max((memory_gib or 0) * 1024, (gpu_share or 0) * model.memory_mib)
    needed = max(float(slices or 0), (gpu_share or 0) * model.compute_slices)
    if pattern.mode == "mig" and not needed:
        geometry = model.geometry("mig")
        needed = min(p.compute_slices for p in geometry.profiles if p.memory_mib >= memory - 1)
    compute = placement.profile.compute_slices - needed if pattern.mode == "mig" else 0.0
    return max(0.0, placement.profile.memory_mib - memory), max(0.0, compute)
