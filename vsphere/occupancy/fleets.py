"""Fleet and layout of an inventory: hosts that can take VMs, their limits, and what is on their GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from partitioner.errors import SpecError
from partitioner.fleet import Fleet, Gpu, Host, NumaNode
from partitioner.layout import GpuLayout, Layout, Slot
from vsphere.occupancy.usage import GpuUse, usage

if TYPE_CHECKING:
    from vsphere.values import GpuInfo, HostInfo, Inventory, VmInfo

ESXI_GIB, ESXI_SHARE = 4.0, 0.02
"""Memory of a host that is kept for ESXi and for what VMs need beyond their own: the larger of the two [GiB, share]. An
assumption: no source says it, and vCenter knows it only at power-on."""

_EXACT = ("mig", "vgpu-mixed", "whole")  # modes of an inventory that are one geometry


def fleet(inventory: Inventory, *, keep_modes: bool = True) -> Fleet:
    """Return the hosts that can take VMs now, with their GPUs and limits.

    Parameters
    ----------
    inventory : what was read.
    keep_modes : whether GPUs stay in the mode they are in, so that a plan needs no change of hosts. An empty GPU that
        time-slices equal sizes may take any size, which a fleet cannot say of one GPU: it is left open, and the fleet as a
        whole is kept to the kinds of modes that its GPUs are in. Where the mode of a GPU is not known, nothing is kept.

    Returns
    -------
    Hosts that are connected, not in maintenance mode and have GPUs of the catalogue, by name, with these GPUs. What running VMs
    of others hold is occupied space that plans work around; our own VMs are not in it, they are for the planner to keep or move.
    Limits are the host's logical processors and memory, less what running VMs of others have and what ESXi needs.

    Raises
    ------
    SpecError
        There is no such host.

    Notes
    -----
    VMs that are powered off hold nothing, neither here nor for vCenter.
    """
    hosts = [_host(host, vms, uses, keep_modes) for host, vms, uses in _used(inventory)]
    if not hosts:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(unusable(inventory).items())[:8])
        raise SpecError(f"{inventory.vcenter}: no host can take VMs with GPUs; {reasons or 'there is no host'}")
    modes: set[str | None] = {gpu.mode for host in inventory.hosts if host.usable for gpu in host.gpus if gpu.model}
    known = tuple(sorted(mode for mode in modes if mode is not None))
    return Fleet(hosts=tuple(hosts), modes=known if keep_modes and None not in modes else None)


def layout(inventory: Inventory) -> Layout:
    """Return what is on each GPU of `fleet`, in its order: our VMs as occupants, VMs of others as placements that nobody holds.

    Notes
    -----
    Starts are inferred, see `occupancy.placements`: ours are where the plan meant them as long as vCenter's word on which GPU
    they are on allows that.
    """
    return Layout.of(_gpu_layout(host, use) for host, _, uses in _used(inventory) for use in uses)


def unusable(inventory: Inventory) -> dict[str, str]:
    """Return the hosts, and ``host/gpuN``, that a fleet leaves out or counts as taken as a whole, each with the reason."""
    found: dict[str, str] = {}
    for host in inventory.hosts:
        if not host.connected:
            found[host.name] = "not connected to vCenter"
        elif host.in_maintenance:
            found[host.name] = "in maintenance mode"
        elif not host.gpus:
            found[host.name] = "no NVIDIA GPU"
        for gpu in host.gpus:
            if gpu.model is None:
                shown = f"{gpu.name or 'GPU'} at {gpu.pci_id} ({gpu.device_id or 'no PCI id'})"
                found[f"{host.name}/gpu{gpu.index}"] = f"{shown} is not in the catalogue; add it with --catalog FILE"
    for host, _, uses in _used(inventory):
        found |= {f"{host.name}/gpu{use.gpu.index}": use.taken for use in uses if use.taken is not None}
    return found


def _used(inventory: Inventory) -> Iterator[tuple[HostInfo, list[VmInfo], tuple[GpuUse, ...]]]:
    """Iterate over the hosts of a fleet with their VMs and the use of their GPUs."""
    by_host: dict[str | None, list[VmInfo]] = {}
    for vm in inventory.vms:
        by_host.setdefault(vm.host, []).append(vm)
    for host in sorted(inventory.hosts, key=lambda host: host.name):
        if host.usable and any(gpu.model is not None for gpu in host.gpus):
            vms = by_host.get(host.name, [])
            yield host, vms, usage(host, vms)


# -- one GPU ---------------------------------------------------------------------------------------------------------------


def _gpu(use: GpuUse, keep_modes: bool) -> Gpu:  # noqa: FBT001
    model = use.gpu.model or ""
    mode, slots = _content(use)
    theirs = tuple(f"{slot.profile}@{slot.start}" for slot in slots if slot.workload is None)
    if theirs:
        return Gpu(model, mode, instances=theirs)
    return Gpu(model, _exact(use.gpu) if keep_modes else None)


def _gpu_layout(host: HostInfo, use: GpuUse) -> GpuLayout:
    mode, slots = _content(use)
    return GpuLayout(host.name, use.gpu.index, use.gpu.model or "", mode, slots)


def _content(use: GpuUse) -> tuple[str | None, tuple[Slot, ...]]:
    """Return mode and slots of a GPU; one that counts as taken holds one instance of everything, nobody's."""
    if use.taken is not None:
        return "whole", (Slot("whole", 0, busy=True),)
    found = use.arrangement() if use.uses else None
    if found is None:
        return _exact(use.gpu), ()
    mode, placed = found
    slots = [
        Slot(profile, start, busy=True) if entry.occupant is None else Slot(profile, start, *entry.occupant)
        for entry, profile, start in placed
    ]
    return mode, tuple(sorted(slots, key=lambda slot: slot.start))


def _exact(gpu: GpuInfo) -> str | None:
    return gpu.mode if gpu.mode in _EXACT else None


# -- one host --------------------------------------------------------------------------------------------------------------


def _host(host: HostInfo, vms: list[VmInfo], uses: tuple[GpuUse, ...], keep_modes: bool) -> Host:  # noqa: FBT001
    others = [vm for vm in vms if vm.powered_on and vm.mark is None]
    reserve_gib = max(ESXI_GIB, ESXI_SHARE * host.ram_gib)
    return Host(
        name=host.name,
        gpus=tuple(_gpu(use, keep_modes) for use in uses),
        vcpus=max(1, host.threads - sum(vm.vcpus for vm in others)) if host.threads else None,
        ram_gib=max(0.001, host.ram_gib - reserve_gib - sum(vm.ram_gib for vm in others)) if host.ram_gib else None,
        numa=_numa(host, uses),
    )


def _numa(host: HostInfo, uses: tuple[GpuUse, ...]) -> tuple[NumaNode, ...]:
    """Return the NUMA nodes; none where there is one, or where it is not known of each GPU in which it is."""
    nodes = {node.node for node in host.numa}
    if len(nodes) < 2 or any(use.gpu.numa_node not in nodes for use in uses):
        return ()
    return tuple(
        NumaNode(
            gpus=tuple(use.gpu.index for use in uses if use.gpu.numa_node == node.node),
            vcpus=node.threads or None,
            ram_gib=node.ram_gib or None,
        )
        for node in host.numa
    )
