"""Plans that start from what runs now: against trying everything, and by the letter of every promise."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import strategies
from brute_force_moves import Brute, places_now
from hypothesis import HealthCheck, given, settings

import partitioner as gp
from benchmarks.planner.mixes import MIXES
from benchmarks.planner.reconfigure import compare
from partitioner import catalog
from partitioner.errors import SpecError, VerificationError
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.metrics import measure
from partitioner.planning import plan, plan_mig, plan_vgpu, workloads_of
from partitioner.workload import Workload

A30, A100 = "A30-24GB", "A100-80GB"
MODES = ("mig", "whole")
PROFILES = {A30: ("1g.6gb", "2g.12gb", "4g.24gb"), A100: ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb")}


def layout(fleet: Fleet, lines: dict[str, str]) -> Layout:
    """Read ``{"a/gpu0": "1g.6gb@0=w.0 2g.12gb@2"}``; all in mode mig."""
    gpus = []
    for host, index, gpu in fleet:
        slots = []
        for word in lines.get(f"{host}/gpu{index}", "").split():
            place, _, who = word.partition("=")
            profile, _, start = place.partition("@")
            name, _, number = who.rpartition(".")
            slots.append(Slot(profile, int(start), name or None, int(number) if who else None))
        gpus.append(GpuLayout(host, index, gpu.model, "mig" if slots else None, tuple(slots)))
    return Layout.of(gpus)


def stages(found: gp.Plan) -> dict[str, tuple[int, int]]:
    return {stage.name: (stage.value, stage.bound) for stage in found.objectives}


# -- against trying everything -----------------------------------------------------------------------------------------


def question(numbers: random.Random) -> tuple[list[Workload], Fleet, Layout, dict[str, object]]:
    """A fleet of a few GPUs, what runs on them, and what has to run."""
    model = numbers.choice([A30, A30, A100])
    sizes = numbers.choice([(1,), (2,), (3,), (1, 1), (2, 1)]) if model == A30 else numbers.choice([(1,), (2,), (1, 1)])
    busy = Gpu(model, instances=(numbers.choice(["1g.6gb@0", "2g.12gb@2"] if model == A30 else ["1g.10gb@6", "3g.40gb@4"]),))
    hosts = [
        Host(f"h{number}", tuple(busy if numbers.random() < 0.1 else Gpu(model) for _ in range(size)))
        for number, size in enumerate(sizes)
    ]
    fleet = Fleet(tuple(hosts))
    names = [f"w{number}" for number in range(numbers.randint(1, 4))]
    tenants = numbers.random() < 0.15
    workloads = []
    for name in names:
        demand: dict[str, object] = {"profile": numbers.choice((*PROFILES[model], "whole"))}
        if numbers.random() < 0.25:
            demand = {"memory_gib": numbers.choice([4, 9, 15])}
        price = numbers.choice([1, 1, 1, 0, 3])
        tenant = numbers.choice(["red", "blue", None]) if tenants else None
        priority = numbers.choice([0, 0, 0, 1])
        workloads.append(Workload(name, numbers.randint(1, 2), **demand, move_price=price, tenant=tenant, priority=priority))
    return workloads, fleet, now(numbers, workloads, fleet), {}


def now(numbers: random.Random, workloads: list[Workload], fleet: Fleet) -> Layout:
    """Something that may run: replicas asked for, others, and free instances."""
    waiting = [(w.name, r) for w in workloads for r in range(w.count + numbers.randint(0, 1))] + [("gone", 0), ("gone", 1)]
    numbers.shuffle(waiting)
    by_name = {w.name: w for w in workloads}
    gpus = []
    for host, index, gpu in fleet:
        geometry = catalog.gpu(gpu.model).geometry("mig").subset(PROFILES[gpu.model])
        if not gpu.instances and numbers.random() < 0.15:
            gpus.append(GpuLayout(host, index, gpu.model, "whole", whole(numbers, by_name, waiting)))
            continue
        kept = [(text.rpartition("@")[0], int(text.rpartition("@")[2])) for text in gpu.instances]
        slots = {start: Slot(name, start) for name, start in kept}
        tenant = None
        for placement in numbers.sample(geometry.placements, k=min(len(geometry.placements), numbers.randint(0, 6))):
            placed = [(slot.profile, slot.start) for slot in slots.values()]
            if not geometry.is_legal([*placed, (placement.profile.name, placement.start)]):
                continue
            who = None
            for candidate in waiting:
                workload = by_name.get(candidate[0])
                fits = workload is None or workload.profile == placement.profile.name or workload.profile is None
                large = workload is None or (workload.memory_gib or 0) * 1024 <= placement.profile.memory_mib
                strange = numbers.random() < 0.05  # what was asked for may have changed
                mixed = workload is not None and None not in (tenant, workload.tenant) and workload.tenant != tenant
                if ((fits and large) or strange) and not mixed:
                    who = candidate
                    tenant = tenant or (workload.tenant if workload else None)
                    break
            if who is not None and numbers.random() < 0.8:
                waiting.remove(who)
                slots[placement.start] = Slot(placement.profile.name, placement.start, *who)
            elif numbers.random() < 0.3:
                slots[placement.start] = Slot(placement.profile.name, placement.start)
        gpus.append(GpuLayout(host, index, gpu.model, "mig" if slots else None, tuple(slots.values())))
    return Layout.of(gpus)


def whole(numbers: random.Random, by_name: dict[str, Workload], waiting: list[tuple[str, int]]) -> tuple[Slot, ...]:
    """What stands on a GPU that is given as a whole: nothing, or one that asked for that."""
    able = [who for who in waiting if who[0] in by_name and by_name[who[0]].profile in (None, "whole")]
    if not able or numbers.random() < 0.3:
        return ()
    who = numbers.choice(able)
    waiting.remove(who)
    return (Slot("whole", 0, *who),)


def extras(numbers: random.Random, workloads: list[Workload], fleet: Fleet, current: Layout) -> dict[str, object]:
    """Pins and GPUs to vacate that do not contradict anything."""
    found: dict[str, object] = {}
    free = [(host, index) for host, index, gpu in fleet if not gpu.instances]
    if numbers.random() < 0.25 and free:
        host, index = numbers.choice(free)
        found["vacate"] = (f"{host}/gpu{index}",)
    running = [who for who in places_now(current) if any(w.name == who[0] and who[1] < w.count for w in workloads)]
    if running and numbers.random() < 0.4:
        name, replica = numbers.choice(running)
        found["pinned"] = (numbers.choice([name, f"{name}/{replica}"]),)
    return found


def may_stay(workloads: list[Workload], fleet: Fleet, current: Layout, **more: object) -> bool:
    """Whether all who are pinned stand where they may."""
    brute = Brute(workloads, fleet, current, objective=(), **more)
    free = Brute(workloads, fleet, current, objective=(), vacate=more.get("vacate", ()))
    return all(place in free.candidates(who) for who, place in brute.now.items() if who in brute.pinned)


@pytest.mark.parametrize("seed", range(150))
def test_no_reconfiguration_is_better(seed: int) -> None:
    numbers = random.Random(seed)
    workloads, fleet, current, _ = question(numbers)
    objective = numbers.choice([("placed", "gpus", "moves"), ("placed", "moves", "gpus")])
    more = extras(numbers, workloads, fleet, current)
    if "pinned" in more and not may_stay(workloads, fleet, current, **more):
        with pytest.raises(SpecError, match="may not stay"):
            plan(workloads, fleet=fleet, modes=MODES, current=current, objective=objective, **more)
        return
    found = plan(workloads, fleet=fleet, modes=MODES, current=current, objective=objective, **more)
    best = Brute(workloads, fleet, current, objective=objective, **more).solve()
    assert found.status == "optimal"
    left = {entry.workload: entry.count for entry in found.unplaced}
    levels = sorted({w.priority for w in workloads}, reverse=True)
    placed = [-sum(w.count - left.get(w.name, 0) for w in workloads if w.priority == level) for level in levels]
    mine = (*placed, *(stage.value for stage in found.objectives if stage.name in ("gpus", "moves")))
    if best is not None:
        assert mine == best
    again = Brute(workloads, fleet, current, objective=objective, **more)
    world = {who: place for who, place in places_now(found.layout).items() if who[0] in again.workloads}
    assert again.value(world) == mine
    assert len(found.moves) == sum(world.get(who) != place for who, place in again.now.items())


@pytest.mark.parametrize("seed", range(40))
def test_an_optimal_plan_moves_nothing(seed: int) -> None:
    numbers = random.Random(1000 + seed)
    workloads, fleet, current, _ = question(numbers)
    objective = numbers.choice([("placed", "gpus", "moves", "waste"), ("placed", "moves", "gpus")])
    first = plan(workloads, fleet=fleet, modes=MODES, current=current, objective=objective)
    second = plan(workloads, fleet=fleet, modes=MODES, current=first, objective=objective)
    assert second.moves == ()
    assert second.layout == first.layout


def test_what_runs_now_is_planned_anew_with_fewest_moves() -> None:
    fleet = Fleet.of(A100, hosts=2, gpus_per_host=2)
    current = layout(
        fleet, {"host-0/gpu0": "3g.40gb@0=a.0", "host-0/gpu1": "3g.40gb@4=a.1 1g.10gb@0=b.0", "host-1/gpu0": "2g.20gb@4=c.0"}
    )
    found = plan(workloads_of(current), fleet=fleet, modes=("mig",), current=current)
    assert (found.gpus_used, found.status) == (2, "optimal")
    assert stages(found)["moves"] == (1, 1)
    [move] = found.moves
    assert (move.workload, move.origin.host, move.destination and move.destination.host) == ("c", "host-1", "host-0")
    assert "1 move, proven fewest" in found.summary


def test_defragment_for_a_profile_that_does_not_fit() -> None:
    """Every GPU holds one small instance; the fewest moves that make room for a whole GPU is one."""
    fleet = Fleet.of(A100, hosts=1, gpus_per_host=3)
    current = layout(fleet, {f"host-0/gpu{index}": f"1g.10gb@{index}=w.{index}" for index in range(3)})
    wanted = [*workloads_of(current), Workload("big", 1, "7g.80gb")]
    found = plan(wanted, fleet=fleet, modes=("mig",), current=current, objective=("placed", "moves", "gpus"))
    assert found.complete
    assert stages(found) == {"placed": (4, 4), "moves": (1, 1), "gpus": (3, 3)}
    assert len(found.moves) == 1


def test_prices_decide_who_moves() -> None:
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=2)
    current = layout(fleet, {"host-0/gpu0": "2g.12gb@0=dear.0", "host-0/gpu1": "1g.6gb@0=cheap.0 1g.6gb@1=cheap.1"})
    for price, expected in ((5, {"cheap"}), (1, {"dear"})):
        wanted = [Workload("dear", 1, "2g.12gb", move_price=price), Workload("cheap", 2, "1g.6gb")]
        found = plan(wanted, fleet=fleet, modes=("mig",), current=current)
        assert {move.workload for move in found.moves} == expected
        assert stages(found)["moves"] == (min(price, 2),) * 2
    dear = plan(
        [Workload("dear", 1, "2g.12gb", move_price=5), Workload("cheap", 2, "1g.6gb")],
        fleet=fleet,
        modes=("mig",),
        current=current,
    )
    assert "2 moves, proven fewest" in dear.summary
    priced = plan(
        [Workload("dear", 1, "2g.12gb", move_price=9), Workload("cheap", 2, "1g.6gb", move_price=3)],
        fleet=fleet,
        modes=("mig",),
        current=current,
    )
    assert "2 moves at a price of 6, proven least" in priced.summary


def test_who_is_left_out_is_nobody_who_runs() -> None:
    """Of equal replicas, new ones are left out first; and one that runs and is left out counts as moved."""
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=1)
    current = layout(fleet, {"host-0/gpu0": "2g.12gb@2=b.0"})
    found = plan([Workload("a", 2, "2g.12gb"), Workload("b", 1, "2g.12gb")], fleet=fleet, modes=("mig",), current=current)
    assert found.moves == ()
    assert [(entry.workload, entry.count) for entry in found.unplaced] == [("a", 1)]
    pushed = plan(
        [Workload("a", 1, "4g.24gb", priority=1), Workload("b", 1, "2g.12gb")], fleet=fleet, modes=("mig",), current=current
    )
    assert [(move.workload, move.destination) for move in pushed.moves] == [("b", None)]
    assert "left out" in str(pushed)
    assert (pushed.metrics.migrations, pushed.metrics.pending) == (1, 1)


def test_free_instances_are_used_again() -> None:
    """Of GPUs that are as good, the one is taken on which the instance exists; what is in nobody's way stays."""
    fleet = Fleet.of(A100, hosts=1, gpus_per_host=3)
    current = layout(fleet, {"host-0/gpu0": "1g.10gb@0=w.0", "host-0/gpu1": "2g.20gb@2 1g.10gb@6"})
    found = plan([Workload("w", 1, "1g.10gb"), Workload("v", 1, "7g.80gb")], fleet=fleet, modes=("mig",), current=current)
    by_gpu = {gpu.gpu: gpu for gpu in found.layout}
    assert by_gpu[0].slots == (Slot("1g.10gb", 0, "w", 0),)
    alone = layout(fleet, {"host-0/gpu2": "3g.40gb@4 1g.10gb@1"})
    one = plan({"3g.40gb": 1}, fleet=fleet, modes=("mig",), current=alone)
    assert [(gpu.gpu, gpu.slots) for gpu in one.layout if gpu.slots] == [
        (2, (Slot("1g.10gb", 1), Slot("3g.40gb", 4, "3g.40gb", 0)))
    ]
    tidy = plan({"3g.40gb": 1}, fleet=fleet, modes=("mig",), current=alone, objective=("placed", "gpus", "headroom"))
    assert [slot.profile for gpu in tidy.layout for slot in gpu.slots] == ["3g.40gb"]


