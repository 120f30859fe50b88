"""The aggregate problem as an integer program: Gilmore and Gomory's cutting stock model with a transportation part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitioner.solver.integer import Answer, Program
from partitioner.solver.problem import Problem
from partitioner.solver.stages import column_cost, instance_cost


@dataclass(frozen=True, slots=True)
class Formulation:
    """A program that places every replica on the fewest GPUs, and where its parts are.

    Parameters
    ----------
    program : the program; callers may change costs and bounds and add rows.
    columns : variable that counts the GPUs of each column, shape ``(n_columns,)``.
    pairs : (class, slot) to the variable that counts the replicas of the class in such slots.
    slot_rows : row of each slot, shape ``(n_slots,)``: no more are taken than the GPUs offer.
    class_rows : row of each class, shape ``(n_classes,)``: every replica is placed, every service served.
    kind_rows : kind to the row that limits its GPUs, for kinds of which there is a limited number.
    """

    program: Program
    columns: range
    pairs: dict[tuple[int, int], int]
    slot_rows: range
    class_rows: range
    kind_rows: dict[int, int]

    def costs(self, problem: Problem, stage: str) -> list[int]:
        """Return the cost of every variable in a stage."""
        cost = [0] * len(self.program.cost)
        for z, column in zip(self.columns, problem.columns, strict=True):
            cost[z] = column_cost(problem, stage, column)
        for (_, slot), variable in self.pairs.items():
            cost[variable] = instance_cost(problem, stage, slot)
        return cost

    def gpus(self, answer: Answer) -> tuple[tuple[int, int], ...]:
        """Return (column, number of GPUs) pairs of a solution."""
        assert answer.values is not None
        return tuple((number, int(answer.values[z])) for number, z in enumerate(self.columns) if answer.values[z])

    def served(self, answer: Answer) -> dict[tuple[int, int], int]:
        """Return (class, slot) to replicas of a solution."""
        assert answer.values is not None
        return {pair: int(answer.values[variable]) for pair, variable in self.pairs.items() if answer.values[variable]}


def most_gpus(problem: Problem) -> int:
    """Return a number of GPUs that always suffices: one for every instance."""
    return sum(max(c.most(slot) for slot in c.options) for c in problem.classes if c.count and c.options)


def formulate(problem: Problem) -> Formulation:
    """Return the program that places every replica and serves every service on the fewest GPUs.

    Notes
    -----
    Its size is that of the columns and of the (class, slot) pairs, whatever the numbers of replicas and GPUs.
    """
    program = Program()
    total = most_gpus(problem)
    for column in problem.columns:
        available = problem.kinds[column.kind].available
        program.variable(total if available is None else min(available, total), 1)
    columns = range(len(problem.columns))
    pairs = {
        (number, slot): program.variable(c.most(slot))
        for number, c in enumerate(problem.classes)
        if c.count
        for slot in c.options
    }
    takers: list[list[tuple[int, int]]] = [[] for _ in problem.slots]
    for variable, column in zip(columns, problem.columns, strict=True):
        for slot, count in column.slots:
            takers[slot].append((variable, count))
    for (_, slot), variable in pairs.items():
        takers[slot].append((variable, -1))
    for terms in takers:
        program.row(terms, low=0)
    for number, c in enumerate(problem.classes):
        terms = [(pairs[number, slot], c.gain(slot)) for slot in c.options if c.count]
        program.row(terms, low=c.goal, high=np.inf if c.yields else c.goal)
    kind_rows = {}
    for kind, k in enumerate(problem.kinds):
        if k.available is not None:
            mine = [(z, 1) for z, column in zip(columns, problem.columns, strict=True) if column.kind == kind]
            kind_rows[kind] = program.row(mine, high=k.available)
    slots, classes = len(problem.slots), len(problem.classes)
    return Formulation(program, columns, pairs, range(slots), range(slots, slots + classes), kind_rows)
