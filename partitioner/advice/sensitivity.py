"""What one GPU more or less of each model changes, by planning again. Must not know why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from partitioner.advice.figures import Figures, figures_of
from partitioner.advice.fleets import models_of, pins_without, richest, with_gpus, without_gpu
from partitioner.advice.whatif import placed_of
from partitioner.errors import SpecError
from partitioner.fleet import MAX_GPUS
from partitioner.layout import gpu_label
from partitioner.report import counted
from partitioner.solver.inquiry import Answer, Inquiry, answer
from partitioner.workload import Workloads


@dataclass(frozen=True, slots=True)
class Change:
    """One GPU more or less.

    Parameters
    ----------
    model : GPU model.
    gpus : 1 or -1.
    where : the host that gets it, or the GPU that goes; empty where no hosts were planned.
    figures : of the plan on the changed fleet; None where there is none.
    status : ``optimal``, ``feasible``, ``refused`` where the workloads cannot be asked for there, or ``not finished``.
    remark : why there is no plan; empty where there is one.
    """

    model: str
    gpus: int
    where: str
    figures: Figures | None
    status: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one GPU more or less of each model changes.

    Parameters
    ----------
    figures : of the plan as it is.
    changes : one more, then one fewer, of each model.
    note : what there is to say beside; empty where nothing is.
    """

    figures: Figures
    changes: tuple[Change, ...]
    note: str = ""

    def to_data(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [_HEAD, _row("as planned", self.figures, "")] if self.changes else []
        for change in self.changes:
            words = f"{change.gpus:+d} {change.model}" + (f" ({change.where})" if change.where else "")
            lines.append(_row(words, change.figures, change.remark or change.status, self.figures))
        return "\n".join([*lines, *([self.note] if self.note else [])]) + "\n"


def sensitivity(inquiry: Inquiry, found: Answer, *, time_limit_s: float, seed: int) -> Sensitivity:
    """Plan again with one GPU more and one fewer of each model.

    Parameters
    ----------
    inquiry, found : what was asked and answered.
    time_limit_s : for all plans together, shared equally [s].
    seed : for the engines.
    """
    deadline = time.monotonic() + time_limit_s
    figures = figures_of(found.layout, inquiry.fleet, sum(placed_of(inquiry, found).values()))
    if inquiry.fleet is None and inquiry.gpus is None:
        stage = next(stage for stage in found.objectives if stage.name == "gpus")
        note = (
            f"GPUs are not limited: {counted(stage.value, inquiry.gpu or '')} used, and no plan takes fewer than"
            f" {stage.bound:,}; more are of no use"
        )
        return Sensitivity(figures, (), note)
    questions = list(_questions(inquiry, found))
    changes = []
    for number, (change, changed) in enumerate(questions):
        now = time.monotonic()
        until = now + (deadline - now) / (len(questions) - number)
        changes.append(change if changed is None else _planned(change, changed, until, seed))
    return Sensitivity(figures, tuple(changes))


def _questions(inquiry: Inquiry, found: Answer) -> Iterator[tuple[Change, Inquiry | None]]:
    if inquiry.fleet is None:
        assert inquiry.gpu is not None
        assert inquiry.gpus is not None
        for more in (1, -1):
            count = inquiry.gpus + more
            change = Change(inquiry.gpu, more, "", None, "not finished", "not finished in time")
            if 1 <= count <= MAX_GPUS:
                yield change, replace(inquiry, gpus=count)
            else:
                yield _empty(change, inquiry) if count < 1 else replace(change, status="refused", remark="too many"), None
        return
    for model in models_of(inquiry.fleet):
        change = Change(model, 1, richest(inquiry.fleet, model).name, None, "not finished", "not finished in time")
        yield change, replace(inquiry, fleet=with_gpus(inquiry.fleet, model, 1))
        yield _one_fewer(inquiry, found, model)


def _one_fewer(inquiry: Inquiry, found: Answer, model: str) -> tuple[Change, Inquiry | None]:
    """Return the question without the last unused GPU of a model, or the last one, to which no workload is pinned alone."""
    fleet = inquiry.fleet
    assert fleet is not None
    used = {(found.layout.hosts[found.layout.gpu_host[r]], int(found.layout.gpu_index[r])) for r in _used_rows(found)}
    places = [(host, index) for host, index, gpu in fleet if gpu.model == model]
    places.sort(key=lambda place: place in used)  # stable: within each part in the order of the fleet
    unused = [place for place in places if place not in used]
    for host, index in (*reversed(unused), *reversed(places[len(unused) :])):
        workloads = pins_without(inquiry.workloads, fleet, host, index)
        if workloads is not None:
            change = Change(model, -1, gpu_label(host, index), None, "not finished", "not finished in time")
            smaller = without_gpu(fleet, host, index)
            if smaller is None:
                return _empty(change, inquiry), None
            kept = inquiry.workloads if workloads == tuple(inquiry.workloads) else Workloads(workloads)
            return change, replace(inquiry, fleet=smaller, workloads=kept)
    return Change(model, -1, "", None, "refused", "workloads are pinned to each of them alone"), None


def _used_rows(found: Answer) -> list[int]:
    return [int(row) for row in np.flatnonzero(found.layout.used)]


def _empty(change: Change, inquiry: Inquiry) -> Change:
    """Return the change after which no GPU is left, and nothing is placed."""
    nothing = 0.0 if inquiry.fleet is not None else None
    figures = Figures(0, 0, nothing, nothing, 0 if inquiry.fleet is not None else None)
    return replace(change, figures=figures, status="optimal", remark="")


def _planned(change: Change, inquiry: Inquiry, deadline: float, seed: int) -> Change:
    if time.monotonic() >= deadline:
        return change
    try:
        found = answer(inquiry, deadline=deadline, seed=seed, why=False)
    except SpecError as error:
        return replace(change, status="refused", remark=str(error).splitlines()[0])
    figures = figures_of(found.layout, inquiry.fleet, sum(placed_of(inquiry, found).values()))
    return replace(change, figures=figures, status=found.status, remark="")


_HEAD = f"{'':<36} {'placed':>12} {'GPUs':>12} {'cost/h':>14} {'hosts':>10}  status"


def _row(words: str, figures: Figures | None, status: str, base: Figures | None = None) -> str:
    cells = [
        _cell(None if figures is None else getattr(figures, name), None if base is None else getattr(base, name))
        for name in ("placed", "gpus", "cost_per_hour", "hosts")
    ]
    return f"{words:<36} {cells[0]:>12} {cells[1]:>12} {cells[2]:>14} {cells[3]:>10}  {status}".rstrip()


def _cell(value: float | None, base: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    if base is None or value == base:
        return text
    return f"{text} ({value - base:+,})" if isinstance(value, int) else f"{text} ({value - base:+,.2f})"
