"""ESXi hosts, their GPUs, network adapters and NUMA nodes, as read. Values only."""

from __future__ import annotations

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import raises_spec_error
from vsphere.values.terms import VALUE, Count, Gib, Mode, Name, PciId, Text


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class GpuInfo:
    """One physical GPU of a host.

    Parameters
    ----------
    index : position among the host's GPUs by ascending PCI address, those that the catalogue does not know last. Not the index
        of ``nvidia-smi``, which does not see GPUs in passthrough; it takes the PCI address in its place.
    pci_id : PCI address.
    model : name in the catalogue; None where the catalogue does not know it, or cannot tell it from another.
    name : product name as the host says it.
    device_id, subsystem_id : PCI ids as ``10de:20b5``, vendor first.
    mode : ``mig``, ``vgpu-equal`` (of whatever size), ``vgpu-mixed`` or ``whole`` (passthrough); None where the host does
        not say (before API 8.0.3 it cannot), or where the GPU offers nothing to VMs as it is configured (type ``shared``).
    graphics_type : ``sharedDirect``, ``shared``, ``basic``, ``direct``, as active now; None for a GPU in passthrough.
    configured_type : the type it gets with the next restart, where that is another; else None.
    vgpu_mode : vCenter's word: ``sameSize``, ``mixedSize``, ``multiInstanceGpu``, ``none``; None where it does not say.
    memory_mib : memory that the host sees [MiB]; 0 where it does not say.
    numa_node : NUMA node; None where it is not known.
    passthrough_capable, passthrough_enabled, passthrough_active : direct passthrough: possible, configured, in force (a change
        needs a restart of the host where the last two differ).
    vms : ids of the VMs that use it now (`VmInfo.moid`).
    """

    index: Count
    pci_id: PciId
    model: Name | None
    mode: Mode | None = None
    name: Text = ""
    device_id: Text = ""
    subsystem_id: Text = ""
    graphics_type: Name | None = None
    configured_type: Name | None = None
    vgpu_mode: Name | None = None
    memory_mib: Count = 0
    numa_node: Count | None = None
    passthrough_capable: bool = False
    passthrough_enabled: bool = False
    passthrough_active: bool = False
    vms: tuple[Name, ...] = ()


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class NicInfo:
    """One physical network adapter of a host.

    Parameters
    ----------
    name : ``vmnic2``.
    pci_id : PCI address.
    product : product name.
    driver : driver of ESXi.
    speed_mbps : link speed [Mbit/s]; 0 where the link is down.
    numa_node : NUMA node; None where it is not known.
    passthrough_enabled : whether it can be given to a VM (fixed passthrough).
    sriov_vfs : virtual functions it offers; 0 where SR-IOV is off.
    device_id : PCI ids as ``15b3:101d``, vendor first.
    """

    name: Name
    pci_id: PciId
    product: Text = ""
    driver: Text = ""
    speed_mbps: Count = 0
    numa_node: Count | None = None
    passthrough_enabled: bool = False
    sriov_vfs: Count = 0
    device_id: Text = ""


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class NumaInfo:
    """One NUMA node of a host.

    Parameters
    ----------
    node : its number.
    threads : logical processors.
    ram_gib : memory [GiB].
    """

    node: Count
    threads: Count
    ram_gib: Gib


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class HostInfo:
    """One ESXi host.

    Parameters
    ----------
    name : its name in vCenter.
    moid : vCenter's id, e.g. ``host-21``.
    cluster : name of its cluster; None for a host that stands alone.
    cluster_moid : id of its compute resource, whether that is a cluster or only this host.
    datacenter : path of its datacenter.
    gpus : NVIDIA GPUs, by index.
    vgpu_types : vGPU types that it offers, in its own spelling (``grid_a100d-3-40c``).
    cores, threads : physical cores and logical processors.
    ram_gib : memory [GiB].
    datastores, networks : names that it reaches.
    nics, numa : its network adapters and NUMA nodes.
    version, build : of ESXi.
    connected : whether vCenter reaches it.
    in_maintenance : whether it is in maintenance mode.
    system_id : how the host calls itself in the backing of a PCI device (``VirtualMachinePciPassthroughInfo.systemId``).
    default_graphics_type : type that new GPUs get.
    assignment_policy : how the host chooses a GPU for a vGPU: ``performance`` or ``consolidation``.
    """

    name: Name
    moid: Name
    cluster: Name | None = None
    cluster_moid: Name | None = None
    datacenter: Text = ""
    gpus: tuple[GpuInfo, ...] = ()
    vgpu_types: tuple[Name, ...] = ()
    cores: Count = 0
    threads: Count = 0
    ram_gib: Gib = 0.0
    datastores: tuple[Name, ...] = ()
    networks: tuple[Name, ...] = ()
    nics: tuple[NicInfo, ...] = ()
    numa: tuple[NumaInfo, ...] = ()
    version: Text = ""
    build: Text = ""
    system_id: Text = ""
    connected: bool = True
    in_maintenance: bool = False
    default_graphics_type: Name | None = None
    assignment_policy: Name | None = None

    @model_validator(mode="after")
    def _gpus_in_order(self) -> HostInfo:
        if [gpu.index for gpu in self.gpus] != list(range(len(self.gpus))):
            found = ", ".join(str(gpu.index) for gpu in self.gpus)
            raise ValueError(f"host {self.name!r}: GPUs have the indices {found}; they must be 0, 1, ... in order")
        return self

    @property
    def usable(self) -> bool:
        """Whether VMs can be put on it now: connected and not in maintenance mode."""
        return self.connected and not self.in_maintenance
