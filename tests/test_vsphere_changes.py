"""`vsphere.diff`: golden cases, laws over random cases, files, specifications of changes, and the order of switching on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from golden_vsphere_changes import Case, cases, inventory, machine
from hypothesis import given
from hypothesis import strategies as st

from partitioner.errors import SpecError, TargetError
from vsphere.applying.specs import reconfigure_spec
from vsphere.changes import VmChanges, diff
from vsphere.changes.order import Start, power_on_order
from vsphere.changes.settings import differences, found, wanted
from vsphere.values import GpuInfo, HostInfo, Place, VmDevice, VmInfo

HOSTS = {"esx-01": "A100-80GB mig 2 consolidation", "esx-02": "A100-80GB mig 2 performance"}
PROFILES = {
    "1g.10gb": "grid_a100d-1-10c",
    "2g.20gb": "grid_a100d-2-20c",
    "3g.40gb": "grid_a100d-3-40c",
    "7g.80gb": "grid_a100d-7-80c",
}
CHAT = "gpu-chat-0 esx-01 p1/chat/0 grid_a100d-3-40c=0:3g.40gb@0"


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_golden(case: Case) -> None:
    assert case.outcome() == case.expected


def test_golden_cases_say_everything() -> None:
    """Every kind of step, every mark and both kinds of refusal stand in a case."""
    lines = [line for case in cases() for line in case.expected.get("steps", ())]
    kinds = {"create", "power off", "rules", "move", "reconfigure", "power on", "destroy", "keep"}
    assert {kind for kind in kinds if any(f": {kind}" in line for line in lines)} == kinds
    assert {line[0] for line in lines if line[1:2] == " "} >= set("+~-!=")
    assert {case.expected["error"][0].split(":")[0] for case in cases() if "error" in case.expected} == {
        "SpecError",
        "TargetError",
    }


# -- laws ------------------------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Machines that are there, some of others, and machines that shall be."""
    names = draw(st.lists(st.sampled_from([f"{w}/{r}" for w in "ab" for r in range(4)]), unique=True))
    goal = [_text(draw, name, draw(st.sampled_from(["p1", "p2"]))) for name in names]
    before = draw(st.lists(st.sampled_from([f"{w}/{r}" for w in "ab" for r in range(4)]), unique=True))
    there = [_text(draw, name, "p1") + draw(st.sampled_from(["", "", " off", " suspended"])) for name in before]
    others = draw(st.integers(0, 2))
    there += [f"theirs-{n} {draw(st.sampled_from(['esx-01', 'esx-02']))} - grid_a100d-1-10c" for n in range(others)]
    return there, goal


def _text(draw: st.DrawFn, name: str, plan: str) -> str:
    profile = draw(st.sampled_from(sorted(PROFILES)))
    workload, replica = name.split("/")
    host, gpu = draw(st.sampled_from(["esx-01", "esx-02"])), draw(st.integers(0, 1))
    vcpus = draw(st.sampled_from([8, 16]))
    return f"gpu-{workload}-{replica} {host} {plan}/{name} {PROFILES[profile]}={gpu}:{profile}@0 vcpus={vcpus}"


@given(worlds())
def test_steps_lead_to_the_goal_touch_only_ours_and_stop_there(world: tuple[list[str], list[str]]) -> None:
    there, goal = world
    current = inventory(HOSTS, there)
    vms = tuple(map(machine, goal))
    changes = diff(current, vms, hosts=["esx-01", "esx-02"])
    ours = {info.moid for info, _ in current.ours()}
    state = {info.moid: info for info in current.vms}
    made = {vm.name: vm for vm in vms}
    interrupted, destroying = set(), False
    for step in changes:
        assert step.moid is None or step.moid in ours
        if step.kind == "keep":
            continue
        assert not destroying or step.kind == "destroy"  # nothing is destroyed before all else is done
        destroying = destroying or (step.kind == "destroy" and step.reason == "not in the goal")
        key = step.moid or step.name
        if step.kind == "create":
            assert key not in state
            state[key] = _info(made[step.name], key)
        elif step.kind == "power off":
            assert state[key].powered_on or state[key].suspended
            interrupted |= set(step.interrupts)
            state[key] = replace(state[key], powered_on=False, suspended=False)
        elif step.kind == "power on":
            assert not state[key].powered_on
            state[key] = replace(state[key], powered_on=True, suspended=False)
        elif step.kind == "move":
            assert not state[key].powered_on
            assert (state[key].host, step.host) != (step.host, state[key].host)
            state[key] = replace(state[key], host=step.host)
        elif step.kind == "reconfigure":
            goal_settings = wanted(made[step.name])
            now = found(state[key])
            assert not (state[key].powered_on and any(difference.off for difference in differences(now, goal_settings)))
            new = _info(made[step.name], key)
            state[key] = replace(new, powered_on=state[key].powered_on, host=state[key].host)
        elif step.kind == "destroy":
            assert not state[key].powered_on
            del state[key]
    assert set(changes.interruptions) == interrupted
    kept = {info.moid for info in current.vms} - ours
    assert all(state[moid] == current.vm[moid] for moid in kept)
    after = replace(current, vms=tuple(state.values()))
    again = diff(after, vms, hosts=["esx-01", "esx-02"])
    assert not [step for step in again if step.kind not in ("keep", "reconfigure") or step.interrupts]
    assert VmChanges.from_json(changes.to_json()) == changes


