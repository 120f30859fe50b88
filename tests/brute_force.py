"""The best plan by trying every assignment of replicas to GPUs: slow, and obviously right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from partitioner import catalog
from partitioner.fleet import Fleet
from partitioner.geometry import Profile
from partitioner.workload import Workload


@cache
def fits(model: str, mode: str, names: tuple[str, ...]) -> bool:
    """Whether profiles fit on one GPU together, by trying all starts."""
    geometry = catalog.gpu(model).geometry(mode)

    def place(rest: tuple[str, ...], chosen: list[tuple[str, int]]) -> bool:
        if not rest:
            return geometry.is_legal(chosen)
        return any(place(rest[1:], [*chosen, (rest[0], start)]) for start in geometry.profile(rest[0]).starts)

    return len(names) <= geometry.units and place(names, [])


def satisfies(workload: Workload, model: catalog.GpuModel, mode: str, profile: Profile) -> bool:
    if workload.profile is not None:
        return (mode, profile) in model.find(workload.profile)
    if mode == "mig" and profile.attributes:
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
            share = profile.memory_mib / model.memory_mib
        return share >= workload.gpu_share - 1e-9
    return True


def best(workloads: Sequence[Workload], fleet: Fleet) -> tuple[dict[int, int], int]:
    """Return replicas placed of each priority and GPUs used, lexicographically best."""
    gpus = [(catalog.gpu(gpu.model), gpu.mode) for _, _, gpu in fleet]
    replicas = [w for w in sorted(workloads, key=lambda w: -w.priority) for _ in range(w.count)]
    levels = sorted({w.priority for w in workloads}, reverse=True)
    choices: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for workload in workloads:
        for model, _ in gpus:
            choices[workload.name, model.name] = [
                (g.mode, p.name) for g in model.geometries for p in g.profiles if satisfies(workload, model, g.mode, p)
            ]
    found: tuple[tuple[int, ...], int] = ((-1,) * len(levels), 0)

    def visit(index: int, state: tuple[tuple[str | None, tuple[str, ...]], ...], placed: tuple[int, ...]) -> None:
        nonlocal found
        if index == len(replicas):
            used = sum(1 for _, names in state if names)
            if (placed, -used) > (found[0], -found[1]):
                found = placed, used
            return
        workload = replicas[index]
        level = levels.index(workload.priority)
        tried = set()
        for g, (model, fixed) in enumerate(gpus):
            mode, names = state[g]
            key = (model.name, fixed, mode, names)
            if key in tried:  # GPUs that are alike
                continue
            tried.add(key)
            for option_mode, profile in choices[workload.name, model.name]:
                if (fixed or option_mode) != option_mode or (mode or option_mode) != option_mode:
                    continue
                more = tuple(sorted((*names, profile)))
                if fits(model.name, option_mode, more):
                    visit(
                        index + 1,
                        (*state[:g], (option_mode, more), *state[g + 1 :]),
                        (*placed[:level], placed[level] + 1, *placed[level + 1 :]),
                    )
        visit(index + 1, state, placed)

    visit(0, ((None, ()),) * len(gpus), (0,) * len(levels))
    return dict(zip(levels, found[0], strict=True)), found[1]
