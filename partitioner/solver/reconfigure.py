"""The best reconfiguration of what runs now, stage after stage, each with its bound.

Stages before ``moves`` do not depend on what runs now, as long as nothing is pinned: the aggregate problem settles them, often
in closed form. Then one program over groups of GPUs that can become the same. This module must not know names of workloads,
hosts or placements.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from partitioner.solver import aggregate
from partitioner.solver.integer import Answer, solve
from partitioner.solver.problem import Objective, Problem, Proof, Solution
from partitioner.solver.regrouped import Group, Regrouped, Values, regroup
from partitioner.solver.stages import FOR_NOTHING, MAXIMISED, column_cost, instance_cost, least

_GAP = 1e-3  # with services the last stage has no natural end


@dataclass(frozen=True)
class Reconfigured:
    """How many GPUs of each group become what, and how many instances of each class stay.

    Parameters
    ----------
    groups : the groups.
    gpus : for each group (column, number of GPUs) pairs.
    served : (class, slot) to number of instances.
    placed : replicas placed of each class, of a service 1 or 0; shape ``(n_classes,)``.
    objectives : the stages in their order.
    certificate : what proves the bound of the first stage after ``placed``.
    proof : exact prices behind the certificate, where it rests on prices.
    """

    groups: Sequence[Group]
    gpus: tuple[tuple[tuple[int, int], ...], ...]
    served: Mapping[tuple[int, int], int]
    placed: tuple[int, ...]
    objectives: tuple[Objective, ...]
    certificate: str
    proof: Proof | None = None

    @property
    def solution(self) -> Solution:
        """The same without groups, for explanations."""
        return Solution((), self.served, self.placed, self.objectives, self.certificate, self.proof)


def reconfigure(
    problem: Problem,
    groups: Sequence[Group],
    now: Mapping[int, int],
    objective: Sequence[str],
    *,
    complete: bool,
    deadline: float,
    seed: int,
) -> Reconfigured:
    """Place the most by priority, then the best in each further stage, ``moves`` among them.

    Parameters
    ----------
    problem : what is wanted and what there is.
    groups : GPUs that can become the same.
    now : instances of each class that run now.
    objective : stages, ``placed`` first.
    complete : whether the groups' columns are all there are; else what is not known of moves is bounded by 0.
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines.
    """
    search = _Search(problem, groups, now, tuple(objective), complete, deadline, seed)
    return search.without_pins() if not any(group.held for group in groups) else search.with_pins()


@dataclass
class _Search:
    """One problem; parameters as of `reconfigure`."""

    problem: Problem
    groups: Sequence[Group]
    now: Mapping[int, int]
    objective: tuple[str, ...]
    complete: bool
    deadline: float
    seed: int

    # -- nothing is pinned -----------------------------------------------------------------------------------------

    def without_pins(self) -> Reconfigured:
        """Settle what does not depend on what runs now first."""
        stages = self.objective[1:]
        before = stages[: stages.index("moves")]
        begun = time.monotonic()
        share = begun + 0.5 * max(0.0, self.deadline - begun)
        prior = aggregate.solve(self.problem, objective=("placed", *(before or ("gpus",))), deadline=share, seed=self.seed)
        wanted = tuple(c.count for c in self.problem.classes)
        form = regroup(self.problem, self.groups, self.now, everything=prior.placed == wanted)
        if prior.placed != wanted:
            self._settle_levels(form, prior.placed)
        done = [*prior.objectives[:1]]
        for stage in prior.objectives[1:] if before else ():
            cost = form.costs(stage.name)
            value = -stage.value if stage.name in MAXIMISED else stage.value
            form.program.row([(v, c) for v, c in enumerate(cost) if c], high=value)
            done.append(stage)
        start = _start(form, prior)
        rest = stages[len(before) :]
        values, more, engine = self._stages(form, rest, done, start)
        if not before:
            return self._found(form, values, [*done, *more], f"{aggregate.BRANCH_AND_BOUND} ({engine})", None)
        if prior.placed != wanted:  # its prices are of another choice of what to leave out
            return self._found(form, values, [*done, *more], f"{aggregate.BRANCH_AND_BOUND} over what to leave out", None)
        return self._found(form, values, [*done, *more], prior.certificate, prior.proof)

    def _settle_levels(self, form: Regrouped, placed: Sequence[int]) -> None:
        """Place as many of each priority as was found possible."""
        for level in sorted({c.priority for c in self.problem.classes if c.count}, reverse=True):
            count = sum(n for n, c in zip(placed, self.problem.classes, strict=True) if c.priority == level)
            mine = [(variable, 1) for variable, number in form.units if self.problem.classes[number].priority == level]
            form.program.row(mine, low=count, high=count)

    # -- something is pinned ---------------------------------------------------------------------------------------

    def with_pins(self) -> Reconfigured:
        """Settle every stage over the groups."""
        wanted = sum(c.count for c in self.problem.classes)
        form = regroup(self.problem, self.groups, self.now, everything=True)
        stages = self.objective[1:]
        form.program.cost = form.costs(stages[0])
        share = time.monotonic() + 0.5 * max(0.0, self.deadline - time.monotonic())
        first = solve(form.program, deadline=share, seed=self.seed)
        if first.values is not None:
            done = [Objective("placed", wanted, wanted)]
            values, more, engine = self._stages(form, stages, done, first.values)
        else:
            form = regroup(self.problem, self.groups, self.now, everything=False)
            placed, start = self._most(form)
            done = [placed]
            values, more, engine = self._stages(form, stages, done, start)
        return self._found(form, values, [*done, *more], f"{aggregate.BRANCH_AND_BOUND} ({engine})", None)

    def _most(self, form: Regrouped) -> tuple[Objective, Values]:
        """Place the most of each priority, from the highest on."""
        values: Values = _as_now(form)
        placed = bound = 0
        for level in sorted({c.priority for c in self.problem.classes if c.count}, reverse=True):
            mine = [variable for variable, number in form.units if self.problem.classes[number].priority == level]
            form.program.cost = [0] * len(form.program.upper)
            for variable in mine:
                form.program.cost[variable] = -1
            share = time.monotonic() + 0.5 * max(0.0, self.deadline - time.monotonic())
            answer = solve(form.program, deadline=share, seed=self.seed, known=values)
            values = answer.values if answer.values is not None else values
            count = sum(int(values[variable]) for variable in mine)
            every = sum(c.count for c in self.problem.classes if c.priority == level)
            form.program.row([(variable, 1) for variable in mine], low=count, high=count)
            placed += count
            bound += every if answer.bound is None else min(every, -answer.bound)
        return Objective("placed", placed, max(placed, bound)), values

    # -- stages ----------------------------------------------------------------------------------------------------

    def _stages(
        self, form: Regrouped, stages: Sequence[str], done: Sequence[Objective], start: Values
    ) -> tuple[Values, list[Objective], str]:
        """Minimise one stage after another; return the solution, the stages, and the engine of the first."""
        values, first_engine = start, ""
        found: list[Objective] = []
        for position, stage in enumerate(stages):
            cost = form.costs(stage)
            form.program.cost = cost
            lowest = self._floor(stage, [*done, *found])
            known = _value(cost, values)
            answer = Answer(values, known, None, infeasible=False, engine="CP_SAT")
            if lowest is None or known > lowest:
                left = max(0.0, self.deadline - time.monotonic())
                share = 1.0 if position == len(stages) - 1 else 0.6
                endless = stage == "waste" and any(c.yields and c.count for c in self.problem.classes)
                gap = _GAP if endless else 0.0
                answer = solve(form.program, deadline=time.monotonic() + share * left, seed=self.seed, gap=gap, known=values)
            if answer.values is not None and answer.objective is not None and answer.objective <= known:
                values, known = answer.values, answer.objective
            engine = aggregate.ENGINE_NAMES.get(answer.engine, "no proof in time")
            bound = max(b for b in (answer.bound, lowest, self._least(form, stage)) if b is not None)
            first_engine = first_engine or engine
            form.program.row([(v, c) for v, c in enumerate(cost) if c], high=known)
            found.append(self._as_asked(form, stage, known, min(bound, known)))
        form.program.cost = form.costs(FOR_NOTHING)
        if any(form.program.cost):
            answer = solve(form.program, deadline=self.deadline, seed=self.seed, known=values)
            better = answer.objective is not None and answer.objective < _value(form.program.cost, values)
            values = answer.values if answer.values is not None and better else values
        return values, found, first_engine

    def _least(self, form: Regrouped, stage: str) -> int:
        return -form.standing if stage == "moves" else least(stage)

    def _as_asked(self, form: Regrouped, stage: str, value: int, bound: int) -> Objective:
        if stage == "moves":
            value, bound = value + form.standing, bound + form.standing
            return Objective(stage, value, bound if self.complete else 0)
        return Objective(stage, -value, -bound) if stage in MAXIMISED else Objective(stage, value, bound)

    def _floor(self, stage: str, done: Sequence[Objective]) -> int | None:
        """Return a bound on a stage that needs no solve; where it is met, nothing is left to decide."""
        gpus = next((s.bound for s in done if s.name == "gpus"), 0)
        if stage in ("moves", "headroom") or done[0].value < sum(c.count for c in self.problem.classes):
            return None
        columns = [column_cost(self.problem, stage, r.column) for group in self.groups for r in group.columns]
        total = gpus * min(columns, default=0)
        for c in self.problem.classes:
            if c.count:
                total += min(instance_cost(self.problem, stage, s) * -(-c.goal // c.gain(s)) for s in c.options)
        return total

    def _found(
        self, form: Regrouped, values: Values, stages: Sequence[Objective], certificate: str, proof: Proof | None
    ) -> Reconfigured:
        gpus = tuple(
            tuple((n, int(values[first + n])) for n in range(len(group.columns)) if values[first + n])
            for first, group in zip(form.columns, self.groups, strict=True)
        )
        served = {pair: int(values[variable]) for pair, variable in form.pairs.items() if values[variable]}
        gains = [0] * len(self.problem.classes)
        for (number, slot), count in served.items():
            gains[number] += count * self.problem.classes[number].gain(slot)
        placed = tuple(
            int(n >= c.need) if c.yields and c.count else n // c.size if not c.yields else 0
            for n, c in zip(gains, self.problem.classes, strict=True)
        )
        return Reconfigured(self.groups, gpus, served, placed, tuple(stages), certificate, proof)


def _value(cost: Sequence[int], values: Values) -> int:
    return int(np.array(cost, dtype=np.int64) @ values)


# -- a first solution --------------------------------------------------------------------------------------------------


def _start(form: Regrouped, prior: Solution) -> Values:
    """Return the values of a solution of the aggregate problem: GPUs that can keep the most become what it says."""
    values = np.zeros(len(form.program.upper), dtype=np.int64)
    problem = form.problem
    left = [len(group) for group in form.groups]
    wanted = dict(prior.gpus)
    pairs = [
        (kept, at, column, number)
        for number in wanted
        for at, group in enumerate(form.groups)
        if group.columns and group.columns[0].column.kind == problem.columns[number].kind
        for kept, column in _covering(group, dict(problem.columns[number].slots))
    ]
    for _, at, column, number in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        take = min(wanted[number], left[at])
        values[form.columns[at] + column] += take
        left[at] -= take
        wanted[number] -= take
    for pair, count in prior.served.items():
        values[form.pairs[pair]] = count
    return _with_kept(form, values)


def _covering(group: Group, slots: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Iterate over how much is kept by, and the number of, the column of a group that offers some slots and keeps the most."""
    best: tuple[int, int] | None = None
    for number, reshaped in enumerate(group.columns):
        offered = dict(reshaped.column.slots)
        if all(offered.get(slot, 0) >= n for slot, n in slots.items()):
            kept = sum(n for _, n in reshaped.kept)
            if best is None or kept > best[0]:
                best = kept, number
    if best is not None:
        yield best


