"""Virtual machines out of vCenter's properties. Knows nothing of what their GPU devices mean to a GPU."""

from __future__ import annotations

from typing import Any

from pyVmomi import vim

from vsphere.inventory.collection import Properties
from vsphere.inventory.hosts import Surroundings, hexadecimal, moid, pci_id
from vsphere.values import PREFIX, VmDevice, VmInfo

VM_PROPERTIES: dict[Any, tuple[str, ...]] = {
    vim.VirtualMachine: (
        "name",
        "parent",
        "resourcePool",
        "runtime.host",
        "runtime.powerState",
        "runtime.connectionState",
        "config.instanceUuid",
        "config.template",
        "config.version",
        "config.guestId",
        "config.firmware",
        "config.annotation",
        "config.changeVersion",
        "config.hardware.numCPU",
        "config.hardware.numCoresPerSocket",
        "config.hardware.memoryMB",
        "config.hardware.device",
        "config.memoryReservationLockedToMax",
        "config.memoryAllocation",
        "config.latencySensitivity",
        "config.extraConfig",
        "datastore",
        "network",
    )
}

KEPT = (PREFIX, f"guestinfo.{PREFIX}", "pciPassthru", "numa.", "sched.", "cpuid.coresPerSocket", "vgpu.")
"""How the keys of extra configuration begin that are kept; the others may hold secrets and are dropped unseen."""

_Passthrough = vim.vm.device.VirtualPCIPassthrough


def vm_info(obj: Any, properties: Properties, around: Surroundings) -> VmInfo:
    """Return a VM; one whose configuration vCenter cannot read now has what is known of it."""
    state = str(properties.get("runtime.powerState") or "")
    host, pool, parent = (properties.get(key) for key in ("runtime.host", "resourcePool", "parent"))
    memory, latency = properties.get("config.memoryAllocation"), properties.get("config.latencySensitivity")
    options = [(str(o.key), str(o.value)) for o in properties.get("config.extraConfig") or () if str(o.key).startswith(KEPT)]
    return VmInfo(
        name=around.names[obj],
        moid=moid(obj),
        instance_uuid=str(properties.get("config.instanceUuid") or ""),
        host=around.names.get(host),
        powered_on=state == "poweredOn",
        suspended=state == "suspended",
        template=bool(properties.get("config.template")),
        connection=str(properties.get("runtime.connectionState") or "invalid"),
        folder=around.paths.get(parent, ""),
        resource_pool=moid(pool) if pool is not None else "",
        devices=devices_of(obj, properties.get("config.hardware.device") or (), around),
        vcpus=int(properties.get("config.hardware.numCPU") or 0),
        cores_per_socket=int(properties.get("config.hardware.numCoresPerSocket") or 0),
        ram_gib=int(properties.get("config.hardware.memoryMB") or 0) / 1024,
        memory_locked=bool(properties.get("config.memoryReservationLockedToMax")),
        memory_reservation_mib=max(0, int(memory.reservation or 0)) if memory else 0,
        firmware=str(properties.get("config.firmware") or ""),
        hardware_version=str(properties.get("config.version") or ""),
        guest_id=str(properties.get("config.guestId") or ""),
        latency_sensitivity=str(latency.level) if latency and latency.level else None,
        datastores=tuple(sorted(around.names[d] for d in properties.get("datastore") or () if d in around.names)),
        networks=tuple(sorted(around.names[n] for n in properties.get("network") or () if n in around.names)),
        options=tuple(sorted(dict(options).items())),
        annotation=str(properties.get("config.annotation") or ""),
        change_version=str(properties.get("config.changeVersion") or ""),
    )


def devices_of(obj: Any, devices: Any, around: Surroundings) -> tuple[VmDevice, ...]:
    """Return the GPU and passthrough devices of a VM, in the order of their keys."""
    found = [entry for device in devices if (entry := _device(obj, device, around)) is not None]
    return tuple(sorted(found, key=lambda entry: entry.key))


def _device(obj: Any, device: Any, around: Surroundings) -> VmDevice | None:
    backing, key = device.backing, int(device.key)
    node = getattr(device, "numaNode", None)
    numa_node = int(node) if node is not None and node >= 0 else None
    if isinstance(device, vim.vm.device.VirtualSriovEthernetCard):
        physical = getattr(getattr(device, "sriovBacking", None), "physicalFunctionBacking", None)
        return VmDevice(key=key, kind="sriov", pci_id=pci_id(physical.id) if physical else None, numa_node=numa_node)
    if not isinstance(device, _Passthrough):
        return None
    if isinstance(backing, _Passthrough.VmiopBackingInfo):
        got = pci_id(around.bindings.get((obj, key)))
        return VmDevice(key=key, kind="vgpu", vgpu=str(backing.vgpu or "unknown"), pci_id=got, numa_node=numa_node)
    if isinstance(backing, _Passthrough.DynamicBackingInfo):
        allowed = tuple(f"{hexadecimal(a.vendorId)}:{hexadecimal(a.deviceId)}" for a in backing.allowedDevice or ())
        got, label = pci_id(backing.assignedId), str(backing.customLabel or "")
        return VmDevice(key=key, kind="dynamic", pci_id=got, allowed=allowed, label=label, numa_node=numa_node)
    if isinstance(backing, _Passthrough.DvxBackingInfo):
        return VmDevice(key=key, kind="dvx", allowed=(str(backing.deviceClass or "unknown"),), numa_node=numa_node)
    return VmDevice(key=key, kind="fixed", pci_id=pci_id(getattr(backing, "id", None)), numa_node=numa_node)
