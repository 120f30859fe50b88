"""What no host of a fleet offers a workload, however empty it is: the first plain reason why a replica cannot be placed.

Read off the workload and the fleet, without a solve; None says nothing about whether the workload fits. This module must
not know plans, other workloads or engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from partitioner import catalog
from partitioner.fleet import Host
from partitioner.solver.options import HARDWARE_MODES, may_use
from partitioner.solver.problem import DemandClass, Kind, Problem
from partitioner.solver.supply import Supply
from partitioner.topology import RDMA_LEVELS, Level, Topology
from partitioner.workload import Workload

Reason = tuple[str, str]
"""Why, and the least that would change it."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A host with GPUs that a workload may use: for each profile (position, most instances) of the GPUs that offer it."""

    host: Host
    offers: dict[tuple[str, str, str], list[tuple[int, int]]]

    @property
    def gpus(self) -> set[int]:
        """Positions of the GPUs."""
        return {position for offered in self.offers.values() for position, _ in offered}


def obstacle(workload: Workload, problem: Problem, c: DemandClass, supply: Supply, host_failures: int) -> Reason | None:
    """Return why no host, or no more hosts, can take replicas of a workload that has options; None where that is not plain.

    Parameters
    ----------
    workload : the workload.
    problem, c : what the solver sees, and the workload's class there.
    supply : the GPUs.
    host_failures : hosts whose loss the layout survives.
    """
    if supply.fleet is None:
        return _too_few(workload.spread, workload.count, [], sum(kind.available or 0 for kind in supply.kinds), 0, supply)
    places = list(_places(problem, c, supply))
    return (
        _unlinked(workload, places)
        or _too_large(workload, c, places)
        or _too_hungry(workload, places)
        or _too_few(workload.spread, workload.count, places, sum(len(p.gpus) for p in places), host_failures, supply)
        or _alone(places, host_failures)
    )


def no_place(workload: Workload, supply: Supply) -> Reason | None:
    """Return which rule of a workload leaves no profile of the supply to it; None where none does."""
    placed = [kind for kind in supply.kinds if may_use(workload, kind.places)]
    if not placed:
        rule = f"only_on {', '.join(workload.only_on)}" if workload.only_on else f"never_on {', '.join(workload.never_on)}"
        return f"{rule} leaves no GPU that is free for it", "name another host or GPU"
    if workload.isolation == "hardware" and (shared := _time_sliced(workload, placed)):
        return (
            f"isolation 'hardware' allows MIG and whole GPUs only, and {shared}",
            "take isolation 'any', or what MIG or a whole GPU offers",
        )
    return None


def _time_sliced(workload: Workload, kinds: Sequence[Kind]) -> str:
    """Say where all that a workload might take is time-sliced; empty where it is not."""
    if workload.profile is not None:
        modes = {mode for kind in kinds for mode, _ in catalog.gpu(kind.model).find(workload.profile)}
        return f"{workload.profile!r} is a time-sliced vGPU" if modes and modes.isdisjoint(HARDWARE_MODES) else ""
    models = ", ".join(dict.fromkeys(kind.model for kind in kinds))
    hard = any(mode in HARDWARE_MODES for kind in kinds for mode in kind.modes)
    return "" if hard else f"{models} may be time-sliced only"


def _places(problem: Problem, c: DemandClass, supply: Supply) -> Iterator[_Place]:
    """Iterate over the hosts with GPUs on which a class has options."""
    assert supply.fleet is not None
    most: dict[int, int] = {}
    for column in problem.columns:
        for slot, n in column.slots:
            most[slot] = max(most.get(slot, 0), n)
    by_kind: dict[int, dict[tuple[str, str, str], int]] = {}
    for slot, profile in zip(c.options, c.profiles, strict=True):
        of = problem.slots[slot]
        by_kind.setdefault(of.kind, {})[problem.kinds[of.kind].model, of.mode, profile] = most.get(slot, 0)
    kind_of = {row: kind for kind in by_kind for row in supply.rows[kind].tolist()}
    first = 0
    for host in supply.fleet.hosts:
        offers: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        for position in range(len(host.gpus)):
            for key, n in by_kind.get(kind_of.get(first + position, -1), {}).items():
                offers.setdefault(key, []).append((position, n))
        first += len(host.gpus)
        if offers:
            yield _Place(host, offers)


