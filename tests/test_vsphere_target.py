"""Changes of machines carried out on the extended vCenter over the real socket, with every fault that can come in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pyVmomi import vim, vmodl
from vcenter import Gpu, Host, VCenter, Vcsim
from vcenter import Vm as TheirVm

import partitioner as gp
from partitioner import Fleet, Workload
from partitioner.applying import apply as engine_apply
from partitioner.applying import rollback as engine_rollback
from partitioner.changes import Step
from partitioner.changes import diff as engine_diff
from partitioner.errors import DriftError, SpecError, StepError, TargetError
from partitioner.targets import StateFolder, Target
from vsphere.applying import apply, destroy, rollback
from vsphere.applying.journal import VmJournal
from vsphere.changes import VmChanges, diff
from vsphere.errors import ConnectError, PrivilegeError, VersionError, VSphereError
from vsphere.machine import VmDefaults, layout_vms
from vsphere.machine.identity import instance_uuid
from vsphere.machine.vm import Device, Vm
from vsphere.target import VSphereTarget, connect
from vsphere.values import Place

DEFAULTS = VmDefaults(datastore="datastore-1", vcpus=2, ram_gib=4, disk_gib=1, folder="gpu/made", plan="test")
HOSTS = [Host(f"esx-0{n}", gpus=[Gpu("A100-80GB", "mig")] * 2, policy="consolidation") for n in (1, 2)]
THEIRS = TheirVm("theirs", host="esx-01", vgpus=["grid_a100d-3-40c"], powered_on=True)
SMALL = [Workload("chat", profile="3g.40gb", count=2), Workload("embed", profile="1g.10gb", count=3)]
LARGE = [Workload("chat", profile="4g.40gb", count=1), Workload("embed", profile="1g.10gb", count=4)]


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VC_PASSWORD", "P4ss&<word>")


@pytest.fixture
def center() -> Iterator[VCenter]:
    with VCenter(hosts=HOSTS, vms=[THEIRS]) as found:
        yield found


@contextmanager
def connected(center: VCenter | Vcsim, tmp_path: Path) -> Iterator[VSphereTarget]:
    """Connect, and check in the end that nobody else's machine was touched."""
    with connect(
        center.host,
        user=center.user,
        password_env="VC_PASSWORD",  # noqa: S106 - the name of a variable
        port=center.port,
        ca_file=center.ca_file,
        timeout_s=20,
        defaults=DEFAULTS,
        state=StateFolder(tmp_path / "state"),
    ) as target:
        before = theirs(target)
        yield target
        assert theirs(target) == before


def theirs(target: VSphereTarget) -> object:
    return [
        (info.name, info.moid, info.powered_on, info.change_version, info.devices, info.options)
        for info in target.inventory().vms
        if info.name == "theirs"
    ]


@pytest.fixture
def target(center: VCenter, tmp_path: Path) -> Iterator[VSphereTarget]:
    with connected(center, tmp_path) as found:
        yield found


def machines(target: VSphereTarget, workloads: Sequence[Workload]) -> tuple[Vm, ...]:
    return layout_vms(gp.plan(list(workloads), fleet=target.fleet()), DEFAULTS, hosts=target.inventory())


def changes_to(target: VSphereTarget, workloads: Sequence[Workload]) -> VmChanges:
    return diff(target.inventory(), machines(target, workloads))


def state(target: VSphereTarget) -> dict[str, tuple[object, ...]]:
    """What our machines are."""
    return {info.name: (info.host, info.powered_on, info.vgpus, info.vcpus, info.mark) for info, _ in target.inventory().ours()}


def at_goal(target: VSphereTarget, vms: Sequence[Vm]) -> bool:
    return not diff(target.inventory(), vms) and len(state(target)) == len(vms)


# -- the way of an administrator -------------------------------------------------------------------------------------------


