"""Hosts out of vCenter's properties: GPUs, network adapters, NUMA nodes. Knows nothing of VMs beyond their ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyVmomi import vim

from vsphere.inventory.collection import Properties
from vsphere.inventory.models import known_model, mode_of
from vsphere.values import GpuInfo, HostInfo, NicInfo, NumaInfo

HOST_PROPERTIES: dict[Any, tuple[str, ...]] = {
    vim.HostSystem: (
        "name",
        "parent",
        "runtime.connectionState",
        "runtime.inMaintenanceMode",
        "hardware.cpuInfo",
        "hardware.memorySize",
        "hardware.numaInfo",
        "hardware.pciDevice",
        "config.product",
        "config.graphicsInfo",
        "config.graphicsConfig",
        "config.sharedPassthruGpuTypes",
        "config.pciPassthruInfo",
        "config.assignableHardwareBinding",
        "config.network.pnic",
        "datastore",
        "network",
    )
}

_NVIDIA = 0x10DE
_DISPLAY = 0x03  # PCI base class of display controllers, compute ones (3D controllers) among them
_PCI_ID = re.compile(r"^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all conversions look up.

    Parameters
    ----------
    names : objects to their names.
    paths : folders, datacenters and what stands in them to their paths.
    bindings : (VM, key of its device) to the PCI address of the GPU that it got.
    """

    names: Mapping[Any, str]
    paths: Mapping[Any, str]
    bindings: Mapping[tuple[Any, int], str] = field(default_factory=dict)


def host_info(obj: Any, properties: Properties, around: Surroundings, found: Mapping[Any, Properties]) -> HostInfo:
    """Return a host; one that is not connected has what vCenter still knows of it."""
    parent = properties.get("parent")
    cpu, product, config = (properties.get(key) for key in ("hardware.cpuInfo", "config.product", "config.graphicsConfig"))
    state = str(properties.get("runtime.connectionState") or "disconnected")
    devices = {pci: d for d in properties.get("hardware.pciDevice") or () if (pci := pci_id(d.id)) is not None}
    passthrough = {pci: p for p in properties.get("config.pciPassthruInfo") or () if (pci := pci_id(p.id)) is not None}
    nodes = properties.get("hardware.numaInfo")
    numa_of = {
        pci: int(node.typeId) for node in (nodes.numaNode if nodes else ()) for p in node.pciId or () if (pci := pci_id(p))
    }
    return HostInfo(
        name=around.names[obj],
        moid=moid(obj),
        cluster=around.names.get(parent) if isinstance(parent, vim.ClusterComputeResource) else None,
        cluster_moid=moid(parent) if parent is not None else None,
        datacenter=_datacenter(parent, found, around),
        gpus=_numbered(_gpus(properties, devices, passthrough, numa_of)),
        vgpu_types=tuple(str(name) for name in properties.get("config.sharedPassthruGpuTypes") or ()),
        cores=int(cpu.numCpuCores) if cpu else 0,
        threads=int(cpu.numCpuThreads) if cpu else 0,
        ram_gib=int(properties.get("hardware.memorySize") or 0) / 2**30,
        datastores=_names(properties.get("datastore"), around),
        networks=_names(properties.get("network"), around),
        nics=tuple(_nics(properties.get("config.network.pnic") or (), devices, passthrough, numa_of)),
        numa=tuple(_node(node) for node in (nodes.numaNode if nodes else ())),
        version=str(product.version) if product else "",
        build=str(product.build) if product else "",
        connected=state == "connected",
        in_maintenance=bool(properties.get("runtime.inMaintenanceMode")),
        default_graphics_type=config.hostDefaultGraphicsType if config else None,
        assignment_policy=config.sharedPassthruAssignmentPolicy if config else None,
    )


def moid(obj: Any) -> str:
    """Return vCenter's id of an object, e.g. ``host-21``."""
    return str(obj._GetMoId())  # noqa: SLF001


def pci_id(text: str | None) -> str | None:
    """Return a PCI address as ``0000:3b:00.0``; None where it is none.

    Examples
    --------
    >>> pci_id("0000:3B:00.0"), pci_id("3b:0.0"), pci_id("PF_0.59.0")
    ('0000:3b:00.0', '0000:3b:00.0', None)
    """
    match = _PCI_ID.match((text or "").strip().casefold())
    if not match:
        return None
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{bus:>02}:{slot:>02}.{function}"


def hexadecimal(number: int | None) -> str:
    """Return a PCI id; vCenter sends those of 0x8000 and more as negative numbers."""
    return f"{(number or 0) & 0xFFFF:04x}"


# -- GPUs ------------------------------------------------------------------------------------------------------------------


