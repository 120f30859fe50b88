"""From a reconfiguration to a layout: who stays keeps his place and number, all others get what is free.

What stands there already and is wanted again is used again; what nobody needs and stands in nobody's way stays as it is on
GPUs that are in use, and goes from those that are not. Works on columns of numbers throughout. This module must not know how
the reconfiguration was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.geometry import Placement
from partitioner.layout import NOBODY, Index, Layout, Pattern
from partitioner.solver.assign import idle_pattern
from partitioner.solver.demand import Demand
from partitioner.solver.reconfigure import Reconfigured
from partitioner.solver.regrouped import Group, Reshaped
from partitioner.solver.reshaping import Placed, Stayer, Target, placed, shape_names
from partitioner.solver.standing import Content, Standing, slots_by_place, stayers_of
from partitioner.solver.supply import Supply
from partitioner.workload import Workloads

Long = npt.NDArray[np.int64]
_OPEN = -2
"""Place that is still to be given to somebody."""


@dataclass(slots=True)
class _Run:
    """GPUs that hold the same and become the same.

    Parameters
    ----------
    content : what they hold.
    mode : the mode that they get.
    rows : rows in the fleet; shape ``(n_gpus,)``.
    gpus : rows in the layout of what runs now; shape ``(n_gpus,)``.
    places : shape, start, and who stays or None.
    slots : the slot that each place offers.
    workload, replica : who gets each place; shape ``(n_gpus, n_places)``.
    profile : number of the profile that each place gets; shape ``(n_gpus, n_places)``.
    """

    content: Content
    mode: str
    rows: Index
    gpus: Index
    places: Placed
    slots: tuple[int, ...]
    workload: Long
    replica: Long
    profile: Long


@dataclass
class _House:
    """Hands out places."""

    workloads: Workloads
    supply: Supply
    demand: Demand
    standing: Standing
    contents: Sequence[Content]
    found: Reconfigured
    n_rows: int
    tidy: bool
    names: dict[tuple[int, str, int], list[int]] = field(default_factory=dict)
    profiles: dict[str, int] = field(default_factory=dict)

    def runs(self) -> list[_Run]:
        """Decide which GPUs of each group become what: those that it changes least."""
        for number, slot in enumerate(self.demand.problem.slots):
            self.names.setdefault((slot.kind, slot.mode, slot.tenant), []).append(number)
        return [
            run for group, gpus in zip(self.found.groups, self.found.gpus, strict=True) for run in self._of_group(group, gpus)
        ]

    @cached_property
    def by_place(self) -> dict[tuple[int, int, str, str], tuple[int, ...]]:
        """(class, kind, mode, profile) to slots."""
        return slots_by_place(self.demand)

    def _of_group(self, group: Group, gpus: Sequence[tuple[int, int]]) -> Iterator[_Run]:
        if not gpus:
            return
        left = dict(gpus)
        pairs = []
        made: dict[tuple[int, int], tuple[Placed, str, tuple[int, ...]]] = {}
        for at, content in enumerate(group.contents):
            for column in left:
                places, again, mode, slots = self._places(content, group.columns[column])
                made[at, column] = places, mode, slots
                there = 0 if content.pattern is None else len(content.pattern.placements)
                score = again + there if content.mode == mode else 0 if content.mode is None else -1
                pairs.append((score, at, column))
        taken = [0] * len(group.contents)
        for _, at, column in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            content = group.contents[at]
            n = min(left[column], len(content.rows) - taken[at])
            if n <= 0:
                continue
            chosen = slice(taken[at], taken[at] + n)
            taken[at] += n
            left[column] -= n
            yield self._run(content, content.rows[chosen], content.gpus[chosen], *made[at, column])

    def _places(self, content: Content, reshaped: Reshaped) -> tuple[Placed, int, str, tuple[int, ...]]:
        problem = self.demand.problem
        of = problem.slots[reshaped.column.slots[0][0]]
        kind = problem.kinds[content.kind]
        slots = self.names[content.kind, of.mode, of.tenant]
        names = tuple(problem.slots[slot].shape for slot in slots)
        counts = dict(reshaped.column.slots)
        kept = tuple((number, problem.slots[slot].shape, n) for (number, slot), n in reshaped.kept)
        target = Target(tuple(counts.get(slot, 0) for slot in slots), kept)
        stayers: tuple[Stayer, ...] = stayers_of(content, problem, self.by_place, of.mode, of.tenant) or ()
        there: tuple[tuple[str, int], ...] = ()
        if content.pattern is not None and content.mode == of.mode:
            shape_of = shape_names(kind.model, of.mode, kind.kept)
            there = tuple((shape_of.get(p.profile.name, ""), p.start) for p in content.pattern.placements)
        places, again = placed(kind.model, of.mode, names, kind.kept, stayers, target, there)
        slot_of = dict(zip(names, slots, strict=True))
        return places, again, of.mode, tuple(slot_of[shape] for shape, _, _ in places)

    def _run(self, content: Content, rows: Index, gpus: Index, places: Placed, mode: str, slots: tuple[int, ...]) -> _Run:
        shape = (len(rows), len(places))
        empty = np.full(shape, _OPEN, dtype=np.int64)
        return _Run(content, mode, rows, gpus, places, slots, empty, empty.copy(), np.full(shape, -1, dtype=np.int64))

    # -- who goes where --------------------------------------------------------------------------------------------

    def settle(self, runs: Sequence[_Run]) -> Index:
        """Let stay who can, give all others what is open; return how many replicas of each workload are left out."""
        taken: dict[tuple[int, int], int] = dict(self.found.served)
        kept: list[Long] = []
        for pinned in (True, False):
            for run in runs:
                for at, (_, start, who) in enumerate(run.places):
                    if who is not None:
                        self._stay(run, at, start, who, taken, kept, pinned=pinned)
        keys = np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)
        streams = {number: self._waiting(number, keys) for number in range(len(self.demand.problem.classes))}
        given = dict.fromkeys(streams, 0)
        for slot in range(len(self.demand.problem.slots)):
            self._fill(runs, slot, taken, streams, given)
        self._renumber(runs, streams, given)
        left = np.zeros(len(self.workloads), dtype=np.int32)
        for number, (waiting, _) in streams.items():
            if self.demand.problem.classes[number].yields:
                continue
            rest = waiting[given[number] :]
            left += np.bincount(rest, minlength=len(left)).astype(np.int32)
        for row, workload in enumerate(self.workloads):
            if workload.model is not None:
                left[row] = 1 - self.found.placed[int(self.demand.class_of[row])]
        return left

    def _stay(
        self, run: _Run, at: int, start: int, who: int, taken: dict[tuple[int, int], int], kept: list[Long], *, pinned: bool
    ) -> None:
        pattern = run.content.pattern
        assert pattern is not None
        position = next(n for n, p in enumerate(pattern.placements) if p.start == start)
        if run.content.pinned[position] != pinned:
            return
        slot = run.slots[at]
        n = min(len(run.rows), taken.get((who, slot), 0))
        if not n:
            return
        taken[who, slot] -= n
        where = self.standing.layout.offsets[run.gpus[:n]] + position
        workload = self.standing.workload[where].astype(np.int64)
        replica = self.standing.layout.replica[where].astype(np.int64)
        run.workload[:n, at], run.replica[:n, at] = workload, replica
        run.profile[:n, at] = self._profile(pattern.placements[position].profile.name)
        kept.append(workload << 32 | replica)

    def _profile(self, name: str) -> int:
        return self.profiles.setdefault(name, len(self.profiles))

    def _waiting(self, number: int, kept: Long) -> tuple[Long, Long]:
        """Return workload and replica of all of a class that do not stay, those that run now first."""
        c = self.demand.problem.classes[number]
        members = np.flatnonzero(self.demand.class_of == number)
        if c.yields:
            n = sum(count for (who, _), count in self.found.served.items() if who == number)
            counts = np.array([n], dtype=np.int64)
        else:
            counts = np.array([self.workloads[row].count for row in members.tolist()], dtype=np.int64)
        workload = np.repeat(members, counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        replica = np.arange(len(workload)) - first
        keys = workload << 32 | replica
        waits = ~_among(keys, kept)
        there = self.standing.workload >= 0
        running = np.sort(self.standing.workload[there].astype(np.int64) << 32 | self.standing.layout.replica[there])
        workload, replica, keys = workload[waits], replica[waits], keys[waits]
        order = np.argsort(~_among(keys, running), kind="stable")
        return workload[order], replica[order]

    def _fill(
        self,
        runs: Sequence[_Run],
        slot: int,
        taken: dict[tuple[int, int], int],
        streams: dict[int, tuple[Long, Long]],
        given: dict[int, int],
    ) -> None:
        """Give the open places of a slot to those who wait, places that exist already first."""
        waiting = [(number, n) for (number, s), n in sorted(taken.items()) if s == slot and n]
        if not waiting:
            return
        places: list[tuple[int, _Run, int]] = []
        for run in runs:
            existing = set()
            if run.content.pattern is not None and run.content.mode == run.mode:
                existing = {(p.profile.name, p.start) for p in run.content.pattern.placements}
            names = {self.demand.profiles[number, slot].name for number, _ in waiting}
            for at, (_, start, _) in enumerate(run.places):
                if run.slots[at] == slot:
                    places.append((0 if any((name, start) in existing for name in names) else 1, run, at))
        places.sort(key=lambda place: place[0])
        number, left = waiting.pop(0)
        for _, run, at in places:
            open_rows = np.flatnonzero(run.workload[:, at] == _OPEN)
            while len(open_rows):
                n = min(left, len(open_rows))
                workload, replica = streams[number]
                chosen = slice(given[number], given[number] + n)
                run.workload[open_rows[:n], at], run.replica[open_rows[:n], at] = workload[chosen], replica[chosen]
                run.profile[open_rows[:n], at] = self._profile(self.demand.profiles[number, slot].name)
                given[number] += n
                left -= n
                open_rows = open_rows[n:]
                if not left:
                    if not waiting:
                        return
                    number, left = waiting.pop(0)

    def _renumber(self, runs: Sequence[_Run], streams: dict[int, tuple[Long, Long]], given: dict[int, int]) -> None:
        """Give instances of services that stay numbers below that of all instances."""
        for number, (_, numbers) in streams.items():
            free = numbers[given[number] :].tolist()
            if not self.demand.problem.classes[number].yields or not free:
                continue
            row = int(np.flatnonzero(self.demand.class_of == number)[0])
            n = sum(count for (who, _), count in self.found.served.items() if who == number)
            for run in runs:
                for place in np.argwhere((run.workload == row) & (run.replica >= n)).tolist():
                    run.replica[tuple(place)] = free.pop(0)

    # -- the layout ------------------------------------------------------------------------------------------------

    def layout(self, runs: Sequence[_Run]) -> Layout:
        """Return the layout of all GPUs."""
        patterns: dict[Pattern, int] = {}
        pattern_of = np.empty(self.n_rows, dtype=np.int32)
        for content in self.contents:
            pattern_of[content.rows] = patterns.setdefault(self._idle(content), len(patterns))
        held: list[tuple[Index, list[int], Long, Long]] = []
        for run in runs:
            for mask, members in _alike(run.profile):
                pattern, positions = self._pattern(run, mask)
                pattern_of[run.rows[members]] = patterns.setdefault(pattern, len(patterns))
                filled = np.flatnonzero(mask >= 0)
                if len(filled):
                    held.append((run.rows[members], positions, run.workload[members][:, filled], run.replica[members][:, filled]))
        sizes = np.array([len(pattern.placements) for pattern in patterns], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(sizes[pattern_of])))
        occupant = np.full(offsets[-1], NOBODY, dtype=np.int32)
        replica = np.full(offsets[-1], NOBODY, dtype=np.int32)
        for rows, positions, who, number in held:
            at = offsets[rows][:, None] + np.array(positions, dtype=np.int64)[None, :]
            occupant[at], replica[at] = who, number
        hosts, host_of, index_of = _hosts(self.supply, self.n_rows)
        names = tuple(workload.name for workload in self.workloads)
        return Layout(hosts, tuple(patterns), names, host_of, index_of, pattern_of, occupant, replica)

    def _idle(self, content: Content) -> Pattern:
        """Return the pattern of a GPU that is not used; its mode stays as it is."""
        kind = self.supply.kinds[content.kind]
        return idle_pattern(kind) if kind.kept or content.mode is None else Pattern(kind.model, kind.fixed or content.mode)

    def _pattern(self, run: _Run, profiles: Long) -> tuple[Pattern, list[int]]:
        """Return a pattern with profiles at the places of a run that are filled, and their positions in it."""
        kind = self.supply.kinds[run.content.kind]
        if not (profiles >= 0).any():
            return self._idle(run.content), []
        geometry = catalog.gpu(kind.model).geometry(run.mode)
        names = list(self.profiles)
        filled = [
            Placement(geometry.profile(names[profile]), start)
            for profile, (_, start, _) in zip(profiles.tolist(), run.places, strict=True)
            if profile >= 0
        ]
        every = [*filled, *(Placement(geometry.profile(name), start) for name, start in kind.kept)]
        if run.content.pattern is not None and run.content.mode == run.mode and not self.tidy:
            for placement in run.content.pattern.placements:
                if placement not in every and geometry.is_legal([*every, placement]):
                    every.append(placement)
        every.sort(key=lambda placement: placement.start)
        return Pattern(kind.model, run.mode, tuple(every)), [every.index(placement) for placement in filled]


def rehouse(
    workloads: Workloads,
    supply: Supply,
    demand: Demand,
    standing: Standing,
    contents: Sequence[Content],
    found: Reconfigured,
    *,
    n_rows: int,
    tidy: bool = False,
) -> tuple[Layout, Index]:
    """Hand out places and turn configurations into placements.

    Parameters
    ----------
    workloads, supply, demand : what has to run, on which GPUs.
    standing, contents : what runs now, and the GPUs that hold the same.
    found : what becomes of them.
    n_rows : how many GPUs there are.
    tidy : whether instances that nobody needs go from GPUs in use, too.

    Returns
    -------
    The layout of all GPUs, and for each workload the replicas left out; shape ``(n_workloads,)``.
    """
    house = _House(workloads, supply, demand, standing, contents, found, n_rows, tidy)
    runs = house.runs()
    left = house.settle(runs)
    return house.layout(runs), left


def _among(keys: Long, known: Long) -> npt.NDArray[np.bool_]:
    """Return which keys are among known ones, which ascend."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    found: npt.NDArray[np.bool_] = known[at] == keys
    return found


def _alike(table: Long) -> Iterator[tuple[Long, Index]]:
    """Iterate over distinct rows of a table and the rows that are like it."""
    if not table.shape[1]:
        return
    distinct, inverse = np.unique(table, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    order = np.argsort(inverse, kind="stable").astype(np.int32)
    bounds = np.searchsorted(inverse[order], np.arange(len(distinct) + 1))
    for number in range(len(distinct)):
        yield distinct[number], order[bounds[number] : bounds[number + 1]]


def _hosts(supply: Supply, n_rows: int) -> tuple[tuple[str | None, ...], Index, Index]:
    """Return names of hosts, and host and index of every GPU."""
    if supply.fleet is None:
        return (None,), np.zeros(n_rows, dtype=np.int32), np.arange(n_rows, dtype=np.int32)
    sizes = [len(host.gpus) for host in supply.fleet.hosts]
    host_of = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    index_of = (np.arange(len(host_of)) - first[host_of]).astype(np.int32)
    return tuple(host.name for host in supply.fleet.hosts), host_of, index_of
