"""From workloads and GPUs to the aggregate problem: replicas with equal options are one class, each service is its own.

This module must not know engines or placements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from partitioner.errors import Problem as Complaint
from partitioner.errors import SpecError
from partitioner.geometry import Profile
from partitioner.performance import Calibration, Rating
from partitioner.solver.configurations import shapes
from partitioner.solver.options import Option, Options, SizeSteps, options_of
from partitioner.solver.problem import PREFERENCES, DemandClass, Needs, Problem, SlotType, exact, slot_cost
from partitioner.solver.supply import Supply
from partitioner.workload import Workload, Workloads

_MAX_PROBLEMS = 50  # listed; near matches of each are looked for, which takes milliseconds

WHOLE_GPU = -1
"""Stands for a slot that takes a GPU whole, in `Demand.dropped`."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The aggregate problem and the way back from it.

    Parameters
    ----------
    problem : what the solver sees.
    class_of : for each workload its row in `problem.classes`; shape ``(n_workloads,)``.
    profiles : (class, slot) to the profile that a replica of the class gets there.
    dropped : options that some class was not given because another is never worse, as (kind, mode, profile name), to
        the slots that stand in for them; `WHOLE_GPU` where any use of a whole GPU does.
    ratings : of services, (row of the workload, option) to what the calibration says.
    """

    problem: Problem
    class_of: npt.NDArray[np.int32]
    profiles: dict[tuple[int, int], Profile]
    dropped: dict[tuple[int, str, str], frozenset[int]]
    ratings: dict[tuple[int, Option], Rating]


def throughput_units(throughputs: Sequence[float]) -> int:
    """Return how many units one request/s has for a service: a power of ten that gives the slowest option 10,000 or more.

    Throughputs are rounded down to whole units and rates up, so a plan never counts on what is not there; the loss is
    below 0.01%.
    """
    return int(10 ** max(0, math.ceil(4 - math.log10(min(throughputs)))))


def build(
    workloads: Workloads, supply: Supply, calibration: Calibration | None, *, every: bool = False, priced: bool = False
) -> Demand:
    """Return the aggregate problem of workloads on a supply.

    Parameters
    ----------
    workloads, supply : what has to run, and the GPUs.
    calibration : what models do on profiles; needed where there are services.
    every : keep options that another is never worse than, too; where replicas move, a spare instance serves several
        demands, and larger than need be is better than cut twice.
    priced : whether the price of a move tells replicas apart.

    Raises
    ------
    SpecError
        A profile is on no GPU of the supply in the modes allowed, a model is not calibrated there or cannot meet its
        latency: every such workload, up to 50.
    """
    builder = _Builder(supply, _tenants(workloads), _related(workloads), priced)
    sizes = SizeSteps(supply)
    found: dict[object, Options | str] = {}
    complaints: list[Complaint] = []
    class_of = np.empty(len(workloads), dtype=np.int32)
    for index, workload in enumerate(workloads):
        demand = _key(workload, sizes)
        if demand not in found:
            try:
                found[demand] = options_of(workload, supply, calibration, every=every)
            except SpecError as error:
                found[demand] = str(error)
        options = found[demand]
        if isinstance(options, str):
            if len(complaints) == _MAX_PROBLEMS:
                complaints.append(Complaint(f"and maybe more problems; the first {_MAX_PROBLEMS} are listed"))
                break
            complaints.append(workloads.problem(index, options, _field(workload, options)))
        elif not complaints:
            class_of[index] = builder.add(index, workload, demand, options)
    if complaints:
        raise SpecError(complaints)
    return builder.demand(class_of)


def _tenants(workloads: Workloads) -> dict[str | None, int]:
    """Return numbers for the tenants, from 1; none for one alone, which has nobody to be kept from."""
    names = list(dict.fromkeys(workload.tenant for workload in workloads if workload.tenant is not None))
    return {name: number for number, name in enumerate(names, 1)} if len(names) > 1 else {}


def _related(workloads: Workloads) -> set[str]:
    """Return the names of workloads that others must or must not be with."""
    return {name for workload in workloads for name in (*workload.apart_from, *workload.together_with)}


def _key(workload: Workload, sizes: SizeSteps) -> object:
    """Return what decides the options of a workload, so that they are found once for all that have the same."""
    if workload.model is not None:
        return (
            workload.model,
            workload.scenario,
            workload.latency_ms,
            workload.max_batch,
            workload.max_processes,
            workload.profile,
            sizes.step(workload),
            workload.isolation,
            workload.only_on,
            workload.never_on,
        )
    demand = workload.profile if workload.profile is not None else sizes.step(workload)
    if workload.isolation == "any" and not workload.only_on and not workload.never_on:
        return demand
    return demand, workload.isolation, workload.only_on, workload.never_on


def _field(workload: Workload, complaint: str) -> str:
    if workload.model is None:
        return "profile"
    return next((name for name in ("latency_ms", "rate", "scenario") if complaint.startswith(name)), "model")


@dataclass(slots=True)
class _Builder:
    """Numbers slots and classes as workloads name them."""

    supply: Supply
    tenants: dict[str | None, int]
    related: set[str]
    priced: bool
    slots: list[SlotType] = field(default_factory=list)
    slot_numbers: dict[tuple[int, str, str, int], int] = field(default_factory=dict)
    classes: list[DemandClass] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    by_key: dict[object, int] = field(default_factory=dict)
    by_options: dict[object, int] = field(default_factory=dict)
    by_name: dict[str, int] = field(default_factory=dict)
    workloads: dict[int, Workload] = field(default_factory=dict)
    profiles: dict[tuple[int, int], Profile] = field(default_factory=dict)
    dropped: dict[tuple[int, str, str], frozenset[int]] = field(default_factory=dict)
    ratings: dict[tuple[int, Option], Rating] = field(default_factory=dict)

    def add(self, index: int, workload: Workload, demand: object, options: Options) -> int:
        """Add a workload and return its class."""
        related = bool(workload.spread or workload.apart_from or workload.together_with) or workload.name in self.related
        if workload.model is not None:
            number = self._add_service(index, workload, options)
        elif related:
            number = self._new_class(DemandClass(0, workload.priority, (), size=workload.gpus_per_replica), workload, options)
        else:
            number = self._add_plain(workload, demand, options)
        if related:
            self.by_name[workload.name] = number
            self.workloads[number] = workload
        self.counts[number] += workload.count
        return number

    def _add_plain(self, workload: Workload, demand: object, options: Options) -> int:
        beside = (
            workload.priority,
            workload.gpus_per_replica,
            workload.tenant if self.tenants else None,
            workload.vcpus,
            workload.ram_gib,
            workload.gpu_link,
            workload.rdma,
            workload.move_price if self.priced else None,
        )
        number = self.by_key.get((demand, beside))
        if number is None:
            same = (tuple((kind, mode, profile.name) for kind, mode, profile in options.kept), beside)
            number = self.by_options.get(same)
            if number is None:
                plain = DemandClass(0, workload.priority, (), size=workload.gpus_per_replica)
                number = self._new_class(plain, workload, options)
                self.by_options[same] = number
            else:  # the same is kept, but for other reasons
                self._drop(options, self._tenants_of(workload))
            self.by_key[demand, beside] = number
        return number

    def _add_service(self, index: int, workload: Workload, options: Options) -> int:
        assert workload.rate is not None
        ratings = options.ratings
        self.ratings |= {(index, option): rating for option, rating in ratings.items()}
        units = throughput_units([rating.throughput_rps for rating in ratings.values()]) if ratings else 1
        gains = {option: math.floor(rating.throughput_rps * units) for option, rating in ratings.items()}
        need = math.ceil(workload.rate * units)
        return self._new_class(DemandClass(0, workload.priority, (), need=need), workload, options, gains)

    def _new_class(
        self, plain: DemandClass, workload: Workload, options: Options, gains: Mapping[Option, int] | None = None
    ) -> int:
        number = len(self.classes)
        tenants = self._tenants_of(workload)
        best: dict[int, Option] = {}  # of profiles that are interchangeable in placement the one that gives most
        others: dict[int, list[str]] = {}
        for tenant in tenants:
            for option in options.kept:
                slot = self._slot(option, tenant)
                if slot not in best or (gains and gains[option] > gains[best[slot]]):
                    best[slot] = option
                elif not gains:
                    others.setdefault(slot, []).append(option[2].name)
        taken = [(option, slot) for slot, option in best.items()]
        self._drop(options, tenants)
        needs = Needs(
            workload.vcpus or 0,
            exact(workload.ram_gib or 0),
            workload.spread,
            link=workload.gpu_link,
            rdma=workload.rdma,
        )
        self.classes.append(
            replace(
                plain,
                options=tuple(slot for _, slot in taken),
                profiles=tuple(option[2].name for option, _ in taken),
                yields=tuple(gains[option] for option, _ in taken) if gains else (),
                needs=needs,
                move_price=workload.move_price,
                alternatives=tuple(tuple(others.get(slot, ())) for _, slot in taken) if others else (),
            )
        )
        self.counts.append(0)
        for option, slot in taken:
            self.profiles[number, slot] = option[2]
        return number

    def _tenants_of(self, workload: Workload) -> Sequence[int]:
        """Return whose GPUs a workload may use."""
        tenant = self.tenants.get(workload.tenant)
        return range(len(self.tenants) + 1) if tenant is None else (tenant,)

    def _drop(self, options: Options, tenants: Iterable[int]) -> None:
        for (kind, mode, profile), by in options.replaced:
            place = (kind, mode, profile.name)
            stand_ins = {WHOLE_GPU} if by is None else {self._slot(by, tenant) for tenant in tenants}
            self.dropped[place] = self.dropped.get(place, frozenset()) | stand_ins

    def _slot(self, option: Option, tenant: int) -> int:
        kind, mode, profile = option
        of = self.supply.kinds[kind]
        shape = next(s for s in shapes(of.model, mode, of.kept) if any(p.name == profile.name for p in s.profiles))
        key = (kind, mode, shape.name, tenant)
        if key not in self.slot_numbers:
            self.slot_numbers[key] = len(self.slots)
            cost = slot_cost(profile.memory_mib, _preference(mode, profile))
            self.slots.append(SlotType(kind, mode, shape.name, cost, profile.memory_mib, tenant))
        return self.slot_numbers[key]

    def demand(self, class_of: npt.NDArray[np.int32]) -> Demand:
        """Return all that was added."""
        for number, workload in self.workloads.items():
            apart = tuple((self.by_name[name], workload.apart_on) for name in workload.apart_from)
            together = tuple((self.by_name[name], workload.together_on) for name in workload.together_with)
            c = self.classes[number]
            self.classes[number] = replace(c, needs=replace(c.needs, apart=apart, together=together))
        classes = tuple(replace(c, count=n) for c, n in zip(self.classes, self.counts, strict=True))
        problem = Problem(self.supply.kinds, tuple(self.slots), classes)
        return Demand(problem, class_of, self.profiles, self.dropped, self.ratings)


def _preference(mode: str, profile: Profile) -> int:
    """Among slots of equal memory: partitions with compute of their own first, mixed-size mode last."""
    order = ["mig", "whole", "vgpu-equal", "vgpu-mixed"]
    rank = next(position for position, prefix in enumerate(order) if mode.startswith(prefix))
    return min(PREFERENCES - 1, 2 * rank + (profile.family not in ("", "C")))
