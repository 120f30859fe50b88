"""From a plan to virtual machines. Pure: the plan, the defaults and, where given, the hosts decide everything.

Must not know pyVmomi, nor what exists already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from partitioner.errors import Problem, SpecError
from partitioner.layout import Assignment
from partitioner.workload import Workload
from vsphere.machine.defaults import VmDefaults
from vsphere.machine.devices import devices_for, memory_mib, mmio_for
from vsphere.machine.identity import instance_uuid, plan_id
from vsphere.machine.limits import violation
from vsphere.machine.nics import nics_for
from vsphere.machine.vm import Vm, check_name

if TYPE_CHECKING:
    from partitioner.plans import Plan
    from vsphere.values import HostInfo, Inventory

_MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What one machine is made of: a workload, its replicas in it, and where each of their profiles stands."""

    workload: Workload
    replicas: tuple[int, ...]
    places: tuple[Assignment, ...]
    number: int

    @property
    def host(self) -> str | None:
        """The host of all its replicas."""
        return self.places[0].host


def layout_vms(plan: Plan, defaults: VmDefaults | None = None, *, hosts: Inventory | Iterable[HostInfo] = ()) -> tuple[Vm, ...]:
    """Return the virtual machines that realise a plan: one for each replica, or several replicas in one by `per_vm`.

    A replica that takes k profiles gets one machine with k GPU devices.

    Parameters
    ----------
    plan : the plan.
    defaults : what the machines are like; None takes `VmDefaults()`.
    hosts : the hosts of the plan as the inventory knows them. With them the names of vGPU types are those that each host
        offers, devices are given by address, and the limits of each host's version hold; without them the catalogue's
        usual names and `defaults.esxi` do.

    Returns
    -------
    Machines in the plan's order, GPU after GPU.

    Raises
    ------
    SpecError
        A machine cannot be made as wanted; all that is wrong is said at once: a name is not valid or stands twice, a type is
        not offered, more vGPUs than the version takes, no address for a whole GPU, no adapter for RDMA, or a host unknown.

    Examples
    --------
    >>> from partitioner import plan_mig
    >>> [(vm.name, vm.vgpus) for vm in layout_vms(plan_mig({"4g.40gb": 1, "2g.20gb": 1}, gpu="A100-80GB"))]
    [('gpu-4g.40gb-0', ('grid_a100d-4-40c',)), ('gpu-2g.20gb-0', ('grid_a100d-2-20c',))]
    """
    defaults = defaults or VmDefaults()
    known = _hosts(hosts)
    identity = defaults.plan or plan_id(plan)
    models = {(gpu.host, gpu.gpu): gpu.model for gpu in plan.layout if gpu.slots}
    vms: list[Vm] = []
    problems: list[Problem] = []
    taken_nics: dict[str, list[str]] = {}
    for tenancy in _tenancies(plan, defaults):
        try:
            vms.append(_vm(tenancy, identity, defaults, known, models, taken_nics))
        except SpecError as error:
            who = f"workload {tenancy.workload.name!r}, replica {', '.join(map(str, tenancy.replicas))}"
            problems += [Problem(problem.message, field=problem.field or who) for problem in error.problems]
    for position, message, field in check_names(vms):
        who = f"workload {vms[position].workload!r}, replica {vms[position].replicas[0]}"
        hint = "; put {workload} and {replica} into the pattern" if field == "name" else ""
        problems.append(Problem(message + hint, field=who))
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        raise SpecError([*problems[:_MAX_PROBLEMS], *([Problem(f"and {more} more problems")] if more > 0 else [])])
    return tuple(vms)


def power_on_order(vms: Iterable[Vm]) -> tuple[Vm, ...]:
    """Return machines in the order in which switching them on realises the plan's packing: host by host, large profiles first.

    vSphere makes MIG instances when a machine is switched on and fills GPUs by its policy; only when the large ones go first is
    there still room for them. Within one size the plan's GPU and start decide.
    """
    return tuple(sorted(vms, key=lambda vm: (vm.host or "", -_size(vm), _first_place(vm), vm.name)))


def _size(vm: Vm) -> int:
    """Return the largest memory that one device of a machine takes; whole GPUs take all [MiB]."""
    return max(memory_mib(device) for device in vm.devices)


def _first_place(vm: Vm) -> tuple[int, int]:
    places = [(device.place.gpu, device.place.start) for device in vm.devices if device.place is not None]
    return min(places, default=(0, 0))


def _hosts(hosts: Inventory | Iterable[HostInfo]) -> dict[str, HostInfo]:
    from vsphere.values import Inventory

    return {host.name: host for host in (hosts.hosts if isinstance(hosts, Inventory) else hosts)}


def _tenancies(plan: Plan, defaults: VmDefaults) -> Iterator[Tenancy]:
    """Iterate over what each machine holds, in the plan's order."""
    by_replica: dict[tuple[str, int], list[Assignment]] = {}
    for assignment in plan.assignments():
        by_replica.setdefault((assignment.workload, assignment.replica), []).append(assignment)
    workloads = {workload.name: workload for workload in plan.workloads}
    open_vms: dict[tuple[str, str | None], list[tuple[int, list[Assignment]]]] = {}
    ready: list[tuple[Workload, list[tuple[int, list[Assignment]]]]] = []
    for (name, replica), places in by_replica.items():
        group = open_vms.get((name, places[0].host))
        if group is None or len(group) >= defaults.replicas_per_vm(name):
            group = open_vms[name, places[0].host] = []
            ready.append((workloads[name], group))
        group.append((replica, places))
    numbers: Counter[str] = Counter()
    for workload, group in ready:
        replicas = tuple(sorted(replica for replica, _ in group))
        yield Tenancy(workload, replicas, tuple(place for _, places in group for place in places), numbers[workload.name])
        numbers[workload.name] += 1


