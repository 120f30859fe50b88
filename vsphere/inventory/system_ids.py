"""The id by which a host names itself in the backing of a PCI device; only fixed passthrough needs it.

It is the one thing that vCenter tells by `QueryConfigTarget` alone, a call for each host, so that it is asked only for hosts
where a device is to be given away, and for many of them at once. Must not know GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pyVmomi import vim

from vsphere.errors import translated
from vsphere.session import Session
from vsphere.stub import POOL
from vsphere.values import HostInfo, Inventory


def with_system_ids(session: Session, inventory: Inventory, hosts: Iterable[str] | None = None) -> Inventory:
    """Return an inventory whose hosts have their `system_id`.

    Parameters
    ----------
    session : where to ask.
    inventory : what was read there.
    hosts : names of the hosts that need it; None means those with a GPU or NIC that passthrough is enabled for.

    Raises
    ------
    VSphereError
        vCenter does not answer.
    """
    wanted = set(hosts) if hosts is not None else {host.name for host in inventory.hosts if _gives_devices(host)}
    asked = [host for host in inventory.hosts if host.name in wanted and not host.system_id and host.connected]
    with ThreadPoolExecutor(max_workers=POOL, thread_name_prefix="vsphere-targets") as pool:
        found = dict(zip((host.name for host in asked), pool.map(lambda host: _system_id(session, host), asked), strict=True))
    known = tuple(replace(host, system_id=found.get(host.name) or host.system_id) for host in inventory.hosts)
    return replace(inventory, hosts=known)


def _gives_devices(host: HostInfo) -> bool:
    return any(gpu.passthrough_enabled for gpu in host.gpus) or any(nic.passthrough_enabled for nic in host.nics)


def _system_id(session: Session, host: HostInfo) -> str:
    with translated(f"{session.who}: host {host.name}", "reading what VMs on it may have"):
        browser = vim.ComputeResource(host.cluster_moid, session.stub).environmentBrowser
        target = browser.QueryConfigTarget(vim.HostSystem(host.moid, session.stub)) if browser is not None else None
        devices = target.pciPassthrough if target is not None else ()
        return next((str(device.systemId) for device in devices or () if device.systemId), "")
