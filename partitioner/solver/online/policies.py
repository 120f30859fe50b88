"""Which GPU and which start a request gets: each policy ranks what could be done. Must not know which GPUs are free.

A rank is a number, higher is better, of a move from one state of a GPU to another; what all policies share is that the
move with the highest rank is made wherever a GPU is in the state that it starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from partitioner import catalog
from partitioner.errors import SpecError, did_you_mean
from partitioner.solver.online.contents import SLOT, Contents, Move, State, Wanted

Shares = Mapping[tuple[int, Wanted], float]
"""(number of the kind, (mode, profile)) to the share of requests that may take it."""
Rank = tuple[float, ...]
Ranking = Callable[[State, State, Wanted, int], Rank]
"""The rank of a move: of (state before, state after, (mode, profile), start)."""

PACE = 12.0
"""Of `keep-room`: departures are awaited for a twelfth of a lifetime, that is, soon ones count."""
SIZE_POWER, SHARE_POWER = 0.75, 0.25
"""Of `keep-room`: how the room for a profile counts, by its extent and by its share of the requests. Chosen, with `PACE`,
on 12 mixes of A100-80GB profiles, where values around give the same within a tenth of a percent."""


class Policy(Protocol):
    """What an allocator asks of a policy."""

    by_gpu: bool
    """Whether the first GPU of the fleet goes before all ranks."""
    learns: bool
    """Whether it needs to know how often profiles are asked for."""

    def ranks(self, kinds: Sequence[Contents], shares: Shares, /) -> Ranking:
        """Return the rank of a move: (state before, state after, (mode, profile), start)."""


class FirstFit:
    """The first GPU of the fleet that has room, at its lowest start: what schedulers do today."""

    by_gpu, learns = True, False

    def ranks(self, _kinds: Sequence[Contents], _shares: Shares, /) -> Ranking:
        """Rank lower starts higher."""
        return lambda _before, _after, _wanted, start: (-start,)


class BestFit:
    """The GPU with the least free room, at the start that rules out the fewest other placements.

    On GPUs with eight slices this takes starts in the order 6, 4, 5, 0, 1, 2, 3.
    """

    by_gpu, learns = False, False

    def ranks(self, _kinds: Sequence[Contents], _shares: Shares, /) -> Ranking:
        """Rank full GPUs above empty ones."""
        return lambda before, _after, wanted, start: (
            -before.free * before.kind.memory_mib,
            -ruled_out(before.kind.model, *wanted, start),
        )


class FragmentationAware:
    """The move that adds the least fragmentation expected for the mix of requests.

    Notes
    -----
    Fragmentation of a GPU for a profile are the free units that further instances of it cannot use; that of a GPU is the
    mean over the mix (the measure of FGD, USENIX ATC 2023, applied to slices).
    """

    by_gpu, learns = False, True

    def ranks(self, kinds: Sequence[Contents], shares: Shares, /) -> Ranking:
        """Rank by the fragmentation that a move adds."""
        weights: dict[Contents, list[tuple[Wanted, float, float]]] = {kind: [] for kind in kinds}
        for (number, wanted), share in shares.items():
            weight = share / (sum(shares.values()) or 1.0) * kinds[number].memory_mib
            weights[kinds[number]].append((wanted, weight, extent(kinds[number], wanted)))
        worth: dict[State, float] = {}

        def value(state: State) -> float:
            if state not in worth:
                room = rooms(state)
                worth[state] = -sum(
                    weight * max(0.0, state.free - room.get(wanted, 0) * size) for wanted, weight, size in weights[state.kind]
                )
            return worth[state]

        return _by_value(value)


class KeepRoom:
    """The move that costs the least room, now and after the next departures, for all that is being asked for.

    Notes
    -----
    The worth of a state is the sum, over the profiles asked for, of how many instances more it could take, as a share of
    what an empty GPU takes, weighted by ``extent**0.75 * share**0.25``: what is rare or large is not forgotten. Room that
    departures will make counts as well: with lifetimes that do not age, each instance leaves at the same rate, so that
    ``worth(s) = (PACE * room(s) + sum(worth(s without i) for i in s)) / (PACE + len(s))`` is the room expected after a time
    of mean ``1 / PACE`` lifetimes. GPUs that will soon be empty are thus left to become so, and small instances gather
    where large ones leave no room anyway.
    """

    by_gpu, learns = False, True

    def ranks(self, kinds: Sequence[Contents], shares: Shares, /) -> Ranking:
        """Rank by the room that a move costs."""
        return _by_value(self.value(kinds, shares))

    def value(self, kinds: Sequence[Contents], shares: Shares) -> Callable[[State], float]:
        """Return what gives the worth of a state [MiB, scaled]."""
        weights: dict[Contents, dict[Wanted, float]] = {}
        for (number, wanted), share in shares.items():
            kind = kinds[number]
            if (most := rooms(kind.root).get(wanted)) and share:
                weight = extent(kind, wanted) ** SIZE_POWER * share**SHARE_POWER / most
                weights.setdefault(kind, {})[wanted] = weight * kind.memory_mib
        worth: dict[State, float] = {}

        def value(state: State) -> float:
            if state not in worth:
                room = rooms(state)
                now = sum(weight * room.get(wanted, 0) for wanted, weight in weights.get(state.kind, {}).items())
                if state.kind.listed:
                    later = sum(value(state.kind.before(state, key)) for key in state.content)
                    now = (PACE * now + later) / (PACE + len(state.content))
                worth[state] = now
            return worth[state]

        return value


POLICIES: Mapping[str, type[Policy]] = {
    "first-fit": FirstFit,
    "best-fit": BestFit,
    "fragmentation-aware": FragmentationAware,
    "keep-room": KeepRoom,
}
"""Policies by name; the last is the default."""


def named_policy(name: str) -> Policy:
    """Return the policy of that name.

    Raises
    ------
    SpecError
        There is none.
    """
    if not isinstance(name, str) or name not in POLICIES:
        hint = did_you_mean(str(name), POLICIES)
        raise SpecError(f"policy {name!r} is unknown; {hint or 'known: ' + ', '.join(POLICIES)}")
    return POLICIES[name]()


def best_move(state: State, options: tuple[Wanted, ...], rank: Ranking) -> tuple[Rank, Move] | None:
    """Return the best of what a demand may take in a state, None where it does not fit.

    Parameters
    ----------
    state : what the GPU holds.
    options : what the demand may take; a GPU without a mode takes the first.
    rank : of the policy.
    """
    best: tuple[Rank, Move] | None = None
    for wanted in options if state.mode is not None else options[:1]:
        for start, key in state.adds.get(wanted, ()):
            after = state.kind.after(state, key)
            known = rank(state, after, wanted, start)
            if best is None or known > best[0]:
                best = known, (state, after, key, *wanted, start)
    return best


def _by_value(value: Callable[[State], float]) -> Ranking:
    """Rank by the change of a value; among equals full GPUs go first, then starts that rule out little."""
    return lambda before, after, wanted, start: (
        round(value(after) - value(before), 6),
        -before.free,
        -ruled_out(before.kind.model, *wanted, start),
    )


def rooms(state: State) -> dict[Wanted, float]:
    """Return how many instances of each profile could be added, one profile at a time.

    Notes
    -----
    Taking the lowest start first is optimal for intervals of one length. Where not all states are listed, it is how many
    placements of the profile are open instead, scaled to the same maximum.
    """
    if state.rooms is None:
        kind = state.kind
        if kind.listed:
            after = {wanted: kind.after(state, adds[0][1]) for wanted, adds in state.adds.items()}
            state.rooms = {wanted: 1 + rooms(left).get(wanted, 0) for wanted, left in after.items()}
        else:
            state.rooms = {}
            for wanted, adds in state.adds.items():
                profile = kind.profiles[wanted]
                state.rooms[wanted] = len(adds) / len(profile.starts) * profile.max_count
    return state.rooms


def extent(kind: Contents, wanted: Wanted) -> float:
    """Return the share of a GPU that a profile occupies."""
    return kind.extents[wanted]


@lru_cache(maxsize=65536)
def ruled_out(model: str, mode: str, name: str, start: int) -> int:
    """Return how many placements of the mode cannot be beside one at this start."""
    if start == SLOT:
        return 0
    geometry = catalog.gpu(model).geometry(mode)
    end = start + geometry.profile(name).extent
    return sum(placement.start < end and start < placement.end for placement in geometry.placements)
