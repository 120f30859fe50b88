"""Stages of the objective: each alone, in pairs and against brute force, with a fleet on which the order matters."""

from __future__ import annotations

from itertools import permutations

import brute_force
import pytest

import partitioner as gp
from partitioner import Fleet, Gpu, Host, Workload
from partitioner.fleet import NumaNode

A30, A100 = "A30-24GB", "A100-40GB"
STAGES = ("gpus", "cost", "power", "hosts", "waste", "spread", "headroom")


def fleet() -> Fleet:
    """One host with two cheap GPUs that draw much, one with a GPU that costs more, one where an instance stays."""
    cheap, dear = Gpu(A30, None, 1, 300), Gpu(A30, None, 2.5, 100)
    busy = Gpu(A30, "mig", 1.25, 165, ("2g.12gb@0",))
    return Fleet((Host("a", (cheap, cheap)), Host("b", (dear, dear)), Host("c", (busy,))))


def lexicographic(*stages: str) -> tuple[str, ...]:
    """Return an objective; headroom looks at the GPUs in use, so their number is settled before it."""
    if "headroom" in stages and "gpus" not in stages[: stages.index("headroom")]:
        at = stages.index("headroom")
        stages = (*stages[:at], "gpus", *(stage for stage in stages[at:] if stage != "gpus"))
    return ("placed", *stages)


WORKLOADS = [Workload("w", 2, "2g.12gb"), Workload("v", 2, "1g.6gb")]


@pytest.mark.parametrize("stages", list(permutations(STAGES, 2)), ids=" ".join)
def test_pairs_of_stages_equal_brute_force(stages) -> None:
    brute_force.compared(WORKLOADS, fleet(), objective=lexicographic(*stages))


@pytest.mark.parametrize("stages", list(permutations(STAGES, 2)), ids=" ".join)
def test_pairs_of_stages_equal_brute_force_with_rules(stages) -> None:
    apart = [Workload("w", 2, "2g.12gb", spread="gpu"), Workload("v", 2, "1g.6gb", apart_from="w", apart_on="host")]
    brute_force.compared(apart, fleet(), objective=lexicographic(*stages))


@pytest.mark.parametrize("stage", STAGES)
def test_stages_equal_brute_force_where_a_host_may_fail(stage) -> None:
    brute_force.compared(WORKLOADS[:1], fleet(), objective=lexicographic(stage), host_failures=1)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_chosen_among_plans_with_the_most_placed(stage) -> None:
    overflow = [Workload("w", 3, "4g.24gb"), Workload("v", 3, "2g.12gb", priority=1)]
    brute_force.compared(overflow, fleet(), objective=lexicographic(stage))


def figures(plan: gp.Plan) -> dict[str, int]:
    return {stage.name: stage.value for stage in plan.objectives}


@pytest.mark.parametrize(
    ("stage", "value", "gpus_only"),
    [
        ("cost", 2_250_000, {1_250_000 + 1_000_000, 1_250_000 + 2_500_000}),
        ("power", 265_000, {265_000, 465_000}),
    ],
)
def test_cost_and_power_choose_the_gpu(stage, value, gpus_only) -> None:
    plan = brute_force.compared([Workload("w", profile="4g.24gb")], fleet(), objective=("placed", stage))
    assert figures(plan)[stage] == value
    assert value in gpus_only


def test_cost_may_take_more_gpus() -> None:
    """Two small GPUs for 1 each are cheaper than one large GPU for 3."""
    there = Fleet((Host("a", (Gpu(A100, "mig", 3), Gpu(A30, "mig", 1), Gpu(A30, "mig", 1))),))
    asked = [Workload("w", 2, memory_gib=11.5), Workload("v", memory_gib=11.5)]
    cheap = brute_force.compared(asked, there, objective=("placed", "cost"))
    few = brute_force.compared([Workload("w", 2, memory_gib=18)], there, objective=("placed", "gpus"))
    assert (figures(cheap)["cost"], cheap.gpus_used) == (2_000_000, 2)
    assert few.gpus_used == 1


def test_hosts_and_spread_pull_in_opposite_directions() -> None:
    there = Fleet.of(A30, hosts=2, gpus_per_host=2)
    full = [Workload("w", 2, "4g.24gb")]
    packed = brute_force.compared(full, there, objective=("placed", "hosts"))
    even = brute_force.compared(full, there, objective=("placed", "spread"))
    assert (figures(packed)["hosts"], figures(even)["spread"]) == (1, 1)
    assert len({a.host for a in packed.assignments()}) == 1
    assert len({a.host for a in even.assignments()}) == 2


def test_spread_counts_gpus_that_existing_instances_keep_in_use() -> None:
    busy = Gpu("T4", instances=("T4-8Q@0",))
    there = Fleet((Host("a", (Gpu(A30),)), Host("b", (busy, busy))))
    plan = brute_force.compared([Workload("w", profile="1g.6gb")], there, objective=("placed", "spread"))
    assert figures(plan)["spread"] == 2


def test_spread_is_nothing_where_nothing_fits() -> None:
    there = Fleet((Host("a", (Gpu(A30, "whole"),)),))
    plan = brute_force.compared([Workload("w", profile="1g.6gb")], there, objective=("placed", "spread"))
    assert figures(plan) == {"placed": 0, "spread": 0, "gpus": 0}


@pytest.mark.parametrize("objective", [("placed", "headroom"), ("placed", "cost", "headroom", "gpus")])
def test_headroom_needs_the_gpus_settled_before_it(objective) -> None:
    with pytest.raises(gp.SpecError, match="name 'gpus' before it"):
        gp.plan(WORKLOADS, fleet=fleet(), objective=objective)


def test_headroom_leaves_the_largest_free_instance() -> None:
    """Three 1g on one of two GPUs already in use leave a 2g whole on the other one."""
    there = Fleet.of(A30, hosts=1, gpus_per_host=2)
    asked = [Workload("w", 2, "2g.12gb", spread="gpu"), Workload("v", 2, "1g.6gb")]
    plan = brute_force.compared(asked, there, objective=("placed", "gpus", "headroom"))
    assert figures(plan)["headroom"] == 12**2


def test_gpus_with_existing_instances_have_headroom_though_nothing_comes_to_them() -> None:
    nodes = (NumaNode((0,), 2), NumaNode((1,), 2))
    there = Fleet((Host("a", (Gpu(A100), Gpu(A100, instances=("3g.20gb@4",))), numa=nodes),))
    plan = brute_force.compared([Workload("w", profile="1g.5gb", vcpus=3)], there, objective=("placed", "gpus", "headroom"))
    assert figures(plan) == {"placed": 0, "gpus": 1, "headroom": 4 * 5**2}


def test_gpus_are_counted_last_where_they_are_not_named() -> None:
    plan = gp.plan(WORKLOADS, fleet=fleet(), objective="placed")
    assert plan.objective == ("placed", "gpus")
    assert gp.plan(WORKLOADS, fleet=fleet(), objective=("placed", "cost")).objective == ("placed", "cost", "gpus")
