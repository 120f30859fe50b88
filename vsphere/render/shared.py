"""What the scripts of all tools share: paths in the inventory, and the refusal of what a tool cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from partitioner.errors import Problem, SpecError
from vsphere.machine.vm import Vm

Lack = tuple[str, Callable[[Vm], bool]]
"""What a tool cannot do, in words, and whether a machine needs it."""

NUMA_NODE: Lack = (
    "ask for a device's NUMA node",
    lambda vm: any(d.numa_node is not None for d in vm.devices) or any(n.numa_node is not None for n in vm.nics),
)
VIRTUAL_NUMA: Lack = ("set the virtual NUMA topology", lambda vm: vm.cores_per_numa_node is not None)
DYNAMIC: Lack = ("give a GPU by Dynamic DirectPath I/O", lambda vm: any(device.dynamic for device in vm.devices))
FIXED: Lack = (
    "give a device by its address",
    lambda vm: any(device.fixed for device in vm.devices) or any(nic.fixed for nic in vm.nics),
)
SRIOV: Lack = ("choose the adapter of a virtual function", lambda vm: any(nic.sriov for nic in vm.nics))
LATENCY: Lack = ("set the latency sensitivity", lambda vm: vm.latency != "normal")
DATASTORE: Lack = ("place a machine without a datastore", lambda vm: vm.datastore is None)
PLACE: Lack = ("place a machine without a host or cluster", lambda vm: vm.host is None and vm.cluster is None)

_MAX_PROBLEMS = 20


def refuse(tool: str, vms: Iterable[Vm], lacks: Iterable[Lack]) -> None:
    """Refuse machines that need what a tool lacks, all at once.

    Raises
    ------
    SpecError
        One does.
    """
    listed = tuple(lacks)
    found = [
        Problem(
            f"{tool} cannot {words}; apply it with `partitioner vsphere apply`, or change the machine", field=f"VM {vm.name!r}"
        )
        for vm in vms
        for words, needs in listed
        if needs(vm)
    ]
    if found:
        more = len(found) - _MAX_PROBLEMS
        raise SpecError([*found[:_MAX_PROBLEMS], *([Problem(f"and {more} more problems")] if more > 0 else [])])


def folders(path: str) -> tuple[str, ...]:
    """Return the folders on the way to a folder, outermost first.

    Examples
    --------
    >>> folders("gpu/chat")
    ('gpu', 'gpu/chat')
    """
    parts = [part for part in path.split("/") if part]
    return tuple("/".join(parts[: number + 1]) for number in range(len(parts)))


def first_line(text: str) -> str:
    """Return a text fit for a comment: one line, whatever it holds."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
