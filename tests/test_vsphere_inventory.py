"""Reading a vCenter, what the readings mean to a planner, and the file that keeps them."""

from __future__ import annotations

import copy
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from independent import legal, rules
from pyVmomi import vim
from vcenter import Gpu, Host, Nic, VCenter, Vcsim, Vm

import vsphere
from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.planning import plan
from partitioner.workload import Workload
from vsphere.credentials import Credentials
from vsphere.errors import VSphereError
from vsphere.inventory import dump, load, read, with_system_ids
from vsphere.inventory.collection import is_known
from vsphere.inventory.files import to_data
from vsphere.inventory.models import known_model, mode_of
from vsphere.occupancy import unusable
from vsphere.occupancy.placements import arranged, chosen_start
from vsphere.session import Session
from vsphere.values import GpuInfo, HostInfo, Inventory, Mark, NumaInfo, Place, VmDevice, VmInfo

A100 = "A100-80GB"


def opened(server: Vcsim | VCenter, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("VC_PASSWORD", server.password)
    where = Credentials.of(server.user, password_env="VC_PASSWORD")  # noqa: S106 - the name of a variable
    return Session.open(server.host, where, port=server.port, ca_file=server.ca_file)


def marked(workload: str, replica: int, *places: Place) -> dict[str, str]:
    return Mark("plan-1", workload, replica, places).options()


@pytest.fixture(scope="module")
def center() -> Iterator[VCenter]:
    hosts = [
        Host("esx-01", gpus=[Gpu(A100, "mig")] * 2, nics=[Nic()], policy="consolidation"),
        Host("esx-02", gpus=["T4", Gpu("T4", "passthrough"), Gpu("T4", "shared")], ram_gib=256, threads=64),
        Host("esx-03", gpus=[Gpu(A100, "vgpu-mixed"), Gpu("A16", "vgpu"), Gpu("A2", "vgpu")], cluster=None),
        Host("esx-04", gpus=["T4"], maintenance=True),
        Host("esx-05", gpus=["T4"], connected=False),
        Host("esx-06"),
    ]
    vms = [
        Vm("theirs", host="esx-01", vgpus=["grid_a100d-3-40c"], powered_on=True, vcpus=12, ram_gib=48),
        Vm("asleep", host="esx-01", vgpus=["grid_a100d-7-80c"]),
        Vm(
            "chat-0",
            host="esx-01",
            vgpus=["grid_a100d-1-10c"],
            powered_on=True,
            extra_config=marked("chat", 0) | {"guestinfo.userdata": "S3cret", "pciPassthru.use64bitMMIO": "TRUE"},
            folder="ours",
        ),
        Vm("desktop", host="esx-02", vgpus=["grid_t4-4q"], powered_on=True),
        Vm("direct", host="esx-02", passthrough=["0000:4b:00.0"], powered_on=True),
        Vm("plain", host="esx-06", powered_on=True),
    ]
    with VCenter(hosts=hosts, vms=vms) as running:
        yield running


@pytest.fixture(scope="module")
def inventory(center: VCenter) -> Inventory:
    with pytest.MonkeyPatch.context() as monkeypatch, opened(center, monkeypatch) as session:
        return read(session)


# -- reading -------------------------------------------------------------------------------------------------------------


def test_hosts(inventory: Inventory) -> None:
    host = inventory.host["esx-01"]
    assert (host.cluster, host.datacenter, host.version) == ("cluster-1", "DC0", "8.0.3")
    assert (host.cores, host.threads, host.ram_gib, len(host.numa)) == (64, 128, 1024, 2)
    assert (host.assignment_policy, host.default_graphics_type) == ("consolidation", "sharedDirect")
    assert {"grid_a100d-3-40c", "grid_a100d-7-80c"} <= set(host.vgpu_types)
    assert [(nic.device_id, nic.speed_mbps) for nic in host.nics if nic.device_id.startswith("15b3")] == [("15b3:101b", 100_000)]
    assert inventory.host["esx-03"].cluster is None
    assert [name for name, host in inventory.host.items() if not host.usable] == ["esx-04", "esx-05"]
    assert inventory.host["esx-04"].in_maintenance
    assert not inventory.host["esx-05"].connected


def test_gpus(inventory: Inventory) -> None:
    found = {
        name: [(gpu.model, gpu.mode, gpu.graphics_type, gpu.numa_node) for gpu in host.gpus]
        for name, host in inventory.host.items()
    }
    assert found["esx-01"] == [(A100, "mig", "sharedDirect", 0), (A100, "mig", "sharedDirect", 1)]
    assert [entry[:2] for entry in found["esx-02"]] == [("T4", "vgpu-equal"), ("T4", "whole"), ("T4", None)]
    assert [entry[:2] for entry in found["esx-03"]] == [(A100, "vgpu-mixed"), ("A16", "vgpu-equal"), ("A2", "vgpu-equal")]
    one = inventory.host["esx-01"].gpus[0]
    assert (one.pci_id, one.vgpu_mode, one.memory_mib) == ("0000:3b:00.0", "multiInstanceGpu", 81920)
    assert one.device_id == "10de:20b5"
    through = inventory.host["esx-02"].gpus[1]
    assert (through.passthrough_enabled, through.passthrough_active) == (True, True)


def test_vms(inventory: Inventory) -> None:
    vms = {vm.name: vm for vm in inventory.vms}
    theirs, ours = vms["theirs"], vms["chat-0"]
    assert (theirs.host, theirs.powered_on, theirs.vgpus, theirs.vcpus, theirs.ram_gib) == (
        "esx-01",
        True,
        ("grid_a100d-3-40c",),
        12,
        48,
    )
    assert theirs.mark is None
    assert theirs.instance_uuid
    assert theirs.change_version
    assert not vms["asleep"].powered_on
    assert (ours.mark, ours.folder) == (Mark("plan-1", "chat", 0), "DC0/vm/ours")
    assert dict(ours.options)["pciPassthru.use64bitMMIO"] == "TRUE"
    assert "S3cret" not in repr(inventory)
    assert vms["direct"].passthrough == ("0000:4b:00.0",)
    using = {vm for host in inventory.hosts for gpu in host.gpus for vm in gpu.vms}
    assert {theirs.moid, ours.moid, vms["desktop"].moid} <= using
    assert vms["asleep"].moid not in using
    assert [(vm.name, mark.workload) for vm, mark in inventory.ours()] == [("chat-0", "chat")]
    assert dict(inventory.folders)["DC0/vm/ours"]


def test_round_trips_and_pages(center: VCenter, inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(center, monkeypatch) as session:
        before = session.stub.calls
        again = read(session)
        assert session.stub.calls - before == 3
        paged = read(session, page=2)
        assert session.stub.calls - before > 10
    for other in (again, paged):
        assert replace(other, read_at="") == replace(inventory, read_at="")


def test_large_inventory_in_three_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 hosts and 1,000 VMs; the README has the time."""
    hosts = [Host(f"esx-{n:03}", gpus=[Gpu(A100, "mig")] * 4) for n in range(100)]
    vms = [Vm(f"vm-{n}", host=f"esx-{n % 100:03}", vgpus=["grid_a100d-1-10c"], powered_on=n % 2 == 0) for n in range(1000)]
    with VCenter(hosts=hosts, vms=vms) as server, opened(server, monkeypatch) as session:
        before = session.stub.calls
        found = read(session)
        assert session.stub.calls - before == 3
        assert (len(found.hosts), len(found.vms)) == (100, 1000)
        assert len(found.fleet()) == 400
        assert len(found.layout().occupant) == 500


def test_unmodified_vcsim(monkeypatch: pytest.MonkeyPatch) -> None:
    with Vcsim(clusters=1, hosts_per_cluster=2, standalone_hosts=1, vms=2) as server, opened(server, monkeypatch) as session:
        found = read(session)
        assert [host.name for host in found.hosts] == ["DC0_C0_H0", "DC0_C0_H1", "DC0_H0"]
        assert len(found.vms) == 4
        assert {network.name for network in found.networks} >= {"VM Network", "DC0_DVPG0"}
        assert next(n for n in found.networks if n.name == "DC0_DVPG0").switch_uuid
        with pytest.raises(SpecError, match="no host can take VMs with GPUs; DC0_C0_H0: no NVIDIA GPU"):
            found.fleet()


def test_old_api_is_not_asked_for_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        VCenter(hosts=[Host("esx-01", gpus=[Gpu(A100, "mig")])], api_version="6.7") as server,
        opened(server, monkeypatch) as session,
    ):
        assert not is_known(session, vim.HostSystem, "config.assignableHardwareBinding")  # 7.0
        assert is_known(session, vim.HostSystem, "config.graphicsInfo")
        assert read(session).hosts[0].gpus[0].mode == "mig"


def test_expired_session_in_the_middle(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The view went with the session: all is read again."""
    with opened(center, monkeypatch) as session:
        original, calls = session.stub.GetConnection, []

        def expiring() -> object:
            calls.append(1)
            if len(calls) == 2:  # after the view was made
                center.expire_sessions()
            return original()

        monkeypatch.setattr(session.stub, "GetConnection", expiring)
        assert len(read(session).hosts) == 6
        assert session.logins == 2


def test_refusal_keeps_the_fault(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(center, monkeypatch) as session:
        center.fail("RetrievePropertiesEx", fault="vim.fault.NoPermission", message="not for you")
        with pytest.raises(VSphereError, match="reading the inventory: not for you") as caught:
            read(session)
        center.clear_faults()
        assert isinstance(caught.value.fault, vim.fault.NoPermission)


def test_vms_that_vanish_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    vms = [Vm(f"vm-{n}", host="esx-01") for n in range(40)]
    with VCenter(hosts=[Host("esx-01", gpus=["T4"])], vms=vms) as server, opened(server, monkeypatch) as session:
        original, calls = session.stub.GetConnection, []

        def vanishing() -> object:
            calls.append(1)
            if 2 <= len(calls) < 22:
                server.delete_vm(f"vm-{len(calls)}")
            return original()

        monkeypatch.setattr(session.stub, "GetConnection", vanishing)
        found = read(session, page=5)
        assert 20 <= len(found.vms) <= 40
        assert {"vm-0", "vm-1", "vm-39"} <= {vm.name for vm in found.vms}


def test_system_ids_are_asked_where_they_are_needed(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(center, monkeypatch) as session:
        found = read(session)
        center.clear_calls()
        known = with_system_ids(session, found)
        assert center.count("QueryConfigTarget") == 1
        assert known.host["esx-02"].system_id
        assert known.host["esx-01"].system_id == ""


# -- what it means -------------------------------------------------------------------------------------------------------


def test_fleet(inventory: Inventory) -> None:
    fleet = inventory.fleet()
    assert [host.name for host in fleet.hosts] == ["esx-01", "esx-02", "esx-03"]
    one, two, three = fleet.hosts
    assert [(gpu.model, gpu.mode) for gpu in one.gpus] == [(A100, "mig")] * 2
    assert sorted(len(gpu.instances) for gpu in one.gpus) == [0, 1]  # theirs; not ours, not the one that is off
    assert [gpu.instances for gpu in two.gpus] == [("T4-4Q@0",), ("whole@0",), ()]
    assert two.gpus[0].mode == "vgpu-equal-4"
    assert [gpu.mode for gpu in three.gpus] == ["vgpu-mixed", None, None]
    assert one.vcpus == 128 - 12
    assert one.ram_gib == pytest.approx(1024 * 0.98 - 48)
    assert [node.gpus for node in one.numa] == [(0,), (1,)]


def test_layout(inventory: Inventory) -> None:
    layout = inventory.layout()
    assert list(layout.rows) == [(host, index) for host, index, _ in inventory.fleet()]
    ours = [(a.host, a.workload, a.replica, a.profile) for a in layout.assignments()]
    assert ours == [("esx-01", "chat", 0, "1g.10gb")]
    theirs = [(gpu.host, slot.profile) for gpu in layout for slot in gpu.slots if slot.workload is None]
    assert theirs == [("esx-01", "3g.40gb"), ("esx-02", "T4-4Q"), ("esx-02", "whole")]


def test_plans_work_around_what_is_there(inventory: Inventory) -> None:
    made = plan([Workload("more", profile="3g.40gb", count=3)], fleet=inventory.fleet())
    assert made.status == "optimal"
    assert {slot.profile for gpu in made.layout for slot in gpu.slots if slot.workload is None} >= {"3g.40gb"}


def test_unusable(inventory: Inventory) -> None:
    assert unusable(inventory) == {
        "esx-04": "in maintenance mode",
        "esx-05": "not connected to vCenter",
        "esx-06": "no NVIDIA GPU",
    }


def gpu_of(
    index: int = 0, *, model: str | None = A100, mode: str | None = "mig", vms: tuple[str, ...] = (), **more: object
) -> GpuInfo:
    return GpuInfo(
        index=index, pci_id=f"0000:{0x3B + index:02x}:00.0", model=model, mode=mode, graphics_type="sharedDirect", vms=vms, **more
    )  # type: ignore[arg-type]


def vm_of(moid: str, *types: str, mark: Mark | None = None, **more: object) -> VmInfo:
    devices = tuple(VmDevice(key=13000 + n, kind="vgpu", vgpu=name) for n, name in enumerate(types))
    options = mark.options() if mark else {}
    return VmInfo(**{"name": moid, "moid": moid, "host": "h", "powered_on": True, "devices": devices, "options": options, **more})  # type: ignore[arg-type]


def site(gpus: list[GpuInfo], vms: list[VmInfo], **more: object) -> Inventory:
    host = HostInfo(**{"name": "h", "moid": "host-1", "gpus": tuple(gpus), "threads": 64, "ram_gib": 512.0, **more})  # type: ignore[arg-type]
    return Inventory(vcenter="vc", api_version="8.0.3.0", hosts=(host,), vms=tuple(vms))


def slots(inventory: Inventory) -> list[list[tuple[str, int, str | None]]]:
    return [[(slot.profile, slot.start, slot.workload) for slot in gpu.slots] for gpu in inventory.layout()]


def test_ours_are_where_the_plan_meant_them() -> None:
    mark = Mark("p", "chat", 3, (Place("chat", 3, 0, "mig", "3g.40gb", 0),))
    found = site(
        [gpu_of(vms=("vm-1", "vm-2"))], [vm_of("vm-1", "grid_a100d-3-40c", mark=mark), vm_of("vm-2", "grid_a100d-2-20c")]
    )
    (only,) = slots(found)
    assert only[0] == ("3g.40gb", 0, "chat")
    assert only[1][0] == "2g.20gb"
    assert only[1][1] >= 4
    assert found.fleet().hosts[0].gpus[0].instances == (f"2g.20gb@{only[1][1]}",)


def test_a_meant_start_on_another_gpu_does_not_count() -> None:
    """vCenter put the VM on GPU 1, whatever the plan wanted."""
    mark = Mark("p", "chat", 0, (Place("chat", 0, 0, "mig", "3g.40gb", 0),))
    found = site([gpu_of(0), gpu_of(1, vms=("vm-1",))], [vm_of("vm-1", "grid_a100d-3-40c", mark=mark)])
    assert slots(found) == [[], [("3g.40gb", 4, "chat")]]


def test_several_vgpus_of_one_vm() -> None:
    types = ("grid_a100d-7-80c", "grid_a100d-3-40c")
    found = site(
        [gpu_of(0, vms=("vm-1", "vm-2")), gpu_of(1, vms=("vm-1",))], [vm_of("vm-1", *types), vm_of("vm-2", "grid_a100d-4-40c")]
    )
    assert [[profile for profile, _, _ in entry] for entry in slots(found)] == [["4g.40gb", "3g.40gb"], ["7g.80gb"]]


def test_device_whose_gpu_vcenter_names() -> None:
    """From API 9.1 it says which GPU a device got."""
    devices = (
        VmDevice(key=1, kind="vgpu", vgpu="grid_a100d-1-10c", pci_id="0000:3c:00.0"),
        VmDevice(key=2, kind="vgpu", vgpu="grid_a100d-2-20c", pci_id="0000:3b:00.0"),
    )
    found = site([gpu_of(0, vms=("vm-1",)), gpu_of(1, vms=("vm-1",))], [vm_of("vm-1", devices=devices)])
    assert [[profile for profile, _, _ in entry] for entry in slots(found)] == [["2g.20gb"], ["1g.10gb"]]


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (("grid_a100d-7-80c", "grid_a100d-1-10c"), "cannot be on one|does not have"),
        (("grid_t4-4q",), "cannot be on one|does not have"),
        (("grid_a100d-1-10c", "grid_a100d-4c"), "cannot be on one|does not have"),
    ],
)
def test_what_the_catalogue_does_not_have_takes_the_gpu(types: tuple[str, ...], said: str) -> None:
    moids = [f"vm-{n}" for n in range(len(types))]
    found = site([gpu_of(vms=tuple(moids)), gpu_of(1)], [vm_of(m, t) for m, t in zip(moids, types, strict=True)])
    (reason,) = unusable(found).values()
    assert re.search(said, reason)
    assert [gpu.instances for gpu in found.fleet().hosts[0].gpus] == [("whole@0",), ()]


def test_users_that_the_account_does_not_see() -> None:
    found = site([gpu_of(vms=("vm-77",))], [])
    assert unusable(found) == {"h/gpu0": "used by vm-77, of which vCenter shows no GPU device"}
    assert found.fleet().hosts[0].gpus[0].instances == ("whole@0",)


def test_equal_sizes_and_modes_left_open() -> None:
    gpus = [gpu_of(0, model="T4", mode="vgpu-equal", vms=("vm-1", "vm-2")), gpu_of(1, model="T4", mode="vgpu-equal")]
    found = site(gpus, [vm_of("vm-1", "grid_t4-8c"), vm_of("vm-2", "grid_t4-8c")])
    first, second = found.fleet().hosts[0].gpus
    assert (first.mode, first.instances) == ("vgpu-equal-8", ("T4-8C@0", "T4-8C@1"))
    assert second.mode is None
    assert found.fleet().modes == ("vgpu-equal",)
    assert found.fleet(keep_modes=False).modes is None


def test_gpus_that_are_not_in_the_catalogue_are_left_out() -> None:
    found = site([gpu_of(0), replace(gpu_of(1), model=None, name="NVIDIA X1000", device_id="10de:ffff")], [])
    assert len(found.fleet()) == len(found.layout()) == 1
    assert "not in the catalogue" in unusable(found)["h/gpu1"]


def test_limits_of_a_crowded_host() -> None:
    found = site([gpu_of()], [vm_of("vm-1", vcpus=100, ram_gib=600.0)], numa=(NumaInfo(0, 32, 256.0), NumaInfo(1, 32, 256.0)))
    host = found.fleet().hosts[0]
    assert (host.vcpus, host.ram_gib) == (1, 0.001)
    assert host.numa == ()  # the GPU's node is not known


@pytest.mark.parametrize(
    ("device", "subsystem", "name", "memory_mib", "offered", "model"),
    [
        ("10de:20b2", "", "", 0, (), A100),
        ("10de:25b6", "10de:14a9", "", 0, (), "A16"),
        ("10de:25b6", "10de:157e", "", 0, (), "A2"),
        ("10de:25b6", "", "", 0, ("nvidia_a2-4q",), "A2"),
        ("10de:25b6", "", "NVIDIA A16", 0, (), "A16"),
        ("10de:25b6", "", "", 16384, (), None),
        ("10de:1e78", "", "", 24576, (), "RTX6000P"),
        ("10de:1e78", "", "", 49152, (), "RTX8000P"),
        ("", "", "Tesla T4", 0, (), "T4"),
        ("10de:ffff", "", "NVIDIA X1000", 0, (), None),
    ],
)
def test_models(device: str, subsystem: str, name: str, memory_mib: int, offered: tuple[str, ...], model: str | None) -> None:
    assert known_model(device, subsystem, name=name, memory_mib=memory_mib, offered=offered) == model


def test_every_pci_id_of_the_catalogue_is_found() -> None:
    for model in map(catalog.gpu, catalog.names()):
        for number in model.pci_device_ids:
            found = known_model(f"10de:{number:04x}", name=model.record.product_names[0] if model.record.product_names else "")
            assert found == model.name


def test_modes() -> None:
    assert mode_of(A100, graphics_type="shared", vgpu_mode="multiInstanceGpu", offered=()) is None
    assert mode_of(A100, graphics_type="sharedDirect", vgpu_mode="none", offered=()) is None
    assert mode_of(A100, graphics_type="sharedDirect", vgpu_mode=None, offered=("grid_a100d-3-40c",)) == "mig"
    assert mode_of(A100, graphics_type="sharedDirect", vgpu_mode=None, offered=("grid_a100d-8c",)) == "vgpu-equal"
    assert mode_of(A100, graphics_type="sharedDirect", vgpu_mode=None, offered=("grid_a100d-8c", "grid_a100d-3-40c")) is None


def test_driver_rule_gives_the_orders_of_the_user_guide() -> None:
    geometry = catalog.gpu("A100-40GB").geometry("mig")
    placed: tuple = ()  # type: ignore[type-arg]
    starts = []
    for name in ("3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"):
        start = chosen_start(geometry, placed, geometry.profile(name))
        assert start is not None
        starts.append(start)
        placed = (*placed, next(p for p in geometry.placements if p.profile.name == name and p.start == start))
    assert starts[0] == 4


def test_every_configuration_of_every_gpu_is_arranged() -> None:
    """Whatever fits on a GPU is found a legal arrangement for, checked by rules that share no code with it."""
    generator = random.Random(5)
    for name in (A100, "A30-24GB", "H100-80GB", "A100-40GB"):
        configurations = list(catalog.gpu(name).geometry("mig").configurations())
        for configuration in generator.sample(configurations, min(60, len(configurations))):
            profiles = [profile for profile, count in configuration.items() for _ in range(count)]
            generator.shuffle(profiles)
            starts = arranged(name, "mig", [(profile, None) for profile in profiles])
            assert starts is not None, (name, profiles)
            assert legal(rules(name)["mig"], list(zip(profiles, starts, strict=True)))


# -- the file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_round_trip(inventory: Inventory, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"inventory.{suffix}"
    dump(inventory, path)
    again = load(path)
    assert again == inventory
    assert again.fleet() == inventory.fleet()
    assert again.layout() == inventory.layout()
    assert load(to_data(inventory)) == inventory
    first = path.read_bytes()
    dump(again, path)
    assert path.read_bytes() == first


def test_odd_names_survive(tmp_path: Path) -> None:
    names = [" leading", "trailing ", "a: b", "- x", "%2f", "null", "1e3", "ü\u2028line", "'\"\\", "#no"]
    found = site([gpu_of()], [vm_of(f"vm-{n}", name=name, annotation=f"{name}\n\t{name}\n") for n, name in enumerate(names)])
    dump(found, tmp_path / "i.yaml")
    assert load(tmp_path / "i.yaml") == found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: 1", "version: 2", ":2: version: version is 2, not 1"),
        ("format: gpu-partitioner/vsphere-inventory", "format: x", "format is 'x'"),
        ("moid: host-1", "moid: host-1\n  colour: red", "unknown field 'colour'"),
        ("threads: 64", "threads: many", "threads: "),
        ("mode: mig", "mode: migg", "'migg'"),
        ("pci_id: 0000:3b:00.0", "pci_id: here", "pci_id"),
        ("index: 0", "index: 7", "must be 0, 1"),
        ("ram_gib: 512.0", "ram_gib: -1", "ram_gib"),
    ],
)
def test_files_are_read_strictly_and_with_lines(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "i.yaml"
    text = yaml.safe_dump(to_data(site([gpu_of()], [vm_of("vm-1")])), sort_keys=False)
    assert old in text, text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert any(problem.line for problem in caught.value.problems)


def test_values_refuse_nonsense() -> None:
    host = HostInfo(name="h", moid="host-1")
    with pytest.raises(SpecError, match="host 'h' stands twice"):
        Inventory(vcenter="vc", api_version="8", hosts=(host, replace(host, moid="host-2")))
    with pytest.raises(SpecError, match="replica"):
        Mark("p", "w", -1)


BARE = {"gpu-partitioner.plan": "p", "gpu-partitioner.workload": "w", "gpu-partitioner.replica": "0"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gpu-partitioner.plan": "p"},
        BARE | {"gpu-partitioner.replica": "x"},
        BARE | {"gpu-partitioner.places": "["},
        BARE | {"gpu-partitioner.places": "[[1]]"},
    ],
)
def test_damaged_marks_are_somebody_elses(options: dict[str, str]) -> None:
    assert Mark.of(copy.copy(options)) is None


def test_marks_survive() -> None:
    mark = Mark("p", "größe/1", 12, (Place("größe/1", 12, 3, "mig", "1g.10gb+me", 6), Place("b", 0, 0, "whole", "whole", 0)))
    assert Mark.of(mark.options()) == mark
    assert all(len(value) < 1000 for value in mark.options().values())


def test_files_need_no_pyvmomi(tmp_path: Path) -> None:
    """An inventory that was written is worked with where nothing talks to a vCenter."""
    dump(site([gpu_of()], [vm_of("vm-1")]), tmp_path / "i.yaml")
    program = (
        "import sys, vsphere; from vsphere.inventory import load\n"
        f"found = load({str(tmp_path / 'i.yaml')!r}); found.fleet(); found.layout()\n"
        "print([name for name in sys.modules if name.startswith(('pyVmomi', 'pyVim'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_the_package_exist() -> None:
    assert {name: getattr(vsphere, name) for name in vsphere.__all__}
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        vsphere.nonsense  # noqa: B018
