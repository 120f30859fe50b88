"""Waste, stranded slices and room, by hand-made examples and against enumeration."""

from __future__ import annotations

import pytest

import partitioner as gp
from partitioner.layout import Pattern
from partitioner.metrics import room, stranded


def pattern(*placements: tuple[str, int], model: str = "A100-80GB", mode: str = "mig") -> Pattern:
    geometry = gp.catalog.gpu(model).geometry(mode)
    wanted = [p for p in geometry.placements if (p.profile.name, p.start) in placements]
    return Pattern(model, mode, tuple(sorted(wanted, key=lambda p: p.start)))


@pytest.mark.parametrize(
    ("placements", "memory", "compute"),
    [
        ([("3g.40gb", 0), ("3g.40gb", 4)], 0, 1),
        ([("1g.10gb", i) for i in range(7)], 1, 0),
        ([("7g.80gb", 0)], 0, 0),
        ([("4g.40gb", 0), ("3g.40gb", 4)], 0, 0),
        ([("4g.40gb", 0), ("2g.20gb", 4), ("1g.10gb", 6)], 1, 0),
        ([("3g.40gb", 0)], 0, 1),  # 4g is ruled out and the second half holds 3 slices
        ([("3g.40gb", 4)], 0, 0),
    ],
)
def test_stranded_slices(placements, memory, compute) -> None:
    assert stranded(pattern(*placements)) == (memory, compute)


def test_stranded_agrees_with_all_layouts() -> None:
    """Free slices that no layout containing the placements uses."""
    model = gp.catalog.gpu("A30-24GB")
    geometry = model.geometry("mig")
    layouts = [frozenset(layout) for layout in geometry.layouts()]
    for layout in layouts:
        larger = [other for other in layouts if layout <= other]
        memory = geometry.units - max(sum(p.profile.extent for p in other) for other in larger)
        compute = model.compute_slices - max(sum(p.profile.compute_slices for p in other) for other in larger)
        placements = tuple(sorted(layout, key=lambda p: p.start))
        assert stranded(Pattern("A30-24GB", "mig", placements)) == (memory, compute)


def test_room_counts_one_profile_at_a_time() -> None:
    assert room(pattern(("4g.40gb", 0))) == {"1g.10gb": 3, "1g.10gb+me": 1, "1g.20gb": 2, "2g.20gb": 1, "3g.40gb": 1}


def test_waste_is_what_placements_have_beyond_the_demand() -> None:
    metrics = gp.plan_mig([gp.Workload("a", 2, memory_gib=8), gp.Workload("b", 1, gpu_share=0.5)]).metrics
    assert metrics.memory_waste_mib == 2 * (9728 - 8 * 1024)  # half the nominal memory is more than a 4g.40gb has
    assert metrics.compute_waste_slices == 0  # half a slice of seven
    assert metrics.memory_allocated_mib == 2 * 9728 + 40192
    assert (metrics.compute_slices, metrics.compute_slices_allocated) == (7, 6)
    assert (metrics.gpus_used, metrics.gpus_unused) == (1, 0)


def test_half_slices_add_up() -> None:
    metrics = gp.plan_mig([gp.Workload("b", 4, gpu_share=0.5)]).metrics
    assert metrics.compute_waste_slices == 2


def test_a_demand_by_profile_wastes_nothing() -> None:
    metrics = gp.plan_mig("4g+2g+1g").metrics
    assert (metrics.memory_waste_mib, metrics.compute_waste_slices) == (0, 0)


def test_free_profiles_add_up_over_gpus() -> None:
    metrics = gp.plan_mig({"4g.40gb": 3}, gpus=5).metrics
    assert metrics.free_profiles["A100-80GB mig"]["3g.40gb"] == 3
    assert metrics.gpus_unused == 2
