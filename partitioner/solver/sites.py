"""Where GPUs stand, as far as a plan has to tell them apart: hosts with their limits, or single GPUs.

A *site* is one host, or one GPU where no rule looks at hosts; sites that are alike are counted together. This module must
not know how a plan is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from partitioner.fleet import Fleet, Host
from partitioner.solver.problem import Problem, exact
from partitioner.solver.stages import LOCATED
from partitioner.solver.supply import Supply
from partitioner.topology import Topology


@dataclass(frozen=True, slots=True)
class Limits:
    """What a host or a NUMA node has to share out; None where nothing limits."""

    vcpus: int | None = None
    ram_gib: Fraction | None = None
    max_vms: int | None = None

    @property
    def binding(self) -> bool:
        """Whether anything limits."""
        return (self.vcpus, self.ram_gib, self.max_vms) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Site:
    """A host or a GPU, and those that are like it.

    Parameters
    ----------
    gpus : kind and NUMA node of each GPU.
    host, nodes : limits of the host, and of each NUMA node.
    topology : links between its GPUs, where they are known.
    in_use : GPUs that existing instances keep in use.
    members : for each site that is alike the rows of its GPUs in the fleet; empty where as many as needed are to be had.
    """

    gpus: tuple[tuple[int, int], ...]
    host: Limits = Limits()
    nodes: tuple[Limits, ...] = (Limits(),)
    topology: Topology | None = None
    in_use: int = 0
    members: tuple[tuple[int, ...], ...] = ()

    @property
    def count(self) -> int | None:
        """How many there are; None: as many as needed."""
        return len(self.members) or None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a plan has to tell apart.

    Parameters
    ----------
    hosts : whether some rule, limit or stage of the objective looks at hosts.
    gpus : whether some rule looks at single GPUs.
    """

    hosts: bool
    gpus: bool

    @property
    def located(self) -> bool:
        """Whether counting configurations is not enough."""
        return self.hosts or self.gpus


def rules_of(problem: Problem, fleet: Fleet | None, objective: Sequence[str], host_failures: int) -> Rules:
    """Return what a plan has to tell apart."""
    levels = {level for c in problem.classes for level in c.needs.levels}
    jobs = any(c.size > 1 or c.needs.link or c.needs.rdma for c in problem.classes)
    hosts = "host" in levels or jobs or host_failures > 0 or any(stage in LOCATED for stage in objective)
    return Rules(hosts or _limited(problem, fleet), "gpu" in levels)


def _limited(problem: Problem, fleet: Fleet | None) -> bool:
    if fleet is None:
        return False
    takes_vcpus = any(c.needs.vcpus for c in problem.classes)
    takes_ram = any(c.needs.ram_gib for c in problem.classes)
    return any(
        host.max_vms is not None
        or (takes_vcpus and (host.vcpus is not None or any(node.vcpus is not None for node in host.numa)))
        or (takes_ram and (host.ram_gib is not None or any(node.ram_gib is not None for node in host.numa)))
        for host in fleet.hosts
    )


def sites_of(problem: Problem, supply: Supply, rules: Rules) -> tuple[Site, ...]:
    """Return the sites of a supply with GPUs that some class may use, those that are alike together."""
    wanted = {problem.slots[slot].kind for c in problem.classes for slot in c.options}
    if not rules.hosts:
        return tuple(
            Site(((kind, 0),), members=tuple((row,) for row in supply.rows[kind].tolist()))
            for kind in sorted(wanted)
            if problem.kinds[kind].available != 0
        )
    assert supply.fleet is not None
    kind_of = np.zeros(len(supply.fleet), dtype=np.int64)
    for kind, rows in enumerate(supply.rows):
        kind_of[rows] = kind
    kinds = kind_of.tolist()
    in_use = tuple(bool(kind.kept) for kind in supply.kinds)
    found: dict[Site, list[tuple[int, ...]]] = {}
    first = 0
    for host in supply.fleet.hosts:
        end = first + len(host.gpus)
        if wanted & set(kinds[first:end]):
            found.setdefault(_site(host, kinds[first:end], in_use), []).append(tuple(range(first, end)))
        first = end
    return tuple(replace(site, members=tuple(members)) for site, members in found.items())


def _site(host: Host, kinds: Sequence[int], in_use: Sequence[bool]) -> Site:
    node_of = {gpu: number for number, node in enumerate(host.numa) for gpu in node.gpus}
    nodes = tuple(Limits(node.vcpus, _gib(node.ram_gib)) for node in host.numa) or (Limits(),)
    gpus = tuple((kind, node_of.get(position, 0)) for position, kind in enumerate(kinds))
    limits = Limits(host.vcpus, _gib(host.ram_gib), host.max_vms)
    return Site(gpus, limits, nodes, host.links, sum(in_use[kind] for kind in kinds))


def _gib(number: float | None) -> Fraction | None:
    return None if number is None else exact(number)
