"""Plans that survive the loss of a host by keeping one host of each kind in reserve: quick, where naming all takes too long.

The reserve is cut and stays free; what any other host of its kind holds is kept within what the reserve is cut into, so
that all of it fits there, and limits and rules within a host hold in the reserve as they held before. No proof beyond the
bound of counting; where hosts are few, or single GPUs have rules, sites by identity do better.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from partitioner.solver.arrangement import Arrangement, Filled, Move, Named, trimmed, unproven
from partitioner.solver.contents import by_contents
from partitioner.solver.integer import solve
from partitioner.solver.located import Contents, locate, profile_of
from partitioner.solver.problem import Problem
from partitioner.solver.sites import Site

CERTIFICATE = "contents (column generation), a host in reserve"
_PARTS = 1000  # in which the share of the mean that the reserve holds is counted
_MOST = 64  # instances of one kind on one host

Instances = Mapping[tuple[int, int, str], int]
"""(unit, slot, profile) to a number of instances."""


@dataclass(frozen=True, slots=True)
class _Reserve:
    """What the reserve of a kind of host is cut into: (unit, column) to GPUs, and the instances that gives."""

    columns: Mapping[tuple[int, int], int]
    instances: Instances


def with_reserve(
    problem: Problem, sites: Sequence[Site], objective: Sequence[str], *, single: bool, deadline: float, seed: int
) -> Arrangement | None:
    """Place the most by priority, then the best in each further stage, one host of each kind in reserve.

    Parameters
    ----------
    problem, sites, objective, single, deadline, seed : as of `by_contents`.

    Returns
    -------
    The arrangement with its moves and without bounds; None where hosts are too few, or nothing was found in time.
    """
    rows = [row for row, site in enumerate(sites) if len(site.members) > 1]
    left = [replace(sites[row], members=sites[row].members[:-1]) for row in rows]
    if not left:
        return None
    soon = time.monotonic() + 0.3 * max(0.0, deadline - time.monotonic())
    mean = by_contents(problem, left, objective[:2], single=single, deadline=soon, seed=seed)
    if mean is None:
        return None
    reserves = [
        _reserve(problem, site, _held(problem, mean, number), soon, seed, single=single) for number, site in enumerate(left)
    ]
    cuts = [reserve.instances for reserve in reserves]
    found = by_contents(problem, left, objective[:2], single=single, deadline=deadline, seed=seed, within=cuts)
    if found is None:
        return None
    found = trimmed(problem, left, found, objective[:2], spare=False)
    return _arranged(problem, sites, rows, reserves, found, objective)


def _held(problem: Problem, found: Arrangement, site: int) -> dict[tuple[int, int, str], int]:
    """Return how many instances of each kind the sites of a row hold together."""
    held: dict[tuple[int, int, str], int] = {}
    for filled in found.filled:
        for key, count in _instances(problem, filled.contents).items() if filled.site == site else ():
            held[key] = held.get(key, 0) + count
    return held


def _instances(problem: Problem, contents: Contents) -> dict[tuple[int, int, str], int]:
    held: dict[tuple[int, int, str], int] = {}
    for (number, unit, slot), count in contents.taken.items():
        key = (unit, slot, problem.classes[number].profile(slot))
        held[key] = held.get(key, 0) + count
    return held


def _reserve(problem: Problem, site: Site, held: Instances, deadline: float, seed: int, *, single: bool) -> _Reserve:
    """Cut a host so that it holds as large a share as possible of what all hosts hold together, of every kind of instance."""
    located = locate(problem.with_counts([0] * len(problem.classes)), [site], single=single)
    program = located.program
    worth = {key: total * max(1, problem.slots[key[1]].memory_mib // 1024) for key, total in held.items()}
    share = program.variable(_PARTS, -1 - sum(worth.values()) * _MOST)  # an equal share of all goes first
    instances: dict[tuple[int, int, str], int] = {}
    offers: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (unit, column), variable in located.columns.items():
        for slot, n in problem.columns[column].slots:
            offers.setdefault((unit, slot), []).append((variable, n))
    for key, total in held.items():
        instances[key] = variable = program.variable(min(_MOST, total, located.room([key[0]])), -worth[key])
        program.row([(variable, _PARTS), (share, -total)], low=0)
        offers[key[:2]].append((variable, -1))
    for terms in offers.values():
        program.row(terms, low=0)
    answer = solve(program, deadline=max(deadline, time.monotonic() + 0.5), seed=seed)
    if answer.values is None:
        return _Reserve({}, {})
    values = answer.values
    columns = {key: int(values[v]) for key, v in located.columns.items() if values[v]}
    return _Reserve(columns, {key: int(values[v]) for key, v in instances.items() if values[v]})


def _arranged(
    problem: Problem,
    sites: Sequence[Site],
    rows: Sequence[int],
    reserves: Sequence[_Reserve],
    found: Arrangement,
    objective: Sequence[str],
) -> Arrangement:
    """Add the reserves, cut into no more than some host holds, and say where everything goes."""
    needed: dict[int, dict[tuple[int, int, str], int]] = {}
    for filled in found.filled:
        of = needed.setdefault(filled.site, {})
        for key, count in _instances(problem, filled.contents).items():
            of[key] = max(of.get(key, 0), count)
    spare_at = {number: (rows[number], len(sites[rows[number]].members) - 1) for number in needed}
    every = [Filled(rows[filled.site], filled.copy, filled.contents) for filled in found.filled]
    for number, instances in needed.items():
        spare = tuple((*key, count) for key, count in instances.items())
        every.append(Filled(*spare_at[number], Contents(reserves[number].columns, {}), spare))
    moves = tuple(move for filled in found.filled for move in _moves(problem, filled, rows, spare_at[filled.site]))
    stages = unproven(problem, objective, found.objectives[0].value)
    return Arrangement(tuple(every), found.placed, stages, CERTIFICATE, moves)


def _moves(problem: Problem, filled: Filled, rows: Sequence[int], spare: Named) -> Iterator[Move]:
    """Everything goes to the same slots of the reserve."""
    here = (rows[filled.site], filled.copy)
    jobs: dict[tuple[int, tuple[str, str, str]], list[tuple[Named, int, int]]] = {}
    for (number, places), count in filled.contents.groups.items():
        yield Move(here, number, tuple((spare, unit, slot) for unit, slot in places), count)
    for (number, unit, slot), count in filled.contents.taken.items():
        c = problem.classes[number]
        if c.linked:
            continue
        if c.size == 1:
            yield Move(here, number, ((spare, unit, slot),), count)
        else:
            jobs.setdefault((number, profile_of(problem, number, slot)), []).extend([(spare, unit, slot)] * count)
    for (number, _), every in jobs.items():
        size = problem.classes[number].size
        for start in range(0, len(every), size):
            yield Move(here, number, tuple(every[start : start + size]), 1)