def test_modes_are_not_changed_without_need() -> None:
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=3)
    modes = ("whole", "mig", None)
    current = Layout.of(GpuLayout("host-0", index, A30, mode) for index, mode in enumerate(modes))
    found = plan([Workload("w", 1, "2g.12gb")], fleet=fleet, current=current)
    assert [gpu.mode for gpu in found.layout] == ["whole", "mig", None]
    assert [bool(gpu.slots) for gpu in found.layout] == [False, True, False]
    whole = plan([Workload("w", 1, "whole"), Workload("v", 1, "2g.12gb")], fleet=fleet, current=current)
    assert [gpu.mode for gpu in whole.layout] == ["whole", "mig", None]


def test_replicas_keep_their_numbers_and_others_leave() -> None:
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=2)
    current = layout(fleet, {"host-0/gpu0": "1g.6gb@1=w.3 1g.6gb@3=w.1", "host-0/gpu1": "1g.6gb@0=w.0 1g.6gb@2=gone.0"})
    found = plan([Workload("w", 3, "1g.6gb")], fleet=fleet, modes=("mig",), current=current)
    places = places_now(found.layout)
    assert set(places) == {("w", 0), ("w", 1), ("w", 2)}
    assert len(found.moves) == 1
    assert found.gpus_used == 1