def test_plan_diff_apply_status_destroy(target: VSphereTarget, center: VCenter) -> None:
    vms = machines(target, SMALL)
    changes = diff(target.inventory(), vms)
    assert apply(changes, target, dry_run=True)
    assert not state(target)
    seen: list[object] = []
    report = apply(
        changes, target, verify=True, progress=lambda done, total, step: seen.append((done, total, step and step.kind))
    )
    assert len(report.steps) == len(changes) == 10
    assert not report.gpus
    assert report.interruptions == ()
    assert seen[-1] == (10, 10, None)
    assert {kind for _, _, kind in seen[:-1]} == {"create", "power on"}
    assert at_goal(target, vms)
    assert {vm.name for vm in vms} <= {use.vm for host in ("esx-01", "esx-02") for card in center.gpus(host) for use in card.uses}
    center.clear_calls()
    assert not apply(changes, target)  # a second apply is empty
    assert not [call for call in center.calls() if call.method.endswith("_Task")]
    gone = destroy(target, "test")
    assert sum(step.kind == "destroy" for step in gone.steps) == 5
    assert not state(target)
    assert not destroy(target, "test")


def test_a_change_interrupts_only_whom_it_must_and_makes_nobody_twice(target: VSphereTarget) -> None:
    apply(changes_to(target, SMALL), target)
    before = {info.name: info.moid for info, _ in target.inventory().ours()}
    vms = machines(target, LARGE)
    report = apply(diff(target.inventory(), vms), target)
    assert "chat/0" in report.interruptions
    after = {info.name: info.moid for info, _ in target.inventory().ours()}
    assert at_goal(target, vms)
    assert all(after[name] == moid for name, moid in before.items() if name in after)


def test_rollback_brings_back_what_was(target: VSphereTarget) -> None:
    apply(changes_to(target, SMALL[:1]), target)
    before = state(target)
    report = apply(changes_to(target, [Workload("chat", profile="4g.40gb", count=2), SMALL[1]]), target)
    assert report.interruptions
    assert state(target) != before
    assert rollback(target, dry_run=True)
    back = rollback(target)
    assert {step.kind for step in back.steps} >= {"power off", "reconfigure", "power on", "destroy"}
    assert state(target) == before
    with pytest.raises(TargetError, match="rolled back already"):
        rollback(target)


def test_rollback_says_who_is_lost(target: VSphereTarget) -> None:
    apply(changes_to(target, SMALL), target)
    apply(changes_to(target, SMALL[:1]), target)
    with pytest.raises(TargetError, match=r"(?s)machines are lost.*gpu-embed-0"):
        rollback(target)


def test_destroy_takes_only_its_plan(target: VSphereTarget) -> None:
    apply(changes_to(target, SMALL), target)
    with pytest.raises(SpecError, match="plan is empty"):
        destroy(target, "")
    assert not destroy(target, "another")
    assert len(state(target)) == 5


def test_rules_of_drs_hold_machines_and_go_with_them(tmp_path: Path) -> None:
    with VCenter(hosts=HOSTS, vms=[THEIRS]) as center, connected(center, tmp_path) as target:
        cluster = target.inventory().clusters[0]
        spec = vim.cluster.ConfigSpecEx(drsConfig=vim.cluster.DrsConfigInfo(enabled=True, defaultVmBehavior="fullyAutomated"))
        task = vim.ClusterComputeResource(cluster.moid, target.session.stub).ReconfigureComputeResource_Task(spec, modify=True)
        _wait(lambda: str(task.info.state) == "success")
        vms = machines(target, SMALL)
        report = apply(diff(target.inventory(), vms), target)
        assert "rules" in {step.kind for step in report.steps}
        held = {moid for group in target.inventory().clusters[0].groups for moid in group.vms}
        assert held == {info.moid for info, _ in target.inventory().ours()}
        assert at_goal(target, vms)
        vms = machines(target, LARGE)
        apply(diff(target.inventory(), vms), target)
        assert at_goal(target, vms)
        rollback_or_lost(target)
        destroy(target, "test")
        assert not target.inventory().clusters[0].rules
        assert not target.inventory().clusters[0].groups


