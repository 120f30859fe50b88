"""Two hundred kills: SIGKILL of the real process at a random call or moment, then a second run that ends at the goal.

Each point is a process of its own that applies changes to the extended vCenter over the real socket. It is killed before, while
or after one of its calls that start a task, so also between CreateVM and its result: then the machine may come into being
after its maker is dead, even while the second run is under way. Some second runs are killed as well. The last one is not, and
must find each machine once, at the goal, and everybody else's untouched.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from vcenter import Gpu, Host, VCenter
from vcenter import Vm as TheirVm

import partitioner as gp
from partitioner import Workload
from partitioner.applying import apply as engine_apply
from partitioner.changes import Changes
from partitioner.changes import diff as engine_diff
from partitioner.errors import TargetError
from partitioner.targets import StateFolder
from vsphere.applying import apply, rollback
from vsphere.applying.journal import VmJournal
from vsphere.changes import diff
from vsphere.machine import VmDefaults, layout_vms
from vsphere.machine.vm import Vm
from vsphere.stub import Stub
from vsphere.target import VSphereTarget, connect
from vsphere.values import Inventory

POINTS, BATCHES = 200, 10
ENGINE_POINTS = 20
DEFAULTS = VmDefaults(datastore="datastore-1", vcpus=2, ram_gib=4, disk_gib=1, folder="made", plan="test")
HOSTS = [Host(f"esx-0{n}", gpus=[Gpu("A100-80GB", "mig")] * 2, policy="consolidation") for n in (1, 2)]
THEIRS = TheirVm("theirs", host="esx-01", vgpus=["grid_a100d-3-40c"], powered_on=True)
GOALS: tuple[list[Workload], ...] = (
    [],
    [Workload("a", profile="3g.40gb", count=2), Workload("b", profile="1g.10gb", count=2)],
    [Workload("a", profile="4g.40gb"), Workload("b", profile="1g.10gb", count=3)],
    [Workload("a", profile="2g.20gb", count=2, only_on=["esx-02"]), Workload("c", profile="7g.80gb", only_on=["esx-02"])],
)
HOW = ("before", "during", "after", "moment")


class Case:
    """A vCenter, the machines of each goal, and a connection of this process."""

    def __init__(self, center: VCenter, folder: Path) -> None:
        self.center, self.folder = center, folder
        self.own = self.target("first")
        inventory = self.own.inventory()
        plans = [gp.plan(workloads, fleet=inventory.fleet()) if workloads else None for workloads in GOALS]
        self.goals = [() if plan is None else layout_vms(plan, DEFAULTS, hosts=inventory) for plan in plans]
        self.theirs = others(inventory)

    def target(self, name: str) -> VSphereTarget:
        return connect(
            self.center.host,
            user=self.center.user,
            password_env="VC_PASSWORD",  # noqa: S106 - the name of a variable
            port=self.center.port,
            ca_file=self.center.ca_file,
            timeout_s=20,
            defaults=DEFAULTS,
            state=StateFolder(self.folder / name),
        )


def others(inventory: Inventory) -> list[tuple[object, ...]]:
    return [(vm.moid, vm.powered_on, vm.change_version, vm.devices) for vm in inventory.vms if vm.mark is None]


def reach(target: VSphereTarget, goal: Sequence[Vm]) -> None:
    apply(diff(target.inventory(), goal, hosts=["esx-01", "esx-02"]), target)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_anywhere_a_second_run_ends_at_the_goal(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VC_PASSWORD", "P4ss&<word>")
    killed = 0
    with VCenter(hosts=HOSTS, vms=[THEIRS]) as center:
        case = Case(center, tmp_path)
        with case.own:
            for seed in range(batch, POINTS, BATCHES):
                killed += _point(case, seed)
    assert killed >= POINTS // BATCHES // 2  # the others had ended before


def _point(case: Case, seed: int) -> int:
    rng = random.Random(seed)
    base, goal = rng.sample(case.goals, 2)
    name, target = f"state-{seed}", case.own
    target.state = StateFolder(case.folder / name)
    reach(target, base)
    before = snapshot(target.inventory())
    how, at = rng.choice(HOW), rng.randint(1, 14)
    case.center.delay_ms(rng.choice((0, 5, 20)), method="CreateVM_Task")
    killed = _fork(_first(case, name, goal, how, at), rng.uniform(0.02, 0.2) if how == "moment" else None) == -signal.SIGKILL
    if rng.random() < 0.2:
        _fork(_first(case, name, goal, rng.choice(HOW[:3]), rng.randint(1, 6)))
    if rng.random() < 0.3:
        time.sleep(0.03)  # what was on the wire has arrived; else a machine may come when all looked well
        _back(target, before)
    reach(target, goal)
    now, said = target.inventory(), f"seed {seed}: {how} {at}"
    changes = diff(now, goal, hosts=["esx-01", "esx-02"])
    assert not changes, f"{said}: {changes}"
    assert sorted(info.name for info, _ in now.ours()) == sorted(vm.name for vm in goal), said
    assert others(now) == case.theirs, said
    case.center.delay_ms(0, method="CreateVM_Task")
    return int(killed)


@pytest.mark.parametrize("batch", range(2))
def test_the_engine_of_changes_goes_on_after_kills(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VC_PASSWORD", "P4ss&<word>")
    killed = 0
    with VCenter(hosts=HOSTS) as center:
        case = Case(center, tmp_path)
        with case.own as target:
            fleet, empty = target.fleet(), target.layout()
            plans = [gp.plan(workloads, fleet=fleet).layout for workloads in GOALS if workloads]
            for seed in range(batch, ENGINE_POINTS, 2):
                rng, name = random.Random(seed), f"engine-{seed}"
                target.state = StateFolder(case.folder / name)
                base, goal = rng.sample([empty, *plans], 2)
                engine_apply(engine_diff(target.layout(), base), target)
                changes = engine_diff(target.layout(), goal)
                how, at = rng.choice(HOW[:3]), rng.randint(1, 12)
                killed += _fork(_engine(case, name, changes, how, at)) == -signal.SIGKILL
                engine_apply(changes, target)  # the same changes: it finds where that one stopped
                assert not engine_diff(target.layout(), goal), f"seed {seed}: {how} {at}"
                replicas = [(mark.workload, mark.replica) for _, mark in target.inventory().ours()]
                assert len(replicas) == len(set(replicas)), f"seed {seed}: {how} {at}"
                engine_apply(engine_diff(target.layout(), empty), target)
    assert killed >= ENGINE_POINTS // 4


def _engine(case: Case, name: str, changes: Changes, how: str, at: int) -> Callable[[], object]:
    def run() -> None:
        _arm(how, at)
        with case.target(name) as target:
            engine_apply(changes, target)

    return run


def _back(target: VSphereTarget, before: object) -> None:
    """Roll a run that did not end back instead; machines that it destroyed already cannot be."""
    assert target.state
    run = VmJournal(target.state.path).read()
    if run is None or run.ended is not None:
        return
    try:
        rollback(target)
    except TargetError as error:
        assert "machines are lost" in str(error)  # noqa: PT017
    else:
        assert snapshot(target.inventory()) == before


def snapshot(inventory: Inventory) -> object:
    return sorted((info.name, info.moid, info.host, info.powered_on, info.vgpus, info.options) for info, _ in inventory.ours())


def _first(case: Case, name: str, goal: Sequence[Vm], how: str, at: int) -> Callable[[], object]:
    def run() -> None:
        if how != "moment":
            _arm(how, at)
        with case.target(name) as target:
            reach(target, goal)

    return run


def _arm(how: str, at: int) -> None:
    """Have this process killed at one of its calls that start a task."""
    call, lock, count = Stub.InvokeMethod, threading.Lock(), [0]

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def invoke(self: Any, mo: Any, info: Any, args: Any, outer: Any = None) -> Any:
        hit = False
        if str(info.wsdlName).endswith("_Task"):
            with lock:
                count[0] += 1
                hit = count[0] == at
        if hit and how == "before":
            kill()
        if hit and how == "during":
            threading.Timer(0.003, kill).start()
        answer = call(self, mo, info, args, outer)
        if hit and how == "after":
            kill()
        return answer

    Stub.InvokeMethod = invoke  # type: ignore[method-assign]


def _fork(work: Callable[[], object], kill_after_s: float | None = None) -> int:
    """Run work in a process of its own; returns its status, -9 where it was killed."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as the test
            traceback.print_exc()
            os._exit(1)
    if kill_after_s is not None:
        time.sleep(min(kill_after_s, 0.2))
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
