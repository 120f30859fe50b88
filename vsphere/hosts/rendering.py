"""The steps that prepare hosts as instructions for a person. Pure; must not know how they are carried out by program.

Commands are those of the ESXi shell; what only the vSphere Client can do is said in its words.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from vsphere.hosts.step import HostChanges, HostStep

_TYPES = {"sharedDirect": "SharedPassthru", "shared": "Shared"}
_VERIFY = "nvidia-smi --query-gpu=pci.bus_id,mig.mode.current --format=csv"


def render_host_steps(changes: HostChanges) -> str:
    """Return the steps as numbered instructions, host by host, each with the commands to type in the host's shell.

    Parameters
    ----------
    changes : what `plan_host_steps` found.
    """
    lines = [f"# Host preparation for {changes.vcenter}: one host at a time, in this order."]
    for host in changes.hosts:
        if not host.steps and not host.refusals and not host.notes:
            continue
        lines += ["", f"## {host.host}"]
        lines += [f"   ! cannot be prepared now: {line}" for line in host.refusals]
        lines += [f"   note: {line}" for line in host.notes]
        for number, step in enumerate(host.steps, 1):
            lines.append(f"{number}. {step}")
            lines += [f"       {line}" for line in _lines(step)]
    if not changes:
        lines += ["", "Nothing to do."]
    return "\n".join(lines) + "\n"


def _lines(step: HostStep) -> Iterator[str]:
    """Iterate over commands, and over hints, which begin with ``#``."""
    device, after = shlex.quote(step.pci_id or ""), step.after or ""
    match step.kind:
        case "enter maintenance":
            yield "esxcli system maintenanceMode set --enable true"
        case "exit maintenance":
            yield "esxcli system maintenanceMode set --enable false"
        case "policy":
            yield f"esxcli graphics host set --shared-passthru-assignment-policy {after.capitalize()}"
        case "default type":
            yield f"esxcli graphics host set --default-type {_TYPES.get(after, after)}"
        case "graphics type":
            yield "# vSphere Client: host > Configure > Hardware > Graphics > Graphics Devices: choose"
            yield f"# {step.pci_id} > Edit > Shared Direct"
        case "vgpu mode":
            words = {"sameSize": "Same Size", "mixedSize": "Mixed Size"}.get(after, after)
            yield "# vSphere Client: host > Configure > Hardware > Graphics > Graphics Devices: choose"
            yield f"# {step.pci_id} > Edit > vGPU Mode > {words}"
        case "passthrough":
            yield f"esxcli hardware pci pcipassthru set --device-id {device} --enable {'true' if after == 'on' else 'false'}"
            yield "esxcli hardware pci pcipassthru list"
        case "mig":
            yield f"nvidia-smi -i {device} -mig {int(after == 'on')}"
            yield _VERIFY
            yield f"# {step.pci_id} must say {'Enabled' if after == 'on' else 'Disabled'}; on Ampere only after the restart"
        case "restart services":
            yield "nv-hostengine -t"
            yield "sleep 1"
            yield "nv-hostengine -d"
        case _:
            yield "esxcli system shutdown reboot --reason 'GPU configuration'"
            yield "# wait until vCenter shows the host as connected, with all its GPUs"
