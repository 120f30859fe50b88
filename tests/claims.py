"""Claims written by hand, for the check of plans: a layout in one line for each GPU, figures counted from it naively."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from partitioner.fleet import Fleet
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.performance import Rating
from partitioner.solver.verification import KindKey, OptionKey
from partitioner.workload import Workload

_SLOT = re.compile(r"(?P<profile>[^@]+)@(?P<start>\d+)(?:=(?P<workload>\w+)\.(?P<replica>\d+))?")


@dataclass(frozen=True)
class Stage:
    name: str
    value: int
    bound: int


@dataclass(frozen=True)
class Left:
    workload: str
    count: int


@dataclass(frozen=True)
class Move:
    failed_host: str
    workload: str
    replica: int
    host: str
    gpu: int
    start: int
    mode: str
    profile: str


@dataclass(frozen=True)
class Stated:
    """What a plan would claim."""

    workloads: tuple[Workload, ...]
    fleet: Fleet | None
    layout: Layout
    objectives: tuple[Stage, ...]
    objective: tuple[str, ...] = ("placed", "gpus")
    gpu: str | None = None
    gpus: int | None = None
    modes: tuple[str, ...] | None = None
    status: str = "feasible"
    certificate: str = "branch and bound"
    unplaced: tuple[Left, ...] = ()
    prices: Mapping[tuple[KindKey, str, str], Fraction] = field(default_factory=dict)
    rents: Mapping[KindKey, Fraction] = field(default_factory=dict)
    ratings: Mapping[OptionKey, Rating] = field(default_factory=dict)
    host_failures: int = 0
    failover: tuple[Move, ...] = ()
    current: Layout | None = None
    pinned: tuple[str, ...] = ()
    vacate: tuple[str, ...] = ()


def slot(text: str) -> Slot:
    """Read ``3g.40gb@4=web.0``; without ``=web.0`` nobody stands there."""
    match = _SLOT.fullmatch(text)
    assert match, text
    who = match["workload"]
    return Slot(match["profile"], int(match["start"]), who, int(match["replica"]) if who else None)


def layout(fleet: Fleet, lines: Mapping[str, str]) -> Layout:
    """Read lines such as ``{"a/gpu0": "mig 3g.40gb@0=web.0 3g.40gb@4"}``; GPUs without a line are not used."""
    gpus, left = [], dict(lines)
    for host, index, gpu in fleet:
        words = left.pop(f"{host}/gpu{index}", "").split()
        gpus.append(GpuLayout(host, index, gpu.model, words[0] if words else None, tuple(map(slot, words[1:]))))
    assert not left, left
    return Layout.of(gpus)


def stated(workloads: tuple[Workload, ...], fleet: Fleet, lines: Mapping[str, str], **others: object) -> Stated:
    """Return a claim with the right figures for placed and GPUs; bounds are worse by one, which proves nothing."""
    found = layout(fleet, lines)
    replicas = {(a.workload, a.replica) for a in found.assignments()}
    services = {w.name for w in workloads if w.model is not None}
    placed = len({who for who, _ in replicas if who in services}) + sum(who not in services for who, _ in replicas)
    used = sum(bool(gpu.slots) for gpu in found)
    left = {w.name: w.count - len({r for who, r in replicas if who == w.name and not (w.model and r)}) for w in workloads}
    unplaced = tuple(Left(name, count) for name, count in left.items() if count > 0)
    stages = (Stage("placed", placed, placed + 1), Stage("gpus", used, used - 1))
    return Stated(workloads, fleet, found, stages, unplaced=unplaced, **others)  # type: ignore[arg-type]


def rating(throughput: float, latency: float | None = 10.0, batch: int = 8, processes: int = 1) -> Rating:
    """Return a rating that was measured nowhere."""
    return Rating(throughput, latency, batch, processes, 0.0, (), measured=True)
