"""Rules, limits, multi-GPU jobs and the loss of a host: small fleets equal brute force, and every rule can bind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields, replace

import brute_force
import pytest
import strategies
from hypothesis import HealthCheck, given, settings

import partitioner as gp
from partitioner import Fleet, Gpu, Host, Workload
from partitioner.fleet import NumaNode

A30, A100 = "A30-24GB", "A100-40GB"
ONE = Fleet.of(A30, hosts=1, gpus_per_host=1)
PAIR = Fleet.of(A30, hosts=1, gpus_per_host=2)
HOSTS = Fleet.of(A30, hosts=2, gpus_per_host=1)
SQUARE = Fleet.of(A30, hosts=2, gpus_per_host=2)
SMALL, HALF, FULL = "1g.6gb", "2g.12gb", "4g.24gb"


def topology(*rows: str) -> str:
    """Return what `nvidia-smi topo -m` prints, from the links of each GPU; columns after the GPUs are NICs."""
    cells = [row.split() for row in rows]
    nics = [f"NIC{number}" for number in range(len(cells[0]) - len(rows))]
    header = "\t".join(["", *(f"GPU{number}" for number in range(len(rows))), *nics])
    return "\n".join([header, *("\t".join([f"GPU{number}", *row]) for number, row in enumerate(cells))])


def host(name: str, *gpus: str | Gpu, **fields: object) -> Host:
    return Host(name, tuple(gpu if isinstance(gpu, Gpu) else Gpu(gpu) for gpu in gpus), **fields)


def nodes(one: tuple[int, ...], vcpus: int, other: tuple[int, ...], more: int) -> Host:
    """Return a host with two NUMA nodes."""
    gpus = (A30,) * (len(one) + len(other))
    return host("h", *gpus, numa=(NumaNode(one, vcpus), NumaNode(other, more)))


def small(name: str = "w", count: int = 1, profile: str = SMALL, **fields: object) -> Workload:
    return Workload(name, count, profile, **fields)


NVLINKED = topology("X NV4 SYS", "NV4 X PHB", "SYS PHB X")
NICS = topology("X SYS PIX SYS", "SYS X SYS NODE")
THREE = Fleet((host("h", A30, A30, A30, links=NVLINKED),))

Case = tuple[str, list[Workload], Fleet, dict[str, object], tuple[int, int]]
# Name, workloads, fleet, what else is asked, (replicas placed, GPUs used). Without the rule the figures are better.
CASES: list[Case] = [
    ("spread over GPUs", [small(count=2, spread="gpu")], PAIR, {}, (2, 2)),
    ("spread with too few GPUs", [small(count=3, spread="gpu")], PAIR, {}, (2, 2)),
    ("spread over hosts", [small(count=3, spread="host")], SQUARE, {}, (2, 2)),
    ("apart on GPUs", [small("a", apart_from="b"), small("b")], PAIR, {}, (2, 2)),
    ("apart is symmetric", [small("a"), small("b", 2, apart_from="a")], ONE, {}, (2, 1)),
    ("apart on hosts", [small("a", 1, FULL, apart_from="b", apart_on="host"), small("b")], PAIR, {}, (1, 1)),
    ("apart on two hosts", [small("a", 2, apart_from="b", apart_on="host"), small("b", 2)], SQUARE, {}, (4, 2)),
    ("together on GPUs", [small("a", 2, together_with="b", spread="gpu"), small("b", 2)], PAIR, {}, (4, 2)),
    ("together on a GPU", [small("a", 3, HALF, together_with="b"), small("b")], PAIR, {}, (2, 1)),
    ("together on hosts", [small("a", 3, FULL, together_with="b", together_on="host"), small("b")], SQUARE, {}, (2, 2)),
    ("together both ways", [small("a", 3, together_with="b"), small("b", 1, HALF, together_with="a")], PAIR, {}, (3, 1)),
    ("tenants", [small("a", tenant="red"), small("b", tenant="blue"), small("c")], PAIR, {}, (3, 2)),
    ("more tenants than GPUs", [small("a", 3, tenant="red"), small("b", tenant="blue")], ONE, {}, (3, 1)),
    ("isolation", [Workload("a", 6, memory_gib=3, isolation="hardware")], PAIR, {}, (6, 2)),
    (
        "pinned to a GPU",
        [small("a", 2, HALF, only_on="host-0/gpu0"), small("b", 1, HALF, only_on="host-0/gpu0")],
        PAIR,
        {},
        (2, 1),
    ),
    ("pinned to a host", [small("a", 2, FULL, only_on="host-1")], HOSTS, {}, (1, 1)),
    ("kept off a GPU", [small("a", 5, never_on="host-0/gpu1")], PAIR, {}, (4, 1)),
    ("kept off a host", [small("a", 5, never_on=("host-0",))], HOSTS, {}, (4, 1)),
    ("vCPUs", [small("a", 4, vcpus=3)], Fleet.of(A30, hosts=2, gpus_per_host=1, vcpus=8), {}, (4, 2)),
    ("memory", [small("a", 4, ram_gib=3.5)], Fleet.of(A30, hosts=2, gpus_per_host=1, ram_gib=8), {}, (4, 2)),
    ("memory in decimals", [small("a", 4, ram_gib=0.7)], Fleet.of(A30, hosts=1, gpus_per_host=1, ram_gib=2.1), {}, (3, 1)),
    ("number of VMs", [small("a", 4)], Fleet.of(A30, hosts=2, gpus_per_host=2, max_vms=1), {}, (2, 2)),
    ("a job is one VM", [small("a", 2, FULL, gpus_per_replica=2)], Fleet.of(A30, hosts=1, max_vms=1), {}, (1, 2)),
    ("NUMA nodes", [small("a", 4, vcpus=3)], Fleet((nodes((0,), 8, (1,), 8),)), {}, (4, 2)),
    ("NUMA nodes that are too small", [small("a", 4, vcpus=3)], Fleet((nodes((0,), 2, (1,), 8),)), {}, (2, 1)),
    (
        "a job shares nodes",
        [small("a", 2, FULL, gpus_per_replica=2, vcpus=6)],
        Fleet((nodes((0,), 2, (1, 2, 3), 9),)),
        {},
        (1, 2),
    ),
    ("existing instances", [small("a", 2, HALF)], Fleet((host("h", Gpu(A30, instances=("1g.6gb@1",))),)), {}, (1, 1)),
    ("existing instances may share", [small("a", 3)], Fleet((host("h", A30, Gpu(A30, instances=("2g.12gb@0",))),)), {}, (3, 2)),
    ("a fixed mode", [small("a", 3, HALF)], Fleet((host("h", Gpu(A30, "whole"), Gpu(A30)),)), {}, (2, 1)),
    ("jobs stay in one host", [small("a", 1, FULL, gpus_per_replica=2)], HOSTS, {}, (0, 0)),
    ("jobs of instances", [small("a", 3, gpus_per_replica=3)], HOSTS, {}, (2, 2)),
    ("jobs spread over GPUs", [small("a", 2, gpus_per_replica=2, spread="gpu")], PAIR, {}, (1, 2)),
    ("equal jobs", [Workload("a", gpus_per_replica=2, memory_gib=22)], Fleet((host("h", A30, A100),)), {}, (0, 0)),
    ("links", [small("a", 2, HALF, gpus_per_replica=2, gpu_link="NVLINK", spread="gpu")], THREE, {}, (1, 2)),
    ("a link to nowhere", [small("a", 1, HALF, gpus_per_replica=2, gpu_link="PXB")], PAIR, {}, (0, 0)),
    ("links of three GPUs", [small("a", 1, HALF, gpus_per_replica=3, gpu_link="PHB")], THREE, {}, (0, 0)),
    ("RDMA", [small("a", 2, "whole", rdma=True)], Fleet((host("h", A30, A30, links=NICS),)), {}, (1, 1)),
    ("the loss of a host", [small("a", 2, HALF)], HOSTS, {"host_failures": 1}, (2, 2)),
    ("the loss of the only host", [small("a")], PAIR, {"host_failures": 1}, (0, 0)),
    ("survivors keep rules", [small("a", 2, spread="host")], HOSTS, {"host_failures": 1}, (1, 2)),
    (
        "survivors keep limits",
        [small("a", 3, vcpus=2)],
        Fleet.of(A30, hosts=2, gpus_per_host=1, vcpus=5),
        {"host_failures": 1},
        (2, 2),
    ),
    (
        "survivors keep tenants",
        [small("a", tenant="red"), small("b", tenant="blue"), small("c")],
        HOSTS,
        {"host_failures": 1},
        (2, 2),
    ),
    (
        "survivors keep tenants on several GPUs",
        [small("a", tenant="red"), small("b", tenant="blue"), small("c")],
        SQUARE,
        {"host_failures": 1},
        (3, 4),
    ),
    ("the loss of a job's host", [small("a", 2, FULL, gpus_per_replica=2)], SQUARE, {"host_failures": 1}, (1, 4)),
    (
        "a free instance serves larger and smaller",
        [Workload("a", memory_gib=5), Workload("b", memory_gib=10)],
        Fleet(
            (
                host("x", Gpu(A30, instances=("2g.12gb@0", "1g.6gb@2"))),
                host("y", Gpu(A30, instances=("2g.12gb@0",))),
                host("z", Gpu(A30, instances=("2g.12gb@0",))),
            )
        ),
        {"host_failures": 1, "modes": ("mig",)},
        (2, 3),
    ),
]


def stripped(workloads: list[Workload], fleet: Fleet) -> gp.Plan:
    """Plan the same replicas without rules, jobs as so many replicas, on the same GPUs without limits and nothing on them."""
    free = [Workload(w.name, w.count * w.gpus_per_replica, w.profile, w.memory_gib) for w in workloads]
    return gp.plan(free, fleet=Fleet(tuple(Host(h.name, tuple(Gpu(gpu.model) for gpu in h.gpus)) for h in fleet.hosts)))


@pytest.mark.parametrize(("workloads", "fleet", "asked", "figures"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_every_rule_equals_brute_force_and_binds(workloads, fleet, asked, figures) -> None:
    plan = brute_force.compared(workloads, fleet, **asked)
    assert (plan.placed, plan.gpus_used) == figures
    free = stripped(workloads, fleet)
    placed = sum(w.gpus_per_replica * n for w, n in zip(workloads, placed_of(plan), strict=True))
    assert (-free.placed, free.gpus_used) < (-placed, plan.gpus_used)


def test_profiles_of_a_job_are_equal_beside_existing_instances_too() -> None:
    """Beside a 3g.20gb a 4g.20gb stands where a 3g.20gb could."""
    there = Fleet((host("h", A100, Gpu(A100, instances=("3g.20gb@4",))),))
    plan = brute_force.compared([small("a", 2, "4g.20gb", gpus_per_replica=2)], there)
    assert (plan.placed, plan.gpus_used) == (1, 2)


def test_jobs_by_size_find_a_profile_that_all_their_gpus_have() -> None:
    """The smallest profile that is large enough is another one beside existing instances than on a free GPU."""
    linked = topology("X NV4", "NV4 X")
    there = Fleet((host("h", A100, Gpu(A100, instances=("3g.20gb@4",)), links=linked),))
    plan = brute_force.compared([Workload("a", memory_gib=5, gpus_per_replica=2, gpu_link="NODE")], there)
    assert (plan.placed, plan.gpus_used) == (1, 2)


def test_a_link_binds_no_replica_on_one_gpu() -> None:
    plan = brute_force.compared([small("a", 5, gpu_link="PXB")], ONE)
    assert (plan.placed, plan.gpus_used) == (4, 1)


def test_higher_priorities_come_first_whatever_the_rules() -> None:
    workloads = [small("a", 3, spread="gpu", priority=1), small("b", 2, FULL), small("c", 2, apart_from="b")]
    plan = brute_force.compared(workloads, PAIR)
    assert placed_of(plan) == [2, 0, 2]


def placed_of(plan: gp.Plan) -> list[int]:
    """Return the replicas placed of each workload."""
    left = {entry.workload: entry.count for entry in plan.unplaced}
    return [workload.count - left.get(workload.name, 0) for workload in plan.workloads]


def test_a_total_proves_no_priorities() -> None:
    """Three replicas are placed either way; the three of the higher priority are better than two of them and one other."""
    workloads = [Workload("a", gpu_share=1.0), Workload("b", 3, memory_gib=5, priority=1, gpus_per_replica=2)]
    assert placed_of(brute_force.compared(workloads, PAIR, objective=("placed", "gpus"))) == [0, 3]


# -- all rules mixed ---------------------------------------------------------------------------------------------------

_MIXED = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LIMIT_S = 8.0


def asked(question: strategies.Question, **more: object) -> gp.Plan | None:
    """Plan what was drawn, None where it contradicts itself; nothing else may be raised, and plans verify."""
    named = {"objective": question.objective, "host_failures": question.host_failures, **more}
    try:
        return gp.plan(question.workloads, fleet=question.fleet, **named)
    except gp.SpecError:
        return None


@settings(_MIXED, max_examples=150)
@given(strategies.questions())
def test_mixed_rules_equal_brute_force(question) -> None:
    check_against_brute_force(question, most_tries=20_000)


def check_against_brute_force(question: strategies.Question, *, most_tries: int) -> None:
    plan = asked(question, time_limit_s=LIMIT_S)
    if plan is None:
        return
    planner = brute_force.Planner(
        question.workloads,
        question.fleet,
        objective=question.objective,
        host_failures=question.host_failures,
        most_tries=most_tries,
    )
    try:
        assert not brute_force.differs(plan, planner)
    except brute_force.TooLargeError:
        return
    assert plan.status == "optimal"


@settings(_MIXED, max_examples=30)
@given(strategies.questions(most_hosts=3, most_gpus=3, most_replicas=9))
def test_the_same_seed_gives_the_same_plan(question) -> None:
    check_repeats(question)


def check_repeats(question: strategies.Question) -> None:
    plan = asked(question, time_limit_s=LIMIT_S, seed=5)
    if plan is not None and plan.status == "optimal":
        again = asked(question, time_limit_s=LIMIT_S, seed=5)
        assert again is not None
        assert again.to_json() == plan.to_json()
        assert gp.Plan.from_json(plan.to_json()) == plan


@settings(_MIXED, max_examples=15)
@given(strategies.questions(most_hosts=3, most_gpus=3, most_replicas=9))
@pytest.mark.parametrize("limit_s", [1e-6, 0.02, 0.3])
def test_time_limits_are_kept(limit_s, question) -> None:
    check_limit(question, limit_s)


def check_limit(question: strategies.Question, limit_s: float) -> None:
    """Other processes may slow the clock down, other threads of this one count several times; so the lesser of the two counts."""
    clocks = (time.monotonic, time.process_time)
    started = [clock() for clock in clocks]
    asked(question, time_limit_s=limit_s)
    assert min(clock() - start for clock, start in zip(clocks, started, strict=True)) < 1.1 * limit_s + 0.3


# -- loosening never hurts ---------------------------------------------------------------------------------------------


def worth(plan: gp.Plan) -> list[int]:
    """Return what a plan attains, lexicographically; less is better. Its first stage is by priority."""
    levels = sorted({workload.priority for workload in plan.workloads}, reverse=True)
    pairs = list(zip(plan.workloads, placed_of(plan), strict=True))
    placed = [-sum(n for w, n in pairs if w.priority == level) for level in levels]
    if not plan.complete:
        return placed
    stage = plan.objectives[1]
    return [*placed, -stage.value if stage.name == "headroom" else stage.value]


def looser(question: strategies.Question) -> Iterator[strategies.Question]:
    """Iterate over the same question with one rule, limit or failure less, or one GPU or host more."""
    workloads, fleet = question.workloads, question.fleet
    for row, workload in enumerate(workloads):
        for rule in RULES:
            if getattr(workload, rule.name) != rule.default:
                without = replace(workload, **{rule.name: rule.default})
                yield question._replace(workloads=(*workloads[:row], without, *workloads[row + 1 :]))
    for row, one in enumerate(fleet.hosts):
        for name in ("vcpus", "ram_gib", "max_vms"):
            if getattr(one, name) is not None:
                raised = replace(one, **{name: getattr(one, name) + 1}), replace(one, **{name: None})
                yield from (_with_host(question, row, more) for more in raised)
        if one.numa:
            yield _with_host(question, row, replace(one, numa=()))
        elif one.links is None:
            yield _with_host(question, row, replace(one, gpus=(*one.gpus, one.gpus[0])))
    yield question._replace(fleet=Fleet((*fleet.hosts, replace(fleet.hosts[0], name="more"))))
    if question.host_failures:
        yield question._replace(host_failures=0)


RULES = [f for f in fields(Workload) if f.name in ("spread", "apart_from", "together_with", "tenant", "isolation")]
RULES += [f for f in fields(Workload) if f.name in ("gpu_link", "rdma", "vcpus", "ram_gib", "only_on", "never_on")]


def _with_host(question: strategies.Question, row: int, one: Host) -> strategies.Question:
    hosts = question.fleet.hosts
    return question._replace(fleet=Fleet((*hosts[:row], one, *hosts[row + 1 :])))


@settings(_MIXED, max_examples=25)
@given(strategies.questions(most_hosts=3, most_gpus=3, most_replicas=9))
def test_loosening_never_hurts(question) -> None:
    check_loosening(question)


def check_loosening(question: strategies.Question) -> None:
    plan = asked(question, time_limit_s=LIMIT_S)
    if plan is None or plan.status != "optimal":
        return
    for loose in looser(question):
        if any(gpu.instances for host in loose.fleet.hosts for gpu in host.gpus) and loose.fleet != question.fleet:
            continue  # a GPU more with existing instances is one more in use
        better = asked(loose, time_limit_s=LIMIT_S)
        if better is not None and better.status == "optimal":
            mine, theirs = worth(plan), worth(better)
            assert theirs[: len(mine)] <= mine[: len(theirs)], f"{question} does better than {loose}"


# Name, workloads, fleet, what else is asked, words of the reason. What no host offers is said, not hidden in a count.
REASONS: list[tuple[str, list[Workload], Fleet, dict[str, object], str]] = [
    (
        "no links",
        [small(profile="whole", gpus_per_replica=2, gpu_link="NVLINK")],
        PAIR,
        {},
        "no host that could take it has links",
    ),
    (
        "links too bad",
        [small(profile="whole", gpus_per_replica=3, gpu_link="PIX")],
        THREE,
        {},
        "has 3 GPUs of one model linked by PIX",
    ),
    ("no NIC", [small(profile="whole", rdma=True)], THREE, {}, "rdma needs a NIC at PIX or PXB"),
    ("no links for rdma", [small(profile="whole", rdma=True)], PAIR, {}, "has links"),
    ("too many GPUs", [small(profile="whole", gpus_per_replica=4)], PAIR, {}, "no host offers more than 2 (as host-0 does)"),
    (
        "unequal GPUs",
        [small(profile="whole", gpus_per_replica=2)],
        Fleet((host("h", A30, A100),)),
        {},
        "no host offers more than 1 (as h does)",
    ),
    ("too many vCPUs", [small(vcpus=9)], Fleet.of(A30, hosts=1, vcpus=8), {}, "gives it more than 8 (as host-0 does)"),
    ("too many for a node", [small(vcpus=9)], Fleet((nodes((0,), 8, (1,), 4),)), {}, "gives it more than 8 (as h does)"),
    ("too much memory", [small(ram_gib=9.5)], Fleet.of(A30, hosts=1, ram_gib=8.5), {}, "takes 9.5 GiB of memory"),
    ("too few hosts", [small(count=3, spread="host")], HOSTS, {}, "3 are wanted on 2 hosts"),
    (
        "one host kept",
        [small(count=2, spread="host")],
        HOSTS,
        {"host_failures": 1},
        "2 are wanted on 1 host, one of 2 being kept",
    ),
    ("too few GPUs", [small(count=3, spread="gpu")], PAIR, {}, "3 are wanted on 2 GPUs"),
    ("nowhere to go", [small(only_on="host-0")], HOSTS, {"host_failures": 1}, "it can run on host-0 only"),
    ("kept off", [small(never_on=("host-0", "host-1"))], HOSTS, {}, "never_on host-0, host-1 leaves no GPU"),
    (
        "isolated",
        [small(profile="T4-8Q", isolation="hardware")],
        Fleet((host("h", "T4", A30),)),
        {},
        "'T4-8Q' is a time-sliced vGPU",
    ),
]


@pytest.mark.parametrize(("workloads", "fleet", "asked", "words"), [pytest.param(*c[1:], id=c[0]) for c in REASONS])
def test_what_no_host_offers_is_said(workloads, fleet, asked, words) -> None:
    plan = gp.plan(workloads, fleet=fleet, **asked)
    assert [words in entry.reason for entry in plan.unplaced] == [True] * len(plan.unplaced)
    assert plan.complete == (not words)


def test_rules_that_leave_no_room_are_named() -> None:
    chain = [small("a", together_with="b", apart_from="c"), small("b", together_with="c"), small("c")]
    (left,) = gp.plan(chain, fleet=PAIR).unplaced
    assert f"{left.workload} " not in left.reason
    assert any(rule in left.reason for rule in ("apart_from c", "together_with c"))


def test_a_plan_is_there_when_time_is_not() -> None:
    links = gp.Topology(
        (("X", "NV4", "SYS", "SYS"), ("NV4", "X", "SYS", "SYS"), ("SYS", "SYS", "X", "NV4"), ("SYS", "SYS", "NV4", "X"))
    )
    hosts = tuple(Host(f"h{n}", ("A100-80GB",) * 4, vcpus=64, ram_gib=512, links=links) for n in range(4))
    workloads = [
        Workload("job", profile="whole", count=3, gpus_per_replica=2, gpu_link="NVLINK", vcpus=16),
        Workload("db", profile="3g.40gb", count=3, spread="host", vcpus=8),
        Workload("cache", profile="1g.10gb", count=3, together_with=("db",), together_on="host", vcpus=2),
        Workload("noisy", profile="2g.20gb", count=2, apart_from=("db",), tenant="red"),
        Workload("quiet", profile="1g.10gb", count=4, tenant="blue", spread="gpu"),
    ]
    hasty = gp.plan(workloads, fleet=Fleet(hosts), time_limit_s=1e-6)
    assert hasty.complete
    assert hasty.status == "feasible"
    assert hasty.gpus_used >= gp.plan(workloads, fleet=Fleet(hosts)).gpus_used


def test_large_fleets_survive_a_host_with_one_in_reserve() -> None:
    fleet = Fleet.of("A100-80GB", hosts=40, gpus_per_host=8, vcpus=256, ram_gib=2048)
    workloads = [
        Workload("a", profile="3g.40gb", count=160, vcpus=8, ram_gib=64),
        Workload("b", profile="1g.10gb", count=400, vcpus=4, ram_gib=16),
        Workload("c", profile="2g.20gb", count=120, vcpus=4, ram_gib=32),
    ]
    safe = gp.plan(workloads, fleet=fleet, host_failures=1)  # verified: whichever host fails, everything finds a place
    assert safe.complete
    assert len(safe.failover) == safe.placed
    assert safe.gpus_used <= 1.05 * safe.lower_bound
    assert safe.lower_bound > gp.plan(workloads, fleet=fleet).gpus_used
