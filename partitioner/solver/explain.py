"""Why something was left out, and the least that would bring it in; each remedy is verified by a solve.

This module must not know plans or pictures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from partitioner import catalog
from partitioner.layout import Index
from partitioner.solver.aggregate import fewest_extra_gpus
from partitioner.solver.demand import Demand
from partitioner.solver.obstacles import no_place, obstacle
from partitioner.solver.options import large_enough, largest, share
from partitioner.solver.problem import Problem, Solution
from partitioner.solver.supply import Supply, match_modes
from partitioner.workload import Workload, Workloads

MAX_EXPLAINED = 1000
"""Workloads left out that are each explained by a solve of their own kind; beyond, kinds share an explanation."""

_MOST_GPUS_LOOKED_AT = 300_000  # for obstacles of workloads left out, about 0.3 s; further ones are told their rules alone


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A workload of which replicas were left out.

    Parameters
    ----------
    workload : its name.
    count : replicas left out.
    reason : why, in words.
    remedy : the least change that brings them in, beside everything that is placed.
    """

    workload: str
    count: int
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.workload}: {self.count} left out: {self.reason}; {self.remedy}"


def explain(
    workloads: Workloads,
    supply: Supply,
    demand: Demand,
    solution: Solution,
    left: Index,
    *,
    deadline: float,
    seed: int,
) -> tuple[Unplaced, ...]:
    """Say for each workload left out why, and what the least remedy is.

    Parameters
    ----------
    workloads, supply, demand, solution : what was planned and how.
    left : replicas left out of each workload, shape ``(n_workloads,)``.
    deadline : on the clock of `time.monotonic` [s]; remedies not found by then are described, not counted.
    seed : for the engines.
    """
    remedies: dict[tuple[int, int], str] = {}
    result = []
    for row in left.nonzero()[0].tolist():
        workload, count, number = workloads[row], int(left[row]), int(demand.class_of[row])
        if not demand.problem.classes[number].options:
            reason, remedy = _no_option(workload, supply)
        else:
            key = (number, count)
            if key not in remedies and len(remedies) < MAX_EXPLAINED:
                remedies[key] = _remedy(demand.problem, solution, number, count, deadline, seed)
            reason = f"{_asked(workload, count)} more than {_gpus(supply)} hold{_beside(solution, demand, number)}"
            remedy = remedies.get(key, _MORE)
        result.append(Unplaced(workload.name, count, reason, remedy))
    return tuple(result)


