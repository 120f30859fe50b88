"""Online placement: never illegal, nothing lost, `None` only where nothing fits, the same after saving, from many threads."""

from __future__ import annotations

import json
import random
import threading

import independent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import gpu_modes, legal_placements

from partitioner import Fleet, SpecError, Workload, catalog
from partitioner.fleet import Gpu, Host
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.solver.online import POLICIES, Allocator, Placement

A100 = ("1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
MIXED = Fleet(
    (
        Host("a", (Gpu("A100-80GB"), Gpu("A30-24GB", "mig"), Gpu("T4", "vgpu-equal-4"), Gpu("T4"))),
        Host("b", (Gpu("A100-80GB", instances=("2g.20gb@2",)), Gpu("A2", "vgpu-mixed"), Gpu("T4", instances=("T4-8Q@1",)))),
    )
)
ASKED = (
    "1g.10gb",
    "1g.10gb+me",
    "2g.20gb",
    "3g.40gb",
    "7g.80gb",
    "2g.12gb",
    "1g.6gb",
    "T4-4Q",
    "T4-4C",
    "T4-8Q",
    "A2-4Q",
    "A2-8C",
    "whole",
)
WORKLOADS = (
    Workload("embed", memory_gib=5),
    Workload("chat", memory_gib=15, isolation="hardware"),
    Workload("big", compute_slices=3),
    Workload("half", gpu_share=0.5),
)

policies = pytest.mark.parametrize("policy", sorted(POLICIES))
steps = st.lists(st.tuples(st.sampled_from((*ASKED, *WORKLOADS)), st.integers(0, 3), st.integers(0, 10**6)), max_size=60)


def placed(layout: Layout) -> dict[tuple[str | None, int], tuple[str, str | None, list[tuple[str, int]]]]:
    return {(g.host, g.gpu): (g.model, g.mode, [(s.profile, s.start) for s in g.slots]) for g in layout}


def check_legal(allocator: Allocator) -> None:
    for model, mode, slots in placed(allocator.layout()).values():
        assert mode is not None or not slots
        assert mode is None or independent.legal(independent.rules(model)[mode], slots)


def fits_by_trying(allocator: Allocator, wanted: str) -> bool:
    """Try a profile at every start of every GPU, in each mode that the GPU may be in."""
    fleet = {(host, index): gpu for host, index, gpu in allocator.fleet}
    for key, (model, mode, slots) in placed(allocator.layout()).items():
        for candidate, profile in catalog.gpu(model).find(wanted):
            fixed = fleet[key].mode or (mode if slots else None)
            if candidate == fixed or (fixed is None and candidate != "vgpu-mixed"):
                rules = independent.rules(model)[candidate]
                if any(independent.legal(rules, [*slots, (profile.name, start)]) for start in profile.starts):
                    return True
    return False


def play(allocator: Allocator, moves: list[tuple[object, int, int]]) -> list[Placement | None]:
    """Place, or release one of those that stand in one of four steps."""
    answers: list[Placement | None] = []
    for wanted, kind, pick in moves:
        standing = allocator.placements
        if kind == 0 and standing:
            allocator.release(standing[pick % len(standing)].id)
        else:
            answers.append(allocator.place(wanted))
    return answers


# -- what always holds -------------------------------------------------------------------------------------------------


@policies
@settings(max_examples=25)
@given(moves=steps)
def test_never_illegal_and_none_only_where_nothing_fits(policy, moves):
    allocator = Allocator(MIXED, policy)
    start = placed(allocator.layout())
    for wanted, kind, pick in moves:
        standing = allocator.placements
        if kind == 0 and standing:
            allocator.release(standing[pick % len(standing)].id)
            continue
        expected = allocator.would_fit(wanted)
        if isinstance(wanted, str):
            assert expected == fits_by_trying(allocator, wanted)
        before = placed(allocator.layout())
        answer = allocator.place(wanted)
        assert (answer is not None) == expected
        after = placed(allocator.layout())
        if answer is None:
            assert after == before
        else:
            _, mode, slots = after[answer.host, answer.gpu]
            assert mode == answer.mode
            assert sorted(slots) == sorted([*before[answer.host, answer.gpu][2], (answer.profile, answer.start)])
        check_legal(allocator)
    for placement in allocator.placements:
        allocator.release(placement.id)
    assert placed(allocator.layout()) == start  # released GPUs are open to any mode again, what was kept still stands
    assert not len(allocator)


@policies
@settings(max_examples=25)
@given(model_mode=gpu_modes(), data=st.data())
def test_every_catalogued_gpu_is_filled_legally(policy, model_mode, data):
    model, mode = model_mode
    allocator = Allocator(Fleet.of(model, gpus_per_host=2, mode=mode), policy)
    names = [profile.name for profile in catalog.gpu(model).geometry(mode).profiles]
    for name in data.draw(st.lists(st.sampled_from(names), max_size=12)):
        expected = fits_by_trying(allocator, name)
        assert allocator.would_fit(name) == expected
        assert (allocator.place(name) is not None) == expected
    check_legal(allocator)


@policies
@settings(max_examples=12)
@given(moves=steps, more=steps, defragment=st.booleans())
def test_a_restored_allocator_goes_on_the_same(policy, moves, more, defragment):
    allocator = Allocator(MIXED, policy)
    play(allocator, moves)
    if defragment:
        allocator.defragment(3)
    restored = Allocator.from_json(allocator.to_json())
    assert restored.placements == allocator.placements
    assert restored.layout() == allocator.layout()
    assert play(restored, more) == play(allocator, more)
    assert restored.defragment(4) == allocator.defragment(4)
    assert restored.to_json() == allocator.to_json()


@policies
def test_a_restored_allocator_has_learnt_the_same(policy):
    allocator = Allocator(Fleet.of("A100-80GB", hosts=2, mode="mig"), policy)
    numbers = random.Random(7)
    moves = [(numbers.choice(A100), numbers.randrange(3), numbers.randrange(10**6)) for _ in range(3_000)]
    play(allocator, moves[:2_000])
    restored = Allocator.from_json(allocator.to_json())
    assert (restored._until, restored._interval) == (allocator._until, allocator._interval)
    assert play(restored, moves[2_000:]) == play(allocator, moves[2_000:])


@policies
@settings(max_examples=12)
@given(moves=steps, budget=st.integers(0, 6), wanted=st.none() | st.sampled_from((*ASKED, *WORKLOADS)))
def test_defragmentation_keeps_everything_legal_within_its_budget(policy, moves, budget, wanted):
    allocator = Allocator(MIXED, policy)
    play(allocator, moves)
    before = {placement.id: placement for placement in allocator.placements}
    fitted = {name for name in ASKED if allocator.would_fit(name)}
    layout = placed(allocator.layout())
    migrations = allocator.defragment(budget, wanted)
    assert len(migrations) <= budget
    where = dict(before)
    for migration in migrations:  # each target is free when it is taken, before the source is given up
        assert where[migration.source.id] == migration.source
        model, _, slots = layout[migration.target.host, migration.target.gpu]
        slots.append((migration.target.profile, migration.target.start))
        layout[migration.target.host, migration.target.gpu] = (model, migration.target.mode, slots)
        assert independent.legal(independent.rules(model)[migration.target.mode], slots)
        left = layout[migration.source.host, migration.source.gpu][2]
        if wanted is None:
            left.remove((migration.source.profile, migration.source.start))
        where[migration.source.id] = migration.target
    assert where == {placement.id: placement for placement in allocator.placements}
    check_legal(allocator)
    if wanted is not None and migrations:
        assert (wanted not in fitted) if isinstance(wanted, str) else True
        assert allocator.place(wanted) is not None
    for placement in allocator.placements:
        allocator.release(placement.id)
    assert placed(allocator.layout()) == placed(Allocator(MIXED, policy).layout())


def test_threads_never_get_the_same_slot_and_lose_none():
    allocator = Allocator(Fleet.of("A100-80GB", hosts=2, mode="mig"))
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        numbers, mine = random.Random(seed), []
        try:
            for _ in range(400):
                if mine and numbers.random() < 0.45:
                    allocator.release(mine.pop(numbers.randrange(len(mine))).id)
                elif (placement := allocator.place(numbers.choice(A100))) is not None:
                    mine.append(placement)
                if numbers.random() < 0.01:
                    allocator.layout()
            kept.extend(placement.id for placement in mine)
        except BaseException as error:  # noqa: BLE001 - a thread's error would be lost
            errors.append(error)

    kept: list[int] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(kept) == sorted(placement.id for placement in allocator.placements)
    check_legal(allocator)
    slots = [(p.host, p.gpu, p.start) for p in allocator.placements]
    assert len(slots) == len(set(slots))


# -- policies on small examples ----------------------------------------------------------------------------------------


def test_first_fit_takes_the_first_gpu_and_its_lowest_start():
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=3, mode="mig"), "first-fit")
    got = [allocator.place(name) for name in ("1g.10gb", "4g.40gb", "3g.40gb", "1g.10gb", "7g.80gb")]
    assert [(p.gpu, p.start) for p in got if p] == [(0, 0), (1, 0), (0, 4), (0, 1), (2, 0)]


