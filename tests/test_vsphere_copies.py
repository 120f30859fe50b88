"""A copy of a machine of ours is somebody else's: vCenter copies marks with a clone, and gives it a UUID of its own."""

from __future__ import annotations

import pytest
from pyVmomi import vim
from vcenter import Gpu, Host, VCenter
from vcenter.speed import connected

import partitioner as gp
from partitioner import Workload
from vsphere.applying import apply, destroy
from vsphere.changes import diff
from vsphere.machine import VmDefaults, layout_vms
from vsphere.target import VSphereTarget
from vsphere.tasks import Job, carry_out
from vsphere.values import Mark, VmInfo

DEFAULTS = VmDefaults(datastore="datastore-1", vcpus=2, ram_gib=4, disk_gib=0, plan="p", power_on=False)


def cloned(target: VSphereTarget, info: VmInfo, name: str) -> None:
    """Clone a machine as somebody does in vCenter; the simulator copies no extra configuration by itself."""
    vm = vim.VirtualMachine(info.moid, target.session.stub)
    options = [vim.option.OptionValue(key=key, value=value) for key, value in info.options]
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), config=vim.vm.ConfigSpec(extraConfig=options), powerOn=False)
    (outcome,) = carry_out(target.session, [Job(name, lambda: vm.CloneVM_Task(vm.parent, name, spec))])
    assert outcome.error is None


def test_copies_are_never_touched() -> None:
    with VCenter(hosts=[Host("esx-01", gpus=[Gpu("A100-80GB", "mig")])]) as center, connected(center) as target:
        plan = gp.plan([Workload("chat", profile="1g.10gb", count=2)], fleet=target.fleet())
        vms = layout_vms(plan, DEFAULTS, hosts=target.inventory())
        apply(diff(target.inventory(), vms), target)
        first = next(info for info in target.inventory().vms if info.name == vms[0].name)
        assert first.mark == vms[0].mark
        cloned(target, first, "precious")
        copy = next(info for info in target.inventory().vms if info.name == "precious")
        assert dict(copy.options)["gpu-partitioner.plan"] == "p"
        assert copy.mark is None
        assert not [step for step in diff(target.inventory(), vms).steps if step.kind != "keep"]
        destroy(target, "p")
        destroy(target, "p")
        assert [info.name for info in target.inventory().vms] == ["precious"]


@pytest.mark.parametrize("made_with", [None, "42f3e2eb-d333-5643-a79b-8e5deea8e059"])
def test_machines_made_without_their_uuid_stay_ours(made_with: str | None) -> None:
    """Scripts for other tools cannot set it, and write none."""
    options = Mark("p", "chat", 0).options() | ({} if made_with is None else {"gpu-partitioner.uuid": made_with})
    info = VmInfo("a", "vm-1", instance_uuid="42f3e2eb-d333-5643-a79b-8e5deea8e059", options=tuple(sorted(options.items())))
    assert info.mark == Mark("p", "chat", 0)
