"""Hypothesis strategies for the values that all tests share."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from partitioner import catalog
from partitioner.geometry import Geometry, Placement
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.workload import Workload

names = st.text("abcdefghij-_.é", min_size=1, max_size=8)


@cache
def _modes() -> tuple[tuple[str, str], ...]:
    return tuple((name, mode) for name in catalog.names() for mode in catalog.gpu(name).modes)


def gpu_modes() -> st.SearchStrategy[tuple[str, str]]:
    """A GPU model and one of its modes."""
    return st.sampled_from(_modes())


def some_placements(geometry: Geometry, *, max_size: int = 12) -> st.SearchStrategy[list[Placement]]:
    """Placements of a geometry, legal together or not."""
    return st.lists(st.sampled_from(geometry.placements), max_size=max_size)


@st.composite
def legal_placements(draw: st.DrawFn, geometry: Geometry) -> tuple[Placement, ...]:
    """Placements that may coexist, sorted by start: each drawn one is kept where it still fits."""
    kept: list[Placement] = []
    for placement in draw(some_placements(geometry)):
        if geometry.is_legal([*kept, placement]):
            kept.append(placement)
    return tuple(sorted(kept, key=lambda placement: placement.start))


@st.composite
def gpu_layouts(draw: st.DrawFn, host: str | None, gpu: int) -> GpuLayout:
    """One GPU with legal placements, each held by a replica or by nobody."""
    model, mode = draw(gpu_modes())
    if draw(st.booleans()) and draw(st.booleans()):
        return GpuLayout(host, gpu, model, None)
    slots = []
    for placement in draw(legal_placements(catalog.gpu(model).geometry(mode))):
        holder = draw(st.none() | st.tuples(names, st.integers(0, 1_000)))
        slots.append(Slot(placement.profile.name, placement.start, *(holder or (None, None))))
    return GpuLayout(host, gpu, model, mode, tuple(slots))


@st.composite
def layouts(draw: st.DrawFn, *, max_gpus: int = 5) -> Layout:
    """A layout of a few GPUs on a few hosts, or on none."""
    places = draw(st.lists(st.tuples(st.none() | names, st.integers(0, 9)), max_size=max_gpus, unique=True))
    return Layout.of([draw(gpu_layouts(host, gpu)) for host, gpu in places])


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """A workload with any legal demand."""
    fields: dict[str, object] = {}
    if draw(st.booleans()):
        fields["profile"] = draw(st.sampled_from(("3g.40gb", "T4-4Q", "whole", "1g")))
    else:
        options = {
            "memory_gib": st.floats(0.1, 500),
            "compute_slices": st.integers(1, 7),
            "gpu_share": st.floats(0.01, 1),
        }
        for name in draw(st.lists(st.sampled_from(sorted(options)), min_size=1, unique=True)):
            fields[name] = draw(options[name])
    fields["count"] = draw(st.integers(1, 50))
    fields["priority"] = draw(st.integers(-5, 5))
    return Workload(draw(names), **fields)