def test_best_fit_takes_the_fullest_gpu_and_starts_in_the_order_that_keeps_room():
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=2, mode="mig"), "best-fit")
    got = [allocator.place("1g.10gb") for _ in range(7)]
    assert [(p.gpu, p.start) for p in got if p] == [(0, start) for start in (6, 4, 5, 0, 1, 2, 3)]
    assert allocator.place("1g.10gb").gpu == 1


def test_fragmentation_aware_keeps_what_its_mix_asks_for():
    fleet = Fleet.of("A100-80GB", gpus_per_host=2, mode="mig")
    for other, start in (("4g.40gb", 4), ("3g.40gb", 4)):
        allocator = Allocator(fleet, "fragmentation-aware", mix={"2g.20gb": 1, other: 1})
        assert allocator.place("2g.20gb").start == start
    allocator = Allocator(fleet, "fragmentation-aware", mix={"1g.10gb": 1, "3g.40gb": 1})
    first = allocator.place("3g.40gb")
    assert allocator.place("1g.10gb").gpu == first.gpu  # beside 3g+3g one compute slice would be lost


def test_keep_room_leaves_alone_what_is_about_to_be_empty():
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=2, mode="mig"), mix={"1g.10gb": 8, "7g.80gb": 1})
    many = [allocator.place("1g.10gb") for _ in range(8)]  # seven on one GPU, one on the other
    assert [p.gpu for p in many].count(many[0].gpu) == 7
    allocator.release(many[3].id)
    again = allocator.place("1g.10gb")
    assert again.gpu == many[0].gpu  # not beside the single one, whose GPU will soon be whole
    allocator.release(many[7].id)
    assert allocator.place("7g.80gb") is not None


