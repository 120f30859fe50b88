"""How many GPUs take which configuration: the planning problem with everything equal counted once.

Replicas with the same options are one *class*; GPUs of one model and mode are one *kind*; a kind offers *slots* (a shape
in a mode) in *columns* (its maximal configurations). One integer variable counts each column, one each (class, slot)
pair: Gilmore and Gomory's cutting stock formulation with a transportation part, whose size does not grow with the
number of replicas or GPUs. Three ways lead to an optimum, in this order:

1. closed form: one kind, no choice of slots: the bound of the configuration LP from its extreme prices, met by `peel`;
2. the linear program's prices, made exact, prove the best integer solution found;
3. branch and bound.

This module must not know names of workloads, hosts or placements.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from partitioner.solver.configurations import Vector, all_prices, maximal_configurations, peel
from partitioner.solver.integer import Answer, Program, duals, solve as solve_program

CLOSED_FORM = "closed form"
LINEAR_PROGRAM = "configuration LP"
BRANCH_AND_BOUND = "branch and bound"
_ENGINE_NAMES = {"GSCIP": "SCIP", "HIGHS": "HiGHS", "CP_SAT": "CP-SAT"}


@dataclass(frozen=True, slots=True)
class Kind:
    """GPUs that are alike.

    Parameters
    ----------
    model : name of the GPU model.
    fixed : the mode they must stay in; None where it is free.
    modes : the modes they may be used in.
    available : how many there are; None: as many as needed.
    memory_mib : memory of one [MiB].
    """

    model: str
    fixed: str | None
    modes: tuple[str, ...]
    available: int | None
    memory_mib: int


@dataclass(frozen=True, slots=True)
class SlotType:
    """Room for one replica: a shape (by the profile that stands for it) of a mode of a kind.

    `cost` is what taking it costs when wasting as little as possible; smaller is better.
    """

    kind: int
    mode: str
    shape: str
    cost: int


@dataclass(frozen=True, slots=True)
class DemandClass:
    """Replicas that may take the same slots; `options` are rows of `Problem.slots`."""

    count: int
    priority: int
    options: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A configuration of a kind: (slot, count) pairs."""

    kind: int
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Problem:
    """Kinds of GPUs, the slots they offer, and the classes that want them."""

    kinds: tuple[Kind, ...]
    slots: tuple[SlotType, ...]
    classes: tuple[DemandClass, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All maximal configurations over the slots that some class wants."""
        by_mode: dict[tuple[int, str], list[int]] = {}
        for number, slot in enumerate(self.slots):
            by_mode.setdefault((slot.kind, slot.mode), []).append(number)
        columns = []
        for (kind, mode), slots in by_mode.items():
            names = tuple(self.slots[slot].shape for slot in slots)
            for vector in maximal_configurations(self.kinds[kind].model, mode, names):
                columns.append(Column(kind, tuple((slot, n) for slot, n in zip(slots, vector, strict=True) if n)))
        return tuple(columns)

    def with_counts(self, counts: Sequence[int]) -> Problem:
        """Return the problem with other numbers of replicas; its columns are the same."""
        classes = tuple(replace(c, count=n) for n, c in zip(counts, self.classes, strict=True))
        return self._like(Problem(self.kinds, self.slots, classes))

    def with_available(self, available: Sequence[int | None]) -> Problem:
        """Return the problem with other numbers of GPUs; its columns are the same."""
        kinds = tuple(replace(kind, available=n) for n, kind in zip(available, self.kinds, strict=True))
        return self._like(Problem(kinds, self.slots, self.classes))

    def _like(self, other: Problem) -> Problem:
        other.__dict__["columns"] = self.columns
        return other


@dataclass(frozen=True, slots=True)
class Proof:
    """Exact prices that prove a bound on the GPUs: any configuration of a kind costs at most 1 + the kind's rent.

    Parameters
    ----------
    slots : price of each slot, as fractions; shape ``(n_slots,)``.
    rents : what one GPU of each kind may cost above 1; 0 where as many as needed are to be had.
    """

    slots: tuple[Fraction, ...]
    rents: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Objective:
    """One stage of the objective: its value in the solution and the best that is possible at all."""

    name: str
    value: int
    bound: int

    @property
    def proven(self) -> bool:
        """Whether the value is proven best."""
        return self.value == self.bound


@dataclass(frozen=True, slots=True)
class Solution:
    """What is placed, on how many GPUs of which configuration.

    Parameters
    ----------
    gpus : (column, number of GPUs) pairs.
    served : (class, slot) to number of replicas.
    placed : replicas placed of each class, shape ``(n_classes,)``.
    objectives : the stages in their order.
    certificate : what proves the bound on the GPUs.
    proof : exact prices behind the certificate, where it rests on prices.
    """

    gpus: tuple[tuple[int, int], ...]
    served: Mapping[tuple[int, int], int]
    placed: tuple[int, ...]
    objectives: tuple[Objective, ...]
    certificate: str
    proof: Proof | None = None

    @property
    def gpus_used(self) -> int:
        """Number of GPUs used."""
        return sum(count for _, count in self.gpus)


def solve(problem: Problem, *, deadline: float, seed: int) -> Solution:
    """Place the most by priority, on the fewest GPUs, with the least waste; lexicographically, each stage with a bound.

    Parameters
    ----------
    problem : what is wanted and what there is.
    deadline : on the clock of `time.monotonic` [s]; then the best known comes back with its bound.
    seed : for the engines.
    """
    servable = problem.with_counts([c.count if c.options else 0 for c in problem.classes])
    wanted = sum(c.count for c in servable.classes)
    everything = _fewest_gpus(servable, deadline, seed)
    if everything is not None:
        return _with_placed(everything, wanted, wanted)
    choice = _most_by_priority(servable, deadline, seed)
    some = _fewest_gpus(servable.with_counts(choice.counts), deadline, seed)
    if some is None:
        some = _greedy(servable)
    stages = [
        replace(stage, bound=min(stage.bound, choice.gpus_bound)) if stage.name == "gpus" else stage for stage in some.objectives
    ]
    placed = sum(some.placed)
    return _with_placed(replace(some, objectives=tuple(stages)), placed, max(choice.placed_bound, placed))


def _with_placed(solution: Solution, placed: int, bound: int) -> Solution:
    stage = Objective("placed", placed, bound)
    return replace(solution, objectives=(stage, *solution.objectives))


def fewest_extra_gpus(problem: Problem, *, deadline: float, seed: int) -> tuple[int, ...] | None:
    """Return how many GPUs of each kind must be added at least so that everything fits, or None if not found.

    Returns
    -------
    Extra GPUs of each kind, shape ``(n_kinds,)``, their sum as small as possible; proven unless the deadline cut in,
    and then None.
    """
    direct = _closed_form(problem)
    if direct is not None:
        return (max(0, direct.gpus_used - (problem.kinds[0].available or 0)),)
    program, _, _ = _program(problem)
    extras = [program.variable(None, 1) if kind.available is not None else None for kind in problem.kinds]
    program.cost = [0] * len(program.cost)
    for extra in extras:
        if extra is not None:
            program.cost[extra] = 1
    rows = _inventory_rows(problem)
    for kind, extra in enumerate(extras):
        if extra is not None and kind in rows:
            row = rows[kind]
            program.entries.append((row, extra, -1))
            program.upper[: len(problem.columns)] = [2**31] * len(problem.columns)
    answer = solve_program(program, deadline=deadline, seed=seed)
    if answer.values is None or not answer.optimal:
        return None
    return tuple(0 if extra is None else int(answer.values[extra]) for extra in extras)


# -- stage: fewest GPUs ------------------------------------------------------------------------------------------------


def _fewest_gpus(problem: Problem, deadline: float, seed: int) -> Solution | None:
    """Place every replica on the fewest GPUs with the least waste; None where they do not fit or no way was found."""
    counts = tuple(c.count for c in problem.classes)
    if not any(counts):
        return Solution((), {}, counts, (Objective("gpus", 0, 0),), CLOSED_FORM, None)
    direct = _closed_form(problem)
    if direct is not None:
        return direct if _available(problem, direct) else None
    program, columns, pairs = _program(problem)
    answer = solve_program(program, deadline=deadline, seed=seed)
    if answer.infeasible:
        return None
    proof, priced = _prices(problem, program, deadline)
    if answer.values is None:
        greedy = _greedy(problem)
        if greedy.placed != counts:
            return None
        stage = Objective("gpus", greedy.gpus_used, priced)
        return replace(greedy, objectives=(stage,), certificate=LINEAR_PROGRAM, proof=proof)
    gpus = int(sum(answer.values[z] for z in columns))
    bound = max(priced, answer.bound or 0)
    certificate = LINEAR_PROGRAM if priced == bound else f"{BRANCH_AND_BOUND} ({_ENGINE_NAMES[answer.engine]})"
    stages = [Objective("gpus", gpus, bound)]
    if len(problem.kinds) > 1 or any(len(c.options) > 1 for c in problem.classes):
        answer = _least_waste(problem, program, columns, pairs, gpus, answer, deadline, seed)
        assert answer.objective is not None
        stages.append(Objective("waste", answer.objective, answer.objective if answer.bound is None else answer.bound))
        if answer.bound is None:
            stages[-1] = Objective("waste", answer.objective, 0)
    return _solution(problem, answer, columns, pairs, tuple(stages), certificate, proof)


def _available(problem: Problem, solution: Solution) -> bool:
    available = problem.kinds[problem.columns[solution.gpus[0][0]].kind].available
    return available is None or solution.gpus_used <= available


def _closed_form(problem: Problem) -> Solution | None:
    """Solve a problem of one kind whose classes have no choice, from all prices of the geometry."""
    wanted = [(number, c) for number, c in enumerate(problem.classes) if c.count]
    if len(problem.kinds) != 1 or any(len(c.options) != 1 for _, c in wanted):
        return None
    demand = [0] * len(problem.slots)
    for _, c in wanted:
        demand[c.options[0]] += c.count
    slots = [slot for slot, count in enumerate(demand) if count]  # fewer slots, fewer configurations and prices
    vectors = _project(problem, slots)
    prices = all_prices(vectors) if len(slots) <= _CLOSED_FORM_SLOTS and len(vectors) <= _CLOSED_FORM_COLUMNS else None
    if prices is None:
        return None
    counts = [demand[slot] for slot in slots]
    taken = peel(vectors, prices, counts)
    if taken is None:
        return None
    best = max(prices, key=lambda price: (price.bound(counts), price.numerators))
    gpus = sum(times for times, _ in taken)
    by_slot = {slot: Fraction(n, best.denominator) for slot, n in zip(slots, best.numerators, strict=True)}
    proof = Proof(tuple(by_slot.get(slot, Fraction(0)) for slot in range(len(problem.slots))), (Fraction(0),))
    columns = {_vector(column, slots): number for number, column in reversed(list(enumerate(problem.columns)))}
    return Solution(
        tuple((columns[vector], times) for times, vector in taken),
        {(number, c.options[0]): c.count for number, c in wanted},
        tuple(c.count for c in problem.classes),
        (Objective("gpus", gpus, gpus),),
        CLOSED_FORM,
        proof,
    )


_CLOSED_FORM_SLOTS, _CLOSED_FORM_COLUMNS = 8, 256


def _vector(column: Column, slots: Sequence[int]) -> Vector:
    counts = dict(column.slots)
    return tuple(counts.get(slot, 0) for slot in slots)


def _project(problem: Problem, slots: Sequence[int]) -> tuple[Vector, ...]:
    """Return the columns as counts of the given slots only, without those that another covers."""
    vectors = {_vector(column, slots) for column in problem.columns}
    return tuple(
        sorted(
            (v for v in vectors if any(v) and not any(v != w and all(a <= b for a, b in zip(v, w, strict=True)) for w in vectors)),
            reverse=True,
        )
    )


# -- the integer program -----------------------------------------------------------------------------------------------


def _program(problem: Problem) -> tuple[Program, list[int], dict[tuple[int, int], int]]:
    """Return the program that places every replica on the fewest GPUs, its column variables and (class, slot) variables.

    Rows: one for each slot (served <= offered), one for each class (served == wanted), one for each kind with a
    limited number of GPUs; in this order.
    """
    program = Program()
    total = sum(c.count for c in problem.classes)
    columns = []
    for column in problem.columns:
        available = problem.kinds[column.kind].available
        columns.append(program.variable(total if available is None else min(available, total), 1))
    pairs = {
        (number, slot): program.variable(c.count)
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
        program.row([(pairs[number, slot], 1) for slot in c.options if c.count], low=c.count, high=c.count)
    for kind in _inventory_rows(problem):
        terms = [(z, 1) for z, column in zip(columns, problem.columns, strict=True) if column.kind == kind]
        program.row(terms, high=problem.kinds[kind].available or 0)
    return program, columns, pairs


def _inventory_rows(problem: Problem) -> dict[int, int]:
    """Return the row of `_program` that limits each kind with a limited number of GPUs."""
    first = len(problem.slots) + len(problem.classes)
    limited = [kind for kind, k in enumerate(problem.kinds) if k.available is not None]
    return {kind: first + position for position, kind in enumerate(limited)}


def _prices(problem: Problem, program: Program, deadline: float) -> tuple[Proof | None, int]:
    """Return exact prices from the duals of the linear relaxation, and the bound that they prove.

    Whatever the floating-point duals are, the exact prices made from them are feasible: prices are scaled or the
    kinds' rents raised until no column costs too much. So the bound is valid without trusting the engine.
    """
    values = duals(program, time_limit_s=max(0.01, deadline - time.monotonic()))
    if values is None:
        return None, 0
    slots = [Fraction(max(0.0, float(v))).limit_denominator(_MAX_DENOMINATOR) for v in values[: len(problem.slots)]]
    highest = [Fraction(0)] * len(problem.kinds)
    for column in problem.columns:
        highest[column.kind] = max(highest[column.kind], sum((n * slots[slot] for slot, n in column.slots), Fraction(0)))
    scale = max((h for h, k in zip(highest, problem.kinds, strict=True) if k.available is None), default=Fraction(1))
    if scale > 1:
        slots = [price / scale for price in slots]
        highest = [h / scale for h in highest]
    rents = tuple(
        Fraction(0) if kind.available is None else max(Fraction(0), h - 1) for h, kind in zip(highest, problem.kinds, strict=True)
    )
    value = sum((c.count * min(slots[slot] for slot in c.options) for c in problem.classes if c.count), Fraction(0))
    value -= sum((rent * (kind.available or 0) for rent, kind in zip(rents, problem.kinds, strict=True)), Fraction(0))
    bound = -(-value.numerator // value.denominator)
    return Proof(tuple(slots), rents), max(0, bound)


_MAX_DENOMINATOR = 5040  # prices of MIG geometries are k/8, k/7, k/4, k/3; of vGPU sizes k/32 and the like


def _least_waste(
    problem: Problem,
    program: Program,
    columns: list[int],
    pairs: Mapping[tuple[int, int], int],
    gpus: int,
    incumbent: Answer,
    deadline: float,
    seed: int,
) -> Answer:
    """Among the solutions with `gpus` GPUs find one that takes the least memory: small GPUs, small profiles."""
    program.row([(z, 1) for z in columns], high=gpus)
    program.cost = [0] * len(program.cost)
    if len(problem.kinds) > 1:
        for z, column in zip(columns, problem.columns, strict=True):
            program.cost[z] = problem.kinds[column.kind].memory_mib // _COST_UNIT_MIB * PREFERENCES
    for (_, slot), variable in pairs.items():
        program.cost[variable] = problem.slots[slot].cost
    answer = solve_program(program, deadline=deadline, seed=seed)
    if answer.values is not None:
        return answer
    assert incumbent.values is not None
    value = int(sum(cost * int(x) for cost, x in zip(program.cost, incumbent.values, strict=True)))
    return Answer(incumbent.values, value, answer.bound, infeasible=False, engine=incumbent.engine)


_COST_UNIT_MIB = 64
PREFERENCES = 16
"""Slots of equal memory are told apart by a preference from 0 to this, exclusive."""


def slot_cost(memory_mib: int, preference: int) -> int:
    """Return the cost of a slot for the last stage: its memory, then a preference from 0 to `PREFERENCES` - 1."""
    return memory_mib // _COST_UNIT_MIB * PREFERENCES + preference


def _solution(
    problem: Problem,
    answer: Answer,
    columns: list[int],
    pairs: Mapping[tuple[int, int], int],
    stages: tuple[Objective, ...],
    certificate: str,
    proof: Proof | None,
) -> Solution:
    assert answer.values is not None
    values = answer.values
    gpus = tuple((number, int(values[z])) for number, z in enumerate(columns) if values[z])
    served = {pair: int(values[variable]) for pair, variable in pairs.items() if values[variable]}
    return Solution(gpus, served, tuple(c.count for c in problem.classes), stages, certificate, proof)


# -- stage: the most by priority ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    """How many replicas of each class to place, a bound on their sum given the priorities, and one on the GPUs then."""

    counts: tuple[int, ...]
    placed_bound: int
    gpus_bound: int


def _most_by_priority(problem: Problem, deadline: float, seed: int) -> _Choice:
    """Choose the replicas to place: as many as possible of each priority from high to low, then on the fewest GPUs.

    Runs of priorities that fit whole are found by bisection, so thousands of priorities cost a logarithmic number of
    solves for each priority that does not fit.
    """
    levels = sorted({c.priority for c in problem.classes if c.count}, reverse=True)
    settled: dict[int, int] = {}  # priority to replicas placed
    bound, done = 0, 0
    while done < len(levels):
        fitting = _levels_that_fit(problem, levels, done, settled, deadline, seed)
        for level in levels[done : done + fitting]:
            settled[level] = sum(c.count for c in problem.classes if c.priority == level)
            bound += settled[level]
        done += fitting
        if done == len(levels):
            break
        level = levels[done]
        answer = _most(problem, level, settled, deadline, seed)
        if answer is None:  # out of time: nothing is known of this priority and those below it
            rest = sum(c.count for c in problem.classes if c.priority <= level)
            return _Choice(_greedy(problem).placed, bound + rest, 0)
        settled[level] = answer[0]
        bound += answer[1]
        done += 1
    return _choose(problem, settled, bound, deadline, seed)


def _levels_that_fit(
    problem: Problem, levels: list[int], done: int, settled: Mapping[int, int], deadline: float, seed: int
) -> int:
    """Return how many of the next priorities fit whole beside what is settled."""

    def fits(number: int) -> bool:
        goal = dict(settled)
        for level in levels[done : done + number]:
            goal[level] = sum(c.count for c in problem.classes if c.priority == level)
        program, _ = _placing(problem, goal, None)
        answer = solve_program(program, deadline=deadline, seed=seed)
        return answer.values is not None

    low, high = 0, len(levels) - done + 1
    while high - low > 1:
        middle = (low + high) // 2 if low else min(1, high - 1)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _most(
    problem: Problem, level: int, settled: Mapping[int, int], deadline: float, seed: int
) -> tuple[int, int] | None:
    """Return the most replicas of one priority that fit beside what is settled, and a bound on that."""
    program, _ = _placing(problem, settled, level)
    answer = solve_program(program, deadline=deadline, seed=seed)
    if answer.objective is None or answer.bound is None:
        return None
    return -answer.objective, -answer.bound


def _placing(
    problem: Problem, settled: Mapping[int, int], maximise: int | None
) -> tuple[Program, dict[tuple[int, int], int]]:
    """Return the program that serves settled numbers of each priority, and the most of one further priority."""
    program, _, pairs = _program(problem)
    program.cost = [0] * len(program.cost)
    first = len(problem.slots)
    for number, c in enumerate(problem.classes):
        program.low[first + number] = 0
        if c.priority == maximise:
            for slot in c.options:
                if c.count:
                    program.cost[pairs[number, slot]] = -1
    for level, count in settled.items():
        terms = [
            (pairs[number, slot], 1)
            for number, c in enumerate(problem.classes)
            if c.priority == level and c.count
            for slot in c.options
        ]
        program.row(terms, low=count, high=count)
    return program, pairs


def _choose(problem: Problem, settled: Mapping[int, int], bound: int, deadline: float, seed: int) -> _Choice:
    """Choose which replicas of each priority to place, their numbers being settled, so that GPUs are fewest."""
    program, pairs = _placing(problem, settled, None)
    program.cost[: len(problem.columns)] = [1] * len(problem.columns)
    answer = solve_program(program, deadline=deadline, seed=seed)
    if answer.values is None:
        return _Choice(_greedy(problem).placed, bound, 0)
    counts = [0] * len(problem.classes)
    for (number, _), variable in pairs.items():
        counts[number] += int(answer.values[variable])
    return _Choice(tuple(counts), bound, answer.bound or 0)


# -- without an engine -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Left:
    """What a greedy placing has left."""

    replicas: list[int]
    available: list[int | None]
    gpus: dict[int, int] = field(default_factory=dict)
    served: dict[tuple[int, int], int] = field(default_factory=dict)


def _greedy(problem: Problem) -> Solution:
    """Place what a simple rule places: the column that serves the most slots, as often as possible, again and again.

    Serves when the deadline leaves no time for an engine; carries no proof.
    """
    left = _Left([c.count for c in problem.classes], [kind.available for kind in problem.kinds])
    while True:
        best: tuple[tuple[int, ...], int, dict[tuple[int, int], int]] | None = None
        for number, column in enumerate(problem.columns):
            if left.available[column.kind] == 0:
                continue
            filled = _fill(problem, column, left.replicas)
            score = _score(problem, filled)
            if filled and (best is None or score > best[0]):
                best = (score, number, filled)
        if best is None:
            break
        _, number, filled = best
        _take(problem, number, filled, left)
    placed = tuple(c.count - n for c, n in zip(problem.classes, left.replicas, strict=True))
    used = sum(left.gpus.values())
    return Solution(tuple(left.gpus.items()), left.served, placed, (Objective("gpus", used, 0),), "none")


def _fill(problem: Problem, column: Column, replicas: Sequence[int]) -> dict[tuple[int, int], int]:
    """Fill the slots of one GPU, classes with high priority and few options first."""
    order = sorted(range(len(replicas)), key=lambda n: (-problem.classes[n].priority, len(problem.classes[n].options), n))
    rest = list(replicas)
    filled: dict[tuple[int, int], int] = {}
    for slot, count in column.slots:
        for number in order:
            if count and rest[number] and slot in problem.classes[number].options:
                taken = min(count, rest[number])
                filled[number, slot] = filled.get((number, slot), 0) + taken
                rest[number] -= taken
                count -= taken
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
    for (c, _), count in filled.items():
        per_class[c] = per_class.get(c, 0) + count
    times = min(left.replicas[c] // count for c, count in per_class.items())
    available = left.available[kind]
    if available is not None:
        times = min(times, available)
        left.available[kind] = available - times
    for pair, count in filled.items():
        left.served[pair] = left.served.get(pair, 0) + times * count
    for c, count in per_class.items():
        left.replicas[c] -= times * count
    left.gpus[number] = left.gpus.get(number, 0) + times
