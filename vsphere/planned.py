"""What is on the GPUs of a vCenter as the plan means it: our machines where they were planned, as long as that can be.

vSphere chooses the GPU inside a host, and the driver the place on it; both are read back and compared elsewhere. For the engine
of changes, which knows its steps by host, GPU and start, a machine of ours that runs on the right host is where it was planned.
Must not know pyVmomi.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.layout import GpuLayout, Layout, Slot, gpu_label
from partitioner.targets import Instance, Occupant
from vsphere.values import HostInfo, Inventory, VmInfo


def planned_layout(inventory: Inventory, ledger: Mapping[Instance, Occupant | None]) -> Layout:
    """Return what is on each GPU, instances of the ledger that nobody occupies included.

    Parameters
    ----------
    inventory : what there is.
    ledger : instances that steps have created: vSphere makes them when a machine is switched on, until then only the ledger has
        them; with an occupant where its machine was switched off by a step that is not finished.
    """
    running = {(mark.workload, mark.replica) for info, mark in inventory.ours() if info.powered_on}
    hosts = {host.name: _as_planned(host, inventory) for host in inventory.hosts}
    meant = replace(inventory, hosts=tuple(hosts.values())).layout()
    noted: dict[str, dict[Instance, Occupant | None]] = {}
    for instance, occupant in ledger.items():
        noted.setdefault(instance.gpu, {})[instance] = None if occupant in running else occupant
    families = {(host.name, gpu.index): gpu.mode for host in inventory.hosts for gpu in host.gpus}
    return Layout.of(_with_noted(gpu, families.get((gpu.host or "", gpu.gpu)), noted.get(entry_of(gpu), {})) for gpu in meant)


def entry_of(gpu: GpuLayout) -> str:
    """Return the name of a GPU in the ledger."""
    return gpu_label(gpu.host, gpu.gpu)


def mode_of(model: str, family: str | None, profile: str, start: int) -> str | None:
    """Return the mode in which a GPU of a family of modes offers a profile at a start; None where it does not."""
    for mode in catalog.gpu(model).modes:
        if family is None or mode == family or mode.startswith(f"{family}-"):
            try:
                if start in catalog.gpu(model).geometry(mode).profile(profile).starts:
                    return mode
            except SpecError:
                continue
    return None


def _as_planned(host: HostInfo, inventory: Inventory) -> HostInfo:
    """Return a host with our running machines on the GPUs that they were planned for, where they all can be."""
    ours = [info for info in inventory.vms if info.host == host.name and info.powered_on and _planned(info)]
    if not ours:
        return host
    moved = {info.moid: {place.gpu for place in info.mark.places} for info in ours if info.mark is not None}
    used = {moid for gpu in host.gpus for moid in gpu.vms}
    gpus = tuple(
        replace(
            gpu,
            vms=tuple(
                sorted(
                    [moid for moid in gpu.vms if moid not in moved]
                    + [moid for moid, indices in moved.items() if gpu.index in indices and moid in used]
                )
            ),
        )
        for gpu in host.gpus
    )
    meant = replace(host, gpus=gpus)
    return meant if _fits(meant, inventory.vms) else host


def _fits(host: HostInfo, vms: Iterable[VmInfo]) -> bool:
    from vsphere.occupancy.usage import usage

    return all(use.taken is None for use in usage(host, [info for info in vms if info.host == host.name]))


def _planned(info: VmInfo) -> bool:
    return info.mark is not None and len(info.mark.places) == len(info.devices) > 0


def _with_noted(gpu: GpuLayout, family: str | None, instances: Mapping[Instance, Occupant | None]) -> GpuLayout:
    """Return a GPU with instances of the ledger where there is room for them."""
    for instance, occupant in instances.items():
        mode = gpu.mode or mode_of(gpu.model, family, instance.profile, instance.start)
        others = tuple(slot for slot in gpu.slots if (slot.profile, slot.start) != (instance.profile, instance.start))
        if mode is None or (len(others) < len(gpu.slots) and occupant is None):
            continue
        more = (*others, Slot(instance.profile, instance.start, *(occupant or (None, None))))
        try:
            legal = catalog.gpu(gpu.model).geometry(mode).is_legal([(slot.profile, slot.start) for slot in more])
        except SpecError:
            continue
        if legal:
            gpu = replace(gpu, mode=mode, slots=tuple(sorted(more, key=lambda slot: slot.start)))
    return gpu