def _with_kept(form: Regrouped, values: Values) -> Values:
    """Count what stays: as much as the GPUs keep and the classes take."""
    there: dict[tuple[int, int], int] = {}
    for first, group in zip(form.columns, form.groups, strict=True):
        for number, reshaped in enumerate(group.columns):
            for place, count in reshaped.kept if values[first + number] else ():
                there[place] = there.get(place, 0) + count * int(values[first + number])
    for place, variable in form.kept.items():
        values[variable] = min(there.get(place, 0), int(values[form.pairs[place]]))
    for variable, number in form.units:
        c = form.problem.classes[number]
        if c.yields:
            values[variable] = int(any(values[form.pairs[number, slot]] for slot in c.options))
    return values


def _as_now(form: Regrouped) -> Values:
    """Return the values of leaving everything where it is, and placing nobody else; services that are served in part stop."""
    values = np.zeros(len(form.program.upper), dtype=np.int64)
    for first, group in zip(form.columns, form.groups, strict=True):
        best = max(range(len(group.columns)), key=lambda number: sum(n for _, n in group.columns[number].kept), default=None)
        if best is None or not (group.held or group.columns[best].kept):
            continue
        values[first + best] = len(group)
        for place, count in group.columns[best].kept:
            values[form.pairs[place]] += count * len(group)
    for number, c in enumerate(form.problem.classes):
        mine = [(form.pairs[number, slot], c.gain(slot)) for slot in c.options if c.count]
        if c.yields and sum(int(values[variable]) * gain for variable, gain in mine) < c.goal:
            for variable, _ in mine:
                values[variable] = 0
    return _with_kept(form, values)
