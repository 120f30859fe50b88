"""The heuristics that schedulers use for MIG, to compare the planner with: first fit, and best fit with decreasing sizes.

Both place one replica after another and never move one. They run on a table of transitions (content of a GPU, profile)
to (start, new content) that is filled as contents appear, so that they keep up with the planner at any size: what is
compared is the idea, not its implementation. This module must not know the planner or its solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partitioner import catalog
from partitioner.errors import GeometryError
from partitioner.geometry import Geometry, Placement, Profile
from partitioner.layout import GpuLayout, Layout, Slot

LOWEST_START: tuple[int, ...] = ()
"""Take the lowest legal start: what the driver does when no start is asked for."""

BEST_FIT_STARTS = (6, 4, 5, 0, 1, 2, 3)
"""Starts in the order that keeps room for large profiles longest on GPUs of eight memory slices."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Where a heuristic put every replica.

    Parameters
    ----------
    model : name of the GPU model.
    profiles : profile of each replica, in order of arrival.
    gpus, starts : GPU and first slice of each replica, in the same order.
    gpus_used : number of GPUs.
    """

    model: str
    profiles: tuple[str, ...]
    gpus: tuple[int, ...]
    starts: tuple[int, ...]
    gpus_used: int

    def layout(self) -> Layout:
        """Return the packing as a layout, replica number `i` held by the workload ``str(i)``.

        Raises
        ------
        SpecError
            The placements of a GPU are not legal together.
        """
        slots: list[list[Slot]] = [[] for _ in range(self.gpus_used)]
        for replica, (profile, gpu, start) in enumerate(zip(self.profiles, self.gpus, self.starts, strict=True)):
            slots[gpu].append(Slot(profile, start, str(replica), 0))
        return Layout.of(GpuLayout(None, gpu, self.model, "mig", tuple(held)) for gpu, held in enumerate(slots))


class _Contents:
    """Contents of one GPU by number, 0 being the empty one, and what each becomes when a profile is added.

    Parameters
    ----------
    geometry : what may coexist.
    starts : the order in which starts are tried; those not named come last, ascending.
    """

    def __init__(self, geometry: Geometry, starts: Sequence[int]) -> None:
        self._geometry = geometry
        self._rank = {start: position for position, start in enumerate(starts)}
        self._placements: list[tuple[Placement, ...]] = [()]
        self._numbers: dict[frozenset[Placement], int] = {frozenset(): 0}
        self._after: dict[tuple[int, str], tuple[int, int] | None] = {}
        self.free_units = [geometry.units]

    def after(self, content: int, profile: str) -> tuple[int, int] | None:
        """Return start and new content when a profile is added, or None where it does not fit."""
        key = (content, profile)
        if key not in self._after:
            self._after[key] = self._add(content, self._geometry.profile(profile))
        return self._after[key]

    def _add(self, content: int, profile: Profile) -> tuple[int, int] | None:
        placed = self._placements[content]
        for start in sorted(profile.starts, key=lambda start: (self._rank.get(start, len(self._rank)), start)):
            more = (*placed, Placement(profile, start))
            if self._geometry.is_legal(more):
                number = self._numbers.setdefault(frozenset(more), len(self._placements))
                if number == len(self._placements):
                    self._placements.append(more)
                    self.free_units.append(self.free_units[content] - profile.extent)
                return start, number
        return None


def first_fit(profiles: Sequence[str], *, model: str) -> Packing:
    """Put every replica, in order of arrival, on the first GPU where it fits, at the lowest legal start.

    Parameters
    ----------
    profiles : profile of each replica, in order of arrival.
    model : GPU model; as many as needed are to be had.

    Raises
    ------
    GeometryError
        A profile does not exist on the model.

    Notes
    -----
    A profile that once did not fit on a GPU never will, so for each profile the search goes on where it last ended:
    linear in replicas plus profiles times GPUs.
    """
    contents = _Contents(catalog.gpu(model).geometry("mig"), LOWEST_START)
    holds: list[int] = []
    search_from: dict[str, int] = {}
    gpus, starts = [], []
    for profile in profiles:
        gpu = search_from.get(profile, 0)
        while gpu < len(holds) and contents.after(holds[gpu], profile) is None:
            gpu += 1
        search_from[profile] = gpu
        if gpu == len(holds):
            holds.append(0)
        start, holds[gpu] = _required(contents.after(holds[gpu], profile), profile)
        gpus.append(gpu)
        starts.append(start)
    return Packing(model, tuple(profiles), tuple(gpus), tuple(starts), len(holds))


def best_fit_decreasing(profiles: Sequence[str], *, model: str) -> Packing:
    """Put replicas, largest first, each on a GPU with the least free room where it fits, at the start that hurts least.

    Parameters
    ----------
    profiles : profile of each replica, in any order.
    model : GPU model; as many as needed are to be had.

    Raises
    ------
    GeometryError
        A profile does not exist on the model.

    Notes
    -----
    GPUs are kept by content; one step looks at every content that some GPU has, of which there are a few dozen.
    """
    geometry = catalog.gpu(model).geometry("mig")
    contents = _Contents(geometry, BEST_FIT_STARTS)
    size = {name: (-geometry.profile(name).extent, -geometry.profile(name).compute_slices) for name in set(profiles)}
    order = sorted(range(len(profiles)), key=lambda replica: size[profiles[replica]])
    with_content: dict[int, list[int]] = {}
    gpus, starts, used = [0] * len(profiles), [0] * len(profiles), 0
    for replica in order:
        profile = profiles[replica]
        fitting = [content for content in with_content if contents.after(content, profile) is not None]
        if fitting:
            content = min(fitting, key=lambda content: (contents.free_units[content], content))
            gpu = with_content[content].pop()
            if not with_content[content]:
                del with_content[content]
        else:
            content, gpu, used = 0, used, used + 1
        starts[replica], content = _required(contents.after(content, profile), profile)
        with_content.setdefault(content, []).append(gpu)
        gpus[replica] = gpu
    return Packing(model, tuple(profiles), tuple(gpus), tuple(starts), used)


def _required(step: tuple[int, int] | None, profile: str) -> tuple[int, int]:
    if step is None:
        raise GeometryError(f"profile {profile!r} does not fit on an empty GPU")
    return step
