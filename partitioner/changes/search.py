"""The best order for few replicas, found by looking at all orders. Must not know how steps are written.

A state says in which instance each replica is, or that it is down. The other instances follow from that: those that stay
are there; idle ones that do not stay can be destroyed at any time, and those of the end be made last.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations, count, pairwise, product
from typing import NamedTuple

from partitioner.changes.gpus import At, GpuChange, Instance, Journey, Who, geometry_of

MOST_STATES = 5_000
"""States after which a search gives up."""
ALL_STATES = 100_000
"""States that all searches of one change may take together."""

_DOWN, _GONE = -1, -2

_Cost = tuple[int, int, int]  # replicas interrupted, moves, most down at one time


class Hop(NamedTuple):
    """A piece of a replica, told by where it begins, goes to an instance of a GPU that is in a mode by then.

    Where `to` is None, it ends, or is interrupted.
    """

    who: Who
    begin: Instance
    to: Instance | None = None
    mode: str | None = None
    ends: bool = False


def best_order(
    journeys: Sequence[Journey],
    gpus: Iterable[GpuChange],
    lenders: Iterable[GpuChange] = (),
    *,
    max_interruptions: int | None = None,
    max_states: int = MOST_STATES,
) -> list[Hop] | None:
    """Return the hops with the fewest interruptions, then moves, then replicas down at one time.

    Parameters
    ----------
    journeys : all that begin or end on the GPUs. Which pieces of a replica end, where it has fewer in the end, and which of
        its instances it comes to first, where it has more, is chosen anew.
    gpus : the GPUs that change.
    lenders : other GPUs, beside whose present instances a replica may wait.
    max_interruptions : most replicas that may be down at one time; None for any number.
    max_states : states after which to give up.

    Returns
    -------
    None where there is no order, or where none was found in `max_states`.

    Notes
    -----
    A* over the instances that each replica is in; exponential in their number.
    """
    rooms = [_own(gpu) for gpu in gpus] + [_lent(gpu) for gpu in lenders]
    return _Search(journeys, rooms, max_interruptions).run(max_states)


class _Room(NamedTuple):
    """A GPU: its mode before a change, its mode of the end, what stays there, and what of that nobody may come to."""

    gpu: GpuChange
    early: str | None
    late: str | None
    stays: frozenset[At]
    closed: frozenset[At]


def _own(gpu: GpuChange) -> _Room:
    if gpu.mode != gpu.goal_mode:
        return _Room(gpu, gpu.mode, gpu.goal_mode, frozenset(), frozenset())
    stays = frozenset(at for at in gpu.present if at not in gpu.doomed)
    closed = (at for at in stays if at in gpu.busy or (gpu.present[at] and gpu.present[at] == gpu.wanted[at]))
    return _Room(gpu, None, gpu.mode, stays, frozenset(closed))


def _lent(gpu: GpuChange) -> _Room:
    closed = {at for at, who in gpu.present.items() if who or at in gpu.doomed}
    return _Room(gpu, None, gpu.mode, frozenset(gpu.present), frozenset(closed | gpu.unready | gpu.busy))


class _Spot(NamedTuple):
    row: int
    mode: str
    at: At


class _State(NamedTuple):
    places: tuple[int, ...]  # for each piece the spot, or _DOWN or _GONE
    changed: int  # rooms, as bits, in the mode of the end
    hit: int  # replicas, as bits, that were interrupted


_Entry = tuple[_Cost, int, int, _State, _State | None]  # cost at least, moves left, number, state, state before


class _Search:
    def __init__(self, journeys: Sequence[Journey], rooms: list[_Room], most: int | None) -> None:
        self._rooms, self._most = rooms, most
        self._spots = [spot for row, room in enumerate(rooms) for spot in _spots(row, room)]
        self._pieces = [(journey.who, journey.begin) for journey in journeys if journey.begin is not None]
        crew = {who: number for number, who in enumerate(dict.fromkeys(who for who, _ in self._pieces))}
        self._who = [crew[who] for who, _ in self._pieces]
        ends: list[set[int]] = [set() for _ in crew]
        for journey in journeys:
            if journey.end is not None and journey.who in crew:
                ends[crew[journey.who]].add(self._spot(journey.end, late=True))
        self._ends = [frozenset(ends[who]) for who in self._who]
        self._leaving = Counter(crew[journey.who] for journey in journeys if journey.end is None)
        self._begins = [self._spot(begin, late=False) for _, begin in self._pieces]
        alike: dict[tuple[str, str, str], list[int]] = {}
        for number, spot in enumerate(self._spots):
            alike.setdefault(self._kind(spot), []).append(number)
        self._open = [
            own.union(alike[self._kind(self._spots[begin])]) for own, begin in zip(self._ends, self._begins, strict=True)
        ]
        self._turns = [1 << spot.row if spot.mode == rooms[spot.row].late else 0 for spot in self._spots]
        self._by_row = [[number for number, spot in enumerate(self._spots) if spot.row == row] for row in range(len(rooms))]
        self._known: dict[tuple[int, frozenset[At], int], frozenset[int]] = {}

    def _spot(self, instance: Instance, *, late: bool) -> int:
        row, room = next((row, room) for row, room in enumerate(self._rooms) if room.gpu is instance[0])
        mode = room.late if late or room.early is None else room.early
        assert mode is not None
        return self._spots.index(_Spot(row, mode, instance[1]))

    def _kind(self, spot: _Spot) -> tuple[str, str, str]:
        return self._rooms[spot.row].gpu.model, spot.mode, spot.at[0]

    # -- search ----------------------------------------------------------------------------------------------------

    def run(self, max_states: int) -> list[Hop] | None:
        number = count()
        came: dict[_State, _State | None] = {}
        heap: list[_Entry] = [((0, left, 0), left, next(number), state, None) for state, left in self._starts()]
        heapq.heapify(heap)
        known: dict[_State, _Cost] = {}
        while heap and len(came) < max_states:
            total, left, _, state, before = heapq.heappop(heap)
            if state in came:
                continue
            came[state] = before
            if self._is_end(state):
                return self._hops(state, came)
            for after, after_left, cost in self._next(state, left, (total[0], total[1] - left, total[2])):
                total = (cost[0], cost[1] + after_left, cost[2])
                if after not in known or total < known[after]:
                    known[after] = total
                    heapq.heappush(heap, (total, after_left, next(number), after, state))
        return None

    def _starts(self) -> Iterator[tuple[_State, int]]:
        changed = sum(1 << row for row, room in enumerate(self._rooms) if room.early is None)
        pieces = [[piece for piece, who in enumerate(self._who) if who == own] for own in self._leaving]
        for gone in product(*(combinations(own, self._leaving[who]) for own, who in zip(pieces, self._leaving, strict=True))):
            out = set(chain.from_iterable(gone))
            places = tuple(_GONE if piece in out else begin for piece, begin in enumerate(self._begins))
            state = _State(places, changed, 0)
            yield state, self._left(state)

    def _is_end(self, state: _State) -> bool:
        return all(place in ends or place == _GONE for place, ends in zip(state.places, self._ends, strict=True))

    def _left(self, state: _State) -> int:
        """Return how many moves there will be at least: one for each that was never down and is not at its end."""
        return sum(
            place not in ends and place != _GONE and not state.hit >> who & 1
            for place, ends, who in zip(state.places, self._ends, self._who, strict=True)
        )

    def _next(self, state: _State, left: int, cost: _Cost) -> Iterator[tuple[_State, int, _Cost]]:
        """Iterate over what can be next, with the moves that will be left at least, and the cost so far."""
        places, changed, hit = state
        free = self._free(state)
        for piece, place in enumerate(places):
            if place == _GONE:
                continue
            ends, spared = self._ends[piece], bool(hit >> self._who[piece] & 1)
            others = left - (not spared and place not in ends)
            after_cost = (cost[0], cost[1] + (place != _DOWN), cost[2])
            for number in (ends if place == _DOWN else self._open[piece]) & free:
                after = _State(_put(places, piece, number), changed | self._turns[number], hit)
                yield after, others + (not spared and number not in ends), after_cost
            if place != _DOWN:
                yield from self._interrupted(state, piece, cost)

    def _free(self, state: _State) -> frozenset[int]:
        """Return the spots that somebody could come to."""
        there: list[list[At]] = [[] for _ in self._rooms]
        for place in state.places:
            if place >= 0:
                spot = self._spots[place]
                there[spot.row].append(spot.at)
        found = (self._free_on(row, frozenset(held), state.changed >> row & 1) for row, held in enumerate(there))
        return frozenset().union(*found).difference(state.places)

    def _free_on(self, row: int, held: frozenset[At], changed: int) -> frozenset[int]:
        key = (row, held, changed)
        if key not in self._known:
            room, numbers = self._rooms[row], self._by_row[row]
            if changed or not held:  # the mode of the end is there, or can be brought about
                numbers = [number for number in numbers if self._turns[number] or not changed]
            else:
                numbers = [number for number in numbers if not self._turns[number]]
            self._known[key] = frozenset(number for number in numbers if self._fits(room, self._spots[number], held))
        return self._known[key]

    def _fits(self, room: _Room, spot: _Spot, held: frozenset[At]) -> bool:
        return geometry_of(room.gpu.model, spot.mode).violation({*room.stays, *held, spot.at}) is None

    def _interrupted(self, state: _State, piece: int, cost: _Cost) -> Iterator[tuple[_State, int, _Cost]]:
        places, hit = _put(state.places, piece, _DOWN), state.hit | 1 << self._who[piece]
        down = len({who for who, place in zip(self._who, places, strict=True) if place == _DOWN})
        if self._most is None or down <= self._most:
            after = _State(places, state.changed, hit)
            yield after, self._left(after), (hit.bit_count(), cost[1], max(cost[2], down))

    def _hops(self, state: _State, came: dict[_State, _State | None]) -> list[Hop]:
        states = [state]
        while (before := came[states[-1]]) is not None:
            states.append(before)
        states.reverse()
        hops = [Hop(*piece, ends=True) for piece, place in zip(self._pieces, states[0].places, strict=True) if place == _GONE]
        for old, new in pairwise(states):
            piece, place = next((p, there) for p, there in enumerate(new.places) if there != old.places[p])
            if place == _DOWN:
                hops.append(Hop(*self._pieces[piece]))
            else:
                row, mode, at = self._spots[place]
                hops.append(Hop(*self._pieces[piece], (self._rooms[row].gpu, at), mode))
        return hops


def _spots(row: int, room: _Room) -> Iterator[_Spot]:
    """Iterate over the places on a GPU where somebody who moves may ever be."""
    for mode in (room.early, room.late):
        if mode is not None:
            for placement in geometry_of(room.gpu.model, mode).placements:
                at = (placement.profile.name, placement.start)
                if at not in room.closed:
                    yield _Spot(row, mode, at)


def _put(places: tuple[int, ...], piece: int, place: int) -> tuple[int, ...]:
    return (*places[:piece], place, *places[piece + 1 :])
