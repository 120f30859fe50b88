"""GPUs between two layouts: what is on each now, what shall be, and who goes where. Must not know in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

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
def _units_of(model: str, mode: str) -> dict[At, int]:
    """Return the units that each placement takes, as a bit mask."""
    return {(p.profile.name, p.start): (1 << p.end) - (1 << p.start) for p in geometry_of(model, mode).placements}


@dataclass(slots=True)
class GpuChange:
    """One GPU that changes; `present`, `mode` and `unready` move on while steps are planned.

    Parameters
    ----------
    key, model : the GPU.
    mode, goal_mode : its mode now and in the end.
    present : instances there are, each with who holds it.
    wanted : instances of the end, each with who shall hold it.
    unready : instances begun and not finished.
    doomed : instances there are that do not stay.
    pending : instances that are still to be made.
    spare : instances made for a while, for replicas that have to wait elsewhere.
    """

    key: GpuKey
    model: str
    mode: str | None
    goal_mode: str | None
    present: dict[At, Who | None]
    wanted: dict[At, Who | None]
    unready: set[At] = field(default_factory=set)
    doomed: set[At] = field(default_factory=set)
    pending: dict[At, None] = field(default_factory=dict)
    spare: set[At] = field(default_factory=set)

    def __post_init__(self) -> None:
        stays = self.present if self.mode == self.goal_mode else {}
        self.doomed = {at for at in self.present if at not in stays or at not in self.wanted}
        self.pending = {at: None for at in self.wanted if at not in stays or at in self.unready}

    @property
    def geometry(self) -> Geometry:
        """The geometry of the mode it is in."""
        assert self.mode is not None
        return geometry_of(self.model, self.mode)

    def in_the_way(self, at: At) -> list[At]:
        """Return instances that do not stay and overlap a place; those that stay never do."""
        if not self.doomed:
            return []
        assert self.mode is not None
        units = _units_of(self.model, self.mode)
        wanted = units[at]
        return [other for other in self.doomed if units[other] & wanted]

    @property
    def label(self) -> str:
        """The GPU for people."""
        return gpu_label(*self.key)

    @property
    def changes(self) -> bool:
        """Whether instances or the mode change; who holds them apart."""
        return bool(self.doomed or self.pending) or self.mode != self.goal_mode


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
            changed[key] = GpuChange(key, model, mode, goal_mode, present, wanted, unready)
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
        self._unready = frozenset(layout.unready)

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
        if not self._unready:
            return set()
        places = self._places[self._pattern[row]]
        return {at for position, at in enumerate(places, self._first[row]) if position in self._unready}


@dataclass(frozen=True, slots=True)
class Journeys:
    """Who goes where.

    Parameters
    ----------
    comes_from : instance of the end to the instance that its replica holds now; None where it runs nowhere now.
    goes_to : the reverse; None where the replica ends.
    """

    comes_from: Mapping[tuple[GpuKey, At], tuple[GpuKey, At] | None]
    goes_to: Mapping[tuple[GpuKey, At], tuple[GpuKey, At] | None]


def journeys(gpus: Iterable[GpuChange]) -> Journeys:
    """Return who goes where; pieces of a replica that stay are not in it.

    Notes
    -----
    A replica on several GPUs has as many pieces; which piece goes where is the order of the GPUs.
    """
    leaving: dict[Who, list[tuple[GpuKey, At]]] = {}
    arriving: dict[Who, list[tuple[GpuKey, At]]] = {}
    for gpu in gpus:
        same_mode = gpu.mode == gpu.goal_mode
        for at, who in gpu.present.items():
            if who is not None and not (same_mode and at in gpu.wanted and gpu.wanted[at] == who):
                leaving.setdefault(who, []).append((gpu.key, at))
        for at, who in gpu.wanted.items():
            if who is not None and not (same_mode and at in gpu.present and gpu.present[at] == who):
                arriving.setdefault(who, []).append((gpu.key, at))
    comes_from: dict[tuple[GpuKey, At], tuple[GpuKey, At] | None] = {}
    goes_to: dict[tuple[GpuKey, At], tuple[GpuKey, At] | None] = {}
    for who, ends in arriving.items():
        begins = leaving.get(who, [])
        for piece, end in enumerate(ends):
            comes_from[end] = begins[piece] if piece < len(begins) else None
    for who, begins in leaving.items():
        ends = arriving.get(who, [])
        for piece, begin in enumerate(begins):
            goes_to[begin] = ends[piece] if piece < len(ends) else None
    return Journeys(comes_from, goes_to)
