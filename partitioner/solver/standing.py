"""What runs now, as a plan that starts from it sees it: who may stay where, and GPUs that hold the same counted together.

This module must not know how a plan is found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from partitioner.layout import NOBODY, Index, Layout, Pattern
from partitioner.solver.demand import Demand
from partitioner.solver.problem import Kind, Problem
from partitioner.solver.reshaping import Stayer, shape_names
from partitioner.solver.supply import Supply
from partitioner.workload import Workloads

LEAVES = -1
"""Class of a placement whose occupant does not stay."""


@dataclass(frozen=True, slots=True)
class Content:
    """GPUs of one kind that hold the same.

    Parameters
    ----------
    kind : their kind.
    pattern : what stands on them; None where nothing is known to.
    who : class of the occupant of each placement that may stay, else `LEAVES`.
    pinned : whether it has to stay.
    gpus : rows in the layout of what runs now, -1 for GPUs that are not in it; shape ``(n_gpus,)``.
    rows : rows in the fleet; shape ``(n_gpus,)``.
    """

    kind: int
    pattern: Pattern | None
    who: tuple[int, ...]
    pinned: tuple[bool, ...]
    gpus: Index
    rows: Index

    @property
    def mode(self) -> str | None:
        """The mode that they are in, where it is known."""
        return None if self.pattern is None else self.pattern.mode

    @property
    def held(self) -> bool:
        """Whether something has to stay."""
        return any(self.pinned)


@dataclass(frozen=True)
class Standing:
    """Every placement of what runs now, in columns of shape ``(n_placements,)``.

    Parameters
    ----------
    layout : what runs now.
    row : row in the fleet of each GPU of the layout, -1 where the fleet has none; shape ``(n_gpus,)``.
    workload : row of the workload asked for that stands there, -1 for nobody, and for who was not asked for.
    number : class of who may stay there, else `LEAVES`.
    lost : class of who was asked for and cannot stay there, else `LEAVES`.
    pinned : whether who stands there has to stay.
    """

    layout: Layout
    row: Index
    workload: Index
    number: Index
    lost: Index
    pinned: npt.NDArray[np.bool_]

    @cached_property
    def gpu(self) -> Index:
        """Row of the GPU of each placement."""
        return np.repeat(np.arange(len(self.layout), dtype=np.int32), np.diff(self.layout.offsets))

    @cached_property
    def by_class(self) -> dict[int, int]:
        """Placements of each class that are asked for and there now, whether they may stay or not."""
        there = np.concatenate((self.number, self.lost))
        numbers, counts = np.unique(there[there != LEAVES], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def rows_of(layout: Layout, supply: Supply) -> Index:
    """Return the row in the fleet of each GPU of a layout, -1 where the fleet has none; shape ``(n_gpus,)``."""
    if supply.fleet is None:
        most = supply.kinds[0].available
        inside = layout.gpu_index < (2**31 - 1 if most is None else most)
        nameless = np.array([host is None for host in layout.hosts] or [True], dtype=np.bool_)[layout.gpu_host]
        return np.where(inside & nameless, layout.gpu_index, -1).astype(np.int32)
    sizes = np.array([len(host.gpus) for host in supply.fleet.hosts], dtype=np.int64)
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    number = {host.name: row for row, host in enumerate(supply.fleet.hosts)}
    host = np.array([number.get(name, -1) if name is not None else -1 for name in layout.hosts] or [-1], dtype=np.int64)
    host_of = host[layout.gpu_host]
    there = (host_of >= 0) & (layout.gpu_index < sizes[host_of])
    return np.where(there, first[host_of] + layout.gpu_index, -1).astype(np.int32)


def kind_of_rows(supply: Supply, n_rows: int) -> Index:
    """Return the kind of every GPU of the fleet; shape ``(n_rows,)``."""
    kinds = np.zeros(n_rows, dtype=np.int32)
    if supply.fleet is not None:
        for kind, rows in enumerate(supply.rows):
            kinds[rows] = kind
    return kinds


def read_standing(
    layout: Layout,
    workloads: Workloads,
    supply: Supply,
    demand: Demand,
    pinned: Mapping[str, Collection[int] | None],
) -> Standing:
    """Return who stands where now and may stay.

    Parameters
    ----------
    layout : what runs now.
    workloads, supply, demand : what has to run, on which GPUs.
    pinned : name of a workload to the replicas that have to stay; None: all of them.
    """
    names = {workload.name: row for row, workload in enumerate(workloads)}
    row = rows_of(layout, supply)
    held = layout.occupant != NOBODY
    asked = np.array([names.get(name, -1) for name in layout.workloads] or [-1], dtype=np.int32)
    workload = np.where(held, asked[layout.occupant], -1).astype(np.int32)
    most = np.array([w.count if w.model is None else 2**31 - 1 for w in workloads], dtype=np.int64)
    workload = np.where((workload >= 0) & (layout.replica < most[workload]), workload, -1).astype(np.int32)
    workload = _once(layout, workloads, workload)
    class_of = np.where(workload >= 0, demand.class_of[workload], LEAVES).astype(np.int32)
    fits = _fitting(layout, supply, demand, row, class_of)
    number = np.where(fits, class_of, LEAVES).astype(np.int32)
    lost = np.where(fits, LEAVES, class_of).astype(np.int32)
    return Standing(layout, row, workload, number, lost, _pinned(layout, workload, workloads, pinned) & fits)


def _once(layout: Layout, workloads: Workloads, workload: Index) -> Index:
    """Leave out what stands on more placements than one replica takes."""
    of = np.flatnonzero(workload >= 0)
    if not len(of):
        return workload
    keys = workload[of].astype(np.int64) << 32 | layout.replica[of]
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    rank = np.arange(len(ordered)) - np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    size = np.array([w.gpus_per_replica for w in workloads], dtype=np.int64)[workload[of[order]]]
    result = workload.copy()
    result[of[order[rank >= size]]] = -1
    return result


def _fitting(layout: Layout, supply: Supply, demand: Demand, row: Index, class_of: Index) -> npt.NDArray[np.bool_]:
    """Return whether who stands on each placement may stay there, by what he asks for; shape ``(n_placements,)``."""
    offsets, n = layout.offsets, len(layout.occupant)
    if not n:
        return np.zeros(0, dtype=np.bool_)
    gpu = np.repeat(np.arange(len(layout)), np.diff(offsets))
    first = np.concatenate(([0], np.cumsum([len(pattern.placements) for pattern in layout.patterns]))).astype(np.int64)
    place = first[layout.gpu_pattern[gpu]] + np.arange(n) - offsets[gpu]
    kinds = kind_of_rows(supply, max(1, int(row.max(initial=0)) + 1, sum(len(rows) for rows in supply.rows)))
    kind = np.where(row >= 0, kinds[row], -1)[gpu]
    candidates = (class_of != LEAVES) & (kind >= 0)
    n_places = int(first[-1])
    keys = (class_of.astype(np.int64) * (len(supply.kinds) + 1) + kind) * n_places + place
    fits = np.zeros(n, dtype=np.bool_)
    distinct, inverse = np.unique(keys[candidates], return_inverse=True)
    places = [(pattern, placement) for pattern in layout.patterns for placement in pattern.placements]
    slots = slots_by_place(demand)
    answers = []
    for key in distinct.tolist():
        rest, at = divmod(key, n_places)
        number, of_kind = divmod(rest, len(supply.kinds) + 1)
        pattern, placement = places[at]
        k = supply.kinds[of_kind]
        busy = (placement.profile.name, placement.start) in k.kept
        same = pattern.model == k.model
        answers.append(same and not busy and bool(slots.get((number, of_kind, pattern.mode or "", placement.profile.name))))
    fits[candidates] = np.array(answers, dtype=np.bool_)[inverse] if answers else False
    return fits


def slots_by_place(demand: Demand) -> dict[tuple[int, int, str, str], tuple[int, ...]]:
    """(class, kind, mode, profile) to the slots in which the class may stay on that profile, one for each tenant's GPUs."""
    found: dict[tuple[int, int, str, str], tuple[int, ...]] = {}
    for number, c in enumerate(demand.problem.classes):
        for slot in c.options:
            of = demand.problem.slots[slot]
            for profile in c.may_hold(slot):
                key = (number, of.kind, of.mode, profile)
                found[key] = (*found.get(key, ()), slot)
    return found


