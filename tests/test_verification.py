"""`verify` accepts every plan and rejects every corrupted one."""

from __future__ import annotations

import ast
import contextlib
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from claims import Left, Move, Stage, Stated, rating, stated
from hypothesis import given
from hypothesis import strategies as st
from test_planning import random_case

import partitioner as gp
import partitioner.solver.verification
from partitioner.fleet import NumaNode
from partitioner.layout import NOBODY, Pattern
from partitioner.solver import verify
from partitioner.solver.problem import Objective
from partitioner.topology import Topology


@pytest.fixture(scope="module")
def plan() -> gp.Plan:
    return gp.plan_mig({"3g.40gb": 3, "2g.20gb": 2, "1g.10gb": 5}, fleet=gp.Fleet.of("A100-80GB", hosts=2, gpus_per_host=3))


def with_layout(plan: gp.Plan, **columns: object) -> gp.Plan:
    return replace(plan, layout=replace(plan.layout, **columns))


def moved(plan: gp.Plan) -> gp.Plan:
    """The first pattern with its placements at starts that overlap."""
    patterns = list(plan.layout.patterns)
    row = next(i for i, p in enumerate(patterns) if len(p.placements) > 1)
    a, b, *rest = patterns[row].placements
    patterns[row] = Pattern(patterns[row].model, patterns[row].mode, (a, replace(b, start=a.start), *rest))
    return with_layout(plan, patterns=tuple(patterns))


def column(plan: gp.Plan, name: str, index: int, value: int) -> gp.Plan:
    changed = getattr(plan.layout, name).copy()
    changed[index] = value
    return with_layout(plan, **{name: changed})


def other_stage(plan: gp.Plan, name: str, value: int, bound: int) -> gp.Plan:
    stages = tuple(Objective(name, value, bound) if s.name == name else s for s in plan.objectives)
    return replace(plan, objectives=stages)