def _vm(
    tenancy: Tenancy,
    identity: str,
    defaults: VmDefaults,
    hosts: Mapping[str, HostInfo],
    models: Mapping[tuple[str | None, int], str],
    taken_nics: dict[str, list[str]],
) -> Vm:
    workload, host_name = tenancy.workload, tenancy.host or defaults.host
    host = _host(host_name, hosts)
    devices = devices_for(tenancy.places, models, defaults, host)
    reason = violation(
        [device.vgpu for device in devices if device.vgpu], host.version if host and host.version else defaults.esxi
    )
    if reason:
        raise SpecError(f"{reason}; use fewer replicas per machine (per_vm)")
    nics = nics_for(workload, devices, defaults, host_name, host, taken_nics)
    copies = len(tenancy.replicas)
    return Vm(
        name=_name(tenancy, identity, defaults, host_name),
        plan=identity,
        workload=workload.name,
        replicas=tenancy.replicas,
        instance_uuid=instance_uuid(identity, workload.name, tenancy.replicas),
        devices=devices,
        host=host_name,
        cluster=host.cluster if host else defaults.cluster,
        datacenter=defaults.datacenter or (host.datacenter if host and host.datacenter else None),
        folder=defaults.folder,
        datastore=defaults.datastore or _only_datastore(host, defaults),
        nics=nics,
        template=defaults.template,
        guest_id=defaults.guest_id,
        vcpus=(workload.vcpus or defaults.vcpus) * copies,
        cores_per_socket=defaults.cores_per_socket,
        ram_gib=(workload.ram_gib or defaults.ram_gib) * copies,
        hardware_version=defaults.hardware_version,
        disk_gib=defaults.disk_gib,
        firmware=defaults.firmware,
        mmio_size_gb=mmio_for(tenancy.places, devices, models, defaults),
        allow_p2p=defaults.allow_p2p or workload.rdma,
        relax_acs=workload.rdma,
        latency=defaults.latency,
        cores_per_numa_node=defaults.cores_per_numa_node,
        rule=defaults.rule if host_name is not None else "none",
        options=defaults.options,
        guest=defaults.guest,
        power_on=defaults.power_on,
    )


def _only_datastore(host: HostInfo | None, defaults: VmDefaults) -> str | None:
    """Return the datastore of a host that reaches one only; a machine from a template may leave its own to that."""
    if host is None or defaults.template is not None or not host.datastores:
        return None
    if len(host.datastores) > 1:
        raise SpecError(
            f"host {host.name!r} reaches datastores {', '.join(host.datastores)}; name one for its machines (datastore)"
        )
    return host.datastores[0]


def _host(name: str | None, hosts: Mapping[str, HostInfo]) -> HostInfo | None:
    if name is None or not hosts:
        return None
    if name not in hosts:
        raise SpecError(f"host {name!r} is not in the inventory; its hosts are {', '.join(list(hosts)[:12])}")
    return hosts[name]


def _name(tenancy: Tenancy, identity: str, defaults: VmDefaults, host: str | None) -> str:
    name = defaults.name.format(
        plan=identity,
        workload=_plain(tenancy.workload.name),
        replica=_Numbers(_ends(tenancy.replicas)),
        host=(host or "").split(".")[0],
        number=tenancy.number,
    )
    try:
        return check_name(name)
    except ValueError as error:
        raise SpecError(f"{error} (pattern {defaults.name!r})") from None


class _Numbers(tuple[int, ...]):
    """Numbers that a pattern writes with dashes between them, each with the digits that it asks for."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "-".join(format(number, spec) for number in self)


def _plain(text: str) -> str:
    """Return a workload's name without characters that names of machines must not have."""
    return re.sub(r"[^\w.-]+", "-", text)


def _ends(replicas: Sequence[int]) -> Sequence[int]:
    """Return the first and the last of consecutive replicas, and all of others."""
    return (replicas[0], replicas[-1]) if replicas[-1] - replicas[0] == len(replicas) - 1 > 0 else replicas


def check_names(vms: Sequence[Vm]) -> Iterator[tuple[int, str, str]]:
    """Iterate over (position, message, field) of machines whose name, identity or replica another one has already.

    vCenter compares names in a folder without case.
    """
    seen: dict[tuple[str, object], int] = {}
    for position, vm in enumerate(vms):
        keys: list[tuple[str, object, str]] = [
            ("name", (vm.datacenter, vm.folder, vm.name.casefold()), f"name {vm.name!r}"),
            ("instance_uuid", vm.instance_uuid, f"instance_uuid {vm.instance_uuid}"),
        ]
        keys += [("replicas", (vm.plan, vm.workload, number), f"{vm.workload}/{number}") for number in vm.replicas]
        for field, key, words in keys:
            first = seen.setdefault((field, key), position)
            if first != position:
                other = vms[first]
                yield (
                    position,
                    f"{words} is that of {other.name!r} ({other.workload}/{other.replicas[0]}) too; each stands once",
                    field,
                )
                break
