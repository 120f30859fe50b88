"""Where a machine is put: vCenter's objects for its folder, resource pool, host, datastore and template.

Must not know what is done there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyVmomi import vim

from partitioner.errors import SpecError
from vsphere.errors import translated
from vsphere.machine.vm import Vm
from vsphere.session import Session
from vsphere.values import HostInfo, Inventory


class Sites:
    """Looks places up, and makes folders that are not there.

    Parameters
    ----------
    session : where to.
    inventory : what there is.
    """

    def __init__(self, session: Session, inventory: Inventory) -> None:
        self.session, self.inventory = session, inventory
        self._folders: dict[str, str] = dict(inventory.folders)
        self._pools: dict[str, Any] = {}
        self._datastores = {datastore.name: datastore.moid for datastore in inventory.datastores}

    def check(self, vms: Iterable[Vm]) -> None:
        """Look up the places of machines that are to be made; makes nothing.

        Raises
        ------
        SpecError
            A datacenter, cluster or datastore is not there.
        VSphereError
            vCenter refuses.
        """
        for vm in vms:
            self.nearest_folder(vm)
            self.pool(vm)
            if vm.datastore is not None:
                self.datastore(vm.datastore)
            if vm.template is not None:
                self.template(vm)

    def prepare(self, vms: Iterable[Vm]) -> None:
        """Make the folders of machines that are to be made, where they are not there.

        Raises
        ------
        VSphereError
            vCenter refuses.
        """
        for vm in vms:
            self.folder(vm)

    def folder(self, vm: Vm) -> Any:
        """Return the folder of a machine; makes it where it is not there."""
        path, missing = self._folder_path(vm)
        for part in missing:
            path = self._made(path, part)
        return self._object(vim.Folder, self._folders[path])

    def nearest_folder(self, vm: Vm) -> tuple[Any, bool]:
        """Return the folder of a machine, and whether it is there; else the one in which folders have to be made."""
        path, missing = self._folder_path(vm)
        return self._object(vim.Folder, self._folders[path]), not missing

    def _folder_path(self, vm: Vm) -> tuple[str, list[str]]:
        """Return the part of a folder's path that is there, and the names that are not."""
        path = f"{self._datacenter(vm)}/vm"
        if path not in self._folders:
            said = f"VM {vm.name!r}: folder {path!r} is not in {self.inventory.vcenter}"
            raise SpecError(f"{said}; give the path of its datacenter")
        parts = [part for part in (vm.folder or "").split("/") if part]
        while parts and f"{path}/{parts[0]}" in self._folders:
            path = f"{path}/{parts.pop(0)}"
        return path, parts

    def _made(self, parent: str, name: str) -> str:
        path = f"{parent}/{name}"
        if path not in self._folders:
            with translated(self.session.who, f"making the folder {path!r}"):
                try:
                    made = self._object(vim.Folder, self._folders[parent]).CreateFolder(name)
                except vim.fault.DuplicateName as fault:  # somebody was faster
                    made = fault.object
                self._folders[path] = str(made._GetMoId())  # noqa: SLF001
        return path

    def _datacenter(self, vm: Vm) -> str:
        host = self.host_info(vm.host)
        if vm.datacenter:
            return vm.datacenter.strip("/")
        if host is not None and host.datacenter:
            return host.datacenter
        found = sorted({path.removesuffix("/vm") for path in self._folders if path.endswith("/vm") and path.count("/") == 1})
        if len(found) == 1:
            return found[0]
        raise SpecError(f"VM {vm.name!r}: datacenter is missing; name one of {', '.join(found) or 'none'}")

    def pool(self, vm: Vm) -> Any:
        """Return the resource pool of the cluster or host of a machine."""
        return self.pool_of(self._resource(vm))

    def pool_of(self, moid: str) -> Any:
        """Return the resource pool of a compute resource."""
        if moid not in self._pools:
            with translated(self.session.who, "looking up resource pools"):
                self._pools[moid] = self._object(vim.ComputeResource, moid).resourcePool
        return self._pools[moid]

    def _resource(self, vm: Vm) -> str:
        host = self.host_info(vm.host)
        if host is not None and host.cluster_moid:
            return host.cluster_moid
        for cluster in self.inventory.clusters:
            if cluster.name == vm.cluster:
                return cluster.moid
        known = ", ".join(cluster.name for cluster in self.inventory.clusters) or "none"
        raise SpecError(f"VM {vm.name!r}: neither host {vm.host!r} nor cluster {vm.cluster!r} is there; clusters are {known}")

    def host_info(self, name: str | None) -> HostInfo | None:
        """Return what is known of a host."""
        return None if name is None else self.inventory.host.get(name)

    def host(self, name: str | None) -> Any:
        """Return a host; None leaves the choice to vSphere."""
        info = self.host_info(name)
        return None if info is None else self._object(vim.HostSystem, info.moid)

    def datastore(self, name: str) -> Any:
        """Return a datastore."""
        if name not in self._datastores:
            known = ", ".join(sorted(self._datastores)[:12]) or "none"
            raise SpecError(f"datastore {name!r} is not in {self.inventory.vcenter}; datastores are {known}")
        return self._object(vim.Datastore, self._datastores[name])

    def template(self, vm: Vm) -> Any:
        """Return the machine or template that a machine is cloned from."""
        found = [info for info in self.inventory.vms if info.name == vm.template]
        if len(found) != 1:
            said = "is not there" if not found else f"stands {len(found)} times"
            raise SpecError(f"VM {vm.name!r}: template {vm.template!r} {said}; name one machine or template")
        return self.machine(found[0].moid)

    def machine(self, moid: str) -> Any:
        """Return a machine by vCenter's id."""
        return self._object(vim.VirtualMachine, moid)

    def cluster(self, moid: str) -> Any:
        """Return a cluster by vCenter's id."""
        return self._object(vim.ClusterComputeResource, moid)

    def _object(self, kind: Any, moid: str) -> Any:
        return kind(moid, self.session.stub)
