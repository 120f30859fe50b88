"""Free GPUs, ready to be taken: the best one for a request is found with one bit operation, however many there are.

GPUs stand in buckets by their state. For each demand the states in which it fits are ranked, and each rank is a bit of
one whole number, set while the bucket of the state holds a GPU: the highest bit set in the demand's field is the best
there is. Queues do the same, in logarithmic time, where the first GPU of the fleet is wanted or the states are too many
to be ranked. This module must not know why one move is better than another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush

from partitioner.solver.online.contents import Contents, Move, State, Wanted
from partitioner.solver.online.demands import Demand
from partitioner.solver.online.policies import Rank, Ranking, best_move


def rank_states(demands: Sequence[Demand], kinds: Sequence[Contents], rank: Ranking) -> int:
    """Give demands their fields and states their bits; return the number whose bits say which buckets hold a GPU.

    Parameters
    ----------
    demands : all demands.
    kinds : the kinds whose states are ranked.
    rank : of the policy.
    """
    states = [(kind, state) for kind in kinds for state in kind.states]
    for _, state in states:
        state.bits = 0
        state.choices = {}
    base = 0
    for demand in demands:
        entries = []
        for number, options in demand.options:
            if kinds[number].listed:
                for place, state in enumerate(kinds[number].states):
                    found = best_move(state, options, rank)
                    if found is not None:
                        entries.append((found[0], -number, -place, found[1]))
        entries.sort(key=lambda entry: entry[:3])
        demand.base = base + 1  # the lowest bit is the first one
        demand.field = ((1 << len(entries)) - 1) << base
        demand.moves = [entry[3] for entry in entries]
        for bit, (*_, move) in enumerate(entries, base):
            move[0].bits |= 1 << bit
        base += len(entries)
    opened = 0
    for _, state in states:
        if state.gpus:
            opened |= state.bits
    return opened


class Queues:
    """GPUs in which a demand fits, best first; what changed meanwhile is thrown out when it comes up.

    Parameters
    ----------
    states : the state of each GPU; kept up to date by the owner.
    demands : all demands.
    kinds : all kinds.
    queued : numbers of the kinds whose GPUs stand in queues.
    rank : of the policy.
    by_gpu : whether the first GPU goes before all ranks.
    """

    def __init__(
        self,
        states: Sequence[State],
        demands: Sequence[Demand],
        kinds: Sequence[Contents],
        queued: Collection[int],
        rank: Ranking,
        *,
        by_gpu: bool,
    ) -> None:
        self._states, self._rank, self._by_gpu = states, rank, by_gpu
        self._options: dict[Contents, list[tuple[int, tuple[Wanted, ...]]]] = {kind: [] for kind in kinds}
        self._heaps: dict[int, list[tuple[Rank, int]]] = {demand.number: [] for demand in demands}
        self._inside: dict[int, set[tuple[Rank, int]]] = {demand.number: set() for demand in demands}
        for demand in demands:
            for number, options in demand.options:
                if number in queued:
                    self._options[kinds[number]].append((demand.number, options))
        for gpu in range(len(states)):
            self.changed(gpu)

    def changed(self, gpu: int) -> None:
        """Note that a GPU is in another state."""
        state = self._states[gpu]
        for demand, options in self._options[state.kind]:
            found = self._choice(state, demand, options)
            if found is not None:
                entry = (found[0], gpu)
                if entry not in self._inside[demand]:
                    self._inside[demand].add(entry)
                    heappush(self._heaps[demand], entry)

    def _choice(self, state: State, demand: int, options: tuple[Wanted, ...]) -> tuple[Rank, Move] | None:
        if demand not in state.choices:
            found = best_move(state, options, self._rank)
            if found is not None:  # heaps hand out the least first
                found = (() if self._by_gpu else tuple(-number for number in found[0])), found[1]
            state.choices[demand] = found
        return state.choices[demand]

    def best(self, demand: int) -> tuple[int, Move] | None:
        """Return the best GPU for a demand and what to do there, None where it fits nowhere."""
        heap = self._heaps[demand]
        while heap:
            rank, gpu = heap[0]
            found = self._states[gpu].choices.get(demand)
            if found is not None and found[0] == rank:
                return gpu, found[1]
            heappop(heap)
            self._inside[demand].discard((rank, gpu))
        return None
