"""The best plan by trying every assignment of replicas to GPUs: slow, and obviously right.

States of a fleet are kept once, however they come about; of several, the one with the most placed is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import partitioner as gp
from partitioner import catalog
from partitioner.fleet import Fleet
from partitioner.geometry import Profile
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