def test_keep_room_learns_what_is_asked_for():
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=1, mode="mig"))
    for _ in range(2_000):  # 4g.40gb and 1g.10gb come; nobody ever asks for 3g.40gb
        for name in ("4g.40gb", "1g.10gb"):
            placement = allocator.place(name)
            allocator.release(placement.id)
    assert allocator.place("1g.10gb").start in (4, 5, 6)
    assert allocator.would_fit("4g.40gb")


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_gpu_without_a_mode_takes_the_one_it_needs_and_is_open_again_when_empty():
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=1))
    assert next(iter(allocator.layout())).mode is None
    first = allocator.place("1g.10gb")
    assert (first.mode, next(iter(allocator.layout())).mode) == ("mig", "mig")
    assert not allocator.would_fit("whole")
    allocator.release(first.id)
    whole = allocator.place("whole")
    assert (whole.mode, whole.start) == ("whole", 0)
    allocator.release(whole.id)
    assert allocator.place("A100D-10C").mode == "vgpu-equal-10"
    assert allocator.place("1g.10gb") is None
    assert allocator.place("A100D-10C").start == 1


def test_existing_instances_stay_and_cannot_be_released():
    allocator = Allocator(Fleet((Host("h", (Gpu("A100-80GB", instances=("3g.40gb@4", "1g.10gb@0")),)),)))
    assert len(allocator) == 0
    assert [(p.profile, p.start) for p in (allocator.place("2g.20gb"), allocator.place("1g.10gb")) if p] == [
        ("2g.20gb", 2),
        ("1g.10gb", 1),
    ]
    assert allocator.place("1g.10gb") is None
    assert [slot.start for slot in next(iter(allocator.layout())).slots] == [0, 1, 2, 4]


def test_a_layout_is_taken_over_and_can_be_released():
    slots = (Slot("3g.40gb", 0, "chat", 2), Slot("3g.40gb", 4))
    allocator = Allocator(
        Fleet.of("A100-80GB", gpus_per_host=2), layout=Layout.of([GpuLayout("host-0", 1, "A100-80GB", "mig", slots)])
    )
    assert [(p.id, p.gpu, p.start, p.workload, p.replica) for p in allocator.placements] == [
        (0, 1, 0, "chat", 2),
        (1, 1, 4, None, None),
    ]
    assert [allocator.place(Workload("chat", profile="1g.10gb")).replica for _ in range(3)] == [0, 1, 3]
    allocator.release(0)
    assert allocator.place(Workload("chat", profile="1g.10gb")).replica == 2


