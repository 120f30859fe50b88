"""Plans that name every site: one program over all of them, for what is left when contents do not settle it.

Also the only way to a plan that survives the loss of a host, since spare room on one host is for the others. Exact, but its
size grows with the sites. This module must not know engines.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from partitioner.solver.arrangement import Arrangement, Filled, Move, Named, stage_costs
from partitioner.solver.integer import Answer, solve
from partitioner.solver.located import (
    Contents,
    Group,
    Located,
    Taken,
    Terms,
    equal_rows,
    linked_rows,
    locate,
    profile_of,
    rule_rows,
    slot_rows,
)
from partitioner.solver.problem import Objective, Problem
from partitioner.solver.sites import Site
from partitioner.solver.stages import instance_cost, least

Values = npt.NDArray[np.int64]
CERTIFICATE = "branch and bound, sites by identity"


@dataclass
class _Whole:
    """The program over all sites, each by itself.

    Parameters
    ----------
    located : columns and instances.
    copies : for each site of the program the row in the sites planned for, and which of those alike it is.
    left_out : variable that counts the replicas left out of each class.
    used : variable that is 1 where a site is used.
    peak : variable that is the most GPUs in use on one site; None where nobody asks.
    spare : (unit, slot, profile) to the variable that counts instances cut and free.
    moves : (failed site, class, unit, slot) to the variable that counts instances moved there.
    groups : (failed site, group) to the variable that counts replicas moved to linked GPUs.
    """

    located: Located
    copies: list[Named]
    left_out: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    peak: int | None = None
    spare: dict[tuple[int, int, str], int] = field(default_factory=dict)
    moves: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    groups: dict[tuple[int, Group], int] = field(default_factory=dict)


def size_of(problem: Problem, sites: Sequence[Site], *, single: bool) -> int:
    """Return about how many variables the program over all sites has."""
    options = [0] * len(problem.kinds)
    for c in problem.classes:
        for slot in c.options:
            options[problem.slots[slot].kind] += 1
    columns = [0] * len(problem.kinds)
    for column in problem.columns:
        columns[column.kind] += 1
    total = 0
    for site in sites:
        kinds = [kind for kind, _ in (site.gpus if single else dict.fromkeys(site.gpus))]
        total += (site.count or sum(c.goal for c in problem.classes)) * sum(options[kind] + columns[kind] for kind in kinds)
    return total


def by_identity(
    problem: Problem,
    sites: Sequence[Site],
    objective: Sequence[str],
    *,
    single: bool,
    host_failures: int,
    copies: Sequence[int],
    deadline: float,
    seed: int,
) -> Arrangement | None:
    """Place the most by priority, then the best in each further stage, every site by itself.

    Parameters
    ----------
    problem : what is wanted and what there is.
    sites : the sites.
    objective : stages, ``placed`` first.
    single : whether single GPUs have to be told apart.
    host_failures : hosts whose loss the layout survives, 0 or 1.
    copies : how many of each site to name, where there are as many as needed.
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines.

    Returns
    -------
    The best arrangement found, with bounds; None where none was found in time.
    """
    named = [(row, copy) for row, site in enumerate(sites) for copy in range(site.count or copies[row])]
    located = locate(problem, [sites[row] for row, _ in named], single=single)
    whole = _Whole(located, named)
    _demand_rows(whole)
    _order_rows(whole)
    if "spread" in objective:
        _peak(whole)
    if "hosts" in objective:
        _count_sites(whole)
    if host_failures and not _failure_rows(whole, deadline):
        return None
    found = _placed(whole, objective[1], deadline, seed)
    if found is None:
        return None
    placed, answer = found
    done = [placed]
    for position, name in enumerate(objective[1:]):
        located.program.cost = _costs(whole, name)
        if position or answer is None:
            answer = _improve(whole, answer, deadline, seed)
        if answer is None or answer.objective is None:
            return None
        bound = answer.bound if answer.bound is not None else least(name)
        done.append(Objective(name, answer.objective, min(bound, answer.objective)))
        located.program.row([(v, c) for v, c in enumerate(located.program.cost) if c], high=answer.objective)
    assert answer is not None
    return _arranged(whole, answer, done)


def _improve(whole: _Whole, incumbent: Answer | None, deadline: float, seed: int) -> Answer | None:
    """Solve for a stage; where time is short the solution known before is valued anew."""
    program = whole.located.program
    share = time.monotonic() + 0.7 * max(0.0, deadline - time.monotonic())
    answer = solve(program, deadline=share, seed=seed)
    if answer.values is not None or incumbent is None or incumbent.values is None:
        return answer if answer.values is not None else None
    value = sum(cost * int(x) for cost, x in zip(program.cost, incumbent.values, strict=True))
    return replace(incumbent, objective=value, bound=answer.bound)


def _demand_rows(whole: _Whole) -> None:
    """Every class has what it wants, but for what is left out; of replicas no more."""
    located = whole.located
    amounts: dict[int, Terms] = {}
    for (number, _, slot), variable in located.taken.items():
        amounts.setdefault(number, []).append((variable, located.problem.classes[number].gain(slot)))
    for number, c in enumerate(located.problem.classes):
        variable = located.program.variable(c.count)
        whole.left_out.append(variable)
        terms = [*amounts.get(number, ()), (variable, c.each)]
        located.program.row(terms, low=c.goal, high=np.inf if c.yields else c.goal)
        if c.yields and c.count:  # one that is left out has no instance
            most = sum(located.program.upper[v] for v, _ in amounts.get(number, ()))
            located.program.row([*((v, 1) for v, _ in amounts.get(number, ())), (variable, most)], high=most)


def _order_rows(whole: _Whole) -> None:
    """Of sites that are alike the first use the most GPUs; otherwise equal plans would be tried again and again."""
    located = whole.located
    used = [
        [(located.columns[key], 1) for unit in units for key in _columns_at(located, unit)] for units in located.units_of_site
    ]
    for number in range(1, len(whole.copies)):
        if whole.copies[number][0] == whole.copies[number - 1][0]:
            fewer = [(variable, -1) for variable, _ in used[number]]
            located.program.row([*used[number - 1], *fewer], low=0)


def _columns_at(located: Located, unit: int) -> list[tuple[int, int]]:
    return [(unit, column) for column, _ in located.problem.columns_of_kind.get(located.units[unit].kind, ())]


def _peak(whole: _Whole) -> None:
    located = whole.located
    whole.peak = located.program.variable(max(len(site.gpus) for site in located.sites))
    for units in located.units_of_site:
        gpus = [
            (located.columns[key], 1)
            for unit in units
            if not located.problem.kinds[located.units[unit].kind].kept
            for key in _columns_at(located, unit)
        ]
        located.program.row([*gpus, (whole.peak, -1)], high=-located.sites[located.units[units[0]].site].in_use)


def _count_sites(whole: _Whole) -> None:
    located = whole.located
    for units, site in zip(located.units_of_site, located.sites, strict=True):
        used = located.program.variable(1)
        whole.used.append(used)
        gpus = [(located.columns[key], 1) for unit in units for key in _columns_at(located, unit)]
        located.program.row([*gpus, (used, -len(site.gpus))], high=0)


def _costs(whole: _Whole, stage: str) -> list[int]:
    cost = stage_costs(whole.located, stage)
    if stage == "hosts":
        for variable, site in zip(whole.used, whole.located.sites, strict=True):
            cost[variable] = int(not site.in_use)
    if stage == "spread" and whole.peak is not None:
        cost[whole.peak] = 1
    for (_, slot, _), variable in whole.spare.items():
        cost[variable] = instance_cost(whole.located.problem, stage, slot)
    return cost


# -- what is left out --------------------------------------------------------------------------------------------------


def _placed(whole: _Whole, first: str, deadline: float, seed: int) -> tuple[Objective, Answer | None] | None:
    """Settle what is left out; return the stage, and the first further stage's answer where everything fits at once."""
    program, classes = whole.located.program, whole.located.problem.classes
    total = sum(c.count for c in classes)
    upper = list(program.upper)
    for variable in whole.left_out:
        program.upper[variable] = 0
    program.cost = _costs(whole, first)
    share = time.monotonic() + 0.5 * max(0.0, deadline - time.monotonic())
    answer = solve(program, deadline=share, seed=seed)
    if answer.values is not None:
        return Objective("placed", total, total), answer
    program.upper[:] = upper
    value = bound = 0
    incumbent: Answer | None = None
    for level in sorted({c.priority for c in classes if c.count}, reverse=True):
        program.cost = [0] * len(program.cost)
        terms = [(v, 1) for v, c in zip(whole.left_out, classes, strict=True) if c.priority == level]
        for variable, _ in terms:
            program.cost[variable] = 1
        found = _improve(whole, incumbent, deadline, seed)
        if found is None or found.objective is None:
            return None
        incumbent = found
        wanted = sum(c.count for c in classes if c.priority == level)
        value += wanted - found.objective
        bound += wanted - max(0, found.bound or 0)
        program.row(terms, high=found.objective)
    program.cost = _costs(whole, first)
    return Objective("placed", value, bound), _improve(whole, incumbent, deadline, seed)


