"""What moves between what runs now and a layout: counted by columns, listed on demand. Must not know how layouts are found.

A replica of a workload that is asked for moves when one of its instances now is in the same place no longer: another GPU, start
or profile; one that is left out moves, too, to nowhere. Replicas beyond those asked for leave, which is no move. Instances of a
service are interchangeable: as many move as stop in one place and start in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partitioner.layout import NOBODY, Layout, gpu_label
from partitioner.workload import Workload

Long = npt.NDArray[np.int64]
_NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Spot:
    """A placement on a GPU in a mode."""

    host: str | None
    gpu: int
    mode: str
    profile: str
    start: int

    def __str__(self) -> str:
        return f"{gpu_label(self.host, self.gpu)} {self.profile}@{self.start}"


@dataclass(frozen=True, slots=True)
class Move:
    """One instance of a replica that does not stay.

    Parameters
    ----------
    workload, replica : who.
    origin : where it runs now.
    destination : where it is to run; None where it is left out.
    """

    workload: str
    replica: int
    origin: Spot
    destination: Spot | None

    def __str__(self) -> str:
        return f"{self.workload}/{self.replica}: {self.origin} -> {self.destination or 'left out'}"


@dataclass(frozen=True)
class Migration:
    """Moves in columns of shape ``(n_moves,)``.

    Parameters
    ----------
    current, layout : what runs now, and what is to run.
    workloads : what was asked for.
    workload : row of each workload.
    before, after : placement in `current` and in `layout`, the latter -1 where there is none.
    stays : whether each placement of `current` keeps its occupant; shape ``(n_placements,)``.
    """

    current: Layout
    layout: Layout
    workloads: Sequence[Workload]
    workload: Long
    before: Long
    after: Long
    stays: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.before)

    @property
    def price(self) -> int:
        """What all moves cost."""
        prices = np.array([workload.move_price for workload in self.workloads], dtype=np.int64)
        return int(prices[self.workload].sum()) if len(self) else 0

    def moves(self) -> tuple[Move, ...]:
        """Return every move."""
        now, then = _spots(self.current, self.before), _spots(self.layout, self.after)
        replicas = self.current.replica[self.before].tolist()
        names = [self.workloads[row].name for row in self.workload.tolist()]
        found = []
        for name, replica, origin, destination in zip(names, replicas, now, then, strict=True):
            assert origin is not None
            found.append(Move(name, replica, origin, destination))
        return tuple(found)

    def sequential(self) -> int:
        """Return how many moves go where somebody has to leave first, or to a GPU that has to be emptied for another mode."""
        gpus, modes = _gpus(self.layout), [pattern.mode for pattern in self.layout.patterns]
        rows = self.current.rows
        count = 0
        leaving = (self.current.occupant != NOBODY) & ~self.stays
        patterns = self.current.patterns
        for position in self.after[self.after != _NOWHERE].tolist():
            gpu = int(gpus[position])
            row = rows.get((self.layout.hosts[self.layout.gpu_host[gpu]], int(self.layout.gpu_index[gpu])))
            if row is None:
                continue
            first, pattern = int(self.current.offsets[row]), patterns[self.current.gpu_pattern[row]]
            there = leaving[first : first + len(pattern.placements)]
            if not there.any():
                continue
            place = self.layout.patterns[self.layout.gpu_pattern[gpu]].placements[position - int(self.layout.offsets[gpu])]
            another = pattern.mode != modes[self.layout.gpu_pattern[gpu]]
            count += any(
                another or (p.start < place.end and place.start < p.end)
                for p, goes in zip(pattern.placements, there.tolist(), strict=True)
                if goes
            )
        return count


def migration(current: Layout, layout: Layout, workloads: Sequence[Workload]) -> Migration:
    """Return what moves between what runs now and a layout.

    Parameters
    ----------
    current, layout : what runs now, and what is to run.
    workloads : what was asked for.
    """
    names = {workload.name: row for row, workload in enumerate(workloads)}
    services = np.array([workload.model is not None for workload in workloads], dtype=np.bool_)
    counts = np.array([w.count if w.model is None else 2**31 - 1 for w in workloads], dtype=np.int64)
    sizes = np.array([w.gpus_per_replica for w in workloads], dtype=np.int64)
    known: dict[object, int] = {}
    now, then = (_entries(side, names, services, counts, known) for side in (current, layout))
    stay, old = _common(now.where, then.where)
    stays = np.zeros(len(current.occupant), dtype=np.bool_)
    stays[now.position[stay]] = True
    gone, come = _only(now, ~stay), _only(then, ~old)
    of_now, of_then, of_kept = (_tally(who, now.who) for who in (now.who, then.who, now.who[stay]))
    service = services[now.workload] if len(now.workload) else np.zeros(0, dtype=np.bool_)
    room = np.where(service & (of_then > 0), np.minimum(of_now, of_then), np.where(service, of_now, 0))
    size = sizes[now.workload] if len(now.workload) else of_now
    room = np.where(service, room, np.minimum(of_now, size))
    moved = np.clip(room - of_kept, 0, None)
    return _paired(current, layout, workloads, gone, come, moved[~stay], stays)


@dataclass(frozen=True, slots=True)
class _Entries:
    """Placements of workloads asked for: who (a replica, or a service), who and where in columns, and their position."""

    workload: Long
    who: Long
    where: Long
    position: Long


def _entries(
    layout: Layout, names: dict[str, int], services: npt.NDArray[np.bool_], counts: Long, known: dict[object, int]
) -> _Entries:
    """Return the placements of workloads that are asked for; `known` numbers GPUs and profiles of both layouts alike."""
    asked = np.array([names.get(name, -1) for name in layout.workloads] or [-1], dtype=np.int64)
    held = layout.occupant != NOBODY
    workload = np.where(held, asked[layout.occupant], -1)
    position = np.flatnonzero((workload >= 0) & (layout.replica < counts[workload]))
    workload = workload[position]
    replica = np.where(services[workload], 0, layout.replica[position])
    who = workload << 32 | replica
    hosts = np.array([known.setdefault(("host", host), len(known)) for host in layout.hosts] or [0], dtype=np.int64)
    gpus = _gpus(layout)[position]
    kinds = [
        known.setdefault(("place", pattern.mode, placement.profile.name, placement.start), len(known))
        for pattern in layout.patterns
        for placement in pattern.placements
    ]
    first = np.concatenate(([0], np.cumsum([len(pattern.placements) for pattern in layout.patterns]))).astype(np.int64)
    place = np.array(kinds or [0], dtype=np.int64)[first[layout.gpu_pattern[gpus]] + position - layout.offsets[gpus]]
    where = np.stack((who, hosts[layout.gpu_host[gpus]], layout.gpu_index[gpus].astype(np.int64), place), axis=1)
    return _Entries(workload, who, where, position)


def _common(one: Long, other: Long) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which rows of each of two tables stand in the other one; no row stands twice in one table."""
    both = np.concatenate((one, other))
    order = np.lexsort(both.T)
    ordered = both[order]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    found = np.zeros(len(both), dtype=np.bool_)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found[: len(one)], found[len(one) :]


