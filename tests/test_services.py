"""Services: profiles and numbers of instances by brute force over a small table, with rules, limits and failures."""

from __future__ import annotations

import random

import brute_force
import pytest

import partitioner as gp
from partitioner import Fleet, Gpu, Host, Workload
from partitioner.performance import Calibration

A30 = "A30-24GB"
ONE = Fleet.of(A30, hosts=1, gpus_per_host=1)
PAIR = Fleet.of(A30, hosts=1, gpus_per_host=2)
HOSTS = Fleet.of(A30, hosts=2, gpus_per_host=1)
SQUARE = Fleet.of(A30, hosts=2, gpus_per_host=2)

TABLE = """gpu,profile,model,batch,processes,busy,throughput_per_s,latency_ms,source
A30-24GB,1g.6gb,m,1,1,yes,70,14,test
A30-24GB,1g.6gb,m,4,1,yes,100,40,test
A30-24GB,2g.12gb,m,1,1,yes,110,9,test
A30-24GB,2g.12gb,m,4,1,yes,210,19,test
A30-24GB,4g.24gb,m,4,1,yes,390,10,test
A30-24GB,1g.6gb,n,1,1,yes,50,20,test
A30-24GB,2g.12gb,n,1,1,yes,120,8,test
A30-24GB,4g.24gb,n,1,1,yes,200,5,test
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(TABLE)
    return Calibration.from_csv(path)


def m(rate: float, name: str = "s", latency_ms: float = 50, **fields: object) -> Workload:
    return Workload(name, model="m", rate=rate, latency_ms=latency_ms, scenario="batch", **fields)


def n(rate: float, name: str = "t", **fields: object) -> Workload:
    return Workload(name, model="n", rate=rate, latency_ms=50, scenario="batch", **fields)


def small(name: str = "w", count: int = 1, profile: str = "1g.6gb", **fields: object) -> Workload:
    return Workload(name, count, profile, **fields)


@pytest.mark.parametrize(
    ("workloads", "fleet", "asked", "figures"),
    [
        ([m(250)], ONE, {}, (1, 1)),
        ([m(420)], ONE, {}, (1, 1)),  # two of 210, more than the whole GPU does
        ([m(421)], ONE, {}, (0, 0)),  # all or nothing
        ([m(70, latency_ms=15), n(120)], ONE, {}, (2, 1)),
        ([m(300, latency_ms=15), n(60)], ONE, {}, (1, 1)),  # only a whole 4g does it in time
        ([m(300, latency_ms=15), n(60)], PAIR, {}, (2, 2)),
        ([m(500), n(170, priority=1)], ONE, {}, (1, 1)),
        ([m(250), n(170)], PAIR, {}, (2, 2)),
        ([m(250), small(count=2)], PAIR, {}, (3, 2)),
        ([m(300, profile="1g.6gb")], PAIR, {}, (1, 1)),
        ([m(300, max_batch=1)], PAIR, {}, (1, 2)),
        ([m(250, spread="gpu")], PAIR, {}, (1, 1)),
        ([m(400, spread="gpu", profile="2g.12gb")], PAIR, {}, (1, 2)),
        ([m(400, spread="host", profile="2g.12gb")], PAIR, {}, (0, 0)),
        ([m(90, apart_from="t"), n(50)], PAIR, {}, (2, 2)),
        ([m(90, apart_from="t"), n(50)], ONE, {}, (1, 1)),
        ([m(90), small(count=2, spread="gpu", together_with="s")], PAIR, {}, (3, 2)),
        ([m(90), small(count=2, spread="host", together_with="s", together_on="host")], HOSTS, {}, (3, 2)),
        ([m(250, together_with="w"), small(count=2)], PAIR, {}, (3, 2)),
        ([m(90, tenant="x"), n(50, tenant="y")], PAIR, {}, (2, 2)),
        ([m(390, vcpus=4)], Fleet.of(A30, hosts=1, gpus_per_host=2, vcpus=4), {}, (1, 1)),
        ([m(420, vcpus=4)], Fleet.of(A30, hosts=1, gpus_per_host=2, vcpus=4), {}, (0, 0)),
        ([m(400)], Fleet.of(A30, hosts=2, gpus_per_host=2, max_vms=1), {}, (1, 2)),
        ([m(400, only_on="host-0/gpu1")], PAIR, {}, (1, 1)),
        ([m(700, never_on="host-0")], HOSTS, {}, (0, 0)),
        ([m(300)], Fleet((Host("h", (Gpu(A30, instances=("1g.6gb@0",)),)),)), {}, (1, 1)),
        ([m(320)], Fleet((Host("h", (Gpu(A30, instances=("1g.6gb@0",)),)),)), {}, (0, 1)),
        ([m(180)], HOSTS, {"host_failures": 1}, (1, 2)),
        ([m(600)], HOSTS, {"host_failures": 1}, (0, 0)),
        ([m(90), n(50)], HOSTS, {"host_failures": 1}, (2, 2)),
        ([m(610)], SQUARE, {"objective": ("placed", "hosts")}, (1, 2)),
        ([m(610)], SQUARE, {"objective": ("placed", "spread")}, (1, 2)),
        ([m(90), n(50)], PAIR, {"objective": ("placed", "gpus", "headroom")}, (2, 1)),
        ([m(210), n(50)], PAIR, {"objective": ("placed", "waste")}, (2, 1)),
    ],
)
def test_services_equal_brute_force(table, workloads, fleet, asked, figures) -> None:
    plan = brute_force.compared(workloads, fleet, calibration=table, **asked)
    assert (plan.placed, plan.gpus_used) == figures


def test_more_instances_may_take_over_than_were_lost(table) -> None:
    """One 4g serves all; where it fails, two 2g on two other hosts do, though none of them alone is enough."""
    half = Gpu(A30, instances=("2g.12gb@0",))
    there = Fleet((Host("x", (Gpu(A30),)), Host("y", (half,)), Host("z", (half,))))
    plan = brute_force.compared([m(350, latency_ms=30)], there, calibration=table, host_failures=1)
    assert plan.placed == 1


def test_instances_reach_the_rate_and_say_how(table) -> None:
    plan = gp.plan([m(250), n(170)], fleet=PAIR, calibration=table)
    for workload in plan.workloads:
        instances = [a for a in plan.assignments() if a.workload == workload.name]
        assert sum(a.throughput or 0 for a in instances) >= (workload.rate or 0)
        assert [a.replica for a in instances] == list(range(len(instances)))
        assert all(a.batch and a.processes for a in instances)


@pytest.mark.parametrize("seed", range(4))
def test_random_services_equal_brute_force(table, seed) -> None:
    check_random_services(table, seed, 8)


def check_random_services(table: Calibration, seed: int, cases: int) -> None:
    rng = random.Random(seed)
    for _ in range(cases):
        spread, apart = rng.choice((None, None, "gpu", "host")), rng.choice(((), (), ("s",)))
        workloads = [
            m(rng.randint(30, 600), latency_ms=rng.choice((15, 50)), spread=spread, vcpus=rng.choice((None, 2))),
            n(rng.randint(20, 300), priority=rng.choice((0, 1)), apart_from=apart, apart_on=rng.choice(("gpu", "host"))),
            small(count=rng.randint(1, 2), profile=rng.choice(("1g.6gb", "2g.12gb")), together_with=rng.choice(((), (), ("s",)))),
        ]
        there = Fleet.of(A30, hosts=rng.randint(1, 2), gpus_per_host=rng.randint(1, 2), vcpus=rng.choice((None, 5)))
        objective = rng.choice((("placed", "gpus", "waste"), ("placed", "gpus"), ("placed", "hosts", "gpus")))
        chosen = workloads[: rng.randint(1, 3)] if not apart else workloads[: rng.randint(1, 2)]
        failures = int(len(there) <= 2 and rng.random() < 0.3)
        try:
            brute_force.compared(chosen, there, objective=objective, host_failures=failures, calibration=table)
        except brute_force.TooLargeError:
            continue


def test_loosening_a_service_never_hurts(table) -> None:
    tight = gp.plan([m(700, spread="gpu"), n(300)], fleet=Fleet.of(A30, gpus_per_host=6), calibration=table)
    for loose in ([m(700), n(300)], [m(650, spread="gpu"), n(300)], [m(700, spread="gpu", latency_ms=100), n(300)]):
        plan = gp.plan(loose, fleet=Fleet.of(A30, gpus_per_host=6), calibration=table)
        assert (plan.status, tight.status) == ("optimal", "optimal")
        assert plan.gpus_used <= tight.gpus_used
