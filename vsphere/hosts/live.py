"""One host as it is at this moment, read in one call before each step. Must not know plans or shells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from vsphere.errors import VSphereError, translated

if TYPE_CHECKING:
    from vsphere.session import Session

_PROPERTIES = (
    "name",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "runtime.bootTime",
    "config.graphicsInfo",
    "config.graphicsConfig",
    "config.pciPassthruInfo",
    "configManager.graphicsManager",
    "configManager.pciPassthruSystem",
)


@dataclass(frozen=True, slots=True)
class HostNow:
    """A host at this moment.

    Parameters
    ----------
    name : its name.
    connection : ``connected``, ``notResponding`` (restarting, or gone) or ``disconnected`` (by somebody).
    in_maintenance : whether it is in maintenance mode.
    boot_time : when it was last started; None where vCenter does not say.
    active : graphics types in force, by PCI address.
    vgpu_modes : vGPU modes, by PCI address; none before API 8.0.3.
    users : VMs that run and use a GPU, as (id, name), by PCI address.
    config : its graphics configuration, vCenter's own value.
    passthrough : passthrough of devices, vCenter's own values, by PCI address.
    running : VMs that run on it, as (id, name).
    graphics_manager, passthrough_system : what changes them; None where the host has none.
    """

    name: str
    connection: str
    in_maintenance: bool
    boot_time: datetime | None
    active: Mapping[str, str]
    vgpu_modes: Mapping[str, str]
    users: Mapping[str, tuple[tuple[str, str], ...]]
    config: Any
    passthrough: Mapping[str, Any]
    running: tuple[tuple[str, str], ...]
    graphics_manager: Any
    passthrough_system: Any

    @property
    def connected(self) -> bool:
        """Whether vCenter reaches it."""
        return self.connection == "connected"

    def configured(self, pci_id: str) -> str | None:
        """Return the graphics type that a GPU is configured to have."""
        entry = self.entry(pci_id)
        return None if entry is None else str(entry.graphicsType)

    def entry(self, pci_id: str) -> Any:
        """Return a GPU's entry in the graphics configuration, None where it has none."""
        entries = self.config.deviceType if self.config is not None else ()
        return next((entry for entry in entries if entry.deviceId.lower() == pci_id), None)

    def has(self, pci_id: str) -> bool:
        """Whether the host has this device."""
        return pci_id in self.active or pci_id in self.passthrough


def host_object(session: Session, moid: str) -> Any:
    """Return the managed object of a host."""
    return vim.HostSystem(moid, session.stub)


def read_host(session: Session, moid: str, name: str) -> HostNow:
    """Read one host and the VMs on it, in one call.

    Parameters
    ----------
    session : of its vCenter.
    moid, name : the host; the name is for messages.

    Raises
    ------
    VSphereError
        It is gone, or cannot be read.
    """
    query = vmodl.query.PropertyCollector
    host = host_object(session, moid)
    vms = query.TraversalSpec(name="vms", type=vim.HostSystem, path="vm", skip=False)
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=host, skip=False, selectSet=[vms])],
        propSet=[
            query.PropertySpec(type=vim.HostSystem, all=False, pathSet=list(_PROPERTIES)),
            query.PropertySpec(type=vim.VirtualMachine, all=False, pathSet=["name", "runtime.powerState"]),
        ],
    )
    collector = session.content.propertyCollector
    with translated(f"{session.who}: host {name!r} ({moid})", "reading it"):
        page = collector.RetrievePropertiesEx([spec], query.RetrieveOptions())
        objects = list(page.objects) if page else []
        while page is not None and page.token:
            page = collector.ContinueRetrievePropertiesEx(page.token)
            objects += page.objects
    read = {entry.obj._moId: {part.name: part.val for part in entry.propSet} for entry in objects}  # noqa: SLF001 - its id
    own = read.pop(moid, None)
    if own is None:
        raise VSphereError(f"{session.who}: host {name!r} ({moid}) is gone; read the inventory again and plan anew")
    running = [
        (vm, str(found.get("name", vm)))
        for vm, found in sorted(read.items())
        if str(found.get("runtime.powerState")) == "poweredOn"
    ]
    names = dict(running)
    graphics = {info.pciId.lower(): info for info in own.get("config.graphicsInfo") or ()}
    return HostNow(
        name=str(own.get("name", name)),
        connection=str(own.get("runtime.connectionState")),
        in_maintenance=bool(own.get("runtime.inMaintenanceMode")),
        boot_time=own.get("runtime.bootTime"),
        active={pci_id: str(info.graphicsType) for pci_id, info in graphics.items()},
        vgpu_modes={pci_id: str(info.vgpuMode) for pci_id, info in graphics.items() if info.vgpuMode},
        users={
            pci_id: tuple((vm._moId, names[vm._moId]) for vm in info.vm if vm._moId in names)  # noqa: SLF001 - its id
            for pci_id, info in graphics.items()
        },
        config=own.get("config.graphicsConfig"),
        passthrough={info.id.lower(): info for info in own.get("config.pciPassthruInfo") or ()},
        running=tuple(running),
        graphics_manager=own.get("configManager.graphicsManager"),
        passthrough_system=own.get("configManager.pciPassthruSystem"),
    )
