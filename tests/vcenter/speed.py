"""How fast a vCenter is read and machines are made, against the extended simulator with a delay for each call.

``python tests/vcenter/speed.py [--hosts 100] [--vms 1000] [--machines 200] [--ms 0 20 50] [--times 3]`` prints Markdown tables.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import partitioner as gp
from benchmarks.planner.tables import _cpu, _version, seconds, table
from partitioner import Workload
from partitioner.targets import StateFolder
from vcenter import Gpu, Host, VCenter, Vm
from vsphere.applying import apply, destroy
from vsphere.applying.sites import Sites
from vsphere.changes import diff
from vsphere.machine import VmDefaults, layout_vms, to_config_spec
from vsphere.machine.vm import Vm as Machine
from vsphere.target import VSphereTarget, connect
from vsphere.tasks import IN_FLIGHT, Job, carry_out

MODEL, PROFILE, GPUS, FIT = "A100-80GB", "3g.40gb", 4, 8
"""Each host has 4 GPUs, which 8 machines with a half of one fill."""
DEFAULTS = VmDefaults(datastore="datastore-1", vcpus=2, ram_gib=4, disk_gib=0, plan="speed", power_on=False)
Begin = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """An inventory read at a delay: seconds of login and of the read, its round trips, memory of this process at its peak."""

    ms: int
    login_s: float
    read_s: float
    round_trips: int
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Making:
    """Machines made at a delay: seconds of the bound, of `vsphere.tasks`, one by one with polling, and of `vsphere.apply`."""

    ms: int
    bound_s: float
    tasks_s: float
    one_by_one_s: float
    apply_s: float
    peak_mib: float


# -- reading ---------------------------------------------------------------------------------------------------------------


def read(hosts: int, vms: int, ms: Sequence[int], *, times: int = 3) -> Iterator[Reading]:
    """Read an inventory at each delay, of some times the best."""
    names = [f"esx-{n:03}" for n in range(hosts)]
    machines = [
        Vm(f"vm-{n:04}", host=names[n % hosts], vgpus=["grid_a100d-1-10c"], powered_on=n % 2 == 0, ram_gib=2) for n in range(vms)
    ]
    with VCenter(hosts=[Host(name, gpus=[Gpu(MODEL, "mig")] * GPUS) for name in names], vms=machines) as center:
        for delay in ms:
            center.delay_ms(delay)
            with _peak() as peak:
                rows = [_read(center, hosts, vms) for _ in range(times)]
            center.delay_ms(0)
            login_s, read_s, trips = min(rows, key=lambda row: row[1])
            yield Reading(delay, login_s, read_s, trips, peak[0])


def _read(center: VCenter, hosts: int, vms: int) -> tuple[float, float, int]:
    gc.collect()
    began = time.perf_counter()
    with connected(center) as target:
        center.clear_calls()
        logged_in = time.perf_counter()
        inventory = target.inventory()
        ended = time.perf_counter()
        trips = center.round_trips
        assert (len(inventory.hosts), len(inventory.vms)) == (hosts, vms)
    return logged_in - began, ended - logged_in, trips


# -- making ----------------------------------------------------------------------------------------------------------------


def make(machines: int, ms: Sequence[int], *, times: int = 3) -> Iterator[Making]:
    """Make machines at each delay in all ways, of some times the best; one by one is done once."""
    hosts = [Host(f"esx-{n:03}", gpus=[Gpu(MODEL, "mig")] * GPUS) for n in range(math.ceil(machines / FIT))]
    with VCenter(hosts=hosts) as center, connected(center) as target:
        plan = gp.plan([Workload("chat", profile=PROFILE, count=machines)], fleet=target.fleet())
        wanted = layout_vms(plan, DEFAULTS, hosts=target.inventory())
        for delay in ms:
            run = partial(_timed, center, target, wanted, delay)
            with _peak() as peak:
                tasks_s = min(run(together) for _ in range(times))
                apply_s = min(run(applied) for _ in range(times))
            yield Making(delay, bound_s(machines, delay), tasks_s, run(one_by_one), apply_s, peak[0])


def bound_s(machines: int, ms: int) -> float:
    """Return the least time that calls take where 16 are under way at a time, and the end is waited for once [s]."""
    return (math.ceil(machines / IN_FLIGHT) + 1) * ms / 1000


Way = Callable[[VSphereTarget, tuple[Machine, ...]], Callable[[], None]]


def _timed(center: VCenter, target: VSphereTarget, vms: tuple[Machine, ...], ms: int, way: Way) -> float:
    run = way(target, vms)
    gc.collect()
    center.delay_ms(ms)
    began = time.perf_counter()
    run()
    took = time.perf_counter() - began
    center.delay_ms(0)
    assert len(list(target.inventory().ours())) == len(vms)
    destroy(target, "speed")
    return took


def together(target: VSphereTarget, vms: tuple[Machine, ...]) -> Callable[[], None]:
    """Make machines by `vsphere.tasks`; what each call says is at hand."""
    jobs = [Job(vm.name, begin, vm.host) for vm, begin in zip(vms, _begins(target, vms), strict=True)]

    def run() -> None:
        failed = [outcome.error for outcome in carry_out(target.session, jobs) if outcome.error]
        assert not failed, failed[:3]

    return run


def one_by_one(target: VSphereTarget, vms: tuple[Machine, ...]) -> Callable[[], None]:
    """Make machines as most tools do, one after the other, asking for each task until it ends; what is said is at hand."""
    begins = _begins(target, vms)

    def run() -> None:
        for begin in begins:
            task = begin()
            while (state := str(task.info.state)) not in ("success", "error"):
                time.sleep(0.005)
            assert state == "success", task.info.error

    return run


def applied(target: VSphereTarget, vms: tuple[Machine, ...]) -> Callable[[], None]:
    """Make machines by all of `vsphere.apply`: look, check, write the journal, make, look again."""
    changes = diff(target.inventory(), vms)

    def run() -> None:
        apply(changes, target)

    return run


def _begins(target: VSphereTarget, vms: tuple[Machine, ...]) -> list[Begin]:
    inventory = target.inventory()
    sites = Sites(target.session, inventory)
    sites.prepare(vms)
    return [
        partial(
            sites.folder(vm).CreateVM_Task,
            to_config_spec(vm, inventory.host[vm.host or ""], networks=inventory.networks),
            sites.pool(vm),
            sites.host(vm.host),
        )
        for vm in vms
    ]


# -- both ------------------------------------------------------------------------------------------------------------------


@contextmanager
def connected(center: VCenter) -> Iterator[VSphereTarget]:
    """Connect to a vCenter, its state in a folder that goes with it."""
    with TemporaryDirectory() as folder:
        password = Path(folder) / "password"
        password.write_text(center.password)
        where = {"user": center.user, "password_file": password, "port": center.port, "ca_file": center.ca_file}
        with connect(center.host, **where, state=StateFolder(f"{folder}/state")) as target:  # type: ignore[arg-type]
            yield target


@contextmanager
def _peak() -> Iterator[list[float]]:
    """Measure the most memory that this process has meanwhile; since its start where the system cannot tell [MiB]."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    found = [0.0]
    yield found
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    highest = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    found[0] = (highest[0] if highest else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def head(arguments: Sequence[str]) -> str:
    """Return what a reader needs to measure the same again: command, machine, versions."""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("gpu-partitioner", "pyvmomi", "pydantic"))
    return (
        f"`{' '.join(['python tests/vcenter/speed.py', *arguments])}`\n\n"
        f"{_cpu()}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {versions}; "
        "vCenter: the simulator of tests/vcenter on the same machine, TLS\n"
    )