# -- the loss of a host ------------------------------------------------------------------------------------------------


def _failure_rows(whole: _Whole, deadline: float) -> bool:
    """Whatever site fails, what it held fits into instances cut and free elsewhere; whether time was left to say so."""
    located = whole.located
    program, classes = located.program, located.problem.classes
    for number, unit, slot in located.taken:
        key = (unit, slot, classes[number].profile(slot))
        if key not in whole.spare:
            whole.spare[key] = program.variable(located.room([unit]))
    held = {key: [(variable, 1)] for key, variable in located.taken.items()}
    slot_rows(located, {**held, **{(-1 - n, u, s): [(v, 1)] for n, ((u, s, _), v) in enumerate(whole.spare.items())}})
    for failed in range(len(located.sites)):
        if time.monotonic() > deadline:
            return False
        amounts: dict[Taken, Terms] = {}
        free: dict[tuple[int, int, str], Terms] = {}
        moved_of: list[dict[tuple[int, int], int]] = [{} for _ in classes]
        for (number, unit, slot), terms in held.items():
            if located.units[unit].site != failed:
                moved = program.variable(program.upper[terms[0][0]])
                whole.moves[failed, number, unit, slot] = moved_of[number][unit, slot] = moved
                amounts[number, unit, slot] = [*terms, (moved, 1)]
                free.setdefault((unit, slot, classes[number].profile(slot)), []).append((moved, 1))
        for key, terms in free.items():
            program.row([*terms, (whole.spare[key], -1)], high=0)
        _survivors(whole, amounts)
        _no_more_than_lost(whole, failed, moved_of)
        others = [site for site in range(len(located.sites)) if site != failed]
        rule_rows(located, amounts, others, together=False)
        for number, c in enumerate(classes):
            if c.count and c.linked:
                whole.groups |= {(failed, g): v for g, v in linked_rows(located, number, moved_of[number], others).items()}
            elif c.count and c.size > 1:
                equal_rows(located, number, moved_of[number], others)
    return True


