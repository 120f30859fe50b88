"""How many GPUs take which configuration, with proof. Must not know names of workloads, hosts or placements.

Three ways lead to an optimum, in this order:

1. closed form: one kind of GPU, no choice of slots: the extreme prices of the geometry give the bound, and it is met;
2. the linear program's prices, made exact, prove the best integer solution found;
3. branch and bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from partitioner.solver.closed_form import CERTIFICATE as CLOSED_FORM
from partitioner.solver.closed_form import closed_form
from partitioner.solver.components import merge, split
from partitioner.solver.formulation import Formulation, formulate, most_gpus
from partitioner.solver.greedy import greedy
from partitioner.solver.integer import SMALL, Answer, relax
from partitioner.solver.integer import solve as solve_program
from partitioner.solver.priorities import most_by_priority
from partitioner.solver.problem import Objective, Problem, Proof, Solution
from partitioner.solver.stages import MAXIMISED, column_cost, instance_cost

LINEAR_PROGRAM = "configuration LP"
BRANCH_AND_BOUND = "branch and bound"
ENGINE_NAMES = {"GSCIP": "SCIP", "HIGHS": "HiGHS", "CP_SAT": "CP-SAT"}
_MAX_DENOMINATOR = 5040  # prices of MIG geometries are k/8, k/7, k/4, k/3; of vGPU sizes k/32 and the like
_WASTE_GAP = 1e-3  # with services the last stage has no natural end; its bound is reported


def solve(problem: Problem, *, objective: Sequence[str] = ("placed", "gpus", "waste"), deadline: float, seed: int) -> Solution:
    """Place the most by priority, then the best in each further stage; lexicographically, each stage with a bound.

    Parameters
    ----------
    problem : what is wanted and what there is.
    objective : stages of `solver.stages`, ``placed`` first.
    deadline : on the clock of `time.monotonic` [s]; then the best known comes back with its bound.
    seed : for the engines.

    Notes
    -----
    Where something is left out, waste is least for what is placed; which of equal replicas to leave out is not chosen
    by waste.
    """
    parts = split(problem)
    stages = tuple(objective[1:])
    if not parts:
        nothing = tuple(Objective(name, 0, 0) for name in objective)
        return Solution((), {}, (0,) * len(problem.classes), nothing, CLOSED_FORM)
    return _turned(merge(problem, parts, [_solve_part(part.problem, stages, deadline, seed) for part in parts]))


def _turned(solution: Solution) -> Solution:
    return replace(solution, objectives=as_asked(solution.objectives))


def as_asked(stages: Sequence[Objective]) -> tuple[Objective, ...]:
    """Turn what was minimised as less than nothing into what is maximised."""
    return tuple(Objective(stage.name, -stage.value, -stage.bound) if stage.name in MAXIMISED[1:] else stage for stage in stages)


def _solve_part(problem: Problem, stages: Sequence[str], deadline: float, seed: int) -> Solution:
    everything = _best(problem, stages, deadline, seed)
    if everything is not None:
        wanted = sum(c.count for c in problem.classes)
        return _with_placed(_without_idle_gpus(problem, everything), wanted, wanted)
    choice = most_by_priority(problem, stages[0], deadline=deadline, seed=seed)
    some = _best(problem.with_counts(choice.solution.placed), stages, deadline, seed)
    some = some or _with_stages(problem, choice.solution, stages)
    first = some.objectives[0]
    bounded = (replace(first, bound=min(first.bound, choice.bound)), *some.objectives[1:])
    placed = sum(some.placed)
    some = _without_idle_gpus(problem, replace(some, objectives=bounded))
    return _with_placed(some, placed, max(choice.placed_bound, placed))


def _with_placed(solution: Solution, placed: int, bound: int) -> Solution:
    return replace(solution, objectives=(Objective("placed", placed, bound), *solution.objectives))


def _with_stages(problem: Problem, solution: Solution, stages: Sequence[str], first_bound: int | None = None) -> Solution:
    """Return a solution with its stages, of which no more is known than that they cost something."""
    values = [value_of(problem, solution, name) for name in stages]
    bounds = [_least(problem, name) for name in stages]
    bounds[0] = bounds[0] if first_bound is None else first_bound
    return replace(solution, objectives=tuple(map(Objective, stages, values, bounds)))


def _least(problem: Problem, stage: str) -> int:
    """Return a bound on a stage that needs no solve."""
    if stage not in MAXIMISED:
        return 0
    most = most_gpus(problem)
    return most * min((column_cost(problem, stage, column) for column in problem.columns), default=0)


def value_of(problem: Problem, solution: Solution, stage: str) -> int:
    """Return what a solution costs in a stage."""
    value = sum(count * column_cost(problem, stage, problem.columns[column]) for column, count in solution.gpus)
    return value + sum(count * instance_cost(problem, stage, slot) for (_, slot), count in solution.served.items())


def _valued(problem: Problem, solution: Solution) -> Solution:
    """Return a solution with the values of its stages as they are; what was dropped from it makes them smaller."""
    stages = (replace(stage, value=value_of(problem, solution, stage.name)) for stage in solution.objectives)
    return replace(solution, objectives=tuple(stages))


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
    for number, count in solution.gpus:
        column = problem.columns[number]
        in_use = problem.kinds[column.kind].kept  # whether or not a replica comes to it
        idle = 0 if in_use else min(count, *(spare[slot] // n for slot, n in column.slots))
        for slot, n in column.slots:
            spare[slot] -= n * idle
        if idle < count:
            kept.append((number, count - idle))
    return _valued(problem, replace(solution, gpus=tuple(kept)))


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


def _best(problem: Problem, stages: Sequence[str], deadline: float, seed: int) -> Solution | None:
    """Place every replica, best in each stage; None where they do not fit or no way was found."""
    counts = tuple(c.count for c in problem.classes)
    if not any(counts):
        return Solution((), {}, counts, tuple(Objective(name, 0, 0) for name in stages), CLOSED_FORM)
    if "headroom" not in stages and not problem.kinds[0].kept:
        direct = closed_form(problem)
        if direct is not None:
            available = problem.kinds[0].available
            fits = available is None or direct.gpus_used <= available
            return _of_closed_form(problem, direct, stages) if fits else None
    return _searched(problem, stages, deadline, seed)


def _of_closed_form(problem: Problem, direct: Solution, stages: Sequence[str]) -> Solution:
    """Return the solution with all stages: GPUs of one kind without choice; what they cost is proven with their number."""
    values = [value_of(problem, direct, name) for name in stages]
    return replace(direct, objectives=tuple(map(Objective, stages, values, values)))


def _searched(problem: Problem, stages: Sequence[str], deadline: float, seed: int) -> Solution | None:
    counts = tuple(c.count for c in problem.classes)
    form = formulate(problem)
    form.program.cost = form.costs(problem, stages[0])
    answer = solve_program(form.program, deadline=deadline, seed=seed)
    if answer.infeasible:
        return None
    proof, priced = _prices(problem, form, stages[0], deadline)
    if answer.values is None:
        simple = replace(_with_stages(problem, greedy(problem), stages, priced), certificate=LINEAR_PROGRAM, proof=proof)
        return simple if simple.placed == counts else None
    value, bound = answer.objective or 0, _larger(priced, answer.bound, _least(problem, stages[0]))
    searched = f"{BRANCH_AND_BOUND} ({ENGINE_NAMES[answer.engine]}; {LINEAR_PROGRAM} alone: {priced:,})"
    certificate = LINEAR_PROGRAM if priced == bound else searched
    done = [Objective(stages[0], value, min(bound, value))]
    for name in stages[1:]:
        form.program.row([(v, c) for v, c in enumerate(form.program.cost) if c], high=done[-1].value)
        answer = _next(problem, form, name, answer, deadline, seed)
        done.append(Objective(name, answer.objective or 0, _larger(answer.bound, _least(problem, name))))
    solution = Solution(form.gpus(answer), _trimmed(problem, form.served(answer)), counts, tuple(done), certificate, proof)
    return _valued(problem, solution)


def _larger(*bounds: int | None) -> int:
    return max(bound for bound in bounds if bound is not None)


def _next(problem: Problem, form: Formulation, stage: str, incumbent: Answer, deadline: float, seed: int) -> Answer:
    """Among the solutions as good as the incumbent so far, find the best in the next stage."""
    program = form.program
    program.cost = form.costs(problem, stage)
    endless = any(c.yields and c.count for c in problem.classes) or len(program.upper) > SMALL
    gap = _WASTE_GAP if stage == "waste" and endless else 0.0
    answer = solve_program(program, deadline=deadline, seed=seed, gap=gap, known=incumbent.values)
    if answer.values is not None:
        return answer
    assert incumbent.values is not None
    value = sum(cost * int(x) for cost, x in zip(program.cost, incumbent.values, strict=True))
    return replace(incumbent, objective=value, bound=answer.bound)


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


def _prices(problem: Problem, form: Formulation, stage: str, deadline: float) -> tuple[Proof | None, int]:
    """Return exact prices from the duals of the linear relaxation, and the bound that they prove.

    Whatever the floating-point duals are, the exact prices made from them are feasible: prices are scaled or the
    kinds' rents raised until no column costs too much. So the bound is valid without trusting the engine.
    """
    if stage in MAXIMISED:
        return None, _least(problem, stage)
    relaxed = relax(form.program, time_limit_s=max(0.01, deadline - time.monotonic()))
    if relaxed is None:
        return None, 0
    values = relaxed.duals
    weights = [Fraction(0)] * len(problem.kinds)
    for column in problem.columns:
        weights[column.kind] = Fraction(column_cost(problem, stage, column))
    slots = [Fraction(max(0.0, float(values[row]))).limit_denominator(_MAX_DENOMINATOR) for row in form.slot_rows]
    dearest = [Fraction(0)] * len(problem.kinds)
    for column in problem.columns:
        dearest[column.kind] = max(dearest[column.kind], sum((n * slots[slot] for slot, n in column.slots), Fraction(0)))
    unlimited = [number for number, kind in enumerate(problem.kinds) if kind.available is None]
    scale = max((dearest[kind] / weights[kind] for kind in unlimited if weights[kind]), default=Fraction(1))
    if scale > 1:
        slots = [price / scale for price in slots]
        dearest = [d / scale for d in dearest]
    rents = tuple(
        Fraction(0) if kind.available is None else max(Fraction(0), d - weight)
        for d, weight, kind in zip(dearest, weights, problem.kinds, strict=True)
    )
    value = sum((c.goal * min(slots[slot] / c.gain(slot) for slot in c.options) for c in problem.classes if c.count), Fraction(0))
    value -= sum((rent * (kind.available or 0) for rent, kind in zip(rents, problem.kinds, strict=True)), Fraction(0))
    return Proof(tuple(slots), rents), max(0, -(-value.numerator // value.denominator))