def _pinned(
    layout: Layout, workload: Index, workloads: Workloads, pinned: Mapping[str, Collection[int] | None]
) -> npt.NDArray[np.bool_]:
    result = np.zeros(len(workload), dtype=np.bool_)
    names = {w.name: row for row, w in enumerate(workloads)}
    for name, replicas in pinned.items():
        mine = workload == names.get(name, -2)
        result |= mine if replicas is None else mine & np.isin(layout.replica, list(replicas))
    return result


# -- GPUs that hold the same -------------------------------------------------------------------------------------------


def contents_of(standing: Standing, supply: Supply, n_rows: int) -> tuple[Content, ...]:
    """Return the GPUs of the fleet grouped by kind and what they hold, in order of first appearance.

    Parameters
    ----------
    standing : what runs now.
    supply : the GPUs.
    n_rows : how many GPUs there are.
    """
    layout = standing.layout
    kinds = kind_of_rows(supply, n_rows)
    inside = np.flatnonzero(standing.row >= 0)
    sizes = np.diff(layout.offsets)
    most = int(sizes.max(initial=0))
    table = np.full((n_rows, 2 + 2 * most), -1, dtype=np.int32)
    table[:, 0] = kinds
    rows = standing.row[inside]
    table[rows, 1] = layout.gpu_pattern[inside]
    gpu = standing.gpu
    rank = np.arange(len(gpu)) - layout.offsets[gpu]
    there = standing.row[gpu] >= 0
    at = standing.row[gpu[there]]
    table[at, 2 + rank[there]] = standing.number[there]
    table[at, 2 + most + rank[there]] = standing.pinned[there]
    gpu_at = np.full(n_rows, -1, dtype=np.int32)
    gpu_at[rows] = inside
    keys = np.ascontiguousarray(table).view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable").astype(np.int32)
    bounds = np.searchsorted(inverse[order], np.arange(len(first) + 1))
    found = []
    for number in np.argsort(first).tolist():
        members = order[bounds[number] : bounds[number + 1]]
        row = table[first[number]].tolist()
        pattern = None if row[1] < 0 else layout.patterns[row[1]]
        n = 0 if pattern is None else len(pattern.placements)
        pins = tuple(flag == 1 for flag in row[2 + most : 2 + most + n])
        found.append(Content(row[0], pattern, tuple(row[2 : 2 + n]), pins, gpu_at[members], members))
    return tuple(found)