def left_out_by_rules(
    workloads: Workloads, supply: Supply, demand: Demand, solution: Solution, left: Index, *, host_failures: int
) -> tuple[Unplaced, ...]:
    """Say of each workload left out what no host offers it, or which rules leave no room; `Plan.explain` finds out more.

    Parameters
    ----------
    workloads, supply, demand, solution, left : as of `explain`.
    host_failures : hosts whose loss the layout survives.
    """
    classes = demand.problem.classes
    found: dict[object, tuple[str, str] | None] = {}
    most = max(1, _MOST_GPUS_LOOKED_AT // sum(kind.available or 1 for kind in supply.kinds))
    proven = next((stage.proven for stage in solution.objectives if stage.name == "placed"), True)
    result = []
    for row in left.nonzero()[0].tolist():
        workload, count, number = workloads[row], int(left[row]), int(demand.class_of[row])
        if not classes[number].options:
            reason, remedy = _no_option(workload, supply)
        else:
            key = (number, workload.count)
            if key not in found and len(found) < most:
                found[key] = obstacle(workload, demand.problem, classes[number], supply, host_failures)
            reason, remedy = found.get(key) or _by_rules(
                workload, count, supply, _beside(solution, demand, number), proven=proven
            )
        result.append(Unplaced(workload.name, count, reason, remedy))
    return tuple(result)


def _by_rules(workload: Workload, count: int, supply: Supply, beside: str, *, proven: bool) -> tuple[str, str]:
    if not proven:
        return "no place was found for it in the time given, and none is ruled out", "give more time"
    rules = ", ".join(_rules(workload))
    with_them = f" with its {rules}" if rules else " with the limits of hosts and the rules of the others"
    return f"{_asked(workload, count)} more than {_gpus(supply)} hold{with_them}{beside}", "plan.explain says what binds"


_RULES = ("only_on", "never_on", "apart_from", "together_with", "tenant", "spread", "gpu_link", "rdma", "vcpus", "ram_gib")


def _rules(workload: Workload) -> Iterator[str]:
    """Name the rules and needs of a workload with their values."""
    for field in _RULES:
        value = getattr(workload, field)
        if value:
            shown = ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
            yield field if value is True else f"{field} {shown}"


def _asked(workload: Workload, count: int) -> str:
    """Return what was left out, in words: ``2 x 3g.40gb``, ``2 replicas of 4 x whole``, ``bert-99 at 10/s``."""
    if workload.model is not None:
        return f"{workload.demand} takes"
    if workload.gpus_per_replica > 1:
        return f"{count:,} replica{'s' * (count > 1)} of {workload.demand} take{'s' * (count == 1)}"
    return f"{count:,} x {workload.demand}"


def _gpus(supply: Supply) -> str:
    """Name the GPUs there are: ``4 x A100-80GB``, ``4 x A100-80GB and 2 x T4``."""
    counts: dict[str, int] = {}
    for kind in supply.kinds:
        if kind.modes:
            if kind.available is None:
                return f"any number of {kind.model}"
            counts[kind.model] = counts.get(kind.model, 0) + kind.available
    parts = [f"{count:,} x {model}" for model, count in counts.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 2 else parts)


def _beside(solution: Solution, demand: Demand, number: int) -> str:
    """Name what holds the room: other classes that were placed."""
    priority = demand.problem.classes[number].priority
    others = [c for c, n in enumerate(solution.placed) if n and c != number]
    if not others:
        return ""
    above = all(demand.problem.classes[c].priority > priority for c in others)
    return " beside the workloads of higher priority" if above else " beside the other workloads"


def together(demand: Demand, solution: Solution, unplaced: Sequence[Unplaced], *, deadline: float, seed: int) -> tuple[str, ...]:
    """Say what it takes to bring in at once all that GPUs more would bring in; nothing where one remedy says it already."""
    problem = demand.problem
    counts = [c.count if c.options else 0 for c in problem.classes]
    if len(unplaced) < 2 or tuple(counts) == solution.placed:
        return ()
    more = _more_gpus(problem, counts, deadline, seed)
    return (f"all that is left out for want of GPUs fits with {more}",) if more else ()


def _remedy(problem: Problem, solution: Solution, number: int, count: int, deadline: float, seed: int) -> str:
    """Return the fewest GPUs more with which `count` replicas of a class fit beside all that is placed."""
    counts = list(solution.placed)
    counts[number] += count
    more = _more_gpus(problem, counts, deadline, seed)
    return f"{more} suffice{'s' if more.startswith('1 ') and ' and ' not in more else ''}" if more else _MORE


_MORE = "more GPUs are needed"


def _more_gpus(problem: Problem, counts: Sequence[int], deadline: float, seed: int) -> str:
    """Return the fewest GPUs more with which counts of classes fit, in words; empty where the deadline cut in."""
    if time.monotonic() >= deadline:
        return ""
    extra = fewest_extra_gpus(problem.with_counts(counts), deadline=deadline, seed=seed)
    parts: dict[str, int] = {}
    for kind, n in zip(problem.kinds, extra or (), strict=False):
        if n:
            parts[kind.model] = parts.get(kind.model, 0) + n
    return " and ".join(f"{n:,} {model} more" for model, n in parts.items())


def _no_option(workload: Workload, supply: Supply) -> tuple[str, str]:
    """Explain a demand that nothing in the supply can meet, even on empty GPUs."""
    if (found := no_place(workload, supply)) is not None:
        return found
    if workload.profile is not None:
        fixed = sorted({f"{kind.model} in mode {kind.fixed}" for kind in supply.kinds if kind.fixed})
        return (
            f"no GPU is free to offer {workload.profile!r}: {', '.join(fixed) or 'none is in a mode that has it'}",
            "leave the mode of a GPU open, or add a GPU that offers it",
        )
    return _too_large(workload, supply), _in_another_mode(workload, supply) or _large_enough_elsewhere(workload)


def _too_large(workload: Workload, supply: Supply) -> str:
    offers = list(largest(supply))
    if not offers:
        return "no GPU is in a mode that this plan may use"
    by_memory = offers[0]
    if workload.memory_gib is not None and by_memory[2].memory_mib < workload.memory_gib * 1024:
        model, _, profile = by_memory
        most = f"{profile.name} on {model} with {profile.memory_mib / 1024:g} GiB"
        return f"{workload.memory_gib:g} GiB are more than the largest here, {most}"
    if workload.compute_slices is not None:
        by_slices = max(offers, key=lambda entry: entry[2].compute_slices)
        if by_slices[2].compute_slices < workload.compute_slices:
            return (
                f"{workload.compute_slices} compute slices are more than the most here,"
                f" {by_slices[2].compute_slices} of {by_slices[2].name} on {by_slices[0]}"
            )
    if workload.gpu_share is not None:
        by_share = max(offers, key=lambda entry: share(entry[2], catalog.gpu(entry[0]), entry[1]))
        most_share = share(by_share[2], catalog.gpu(by_share[0]), by_share[1])
        if most_share < workload.gpu_share:
            there = f"{most_share:g} of {by_share[2].name} on {by_share[0]}"
            return f"{workload.gpu_share:g} of a GPU is more than the largest share here, {there}"
    return f"no profile here offers {workload.demand} at once"


def _in_another_mode(workload: Workload, supply: Supply) -> str:
    """Say which mode would let a GPU that is there meet a demand by size; empty where none does."""
    found = [
        (supply.modes is not None and mode not in match_modes(supply.modes, model), kind.fixed, profile.memory_mib, mode, model)
        for kind in supply.kinds
        for model in (catalog.gpu(kind.model),)
        for mode, profile in large_enough(workload, model, match_modes(supply.widest_modes, model))
    ]
    if not found:
        return ""
    forbidden, fixed, _, mode, model = min(found, key=lambda way: (way[0] + (way[1] is not None), way[2], way[3] != "whole"))
    steps = [f"allow mode {mode}"] * forbidden + [f"leave the mode of {model.name} open"] * (fixed is not None)
    return f"{' and '.join(steps)}: {model.name} in mode {mode} has room for it"


def _large_enough_elsewhere(workload: Workload) -> str:
    """Name the smallest GPU model of the catalogue that, whole, would do."""
    able = [model for model in map(catalog.gpu, catalog.names()) if large_enough(workload, model, ["whole"])]
    if not able:
        return "no GPU of the catalogue is large enough; split the workload"
    smallest = min(able, key=lambda model: (not model.memory_mib, model.memory_mib, model.name))  # memory 0: the CPU's
    return f"a larger GPU is needed, e.g. a whole {smallest.name}"
