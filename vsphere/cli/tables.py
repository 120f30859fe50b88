"""Rows in columns, and what the commands show of hosts and machines. Must not know where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from vsphere.cli.terminal import printable

if TYPE_CHECKING:
    from vsphere.machine import Vm
    from vsphere.values import GpuInfo, HostInfo, Inventory, VmInfo


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Return rows in columns; nothing is cut, however narrow the terminal is.

    Examples
    --------
    >>> print(columns([("VM", "host"), ("chat-0", "esx-01")]))
    VM      host
    chat-0  esx-01
    """
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def vm_rows(vms: Iterable[Vm]) -> Iterator[tuple[str, ...]]:
    """Iterate over the rows of machines that shall be, with their head."""
    yield "VM", "host", "GPUs", "on", "vCPU", "RAM", "MMIO", "runs"
    for vm in vms:
        devices = ", ".join(device.vgpu or device.fixed or f"any {'/'.join(device.dynamic)}" for device in vm.devices)
        places = ", ".join(
            f"gpu{place.gpu} {place.profile}@{place.start}" for device in vm.devices if (place := device.place) is not None
        )
        runs = ", ".join(f"{vm.workload}/{replica}" for replica in vm.replicas)
        address_space = "-" if vm.mmio_size_gb is None else f"{vm.mmio_size_gb} GB"
        yield vm.name, vm.host or "any", devices, places or "-", str(vm.vcpus), f"{vm.ram_gib:g} GiB", address_space, runs


def gpu_rows(inventory: Inventory) -> Iterator[tuple[str, ...]]:
    """Iterate over the rows of all GPUs, with their head; hosts without one have a row too."""
    yield "host", "GPU", "model", "PCI", "mode", "NUMA", "state", "used by"
    for host in inventory.hosts:
        for gpu in host.gpus:
            node = "-" if gpu.numa_node is None else str(gpu.numa_node)
            users = ", ".join(_user(inventory, moid) for moid in gpu.vms) or "-"
            yield host.name, f"gpu{gpu.index}", gpu.model or gpu.name or "?", gpu.pci_id, _mode(gpu), node, _state(host), users
        if not host.gpus:
            yield host.name, "-", "-", "-", "-", "-", _state(host), "-"


def _mode(gpu: GpuInfo) -> str:
    if gpu.mode is not None:
        return gpu.mode
    return f"not prepared ({gpu.graphics_type})" if gpu.graphics_type else "-"


def _state(host: HostInfo) -> str:
    if not host.connected:
        return "not connected"
    return "maintenance" if host.in_maintenance else "ready"


def _user(inventory: Inventory, moid: str) -> str:
    vm = inventory.vm.get(moid)
    return moid if vm is None else vm.name if vm.mark is not None else f"{vm.name} (not ours)"


def power(vm: VmInfo) -> str:
    """Return a machine's state in one word."""
    if vm.connection != "connected":
        return vm.connection
    return "on" if vm.powered_on else "suspended" if vm.suspended else "off"
