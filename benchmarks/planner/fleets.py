"""Fleets as they are: inventories of several models, hosts with limits, replicas that must not meet. Cases and their runs."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from benchmarks.planner.mixes import GPU, Mix
from benchmarks.planner.service_quality import LATE, ROUNDING
from partitioner import Fleet, Gpu, Host, Workload, catalog, plan
from partitioner.errors import SpecError, did_you_mean


@dataclass(frozen=True, slots=True)
class Case:
    """Workloads for a fleet, and what is wanted of the planner.

    Parameters
    ----------
    name : for tables.
    workloads : what has to run; all of it can.
    stage : the stage of the objective that decides.
    gap : how far above its bound that stage may end; 0: proven.
    seconds : the planner's deadline [s].
    fleet : the GPUs; None: `gpus` A100-80GB without hosts, cut by MIG.
    gpus : see `fleet`.
    objective : stages, the most important first.
    host_failures : hosts whose loss the plan survives.
    """

    name: str
    workloads: tuple[Workload, ...]
    stage: str
    gap: float
    seconds: float
    fleet: Fleet | None = None
    gpus: int | None = None
    objective: tuple[str, ...] = ("placed", "gpus", "waste")
    host_failures: int = 0

    @property
    def replicas(self) -> int:
        """Replicas in all."""
        return sum(workload.count for workload in self.workloads)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the planner made of a case.

    Parameters
    ----------
    case : the case.
    placed : replicas placed.
    stages : name of each stage to (value, bound).
    status, certificate : of the plan.
    plan_s : from the workloads to the verified plan [s].
    """

    case: Case
    placed: int
    stages: dict[str, tuple[int, int]]
    status: str
    certificate: str
    plan_s: float

    @property
    def gap(self) -> float:
        """How far the deciding stage is above its bound, as a share of the bound."""
        value, bound = self.stages[self.case.stage]
        return value / bound - 1 if bound else float(value > 0)

    @property
    def in_time(self) -> bool:
        """Whether the deadline was kept within 10%."""
        return self.plan_s <= LATE * self.case.seconds

    @property
    def holds(self) -> bool:
        """Whether every replica is placed, the plan is as close to its bound as is wanted, and in time."""
        value, bound = self.stages[self.case.stage]
        good = value == bound if self.case.gap == 0 else 0 <= self.gap <= self.case.gap + ROUNDING
        return good and self.placed == self.case.replicas and self.in_time


def run(case: Case, *, seed: int) -> Outcome:
    """Plan a case once, after a first plan that imports the engines and reads the catalogue.

    Parameters
    ----------
    case : what is to be planned.
    seed : of the planner.
    """
    plan({"1g.10gb": 1}, gpu=GPU, modes=("mig",))
    started = time.perf_counter()
    if case.fleet is not None:
        answer = plan(
            case.workloads,
            fleet=case.fleet,
            objective=case.objective,
            host_failures=case.host_failures,
            time_limit_s=case.seconds,
            seed=seed,
        )
    else:
        answer = plan(
            case.workloads,
            gpu=GPU,
            gpus=case.gpus,
            modes=("mig",),
            objective=case.objective,
            time_limit_s=case.seconds,
            seed=seed,
        )
    plan_s = time.perf_counter() - started
    stages = {stage.name: (stage.value, stage.bound) for stage in answer.objectives}
    return Outcome(case, answer.placed, stages, answer.status, answer.certificate, plan_s)


# -- inventories of several models -------------------------------------------------------------------------------------

INVENTORY = {"A100-80GB": 35, "A100-40GB": 10, "H100-80GB": 20, "A30-24GB": 10, "L40S": 10, "T4": 15}
"""GPU model to its share of the fleet [%]: more than what asks for cut compute is A100 and H100."""

LARGEST_GIB = 75.0
"""Most memory asked for [GiB]; half of the demands ask for less than 5 GiB."""