def _info(vm, key: str) -> VmInfo:  # type: ignore[no-untyped-def]
    kept = ("gpu-partitioner.", "pciPassthru")
    return VmInfo(
        name=vm.name,
        moid=key,
        instance_uuid=vm.instance_uuid,
        host=vm.host,
        devices=tuple(VmDevice(13000 + n, "vgpu", vgpu=device.vgpu) for n, device in enumerate(vm.devices)),
        vcpus=vm.vcpus,
        ram_gib=vm.ram_gib,
        memory_locked=True,
        firmware=vm.firmware,
        options=tuple(sorted((k, v) for k, v in vm.extra_config().items() if k.startswith(kept))),
    )


# -- values and files ------------------------------------------------------------------------------------------------------


def test_same_input_gives_the_same_bytes() -> None:
    case = next(case for case in cases() if case.name == "rules-of-drs")
    assert case.changes().to_json() == case.changes().to_json()


def test_files(tmp_path) -> None:  # type: ignore[no-untyped-def]
    changes = next(case for case in cases() if case.name == "another-gpu-type").changes()
    changes.save(tmp_path / "changes.json")
    assert VmChanges.load(tmp_path / "changes.json") == changes
    data = json.loads((tmp_path / "changes.json").read_text())
    assert [step["mark"] for step in data["steps"]] == ["!", "~", "+"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data | {"format": "x"}, "no changes of machines"),
        (lambda data: data | {"version": 2}, "version 2"),
        (lambda data: data | {"colour": 1}, "unknown field 'colour'"),
        (lambda data: {key: value for key, value in data.items() if key != "goal"}, "field 'goal' is missing"),
        (lambda data: data | {"steps": [{"kind": "explode", "name": "a"}]}, "steps"),
        (lambda data: data | {"goal": [{"name": "a"}]}, "goal"),
    ],
)
def test_damaged_files_are_refused(edit, message: str) -> None:  # type: ignore[no-untyped-def]
    changes = next(case for case in cases() if case.name == "fewer").changes()
    with pytest.raises(SpecError, match=message):
        VmChanges.from_json(json.dumps(edit(json.loads(changes.to_json()))))


def test_a_damaged_mark_makes_a_machine_somebody_elses() -> None:
    current = inventory(HOSTS, [CHAT])
    vm = current.vms[0]
    damaged = replace(vm, options=tuple((k, "x" if k.endswith("replica") else v) for k, v in vm.options))
    with pytest.raises(TargetError, match="does not carry our mark"):
        diff(replace(current, vms=(damaged,)), [machine(CHAT)])


def test_a_clone_and_a_template_of_a_machine_of_ours_are_somebody_elses() -> None:
    current = inventory(HOSTS, [CHAT])
    clone = replace(current.vms[0], name="gpu-chat-0-clone", moid="vm-9", instance_uuid="another", powered_on=False)
    template = replace(clone, name="golden-image", moid="vm-10", template=True)
    world = replace(current, vms=(*current.vms, clone, template))
    assert [step.kind for step in diff(world, [machine(CHAT)], hosts=["esx-01"])] == ["keep"]
    gone = diff(world, [], hosts=["esx-01"])
    assert {step.moid for step in gone} == {"vm-1"}


# -- specifications --------------------------------------------------------------------------------------------------------


def test_one_specification_has_everything_in_it_and_the_version() -> None:
    current = inventory(HOSTS, [CHAT])
    goal = machine("gpu-talk-0 esx-01 p2/chat/0 grid_a100d-4-40c=0:4g.40gb@0 vcpus=48 ram_gib=96 mmio_size_gb=128")
    spec = reconfigure_spec(current.vms[0], wanted(goal), current.hosts[0], notes="n")
    assert (spec.changeVersion, spec.name, spec.numCPUs, spec.memoryMB, spec.annotation) == ("v1", "gpu-talk-0", 48, 98304, "n")
    assert spec.memoryReservationLockedToMax
    assert spec.memoryAllocation.reservation == 98304
    changes = [(str(c.operation), c.device.backing.vgpu) for c in spec.deviceChange]
    assert changes == [("remove", "grid_a100d-3-40c"), ("add", "grid_a100d-4-40c")]
    assert spec.deviceChange[0].device.key == 13000
    options = {option.key: option.value for option in spec.extraConfig}
    assert options["gpu-partitioner.plan"] == "p2"
    assert options["pciPassthru.64bitMMIOSizeGB"] == "128"
    assert spec.instanceUuid is None  # who it is stays


