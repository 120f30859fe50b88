"""What is common to all answers: figures of stages, what is proven, exact prices, ratings. Must not know how plans are found."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from partitioner.layout import Index, Layout
from partitioner.performance import Rating
from partitioner.solver.arrangement import Arrangement
from partitioner.solver.configurations import shapes
from partitioner.solver.demand import WHOLE_GPU, Demand
from partitioner.solver.explain import left_out_by_rules
from partitioner.solver.notes import notes
from partitioner.solver.placing import Failover
from partitioner.solver.problem import Objective, Problem, Solution
from partitioner.solver.question import Answer, Inquiry, Price, RatingKey
from partitioner.solver.supply import Supply
from partitioner.solver.verification import KindKey
from partitioner.workload import Workloads


def wanted(demand: Demand) -> Problem:
    """Return the problem without what nothing offers."""
    return demand.problem.with_counts([c.count if c.options else 0 for c in demand.problem.classes])


def with_kept(supply: Supply, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Add the GPUs that existing instances keep in use to the figures."""
    kept = [kind for kind in supply.kinds if kind.kept]
    more = {
        "gpus": sum(kind.available or 0 for kind in kept),
        "cost": sum(kind.cost_micros * (kind.available or 0) for kind in kept),
        "power": sum(kind.power_mw * (kind.available or 0) for kind in kept),
        "hosts": sum(any(gpu.instances for gpu in host.gpus) for host in supply.fleet.hosts) if kept and supply.fleet else 0,
    }
    peak = max((sum(bool(gpu.instances) for gpu in host.gpus) for host in supply.fleet.hosts), default=0) if supply.fleet else 0
    return tuple(
        Objective(stage.name, max(stage.value, peak), max(stage.bound, peak))
        if stage.name == "spread"
        else Objective(stage.name, stage.value + more.get(stage.name, 0), stage.bound + more.get(stage.name, 0))
        for stage in objectives
    )


def status_of(demand: Demand, solution: Solution) -> Literal["optimal", "feasible"]:
    """Every stage is proven; with services the memory wasted has no natural end, and its gap is only reported."""
    services = any(c.yields for c in demand.problem.classes)
    stages = [stage for stage in solution.objectives if not (services and stage.name == "waste")]
    return "optimal" if all(stage.proven for stage in stages) else "feasible"


def ratings_of(workloads: Workloads, supply: Supply, demand: Demand) -> dict[RatingKey, Rating]:
    """Return what the calibration says of every profile that a service could take."""
    return {
        (workloads[row].name, supply.kinds[kind].model, mode, profile.name): rating
        for (row, (kind, mode, profile)), rating in demand.ratings.items()
    }


def prices_of(
    inquiry: Inquiry, supply: Supply, demand: Demand, solution: Solution
) -> tuple[dict[Price, Fraction], dict[KindKey, Fraction]]:
    """Spell the proof's prices out for every profile, also those that another one stands in for.

    A profile that another is never worse than may be priced like that other one, and one that takes its GPU whole at
    1 + rent: no configuration becomes dearer than it may be.
    """
    keys: list[KindKey] = [(kind.model, kind.fixed) for kind in supply.kinds]
    told_apart = (
        bool(inquiry.pinned or inquiry.vacate)
        or any(slot.tenant for slot in demand.problem.slots)
        or any(kind.kept for kind in supply.kinds)
    )
    told_apart = told_apart or inquiry.objective[1] != "gpus" or any(kind.places for kind in supply.kinds)
    if solution.proof is None or told_apart or len(set(keys)) < len(keys):
        return {}, {}
    prices: dict[Price, Fraction] = {}
    for slot, price in zip(demand.problem.slots, solution.proof.slots, strict=True):
        shape = next(s for s in shapes(supply.kinds[slot.kind].model, slot.mode) if s.name == slot.shape)
        for profile in shape.profiles:
            prices[keys[slot.kind], slot.mode, profile.name] = price
    for (kind, mode, name), slots in demand.dropped.items():
        place = (keys[kind], mode, name)
        whole_gpu = 1 + solution.proof.rents[kind]
        floor = max(whole_gpu if slot == WHOLE_GPU else solution.proof.slots[slot] for slot in slots)
        prices[place] = max(prices.get(place, Fraction(0)), floor)
    rents = {key: rent for key, rent in zip(keys, solution.proof.rents, strict=True) if rent}
    return {place: price for place, price in prices.items() if price}, rents


def of_arrangement(
    inquiry: Inquiry,
    supply: Supply,
    demand: Demand,
    arrangement: Arrangement,
    stages: tuple[Objective, ...],
    layout: Layout,
    left: Index,
    failover: tuple[Failover, ...],
) -> Answer:
    """Return the answer that an arrangement of sites and its layout make."""
    workloads = inquiry.workloads
    served: dict[tuple[int, int], int] = {}
    for filled in arrangement.filled:
        for (number, _, slot), count in filled.contents.taken.items():
            served[number, slot] = served.get((number, slot), 0) + count
    solution = Solution((), served, arrangement.placed, stages, arrangement.certificate)
    return Answer(
        layout,
        status_of(demand, solution),
        stages,
        arrangement.certificate,
        left_out_by_rules(workloads, supply, demand, solution, left, host_failures=inquiry.host_failures),
        notes(workloads, supply, demand, solution),
        ratings=ratings_of(workloads, supply, demand),
        failover=failover,
    )
