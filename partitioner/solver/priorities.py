"""What to leave out where not everything fits: as little as possible, lowest priorities first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from partitioner.solver.formulation import Formulation, formulate
from partitioner.solver.greedy import greedy
from partitioner.solver.integer import Answer, solve
from partitioner.solver.problem import Problem, Solution


@dataclass(frozen=True, slots=True)
class Choice:
    """How many replicas of each class to place.

    Parameters
    ----------
    solution : one that places them, without stages.
    placed_bound : a bound on their sum, given the priorities.
    bound : a bound on the first stage after that, for so many replicas of each priority.
    """

    solution: Solution
    placed_bound: int
    bound: int


def most_by_priority(problem: Problem, stage: str, *, deadline: float, seed: int) -> Choice:
    """Choose the replicas to place: as many as possible of each priority from high to low, then the best in a stage.

    Notes
    -----
    Runs of priorities that fit whole, and runs of which nothing fits, are found by bisection, so thousands of priorities
    cost a logarithmic number of solves for each priority that fits in part.
    """
    levels = sorted({c.priority for c in problem.classes if c.count}, reverse=True)
    settled: dict[int, int] = {}  # priority to replicas placed
    known: Solution | None = None  # one that places what is settled
    bound = done = 0
    while done < len(levels):
        fitting = _levels_that_fit(problem, levels[done:], settled, deadline, seed)
        for level in levels[done : done + fitting]:
            settled[level] = _wanted(problem, level)
            bound += settled[level]
        done += fitting
        if done == len(levels):
            break
        most = _most(problem, [levels[done]], settled, deadline, seed)
        if most is None:  # out of time: nothing is known of this priority and those below it
            rest = sum(_wanted(problem, level) for level in levels[done:])
            return Choice(known or greedy(problem), bound + rest, 0)
        settled[levels[done]], more, known = most
        bound += more
        done += 1
        hopeless = _levels_without_room(problem, levels[done:], settled, deadline, seed)
        settled |= dict.fromkeys(levels[done : done + hopeless], 0)
        done += hopeless
    return _choose(problem, stage, settled, bound, deadline, seed) or Choice(known or greedy(problem), bound, 0)


def _wanted(problem: Problem, level: int) -> int:
    return sum(c.count for c in problem.classes if c.priority == level)


def _levels_that_fit(problem: Problem, levels: list[int], settled: Mapping[int, int], deadline: float, seed: int) -> int:
    """Return how many of the next priorities fit whole beside what is settled."""

    def fits(number: int) -> bool:
        goal = {**settled, **{level: _wanted(problem, level) for level in levels[:number]}}
        return solve(_placing(problem, goal)[0].program, deadline=deadline, seed=seed).values is not None

    return _longest(fits, len(levels))


def _levels_without_room(problem: Problem, levels: list[int], settled: Mapping[int, int], deadline: float, seed: int) -> int:
    """Return how many of the next priorities have not one replica that fits beside what is settled."""

    def nothing_fits(number: int) -> bool:
        most = _most(problem, levels[:number], settled, deadline, seed)
        return most is not None and most[1] == 0

    return _longest(nothing_fits, len(levels))


def _longest(holds: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` for which a property holds that all smaller numbers have too; or 0."""
    if not most or not holds(1):
        return 0
    low, high = 1, most + 1
    while high - low > 1:
        middle = most if low == 1 and high > most else (low + high) // 2  # all at once first, then by halves
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _most(
    problem: Problem, levels: list[int], settled: Mapping[int, int], deadline: float, seed: int
) -> tuple[int, int, Solution] | None:
    """Return the most replicas of some priorities together that fit beside what is settled, a bound, and a solution."""
    form, units = _placing(problem, settled)
    for variable, level in units:
        if level in levels:
            form.program.cost[variable] = -1
    answer = solve(form.program, deadline=deadline, seed=seed)
    if answer.objective is None or answer.bound is None:
        return None
    return -answer.objective, -answer.bound, _solution(problem, form, answer)


def _choose(problem: Problem, stage: str, settled: Mapping[int, int], bound: int, deadline: float, seed: int) -> Choice | None:
    """Choose which replicas of each priority to place, their numbers being settled, so that the next stage is best."""
    form, _ = _placing(problem, settled)
    form.program.cost = form.costs(problem, stage)
    answer = solve(form.program, deadline=deadline, seed=seed)
    if answer.values is None:
        return None
    return Choice(_solution(problem, form, answer), bound, 0 if answer.bound is None else answer.bound)


def _solution(problem: Problem, form: Formulation, answer: Answer) -> Solution:
    """Return what a solution of the program places; services it serves in part are left out."""
    served = form.served(answer)
    counts = [0] * len(problem.classes)
    for (number, slot), count in served.items():
        counts[number] += count * problem.classes[number].gain(slot)
    placed = tuple(int(n >= c.need) if c.yields else n // c.size for n, c in zip(counts, problem.classes, strict=True))
    return Solution(form.gpus(answer), {pair: n for pair, n in served.items() if placed[pair[0]]}, placed, (), "none")


def _placing(problem: Problem, settled: Mapping[int, int]) -> tuple[Formulation, list[tuple[int, int]]]:
    """Return the program, without costs, that places a settled number of each priority and any of others.

    Also the variables that count what is placed, each with its priority: replicas, and of a service whether it is served.
    """
    form = formulate(problem)
    program = form.program
    units: list[tuple[int, int]] = []
    for number, c in enumerate(problem.classes):
        row = form.class_rows[number]
        program.low[row] = 0
        if c.yields and c.count:
            served = program.variable(1)
            program.entries.append((row, served, -c.need))
            units.append((served, c.priority))
    units += [(variable, problem.classes[n].priority) for (n, _), variable in form.pairs.items() if not problem.classes[n].yields]
    program.cost = [0] * len(program.cost)
    for level, count in settled.items():
        program.row([(variable, 1) for variable, priority in units if priority == level], low=count, high=count)
    return form, units
