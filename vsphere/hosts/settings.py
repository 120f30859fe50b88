"""Changing a host's graphics configuration and passthrough through vCenter. Must not know plans, shells or restarts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from partitioner.errors import DriftError
from vsphere.errors import VSphereError, translated
from vsphere.hosts.live import HostNow
from vsphere.hosts.step import HostStep

if TYPE_CHECKING:
    from vsphere.session import Session


def graphics_config(now: HostNow, steps: Iterable[HostStep], *, modes: bool = True) -> Any:
    """Return the graphics configuration that steps ask for, None where the host has it already; other GPUs keep theirs.

    Parameters
    ----------
    now : the host.
    steps : settings of its graphics configuration.
    modes : whether vCenter knows vGPU modes (API 8.0.3); before, they are left out of what is kept.

    Raises
    ------
    DriftError
        The host has no such GPU any more.
    """
    kind: Any = vim.host.GraphicsConfig
    old = now.config
    new = kind(
        hostDefaultGraphicsType=old.hostDefaultGraphicsType if old else "shared",
        sharedPassthruAssignmentPolicy=old.sharedPassthruAssignmentPolicy if old else "performance",
        deviceType=[_copied(entry, modes=modes) for entry in (old.deviceType if old else ())],
    )
    changed = False
    for step in steps:
        part, name = _part(now, new, step)
        if getattr(part, name) != step.after:
            setattr(part, name, step.after)
            changed = True
    return new if changed else None


def _part(now: HostNow, config: Any, step: HostStep) -> tuple[Any, str]:
    """Return what a step changes: the value and the name of its property."""
    if step.kind == "policy":
        return config, "sharedPassthruAssignmentPolicy"
    if step.kind == "default type":
        return config, "hostDefaultGraphicsType"
    pci_id = step.pci_id or ""
    if not now.has(pci_id):
        raise DriftError(f"{step.label}: the host has no GPU at {pci_id} any more; read the inventory again and plan anew")
    entry = next((entry for entry in config.deviceType if entry.deviceId.lower() == pci_id), None)
    if entry is None:
        entry = vim.host.GraphicsConfig.DeviceType(deviceId=pci_id, graphicsType=now.active.get(pci_id, "shared"))
        config.deviceType.append(entry)
    return entry, "graphicsType" if step.kind == "graphics type" else "vgpuMode"


def _copied(entry: Any, *, modes: bool) -> Any:
    copy = vim.host.GraphicsConfig.DeviceType(deviceId=entry.deviceId, graphicsType=entry.graphicsType)
    if modes and entry.vgpuMode is not None:
        copy.vgpuMode = entry.vgpuMode
    return copy


def update_graphics(session: Session, now: HostNow, steps: Iterable[HostStep]) -> bool:
    """Make steps so that are settings of the graphics configuration, by one call.

    Returns
    -------
    Whether there was anything to change.

    Raises
    ------
    DriftError
        The host has no such GPU any more.
    VersionError
        vCenter does not know a setting.
    VSphereError
        vCenter refused.
    """
    modes = session.has((vim.host.GraphicsConfig.DeviceType, "vgpuMode"))
    config = graphics_config(now, steps, modes=modes)
    if config is None:
        return False
    session.check_spec(config)
    with translated(f"{session.who}: host {now.name!r}", "changing its graphics configuration"):
        _present(now.graphics_manager, now).UpdateGraphicsConfig(config)
    return True


def update_passthrough(session: Session, now: HostNow, step: HostStep) -> bool:
    """Switch passthrough of a GPU; it takes effect at once where the host can do that, else with its restart.

    Returns
    -------
    Whether there was anything to change.

    Raises
    ------
    DriftError
        The host has no such GPU any more.
    VSphereError
        vCenter refused.
    """
    pci_id, on = step.pci_id or "", step.after == "on"
    info = now.passthrough.get(pci_id)
    if info is None:
        raise DriftError(f"{step.label}: the host has no device at {pci_id} any more; read the inventory again and plan anew")
    if info.passthruEnabled == on:
        return False
    config = vim.host.PciPassthruConfig(id=info.id, passthruEnabled=on)
    if session.has((vim.host.PciPassthruConfig, "applyNow")):
        config.applyNow = True
    with translated(f"{session.who}: {step.label}", f"switching passthrough {step.after}"):
        _present(now.passthrough_system, now).UpdatePassthruConfig([config])
    return True


def refresh(session: Session, now: HostNow) -> None:
    """Have vCenter read the GPUs of a host again.

    Raises
    ------
    VSphereError
        vCenter refused.
    """
    with translated(f"{session.who}: host {now.name!r}", "reading its GPUs again"):
        _present(now.graphics_manager, now).Refresh()


def waiting(now: HostNow, pci_ids: Iterable[str]) -> tuple[str, ...]:
    """Return which settings of GPUs are configured and not yet in force, in words."""
    found = []
    for pci_id in pci_ids:
        info = now.passthrough.get(pci_id)
        if info is not None and info.passthruEnabled != info.passthruActive:
            found.append(f"passthrough of {pci_id}")
        hidden = info is not None and (info.passthruActive or info.passthruEnabled)
        configured, active = now.configured(pci_id), now.active.get(pci_id)
        if not hidden and configured is not None and configured != active:
            found.append(f"graphics type of {pci_id}")
    return tuple(found)


def _present(manager: Any, now: HostNow) -> Any:
    if manager is None:
        raise VSphereError(
            f"host {now.name!r}: vCenter has nothing to change its GPUs with; is it connected, and ESXi 6.5 or later?"
        )
    return manager