def rollback_or_lost(target: VSphereTarget) -> None:
    try:
        rollback(target)
    except TargetError as error:
        assert "machines are lost" in str(error)  # noqa: PT017


def _wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_gpus_other_than_planned_are_reported_and_an_error_only_where_asked(tmp_path: Path) -> None:
    hosts = [Host("esx-01", gpus=[Gpu("A100-80GB", "mig")] * 2, policy="performance")]
    with VCenter(hosts=hosts) as center, connected(center, tmp_path) as target:
        plan = gp.plan([Workload("chat", profile="3g.40gb", count=2)], fleet=target.fleet())
        vms = layout_vms(plan, DEFAULTS, hosts=target.inventory())
        changes = diff(target.inventory(), vms)
        assert "expected to choose GPU 1" in str(changes)
        with pytest.raises(TargetError, match="not on the GPUs planned"):
            apply(changes, target, exact_gpus=True)
        report = apply(changes, target)
        assert not report
        assert "got GPU 1, planned GPU 0" in report.gpus[0]
        assert at_goal(target, vms)


def test_the_unmodified_simulator_understands_the_same_calls(tmp_path: Path) -> None:
    """An independent check of the protocol: it knows no GPUs and refuses nothing."""
    with Vcsim(vms=1) as center, connected(center, tmp_path) as target:
        device = Device(vgpu="grid_a100d-3-40c", place=Place("chat", 0, 0, "mig", "3g.40gb", 0))
        values = {"datacenter": "DC0", "datastore": "LocalDS_0", "vcpus": 2, "ram_gib": 4, "disk_gib": 1, "replicas": (0,)}
        vms = tuple(
            Vm(
                name=f"gpu-{name}-0",
                plan="test",
                workload=name,
                instance_uuid=instance_uuid("test", name, [0]),
                cluster="DC0_C0",
                devices=(device,),
                **values,  # type: ignore[arg-type]
            )
            for name in ("chat", "talk")
        )
        theirs = {info.moid: info for info in target.inventory().vms}
        assert len(apply(diff(target.inventory(), vms), target).steps) >= 4
        assert at_goal(target, vms)
        wider = tuple(replace(vm, vcpus=4, devices=(replace(device, vgpu="grid_a100d-4-40c"),)) for vm in vms)
        assert apply(diff(target.inventory(), wider), target).interruptions == ("chat/0", "talk/0")
        assert at_goal(target, wider)
        rollback(target)
        assert at_goal(target, vms)
        destroy(target, "test")
        assert {info.moid: info for info in target.inventory().vms} == theirs


