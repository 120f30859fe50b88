"""Making room by moving instances, never more than a budget allows, each to a slot that is free at that time.

Must not know how requests arrive; works on the books of an allocator whose lock is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from partitioner.geometry import Placement
from partitioner.solver.online.contents import State, Wanted
from partitioner.solver.online.placed import Migration
from partitioner.solver.online.policies import extent

if TYPE_CHECKING:
    from partitioner.solver.online.books import Books, Live
    from partitioner.solver.online.demands import Demand

_TRIED = 200  # GPUs that are tried for room, those with the fewest instances in the way first
_DONORS = 32  # instances of which moving away gains most that are tried in search of one move
_GAIN = 1e-6


def make_room(books: Books, demand: Demand, budget: int) -> list[Migration]:
    """Free a place for a demand, with the fewest migrations found; none where it fits already or cannot be made to.

    Parameters
    ----------
    books : the allocator.
    demand : what room is wanted for.
    budget : most migrations.
    """
    if budget < 1 or books.best(demand) is not None:
        return []
    value = books.worth()
    candidates: list[tuple[int, float, int, State, tuple[int, ...]]] = []
    for state in books.states_in_use():
        for wanted in _options(books, demand, state):
            for blockers, left in _in_the_way(state, wanted, budget):
                lost = value(left) - value(state)
                candidates.append((len(blockers), -lost, len(candidates), state, blockers))
    candidates.sort(key=lambda candidate: candidate[:3])
    held = books.held()
    for _, _, _, state, blockers in candidates[:_TRIED]:
        gpu = next(reversed(state.gpus), None)
        if gpu is not None:
            moved = _clear(books, gpu, [live for live in held[gpu] if live[2] in blockers])
            if moved:
                return moved
    return []


def tidy(books: Books, budget: int) -> list[Migration]:
    """Make room for what does not fit, the largest first; then move what gains room in general.

    Parameters
    ----------
    books : the allocator.
    budget : most migrations.
    """
    moved: list[Migration] = []
    for demand in sorted(books.demands, key=lambda demand: (-_size(books, demand), demand.number)):
        moved += make_room(books, demand, budget - len(moved))
    held = books.held() if len(moved) < budget else {}
    while len(moved) < budget:
        better = _improve(books, held)
        if better is None:
            break
        moved.append(better)
    return moved


def _size(books: Books, demand: Demand) -> float:
    return max(extent(books.kinds[number], wanted) for number, options in demand.options for wanted in options)


def _options(books: Books, demand: Demand, state: State) -> tuple[Wanted, ...]:
    kinds = books.kinds
    found = next((options for number, options in demand.options if kinds[number] is state.kind), ())
    return tuple(wanted for wanted in found if wanted[0] == state.mode)


def _in_the_way(state: State, wanted: Wanted, budget: int) -> list[tuple[tuple[int, ...], State]]:
    """Return sets of placements without which a profile fits in a state, and the state without them."""
    found = []
    kind = state.kind
    if state.slots:
        return []  # one less makes no room for another family; of the same, there is no gain in swapping
    profile = kind.profiles[wanted]
    for start in profile.starts:
        end = start + profile.extent
        blockers = tuple(key for key in state.content if _overlaps(kind.placement(key), start, end))
        if not 0 < len(blockers) <= budget:
            continue
        left = state
        for key in blockers:
            left = kind.before(left, key)
        if any(start == free for free, _ in left.adds.get(wanted, ())):
            found.append((blockers, left))
    return found


def _overlaps(placement: Placement, start: int, end: int) -> bool:
    return placement.start < end and start < placement.end


def _clear(books: Books, gpu: int, going: list[Live]) -> list[Migration]:
    """Move placements away from a GPU, the largest first; all of them or none."""
    state = books.leave(gpu)
    going.sort(key=lambda live: -state.kind.placement(live[2]).profile.extent)
    moved: list[Migration] = []
    for live in going:
        found = books.best(live[3])
        if found is None:
            for undone in going[: len(moved)][::-1]:
                books.put_back(undone)
            books.enter(gpu, state)
            return []
        moved.append(Migration(live[0], books.put(found, live)))
    for live in going:
        state = books.give_up(gpu, state, live)
    books.enter(gpu, state)
    return moved


def _improve(books: Books, held: dict[int, list[Live]]) -> Migration | None:
    """Make the one move that gains the most room among those tried, or none; what each GPU holds is kept up to date."""
    value = books.worth()
    donors: list[tuple[float, int, State, int]] = []
    for state in books.states_in_use():
        for key in set(state.content):
            gain = value(state.kind.before(state, key)) - value(state)
            donors.append((-gain, len(donors), state, key))
    donors.sort(key=lambda donor: donor[:2])
    for lost, _, state, key in donors[:_DONORS]:
        gpu = next(reversed(state.gpus))
        live = next(live for live in held[gpu] if live[2] == key)
        books.leave(gpu)
        found = books.best(live[3])
        if found is not None and value(found[1][1]) - value(found[1][0]) - lost > _GAIN:
            target = books.put(found, live)
            books.enter(gpu, books.give_up(gpu, state, live))
            held[gpu].remove(live)
            held.setdefault(found[0], []).append(books.live(target.id))
            return Migration(live[0], target)
        books.enter(gpu, state)
    return None
