"""Replica after replica on the first site that has room: always there when time is short. Carries no proof.

Every rule and limit within a site is kept; plans that survive a host are left to others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from partitioner.solver.arrangement import Arrangement, Filled, unproven
from partitioner.solver.located import Contents, profile_of, units_of
from partitioner.solver.problem import Column, DemandClass, Problem
from partitioner.solver.sites import Limits, Site

CERTIFICATE = "first fit (bound by branch and bound)"
_Place = tuple[int, int]
"""Position of a GPU in its site, and slot."""


@dataclass(slots=True)
class _Gpu:
    """One GPU: its kind, who stands on it, as (class, slot), the columns that may be, and slots that are full for good."""

    kind: int
    columns: Sequence[tuple[int, Column]]
    held: list[_Place] = field(default_factory=list)
    full: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Host:
    """One site in use: its GPUs, what it has given away, and the classes on it."""

    site: int
    copy: int
    gpus: list[_Gpu]
    given: dict[int, list[Fraction]]  # NUMA node, -1 for the host, to vCPUs, memory and VMs
    groups: dict[tuple[int, tuple[_Place, ...]], int] = field(default_factory=dict)
    classes: set[int] = field(default_factory=set)


class _Filler:
    """Fills sites one after another."""

    def __init__(self, problem: Problem, sites: Sequence[Site]) -> None:
        self.problem, self.sites = problem, sites
        self.hosts: list[_Host] = []
        self._needs = [[Fraction(c.needs.vcpus), c.needs.ram_gib, Fraction(1)] for c in problem.classes]
        self._limited = [site.host.binding or any(node.binding for node in site.nodes) for site in sites]
        self._profiles = [self._by_profile(number) for number in range(len(problem.classes))]
        self._fresh = self._all_sites()
        self._apart: dict[int, set[tuple[int, str]]] = {n: set(c.needs.apart) for n, c in enumerate(problem.classes)}
        for number, c in enumerate(problem.classes):
            for other, level in c.needs.apart:
                self._apart[other].add((number, level))

    def _all_sites(self) -> Iterator[_Host]:
        for number, site in enumerate(self.sites):
            copies = range(site.count) if site.count is not None else iter(int, 1)
            for copy, _ in enumerate(copies):
                gpus = [_Gpu(kind, self.problem.columns_of_kind.get(kind, [])) for kind, _ in site.gpus]
                yield _Host(number, copy, gpus, {node: [Fraction(0)] * 3 for node in (-1, *range(len(site.nodes)))})

    def place(self, number: int) -> int:
        """Place the replicas of a class, or a service whole or not at all; return how many are placed."""
        c = self.problem.classes[number]
        gained = placed = 0
        done: list[tuple[_Host, tuple[_Place, ...]]] = []
        at = 0
        while gained < c.goal:
            host = self._host(at)
            if host is None:
                break
            places = self._fit(host, number, c)
            if places is None:
                at += 1
                continue
            self._take(host, number, c, places)
            done.append((host, places))
            gained += sum(c.gain(slot) for _, slot in places)
            placed += 1
        if c.yields:
            if gained < c.goal:
                for host, places in done:
                    self._give_back(host, number, c, places)
                return 0
            return 1
        return placed

    def _by_profile(self, number: int) -> list[list[int]]:
        """Return the slots of each profile a class may take, those first that give most for their memory."""
        c = self.problem.classes[number]
        profiles: dict[tuple[str, str, str], list[int]] = {}
        for slot in sorted(c.options, key=lambda slot: -c.gain(slot) / max(1, self.problem.slots[slot].cost)):
            profiles.setdefault(profile_of(self.problem, number, slot), []).append(slot)
        return list(profiles.values())

    def _host(self, at: int) -> _Host | None:
        while len(self.hosts) <= at:
            fresh = next(self._fresh, None)
            if fresh is None:
                return None
            self.hosts.append(fresh)
        return self.hosts[at]

    # -- whether a replica fits ------------------------------------------------------------------------------------

    def _fit(self, host: _Host, number: int, c: DemandClass) -> tuple[_Place, ...] | None:
        """Return where one replica fits on a site, None where it does not."""
        needs = c.needs
        if not self._within(host, number, ()) or not self._welcome(number, "host", host.classes):
            return None
        topology = self.sites[host.site].topology
        if c.linked:
            if topology is None:
                return None
            ways: Iterable[tuple[int, ...]] = topology.groups(c.size, needs.link, rdma=needs.rdma)
            for gpus in ways:
                places = self._equal(host, number, [(gpu,) for gpu in gpus])
                if places is not None:
                    return places
            return None
        return self._equal(host, number, [tuple(range(len(host.gpus)))] * c.size)

    def _equal(self, host: _Host, number: int, choices: Sequence[tuple[int, ...]]) -> tuple[_Place, ...] | None:
        """Return places of one profile, each on one of the GPUs to choose from, within the limits of the site."""
        for slots in self._profiles[number]:
            places: list[_Place] = []
            for gpus in choices:
                place = next(
                    (p for gpu in gpus for slot in slots for p in ((gpu, slot),) if self._room(host, number, p, places)), None
                )
                if place is None:
                    break
                places.append(place)
            if len(places) == len(choices) and self._within(host, number, places):
                return tuple(places)
        return None

    def _room(self, host: _Host, number: int, place: _Place, chosen: Sequence[_Place]) -> bool:
        """Whether one more instance may stand on a GPU."""
        position, slot = place
        gpu = host.gpus[position]
        if slot in gpu.full or self.problem.slots[slot].kind != gpu.kind:
            return False
        needs = self.problem.classes[number].needs
        if not chosen and not gpu.held and not needs.together:
            return True  # a slot that some class wants fits on an empty GPU
        held = [*gpu.held, *((number, s) for p, s in chosen if p == position)]
        if not self._welcome(number, "gpu", {who for who, _ in held}):
            return False
        wanted: dict[int, int] = {slot: 1}
        for _, s in held:
            wanted[s] = wanted.get(s, 0) + 1
        if any(_holds(column, wanted) for _, column in gpu.columns):
            return True
        if not chosen:
            gpu.full.add(slot)
        return False

    def _welcome(self, number: int, level: str, there: Collection[int]) -> bool:
        """Whether the rules between neighbours allow one more instance beside the classes on a host or GPU."""
        needs = self.problem.classes[number].needs
        return (
            not (needs.spread == level and number in there)
            and not any(at == level and other in there for other, at in self._apart[number])
            and all(at != level or other in there for other, at in needs.together)
        )

    def _within(self, host: _Host, number: int, places: Sequence[_Place]) -> bool:
        if not self._limited[host.site]:
            return True
        site = self.sites[host.site]
        wanted = self._shares(host, number, places)
        limits = {-1: site.host, **dict(enumerate(site.nodes))}
        return all(
            limit is None or have + more <= limit
            for node, shares in wanted.items()
            for have, more, limit in zip(host.given[node], shares, _figures(limits[node]), strict=True)
        )

    def _shares(self, host: _Host, number: int, places: Sequence[_Place]) -> dict[int, list[Fraction]]:
        """Return what a replica takes of the site and of each NUMA node."""
        whole = self._needs[number]
        shares = {-1: whole}
        for position, _ in places:
            node = self.sites[host.site].gpus[position][1]
            before = shares.get(node, [Fraction(0)] * 3)
            shares[node] = [have + part / self.problem.classes[number].size for have, part in zip(before, whole, strict=True)]
        return shares

    # -- taking ----------------------------------------------------------------------------------------------------

    def _take(self, host: _Host, number: int, c: DemandClass, places: tuple[_Place, ...]) -> None:
        for node, shares in self._shares(host, number, places).items():
            host.given[node] = [a + b for a, b in zip(host.given[node], shares, strict=True)]
        for position, slot in places:
            gpu = host.gpus[position]
            gpu.held.append((number, slot))
            gpu.columns = [(n, column) for n, column in gpu.columns if any(s == slot for s, _ in column.slots)]
        host.classes.add(number)
        if c.linked:
            host.groups[number, places] = host.groups.get((number, places), 0) + 1

    def _give_back(self, host: _Host, number: int, c: DemandClass, places: tuple[_Place, ...]) -> None:
        for node, shares in self._shares(host, number, places).items():
            host.given[node] = [a - b for a, b in zip(host.given[node], shares, strict=True)]
        for position, slot in places:
            gpu = host.gpus[position]
            gpu.held.remove((number, slot))
            gpu.columns, gpu.full = self.problem.columns_of_kind.get(gpu.kind, []), set()
        if not any(who == number for gpu in host.gpus for who, _ in gpu.held):
            host.classes.discard(number)
        if c.linked:
            host.groups[number, places] -= 1

    def filled(self, host: _Host, *, single: bool) -> Filled | None:
        """Return the contents of a site, by units; None where it is empty."""
        units = units_of([self.sites[host.site]], single=single)
        unit_of = {position: number for number, unit in enumerate(units) for position in unit.gpus}
        columns: dict[tuple[int, int], int] = {}
        taken: dict[tuple[int, int, int], int] = {}
        for position, gpu in enumerate(host.gpus):
            if not gpu.held:
                continue
            wanted: dict[int, int] = {}
            for number, slot in gpu.held:
                wanted[slot] = wanted.get(slot, 0) + 1
                key = (number, unit_of[position], slot)
                taken[key] = taken.get(key, 0) + 1
            column = next(number for number, column in gpu.columns if _holds(column, wanted))
            columns[unit_of[position], column] = columns.get((unit_of[position], column), 0) + 1
        groups = {
            (number, tuple((unit_of[position], slot) for position, slot in places)): count
            for (number, places), count in host.groups.items()
            if count
        }
        return Filled(host.site, host.copy, Contents(columns, taken, groups)) if taken else None


def _holds(column: Column, wanted: dict[int, int]) -> bool:
    offered = dict(column.slots)
    return all(offered.get(slot, 0) >= count for slot, count in wanted.items())


def _figures(limits: Limits) -> tuple[int | Fraction | None, ...]:
    return limits.vcpus, limits.ram_gib, limits.max_vms


def first_fit(problem: Problem, sites: Sequence[Site], objective: Sequence[str], *, single: bool) -> Arrangement:
    """Place what finds room, high priorities and large replicas first.

    Parameters
    ----------
    problem, sites, objective, single : as of `arrange`.
    """
    filler = _Filler(problem, sites)

    def rank(number: int) -> tuple[int, bool, int]:
        c = problem.classes[number]
        memory = min((problem.slots[slot].memory_mib for slot in c.options), default=0) * c.size
        return -c.priority, number not in problem.wanted_beside, -memory

    placed = [0] * len(problem.classes)
    for number in sorted(range(len(placed)), key=rank):
        if problem.classes[number].options and problem.classes[number].count:
            placed[number] = filler.place(number)
    filled = tuple(entry for host in filler.hosts if (entry := filler.filled(host, single=single)) is not None)
    return Arrangement(filled, tuple(placed), unproven(problem, objective, sum(placed)), CERTIFICATE)