def _gpus(layout: Layout) -> Long:
    return np.repeat(np.arange(len(layout), dtype=np.int64), np.diff(layout.offsets))


def _only(entries: _Entries, which: npt.NDArray[np.bool_]) -> _Entries:
    return _Entries(entries.workload[which], entries.who[which], entries.where[which], entries.position[which])


def _tally(who: Long, of: Long) -> Long:
    """Return how often each of some keys stands among others."""
    ordered = np.sort(who)
    return np.searchsorted(ordered, of, side="right") - np.searchsorted(ordered, of, side="left")


def _rank(who: Long) -> Long:
    """Return the number of each entry among those of the same key."""
    order = np.argsort(who, kind="stable")
    ordered = who[order]
    first = np.searchsorted(ordered, ordered, side="left")
    rank = np.empty(len(who), dtype=np.int64)
    rank[order] = np.arange(len(who)) - first
    return rank


def _paired(
    current: Layout,
    layout: Layout,
    workloads: Sequence[Workload],
    gone: _Entries,
    come: _Entries,
    moved: Long,
    stays: npt.NDArray[np.bool_],
) -> Migration:
    """Pair what is gone with what has come of the same replica or service, in order."""
    chosen = _rank(gone.who) < moved
    gone = _only(gone, chosen)
    mine, theirs = _rank(gone.who), _rank(come.who)
    order = np.lexsort((theirs, come.who))
    ordered = come.who[order]
    at = np.searchsorted(ordered, gone.who, side="left") + mine
    there = at < np.searchsorted(ordered, gone.who, side="right")
    after = np.full(len(gone.who), _NOWHERE, dtype=np.int64)
    after[there] = come.position[order[at[there]]]
    return Migration(current, layout, workloads, gone.workload, gone.position, after, stays)


def _spots(layout: Layout, positions: Long) -> list[Spot | None]:
    gpus = np.searchsorted(layout.offsets, positions, side="right") - 1
    found: list[Spot | None] = []
    for position, gpu in zip(positions.tolist(), gpus.tolist(), strict=True):
        if position == _NOWHERE:
            found.append(None)
            continue
        pattern = layout.patterns[layout.gpu_pattern[gpu]]
        placement = pattern.placements[position - int(layout.offsets[gpu])]
        host, index = layout.hosts[layout.gpu_host[gpu]], int(layout.gpu_index[gpu])
        found.append(Spot(host, index, pattern.mode or "", placement.profile.name, placement.start))
    return found
