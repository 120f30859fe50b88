"""Answers that start from what runs now: by counting, or where hosts or single GPUs have to be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from partitioner import catalog
from partitioner.errors import InfeasibleError, SpecError
from partitioner.layout import Layout, gpu_label
from partitioner.solver import aggregate
from partitioner.solver.arrangement import Arrangement
from partitioner.solver.demand import Demand, build
from partitioner.solver.explain import explain, together
from partitioner.solver.formulation import most_gpus
from partitioner.solver.hosts import arrange
from partitioner.solver.identity import size_of
from partitioner.solver.migration import migration
from partitioner.solver.notes import notes
from partitioner.solver.problem import Objective, Problem, all_targets
from partitioner.solver.question import Answer, Inquiry, pins, supply_of
from partitioner.solver.reconfigure import reconfigure
from partitioner.solver.regrouped import groups_of
from partitioner.solver.rehouse import rehouse
from partitioner.solver.resettle import resettle
from partitioner.solver.sites import Rules, Site, sites_of
from partitioner.solver.stages import FOR_NOTHING
from partitioner.solver.standing import LEAVES, Content, Standing, contents_of, kind_of_rows, read_standing, told_apart
from partitioner.solver.supply import Supply, supply_of_model
from partitioner.solver.verdict import of_arrangement, prices_of, ratings_of, status_of, wanted, with_kept


def reconfigured(inquiry: Inquiry, supply: Supply, demand: Demand, deadline: float, seed: int, *, why: bool) -> Answer:
    """Answer where counting is enough, starting from what runs now."""
    workloads = inquiry.workloads
    demand, standing = _standing(inquiry, supply, demand)
    n_rows = _rows(inquiry, demand, standing)
    contents = contents_of(standing, supply, n_rows)
    groups, complete = groups_of(demand, contents)
    problem = demand.problem.with_counts([c.count if c.options else 0 for c in demand.problem.classes])
    objective = inquiry.objective if "moves" in inquiry.objective else (*inquiry.objective, "moves")
    found = reconfigure(problem, groups, standing.by_class, objective, complete=complete, deadline=deadline, seed=seed)
    tidy = "headroom" in objective
    layout, left = rehouse(workloads, supply, demand, standing, contents, found, n_rows=n_rows, tidy=tidy)
    layout = _without_unused_end(layout, standing) if inquiry.fleet is None and inquiry.gpus is None else layout
    solution = found.solution
    unplaced = explain(workloads, supply, demand, solution, left, deadline=deadline if why else 0.0, seed=seed)
    stages = _as_laid_out(inquiry, supply, layout, with_kept(supply, solution.objectives))
    stages = tuple(stage for stage in stages if stage.name in inquiry.objective)
    solution = replace(solution, objectives=stages)
    prices, rents = prices_of(inquiry, supply, demand, solution)
    more = together(demand, solution, unplaced, deadline=deadline, seed=seed) if why else ()
    return Answer(
        layout,
        status_of(demand, solution),
        stages,
        found.certificate,
        unplaced,
        (*more, *notes(workloads, supply, demand, solution)),
        prices,
        rents,
        ratings_of(workloads, supply, demand),
    )


def relocated(inquiry: Inquiry, supply: Supply, demand: Demand, rules: Rules, deadline: float, seed: int) -> Answer:
    """Answer where hosts or single GPUs have to be told apart, starting from what runs now."""
    workloads = inquiry.workloads
    wider, standing = _standing(inquiry, supply, demand)
    every = inquiry.host_failures > 0 or wider is not demand
    demand = wider
    n_rows = _rows(inquiry, demand, standing)
    if inquiry.fleet is None and inquiry.gpus is None:
        supply = supply_of_model(catalog.gpu(inquiry.gpu or ""), n_rows, inquiry.modes)
    contents = contents_of(standing, supply, n_rows)
    apart = _told_apart(inquiry, supply, contents, rules, every=every, all_gpus=True)
    size = size_of(apart.problem, apart.sites, single=rules.gpus)
    size *= sum(site.count or 1 for site in apart.sites) if inquiry.host_failures else 1
    exact = size <= _MOST_VARIABLES or (len(apart.sites) <= _MOST_SITES and not inquiry.host_failures)
    if not exact:
        apart = _told_apart(inquiry, supply, contents, rules, every=every, all_gpus=False)
    assert np.array_equal(apart.demand.class_of, demand.class_of), "GPUs told apart changed what replicas are alike"
    objective = inquiry.objective if "moves" in inquiry.objective else (*inquiry.objective, "moves")
    if any(not demand.problem.classes[number].move_price for number in standing.by_class):
        objective = (*objective, FOR_NOTHING)
    found = arrange(
        apart.problem,
        apart.sites,
        rules,
        objective,
        host_failures=inquiry.host_failures,
        deadline=deadline,
        seed=seed,
        plain=wanted(demand),
    )
    if not _holds_pins(apart, found):
        raise InfeasibleError(
            "no plan was found that leaves in place who is pinned",
            [f"{text}: the rules and limits forbid it, or the time was too short to find a plan" for text in inquiry.pinned],
        )
    layout, left, failover = resettle(
        workloads,
        apart.supply,
        apart.problem,
        apart.demand.class_of,
        apart.demand.profiles,
        apart.sites,
        found,
        standing,
        apart.contents,
        single=rules.gpus,
    )
    layout = _without_unused_end(layout, standing) if inquiry.fleet is None and inquiry.gpus is None else layout
    known = exact and all_targets(apart.problem)
    known = known and not any(demand.problem.classes[number].yields for number in standing.by_class)
    stages = tuple(
        _in_prices(stage, apart.problem, standing, known=known) if stage.name == "moves" else stage for stage in found.objectives
    )
    stages = _as_laid_out(inquiry, supply, layout, with_kept(supply, aggregate.as_asked(stages)))
    stages = tuple(stage for stage in stages if stage.name in inquiry.objective)
    return of_arrangement(inquiry, apart.supply, apart.demand, found, stages, layout, left, failover)


def check_pins(inquiry: Inquiry) -> None:
    """Check that who is pinned runs somewhere, and may stay there.

    Raises
    ------
    SpecError
        Who is pinned runs nowhere now, or stands where he may not stay.
    """
    assert inquiry.current is not None
    supply = supply_of(inquiry)
    demand = build(inquiry.workloads, supply, inquiry.calibration, every=inquiry.host_failures > 0, priced=True)
    _, standing = _standing(inquiry, supply, demand)
    layout = inquiry.current
    for name, replicas in pins(inquiry.pinned, inquiry.workloads).items():
        row = next(number for number, workload in enumerate(inquiry.workloads) if workload.name == name)
        mine = standing.workload == row
        for replica in (None,) if replicas is None else sorted(replicas):
            which = np.flatnonzero(mine if replica is None else mine & (layout.replica == replica))
            text = name if replica is None else f"{name}/{replica}"
            if not len(which):
                raise SpecError(f"pinned {text!r} runs nowhere in current; there is no place for it to stay in")
            lost = which[~standing.pinned[which]]
            if len(lost):
                gpu = layout.gpu(int(standing.gpu[lost[0]]))
                slot = gpu.slots[int(lost[0] - layout.offsets[standing.gpu[lost[0]]])]
                who, where = f"{name}/{int(layout.replica[lost[0]])}", gpu_label(gpu.host, gpu.gpu)
                raise SpecError(
                    f"pinned {text!r}: {who} stands on {where} at {slot.profile}@{slot.start}, where it may not stay: that is"
                    f" vacated, or not what it asks for ({inquiry.workloads[row].demand}); drop one of the two"
                )


def _standing(inquiry: Inquiry, supply: Supply, demand: Demand) -> tuple[Demand, Standing]:
    """Return who stands where now; with more options where somebody stands on a profile that is never better than another."""
    assert inquiry.current is not None
    pinned = pins(inquiry.pinned, inquiry.workloads)
    standing = read_standing(inquiry.current, inquiry.workloads, supply, demand, pinned)
    if (standing.lost != LEAVES).any() and not inquiry.host_failures:
        wider = build(inquiry.workloads, supply, inquiry.calibration, every=True, priced=True)
        another = read_standing(inquiry.current, inquiry.workloads, supply, wider, pinned)
        if (another.lost != LEAVES).sum() < (standing.lost != LEAVES).sum():
            return wider, another
    return demand, standing


def _rows(inquiry: Inquiry, demand: Demand, standing: Standing) -> int:
    """Return how many GPUs to think of: those there are, or those in the layout now and as many more as may be needed."""
    if inquiry.fleet is not None:
        return len(inquiry.fleet)
    if inquiry.gpus is not None:
        return inquiry.gpus
    return int(standing.layout.gpu_index.max(initial=-1)) + 1 + most_gpus(demand.problem)


def _without_unused_end(layout: Layout, standing: Standing) -> Layout:
    """Drop the GPUs after the last one that is used, now or then."""
    now = int(standing.layout.gpu_index.max(initial=-1)) + 1
    then = int(np.flatnonzero(layout.used).max(initial=-1)) + 1
    n = max(now, then)
    end = int(layout.offsets[n])
    return replace(
        layout,
        gpu_host=layout.gpu_host[:n],
        gpu_index=layout.gpu_index[:n],
        gpu_pattern=layout.gpu_pattern[:n],
        occupant=layout.occupant[:end],
        replica=layout.replica[:end],
    )


def _as_laid_out(inquiry: Inquiry, supply: Supply, layout: Layout, stages: Sequence[Objective]) -> tuple[Objective, ...]:
    """Say anew what stages cost that the layout tells."""
    assert inquiry.current is not None
    values = {"moves": migration(inquiry.current, layout, inquiry.workloads).price, "gpus": int(layout.used.sum())}
    if supply.fleet is not None:
        used = np.flatnonzero(layout.used)
        kinds = kind_of_rows(supply, len(layout))[used]
        values["cost"] = sum(supply.kinds[kind].cost_micros for kind in kinds.tolist())
        values["power"] = sum(supply.kinds[kind].power_mw for kind in kinds.tolist())
    return tuple(
        Objective(stage.name, values[stage.name], min(stage.bound, values[stage.name])) if stage.name in values else stage
        for stage in stages
    )


def _in_prices(stage: Objective, problem: Problem, standing: Standing, *, known: bool) -> Objective:
    """Turn what stays, counted as less than nothing, into what moves cost."""
    everything = sum(problem.classes[number].move_price * n for number, n in standing.by_class.items())
    return Objective(stage.name, stage.value + everything, max(0, stage.bound + everything) if known else 0)


_MOST_SITES, _MOST_VARIABLES = 60, 30_000
"""Up to so many sites that differ, or variables of a program over all of them, who stands where now is part of the program."""


@dataclass(frozen=True, slots=True)
class _Apart:
    """A question with GPUs told apart by who stands on them now."""

    supply: Supply
    contents: tuple[Content, ...]
    demand: Demand
    problem: Problem
    sites: tuple[Site, ...]


def _told_apart(
    inquiry: Inquiry, supply: Supply, contents: Sequence[Content], rules: Rules, *, every: bool, all_gpus: bool
) -> _Apart:
    """Tell GPUs apart, all of them or only those on which somebody has to stay; `every` as of `demand.build`."""
    split, mine = told_apart(supply, contents, every=all_gpus)
    demand = build(inquiry.workloads, split, inquiry.calibration, every=every, priced=True)
    problem = wanted(demand)
    return _Apart(split, mine, demand, problem, sites_of(problem, split, rules))


def _holds_pins(apart: _Apart, found: Arrangement) -> bool:
    """Whether every GPU on which somebody has to stay is in use, and lets him."""
    used = sum(
        count
        for filled in found.filled
        for (_, column), count in filled.contents.columns.items()
        if apart.problem.columns[column].pinned
    )
    return used == sum(kind.available or 0 for kind in apart.supply.kinds if kind.pinned)
