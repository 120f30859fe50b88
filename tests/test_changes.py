"""Steps between layouts: golden cases, every prefix legal, the end is the goal, what stays is not touched."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from golden_changes import Case, cases, layout
from hypothesis import given
from hypothesis import strategies as st
from independent import legal, rules
from strategies import layout_pairs

from partitioner import catalog
from partitioner.changes import Changes, State, Step, diff, renumbered
from partitioner.errors import InfeasibleError, SpecError, TargetError
from partitioner.fleet import Fleet
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.planning import plan

A = "A100-80GB mig"
KINDS = {"create", "destroy", "keep", "mode", "drain", "start", "move"}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_golden_case(case: Case) -> None:
    assert case.outcome() == case.expected


def test_there_are_golden_cases_of_every_outcome() -> None:
    kinds = {next(iter(case.expected)) for case in cases()}
    assert kinds == {"steps", "noop", "error"}
    assert {step.kind for case in cases() if "steps" in case.expected for step in case.changes()} == KINDS


def _same(found: Layout, goal: Layout) -> bool:
    """Whether a layout is the goal; GPUs whose mode the goal leaves open may have any."""
    wanted = {(gpu.host, gpu.gpu): gpu for gpu in goal}
    return all(
        gpu.slots == tuple(Slot(s.profile, s.start, s.workload, s.replica) for s in wanted[gpu.host, gpu.gpu].slots)
        and wanted[gpu.host, gpu.gpu].mode in (None, gpu.mode)
        for gpu in found
        if (gpu.host, gpu.gpu) in wanted
    )


@given(layout_pairs())
def test_carrying_out_ends_at_the_goal_and_touches_nothing_that_stays(pair: tuple[Layout, Layout]) -> None:
    base, goal = pair
    changes = diff(base, goal)
    kept = {
        (a.host, a.gpu, s.profile, s.start)
        for a, b in zip(base, goal, strict=True)
        for s in a.slots
        if s.ready and a.mode == (b.mode or a.mode) and any((s.profile, s.start) == (t.profile, t.start) for t in b.slots)
    }
    state = State(base)
    for step in changes.steps:
        if step.kind in ("create", "destroy"):
            assert (step.host, step.gpu, step.profile, step.start) not in kept
        state.perform(step)
        now = state.gpu((step.host, step.gpu))
        if now.mode == "mig":  # a second opinion, which shares no code
            assert legal(rules(now.model)["mig"], [(s.profile, s.start) for s in now.slots])
    assert _same(state.layout(), goal)
    assert not diff(state.layout(), goal)
    assert {step.place for step in changes.steps if step.kind == "keep"} <= {
        Step("keep", host, gpu, "", "", profile, start).place for host, gpu, profile, start in kept
    }


@given(layout_pairs())
def test_interruptions_are_what_the_steps_do(pair: tuple[Layout, Layout]) -> None:
    base, goal = pair
    changes = diff(base, goal)
    before = {(a.workload, a.replica) for a in base.assignments()}
    after = {(a.workload, a.replica) for a in goal.assignments()}
    down: dict[tuple[str | None, int | None], int] = {}
    peak = 0
    interrupted = set()
    for step in changes.steps:
        who = (step.workload, step.replica)
        if step.kind == "drain" and step.interrupts:
            down[who] = down.get(who, 0) + 1
            interrupted.add(who)
        elif step.kind == "start" and who in down:
            down[who] -= 1
            if not down[who]:
                del down[who]
        peak = max(peak, len(down))
    assert not down  # who was interrupted runs again
    assert interrupted <= before & after
    assert peak == changes.peak_interruptions
    assert changes.interruptions == tuple(dict.fromkeys(w for s in changes if s.kind == "drain" for w in s.interrupts))
    try:
        gentle = diff(base, goal, max_interruptions=max(peak - 1, 0))
    except InfeasibleError:
        assert peak > 0
    else:
        assert gentle.peak_interruptions <= max(peak - 1, 0)


@given(layout_pairs())
def test_nothing_to_do_between_equal_layouts(pair: tuple[Layout, Layout]) -> None:
    goal = pair[1]
    changes = diff(goal, goal)
    assert not changes
    assert changes.steps == ()
    assert len(changes.base) == 0
    assert str(changes) == "Nothing to do"


@given(layout_pairs(most_gpus=3))
def test_files_give_the_same_changes(pair: tuple[Layout, Layout]) -> None:
    changes = diff(*pair)
    text = changes.to_json()
    again = Changes.from_json(text)
    assert again == changes
    assert again.to_json() == text
    assert again.peak_interruptions == changes.peak_interruptions


@given(layout_pairs(most_gpus=3))
def test_the_way_back(pair: tuple[Layout, Layout]) -> None:
    base, goal = pair
    changes = diff(base, goal)
    state = State(changes.base)
    for step in (*changes.steps, *diff(_after(changes), changes.base).steps):
        state.perform(step)
    assert _same(state.layout(), changes.base)


def _after(changes: Changes) -> Layout:
    state = State(changes.base)
    for step in changes.steps:
        state.perform(step)
    return state.layout()


@given(layout_pairs(models=["A100-80GB"], most_gpus=4), st.data())
def test_a_second_diff_from_anywhere_on_the_way_ends_at_the_goal(pair: tuple[Layout, Layout], data: st.DataObject) -> None:
    base, goal = pair
    changes = diff(base, goal)
    state = State(base)
    for step in changes.steps[: data.draw(st.integers(0, len(changes.steps)))]:
        state.perform(step)
    for step in diff(state.layout(), goal).steps:
        state.perform(step)
    assert _same(state.layout(), goal)


def test_free_capacity_avoids_every_interruption() -> None:
    swap = {f"a/gpu{i}": f"{A} 3g.40gb@0=w.{i} 3g.40gb@4=v.{i}" for i in range(4)}
    turned = {f"a/gpu{i}": f"{A} 3g.40gb@0=v.{3 - i} 3g.40gb@4=w.{3 - i}" for i in range(4)}
    full = diff(layout(swap), layout(turned))
    assert full.interruptions
    spare = diff(layout(swap | {"a/gpu4": A}), layout(turned | {"a/gpu4": A}), max_interruptions=0)
    assert not spare.interruptions
    assert spare.created == spare.destroyed > 0  # spare instances go when they are not needed any longer


def test_a_plan_is_a_goal_and_other_gpus_stay() -> None:
    fleet = Fleet.of("A100-80GB", gpus_per_host=2)
    found = plan({"3g.40gb": 3}, fleet=fleet)
    now = Layout.of([GpuLayout("host-0", i, "A100-80GB", "mig") for i in range(2)] + [GpuLayout("other", 0, "T4", "whole")])
    changes = diff(now, found)
    assert changes.created == changes.started == 3
    assert all(step.host == "host-0" for step in changes)


def test_marks_and_words() -> None:
    marks = {
        step.kind: step.mark for case in cases() if "steps" in case.expected for step in case.changes() if not step.interrupts
    }
    assert marks == {"create": "+", "start": "+", "move": "~", "destroy": "-", "drain": "-", "keep": "=", "mode": "!"}
    mode = next(step for step in Case("", {"base": {"gpu0": "A30-24GB whole"}, "goal": {"gpu0": "A30-24GB mig"}}).changes())
    assert mode.disruptive
    assert mode.restart == "gpu reset"
    assert "interrupts nobody" in str(mode)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step("create", "a", 0, "A100-80GB", "mig", "3g.40gb", 2), "cannot start at 2; legal starts are 0, 4"),
        (Step("create", "a", 0, "A100-80GB", "mig", "4g.40gb", 0), "overlaps"),
        (Step("create", "a", 0, "A100-80GB", "mig", "9g.40gb", 0), "unknown profile '9g.40gb'"),
        (Step("create", "a", 0, "A100-80GB", "whole", "whole", 0), "is in mode mig; create needs whole"),
        (Step("create", "a", 0, "H100-80GB", "mig", "1g.10gb", 6), "is of model A100-80GB"),
        (Step("create", "b", 0, "A100-80GB", "mig", "1g.10gb", 6), "no such GPU here; there are a/gpu0"),
        (Step("destroy", "a", 0, "A100-80GB", "mig", "2g.20gb", 0), "held by web/0; drain it first"),
        (Step("destroy", "a", 0, "A100-80GB", "mig", "1g.10gb", 0), "no instance 1g.10gb@0; there is 2g.20gb@0, 1g.10gb@4"),
        (Step("start", "a", 0, "A100-80GB", "mig", "2g.20gb", 0, "x", 0), "held by web/0; x/0 finds no room"),
        (Step("start", "a", 0, "A100-80GB", "mig", "1g.10gb", 5, "x", 0), "not finished"),
        (Step("drain", "a", 0, "A100-80GB", "mig", "1g.10gb", 4, "x", 0), "is held by nobody, not by x/0"),
        (Step("mode", "a", 0, "A100-80GB", "whole", before="mig"), "cannot change to mode whole with 2g.20gb@0"),
        (Step("mode", "a", 1, "A100-80GB", "vgpu-equal-7", before="mig"), "has no mode 'vgpu-equal-7'"),
    ],
)
def test_what_is_not_legal_is_refused_and_changes_nothing(step: Step, reason: str) -> None:
    state = State(layout({"a/gpu0": f"{A} 2g.20gb@0=web.0 1g.10gb@4 1g.10gb@5!", "a/gpu1": A}))
    before = state.layout()
    with pytest.raises(TargetError) as caught:
        state.perform(step)
    assert reason in str(caught.value)
    assert state.layout() == before


def test_a_replica_moves_between_instances_of_one_gpu() -> None:
    state = State(layout({"a/gpu0": f"{A} 1g.10gb@0=w.0 1g.10gb@1"}))
    (step,) = (s for s in diff(state.layout(), layout({"a/gpu0": f"{A} 1g.10gb@0 1g.10gb@1=w.0"})) if s.kind == "move")
    state.perform(step)
    assert state.layout() == layout({"a/gpu0": f"{A} 1g.10gb@0 1g.10gb@1=w.0"})
    with pytest.raises(TargetError, match="held by"):
        state.perform(step)


def _saved(tmp_path: Path, change: dict[str, object] | None = None, **steps: object) -> Path:
    changes = diff(layout({"a/gpu0": A}), layout({"a/gpu0": f"{A} 3g.40gb@4=x.0"}))
    data = json.loads(changes.to_json()) | (change or {})
    if steps:
        data["steps"][0] |= steps
    path = tmp_path / "changes.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_file_is_read_back(tmp_path: Path) -> None:
    changes = diff(layout({"a/gpu0": A}), layout({"a/gpu0": f"{A} 3g.40gb@4=x.0"}))
    changes.save(tmp_path / "changes.json")
    assert Changes.load(tmp_path / "changes.json") == changes
    assert Changes.load(_saved(tmp_path)) == changes


@pytest.mark.parametrize(
    ("change", "steps", "reason"),
    [
        ({"format": "gpu-partitioner/plan"}, {}, "not a file of changes"),
        ({"version": 2}, {}, "version 2 of the format; this release reads 1"),
        ({"surprise": 1}, {}, "unknown field 'surprise'"),
        ({"steps": [{"kind": "explode"}]}, {}, "changes.json"),
        ({"steps": []}, {}, "do not lead to the goal on a/gpu0"),
        ({"goal": [{"host": "a"}]}, {}, "field 'gpu' is missing"),
        ({}, {"start": 2}, "cannot start at 2"),
        ({}, {"colour": "red"}, "colour"),
        ({}, {"start": "4!"}, "start"),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    tmp_path: Path, change: dict[str, object], steps: dict[str, object], reason: str
) -> None:
    with pytest.raises(SpecError) as caught:
        Changes.load(_saved(tmp_path, change, **steps))
    assert reason in str(caught.value)
    assert "changes.json" in str(caught.value)


def test_arguments_are_checked() -> None:
    here = layout({"a/gpu0": A})
    with pytest.raises(SpecError, match="goal is a str, neither a layout nor a plan"):
        diff(here, "plan.json")  # type: ignore[arg-type]
    for wrong in (-1, 1.5, True):
        with pytest.raises(SpecError, match="max_interruptions"):
            diff(here, here, max_interruptions=wrong)  # type: ignore[arg-type]


def test_every_problem_of_a_goal_is_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        diff(layout({"a/gpu0": A, "a/gpu1": "T4 whole"}), layout({"a/gpu1": A, "b/gpu0": A}))
    assert len(str(caught.value).splitlines()) == 1  # what the goal names in vain comes first
    with pytest.raises(SpecError, match="a/gpu1: is of model T4 now; the goal was made for A100-80GB"):
        diff(layout({"a/gpu0": A, "a/gpu1": "T4 whole"}), layout({"a/gpu1": A}))


def test_all_models_can_be_changed() -> None:
    """Each catalogued GPU goes from its first mode to its last one and back."""
    for name in catalog.names():
        model = catalog.gpu(name)
        first, last = model.geometries[0], model.geometries[-1]
        here = Layout.of(
            [GpuLayout("h", 0, name, first.mode, (Slot(first.profiles[0].name, first.profiles[0].starts[0], "w", 0),))]
        )
        there = Layout.of(
            [GpuLayout("h", 0, name, last.mode, (Slot(last.profiles[0].name, last.profiles[0].starts[0], "w", 0),))]
        )
        for a, b in ((here, there), (there, here)):
            state = State(a)
            for step in diff(a, b):
                state.perform(step)
            assert state.layout() == b


@given(layout_pairs())
def test_renumbering_keeps_workloads_where_they_are_and_moves_fewer(pair: tuple[Layout, Layout]) -> None:
    base, goal = pair
    found = renumbered(goal, base)
    where = [(a.workload, a.host, a.gpu, a.profile, a.start) for a in found.assignments()]
    assert where == [(a.workload, a.host, a.gpu, a.profile, a.start) for a in goal.assignments()]
    crew = [sorted((a.workload, a.replica) for a in side.assignments()) for side in (found, goal)]
    assert len(set(crew[0])) == len(set(crew[1]))  # as many replicas as before, none merged
    assert renumbered(found, base) == found
    common = {(a.workload, a.replica, a.host, a.gpu, a.profile, a.start) for a in base.assignments()}
    stay = [
        len(common & {(a.workload, a.replica, a.host, a.gpu, a.profile, a.start) for a in side.assignments()})
        for side in (found, goal)
    ]
    single = all(count == 1 for count in Counter((a.workload, a.replica) for side in pair for a in side.assignments()).values())
    assert not single or stay[0] >= stay[1]