@settings(max_examples=25)
@given(data=st.data(), model_mode=gpu_modes())
def test_any_layout_is_taken_over_as_it_is(data, model_mode):
    model, mode = model_mode
    placements = data.draw(legal_placements(catalog.gpu(model).geometry(mode)))
    slots = tuple(Slot(placement.profile.name, placement.start, "w", number) for number, placement in enumerate(placements))
    layout = Layout.of([GpuLayout("host-0", 0, model, mode, slots)])
    allocator = Allocator(Fleet.of(model, gpus_per_host=1, mode=mode), layout=layout)
    assert allocator.layout() == layout
    restored = Allocator.from_json(allocator.to_json())
    assert restored.layout() == layout
    for placement in restored.placements:
        restored.release(placement.id)
    assert not any(gpu.slots for gpu in restored.layout())


def test_workloads_by_size_take_the_least_profile_and_count_their_replicas():
    allocator = Allocator(Fleet((Host("h", (Gpu("A100-80GB", "mig"), Gpu("A30-24GB", "mig"), Gpu("T4", "vgpu-equal-8"))),)))
    embed = Workload("embed", memory_gib=11, isolation="hardware")
    got = [allocator.place(embed) for _ in range(3)]
    assert {(p.profile, p.mode) for p in got} <= {("1g.20gb", "mig"), ("2g.12gb", "mig")}
    assert [p.replica for p in got] == [0, 1, 2]
    assert {p.workload for p in got} == {"embed"}
    allocator.release(got[1].id)
    assert allocator.place(embed).replica == 1
    assert allocator.place(Workload("soft", memory_gib=7)) is not None
    assert Allocator(Fleet.of("A100-80GB"), modes="mig").place(Workload("w", memory_gib=7)).profile == "1g.10gb"


def test_making_room_moves_as_little_as_needed():
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=2, mode="mig"), "first-fit")
    first = [allocator.place("1g.10gb") for _ in range(14)]
    for placement in first[1:7] + first[9:]:
        allocator.release(placement.id)  # one is left on the first GPU, two on the second
    assert not allocator.would_fit("7g.80gb")
    assert allocator.defragment(0, "7g.80gb") == ()
    (migration,) = allocator.defragment(5, "7g.80gb")
    assert (migration.source.gpu, migration.target.gpu, migration.source.id) == (0, 1, first[0].id)
    assert allocator.place("7g.80gb").gpu == 0
    assert allocator.defragment(5, "7g.80gb") == ()
    assert str(migration).startswith("~ #0 host-0/gpu0 1g.10gb@0 -> host-0/gpu1 ")


@policies
def test_defragmentation_makes_room_for_what_was_refused_and_then_for_all(policy):
    allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=4, mode="mig"), policy, mix=dict.fromkeys(A100, 1))
    small = [allocator.place("1g.10gb") for _ in range(28)]
    for placement in small[1:7] + small[8:14] + small[15:21] + small[22:]:
        allocator.release(placement.id)  # one is left on each GPU
    assert allocator.place("7g.80gb") is None
    first = allocator.defragment(1)
    assert len(first) == 1
    assert allocator.place("7g.80gb").gpu == first[0].source.gpu
    gathered = allocator.defragment(10)
    assert len({placement.gpu for placement in allocator.placements if placement.profile == "1g.10gb"}) == 1
    assert len(gathered) == 2
    assert allocator.defragment(10) == ()
    assert allocator.place("7g.80gb") is not None


# -- bad input ---------------------------------------------------------------------------------------------------------