def test_a_replica_that_stands_twice_stays_once() -> None:
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=2)
    current = layout(fleet, {"host-0/gpu0": "1g.6gb@0=w.0", "host-0/gpu1": "1g.6gb@0=w.0 2g.12gb@2=w.0"})
    for pinned in ((), ("w",)):
        found = plan([Workload("w", 1, "1g.6gb")], fleet=fleet, modes=("mig",), current=current, pinned=pinned)
        assert (found.moves, found.gpus_used) == ((), 1)


def test_workloads_alike_keep_their_own_instances() -> None:
    fleet = Fleet.of(A100, hosts=2, gpus_per_host=4)
    lines = {
        f"host-{host}/gpu{gpu}": f"1g.10gb@{gpu}=w{host}{gpu}.0 2g.20gb@4=v{host}{gpu}.0" for host in range(2) for gpu in range(4)
    }
    current = layout(fleet, lines)
    found = plan(workloads_of(current), fleet=fleet, modes=("mig",), current=current, objective=("placed", "moves", "gpus"))
    assert found.moves == ()
    assert places_now(found.layout) == places_now(current)


# -- pins and maintenance ----------------------------------------------------------------------------------------------


def test_pinned_workloads_stay_and_hosts_are_freed() -> None:
    fleet = Fleet.of(A30, hosts=2, gpus_per_host=2)
    current = layout(
        fleet, {"host-0/gpu0": "1g.6gb@0=a.0", "host-0/gpu1": "1g.6gb@0=b.0 1g.6gb@2=b.1", "host-1/gpu0": "1g.6gb@3=c.0"}
    )
    wanted = workloads_of(current)
    assert plan(wanted, fleet=fleet, modes=("mig",), current=current).gpus_used == 1
    pinned = plan(wanted, fleet=fleet, modes=("mig",), current=current, pinned=("a", "b/1"))
    assert pinned.gpus_used == 2
    assert {move.workload for move in pinned.moves} <= {"b", "c"}
    assert stages(pinned)["moves"] == (1, 1)
    freed = plan(wanted, fleet=fleet, modes=("mig",), current=current, vacate="host-0", objective=("placed", "moves", "gpus"))
    assert {move.workload for move in freed.moves} == {"a", "b"}
    assert not [gpu for gpu in freed.layout if gpu.host == "host-0" and gpu.slots]
    both = plan(wanted, fleet=fleet, modes=("mig",), current=current, vacate=("host-0/gpu1", "host-1"), pinned="a/0")
    assert both.gpus_used == 1
    assert places_now(both.layout)["a", 0] == places_now(current)["a", 0]


