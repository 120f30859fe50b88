"""The books of an allocator: which GPU is in which state, who holds what, what is asked for how often.

`ranking` finds the GPU for a request, `policies` says which is best, `demands` what a request may take. Must not know how
books are saved or how room is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from partitioner.errors import SpecError
from partitioner.fleet import Fleet
from partitioner.solver.online.contents import SLOT, Contents, Move, State
from partitioner.solver.online.demands import (
    Demand,
    Options,
    check_honoured,
    options_of_profile,
    options_of_workload,
)
from partitioner.solver.online.placed import Placement, ReplicaNumbers
from partitioner.solver.online.policies import KeepRoom, Shares, named_policy
from partitioner.solver.online.ranking import Queues, rank_states
from partitioner.workload import Workload

_FIRST_LESSON, _LAST_LESSON = 128, 8192  # requests between looks at what is asked for
_RARE = 0.002  # a share of requests below which a profile no longer counts as asked for
_CHANGED = 1.5  # ratio of shares that makes ranking anew worth its time

Live = tuple[Placement, int, int, Demand]
"""A placement, the row of its GPU, the number of the placement in the GPU's contents, what asked for it."""


_SIZE = ("profile", "memory_gib", "compute_slices", "gpu_share", "isolation")


def _size_of(workload: Workload) -> tuple[Any, ...]:
    return tuple(getattr(workload, name) for name in _SIZE)


