"""Everything that GPUs of one kind may hold, as states that requests and releases lead from one to another.

A state stands for a set of placements, so that a GPU's occupancy mask alone decides nothing twice: what may be added, what
each release leads to and what a state is worth are found once. Must not know fleets, requests or policies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from partitioner import catalog
from partitioner.geometry import Geometry, Placement, Profile
from partitioner.solver.configurations import Kept, free_geometry

MAX_STATES = 4096
"""Most states of a kind that are all listed; beyond (mixed-size vGPU) they are made as they appear."""
_MAX_PLACES = 8  # instances of the smallest profile beside each other, beyond which states are not even counted
_MAX_REMEMBERED = 20_000  # states of a kind that cannot be listed
SLOT = -1
"""Start of a placement in a mode whose slots are all alike: the lowest free one of the GPU."""

Wanted = tuple[str, str]
"""Mode and profile."""
Content = tuple[int, ...]
"""Numbers of placements, ascending."""


class State:
    """What one GPU holds.

    Attributes
    ----------
    mode : its mode; None for an empty GPU that may take any.
    content : the placements.
    free : units free, as a share of the GPU, from 0 to 1.
    adds : (mode, profile) to every (start, number of the placement) that may be added.
    next, back : number of a placement to the state with, or without it; only where all states are listed.
    gpus : GPUs in this state, in order of arrival; only where states are ranked.
    bits : the state's bits in the ranking.
    choices : what a policy chose, for each demand: (rank, move), or None where nothing may be added.
    rooms : how many instances of each profile could be added; None where not yet known.
    slots : the slots of its mode as bits, where all are alike and a GPU remembers which are taken; else 0.
    """

    __slots__ = ("adds", "back", "bits", "choices", "content", "free", "gpus", "kind", "mode", "next", "rooms", "slots")

    def __init__(self, kind: Contents, mode: str | None, content: Content, free: float) -> None:
        self.kind, self.mode, self.content, self.free = kind, mode, content, free
        self.adds: dict[Wanted, tuple[tuple[int, int], ...]] = {}
        self.next: dict[int, State] = {}
        self.back: dict[int, State] = {}
        self.gpus: dict[int, None] = {}
        self.bits = 0
        self.rooms: dict[Wanted, float] | None = None
        self.choices: dict[int, tuple[tuple[float, ...], Move] | None] = {}
        self.slots = kind.slots(mode) if mode is not None and kind.alike(mode) else 0


Move = tuple[State, State, int, str, str, int]
"""State before, state after, number of the placement, mode, profile, start (or `SLOT`)."""


class Contents:
    """The states of GPUs of one kind: one model, one fixed mode or none, the same existing instances.

    Parameters
    ----------
    model : name of the GPU model.
    mode : the mode that the GPUs are in and stay in; None where an empty GPU takes the mode that is asked for.
    kept : existing instances that stay.
    """

    def __init__(self, model: str, mode: str | None, kept: Kept) -> None:
        self.model, self.mode, self.kept = model, mode, kept
        self.memory_mib = catalog.gpu(model).memory_mib
        self.listed = True
        self._alike: dict[str, bool] = {}
        self.profiles: dict[Wanted, Profile] = {}
        self.extents: dict[Wanted, float] = {}  # shares of a GPU
        self._keys: dict[tuple[str, str, int], int] = {}
        self._placements: list[tuple[str, Placement]] = []  # by number
        self._masks: list[int] = []  # units of each, as bits
        self._places: dict[Wanted, tuple[tuple[int, int], ...]] = {}  # every (start, number)
        self._limits: dict[tuple[str | None, tuple[str, ...]], dict[Wanted, bool]] = {}
        self._states: dict[tuple[str | None, Content], State] = {}
        units = self.geometry(mode).units if mode else 1
        taken = sum(self.geometry_of_all(mode).profile(name).extent for name, _ in kept) if mode else 0
        self.root = State(self, mode, (), 1 - taken / units)
        self.nowhere = State(self, mode, (), 0.0)  # of a GPU that is out of sight for a while; nothing fits
        self._states[mode, ()] = self.root

    # -- what there is ---------------------------------------------------------------------------------------------

    def geometry(self, mode: str) -> Geometry:
        """Return what a GPU offers in a mode beside the existing instances."""
        return free_geometry(self.model, mode, self.kept)

    def geometry_of_all(self, mode: str) -> Geometry:
        """Return the geometry of a mode as if there were no existing instances."""
        return catalog.gpu(self.model).geometry(mode)

    def alike(self, mode: str) -> bool:
        """Whether all slots of a mode are alike: one unit each, open to every profile; equal-size vGPU is so."""
        if mode not in self._alike:
            geometry = self.geometry(mode)
            first = geometry.profiles[0].starts if geometry.profiles else ()
            plain = all(p.extent == 1 and p.starts == first and p.max_count >= len(first) for p in geometry.profiles)
            self._alike[mode] = plain and not geometry.totals
        return self._alike[mode]

    def slots(self, mode: str) -> int:
        """Return the starts in a mode whose slots are all alike, as bits."""
        profiles = self.geometry(mode).profiles
        return sum(1 << start for start in profiles[0].starts) if profiles else 0

    def _number(self, mode: str, profile: Profile, start: int) -> int:
        """Return the number of a placement; where slots are alike, of any in the profile's family."""
        key = (mode, profile.family, SLOT) if start == SLOT else (mode, profile.name, start)
        if key not in self._keys:
            self._keys[key] = len(self._placements)
            self._placements.append((mode, Placement(profile, start)))
            self._masks.append(0 if start == SLOT else ((1 << profile.extent) - 1) << start)
        return self._keys[key]

    def placement(self, key: int) -> Placement:
        """Return the placement of a number; where slots are alike, one of them."""
        return self._placements[key][1]

    @property
    def states(self) -> list[State]:
        """All states known, smaller contents before larger ones."""
        return sorted(self._states.values(), key=lambda state: (len(state.content), state.content))

    # -- finding states --------------------------------------------------------------------------------------------

    def add(self, wanted: Wanted) -> bool:
        """Let a profile take part; return whether it is new. `list_states` has to follow."""
        if wanted in self.profiles:
            return False
        mode, name = wanted
        self.profiles[wanted] = profile = self.geometry(mode).profile(name)
        self.extents[wanted] = profile.extent / self.geometry(mode).units
        starts = (SLOT,) if self.alike(mode) else profile.starts
        self._places[wanted] = tuple((start, self._number(mode, profile, start)) for start in starts)
        return True

    def list_states(self, in_use: Iterable[State]) -> None:
        """Find all states that the profiles lead to, or give up where they are too many.

        Parameters
        ----------
        in_use : states that GPUs are in; kept in any case.
        """
        if not self.listed or not self._listable():
            self._keep_only(in_use)
            return
        waiting = list(self._states.values())
        for state in waiting:
            state.adds, state.rooms = self._adds(state), None
        while waiting:
            state = waiting.pop()
            for found in state.adds.values():
                for _, key in found:
                    known = len(self._states)
                    after = self.after(state, key)
                    after.back[key] = state
                    if len(self._states) > known:
                        waiting.append(after)
            if len(self._states) > MAX_STATES:
                self._keep_only(in_use)
                return

    def _listable(self) -> bool:
        """Whether no mode has so many places that listing would only find out that there are too many states."""
        for mode in {mode for mode, _ in self.profiles}:
            geometry = self.geometry(mode)
            if not self.alike(mode) and geometry.units // min(p.extent for p in geometry.profiles) > _MAX_PLACES:
                return False
        return True

    def _keep_only(self, in_use: Iterable[State]) -> None:
        self.listed = False
        mine = [state for state in in_use if state.kind is self]
        self._states = {(state.mode, state.content): state for state in (*mine, self.root)}
        for state in self._states.values():
            state.adds, state.rooms = self._adds(state), None
            state.next, state.back = {}, {}

    def after(self, state: State, key: int) -> State:
        """Return the state with one more placement."""
        known = state.next.get(key)
        if known is None:
            known = self._state(self._placements[key][0], tuple(sorted((*state.content, key))))
            if self.listed:
                state.next[key] = known
        return known

    def before(self, state: State, key: int) -> State:
        """Return the state with one placement less."""
        known = state.back.get(key)
        if known is not None:
            return known
        left = list(state.content)
        left.remove(key)
        found = self._state(state.mode if left or self.mode else None, tuple(left))
        if self.listed:
            state.back[key] = found
        return found

    def _state(self, mode: str | None, content: Content) -> State:
        state = self._states.get((mode, content))
        if state is None:
            if len(self._states) > _MAX_REMEMBERED and not self.listed:
                self._states = {(self.mode, ()): self.root}  # GPUs still hold those in use
            assert mode is not None
            units = self.geometry(mode).units
            taken = sum(self._placements[key][1].profile.extent for key in content)
            free = (self.root.free if self.mode else 1.0) - taken / units
            state = self._states[mode, content] = State(self, mode, content, free)
            state.adds = self._adds(state)
        return state

    def _adds(self, state: State) -> dict[Wanted, tuple[tuple[int, int], ...]]:
        occupied = 0
        for key in state.content:
            occupied |= self._masks[key]
        found: dict[Wanted, tuple[tuple[int, int], ...]] = {}
        for wanted, allowed in self._allowed(state).items():
            if state.mode is None or wanted[0] == state.mode:
                places = self._places[wanted]
                adds = tuple((start, key) for start, key in places if not occupied & self._masks[key]) if allowed else ()
                if adds:
                    found[wanted] = adds
        return found

    def _allowed(self, state: State) -> dict[Wanted, bool]:
        """Return whether maxima, totals and families allow one more of each profile; space aside."""
        held = [self._placements[key][1].profile for key in state.content]
        counts = tuple(sorted(profile.name for profile in held))
        known = self._limits.get((state.mode, counts))
        if known is None or len(known) < len(self.profiles):
            known = {wanted: self._allows(wanted[0], held, profile) for wanted, profile in self.profiles.items()}
            self._limits[state.mode, counts] = known
        return known

    def _allows(self, mode: str, held: list[Profile], profile: Profile) -> bool:
        geometry = self.geometry(mode)
        if geometry.exclusive and any(other.family != profile.family for other in held):
            return False
        if self.alike(mode):
            return len(held) < self.slots(mode).bit_count()
        used = Counter(dict(profile.uses))
        for other in held:
            used.update(dict(other.uses))
        within = all(used[resource] <= total for resource, total in geometry.totals)
        return within and sum(other.name == profile.name for other in held) < profile.max_count