def many_demands(*, seed: int, demands: int = 20_000, replicas: int = 1_000_000) -> Case:
    """Return many different demands by size over six GPU models of which each is limited.

    Parameters
    ----------
    seed : of the draw.
    demands : how many different ones.
    replicas : in all.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    drawn: dict[tuple[float, int | None, float | None, str], None] = {}
    while len(drawn) < demands:
        memory = round(0.5 + (LARGEST_GIB - 0.5) * numbers.random() ** 4, 3)  # many small, few large; hardly two alike
        slices = numbers.choices((None, 1, 2, 3, 4), weights=(12, 4, 2, 1, 1))[0]
        share = numbers.randint(2, 41) / 100 if numbers.random() < 1 / 3 else None
        drawn[memory, slices, share, numbers.choices(("any", "hardware"), weights=(3, 1))[0]] = None
    each, more = divmod(replicas, demands)
    workloads = tuple(
        Workload(
            f"w{number}",
            count=each + (number < more),
            memory_gib=memory,
            compute_slices=slices,
            gpu_share=share,
            isolation=isolation,  # type: ignore[arg-type]  # one of two words
            priority=0,
        )
        for number, (memory, slices, share, isolation) in enumerate(drawn)
    )
    return Case(f"{demands:,} demands", workloads, "gpus", 0.0, 5.0, fleet=inventory(max(8, round(replicas * GPUS_PER_REPLICA))))


GPUS_PER_REPLICA = 0.5
"""GPUs of the inventory for each replica of `many_demands`: all can be placed, on most of the GPUs."""


def inventory(gpus: int) -> Fleet:
    """Return a fleet of about so many GPUs, shared out among models as `INVENTORY` says, eight to a host.

    Parameters
    ----------
    gpus : in all; rounded up to whole hosts.
    """
    hosts = []
    for model, percent in INVENTORY.items():
        content = (Gpu(model),) * 8
        hosts += [Host(f"{model}-{number}", content) for number in range(-(-gpus * percent // 800))]
    return Fleet(tuple(hosts))


# -- hosts with limits -------------------------------------------------------------------------------------------------

HOST_VCPUS, HOST_RAM_GIB = 256, 2048
"""Of one host with eight GPUs: two processors of 64 cores with two threads each, 2 TiB."""

VCPUS_PER_SLICE, RAM_PER_VCPU_GIB = (2, 4, 6, 8), (4.0, 8.0, 12.0)
"""VM flavours: vCPUs for each memory slice of the profile, and memory for each vCPU; a dozen for each profile. The
largest takes 64 vCPUs and 768 GiB."""

VMS = Mix("VMs", {"1g.10gb": 35, "1g.20gb": 15, "2g.20gb": 20, "3g.40gb": 15, "4g.40gb": 10, "7g.80gb": 5})
"""What VMs ask for of the GPU."""

SPARE_HOSTS = 0.03
"""Hosts beyond those whose vCPUs and memory would just do, were VMs divisible."""


def limited_hosts(*, seed: int, replicas: int = 100_000, objective: tuple[str, ...] = ("placed", "gpus", "waste")) -> Case:
    """Return VMs on hosts whose vCPUs and memory run out before their GPUs do.

    Parameters
    ----------
    seed : of the draw.
    replicas : VMs in all; up to 200 the plan is to be proven.
    objective : stages; hosts decide where they are named, else GPUs.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    flavours = list(product(VCPUS_PER_SLICE, RAM_PER_VCPU_GIB))
    drawn = Counter((profile, *numbers.choice(flavours)) for profile in VMS.draw(replicas, seed=seed))
    geometry = catalog.gpu(GPU).geometry("mig")
    workloads = []
    for (profile, per_slice, ram), count in sorted(drawn.items()):
        vcpus = per_slice * geometry.profile(profile).extent
        name = f"{profile}-{vcpus}c-{round(vcpus * ram)}g"
        workloads.append(Workload(name, count=count, profile=profile, vcpus=vcpus, ram_gib=vcpus * ram))
    vcpus_asked, ram_asked = asked_of_hosts(workloads)
    hosts = math.ceil((1 + SPARE_HOSTS) * max(vcpus_asked / HOST_VCPUS, ram_asked / HOST_RAM_GIB)) + 1
    content = (Gpu(GPU),) * 8
    fleet = Fleet(tuple(Host(f"esx-{n}", content, vcpus=HOST_VCPUS, ram_gib=HOST_RAM_GIB) for n in range(hosts)))
    stage = "hosts" if "hosts" in objective else "gpus"
    small = replicas <= 200
    name = f"{replicas:,} VMs, fewest {stage if stage == 'hosts' else 'GPUs'}"
    return Case(name, tuple(workloads), stage, 0.0 if small else 0.002, 60.0, fleet=fleet, objective=objective)


def asked_of_hosts(workloads: Sequence[Workload]) -> tuple[float, float]:
    """Return vCPUs and memory [GiB] that workloads take of their hosts in all."""
    return (
        sum(workload.count * (workload.vcpus or 0) for workload in workloads),
        sum(workload.count * (workload.ram_gib or 0.0) for workload in workloads),
    )


HOSTS_FIRST = ("placed", "hosts", "gpus", "waste")
"""Hosts before GPUs: what is not switched on costs nothing."""

# -- replicas that must not meet ---------------------------------------------------------------------------------------

