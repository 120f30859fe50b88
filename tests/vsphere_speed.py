"""How fast machines are made: 200 of them against the extended vCenter, with 0, 20 and 50 ms for each call.

``python tests/vsphere_speed.py [MACHINES] [MILLISECONDS ...]`` prints a table; each row compares, measured in the same run,
- one by one, asking for the state of each task until it ends (what most tools do),
- making all of them at the same time, and its bound: rounds of 16 calls, and one wait,
- the whole `vsphere.apply`: look, make all of them, look again; the six round trips of looking and one for the pool come on top.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from vcenter import Gpu, Host, VCenter

import partitioner as gp
from partitioner import Workload
from partitioner.targets import StateFolder
from vsphere.applying import apply, destroy
from vsphere.applying.sites import Sites
from vsphere.changes import diff
from vsphere.machine import VmDefaults, layout_vms, to_config_spec
from vsphere.machine.vm import Vm
from vsphere.target import VSphereTarget, connect
from vsphere.tasks import IN_FLIGHT, Job, carry_out

DEFAULTS = VmDefaults(datastore="datastore-1", vcpus=2, ram_gib=4, disk_gib=0, plan="speed", power_on=False)


@dataclass(frozen=True)
class Row:
    """One delay: seconds one by one, at the same time, of the bound, and of the whole of `apply`."""

    ms: int
    one_by_one_s: float
    made_s: float
    bound_s: float
    apply_s: float

    @property
    def of_bound(self) -> float:
        """How many times the bound making them takes."""
        return self.made_s / self.bound_s if self.bound_s else math.inf

    @property
    def times_faster(self) -> float:
        """How many times faster making them is than one by one."""
        return self.one_by_one_s / self.made_s

    def __str__(self) -> str:
        figures = (self.one_by_one_s, self.made_s, self.bound_s, self.of_bound, self.times_faster, self.apply_s)
        return f"{self.ms:>5}" + "".join(f"{figure:>14.2f}" for figure in figures)


def measure(count: int, ms: int, *, times: int = 3) -> Row:
    """Measure one delay; of several times the best, one by one once."""
    hosts = [Host(f"esx-{n:02}", gpus=[Gpu("A100-80GB", "mig")] * 4, policy="consolidation") for n in range(math.ceil(count / 8))]
    os.environ.setdefault("VC_PASSWORD", "P4ss&<word>")
    with VCenter(hosts=hosts) as center, TemporaryDirectory() as folder:
        target = connect(
            center.host,
            user=center.user,
            password_env="VC_PASSWORD",  # noqa: S106 - the name of a variable
            port=center.port,
            ca_file=center.ca_file,
            state=StateFolder(folder),
        )
        with target:
            plan = gp.plan([Workload("chat", profile="3g.40gb", count=count)], fleet=target.fleet())
            vms = layout_vms(plan, DEFAULTS, hosts=target.inventory())
            ways = (at_the_same_time, whole, one_by_one)
            made, applied, slow = (
                min(_timed(center, target, vms, way, ms) for _ in range(times if way is not one_by_one else 1)) for way in ways
            )
    return Row(ms, slow, made, (math.ceil(count / IN_FLIGHT) + 1) * ms / 1000, applied)


def _timed(
    center: VCenter, target: VSphereTarget, vms: tuple[Vm, ...], way: Callable[[VSphereTarget, tuple[Vm, ...]], float], ms: int
) -> float:
    gc.collect()
    center.delay_ms(ms)
    took = way(target, vms)
    center.delay_ms(0)
    assert len(destroy(target, "speed").steps) == len(vms)
    return took


def at_the_same_time(target: VSphereTarget, vms: tuple[Vm, ...]) -> float:
    """Make all machines at the same time, their specifications at hand [s]."""
    inventory = target.inventory()
    sites = Sites(target.session, inventory)
    sites.prepare(vms)
    jobs = []
    for vm in vms:
        spec = to_config_spec(vm, inventory.host[vm.host or ""], networks=inventory.networks)
        begin = partial(sites.folder(vm).CreateVM_Task, spec, sites.pool(vm), sites.host(vm.host))
        jobs.append(Job(vm.name, begin, vm.host))
    began = time.perf_counter()
    outcomes = carry_out(target.session, jobs)
    took = time.perf_counter() - began
    assert not [outcome for outcome in outcomes if outcome.error]
    return took


def whole(target: VSphereTarget, vms: tuple[Vm, ...]) -> float:
    """Carry the changes out that make all machines [s]."""
    changes = diff(target.inventory(), vms)
    began = time.perf_counter()
    apply(changes, target)
    return time.perf_counter() - began


def one_by_one(target: VSphereTarget, vms: tuple[Vm, ...]) -> float:
    """Make machines as most tools do, one after the other, asking for each task until it ends [s]."""
    began = time.perf_counter()
    inventory = target.inventory()
    sites = Sites(target.session, inventory)
    for vm in vms:
        spec = to_config_spec(vm, inventory.host[vm.host or ""], networks=inventory.networks)
        task: Any = sites.folder(vm).CreateVM_Task(spec, sites.pool(vm), sites.host(vm.host))
        while str(task.info.state) not in ("success", "error"):
            time.sleep(0.005)
    return time.perf_counter() - began


def peak_mib() -> float:
    """Return the most memory that this process had [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    heads = ("one by one s", "all at once s", "bound s", "x of bound", "times faster", "apply s")
    print(f"{count} machines\n   ms" + "".join(f"{head:>14}" for head in heads))
    for ms in map(int, sys.argv[2:] or ("0", "20", "50")):
        print(measure(count, ms))
    print(f"peak memory {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
