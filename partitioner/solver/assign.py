"""From counted configurations to a layout: every replica gets a GPU and a start.

Works on columns of numbers throughout; a million replicas take a fraction of a second. This module must not know how
the configurations were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.geometry import Configuration, Placement
from partitioner.layout import NOBODY, Index, Layout, Pattern
from partitioner.solver.configurations import free_geometry
from partitioner.solver.demand import Demand
from partitioner.solver.problem import Kind, Solution
from partitioner.solver.supply import Supply
from partitioner.workload import Workloads


@dataclass(frozen=True, slots=True)
class _Run:
    """Slots of one (slot type, profile) in a row, and who takes them: shape ``(n_slots,)`` each."""

    mode: str
    profile: str
    gpu: Index
    workload: Index
    replica: Index


def assign(workloads: Workloads, supply: Supply, demand: Demand, solution: Solution) -> tuple[Layout, Index]:
    """Hand out slots to replicas and turn configurations into placements.

    Parameters
    ----------
    workloads : what has to run, in order.
    supply : the GPUs.
    demand : the aggregate problem of the two.
    solution : its solution.

    Returns
    -------
    The layout of the fleet (of the used GPUs where as many as needed are to be had), and for each workload the number
    of replicas that were left out, shape ``(n_workloads,)``. GPUs are filled in the order of the fleet; of one class,
    the workloads that come last are left out.
    """
    order = sorted(solution.gpus, key=lambda entry: (demand.problem.columns[entry[0]].kind, entry[0]))
    sizes = np.array([count for _, count in order], dtype=np.int64)
    kinds = np.array([demand.problem.columns[number].kind for number, _ in order], dtype=np.int32)
    kind_of = np.repeat(kinds, sizes)  # kind of every GPU used, ascending; GPUs of one column stand together
    taken = np.zeros((len(kind_of), len(demand.problem.slots)), dtype=np.int32)
    first = 0
    for number, gpus in order:
        for slot, count in demand.problem.columns[number].slots:
            taken[first : first + gpus, slot] = count
        first += gpus
    streams = _Streams(_counts(workloads, demand, solution), demand.class_of, len(solution.placed))
    runs = _runs(demand, solution, taken, streams)
    layout = _layout(workloads, supply, kind_of, runs)
    return layout, _left_out(workloads, demand, solution, streams)


def _counts(workloads: Workloads, demand: Demand, solution: Solution) -> npt.NDArray[np.int64]:
    """Return how many slots each workload takes at most: its replicas', or all instances of a service."""
    counts = np.array([workload.count * workload.gpus_per_replica for workload in workloads], dtype=np.int64)
    instances: dict[int, int] = {}
    for (number, _), count in solution.served.items():
        instances[number] = instances.get(number, 0) + count
    for row, workload in enumerate(workloads):
        if workload.model is not None:
            counts[row] = instances.get(int(demand.class_of[row]), 0)
    return counts


def _left_out(workloads: Workloads, demand: Demand, solution: Solution, streams: _Streams) -> Index:
    """Return how many replicas of each workload are left out; of a service 1 or 0."""
    left = streams.left_out()
    for row, workload in enumerate(workloads):
        if workload.model is not None:
            left[row] = 1 - solution.placed[int(demand.class_of[row])]
    return left


class _Streams:
    """Gives out the replicas of each class, workloads in order, replicas in order."""

    def __init__(self, counts: npt.NDArray[np.int64], class_of: npt.NDArray[np.int32], n_classes: int) -> None:
        self._counts = counts
        self._next = [0] * n_classes
        order = np.argsort(class_of, kind="stable")
        bounds = np.searchsorted(class_of[order], np.arange(n_classes + 1))
        self._members = [order[bounds[c] : bounds[c + 1]] for c in range(n_classes)]
        self._ends = [np.cumsum(counts[members]) for members in self._members]

    def take(self, number: int, count: int) -> tuple[Index, Index]:
        """Return workload and replica of the next `count` replicas of a class, shape ``(count,)`` each."""
        position = np.arange(self._next[number], self._next[number] + count, dtype=np.int64)
        self._next[number] += count
        ends, members = self._ends[number], self._members[number]
        row = np.searchsorted(ends, position, side="right")
        first = ends[row] - self._counts[members[row]]
        return members[row].astype(np.int32), (position - first).astype(np.int32)

    def left_out(self) -> Index:
        """Return how many replicas of each workload were not taken, shape ``(n_workloads,)``."""
        left = np.zeros(len(self._counts), dtype=np.int64)
        for number, members in enumerate(self._members):
            if len(members):
                before = self._ends[number] - self._counts[members]
                left[members] = np.clip(self._ends[number] - np.maximum(before, self._next[number]), 0, None)
        return left.astype(np.int32)


