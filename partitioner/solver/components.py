"""Parts of a problem that do not touch: GPUs and classes that no option connects. Each is solved and bounded by itself.

A fleet of A100s and T4s with demands by profile falls into two parts. Bounds are rounded up in each part, so they are
tighter, and parts of one kind of GPU have the closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from partitioner.solver.problem import Column, Objective, Problem, Proof, Solution


@dataclass(frozen=True, slots=True)
class Part:
    """A problem within a problem; the tuples give the numbers of its kinds, slots, classes and columns in the whole."""

    problem: Problem
    kinds: tuple[int, ...]
    slots: tuple[int, ...]
    classes: tuple[int, ...]
    columns: tuple[int, ...]


def split(problem: Problem) -> tuple[Part, ...]:
    """Return the parts of a problem, in order of their first kind. Kinds and classes without options are in none."""
    root = list(range(len(problem.kinds)))

    def find(kind: int) -> int:
        while root[kind] != kind:
            root[kind] = root[root[kind]]
            kind = root[kind]
        return kind

    for c in problem.classes:
        kinds = [find(problem.slots[slot].kind) for slot in c.options]
        for kind in kinds:
            root[find(kind)] = find(min(kinds))
    wanted = sorted({find(problem.slots[c.options[0]].kind) for c in problem.classes if c.options})
    if len(wanted) == 1 and len({find(kind) for kind in root}) == 1 and all(c.options for c in problem.classes):
        everything = problem.kinds, problem.slots, problem.classes, problem.columns
        return (Part(problem, *(tuple(range(len(members))) for members in everything)),)
    return tuple(_part(problem, [kind for kind in range(len(root)) if find(kind) == first]) for first in wanted)


def _part(problem: Problem, kinds: Sequence[int]) -> Part:
    slots = [n for n, slot in enumerate(problem.slots) if slot.kind in kinds]
    classes = [n for n, c in enumerate(problem.classes) if c.options and c.options[0] in slots]
    columns = [n for n, column in enumerate(problem.columns) if column.kind in kinds]
    kind_no = {kind: n for n, kind in enumerate(kinds)}
    slot_no = {slot: n for n, slot in enumerate(slots)}
    part = Problem(
        tuple(problem.kinds[kind] for kind in kinds),
        tuple(replace(problem.slots[slot], kind=kind_no[problem.slots[slot].kind]) for slot in slots),
        tuple(replace(problem.classes[c], options=tuple(slot_no[slot] for slot in problem.classes[c].options)) for c in classes),
    ).knowing_columns(
        tuple(
            Column(kind_no[problem.columns[n].kind], tuple((slot_no[slot], count) for slot, count in problem.columns[n].slots))
            for n in columns
        )
    )
    return Part(part, tuple(kinds), tuple(slots), tuple(classes), tuple(columns))


def merge(problem: Problem, parts: Sequence[Part], solutions: Sequence[Solution]) -> Solution:
    """Return the solution of the whole from those of its parts; values and bounds of each stage add up."""
    placed = [0] * len(problem.classes)
    prices = [Fraction(0)] * len(problem.slots)
    rents = [Fraction(0)] * len(problem.kinds)
    gpus: list[tuple[int, int]] = []
    served: dict[tuple[int, int], int] = {}
    stages: dict[str, Objective] = {}
    for part, solution in zip(parts, solutions, strict=True):
        gpus += [(part.columns[column], count) for column, count in solution.gpus]
        served |= {(part.classes[c], part.slots[slot]): count for (c, slot), count in solution.served.items()}
        for number, count in zip(part.classes, solution.placed, strict=True):
            placed[number] = count
        for stage in solution.objectives:
            before = stages.get(stage.name, Objective(stage.name, 0, 0))
            stages[stage.name] = Objective(stage.name, before.value + stage.value, before.bound + stage.bound)
        if solution.proof:
            for slot, price in zip(part.slots, solution.proof.slots, strict=True):
                prices[slot] = price
            for kind, rent in zip(part.kinds, solution.proof.rents, strict=True):
                rents[kind] = rent
    certificate = " and ".join(dict.fromkeys(solution.certificate for solution in solutions))
    return Solution(tuple(gpus), served, tuple(placed), tuple(stages.values()), certificate, Proof(tuple(prices), tuple(rents)))
