"""All that a plan has to tell beside its GPUs, as tables: services, replicas on several GPUs, hosts, stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from partitioner.report.hosts import failover, hosts, jobs
from partitioner.report.section import Section, counted, plain
from partitioner.report.services import services

if TYPE_CHECKING:
    from partitioner.plans import Plan

_AS_USUAL = (("placed", "gpus", "waste"), ("placed", "gpus", "moves", "waste"))
_MAXIMISED = ("placed", "headroom")
_MICRO, _MILLI = 1_000_000, 1_000  # units in which cost [1/h] and power [W] are counted
_WASTE_PER_GIB = 256  # the stage counts 16 for each 64 MiB, and tells equal sizes apart by what is below that
_KILO = 10_000  # power from which it is written in kW [W]


class Stage(Protocol):
    """A stage of the objective."""

    @property
    def name(self) -> str:
        """Name of the stage."""

    @property
    def value(self) -> int:
        """What the plan has."""

    @property
    def bound(self) -> int:
        """The best that is possible."""


def sections(plan: Plan) -> tuple[Section, ...]:
    """Return the tables that a plan has reason to show.

    Parameters
    ----------
    plan : the plan; a plain one of one workload on one GPU has none of these tables.
    """
    found = (services(plan), jobs(plan), hosts(plan), failover(plan), moves(plan), stages(plan))
    return tuple(section for section in found if section is not None)


def moves(plan: Plan) -> Section | None:
    """Return a table of what moves; None where nothing does."""
    if plan.current is None or not plan.moves:
        return None
    rows: list[Mapping[str, str]] = [
        {"move": f"{move.workload}/{move.replica}", "from": str(move.origin), "to": str(move.destination or "left out")}
        for move in plan.moves
    ]
    return Section.of("moves", rows)


def stages(plan: Plan) -> Section | None:
    """Return a table of the stages of the objective; None where the summary says it all: the usual ones, proven."""
    if plan.status == "optimal" and tuple(stage.name for stage in plan.objectives) in _AS_USUAL:
        return None
    return Section("objective", tuple(_stage(stage) for stage in plan.objectives))


def _stage(stage: Stage) -> dict[str, str]:
    words, written = _WORDS.get(stage.name, (stage.name, lambda number: f"{number:,}"))
    limit = "at most" if stage.name in _MAXIMISED else "at least"
    proven = stage.value == stage.bound
    return {"stage": words, "value": written(stage.value), "bound": "proven" if proven else f"{limit} {written(stage.bound)}"}


def _watts(milliwatts: int) -> str:
    watts = milliwatts / _MILLI
    return f"{plain(watts)} W" if watts < _KILO else f"{plain(watts / 1000)} kW"


_WORDS: dict[str, tuple[str, Callable[[int], str]]] = {
    "placed": ("placed", lambda number: counted(number, "replica")),
    "gpus": ("GPUs in use", lambda number: f"{number:,}"),
    "moves": ("price of moves", lambda number: f"{number:,}"),
    "cost": ("cost of GPUs in use", lambda number: f"{number / _MICRO:,.2f} per hour"),
    "power": ("power of GPUs in use", _watts),
    "hosts": ("hosts in use", lambda number: f"{number:,}"),
    "waste": ("memory taken", lambda number: f"{number / _WASTE_PER_GIB:,.0f} GiB"),
    "spread": ("most GPUs in use on one host", lambda number: f"{number:,}"),
    "headroom": ("room left in GPUs in use", lambda number: f"{number:,} GiB²"),
}
