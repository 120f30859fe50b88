"""Who stands in the way of preparing a host. Nobody's VM is ever powered off. Pure; must not know steps."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from vsphere.hosts.goals import GpuNeed
from vsphere.values import GpuInfo, HostInfo, Inventory, VmInfo

_VCLS = re.compile(r"^vCLS[- ]")  # vCenter's own cluster agents


def not_empty(inventory: Inventory, host: HostInfo, running: Iterable[VmInfo], *, migrate: bool) -> Iterator[str]:
    """Iterate over the VMs that keep a host from being empty, in words; `migrate`: vCenter may move what it can.

    VMs with devices of the host cannot be moved while they run, and a cluster moves VMs only where its DRS does so by itself.
    """
    cluster = next((cluster for cluster in inventory.clusters if cluster.moid == host.cluster_moid), None)
    moves = migrate and cluster is not None and cluster.drs == "fullyAutomated"
    for vm in running:
        if is_agent(vm.name):
            continue
        what = f"{host.name}: must be empty, and VM {vm.name!r} ({vm.moid}) runs on it"
        if vm.mark is not None:
            yield f"{what}; it is ours, of plan {vm.mark.plan}: destroy it, or power it off, first"
        elif not migrate:
            yield f"{what}; have its owner move it or power it off"
        elif not moves:
            yield f"{what}; it cannot be moved by itself: DRS of the host's cluster is not fully automated"
        elif vm.devices:
            yield f"{what}; it cannot be moved while it runs: it has {len(vm.devices)} devices of the host"


def is_agent(name: str) -> bool:
    """Whether a VM is one of vCenter's own cluster agents, which it takes off a host in maintenance mode by itself."""
    return bool(_VCLS.match(name))


def busy(needs: Iterable[GpuNeed], changed: Collection[str | None], inventory: Inventory) -> Iterator[str]:
    """Iterate over the VMs that use GPUs which change while the rest of the host goes on, in words."""
    for one in needs:
        if one.gpu.pci_id in changed:
            yield from _users(one.gpu, one.host, inventory)


def _users(gpu: GpuInfo, host: str, inventory: Inventory) -> Iterator[str]:
    for moid in gpu.vms:
        vm = inventory.vm.get(moid)
        if vm is None or vm.powered_on:
            name = repr(vm.name) if vm else "of somebody else"
            yield f"{host}/gpu{gpu.index}: must be idle, and VM {name} ({moid}) uses it; power it off first"
