"""The best plan by trying every assignment of replicas to GPUs: slow, and obviously right.

`best` counts alone: states of a fleet are kept once, however they come about; of several, the one with the most placed is
kept. `Planner` knows every rule, limit, objective and service, and keeps nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from fractions import Fraction
from functools import cache
from itertools import combinations, combinations_with_replacement, product
from typing import NamedTuple

import partitioner as gp
from partitioner import catalog
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.geometry import Profile
from partitioner.performance import Calibration
from partitioner.workload import Workload


class State(NamedTuple):
    """One GPU: model, the mode it must stay in, the mode it is used in (None: not yet), names of its profiles."""

    model: str
    fixed: str | None
    mode: str | None
    names: tuple[str, ...]


class Best(NamedTuple):
    """The lexicographic optimum: replicas placed of each priority, GPUs used, least memory taken [64 MiB]."""

    placed: dict[int, int]
    gpus: int
    memory: int


class TooLargeError(Exception):
    """More states than can be tried."""


@cache
def fits(model: str, mode: str, names: tuple[str, ...]) -> bool:
    """Whether profiles fit on one GPU together, by trying all starts; shares no code with `Geometry`."""
    geometry = catalog.gpu(model).geometry(mode)
    profiles = [next(p for p in geometry.profiles if p.name == name) for name in names]
    if geometry.exclusive and len({profile.family for profile in profiles}) > 1:
        return False
    if any(names.count(profile.name) > profile.max_count for profile in profiles):
        return False
    for resource, total in geometry.totals:
        if sum(dict(profile.uses).get(resource, 0) for profile in profiles) > total:
            return False

    def place(rest: Sequence[Profile], free: frozenset[int]) -> bool:
        if not rest:
            return True
        cells = [frozenset(range(start, start + rest[0].extent)) for start in rest[0].starts]
        return any(taken <= free and place(rest[1:], free - taken) for taken in cells)

    largest_first = sorted(profiles, key=lambda profile: -profile.extent)
    return sum(p.extent for p in profiles) <= geometry.units and place(largest_first, frozenset(range(geometry.units)))


def satisfies(workload: Workload, model: catalog.GpuModel, mode: str, profile: Profile) -> bool:
    if workload.profile is not None:
        return (mode, profile) in model.find(workload.profile)
    if mode == "mig":
        plain = any(not other.attributes for other in model.geometry("mig").profiles)
        if profile.attributes != (() if plain else ("gfx",)):
            return False
    if mode.startswith("vgpu") and not profile.name.endswith(("C", "Q")):
        return False
    if workload.memory_gib is not None and profile.memory_mib < workload.memory_gib * 1024:
        return False
    if workload.compute_slices is not None and profile.compute_slices < workload.compute_slices:
        return False
    if workload.gpu_share is not None and mode != "whole":
        if mode == "mig":
            share = min(profile.extent / model.memory_slices, profile.compute_slices / model.compute_slices)
        else:
            share = round(profile.memory_mib / 1024) / model.record.memory_gib
        return share >= workload.gpu_share - 1e-9
    return True


def options(workload: Workload, name: str, fixed: str | None) -> list[tuple[str, str]]:
    """Return (mode, profile) of all that a workload may take on a GPU.

    Where every one of them takes all of the GPU, a demand by size takes the GPU itself (`DECISIONS.md`, 11).
    """
    model = catalog.gpu(name)
    geometries = [geometry for geometry in model.geometries if fixed in (None, geometry.mode)]
    found = [(g, p) for g in geometries for p in g.profiles if satisfies(workload, model, g.mode, p)]
    if workload.profile is None and all(p.extent == g.units for g, p in found):
        found = [(g, p) for g, p in found if g.mode == "whole"] or found
    return [(g.mode, p.name) for g, p in found]


def best(workloads: Sequence[Workload], fleet: Fleet, *, most_states: int = 100_000) -> Best:
    """Return the best there is.

    Raises
    ------
    TooLargeError
        There are more states than `most_states`.
    """
    levels = sorted({w.priority for w in workloads}, reverse=True)
    start = tuple(sorted((State(gpu.model, gpu.mode, None, ()) for _, _, gpu in fleet), key=repr))
    states: dict[tuple[State, ...], tuple[int, ...]] = {start: (0,) * len(levels)}
    for workload in sorted(workloads, key=lambda w: -w.priority):
        level = levels.index(workload.priority)
        choices = {(g.model, g.fixed): options(workload, g.model, g.fixed) for g in start}
        for _ in range(workload.count):
            more = dict(states)  # the replica is left out
            for state, placed in states.items():
                gain = (*placed[:level], placed[level] + 1, *placed[level + 1 :])
                for row, gpu in enumerate(state):
                    if gpu in state[:row]:  # alike
                        continue
                    for mode, profile in choices[gpu.model, gpu.fixed]:
                        names = tuple(sorted((*gpu.names, profile)))
                        if gpu.mode in (None, mode) and fits(gpu.model, mode, names):
                            then = gpu._replace(mode=mode, names=names)
                            key = tuple(sorted((*state[:row], then, *state[row + 1 :]), key=repr))
                            more[key] = max(gain, more.get(key, gain))
            states = more
            if len(states) > most_states:
                raise TooLargeError
    top = max(states.values())
    full = [state for state, placed in states.items() if placed == top]
    gpus = min(sum(bool(gpu.names) for gpu in state) for state in full)
    memory = min(
        sum(taken(gpu.model, gpu.mode, gpu.names) for gpu in state if gpu.mode)
        for state in full
        if sum(bool(gpu.names) for gpu in state) == gpus
    )
    return Best(dict(zip(levels, top, strict=True)), gpus, memory)


def taken(model: str, mode: str | None, names: Sequence[str]) -> int:
    """Return the memory that one GPU and its placements take together, as the last stage counts it [64 MiB]."""
    geometry = catalog.gpu(model).geometry(mode or "")
    return catalog.gpu(model).memory_mib // 64 + sum(geometry.profile(name).memory_mib // 64 for name in names)


def found(plan: gp.Plan) -> Best:
    """Return what a plan attains."""
    left = {entry.workload: entry.count for entry in plan.unplaced}
    placed: dict[int, int] = {}
    for workload in plan.workloads:
        placed[workload.priority] = placed.get(workload.priority, 0) + workload.count - left.get(workload.name, 0)
    memory = sum(taken(gpu.model, gpu.mode, [slot.profile for slot in gpu.slots]) for gpu in plan.layout if gpu.slots)
    return Best(placed, plan.gpus_used, memory)


# -- rules, limits, objectives and services ----------------------------------------------------------------------------


class Seat(NamedTuple):
    """A profile in a mode on one GPU, by its row in the fleet."""

    gpu: int
    mode: str
    profile: str


class Stand(NamedTuple):
    """One replica (or instance of a service) of the workload in a row, and the seats that it takes."""

    workload: int
    seats: tuple[Seat, ...]


World = tuple[Stand, ...]
Rate = Callable[[Workload, str, str], float]
"""Workload, GPU model and profile to what one instance serves there [1/s]; 0 where it may not be used."""

_LINKS = ("NVLINK", "PIX", "PXB", "PHB", "NODE", "SYS")
_PREFERENCE = ("mig", "whole", "vgpu-equal", "vgpu-mixed")


@cache
def fits_beside(model: str, mode: str, kept: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Whether profiles fit on one GPU beside existing instances (``profile@start``), by trying all starts."""
    geometry = catalog.gpu(model).geometry(mode)
    existing = [(text.rpartition("@")[0], int(text.rpartition("@")[2])) for text in kept]
    every = [*(name for name, _ in existing), *names]
    profiles = {profile.name: profile for profile in geometry.profiles}
    if geometry.exclusive and len({profiles[name].family for name in every}) > 1:
        return False
    if any(every.count(name) > profiles[name].max_count for name in every):
        return False
    if any(sum(dict(profiles[name].uses).get(what, 0) for name in every) > total for what, total in geometry.totals):
        return False
    busy = {cell for name, start in existing for cell in range(start, start + profiles[name].extent)}

    def place(rest: tuple[str, ...], free: frozenset[int]) -> bool:
        if not rest:
            return True
        cells = [frozenset(range(s, s + profiles[rest[0]].extent)) for s in profiles[rest[0]].starts]
        return any(taken <= free and place(rest[1:], free - taken) for taken in cells)

    largest_first = tuple(sorted(names, key=lambda name: -profiles[name].extent))
    return place(largest_first, frozenset(range(geometry.units)) - busy)


