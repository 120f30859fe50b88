"""Virtual machines as values: from plans, as YAML, as vSphere's specifications. No vCenter is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_vms import Case, cases, host_info
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from partitioner import Fleet, Plan, Workload, catalog, plan, plan_mig
from partitioner.errors import SpecError
from vsphere.inventory import load as load_inventory
from vsphere.machine import (
    Device,
    Nic,
    Vm,
    VmDefaults,
    dump,
    host_rules,
    instance_uuid,
    layout_vms,
    load_vms,
    max_vgpus,
    mmio_size_gb,
    needed_versions,
    plan_id,
    power_on_order,
    read_defaults,
    save_vms,
    to_config_spec,
    to_rules_spec,
    vms_from_yaml,
    vms_to_yaml,
)
from vsphere.machine.limits import violation
from vsphere.machine.versions import too_new
from vsphere.names import default_vgpu_type, vgpu_type
from vsphere.values import ClusterInfo, GroupInfo, HostInfo, Mark, RuleInfo

SCENARIOS = Path(__file__).parents[1] / "examples" / "scenarios"
TABLE_2 = {1: "7-80", 2: "4-40", 3: "3-40", 4: "2-20", 5: "1-10", 6: "4-40 2-20 1-10", 7: "2-20 2-20 2-20 1-10", 8: "1-10 " * 7}
UUID = "8169d724-867e-5ad4-aaac-b17e55ac741a"


def one(**changes: Any) -> Vm:
    fields: dict[str, Any] = {
        "name": "gpu-chat-0",
        "plan": "p",
        "workload": "chat",
        "replicas": (0,),
        "instance_uuid": UUID,
        "devices": (Device(vgpu="grid_a100d-3-40c"),),
        "datastore": "ds1",
    }
    return Vm(**(fields | changes))


# -- the source's settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", TABLE_2)
def test_scenarios_of_the_source_give_its_machines(number: int) -> None:
    wanted = plan_mig(SCENARIOS / f"scenario-{number}.yaml", gpu="A100-80GB", gpus=1)
    vms = layout_vms(wanted, VmDefaults(datastore="powerscale", host="esx-01"))
    profiles = sorted(f"grid_a100d-{name}c" for name in TABLE_2[number].split())
    assert sorted(name for vm in vms for name in vm.vgpus) == profiles
    assert all(len(vm.vgpus) == 1 for vm in vms)
    for vm in vms:
        spec = to_config_spec(vm)
        assert (spec.numCPUs, spec.memoryMB, spec.firmware) == (32, 64 * 1024, "efi")
        assert spec.memoryReservationLockedToMax is True
        settings = {option.key: option.value for option in spec.extraConfig if not option.key.startswith("gpu-partitioner.")}
        assert settings == {
            "pciPassthru.use64bitMMIO": "TRUE",
            "pciPassthru.allowP2P": "TRUE",
            "pciPassthru.64bitMMIOSizeGB": "64",
        }


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_golden(case: Case) -> None:
    assert case.outcome() == case.expected, "python tests/golden_vms.py NAME writes the outcome of today, to be read"


def test_golden_cases_cover_every_kind_of_device() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("golden/vms/*.yaml"))
    for kind in ("Vmiop", "Device", "Dynamic"):
        assert f"VirtualPCIPassthrough.{kind}BackingInfo\n" in text
    assert "VirtualSriovEthernetCard\n" in text


# -- address space and limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "double", "above"),
    [
        (["A100-80GB"], 256, 256),  # BAR1 of 128 GB
        (["A100-40GB"], 128, 128),
        (["A100-80GB"] * 2, 512, 512),
        (["A100-80GB"] * 3, 1024, 512),
        (["H200-141GB"], 512, 512),
        ([16], 64, 64),
        ([8, 8.0], 64, 64),
        (["T4"], None, None),
        (["T4", "A100-40GB"], 128, 128),
    ],
)
def test_mmio(gpus: list[Any], double: int | None, above: int | None) -> None:
    assert (mmio_size_gb(gpus), mmio_size_gb(gpus, policy="above")) == (double, above)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=16))
def test_mmio_holds_the_sum_and_double_is_never_less(sizes: list[int]) -> None:
    double, above = mmio_size_gb(sizes), mmio_size_gb(sizes, policy="above")
    assert double is not None
    assert above is not None
    assert double >= above > sum(sizes) / 2
    assert above >= max(64, sum(sizes))
    assert above & (above - 1) == double & (double - 1) == 0


@pytest.mark.parametrize("wrong", [[], ["A100-90GB"], [0], [True], [float("nan")], ["Thor-iGPU"]])
def test_mmio_refuses(wrong: list[Any]) -> None:
    with pytest.raises(SpecError):
        mmio_size_gb(wrong)
    with pytest.raises(SpecError, match="policies are double, above"):
        mmio_size_gb([80], policy="half")  # type: ignore[arg-type]


def test_limits_by_version() -> None:
    assert [max_vgpus(version) for version in ("6.5.0", "6.7.0 Update 3", "7.0 U3", "8.0.0", "8.0 U2", "9.1.0")] == [
        1,
        4,
        4,
        8,
        16,
        16,
    ]
    assert violation(["grid_a100d-80c"] * 4, "7.0.3") is None
    assert "whole frame buffer" in (violation(["grid_a100d-40c"] * 2, "7.0.3") or "")
    assert violation(["grid_a100d-40c"] * 8, "8.0.0") is None
    assert "at most 8" in (violation(["grid_a100d-40c"] * 9, "8.0.1") or "")
    assert "one board and one series" in (violation(["grid_a100d-40c", "grid_t4-16c"], "8.0.3") or "")
    assert "one board and one series" in (violation(["grid_t4-16q", "grid_t4-16c"], "8.0.3") or "")


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_type_of_the_catalogue_is_found_in_every_spelling() -> None:
    count = 0
    for model in map(catalog.gpu, catalog.names()):
        for board in model.record.boards:
            offered = [known.esxi_name for known in board.types if known.esxi_name]
            for known in board.types:
                if known.esxi_name is None:
                    continue
                bare = re.sub("^(grid|nvidia)_", "", known.esxi_name)
                for spelling in (known.name, known.esxi_name, f"grid_{bare}", f"NVIDIA {bare}".upper(), f"GRID {known.name}"):
                    if re.sub(r"[\s_]+", "_", known.name.casefold()) == bare or spelling in (known.esxi_name, f"grid_{bare}"):
                        assert vgpu_type(spelling, offered, model=model.name) == known.esxi_name
                        count += 1
    assert count > 1000


def test_vgpu_type_keeps_the_hosts_spelling() -> None:
    host = replace(
        host_info("esx-01", ["A100-80GB"]), vgpu_types=("nvidia_a100d-4-40c", "NVIDIA_A100D-3-40C", "nvidia_a100d-1-10cme")
    )
    assert vgpu_type("MIG 3g.40gb", host) == "NVIDIA_A100D-3-40C"
    assert vgpu_type("nvidia-4-40c", host) == "nvidia_a100d-4-40c"
    assert vgpu_type("1g.10gb+me", host) == "nvidia_a100d-1-10cme"
    assert vgpu_type("4g", host) == "nvidia_a100d-4-40c"
    assert vgpu_type("4g.40gb", host_info("esx-02", ["A100-80GB"], boards=1)) == "grid_a100dx-4-40c"


def test_vgpu_type_of_gpus_that_no_catalogue_knows() -> None:
    offered = ["nvidia_x900-1-12c", "nvidia_x900-1-12cme", "nvidia_x900-4-48c", "nvidia_x900-48c"]
    assert vgpu_type("1g.12gb", offered) == "nvidia_x900-1-12c"
    assert vgpu_type("1g.12gb+me", offered) == "nvidia_x900-1-12cme"
    assert vgpu_type("nvidia-4-48c", offered) == "nvidia_x900-4-48c"


def test_vgpu_type_says_what_is_near_and_offered() -> None:
    host = replace(host_info("esx-01", ["A100-80GB"]), vgpu_types=("grid_a100d-4-40c", "grid_a100d-1-10c"))
    with pytest.raises(
        SpecError, match=r"host 'esx-01': .*'3g.40gb'; did you mean 'grid_a100d-4-40c' or .*\?; offered are grid_a100d-4-40c, "
    ):
        vgpu_type("3g.40gb", host)
    with pytest.raises(SpecError, match="offers no vGPU types; its graphics type must be sharedDirect"):
        vgpu_type("3g.40gb", replace(host, vgpu_types=()))
    with pytest.raises(SpecError, match="give the host of the inventory"):
        vgpu_type("3g.40gb", "esx-01")
    assert default_vgpu_type("1g.24gb+gfx", "RTX-PRO-6000-96GB", series="Q").endswith("dc-1-24qgfx")


# -- from a plan -------------------------------------------------------------------------------------------------------


def small(*workloads: Workload, gpus: int = 1, model: str = "A100-80GB") -> Plan:
    return plan(list(workloads), fleet=Fleet.of(model, hosts=["esx-01", "esx-02"], gpus_per_host=gpus))


def test_plan_id_stays_with_the_plan_and_changes_with_it(tmp_path: Path) -> None:
    first = small(Workload("chat", profile="3g.40gb", count=2))
    first.save(tmp_path / "plan.json")
    assert (
        plan_id(first)
        == plan_id(Plan.load(tmp_path / "plan.json"))
        == plan_id(small(Workload("chat", profile="3g.40gb", count=2)))
    )
    assert plan_id(first) != plan_id(small(Workload("chat", profile="3g.40gb", count=1)))
    assert [vm.instance_uuid for vm in layout_vms(first)] == [vm.instance_uuid for vm in layout_vms(first)]
    assert len({vm.instance_uuid for vm in layout_vms(first)}) == 2
    assert instance_uuid("p", "a", [1, 0]) == instance_uuid("p", "a", [0, 1]) != instance_uuid("p", "a", [0])


def test_every_replica_is_in_one_machine_on_its_host() -> None:
    wanted = small(Workload("a", profile="1g.10gb", count=9), Workload("b", profile="2g.20gb", gpus_per_replica=2), gpus=2)
    for per_vm in (1, 2, 3, {"a": 4}):
        vms = layout_vms(wanted, VmDefaults(per_vm=per_vm))  # type: ignore[arg-type]
        placed = sorted(
            (d.place.workload, d.place.replica, vm.host, d.place.gpu, d.place.start) for vm in vms for d in vm.devices if d.place
        )
        assert placed == sorted((a.workload, a.replica, a.host, a.gpu, a.start) for a in wanted.assignments())
        assert sorted((vm.workload, number) for vm in vms for number in vm.replicas) == [*(("a", n) for n in range(9)), ("b", 0)]
        assert max(len(vm.replicas) for vm in vms) <= (4 if isinstance(per_vm, dict) else per_vm)
    assert [len(vm.devices) for vm in layout_vms(wanted) if vm.workload == "b"] == [2]


def test_large_profiles_are_switched_on_first() -> None:
    wanted = plan_mig("1g.10gb + 2g.20gb + 4g.40gb", gpu="A100-80GB", gpus=1)
    order = power_on_order(layout_vms(wanted, VmDefaults(host="esx-01")))
    assert [vm.vgpus[0] for vm in order] == ["grid_a100d-4-40c", "grid_a100d-2-20c", "grid_a100d-1-10c"]


def test_layout_refuses_what_cannot_be_made() -> None:
    whole = small(Workload("train", profile="whole"))
    with pytest.raises(SpecError, match="PCI address is not known"):
        layout_vms(whole)
    with pytest.raises(SpecError, match="host 'esx-01' is not in the inventory; its hosts are esx-09"):
        layout_vms(whole, hosts=[host_info("esx-09", ["A100-80GB"])])
    with pytest.raises(SpecError, match="has no gpu0"):
        layout_vms(whole, hosts=[host_info(name, []) for name in ("esx-01", "esx-02")])
    with pytest.raises(SpecError, match="24 vCPUs"):
        layout_vms(small(Workload("a", profile="1g.10gb", vcpus=24)), VmDefaults(cores_per_socket=7))
    with pytest.raises(SpecError, match=r"has \{workloda\}; did you mean 'workload'"):
        VmDefaults(name="{workloda}")
    for pattern in ("x-{replica:x}", "{workload!r}", "{workload:>9}", "{replica:{plan}}", "{number:99999999}"):
        with pytest.raises(SpecError, match=r"cannot be written so; write \{(workload|replica|number)\}, numbers as"):
            VmDefaults(name=pattern)
    with pytest.raises(SpecError, match="guest_id"):
        VmDefaults(guest_id="{{ 1 + 1 }}")
    links = {"gpu_links": [["X"]], "nics": {"NIC0": ["PIX"]}}
    fleet = Fleet(hosts=[{"name": "esx-01", "gpus": ["A100-80GB"], "links": links}])  # type: ignore[arg-type]
    linked = plan([Workload("t", profile="whole", rdma=True)], fleet=fleet)
    with pytest.raises(SpecError, match="no virtual function left"):
        layout_vms(linked, VmDefaults(rdma="sriov", rdma_network="r"), hosts=[host_info("esx-01", ["A100-80GB"])])


def test_t4_needs_no_address_space() -> None:
    spec = to_config_spec(layout_vms(plan([Workload("d", profile="T4-4Q")], gpu="T4", gpus=1), VmDefaults(datastore="d"))[0])
    assert not any("MMIO" in option.key for option in spec.extraConfig)


# -- YAML --------------------------------------------------------------------------------------------------------------


def all_vms() -> list[Vm]:
    return [vm for case in cases() if "specs" in case.data for vm in case.vms()]


def test_yaml_gives_equal_machines_back(tmp_path: Path) -> None:
    by_case = [case.vms() for case in cases() if "specs" in case.data]
    assert len(by_case) > 10
    for vms in by_case:
        save_vms(vms, tmp_path / "vms.yaml")
        assert load_vms(tmp_path / "vms.yaml") == vms


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda s: s.strip() == s),
    st.dictionaries(
        st.from_regex(r"[a-z.]{1,10}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    ),
)
def test_yaml_keeps_every_text(workload: str, options: dict[str, str]) -> None:
    vm = one(workload=workload, options={f"my.{key}": value.strip() for key, value in options.items()})
    assert vms_from_yaml(vms_to_yaml([vm])) == (vm,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  name: gpu-chat-0", "  nmae: gpu-chat-0", r":6: vms\[0\].nmae: unknown field 'nmae'; did you mean 'name'"),
        ("vgpu: grid_a100d-3-40c", "vgpu: 1", r"vms\[0\].devices\[0\].vgpu"),
        ("vgpu: grid_a100d-3-40c", "fixed: 0000:17:00.0", "put it in quotes"),
        ("version: 1", "version: 2", ":4: version: version 2 of the format; this release reads 1"),
        ("gpu-partitioner/vms", "other", "not a file of virtual machines"),
        ("datastore: ds1", "datastore: ds1\n  vcpus: 31\n  cores_per_socket: 2", "2 does not divide 31 vCPUs; 1, 31 do"),
        ("datastore: ds1", "datastore: ds1\n  options: {pciPassthru.allowP2P: no}", "is set from fields of the machine"),
        ("datastore: ds1", "datastore: ds1\n  ram_gib: 0.001", "multiple of 4 MiB"),
        ("datastore: ds1", "datastore: ds1\n  mmio_size_gb: 100", "100 is no power of two; write e.g. 128"),
    ],
)
def test_yaml_errors_name_line_and_field(old: str, new: str, message: str) -> None:
    text = vms_to_yaml([one()])
    assert old.strip() in text
    with pytest.raises(SpecError, match=message):
        vms_from_yaml(text.replace(old.strip(), new.strip()), origin="vms.yaml")


def test_yaml_says_all_that_is_wrong_at_once() -> None:
    text = vms_to_yaml([one(), one(name="GPU-CHAT-0", instance_uuid=UUID[:-1] + "0", workload="b"), one(name="c", workload="c")])
    with pytest.raises(SpecError) as caught:
        vms_from_yaml(text)
    assert [problem.field for problem in caught.value.problems] == ["vms[1].name", "vms[2].instance_uuid"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x" * 81},
        {"name": ""},
        {"name": "a/b"},
        {"name": "a\nb"},
        {"devices": ()},
        {"replicas": ()},
        {"replicas": (0, 0)},
        {"firmware": "bios", "mmio_size_gb": 64},
        {"devices": (Device(fixed="0000:17:00.0"),)},
        {"devices": (Device(fixed="0000:17:00.0"),) * 2, "host": "a"},
        {"template": "t", "nics": (Nic(network="n"),)},
        {"instance_uuid": "1"},
    ],
)
def test_vm_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        one(**wrong)


def test_devices_and_adapters_are_of_one_kind() -> None:
    for wrong in (
        {},
        {"vgpu": "a", "fixed": "0000:17:00.0"},
        {"fixed": "0000:17:00.0", "parameters": {"a": 1}},
        {"vgpu": "a", "label": "x"},
    ):
        with pytest.raises(SpecError):
            Device(**wrong)  # type: ignore[arg-type]
    for wrong in ({}, {"fixed": "0000:17:00.0", "network": "n"}, {"sriov": "0000:17:00.0"}, {"network": "n", "numa_node": 0}):
        with pytest.raises(SpecError):
            Nic(**wrong)  # type: ignore[arg-type]


def test_defaults_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "defaults.yaml"
    path.write_text("datastore: ds1\nper_vm: {chat: 2}\nvcpu: 8\n")
    with pytest.raises(SpecError, match=r"defaults.yaml:3: vcpu: unknown field 'vcpu'; did you mean 'vcpus'"):
        read_defaults(path)
    path.write_text("datastore: ds1\nper_vm: {chat: 2}\nparameters: {enable_uvm: 1}\n")
    defaults = read_defaults(path)
    assert (defaults.replicas_per_vm("chat"), defaults.replicas_per_vm("b"), defaults.parameters) == (
        2,
        1,
        (("enable_uvm", "1"),),
    )


def test_numbers_in_names_have_the_digits_that_the_pattern_asks_for() -> None:
    wanted = small(Workload("a", profile="1g.10gb", count=3))
    names = [vm.name for vm in layout_vms(wanted, VmDefaults(name="gpu-{replica:03}", host="esx-01"))]
    assert names == ["gpu-000", "gpu-001", "gpu-002"]
    together = layout_vms(wanted, VmDefaults(name="gpu-{replica:02}-{number}", host="esx-01", per_vm=2))
    assert sorted(name for vm in together for name in [vm.name]) == ["gpu-00-01-0", "gpu-02-1"]


# -- specifications ----------------------------------------------------------------------------------------------------


def test_marks_say_whose_a_machine_is() -> None:
    vm = layout_vms(small(Workload("it's ünï", profile="3g.40gb")), VmDefaults(datastore="d", name="gpu-{number}"))[0]
    options = {option.key: option.value for option in to_config_spec(vm).extraConfig}
    assert Mark.of(options) == vm.mark
    assert options["gpu-partitioner.version"] == "1"
    assert options["gpu-partitioner.uuid"] == vm.instance_uuid
    assert vm.mark.places[0].profile == "3g.40gb"


def test_plugin_parameters_are_numbered_by_device() -> None:
    devices = [Device(vgpu="grid_a100d-1-10c", parameters={"enable_uvm": number}) for number in range(3)]  # type: ignore[arg-type]
    found = one(devices=devices).extra_config()
    assert [found[f"pciPassthru{number}.cfg.enable_uvm"] for number in range(3)] == ["0", "1", "2"]
    assert "pciPassthru2.cfg.enable_uvm" not in one(devices=devices[1:]).extra_config()


def test_spec_refuses_what_the_host_does_not_have() -> None:
    host = host_info("esx-01", ["A100-80GB"])
    with pytest.raises(SpecError, match="is for host 'esx-02', not 'esx-01'"):
        to_config_spec(one(host="esx-02"), host)
    with pytest.raises(SpecError, match="does not offer 'nvidia_a100d-3-40c'; it spells it 'grid_a100d-3-40c'"):
        to_config_spec(one(devices=(Device(vgpu="nvidia_a100d-3-40c"),)), host)
    with pytest.raises(SpecError, match="VM 'gpu-chat-0': host 'esx-01': no vGPU type"):
        to_config_spec(one(devices=(Device(vgpu="grid_t4-4q"),)), host)
    with pytest.raises(SpecError, match="at most 16"):
        to_config_spec(one(devices=(Device(vgpu="grid_a100d-4c"),) * 17), host)
    with pytest.raises(SpecError, match=r"has no device 0000:99:00\.0; it has 0000:17:00\.0"):
        to_config_spec(one(host="esx-01", devices=(Device(fixed="0000:99:00.0"),)), host)
    with pytest.raises(SpecError, match="inventory entry is needed"):
        to_config_spec(one(host="esx-01", devices=(Device(fixed="0000:17:00.0"),)))
    with pytest.raises(SpecError, match="datastore is missing"):
        to_config_spec(one(datastore=None))
    assert to_config_spec(one(template="t", datastore=None)).files is None


def test_vendor_ids_are_signed() -> None:
    host = host_info("esx-01", ["A100-80GB"], nics=1)
    intel = replace(host, nics=(replace(host.nics[0], device_id="8086:1592"),))
    spec = to_config_spec(one(host="esx-01", nics=(Nic(fixed="0000:80:00.0"),)), intel)
    assert dump(spec)["deviceChange"][-1]["device"]["backing"]["vendorId"] == 0x8086 - 0x10000


def test_properties_that_a_connection_would_lose_are_known() -> None:
    plain = to_config_spec(one())
    assert too_new(needed_versions(plain), "6.5") == {}
    numa = to_config_spec(one(cores_per_numa_node=8, devices=(Device(vgpu="grid_a100d-3-40c", numa_node=1),)))
    assert set(too_new(needed_versions(numa), "7.0.3.0")) == {
        "vim.vm.ConfigSpec.virtualNuma",
        "vim.vm.VirtualNuma",
        "vim.vm.VirtualNuma.coresPerNumaNode",
        "vim.vm.device.VirtualPCIPassthrough.numaNode",
    }
    dynamic = to_config_spec(one(devices=(Device(dynamic=("10de:20b5",)),)))
    assert "vim.vm.device.VirtualPCIPassthrough.DynamicBackingInfo" in too_new(needed_versions(dynamic), "6.7")
    assert too_new(needed_versions(numa, dynamic), "8.0.3.0") == {}


def test_needed_versions_look_at_everything_that_is_sent() -> None:
    """Every name in the readable dump of a specification is a property whose version was looked at."""
    for vm in all_vms()[:6]:
        spec = to_config_spec(replace(vm, devices=tuple(d for d in vm.devices if not d.fixed) or one().devices, nics=()), None)
        names = {name.rpartition(".")[2] for name in needed_versions(spec)}
        pending: list[Any] = [dump(spec)]
        while pending:
            value = pending.pop()
            pending += value if isinstance(value, list) else value.values() if isinstance(value, dict) else []
            if isinstance(value, dict) and "type" in value:
                assert {key for key in value if key != "type"} <= names


# -- rules of DRS ------------------------------------------------------------------------------------------------------


def test_rules_keep_machines_on_their_hosts_and_settle() -> None:
    vms = [
        one(name=name, host=host, cluster="c1", instance_uuid=UUID[:-1] + str(n))
        for n, (name, host) in enumerate([("b", "h1"), ("a", "h1"), ("c", "h2")])
    ]
    rules = host_rules([*vms, replace(vms[0], name="free", rule="none"), replace(vms[0], name="alone", cluster=None)])
    assert [(rule.host, rule.vms, rule.mandatory) for rule in rules] == [("h1", ("a", "b"), True), ("h2", ("c",), True)]
    ids = {"vms": {"a": "vm-1", "b": "vm-2", "c": "vm-3"}, "hosts": {"h1": "host-1", "h2": "host-2"}}
    spec = to_rules_spec(rules, ClusterInfo("c1", "domain-c1"), **ids)
    assert spec is not None
    assert [(change.operation, change.info.name) for change in spec.groupSpec] == [
        ("add", "gpu-partitioner-p-must-h1-vms"),
        ("add", "gpu-partitioner-host-h1"),
        ("add", "gpu-partitioner-p-must-h2-vms"),
        ("add", "gpu-partitioner-host-h2"),
    ]
    assert all(isinstance(change.info, vim.cluster.VmHostRuleInfo) and change.info.mandatory for change in spec.rulesSpec)
    groups = tuple(
        GroupInfo(
            c.info.name,
            hosts=tuple(h._moId for h in getattr(c.info, "host", ())),
            vms=tuple(v._moId for v in getattr(c.info, "vm", ())),
        )
        for c in spec.groupSpec
    )
    known = tuple(
        RuleInfo(c.info.name, n, "vm-host", mandatory=True, vm_group=c.info.vmGroupName, host_group=c.info.affineHostGroupName)
        for n, c in enumerate(spec.rulesSpec)
    )
    there = ClusterInfo("c1", "domain-c1", groups=groups, rules=known)
    assert to_rules_spec(rules, there, **ids) is None
    weaker = replace(there, rules=(replace(known[0], mandatory=False), known[1]))
    spec = to_rules_spec(rules, weaker, **ids)
    assert spec is not None
    assert [(change.operation, change.info.key) for change in spec.rulesSpec] == [("edit", 0)]
    with pytest.raises(SpecError, match="is of kind 'affinity'"):
        to_rules_spec(rules, replace(there, rules=(replace(known[0], kind="affinity"),)), **ids)
    with pytest.raises(SpecError, match="VM 'a' is not in the inventory"):
        to_rules_spec(rules, there, vms={}, hosts=ids["hosts"])


def test_values_load_no_pyvmomi() -> None:
    code = "import sys, vsphere.names, vsphere.machine as m; m.layout_vms, m.load_vms; print('pyVmomi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_the_only_datastore_of_a_host_is_taken() -> None:
    inventory = load_inventory(Path(__file__).parents[1] / "examples" / "vsphere_cluster" / "inventory.yaml")
    wanted = plan({"chat": {"profile": "3g.40gb"}}, fleet=inventory.fleet())

    def of(*names: str) -> list[HostInfo]:
        return [replace(host, datastores=names) for host in inventory.hosts]

    assert {vm.datastore for vm in layout_vms(wanted, hosts=of("nvme-7"))} == {"nvme-7"}
    assert {vm.datastore for vm in layout_vms(wanted, VmDefaults(datastore="b"), hosts=of("a", "b"))} == {"b"}
    assert {vm.datastore for vm in layout_vms(wanted, VmDefaults(template="t"), hosts=of("a", "b"))} == {None}
    with pytest.raises(SpecError, match="reaches datastores a, b; name one for its machines"):
        layout_vms(wanted, hosts=of("a", "b"))
