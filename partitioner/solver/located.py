"""Sites as an integer program: which configurations their GPUs take, and which replicas run in them.

The same variables and rows serve one site, for finding good contents of it, and all sites at once. A *unit* is a set of
GPUs of one site that need not be told apart. This module must not know objectives or how a program is solved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import lcm

import numpy as np
import numpy.typing as npt

from partitioner.solver.integer import Program
from partitioner.solver.problem import Problem
from partitioner.solver.sites import Limits, Site
from partitioner.topology import Level, Topology

Taken = tuple[int, int, int]
"""Class, unit, slot."""
Group = tuple[int, tuple[tuple[int, int], ...]]
"""Class, and unit and slot of each of the linked GPUs of a replica."""
Terms = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Unit:
    """GPUs that need not be told apart.

    Parameters
    ----------
    site : number of the site.
    node : NUMA node in the site.
    kind : kind of the GPUs.
    gpus : their positions in the site.
    """

    site: int
    node: int
    kind: int
    gpus: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """What stands on some sites.

    Parameters
    ----------
    columns : (unit, column) to number of GPUs.
    taken : (class, unit, slot) to number of instances.
    groups : for classes whose replicas take several linked GPUs: (class, (unit, slot) of each) to number of replicas.
    """

    columns: Mapping[tuple[int, int], int]
    taken: Mapping[Taken, int]
    groups: Mapping[Group, int] = field(default_factory=dict)

    def kept(self, problem: Problem) -> dict[Taken, int]:
        """Return how many of the instances stand there now and stay."""
        there: dict[Taken, int] = {}
        for (unit, column), count in self.columns.items():
            for (number, slot), n in problem.columns[column].kept:
                there[number, unit, slot] = there.get((number, unit, slot), 0) + n * count
        return {key: min(n, self.taken[key]) for key, n in there.items() if self.taken.get(key)}


@dataclass
class Located:
    """A program over sites, and where its parts are.

    Parameters
    ----------
    problem : classes, slots and columns.
    sites : the sites, each by itself.
    single : whether every GPU is a unit of its own.
    program : variables and rows, without costs and without the demand.
    columns : (unit, column) to the variable that counts GPUs.
    taken : (class, unit, slot) to the variable that counts instances.
    kept : (class, unit, slot) to the variable that counts instances that stand there now and stay.
    groups : (class, (unit, slot) of each GPU) to the variable that counts replicas on exactly these linked GPUs.
    cliques : class and (unit, slot) places of which any with different GPUs are linked well enough for a replica.
    """

    problem: Problem
    sites: Sequence[Site]
    single: bool
    program: Program = field(default_factory=Program)
    columns: dict[tuple[int, int], int] = field(default_factory=dict)
    taken: dict[Taken, int] = field(default_factory=dict)
    kept: dict[Taken, int] = field(default_factory=dict)
    groups: dict[Group, int] = field(default_factory=dict)
    cliques: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)

    @cached_property
    def units(self) -> list[Unit]:
        """The units of all sites."""
        return units_of(self.sites, single=self.single)

    def read(self, values: npt.NDArray[np.int64]) -> Contents:
        """Return the contents that a solution describes, from the values of the variables."""
        groups = {key: int(values[v]) for key, v in self.groups.items() if values[v]}
        for number, places in self.cliques:
            counts = [int(values[self.taken[number, unit, slot]]) for unit, slot in places]
            for group in _dealt(places, counts, self.problem.classes[number].size):
                groups[number, group] = groups.get((number, group), 0) + 1
        return Contents(
            {key: int(values[v]) for key, v in self.columns.items() if values[v]},
            {key: int(values[v]) for key, v in self.taken.items() if values[v]},
            groups,
        )

    def terms_of_unit(self, unit: int, number: int, amounts: Mapping[Taken, Terms]) -> Terms:
        """Return the terms that count instances of a class on a unit."""
        return [term for slot in self.slots_of[number, unit] for term in amounts.get((number, unit, slot), ())]

    @cached_property
    def units_of_site(self) -> list[list[int]]:
        """Units of each site."""
        found: list[list[int]] = [[] for _ in self.sites]
        for number, unit in enumerate(self.units):
            found[unit.site].append(number)
        return found

    @cached_property
    def slots_of(self) -> dict[tuple[int, int], list[int]]:
        """(class, unit) to the slots that the class may take there."""
        by_kind: dict[int, list[int]] = {}
        for unit, of in enumerate(self.units):
            by_kind.setdefault(of.kind, []).append(unit)
        everywhere = range(len(self.units))
        found: dict[tuple[int, int], list[int]] = {(c, u): [] for c in range(len(self.problem.classes)) for u in everywhere}
        for number, c in enumerate(self.problem.classes):
            for slot in c.options:
                for unit in by_kind.get(self.problem.slots[slot].kind, ()):
                    found[number, unit].append(slot)
        return found

    @cached_property
    def room_of_kind(self) -> dict[int, int]:
        """Return the most instances that one GPU of each kind holds."""
        return {
            kind: max(sum(n for _, n in column.slots) for _, column in columns)
            for kind, columns in self.problem.columns_of_kind.items()
        }

    def room(self, units: Iterable[int]) -> int:
        """Return the most instances that units hold."""
        return sum(len(unit.gpus) * self.room_of_kind.get(unit.kind, 0) for unit in map(self.units.__getitem__, units))


def units_of(sites: Sequence[Site], *, single: bool) -> list[Unit]:
    """Return the units of some sites, site after site; `single`: every GPU is one."""
    found: dict[tuple[int, int, int, int], list[int]] = {}
    for number, site in enumerate(sites):
        for position, (kind, node) in enumerate(site.gpus):
            found.setdefault((number, node, kind, position if single else -1), []).append(position)
    return [Unit(site, node, kind, tuple(gpus)) for (site, node, kind, _), gpus in found.items()]


def locate(problem: Problem, sites: Sequence[Site], *, single: bool) -> Located:
    """Return the program of some sites, each by itself: what their GPUs hold, and every rule within a site.

    Parameters
    ----------
    problem : classes, slots and columns; how much of a class is wanted is left to the caller.
    sites : the sites.
    single : whether single GPUs have to be told apart.
    """
    located = Located(problem, sites, single)
    program = located.program
    for number, of in enumerate(located.units):
        counted = []
        for column, _ in problem.columns_of_kind.get(of.kind, ()):
            located.columns[number, column] = variable = program.variable(len(of.gpus))
            counted.append((variable, 1))
        program.row(counted, low=len(of.gpus) if problem.kinds[of.kind].pinned else -np.inf, high=len(of.gpus))
    for (number, unit), slots in located.slots_of.items():
        c = problem.classes[number]
        for slot in slots:
            if c.count:
                located.taken[number, unit, slot] = program.variable(min(c.most(slot), located.room([unit])))
    amounts = {key: [(variable, 1)] for key, variable in located.taken.items()}
    slot_rows(located, amounts)
    kept_rows(located)
    for number, c in enumerate(problem.classes):
        mine = {(unit, slot): variable for (who, unit, slot), variable in located.taken.items() if who == number}
        if c.count and c.linked:
            for site in range(len(sites)):
                if not _clique_rows(located, number, mine, site):
                    located.groups |= linked_rows(located, number, mine, [site])
        elif c.count and c.size > 1:
            equal_rows(located, number, mine, range(len(sites)))
    rule_rows(located, amounts, range(len(sites)))
    return located


def slot_rows(located: Located, amounts: Mapping[Taken, Terms]) -> None:
    """No more instances than the configurations offer."""
    takers: dict[tuple[int, int], Terms] = {}
    for (_, unit, slot), terms in amounts.items():
        takers.setdefault((unit, slot), []).extend((variable, -n) for variable, n in terms)
    offers: dict[tuple[int, int], Terms] = {}
    for (unit, column), variable in located.columns.items():
        for slot, n in located.problem.columns[column].slots:
            offers.setdefault((unit, slot), []).append((variable, n))
    for place, terms in takers.items():
        located.program.row([*offers.get(place, ()), *terms], low=0)


def kept_rows(located: Located) -> None:
    """Count what stays: no more than the configurations leave in place and the classes take; who is pinned does."""
    there: dict[Taken, Terms] = {}
    must: dict[Taken, Terms] = {}
    for (unit, column), variable in located.columns.items():
        for place, n in located.problem.columns[column].kept:
            there.setdefault((place[0], unit, place[1]), []).append((variable, n))
        for place, n in located.problem.columns[column].pinned:
            must.setdefault((place[0], unit, place[1]), []).append((variable, -n))
    for key, terms in there.items():
        taken = located.taken.get(key)
        if taken is not None:
            located.kept[key] = kept = located.program.variable(located.program.upper[taken])
            located.program.row([*terms, (kept, -1)], low=0)
            located.program.row([(taken, 1), (kept, -1)], low=0)
        if key in must:
            held = [] if taken is None else [(located.kept[key], 1)]
            located.program.row([*must[key], *held], low=0)


def equal_rows(located: Located, number: int, taken: Mapping[tuple[int, int], int], sites: Iterable[int]) -> None:
    """Replicas that take several slots take equal ones in one host.

    Parameters
    ----------
    located : the program.
    number : the class.
    taken : (unit, slot) to the variable that counts its instances.
    sites : where they may be.
    """
    c = located.problem.classes[number]
    for site in sites:
        alike: dict[tuple[str, str, str], Terms] = {}
        for unit in located.units_of_site[site]:
            for slot in located.slots_of[number, unit]:
                alike.setdefault(profile_of(located.problem, number, slot), []).append((taken[unit, slot], 1))
        for terms in alike.values():
            replicas = located.program.variable(c.count)
            located.program.row([*terms, (replicas, -c.size)], low=0, high=0)


def linked_rows(located: Located, number: int, taken: Mapping[tuple[int, int], int], sites: Iterable[int]) -> dict[Group, int]:
    """Replicas take sets of GPUs whose links are good enough, one slot on each, all of one shape.

    Parameters
    ----------
    located, number, taken, sites : as of `equal_rows`.

    Returns
    -------
    (class, (unit, slot) of each GPU) to the variable that counts replicas there.
    """
    c = located.problem.classes[number]
    groups: dict[Group, int] = {}
    alike: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}  # by the kinds of the GPUs, of which there are few
    for site in sites:
        users: dict[tuple[int, int], Terms] = {}
        topology = located.sites[site].topology
        unit_at = {located.units[unit].gpus[0]: unit for unit in located.units_of_site[site]}
        for chosen in topology.groups(c.size, c.needs.link, rdma=c.needs.rdma) if topology is not None else ():
            units = [unit_at[gpu] for gpu in chosen]
            kinds = tuple(located.units[unit].kind for unit in units)
            if kinds not in alike:
                alike[kinds] = tuple(_alike(located, number, units))
            for slots in alike[kinds]:
                places = tuple(zip(units, slots, strict=True))
                groups[number, places] = variable = located.program.variable(c.count)
                for place in places:
                    users.setdefault(place, []).append((variable, 1))
        for unit in located.units_of_site[site]:
            for slot in located.slots_of[number, unit]:
                located.program.row([*users.get((unit, slot), ()), (taken[unit, slot], -1)], low=0, high=0)
    return groups


def _clique_rows(located: Located, number: int, taken: Mapping[tuple[int, int], int], site: int) -> bool:
    """Count replicas on GPUs that are linked alike, without listing sets of GPUs; whether that was possible.

    Where good links make cliques that do not touch, n replicas of k slots fit when each GPU holds at most n of the k n
    slots: dealt out in turn, no replica gets a GPU twice.
    """
    c = located.problem.classes[number]
    topology = located.sites[site].topology
    cliques = None if topology is None else _cliques(topology, c.needs.link, rdma=c.needs.rdma)
    if cliques is None:
        return False
    unit_at = {located.units[unit].gpus[0]: unit for unit in located.units_of_site[site]}
    held: set[tuple[int, int]] = set()
    for clique in cliques:
        alike: dict[tuple[tuple[str, str, str], int], list[tuple[int, int]]] = {}
        for unit in (unit_at[gpu] for gpu in clique):
            for slot in located.slots_of[number, unit]:
                key = (profile_of(located.problem, number, slot), located.problem.slots[slot].tenant)
                alike.setdefault(key, []).append((unit, slot))
        for places in alike.values():
            if len(places) >= c.size:
                replicas = located.program.variable(c.count)
                located.program.row([*((taken[place], 1) for place in places), (replicas, -c.size)], low=0, high=0)
                for place in places:
                    located.program.row([(taken[place], 1), (replicas, -1)], high=0)
                located.cliques.append((number, places))
                held.update(places)
    for unit in located.units_of_site[site]:
        for slot in located.slots_of[number, unit]:
            if (unit, slot) not in held:
                located.program.row([(taken[unit, slot], 1)], high=0)
    return True


def _cliques(topology: Topology, worst: Level | None, *, rdma: bool) -> list[list[int]] | None:
    """Return the GPUs that are linked well enough, in sets that do not touch; None where such sets overlap."""
    gpus = [gpu for gpu in range(len(topology)) if not rdma or topology.nics_beside(gpu)]
    cliques: list[list[int]] = []
    for gpu in gpus:
        mine = [clique for clique in cliques if any(topology.allows((gpu, other), worst) for other in clique)]
        if len(mine) > 1 or not all(topology.allows((gpu, other), worst) for clique in mine for other in clique):
            return None
        if mine:
            mine[0].append(gpu)
        else:
            cliques.append([gpu])
    return cliques


def _dealt(places: Sequence[tuple[int, int]], counts: Sequence[int], size: int) -> list[tuple[tuple[int, int], ...]]:
    """Deal slots out in turn to replicas of `size` slots; none gets a place twice where no count exceeds the replicas."""
    slots = [place for place, count in zip(places, counts, strict=True) for _ in range(count)]
    replicas = len(slots) // size
    return [tuple(sorted(slots[first::replicas])) for first in range(replicas)]


def profile_of(problem: Problem, number: int, slot: int) -> tuple[str, str, str]:
    """Return GPU model, mode and profile that a class gets in a slot: profiles are equal where these are."""
    of = problem.slots[slot]
    return problem.kinds[of.kind].model, of.mode, problem.classes[number].profile(slot)


def _alike(located: Located, number: int, units: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """Return for every profile that a class may take on all of some units the slot on each."""
    by_profile: list[dict[tuple[str, str, str, int], int]] = []
    for unit in units:
        slots = {}
        for slot in located.slots_of[number, unit]:
            slots[*profile_of(located.problem, number, slot), located.problem.slots[slot].tenant] = slot
        by_profile.append(slots)
    for key in by_profile[0]:
        if all(key in slots for slots in by_profile):
            yield tuple(slots[key] for slots in by_profile)


def rule_rows(located: Located, amounts: Mapping[Taken, Terms], sites: Iterable[int], *, together: bool = True) -> None:
    """Add the limits of hosts and the rules between neighbours on some sites.

    Parameters
    ----------
    located : the program.
    amounts : what counts the instances.
    sites : the sites to look at.
    together : whether workloads that must be together are looked at too.
    """
    chosen = list(sites)
    for site in chosen:
        _limit_rows(located, amounts, site)
    places: dict[str, list[list[int]]] = {
        "host": [located.units_of_site[site] for site in chosen],
        "gpu": [[unit] for site in chosen for unit in located.units_of_site[site]],
    }
    for number, c in enumerate(located.problem.classes):
        if c.count and c.needs.spread:
            for units in places[c.needs.spread]:
                per_place = c.size if c.needs.spread == "host" else 1
                located.program.row(_instances(located, units, number, amounts), high=per_place)
    pairs = {
        (level, min(number, other), max(number, other))
        for number, c in enumerate(located.problem.classes)
        for other, level in c.needs.apart
        if c.count and located.problem.classes[other].count
    }
    for level, a, b in sorted(pairs):
        for units in places[level]:
            presence = [_presence(located, units, number, amounts) for number in (a, b)]
            located.program.row([(variable, 1) for variable in presence], high=1)
    for number, c in enumerate(located.problem.classes):
        for other, level in c.needs.together if together and c.count else ():
            for units in places[level]:
                there = _presence(located, units, number, amounts)
                located.program.row([*_instances(located, units, other, amounts), (there, -1)], low=0)


def _instances(located: Located, units: Sequence[int], number: int, amounts: Mapping[Taken, Terms]) -> Terms:
    return [term for unit in units for term in located.terms_of_unit(unit, number, amounts)]


def _presence(located: Located, units: Sequence[int], number: int, amounts: Mapping[Taken, Terms]) -> int:
    """Return a variable that is 1 where a class has an instance on some units."""
    variable = located.program.variable(1)
    terms = _instances(located, units, number, amounts)
    c = located.problem.classes[number]
    most = max(1, min(located.room(units), max((c.most(slot) for slot in c.options), default=1)))
    located.program.row([*terms, (variable, -most)], high=0)
    return variable


def _limit_rows(located: Located, amounts: Mapping[Taken, Terms], number: int) -> None:
    site = located.sites[number]
    units = located.units_of_site[number]
    _limits(located, amounts, units, site.host)
    for node, limits in enumerate(site.nodes):
        if limits.binding:
            _limits(located, amounts, [unit for unit in units if located.units[unit].node == node], limits)


def _limits(located: Located, amounts: Mapping[Taken, Terms], units: Sequence[int], limits: Limits) -> None:
    """Share out vCPUs, memory and VMs; a replica on several GPUs takes an equal part at each."""
    if not limits.binding:
        return
    classes = located.problem.classes
    shared: list[tuple[int | Fraction | None, list[Fraction]]] = [
        (limits.vcpus, [Fraction(c.needs.vcpus) for c in classes]),
        (limits.ram_gib, [c.needs.ram_gib for c in classes]),
        (limits.max_vms, [Fraction(1)] * len(classes)),
    ]
    for limit, needs in shared:
        if limit is None:
            continue
        shares = [need / c.size for c, need in zip(classes, needs, strict=True)]
        whole = lcm(Fraction(limit).denominator, *(each.denominator for each in shares))
        terms = [
            (variable, int(n * each * whole))
            for number, each in enumerate(shares)
            if each
            for variable, n in _instances(located, units, number, amounts)
        ]
        if terms:
            located.program.row(terms, high=int(limit * whole))