def test_devices_that_stay_are_not_touched_unless_parameters_go_by_their_number() -> None:
    two = "gpu-t-0 esx-01 p1/t/0 grid_a100d-3-40c grid_a100d-1-10c"
    current = inventory(HOSTS, [two])
    goal = wanted(machine("gpu-t-0 esx-01 p1/t/0 grid_a100d-3-40c grid_a100d-2-20c"))
    changes = reconfigure_spec(current.vms[0], goal, current.hosts[0]).deviceChange
    assert [(str(c.operation), c.device.backing.vgpu) for c in changes] == [
        ("remove", "grid_a100d-1-10c"),
        ("add", "grid_a100d-2-20c"),
    ]
    numbered = replace(goal, options=(*goal.options, ("pciPassthru1.cfg.enable_uvm", "1")))
    changes = reconfigure_spec(current.vms[0], numbered, current.hosts[0]).deviceChange
    assert [str(change.operation) for change in changes] == ["remove", "remove", "add", "add"]


def test_options_of_ours_that_are_no_longer_wanted_are_taken_away_and_those_of_vsphere_are_not() -> None:
    current = inventory(HOSTS, [CHAT + " mmio_size_gb=128"])
    vm = replace(current.vms[0], options=tuple(sorted((*current.vms[0].options, ("pciPassthru0.id", "00000:059:00.0")))))
    changes = diff(replace(current, vms=(vm,)), [machine(CHAT)])
    step = next(step for step in changes if step.kind == "reconfigure")
    assert step.what == ("pciPassthru.64bitMMIOSizeGB 128 -> none", "pciPassthru.use64bitMMIO TRUE -> none")


def test_a_device_by_address_that_nobody_can_describe_is_refused() -> None:
    current = inventory(HOSTS, [CHAT])
    settings = wanted(machine(CHAT))
    fixed = replace(settings.devices[0], kind="fixed", vgpu="", pci_id="0000:3b:00.0")
    with pytest.raises(SpecError, match=r"0000:3b:00\.0"):
        reconfigure_spec(current.vms[0], replace(settings, devices=(fixed,)), current.hosts[0])


# -- order -----------------------------------------------------------------------------------------------------------------


def _host(policy: str, gpus: int = 2, model: str = "A100-80GB", mode: str = "mig") -> HostInfo:
    cards = tuple(GpuInfo(n, f"0000:{n:02x}:00.0", model, mode=mode) for n in range(gpus))  # type: ignore[arg-type]
    return HostInfo("esx-01", "host-1", gpus=cards, assignment_policy=policy)


def _start(key: str, gpu: int, profile: str, start: int = 0, mode: str = "mig") -> Start:
    return Start(key, (Place(key, 0, gpu, mode, profile, start),))


def test_consolidation_fills_one_gpu_after_the_other_as_planned() -> None:
    starts = [_start(f"s{n}", n // 7, "1g.10gb", n % 7) for n in range(14)]
    turns = power_on_order(_host("consolidation"), starts, ())
    assert {turn.key: turn.gpus for turn in turns} == {f"s{n}": (n // 7,) for n in range(14)}


def test_performance_takes_turns_and_the_order_makes_that_the_plan() -> None:
    starts = [_start(f"s{n}", n // 2, "3g.40gb", 4 * (n % 2)) for n in range(4)]
    turns = power_on_order(_host("performance"), starts, ())
    assert [turn.gpus for turn in turns] == [(0,), (1,), (0,), (1,)]
    assert {turn.key: turn.gpus[0] for turn in turns} == {"s0": 0, "s1": 0, "s2": 1, "s3": 1}


def test_time_sliced_gpus_take_one_size_each() -> None:
    host = _host("consolidation", 2, "T4", "vgpu-equal")
    starts = [
        _start("a", 0, "T4-4C", mode="vgpu-equal-4"),
        _start("b", 1, "T4-8C", mode="vgpu-equal-8"),
        _start("c", 0, "T4-4C", 1, "vgpu-equal-4"),
    ]
    turns = power_on_order(host, starts, ())
    assert turns[0].key == "a"  # else the larger one would get the first GPU
    assert {turn.key: turn.gpus for turn in turns} == {"a": (0,), "b": (1,), "c": (0,)}


def test_where_no_order_realises_the_plan_large_ones_go_first() -> None:
    starts = [_start("small", 1, "1g.10gb"), _start("large", 1, "4g.40gb")]
    turns = power_on_order(_host("consolidation"), starts, ())
    assert [turn.key for turn in turns] == ["large", "small"]
    assert [turn.gpus for turn in turns] == [(0,), (0,)]  # an empty GPU is filled from the first on