FLEET = Fleet.of("A100-80GB", gpus_per_host=1, mode="mig")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: Allocator(FLEET, "worst-fit"), r"policy 'worst-fit' is unknown"),
        (lambda: Allocator(FLEET, mix={"9g.90gb": 1}), r"9g\.90gb"),
        (lambda: Allocator(FLEET, mix={"1g.10gb": -1}), r"weight of '1g\.10gb' is -1"),
        (lambda: Allocator(FLEET, mix={"1g.10gb": 0}), r"no weight is above 0"),
        (lambda: Allocator(FLEET, mix=[1]), r"not a mapping"),
        (lambda: Allocator(FLEET, modes="migg"), r"unknown mode 'migg'"),
        (lambda: Allocator(FLEET, modes=3), r"modes is 3"),
        (lambda: Allocator("no/such/fleet.yaml"), r"fleet\.yaml"),
        (lambda: Allocator(FLEET, layout="x"), r"layout is str"),
        (lambda: Allocator(FLEET, layout=Layout.of([GpuLayout("x", 0, "A100-80GB", None)])), r"x/gpu0 is no GPU of the fleet"),
        (
            lambda: Allocator(FLEET, layout=Layout.of([GpuLayout("host-0", 0, "T4", None)])),
            r"of model T4, in the fleet A100-80GB",
        ),
        (
            lambda: Allocator(FLEET, layout=Layout.of([GpuLayout("host-0", 0, "A100-80GB", "whole", (Slot("whole", 0),))])),
            r"in which no GPU of this fleet may be",
        ),
        (lambda: Allocator(FLEET).place("3g.50gb"), r"unknown profile '3g\.50gb'; did you mean"),
        (lambda: Allocator(FLEET).place("T4-4Q"), r"one of T4, not of A100-80GB"),
        (lambda: Allocator(FLEET).place("whole"), r"'whole' is to be had on A100-80GB in mode whole"),
        (lambda: Allocator(FLEET).place(3), r"3 is neither a profile nor a workload"),
        (lambda: Allocator(FLEET).place(Workload("w", memory_gib=500)), r"no profile of A100-80GB has 500 GiB"),
        (lambda: Allocator(FLEET).place(Workload("w", profile="1g.10gb", spread="gpu")), r"does not know spread \(here 'gpu'\)"),
        (lambda: Allocator(FLEET).place(Workload("w", profile="1g.10gb", only_on=("host-0",))), r"does not know only_on"),
        (lambda: Allocator(FLEET).release(0), r"no placement has id 0"),
        (lambda: Allocator(FLEET).release([1]), r"no placement has id \[1\]"),
        (lambda: Allocator(FLEET).defragment(-1), r"budget is -1"),
        (lambda: Allocator(FLEET).defragment(True), r"budget is True"),
        (lambda: Allocator.from_json("{}"), r"not the state of an allocator"),
        (lambda: Allocator.from_json("{"), r"<json>"),
        (lambda: Allocator.load("no/such.json"), r"such\.json"),
        (lambda: Allocator(FLEET).save("no/such/folder/state.json"), r"cannot be written"),
    ],
)
def test_bad_input_is_one_clear_error(what, message):
    with pytest.raises(SpecError, match=message):
        what()


def test_released_twice_is_an_error_and_changes_nothing():
    allocator = Allocator(FLEET)
    first = allocator.place("1g.10gb")
    allocator.release(first.id)
    second = allocator.place("1g.10gb")
    assert second.id != first.id
    with pytest.raises(SpecError, match="no placement has id 0"):
        allocator.release(first.id)
    assert allocator.placements == (second,)


def test_a_request_refused_as_wrong_leaves_no_trace():
    allocator = Allocator(FLEET)
    before = allocator.to_json()
    with pytest.raises(SpecError):
        allocator.place("3g.50gb")
    assert allocator.to_json() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("policy", "x"),
        ("fleet", {}),
        ("placements", [[0, 0, "mig", "1g.10gb", 0, 0, None, None]] * 2),
        ("placements", [[0, 9, "mig", "1g.10gb", 0, 0, None, None]]),
        ("placements", [[0, 0, "mig", "1g.10gb", 7, 0, None, None]]),
        ("placements", [[5, 0, "mig", "1g.10gb", 0, 0, None, None]]),
        ("placements", [3]),
        ("order", []),
        ("order", [0, 0]),
        ("next_id", None),
        ("demands", [{"profile": "9g"}]),
        ("demands", 4),
        ("until", [0]),
        ("until", [0, 0]),
        ("shares", [-1]),
    ],
)
def test_a_corrupted_state_is_refused(tmp_path, field, value):
    allocator = Allocator(FLEET)
    allocator.place("1g.10gb")
    allocator.save(path := tmp_path / "state.json")
    assert Allocator.load(path).placements == allocator.placements
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, field: value}), encoding="utf-8")
    with pytest.raises(SpecError, match=r"state\.json"):
        Allocator.load(path)
    del data[field]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SpecError, match=r"state\.json"):
        Allocator.load(path)
