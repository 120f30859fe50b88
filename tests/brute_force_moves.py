"""The best reconfiguration by trying every place for every replica: slow, and obviously right. Knows nothing of the planner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from independent import legal, rules

from partitioner import catalog
from partitioner.fleet import Fleet, Gpu
from partitioner.geometry import Profile
from partitioner.layout import Layout
from partitioner.workload import Workload


class Place(NamedTuple):
    host: str | None
    gpu: int
    mode: str
    profile: str
    start: int


Who = tuple[str, int]
World = dict[Who, Place]


def places_now(layout: Layout) -> dict[Who, Place]:
    """Where every replica runs; one GPU each."""
    found = {}
    for gpu in layout:
        for slot in gpu.slots:
            if slot.workload is not None:
                found[slot.workload, slot.replica or 0] = Place(gpu.host, gpu.gpu, gpu.mode or "", slot.profile, slot.start)
    return found


class Brute:
    """Tries everything; parameters as of `gp.plan`."""

    def __init__(
        self,
        workloads: Sequence[Workload],
        fleet: Fleet,
        current: Layout,
        *,
        objective: Sequence[str],
        pinned: Sequence[str] = (),
        vacate: Sequence[str] = (),
        modes: Sequence[str] = ("mig", "whole"),
        most_tries: int = 300_000,
    ) -> None:
        self.workloads, self.fleet, self.objective, self.modes = {w.name: w for w in workloads}, fleet, objective, modes
        self.now = {who: place for who, place in places_now(current).items() if self._asked(who)}
        self.pinned = [who for who in self.now if who[0] in pinned or f"{who[0]}/{who[1]}" in pinned]
        self.gpus = {(host, index): gpu for host, index, gpu in fleet if not {host, f"{host}/gpu{index}"} & set(vacate)}
        self.replicas = [(w.name, r) for w in sorted(workloads, key=lambda w: -w.priority) for r in range(w.count)]
        self.levels = sorted({w.priority for w in workloads}, reverse=True)
        self.busy = sum(bool(gpu.instances) for gpu in self.gpus.values())
        self.tries = most_tries
        self.best: tuple[int, ...] | None = None

    def _asked(self, who: Who) -> bool:
        return who[0] in self.workloads and who[1] < self.workloads[who[0]].count

    def candidates(self, who: Who) -> list[Place]:
        """Return the places that a replica may take, that where it is first."""
        if who in self.pinned:
            return [self.now[who]]
        workload, found = self.workloads[who[0]], []
        for (host, index), gpu in self.gpus.items():
            for mode in self.modes:
                for profile in catalog.gpu(gpu.model).geometry(mode).profiles:
                    if gpu.mode in (None, mode) and self._satisfies(workload, profile):
                        shape = next(s for s in rules(gpu.model)[mode].shapes if s.name == profile.name)
                        found += [Place(host, index, mode, profile.name, start) for start in shape.starts]
        return sorted(found, key=lambda place: place != self.now.get(who))

    @staticmethod
    def _satisfies(workload: Workload, profile: Profile) -> bool:
        if workload.profile is not None:
            return workload.profile == profile.name
        return not profile.attributes and profile.memory_mib >= (workload.memory_gib or 0) * 1024

    def _fits(self, gpu: Gpu, placed: Sequence[tuple[Who, Place]]) -> bool:
        if len({place.mode for _, place in placed}) > 1:
            return False
        if len({tenant for who, _ in placed if (tenant := self.workloads[who[0]].tenant) is not None}) > 1:
            return False
        existing = [(text.rpartition("@")[0], int(text.rpartition("@")[2])) for text in gpu.instances]
        return legal(rules(gpu.model)[placed[0][1].mode], [*existing, *((place.profile, place.start) for _, place in placed)])

    def solve(self) -> tuple[int, ...] | None:
        """Return what is placed of each priority, less than nothing, then each stage; None where that takes too long."""
        candidates = {who: self.candidates(who) for who in self.replicas}
        for world in self._worlds(0, {}, {}, candidates):
            self.best = min(self.best or (10**9,), self.value(world))
            if self.tries <= 0:
                return None
        return None if self.tries <= 0 else self.best

    def _worlds(
        self,
        number: int,
        world: World,
        on: dict[tuple[str | None, int], list[tuple[Who, Place]]],
        candidates: Mapping[Who, list[Place]],
    ) -> Iterator[World]:
        if number == len(self.replicas):
            yield world
            return
        who = self.replicas[number]
        for place in candidates[who]:
            self.tries -= 1
            if self.tries <= 0:
                return
            key = place.host, place.gpu
            there = [*on.get(key, ()), (who, place)]
            if self._fits(self.gpus[key], there):
                yield from self._worlds(number + 1, {**world, who: place}, {**on, key: there}, candidates)
        if who not in self.pinned:
            yield from self._worlds(number + 1, world, on, candidates)

    def value(self, world: World) -> tuple[int, ...]:
        """Return the value of a world in every stage."""
        placed = [-sum(self.workloads[name].priority == level for name, _ in world) for level in self.levels]
        used = {(place.host, place.gpu) for place in world.values()}
        used |= {key for key, gpu in self.gpus.items() if gpu.instances}
        values = {
            "gpus": len(used),
            "moves": sum(self.workloads[who[0]].move_price for who, place in self.now.items() if world.get(who) != place),
        }
        return (*placed, *(values[stage] for stage in self.objective if stage in values))
