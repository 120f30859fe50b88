"""Explanations, sensitivity, comparison: what is said is what planning again finds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from itertools import combinations

import pytest

import partitioner as gp
from partitioner import catalog
from partitioner.advice import Explanation
from partitioner.advice.clash import find_clash
from partitioner.advice.fleets import pins_without, with_gpus, with_hosts, without_gpu
from partitioner.fleet import Fleet, Gpu, Host, NumaNode
from partitioner.performance import Calibration
from partitioner.solver.inquiry import Inquiry
from partitioner.topology import Topology
from partitioner.workload import Workload

FAR = Topology((("X", "SYS"), ("SYS", "X")), {"mlx5_0": ("PIX", "SYS")})


def replan(inquiry: Inquiry, **changes: object) -> gp.Plan:
    """Plan the question of a remedy again, through the front door."""
    where = {"fleet": inquiry.fleet} if inquiry.fleet is not None else {"gpu": inquiry.gpu, "gpus": inquiry.gpus}
    beside = {"modes": inquiry.modes, "host_failures": inquiry.host_failures, "calibration": inquiry.calibration}
    return gp.plan(list(inquiry.workloads), **{**where, **beside, **changes})


def fits(workloads: list[Workload], **where: object) -> bool:
    return gp.plan(workloads, **where).complete


def check_remedies(plan: gp.Plan, explained: Explanation) -> None:
    """Every remedy holds: all that was placed is in its question, and all of the question fits."""
    left = {entry.workload: entry.count for entry in plan.unplaced}
    placed = sum(w.count - left.get(w.name, 0) for w in plan.workloads if w.name != explained.workload)
    for remedy in explained.remedies:
        counts = {w.name: w.count for w in remedy.inquiry.workloads}
        assert sum(counts.values()) - counts[explained.workload] == placed
        assert replan(remedy.inquiry).complete, remedy
    assert [r.change for r in explained.remedies] == sorted(r.change for r in explained.remedies)


# -- what binds ----------------------------------------------------------------------------------------------------------


def one_host(gpus: object = ("A100-80GB", "A100-80GB"), **limits: object) -> Fleet:
    return Fleet((Host("h", gpus, **limits),))  # type: ignore[arg-type]


def two_hosts(gpus: int = 1, **limits: object) -> Fleet:
    return Fleet.of("A100-80GB", hosts=2, gpus_per_host=gpus, **limits)  # type: ignore[arg-type]


NODES = (NumaNode((0,), vcpus=8), NumaNode((1,), vcpus=8))
BINDING = {
    "gpus": ([Workload("w", 3, "7g.80gb")], {"gpu": "A100-80GB", "gpus": 2, "modes": ["mig"]}),
    "vcpus": ([Workload("w", 3, "1g.10gb", vcpus=4)], {"fleet": one_host(vcpus=8)}),
    "ram_gib": ([Workload("w", 3, "1g.10gb", ram_gib=40)], {"fleet": one_host(ram_gib=100)}),
    "numa": ([Workload("w", 1, "1g.10gb", vcpus=10)], {"fleet": one_host(vcpus=16, numa=NODES)}),
    "max_vms": ([Workload("w", 3, "1g.10gb")], {"fleet": one_host(max_vms=2)}),
    "spread": ([Workload("w", 3, "1g.10gb", spread="gpu")], {"fleet": one_host()}),
    "apart_from": (
        [Workload("x", 2, "3g.40gb", spread="gpu", priority=1), Workload("w", 1, "1g.10gb", apart_from="x")],
        {"fleet": one_host()},
    ),
    "together_with": (
        [Workload("x", 1, "7g.80gb", priority=1), Workload("w", 1, "1g.10gb", together_with="x")],
        {"fleet": one_host(), "modes": ["mig"]},
    ),
    "tenant": (
        [Workload("x", 2, "3g.40gb", spread="gpu", tenant="a", priority=1), Workload("w", 1, "1g.10gb", tenant="b")],
        {"fleet": one_host()},
    ),
    "only_on": (
        [Workload("x", 1, "7g.80gb", only_on="h/gpu0", priority=1), Workload("w", 1, "1g.10gb", only_on="h/gpu0")],
        {"fleet": one_host()},
    ),
    "never_on": (
        [Workload("x", 1, "7g.80gb", only_on="h/gpu0", priority=1), Workload("w", 1, "1g.10gb", never_on="h/gpu1")],
        {"fleet": one_host()},
    ),
    "isolation": ([Workload("w", 3, memory_gib=4, isolation="hardware")], {"fleet": one_host(("T4", "T4"))}),
    "gpu_link": ([Workload("w", 1, "whole", gpus_per_replica=2, gpu_link="PIX")], {"fleet": one_host(links=FAR)}),
    "rdma": ([Workload("w", 1, "whole", gpus_per_replica=2, rdma=True)], {"fleet": one_host(links=FAR)}),
    "memory_gib": ([Workload("w", 1, memory_gib=79)], {"gpu": "A100-80GB", "gpus": 1, "modes": ["mig"]}),
    "compute_slices": ([Workload("w", 2, compute_slices=4)], {"gpu": "A100-80GB", "gpus": 1, "modes": ["mig"]}),
    "modes": ([Workload("w", 2, memory_gib=79)], {"fleet": one_host(), "modes": ["mig"]}),
    "mode": ([Workload("w", 1, memory_gib=79)], {"fleet": one_host((Gpu("A100-80GB", "mig"),))}),
    "instances": ([Workload("w", 2, "3g.40gb")], {"fleet": one_host((Gpu("A100-80GB", instances=("3g.40gb@4",)),))}),
    "host_failures": ([Workload("w", 2, "7g.80gb")], {"fleet": two_hosts(), "host_failures": 1}),
    "latency_ms": (
        [Workload("w", model="bert-99", rate=5000, latency_ms=60)],
        {"gpu": "A100-80GB", "gpus": 2, "modes": ["mig"]},
    ),
    "profile": (
        [Workload("w", model="bert-99", rate=5000, latency_ms=130, profile="3g.40gb")],
        {"gpu": "A100-80GB", "gpus": 2, "modes": ["mig"]},
    ),
}


@pytest.mark.parametrize("name", BINDING)
def test_what_binds_is_named_and_every_remedy_holds(name: str) -> None:
    workloads, where = BINDING[name]
    plan = gp.plan(workloads, **where)
    assert "w" in [entry.workload for entry in plan.unplaced]
    explained = plan.explain("w")
    assert name in [limit.name for limit in explained.binding], explained
    assert not explained.unfinished
    check_remedies(plan, explained)
    assert len(str(explained).splitlines()) <= 25


def test_limits_that_do_not_bind_are_told_from_those_that_do() -> None:
    fleet = Fleet.of("A100-80GB", hosts=3, gpus_per_host=2, vcpus=20, max_vms=5)
    others = [Workload("a", 4, "3g.40gb", vcpus=4, spread="gpu"), Workload("b", 6, "1g.10gb", vcpus=4)]
    explained = gp.plan([*others, Workload("c", 1, "whole", vcpus=40)], fleet=fleet).explain("c")
    assert [limit.name for limit in explained.binding] == ["vcpus"]
    assert {limit.name for limit in explained.limits if limit.fits is False} == {"max_vms", "gpus"}
    assert explained.clash is not None
    assert explained.clash.names == ()
    assert "it does not fit even alone" in str(explained)


def test_two_limits_that_bind_together_are_not_named_alone() -> None:
    explained = gp.plan([Workload("w", 3, "7g.80gb", vcpus=4)], fleet=one_host(vcpus=8), modes=["mig"]).explain("w")
    assert explained.binding == ()
    assert "no limit alone" in str(explained)
    assert [remedy.kind for remedy in explained.remedies] == ["count", "hosts"]


# -- remedies ------------------------------------------------------------------------------------------------------------


def words(explained: Explanation) -> dict[str, str]:
    return {remedy.kind: remedy.words for remedy in explained.remedies}


def test_the_fewest_gpus_more_are_named() -> None:
    workloads = [Workload("a", 9, "3g.40gb", priority=2), Workload("b", 5, "4g.40gb"), Workload("c", 30, "1g.10gb")]
    plan = gp.plan_mig(workloads, gpus=6)
    left = {entry.workload: entry.count for entry in plan.unplaced}
    for name in ("b", "c"):
        explained = plan.explain(name)
        check_remedies(plan, explained)
        more = int(words(explained)["gpus"].split()[1])
        wanted = next(w for w in workloads if w.name == name)
        placed = [replace(w, count=n) for w in workloads if w.name != name and (n := w.count - left.get(w.name, 0))] + [wanted]
        assert fits(placed, gpu="A100-80GB", gpus=6 + more, modes=["mig"])
        assert not fits(placed, gpu="A100-80GB", gpus=6 + more - 1, modes=["mig"])


def test_a_smaller_profile_is_the_largest_that_fits() -> None:
    plan = gp.plan_mig([Workload("x", 1, "4g.40gb", priority=1), Workload("w", 1, "4g.40gb")], gpus=1)
    explained = plan.explain("w")
    assert words(explained)["profile"] == "take 2g.20gb instead of 4g.40gb"  # 3g.40gb has as much memory
    assert words(explained)["gpus"] == "add 1 A100-80GB"


def test_a_smaller_size_is_the_largest_that_fits() -> None:
    plan = gp.plan_mig([Workload("x", 1, "3g.40gb", priority=1), Workload("w", 1, memory_gib=60)], gpus=1)
    size = next(remedy for remedy in plan.explain("w").remedies if remedy.kind == "memory_gib")
    [asked] = [w.memory_gib for w in size.inquiry.workloads if w.name == "w"]
    assert asked == catalog.gpu("A100-80GB").profile("3g.40gb").memory_mib / 1024


def test_fewer_replicas_are_as_many_as_fit() -> None:
    plan = gp.plan([Workload("w", 10, "1g.10gb", vcpus=2)], fleet=one_host(vcpus=13))
    assert words(plan.explain("w"))["count"] == "6 replicas instead of 10"


def test_a_lower_rate_and_a_longer_latency_hold_and_a_little_more_does_not() -> None:
    workload = Workload("w", model="bert-99", rate=5000, latency_ms=60)
    plan = gp.plan([workload], gpu="A100-80GB", gpus=2, modes=["mig"])
    explained = plan.explain("w")
    check_remedies(plan, explained)
    changed = {remedy.kind: remedy.inquiry.workloads[0] for remedy in explained.remedies}
    where = {"gpu": "A100-80GB", "gpus": 2, "modes": ["mig"]}
    assert 0 < changed["rate"].rate < 5000
    assert not fits([replace(workload, rate=changed["rate"].rate * 1.02)], **where)
    assert changed["latency_ms"].latency_ms > 60
    assert not fits([replace(workload, latency_ms=changed["latency_ms"].latency_ms / 1.06)], **where)


def test_a_single_mode_says_more_than_all_modes() -> None:
    workloads, where = BINDING["modes"]
    remedies = [r.words for r in gp.plan(workloads, **where).explain("w").remedies if r.kind == "modes"]
    assert remedies == ["allow mode whole"] or remedies[0].startswith("allow mode vgpu")
    assert len(remedies) == 1


def test_a_host_more_is_like_the_smallest_or_the_largest() -> None:
    fleet = Fleet((Host("small", {"A100-80GB": 1}, vcpus=8), Host("large", {"A100-80GB": 2}, vcpus=16)))
    plan = gp.plan([Workload("w", 5, "7g.80gb", vcpus=8)], fleet=fleet)
    explained = plan.explain("w")
    check_remedies(plan, explained)
    hosts = [remedy.words for remedy in explained.remedies if remedy.kind == "hosts"]
    assert hosts == ["add 2 hosts like small (1 x A100-80GB)", "add 1 host like large (2 x A100-80GB)"]


def test_what_was_left_out_for_want_of_time_only_is_said() -> None:
    """A plan that was cut short may leave out what has room."""
    plan = gp.plan_mig([Workload("a", 1, "3g.40gb"), Workload("b", 1, "3g.40gb")], gpus=2)
    short = gp.plan_mig([Workload("a", 1, "3g.40gb"), Workload("b", 3, "7g.80gb")], gpus=2)
    cut = replace(plan, unplaced=(replace(short.unplaced[0], workload="b", count=1),), status="feasible")
    assert words(cut.explain("b")) == {"time": "plan with a longer time limit"}


def test_an_unknown_name_is_refused_with_near_matches() -> None:
    with pytest.raises(gp.SpecError, match="no workload 'serch' in the plan; did you mean 'search'"):
        gp.plan_mig([Workload("search", profile="3g.40gb")]).explain("serch")


@pytest.mark.parametrize("limit", [0, -1, float("nan"), True, "1"])
def test_a_time_limit_that_is_none_is_refused(limit) -> None:
    plan = gp.plan_mig("3g.40gb")
    for call in (lambda: plan.explain("3g.40gb", time_limit_s=limit), lambda: plan.sensitivity(time_limit_s=limit)):
        with pytest.raises(gp.SpecError, match="time_limit_s"):
            call()


def test_out_of_time_nothing_is_guessed() -> None:
    workloads, where = BINDING["spread"]
    plan = gp.plan(workloads, **where)
    started = time.monotonic()
    explained = plan.explain("w", time_limit_s=1e-9)
    assert time.monotonic() - started < 2
    assert explained.remedies == ()
    assert explained.clash is None
    assert all(limit.fits is None for limit in explained.limits)
    assert "whether it fits as it is" in explained.unfinished
    assert "not settled in time" in str(explained)


# -- clashes -------------------------------------------------------------------------------------------------------------


def brute_clash(workloads: list[Workload], name: str, where: dict[str, object]) -> int:
    """Return the size of the smallest set of workloads that cannot be placed with one more."""
    target = [w for w in workloads if w.name == name]
    others = [w for w in workloads if w.name != name]
    for size in range(len(others) + 1):
        for part in combinations(others, size):
            if not fits([replace(w, priority=0) for w in (*part, *target)], **where):
                return size
    raise AssertionError("they all fit")


@pytest.mark.parametrize("seed", range(12))
def test_the_smallest_clash_is_that_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    profiles = ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]
    workloads = [Workload(f"w{i}", rng.randint(1, 3), rng.choice(profiles), priority=9 - i) for i in range(6)]
    where = {"gpu": "A100-80GB", "gpus": rng.choice([2, 3]), "modes": ["mig"]}
    plan = gp.plan(workloads, **where)
    left = {entry.workload: entry.count for entry in plan.unplaced}
    for name in left:
        explained = plan.explain(name)
        standing = [
            replace(w, count=w.count if w.name == name else w.count - left.get(w.name, 0))
            for w in workloads
            if w.name == name or w.count > left.get(w.name, 0)
        ]
        clash = explained.clash
        assert clash is not None
        assert clash.smallest
        assert clash.irreducible
        assert len(clash.names) == brute_clash(standing, name, where)
        members = [w for w in standing if w.name in (*clash.names, name)]
        assert not fits(members, **where)
        for out in clash.names:
            assert fits([w for w in members if w.name != out], **where)


def test_rules_about_who_is_not_there_do_not_clash() -> None:
    workloads = [
        Workload("x", 1, "7g.80gb", priority=2),
        Workload("y", 1, "7g.80gb", priority=1),
        Workload("w", 1, "1g.10gb", together_with="x"),
    ]
    clash = gp.plan(workloads, fleet=one_host(), modes=["mig"]).explain("w").clash
    assert clash is not None
    assert clash.names == ("x",)


@pytest.mark.parametrize("seed", range(30))
def test_an_irreducible_clash_among_many_is_found_by_halves(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"n{i}" for i in range(40)]
    culprits = [set(rng.sample(names, rng.randint(0, 5))) for _ in range(rng.randint(1, 3))]
    asked = []

    def fitting(part: frozenset[str]) -> bool:
        asked.append(part)
        return not any(culprit <= part for culprit in culprits)

    clash = find_clash(names, fitting)
    assert set(clash.names) in culprits or not clash.names
    assert clash.irreducible
    assert not any(culprit < set(clash.names) for culprit in culprits)
    assert len(asked) < 60


def test_a_clash_with_tests_left_open_still_clashes_and_says_so() -> None:
    answers = iter([None, True, None, False, None] + [None] * 99)
    clash = find_clash([f"n{i}" for i in range(8)], lambda _: next(answers))
    assert not clash.smallest
    assert not clash.irreducible


# -- what is placed ------------------------------------------------------------------------------------------------------


def test_what_a_placed_workload_costs_is_what_planning_without_it_saves() -> None:
    workloads = [Workload("a", 3, "3g.40gb", spread="gpu"), Workload("b", 2, "4g.40gb"), Workload("c", 1, "whole")]
    plan = gp.plan(workloads, fleet=one_host(["A100-80GB"] * 6))
    for name in "abc":
        explained = plan.explain(name)
        without = gp.plan([w for w in workloads if w.name != name], fleet=plan.fleet)
        assert explained.saved is not None
        assert explained.saved.proven
        assert explained.saved.gpus == plan.gpus_used - without.gpus_used
        assert (explained.remedies, explained.clash) == ((), None)


def test_a_workload_alone_costs_all_gpus() -> None:
    plan = gp.plan_mig({"3g.40gb": 3})
    explained = plan.explain("3g.40gb")
    assert explained.saved is not None
    assert explained.saved.gpus == plan.gpus_used == 2
    assert explained.where == {("A100-80GB", "mig", "3g.40gb"): 3}


def test_a_rule_that_costs_gpus_is_named_with_their_number() -> None:
    workload = Workload("w", 4, "1g.10gb", spread="gpu")
    plan = gp.plan([workload], fleet=one_host(["A100-80GB"] * 4))
    explained = plan.explain("w")
    saved = plan.gpus_used - gp.plan([replace(workload, spread=None)], fleet=plan.fleet).gpus_used
    assert [(limit.name, limit.gpus_saved) for limit in explained.binding] == [("spread", saved)]
    assert "binding: spread" in str(explained)


def test_a_service_names_the_profiles_considered() -> None:
    plan = gp.plan([Workload("s", model="bert-99", rate=900, latency_ms=60)], gpu="A100-80GB", modes=["mig"])
    explained = plan.explain("s")
    taken = [(choice.gpu, choice.mode, choice.profile, choice.instances) for choice in explained.choices if choice.instances]
    assert {(*key, count) for key, count in explained.where.items()} == set(taken)
    rated = {key[1:]: rating for key, rating in plan.ratings.items()}
    for choice in explained.choices:
        rating = rated.get((choice.gpu, choice.mode, choice.profile))
        assert choice.throughput_rps == (rating.throughput_rps if rating else 0)
        assert choice.why.startswith("too slow") == (rating is None)
    assert "per GPU" in str(explained)


# -- files and the command line ------------------------------------------------------------------------------------------


def test_a_loaded_plan_is_explained_alike(tmp_path) -> None:
    for workloads, where in (BINDING["vcpus"], BINDING["latency_ms"]):
        plan = gp.plan(workloads, **where)
        plan.save(tmp_path / "plan.json")
        assert gp.Plan.load(tmp_path / "plan.json").explain("w") == plan.explain("w")


# -- fleets --------------------------------------------------------------------------------------------------------------


def test_a_copied_gpu_stands_beside_its_original() -> None:
    host = Host("h", ("A100-80GB", "A100-80GB", "T4"), numa=(NumaNode((0, 2)), NumaNode((1,))), links=three_links())
    grown = with_gpus(Fleet((host,)), "A100-80GB", 2).hosts[0]
    assert [gpu.model for gpu in grown.gpus] == ["A100-80GB", "A100-80GB", "T4", "A100-80GB", "A100-80GB"]
    assert [node.gpus for node in grown.numa] == [(0, 2), (1, 3, 4)]
    assert grown.links is not None
    assert grown.links.gpu_links[3] == ("NV4", "SYS", "SYS", "X", "SYS")
    assert grown.links.nics == (("mlx5_0", ("PIX", "NODE", "SYS", "NODE", "NODE")),)
    assert grown.links.numa_affinity == (0, 1, 0, 1, 1)


def three_links() -> Topology:
    return Topology(
        (("X", "NV4", "PHB"), ("NV4", "X", "SYS"), ("PHB", "SYS", "X")), {"mlx5_0": ("PIX", "NODE", "SYS")}, (0, 1, 0)
    )


def test_a_removed_gpu_takes_its_links_along_and_names_move_up() -> None:
    host = Host("h", ("A100-80GB", "A100-80GB", "T4"), numa=(NumaNode((0, 2)), NumaNode((1,))), links=three_links())
    fleet = Fleet((host, Host("g", ("T4",))))
    smaller = without_gpu(fleet, "h", 1)
    assert smaller is not None
    assert [node.gpus for node in smaller.hosts[0].numa] == [(0, 1), ()]
    assert smaller.hosts[0].links is not None
    assert smaller.hosts[0].links.gpu_links == (("X", "PHB"), ("PHB", "X"))
    pinned = [Workload("w", 1, "T4-4Q", only_on=("h/gpu2", "h/gpu1")), Workload("v", 1, "T4-4Q", never_on="h/gpu1")]
    moved = pins_without(pinned, fleet, "h", 1)
    assert moved is not None
    assert [(w.only_on, w.never_on) for w in moved] == [(("h/gpu1",), ()), ((), ())]
    assert pins_without([Workload("w", 1, "T4-4Q", only_on="g")], fleet, "g", 0) is None
    gone = without_gpu(fleet, "g", 0)
    assert gone is not None
    assert [there.name for there in gone.hosts] == ["h"]
    assert without_gpu(Fleet((Host("g", ("T4",)),)), "g", 0) is None


def test_hosts_more_have_new_names_and_no_instances() -> None:
    fleet = Fleet((Host("h", (Gpu("A100-80GB", instances=("3g.40gb@4",)),)), Host("h+1", ("T4",))))
    more = with_hosts(fleet, fleet.hosts[0], 2)
    assert [host.name for host in more.hosts] == ["h", "h+1", "h+2", "h+3"]
    assert not more.hosts[2].gpus[0].instances


# -- sensitivity ---------------------------------------------------------------------------------------------------------


def test_sensitivity_is_planning_again_on_the_changed_fleet() -> None:
    gpus = (Gpu("A100-80GB", cost_per_hour=3.0), Gpu("A100-80GB", cost_per_hour=3.0))
    fleet = Fleet((Host("a", gpus, vcpus=64), Host("b", (Gpu("T4", cost_per_hour=0.5),) * 2, vcpus=16)))
    workloads = [Workload("x", 5, "3g.40gb", vcpus=4), Workload("y", 3, "T4-8Q", vcpus=4)]
    plan = gp.plan(workloads, fleet=fleet)
    found = plan.sensitivity()
    assert found.figures.placed == plan.placed == 7
    changed = {
        ("A100-80GB", 1): with_gpus(fleet, "A100-80GB", 1),
        ("A100-80GB", -1): without_gpu(fleet, "a", 1),
        ("T4", 1): with_gpus(fleet, "T4", 1),
        ("T4", -1): without_gpu(fleet, "b", 1),
    }
    assert [(change.model, change.gpus) for change in found.changes] == list(changed)
    for change in found.changes:
        again = gp.plan(workloads, fleet=changed[change.model, change.gpus])
        assert change.figures is not None
        figures = change.figures
        assert (figures.placed, figures.gpus, figures.hosts) == (again.placed, again.gpus_used, again.hosts_used)
        assert figures.cost_per_hour == again.cost_per_hour
        assert change.status == again.status
    assert "+1 A100-80GB (a)" in str(found)


def test_sensitivity_of_gpus_without_a_fleet() -> None:
    plan = gp.plan_mig({"3g.40gb": 5}, gpus=2)
    more, fewer = plan.sensitivity().changes
    for change, gpus in ((more, 3), (fewer, 1)):
        again = gp.plan_mig({"3g.40gb": 5}, gpus=gpus)
        assert change.figures is not None
        assert (change.figures.placed, change.figures.gpus) == (again.placed, again.gpus_used)


def test_sensitivity_down_to_nothing_and_without_a_limit() -> None:
    fewer = gp.plan_mig("3g.40gb", gpus=1).sensitivity().changes[1]
    assert fewer.figures is not None
    assert (fewer.figures.placed, fewer.figures.gpus) == (0, 0)
    unlimited = gp.plan_mig({"3g.40gb": 5}).sensitivity()
    assert unlimited.changes == ()
    assert "GPUs are not limited: 3 A100-80GBs used, and no plan takes fewer than 3" in str(unlimited)


def test_sensitivity_removes_an_unused_gpu_first_and_says_what_is_refused() -> None:
    fleet = Fleet((Host("a", ("A100-80GB",) * 2), Host("b", ("T4",))))
    found = gp.plan([Workload("x", 1, "3g.40gb"), Workload("y", 1, "T4-8Q")], fleet=fleet).sensitivity()
    fewer = {change.model: change for change in found.changes if change.gpus < 0}
    assert fewer["A100-80GB"].where == "a/gpu1"
    assert fewer["A100-80GB"].figures is not None
    assert fewer["A100-80GB"].figures.placed == 2
    assert fewer["T4"].status == "refused"
    assert "T4-8Q" in fewer["T4"].remark


def test_a_gpu_to_which_a_workload_is_pinned_alone_is_not_removed() -> None:
    fleet = one_host()
    both = [Workload("x", 1, "3g.40gb", only_on="h/gpu0"), Workload("y", 1, "3g.40gb", only_on="h/gpu1")]
    fewer = gp.plan(both, fleet=fleet).sensitivity().changes[1]
    assert (fewer.figures, fewer.status) == (None, "refused")


def test_out_of_time_sensitivity_says_so() -> None:
    found = gp.plan_mig({"3g.40gb": 5}, gpus=2).sensitivity(time_limit_s=1e-9)
    assert [(change.figures, change.status) for change in found.changes] == [(None, "not finished")] * 2


# -- comparison ----------------------------------------------------------------------------------------------------------


def plans() -> list[gp.Plan]:
    cheap = Fleet((Host("a", (Gpu("A100-80GB", cost_per_hour=3.0, power_w=400),) * 2), Host("b", ("T4",) * 2)))
    x, y = Workload("x", 3, "3g.40gb", priority=1), Workload("y", 9, memory_gib=8)
    return [
        gp.plan([x, y], fleet=cheap),
        gp.plan([replace(x, count=5), y], fleet=cheap),
        gp.plan([x, y], fleet=cheap, modes=["mig", "whole"]),
        gp.plan([x, y], fleet=Fleet.of("A100-80GB", gpus_per_host=1)),
        gp.plan([x], fleet=Fleet.of("A100-80GB", gpus_per_host=4)),
    ]


def test_comparing_is_antisymmetric() -> None:
    made = plans()
    other = {"first": "second", "second": "first", None: None}
    for mine, yours in combinations(made, 2):
        there, back = mine.compare(yours), yours.compare(mine)
        assert back.better == other[there.better]
        assert back.stage == there.stage
        assert (back.first, back.second) == (there.second, there.first)
        assert (back.first_metrics, back.second_metrics) == (there.second_metrics, there.first_metrics)
        assert (back.only_first, back.only_second) == (there.only_second, there.only_first)
        assert {(m.workload, m.elsewhere, m.only_first, m.only_second) for m in there.moved} == {
            (m.workload, m.elsewhere, m.only_second, m.only_first) for m in back.moved
        }
        assert back.same_workloads == there.same_workloads
        assert str(there)


def test_a_plan_is_equal_to_itself() -> None:
    for plan in plans():
        same = plan.compare(plan)
        assert (same.better, same.stage, same.moved, same.same_workloads) == (None, None, (), True)
        assert "every replica runs in the same place" in str(same)


def test_the_stage_that_decides_is_named() -> None:
    five, ten = gp.plan_mig({"3g.40gb": 5}, gpus=2), gp.plan_mig({"3g.40gb": 5}, gpus=4)
    found = five.compare(ten)
    assert (found.better, found.stage) == ("second", "placed")
    assert [(moved.workload, moved.only_second) for moved in found.moved] == [("3g.40gb", 1)]
    assert "the second plan is better, by placed: 4 and 5" in str(found)
    spread = gp.plan([Workload("w", 2, "1g.10gb", spread="gpu")], fleet=one_host())
    packed = gp.plan([Workload("w", 2, "1g.10gb")], fleet=one_host())
    found = packed.compare(spread)
    assert (found.better, found.stage, found.changed) == ("first", "gpus", ("w",))
    places = [{a.replica: (a.gpu, a.profile, a.start) for a in plan.assignments()} for plan in (packed, spread)]
    assert [(moved.workload, moved.elsewhere) for moved in found.moved] == [
        ("w", sum(places[0][replica] != places[1][replica] for replica in (0, 1)))
    ]


def test_a_higher_priority_counts_before_more_replicas() -> None:
    high, low = Workload("high", 1, "7g.80gb", priority=1), Workload("low", 7, "1g.10gb")
    first = gp.plan_mig([high, low], gpus=1)
    second = gp.plan_mig([replace(high, priority=0), replace(low, priority=1)], gpus=1)
    for mine, yours in ((first, second), (second, first)):  # each by its own priorities
        assert (mine.compare(yours).better, mine.compare(yours).stage) == ("first", "placed")
    assert "the first plan is better, by placed (higher priorities first): 1 and 7" in str(first.compare(second))


def test_figures_that_one_plan_does_not_have_are_not_compared() -> None:
    fleet = Fleet((Host("a", (Gpu("A100-80GB", cost_per_hour=3.0),) * 2),))
    priced = gp.plan({"3g.40gb": 2}, fleet=fleet, objective=("placed", "cost"))
    plain = gp.plan({"3g.40gb": 2}, fleet=one_host())
    found = priced.compare(plain)
    assert (found.better, found.stages[-1].second) == (None, None)
    assert (found.first.cost_per_hour, found.second.cost_per_hour) == (3.0, None)
    assert "equal up to cost, which one of them does not tell" in str(found)


def partitioner(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "partitioner.cli", *arguments], capture_output=True, text=True, check=False)


def test_the_command_line_explains_a_saved_plan(tmp_path) -> None:
    workloads, where = BINDING["vcpus"]
    gp.plan(workloads, **where).save(tmp_path / "plan.json")
    path = str(tmp_path / "plan.json")
    text = partitioner("explain", path, "w")
    assert (text.returncode, text.stderr) == (0, "")
    assert "binding: vCPUs of hosts" in text.stdout
    data = json.loads(partitioner("explain", path, "w", "--json", "--time-limit", "5").stdout)
    assert data["binding"] == ["vcpus"]
    assert data == json.loads(json.dumps(gp.Plan.load(path).explain("w").to_data()))
    wrong = partitioner("explain", path, "v")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no workload 'v' in the plan" in wrong.stderr
    never = partitioner("explain", path, "w", "--time-limit", "0")
    assert (never.returncode, "time_limit_s is 0" in never.stderr) == (2, True)


def test_the_command_line_takes_a_calibration(tmp_path) -> None:
    table = tmp_path / "own.csv"
    table.write_text(Calibration.default().to_csv())
    workloads, where = BINDING["profile"]
    gp.plan(workloads, **where).save(tmp_path / "plan.json")
    out = partitioner("explain", str(tmp_path / "plan.json"), "w", "--calibration", str(table), "--json")
    assert out.returncode == 0, out.stderr
    assert "profile" in json.loads(out.stdout)["binding"]
