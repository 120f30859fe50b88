"""Plans that tell hosts or single GPUs apart: which way is taken, and which bounds hold.

First the aggregate problem, whose bound holds for every way of telling GPUs apart; then contents of single sites; then one
program over all sites for what is left. The certificate says which of them proved the bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from partitioner.solver import aggregate
from partitioner.solver.arrangement import Arrangement, trimmed
from partitioner.solver.contents import by_contents
from partitioner.solver.identity import by_identity, size_of
from partitioner.solver.problem import Objective, Problem
from partitioner.solver.reserve import with_reserve
from partitioner.solver.sites import Rules, Site
from partitioner.solver.stages import LOCATED, MAXIMISED

_LARGEST_PROGRAM = 30_000  # variables of a program over all sites that may still be solved
_LARGEST_FOR_WASTE = 6_000  # the same where only the last stages are not proven


def arrange(
    problem: Problem,
    sites: Sequence[Site],
    rules: Rules,
    objective: Sequence[str],
    *,
    host_failures: int,
    deadline: float,
    seed: int,
) -> Arrangement:
    """Place the most by priority, then the best in each further stage, hosts or single GPUs told apart.

    Parameters
    ----------
    problem : what is wanted and what there is.
    sites : where the GPUs stand.
    rules : what has to be told apart.
    objective : stages, ``placed`` first.
    host_failures : hosts whose loss the layout survives, 0 or 1.
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines.
    """
    if not sites:
        return Arrangement(
            (), (0,) * len(problem.classes), tuple(Objective(name, 0, 0) for name in objective), "no GPU may be used"
        )
    started = time.monotonic()
    relaxed = _relaxed(problem, objective, started + 0.2 * (deadline - started), seed)
    if host_failures:
        relaxed = _with_one_host_less(problem, sites, relaxed)
    found: Arrangement | None = None
    if not host_failures and tuple(objective[1:2]) != ("spread",):
        found = by_contents(
            problem, sites, objective, single=rules.gpus, deadline=started + 0.6 * (deadline - started), seed=seed
        )
        found = found and _bounded(trimmed(problem, sites, found, objective, spare=False), relaxed)
        if found is not None and all(stage.proven for stage in found.objectives):
            return found
    main = found is not None and all(stage.proven for stage in found.objectives[:2])
    size = size_of(problem, sites, single=rules.gpus) * (1 if not host_failures else sum(site.count or 1 for site in sites))
    if host_failures and not rules.gpus and size > _LARGEST_FOR_WASTE:
        soon = deadline if size > _LARGEST_PROGRAM else started + 0.5 * (deadline - started)
        found = with_reserve(problem, sites, objective, deadline=soon, seed=seed)
        found = found and _bounded(trimmed(problem, sites, found, objective, spare=True), relaxed)
    if found is None or size <= (_LARGEST_FOR_WASTE if main else _LARGEST_PROGRAM):
        exact = by_identity(
            problem,
            sites,
            objective,
            single=rules.gpus,
            host_failures=host_failures,
            copies=_copies(sites, found),
            deadline=deadline,
            seed=seed,
        )
        if exact is not None:
            exact = _bounded(trimmed(problem, sites, exact, objective, spare=host_failures > 0), relaxed)
            found = exact if found is None else _better(found, exact)
    return found or _nothing(problem, objective)


def _relaxed(problem: Problem, objective: Sequence[str], deadline: float, seed: int) -> tuple[Objective, ...]:
    """Return stages of the aggregate problem whose bounds hold here too."""
    if objective[1] in LOCATED:
        return ()
    plain = tuple(replace(c, needs=replace(c.needs, spread=None)) for c in problem.classes)
    whole = Problem(problem.kinds, problem.slots, plain).knowing_columns(problem.columns)
    stages = aggregate.solve(whole, objective=objective[:2], deadline=deadline, seed=seed).objectives
    everything = sum(c.count for c in problem.classes)
    if stages[0].value == everything:
        return stages
    return stages[:1] if all(c.size == 1 for c in problem.classes) else ()


def _with_one_host_less(problem: Problem, sites: Sequence[Site], relaxed: Sequence[Objective]) -> tuple[Objective, ...]:
    """Raise the bound on GPUs: without the host that has the most of g GPUs, still enough are left for everything."""
    hosts = sum(site.count or 1 for site in sites)
    result = []
    for stage in relaxed:
        bound = stage.bound
        if stage.name == "gpus" and hosts > 1 and not any(kind.kept for kind in problem.kinds):
            while bound - -(-bound // hosts) < stage.bound:
                bound += 1
        result.append(replace(stage, bound=bound))
    return tuple(result)


def _bounded(found: Arrangement, relaxed: Sequence[Objective]) -> Arrangement:
    """Take the aggregate problem's bounds where they are better."""
    stages = list(found.objectives)
    certificate = found.certificate
    for position, bound in enumerate(relaxed):
        stage = stages[position]
        if stage.name == "placed":
            stages[position] = replace(stage, bound=max(stage.value, min(stage.bound, bound.bound)))
        else:
            own = -bound.bound if stage.name in MAXIMISED else bound.bound
            if own >= stage.bound:
                certificate = f"aggregate bound met by {found.certificate}" if own == stage.value else certificate
                stages[position] = replace(stage, bound=min(own, stage.value))
        if stages[position].value != bound.value:
            break
    return replace(found, objectives=tuple(stages), certificate=certificate)


def _better(one: Arrangement, other: Arrangement) -> Arrangement:
    """Return the better of two arrangements, with the better bound of each stage as far as they agree."""

    def key(found: Arrangement) -> list[int]:
        return [-stage.value if stage.name == "placed" else stage.value for stage in found.objectives]

    best, rest = (one, other) if key(one) <= key(other) else (other, one)
    stages = list(best.objectives)
    certificate = best.certificate
    for position, (mine, yours) in enumerate(zip(best.objectives, rest.objectives, strict=True)):
        if mine.name == "placed":
            bound = max(mine.value, min(mine.bound, yours.bound))
        else:
            bound = min(mine.value, max(mine.bound, yours.bound))
            if position == 1 and bound > mine.bound:
                certificate = rest.certificate
        stages[position] = replace(mine, bound=bound)
        if mine.value != yours.value:
            break
    return replace(best, objectives=tuple(stages), certificate=certificate)


def _copies(sites: Sequence[Site], found: Arrangement | None) -> list[int]:
    """Return how many of each site to name where there are as many as needed: no better plan uses more."""
    used = [1] * len(sites)
    for filled in found.filled if found else ():
        used[filled.site] = max(used[filled.site], filled.copy + 1)
    return used


def _nothing(problem: Problem, objective: Sequence[str]) -> Arrangement:
    """Return the arrangement that places nothing; all that is left when time was too short for any other."""
    wanted = sum(c.count for c in problem.classes)
    stages = [Objective(name, 0, wanted if name == "placed" else -(2**62) if name in MAXIMISED else 0) for name in objective]
    return Arrangement((), (0,) * len(problem.classes), tuple(stages), "none")
