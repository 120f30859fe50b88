"""GPUs between two layouts: what is on each now, what shall be, and who goes where. Must not know in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.geometry import Geometry
from partitioner.layout import NOBODY, GpuKey, Layout, gpu_label

At = tuple[str, int]
"""An instance of a GPU: profile and start."""
Who = tuple[str, int]
"""A replica: workload and number."""


@cache
def geometry_of(model: str, mode: str) -> Geometry:
    """Return the geometry of a GPU model in a mode."""
    return catalog.gpu(model).geometry(mode)


@cache
def units_of(model: str, mode: str) -> dict[At, int]:
    """Return the units that each placement takes, as a bit mask."""
    return {(p.profile.name, p.start): (1 << p.end) - (1 << p.start) for p in geometry_of(model, mode).placements}


@dataclass(slots=True, eq=False)
class GpuChange:
    """One GPU that changes; all but `key`, `model`, `goal_mode` and `wanted` move on while steps are planned.

    Parameters
    ----------
    key, model : the GPU.
    mode, goal_mode : its mode now and in the end.
    present : instances there are, each with who holds it.
    wanted : instances of the end, each with who shall hold it.
    unready : instances begun and not finished.
    busy : instances that somebody uses whom no layout names.
    doomed : instances there are that do not stay.
    pending : instances that are still to be made.
    made : instances of the end that were made on the way.
    spare : instances made for a while, for replicas that have to wait elsewhere.
    goes_to : instances whose replicas have to move, each with where to.
    comes_from : instances that a replica is still to move to, each with where it runs.
    """

    key: GpuKey
    model: str
    mode: str | None
    goal_mode: str | None
    present: dict[At, Who | None]
    wanted: dict[At, Who | None]
    unready: set[At] = field(default_factory=set)
    busy: frozenset[At] = frozenset()
    doomed: dict[At, None] = field(default_factory=dict)
    pending: dict[At, None] = field(default_factory=dict)
    made: dict[At, None] = field(default_factory=dict)
    spare: set[At] = field(default_factory=set)
    goes_to: dict[At, Instance] = field(default_factory=dict)
    comes_from: dict[At, Instance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stays = self.present if self.mode == self.goal_mode else {}
        self.doomed = {at: None for at in self.present if at not in stays or at not in self.wanted}
        self.pending = {at: None for at in self.wanted if at not in stays or at in self.unready}

    def in_the_way(self, at: At) -> At | None:
        """Return an instance whose replica moves and that overlaps a place, None where there is none."""
        assert self.mode is not None
        units = units_of(self.model, self.mode)
        wanted = units[at]
        for other in self.goes_to:
            if units[other] & wanted:
                return other
        return None

    def fits(self, at: At) -> bool:
        """Whether an instance can be made now."""
        assert self.mode is not None
        units = units_of(self.model, self.mode)
        wanted = units[at]
        for other in self.present:
            if units[other] & wanted and other != at:
                return False
        now = self.present if at in self.present else [*self.present, at]
        return geometry_of(self.model, self.mode).violation(now) is None

    def room(self, profile: str) -> At | None:
        """Return a place for one more instance, beside what is there and beside all that comes; None where there is none."""
        assert self.mode is not None
        geometry, units = geometry_of(self.model, self.mode), units_of(self.model, self.mode)
        taken = 0
        for held in (self.present, self.wanted):  # spare instances are present
            for at in held:
                taken |= units[at]
        for start in geometry.profile(profile).starts:
            at = (profile, start)
            if units[at] & taken:
                continue
            now, later = [*self.present, at], [*{*self.wanted, *self.spare}, at]
            if geometry.violation(now) is None and geometry.violation(later) is None:
                return at
        return None


Instance = tuple[GpuChange, At]


def changed_gpus(current: Layout, goal: Layout) -> dict[GpuKey, GpuChange]:
    """Return the GPUs that differ, in the order of the current layout.

    Raises
    ------
    SpecError
        The goal has a GPU that the current layout has not, or one of another model.

    Notes
    -----
    A GPU that the goal does not have is left as it is. One that the goal leaves without mode and placements keeps its
    mode and loses its instances.
    """
    before, after = Reader(current), Reader(goal)
    changed: dict[GpuKey, GpuChange] = {}
    goal_rows, known = goal.rows, current.rows
    problems = [_unknown(key, current) for key in goal_rows if key not in known]
    for key, row in known.items() if not problems else ():
        other = goal_rows.get(key)
        if other is None:
            continue
        (model, mode), (goal_model, goal_mode) = before.kind(row), after.kind(other)
        if model != goal_model:
            problems.append(f"{gpu_label(*key)}: is of model {model} now; the goal was made for {goal_model}")
            continue
        present, wanted = before.instances(row), after.instances(other)
        goal_mode = goal_mode or mode
        unready = before.unready(row)
        if mode != goal_mode or present != wanted or unready:
            changed[key] = GpuChange(key, model, mode, goal_mode, present, wanted, unready, before.busy(row))
    if problems:
        raise SpecError("\n".join(problems[:_MAX_PROBLEMS]))
    return changed


_MAX_PROBLEMS = 50


def _unknown(key: GpuKey, current: Layout) -> str:
    there = list(current.rows)
    hosts = list(dict.fromkeys(host for host, _ in there if host is not None))
    known = ", ".join(gpu_label(*other) for other in there[:4]) + (", ..." if len(there) > 4 else "")
    if key[0] is not None and hosts and key[0] not in hosts:
        known = f"host {', '.join(hosts[:4])}" + (", ..." if len(hosts) > 4 else "")
    return f"{gpu_label(*key)}: is in the goal, but not in the current layout, which has {known or 'no GPU'}"


class Reader:
    """Rows of a layout as plain values, read from its columns.

    Parameters
    ----------
    layout : what is read.
    """

    def __init__(self, layout: Layout) -> None:
        self._kinds = [(pattern.model, pattern.mode) for pattern in layout.patterns]
        self._places = [[(p.profile.name, p.start) for p in pattern.placements] for pattern in layout.patterns]
        self._pattern: list[int] = layout.gpu_pattern.tolist()
        self._first = layout.offsets.tolist()
        self._names = layout.workloads
        self._occupant, self._replica = layout.occupant.tolist(), layout.replica.tolist()
        self._unready, self._busy = frozenset(layout.unready), frozenset(layout.busy)

    def kind(self, row: int) -> tuple[str, str | None]:
        """Return the model and the mode of a GPU."""
        return self._kinds[self._pattern[row]]

    def instances(self, row: int) -> dict[At, Who | None]:
        """Return the instances of a GPU, each with who holds it."""
        position, names = self._first[row], self._names
        occupant, replica = self._occupant, self._replica
        found: dict[At, Who | None] = {}
        for at in self._places[self._pattern[row]]:
            who = occupant[position]
            found[at] = None if who == NOBODY else (names[who], replica[position])
            position += 1
        return found

    def unready(self, row: int) -> set[At]:
        """Return the instances of a GPU that were begun and not finished."""
        return set(self._among(self._unready, row))

    def busy(self, row: int) -> frozenset[At]:
        """Return the instances of a GPU that somebody uses whom the layout does not name."""
        return frozenset(self._among(self._busy, row))

    def _among(self, positions: frozenset[int], row: int) -> Iterator[At]:
        places = self._places[self._pattern[row]] if positions else []
        return (at for position, at in enumerate(places, self._first[row]) if position in positions)


class Journey(NamedTuple):
    """Who goes where: `begin` is None where the replica runs nowhere now, `end` where it ends."""

    who: Who
    begin: Instance | None
    end: Instance | None


def journeys(gpus: Iterable[GpuChange]) -> list[Journey]:
    """Return who goes where; pieces of a replica that stay are not in it. What moves is noted on the GPUs, too.

    Notes
    -----
    A replica on several GPUs has as many pieces; which piece goes where is the order of the GPUs.
    """
    leaving: dict[Who, list[Instance]] = {}
    arriving: dict[Who, list[Instance]] = {}
    for gpu in gpus:
        stays = gpu.mode == gpu.goal_mode
        for mine, others, ways in ((gpu.present, gpu.wanted, leaving), (gpu.wanted, gpu.present, arriving)):
            for at, who in mine.items():
                if who is not None and not (stays and others.get(at) == who):
                    if who in ways:
                        ways[who].append((gpu, at))
                    else:
                        ways[who] = [(gpu, at)]
    found = []
    for who, ends in arriving.items():
        begins = leaving.pop(who, ())
        for begin, end in zip_longest(begins, ends):
            found.append(Journey(who, begin, end))
            if begin is not None and end is not None:
                begin[0].goes_to[begin[1]] = end
                end[0].comes_from[end[1]] = begin
    found += [Journey(who, begin, None) for who, begins in leaving.items() for begin in begins]
    return found
