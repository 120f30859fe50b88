"""From a question to its answer: what has to run on which GPUs, and the best layout with what is proven of it.

The whole way in one function: aggregate, solve, assign, explain. Both are values, so that what-if questions are asked by
replacing a part of the question. This module must not know files, pictures or how a plan is presented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NoReturn

from partitioner import catalog
from partitioner.errors import Problem as Complaint
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import Fleet
from partitioner.layout import Layout, gpu_label
from partitioner.performance import Calibration, Rating
from partitioner.solver import aggregate
from partitioner.solver.assign import assign
from partitioner.solver.configurations import shapes
from partitioner.solver.demand import WHOLE_GPU, Demand, build
from partitioner.solver.explain import Unplaced, explain, left_out_by_rules, together
from partitioner.solver.hosts import arrange
from partitioner.solver.notes import notes
from partitioner.solver.placing import Failover, place
from partitioner.solver.problem import Objective, Solution
from partitioner.solver.sites import Rules, rules_of, sites_of
from partitioner.solver.supply import Supply, match_modes, supply_of_fleet, supply_of_model
from partitioner.solver.verification import KindKey
from partitioner.workload import Workloads

Price = tuple[KindKey, str, str]
RatingKey = tuple[str, str, str, str]
"""Workload, GPU model, mode, profile."""


@dataclass(frozen=True)
class Inquiry:
    """What has to run, on which GPUs, and what is best.

    Parameters
    ----------
    workloads : what has to run.
    fleet : the GPUs; None where GPUs of one model without hosts are planned.
    gpu, gpus : that model, and how many of it there are; None: as many as needed.
    modes : modes or families of modes that may be used; None: all.
    objective : stages, ``placed`` first.
    host_failures : hosts whose loss the layout survives, 0 or 1.
    calibration : what models do on profiles; needed where there are services.
    """

    workloads: Workloads
    fleet: Fleet | None = None
    gpu: str | None = None
    gpus: int | None = None
    modes: tuple[str, ...] | None = None
    objective: tuple[str, ...] = ("placed", "gpus", "waste")
    host_failures: int = 0
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Answer:
    """The best layout, with what is proven of it.

    Parameters
    ----------
    layout : placements and occupants.
    status : ``optimal`` where every stage is proven.
    objectives : the stages with value and bound.
    certificate : what proves the bound of the first stage after ``placed``.
    unplaced : what was left out and why.
    notes : what a reader should know.
    prices, rents : exact prices behind the bound, empty where it rests on a search.
    ratings : what the calibration says of every profile that a service could take.
    failover : where replicas go when a host fails.
    """

    layout: Layout
    status: Literal["optimal", "feasible"]
    objectives: tuple[Objective, ...]
    certificate: str
    unplaced: tuple[Unplaced, ...]
    notes: tuple[str, ...]
    prices: Mapping[Price, Fraction] = field(default_factory=dict)
    rents: Mapping[KindKey, Fraction] = field(default_factory=dict)
    ratings: Mapping[RatingKey, Rating] = field(default_factory=dict)
    failover: tuple[Failover, ...] = ()


def answer(inquiry: Inquiry, *, deadline: float, seed: int, why: bool = True) -> Answer:
    """Return the best layout for an inquiry.

    Parameters
    ----------
    inquiry : the question.
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines.
    why : whether to explain what was left out; what-if questions need not.

    Raises
    ------
    SpecError
        A workload asks for what does not exist on these GPUs; every such workload.
    """
    supply = supply_of(inquiry)
    demand = build(inquiry.workloads, supply, inquiry.calibration, every=inquiry.host_failures > 0)
    rules = rules_of(demand.problem, inquiry.fleet, inquiry.objective, inquiry.host_failures)
    if rules.hosts and inquiry.fleet is None:
        _raise_no_hosts(inquiry)
    if rules.located:
        return _located(inquiry, supply, demand, rules, deadline, seed)
    return _counted(inquiry, supply, demand, deadline, seed, why=why)


def _counted(inquiry: Inquiry, supply: Supply, demand: Demand, deadline: float, seed: int, *, why: bool) -> Answer:
    """Answer where counting configurations is enough."""
    workloads = inquiry.workloads
    solution = aggregate.solve(demand.problem, objective=inquiry.objective, deadline=deadline, seed=seed)
    layout, left = assign(workloads, supply, demand, solution)
    unplaced = explain(workloads, supply, demand, solution, left, deadline=deadline if why else 0.0, seed=seed)
    prices, rents = _prices(inquiry, supply, demand, solution)
    more = together(demand, solution, unplaced, deadline=deadline, seed=seed) if why else ()
    return Answer(
        layout,
        _status(demand, solution),
        _with_kept(supply, solution.objectives),
        solution.certificate,
        unplaced,
        (*more, *notes(workloads, supply, demand, solution)),
        prices,
        rents,
        _ratings(workloads, supply, demand),
    )


def _located(inquiry: Inquiry, supply: Supply, demand: Demand, rules: Rules, deadline: float, seed: int) -> Answer:
    """Answer where hosts or single GPUs have to be told apart."""
    workloads = inquiry.workloads
    problem = demand.problem.with_counts([c.count if c.options else 0 for c in demand.problem.classes])
    sites = sites_of(problem, supply, rules)
    arrangement = arrange(
        problem,
        sites,
        rules,
        inquiry.objective,
        host_failures=inquiry.host_failures,
        deadline=deadline,
        seed=seed,
    )
    layout, left, failover = place(
        workloads, supply, problem, demand.class_of, demand.profiles, sites, arrangement, single=rules.gpus
    )
    served: dict[tuple[int, int], int] = {}
    for filled in arrangement.filled:
        for (number, _, slot), count in filled.contents.taken.items():
            served[number, slot] = served.get((number, slot), 0) + count
    stages = aggregate.as_asked(arrangement.objectives)
    solution = Solution((), served, arrangement.placed, stages, arrangement.certificate)
    return Answer(
        layout,
        _status(demand, solution),
        _with_kept(supply, stages),
        arrangement.certificate,
        left_out_by_rules(workloads, supply, demand, solution, left, host_failures=inquiry.host_failures),
        notes(workloads, supply, demand, solution),
        ratings=_ratings(workloads, supply, demand),
        failover=failover,
    )


def _raise_no_hosts(inquiry: Inquiry) -> NoReturn:
    for index, workload in enumerate(inquiry.workloads):
        levels = {
            "spread": workload.spread == "host",
            "apart_on": bool(workload.apart_from) and workload.apart_on == "host",
            "together_on": bool(workload.together_with) and workload.together_on == "host",
            "gpus_per_replica": workload.gpus_per_replica > 1,
            "gpu_link": workload.gpu_link is not None,
            "rdma": workload.rdma,
        }
        for name, needed in levels.items():
            if needed:
                message = f"{name} {getattr(workload, name)!r} looks at hosts; plan for a fleet, with fleet="
                raise SpecError(inquiry.workloads.problem(index, message, name))
    raise SpecError("host_failures looks at hosts; plan for a fleet, with fleet=")


def _with_kept(supply: Supply, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
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


def supply_of(inquiry: Inquiry) -> Supply:
    """Return the GPUs that an inquiry may use.

    Raises
    ------
    SpecError
        No GPU has any of the modes, or a workload names a host or GPU that does not exist.
    """
    named = {place for workload in inquiry.workloads for place in (*workload.only_on, *workload.never_on)}
    if inquiry.fleet is None:
        assert inquiry.gpu is not None
        if named:
            _raise_unknown_places(inquiry.workloads, named, [])
        return supply_of_model(catalog.gpu(inquiry.gpu), inquiry.gpus, inquiry.modes)
    if named:
        there = [name for host in inquiry.fleet.hosts for name in (host.name, *_labels(host.name, len(host.gpus)))]
        if not named <= set(there):
            _raise_unknown_places(inquiry.workloads, named - set(there), there)
    supply = supply_of_fleet(inquiry.fleet, inquiry.modes, named)
    if not any(match_modes(inquiry.modes, catalog.gpu(kind.model)) for kind in supply.kinds):
        models = ", ".join(dict.fromkeys(kind.model for kind in supply.kinds))
        raise SpecError(f"no GPU of the fleet ({models}) has mode {' or '.join(inquiry.modes or ())}")
    return supply


def _labels(host: str, gpus: int) -> list[str]:
    return [gpu_label(host, index) for index in range(gpus)]


def _raise_unknown_places(workloads: Workloads, unknown: set[str], there: list[str]) -> None:
    complaints: list[Complaint] = []
    for index, workload in enumerate(workloads):
        for field_name in ("only_on", "never_on"):
            for name in getattr(workload, field_name):
                if name in unknown:
                    hint = did_you_mean(name, there) if there else "without a fleet there are no hosts; give fleet="
                    message = f"{name!r} is no host and no GPU (written 'host/gpu0') of the fleet; {hint}".rstrip("; ")
                    complaints.append(workloads.problem(index, message, field_name))
    raise SpecError(complaints[:_MAX_PROBLEMS])


_MAX_PROBLEMS = 50


def _status(demand: Demand, solution: Solution) -> Literal["optimal", "feasible"]:
    """Every stage is proven; with services the memory wasted has no natural end, and its gap is only reported."""
    services = any(c.yields for c in demand.problem.classes)
    stages = [stage for stage in solution.objectives if not (services and stage.name == "waste")]
    return "optimal" if all(stage.proven for stage in stages) else "feasible"


def _ratings(workloads: Workloads, supply: Supply, demand: Demand) -> dict[RatingKey, Rating]:
    return {
        (workloads[row].name, supply.kinds[kind].model, mode, profile.name): rating
        for (row, (kind, mode, profile)), rating in demand.ratings.items()
    }


def _prices(
    inquiry: Inquiry, supply: Supply, demand: Demand, solution: Solution
) -> tuple[dict[Price, Fraction], dict[KindKey, Fraction]]:
    """Spell the proof's prices out for every profile, also those that another one stands in for.

    A profile that another is never worse than may be priced like that other one, and one that takes its GPU whole at
    1 + rent: no configuration becomes dearer than it may be.
    """
    keys: list[KindKey] = [(kind.model, kind.fixed) for kind in supply.kinds]
    told_apart = any(slot.tenant for slot in demand.problem.slots) or any(kind.kept for kind in supply.kinds)
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