def test_vacate_alone_keeps_gpus_free() -> None:
    fleet = Fleet.of(A30, hosts=2, gpus_per_host=1)
    found = plan({"4g.24gb": 2}, fleet=fleet, modes=("mig",), vacate=("host-0",))
    assert [(gpu.host, bool(gpu.slots)) for gpu in found.layout] == [("host-0", False), ("host-1", True)]
    assert found.unplaced[0].count == 1


SMALL = Fleet.of(A30, hosts=1, gpus_per_host=2)
RUNS = layout(SMALL, {"host-0/gpu0": "1g.6gb@0=w.0"})
W = [Workload("w", 2, "1g.6gb")]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"current": 3}, "current is a int, not a Layout"),
        ({"current": layout(Fleet.of(A30, hosts=["x"], gpus_per_host=1), {})}, "x/gpu0 stands in a host that the fleet has not"),
        (
            {"current": layout(Fleet.of(A30, hosts=1, gpus_per_host=3), {})},
            "host-0/gpu2 is not in the fleet; host-0 has GPUs 0 to 1",
        ),
        ({"current": layout(Fleet.of("T4", hosts=1, gpus_per_host=1), {})}, "is a T4 in current and a A30-24GB in the fleet"),
        ({"current": RUNS, "pinned": ("v",)}, "pinned 'v' is no workload of this plan"),
        ({"current": RUNS, "pinned": ("w/7",)}, "'w' has replicas 0 to 1"),
        ({"current": RUNS, "pinned": ("w/1",)}, "pinned 'w/1' runs nowhere in current"),
        ({"pinned": ("w",)}, "give current="),
        ({"current": RUNS, "pinned": 3}, "pinned is 3, not names"),
        ({"current": RUNS, "pinned": "w/0", "vacate": "host-0"}, "where it may not stay"),
        ({"current": RUNS, "vacate": ("host-1",)}, "vacate 'host-1' is no host and no GPU"),
        ({"current": RUNS, "vacate": ("host-0/gpu2",)}, "is no host and no GPU"),
        ({"objective": ("placed", "moves")}, "give current="),
        ({"current": RUNS, "objective": ("placed", "move")}, "unknown stage 'move'"),
    ],
)
def test_contradictions_are_refused(asked, message) -> None:
    with pytest.raises(SpecError, match=message):
        plan(W, fleet=SMALL, modes=("mig",), **asked)


