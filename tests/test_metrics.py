"""Waste, stranded slices and room, by hand-made examples and against enumeration."""

from __future__ import annotations

import pytest

import partitioner as gp
from partitioner.layout import GpuLayout, Layout, Pattern, Slot
from partitioner.metrics import existing, measure, room, stranded


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


# -- what existed before, what is spare, what stands on several GPUs ---------------------------------------------------


def fleet(*gpus: gp.Gpu) -> gp.Fleet:
    return gp.Fleet((gp.Host("a", gpus),))


def test_existing_instances_are_not_of_the_plan_s_making() -> None:
    busy = gp.Gpu("A100-80GB", instances=("3g.40gb@4", "1g.10gb@0"))
    there = fleet(busy, gp.Gpu("A100-80GB"))
    layout = Layout.of(
        [
            GpuLayout("a", 0, "A100-80GB", "mig", (Slot("1g.10gb", 0), Slot("1g.10gb", 1, "w", 0), Slot("3g.40gb", 4))),
            GpuLayout("a", 1, "A100-80GB", "mig", (Slot("1g.10gb", 0), Slot("1g.10gb", 1, "w", 1))),
        ]
    )
    assert existing(layout, there).tolist() == [True, False, True, False, False]
    metrics = measure(layout, [gp.Workload("w", 2, "1g.10gb")], there)
    assert metrics.memory_kept_mib == 9728 + 40192
    assert (metrics.memory_allocated_mib, metrics.memory_spare_mib) == (3 * 9728, 9728)
    assert (metrics.compute_slices_allocated, metrics.compute_slices_spare, metrics.compute_slices_kept) == (3, 1, 4)
    assert (metrics.memory_waste_mib, metrics.compute_waste_slices) == (0, 0)
    assert not existing(layout, None).any()


def test_a_plan_beside_existing_instances_wastes_only_its_own() -> None:
    there = fleet(gp.Gpu("A100-80GB", instances=("3g.40gb@4",)))
    plan = gp.plan([gp.Workload("w", memory_gib=8)], fleet=there, modes=("mig",))
    metrics = measure(plan.layout, plan.workloads, there)
    assert (metrics.memory_kept_mib, metrics.memory_allocated_mib) == (40192, 9728)
    assert metrics.memory_waste_mib == 9728 - 8 * 1024


def test_a_replica_on_several_gpus_counts_once() -> None:
    gpus = [GpuLayout("a", gpu, "T4", "whole", (Slot("whole", 0, "job", gpu // 2),)) for gpu in range(4)]
    metrics = measure(Layout.of(gpus), [gp.Workload("job", 2, "whole", gpus_per_replica=2)])
    assert (metrics.replicas, metrics.gpus_used) == (2, 4)


def test_the_instances_of_a_service_waste_nothing() -> None:
    plan = gp.plan([gp.Workload("search", model="bert-99", rate=700, latency_ms=130)], gpu="A100-80GB", modes=("mig",))
    assert plan.metrics.memory_waste_mib == plan.metrics.compute_waste_slices == 0
    assert plan.metrics.replicas == sum(1 for _ in plan.assignments())