def _gpus(
    properties: Properties, devices: Mapping[str, Any], passthrough: Mapping[str, Any], numa_of: Mapping[str, int]
) -> Iterable[GpuInfo]:
    graphics = {
        pci: info
        for info in properties.get("config.graphicsInfo") or ()
        if (pci := pci_id(info.pciId)) is not None and _is_nvidia(info, devices.get(pci))
    }
    config = properties.get("config.graphicsConfig")
    configured = {pci: entry for entry in (config.deviceType if config else ()) or () if (pci := pci_id(entry.deviceId))}
    offered = tuple(str(name) for name in properties.get("config.sharedPassthruGpuTypes") or ())
    for pci in _addresses(devices, graphics):
        device, info, through = devices.get(pci), graphics.get(pci), passthrough.get(pci)
        name = str((info.deviceName if info else None) or (device.deviceName if device else None) or "")
        memory_mib = int(info.memorySizeInKB or 0) // 1024 if info else 0
        device_id = _device_id(device)
        subsystem_id = f"{hexadecimal(device.subVendorId)}:{hexadecimal(device.subDeviceId)}" if device else ""
        model = known_model(device_id, subsystem_id, name=name, memory_mib=memory_mib, offered=offered)
        active = bool(through and through.passthruActive)
        now = str(info.graphicsType) if info and info.graphicsType else None
        wanted = configured[pci].graphicsType if pci in configured else None
        vgpu_mode = str(info.vgpuMode) if info and info.vgpuMode else None
        yield GpuInfo(
            index=0,
            pci_id=pci,
            model=model,
            mode="whole" if active else mode_of(model, graphics_type=now, vgpu_mode=vgpu_mode, offered=offered),
            name=name,
            device_id=device_id,
            subsystem_id=subsystem_id,
            graphics_type=now,
            configured_type=wanted if wanted != now else None,
            vgpu_mode=vgpu_mode,
            memory_mib=memory_mib,
            numa_node=numa_of.get(pci),
            passthrough_capable=bool(through and through.passthruCapable),
            passthrough_enabled=bool(through and through.passthruEnabled),
            passthrough_active=active,
            vms=tuple(sorted(moid(vm) for vm in (info.vm if info else ()) or ())),
        )


def _device_id(device: Any) -> str:
    return f"{hexadecimal(device.vendorId)}:{hexadecimal(device.deviceId)}" if device is not None else ""


def _numbered(gpus: Iterable[GpuInfo]) -> tuple[GpuInfo, ...]:
    """Return GPUs with their indices: a fleet has those of the catalogue, so that the others come last."""
    ordered = sorted(gpus, key=lambda gpu: (gpu.model is None, gpu.pci_id))
    return tuple(replace(gpu, index=index) for index, gpu in enumerate(ordered))


def _is_nvidia(info: Any, device: Any) -> bool:
    if device is not None:
        return bool(device.vendorId & 0xFFFF == _NVIDIA)
    return "nvidia" in str(info.vendorName or info.deviceName or "").casefold()


def _addresses(devices: Mapping[str, Any], graphics: Mapping[str, Any]) -> list[str]:
    """Return the PCI addresses of the host's GPUs, ascending.

    A GPU that is given away by passthrough is no graphics device of the host any more, so that the PCI devices say which
    there are. Virtual functions are PCI devices too, with the same ids as their GPU: of one bus, whose GPU is not among the
    graphics devices, the first function counts.
    """
    of_bus: dict[str, list[str]] = {}
    for pci, device in devices.items():
        if device.vendorId & 0xFFFF == _NVIDIA and (device.classId & 0xFFFF) >> 8 == _DISPLAY:
            of_bus.setdefault(pci[:7], []).append(pci)
    found = set(graphics)
    for bus, addresses in of_bus.items():
        if not any(pci[:7] == bus for pci in graphics):
            found.add(min(addresses))
    return sorted(found)


# -- the rest --------------------------------------------------------------------------------------------------------------


def _nics(
    pnics: Iterable[Any], devices: Mapping[str, Any], passthrough: Mapping[str, Any], numa_of: Mapping[str, int]
) -> Iterable[NicInfo]:
    for nic in pnics:
        pci = pci_id(nic.pci)
        if pci is None:  # no PCI device: a USB adapter
            continue
        through = passthrough.get(pci)
        sriov = isinstance(through, vim.host.SriovInfo) and through.sriovActive
        yield NicInfo(
            name=str(nic.device),
            pci_id=pci,
            product=str(devices[pci].deviceName or "") if pci in devices else "",
            driver=str(nic.driver or ""),
            speed_mbps=int(nic.linkSpeed.speedMb) if nic.linkSpeed else 0,
            numa_node=numa_of.get(pci),
            passthrough_enabled=bool(through and through.passthruEnabled),
            sriov_vfs=int(getattr(through, "numVirtualFunction", 0) or 0) if sriov else 0,
            device_id=_device_id(devices.get(pci)),
        )


def _node(node: Any) -> NumaInfo:
    size = getattr(node, "memorySize", None) or node.memoryRangeLength or 0
    return NumaInfo(node=int(node.typeId), threads=len(node.cpuID or ()), ram_gib=int(size) / 2**30)


def _names(objects: Iterable[Any] | None, around: Surroundings) -> tuple[str, ...]:
    return tuple(sorted({around.names[obj] for obj in objects or () if obj in around.names}))


def _datacenter(parent: Any, found: Mapping[Any, Properties], around: Surroundings) -> str:
    while parent is not None and not isinstance(parent, vim.Datacenter):
        parent = found.get(parent, {}).get("parent")
    return around.paths.get(parent, "") if parent is not None else ""
