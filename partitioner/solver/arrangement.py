"""What stands on which sites: the common answer of the ways to plan with hosts or single GPUs told apart.

Values and what every such way needs: costs of contents, and how many replicas they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from partitioner.solver.located import Contents, Located
from partitioner.solver.problem import Objective, Problem
from partitioner.solver.sites import Site
from partitioner.solver.stages import FOR_NOTHING, column_cost, instance_cost, least

Named = tuple[int, int]
"""Row of a site in the sites planned for, and which of those alike it is."""


@dataclass(frozen=True, slots=True)
class Move:
    """Where replicas of a class go when a site fails.

    Parameters
    ----------
    failed : the site.
    number : the class.
    places : site, unit and slot of each slot that one replica takes.
    count : so many replicas go there.
    """

    failed: Named
    number: int
    places: tuple[tuple[Named, int, int], ...]
    count: int


@dataclass(frozen=True, slots=True)
class Filled:
    """A site with its contents.

    Parameters
    ----------
    site : row in the sites planned for.
    copy : which of the sites that are alike.
    contents : what stands there; units are those of the site alone.
    spare : (unit, slot, profile) to instances that are cut and stay free.
    """

    site: int
    copy: int
    contents: Contents
    spare: tuple[tuple[int, int, str, int], ...] = ()


@dataclass(frozen=True)
class Arrangement:
    """Contents of all sites that are used.

    Parameters
    ----------
    filled : the sites.
    placed : replicas placed of each class, of a service 1 or 0, shape ``(n_classes,)``.
    objectives : the stages; what is maximised counts as less than nothing.
    certificate : what proves the bound of the first stage after ``placed``.
    moves : where replicas go when a site fails.
    """

    filled: tuple[Filled, ...]
    placed: tuple[int, ...]
    objectives: tuple[Objective, ...]
    certificate: str
    moves: tuple[Move, ...] = ()


def unproven(problem: Problem, objective: Sequence[str], placed: int) -> tuple[Objective, ...]:
    """Return the stages of an arrangement of which only the replicas placed are known; `trimmed` says what they cost."""
    wanted = sum(c.count for c in problem.classes)
    return tuple(Objective(name, placed, wanted) if name == "placed" else Objective(name, 0, least(name)) for name in objective)


def stage_costs(located: Located, stage: str) -> list[int]:
    """Return the cost of every variable of a program in a stage; hosts are counted by the caller."""
    cost = [0] * len(located.program.upper)
    columns = located.problem.columns
    for (_, column), variable in located.columns.items():
        cost[variable] = column_cost(located.problem, stage, columns[column])
    for (_, _, slot), variable in located.taken.items():
        cost[variable] = instance_cost(located.problem, stage, slot)
    for (number, _, _), variable in located.kept.items() if stage in ("moves", FOR_NOTHING) else ():
        cost[variable] = -_kept_price(located.problem, number, stage)
    return cost


def _kept_price(problem: Problem, number: int, stage: str) -> int:
    """Return what an instance of a class saves by staying."""
    price = problem.classes[number].move_price
    return int(not price) if stage == FOR_NOTHING else price


def cost_of(problem: Problem, site: Site, filled: Filled, stage: str) -> int:
    """Return what one site costs in a stage. A site with existing instances is in use anyway."""
    contents = filled.contents
    if stage == "hosts":
        return int(bool(contents.columns) and not site.in_use)
    if stage in ("moves", FOR_NOTHING):
        return -sum(n * _kept_price(problem, number, stage) for (number, _, _), n in contents.kept(problem).items())
    cost = sum(count * column_cost(problem, stage, problem.columns[column]) for (_, column), count in contents.columns.items())
    cost += sum(count * instance_cost(problem, stage, slot) for _, slot, _, count in filled.spare)
    return cost + sum(count * instance_cost(problem, stage, slot) for (_, _, slot), count in contents.taken.items())


def gains_of(problem: Problem, contents: Contents) -> tuple[int, ...]:
    """Return what the contents of a site add to the goal of each class, shape ``(n_classes,)``."""
    gains = [0] * len(problem.classes)
    for (number, _, slot), count in contents.taken.items():
        gains[number] += count * problem.classes[number].gain(slot)
    return tuple(gains)


def placed_of(problem: Problem, gains: Sequence[int]) -> tuple[int, ...]:
    """Return the replicas placed of each class from what their instances add up to; of a service 1 or 0."""
    return tuple(
        (int(gain >= c.goal) if c.count else 0) if c.yields else min(c.count, gain // c.size)
        for c, gain in zip(problem.classes, gains, strict=True)
    )


def trimmed(problem: Problem, sites: Sequence[Site], found: Arrangement, objective: Sequence[str], *, spare: bool) -> Arrangement:
    """Drop instances beyond what is wanted, but where hosts may fail, and empty GPUs; say anew what every stage costs."""
    surplus = [0] * len(problem.classes)
    for entry in found.filled:
        for (number, _, slot), count in entry.contents.taken.items():
            surplus[number] += count * problem.classes[number].gain(slot)
    surplus = [have - c.each * n for have, c, n in zip(surplus, problem.classes, found.placed, strict=True)]
    if spare:
        surplus = [0] * len(surplus)
    filled = []
    for entry in reversed(found.filled):
        leaner = _without(problem, entry, surplus)
        if leaner.contents.columns:
            filled.append(leaner)
    filled.reverse()
    known = {stage.name: stage for stage in found.objectives}
    stages = []
    for name in objective:
        if name == "placed":
            stages.append(known[name])
        elif name == "spread":
            mean = _spread(sites, filled, problem)
            bound = max(mean.bound, known[name].bound) if name in known else mean.bound
            stages.append(replace(mean, bound=min(mean.value, bound)))
        else:
            value = sum(cost_of(problem, sites[entry.site], entry, name) for entry in filled)
            stages.append(Objective(name, value, min(value, known[name].bound)))
    return replace(found, filled=tuple(filled), objectives=tuple(stages))


def _spread(sites: Sequence[Site], filled: Sequence[Filled], problem: Problem) -> Objective:
    """Return the most GPUs in use on one host; the bound is the mean."""
    used = [sites[entry.site].in_use + _newly_used(problem, entry.contents) for entry in filled]
    idle = [site.in_use for site in sites]
    hosts = sum(site.count or len(filled) for site in sites)
    mean = -(-sum(used) // hosts) if hosts else 0
    return Objective("spread", max([0, *used, *idle]), max([mean, *idle]))


def _newly_used(problem: Problem, contents: Contents) -> int:
    return sum(n for (_, column), n in contents.columns.items() if not problem.kinds[problem.columns[column].kind].kept)


def _without(problem: Problem, filled: Filled, surplus: list[int]) -> Filled:
    """Drop surplus instances from the contents of a site, and GPUs that no instance needs any more."""
    contents = filled.contents
    taken = dict(contents.taken)
    for number, unit, slot in taken if any(surplus) else ():
        c = problem.classes[number]
        if number in problem.wanted_beside or c.linked or c.size > 1:
            continue
        drop = min(taken[number, unit, slot], max(0, surplus[number]) // c.gain(slot))
        taken[number, unit, slot] -= drop
        surplus[number] -= drop * c.gain(slot)
    free: dict[tuple[int, int], int] = {}
    for (unit, column), count in contents.columns.items():
        for slot, n in problem.columns[column].slots:
            free[unit, slot] = free.get((unit, slot), 0) + n * count
    for (_, unit, slot), count in taken.items():
        free[unit, slot] -= count
    for unit, slot, _, count in filled.spare:
        free[unit, slot] -= count
    columns = dict(contents.columns)
    for unit, column in contents.columns:
        slots = problem.columns[column].slots
        if problem.kinds[problem.columns[column].kind].kept or problem.columns[column].pinned:
            continue  # in use whether or not a replica comes to it
        idle = min(columns[unit, column], *(free[unit, slot] // n for slot, n in slots))
        columns[unit, column] -= idle
        for slot, n in slots:
            free[unit, slot] -= n * idle
    leaner = Contents({key: n for key, n in columns.items() if n}, {key: n for key, n in taken.items() if n}, contents.groups)
    return replace(filled, contents=leaner)
