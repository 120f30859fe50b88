"""Which network adapters a machine gets: a virtual one, and for RDMA a physical one beside each GPU. Must not know pyVmomi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from partitioner.errors import SpecError
from partitioner.workload import Workload
from vsphere.machine.defaults import VmDefaults
from vsphere.machine.vm import Device, Nic

if TYPE_CHECKING:
    from vsphere.values import HostInfo, NicInfo


def nics_for(
    workload: Workload,
    devices: Sequence[Device],
    defaults: VmDefaults,
    host_name: str | None,
    host: HostInfo | None,
    taken: dict[str, list[str]],
) -> tuple[Nic, ...]:
    """Return the adapters of one machine.

    Parameters
    ----------
    workload, devices : whose machine it is, and its GPUs.
    defaults : `network`, `rdma`, `rdma_network` and `rdma_nics`.
    host_name, host : where it runs, and what is known of that.
    taken : host to the adapters given already; what is given here is added. A virtual function counts as one.

    Raises
    ------
    SpecError
        RDMA is asked for and cannot be given: it is not set up, the host is open, or it has no adapter left.
    """
    found = [Nic(network=defaults.network)] if defaults.network is not None and defaults.template is None else []
    if not workload.rdma:
        return tuple(found)
    if defaults.rdma is None:
        raise SpecError("asks for RDMA, but the defaults do not say how; set rdma to 'fixed' or 'sriov'")
    if host_name is None:
        raise SpecError("asks for RDMA, whose adapters are of one host, but the plan names no hosts; plan with a fleet")
    for device in devices:
        address, node = _adapter(device, defaults, host_name, host, taken)
        wanted = node if defaults.numa else None
        if defaults.rdma == "fixed":
            found.append(Nic(fixed=address, numa_node=wanted))
        else:
            found.append(Nic(network=defaults.rdma_network, sriov=address, numa_node=wanted))
    return tuple(found)


def _adapter(
    device: Device, defaults: VmDefaults, host_name: str, host: HostInfo | None, taken: dict[str, list[str]]
) -> tuple[str, int | None]:
    """Return address and NUMA node of an adapter that is free, one on the GPU's NUMA node before others."""
    given = taken.setdefault(host_name, [])
    infos = {nic.pci_id: nic for nic in (host.nics if host else ())}
    named = dict(defaults.rdma_nics).get(host_name)
    if named is None:
        named = tuple(
            nic.pci_id for nic in infos.values() if (nic.sriov_vfs if defaults.rdma == "sriov" else nic.passthrough_enabled)
        )
    free = [address for address in named if given.count(address) < _most(infos.get(address), defaults)]
    if not free:
        what = "virtual function" if defaults.rdma == "sriov" else "adapter for passthrough"
        raise SpecError(
            f"asks for RDMA, but host {host_name!r} has no {what} left ({len(given)} given);"
            " name adapters in rdma_nics, or enable them on the host"
        )
    node = _node_of(device, host)
    nodes = {address: infos[address].numa_node if address in infos else None for address in free}
    best = min(free, key=lambda address: (node is not None and nodes[address] != node, given.count(address)))
    given.append(best)
    return best, nodes[best]


def _most(nic: NicInfo | None, defaults: VmDefaults) -> int:
    """Return how many machines an adapter serves."""
    if defaults.rdma == "fixed":
        return 1
    return nic.sriov_vfs if nic is not None and nic.sriov_vfs else 1 << 16


def _node_of(device: Device, host: HostInfo | None) -> int | None:
    if host is None or device.place is None or device.place.gpu >= len(host.gpus):
        return device.numa_node
    return host.gpus[device.place.gpu].numa_node