SPREADS = (
    (50, ("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb")),
    (55, ("1g.10gb",) * 7),
    (60, ("1g.10gb",) * 8),
    (60, ("3g.40gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb")),
    (60, ("2g.20gb", "1g.20gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb")),
)
"""GPUs, and the profiles of the workloads of 50 replicas each: on 50 GPUs every one holds one of each; of eight or seven
small ones, and of 3g.40gb with five, every GPU lacks at least one, so that 58, 59 and all 60 are needed."""


def spread(*, replicas: int = 50) -> tuple[Case, ...]:
    """Return replica sets of which no two replicas share a GPU, on hardly more GPUs than replicas.

    Parameters
    ----------
    replicas : of each workload; the GPUs are scaled with them.
    """
    cases = []
    for gpus, profiles in SPREADS:
        workloads = tuple(
            Workload(f"{profile}-{number}", count=replicas, profile=profile, spread="gpu")
            for number, profile in enumerate(profiles)
        )
        shared_out = -(-gpus * replicas // 50)
        name = f"{len(profiles)} x {replicas} spread on {shared_out} GPUs"
        cases.append(Case(name, workloads, "gpus", 0.02, 10.0, gpus=shared_out))
    return tuple(cases)


def exclusions(*, seed: int, workloads: int = 30, gpus: int = 100, density: float = 0.2) -> Case:
    """Return workloads of which random pairs must not share a GPU.

    Parameters
    ----------
    seed : of the draw.
    workloads : how many, each of several replicas that fill four fifths of the GPUs' memory slices together.
    gpus : how many there are.
    density : share of the pairs that exclude each other.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    geometry = catalog.gpu(GPU).geometry("mig")
    profiles = Mix("excluding", {"1g.10gb": 4, "1g.20gb": 2, "2g.20gb": 3, "3g.40gb": 2}).draw(workloads, seed=seed)
    apart: list[list[str]] = [[] for _ in range(workloads)]
    for one, other in combinations(range(workloads), 2):
        if numbers.random() < density:
            apart[one].append(f"w{other}")
    slices = 0.8 * geometry.units * gpus / workloads
    asked = tuple(
        Workload(
            f"w{number}",
            count=max(1, round(slices * numbers.uniform(0.5, 1.5) / geometry.profile(profile).extent)),
            profile=profile,
            apart_from=tuple(apart[number]),
        )
        for number, profile in enumerate(profiles)
    )
    pairs = sum(map(len, apart))
    return Case(f"{workloads} workloads, {pairs} pairs apart, {gpus} GPUs", asked, "gpus", 0.02, 10.0, gpus=gpus)


# -- the loss of a host ------------------------------------------------------------------------------------------------


def failing_hosts(*, hosts: int) -> Case:
    """Return VMs on hosts of which any one may fail; they need about three in five of the GPUs.

    Parameters
    ----------
    hosts : of eight GPUs.
    """
    fleet = Fleet.of(GPU, hosts=hosts, gpus_per_host=8, vcpus=HOST_VCPUS, ram_gib=HOST_RAM_GIB)
    asked = (("3g.40gb", 4.0, 8, 64), ("1g.10gb", 10.0, 4, 16), ("2g.20gb", 3.0, 4, 32), ("7g.80gb", 0.5, 16, 200))
    workloads = tuple(
        Workload(profile, profile=profile, count=max(1, round(each * hosts)), vcpus=vcpus, ram_gib=ram_gib)
        for profile, each, vcpus, ram_gib in asked
    )
    return Case(f"any of {hosts} hosts may fail", workloads, "gpus", 0.02, 10.0, fleet, host_failures=1)


# -- all of them -------------------------------------------------------------------------------------------------------

CASES: dict[str, Callable[[int], tuple[Case, ...]]] = {
    "demands": lambda seed: (many_demands(seed=seed),),
    "hosts": lambda seed: (limited_hosts(seed=seed), limited_hosts(seed=seed, objective=HOSTS_FIRST)),
    "few-hosts": lambda seed: (
        limited_hosts(seed=seed, replicas=200),
        limited_hosts(seed=seed, replicas=200, objective=HOSTS_FIRST),
    ),
    "spread": lambda _: spread(),
    "exclusions": lambda seed: tuple(exclusions(seed=seed + number) for number in range(3)),
    "failures": lambda _: tuple(failing_hosts(hosts=hosts) for hosts in (10, 50, 200)),
}
"""Name on the command line to its cases."""


def cases(names: Sequence[str], *, seed: int) -> tuple[Case, ...]:
    """Return the cases of the given names, all where none is given.

    Raises
    ------
    SpecError
        A name is unknown.
    """
    for name in names:
        if name not in CASES:
            raise SpecError(f"unknown case {name!r}; {did_you_mean(name, CASES) or 'known: ' + ', '.join(CASES)}")
    return tuple(case for name in names or CASES for case in CASES[name](seed))
