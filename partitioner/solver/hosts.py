"""Plans that tell hosts or single GPUs apart: which way is taken, and which bounds hold.

First the aggregate problem, whose bound holds for every way of telling GPUs apart; then contents of single sites; then one
program over all sites for what is left. The certificate says which of them proved the bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from partitioner.solver import aggregate
from partitioner.solver.arrangement import Arrangement, trimmed, unproven
from partitioner.solver.contents import by_contents
from partitioner.solver.first_fit import first_fit
from partitioner.solver.identity import by_identity, size_of
from partitioner.solver.problem import Objective, Problem
from partitioner.solver.reserve import with_reserve
from partitioner.solver.sites import Rules, Site
from partitioner.solver.stages import LOCATED, MAXIMISED

_SMALL, _MEDIUM, _LARGE = 1500, 6000, 30_000
"""Variables of a program over all sites: up to which it comes first, is solved with failures of hosts, is solved at all."""
_FIRST_FIT_S = 1e-4  # for a replica
_SHARES = {"contents": 0.6, "reserve": 0.6, "identity": 0.85}  # of the time that is left, where another way follows

Way = Callable[[Arrangement | None, float], Arrangement | None]


def arrange(
    problem: Problem,
    sites: Sequence[Site],
    rules: Rules,
    objective: Sequence[str],
    *,
    host_failures: int,
    deadline: float,
    seed: int,
    plain: Problem | None = None,
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
    plain : the same problem without telling GPUs apart by who stands on them now, for quick bounds.
    """
    if not sites:
        return Arrangement(
            (), (0,) * len(problem.classes), tuple(Objective(name, 0, 0) for name in objective), "no GPU may be used"
        )
    started = time.monotonic()
    relaxed = _relaxed(plain or problem, objective, started + 0.2 * (deadline - started), seed)
    if host_failures:
        relaxed = _with_one_host_less(problem, sites, relaxed)
    search = _Search(problem, sites, rules, objective, host_failures, relaxed, seed)
    ways = search.ways()
    quick = _FIRST_FIT_S * sum(c.count for c in problem.classes) < 0.4 * (deadline - started)
    pinned = any(kind.pinned for kind in problem.kinds)
    found = search.simple() if quick and not host_failures and not pinned else None
    for number, way in enumerate(ways):
        left = max(0.0, deadline - time.monotonic())
        share = 1.0 if number == len(ways) - 1 else _SHARES[way.__name__]
        another = way(found, time.monotonic() + share * left)
        found = another if found is None else found if another is None else _better(problem, found, another)
        if found is not None and all(stage.proven for stage in found.objectives):
            break
    if (
        not host_failures
        and not quick
        and not pinned
        and (found is None or found.placed != tuple(c.count for c in problem.classes))
    ):
        simple = search.simple()
        found = simple if found is None else _better(problem, found, simple)
    return found or _nothing(problem, objective)


@dataclass(frozen=True, slots=True)
class _Search:
    """One problem, and the ways to solve it; parameters as of `arrange`, `relaxed`: stages whose bounds hold here too."""

    problem: Problem
    sites: Sequence[Site]
    rules: Rules
    objective: Sequence[str]
    host_failures: int
    relaxed: Sequence[Objective]
    seed: int

    def ways(self) -> list[Way]:
        """Return the ways to try, in their order."""
        size = size_of(self.problem, self.sites, single=self.rules.gpus)
        if self.host_failures and any(kind.pinned for kind in self.problem.kinds):
            return [self.identity]
        if self.host_failures:
            size *= sum(site.count or 1 for site in self.sites)
            if size <= _MEDIUM:
                return [self.identity, self.reserve]
            return [self.reserve, self.identity] if size <= _LARGE else [self.reserve]
        if self.objective[1] == "spread":
            return [self.identity]
        if size <= _SMALL and all(site.count is not None for site in self.sites):
            return [self.identity, self.contents]
        return [self.contents, self.identity] if size <= _LARGE else [self.contents]

    def contents(self, before: Arrangement | None, deadline: float) -> Arrangement | None:
        """Solve by contents of single sites."""
        found = by_contents(
            self.problem,
            self.sites,
            self.objective,
            single=self.rules.gpus,
            deadline=deadline,
            seed=self.seed,
            start=before,
        )
        return found and self._checked(found)

    def reserve(self, _: Arrangement | None, deadline: float) -> Arrangement | None:
        """Solve with hosts in reserve."""
        found = with_reserve(self.problem, self.sites, self.objective, single=self.rules.gpus, deadline=deadline, seed=self.seed)
        return found and self._checked(found)

    def identity(self, before: Arrangement | None, deadline: float) -> Arrangement | None:
        """Solve with all sites by identity."""
        found = by_identity(
            self.problem,
            self.sites,
            self.objective,
            single=self.rules.gpus,
            host_failures=self.host_failures,
            copies=_copies(self.problem, self.sites, before),
            deadline=deadline,
            seed=self.seed,
        )
        return found and self._checked(found)

    def simple(self) -> Arrangement:
        """Solve by a simple rule, for when the others found nothing in time."""
        return self._checked(first_fit(self.problem, self.sites, self.objective, single=self.rules.gpus))

    def _checked(self, found: Arrangement) -> Arrangement:
        """Trim an arrangement, and take the better bounds."""
        lean = trimmed(self.problem, self.sites, found, self.objective, spare=self.host_failures > 0)
        return _bounded(self.problem, lean, self.relaxed)