def test_what_runs_now_has_to_agree_with_the_fleet() -> None:
    fixed = Fleet((Host("h", (Gpu(A30, mode="whole"),)),))
    with pytest.raises(SpecError, match="h/gpu0 \\(A30-24GB\\) is in mode mig, but the fleet says that it must stay in whole"):
        plan({"whole": 1}, fleet=fixed, current=layout(fixed, {"h/gpu0": "1g.6gb@0"}))
    busy = Fleet((Host("h", (Gpu(A30, instances=("2g.12gb@0",)),)),))
    with pytest.raises(SpecError, match=r"has 2g\.12gb@0 in the fleet and other placements in current"):
        plan({"1g.6gb": 1}, fleet=busy, current=layout(busy, {"h/gpu0": "1g.6gb@0=w.0"}))
    with pytest.raises(SpecError, match=r"vacate 'h': instance 2g\.12gb@0 exists there and must stay"):
        plan({"1g.6gb": 1}, fleet=busy, vacate=("h",))
    kept = plan({"1g.6gb": 2}, fleet=busy, current=layout(busy, {"h/gpu0": "2g.12gb@0 1g.6gb@3=1g.6gb.1"}))
    assert places_now(kept.layout)["1g.6gb", 1].start == 3


def test_a_pool_has_no_hosts_to_name() -> None:
    with pytest.raises(SpecError, match="plan for a fleet"):
        plan_mig({"1g.10gb": 1}, vacate=("gpu0",))
    with pytest.raises(SpecError, match="host-0/gpu0 stands in a host"):
        plan_mig({"1g.10gb": 1}, gpu=A30, current=RUNS)
    with pytest.raises(SpecError, match="gpu3 is beyond the 2 GPUs"):
        plan_mig({"1g.10gb": 1}, gpus=2, current=Layout.of([GpuLayout(None, 3, A100, "mig")]))


def test_workloads_of_a_layout() -> None:
    fleet = Fleet.of(A100, hosts=1, gpus_per_host=2)
    found = workloads_of(layout(fleet, {"host-0/gpu0": "1g.10gb@0=a.0 2g.20gb@2=a.1 3g.40gb@4", "host-0/gpu1": "7g.80gb@0=b.0"}))
    assert [(w.name, w.count, w.profile) for w in found] == [("a", 2, None), ("b", 1, "7g.80gb")]
    assert found[0].compute_slices == 1
    with pytest.raises(SpecError, match="nobody stands in the layout"):
        workloads_of(layout(fleet, {}))
    with pytest.raises(SpecError, match="not a Layout"):
        workloads_of("layout.json")