# -- faults ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["CreateVM_Task", "PowerOnVM_Task"])
@pytest.mark.parametrize(
    "fault",
    [
        "vim.fault.NoDiskSpace",
        "vim.fault.InsufficientGraphicsResourcesFault",
        "vim.fault.HostNotConnected",
        "vmodl.fault.SystemError",
    ],
)
def test_a_refusal_keeps_the_fault_and_is_taken_back(target: VSphereTarget, center: VCenter, method: str, fault: str) -> None:
    changes = changes_to(target, SMALL)
    center.fail(method, fault, at=3, of="task")
    with pytest.raises(StepError) as caught:
        apply(changes, target)
    assert caught.value.rolled_back is True
    assert isinstance(caught.value.__cause__, VSphereError)
    assert type(caught.value.__cause__.fault).__name__.rpartition(".")[2] == fault.rpartition(".")[2]
    assert fault.rpartition(".")[2] in str(caught.value)
    assert not state(target)
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_what_was_done_stays_where_that_is_wanted_and_a_second_run_finishes(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    center.fail("PowerOnVM_Task", "vim.fault.HostNotConnected", at=2, of="task")
    with pytest.raises(StepError, match="diff again and apply to go on") as caught:
        apply(changes, target, rollback_on_error=False)
    assert caught.value.rolled_back is None
    assert len(state(target)) == 5
    center.clear_calls()
    apply(changes, target)
    assert center.count("CreateVM_Task") == 0
    assert at_goal(target, changes.goal)


def test_a_change_that_fails_half_way_is_taken_back(target: VSphereTarget, center: VCenter) -> None:
    apply(changes_to(target, SMALL), target)
    before = state(target)
    for method in ("PowerOffVM_Task", "ReconfigVM_Task", "PowerOnVM_Task", "CreateVM_Task"):
        changes = changes_to(target, LARGE)
        center.fail(method, of="task")
        with pytest.raises(StepError) as caught:
            apply(changes, target)
        center.clear_faults()
        assert caught.value.rolled_back is True, method
        assert state(target) == before, method


def test_destroying_is_last_and_not_taken_back(target: VSphereTarget, center: VCenter) -> None:
    apply(changes_to(target, SMALL), target)
    changes = changes_to(target, SMALL[:1])
    center.fail("Destroy_Task", of="task", at=2)
    with pytest.raises(StepError, match="run it again to destroy the rest") as caught:
        apply(changes, target)
    assert caught.value.rolled_back is None
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_a_full_datastore(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    center.fill_datastore("datastore-1")
    with pytest.raises(StepError, match="NoDiskSpace"):
        apply(changes, target)
    center.fill_datastore("datastore-1", full=False)
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_a_host_that_is_away(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    host = changes.goal[0].host or ""
    center.disconnect_host(host)
    with pytest.raises(TargetError, match=f"host {host} is disconnected"):
        apply(changes, target)
    center.reconnect_host(host)
    center.set_maintenance(host)
    with pytest.raises(TargetError, match="is in maintenance mode"):
        apply(changes, target)
    center.set_maintenance(host, on=False)
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_a_host_that_goes_away_in_between(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    hosts = {vm.host or "" for vm in changes.goal}

    def disconnect(done: int, _total: int, step: object) -> None:
        if done == 5:
            for host in hosts:
                center.disconnect_host(host)

    with pytest.raises(StepError, match="HostNotConnected") as caught:
        apply(changes, target, progress=disconnect)
    assert isinstance(caught.value.__cause__, VSphereError)
    for host in hosts:
        center.reconnect_host(host)
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_a_machine_deleted_changed_or_moved_by_somebody_else(target: VSphereTarget, center: VCenter) -> None:
    apply(changes_to(target, SMALL), target)
    changes = changes_to(target, LARGE)
    center.power_off("gpu-chat-0")
    target_before = state(target)
    center.delete_vm("gpu-chat-0")
    with pytest.raises(DriftError, match=r"'gpu-chat-0' .* is not there any more"):
        apply(changes, target)
    del target_before["gpu-chat-0"]
    assert state(target) == target_before
    vms = machines(target, LARGE)
    apply(diff(target.inventory(), vms), target)
    assert at_goal(target, vms)


def test_a_kept_machine_that_somebody_changed_is_drift(target: VSphereTarget, center: VCenter) -> None:
    vms = machines(target, SMALL)
    apply(diff(target.inventory(), vms), target)
    changes = diff(target.inventory(), vms)
    center.power_off("gpu-embed-0")
    with pytest.raises(DriftError, match="'gpu-embed-0': is off"):
        apply(changes, target)
    center.rename_vm("gpu-embed-0", "mine-now")
    with pytest.raises(DriftError, match="name mine-now -> gpu-embed-0"):
        apply(changes, target)


def test_a_machine_of_somebody_else_with_our_name(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    center.create_vm(TheirVm("gpu-embed-1", host="esx-01", folder="made"))
    with pytest.raises(TargetError, match=r"gpu-embed-1: a machine of that name .* is not ours"):
        apply(changes, target)
    assert not state(target)


def test_a_name_taken_while_the_machine_is_made(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    center.fail("CreateVM_Task", "vim.fault.DuplicateName", of="task", at=2, fields={"name": "x", "object": _reference(target)})
    with pytest.raises(StepError, match="is not the one of this plan") as caught:
        apply(changes, target)
    assert isinstance(caught.value.__cause__, VSphereError)
    assert isinstance(caught.value.__cause__.fault, vim.fault.DuplicateName)
    assert not state(target)


def _reference(target: VSphereTarget) -> dict[str, str]:
    moid = next(info.moid for info in target.inventory().vms if info.name == "theirs")
    return {"type": "VirtualMachine", "value": moid}


def test_no_room_when_switched_on(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, [Workload("big", profile="7g.80gb", count=3)])
    center.create_vm(TheirVm("late", host="esx-02", vgpus=["grid_a100d-1-10c"], powered_on=True))
    with pytest.raises(StepError, match="InsufficientGraphicsResourcesFault") as caught:
        apply(changes, target)
    assert caught.value.rolled_back is True
    assert not state(target)
    center.delete_vm("late")
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_a_stale_change_version(target: VSphereTarget, center: VCenter) -> None:
    apply(changes_to(target, SMALL), target)
    changes = changes_to(target, LARGE)
    center.fail("ReconfigVM_Task", "vim.fault.ConcurrentAccess", of="task")
    with pytest.raises(StepError, match="ConcurrentAccess"):
        apply(changes, target)
    center.touch_vm("gpu-chat-0")  # what it is did not change: no drift, and the new version goes along
    apply(changes, target)
    assert at_goal(target, changes.goal)


def test_a_machine_changed_between_looking_and_changing(target: VSphereTarget, center: VCenter) -> None:
    """`changeVersion` goes along, so that vCenter itself refuses."""
    vms = machines(target, SMALL)
    apply(diff(target.inventory(), vms), target)
    renamed = tuple(type(vm)(**{**_fields(vm), "plan": "next"}) for vm in vms)
    changes = diff(target.inventory(), renamed)
    assert not changes.interruptions
    original = target.inventory
    calls = []

    def inventory():  # type: ignore[no-untyped-def]
        found = original()
        if not calls:
            center.touch_vm("gpu-chat-0")
        calls.append(1)
        return found

    target.inventory = inventory  # type: ignore[method-assign]
    with pytest.raises(StepError, match="ConcurrentAccess") as caught:
        apply(changes, target)
    assert caught.value.rolled_back is True
    target.inventory = original  # type: ignore[method-assign]
    apply(changes, target)
    assert at_goal(target, renamed)


def _fields(vm: Vm) -> dict[str, object]:
    return {name: getattr(vm, name) for name in type(vm).__dataclass_fields__}


def test_an_expired_session_is_renewed_in_the_middle(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    done = []

    def expire(count: int, _total: int, _step: object) -> None:
        if not done:
            done.append(count)
            center.expire_sessions()

    report = apply(changes, target, progress=expire)
    assert len(report.steps) == 10
    assert at_goal(target, changes.goal)


def test_a_lost_answer_makes_nobody_twice(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    center.drop("CreateVM_Task", when="after", at=2)
    with pytest.raises(StepError) as caught:
        apply(changes, target, rollback_on_error=False)
    assert isinstance(caught.value.__cause__, ConnectError)
    apply(changes, target)
    assert at_goal(target, changes.goal)
    assert len(state(target)) == 5


def test_a_restart_of_vcenter(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    done = []

    def restart(count: int, _total: int, _step: object) -> None:
        if not done:
            done.append(count)
            threading.Thread(target=lambda: center.restart(down_s=0.1)).start()

    center.delay_ms(20)
    center.task_delay_ms(20)

    def again_and_again() -> None:
        for _ in range(20):  # until it strikes while something is under way
            apply(changes, target, progress=restart, rollback_on_error=False)
            destroy(target, "test")
            done.clear()

    with pytest.raises((StepError, VSphereError)):
        again_and_again()
    center.delay_ms(0)
    center.task_delay_ms(0)
    apply(diff(target.inventory(), changes.goal), target)
    assert at_goal(target, changes.goal)


def test_a_property_that_is_too_new_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with VCenter(hosts=HOSTS, vms=[THEIRS], api_version="7.0.3.0") as center, connected(center, tmp_path) as target:
        vms = tuple(type(vm)(**{**_fields(vm), "cores_per_numa_node": 1}) for vm in machines(target, SMALL))
        with pytest.raises(VersionError, match="virtualNuma"):
            apply(diff(target.inventory(), vms), target)
        assert not state(target)


def test_missing_privileges_are_all_named_before_anything_is_done(target: VSphereTarget, center: VCenter) -> None:
    changes = changes_to(target, SMALL)
    center.deny("VirtualMachine.Inventory.Create", "Datastore.AllocateSpace")
    for dry_run in (True, False):
        with pytest.raises(PrivilegeError, match=r"(?s)VirtualMachine\.Inventory\.Create.*Datastore\.AllocateSpace"):
            apply(changes, target, dry_run=dry_run)
    assert not state(target)
    assert "DC0/vm/gpu" not in dict(target.inventory().folders)


def test_a_dry_run_makes_not_even_a_folder(target: VSphereTarget) -> None:
    changes = changes_to(target, SMALL)
    apply(changes, target, dry_run=True, verify=True)
    assert "DC0/vm/gpu" not in dict(target.inventory().folders)
    assert target.state
    assert not target.state.path.exists()
    apply(changes, target)
    assert {info.folder for info, _ in target.inventory().ours()} == {"DC0/vm/gpu/made"}


def test_two_runs_from_two_machines_make_nobody_twice(target: VSphereTarget, center: VCenter, tmp_path: Path) -> None:
    """As after a kill between CreateVM and its result: the name is taken by the very machine that was to be made."""
    changes = changes_to(target, SMALL)
    original, looks = target.inventory, []
    with connected(center, tmp_path / "other") as other:

        def inventory():  # type: ignore[no-untyped-def]
            found = original()
            if not looks:
                looks.append(apply(changes, other))
            return found

        target.inventory = inventory  # type: ignore[method-assign]
        report = apply(changes, target)
    assert len(report.steps) == len(looks[0].steps) == 10
    assert at_goal(target, changes.goal)
    assert len(state(target)) == 5


def test_two_at_the_same_time(target: VSphereTarget) -> None:
    changes = changes_to(target, SMALL)
    assert target.state
    with target.state.lock(), pytest.raises(TargetError, match="another apply is under way"):
        apply(changes, target)


def test_changes_of_another_vcenter_and_other_mistakes(target: VSphereTarget) -> None:
    changes = changes_to(target, SMALL)
    other = VmChanges("vc.other", changes.base, changes.goal, changes.steps)
    with pytest.raises(SpecError, match=r"are for vc\.other"):
        apply(other, target)
    with pytest.raises(SpecError, match=r"what vsphere\.diff returns"):
        apply("changes", target)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"what vsphere\.connect returns"):
        apply(changes, object())  # type: ignore[arg-type]


def test_a_damaged_journal_is_left_as_it_is(target: VSphereTarget) -> None:
    apply(changes_to(target, SMALL), target)
    assert target.state
    journal = VmJournal(target.state.path)
    journal.path.write_text("{")
    with pytest.raises(TargetError, match=r"machines\.json"):
        rollback(target)
    assert journal.path.read_text() == "{"


# -- the engine of changes -------------------------------------------------------------------------------------------------


def test_the_engine_of_changes_carries_a_plan_out(target: VSphereTarget, center: VCenter) -> None:
    assert isinstance(target, Target)
    assert isinstance(target.fleet(), Fleet)
    plan = gp.plan(SMALL, fleet=target.fleet())
    base = target.layout()
    engine_apply(engine_diff(target.layout(), plan), target)
    assert not engine_diff(target.layout(), plan)
    assert len(state(target)) == 5
    assert all(powered_on for _, powered_on, *_ in state(target).values())
    wider = gp.plan([*SMALL, Workload("more", profile="2g.20gb", count=1)], fleet=target.fleet(), current=target.layout())
    engine_apply(engine_diff(target.layout(), wider), target)
    assert not engine_diff(target.layout(), wider)
    engine_rollback(target)
    assert not engine_diff(target.layout(), plan)
    engine_apply(engine_diff(target.layout(), base), target)
    assert target.layout() == base
    assert not any(powered_on for _, powered_on, *_ in state(target).values())
    apply(diff(target.inventory(), machines(target, SMALL)), target)  # the machines are the same ones
    assert len(state(target)) == 5


def test_the_engine_gives_a_replica_with_several_gpus_one_machine(target: VSphereTarget) -> None:
    plan = gp.plan([Workload("train", profile="7g.80gb", gpus_per_replica=2)], fleet=target.fleet())
    engine_apply(engine_diff(target.layout(), plan), target)
    assert not engine_diff(target.layout(), plan)
    (found,) = state(target).values()
    assert found[2] == ("grid_a100d-7-80c",) * 2


def test_steps_that_cannot_be(target: VSphereTarget, center: VCenter) -> None:
    def step(kind: str, **more: object) -> Step:
        values = {"host": "esx-02", "gpu": 0, "model": "A100-80GB", "mode": "mig", "profile": "3g.40gb", "start": 0} | more
        return Step(kind, **values)  # type: ignore[arg-type]

    target.perform(step("keep"))
    target.perform(step("mode", profile=None, start=None))  # it is there
    for wrong, message in (
        (step("mode", mode="whole", profile=None, start=None), "prepare-hosts"),
        (step("create", host="esx-09"), "host 'esx-09' is not in"),
        (step("create", gpu=7), "is not there; the step was made for A100-80GB"),
        (step("create", model="H100-80GB"), "is A100-80GB; the step was made for H100-80GB"),
        (step("start", workload="a", replica=0), "create it first"),
        (step("start", host="esx-01", start=_start_of_theirs(center), workload="a", replica=0), "a machine that is not ours"),
    ):
        with pytest.raises(TargetError, match=message):
            target.perform(wrong)
    target.perform(step("create"))
    target.perform(step("start", workload="a", replica=0))
    with pytest.raises(TargetError, match="drain it first"):
        target.perform(step("destroy"))
    center.set_maintenance("esx-02")
    with pytest.raises(TargetError, match="in maintenance mode"):
        target.perform(step("drain", workload="a", replica=0))


def _start_of_theirs(center: VCenter) -> int:
    return next(use.start for card in center.gpus("esx-01") for use in card.uses)


def test_faults_of_the_engine_are_faults_of_vcenter(target: VSphereTarget, center: VCenter) -> None:
    plan = gp.plan(SMALL, fleet=target.fleet())
    base = target.layout()
    center.fail("PowerOnVM_Task", "vim.fault.InsufficientGraphicsResourcesFault", of="task", at=2)
    with pytest.raises(StepError) as caught:
        engine_apply(engine_diff(target.layout(), plan), target)
    assert caught.value.rolled_back is True
    assert isinstance(caught.value.__cause__, VSphereError)
    assert isinstance(caught.value.__cause__.fault, vmodl.MethodFault)
    assert target.layout() == base


def test_what_is_only_switched_on_is_checked_before(target: VSphereTarget, center: VCenter) -> None:
    """Ours was switched off, and others took what it had: vCenter says so before anything is done."""
    vms = machines(target, SMALL)
    apply(diff(target.inventory(), vms), target)
    victim = next(vm for vm in vms if vm.vgpus == ("grid_a100d-3-40c",))
    center.power_off(victim.name)
    center.create_vm(TheirVm("greedy", host=victim.host or "", vgpus=["grid_a100d-3-40c"], powered_on=True))
    changes = diff(target.inventory(), vms)
    assert [step.kind for step in changes.steps if step.kind != "keep"] == ["power on"]
    center.clear_calls()
    with pytest.raises(VSphereError, match=f"(?s)refuses machines beforehand; nothing was changed.*{victim.name}"):
        apply(changes, target, verify=True)
    assert "PowerOnVM_Task" not in {call.method for call in center.calls()}