def _unlinked(workload: Workload, places: Sequence[_Place]) -> Reason | None:
    """Say where no host has enough GPUs that are linked well, or nobody knows how they are linked."""
    linked = workload.gpu_link is not None and workload.gpus_per_replica > 1
    if not linked and not workload.rdma:
        return None
    rule = f"gpu_link {workload.gpu_link!r}" if linked else "rdma"
    known = [(place, place.host.links) for place in places if place.host.links is not None]
    if not known:
        return (
            f"{rule} looks at the links between GPUs, and no host that could take it has links",
            "give each Host its links, the text that `nvidia-smi topo -m` prints there",
        )
    if workload.rdma and not any(links.nics_beside(gpu) for place, links in known for gpu in place.gpus):
        return (
            f"rdma needs a NIC at {' or '.join(RDMA_LEVELS)} beside each GPU, and no GPU here has one in the links of its host",
            "drop rdma, or give links with the NICs",
        )
    level = workload.gpu_link if linked else None
    alike = {(links, frozenset(gpus)) for place, links in known for gpus in _of_one_profile(place)}
    if any(_has_group(workload, links, gpus, level) for links, gpus in alike):
        return None
    nics = " and a NIC beside each" if workload.rdma else ""
    link = f" linked by {workload.gpu_link} or better" if linked else ""
    return (
        f"no host with links has {workload.gpus_per_replica} GPUs of one model{link}{nics}",
        "take fewer GPUs for a replica, or allow a worse link" if linked else "take fewer GPUs for a replica",
    )


def _of_one_profile(place: _Place) -> Iterator[set[int]]:
    """Iterate over the GPUs of a host that offer the same profile."""
    for offered in place.offers.values():
        yield {position for position, n in offered if n}


def _has_group(workload: Workload, links: Topology, gpus: frozenset[int], level: Level | None) -> bool:
    size = workload.gpus_per_replica
    return len(gpus) >= size and any(gpus.issuperset(group) for group in links.groups(size, level, rdma=workload.rdma))


def _too_large(workload: Workload, c: DemandClass, places: Sequence[_Place]) -> Reason | None:
    """Say where a replica takes more equal profiles than any host offers."""
    if c.size == 1:
        return None
    single = c.linked or workload.spread == "gpu"
    best, host = max(
        ((sum(min(n, 1) if single else n for _, n in offered), p.host.name) for p in places for offered in p.offers.values()),
        default=(0, ""),
        key=lambda found: found[0],
    )
    if best >= c.size:
        return None
    what = "different GPUs" if single else "equal profiles"
    return (
        f"a replica takes {c.size} {what} in one host, and no host offers more than {best} (as {host} does)",
        f"take gpus_per_replica {best} or fewer, or add a larger host" if best > 1 else "take smaller profiles, or a larger host",
    )


def _too_hungry(workload: Workload, places: Sequence[_Place]) -> Reason | None:
    """Say where a replica takes more of a host, or of the NUMA node of its GPU, than any has."""
    for field, unit in (("vcpus", "vCPUs"), ("ram_gib", "GiB of memory")):
        needed = getattr(workload, field)
        if not needed or not places:
            continue
        rooms = [(_room(place, field, workload.gpus_per_replica), place.host.name) for place in places]
        most, name = max(rooms, key=lambda room: room[0])
        if most < needed:
            return (
                f"a replica takes {needed:,g} {unit}, and no host gives it more than {most:,g} (as {name} does)",
                f"lower {field}, or add a larger host",
            )
    return None


def _room(place: _Place, field: str, size: int) -> float:
    """Return the most that one replica gets on a host; it takes an equal part at each of its GPUs' nodes."""
    whole = getattr(place.host, field)
    nodes = [getattr(node, field) for node in place.host.numa if place.gpus & set(node.gpus)]
    largest = max((float("inf") if limit is None else limit for limit in nodes), default=float("inf"))
    return float(min(float("inf") if whole is None else whole, largest * size))


def _too_few(
    spread: str | None, count: int, places: Sequence[_Place], gpus: int, host_failures: int, supply: Supply
) -> Reason | None:
    """Say where replicas that never share are more than the places there are."""
    if spread == "host" and supply.fleet is not None and count > (there := max(0, len(places) - host_failures)):
        less = f", one of {len(places):,} being kept for a failure" if host_failures else ""
        return f"spread 'host' puts one replica on a host; {count:,} are wanted on {there:,} host{'s' * (there != 1)}{less}", (
            f"ask for {there:,}, drop spread, or add {count - there:,} host" + "s" * (count - there > 1)
        )
    if spread == "gpu" and gpus and count > gpus:
        return f"spread 'gpu' puts one replica on a GPU; {count:,} are wanted on {gpus:,} GPU{'s' * (gpus != 1)}", (
            f"ask for {gpus:,}, drop spread, or add {count - gpus:,} GPU" + "s" * (count - gpus > 1)
        )
    return None


def _alone(places: Sequence[_Place], host_failures: int) -> Reason | None:
    """Say where there is no other host to go to when the only one fails."""
    if not host_failures or len(places) != 1:
        return None
    return (
        f"it can run on {places[0].host.name} only, so nothing is left for it when that host fails",
        "add a host that can take it, allow it on others, or plan with host_failures 0",
    )
