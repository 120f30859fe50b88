"""What stands on which sites: the common answer of the ways to plan with hosts or single GPUs told apart.

Values and what every such way needs: costs of contents, and how many replicas they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partitioner.solver.located import Contents, Located
from partitioner.solver.problem import Objective, Problem
from partitioner.solver.sites import Site
from partitioner.solver.stages import column_cost, instance_cost

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


def stage_costs(located: Located, stage: str) -> list[int]:
    """Return the cost of every variable of a program in a stage; hosts are counted by the caller."""
    cost = [0] * len(located.program.upper)
    columns = located.problem.columns
    for (_, column), variable in located.columns.items():
        cost[variable] = column_cost(located.problem, stage, columns[column])
    for (_, _, slot), variable in located.taken.items():
        cost[variable] = instance_cost(located.problem, stage, slot)
    return cost


def cost_of(problem: Problem, site: Site, filled: Filled, stage: str) -> int:
    """Return what one site costs in a stage. A site with existing instances is in use anyway."""
    contents = filled.contents
    if stage == "hosts":
        return int(bool(contents.columns) and not site.in_use)
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