# -- GPUs without hosts, vGPU, other models ----------------------------------------------------------------------------


def test_gpus_without_hosts_keep_their_numbers() -> None:
    first = plan_mig({"3g.40gb": 3, "1g.10gb": 2})
    more = plan_mig(
        [Workload("3g.40gb", 3, "3g.40gb"), Workload("1g.10gb", 2, "1g.10gb"), Workload("7g.80gb", 2, "7g.80gb")], current=first
    )
    assert more.moves == ()
    assert (more.status, more.gpus_used, len(more.layout)) == ("optimal", 4, 4)
    fewer = plan_mig([Workload("1g.10gb", 1, "1g.10gb")], current=more)
    assert (fewer.gpus_used, len(fewer.layout), fewer.moves) == (1, 4, ())


def test_time_sliced_vgpus_stay() -> None:
    first = plan_vgpu({"T4-4Q": 5, "T4-8Q": 1}, gpu="T4", gpus=4)
    asked = [Workload("T4-4Q", 3, "T4-4Q"), Workload("T4-8Q", 2, "T4-8Q"), Workload("T4-16Q", 1, "T4-16Q")]
    found = plan_vgpu(asked, gpu="T4", gpus=4, current=first)
    assert (found.status, stages(found)["moves"]) == ("optimal", (0, 0))
    assert found.gpus_used == 3


def test_mixed_size_vgpus_have_an_honest_bound() -> None:
    first = plan_vgpu([Workload("a", 3, "A2-4Q"), Workload("b", 2, "A2-8Q")], gpu="A2", gpus=3)
    found = plan_vgpu(
        [Workload("a", 2, "A2-4Q"), Workload("b", 1, "A2-8Q"), Workload("c", 1, "A2-2Q")], gpu="A2", gpus=3, current=first
    )
    value, bound = stages(found)["moves"]
    assert value >= bound >= 0
    assert found.complete


def test_demands_by_size_may_stay_on_more_than_they_need() -> None:
    fleet = Fleet.of(A100, hosts=1, gpus_per_host=1)
    current = layout(fleet, {"host-0/gpu0": "3g.40gb@4=w.0"})
    found = plan([Workload("w", 1, memory_gib=8)], fleet=fleet, modes=("mig",), current=current)
    assert found.moves == ()
    squeezed = plan(
        [Workload("w", 1, memory_gib=8), Workload("v", 2, "3g.40gb")],
        fleet=Fleet.of(A100, hosts=1, gpus_per_host=1),
        modes=("mig",),
        current=current,
    )
    assert squeezed.unplaced[0].workload in ("v", "w")


# -- rules, services, the loss of a host -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.questions(most_hosts=3))
def test_any_plan_is_kept_by_planning_again(question: strategies.Question) -> None:
    """All rules, limits, models, modes and objectives mixed: planning again from a proven plan moves nothing."""
    try:
        first = plan(question.workloads, fleet=question.fleet, objective=question.objective, host_failures=question.host_failures)
    except SpecError:
        return
    again = plan(
        question.workloads,
        fleet=question.fleet,
        objective=(*first.objective, "moves"),
        host_failures=question.host_failures,
        current=first,
    )
    if first.status == again.status == "optimal":
        assert [stage.value for stage in again.objectives] == [*(stage.value for stage in first.objectives), 0]
        assert again.moves == ()