def read_table(rows: Sequence[Reading]) -> str:
    """Return readings as Markdown."""
    columns = ("a call takes", "login", "inventory", "round trips", "peak memory")
    return table(
        columns,
        [(f"{r.ms} ms", seconds(r.login_s), seconds(r.read_s), r.round_trips, f"{r.peak_mib:.0f} MiB") for r in rows],
    )


def make_table(rows: Sequence[Making]) -> str:
    """Return how long making took as Markdown."""
    columns = ("a call takes", "bound", "made", "of the bound", "one by one", "times faster", "all of apply", "times faster")
    return table(
        (*columns, "peak memory"),
        [
            (
                f"{r.ms} ms",
                seconds(r.bound_s) if r.bound_s else "",
                seconds(r.tasks_s),
                f"{r.tasks_s / r.bound_s:.2f}" if r.bound_s else "",
                seconds(r.one_by_one_s),
                f"{r.one_by_one_s / r.tasks_s:.1f}",
                seconds(r.apply_s),
                f"{r.one_by_one_s / r.apply_s:.1f}",
                f"{r.peak_mib:.0f} MiB",
            )
            for r in rows
        ],
    )


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python tests/vcenter/speed.py", description="How fast a vCenter is read and changed.")
    parser.add_argument("--hosts", type=int, default=100, help="hosts of the inventory")
    parser.add_argument("--vms", type=int, default=1000, help="VMs of the inventory")
    parser.add_argument("--machines", type=int, default=200, help="VMs that are made")
    parser.add_argument("--ms", type=int, nargs="+", default=[0, 20, 50], help="what each call takes longer [ms]")
    parser.add_argument("--times", type=int, default=3, help="measured so often, the best counts")
    asked = parser.parse_args(arguments)
    print(head(arguments))
    print(f"Inventory of {asked.hosts:,} hosts with {GPUS} GPUs each and {asked.vms:,} VMs with a vGPU each\n")
    print(read_table(list(read(asked.hosts, asked.vms, asked.ms, times=asked.times))))
    print(f"\n{asked.machines:,} VMs with a vGPU each; bound: rounds of {IN_FLIGHT} calls, and one wait\n")
    print(make_table(list(make(asked.machines, asked.ms, times=asked.times))))


if __name__ == "__main__":
    main(sys.argv[1:])
