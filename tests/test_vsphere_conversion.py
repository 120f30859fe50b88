"""Values of vCenter, as hosts in the field give them, turned into ours: what the simulator does not have."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from vsphere.inventory.hosts import Surroundings, host_info, pci_id
from vsphere.inventory.machines import vm_info
from vsphere.inventory.sites import cluster_info, paths_of
from vsphere.values import GroupInfo, HostInfo, VmDevice, VmInfo

HOST = vim.HostSystem("host-21")
VM = vim.VirtualMachine("vm-7")
Passthrough = vim.vm.device.VirtualPCIPassthrough


def signed(number: int) -> int:
    """What vCenter sends for a PCI id: its type is a signed short."""
    return number - 0x10000 if number >= 0x8000 else number


def device(
    address: str, *, ids: tuple[int, int] = (0x10DE, 0x20B5), subsystem: tuple[int, int] = (0x10DE, 0x1533), kind: int = 0x0302
) -> Any:
    return vim.host.PciDevice(
        id=address,
        classId=signed(kind),
        bus=0,
        slot=0,
        function=0,
        vendorId=signed(ids[0]),
        deviceId=signed(ids[1]),
        subVendorId=signed(subsystem[0]),
        subDeviceId=signed(subsystem[1]),
        vendorName="",
        deviceName="",
    )


def graphics(address: str, **more: Any) -> Any:
    given = {"deviceName": "NVIDIA A100", "vendorName": "NVIDIA Corporation", "memorySizeInKB": 80 * 2**20, "vm": []}
    return vim.host.GraphicsInfo(**{**given, "graphicsType": "sharedDirect", "pciId": address, **more})


def host_of(**properties: Any) -> HostInfo:
    dotted = {name.replace("__", "."): value for name, value in properties.items()}
    state = {"runtime.connectionState": "connected", "runtime.inMaintenanceMode": False}
    return host_info(HOST, {**state, **dotted}, Surroundings({HOST: "esx-01"}, {}), {})


def vm_of(*devices: Any, bindings: dict[Any, str] | None = None, **properties: Any) -> VmInfo:
    around = Surroundings({VM: "chat-0", HOST: "esx-01"}, {}, bindings or {})
    return vm_info(VM, {"config.hardware.device": list(devices), "runtime.host": HOST, **properties}, around)


def test_virtual_functions_are_no_gpus() -> None:
    """An Ampere GPU shows its virtual functions as PCI devices with its own ids."""
    functions = [device(f"0000:3b:{slot:02x}.{function}") for slot in range(3) for function in range(8)]
    through = [device("0000:af:00.0"), device("0000:af:00.4"), device("0000:af:01.0")]
    host = host_of(hardware__pciDevice=[*functions, *through], config__graphicsInfo=[graphics("0000:3b:00.0")])
    assert [(gpu.pci_id, gpu.model) for gpu in host.gpus] == [("0000:3b:00.0", "A100-80GB"), ("0000:af:00.0", "A100-80GB")]


def test_other_devices_are_no_gpus() -> None:
    devices = [
        device("0000:01:00.0", ids=(0x102B, 0x0538), kind=0x0300),  # the graphics of the board's management controller
        device("0000:02:00.0", ids=(0x10DE, 0x1AF1), kind=0x0680),  # an NVSwitch
        device("0000:03:00.0", ids=(0x15B3, 0x101D), kind=0x0200),
    ]
    shown = [graphics("0000:01:00.0", deviceName="Matrox G200eW3", vendorName="Matrox")]
    assert host_of(hardware__pciDevice=devices, config__graphicsInfo=shown).gpus == ()


def test_ids_of_0x8000_and_more() -> None:
    host = host_of(hardware__pciDevice=[device("0000:3b:00.0", ids=(0x10DE, 0x25B6), subsystem=(0x8086, 0xFFFF))])
    assert (host.gpus[0].device_id, host.gpus[0].subsystem_id, host.gpus[0].model) == ("10de:25b6", "8086:ffff", None)


def test_gpus_of_unknown_model_come_last() -> None:
    devices = [device("0000:3b:00.0", ids=(0x10DE, 0x0001)), device("0000:af:00.0")]
    assert [(gpu.index, gpu.model) for gpu in host_of(hardware__pciDevice=devices).gpus] == [(0, "A100-80GB"), (1, None)]


def test_pending_changes_of_a_host() -> None:
    """What is configured and not yet in force is told from what is."""
    config = vim.host.GraphicsConfig(
        hostDefaultGraphicsType="sharedDirect",
        sharedPassthruAssignmentPolicy="performance",
        deviceType=[vim.host.GraphicsConfig.DeviceType(deviceId="0000:3b:00.0", graphicsType="sharedDirect")],
    )
    through = vim.host.PciPassthruInfo(
        id="0000:3b:00.0", dependentDevice="0000:3b:00.0", passthruEnabled=True, passthruCapable=True, passthruActive=False
    )
    (gpu,) = host_of(
        hardware__pciDevice=[device("0000:3b:00.0")],
        config__graphicsInfo=[graphics("0000:3b:00.0", graphicsType="shared", vgpuMode="none")],
        config__graphicsConfig=config,
        config__pciPassthruInfo=[through],
    ).gpus
    assert (gpu.graphics_type, gpu.configured_type, gpu.mode) == ("shared", "sharedDirect", None)
    assert (gpu.passthrough_capable, gpu.passthrough_enabled, gpu.passthrough_active) == (True, True, False)


def test_numa_and_sriov() -> None:
    nodes = vim.host.NumaInfo(
        type="NUMA",
        numNodes=1,
        numaNode=[
            vim.host.NumaNode(
                typeId=1, cpuID=[0, 1], memoryRangeBegin=0, memoryRangeLength=2**34, pciId=["0000:3b:00.0", "0000:10:00.0"]
            )
        ],
    )
    nic = vim.host.PhysicalNic(device="vmnic4", pci="0000:10:00.0", driver="nmlx5_core", linkSpeed=None)
    sriov = vim.host.SriovInfo(
        id="0000:10:00.0",
        dependentDevice="",
        passthruEnabled=True,
        passthruCapable=True,
        passthruActive=True,
        sriovEnabled=True,
        sriovCapable=True,
        sriovActive=True,
        numVirtualFunction=8,
        numVirtualFunctionRequested=8,
        maxVirtualFunctionSupported=16,
    )
    host = host_of(
        hardware__pciDevice=[device("0000:3b:00.0"), device("0000:10:00.0", ids=(0x15B3, 0x101D), kind=0x0200)],
        hardware__numaInfo=nodes,
        config__pciPassthruInfo=[sriov],
        **{"config.network.pnic": [nic]},
    )
    assert host.gpus[0].numa_node == host.nics[0].numa_node == 1
    assert (host.nics[0].sriov_vfs, host.nics[0].device_id, host.nics[0].speed_mbps) == (8, "15b3:101d", 0)
    assert (host.numa[0].threads, host.numa[0].ram_gib) == (2, 16.0)


def test_host_of_which_little_is_known() -> None:
    host = host_info(HOST, {"runtime.connectionState": "notResponding"}, Surroundings({HOST: "esx-01"}, {}), {})
    assert host == HostInfo(name="esx-01", moid="host-21", connected=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0000:3B:00.0", "0000:3b:00.0"),
        ("00000000:3b:00.0", "0000:3b:00.0"),
        ("3b:0.0", "0000:3b:00.0"),
        ("0001:af:1f.7", "0001:af:1f.7"),
        ("PF_0.59.0_VF_3", None),
        ("", None),
        (None, None),
    ],
)
def test_pci_addresses(text: str | None, found: str | None) -> None:
    assert pci_id(text) == found


def test_devices_of_a_vm() -> None:
    allowed = [Passthrough.AllowedDevice(vendorId=0x10DE, deviceId=0x20B5)]
    sriov = vim.vm.device.VirtualSriovEthernetCard.SriovBackingInfo(
        physicalFunctionBacking=Passthrough.DeviceBackingInfo(
            id="0000:10:00.0", deviceName="", deviceId="0", systemId="s", vendorId=0
        )
    )
    vm = vm_of(
        vim.vm.device.VirtualDisk(key=2000),
        Passthrough(key=13003, backing=Passthrough.DvxBackingInfo(deviceClass="com.vendor.dvx")),
        Passthrough(
            key=13002, backing=Passthrough.DynamicBackingInfo(allowedDevice=allowed, customLabel="lab", assignedId="0000:af:00.0")
        ),
        Passthrough(
            key=13001, backing=Passthrough.DeviceBackingInfo(id="0000:3b:00.0", deviceId="20b5", systemId="s", vendorId=0x10DE)
        ),
        Passthrough(key=13000, backing=Passthrough.VmiopBackingInfo(vgpu="grid_a100d-3-40c"), numaNode=1),
        vim.vm.device.VirtualSriovEthernetCard(key=4000, sriovBacking=sriov),
        bindings={(VM, 13000): "0000:5b:00.0"},
    )
    assert vm.devices == (
        VmDevice(key=4000, kind="sriov", pci_id="0000:10:00.0"),
        VmDevice(key=13000, kind="vgpu", vgpu="grid_a100d-3-40c", pci_id="0000:5b:00.0", numa_node=1),
        VmDevice(key=13001, kind="fixed", pci_id="0000:3b:00.0"),
        VmDevice(key=13002, kind="dynamic", pci_id="0000:af:00.0", allowed=("10de:20b5",), label="lab"),
        VmDevice(key=13003, kind="dvx", allowed=("com.vendor.dvx",)),
    )
    assert (vm.vgpus, vm.passthrough) == (("grid_a100d-3-40c",), ("0000:3b:00.0", "0000:af:00.0"))


def test_secrets_in_extra_configuration_are_dropped() -> None:
    keys = {
        "guestinfo.userdata": "S3cret",
        "guestinfo.metadata": "S3cret",
        "pciPassthru0.cfg.enable_uvm": "1",
        "numa.nodeAffinity": "0",
    }
    options = [vim.option.OptionValue(key=key, value=value) for key, value in keys.items()]
    vm = vm_of(**{"config.extraConfig": options})
    assert dict(vm.options) == {"pciPassthru0.cfg.enable_uvm": "1", "numa.nodeAffinity": "0"}


def test_vm_of_which_little_is_known() -> None:
    vm = vm_info(VM, {"runtime.connectionState": "inaccessible"}, Surroundings({VM: "chat-0"}, {}))
    assert vm == VmInfo(name="chat-0", moid="vm-7", connection="inaccessible")
    assert vm_of(**{"config.memoryAllocation": vim.ResourceAllocationInfo(reservation=-1)}).memory_reservation_mib == 0


def test_rules_of_a_cluster() -> None:
    group = vim.cluster.VmGroup(name="gpu-vms", vm=[VM])
    hosts = vim.cluster.HostGroup(name="gpu-hosts", host=[HOST])
    rules = [
        vim.cluster.VmHostRuleInfo(
            key=1, name="keep", enabled=True, mandatory=True, vmGroupName="gpu-vms", affineHostGroupName="gpu-hosts"
        ),
        vim.cluster.VmHostRuleInfo(key=2, name="off", enabled=False, vmGroupName="gpu-vms", antiAffineHostGroupName="gpu-hosts"),
        vim.cluster.AntiAffinityRuleSpec(key=3, name="apart", enabled=True, vm=[VM]),
    ]
    config = vim.cluster.ConfigInfoEx(
        drsConfig=vim.cluster.DrsConfigInfo(enabled=True, defaultVmBehavior="partiallyAutomated"),
        group=[group, hosts],
        rule=rules,
    )
    cluster = cluster_info(vim.ClusterComputeResource("domain-c8"), {"name": "c", "configurationEx": config})
    assert cluster.drs == "partiallyAutomated"
    assert cluster.groups == (GroupInfo("gpu-vms", vms=("vm-7",)), GroupInfo("gpu-hosts", hosts=("host-21",)))
    assert [(rule.kind, rule.mandatory, rule.host_group, rule.hosts_excluded) for rule in cluster.rules] == [
        ("vm-host", True, "gpu-hosts", False),
        ("vm-host", False, "gpu-hosts", True),
        ("anti-affinity", False, None, False),
    ]
    assert cluster.rules[2].vms == ("vm-7",)


def test_paths() -> None:
    root, center, vms = vim.Folder("group-d1"), vim.Datacenter("datacenter-2"), vim.Folder("group-v3")
    below = vim.Folder("group-v9")
    found: dict[Any, Any] = {
        below: {"name": "a%2fb", "parent": vms},
        vms: {"name": "vm", "parent": center},
        center: {"name": "DC", "parent": root},
    }
    assert paths_of(found) == {below: "DC/vm/a%2fb", vms: "DC/vm", center: "DC"}