def told_apart(supply: Supply, contents: Sequence[Content], *, every: bool) -> tuple[Supply, tuple[Content, ...]]:
    """Return the supply with GPUs told apart by who stands on them and may stay, and their contents in its kinds.

    Parameters
    ----------
    supply, contents : the GPUs, and those that hold the same.
    every : whether all are told apart, or only those on which somebody has to stay.
    """
    kinds: dict[Kind, int] = {}
    rows: list[list[Index]] = []
    result = []
    for content in contents:
        kind = supply.kinds[content.kind]
        if content.pattern is not None and (every or content.held):
            standing = tuple(
                (placement.profile.name, placement.start, number, pinned)
                for placement, number, pinned in zip(content.pattern.placements, content.who, content.pinned, strict=True)
                if number != LEAVES
            )
            kind = replace(kind, standing=standing, mode_now=content.mode if standing else None)
        number = kinds.setdefault(kind, len(kinds))
        if number == len(rows):
            rows.append([])
        rows[number].append(content.rows)
        result.append(replace(content, kind=number))
    joined = tuple(np.sort(np.concatenate(parts)) for parts in rows)
    counted = tuple(replace(kind, available=len(members)) for kind, members in zip(kinds, joined, strict=True))
    return Supply(counted, joined, supply.fleet, supply.modes), tuple(result)


def stayers_of(
    content: Content, problem: Problem, slots: Mapping[tuple[int, int, str, str], Sequence[int]], mode: str, tenant: int
) -> tuple[Stayer, ...] | None:
    """Return who may stay on GPUs in a mode and for a tenant; None where someone who has to stay cannot."""
    if content.pattern is None or content.pattern.mode != mode:
        return None if content.held else ()
    kind = problem.kinds[content.kind]
    shape_of = shape_names(kind.model, mode, kind.kept)
    found = []
    for placement, number, pinned in zip(content.pattern.placements, content.who, content.pinned, strict=True):
        if number == LEAVES:
            continue
        mine = slots.get((number, content.kind, mode, placement.profile.name), ())
        if any(problem.slots[slot].tenant == tenant for slot in mine):
            found.append(Stayer(shape_of[placement.profile.name], placement.start, number, pinned))
        elif pinned:
            return None
    return tuple(found)