def _runs(demand: Demand, solution: Solution, taken: Index, streams: _Streams) -> list[_Run]:
    by_slot: dict[int, list[tuple[int, int]]] = {}
    for (number, slot), count in sorted(solution.served.items()):
        by_slot.setdefault(slot, []).append((number, count))
    runs: list[_Run] = []
    for slot, classes in sorted(by_slot.items()):
        gpus = np.repeat(np.arange(len(taken), dtype=np.int32), taken[:, slot])
        kind = demand.problem.slots[slot]
        first = 0
        for number, count in classes:
            profile = demand.profiles[number, slot].name
            workload, replica = streams.take(number, count)
            runs.append(_Run(kind.mode, profile, gpus[first : first + count], workload, replica))
            first += count
    return _merged(runs)


def _merged(runs: list[_Run]) -> list[_Run]:
    """Join runs of one mode and profile, GPUs ascending (different slot types are on different GPUs)."""
    groups: dict[tuple[str, str], list[_Run]] = {}
    for run in runs:
        groups.setdefault((run.mode, run.profile), []).append(run)
    merged = []
    for (mode, profile), members in groups.items():
        gpu = np.concatenate([run.gpu for run in members])
        order = np.argsort(gpu, kind="stable")
        workload = np.concatenate([run.workload for run in members])[order]
        replica = np.concatenate([run.replica for run in members])[order]
        merged.append(_Run(mode, profile, gpu[order], workload, replica))
    return merged


def _layout(workloads: Workloads, supply: Supply, kind_of: Index, runs: list[_Run]) -> Layout:
    n = len(kind_of)
    held = np.zeros((n, len(runs) + 1), dtype=np.int32)  # instances of each run on each GPU, then the kind
    for number, run in enumerate(runs):
        held[:, number] = np.bincount(run.gpu, minlength=n)
    held[:, -1] = kind_of
    distinct, pattern_of = _distinct_rows(held)
    patterns = [_pattern(supply, row, runs) for row in distinct]
    positions = _positions(supply, patterns, distinct, runs)

    rows, hosts, host_of, index_of = _physical(supply, kind_of)
    table = list(patterns)
    gpu_pattern = np.empty(len(host_of), dtype=np.int32)
    idle = _idle_patterns(supply, table)
    gpu_pattern[:] = idle
    gpu_pattern[rows] = pattern_of

    sizes = np.array([len(pattern.placements) for pattern in table], dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(sizes[gpu_pattern])))
    first = offsets[:-1][rows]
    occupant = np.full(offsets[-1], NOBODY, dtype=np.int32)
    replica = np.full(offsets[-1], NOBODY, dtype=np.int32)
    for number, run in enumerate(runs):
        rank = np.arange(len(run.gpu)) - np.searchsorted(run.gpu, run.gpu)
        target = first[run.gpu] + positions[number][pattern_of[run.gpu], rank]
        occupant[target], replica[target] = run.workload, run.replica
    names = tuple(workload.name for workload in workloads)
    return Layout(hosts, tuple(table), names, host_of, index_of, gpu_pattern, occupant, replica)


def _distinct_rows(table: Index) -> tuple[Index, Index]:
    """Return distinct rows, shape ``(n_distinct, n)``, and for each row its number among them."""
    if not len(table):
        return table, np.zeros(0, dtype=np.int32)
    keys = np.ascontiguousarray(table).view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return table[first], inverse.astype(np.int32)


