"""What hosts need for a plan: found, printed, refused. Carrying it out is in test_vsphere_hosts_perform.py."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from partitioner import plan, plan_mig
from partitioner.errors import SpecError
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.workload import Workload
from vsphere.hosts import HostFacts, HostStep, Vib, plan_host_steps, render_host_steps
from vsphere.hosts.smi import SmiGpu
from vsphere.values import ClusterInfo, GpuInfo, HostInfo, Inventory, Mark, VmDevice, VmInfo

VIB = (Vib("NVD-AIE_ESXi_8.0.0_Driver", "550.90.05", "NVD"),)


def gpu(index=0, model="A100-80GB", *, state="vgpu", **changes):
    """Return a GPU as read: ``vgpu``, ``vgpu-mixed``, ``mig``, ``shared`` (not prepared) or ``passthrough``."""
    parts = {"index": index, "pci_id": f"0000:{0x3B + index:02x}:00.0", "model": model, "passthrough_capable": True}
    parts |= {
        "vgpu": {"mode": "vgpu-equal", "graphics_type": "sharedDirect", "vgpu_mode": "sameSize"},
        "vgpu-mixed": {"mode": "vgpu-mixed", "graphics_type": "sharedDirect", "vgpu_mode": "mixedSize"},
        "mig": {"mode": "mig", "graphics_type": "sharedDirect", "vgpu_mode": "multiInstanceGpu"},
        "shared": {"mode": None, "graphics_type": "shared", "vgpu_mode": "none"},
        "passthrough": {"mode": "whole", "passthrough_enabled": True, "passthrough_active": True},
    }[state]
    return GpuInfo(**(parts | changes))


def host(*gpus, name="esx-01", **changes):
    parts = {
        "name": name,
        "moid": f"host-{name[-2:]}",
        "cluster": "cluster-1",
        "cluster_moid": "domain-c1",
        "gpus": gpus,
        "vgpu_types": ("grid_a100d-3-40c",),
        "default_graphics_type": "sharedDirect",
        "assignment_policy": "consolidation",
    }
    return HostInfo(**(parts | changes))


def inventory(*hosts, vms=(), api="8.0.3.0", clusters=()):
    return Inventory("vc.lab", api, hosts=hosts, vms=vms, clusters=clusters)


def vm(name="theirs", moid="vm-7", host="esx-01", **changes):
    return VmInfo(**({"name": name, "moid": moid, "host": host, "powered_on": True} | changes))


def kinds(changes):
    return [(step.kind, step.gpu, step.after) if step.after else step.kind for step in changes.steps]


def steps(*hosts, goal, **rest):
    return plan_host_steps(inventory(*hosts), goal, **rest)


# -- one host, from each state to each mode ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "mode"), [("vgpu", "vgpu-equal-40"), ("vgpu-mixed", "vgpu-mixed"), ("mig", "mig"), ("passthrough", "whole")]
)
def test_a_host_that_is_as_it_should_be_needs_nothing(state, mode):
    changes = steps(host(gpu(state=state)), goal={("esx-01", 0): mode})
    assert not changes
    assert len(changes) == 0
    assert str(changes) == "hosts are as they should be\n"
    assert "Nothing to do." in render_host_steps(changes)


def test_mig_on_ampere_takes_an_empty_host_and_a_restart():
    changes = steps(host(gpu()), goal={("esx-01", 0): "mig"})
    assert kinds(changes) == ["enter maintenance", ("mig", 0, "on"), "reboot", "exit maintenance"]
    assert [step.mark for step in changes] == ["!", "!", "!", "~"]
    assert changes.reboots == ("esx-01",)
    assert str(changes).splitlines()[1] == "! esx-01/gpu0 (A100-80GB): MIG mode off -> on (the plan cuts it with MIG)"


@pytest.mark.parametrize("model", ["H100-80GB", "H200-141GB", "B200-180GB"])
def test_mig_on_later_architectures_takes_an_idle_gpu_only(model):
    other = vm(name="on the other GPU")
    found = inventory(host(gpu(0, model), gpu(1, model, vms=("vm-7",))), vms=(other,))
    changes = plan_host_steps(found, {("esx-01", 0): "mig"})
    assert kinds(changes) == [("mig", 0, "on")]
    assert plan_host_steps(found, {("esx-01", 1): "mig"}).refusals == (
        "esx-01/gpu1: must be idle, and VM 'on the other GPU' (vm-7) uses it; power it off first",
    )


def test_a_fresh_host_gets_policy_default_and_types_and_the_services_are_restarted():
    fresh = host(gpu(model="T4", state="shared"), default_graphics_type="shared", assignment_policy="performance", vgpu_types=())
    changes = steps(fresh, goal={("esx-01", 0): "vgpu-equal-8"})
    assert kinds(changes) == [
        "enter maintenance",
        ("policy", None, "consolidation"),
        ("default type", None, "sharedDirect"),
        ("graphics type", 0, "sharedDirect"),
        ("vgpu mode", 0, "sameSize"),
        "restart services",
        "exit maintenance",
    ]
    assert changes.reboots == ()
    assert "offers no vGPU types yet" in changes.notes[0]


def test_without_a_shell_types_take_a_restart_and_mig_a_person():
    fresh = host(gpu(state="shared"))
    changes = steps(fresh, goal={("esx-01", 0): "mig"}, shell=False)
    assert kinds(changes) == [
        "enter maintenance",
        ("graphics type", 0, "sharedDirect"),
        ("mig", 0, "on"),
        "reboot",
        "exit maintenance",
    ]
    assert [step.by_hand for step in changes] == [False, False, True, False, False]
    assert kinds(steps(host(gpu(model="T4", state="shared")), goal={("esx-01", 0): "vgpu-equal-8"}, shell=False))[-2:] == [
        "reboot",
        "exit maintenance",
    ]
    chosen = steps(host(gpu(model="T4", state="shared")), goal={("esx-01", 0): "vgpu-equal-8"}, restart="host")
    assert "reboot" in kinds(chosen)
    assert "restart services" not in kinds(chosen)


def test_policy_alone_disturbs_nobody():
    changes = plan_host_steps(
        inventory(host(gpu(), assignment_policy="performance"), vms=(vm(),)), {("esx-01", 0): "vgpu-equal-40"}
    )
    assert kinds(changes) == [("policy", None, "consolidation")]
    assert changes.steps[0].mark == "~"
    spread = steps(host(gpu()), goal={("esx-01", 0): "vgpu-equal-40"}, policy="performance")
    assert kinds(spread) == [("policy", None, "performance")]
    assert not steps(host(gpu(), assignment_policy="performance"), goal={("esx-01", 0): "vgpu-equal-40"}, policy=None)


def test_vgpu_mode_takes_an_idle_gpu_and_a_new_api():
    goal = {("esx-01", 0): "vgpu-mixed"}
    assert kinds(steps(host(gpu()), goal=goal)) == [("vgpu mode", 0, "mixedSize")]
    used = inventory(host(gpu(vms=("vm-7",))), vms=(vm(),))
    assert "must be idle" in plan_host_steps(used, goal).refusals[0]
    old = inventory(host(gpu()), api="8.0.2.0")
    assert "takes API 8.0.3 or later" in plan_host_steps(old, goal).refusals[0]


def test_to_passthrough_and_back():
    there = steps(host(gpu(model="T4")), goal={("esx-01", 0): "whole"})
    assert kinds(there) == ["enter maintenance", ("passthrough", 0, "on"), "reboot", "exit maintenance"]
    back = steps(host(gpu(model="T4", state="passthrough")), goal={("esx-01", 0): "vgpu-equal-8"})
    assert kinds(back) == [
        "enter maintenance",
        ("passthrough", 0, "off"),
        "reboot",
        ("graphics type", 0, "sharedDirect"),
        ("vgpu mode", 0, "sameSize"),
        "restart services",
        "exit maintenance",
    ]


def test_from_passthrough_to_mig_the_driver_must_see_the_gpu_first():
    changes = steps(host(gpu(state="passthrough")), goal={("esx-01", 0): "mig"})
    assert kinds(changes) == [
        "enter maintenance",
        ("passthrough", 0, "off"),
        "reboot",
        ("graphics type", 0, "sharedDirect"),
        ("mig", 0, "on"),
        "reboot",
        "exit maintenance",
    ]


def test_from_mig_to_passthrough_mig_is_off_before_the_driver_loses_the_gpu():
    ampere = steps(host(gpu(state="mig")), goal={("esx-01", 0): "whole"})
    assert kinds(ampere) == [
        "enter maintenance",
        ("mig", 0, "off"),
        "reboot",
        ("passthrough", 0, "on"),
        "reboot",
        "exit maintenance",
    ]
    hopper = steps(host(gpu(model="H100-80GB", state="mig")), goal={("esx-01", 0): "whole"})
    assert kinds(hopper) == ["enter maintenance", ("mig", 0, "off"), ("passthrough", 0, "on"), "reboot", "exit maintenance"]


def test_mig_that_a_restart_ends_is_switched_on_after_it_also_on_gpus_that_are_not_in_the_plan():
    """MIG mode outlives a restart on Ampere only."""
    mixed = host(
        gpu(0, "H100-80GB", state="mig"),  # in the plan, as it should be
        gpu(1, "H100-80GB"),  # in the plan, to become MIG
        gpu(2, "H100-80GB", state="mig"),  # not in the plan
        gpu(3, "A100-80GB", state="mig"),  # not in the plan, stays by itself
        gpu(4, "T4"),  # forces the restart
    )
    changes = steps(mixed, goal={("esx-01", 0): "mig", ("esx-01", 1): "mig", ("esx-01", 4): "whole"})
    assert kinds(changes) == [
        "enter maintenance",
        ("passthrough", 4, "on"),
        "reboot",
        ("mig", 0, "on"),
        ("mig", 1, "on"),
        ("mig", 2, "on"),
        "exit maintenance",
    ]
    assert changes.hosts[0].gpus == ("0000:3b:00.0", "0000:3c:00.0", "0000:3f:00.0")


# -- what was begun --------------------------------------------------------------------------------------------------------------


def facts(pci_id="0000:3b:00.0", *, mig=False, pending=False, vibs=VIB):
    card = SmiGpu(0, pci_id, "0000" + pci_id.upper(), "NVIDIA A100 80GB PCIe", mig, pending)
    return {"esx-01": HostFacts("esx-01", "550.90.05", (card,), vibs)}


def test_what_waits_for_a_restart_is_not_done_again():
    half = host(gpu())
    changes = steps(half, goal={("esx-01", 0): "mig"}, facts=facts(pending=True))
    assert kinds(changes) == ["enter maintenance", "reboot", "exit maintenance"]
    assert "MIG mode of 0000:3b:00.0" in changes.steps[1].reason
    typed = host(gpu(model="T4", state="shared", configured_type="sharedDirect", vgpu_mode="sameSize"))
    assert kinds(steps(typed, goal={("esx-01", 0): "vgpu-equal-8"})) == [
        "enter maintenance",
        "restart services",
        "exit maintenance",
    ]
    half = host(gpu(model="T4", passthrough_enabled=True))
    assert kinds(steps(half, goal={("esx-01", 0): "whole"})) == ["enter maintenance", "reboot", "exit maintenance"]


def test_a_host_that_we_left_in_maintenance_mode_leaves_it_and_one_that_others_put_there_does_not():
    there = host(gpu(state="mig"), in_maintenance=True)
    goal = {("esx-01", 0): "mig"}
    assert kinds(steps(there, goal=goal, entered={"host-01"})) == ["exit maintenance"]
    assert "somebody else" in steps(there, goal=goal).notes[0]
    assert not steps(there, goal=goal)
    todo = host(gpu(), in_maintenance=True)
    assert kinds(steps(todo, goal=goal)) == [("mig", 0, "on"), "reboot"]
    assert kinds(steps(todo, goal=goal, entered={"host-01"})) == [("mig", 0, "on"), "reboot", "exit maintenance"]


def test_before_api_8_0_3_the_shell_says_what_mig_mode_is():
    old = {"graphics_type": "sharedDirect", "vgpu_mode": None, "mode": None}
    found = inventory(host(gpu(**old)), api="7.0.3.0")
    goal = {("esx-01", 0): "mig"}
    assert kinds(plan_host_steps(found, goal)) == ["enter maintenance", ("mig", 0, "on"), "reboot", "exit maintenance"]
    assert plan_host_steps(found, goal).steps[1].what == "MIG mode unknown -> on"
    assert not plan_host_steps(found, goal, facts=facts(mig=True, pending=True))
    equal = {("esx-01", 0): "vgpu-equal-40"}
    assert not plan_host_steps(found, equal, facts=facts())
    assert ("mig", 0, "off") in kinds(plan_host_steps(found, equal))
    assert not plan_host_steps(found, equal, shell=False)


# -- refusals --------------------------------------------------------------------------------------------------------------------


def test_running_vms_are_named_and_nothing_is_planned():
    ours = vm("chat-0", "vm-9", options=Mark("p1", "chat", 0).options())
    off = vm("off", "vm-10", powered_on=False)
    elsewhere = vm("elsewhere", "vm-11", host="esx-02")
    agent = vm("vCLS-4f1b", "vm-12")
    template = vm("template", "vm-13", template=True)
    found = inventory(host(gpu()), host(gpu(), name="esx-02"), vms=(vm(), ours, off, elsewhere, agent, template))
    changes = plan_host_steps(found, {("esx-01", 0): "mig"})
    assert changes.refusals == (
        "esx-01: must be empty, and VM 'theirs' (vm-7) runs on it; have its owner move it or power it off",
        "esx-01: must be empty, and VM 'chat-0' (vm-9) runs on it; it is ours, of plan p1: destroy it, or power it off, first",
    )
    assert changes.steps == ()
    assert changes
    assert "x esx-01: must be empty, and VM 'theirs'" in str(changes)
    assert "cannot be prepared now: esx-01: must be empty" in render_host_steps(changes)


def test_vcenter_may_move_vms_where_its_cluster_does_so_and_they_have_no_device():
    goal = {("esx-01", 0): "mig"}
    full = ClusterInfo("cluster-1", "domain-c1", drs="fullyAutomated")

    def asked(cluster, **changes):
        found = inventory(host(gpu()), vms=(vm(**changes),), clusters=(cluster,))
        return plan_host_steps(found, goal, evacuation="migrate")

    assert asked(full).refusals == ()
    assert asked(full).hosts[0].migrate
    assert "not fully automated" in asked(replace(full, drs="manual")).refusals[0]
    assert "not fully automated" in asked(replace(full, moid="domain-c9")).refusals[0]
    device = VmDevice(13000, "vgpu", vgpu="grid_a100d-3-40c")
    assert "it has 1 devices of the host" in asked(full, devices=(device,)).refusals[0]
    assert "it is ours" in asked(full, options=Mark("p1", "chat", 0).options()).refusals[0]


@pytest.mark.parametrize(
    ("one", "mode", "says"),
    [
        (gpu(model="T4"), "mig", "has no mode 'mig'; its modes are vgpu-equal-1"),
        (gpu(model="A100-80GB"), "vgpu-equal-3", "has no mode 'vgpu-equal-3'"),
        (gpu(model=None, name="NVIDIA X1"), "whole", r"the catalogue does not know this GPU \(NVIDIA X1\)"),
        (gpu(passthrough_capable=False), "whole", "cannot be passed through; switch VT-d/IOMMU on"),
    ],
)
def test_what_a_gpu_cannot_be(one, mode, says):
    changes = steps(host(one), goal={("esx-01", 0): mode})
    assert changes.steps == ()
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(changes.refusals[0])


def test_hosts_that_are_not_there_or_not_ready():
    goal = {("esx-01", 0): "mig"}
    assert "is not connected" in steps(host(gpu(), connected=False), goal=goal).refusals[0]
    assert "has no VIB of NVIDIA" in steps(host(gpu()), goal=goal, facts=facts(vibs=())).refusals[0]
    with pytest.raises(SpecError, match=r"host 'esx-1' is not in the inventory of vc.lab; did you mean 'esx-01'"):
        steps(host(gpu()), goal={("esx-1", 0): "mig"})
    with pytest.raises(SpecError, match="the host has 1 GPUs; the plan was made for another fleet"):
        steps(host(gpu()), goal={("esx-01", 1): "mig"})
    with pytest.raises(SpecError, match="API version 'x' of the inventory is no version"):
        plan_host_steps(inventory(host(gpu()), api="x"), goal)


def test_one_refused_host_does_not_hide_the_steps_of_another():
    found = inventory(host(gpu()), host(gpu(), name="esx-02"), host(gpu(), name="esx-03"), vms=(vm(),))
    changes = plan_host_steps(found, {("esx-02", 0): "mig", ("esx-01", 0): "mig"})
    assert [entry.host for entry in changes.hosts] == ["esx-01", "esx-02"]  # esx-03 is in no plan
    assert {step.host for step in changes} == {"esx-02"}
    assert len(changes.refusals) == 1


# -- plans -----------------------------------------------------------------------------------------------------------------------


def test_modes_come_from_a_plan_and_gpus_that_it_leaves_as_they_are_stay():
    layout = Layout.of(
        [
            GpuLayout("esx-01", 0, "A100-80GB", "mig", (Slot("3g.40gb", 0, "chat", 0),)),
            GpuLayout("esx-01", 1, "A100-80GB", None),
        ]
    )
    found = host(gpu(0), gpu(1))
    assert [step.gpu for step in steps(found, goal=layout) if step.kind == "mig"] == [0]
    other = Layout.of([GpuLayout("esx-01", 0, "T4", "vgpu-equal-8")])
    with pytest.raises(SpecError, match=r"the plan says T4, the inventory A100-80GB; the plan was made for another fleet"):
        steps(found, goal=other)


def test_a_plan_over_the_inventorys_fleet():
    found = inventory(host(gpu(0, state="mig"), gpu(1, state="mig")))
    made = plan([Workload("chat", profile="3g.40gb", count=2)], fleet=found.fleet())
    assert not plan_host_steps(found, made)
    with pytest.raises(SpecError, match="is on no named host"):
        plan_host_steps(found, plan_mig([Workload("chat", profile="3g.40gb", count=2)], gpu="A100-80GB"))


# -- words -----------------------------------------------------------------------------------------------------------------------


def test_instructions_for_a_person_have_every_command_in_order():
    fresh = host(gpu(state="shared"), default_graphics_type="shared", assignment_policy="performance")
    text = render_host_steps(steps(fresh, goal={("esx-01", 0): "mig"}, shell=False))
    wanted = [
        "## esx-01",
        "1. ! esx-01: enter maintenance mode",
        "esxcli system maintenanceMode set --enable true",
        "esxcli graphics host set --shared-passthru-assignment-policy Consolidation",
        "esxcli graphics host set --default-type SharedPassthru",
        "# 0000:3b:00.0 > Edit > Shared Direct",
        "MIG mode unknown -> on by hand",
        "nvidia-smi -i 0000:3b:00.0 -mig 1",
        "nvidia-smi --query-gpu=pci.bus_id,mig.mode.current --format=csv",
        "esxcli system shutdown reboot",
        "esxcli system maintenanceMode set --enable false",
    ]
    places = [text.find(line) for line in wanted]
    assert -1 not in places, wanted[places.index(-1)]
    assert places == sorted(places)
    passed = render_host_steps(steps(host(gpu(model="T4")), goal={("esx-01", 0): "whole"}))
    assert "esxcli hardware pci pcipassthru set --device-id 0000:3b:00.0 --enable true" in passed


def test_json_has_marks_and_no_empty_fields():
    changes = steps(host(gpu()), goal={("esx-01", 0): "mig"})
    data = json.loads(changes.to_json())
    assert (data["format"], data["version"], data["vcenter"]) == ("gpu-partitioner/host-changes", 1, "vc.lab")
    assert data["hosts"][0]["steps"][1] == {
        "mark": "!",
        "kind": "mig",
        "host": "esx-01",
        "gpu": 0,
        "pci_id": "0000:3b:00.0",
        "model": "A100-80GB",
        "before": "off",
        "after": "on",
        "reason": "the plan cuts it with MIG",
    }


def test_a_step_by_hand_says_so():
    assert str(HostStep("mig", "esx-01", 0, "0000:3b:00.0", "A30-24GB", after="on", by_hand=True)) == (
        "! esx-01/gpu0 (A30-24GB): MIG mode unknown -> on by hand"
    )


def test_planning_loads_no_pyvmomi():
    code = "import sys, vsphere.hosts as h; h.plan_host_steps, h.render_host_steps; sys.exit('pyVmomi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
