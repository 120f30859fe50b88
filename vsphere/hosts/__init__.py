"""Preparing hosts: graphics types and policy, vGPU modes, passthrough, MIG mode, maintenance mode and restarts.

`plan_host_steps` finds the steps, `perform` carries them out, `render_host_steps` writes them down for a person.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsphere.hosts.errors import RefusedError as RefusedError
    from vsphere.hosts.errors import ShellError as ShellError
    from vsphere.hosts.errors import WaitError as WaitError
    from vsphere.hosts.journal import HostJournal as HostJournal
    from vsphere.hosts.performing import HostReport as HostReport
    from vsphere.hosts.performing import perform as perform
    from vsphere.hosts.planning import plan_host_steps as plan_host_steps
    from vsphere.hosts.rendering import render_host_steps as render_host_steps
    from vsphere.hosts.smi import HostFacts as HostFacts
    from vsphere.hosts.smi import Vib as Vib
    from vsphere.hosts.software import Software as Software
    from vsphere.hosts.software import read_shells as read_shells
    from vsphere.hosts.software import read_software as read_software
    from vsphere.hosts.ssh import Ssh as Ssh
    from vsphere.hosts.ssh import SshAccess as SshAccess
    from vsphere.hosts.step import HostChanges as HostChanges
    from vsphere.hosts.step import HostPlan as HostPlan
    from vsphere.hosts.step import HostStep as HostStep
    from vsphere.hosts.waits import Limits as Limits

_HOME = {
    "HostChanges": "step",
    "HostFacts": "smi",
    "HostJournal": "journal",
    "HostPlan": "step",
    "HostReport": "performing",
    "HostStep": "step",
    "Limits": "waits",
    "RefusedError": "errors",
    "ShellError": "errors",
    "Software": "software",
    "Ssh": "ssh",
    "SshAccess": "ssh",
    "Vib": "smi",
    "WaitError": "errors",
    "perform": "performing",
    "plan_host_steps": "planning",
    "read_shells": "software",
    "read_software": "software",
    "render_host_steps": "rendering",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found
