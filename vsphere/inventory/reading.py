"""The inventory of a vCenter, read at once. What the readings mean to a planner is not decided here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyVmomi import vim

from vsphere.inventory.collection import Properties, collect
from vsphere.inventory.hosts import HOST_PROPERTIES, Surroundings, host_info
from vsphere.inventory.machines import VM_PROPERTIES, vm_info
from vsphere.inventory.sites import SITE_PROPERTIES, cluster_info, datastore_info, network_info, paths_of
from vsphere.session import Session
from vsphere.values import HostInfo, Inventory, VmInfo


def read(session: Session, *, page: int | None = None) -> Inventory:
    """Read hosts, GPUs, VMs, clusters, datastores and networks.

    Parameters
    ----------
    session : where to read.
    page : most objects in one answer; None leaves it to vCenter.

    Returns
    -------
    All that the account may see, each kind by name. VMs that vanish meanwhile are not in it; a host that is not connected is,
    with what vCenter still knows of it.

    Raises
    ------
    VSphereError
        vCenter does not answer, or refuses.

    Notes
    -----
    Three round trips, however many hosts and VMs there are. `QueryConfigTarget`, which would cost one for each host, is not
    needed: the vGPU types that a host offers are among its properties.
    """
    found = collect(session, {**HOST_PROPERTIES, **VM_PROPERTIES, **SITE_PROPERTIES}, page=page)
    return convert(found, session)


def convert(found: dict[Any, Properties], session: Session) -> Inventory:
    """Return the inventory that objects with their properties describe."""
    names = {obj: str(properties["name"]) for obj, properties in found.items() if "name" in properties}
    paths = paths_of(found)
    around = Surroundings(names, paths, _bindings(found))
    hosts: list[HostInfo] = []
    vms: list[VmInfo] = []
    for obj, properties in found.items():
        if isinstance(obj, vim.HostSystem) and obj in names:
            hosts.append(host_info(obj, properties, around, found))
        elif isinstance(obj, vim.VirtualMachine) and obj in names:
            vms.append(vm_info(obj, properties, around))
    folders = {paths[obj]: str(obj._GetMoId()) for obj in found if isinstance(obj, vim.Folder) and obj in paths}  # noqa: SLF001
    about = session.content.about
    return Inventory(
        vcenter=session.who,
        api_version=session.api_version,
        hosts=tuple(sorted(hosts, key=lambda host: host.name)),
        vms=tuple(sorted(vms, key=lambda vm: (vm.name, vm.moid))),
        clusters=_sorted(cluster_info(o, p) for o, p in found.items() if isinstance(o, vim.ClusterComputeResource) and p),
        datastores=_sorted(datastore_info(o, p) for o, p in found.items() if isinstance(o, vim.Datastore) and "name" in p),
        networks=_sorted(network_info(o, p, found) for o, p in found.items() if isinstance(o, vim.Network) and "name" in p),
        folders=tuple(sorted(folders.items())),
        read_at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=str(about.fullName or ""),
    )


def _sorted(values: Any) -> Any:
    return tuple(sorted(values, key=lambda value: (value.name, value.moid)))


def _bindings(found: dict[Any, Properties]) -> dict[tuple[Any, int], str]:
    """(VM, key of its device) to the PCI address of the GPU that it got, where the API (9.1) says so."""
    return {
        (binding.vm, int(binding.deviceKey)): str(binding.pciId)
        for properties in found.values()
        for binding in properties.get("config.assignableHardwareBinding") or ()
        if getattr(binding, "pciId", None) and getattr(binding, "deviceKey", None) is not None
    }
