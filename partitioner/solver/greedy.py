"""Placing by a simple rule, for when the deadline leaves no time for an engine. Carries no proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from partitioner.solver.problem import Column, Objective, Problem, Solution


@dataclass(slots=True)
class _Left:
    """What a greedy placing has left; `goals` in replicas or units of throughput."""

    goals: list[int]
    available: list[int | None]
    gpus: dict[int, int] = field(default_factory=dict)
    served: dict[tuple[int, int], int] = field(default_factory=dict)


def greedy(problem: Problem) -> Solution:
    """Place what a simple rule places: the column that serves the most slots, as often as possible, again and again.

    Notes
    -----
    Of many columns only the largest of each kind and mode are looked at, so that it stays quick.
    """
    left = _Left([c.goal for c in problem.classes], [kind.available for kind in problem.kinds])
    takers = _takers(problem)
    columns = _large_columns(problem)
    while True:
        best: tuple[tuple[int, ...], int, dict[tuple[int, int], int]] | None = None
        for number in columns:
            column = problem.columns[number]
            if left.available[column.kind] == 0:
                continue
            filled = _fill(problem, column, left.goals, takers)
            score = _score(problem, filled)
            if filled and (best is None or score > best[0]):
                best = (score, number, filled)
        if best is None:
            break
        _, number, filled = best
        _take(problem, number, filled, left)
    placed = tuple(
        (c.count if n <= 0 else 0) if c.yields else (c.goal - n) // c.size
        for c, n in zip(problem.classes, left.goals, strict=True)
    )
    for number, c in enumerate(problem.classes):
        if c.yields and not placed[number]:  # a service is served as a whole or not at all
            left.served = {pair: n for pair, n in left.served.items() if pair[0] != number}
    used = sum(left.gpus.values())
    return Solution(tuple(left.gpus.items()), left.served, placed, (Objective("gpus", used, 0),), "none")


_COLUMNS = 40  # of each kind and mode


def _large_columns(problem: Problem) -> list[int]:
    """Return columns that hold much, and for every slot the one that holds the most of it."""
    groups: dict[tuple[int, str, int], list[int]] = {}
    most: dict[int, tuple[int, int]] = {}
    for number, column in enumerate(problem.columns):
        first = problem.slots[column.slots[0][0]]
        groups.setdefault((column.kind, first.mode, first.tenant), []).append(number)
        for slot, n in column.slots:
            most[slot] = max(most.get(slot, (0, 0)), (n, -number))
    chosen = {-number for _, number in most.values()}
    for members in groups.values():
        size = {n: sum(problem.slots[slot].cost * count for slot, count in problem.columns[n].slots) for n in members}
        chosen |= set(sorted(members, key=lambda n: (-size[n], n))[:_COLUMNS])
    return sorted(chosen)


def _takers(problem: Problem) -> list[list[int]]:
    """Return the classes that may take each slot, high priority and few options first."""
    order = sorted(range(len(problem.classes)), key=lambda n: (-problem.classes[n].priority, len(problem.classes[n].options), n))
    takers: list[list[int]] = [[] for _ in problem.slots]
    for number in order:
        for slot in problem.classes[number].options:
            takers[slot].append(number)
    return takers


def _fill(problem: Problem, column: Column, goals: Sequence[int], takers: Sequence[Sequence[int]]) -> dict[tuple[int, int], int]:
    """Fill the slots of one GPU, classes with high priority and few options first."""
    taken_of: dict[int, int] = {}
    filled: dict[tuple[int, int], int] = {}
    for slot, offered in column.slots:
        room = offered
        for number in takers[slot]:
            rest = goals[number] - taken_of.get(number, 0)
            if rest > 0:
                gain = problem.classes[number].gain(slot)
                taken = min(room, -(-rest // gain))
                filled[number, slot] = taken
                taken_of[number] = taken_of.get(number, 0) + taken * gain
                room -= taken
                if not room:
                    break
    return filled


def _score(problem: Problem, filled: Mapping[tuple[int, int], int]) -> tuple[int, ...]:
    """Order fillings of one GPU: the highest priority served, then the memory put to use."""
    if not filled:
        return (-(2**62),)
    top = max(problem.classes[number].priority for number, _ in filled)
    return top, sum(problem.slots[slot].cost * count for (_, slot), count in filled.items())


def _take(problem: Problem, number: int, filled: Mapping[tuple[int, int], int], left: _Left) -> None:
    """Take a column as often as the same filling repeats."""
    kind = problem.columns[number].kind
    per_class: dict[int, int] = {}
    for (c, slot), count in filled.items():
        per_class[c] = per_class.get(c, 0) + count * problem.classes[c].gain(slot)
    times = max(1, min(left.goals[c] // gain for c, gain in per_class.items()))  # the last filling may exceed a service's need
    available = left.available[kind]
    if available is not None:
        times = min(times, available)
        left.available[kind] = available - times
    for pair, count in filled.items():
        left.served[pair] = left.served.get(pair, 0) + times * count
    for c, gain in per_class.items():
        left.goals[c] -= times * gain
    left.gpus[number] = left.gpus.get(number, 0) + times