class Books:
    """What an allocator knows. Only its owner uses it, with the lock held.

    Parameters
    ----------
    fleet : the GPUs.
    policy : which GPU and start a request gets.
    mix : profile to its share of the requests; None where they are learnt.
    modes : modes or families of modes that may be used; None means all.
    """

    def __init__(self, fleet: Fleet, policy: str, *, mix: Mapping[str, float] | None, modes: Sequence[str] | None) -> None:
        self.fleet, self.policy = fleet, policy
        self._policy = named_policy(policy)
        self._modes = modes
        self._lock = threading.Lock()
        self._names: list[tuple[str, int]] = []
        self._states: list[State] = []  # of each GPU
        self._taken: list[int] = []  # slots of each GPU, as bits, in modes where all are alike
        self._kinds: list[Contents] = []
        self._demands: list[Demand] = []
        self._texts: dict[str, Demand] = {}
        self._sizes: dict[tuple[Any, ...], Demand] = {}
        self._live: dict[int, Live] = {}
        self._next = 0
        self._replicas: dict[str, ReplicaNumbers] = {}
        self._unlisted: set[int] = set()  # kinds with profiles that their states do not know yet
        self._open = 0  # which buckets hold GPUs, as bits
        self._queues: Queues | None = None
        self._worth: Callable[[State], float] | None = None
        self._shares: dict[int, float] = {}
        self._until = self._interval = _FIRST_LESSON
        self._stock()
        self._mix = mix
        self._learns = self._policy.learns and mix is None
        for name in self._mix or ():
            self._know(name)
        if self._mix is not None:
            self._shares = {self._texts[name].number: share for name, share in self._mix.items()}
        self._rank()

    def _stock(self) -> None:
        kinds: dict[tuple[object, ...], Contents] = {}
        for host, index, gpu in self.fleet:
            kept = tuple(sorted((name, int(start)) for name, _, start in (entry.rpartition("@") for entry in gpu.instances)))
            key = (gpu.model, gpu.mode, kept)
            if key not in kinds:
                kinds[key] = Contents(gpu.model, gpu.mode, kept)
            self._names.append((host, index))
            self._states.append(kinds[key].root)
        self._kinds = list(kinds.values())
        self._taken = [0] * len(self._states)
        for row in range(len(self._states) - 1, -1, -1):  # buckets hand out the last GPU put in
            self._states[row].gpus[row] = None

    # -- demands ---------------------------------------------------------------------------------------------------

    def _demand(self, wanted: object) -> Demand:
        if isinstance(wanted, str):
            demand = self._texts.get(wanted)
            if demand is None:
                demand = self._know(wanted)
                self._rank()
            return demand
        if not isinstance(wanted, Workload):
            raise SpecError(f"{wanted!r} is neither a profile nor a workload; write e.g. '3g.40gb'")
        size = _size_of(wanted)
        if size in self._sizes:
            check_honoured(wanted)
        else:
            self._know_size(wanted)
            self._rank()
        return self._sizes[size]

    def _know_size(self, wanted: Workload) -> Demand:
        options = options_of_workload(wanted, self._kinds, self._modes)
        origin = {name: value for name, value in zip(_SIZE, _size_of(wanted), strict=True) if value not in (None, "any")}
        demand = self._sizes[_size_of(wanted)] = self._known(options, origin)
        return demand

    def _know(self, profile: str) -> Demand:
        options = options_of_profile(profile, self._kinds, self._modes)
        demand = self._texts[profile] = self._known(options, {"profile": profile})
        return demand

    def _known(self, options: Options, origin: Mapping[str, Any]) -> Demand:
        """Return the demand with these options; a new one makes the kinds list their states anew."""
        for demand in self._demands:
            if demand.options == options:
                return demand
        demand = Demand(len(self._demands), origin, options)
        self._demands.append(demand)
        for number, wanted in options:
            new = [self._kinds[number].add(each) for each in wanted]
            if any(new):
                self._unlisted.add(number)
        return demand

    def _list_states(self) -> None:
        """Let kinds with new profiles list their states."""
        for number in sorted(self._unlisted):
            self._kinds[number].list_states(self.states_in_use())
        self._unlisted.clear()

    # -- ranking ---------------------------------------------------------------------------------------------------

    def shares(self) -> Shares:
        """Return the share of requests of each (kind, (mode, profile)); equal ones while nothing is known."""
        known = self._shares or {demand.number: 1.0 for demand in self._demands}
        few = min(known.values(), default=1.0)
        shares: dict[tuple[int, tuple[str, str]], float] = {}
        for demand in self._demands:
            share = known.get(demand.number, 0.0 if self._mix else few)  # what was never seen counts as the rarest
            for kind, options in demand.options:
                for wanted in options:
                    shares[kind, wanted] = shares.get((kind, wanted), 0.0) + share
        return shares

    def _rank(self) -> None:
        self._list_states()
        self._worth = None
        rank = self._policy.ranks(self._kinds, self.shares())
        for state in self.states_in_use():
            state.bits = 0
            state.choices = {}
        ranked = [] if self._policy.by_gpu else [kind for kind in self._kinds if kind.listed]
        self._open = rank_states(self._demands, self._kinds, rank) if ranked else 0
        self._queues = None
        if len(ranked) < len(self._kinds):
            queued = [number for number, kind in enumerate(self._kinds) if kind not in ranked]
            self._queues = Queues(self._states, self._demands, self._kinds, queued, rank, by_gpu=self._policy.by_gpu)

    def _learn(self) -> None:
        """Look at what was asked for since, and rank anew where it changed."""
        asked = {demand.number: demand.asked for demand in self._demands}
        total = sum(asked.values())
        shares = {number: count / total for number, count in asked.items()}
        shares = {number: share if share >= _RARE else 0.0 for number, share in shares.items()}
        for demand in self._demands:
            demand.asked //= 2
        self._interval = self._until = min(2 * self._interval, _LAST_LESSON)
        before = self._shares
        changed = any(
            max(share, before.get(number, 0.0)) > _CHANGED * min(share, before.get(number, 0.0))
            for number, share in shares.items()
        )
        if changed:
            self._shares = shares
            self._rank()

    # -- books -----------------------------------------------------------------------------------------------------

    def _take_slot(self, gpu: int, state: State) -> int:
        free = state.slots & ~self._taken[gpu]
        bit = free & -free
        self._taken[gpu] |= bit
        return bit.bit_length() - 1

    def _new_workload(self, name: str) -> ReplicaNumbers:
        numbers = self._replicas[name] = ReplicaNumbers()
        return numbers

    def leave(self, gpu: int) -> State:
        """Take a GPU out of its bucket, so that nothing finds it, and return its state."""
        state = self._states[gpu]
        del state.gpus[gpu]
        if not state.gpus:
            self._open ^= state.bits
        self._states[gpu] = state.kind.nowhere
        return state

    def enter(self, gpu: int, state: State) -> None:
        """Put a GPU that left into a bucket."""
        if not state.gpus:
            self._open ^= state.bits
        state.gpus[gpu] = None
        self._states[gpu] = state
        if self._queues is not None:
            self._queues.changed(gpu)

    def best(self, demand: Demand) -> tuple[int, Move] | None:
        """Return the GPU and the move that a demand would get now, None where it fits nowhere."""
        spot = (self._open & demand.field).bit_length()
        if spot:
            move = demand.moves[spot - demand.base]
            return next(reversed(move[0].gpus)), move
        return None if self._queues is None else self._queues.best(demand.number)

    def put(self, found: tuple[int, Move], live: Live) -> Placement:
        """Make what stands somewhere else stand in another place too; the old one is given up by the caller."""
        gpu, (_, after, key, mode, profile, start) = found
        self.leave(gpu)
        if start == SLOT:
            start = self._take_slot(gpu, after)
        self.enter(gpu, after)
        host, index = self._names[gpu]
        placement = live[0]._replace(host=host, gpu=index, mode=mode, profile=profile, start=start)
        self._live[placement.id] = (placement, gpu, key, live[3])
        return placement

    def put_back(self, live: Live) -> None:
        """Undo `put`, the old place not having been given up."""
        placement, gpu, key, _ = self._live[live[0].id]
        state = self.leave(gpu)
        if state.slots:
            self._taken[gpu] ^= 1 << placement.start
        self.enter(gpu, state.kind.before(state, key))
        self._live[placement.id] = live

    def give_up(self, gpu: int, state: State, live: Live) -> State:
        """Return the state without a placement that stands somewhere else now; the GPU is out of its bucket."""
        if state.slots:
            self._taken[gpu] ^= 1 << live[0].start
        return state.kind.before(state, live[2])

    def worth(self) -> Callable[[State], float]:
        """Return what gives the room that a state is worth, whatever the policy."""
        if self._worth is None:
            self._worth = KeepRoom().value(self._kinds, self.shares())
        return self._worth

    @property
    def kinds(self) -> Sequence[Contents]:
        """The kinds of GPUs."""
        return self._kinds

    @property
    def demands(self) -> Sequence[Demand]:
        """Everything asked for so far."""
        return self._demands

    def states_in_use(self) -> list[State]:
        """Return the states that GPUs are in, in order of the fleet."""
        return list(dict.fromkeys(self._states))

    def live(self, number: int) -> Live:
        """Return what stands under an id."""
        return self._live[number]

    def held(self) -> dict[int, list[Live]]:
        """Return what stands on each GPU, by its row."""
        found: dict[int, list[Live]] = {}
        for live in self._live.values():
            found.setdefault(live[1], []).append(live)
        return found