@pytest.mark.parametrize("seed", range(30))
def test_rules_with_what_runs_now(seed: int) -> None:
    """Stages before the moves are as without what runs now, and nothing moves where it runs as it should."""
    numbers = random.Random(seed)
    fleet = Fleet.of(A30, hosts=numbers.randint(1, 3), gpus_per_host=numbers.randint(1, 2), vcpus=numbers.choice([None, 8]))
    workloads = [
        Workload("a", numbers.randint(1, 3), "1g.6gb", spread=numbers.choice([None, "gpu", "host"]), vcpus=2),
        Workload(
            "b",
            numbers.randint(1, 2),
            "2g.12gb",
            apart_from=numbers.choice([(), ("a",)]),
            apart_on=numbers.choice(["gpu", "host"]),
        ),
        Workload("c", 1, memory_gib=5, gpus_per_replica=numbers.choice([1, 2])),
    ]
    objective = ("placed", "gpus", "waste", "moves")
    failures = int(len(fleet.hosts) > 1 and numbers.random() < 0.3)
    first = plan(workloads, fleet=fleet, modes=("mig",), host_failures=failures)
    again = plan(workloads, fleet=fleet, modes=("mig",), host_failures=failures, current=first, objective=objective)
    assert (first.status, again.status) == ("optimal", "optimal")
    assert again.moves == ()
    kept = [GpuLayout(g.host, g.gpu, g.model, g.mode, tuple(s for s in g.slots if numbers.random() < 0.7)) for g in first.layout]
    current = Layout.of(kept)
    running = sorted(places_now(current))
    pinned = (f"{running[0][0]}/{running[0][1]}",) if running and numbers.random() < 0.5 else ()
    other = plan(
        workloads, fleet=fleet, modes=("mig",), host_failures=failures, current=current, objective=objective, pinned=pinned
    )
    if not pinned:
        plain = {s.name: s.value for s in first.objectives}
        assert {name: value for name, (value, _) in stages(other).items() if name != "moves"} == plain
    for who in running if pinned else ():
        if f"{who[0]}/{who[1]}" in pinned:
            assert {a.start for a in other.assignments() if (a.workload, a.replica) == who} >= {places_now(current)[who].start}


def test_pins_against_the_rules_are_refused() -> None:
    fleet = Fleet.of(A30, hosts=2, gpus_per_host=1)
    current = layout(fleet, {"host-0/gpu0": "1g.6gb@0=a.0 1g.6gb@1=a.1"})
    apart = [Workload("a", 2, "1g.6gb", spread="host")]
    assert len(plan(apart, fleet=fleet, modes=("mig",), current=current).moves) == 1
    with pytest.raises(gp.InfeasibleError, match="leaves in place who is pinned"):
        plan(apart, fleet=fleet, modes=("mig",), current=current, pinned="a")


def test_replicas_of_several_gpus_stay_together() -> None:
    fleet = Fleet.of(A30, hosts=2, gpus_per_host=2)
    jobs = [Workload("job", 2, "4g.24gb", gpus_per_replica=2)]
    first = plan(jobs, fleet=fleet, modes=("mig",))
    again = plan([*jobs, Workload("w", 1, "1g.6gb", priority=1)], fleet=fleet, modes=("mig",), current=first)
    assert len({a.host for a in again.assignments() if a.workload == "job"}) == 1
    assert [(move.replica, move.destination) for move in again.moves] in ([(0, None)] * 2, [(1, None)] * 2)


TABLE = """gpu,profile,model,batch,processes,busy,throughput_per_s,latency_ms,source
A30-24GB,1g.6gb,m,1,1,yes,70,14,test
A30-24GB,2g.12gb,m,4,1,yes,210,19,test
A30-24GB,4g.24gb,m,4,1,yes,390,10,test
"""


def test_services_keep_their_instances(tmp_path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    table = gp.Calibration.from_csv(tmp_path / "table.csv")
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=3)

    def service(rate: float) -> list[Workload]:
        return [Workload("s", model="m", rate=rate, latency_ms=50, scenario="batch")]

    current = layout(fleet, {"host-0/gpu1": "2g.12gb@0=s.0 2g.12gb@2=s.1", "host-0/gpu2": "2g.12gb@2=s.2"})
    for rate, moves in ((600, 0), (800, 0), (400, 0), (1200, 0)):
        found = plan(service(rate), fleet=fleet, modes=("mig",), calibration=table, current=current)
        assert (len(found.moves), found.status) == (moves, "optimal")
        numbers = sorted(a.replica for a in found.assignments())
        assert numbers == list(range(len(numbers)))
    pushed = plan(
        [*service(400), Workload("w", 2, "4g.24gb", priority=1)], fleet=fleet, modes=("mig",), calibration=table, current=current
    )
    assert (len(pushed.moves), pushed.gpus_used) == (0, 3)
    out = plan(
        [*service(400), Workload("w", 3, "4g.24gb", priority=1)], fleet=fleet, modes=("mig",), calibration=table, current=current
    )
    assert [move.destination for move in out.moves] == [None] * 3


# -- figures, files, the check -----------------------------------------------------------------------------------------


def moved() -> gp.Plan:
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=3)
    current = layout(
        fleet, {"host-0/gpu0": "2g.12gb@0=a.0 1g.6gb@2=b.0", "host-0/gpu1": "1g.6gb@0=b.1", "host-0/gpu2": "1g.6gb@3=gone.0"}
    )
    wanted = [Workload("a", 1, "2g.12gb"), Workload("b", 2, "1g.6gb")]
    return plan(wanted, fleet=fleet, modes=("mig",), current=current, pinned="a/0", vacate="host-0/gpu2")