def _pattern(supply: Supply, row: Index, runs: list[_Run]) -> Pattern:
    """Place a configuration on a GPU."""
    kind = supply.kinds[int(row[-1])]
    counts = {run.profile: int(count) for run, count in zip(runs, row, strict=False) if count}
    mode = next((run.mode for run, count in zip(runs, row, strict=False) if count), None)
    return idle_pattern(kind) if mode is None else pattern_of(kind, mode, counts)


def pattern_of(kind: Kind, mode: str, counts: Mapping[str, int]) -> Pattern:
    """Place a configuration on a GPU of a kind, beside its existing instances."""
    placements = free_geometry(kind.model, mode, kind.kept).layout_of(Configuration(counts))
    assert placements is not None, f"{kind.model}: {counts} was counted as a configuration"
    geometry = catalog.gpu(kind.model).geometry(mode)
    every = [(placement.profile.name, placement.start) for placement in placements] + list(kind.kept)
    ordered = sorted((Placement(geometry.profile(name), start) for name, start in every), key=lambda p: p.start)
    return Pattern(kind.model, mode, tuple(ordered))


def idle_pattern(kind: Kind) -> Pattern:
    """Return the pattern of a GPU that the plan does not use: its existing instances, or nothing."""
    return pattern_of(kind, kind.fixed or "", {}) if kind.kept else Pattern(kind.model, kind.fixed)


def _positions(supply: Supply, patterns: list[Pattern], distinct: Index, runs: list[_Run]) -> list[npt.NDArray[np.int64]]:
    """Return for each run where its instances stand in each pattern, shape ``(n_patterns, most)``."""
    kept = [set(supply.kinds[int(row[-1])].kept) for row in distinct]
    positions = []
    for number, run in enumerate(runs):
        most = int(distinct[:, number].max(initial=0))
        table = np.zeros((len(patterns), max(1, most)), dtype=np.int64)
        for row, pattern in enumerate(patterns):
            if distinct[row, number]:
                mine = [(i, (p.profile.name, p.start)) for i, p in enumerate(pattern.placements) if p.profile.name == run.profile]
                places = [i for i, place in mine if place not in kept[row]]
                table[row, : len(places)] = places
        positions.append(table)
    return positions


def _physical(supply: Supply, kind_of: Index) -> tuple[Index, tuple[str | None, ...], Index, Index]:
    """Map the GPUs of the solution to those of the fleet.

    Returns
    -------
    The row in the layout of each GPU of the solution; names of hosts; host and index of every row.
    """
    if supply.fleet is None:
        total = supply.kinds[0].available if supply.kinds[0].available is not None else len(kind_of)
        rows = np.arange(len(kind_of), dtype=np.int32)
        return rows, (None,), np.zeros(total, dtype=np.int32), np.arange(total, dtype=np.int32)
    rows = np.empty(len(kind_of), dtype=np.int32)
    for kind, members in enumerate(supply.rows):
        mine = kind_of == kind
        rows[mine] = members[: int(mine.sum())]
    sizes = [len(host.gpus) for host in supply.fleet.hosts]
    host_of = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    index_of = (np.arange(len(host_of)) - starts[host_of]).astype(np.int32)
    return rows, tuple(host.name for host in supply.fleet.hosts), host_of, index_of


def _idle_patterns(supply: Supply, table: list[Pattern]) -> Index | int:
    """Append the patterns of unused GPUs to the table and return the one of every row."""
    if supply.fleet is None:
        table.append(idle_pattern(supply.kinds[0]))
        return len(table) - 1
    numbers: dict[Pattern, int] = {}
    idle = np.empty(len(supply.fleet), dtype=np.int32)
    for kind, members in zip(supply.kinds, supply.rows, strict=True):
        pattern = idle_pattern(kind)
        if pattern not in numbers:
            numbers[pattern] = len(table)
            table.append(pattern)
        idle[members] = numbers[pattern]
    return idle
