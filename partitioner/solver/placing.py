"""From contents of sites to a layout: every replica gets a GPU and a start. The counterpart of `assign`, GPU by GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from partitioner.geometry import Profile
from partitioner.layout import NOBODY, Index, Layout, Pattern
from partitioner.solver.arrangement import Arrangement, Filled, Named
from partitioner.solver.assign import idle_pattern, pattern_of
from partitioner.solver.located import Unit, profile_of, units_of
from partitioner.solver.problem import Problem
from partitioner.solver.sites import Site
from partitioner.solver.supply import Supply
from partitioner.workload import Workloads


@dataclass(frozen=True, slots=True)
class Failover:
    """Where one placement of a replica goes when its host fails.

    Parameters
    ----------
    failed_host : the host that fails.
    workload, replica : who ran there.
    host, gpu, mode, profile, start : the free instance that takes it.
    """

    failed_host: str
    workload: str
    replica: int
    host: str
    gpu: int
    mode: str
    profile: str
    start: int


@dataclass(slots=True)
class Cut:
    """One GPU in use: its slots, and who is in them; (class, profile) for each instance, class -1 where it stays free.

    Where it matters which instance is which, `starts` has the start of each free place by slot, and `at` those of `held`.
    """

    row: int
    kind: int
    mode: str
    free: dict[int, int]
    held: list[tuple[int, str, int, int]] = field(default_factory=list)  # (slot, profile, workload, replica)
    spare: list[tuple[int, str, int]] = field(default_factory=list)  # (slot, profile, start) of instances that stay free
    starts: dict[int, list[int]] = field(default_factory=dict)
    at: list[int] = field(default_factory=list)


@dataclass
class Placer:
    """Hands out replicas to GPUs, site after site."""

    workloads: Workloads
    supply: Supply
    problem: Problem
    profiles: Mapping[tuple[int, int], Profile]
    streams: dict[int, Iterator[tuple[int, int]]]
    gpus: dict[int, Cut] = field(default_factory=dict)
    at: dict[Named, dict[int, list[Cut]]] = field(default_factory=dict)
    hosted: dict[tuple[Named, int], list[tuple[int, int]]] = field(default_factory=dict)

    def fill(self, filled: Filled, units: list[Unit], rows: tuple[int, ...]) -> None:
        """Place the contents of one site."""
        here = (filled.site, filled.copy)
        at = self.at[here] = self._cut(filled, units, rows)
        for number, places, count in self._replicas(filled):
            for _ in range(count):
                who = next(self.streams[number])
                self.hosted.setdefault((here, number), []).append(who)
                for unit, slot in places:
                    self._hold(at[unit], slot, self.profiles[number, slot].name, *who)
        for unit, slot, profile, count in filled.spare:
            for _ in range(count):
                self._hold(at[unit], slot, profile, NOBODY, NOBODY)

    def _replicas(self, filled: Filled) -> Iterator[tuple[int, tuple[tuple[int, int], ...], int]]:
        """Return class, (unit, slot) places and number of the replicas of a site."""
        jobs: dict[tuple[int, tuple[str, str, str]], list[tuple[int, int]]] = {}
        for (number, places), count in sorted(filled.contents.groups.items()):
            yield number, places, count
        for (number, unit, slot), count in sorted(filled.contents.taken.items()):
            c = self.problem.classes[number]
            if c.size == 1 and not c.linked:
                yield number, ((unit, slot),), count
            elif not c.linked:
                jobs.setdefault((number, profile_of(self.problem, number, slot)), []).extend([(unit, slot)] * count)
        for (number, _), every in jobs.items():
            size = self.problem.classes[number].size
            for first in range(0, len(every), size):
                yield number, tuple(every[first : first + size]), 1

    def _cut(self, filled: Filled, units: list[Unit], rows: tuple[int, ...]) -> dict[int, list[Cut]]:
        """Give the GPUs of each unit their configurations."""
        at: dict[int, list[Cut]] = {}
        next_gpu = [iter(unit.gpus) for unit in units]
        for (unit, column), count in sorted(filled.contents.columns.items()):
            slots = self.problem.columns[column].slots
            for _ in range(count):
                row = rows[next(next_gpu[unit])]
                gpu = Cut(row, units[unit].kind, self.problem.slots[slots[0][0]].mode, dict(slots))
                self.gpus[row] = gpu
                at.setdefault(unit, []).append(gpu)
        return at

    def _hold(self, gpus: list[Cut], slot: int, profile: str, workload: int, replica: int) -> None:
        gpu = next(gpu for gpu in gpus if gpu.free.get(slot))
        gpu.free[slot] -= 1
        gpu.held.append((slot, profile, workload, replica))

    def layout(self) -> Layout:
        """Return the layout of all GPUs."""
        fleet = self.supply.fleet
        patterns: dict[Pattern, int] = {}
        idle = [patterns.setdefault(idle_pattern(kind), len(patterns)) for kind in self.supply.kinds]
        n = len(fleet) if fleet is not None else max([*(row + 1 for row in self.gpus), self.supply.kinds[0].available or 0])
        pattern_rows = np.zeros(n, dtype=np.int32)
        for kind, rows in enumerate(self.supply.rows):
            pattern_rows[rows if fleet is not None else slice(None)] = idle[kind]
        known: dict[tuple[int, str, tuple[tuple[str, int], ...]], Pattern] = {}
        for row, gpu in self.gpus.items():
            counts: dict[str, int] = {}
            for _, profile, _, _ in gpu.held:
                counts[profile] = counts.get(profile, 0) + 1
            key = (gpu.kind, gpu.mode, tuple(sorted(counts.items())))
            if key not in known:
                known[key] = (
                    pattern_of(self.supply.kinds[gpu.kind], gpu.mode, counts)
                    if counts
                    else idle_pattern(self.supply.kinds[gpu.kind])
                )
            pattern_rows[row] = patterns.setdefault(known[key], len(patterns))
        return self._filled(tuple(patterns), pattern_rows)

    def _filled(self, patterns: tuple[Pattern, ...], pattern_rows: Index) -> Layout:
        sizes = np.array([len(pattern.placements) for pattern in patterns], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(sizes[pattern_rows])))
        occupant = np.full(offsets[-1], NOBODY, dtype=np.int32)
        replica = np.full(offsets[-1], NOBODY, dtype=np.int32)
        for row, gpu in self.gpus.items():
            kept = set(self.supply.kinds[gpu.kind].kept)
            placements = patterns[pattern_rows[row]].placements
            places: dict[str, list[int]] = {}
            for position, placement in enumerate(placements):
                if (placement.profile.name, placement.start) not in kept:
                    places.setdefault(placement.profile.name, []).append(position)
            for slot, profile, workload, number in sorted(gpu.held, key=lambda held: held[2] == NOBODY):
                position = places[profile].pop(0)
                occupant[offsets[row] + position], replica[offsets[row] + position] = workload, number
                if workload == NOBODY:
                    gpu.spare.append((slot, profile, placements[position].start))
        empty = layout_of_patterns(self.workloads, self.supply, patterns, pattern_rows)
        return replace(empty, occupant=occupant, replica=replica)


def layout_of_patterns(workloads: Workloads, supply: Supply, patterns: tuple[Pattern, ...], pattern_rows: Index) -> Layout:
    """Return a layout of all GPUs in which nobody stands anywhere yet."""
    sizes = np.array([len(pattern.placements) for pattern in patterns] or [0], dtype=np.int64)
    nobody = np.full(int(sizes[pattern_rows].sum()) if len(pattern_rows) else 0, NOBODY, dtype=np.int32)
    names = tuple(workload.name for workload in workloads)
    fleet = supply.fleet
    if fleet is None:
        index = np.arange(len(pattern_rows), dtype=np.int32)
        return Layout((None,), patterns, names, np.zeros_like(index), index, pattern_rows, nobody, nobody.copy())
    counts = [len(host.gpus) for host in fleet.hosts]
    host_of = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    index = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    hosts = tuple(host.name for host in fleet.hosts)
    return Layout(hosts, patterns, names, host_of, index, pattern_rows, nobody, nobody.copy())


def place(
    workloads: Workloads,
    supply: Supply,
    problem: Problem,
    class_of: Index,
    profiles: Mapping[tuple[int, int], Profile],
    sites: tuple[Site, ...],
    arrangement: Arrangement,
    *,
    single: bool,
) -> tuple[Layout, Index, tuple[Failover, ...]]:
    """Hand out slots to replicas and turn configurations into placements.

    Returns
    -------
    The layout; for each workload the replicas left out, shape ``(n_workloads,)``; and where replicas go when a host fails.
    """
    members: list[list[int]] = [[] for _ in problem.classes]
    for row, number in enumerate(class_of.tolist()):
        members[number].append(row)
    streams = {number: _stream(workloads, rows) for number, rows in enumerate(members)}
    placer = Placer(workloads, supply, problem, profiles, streams)
    units = [units_of([site], single=single) for site in sites]
    for number, filled in enumerate(arrangement.filled):
        site = sites[filled.site]
        rows = site.members[filled.copy] if site.members else (number,)
        placer.fill(filled, units[filled.site], rows)
    layout = placer.layout()
    left = _left_out(workloads, arrangement.placed, members)
    every = {(number, copy): rows for number, site in enumerate(sites) for copy, rows in enumerate(site.members)}
    return layout, left, tuple(failovers(placer, layout, every, arrangement))


def failovers(
    placer: Placer, layout: Layout, rows: Mapping[Named, tuple[int, ...]], arrangement: Arrangement
) -> Iterator[Failover]:
    """Turn moves into names: which replica takes which free instance when its host fails.

    Parameters
    ----------
    placer : what was handed out.
    layout : the layout.
    rows : rows in the layout of the GPUs of each site.
    arrangement : the moves.
    """
    left: dict[Named, dict[int, list[tuple[int, str, int]]]] = {}
    waiting = {key: list(who) for key, who in placer.hosted.items()}
    for move in arrangement.moves:
        here = left.setdefault(move.failed, {row: list(gpu.spare) for row, gpu in placer.gpus.items()})
        failed_row = rows[move.failed][0]
        failed = str(layout.hosts[layout.gpu_host[failed_row]])
        for _ in range(move.count):
            workload, replica = waiting[move.failed, move.number].pop(0)
            for site, unit, slot in move.places:
                profile = placer.profiles[move.number, slot].name
                gpu, start = _take(placer.at[site][unit], here, slot, profile)
                yield Failover(
                    failed,
                    placer.workloads[workload].name,
                    replica,
                    str(layout.hosts[layout.gpu_host[gpu.row]]),
                    int(layout.gpu_index[gpu.row]),
                    gpu.mode,
                    profile,
                    start,
                )


def _take(gpus: list[Cut], free: dict[int, list[tuple[int, str, int]]], slot: int, profile: str) -> tuple[Cut, int]:
    """Take a free instance of a profile in a slot on one of some GPUs."""
    gpu, place = next((gpu, place) for gpu in gpus for place in free[gpu.row] if place[:2] == (slot, profile))
    free[gpu.row].remove(place)
    return gpu, place[2]


def _stream(workloads: Workloads, rows: list[int]) -> Iterator[tuple[int, int]]:
    """Give out the replicas of workloads in order; the instances of a service have no end."""
    for row in rows:
        number = 0
        while workloads[row].model is not None or number < workloads[row].count:
            yield row, number
            number += 1


def _left_out(workloads: Workloads, placed: tuple[int, ...], members: list[list[int]]) -> Index:
    left = np.zeros(len(workloads), dtype=np.int32)
    for number, rows in enumerate(members):
        have = placed[number]
        for row in rows:
            taken = min(workloads[row].count, have)
            left[row] = workloads[row].count - taken
            have -= taken
    return left