CORRUPTIONS = {
    "overlap": moved,
    "replica twice": lambda p: column(
        column(p, "occupant", 0, int(p.layout.occupant[1])), "replica", 0, int(p.layout.replica[1])
    ),
    "replica too many": lambda p: column(p, "replica", 0, 99),
    "replica dropped": lambda p: column(p, "occupant", 0, NOBODY),
    "host out of range": lambda p: column(p, "gpu_host", 0, 99),
    "GPU before the first": lambda p: column(p, "gpu_index", 0, -1),
    "pattern out of range": lambda p: column(p, "gpu_pattern", 0, 99),
    "a figure twice": lambda p: replace(p, objectives=(*p.objectives, p.objectives[1])),
    "stages in another order": lambda p: replace(p, objectives=p.objectives[::-1]),
    "a stage of which nobody knows": lambda p: replace(p, objectives=(*p.objectives, Objective("speed", 1, 1))),
    "a stage without figure": lambda p: replace(p, objective=(*p.objective, "cost")),
    "ratings without a service": lambda p: replace(p, ratings={("3g.40gb", "A100-80GB", "mig", "3g.40gb"): rating(1.0)}),
    "survives two hosts": lambda p: replace(p, host_failures=2),
    "occupant out of range": lambda p: column(p, "occupant", 0, 99),
    "GPU twice": lambda p: column(p, "gpu_index", 1, 0),
    "GPU not there": lambda p: column(p, "gpu_index", 1, 7),
    "wrong model": lambda p: with_layout(p, patterns=tuple(replace(x, model="H100-80GB") for x in p.layout.patterns)),
    "fewer GPUs claimed": lambda p: other_stage(p, "gpus", p.gpus_used - 1, p.gpus_used - 1),
    "bound too high": lambda p: other_stage(p, "gpus", p.gpus_used, p.gpus_used + 1),
    "bound not met": lambda p: other_stage(p, "gpus", p.gpus_used, p.gpus_used - 1),
    "more placed claimed": lambda p: other_stage(p, "placed", p.placed + 1, p.placed + 1),
    "no stages": lambda p: replace(p, objectives=()),
    "unknown status": lambda p: replace(p, status="best"),
    "left out, yet placed": lambda p: replace(p, unplaced=(gp.Unplaced("3g.40gb", 1, "", ""),)),
    "left out, never asked for": lambda p: replace(p, unplaced=(gp.Unplaced("x", 1, "", ""),)),
    "other demand": lambda p: replace(p, workloads=(replace(p.workloads[0], profile="4g.40gb"), *p.workloads[1:])),
    "fewer asked for": lambda p: replace(p, workloads=(replace(p.workloads[0], count=1), *p.workloads[1:])),
    "name twice": lambda p: replace(p, workloads=(p.workloads[0], p.workloads[0], *p.workloads[1:])),
    "mode not allowed": lambda p: replace(p, modes=("whole",)),
    "mode fixed": lambda p: replace(p, fleet=gp.Fleet.of("A100-80GB", hosts=2, gpus_per_host=3, mode="whole")),
    "smaller fleet": lambda p: replace(p, fleet=gp.Fleet.of("A100-80GB", gpus_per_host=1)),
    "prices too low": lambda p: replace(p, prices={k: v / 2 for k, v in p.prices.items()}),
    "prices too high": lambda p: replace(p, prices={k: v * 2 for k, v in p.prices.items()}),
    "negative rent": lambda p: replace(p, rents={("A100-80GB", None): Fraction(-1)}),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_plan_is_rejected(plan, name) -> None:
    corrupted = CORRUPTIONS[name](plan)
    with pytest.raises(gp.VerificationError) as caught:
        verify(corrupted)
    assert caught.value.findings


def test_the_plan_itself_is_accepted(plan) -> None:
    verify(plan)


def test_a_rent_proves_nothing_where_gpus_are_unlimited() -> None:
    plan = gp.plan_mig("4g+2g")
    with pytest.raises(gp.VerificationError, match="proves nothing"):
        verify(replace(plan, rents={("A100-80GB", None): Fraction(1)}))


@given(st.integers(0, 10**9))
def test_every_plan_is_accepted_and_its_corruptions_are_rejected(seed) -> None:
    """Whatever the plan, moving one occupant or one count makes it wrong."""
    rng = random.Random(seed)
    workloads, fleet = random_case(rng)
    plan = gp.plan(workloads, fleet=fleet)
    verify(plan)
    if not len(plan.layout.occupant):
        return
    row = rng.randrange(len(plan.layout.occupant))
    wrong = [
        column(plan, "occupant", row, NOBODY),
        column(plan, "replica", row, 1_000),
        other_stage(plan, "placed", plan.placed - 1, plan.placed - 1),
        other_stage(plan, "gpus", plan.gpus_used + 1, plan.gpus_used + 1),
        replace(plan, workloads=tuple(replace(w, count=w.count + 1) for w in plan.workloads)),
    ]
    for corrupted in wrong:
        with pytest.raises(gp.VerificationError):
            verify(corrupted)


def test_a_search_in_one_part_of_a_fleet_and_prices_in_another_make_one_accepted_proof() -> None:
    """The A30 is proven by prices, the A100s (whose prices prove 1 GPU only) by a search."""
    fleet = gp.Fleet((gp.Host("h", {"A30-24GB": 1, "A100-40GB": 2}),))
    plan = gp.plan({"A30-24C": 2, "A30-4C": 2, "3g.20gb": 1, "A100-20C": 1}, fleet=fleet)
    assert (plan.gpus_used, plan.lower_bound, plan.placed, plan.status) == (3, 3, 4, "optimal")
    assert plan.certificate.startswith("configuration LP and branch and bound (SCIP; configuration LP alone: ")


def test_verification_shares_no_code_with_the_solvers() -> None:
    package = "partitioner.solver.verification"
    for path in Path(gp.solver.verification.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not {name for name in imported if name.startswith("partitioner.solver") and not name.startswith(package)}
        for shared in ("is_legal", "violation", "allows", "groups", "nics_beside"):
            assert f"attr='{shared}'" not in ast.dump(tree), (path, shared)


def test_columns_of_another_length_are_rejected(plan) -> None:
    shorter = with_layout(plan, occupant=plan.layout.occupant[:-1], replica=plan.layout.replica[:-1])
    rejected(shorter, "columns do not match")
    rejected(with_layout(plan, gpu_index=plan.layout.gpu_index[:-1]), "columns do not match")
    assert isinstance(plan.layout.occupant, np.ndarray)


# -- claims by hand ----------------------------------------------------------------------------------------------------

FLEET = gp.Fleet.of("A100-80GB", hosts=["a", "b"], gpus_per_host=2)


def accepted(claim: Stated) -> Stated:
    verify(claim)
    return claim


def rejected(claim: Stated | gp.Plan, match: str) -> None:
    with pytest.raises(gp.VerificationError, match=match):
        verify(claim)


def web(**fields: object) -> gp.Workload:
    return gp.Workload("web", **{"count": 2, "profile": "2g.20gb", **fields})


def db(**fields: object) -> gp.Workload:
    return gp.Workload("db", **{"profile": "1g.10gb", **fields})


APART = {"a/gpu0": "mig 2g.20gb@0=web.0", "a/gpu1": "mig 2g.20gb@0=web.1", "b/gpu0": "mig 1g.10gb@0=db.0"}
"""Two replicas on the GPUs of one host, another workload on another host."""
BESIDE = {"a/gpu0": "mig 2g.20gb@0=web.0 2g.20gb@2=web.1 1g.10gb@6=db.0"}
"""All on one GPU."""
TWO_GPUS = {"a/gpu0": "mig 2g.20gb@0=web.0 2g.20gb@2=web.1", "a/gpu1": "mig 1g.10gb@0=db.0"}
"""The other workload on another GPU of the same host."""

RULES = {
    "spread over GPUs": (web(spread="gpu"), db(), APART, BESIDE, "'web': replicas 0 and 1 share a/gpu0"),
    "spread over hosts": (
        web(spread="host"),
        db(),
        {"a/gpu0": "mig 2g.20gb@0=web.0", "b/gpu0": "mig 2g.20gb@0=web.1 1g.10gb@6=db.0"},
        APART,
        "'web': replicas 0 and 1 share a; spread='host'",
    ),
    "apart on GPUs": (web(apart_from="db"), db(), TWO_GPUS, BESIDE, "'web' and 'db' share a/gpu0"),
    "apart on GPUs, the other way round": (web(), db(apart_from="web"), TWO_GPUS, BESIDE, "'db' and 'web' share a/gpu0"),
    "apart on hosts": (web(apart_from="db", apart_on="host"), db(), APART, TWO_GPUS, "'web' and 'db' share a;"),
    "together on GPUs": (db(together_with="web"), web(), BESIDE, TWO_GPUS, "'db' stands on a/gpu1 without 'web'"),
    "together on hosts": (
        db(together_with="web", together_on="host"),
        web(),
        TWO_GPUS,
        APART,
        "'db' stands on b without 'web'",
    ),
    "tenants": (web(tenant="red"), db(tenant="blue"), TWO_GPUS, BESIDE, "a/gpu0 is shared by tenants 'blue', 'red'"),
    "pinned to a host": (db(only_on="b"), web(), APART, BESIDE, "'db' stands on a/gpu0; it may be on b only"),
    "pinned to a GPU": (db(only_on="a/gpu1"), web(), TWO_GPUS, BESIDE, "'db' stands on a/gpu0; it may be on a/gpu1 only"),
    "kept off a host": (db(never_on="a"), web(), APART, BESIDE, "'db' stands on a/gpu0; it may never be on a"),
    "kept off a GPU": (db(never_on="a/gpu0"), web(), TWO_GPUS, BESIDE, "'db' stands on a/gpu0; it may never be on a/gpu0"),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_on_who_stands_where(name: str) -> None:
    one, other, right, wrong, match = RULES[name]
    accepted(stated((one, other), FLEET, right))
    rejected(stated((one, other), FLEET, wrong), match)


def test_together_is_one_way_and_tenants_share_with_nobodys_workloads() -> None:
    accepted(stated((db(together_with="web"), web()), FLEET, {**BESIDE, "b/gpu0": "mig 1g.10gb@0"}))
    accepted(stated((db(tenant="red"), web()), FLEET, BESIDE))
    lonely = stated((db(together_with="web", count=1), web()), FLEET, {"a/gpu0": "mig 1g.10gb@6=db.0"})
    rejected(lonely, "without 'web'")


def test_hardware_isolation_forbids_time_slicing() -> None:
    workload = gp.Workload("web", memory_gib=9, isolation="hardware")
    sliced = {"a/gpu0": "vgpu-equal-10 A100D-10C@0=web.0"}
    accepted(stated((workload,), FLEET, {"a/gpu0": "mig 1g.10gb@0=web.0"}))
    accepted(stated((workload,), FLEET, {"a/gpu0": "whole whole@0=web.0"}))
    accepted(stated((replace(workload, isolation="any"),), FLEET, sliced))
    rejected(
        stated((workload,), FLEET, sliced),
        "'web': A100D-10C on A100-80GB in mode vgpu-equal-10 does not satisfy memory_gib=9.0, isolation=hardware",
    )


# -- existing instances ------------------------------------------------------------------------------------------------

KEPT = gp.Fleet((gp.Host("a", (gp.Gpu("A100-80GB", instances=("3g.40gb@4",)), gp.Gpu("A100-80GB"))),))


def test_existing_instances_stay_free_and_in_place() -> None:
    workload = (gp.Workload("web", profile="3g.40gb"),)
    good = accepted(stated(workload, KEPT, {"a/gpu0": "mig 3g.40gb@0=web.0 3g.40gb@4"}))
    assert good.objectives[1].value == 1
    accepted(stated(workload, KEPT, {"a/gpu0": "mig 3g.40gb@4", "a/gpu1": "mig 3g.40gb@0=web.0"}))  # counts as used
    rejected(
        stated(workload, KEPT, {"a/gpu0": "mig 3g.40gb@4=web.0"}),
        r"a/gpu0 \(A100-80GB\): the existing instance 3g.40gb@4 is busy, but workload 'web' stands on it",
    )
    rejected(stated(workload, KEPT, {"a/gpu0": "mig 3g.40gb@0=web.0"}), "3g.40gb@4 must stay, but is not in the layout")
    rejected(stated(workload, KEPT, {"a/gpu1": "mig 3g.40gb@0=web.0"}), "3g.40gb@4 must stay, but is not in the layout")
    without = gp.Fleet((replace(KEPT.hosts[0], gpus=KEPT.hosts[0].gpus[1:]),))
    moved_gpu = stated(workload, without, {"a/gpu0": "mig 3g.40gb@0=web.0"}).layout
    absent = replace(good, layout=replace(moved_gpu, gpu_index=moved_gpu.gpu_index + 1))
    rejected(absent, "a/gpu0 .* has existing instances, but is not in the layout")


def test_existing_instances_may_be_in_a_mode_that_the_plan_does_not_cut() -> None:
    workload = (gp.Workload("web", profile="whole"),)
    lines = {"a/gpu0": "mig 3g.40gb@4", "a/gpu1": "whole whole@0=web.0"}
    accepted(stated(workload, KEPT, lines, modes=("whole",)))
    rejected(stated(workload, KEPT, {**lines, "a/gpu0": "mig 3g.40gb@4 1g.10gb@0"}, modes=("whole",)), "mode mig is not one of")


# -- services ----------------------------------------------------------------------------------------------------------

SEARCH = gp.Workload("search", model="bert", rate=100.0, latency_ms=20.0, max_batch=16, max_processes=2, memory_gib=5)
RATINGS = {
    ("search", "A100-80GB", "mig", "1g.10gb"): rating(30.0, 15.0),
    ("search", "A100-80GB", "mig", "3g.40gb"): rating(40.0, 12.0),
}
SERVED = {"a/gpu0": "mig 3g.40gb@0=search.0 1g.10gb@4=search.1 1g.10gb@5=search.2"}


def served(workload: gp.Workload = SEARCH, lines: dict[str, str] = SERVED, **ratings: object) -> Stated:
    changed = {("search", "A100-80GB", "mig", name.replace("_", ".")): value for name, value in ratings.items()}
    return stated((workload,), FLEET, lines, ratings={**RATINGS, **changed})


def test_a_service_reaches_its_rate_with_as_many_instances_as_it_likes() -> None:
    claim = accepted(served())
    assert (claim.objectives[0].value, claim.unplaced) == (1, ())
    accepted(served(replace(SEARCH, rate=100.00000001)))  # rounding
    accepted(served(lines={}))  # left out, and reported
    accepted(served(**{"1g_10gb": rating(30.0, None)}))  # a latency that is not known


FIRST_TWO = {"a/gpu0": "mig 3g.40gb@0=search.0 1g.10gb@4=search.1"}
SERVICES = {
    "rate": (served(replace(SEARCH, rate=100.1)), "'search': its instances serve 100 requests/s; the rate is 100.1"),
    "an instance fewer": (served(lines=FIRST_TWO), "serve 70 requests/s"),
    "latency": (served(**{"1g_10gb": rating(30.0, 20.1)}), "on 1g.10gb .* latency_ms is 20.1; the limit is 20"),
    "latency that is no number": (served(**{"1g_10gb": rating(30.0, float("nan"))}), "latency_ms is nan"),
    "batch": (served(**{"1g_10gb": rating(30.0, 15.0, batch=17)}), "batch is 17; the limit is 16"),
    "processes": (served(**{"1g_10gb": rating(30.0, 15.0, processes=3)}), "processes is 3; the limit is 2"),
    "throughput of nothing": (served(**{"1g_10gb": rating(0.0)}), "the rating on 1g.10gb .* is 0.0 requests/s"),
    "throughput without end": (served(**{"1g_10gb": rating(float("inf"))}), "is inf requests/s"),
    "no rating": (replace(served(), ratings={}), "'search' on 1g.10gb of A100-80GB in mode mig: the plan has no rating"),
    "memory": (served(replace(SEARCH, memory_gib=20)), "1g.10gb .* does not satisfy memory_gib=20"),
    "profile": (served(replace(SEARCH, memory_gib=None, profile="3g.40gb")), "does not satisfy profile=3g.40gb"),
    "a gap": (served(lines={"a/gpu0": SERVED["a/gpu0"].replace("search.1", "search.3")}), "instance 3 was not asked for"),
    "an instance twice": (served(lines={"a/gpu0": SERVED["a/gpu0"].replace("h.1", "h.2")}), "replica 2 stands on 2 placements"),
    "left out, yet placed": (replace(served(), unplaced=(Left("search", 1),)), "0 replicas are not placed, 1 are reported"),
    "left out, not reported": (replace(served(lines={}), unplaced=()), "1 replicas are not placed, 0 are reported"),
    "every instance counted": (replace(served(), objectives=(Stage("placed", 3, 3), Stage("gpus", 1, 1))), "placed is 1, not 3"),
    "rating of nobody": (replace(served(), ratings={**RATINGS, ("x", "T4", "whole", "whole"): rating(1.0)}), "'x' has a rating"),
    "spread": (served(replace(SEARCH, spread="gpu")), "'search': replicas 0 and 1 share a/gpu0"),
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_is_not_served_is_rejected(name: str) -> None:
    rejected(*SERVICES[name])


# -- hosts' limits -----------------------------------------------------------------------------------------------------


def limited(host: dict[str, object], workload: dict[str, object], lines: dict[str, str] | None = None) -> Stated:
    fleet = gp.Fleet((gp.Host("a", {"A100-80GB": 2}, **host), gp.Host("b", {"A100-80GB": 2})))
    return stated((web(**workload), db()), fleet, lines or TWO_GPUS)


NODES = (NumaNode((0,), vcpus=16, ram_gib=100), NumaNode((1,), vcpus=1))
LIMITS = {
    "vCPUs": ({"vcpus": 16}, {"vcpus": 8}, {"vcpus": 9}, "a: 18 vCPUs are taken; there are 16"),
    "memory, exactly": ({"ram_gib": 0.6}, {"ram_gib": 0.3}, {"ram_gib": 0.30000001}, "a: 0.6 GiB of memory are taken; there are"),
    "vCPUs of a node": ({"numa": NODES}, {"vcpus": 8}, {"vcpus": 9}, "NUMA node 0 of a: 18 vCPUs are taken; there are 16"),
    "memory of a node": ({"numa": NODES}, {"ram_gib": 50}, {"ram_gib": 51}, "NUMA node 0 of a: 102 GiB of memory"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_hosts_and_nodes_hold_what_they_have(name: str) -> None:
    host, right, wrong, match = LIMITS[name]
    accepted(limited(host, right))
    rejected(limited(host, wrong), match)


def test_amounts_are_the_decimals_that_were_written() -> None:
    """Three tenths are 0.3, though 0.1 + 0.1 + 0.1 is more in binary."""
    lines = {"a/gpu0": "mig 1g.10gb@0=db.0 1g.10gb@1=db.1 1g.10gb@2=db.2"}
    fleet = gp.Fleet((gp.Host("a", {"A100-80GB": 1}, ram_gib=0.3),))
    accepted(stated((db(count=3, ram_gib=0.1),), fleet, lines))
    rejected(stated((db(count=3, ram_gib=0.1000001),), fleet, lines), "a: 0.3 GiB of memory are taken; there are 0.3")


def test_replicas_are_virtual_machines() -> None:
    rejected(limited({"max_vms": 2}, {}), "a: 3 VMs are taken; there are 2")
    accepted(limited({"max_vms": 2}, {}, APART))
    rejected(limited({"max_vms": 1}, {}, APART), "a: 2 VMs are taken; there are 1")


def test_instances_of_services_take_what_hosts_have() -> None:
    fleet = gp.Fleet((gp.Host("a", {"A100-80GB": 1}, vcpus=11),))
    accepted(stated((replace(SEARCH, vcpus=3),), fleet, SERVED, ratings=RATINGS))
    rejected(stated((replace(SEARCH, vcpus=4),), fleet, SERVED, ratings=RATINGS), "a: 12 vCPUs are taken; there are 11")


# -- jobs of several GPUs ----------------------------------------------------------------------------------------------

LINKS = Topology(
    [
        ["X", "NV12", "SYS", "SYS"],
        ["NV12", "X", "PHB", "SYS"],
        ["SYS", "PHB", "X", "PXB"],
        ["SYS", "SYS", "PXB", "X"],
    ],
    {"mlx5_0": ["PIX", "PXB", "NODE", "SYS"]},
)
LINKED = gp.Fleet((gp.Host("a", {"A100-80GB": 4}, links=LINKS), gp.Host("b", {"A100-80GB": 4})))


def job(lines: dict[str, str], fleet: gp.Fleet = LINKED, **fields: object) -> Stated:
    return stated((gp.Workload("train", **{"profile": "whole", "gpus_per_replica": 2, **fields}),), fleet, lines)


def on(*gpus: str) -> dict[str, str]:
    return dict.fromkeys(gpus, "whole whole@0=train.0")


HALVES = "mig 3g.40gb@0=train.0 3g.40gb@4=train.0"


def test_a_job_takes_equal_profiles_in_one_host_and_counts_once() -> None:
    claim = accepted(job(on("a/gpu0", "a/gpu3")))
    assert claim.objectives[0].value == 1
    accepted(job({"a/gpu0": HALVES}, profile="3g.40gb"))
    rejected(job(on("a/gpu0")), "'train': replica 0 stands on 1 placements, not 2")
    rejected(job(on("a/gpu0", "a/gpu1", "a/gpu2")), "replica 0 stands on 3 placements, not 2")
    rejected(job(on("a/gpu0", "b/gpu0")), "'train': replica 0 stands on 2 hosts: a, b")
    unequal = {"a/gpu0": "mig 3g.40gb@0=train.0 2g.20gb@4=train.0"}
    rejected(job(unequal, profile=None, memory_gib=5), "takes unequal profiles: 2g.20gb .*, 3g.40gb")
    mixed = gp.Fleet((gp.Host("a", {"A100-80GB": 1, "H100-80GB": 1}),))
    rejected(job(on("a/gpu0", "a/gpu1"), mixed), "takes unequal profiles: whole on A100-80GB .*, whole on H100-80GB")


def test_links_of_a_job_are_as_good_as_asked() -> None:
    accepted(job(on("a/gpu0", "a/gpu1"), gpu_link="NVLINK"))
    accepted(job(on("a/gpu1", "a/gpu2"), gpu_link="PHB"))
    accepted(job(on("a/gpu1", "a/gpu2"), gpu_link="NODE"))
    rejected(job(on("a/gpu1", "a/gpu2"), gpu_link="PXB"), "has link PHB between GPUs 1 and 2; gpu_link is PXB")
    rejected(job(on("a/gpu0", "a/gpu1", "a/gpu2"), gpus_per_replica=3, gpu_link="NODE"), "has link SYS between GPUs 0 and 2")
    rejected(job({"a/gpu0": HALVES}, profile="3g.40gb", gpu_link="SYS"), "stands twice on one GPU of a/gpu0, a/gpu0")
    rejected(job(on("b/gpu0", "b/gpu1"), gpu_link="SYS"), "needs links, but none are known of b")


def test_rdma_needs_an_adapter_beside_each_gpu() -> None:
    accepted(job(on("a/gpu0", "a/gpu1"), rdma=True))
    rejected(job(on("a/gpu1", "a/gpu2"), rdma=True), "has no NIC at PIX or PXB beside GPU 2; rdma needs one")
    rejected(job(on("a/gpu3"), gpus_per_replica=1, rdma=True), "beside GPU 3")
    rejected(job(on("b/gpu3"), gpus_per_replica=1, rdma=True), "none are known of b")


def test_a_job_takes_equal_shares_of_its_nodes_and_is_one_virtual_machine() -> None:
    nodes = (NumaNode((0, 1), vcpus=8), NumaNode((2, 3), vcpus=3))
    fleet = gp.Fleet((gp.Host("a", {"A100-80GB": 4}, vcpus=9, max_vms=1, numa=nodes),))
    three = {"gpus_per_replica": 3, "vcpus": 9}
    accepted(job(on("a/gpu0", "a/gpu1", "a/gpu2"), fleet, **three))
    rejected(job(on("a/gpu0", "a/gpu2", "a/gpu3"), fleet, **three), "NUMA node 1 of a: 6 vCPUs are taken; there are 3")
    rejected(job(on("a/gpu0", "a/gpu1", "a/gpu2"), fleet, gpus_per_replica=3, vcpus=10), "a: 10 vCPUs are taken; there are 9")


# -- failures of hosts -------------------------------------------------------------------------------------------------


def move(failed: str, who: str, to: str, start: int, profile: str = "2g.20gb", mode: str = "mig") -> Move:
    (workload, replica), (host, gpu) = who.split("."), to.split("/gpu")
    return Move(failed, workload, int(replica), host, int(gpu), start, mode, profile)


SPARE = {"a/gpu0": "mig 2g.20gb@0=web.0 2g.20gb@2", "b/gpu0": "mig 2g.20gb@0=web.1 2g.20gb@2 1g.10gb@6"}
MOVES = (move("a", "web.0", "b/gpu0", 2), move("b", "web.1", "a/gpu0", 2))


def survivor(
    moves: tuple[Move, ...] = MOVES,
    lines: dict[str, str] = SPARE,
    workloads: tuple[gp.Workload, ...] | None = None,
    fleet: gp.Fleet = FLEET,
    **others: object,
) -> Stated:
    return stated(workloads or (web(),), fleet, lines, host_failures=1, failover=moves, **others)


def hosts(**fields: object) -> gp.Fleet:
    return gp.Fleet(tuple(gp.Host(name, {"A100-80GB": 2}, **fields) for name in ("a", "b")))


PAIR = {"a/gpu0": "mig 2g.20gb@0=web.0 2g.20gb@2=web.1", "b/gpu0": "mig 2g.20gb@0 2g.20gb@2"}
PAIR_MOVES = (move("a", "web.0", "b/gpu0", 0), move("a", "web.1", "b/gpu0", 2))
FAILURES = {
    "nowhere to go": (survivor(MOVES[:1]), "when b fails: workload 'web', replica 1 loses 1 placements and is given 0"),
    "taken twice": (survivor((*MOVES, move("a", "web.0", "b/gpu0", 2))), "b/gpu0 at 2, which another one is given, too"),
    "given two": (
        survivor((*MOVES, move("a", "web.0", "b/gpu1", 0)), {**SPARE, "b/gpu1": "mig 2g.20gb@0"}),
        "when a fails: workload 'web', replica 0 loses 1 placements and is given 2",
    ),
    "onto the failed host": (
        survivor((move("a", "web.0", "a/gpu0", 2), MOVES[1])),
        "when a fails: workload 'web', replica 0 is given a/gpu0 at 2, on the host that fails",
    ),
    "onto somebody": (survivor((move("a", "web.0", "b/gpu0", 0), MOVES[1])), "b/gpu0 at 0, which is no free placement"),
    "onto nothing": (survivor((move("a", "web.0", "b/gpu1", 0), MOVES[1])), "b/gpu1 at 0, which is no free placement"),
    "on an unknown host": (survivor((move("a", "web.0", "c/gpu1", 0), MOVES[1])), "c/gpu1 at 0, which is no free placement"),
    "another profile": (
        survivor((move("a", "web.0", "b/gpu0", 2, "3g.40gb"), MOVES[1])),
        "is given 3g.40gb in mode mig at b/gpu0 at 2; that is 2g.20gb in mode mig",
    ),
    "another mode": (survivor((move("a", "web.0", "b/gpu0", 2, mode="whole"), MOVES[1])), "that is 2g.20gb in mode mig"),
    "too small": (
        survivor((move("a", "web.0", "b/gpu0", 6, "1g.10gb"), MOVES[1])),
        "is given b/gpu0 at 6: 1g.10gb .* does not satisfy profile=2g.20gb",
    ),
    "a replica that is elsewhere": (survivor((*MOVES, move("a", "web.1", "b/gpu0", 2))), "'web', replica 1 does not stand there"),
    "a workload that is not there": (survivor((*MOVES, move("a", "x.0", "b/gpu0", 6))), "'x', replica 0 does not stand there"),
    "a host that holds nothing": (
        survivor((*PAIR_MOVES, move("b", "web.1", "a/gpu0", 2)), PAIR),
        "places are given for the failure of 'b', which holds no replicas",
    ),
    "not asked for": (replace(survivor(), host_failures=0), "2 places are given for failures of hosts, but host_failures is 0"),
    "spread afterwards": (
        survivor(workloads=(web(spread="host"),)),
        "'web': replicas 0 and 1 share b when a fails; spread='host'",
    ),
    "spread over GPUs afterwards": (survivor(workloads=(web(spread="gpu"),)), "replicas 0 and 1 share b/gpu0 when a fails"),
    "pinned afterwards": (survivor(PAIR_MOVES, PAIR, (web(only_on="a"),)), "'web' stands on b/gpu0 when a fails; it may be on a"),
    "vCPUs afterwards": (
        survivor(workloads=(web(vcpus=5),), fleet=hosts(vcpus=9)),
        "b when a fails: 10 vCPUs are taken; there are 9",
    ),
    "VMs afterwards": (survivor(fleet=hosts(max_vms=1)), "a when b fails: 2 VMs are taken; there are 1"),
    "apart afterwards": (
        survivor(
            (*MOVES, move("b", "db.0", "a/gpu1", 0, "1g.10gb")),
            {"a/gpu0": SPARE["a/gpu0"], "a/gpu1": "mig 1g.10gb@0", "b/gpu0": SPARE["b/gpu0"], "b/gpu1": "mig 1g.10gb@0=db.0"},
            (web(), db(apart_from="web", apart_on="gpu", tenant="red", never_on="a/gpu1")),
        ),
        "'db' stands on a/gpu1 when b fails; it may never be on a/gpu1",
    ),
    "tenants afterwards": (
        survivor(
            (*MOVES, move("b", "db.0", "a/gpu0", 6, "1g.10gb")),
            {"a/gpu0": SPARE["a/gpu0"] + " 1g.10gb@6", "b/gpu0": SPARE["b/gpu0"], "b/gpu1": "mig 1g.10gb@0=db.0"},
            (web(tenant="blue"), db(tenant="red")),
        ),
        "a/gpu0 when b fails is shared by tenants 'blue', 'red'",
    ),
}


def test_a_plan_survives_the_failure_of_any_host() -> None:
    accepted(survivor())
    accepted(survivor(PAIR_MOVES, PAIR, fleet=hosts(max_vms=2)))  # b holds nothing
    accepted(survivor(workloads=(web(vcpus=5),), fleet=hosts(vcpus=10)))
    beside = {"a/gpu0": "mig 2g.20gb@0=web.0 1g.10gb@2=db.0", "b/gpu0": "mig 2g.20gb@0 1g.10gb@2", "b/gpu1": "mig 1g.10gb@0"}
    apart = (move("a", "web.0", "b/gpu0", 0), move("a", "db.0", "b/gpu1", 0, "1g.10gb"))
    accepted(survivor(apart, beside, (web(count=1), db(together_with="web"))))  # after a failure they need not be together


@pytest.mark.parametrize("name", FAILURES)
def test_a_plan_that_does_not_survive_is_rejected(name: str) -> None:
    rejected(*FAILURES[name])


def test_existing_instances_take_nobody_in() -> None:
    keeping = gp.Host("b", (gp.Gpu("A100-80GB", instances=("2g.20gb@2",)),))
    fleet = gp.Fleet((gp.Host("a", {"A100-80GB": 1}), keeping))
    rejected(survivor(fleet=fleet), "b/gpu0 at 2, which is no free placement")


def test_a_plan_without_hosts_survives_no_failure() -> None:
    plan = gp.plan_mig({"3g.40gb": 1})
    rejected(replace(plan, host_failures=1), "the plan has no hosts")


def test_services_reach_their_rate_after_a_failure() -> None:
    lines = {"a/gpu0": SERVED["a/gpu0"], "b/gpu0": "mig 3g.40gb@0 3g.40gb@4", "b/gpu1": "mig 1g.10gb@0"}
    moves = (
        move("a", "search.0", "b/gpu0", 0, "3g.40gb"),
        move("a", "search.1", "b/gpu0", 4, "3g.40gb"),
        move("a", "search.2", "b/gpu1", 0, "1g.10gb"),
    )
    accepted(survivor(moves, lines, (SEARCH,), ratings=RATINGS))
    accepted(survivor(moves[:2], lines, (replace(SEARCH, rate=80.0),), ratings=RATINGS))  # two larger ones are enough
    short = survivor(moves[:2], lines, (SEARCH,), ratings=RATINGS)
    rejected(short, "when a fails: workload 'search' serves 80 requests/s; the rate is 100")
    unrated = survivor(moves, {**lines, "b/gpu1": "mig 2g.20gb@0"}, (SEARCH,), ratings=RATINGS)
    moved_there = (*moves[:2], move("a", "search.2", "b/gpu1", 0, "2g.20gb"))
    rejected(replace(unrated, failover=moved_there), "2g.20gb of A100-80GB in mode mig: the plan has no rating")
    twice = (*moves[:2], move("a", "search.1", "b/gpu1", 0, "1g.10gb"))
    rejected(survivor(twice, lines, (SEARCH,), ratings=RATINGS), "replica 1 loses 1 placements and is given 2")


def test_jobs_stay_whole_after_a_failure() -> None:
    train = (gp.Workload("train", profile="whole", gpus_per_replica=2, gpu_link="NVLINK"),)
    fleet = gp.Fleet(tuple(gp.Host(name, {"A100-80GB": 4}, links=LINKS) for name in "abc"))
    lines = {**on("a/gpu0", "a/gpu1"), **{f"{host}/gpu{gpu}": "whole whole@0" for host in "bc" for gpu in range(3)}}

    def moves(*to: str) -> tuple[Move, ...]:
        return tuple(move("a", "train.0", gpu, 0, "whole", "whole") for gpu in to)

    accepted(survivor(moves("b/gpu0", "b/gpu1"), lines, train, fleet))
    rejected(survivor(moves("b/gpu0"), lines, train, fleet), "replica 0 loses 2 placements and is given 1")
    rejected(survivor(moves("b/gpu0", "c/gpu1"), lines, train, fleet), "replica 0 stands on 2 hosts: b, c")
    rejected(survivor(moves("b/gpu0", "b/gpu2"), lines, train, fleet), "has link SYS between GPUs 0 and 2")


# -- figures -----------------------------------------------------------------------------------------------------------

PRICED = gp.Fleet(
    (
        gp.Host("a", (gp.Gpu("A100-80GB", cost_per_hour=3.673, power_w=400), gp.Gpu("T4", cost_per_hour=0.1, power_w=70.5))),
        gp.Host("b", (gp.Gpu("T4", power_w=70.5), gp.Gpu("T4", cost_per_hour=0.35))),
    )
)
USED = {"a/gpu0": "whole whole@0=big.0", "a/gpu1": "whole whole@0=big.1", "b/gpu0": "whole whole@0=big.2"}
FIGURES = {"cost": 3_773_000, "power": 541_000, "hosts": 2, "spread": 2}


def figured(name: str, value: int, bound: int, lines: dict[str, str] = USED, **others: object) -> Stated:
    claim = stated((gp.Workload("big", 3, profile="whole"),), PRICED, lines, **others)
    return replace(
        claim,
        objective=("placed", name, "gpus"),
        objectives=(claim.objectives[0], Stage(name, value, bound), claim.objectives[1]),
    )


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_the_layout(name: str) -> None:
    value = FIGURES[name]
    accepted(figured(name, value, value))
    for wrong in (value - 1, value + 1):
        rejected(figured(name, wrong, 0), f"{name} is {value}, not {wrong}")
    rejected(figured(name, value, value + 1), f"{name} {value} is better than its bound {value + 1}")


def test_power_that_nobody_knows_is_at_least_what_is_known() -> None:
    lines = {"a/gpu0": USED["a/gpu0"], "a/gpu1": USED["a/gpu1"], "b/gpu1": "whole whole@0=big.2"}
    accepted(figured("power", 999_000, 0, lines))
    rejected(figured("power", 1, 0, lines), "power is at least 470500, not 1")


def test_optimal_wants_every_stage_proven_but_the_waste_of_services() -> None:
    claim = served()
    stages = (Stage("placed", 1, 1), Stage("gpus", 1, 1), Stage("waste", 5, 4))
    best = replace(claim, status="optimal", objective=("placed", "gpus", "waste"), objectives=stages)
    accepted(best)
    rejected(replace(best, objectives=(stages[0], Stage("gpus", 1, 0), stages[2])), "status is optimal, but gpus is 1 with")
    rejected(replace(best, objectives=(*stages[:2], Stage("waste", 5, 6))), "waste 5 is better than its bound 6")
    plain = stated((web(), db()), FLEET, BESIDE, status="optimal", objective=("placed", "gpus", "waste"))
    rejected(replace(plain, objectives=(Stage("placed", 3, 3), *stages[1:])), "status is optimal, but waste is 5")
    rejected(replace(best, objective=("gpus", "placed", "waste")), "the objective begins with gpus")


# -- the bound by prices -----------------------------------------------------------------------------------------------

A100 = ("A100-80GB", None)
TEN = {
    "a/gpu0": "mig " + " ".join(f"1g.10gb@{start}=search.{start}" for start in range(7)),
    "a/gpu1": "mig " + " ".join(f"1g.10gb@{start}=search.{start + 7}" for start in range(3)),
}
SMALL = (replace(SEARCH, rate=300.0, memory_gib=None),)
SEVENTH = {(A100, "mig", "1g.10gb"): Fraction(1, 7)}


def proven(bound: int = 2, workloads: tuple[gp.Workload, ...] = SMALL, lines: dict[str, str] = TEN, **others: object) -> Stated:
    """10 instances of 1g.10gb, 7 to a GPU, need 10/7 GPUs."""
    given = {"prices": SEVENTH, "ratings": {("search", "A100-80GB", "mig", "1g.10gb"): rating(30.0)}, **others}
    claim = stated(workloads, FLEET, lines, **{"certificate": "configuration LP", **given})
    return replace(claim, objectives=(claim.objectives[0], Stage("gpus", 2, bound)))


def test_prices_prove_the_bound_of_services() -> None:
    accepted(proven())
    rejected(proven(prices={}), "the prices prove 0 GPUs, not 2")
    rejected(proven(prices={(A100, "mig", "1g.10gb"): Fraction(1, 10)}), "the prices prove 1 GPUs, not 2")
    rejected(proven(prices={(A100, "mig", "1g.10gb"): Fraction(1, 6)}), "a configuration costs 7/6, more than 1")
    accepted(proven(rents={A100: Fraction(1, 100)}, prices={(A100, "mig", "1g.10gb"): Fraction(101, 700)}))
    rejected(proven(rents={A100: Fraction(1, 2)}), "the prices prove 0 GPUs, not 2")  # 10/7 less 4 times 1/2
    faster = {("search", "A100-80GB", "mig", "1g.10gb"): rating(45.0)}
    rejected(proven(ratings=faster), "the prices prove 1 GPUs, not 2")


def test_a_bound_counts_every_option_of_a_service() -> None:
    """A profile that is rated, though not used, and costs less for what it serves."""
    options = {("search", "A100-80GB", "mig", "1g.10gb"): rating(30.0), ("search", "A100-80GB", "mig", "3g.40gb"): rating(200.0)}
    rejected(proven(ratings=options), "the prices prove 0 GPUs, not 2")
    priced = {**SEVENTH, (A100, "mig", "3g.40gb"): Fraction(1, 2)}
    rejected(proven(ratings=options, prices=priced), "a configuration costs 8/7, more than 1|the prices prove 1 GPUs")
    accepted(
        proven(1, ratings=options, prices={(A100, "mig", "3g.40gb"): Fraction(1, 2), (A100, "mig", "1g.10gb"): Fraction(1, 8)})
    )


def test_throughput_counts_in_whole_units() -> None:
    """A third of a unit is lost on each instance: 10 serve 3.3333, and 3.3334 takes more than the price of 10."""
    third = {("search", "A100-80GB", "mig", "1g.10gb"): rating(1 / 3)}
    halves = {(A100, "mig", "1g.10gb"): Fraction(1, 10)}
    accepted(proven(1, (replace(SMALL[0], rate=3.3),), ratings=third, prices=halves))
    accepted(proven(1, (replace(SMALL[0], rate=3.3333),), ratings=third, prices=halves))
    accepted(proven(2, (replace(SMALL[0], rate=3.33333),), ratings=third, prices=halves))


def test_services_connect_the_kinds_that_they_are_rated_on() -> None:
    """One third of an A100 and one third of an A30 are 2 GPUs only where nothing could move from one to the other."""
    fleet = gp.Fleet((gp.Host("h", {"A100-80GB": 1, "A30-24GB": 1}),))
    lines = {"h/gpu0": "mig 1g.10gb@0=search.0 1g.10gb@1=search.1", "h/gpu1": "mig 1g.6gb@0=small.0"}
    workloads = (replace(SMALL[0], rate=60.0), gp.Workload("small", profile="1g.6gb"))
    prices = {**SEVENTH, (("A30-24GB", None), "mig", "1g.6gb"): Fraction(1, 4)}
    here = {("search", "A100-80GB", "mig", "1g.10gb"): rating(30.0)}
    there = {("search", "A30-24GB", "mig", "1g.6gb"): rating(20.0)}
    claim = stated(workloads, fleet, lines, prices=prices, certificate="configuration LP", ratings=here)
    claim = replace(claim, objectives=(claim.objectives[0], Stage("gpus", 2, 2)))
    accepted(claim)
    rejected(replace(claim, ratings={**here, **there}), "the prices prove 1 GPUs, not 2")
    other_mode = {("search", "A30-24GB", "mig", "1g.6gb"): rating(20.0)}
    accepted(
        replace(claim, ratings={**here, **other_mode}, modes=("mig",), objectives=(claim.objectives[0], Stage("gpus", 2, 1)))
    )


@pytest.mark.parametrize("certificate", ["branch and bound (HiGHS)", "host contents (column generation)", "identity (CP-SAT)"])
def test_prices_need_not_prove_what_a_search_proved(certificate: str) -> None:
    accepted(proven(prices={}, certificate=certificate))


@pytest.mark.parametrize("fields", [{"tenant": "red"}, {"only_on": "a"}, {"never_on": "b/gpu1"}])
def test_prices_prove_nothing_of_gpus_that_are_told_apart(fields: dict[str, object]) -> None:
    accepted(proven(prices={}, workloads=(replace(SMALL[0], **fields),)))


def test_demands_of_nearly_the_same_size_are_priced_together() -> None:
    lines = {f"a/gpu{gpu}": f"mig 3g.40gb@0=w{gpu}.0 3g.40gb@4=w{gpu}.1" for gpu in range(2)}
    workloads = tuple(gp.Workload(f"w{gpu}", 2, memory_gib=30 + gpu) for gpu in range(2))
    halves = {(A100, mode, name): Fraction(1, 2) for mode, name in (("mig", "3g.40gb"), ("mig", "4g.40gb"))}
    halves |= {(A100, mode, name): Fraction(1) for mode, name in (("mig", "7g.80gb"), ("whole", "whole"))}
    accepted(proven(2, workloads, lines, prices=halves, ratings={}, modes=("mig", "whole")))


def test_jobs_cost_the_price_of_each_of_their_parts() -> None:
    lines = {"a/gpu0": "mig 3g.40gb@0=train.0 3g.40gb@4=train.0", "a/gpu1": "mig 3g.40gb@0=train.1 3g.40gb@4=train.1"}
    train = (gp.Workload("train", 2, profile="3g.40gb", gpus_per_replica=2),)
    half = {(A100, "mig", "3g.40gb"): Fraction(1, 2)}
    accepted(proven(2, train, lines, prices=half, ratings={}))


# -- rules and limits against a naive reading --------------------------------------------------------------------------


def random_claim(rng: random.Random) -> Stated:
    """Up to nine replicas of four workloads with rules on up to six GPUs of three hosts, most with places to fail over to."""
    names = ["w0", "w1", "w2", "w3"]
    workloads = []
    for name in names:
        others = [other for other in names if other != name]
        rules: dict[str, object] = {
            "spread": rng.choice(["gpu", "host"]),
            "apart_from": rng.choice(others),
            "apart_on": rng.choice(["gpu", "host"]),
            "together_with": tuple(rng.sample(others, rng.choice([1, 1, 2]))),
            "together_on": rng.choice(["gpu", "host"]),
            "tenant": rng.choice(["red", "blue"]),
            "vcpus": rng.choice([1, 2, 3]),
            "ram_gib": rng.choice([0.1, 0.2, 0.7]),
            "only_on": tuple(rng.sample(["a", "b", "a/gpu0", "c/gpu1"], 2)),
            "never_on": rng.choice(["a", "b/gpu1"]),
        }
        kept = rng.sample(sorted(rules), rng.choice([0, 1, 1, 2, 3]))
        if "only_on" in kept:
            rules["never_on"] = "b/gpu1"
        workloads.append(gp.Workload(name, rng.choice([1, 2, 3]), profile="1g.10gb", **{field: rules[field] for field in kept}))
    limits = {"vcpus": rng.choice([None, 4, 8]), "ram_gib": rng.choice([None, 0.6, 1.4]), "max_vms": rng.choice([None, 2, 4])}
    nodes = rng.choice([(), (NumaNode((0,), vcpus=4), NumaNode((1,), ram_gib=1.0))])
    fleet = gp.Fleet(tuple(gp.Host(name, {"A100-80GB": 2}, numa=nodes, **limits) for name in "abc"))
    gpus = [f"{host}/gpu{index}" for host in "abc" for index in range(2)]
    cells: dict[str, list[str]] = {gpu: ["1g.10gb@" + str(start) for start in range(rng.choice([0, 2, 4]))] for gpu in gpus}
    for workload in workloads:
        for replica in range(workload.count):
            gpu = rng.choice(gpus)
            start = next((n for n, cell in enumerate(cells[gpu]) if "=" not in cell), len(cells[gpu]))
            if start < 7 and rng.random() < 0.8:
                cells[gpu][start : start + 1] = [f"1g.10gb@{start}={workload.name}.{replica}"]
    lines = {gpu: "mig " + " ".join(found) for gpu, found in cells.items() if found}
    claim = stated(tuple(workloads), fleet, lines)
    return with_random_moves(claim, rng) if rng.random() < 0.6 else claim


def with_random_moves(claim: Stated, rng: random.Random) -> Stated:
    free = [(g.host, g.gpu, s) for g in claim.layout for s in g.slots if s.workload is None]
    moves = []
    for failed in "abc":
        open_to = [place for place in free if place[0] != failed]
        rng.shuffle(open_to)
        for a in claim.layout.assignments():
            if a.host == failed and open_to:
                host, gpu, spare = open_to.pop()
                moves.append(Move(failed, a.workload, a.replica, str(host), gpu, spare.start, "mig", spare.profile))
    return replace(claim, host_failures=1, failover=tuple(moves))


def holds(claim: Stated) -> bool:
    """Whether rules and limits hold in the plan and after each failure, read one replica after another."""
    placed = [(a.workload, a.replica, str(a.host), a.gpu) for a in claim.layout.assignments()]
    if not holds_of(claim, placed, together=True):
        return False
    for failed in "abc" if claim.host_failures else "":
        lost = {(who, replica) for who, replica, host, _ in placed if host == failed}
        moved = [(m.workload, m.replica, m.host, m.gpu) for m in claim.failover if m.failed_host == failed]
        left = [entry for entry in placed if entry[2] != failed]
        if {(who, replica) for who, replica, *_ in moved} != lost or not holds_of(claim, left + moved, together=False):
            return False
    return True


def holds_of(claim: Stated, placed: list[tuple[str, int, str, int]], *, together: bool) -> bool:
    by_name = {w.name: w for w in claim.workloads}

    def beside(one: tuple[str, int, str, int], where: str) -> list[gp.Workload]:
        return [by_name[o[0]] for o in placed if o is not one and o[2] == one[2] and (where == "host" or o[3] == one[3])]

    for one in placed:
        w, places = by_name[one[0]], {one[2], f"{one[2]}/gpu{one[3]}"}
        if w.spread and w in beside(one, w.spread):
            return False
        if any(other.name in w.apart_from for other in beside(one, w.apart_on)):
            return False
        if together and any(by_name[name] not in beside(one, w.together_on) for name in w.together_with):
            return False
        if w.tenant and any(other.tenant not in (None, w.tenant) for other in beside(one, "gpu")):
            return False
        if (w.only_on and not places & set(w.only_on)) or places & set(w.never_on):
            return False
    assert claim.fleet is not None
    for host in claim.fleet.hosts:
        here = [(by_name[who], gpu) for who, _, name, gpu in placed if name == host.name]
        groups = [(host.vcpus, host.ram_gib, [w for w, _ in here])]
        groups += [(node.vcpus, node.ram_gib, [w for w, gpu in here if gpu in node.gpus]) for node in host.numa]
        for vcpus, ram_gib, there in groups:
            if vcpus is not None and sum(w.vcpus or 0 for w in there) > vcpus:
                return False
            if ram_gib is not None and sum(round(10 * (w.ram_gib or 0)) for w in there) > round(10 * ram_gib):
                return False
        if host.max_vms is not None and len(here) > host.max_vms:
            return False
    return True


@pytest.mark.parametrize("part", range(4))
def test_rules_and_limits_are_what_a_naive_reading_says(part: int) -> None:
    rng = random.Random(part)
    outcomes = {True: 0, False: 0}
    survived = 0
    for _ in range(400):
        claim = random_claim(rng)
        expected = holds(claim)
        outcomes[expected] += 1
        survived += expected and bool(claim.failover)
        with contextlib.nullcontext() if expected else pytest.raises(gp.VerificationError):
            verify(claim)
    assert min(outcomes.values()) > 20
    assert survived > 2