def _relaxed(problem: Problem, objective: Sequence[str], deadline: float, seed: int) -> tuple[Objective, ...]:
    """Return stages of the aggregate problem whose bounds hold here too."""
    if objective[1] in LOCATED:
        return ()
    first = "gpus" if objective[1] == "moves" else objective[1]
    stages = aggregate.solve(problem, objective=("placed", first), deadline=deadline, seed=seed).objectives
    stages = stages[:1] if first != objective[1] else stages
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


def _bounded(problem: Problem, found: Arrangement, relaxed: Sequence[Objective]) -> Arrangement:
    """Take the aggregate problem's bounds where they are better.

    A bound on all replicas together proves nothing where some matter more than others, unless all are placed.
    """
    ranked = len({c.priority for c in problem.classes if c.count}) > 1
    stages = list(found.objectives)
    certificate = found.certificate
    for position, bound in enumerate(relaxed):
        stage = stages[position]
        if stage.name == "placed" and not ranked:
            stages[position] = replace(stage, bound=max(stage.value, min(stage.bound, bound.bound)))
        elif stage.name != "placed":
            own = -bound.bound if stage.name in MAXIMISED else bound.bound
            if own >= stage.bound:
                certificate = f"aggregate bound met by {found.certificate}" if own == stage.value else certificate
                stages[position] = replace(stage, bound=min(own, stage.value))
        if stages[position].value != bound.value:
            break
    return replace(found, objectives=tuple(stages), certificate=certificate)


def _better(problem: Problem, one: Arrangement, other: Arrangement) -> Arrangement:
    """Return the better of two arrangements, with the better bound of each stage as far as they agree."""

    def placed(found: Arrangement) -> list[int]:
        levels = sorted({c.priority for c in problem.classes}, reverse=True)
        of = list(zip(problem.classes, found.placed, strict=True))
        return [-sum(n for c, n in of if c.priority == level) for level in levels]

    def key(found: Arrangement) -> list[int]:
        return [*placed(found), *(stage.value for stage in found.objectives[1:])]

    best, rest = (one, other) if key(one) <= key(other) else (other, one)
    stages = list(best.objectives)
    certificate = best.certificate
    for position, (mine, yours) in enumerate(zip(best.objectives, rest.objectives, strict=True)):
        if mine.name == "placed":
            same = placed(best) == placed(rest)
            bound = max(mine.value, min(mine.bound, yours.bound)) if same else mine.bound
        else:
            bound = min(mine.value, max(mine.bound, yours.bound))
            if position == 1 and bound > mine.bound:
                certificate = rest.certificate
        stages[position] = replace(mine, bound=bound)
        if mine.value != yours.value or (mine.name == "placed" and placed(best) != placed(rest)):
            break
    return replace(best, objectives=tuple(stages), certificate=certificate)


def _copies(problem: Problem, sites: Sequence[Site], found: Arrangement | None) -> list[int]:
    """Return how many of each site to name where there are as many as needed: what a complete plan uses is enough."""
    if found is None or found.placed != tuple(c.count for c in problem.classes):
        return [sum(c.most(slot) for c in problem.classes for slot in c.options[:1])] * len(sites)
    used = [1] * len(sites)
    for filled in found.filled:
        used[filled.site] = max(used[filled.site], filled.copy + 1)
    return used


def _nothing(problem: Problem, objective: Sequence[str]) -> Arrangement:
    """Return the arrangement that places nothing; all that is left when time was too short for any other."""
    return Arrangement((), (0,) * len(problem.classes), unproven(problem, objective, 0), "none")