class Planner:
    """Tries every way to seat replicas, and keeps the best. Everything is done as the words of the rules say it.

    Parameters
    ----------
    workloads, fleet, objective, host_failures, modes : as of `gp.plan`.
    rate : what an instance of a service serves; needed where there are services.
    most_tries : how many worlds are tried before `TooLargeError`.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        fleet: Fleet,
        *,
        objective: Sequence[str] = ("placed", "gpus", "waste"),
        host_failures: int = 0,
        modes: Sequence[str] | None = None,
        rate: Rate | None = None,
        most_tries: int = 200_000,
    ) -> None:
        self.workloads, self.fleet, self.rate = tuple(workloads), fleet, rate
        self.objective = tuple(objective) if "gpus" in objective else (*objective, "gpus")
        self.host_failures, self.modes, self.tries = host_failures, modes, most_tries
        self.gpus = [(host, index, gpu) for host in fleet.hosts for index, gpu in enumerate(host.gpus)]
        self.row = {(host.name, index): row for row, (host, index, _) in enumerate(self.gpus)}
        self.number = {workload.name: row for row, workload in enumerate(self.workloads)}
        self.levels = sorted({w.priority for w in self.workloads}, reverse=True)
        self.candidates = [self._candidates(workload) for workload in self.workloads]
        self.order = sorted(range(len(self.workloads)), key=lambda w: -self.workloads[w].priority)
        self.known: dict[tuple[int, World], bool] = {}
        self.fitting: dict[tuple[int, tuple[str, ...], tuple[str, ...]], bool] = {}
        self.top: tuple[int, ...] | None = None

    # -- where a replica may go ------------------------------------------------------------------------------------

    def _places(self, row: int) -> set[str]:
        host, index, _ = self.gpus[row]
        return {host.name, f"{host.name}/gpu{index}"}

    def _seats(self, workload: Workload, row: int) -> list[Seat]:
        _, _, gpu = self.gpus[row]
        if workload.only_on and not self._places(row) & set(workload.only_on):
            return []
        if self._places(row) & set(workload.never_on):
            return []
        found = []
        for mode, profile in self._options(workload, gpu):
            allowed = self.modes is None or any(mode == m or mode.startswith(f"{m}-") for m in self.modes)
            if allowed and (workload.isolation == "any" or mode in ("mig", "whole")):
                found.append(Seat(row, mode, profile))
        return [seat for seat in found if fits_beside(gpu.model, seat.mode, gpu.instances, (seat.profile,))]

    def _options(self, workload: Workload, gpu: Gpu) -> list[tuple[str, str]]:
        if workload.model is None:
            return options(workload, gpu.model, gpu.mode)
        assert self.rate is not None
        model = catalog.gpu(gpu.model)
        found = [(g.mode, p) for g in model.geometries if gpu.mode in (None, g.mode) for p in g.profiles]
        found = [(mode, p) for mode, p in found if satisfies(workload, model, mode, p)]
        return [(mode, p.name) for mode, p in found if self.rate(workload, gpu.model, p.name) > 0]

    def _candidates(self, workload: Workload) -> list[tuple[Seat, ...]]:
        """All sets of seats that one replica may take."""
        size, found = workload.gpus_per_replica, []
        for host in self.fleet.hosts:
            seats: dict[tuple[str, str, str], list[Seat]] = {}
            for index, gpu in enumerate(host.gpus):
                for seat in self._seats(workload, self.row[host.name, index]):
                    seats.setdefault((gpu.model, seat.mode, seat.profile), []).append(seat)
            several = combinations if workload.gpu_link or workload.rdma else combinations_with_replacement
            for alike in seats.values():
                found += [chosen for chosen in several(alike, size) if self._linked(workload, host, chosen)]
        return found

    def _linked(self, workload: Workload, host: Host, seats: Sequence[Seat]) -> bool:
        indices = [self.gpus[seat.gpu][1] for seat in seats]
        if workload.rdma:
            nics = host.links.nics if host.links else ()
            if not all(any(row[index] in ("PIX", "PXB") for _, row in nics) for index in indices):
                return False
        if workload.gpu_link is None or len(indices) == 1:
            return True
        if host.links is None:
            return False
        links = [host.links.gpu_links[one][other] for one, other in combinations(indices, 2)]
        levels = [0 if link.startswith("NV") else _LINKS.index(link) for link in links]
        return max(levels) <= _LINKS.index(workload.gpu_link)

    # -- rules -----------------------------------------------------------------------------------------------------

    def on_host(self, number: int, world: World) -> World:
        """Return what stands on one host, in one order."""
        host = self.fleet.hosts[number]
        rows = {self.row[host.name, index] for index in range(len(host.gpus))}
        return tuple(sorted(stand for stand in world if stand.seats[0].gpu in rows))

    def keeps_rules(self, world: World) -> bool:
        """Whether every host keeps all rules that adding replicas can only break; not `together_with`."""
        for number in range(len(self.fleet.hosts)):
            key = (number, self.on_host(number, world))
            if key not in self.known:
                self.known[key] = self._host_keeps_rules(*key)
            if not self.known[key]:
                return False
        return True

    def _host_keeps_rules(self, number: int, here: World) -> bool:
        host = self.fleet.hosts[number]
        by_gpu: dict[int, list[int]] = {}
        for position, stand in enumerate(here):
            for seat in stand.seats:
                by_gpu.setdefault(seat.gpu, []).append(position)
        places = [("host", list(range(len(here)))), *(("gpu", positions) for positions in by_gpu.values())]
        for level, positions in places:
            rows = [here[position].workload for position in positions]
            for row in rows:
                workload = self.workloads[row]
                if workload.spread == level and rows.count(row) > 1:
                    return False
                others = {self.number[name] for name in workload.apart_from} if workload.apart_on == level else set()
                if others & set(rows):
                    return False
            tenants = {self.workloads[row].tenant for row in rows} - {None}
            if level == "gpu" and len(tenants) > 1:
                return False
        return self._within_limits(host, here)

    def _within_limits(self, host: Host, here: World) -> bool:
        if host.max_vms is not None and len(here) > host.max_vms:
            return False
        for resource in ("vcpus", "ram_gib"):
            shares: dict[int, Fraction] = {}
            for stand in here:
                workload = self.workloads[stand.workload]
                need = Fraction(str(getattr(workload, resource) or 0)) / workload.gpus_per_replica
                for seat in stand.seats:
                    index = self.gpus[seat.gpu][1]
                    shares[index] = shares.get(index, Fraction(0)) + need
            groups = [(getattr(host, resource), range(len(host.gpus)))]
            groups += [(getattr(node, resource), node.gpus) for node in host.numa]
            for limit, gpus in groups:
                if limit is not None and sum(shares.get(index, Fraction(0)) for index in gpus) > Fraction(str(limit)):
                    return False
        return True

    def together(self, world: World) -> bool:
        """Whether every replica has those beside it that it needs."""
        for stand in world:
            workload = self.workloads[stand.workload]
            for seat in stand.seats:
                host = self.gpus[seat.gpu][0].name
                for name in workload.together_with:
                    there = [
                        other
                        for other in world
                        if other.workload == self.number[name]
                        and any(
                            s.gpu == seat.gpu if workload.together_on == "gpu" else self.gpus[s.gpu][0].name == host
                            for s in other.seats
                        )
                    ]
                    if not there:
                        return False
        return True

    def fits(self, seats: Iterable[Seat]) -> bool:
        """Whether seats can be cut together."""
        by_gpu: dict[int, list[Seat]] = {}
        for seat in seats:
            by_gpu.setdefault(seat.gpu, []).append(seat)
        for row, some in by_gpu.items():
            gpu, modes = self.gpus[row][2], {seat.mode for seat in some}
            names = tuple(sorted(seat.profile for seat in some))
            if len(modes) > 1 or not fits_beside(gpu.model, *modes, gpu.instances, names):
                return False
        return True

    # -- what a world is worth -------------------------------------------------------------------------------------

    def value(self, world: World, spares: Sequence[Seat] = ()) -> tuple[int, ...]:
        """Return replicas placed of each priority, then every further stage; less is better in all."""
        seats = [*(seat for stand in world for seat in stand.seats), *spares]
        placed = tuple(-n for n in self.placed(world))
        tenants: dict[int, set[str]] = {}
        for stand in world:
            for seat in stand.seats:
                tenants.setdefault(seat.gpu, set()).update({self.workloads[stand.workload].tenant or ""} - {""})
        filled = {seat.gpu for seat in seats}
        return placed + tuple(self._stage(name, seats, filled, tenants) for name in self.objective[1:])

    def placed(self, world: World) -> list[int]:
        """Return replicas placed of each priority; a service counts once."""
        counts = [0] * len(self.levels)
        for row, workload in enumerate(self.workloads):
            there = sum(stand.workload == row for stand in world)
            counts[self.levels.index(workload.priority)] += bool(there) if workload.model else there
        return counts

    def valued(self, plan: gp.Plan) -> tuple[int, ...]:
        """Return what a plan is worth by its layout, as `value` does."""
        world: dict[tuple[str, int], list[Seat]] = {}
        spares: list[Seat] = []
        for gpu in plan.layout:
            row = self.row[gpu.host or "", gpu.gpu]
            kept = set(self.gpus[row][2].instances)
            for slot in gpu.slots:
                seat = Seat(row, gpu.mode or "", slot.profile)
                if slot.workload is not None:
                    world.setdefault((slot.workload, slot.replica or 0), []).append(seat)
                elif f"{slot.profile}@{slot.start}" not in kept:
                    spares.append(seat)
        stands = (Stand(self.number[name], tuple(seats)) for (name, _), seats in world.items())
        return self.value(tuple(stands), spares)

    def _stage(self, name: str, seats: Sequence[Seat], filled: set[int], tenants: dict[int, set[str]]) -> int:
        """Return a stage's value; `filled` are the GPUs on which something is placed or kept free."""
        used = filled | {row for row, (_, _, gpu) in enumerate(self.gpus) if gpu.instances}
        hosts = [self.gpus[row][0].name for row in used]
        if name == "gpus":
            return len(used)
        if name == "cost":
            return sum(round((self.gpus[row][2].cost_per_hour or 0) * 1_000_000) for row in used)
        if name == "power":
            return sum(round((self.gpus[row][2].power_w or 0) * 1000) for row in used)
        if name == "hosts":
            return len(set(hosts))
        if name == "spread":
            return max((hosts.count(host) for host in hosts), default=0)
        if name == "waste":  # in 64 MiB, times 16 to leave room for a preference among equals
            taken = [gpu for _, _, gpu in map(self.gpus.__getitem__, filled) if not gpu.instances]
            return sum(catalog.gpu(gpu.model).memory_mib // 64 * 16 for gpu in taken) + sum(map(self._instance_waste, seats))
        assert name == "headroom"
        return -sum(self._room_left(row, [seat for seat in seats if seat.gpu == row], tenants.get(row, set())) for row in used)

    def _instance_waste(self, seat: Seat) -> int:
        profile = self._profile(seat)
        rank = next(rank for rank, family in enumerate(_PREFERENCE) if seat.mode.startswith(family))
        return profile.memory_mib // 64 * 16 + 2 * rank + (profile.family not in ("", "C"))

    def _profile(self, seat: Seat) -> Profile:
        return catalog.gpu(self.gpus[seat.gpu][2].model).geometry(seat.mode).profile(seat.profile)

    def _room_left(self, row: int, held: Sequence[Seat], tenants: set[str]) -> int:
        """Return the largest sum of squared memory [GiB] of what could still be cut for workloads that may come there.

        A GPU of one tenant has room for that tenant's workloads and for those of nobody.
        """
        gpu = self.gpus[row][2]
        mode = held[0].mode if held else gpu.mode or ""
        names = [seat.profile for seat in held]

        def most(more: list[str], rest: list[str]) -> int:
            if not fits_beside(gpu.model, mode, gpu.instances, tuple(sorted(names + more))):
                return -1
            worth = sum(max(1, round(self._profile(Seat(row, mode, name)).memory_mib / 1024)) ** 2 for name in more)
            return max([worth, *(most([*more, name], rest[at:]) for at, name in enumerate(rest))])

        found = [0]
        for tenant in tenants or {w.tenant for w in self.workloads}:
            mine = [w for w in self.workloads if w.tenant in (None, tenant)]
            wanted = {seat.profile for w in mine for seat in self._seats(w, row) if seat.mode == mode}
            found.append(most([], sorted(wanted)))
        return max(found)

    # -- trying everything -----------------------------------------------------------------------------------------

    def best(self) -> tuple[int, ...]:
        """Return the lexicographic optimum as `value` does.

        Raises
        ------
        TooLargeError
            There are more worlds than may be tried.
        """
        self._try((), 0, [0] * len(self.levels))
        assert self.top is not None
        return self.top

    def _try(self, world: World, at: int, placed: list[int]) -> None:
        """Go on with the workload number `at`; give up where even all the rest would be too few."""
        self.tries -= 1
        if self.tries < 0:
            raise TooLargeError
        rest = [0] * len(self.levels)
        for row in self.order[at:]:
            rest[self.levels.index(self.workloads[row].priority)] += self.workloads[row].count
        most = tuple(-have - more for have, more in zip(placed, rest, strict=True))
        if self.top is not None and most > self.top[: len(self.levels)]:
            return
        if at == len(self.order):
            self._keep(world)
            return
        row = self.order[at]
        level = self.levels.index(self.workloads[row].priority)
        for more, replicas in self._seatings(world, row):
            then = list(placed)
            then[level] += replicas
            self._try(more, at + 1, then)

    def _seatings(self, world: World, row: int) -> Iterator[tuple[World, int]]:
        """Iterate over (world, replicas placed) with the replicas of one more workload, most first; equal ones in one order."""
        workload = self.workloads[row]
        if workload.model is not None:
            yield from ((more, 1) for more in self._served(world, row, 0, 0.0))
            yield world, 0
            return

        def seat(world: World, left: int, first: int) -> Iterator[World]:
            if not left:
                yield world
                return
            for number in range(first, len(self.candidates[row])):
                more = (*world, Stand(row, self.candidates[row][number]))
                if self.legal(more):
                    yield from seat(more, left - 1, number)

        for count in range(workload.count, -1, -1):
            yield from ((more, count) for more in seat(world, count, 0))

    def _served(self, world: World, row: int, first: int, reached: float) -> Iterator[World]:
        """Iterate over worlds in which a service reaches its rate; with more only where others want it beside them."""
        workload = self.workloads[row]
        assert self.rate is not None
        wanted = any(workload.name in other.together_with for other in self.workloads)
        if reached >= (workload.rate or 0):
            yield world
            if not wanted:
                return
        for number in range(first, len(self.candidates[row])):
            more = (*world, Stand(row, self.candidates[row][number]))
            if self.legal(more):
                [seat] = self.candidates[row][number]
                gain = self.rate(workload, self.gpus[seat.gpu][2].model, seat.profile)
                yield from self._served(more, row, number, reached + gain)

    def legal(self, world: World) -> bool:
        """Whether a world may still become a plan."""
        self.tries -= 1
        if self.tries < 0:
            raise TooLargeError
        return self.fits([seat for stand in world for seat in stand.seats]) and self.keeps_rules(world)

    def _keep(self, world: World) -> None:
        if not self.together(world):
            return
        for spares in self._spares(world) if self.host_failures else ((),):
            value = self.value(world, spares)
            if self.top is None or value < self.top:
                self.top = value

    # -- the loss of a host ----------------------------------------------------------------------------------------

    def _spares(self, world: World) -> Iterator[tuple[Seat, ...]]:
        """Iterate over the free instances that survive the loss of any one host."""
        needs = [self._refuges(world, number) for number in range(len(self.fleet.hosts))]
        held = [seat for stand in world for seat in stand.seats]
        for chosen in product(*needs):
            self.tries -= 1
            if self.tries < 0:
                raise TooLargeError
            spare: Counter[Seat] = Counter()
            for need in chosen:
                spare |= Counter(dict(need))
            if self.fits([*held, *spare.elements()]):
                yield tuple(spare.elements())

    def _refuges(self, world: World, failed: int) -> set[frozenset[tuple[Seat, int]]]:
        """Return the different (seat, count) sets to which everything on a failing host may go."""
        lost = self.on_host(failed, world)
        rows = {self.row[self.fleet.hosts[failed].name, index] for index in range(len(self.fleet.hosts[failed].gpus))}
        found: set[frozenset[tuple[Seat, int]]] = set()

        def move(waiting: Sequence[int], now: World, taken: tuple[Seat, ...]) -> None:
            self.tries -= 1
            if self.tries < 0:
                raise TooLargeError
            if not self.keeps_rules(now):
                return
            while waiting and self._reaches(waiting[0], now):
                waiting = waiting[1:]
            if not waiting:
                found.add(frozenset(Counter(taken).items()))
                return
            rest = waiting if self.workloads[waiting[0]].model else waiting[1:]
            for seats in self.candidates[waiting[0]]:
                if not {seat.gpu for seat in seats} & rows and self.fits((*taken, *seats)):
                    move(rest, (*now, Stand(waiting[0], seats)), (*taken, *seats))

        services = sorted({stand.workload for stand in lost if self.workloads[stand.workload].model})
        replicas = [stand.workload for stand in lost if not self.workloads[stand.workload].model]
        move([*replicas, *services], tuple(stand for stand in world if stand not in lost), ())
        return found

    def _reaches(self, row: int, world: World) -> bool:
        """Whether a service serves its rate; of replicas never."""
        workload = self.workloads[row]
        if workload.model is None:
            return False
        assert self.rate is not None
        seats = [seat for stand in world if stand.workload == row for seat in stand.seats]
        gains = [self.rate(workload, self.gpus[seat.gpu][2].model, seat.profile) for seat in seats]
        return sum(gains) >= (workload.rate or 0)


def compared(
    workloads: Sequence[Workload],
    fleet: Fleet,
    *,
    objective: Sequence[str] = ("placed", "gpus", "waste"),
    host_failures: int = 0,
    modes: Sequence[str] | None = None,
    calibration: Calibration | None = None,
) -> gp.Plan:
    """Plan, assert that the plan is proven and equals the best by trying everything, and return it."""
    plan = gp.plan(workloads, fleet=fleet, objective=objective, host_failures=host_failures, modes=modes, calibration=calibration)
    planner = Planner(
        workloads,
        fleet,
        objective=objective,
        host_failures=host_failures,
        modes=modes,
        rate=rates_of(calibration) if calibration else None,
    )
    difference = differs(plan, planner)
    assert not difference, difference
    assert plan.status == "optimal", f"not proven: {plan.objectives}"
    return plan


def rates_of(calibration: Calibration) -> Rate:
    """Return what instances of services serve by a calibration."""

    @cache
    def rate(workload: Workload, gpu: str, profile: str) -> float:
        model = calibration.model(workload.model or "")
        if not calibration.knows(model, gpu, profile, scenario=workload.scenario):
            return 0.0
        rating = calibration.best(
            model,
            gpu,
            profile,
            latency_ms=workload.latency_ms,
            scenario=workload.scenario,
            max_batch=workload.max_batch,
            max_processes=workload.max_processes,
        )
        return rating.throughput_rps if rating else 0.0

    return rate


def differs(plan: gp.Plan, planner: Planner) -> str:
    """Say where a plan and the best that there is differ; empty where they agree as far as the plan claims.

    A stage is compared where all before it are proven. Of plans that leave something out, stages after the second are
    chosen for what is placed only.
    """
    best, levels = planner.best(), len(planner.levels)
    mine = planner.valued(plan)
    words = f"{written(plan)}: {plan.objectives} {plan.status} ({plan.certificate}); counted {mine}, brute force {best}"
    first = plan.objectives[0]
    if -sum(mine[:levels]) != first.value:
        return f"says what it does not do: {words}"
    if mine[:levels] < best[:levels]:
        return f"places more than brute force can: {words}"
    if mine[:levels] > best[:levels]:
        return f"places less than can be placed: {words}" if first.proven else ""
    for position, (stage, counted, least) in enumerate(zip(plan.objectives[1:], mine[levels:], best[levels:], strict=True)):
        sign = -1 if stage.name == "headroom" else 1
        if sign * stage.value != counted:
            return f"{stage.name} is not {stage.value}: {words}"
        if not plan.complete and position:
            return ""
        if counted < least:
            return f"{stage.name} is better than brute force can: {words}"
        if sign * stage.bound > least:
            return f"bound of {stage.name} is wrong: {words}"
        if counted > least:
            return f"{stage.name} is not the best, yet said to be proven: {words}" if stage.proven else ""
    return ""


def written(value: object) -> str:
    """Return workloads, a fleet or a plan's question as one would write it, without what is left at its default."""
    if isinstance(value, gp.Plan):
        more = f", host_failures={value.host_failures}" if value.host_failures else ""
        return f"plan({written(value.workloads)}, fleet={written(value.fleet)}, objective={value.objective}{more})"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, Workload | Fleet | Host | Gpu):
        given = [(f.name, getattr(value, f.name), f.default) for f in fields(value)]
        shown = [f"{name}={written(it)}" for name, it, default in given if it != default and it not in ({}, ())]
        return f"{type(value).__name__}({', '.join(shown)})"
    return repr(value)
