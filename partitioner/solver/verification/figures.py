"""The figures of a plan are those of its layout and its fleet, and none is better than its bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from partitioner.fleet import Gpu
from partitioner.layout import Layout
from partitioner.solver.verification.books import Books
from partitioner.solver.verification.claim import Claim

_STAGES = ("placed", "gpus", "moves", "cost", "power", "hosts", "waste", "spread", "headroom")
_MAXIMISED = ("placed", "headroom")
_MICRO, _MILLI = 1_000_000, 1_000


def check_figures(books: Books) -> Iterator[str]:
    """Yield figures that are missing, not those of the layout, better than their bound, or not proven though claimed."""
    plan = books.plan
    yield from _check_names(plan)
    for stage in plan.objectives:
        least, most = _value(books, stage.name)
        if (least is not None and stage.value < least) or (most is not None and stage.value > most):
            yield f"{stage.name} is {least if most is not None else f'at least {least}'}, not {stage.value}"
        if stage.value > stage.bound if stage.name in _MAXIMISED else stage.value < stage.bound:
            yield f"{stage.name} {stage.value} is better than its bound {stage.bound}"
        if plan.status == "optimal" and stage.value != stage.bound and not (stage.name == "waste" and books.services.any()):
            yield f"status is optimal, but {stage.name} is {stage.value} with a bound of {stage.bound}"


def _check_names(plan: Claim) -> Iterator[str]:
    if plan.status not in ("optimal", "feasible"):
        yield f"unknown status {plan.status!r}"
    names = [stage.name for stage in plan.objectives]
    for name in plan.objective:
        if name not in names:
            yield f"no figure for {name}"
    for name in dict.fromkeys(names):
        if name not in _STAGES:
            yield f"unknown stage {name!r}; stages are {', '.join(_STAGES)}"
        if names.count(name) > 1:
            yield f"{names.count(name)} figures for {name}"
    there = [name for name in plan.objective if name in names]
    if [name for name in names if name in plan.objective] != there:
        yield f"the stages are {', '.join(names)}; the objective is {', '.join(plan.objective)}"
    if plan.objective[:1] != ("placed",):
        yield f"the objective begins with {', '.join(plan.objective[:1]) or 'nothing'}, not with placed"


def _value(books: Books, stage: str) -> tuple[int | None, int | None]:
    """Return the least and the largest value that a stage can have; None where the layout does not tell."""
    layout = books.plan.layout
    if stage == "placed":
        value = int(books.placed.sum())
    elif stage == "gpus":
        value = int(layout.used.sum())
    elif stage == "cost":
        value = sum(count * round((gpu.cost_per_hour or 0) * _MICRO) for gpu, count in _used_gpus(books))
    elif stage == "power":
        used = _used_gpus(books)
        value = sum(count * round((gpu.power_w or 0) * _MILLI) for gpu, count in used)
        if books.plan.fleet is None or any(gpu.power_w is None for gpu, _ in used):
            return value, None
    elif stage in ("hosts", "spread"):
        per_host = np.bincount(layout.gpu_host[layout.used], minlength=1)
        value = int((per_host > 0).sum() if stage == "hosts" else per_host.max())
    else:
        return None, None
    return value, value


def _used_gpus(books: Books) -> list[tuple[Gpu, int]]:
    """Return the distinct GPUs in use as the fleet describes them, with their number."""
    counts: dict[Gpu, int] = {}
    layout: Layout = books.plan.layout
    for row in np.flatnonzero(layout.used).tolist() if books.plan.fleet is not None else ():
        host = books.site.hosts[layout.gpu_host[row]]
        if host is not None and layout.gpu_index[row] < len(host.gpus):
            gpu = host.gpus[layout.gpu_index[row]]
            counts[gpu] = counts.get(gpu, 0) + 1
    return list(counts.items())
