"""Where vGPUs sit on one GPU, inferred: vCenter and ESXi do not say it.

The driver chooses a start for each vGPU when its VM is powered on. Known are the vGPU types on the GPU, and for our own VMs
the start that the plan meant. So ours are put where the plan meant them, and the others, largest first, where the driver puts
an instance that is made without a placement: at the start that takes away the fewest free placements, the lowest of equals.
Where that leads nowhere, any legal arrangement is taken. Capacity is then that of this arrangement: another one of the same
types may leave room for more or for less, and a VM that does not fit is refused by vCenter at power-on. This module must not
know VMs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from partitioner import catalog
from partitioner.geometry import Geometry, Placement, Profile

_MAX_NODES = 20_000  # of the search for any legal arrangement; an A100 has 2,319 sets of placements in all

Wish = tuple[str, int | None]
"""A profile, and the start that a plan meant, where one did."""


def mode_and_profiles(model: str, mode: str | None, types: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return the mode in which vGPU types can be on one GPU together, and their profiles; None where there is no such mode.

    Parameters
    ----------
    model : GPU model of the catalogue.
    mode : what the inventory says of the GPU: ``mig``, ``vgpu-equal``, ``vgpu-mixed``, or None.
    types : vGPU types in the spelling of the host.
    """
    gpu = catalog.gpu(model)
    found = [dict(reversed(gpu.find(name))) for name in types]
    for candidate in gpu.modes:
        family = "vgpu-equal" if candidate.startswith("vgpu-equal") else candidate
        if family == "whole" or (mode is not None and family != mode) or not all(candidate in names for names in found):
            continue
        if mode is None and family == "vgpu-mixed":  # equal sizes are what a GPU does unless it says otherwise
            continue
        return candidate, tuple(names[candidate].name for names in found)
    return None


def arranged(model: str, mode: str, wishes: Sequence[Wish]) -> tuple[int, ...] | None:
    """Return a start for each profile on one GPU, in the order given; None where they cannot be on it together.

    Parameters
    ----------
    model, mode : the GPU.
    wishes : profiles, each with the start that a plan meant, where one did; in the order in which they count.
    """
    return _arranged(model, mode, tuple(wishes))


@lru_cache(maxsize=8192)  # GPUs of a fleet repeat a few arrangements
def _arranged(model: str, mode: str, wishes: tuple[Wish, ...]) -> tuple[int, ...] | None:
    geometry = catalog.gpu(model).geometry(mode)
    starts: dict[int, Placement] = {}
    for number, (name, start) in enumerate(wishes):
        if start is not None and geometry.is_legal([*starts.values(), wanted := Placement(geometry.profile(name), start)]):
            starts[number] = wanted
    rest = sorted((n for n in range(len(wishes)) if n not in starts), key=lambda n: (-geometry.profile(wishes[n][0]).extent, n))
    kept = dict(starts)
    for number in rest:
        start = chosen_start(geometry, tuple(starts.values()), geometry.profile(wishes[number][0]))
        if start is None:
            break
        starts[number] = Placement(geometry.profile(wishes[number][0]), start)
    if len(starts) < len(wishes):
        profiles = [geometry.profile(name) for name, _ in wishes]
        found = _searched(geometry, profiles, rest, kept) or _searched(geometry, profiles, range(len(wishes)), {})
        if found is None:
            return None
        starts = found
    return tuple(starts[number].start for number in range(len(wishes)))


def chosen_start(geometry: Geometry, placed: tuple[Placement, ...], profile: Profile) -> int | None:
    """Return where a driver puts an instance that is made without a placement; None where there is no room.

    Notes
    -----
    The start that takes away the fewest free placements, the lowest of equals; this gives every example of the order of
    creation in NVIDIA's MIG user guide ("Creating GPU Instances").
    """
    best: tuple[int, int] | None = None
    for start in profile.starts:
        more = (*placed, Placement(profile, start))
        if geometry.is_legal(more):
            left = (-len(geometry.free(more)), start)
            best = min(best, left) if best is not None else left
    return best[1] if best is not None else None


def _searched(
    geometry: Geometry, profiles: Sequence[Profile], order: Sequence[int], fixed: dict[int, Placement]
) -> dict[int, Placement] | None:
    """Return the first legal arrangement by depth-first search, None where there is none."""
    chosen = dict(fixed)
    nodes = 0

    def visit(depth: int) -> bool:
        nonlocal nodes
        if depth == len(order):
            return True
        number = order[depth]
        for start in profiles[number].starts:
            nodes += 1
            if nodes > _MAX_NODES:
                return False
            placement = Placement(profiles[number], start)
            if geometry.is_legal([*chosen.values(), placement]):
                chosen[number] = placement
                if visit(depth + 1):
                    return True
                del chosen[number]
        return False

    return chosen if geometry.is_legal(chosen.values()) and visit(0) else None
