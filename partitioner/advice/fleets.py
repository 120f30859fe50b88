"""Fleets with a GPU or a host more or less. Values in, values out; must not know what is planned on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from partitioner.fleet import Fleet, Gpu, Host
from partitioner.layout import gpu_label
from partitioner.topology import LEVELS, Topology
from partitioner.workload import Workload


def change_hosts(fleet: Fleet, change: Callable[[Host], Host]) -> Fleet:
    """Return a fleet with every host changed; equal hosts are changed once."""
    return Fleet(tuple(change(host) for host in fleet.hosts))


def change_gpus(fleet: Fleet, change: Callable[[Gpu], Gpu]) -> Fleet:
    """Return a fleet with every GPU changed; equal GPUs are changed once."""
    known: dict[Gpu, Gpu] = {}
    for _, _, gpu in fleet:
        if gpu not in known:
            known[gpu] = change(gpu)
    if all(gpu == changed for gpu, changed in known.items()):
        return fleet
    return change_hosts(fleet, lambda host: replace(host, gpus=tuple(known[gpu] for gpu in host.gpus)))


def models_of(fleet: Fleet) -> tuple[str, ...]:
    """Return the GPU models of a fleet, in order of first appearance."""
    return tuple(dict.fromkeys(gpu.model for _, _, gpu in fleet))


def richest(fleet: Fleet, model: str) -> Host:
    """Return the first host with the most GPUs of a model."""
    return max(fleet.hosts, key=lambda host: sum(gpu.model == model for gpu in host.gpus))


def with_gpus(fleet: Fleet, model: str, count: int) -> Fleet:
    """Return a fleet with more GPUs of a model, on the host that has the most of it.

    Parameters
    ----------
    fleet : the fleet.
    model : a model it has.
    count : GPUs more; each is a copy of the host's last GPU of the model, without its instances, in its NUMA node and
        linked as it is.
    """
    host = richest(fleet, model)
    source = max(index for index, gpu in enumerate(host.gpus) if gpu.model == model)
    gpus = (*host.gpus, *(replace(host.gpus[source], instances=()),) * count)
    added = tuple(range(len(host.gpus), len(gpus)))
    numa = tuple(replace(node, gpus=(*node.gpus, *added)) if source in node.gpus else node for node in host.numa)
    links = host.links and _with_copies(host.links, source, count)
    grown = replace(host, gpus=gpus, numa=numa, links=links)
    return Fleet(tuple(grown if there is host else there for there in fleet.hosts))


def _with_copies(links: Topology, source: int, count: int) -> Topology:
    """Return links with copies of a GPU, which reach it and each other by the worst link that it has."""
    rows = [list(row) for row in links.gpu_links]
    worst = max((link for link in rows[source] if link != "X"), key=_badness, default="SYS")
    for _ in range(count):
        row = [worst if link == "X" else link for link in rows[source]]
        for other, link in zip(rows, row, strict=True):
            other.append(link)
        rows.append([*row, "X"])
    nics = tuple((name, (*row, *(row[source],) * count)) for name, row in links.nics)
    near = links.numa_affinity and (*links.numa_affinity, *(links.numa_affinity[source],) * count)
    return Topology(tuple(map(tuple, rows)), nics, near)


def _badness(link: str) -> tuple[int, int]:
    """Order links, the worst last: any NVLink before PCIe, of NVLinks the one with more lanes first."""
    if link.startswith("NV"):
        return 0, -int(link[2:])
    return LEVELS.index(link), 0


def without_gpu(fleet: Fleet, host: str, index: int) -> Fleet | None:
    """Return a fleet without one GPU, and without its host where that was its only one; None where nothing is left."""
    hosts = []
    for there in fleet.hosts:
        if there.name != host:
            hosts.append(there)
        elif len(there.gpus) > 1:
            hosts.append(_host_without(there, index))
    return Fleet(tuple(hosts)) if hosts else None


def _host_without(host: Host, index: int) -> Host:
    kept = [at for at in range(len(host.gpus)) if at != index]
    numa = tuple(replace(node, gpus=tuple(kept.index(gpu) for gpu in node.gpus if gpu != index)) for node in host.numa)
    links = host.links
    if links is not None:
        rows = tuple(tuple(links.gpu_links[a][b] for b in kept) for a in kept)
        nics = tuple((name, tuple(row[at] for at in kept)) for name, row in links.nics)
        near = links.numa_affinity and tuple(links.numa_affinity[at] for at in kept)
        links = Topology(rows, nics, near)
    return replace(host, gpus=tuple(host.gpus[at] for at in kept), numa=numa, links=links)


def pins_without(workloads: Sequence[Workload], fleet: Fleet, host: str, index: int) -> tuple[Workload, ...] | None:
    """Return workloads with the names of GPUs behind a removed one moved up; None where a workload may run there alone.

    Parameters
    ----------
    workloads : what has to run.
    fleet : the fleet before the GPU was removed.
    host, index : the removed GPU.
    """
    size = next(len(there.gpus) for there in fleet.hosts if there.name == host)
    gone = {gpu_label(host, index)} | ({host} if size == 1 else set())
    moved = {gpu_label(host, at): gpu_label(host, at - 1) for at in range(index + 1, size)}
    if not any(name in gone or name in moved for w in workloads for name in (*w.only_on, *w.never_on)):
        return tuple(workloads)
    result = []
    for workload in workloads:
        only, never = (
            tuple(moved.get(name, name) for name in names if name not in gone) for names in (workload.only_on, workload.never_on)
        )
        if workload.only_on and not only:
            return None
        result.append(replace(workload, only_on=only, never_on=never))
    return tuple(result)


def with_hosts(fleet: Fleet, host: Host, count: int) -> Fleet:
    """Return a fleet with more hosts like one of its own, without existing instances."""
    taken = {there.name for there in fleet.hosts}
    like = replace(host, gpus=tuple(replace(gpu, instances=()) for gpu in host.gpus))
    added: list[Host] = []
    number = 1
    while len(added) < count:
        name = f"{host.name}+{number}"
        if name not in taken:
            added.append(replace(like, name=name))
        number += 1
    return Fleet((*fleet.hosts, *added))