def test_moves_are_saved_and_read_back(tmp_path) -> None:
    before = moved()
    before.save(tmp_path / "plan.json")
    after = gp.Plan.load(tmp_path / "plan.json")
    assert (after.moves, after.current, after.pinned, after.vacate) == (before.moves, before.current, ("a/0",), ("host-0/gpu2",))
    assert after.to_json() == before.to_json()
    assert len(before.moves) == 1
    text = str(before)
    assert "b/1" in text
    assert "host-0/gpu1 1g.6gb@0" in text
    assert "b/1" in before.to_html()


def test_plans_of_before_are_still_read() -> None:
    plain = plan_mig({"1g.10gb": 2})
    text = plain.to_json()
    assert '"current"' not in text
    assert gp.Plan.from_json(text).moves == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{"name": "moves", "value": 1, "bound": 1}', '{"name": "moves", "value": 0, "bound": 0}', "moves is 1, not 0"),
        ('"pinned": ["a/0"]', '"pinned": ["b/1"]', "pinned 'b/1': b/1 is no longer on host-0/gpu1 at 1g.6gb@0"),
        ('"pinned": ["a/0"]', '"pinned": ["x"]', "pinned 'x' is no workload that was asked for"),
        ('"vacate": ["host-0/gpu2"]', '"vacate": ["host-0/gpu0"]', "host-0/gpu0 is to be vacated, but has placements"),
        ('{"workload": "b", "replica": 1, "from"', '{"workload": "b", "replica": 0, "from"', "moves names b/0"),
    ],
)
def test_claims_that_do_not_hold_are_found(old: str, new: str, message: str) -> None:
    text = moved().to_json()
    assert old in text
    with pytest.raises(SpecError, match=message):
        gp.Plan.from_json(text.replace(old, new))


def test_moves_without_what_ran_before_are_found() -> None:
    with pytest.raises(VerificationError, match="does not say what ran before"):
        replace(moved(), current=None, pinned=()).verify()
    with pytest.raises(VerificationError, match="does not say where it was"):
        replace(moved(), current=None).verify()


def test_moves_in_sequence_are_counted() -> None:
    """Two instances that change places: one has to leave first, whichever it is; a third goes to a free place."""
    fleet = Fleet.of(A30, hosts=1, gpus_per_host=3)
    current = layout(fleet, {"host-0/gpu0": "2g.12gb@0=a.0", "host-0/gpu1": "1g.6gb@0=b.0 1g.6gb@2=c.0"})
    goal = layout(fleet, {"host-0/gpu0": "1g.6gb@0=b.0 1g.6gb@2=c.0", "host-0/gpu2": "2g.12gb@0=a.0"})
    wanted = [Workload("a", 1, "2g.12gb"), Workload("b", 1, "1g.6gb"), Workload("c", 1, "1g.6gb"), Workload("d", 2, "1g.6gb")]
    figures = measure(goal, wanted, fleet, current=current)
    assert (figures.migrations, figures.sequential_migrations, figures.pending) == (3, 1, 2)


def test_a_thousand_gpus_are_proven_quickly() -> None:
    numbers = random.Random(5)
    fleet = Fleet.of(A100, hosts=125, gpus_per_host=8)
    lines, count = {}, {"1g.10gb": 0, "2g.20gb": 0, "3g.40gb": 0}
    for host, index, _ in fleet:
        words = []
        for profile, start in numbers.choice(
            [(("1g.10gb", 0),), (("3g.40gb", 4), ("1g.10gb", 2)), (("2g.20gb", 4),), (("3g.40gb", 0),)]
        ):
            words.append(f"{profile}@{start}={profile.replace('.', '-')}.{count[profile]}")
            count[profile] += 1
        lines[f"{host}/gpu{index}"] = " ".join(words)
    current = layout(fleet, lines)
    found = plan(workloads_of(current), fleet=fleet, modes=("mig",), current=current)
    assert found.status == "optimal"
    assert found.gpus_used < 600
    assert stages(found)["moves"][0] == len(found.moves) == found.metrics.migrations


def test_the_benchmark_compares_with_evacuation() -> None:
    result = compare(MIXES[0], 160, occupancy=0.6, seed=3)
    assert result.proven
    assert result.planner.gpus <= result.evacuation.gpus < result.used
    assert result.as_many is not None
    assert result.as_many <= result.evacuation.moves
