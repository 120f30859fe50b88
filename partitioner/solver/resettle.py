"""From contents of sites to a layout, starting from what runs now: the counterpart of `rehouse` where sites are told apart.

Who can stay keeps place and number. Among sites, and among GPUs, that a plan need not tell apart those become what changes
them least; that is a rule, not a proof. This module must not know how the contents were found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from partitioner import catalog
from partitioner.geometry import Placement, Profile
from partitioner.layout import NOBODY, Index, Layout, Pattern
from partitioner.solver.arrangement import Arrangement, Filled, Named
from partitioner.solver.assign import idle_pattern
from partitioner.solver.located import Unit, units_of
from partitioner.solver.placing import Cut, Failover, Placer, failovers, layout_of_patterns
from partitioner.solver.problem import Problem
from partitioner.solver.reshaping import Placed, Stayer, Target, placed, shape_names
from partitioner.solver.sites import Site
from partitioner.solver.standing import LEAVES, Content, Standing
from partitioner.solver.supply import Supply
from partitioner.workload import Workloads

_MOST_COMPARED = 40_000  # pairs of a site and its contents that are compared

Who = tuple[int, int]
"""Row of a workload, and number of a replica."""


@dataclass(slots=True)
class _Job:
    """A replica, or several alike of one place: class, (unit, slot) places, who where it is known, how many."""

    here: Named
    number: int
    places: tuple[tuple[int, int], ...]
    count: int
    who: Who | None = None


@dataclass
class _Resettler(Placer):
    """Hands out replicas to GPUs, those first who stay."""

    standing: Standing = field(kw_only=True)
    contents: Sequence[Content] = field(kw_only=True)
    class_of: Index = field(kw_only=True)
    kept: set[Who] = field(default_factory=set)
    jobs: list[_Job] = field(default_factory=list)
    staying: dict[int, list[tuple[int, int, int, bool]]] = field(default_factory=dict)
    runs: Counter[int] = field(default_factory=Counter)  # instances of each class in the plan

    @cached_property
    def content_of(self) -> dict[int, Content]:
        """What stands on each GPU of the fleet."""
        return {row: content for content in self.contents for row in content.rows.tolist()}

    @cached_property
    def gpu_of(self) -> dict[int, int]:
        """Row in the fleet to row in the layout of what runs now, for GPUs that are in it."""
        return {
            row: gpu for content in self.contents for row, gpu in zip(content.rows.tolist(), content.gpus.tolist(), strict=True)
        }

    # -- who stays -------------------------------------------------------------------------------------------------

    def settle(self, filled: Filled, units: list[Unit], rows: tuple[int, ...]) -> None:
        """Cut the GPUs of one site, and let stay who can."""
        here = (filled.site, filled.copy)
        at = self.at[here] = self._cut_there(filled, units, rows)
        for number, places, count in self._replicas(filled):
            c = self.problem.classes[number]
            if c.size == 1 and not c.linked:
                left = self._stay(here, at[places[0][0]], number, places[0][1], count)
                if left:
                    self.jobs.append(_Job(here, number, places, left))
            else:
                self.jobs += [self._stay_together(here, at, number, places) for _ in range(count)]

    def _stay(self, here: Named, gpus: list[Cut], number: int, slot: int, count: int) -> int:
        """Let instances of a class stay on some GPUs, those who have to first; return how many are left to come."""
        for pinned in (True, False):
            for gpu in gpus:
                for start, profile, who, pin in self._there(gpu, number, slot):
                    if count and pin == pinned and who not in self.kept:
                        self._keep(here, number, gpu, slot, profile, start, who)
                        count -= 1
        return count

    def _keep(self, here: Named, number: int, gpu: Cut, slot: int, profile: str, start: int, who: Who) -> None:
        gpu.starts[slot].remove(start)
        gpu.free[slot] -= 1
        self.kept.add(who)
        self.hosted.setdefault((here, number), []).append(who)
        self._put(gpu, slot, profile, who, start)

    def _put(self, gpu: Cut, slot: int, profile: str, who: Who, start: int) -> None:
        gpu.held.append((slot, profile, *who))
        gpu.at.append(start)

    def _there(self, gpu: Cut, number: int, slot: int) -> list[tuple[int, str, Who, bool]]:
        """Return start, profile and name of those of a class who may stay in free places of a slot, and whether they have to."""
        allowed = self.problem.classes[number].may_hold(slot)
        content = self.content_of[gpu.row]
        if content.pattern is None or content.mode != gpu.mode:
            return []
        first = int(self.standing.layout.offsets[self.gpu_of[gpu.row]])
        found = []
        for position, placement in enumerate(content.pattern.placements):
            if (
                content.who[position] == number
                and placement.profile.name in allowed
                and placement.start in gpu.starts.get(slot, ())
            ):
                row, replica = int(self.standing.workload[first + position]), int(self.standing.layout.replica[first + position])
                if self.workloads[row].model is None or replica < self.runs[number]:
                    found.append((placement.start, placement.profile.name, (row, replica), bool(content.pinned[position])))
        return found

    def _stay_together(self, here: Named, at: Mapping[int, list[Cut]], number: int, places: tuple[tuple[int, int], ...]) -> _Job:
        """Let one replica of several instances stay, the one of which the most stand there."""
        seen: Counter[Who] = Counter()
        for unit, slot in dict.fromkeys(places):
            for gpu in at[unit]:
                for _, _, who, pin in self._there(gpu, number, slot):
                    if who not in self.kept:
                        seen[who] += 1000 if pin else 1
        if not seen:
            return _Job(here, number, places, 1)
        best = max(seen, key=lambda who: (seen[who], -who[0], -who[1]))
        self.kept.add(best)
        rest = []
        for unit, slot in places:
            found = next(
                ((gpu, start) for gpu in at[unit] for start, _, who, _ in self._there(gpu, number, slot) if who == best), None
            )
            if found is None:
                rest.append((unit, slot))
                continue
            gpu, start = found
            gpu.starts[slot].remove(start)
            gpu.free[slot] -= 1
            self._put(gpu, slot, self.profiles[number, slot].name, best, start)
        return _Job(here, number, tuple(rest), 1, best)

    # -- who comes -------------------------------------------------------------------------------------------------

    def complete(self, filled: Sequence[Filled]) -> None:
        """Give what is left to all others, who run now first."""
        streams = {number: self._waiting(number) for number in range(len(self.problem.classes))}
        for job in self.jobs:
            at = self.at[job.here]
            for _ in range(job.count):
                who = job.who or next(streams[job.number])
                self.hosted.setdefault((job.here, job.number), []).append(who)
                for unit, slot in job.places:
                    self._give(at[unit], slot, self.profiles[job.number, slot].name, who)
        for entry in filled:
            for unit, slot, profile, count in entry.spare:
                for _ in range(count):
                    gpu, start = self._give(self.at[entry.site, entry.copy][unit], slot, profile, (NOBODY, NOBODY))
                    gpu.spare.append((slot, profile, start))

    def _give(self, gpus: list[Cut], slot: int, profile: str, who: Who) -> tuple[Cut, int]:
        """Put somebody into a free place, one that exists already first."""
        best: tuple[bool, Cut, int] | None = None
        for gpu in gpus:
            for start in gpu.starts.get(slot, ()):
                exists = self._exists(gpu, profile, start)
                if best is None or (exists and not best[0]):
                    best = exists, gpu, start
        assert best is not None, "a slot was counted that no GPU offers"
        _, gpu, start = best
        gpu.starts[slot].remove(start)
        gpu.free[slot] -= 1
        self._put(gpu, slot, profile, who, start)
        return gpu, start

    def _exists(self, gpu: Cut, profile: str, start: int) -> bool:
        pattern = self.content_of[gpu.row].pattern
        return (
            pattern is not None
            and pattern.mode == gpu.mode
            and any((p.profile.name, p.start) == (profile, start) for p in pattern.placements)
        )

    def _waiting(self, number: int) -> Iterator[Who]:
        rows = np.flatnonzero(self.class_of == number).tolist()
        service = self.problem.classes[number].yields
        every = ((row, replica) for row in rows for replica in range(self.runs[number] if service else self.workloads[row].count))
        waiting = [who for who in every if who not in self.kept]
        running = self._running
        return iter([*(who for who in waiting if who in running), *(who for who in waiting if who not in running)])

    @cached_property
    def _running(self) -> set[Who]:
        there = self.standing.workload >= 0
        rows, replicas = self.standing.workload[there].tolist(), self.standing.layout.replica[there].tolist()
        return set(zip(rows, replicas, strict=True))

    # -- GPUs ------------------------------------------------------------------------------------------------------

    def _cut_there(self, filled: Filled, units: list[Unit], rows: tuple[int, ...]) -> dict[int, list[Cut]]:
        """Give the GPUs of each unit the configurations that change them least."""
        at: dict[int, list[Cut]] = {}
        for unit, of in enumerate(units):
            wanted = [(column, count) for (u, column), count in sorted(filled.contents.columns.items()) if u == unit]
            if not wanted:
                continue
            left = dict(wanted)
            free = [rows[gpu] for gpu in of.gpus]
            pairs = [(self._places(row, column)[1], row, column) for row in free for column, _ in wanted]
            taken: set[int] = set()
            for _, row, column in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
                if row in taken or not left[column]:
                    continue
                taken.add(row)
                left[column] -= 1
                gpu = self.gpus[row] = self._cut_one(row, of.kind, column)
                at.setdefault(unit, []).append(gpu)
        return at

    def _cut_one(self, row: int, kind: int, column: int) -> Cut:
        places, _ = self._places(row, column)
        slots = self.problem.columns[column].slots
        slot_of = {self.problem.slots[slot].shape: slot for slot, _ in slots}
        starts: dict[int, list[int]] = {}
        for shape, start, _ in places:
            starts.setdefault(slot_of[shape], []).append(start)
        return Cut(row, kind, self.problem.slots[slots[0][0]].mode, dict(slots), starts=starts)

    def _places(self, row: int, column: int) -> tuple[Placed, int]:
        """Return placements of a column on a GPU, and how much of what stands there they use again."""
        problem, of = self.problem, self.problem.columns[column]
        kind, first = problem.kinds[of.kind], problem.slots[of.slots[0][0]]
        names = tuple(
            slot.shape for slot in problem.slots if (slot.kind, slot.mode, slot.tenant) == (of.kind, first.mode, first.tenant)
        )
        slot_of = {
            slot.shape: number
            for number, slot in enumerate(problem.slots)
            if (slot.kind, slot.mode, slot.tenant) == (of.kind, first.mode, first.tenant)
        }
        content = self.content_of[row]
        stayers: list[Stayer] = []
        there: tuple[tuple[str, int], ...] = ()
        if content.pattern is not None and content.mode == first.mode:
            shape_of = shape_names(kind.model, first.mode, kind.kept)
            there = tuple((shape_of.get(p.profile.name, ""), p.start) for p in content.pattern.placements)
            for placement, number, pinned in zip(content.pattern.placements, content.who, content.pinned, strict=True):
                slot = slot_of.get(shape_of.get(placement.profile.name, ""), -1)
                if number == LEAVES or (number, slot) not in self.profiles:
                    continue
                if placement.profile.name in problem.classes[number].may_hold(slot):
                    stayers.append(Stayer(problem.slots[slot].shape, placement.start, number, pinned))
        counts = {problem.slots[slot].shape: n for slot, n in of.slots}
        kept = tuple((number, problem.slots[slot].shape, n) for (number, slot), n in of.kept)
        target = Target(tuple(counts.get(name, 0) for name in names), kept)
        return placed(kind.model, first.mode, names, kind.kept, tuple(stayers), target, there)

    def layout(self) -> Layout:
        """Return the layout of all GPUs."""
        patterns: dict[Pattern, int] = {}
        n = sum(len(content.rows) for content in self.contents)
        pattern_rows = np.zeros(n, dtype=np.int32)
        for content in self.contents:
            kind = self.supply.kinds[content.kind]
            idle = idle_pattern(kind) if kind.kept or content.mode is None else Pattern(kind.model, kind.fixed or content.mode)
            pattern_rows[content.rows] = patterns.setdefault(idle, len(patterns))
        for row, gpu in self.gpus.items():
            if gpu.held:
                pattern_rows[row] = patterns.setdefault(self._pattern(gpu), len(patterns))
        layout = layout_of_patterns(self.workloads, self.supply, tuple(patterns), pattern_rows)
        for row, gpu in self.gpus.items():
            starts = {p.start: position for position, p in enumerate(layout.patterns[pattern_rows[row]].placements)}
            for (_, _, workload, replica), start in zip(gpu.held, gpu.at, strict=True):
                position = int(layout.offsets[row]) + starts[start]
                layout.occupant[position], layout.replica[position] = workload, replica if workload != NOBODY else NOBODY
        return layout

    def _pattern(self, gpu: Cut) -> Pattern:
        kind, content = self.supply.kinds[gpu.kind], self.content_of[gpu.row]
        geometry = catalog.gpu(kind.model).geometry(gpu.mode)
        every = [Placement(geometry.profile(held[1]), start) for held, start in zip(gpu.held, gpu.at, strict=True)]
        every += [Placement(geometry.profile(name), start) for name, start in kind.kept]
        if content.pattern is not None and content.mode == gpu.mode:
            for placement in content.pattern.placements:
                if placement not in every and geometry.is_legal([*every, placement]):
                    every.append(placement)
        return Pattern(kind.model, gpu.mode, tuple(sorted(every, key=lambda placement: placement.start)))


def resettle(
    workloads: Workloads,
    supply: Supply,
    problem: Problem,
    class_of: Index,
    profiles: Mapping[tuple[int, int], Profile],
    sites: tuple[Site, ...],
    arrangement: Arrangement,
    standing: Standing,
    contents: Sequence[Content],
    *,
    single: bool,
) -> tuple[Layout, Index, tuple[Failover, ...]]:
    """Hand out slots to replicas and turn configurations into placements.

    Parameters
    ----------
    workloads, supply, problem, class_of, profiles, sites, arrangement, single : as of `placing.place`.
    standing, contents : what runs now, and the GPUs that hold the same.

    Returns
    -------
    As of `placing.place`.
    """
    placer = _Resettler(workloads, supply, problem, profiles, {}, standing=standing, contents=contents, class_of=class_of)
    for filled in arrangement.filled:
        for (number, _, _), count in filled.contents.taken.items():
            placer.runs[number] += count
    rows_of = _members(placer, sites, arrangement)
    units = [units_of([site], single=single) for site in sites]
    for number, filled in enumerate(arrangement.filled):
        placer.settle(filled, units[filled.site], rows_of[number])
    placer.complete(arrangement.filled)
    layout = placer.layout()
    left = np.zeros(len(workloads), dtype=np.int32)
    given = Counter(workload for hosted in placer.hosted.values() for workload, _ in hosted)
    for row, workload in enumerate(workloads):
        served = arrangement.placed[int(class_of[row])]
        left[row] = 1 - served if workload.model is not None else workload.count - given[row]
    moved = tuple(failovers(placer, layout, rows_of_named(arrangement, rows_of), arrangement))
    return layout, left, moved


def rows_of_named(arrangement: Arrangement, rows: Sequence[tuple[int, ...]]) -> dict[Named, tuple[int, ...]]:
    """Return the GPUs that each site in use has got."""
    return {(filled.site, filled.copy): mine for filled, mine in zip(arrangement.filled, rows, strict=True)}


def _members(placer: _Resettler, sites: tuple[Site, ...], arrangement: Arrangement) -> list[tuple[int, ...]]:
    """Give the sites that are alike the contents that change them least; return the GPUs of each filling."""
    result: list[tuple[int, ...]] = [()] * len(arrangement.filled)
    for number, site in enumerate(sites):
        mine = [n for n, filled in enumerate(arrangement.filled) if filled.site == number]
        if not site.members or len(mine) * len(site.members) > _MOST_COMPARED:
            for n in mine:
                result[n] = site.members[arrangement.filled[n].copy] if site.members else (n,)
            continue
        now = [_classes_on(placer, rows) for rows in site.members]
        pairs = []
        for n in mine:
            wanted: Counter[tuple[int, str]] = Counter()
            for (who, _, slot), count in arrangement.filled[n].contents.taken.items():
                wanted[who, placer.profiles[who, slot].name] += count
            pairs += [((wanted & there).total(), -n, -member) for member, there in enumerate(now)]
        used: set[int] = set()
        for _, n, member in sorted(pairs, reverse=True):
            if not result[-n] and -member not in used:
                result[-n] = site.members[-member]
                used.add(-member)
    return result


def _classes_on(placer: _Resettler, rows: Sequence[int]) -> Counter[tuple[int, str]]:
    """Count who may stay on some GPUs, by class and profile."""
    found: Counter[tuple[int, str]] = Counter()
    for row in rows:
        content = placer.content_of[row]
        if content.pattern is not None:
            for placement, number in zip(content.pattern.placements, content.who, strict=True):
                if number != LEAVES:
                    found[number, placement.profile.name] += 1
    return found
