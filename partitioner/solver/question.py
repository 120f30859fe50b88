"""A question, what has to run on which GPUs, and its answer: the best layout with what is proven of it. Values.

What-if questions are asked by replacing a part of the question. This module must not know how answers are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from partitioner import catalog
from partitioner.errors import Problem as Complaint
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import Fleet
from partitioner.layout import Layout, gpu_label
from partitioner.performance import Calibration, Rating
from partitioner.solver.explain import Unplaced
from partitioner.solver.placing import Failover
from partitioner.solver.problem import Objective
from partitioner.solver.supply import Supply, match_modes, supply_of_fleet, supply_of_model
from partitioner.solver.verification import KindKey
from partitioner.workload import Workloads

Price = tuple[KindKey, str, str]
RatingKey = tuple[str, str, str, str]
"""Workload, GPU model, mode, profile."""


@dataclass(frozen=True)
class Inquiry:
    """What has to run, on which GPUs, and what is best.

    Parameters
    ----------
    workloads : what has to run.
    fleet : the GPUs; None where GPUs of one model without hosts are planned.
    gpu, gpus : that model, and how many of it there are; None: as many as needed.
    modes : modes or families of modes that may be used; None: all.
    objective : stages, ``placed`` first.
    host_failures : hosts whose loss the layout survives, 0 or 1.
    calibration : what models do on profiles; needed where there are services.
    current : what runs now, where the plan starts from it.
    pinned : names of workloads, or ``workload/replica``, that have to stay where they are.
    vacate : names of hosts and GPUs (``esx-01/gpu0``) on which nothing may stand.
    """

    workloads: Workloads
    fleet: Fleet | None = None
    gpu: str | None = None
    gpus: int | None = None
    modes: tuple[str, ...] | None = None
    objective: tuple[str, ...] = ("placed", "gpus", "waste")
    host_failures: int = 0
    calibration: Calibration | None = None
    current: Layout | None = None
    pinned: tuple[str, ...] = ()
    vacate: tuple[str, ...] = ()

    @property
    def widest_modes(self) -> tuple[str, ...] | None:
        """Modes that any plan on these GPUs could use; None means all."""
        return self.fleet.modes if self.fleet is not None else None

    @property
    def moving(self) -> bool:
        """Whether it matters what runs now."""
        return self.current is not None and ("moves" in self.objective or bool(self.pinned))


@dataclass(frozen=True)
class Answer:
    """The best layout, with what is proven of it.

    Parameters
    ----------
    layout : placements and occupants.
    status : ``optimal`` where every stage is proven.
    objectives : the stages with value and bound.
    certificate : what proves the bound of the first stage after ``placed``.
    unplaced : what was left out and why.
    notes : what a reader should know.
    prices, rents : exact prices behind the bound, empty where it rests on a search.
    ratings : what the calibration says of every profile that a service could take.
    failover : where replicas go when a host fails.
    """

    layout: Layout
    status: Literal["optimal", "feasible"]
    objectives: tuple[Objective, ...]
    certificate: str
    unplaced: tuple[Unplaced, ...]
    notes: tuple[str, ...]
    prices: Mapping[Price, Fraction] = field(default_factory=dict)
    rents: Mapping[KindKey, Fraction] = field(default_factory=dict)
    ratings: Mapping[RatingKey, Rating] = field(default_factory=dict)
    failover: tuple[Failover, ...] = ()


def pins(pinned: Sequence[str], workloads: Workloads) -> dict[str, set[int] | None]:
    """Return the name of each workload that is pinned with the replicas that are; None: all of them.

    Names that are of no workload are left out.
    """
    names = {workload.name for workload in workloads}
    found: dict[str, set[int] | None] = {}
    for text in pinned:
        name, _, number = text.rpartition("/")
        if text in names:
            found[text] = None
        elif name in names and number.isdecimal() and found.get(name, set()) is not None:
            found[name] = {*(found.get(name) or ()), int(number)}
    return found


def supply_of(inquiry: Inquiry) -> Supply:
    """Return the GPUs that an inquiry may use.

    Raises
    ------
    SpecError
        No GPU has any of the modes, or a workload names a host or GPU that does not exist.
    """
    named = {place for workload in inquiry.workloads for place in (*workload.only_on, *workload.never_on)}
    if inquiry.fleet is None:
        assert inquiry.gpu is not None
        if named:
            _raise_unknown_places(inquiry.workloads, named, [])
        return supply_of_model(catalog.gpu(inquiry.gpu), inquiry.gpus, inquiry.modes)
    if named:
        there = [name for host in inquiry.fleet.hosts for name in (host.name, *_labels(host.name, len(host.gpus)))]
        if not named <= set(there):
            _raise_unknown_places(inquiry.workloads, named - set(there), there)
    supply = supply_of_fleet(inquiry.fleet, inquiry.modes, named, vacate=set(inquiry.vacate))
    if not any(match_modes(inquiry.modes, catalog.gpu(kind.model)) for kind in supply.kinds):
        models = ", ".join(dict.fromkeys(kind.model for kind in supply.kinds))
        raise SpecError(f"no GPU of the fleet ({models}) has mode {' or '.join(inquiry.modes or ())}")
    return supply


def _labels(host: str, gpus: int) -> list[str]:
    return [gpu_label(host, index) for index in range(gpus)]


def _raise_unknown_places(workloads: Workloads, unknown: set[str], there: list[str]) -> None:
    complaints: list[Complaint] = []
    for index, workload in enumerate(workloads):
        for field_name in ("only_on", "never_on"):
            for name in getattr(workload, field_name):
                if name in unknown:
                    hint = did_you_mean(name, there) if there else "without a fleet there are no hosts; give fleet="
                    message = f"{name!r} is no host and no GPU (written 'host/gpu0') of the fleet; {hint}".rstrip("; ")
                    complaints.append(workloads.problem(index, message, field_name))
    raise SpecError(complaints[:_MAX_PROBLEMS])


_MAX_PROBLEMS = 50
