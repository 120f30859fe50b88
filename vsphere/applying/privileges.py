"""Which privileges steps need, and on what; asked for before anything is done. Must not know how steps are carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyVmomi import vim

from vsphere.applying.sites import Sites
from vsphere.changes import VmStep
from vsphere.machine.vm import Vm

CONFIGURE = (
    "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.AdvancedConfig",
    "VirtualMachine.Config.Annotation",
    "VirtualMachine.Config.CPUCount",
    "VirtualMachine.Config.Memory",
    "VirtualMachine.Config.Rename",
    "VirtualMachine.Config.Resource",
    "VirtualMachine.Config.Settings",
)
CREATE = ("VirtualMachine.Config.AddNewDisk", "VirtualMachine.Inventory.Create", "VirtualMachine.Interact.PowerOn")
CLONE = ("VirtualMachine.Inventory.CreateFromExisting", "VirtualMachine.Interact.PowerOn")
ON_MACHINES: dict[str, tuple[str, ...]] = {
    "reconfigure": CONFIGURE,
    "power on": ("VirtualMachine.Interact.PowerOn",),
    "power off": ("VirtualMachine.Interact.PowerOff",),
    "move": ("Resource.ColdMigrate",),
    "destroy": ("VirtualMachine.Inventory.Delete",),
}
"""Privileges on a machine for what is done to it."""


def privileges_for(steps: Sequence[VmStep], sites: Sites, made: Sequence[Vm]) -> dict[Any, list[str]]:
    """Return the privileges that steps need, by the object that they are needed on.

    Parameters
    ----------
    steps : what is to be done.
    sites : where.
    made : machines that are to be made.
    """
    found: dict[Any, list[str]] = {}
    for step in steps:
        if step.kind in ON_MACHINES and step.moid is not None:
            found.setdefault(sites.machine(step.moid), []).extend(ON_MACHINES[step.kind])
        if step.kind == "rules" and step.moid is not None:
            found.setdefault(sites.cluster(step.moid), []).append("Host.Inventory.EditCluster")
    networks = {network.name: network.moid for network in sites.inventory.networks}
    for vm in made:
        folder, there = sites.nearest_folder(vm)
        wanted = CLONE if vm.template is not None else (*CREATE, *CONFIGURE)
        found.setdefault(folder, []).extend(wanted if there else (*wanted, "Folder.Create"))
        found.setdefault(sites.pool(vm), []).append("Resource.AssignVMToPool")
        if vm.template is not None:
            found.setdefault(sites.template(vm), []).append("VirtualMachine.Provisioning.DeployTemplate")
        if vm.datastore is not None:
            found.setdefault(sites.datastore(vm.datastore), []).append("Datastore.AllocateSpace")
        for nic in vm.nics:
            if nic.network in networks:
                found.setdefault(vim.Network(networks[nic.network], sites.session.stub), []).append("Network.Assign")
    return {entity: list(dict.fromkeys(names)) for entity, names in found.items()}
