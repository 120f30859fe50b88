"""How many GPUs take which configuration, with proof. Must not know names of workloads, hosts or placements.

Three ways lead to an optimum, in this order:

1. closed form: one kind of GPU, no choice of slots: the extreme prices of the geometry give the bound, and it is met;
2. the linear program's prices, made exact, prove the best integer solution found;
3. branch and bound.
"""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

from partitioner.solver.closed_form import CERTIFICATE as CLOSED_FORM
from partitioner.solver.closed_form import closed_form
from partitioner.solver.components import merge, split
from partitioner.solver.formulation import Formulation, formulate, most_gpus
from partitioner.solver.greedy import greedy
from partitioner.solver.integer import Answer, duals
from partitioner.solver.integer import solve as solve_program
from partitioner.solver.priorities import most_by_priority
from partitioner.solver.problem import Column, Objective, Problem, Proof, Solution, slot_cost

LINEAR_PROGRAM = "configuration LP"
BRANCH_AND_BOUND = "branch and bound"
_ENGINE_NAMES = {"GSCIP": "SCIP", "HIGHS": "HiGHS", "CP_SAT": "CP-SAT"}
_WASTE_GAP = 1e-3  # with services the last tenth of a percent of memory takes longer to prove than all the rest
_MAX_DENOMINATOR = 5040  # prices of MIG geometries are k/8, k/7, k/4, k/3; of vGPU sizes k/32 and the like


def solve(problem: Problem, *, deadline: float, seed: int) -> Solution:
    """Place the most by priority, on the fewest GPUs, with the least waste; lexicographically, each stage with a bound.

    Parameters
    ----------
    problem : what is wanted and what there is.
    deadline : on the clock of `time.monotonic` [s]; then the best known comes back with its bound.
    seed : for the engines.

    Notes
    -----
    Where something is left out, waste is least for what is placed; which of equal replicas to leave out is not chosen
    by waste.
    """
    parts = split(problem)
    if not parts:
        nothing = Objective("placed", 0, 0), Objective("gpus", 0, 0)
        return Solution((), {}, (0,) * len(problem.classes), nothing, CLOSED_FORM)
    return merge(problem, parts, [_solve_part(part.problem, deadline, seed) for part in parts])


def _solve_part(problem: Problem, deadline: float, seed: int) -> Solution:
    everything = _fewest_gpus(problem, deadline, seed)
    if everything is not None:
        wanted = sum(c.count for c in problem.classes)
        return _with_placed(_without_idle_gpus(problem, everything), wanted, wanted)
    choice = most_by_priority(problem, deadline=deadline, seed=seed)
    some = _fewest_gpus(problem.with_counts(choice.counts), deadline, seed) or greedy(problem)
    stages = [
        replace(stage, bound=min(stage.bound, choice.gpus_bound)) if stage.name == "gpus" else stage for stage in some.objectives
    ]
    placed = sum(some.placed)
    some = _without_idle_gpus(problem, replace(some, objectives=tuple(stages)))
    return _with_placed(some, placed, max(choice.placed_bound, placed))


def _with_placed(solution: Solution, placed: int, bound: int) -> Solution:
    return replace(solution, objectives=(Objective("placed", placed, bound), *solution.objectives))


