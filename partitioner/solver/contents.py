"""Plans from good contents of single sites: column generation over what one host, or one GPU, may hold.

All rules within a site are rules of its contents, so the master problem counts contents and knows no identities. Gilmore
and Gomory's cutting stock with sites for rolls; the bound is Lagrange's with prices in integers, so that it holds whatever
the engines' accuracy (Farley 1990; Vanderbeck and Wolsey 1996).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil

import numpy as np
import numpy.typing as npt

from partitioner.solver.arrangement import Arrangement, Filled, cost_of, gains_of, placed_of, stage_costs
from partitioner.solver.integer import Answer, Program, relax, solve
from partitioner.solver.located import Contents, Located, locate
from partitioner.solver.problem import Objective, Problem
from partitioner.solver.sites import Site
from partitioner.solver.stages import least

CERTIFICATE = "contents (column generation)"
_PRECISION = 10_000_000  # parts into which the largest price is divided
_PRICING_S = 5.0  # one pricing never takes longer; its bound is used then
_DEAR = 10  # leaving a replica out costs as much as this many of the dearest contents


_ROUNDS, _VARIED, _VARIATION = 6, 4, 0.25  # rounds of variation; fillings for each class in one; how far prices move

_Whole = tuple[list[int], int]
"""Counts of the known fillings, then what is left out of each class; and the cost."""


@dataclass(frozen=True, slots=True)
class _Filling:
    """Contents of one kind of site, and what they add to every class."""

    site: int
    contents: Contents
    gains: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is minimised: the cost of contents by name of a stage, and the cost of a replica left out of each class."""

    name: str | None
    left_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Best:
    """A stage's best known solution: (filling, count) pairs, replicas left out, value and bound."""

    fillings: tuple[tuple[int, int], ...]
    left_out: tuple[int, ...]
    value: int
    bound: int