def _no_more_than_lost(whole: _Whole, failed: int, moved_of: Sequence[Mapping[tuple[int, int], int]]) -> None:
    """Require of services that not more instances start elsewhere than were lost."""
    located = whole.located
    for number, c in enumerate(located.problem.classes):
        if c.yields and c.count:
            moved = [(variable, 1) for variable in moved_of[number].values()]
            units = located.units_of_site[failed]
            lost = [(located.taken[number, unit, slot], -1) for unit in units for slot in located.slots_of[number, unit]]
            located.program.row([*moved, *lost], high=0)


def _survivors(whole: _Whole, amounts: Mapping[Taken, Terms]) -> None:
    """Require that what runs after a failure is all that was placed."""
    located = whole.located
    running: list[Terms] = [[] for _ in located.problem.classes]
    for (number, _, slot), terms in amounts.items():
        gain = located.problem.classes[number].gain(slot)
        running[number].extend((variable, n * gain) for variable, n in terms)
    for c, terms, left_out in zip(located.problem.classes, running, whole.left_out, strict=True):
        high = np.inf if c.yields else c.goal
        located.program.row([*terms, (left_out, c.each)], low=c.goal, high=high)


# -- the answer --------------------------------------------------------------------------------------------------------


def _arranged(whole: _Whole, answer: Answer, done: Sequence[Objective]) -> Arrangement:
    assert answer.values is not None
    located, values = whole.located, answer.values
    contents = located.read(answer.values)
    first = [units[0] if units else 0 for units in located.units_of_site]
    filled = []
    for site, (row, copy) in enumerate(whole.copies):
        mine = set(located.units_of_site[site])
        here = Contents(
            {(unit - first[site], column): n for (unit, column), n in contents.columns.items() if unit in mine},
            {(number, unit - first[site], slot): n for (number, unit, slot), n in contents.taken.items() if unit in mine},
            {
                (number, tuple((unit - first[site], slot) for unit, slot in places)): n
                for (number, places), n in contents.groups.items()
                if places[0][0] in mine
            },
        )
        needed = _needed(whole, values, mine)
        spare = tuple((unit - first[site], slot, profile, n) for (unit, slot, profile), n in needed.items())
        if here.columns:
            filled.append(Filled(row, copy, here, spare))
    moves = tuple(_moves(whole, values, first))
    classes = located.problem.classes
    placed = tuple(c.count - int(values[variable]) for c, variable in zip(classes, whole.left_out, strict=True))
    return Arrangement(tuple(filled), placed, tuple(done), CERTIFICATE, moves)


def _moves(whole: _Whole, values: Values, first: Sequence[int]) -> Iterator[Move]:
    """Say where every replica goes when its site fails."""
    located = whole.located
    classes = located.problem.classes

    def named(unit: int, slot: int) -> tuple[Named, int, int]:
        site = located.units[unit].site
        return whole.copies[site], unit - first[site], slot

    for (failed, (number, places)), variable in whole.groups.items():
        if values[variable]:
            yield Move(whole.copies[failed], number, tuple(named(*place) for place in places), int(values[variable]))
    jobs: dict[tuple[int, int, int, tuple[str, str, str]], list[tuple[Named, int, int]]] = {}
    for (failed, number, unit, slot), variable in whole.moves.items():
        count = int(values[variable])
        if not count or classes[number].linked:
            continue
        if classes[number].size == 1:
            yield Move(whole.copies[failed], number, (named(unit, slot),), count)
        else:
            key = (failed, number, located.units[unit].site, profile_of(located.problem, number, slot))
            jobs.setdefault(key, []).extend([named(unit, slot)] * count)
    for (failed, number, *_), all_places in jobs.items():
        size = classes[number].size
        for start in range(0, len(all_places), size):
            yield Move(whole.copies[failed], number, tuple(all_places[start : start + size]), 1)


def _needed(whole: _Whole, values: Values, units: set[int]) -> dict[tuple[int, int, str], int]:
    """Return how many instances of each kind some failure really needs free."""
    return {key: int(values[variable]) for key, variable in whole.spare.items() if key[0] in units and values[variable]}