def _without_idle_gpus(problem: Problem, solution: Solution) -> Solution:
    """Drop GPUs of which no slot is needed; a search cut short, or a simple rule, may have taken them.

    What is left has no GPU without a replica, however the slots are handed out: one whose slots all stay empty could
    have been dropped.
    """
    spare = [0] * len(problem.slots)
    for number, count in solution.gpus:
        for slot, n in problem.columns[number].slots:
            spare[slot] += n * count
    for (_, slot), count in solution.served.items():
        spare[slot] -= count
    kept: list[tuple[int, int]] = []
    dropped = cost = 0
    for number, count in solution.gpus:
        column = problem.columns[number]
        idle = min(count, *(spare[slot] // n for slot, n in column.slots))
        for slot, n in column.slots:
            spare[slot] -= n * idle
        dropped += idle
        cost += idle * _gpu_cost(problem, column)
        if idle < count:
            kept.append((number, count - idle))
    less = {"gpus": dropped, "waste": cost}
    stages = tuple(replace(stage, value=stage.value - less.get(stage.name, 0)) for stage in solution.objectives)
    return replace(solution, gpus=tuple(kept), objectives=stages) if dropped else solution


def _gpu_cost(problem: Problem, column: Column) -> int:
    """Return what a GPU costs when wasting as little as possible; nothing where all are of one kind and so cost the same."""
    return slot_cost(problem.kinds[column.kind].memory_mib) if len(problem.kinds) > 1 else 0


def fewest_extra_gpus(problem: Problem, *, deadline: float, seed: int) -> tuple[int, ...] | None:
    """Return how many GPUs of each kind must be added at least so that everything fits.

    Returns
    -------
    Extra GPUs of each kind, shape ``(n_kinds,)``, their sum proven smallest; None where the deadline cut in.
    """
    extra = [0] * len(problem.kinds)
    for part in split(problem):
        more = _fewest_extra_of_part(part.problem, deadline, seed)
        if more is None:
            return None
        for kind, count in zip(part.kinds, more, strict=True):
            extra[kind] = count
    return tuple(extra)


def _fewest_extra_of_part(problem: Problem, deadline: float, seed: int) -> tuple[int, ...] | None:
    direct = closed_form(problem)
    if direct is not None:
        available = problem.kinds[0].available
        return (0 if available is None else max(0, direct.gpus_used - available),)
    form = formulate(problem)
    form.program.cost = [0] * len(form.program.cost)
    total = most_gpus(problem)
    extras = {}
    for kind, row in form.kind_rows.items():
        extras[kind] = form.program.variable(total, 1)
        form.program.entries.append((row, extras[kind], -1))
    for column in form.columns:
        form.program.upper[column] = total
    answer = solve_program(form.program, deadline=deadline, seed=seed)
    if answer.values is None or not answer.optimal:
        return None
    return tuple(int(answer.values[extras[kind]]) if kind in extras else 0 for kind in range(len(problem.kinds)))


def _fewest_gpus(problem: Problem, deadline: float, seed: int) -> Solution | None:
    """Place every replica on the fewest GPUs with the least waste; None where they do not fit or no way was found."""
    counts = tuple(c.count for c in problem.classes)
    if not any(counts):
        return Solution((), {}, counts, (Objective("gpus", 0, 0),), CLOSED_FORM)
    direct = closed_form(problem)
    if direct is not None:
        available = problem.kinds[0].available
        return direct if available is None or direct.gpus_used <= available else None
    form = formulate(problem)
    answer = solve_program(form.program, deadline=deadline, seed=seed)
    if answer.infeasible:
        return None
    proof, priced = _prices(problem, form, deadline)
    if answer.values is None:
        simple = greedy(problem)
        if simple.placed != counts:
            return None
        stage = Objective("gpus", simple.gpus_used, priced)
        return replace(simple, objectives=(stage,), certificate=LINEAR_PROGRAM, proof=proof)
    gpus = sum(count for _, count in form.gpus(answer))
    bound = max(priced, answer.bound or 0)
    certificate = LINEAR_PROGRAM if priced == bound else f"{BRANCH_AND_BOUND} ({_ENGINE_NAMES[answer.engine]})"
    stages = [Objective("gpus", gpus, bound)]
    if len(problem.kinds) > 1 or any(len(c.options) > 1 or c.yields for c in problem.classes if c.count):
        answer = _least_waste(problem, form, gpus, answer, deadline, seed)
        stages.append(Objective("waste", answer.objective or 0, answer.bound or 0))
    return Solution(form.gpus(answer), _trimmed(problem, form.served(answer)), counts, tuple(stages), certificate, proof)


def _trimmed(problem: Problem, served: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """Drop instances that a service can do without; a search cut short may leave some."""
    for number, c in enumerate(problem.classes):
        if c.yields and c.count:
            spare = sum(served.get((number, slot), 0) * c.gain(slot) for slot in c.options) - c.goal
            for slot in sorted(c.options, key=c.gain):
                drop = min(served.get((number, slot), 0), spare // c.gain(slot))
                if drop > 0:
                    served[number, slot] -= drop
                    spare -= drop * c.gain(slot)
    return {pair: count for pair, count in served.items() if count}


def _prices(problem: Problem, form: Formulation, deadline: float) -> tuple[Proof | None, int]:
    """Return exact prices from the duals of the linear relaxation, and the bound that they prove.

    Whatever the floating-point duals are, the exact prices made from them are feasible: prices are scaled or the
    kinds' rents raised until no column costs too much. So the bound is valid without trusting the engine.
    """
    values = duals(form.program, time_limit_s=max(0.01, deadline - time.monotonic()))
    if values is None:
        return None, 0
    slots = [Fraction(max(0.0, float(values[row]))).limit_denominator(_MAX_DENOMINATOR) for row in form.slot_rows]
    dearest = [Fraction(0)] * len(problem.kinds)
    for column in problem.columns:
        dearest[column.kind] = max(dearest[column.kind], sum((n * slots[slot] for slot, n in column.slots), Fraction(0)))
    scale = max((d for d, kind in zip(dearest, problem.kinds, strict=True) if kind.available is None), default=Fraction(1))
    if scale > 1:
        slots = [price / scale for price in slots]
        dearest = [d / scale for d in dearest]
    rents = tuple(
        Fraction(0) if kind.available is None else max(Fraction(0), d - 1) for d, kind in zip(dearest, problem.kinds, strict=True)
    )
    value = sum((c.goal * min(slots[slot] / c.gain(slot) for slot in c.options) for c in problem.classes if c.count), Fraction(0))
    value -= sum((rent * (kind.available or 0) for rent, kind in zip(rents, problem.kinds, strict=True)), Fraction(0))
    return Proof(tuple(slots), rents), max(0, -(-value.numerator // value.denominator))


def _least_waste(problem: Problem, form: Formulation, gpus: int, incumbent: Answer, deadline: float, seed: int) -> Answer:
    """Among the solutions with `gpus` GPUs find one that takes the least memory: small GPUs, small profiles."""
    program = form.program
    program.row([(z, 1) for z in form.columns], high=gpus)
    program.cost = [0] * len(program.cost)
    for z, column in zip(form.columns, problem.columns, strict=True):
        program.cost[z] = _gpu_cost(problem, column)
    for (_, slot), variable in form.pairs.items():
        program.cost[variable] = problem.slots[slot].cost
    gap = _WASTE_GAP if any(c.yields and c.count for c in problem.classes) else 0.0
    answer = solve_program(program, deadline=deadline, seed=seed, gap=gap)
    if answer.values is not None:
        return answer
    assert incumbent.values is not None
    value = sum(cost * int(x) for cost, x in zip(program.cost, incumbent.values, strict=True))
    return replace(incumbent, objective=value, bound=answer.bound)