@dataclass
class _Search:
    """Column generation over the stages of one problem; fillings found are kept from stage to stage."""

    problem: Problem
    sites: Sequence[Site]
    seed: int
    pricers: list[Located]
    deadline: float
    pool: list[_Filling] = field(default_factory=list)
    known: set[tuple[int, frozenset[tuple[object, int]]]] = field(default_factory=set)
    settled: list[tuple[_Stage, int]] = field(default_factory=list)
    fixed: dict[int, int] = field(default_factory=dict)

    # -- the master problem ----------------------------------------------------------------------------------------

    def master(self, stage: _Stage) -> tuple[Program, list[int], list[int], list[int]]:
        """Return the program over the pool, its rows of classes, of sites and of settled stages."""
        program, problem = Program(), self.problem
        for filling in self.pool:
            program.variable(self.most(filling.site), self.cost(stage, filling))
        for c, cost in zip(problem.classes, stage.left_out, strict=True):
            program.variable(c.count, cost)
        n = len(self.pool)
        class_rows = []
        for number, c in enumerate(problem.classes):
            terms = [(v, f.gains[number]) for v, f in enumerate(self.pool) if f.gains[number]]
            low = self.goal(number)
            row = program.row([*terms, (n + number, c.each)], low=low, high=low if number in self.wanted_exactly else np.inf)
            class_rows.append(row)
        site_rows = [
            program.row(
                [(v, 1) for v, f in enumerate(self.pool) if f.site == number],
                low=self.left(number) if self.forced[number] else -np.inf,
                high=self.left(number),
            )
            for number in range(len(self.sites))
        ]
        settled_rows = []
        for before, value in self.settled:
            terms = [(v, self.cost(before, f)) for v, f in enumerate(self.pool)]
            terms += [(n + number, cost) for number, cost in enumerate(before.left_out)]
            rest = value - sum(self.cost(before, self.pool[f]) * count for f, count in self.fixed.items())
            settled_rows.append(program.row([term for term in terms if term[1]], high=rest))
        return program, class_rows, site_rows, settled_rows

    def cost(self, stage: _Stage, filling: _Filling) -> int:
        """Return what a filling costs in a stage."""
        return (
            cost_of(self.problem, self.sites[filling.site], Filled(filling.site, 0, filling.contents), stage.name)
            if stage.name
            else 0
        )

    def most(self, site: int) -> int:
        """Return how many sites of a kind are ever needed."""
        count = self.sites[site].count
        if count is not None and self.forced[site]:
            return count
        return self.instances if count is None else min(count, self.instances)

    @cached_property
    def forced(self) -> list[bool]:
        """Which sites are used in any case, since somebody on them has to stay."""
        return [any(self.problem.kinds[kind].pinned for kind, _ in site.gpus) for site in self.sites]

    @cached_property
    def instances(self) -> int:
        """The most instances that everything wanted may take."""
        return sum(-(-c.goal // min((c.gain(s) for s in c.options), default=1)) for c in self.problem.classes)

    def left(self, site: int) -> int:
        """Return how many sites of a kind are left."""
        return self.most(site) - sum(count for f, count in self.fixed.items() if self.pool[f].site == site)

    def goal(self, number: int) -> int:
        """Return what is left to reach of the goal of a class."""
        goal = self.problem.classes[number].goal - sum(self.pool[f].gains[number] * n for f, n in self.fixed.items())
        return goal if number in self.wanted_exactly else max(0, goal)

    @cached_property
    def wanted_exactly(self) -> set[int]:
        """Classes of which no instance may be dropped afterwards: others must be with them, or replicas take several."""
        classes = enumerate(self.problem.classes)
        several = {number for number, c in classes if c.size > 1 or c.linked or number in self.problem.wanted_beside}
        return {number for number in several if not self.problem.classes[number].yields}

    # -- pricing ---------------------------------------------------------------------------------------------------

    def price(self, site: int, cost: list[int]) -> Answer:
        """Return the cheapest contents of a site at given costs of its variables."""
        program = self.pricers[site].program
        program.cost = cost
        return solve(program, deadline=min(self.deadline, time.monotonic() + _PRICING_S), seed=self.seed)

    def add(self, site: int, contents: Contents) -> bool:
        """Keep contents, unless they are known or empty."""
        key = (site, frozenset([*contents.columns.items(), *contents.taken.items(), *contents.groups.items()]))
        if not contents.taken or key in self.known:
            return False
        self.known.add(key)
        self.pool.append(_Filling(site, contents, gains_of(self.problem, contents)))
        return True

    def generate(self, stage: _Stage, *, thorough: bool = False) -> int | None:
        """Add fillings until the linear relaxation is optimal, and `thorough` also when its bound is found already.

        Returns
        -------
        A bound on the stage; None where time ran out.
        """
        best: int | None = None
        while time.monotonic() < self.deadline:
            program, class_rows, _, settled_rows = self.master(stage)
            relaxed = relax(program, time_limit_s=max(0.01, self.deadline - time.monotonic()))
            if relaxed is None:
                return best
            prices = relaxed.duals
            bound, improving = self._round(stage, prices[class_rows].tolist(), prices[settled_rows].tolist())
            if bound is not None:
                best = bound if best is None else max(best, bound)
            if not improving or (not thorough and best is not None and best >= ceil(relaxed.value - 1e-6)):
                break
        return best

    def _round(self, stage: _Stage, prices: Sequence[float], rents: Sequence[float]) -> tuple[int | None, bool]:
        """Price every kind of site once; return Lagrange's bound at these prices and whether a filling was added."""
        scale = self._scale(stage)
        rent = [round(max(0.0, -r) * scale) for r in rents]
        worth = self._worth(prices, scale)
        total: Fraction | None = self._constant(stage, scale, worth, rent)
        improving = False
        for site in range(len(self.sites)):
            cost, constant = self._pricing_costs(site, stage, scale, worth, rent)
            answer = self.price(site, cost)
            if answer.bound is None or total is None:
                total = None
            else:
                each = answer.bound + constant
                total += self.left(site) * (each if self.forced[site] else min(0, each))
            for values in () if answer.values is None else (answer.values, *answer.others):
                if sum(c * int(x) for c, x in zip(cost, values, strict=True)) + constant < 0:
                    improving |= self.add(site, self.pricers[site].read(values))
        return (None if total is None else ceil(total / scale)), improving

    def _worth(self, prices: Sequence[float] | npt.NDArray[np.float64], scale: int) -> dict[tuple[int, int], int]:
        """Return what an instance of a class in a slot is worth, in whole parts."""
        return {
            (number, slot): round(float(price) * c.gain(slot) * scale)
            for number, (c, price) in enumerate(zip(self.problem.classes, prices, strict=True))
            for slot in c.options
        }

    def _scale(self, stage: _Stage) -> int:
        largest = max([1, *stage.left_out, *(abs(self.cost(stage, filling)) for filling in self.pool)])
        return max(1, _PRECISION // largest)

    def _pricing_costs(
        self, site: int, stage: _Stage, scale: int, worth: Mapping[tuple[int, int], int], rent: Sequence[int]
    ) -> tuple[list[int], int]:
        """Return the cost of each variable of a site, and that of using the site at all."""
        located = self.pricers[site]
        cost = np.zeros(len(located.program.upper), dtype=object)
        constant = 0
        for name, factor in [(stage.name, scale), *((before.name, r) for (before, _), r in zip(self.settled, rent, strict=True))]:
            if name == "hosts":
                constant += factor * int(not self.sites[site].in_use)
            elif name is not None and factor:
                cost += np.array(stage_costs(located, name), dtype=object) * factor
        for (number, _, slot), variable in located.taken.items():
            cost[variable] -= worth[number, slot]
        return [int(c) for c in cost], constant

    def _constant(self, stage: _Stage, scale: int, worth: Mapping[tuple[int, int], int], rent: Sequence[int]) -> Fraction:
        """Return the part of the bound that does not depend on the sites."""
        total = Fraction(0)
        for number, c in enumerate(self.problem.classes):
            if c.count and c.options:
                price = min(Fraction(worth[number, slot], c.gain(slot)) for slot in c.options)
                left_out = scale * stage.left_out[number]
                left_out += sum(r * before.left_out[number] for (before, _), r in zip(self.settled, rent, strict=True))
                total += price * self.goal(number) + c.count * min(Fraction(0), left_out - price * c.each)
        taken = [sum(self.cost(before, self.pool[f]) * n for f, n in self.fixed.items()) for before, _ in self.settled]
        return total - sum(r * (value - used) for (_, value), used, r in zip(self.settled, taken, rent, strict=True))

    # -- whole numbers ---------------------------------------------------------------------------------------------

    def best(self, stage: _Stage, deadline: float, before: _Best | None = None) -> _Best | None:
        """Return the best solution of a stage over fillings, with its bound; that of the stage before is one of them."""
        whole, begun = self.deadline, time.monotonic()
        self.deadline = begun + 0.5 * max(0.0, deadline - begun)
        bound = self.generate(stage)
        self.deadline = time.monotonic() + 0.3 * max(0.0, deadline - time.monotonic())
        found = self._valued(stage, before) or self.dive(stage)
        self.deadline = whole
        nothing_known = least(stage.name) if stage.name else 0
        lowest = nothing_known if bound is None else max(bound, nothing_known)
        for _ in range(_ROUNDS):
            if found is not None and found[1] <= lowest:
                break
            found = self._among_known(stage, found, time.monotonic() + 0.5 * max(0.0, deadline - time.monotonic()))
            if (found is not None and found[1] <= lowest) or time.monotonic() >= deadline:
                break
            self.vary(stage, time.monotonic() + 0.3 * max(0.0, deadline - time.monotonic()))
        if found is None:
            return None
        values, value = found
        n = len(self.problem.classes)
        counts, left_out = values[:-n], values[-n:]
        fillings = tuple((number, count) for number, count in enumerate(counts) if count)
        return _Best(fillings, tuple(left_out), value, min(value, lowest))

    def _valued(self, stage: _Stage, before: _Best | None) -> _Whole | None:
        """Return a solution of the stage before with its cost in this one."""
        if before is None:
            return None
        counts = dict(before.fillings)
        cost = sum(self.cost(stage, self.pool[f]) * count for f, count in counts.items())
        cost += sum(a * b for a, b in zip(before.left_out, stage.left_out, strict=True))
        return [*(counts.get(f, 0) for f in range(len(self.pool))), *before.left_out], cost

    def _among_known(self, stage: _Stage, found: _Whole | None, deadline: float) -> _Whole | None:
        """Return the best solution over the fillings that are known, or the one already found."""
        program, *_ = self.master(stage)
        answer = solve(program, deadline=deadline, seed=self.seed)
        if answer.values is None or answer.objective is None or (found is not None and found[1] <= answer.objective):
            return found
        return answer.values.tolist(), answer.objective

    def vary(self, stage: _Stage, deadline: float) -> None:
        """Add fillings that are good at prices near the best ones: whole numbers need more than the relaxation does."""
        program, class_rows, _, settled_rows = self.master(stage)
        relaxed = relax(program, time_limit_s=max(0.01, deadline - time.monotonic()))
        if relaxed is None:
            return
        scale = self._scale(stage)
        prices = relaxed.duals[class_rows]
        rent = [round(max(0.0, -r) * scale) for r in relaxed.duals[settled_rows].tolist()]
        numbers = np.random.default_rng(self.seed + len(self.pool))
        for _ in range(_VARIED * len(prices)):
            if time.monotonic() >= deadline:
                break
            worth = self._worth(prices * numbers.uniform(1 - _VARIATION, 1 + _VARIATION, len(prices)), scale)
            for site in range(len(self.sites)):
                cost, _ = self._pricing_costs(site, stage, scale, worth, rent)
                answer = self.price(site, cost)
                for values in () if answer.values is None else (answer.values, *answer.others):
                    self.add(site, self.pricers[site].read(values))

    def dive(self, stage: _Stage) -> _Whole | None:
        """Round the relaxation down, find fillings for what is left, and again, until everything is in whole numbers.

        Returns
        -------
        Counts of all fillings, then what is left out of each class; and the cost. None where time ran out or nothing fits.
        """
        self.fixed = {}
        try:
            while time.monotonic() < self.deadline:
                self.generate(stage, thorough=True)
                program, *_ = self.master(stage)
                relaxed = relax(program, time_limit_s=max(0.01, self.deadline - time.monotonic()))
                if relaxed is None:
                    return None
                values, n = relaxed.values, len(self.pool)
                if np.abs(values - np.rint(values)).max(initial=0.0) < 1e-6:
                    counts = np.rint(values).astype(int).tolist()
                    for filling, count in self.fixed.items():
                        counts[filling] += count
                    cost = sum(self.cost(stage, self.pool[f]) * count for f, count in enumerate(counts[:n]))
                    return counts, cost + sum(a * b for a, b in zip(counts[n:], stage.left_out, strict=True))
                if not self._fix(values[:n]):
                    return None
            return None
        finally:
            self.fixed = {}

    def _fix(self, values: npt.NDArray[np.float64]) -> bool:
        """Fix the whole parts of fillings, or where there are none one of the largest part."""
        whole = np.floor(values + 1e-6).astype(int)
        if whole.any():
            for filling in np.flatnonzero(whole).tolist():
                self.fixed[filling] = self.fixed.get(filling, 0) + int(whole[filling])
            return True
        parts = values - whole
        if not parts.any():
            return False  # only what is left out is broken
        filling = int(parts.argmax())
        self.fixed[filling] = self.fixed.get(filling, 0) + 1
        return True


def by_contents(
    problem: Problem,
    sites: Sequence[Site],
    objective: Sequence[str],
    *,
    single: bool,
    deadline: float,
    seed: int,
    within: Sequence[Mapping[tuple[int, int, str], int]] | None = None,
    start: Arrangement | None = None,
) -> Arrangement | None:
    """Place the most by priority, then the best in each further stage, all rules within sites kept.

    Parameters
    ----------
    problem : what is wanted and what there is.
    sites : the sites.
    objective : stages, ``placed`` first; ``spread`` is not looked at.
    single : whether single GPUs have to be told apart.
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines.
    within : for each site (unit, slot, profile) to the most instances it may hold; others it may not.
    start : an arrangement to start from.

    Returns
    -------
    The best arrangement found, with bounds; None where none was found in time.
    """
    search = _Search(problem, sites, seed, [locate(problem, [site], single=single) for site in sites], deadline)
    for located, most in zip(search.pricers, within or (), strict=False):
        _keep_within(located, most)
    for filled in start.filled if start is not None else ():
        search.add(filled.site, filled.contents)
    for number, forced in enumerate(search.forced):
        if forced:
            answer = search.price(number, [0] * len(search.pricers[number].program.upper))
            if answer.values is None or not search.add(number, search.pricers[number].read(answer.values)):
                return None
    stages = [name for name in objective[1:] if name != "spread"]
    first = _everything(search, stages[0], deadline)
    total = sum(c.count for c in problem.classes)
    if first is None or any(first.left_out):
        placed_bound = _leave_out(search, deadline)
        if placed_bound is None:
            return None
        first = search.best(_Stage(stages[0], (0,) * len(problem.classes)), deadline)
        if first is None:
            return None
    else:
        placed_bound = total
        search.settled = [(_Stage(None, (1,) * len(problem.classes)), 0)]
    if any(first.left_out[number] for number in problem.wanted_beside if problem.classes[number].yields):
        return None  # others may stand beside instances of a service that is left out
    done = [Objective(stages[0], first.value, first.bound)]
    for name, before in zip(stages[1:], stages, strict=False):
        search.settled.append((_Stage(before, (0,) * len(problem.classes)), done[-1].value))
        share = time.monotonic() + 0.6 * max(0.0, deadline - time.monotonic())
        first = search.best(_Stage(name, (0,) * len(problem.classes)), share, first) or first
        done.append(Objective(name, first.value, first.bound))
    return _arranged(search, first, done, placed_bound)


def _keep_within(located: Located, most: Mapping[tuple[int, int, str], int]) -> None:
    held: dict[tuple[int, int, str], list[tuple[int, int]]] = {}
    for (number, unit, slot), variable in located.taken.items():
        held.setdefault((unit, slot, located.problem.classes[number].profile(slot)), []).append((variable, 1))
    for key, terms in held.items():
        located.program.row(terms, high=most.get(key, 0))


def _everything(search: _Search, stage: str, deadline: float) -> _Best | None:
    """Return the best solution of the first stage when leaving something out is dear."""
    soon = time.monotonic() + 0.2 * max(0.0, deadline - time.monotonic())
    known = {number for filling in search.pool for number, gain in enumerate(filling.gains) if gain}
    for number in range(len(search.problem.classes)):  # a first filling for every class, so that prices mean something
        if number not in known and time.monotonic() < soon:
            _first_filling(search, number)
    dear = 1 + _DEAR * max((abs(search.cost(_Stage(stage, ()), f)) for f in search.pool), default=1)
    half = time.monotonic() + 0.6 * max(0.0, deadline - time.monotonic())
    return search.best(_Stage(stage, (dear,) * len(search.problem.classes)), half)


def _first_filling(search: _Search, number: int) -> None:
    """Add the contents of some site that hold the most of one class."""
    for site, located in enumerate(search.pricers):
        cost = [0] * len(located.program.upper)
        for (c, _, slot), variable in located.taken.items():
            if c == number:
                cost[variable] = -search.problem.classes[number].gain(slot)
        if any(cost):
            answer = search.price(site, cost)
            if answer.values is not None and answer.objective:
                search.add(site, located.read(answer.values))
                return


def _leave_out(search: _Search, deadline: float) -> int | None:
    """Settle how many replicas of each priority are left out, from the highest on; return a bound on those placed."""
    classes = search.problem.classes
    placed = 0
    for level in sorted({c.priority for c in classes if c.count}, reverse=True):
        stage = _Stage(None, tuple(int(c.priority == level) for c in classes))
        share = time.monotonic() + 0.5 * max(0.0, deadline - time.monotonic())
        found = search.best(stage, share)
        if found is None:
            return None
        search.settled.append((stage, found.value))
        placed += sum(c.count for c in classes if c.priority == level) - max(0, found.bound)
    return placed


def _arranged(search: _Search, best: _Best, done: Sequence[Objective], placed_bound: int) -> Arrangement:
    """Spread the fillings over the sites."""
    problem = search.problem
    used = [0] * len(search.sites)
    filled, gains = [], [0] * len(problem.classes)
    for number, count in best.fillings:
        filling = search.pool[number]
        for _ in range(count):
            filled.append(Filled(filling.site, used[filling.site], filling.contents))
            used[filling.site] += 1
        gains = [have + count * gain for have, gain in zip(gains, filling.gains, strict=True)]
    placed = placed_of(problem, gains)
    stages = (Objective("placed", sum(placed), max(placed_bound, sum(placed))), *done)
    return Arrangement(tuple(filled), placed, stages, CERTIFICATE)
