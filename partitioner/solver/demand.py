"""From workloads and GPUs to the aggregate problem: replicas with equal options are one class, each service is its own.

This module must not know engines or placements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from partitioner.errors import Problem as Complaint
from partitioner.errors import SpecError
from partitioner.geometry import Profile
from partitioner.performance import Calibration, Rating
from partitioner.solver.configurations import shapes
from partitioner.solver.options import Option, Options, SizeSteps, options_of
from partitioner.solver.problem import PREFERENCES, DemandClass, Problem, SlotType, slot_cost
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


def build(workloads: Workloads, supply: Supply, calibration: Calibration) -> Demand:
    """Return the aggregate problem of workloads on a supply.

    Raises
    ------
    SpecError
        A profile is on no GPU of the supply in the modes allowed, a model is not calibrated there or cannot meet its
        latency: every such workload, up to 50.
    """
    builder = _Builder(supply)
    sizes = SizeSteps(supply)
    found: dict[object, Options | str] = {}
    complaints: list[Complaint] = []
    class_of = np.empty(len(workloads), dtype=np.int32)
    for index, workload in enumerate(workloads):
        demand = _key(workload, sizes)
        if demand not in found:
            try:
                found[demand] = options_of(workload, supply, calibration)
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
        )
    return workload.profile if workload.profile is not None else sizes.step(workload), workload.isolation


def _field(workload: Workload, complaint: str) -> str:
    if workload.model is None:
        return "profile"
    return "latency_ms" if complaint.startswith("latency_ms") else "model"


@dataclass(slots=True)
class _Builder:
    """Numbers slots and classes as workloads name them."""

    supply: Supply
    slots: list[SlotType] = field(default_factory=list)
    slot_numbers: dict[tuple[int, str, str], int] = field(default_factory=dict)
    classes: list[DemandClass] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    by_key: dict[object, int] = field(default_factory=dict)
    by_options: dict[object, int] = field(default_factory=dict)
    profiles: dict[tuple[int, int], Profile] = field(default_factory=dict)
    dropped: dict[tuple[int, str, str], frozenset[int]] = field(default_factory=dict)
    ratings: dict[tuple[int, Option], Rating] = field(default_factory=dict)

    def add(self, index: int, workload: Workload, demand: object, options: Options) -> int:
        """Add a workload and return its class."""
        if workload.model is not None:
            return self._add_service(index, workload, options)
        key = (demand, workload.priority)
        number = self.by_key.get(key)
        if number is None:
            same = (tuple((kind, mode, profile.name) for kind, mode, profile in options.kept), workload.priority)
            number = self.by_options.get(same)
            if number is None:
                slots = self._slots(options)
                number = self._new_class(DemandClass(0, workload.priority, slots), options)
                self.by_options[same] = number
            self.by_key[key] = number
        self.counts[number] += workload.count
        return number

    def _add_service(self, index: int, workload: Workload, options: Options) -> int:
        assert workload.rate is not None
        units = throughput_units([rating.throughput_rps for rating in options.ratings.values()])
        yields = tuple(math.floor(options.ratings[option].throughput_rps * units) for option in options.kept)
        need = math.ceil(workload.rate * units)
        self.ratings |= {(index, option): rating for option, rating in options.ratings.items()}
        number = self._new_class(DemandClass(0, workload.priority, self._slots(options), need, yields), options)
        self.counts[number] = 1
        return number

    def _new_class(self, demand_class: DemandClass, options: Options) -> int:
        number = len(self.classes)
        self.classes.append(demand_class)
        self.counts.append(0)
        for slot, (_, _, profile) in zip(demand_class.options, options.kept, strict=True):
            self.profiles[number, slot] = profile
        return number

    def _slots(self, options: Options) -> tuple[int, ...]:
        slots = tuple(self._slot(option) for option in options.kept)
        for (kind, mode, profile), by in options.replaced:
            place = (kind, mode, profile.name)
            self.dropped[place] = self.dropped.get(place, frozenset()) | {WHOLE_GPU if by is None else self._slot(by)}
        return slots

    def _slot(self, option: Option) -> int:
        kind, mode, profile = option
        shape = next(s for s in shapes(self.supply.kinds[kind].model, mode) if profile in s.profiles)
        key = (kind, mode, shape.name)
        if key not in self.slot_numbers:
            self.slot_numbers[key] = len(self.slots)
            self.slots.append(SlotType(kind, mode, shape.name, slot_cost(profile.memory_mib, _preference(mode, profile))))
        return self.slot_numbers[key]

    def demand(self, class_of: npt.NDArray[np.int32]) -> Demand:
        """Return all that was added."""
        problem = Problem(self.supply.kinds, tuple(self.slots), tuple(self.classes)).with_counts(self.counts)
        return Demand(problem, class_of, self.profiles, self.dropped, self.ratings)


def _preference(mode: str, profile: Profile) -> int:
    """Among slots of equal memory: partitions with compute of their own first, mixed-size mode last."""
    order = ["mig", "whole", "vgpu-equal", "vgpu-mixed"]
    rank = next(position for position, prefix in enumerate(order) if mode.startswith(prefix))
    return min(PREFERENCES - 1, 2 * rank + (profile.family not in ("", "C")))
