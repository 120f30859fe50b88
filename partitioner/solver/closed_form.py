"""GPUs of one kind for demands without a choice, from the extreme prices of the geometry: no engine, microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from partitioner.solver.configurations import Vector, all_prices, peel
from partitioner.solver.problem import Column, Objective, Problem, Proof, Solution

CERTIFICATE = "closed form"

_MAX_SLOTS, _MAX_COLUMNS = 8, 256  # beyond, listing the extreme prices may take longer than a linear program


def closed_form(problem: Problem) -> Solution | None:
    """Solve a problem of one kind whose classes have one option each, the number of GPUs not being limited.

    Returns
    -------
    The solution with the fewest GPUs and its proof, or None where the problem is not of that form, its geometry has too
    many prices, or the bound is not met.

    Notes
    -----
    The number of GPUs is the largest of ``ceil(v . d)`` over the extreme prices v of the geometry (the value of the
    configuration LP, rounded up); `peel` gives that many configurations.
    """
    wanted = [(number, c) for number, c in enumerate(problem.classes) if c.count]
    if len(problem.kinds) != 1 or any(len(c.options) != 1 or c.yields for _, c in wanted):
        return None
    demand = [0] * len(problem.slots)
    for _, c in wanted:
        demand[c.options[0]] += c.count
    slots = [slot for slot, count in enumerate(demand) if count]  # fewer slots, fewer configurations and prices
    columns = {_vector(column, slots): number for number, column in reversed(list(enumerate(problem.columns)))}
    vectors = _maximal(columns)
    if len(slots) > _MAX_SLOTS or len(vectors) > _MAX_COLUMNS:
        return None
    counts = [demand[slot] for slot in slots]
    prices = all_prices(vectors)
    taken = None if prices is None else peel(vectors, prices, counts)
    if prices is None or taken is None:
        return None
    best = max(prices, key=lambda price: (price.bound(counts), price.numerators))
    by_slot = {slot: Fraction(n, best.denominator) for slot, n in zip(slots, best.numerators, strict=True)}
    gpus = sum(times for times, _ in taken)
    return Solution(
        tuple((columns[vector], times) for times, vector in taken),
        {(number, c.options[0]): c.count for number, c in wanted},
        tuple(c.count for c in problem.classes),
        (Objective("gpus", gpus, gpus),),
        CERTIFICATE,
        Proof(tuple(by_slot.get(slot, Fraction(0)) for slot in range(len(problem.slots))), (Fraction(0),)),
    )


def _vector(column: Column, slots: Sequence[int]) -> Vector:
    counts = dict(column.slots)
    return tuple(counts.get(slot, 0) for slot in slots)


def _maximal(vectors: dict[Vector, int]) -> tuple[Vector, ...]:
    """Return the vectors, without those that another covers, largest first."""
    kept = [v for v in vectors if any(v) and not any(v != w and all(a <= b for a, b in zip(v, w, strict=True)) for w in vectors)]
    return tuple(sorted(kept, reverse=True))
