"""The least that a change must cost, by trying all orders: for small pairs of layouts, sharing no code with `diff`.

A state says where each piece that moves is, or that it is down, and which GPUs have changed their mode already. Instances
follow from that: those that stay, and those that pieces are in; idle ones may be destroyed at any time and made again.
The search goes from the cheapest state on (interruptions, then moves, then peak), so that the first end it finds is best.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, count, product
from typing import NamedTuple

from independent import legal, rules

from partitioner.layout import GpuLayout, Layout

DOWN, GONE = -1, -2


class Cost(NamedTuple):
    interruptions: int
    moves: int
    peak: int


@dataclass(frozen=True)
class Spot:
    gpu: int
    mode: str
    profile: str
    start: int


class TooLargeError(Exception):
    """More states than were allowed."""


def fewest(base: Layout, goal: Layout, *, most: int | None = None, states: int = 100_000) -> Cost | None:
    """The least cost of any legal order; None where `most` replicas down at one time are too few for all of them."""
    return _Search(base, goal, most).run(states)


class _Search:
    def __init__(self, base: Layout, goal: Layout, most: int | None) -> None:
        wanted = {(gpu.host, gpu.gpu): gpu for gpu in goal}
        pairs = [(gpu, wanted[gpu.host, gpu.gpu]) for gpu in base if (gpu.host, gpu.gpu) in wanted]
        self.most = most
        self.model = [gpu.model for gpu, _ in pairs]
        self.modes = [(gpu.mode, end.mode or gpu.mode) for gpu, end in pairs]
        self.stays: list[dict[tuple[str, int], bool]] = []  # kept instances: may somebody who moves come in?
        self.begins: list[Spot] = []
        self.who: list[tuple[str | None, int | None]] = []
        self.ends: dict[tuple[str | None, int | None], set[Spot]] = {}
        for row, (gpu, end) in enumerate(pairs):
            self._read(row, gpu, end)
        self.spots = [[spot for spot in self._all() if self._may_wait(piece, spot)] for piece in range(len(self.begins))]

    def _read(self, row: int, gpu: GpuLayout, end: GpuLayout) -> None:
        same = self.modes[row][0] == self.modes[row][1]
        later = {(slot.profile, slot.start): (slot.workload, slot.replica) for slot in end.slots}
        now = {(slot.profile, slot.start): (slot.workload, slot.replica) for slot in gpu.slots}
        stay = {at: who for at, who in now.items() if same and at in later}
        quiet = {at for at, who in stay.items() if who[0] is not None and later[at] == who}
        self.stays.append({at: at not in quiet for at in stay})
        for at, who in now.items():
            if who[0] is not None and at not in quiet:
                self.begins.append(Spot(row, gpu.mode or "", *at))
                self.who.append(who)
        for at, who in later.items():
            if who[0] is not None and at not in quiet:
                self.ends.setdefault(who, set()).add(Spot(row, end.mode or "", *at))

    def _all(self) -> Iterator[Spot]:
        for row, modes in enumerate(self.modes):
            for mode in dict.fromkeys(mode for mode in modes if mode):
                for shape in rules(self.model[row])[mode].shapes:
                    for start in shape.starts:
                        if self.stays[row].get((shape.name, start), True):
                            yield Spot(row, mode, shape.name, start)

    def _may_wait(self, piece: int, spot: Spot) -> bool:
        begin = self.begins[piece]
        alike = (self.model[begin.gpu], begin.mode, begin.profile) == (self.model[spot.gpu], spot.mode, spot.profile)
        return alike or spot in self.ends.get(self.who[piece], ())

    def run(self, states: int) -> Cost | None:
        number = count()
        changed = tuple(modes[0] == modes[1] for modes in self.modes)
        free, nobody = Cost(0, 0, 0), frozenset[object]()
        heap = [(*self._ahead(places, nobody, free), next(number), places, changed, nobody, free) for places in self._starts()]
        heapq.heapify(heap)
        seen: set[tuple[object, ...]] = set()
        while heap:
            *_, places, changed, hit, cost = heapq.heappop(heap)
            if (places, changed, hit) in seen:
                continue
            seen.add((places, changed, hit))
            if len(seen) > states:
                raise TooLargeError
            if self._is_end(places):
                return cost
            for after in self._steps(places, changed, hit, cost):
                if after[:3] not in seen:
                    heapq.heappush(heap, (*self._ahead(after[0], after[2], after[3]), next(number), *after))
        return None

    def _starts(self) -> Iterator[tuple[int | Spot, ...]]:
        """Which pieces leave for good, where a replica has fewer in the end: any of them."""
        choices = []
        for who in dict.fromkeys(self.who):
            mine = [piece for piece, other in enumerate(self.who) if other == who]
            choices.append(list(combinations(mine, max(0, len(mine) - len(self.ends.get(who, ()))))))
        for gone in product(*choices):
            out = {piece for group in gone for piece in group}
            yield tuple(GONE if piece in out else begin for piece, begin in enumerate(self.begins))

    def _at_end(self, piece: int, place: int | Spot) -> bool:
        return place == GONE or place in self.ends.get(self.who[piece], ())

    def _is_end(self, places: tuple[int | Spot, ...]) -> bool:
        return all(self._at_end(piece, place) for piece, place in enumerate(places))

    def _ahead(self, places: tuple[int | Spot, ...], hit: frozenset[object], cost: Cost) -> Cost:
        """Cost so far and the moves that are left at least."""
        left = sum(
            place != DOWN and self.who[piece] not in hit and not self._at_end(piece, place) for piece, place in enumerate(places)
        )
        return Cost(cost.interruptions, cost.moves + left, cost.peak)

    def _steps(self, places, changed, hit, cost):  # type: ignore[no-untyped-def]
        on = [[spot for spot in places if isinstance(spot, Spot) and spot.gpu == row] for row in range(len(self.modes))]
        for row, done in enumerate(changed):
            if not done and not on[row]:
                yield places, (*changed[:row], True, *changed[row + 1 :]), hit, cost
        for piece, place in enumerate(places):
            if place == GONE:
                continue
            if place != DOWN:
                yield from self._down(piece, places, changed, hit, cost)
            for spot in self.spots[piece]:
                if spot not in places and spot.mode == self.modes[spot.gpu][changed[spot.gpu]] and self._fits(spot, on[spot.gpu]):
                    after = (*places[:piece], spot, *places[piece + 1 :])
                    yield after, changed, hit, Cost(cost.interruptions, cost.moves + (place != DOWN), cost.peak)

    def _down(self, piece, places, changed, hit, cost):  # type: ignore[no-untyped-def]
        after = (*places[:piece], DOWN, *places[piece + 1 :])
        down = len({self.who[other] for other, place in enumerate(after) if place == DOWN})
        if self.most is None or down <= self.most:
            more = hit | {self.who[piece]}
            yield after, changed, more, Cost(len(more), cost.moves, max(cost.peak, down))

    def _fits(self, spot: Spot, there: list[Spot]) -> bool:
        # beside the piece's own old place: it comes before it leaves
        placed = {(other.profile, other.start) for other in there} | set(self.stays[spot.gpu] if self._kept_mode(spot) else ())
        return _legal(self.model[spot.gpu], spot.mode, frozenset(placed | {(spot.profile, spot.start)}))

    def _kept_mode(self, spot: Spot) -> bool:
        return spot.mode == self.modes[spot.gpu][1]


@cache
def _legal(model: str, mode: str, placed: frozenset[tuple[str, int]]) -> bool:
    return legal(rules(model)[mode], placed)
