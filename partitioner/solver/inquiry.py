"""From a question to its answer: what has to run on which GPUs, and the best layout with what is proven of it.

The whole way in one function: aggregate, solve, assign, explain. This module must not know files, pictures or how a plan is
presented.
"""

from __future__ import annotations

from typing import NoReturn

from partitioner.errors import SpecError
from partitioner.solver import aggregate
from partitioner.solver.assign import assign
from partitioner.solver.demand import Demand, build
from partitioner.solver.explain import explain, together
from partitioner.solver.hosts import arrange
from partitioner.solver.notes import notes
from partitioner.solver.placing import place
from partitioner.solver.question import Answer, Inquiry, Price, RatingKey, supply_of
from partitioner.solver.resume import reconfigured, relocated
from partitioner.solver.sites import Rules, rules_of, sites_of
from partitioner.solver.supply import Supply
from partitioner.solver.verdict import of_arrangement, prices_of, ratings_of, status_of, wanted, with_kept

__all__ = ["Answer", "Inquiry", "Price", "RatingKey", "answer", "supply_of"]


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
    demand = build(inquiry.workloads, supply, inquiry.calibration, every=inquiry.host_failures > 0, priced=inquiry.moving)
    rules = rules_of(demand.problem, inquiry.fleet, inquiry.objective, inquiry.host_failures)
    if rules.hosts and inquiry.fleet is None:
        _raise_no_hosts(inquiry)
    if rules.located and inquiry.moving:
        return relocated(inquiry, supply, demand, rules, deadline, seed)
    if rules.located:
        return _located(inquiry, supply, demand, rules, deadline, seed)
    if inquiry.moving:
        return reconfigured(inquiry, supply, demand, deadline, seed, why=why)
    return _counted(inquiry, supply, demand, deadline, seed, why=why)


def _counted(inquiry: Inquiry, supply: Supply, demand: Demand, deadline: float, seed: int, *, why: bool) -> Answer:
    """Answer where counting configurations is enough."""
    workloads = inquiry.workloads
    solution = aggregate.solve(demand.problem, objective=inquiry.objective, deadline=deadline, seed=seed)
    layout, left = assign(workloads, supply, demand, solution)
    unplaced = explain(workloads, supply, demand, solution, left, deadline=deadline if why else 0.0, seed=seed)
    prices, rents = prices_of(inquiry, supply, demand, solution)
    more = together(demand, solution, unplaced, deadline=deadline, seed=seed) if why else ()
    return Answer(
        layout,
        status_of(demand, solution),
        with_kept(supply, solution.objectives),
        solution.certificate,
        unplaced,
        (*more, *notes(workloads, supply, demand, solution)),
        prices,
        rents,
        ratings_of(workloads, supply, demand),
    )


def _located(inquiry: Inquiry, supply: Supply, demand: Demand, rules: Rules, deadline: float, seed: int) -> Answer:
    """Answer where hosts or single GPUs have to be told apart."""
    workloads = inquiry.workloads
    problem = wanted(demand)
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
    stages = with_kept(supply, aggregate.as_asked(arrangement.objectives))
    return of_arrangement(inquiry, supply, demand, arrangement, stages, layout, left, failover)


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
