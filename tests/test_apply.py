"""Tests of `apply` and `rollback` on the simulated target: goals, faults at every step, kills, drift, locks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partitioner import catalog
from partitioner.applying import Goal, Report, apply, changes_here, goal_here, rollback
from partitioner.changes import Changes, Step, diff
from partitioner.errors import DriftError, SpecError, StepError, TargetError
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.targets import Fault, SimulatedTarget, StateFolder
from tests.strategies import gpu_modes, legal_placements

IN_FOLDER = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


# -- layouts to go between ---------------------------------------------------------------------------------------------


@st.composite
def _gpu(draw: st.DrawFn, host: str, index: int, model: str, mode: str, crowd: list[tuple[str, int]]) -> GpuLayout:
    slots = []
    for placement in draw(legal_placements(catalog.gpu(model).geometry(mode))):
        held = bool(crowd) and draw(st.booleans())
        slots.append(Slot(placement.profile.name, placement.start, *(crowd.pop() if held else (None, None))))
    return GpuLayout(host, index, model, mode, tuple(slots))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Layout, Layout]:
    """Two layouts of the same GPUs, of any model, in any modes; a replica is in each at most once."""
    models = [(model, mode, draw(st.sampled_from((mode, *catalog.gpu(model).modes)))) for model, mode in
              draw(st.lists(gpu_modes(), min_size=1, max_size=3))]  # fmt: skip
    models += models[: draw(st.integers(0, len(models)))]  # GPUs of one model, between which replicas can move
    places = [(f"h{number % 2}", number // 2) for number in range(len(models))]
    found = []
    for side in (1, 2):
        crowd = draw(st.permutations([(name, number) for name in "abc" for number in range(3)]))
        gpus = [draw(_gpu(*place, kind[0], kind[side], crowd)) for place, kind in zip(places, models, strict=True)]
        found.append(Layout.of(sorted(gpus, key=lambda gpu: (gpu.host, gpu.gpu))))
    return found[0], found[1]


def _fleet(layout: Layout) -> Fleet:
    hosts: dict[str, list[Gpu]] = {}
    for gpu in layout:
        hosts.setdefault(str(gpu.host), []).append(Gpu(gpu.model))
    return Fleet(tuple(Host(name, tuple(gpus)) for name, gpus in hosts.items()))


def _target(layout: Layout, fault: object = None, state: StateFolder | None = None) -> SimulatedTarget:
    return SimulatedTarget(_fleet(layout), layout, fault, state=state)


class _Watched(SimulatedTarget):
    """Counts which GPUs were touched, and can be killed: a kill is an error that nothing catches."""

    kill_before: int | None = None

    def perform(self, step: Step) -> None:
        if self.kill_before is not None and self.calls + 1 == self.kill_before:
            raise _Killed
        super().perform(step)


class _Killed(BaseException):
    pass


A = Layout.of(
    [
        GpuLayout("h0", 0, "A100-80GB", "mig", (Slot("3g.40gb", 0, "a", 0), Slot("3g.40gb", 4, "b", 0))),
        GpuLayout("h0", 1, "A100-80GB", "whole"),
        GpuLayout("h0", 2, "A100-80GB", "mig", (Slot("7g.80gb", 0, "z", 0),)),
    ]
)
B = Layout.of(
    [
        GpuLayout("h0", 0, "A100-80GB", "mig", (Slot("4g.40gb", 0, "c", 0), Slot("2g.20gb", 4, "a", 0), Slot("1g.10gb", 6))),
        GpuLayout("h0", 1, "A100-80GB", "mig", (Slot("3g.40gb", 0, "b", 0),)),
        GpuLayout("h0", 2, "A100-80GB", "mig", (Slot("7g.80gb", 0, "z", 0),)),
    ]
)
C = Layout.of([GpuLayout("h0", 0, "A100-80GB", "mig"), GpuLayout("h0", 1, "A100-80GB", "whole", (Slot("whole", 0, "w", 0),))])
STEPS = len(diff(A, B))


# -- reaching the goal -------------------------------------------------------------------------------------------------


@given(pairs())
def test_ends_at_the_goal(pair: tuple[Layout, Layout]) -> None:
    now, goal = pair
    changes = diff(now, goal)
    target = _target(now)
    report = apply(changes, target)
    assert target.layout() == goal == report.layout
    assert report.steps == tuple(step for step in changes.steps if step.kind != "keep")
    assert len(report.durations_s) == len(report.steps) == len(changes) == target.calls
    assert report.interruptions == changes.interruptions


@given(pairs())
def test_the_same_changes_again_do_nothing(pair: tuple[Layout, Layout]) -> None:
    now, goal = pair
    changes, target = diff(now, goal), _target(now)
    apply(changes, target)
    calls = target.calls
    again = apply(changes, target)
    assert (target.calls, target.layout()) == (calls, goal)
    assert len(again.skipped) == len(changes)
    assert not again


@given(pairs())
def test_a_dry_run_changes_nothing(pair: tuple[Layout, Layout]) -> None:
    now, goal = pair
    changes, target = diff(now, goal), _target(now)
    report = apply(changes, target, dry_run=True)
    assert (target.calls, target.layout()) == (0, now)
    assert report.dry_run
    assert len(report.steps) == len(changes)


def test_a_dry_run_writes_no_file(tmp_path: Path) -> None:
    target = SimulatedTarget(_fleet(A), state=StateFolder(tmp_path / "state"))
    apply(diff(target.layout(), A), target, dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_before_each_step_and_at_the_end() -> None:
    changes, told = diff(A, B), []
    apply(changes, _target(A), progress=lambda done, total, step: told.append((done, total, step)))
    steps = [step for step in changes.steps if step.kind != "keep"]
    assert told == [*((number, STEPS, step) for number, step in enumerate(steps)), (STEPS, STEPS, None)]


# -- faults ------------------------------------------------------------------------------------------------------------

WAYS = ("before", "half", "after", "nothing", "hang")


def _apply_with_fault(changes: Changes, target: SimulatedTarget, *, rollback_on_error: bool) -> TargetError | None:
    try:
        apply(changes, target, rollback_on_error=rollback_on_error)
    except TargetError as error:
        return error
    return None


@settings(max_examples=60)
@given(pairs(), st.sampled_from(WAYS), st.integers(1, 30))
def test_a_fault_is_rolled_back(pair: tuple[Layout, Layout], way: str, at: int) -> None:
    now, goal = pair
    changes = diff(now, goal)
    target = _target(now, Fault(at, way))
    error = _apply_with_fault(changes, target, rollback_on_error=True)
    assert (error is None) == (at > len(changes))
    if isinstance(error, StepError):
        assert error.rolled_back, error
    assert target.layout() == (goal if error is None else now), error


@settings(max_examples=60)
@given(pairs(), st.sampled_from(WAYS), st.integers(1, 30), st.booleans())
def test_a_fault_without_rollback_is_followed_by_a_run_that_ends(
    pair: tuple[Layout, Layout],
    way: str,
    at: int,
    fresh: bool,  # noqa: FBT001
) -> None:
    now, goal = pair
    changes = diff(now, goal)
    target = _target(now, Fault(at, way))
    error = _apply_with_fault(changes, target, rollback_on_error=False)
    assert (error is None) == (at > len(changes))
    if isinstance(error, StepError):
        assert error.rolled_back is None
        assert len(error.done) + len(error.remaining) == len(changes)
    if way == "nothing":  # steps after the one that was not done may be done, which is no way that the changes know
        fresh = fresh or _is_drift(changes, target)
    apply(diff(target.layout(), goal) if fresh else changes, target)
    assert target.layout() == goal


def _is_drift(changes: Changes, target: SimulatedTarget) -> bool:
    try:
        apply(changes, target, dry_run=True)
    except DriftError:
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_every_step_can_fail_in_every_way(way: str, at: int, tmp_path: Path) -> None:
    changes = diff(A, B)
    target = _target(A, Fault(at, way), StateFolder(tmp_path))
    assert _apply_with_fault(changes, target, rollback_on_error=True) is not None
    assert target.layout() == A
    target.fault = Fault(target.calls + at, way)
    assert _apply_with_fault(changes, target, rollback_on_error=False) is not None
    assert rollback(target, dry_run=True).dry_run
    assert apply(diff(target.layout(), B), target).layout == B
    assert rollback(target).layout == A


def test_a_failed_step_says_all() -> None:
    target = _target(A, 3)
    with pytest.raises(
        StepError, match=rf"h0/gpu\d \(A100-80GB\): step 3 of {STEPS}, .* failed: .*refused.* taken back"
    ) as caught:
        apply(diff(A, B), target)
    error = caught.value
    steps = tuple(step for step in diff(A, B).steps if step.kind != "keep")
    assert (error.done, error.step, error.remaining, error.rolled_back) == (steps[:2], steps[2], steps[2:], True)
    assert isinstance(error.__cause__, TargetError)


def test_a_rollback_that_fails_is_said() -> None:
    seen: list[Step] = []

    def fails(step: Step) -> bool:
        seen.append(step)
        return len(seen) >= 3

    target = _target(A, fails)
    with pytest.raises(StepError, match=r"could not be taken back: .*refused") as caught:
        apply(diff(A, B), target)
    assert caught.value.rolled_back is False
    target.fault = None
    assert apply(diff(target.layout(), B), target).layout == B


def test_a_gpu_whose_mode_was_not_set_is_emptied_when_taken_back(tmp_path: Path) -> None:
    now = Layout.of([GpuLayout("h0", 0, "A100-80GB", None)])
    goal = Layout.of([GpuLayout("h0", 0, "A100-80GB", "mig", (Slot("3g.40gb", 4, "a", 0),))])
    target = _target(now, 3, StateFolder(tmp_path))
    with pytest.raises(StepError) as caught:
        apply(diff(now, goal), target)
    assert caught.value.rolled_back
    assert target.layout().gpu(0).slots == ()
    apply(diff(target.layout(), goal), target)
    assert rollback(target).layout.gpu(0).slots == ()


def test_a_target_that_lies_is_found_out() -> None:
    now = Layout.of([GpuLayout("h0", 0, "A100-80GB", "mig")])
    goal = Layout.of([GpuLayout("h0", 0, "A100-80GB", "mig", (Slot("3g.40gb", 4), Slot("1g.10gb", 0)))])
    target = _target(now, Fault(lambda step: step.start == 4, "nothing"))
    with pytest.raises(TargetError, match=r"reported success .*\n.*3g.40gb@4, held by nobody, is not there"):
        apply(diff(now, goal), target)
    assert target.layout() == now


def test_gpus_that_the_changes_do_not_name_are_left_alone() -> None:
    target = _target(A, 4)
    with pytest.raises(StepError):
        apply(diff(A, B.only([("h0", 0), ("h0", 1)])), target)
    assert all(gpu != ("h0", 2) for gpu in diff(A, B).gpus)
    assert target.layout() == A


# -- stopping and going on ---------------------------------------------------------------------------------------------


@IN_FOLDER
@given(pairs(), st.data())
def test_killed_again_and_again(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[Layout, Layout], data: st.DataObject
) -> None:
    """Each process begins anew from the folder; some find a new diff, some go on with the first; then all is rolled back."""
    now, goal = pair
    folder = tmp_path_factory.mktemp("state")
    changes = diff(now, goal)
    _target(now, state=StateFolder(folder))
    for _ in range(data.draw(st.integers(1, 3))):
        target = _Watched(_fleet(now), state=StateFolder(folder))
        target.kill_before = data.draw(st.integers(1, max(1, len(changes))))
        try:
            apply(changes if data.draw(st.booleans()) else diff(target.layout(), goal), target)
        except _Killed:
            continue
    target = SimulatedTarget(_fleet(now), state=StateFolder(folder))
    apply(changes if data.draw(st.booleans()) else diff(target.layout(), goal), target)
    assert target.layout() == goal
    if changes:
        assert rollback(target).layout == now


@pytest.mark.parametrize("at", range(1, STEPS + 2))
def test_a_killed_run_is_rolled_back_by_the_next(at: int, tmp_path: Path) -> None:
    target = _Watched(_fleet(A), A, state=StateFolder(tmp_path))
    target.kill_before = at
    if at <= STEPS:
        with pytest.raises(_Killed):
            apply(diff(A, B), target)
    else:
        apply(diff(A, B), target)
    other = SimulatedTarget(_fleet(A), state=StateFolder(tmp_path))
    assert rollback(other, dry_run=True).dry_run
    assert rollback(other).layout == A
    with pytest.raises(TargetError, match="rolled back already"):
        rollback(other)


def test_a_run_killed_after_its_last_step_is_ended_by_the_next(tmp_path: Path) -> None:
    def kill(done: int, total: int, step: Step | None) -> None:
        if step is None:
            raise _Killed

    target = _target(A, state=StateFolder(tmp_path))
    with pytest.raises(_Killed):
        apply(diff(A, B), target, progress=kill)
    assert not apply(diff(A, B), target)
    apply(diff(B, C), target)
    assert rollback(target).layout == B


@pytest.mark.parametrize("at", range(1, STEPS))
def test_killed_while_a_fault_is_taken_back(at: int, tmp_path: Path) -> None:
    target = _Watched(_fleet(A), A, STEPS, state=StateFolder(tmp_path))
    target.kill_before = STEPS + at
    try:
        apply(diff(A, B), target)
    except (_Killed, StepError):
        target.kill_before = None
    if target.layout() != A:
        assert rollback(target).layout == A


@pytest.mark.parametrize("at", range(1, len(diff(B, A)) + 1))
def test_a_killed_rollback_goes_on(at: int, tmp_path: Path) -> None:
    target = _Watched(_fleet(A), A, state=StateFolder(tmp_path))
    apply(diff(A, B), target)
    target.kill_before = STEPS + at
    with pytest.raises(_Killed):
        rollback(target)
    target.kill_before = None
    assert rollback(target).layout == A


def test_ctrl_c_stops_between_steps_and_a_second_run_goes_on(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))

    def stop(done: int, total: int, step: Step | None) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=f"stopped after 3 of {STEPS} steps"):
        apply(diff(A, B), target, progress=stop)
    assert target.calls == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    report = apply(diff(A, B), target)
    assert (len(report.skipped), len(report.steps), report.layout) == (3, STEPS - 3, B)
    assert rollback(target).layout == A


def test_a_second_ctrl_c_stops_at_once() -> None:
    def stop(done: int, total: int, step: Step | None) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    target = _target(A)
    with pytest.raises(KeyboardInterrupt):
        apply(diff(A, B), target, progress=stop)
    assert target.calls == 0


# -- rolling back ------------------------------------------------------------------------------------------------------


def test_rollback_goes_one_apply_back(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    apply(diff(A, B), target)
    apply(diff(B, C), target)
    assert rollback(target).layout == B


def test_an_apply_that_was_taken_back_leaves_the_one_before_to_roll_back(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    apply(diff(A, B), target)
    target.fault = Fault(target.calls + 2)
    with pytest.raises(StepError):
        apply(diff(B, C), target)
    assert rollback(target).layout == A


def test_an_apply_with_nothing_to_do_leaves_the_one_before_to_roll_back(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    apply(diff(A, B), target)
    assert not apply(diff(B, B), target)
    assert rollback(target).layout == A


def test_nothing_to_roll_back(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="nothing to roll back: no apply was recorded"):
        rollback(_target(A, state=StateFolder(tmp_path)))
    with pytest.raises(TargetError, match="keeps no state folder"):
        rollback(_target(A))


def test_rollback_refuses_what_others_changed(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    apply(diff(A, B), target)
    target.perform(Step("drain", "h0", 0, "A100-80GB", "mig", "4g.40gb", 0, "c", 0))
    with pytest.raises(DriftError, match=r"not as the last apply left it") as caught:
        rollback(target)
    assert caught.value.findings == ("h0/gpu0 (A100-80GB): 4g.40gb@0 is held by nobody, not held by c/0",)


def test_rollback_leaves_what_others_changed_elsewhere(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    apply(diff(A, B), target)
    target.perform(Step("drain", "h0", 2, "A100-80GB", "mig", "7g.80gb", 0, "z", 0))
    after = rollback(target).layout
    assert after.only([("h0", 0), ("h0", 1)]) == A.only([("h0", 0), ("h0", 1)])
    assert after.gpu(2).slots == (Slot("7g.80gb", 0),)


def test_a_new_run_after_foreign_changes_begins_anew(tmp_path: Path) -> None:
    target = _target(A, 3, StateFolder(tmp_path))
    with pytest.raises(StepError):
        apply(diff(A, B), target, rollback_on_error=False)
    other = Layout.of([GpuLayout("h0", 0, "A100-80GB", "mig"), GpuLayout("h0", 1, "A100-80GB", "mig", (Slot("7g.80gb", 0),))])
    target = _target(Layout.of([*other, A.gpu(2)]), state=StateFolder(tmp_path))
    begin = target.layout()
    apply(diff(begin, B), target)
    assert rollback(target).layout == begin


# -- drift -------------------------------------------------------------------------------------------------------------


def _change(layout: Layout, gpu: GpuLayout) -> Layout:
    return Layout.of(gpu if (gpu.host, gpu.gpu) == (other.host, other.gpu) else other for other in layout)


@pytest.mark.parametrize(
    ("gpu", "finding"),
    [
        (GpuLayout("h0", 0, "A100-80GB", "mig", (Slot("3g.40gb", 0, "a", 0),)), "3g.40gb@4, held by b/0, is not there"),
        (
            GpuLayout("h0", 0, "A100-80GB", "mig", (Slot("3g.40gb", 0, "a", 1), Slot("3g.40gb", 4, "b", 0))),
            "3g.40gb@0 is held by a/1, not held by a/0",
        ),
        (
            GpuLayout("h0", 0, "A100-80GB", "whole", (Slot("whole", 0, "x", 0),)),
            "is in mode whole with whole@0, not in mig",
        ),
        (GpuLayout("h0", 1, "A100-80GB", "whole", (Slot("whole", 0),)), "whole@0 is there too, held by nobody"),
    ],
)
def test_drift_is_named(gpu: GpuLayout, finding: str) -> None:
    target = _target(_change(A, gpu))
    before = target.layout()
    with pytest.raises(DriftError, match="compute them anew") as caught:
        apply(diff(A, B), target)
    assert caught.value.findings == (f"h0/gpu{gpu.gpu} (A100-80GB): {finding}",)
    assert (target.calls, target.layout()) == (0, before)


def test_drift_on_a_gpu_that_is_not_touched_does_not_matter() -> None:
    target = _target(_change(A, GpuLayout("h0", 2, "A100-80GB", "whole")))
    apply(diff(A, B), target)
    assert target.layout().gpu(0) == B.gpu(0)


def test_changes_for_another_host_name_both() -> None:
    elsewhere = Layout.of(GpuLayout("n1", gpu.gpu, gpu.model, gpu.mode, gpu.slots) for gpu in A)
    with pytest.raises(DriftError, match="for host h0, and simulated fleet has host n1"):
        apply(diff(A, B), _target(elsewhere))


def test_a_gpu_that_is_gone_is_named() -> None:
    with pytest.raises(DriftError, match=r"fell off the bus.*\nh0/gpu1"):
        apply(diff(A, B), _target(A.only([("h0", 0)])))


def test_another_board_is_refused() -> None:
    def with_uuids(mark: str) -> Layout:
        return Layout.of(GpuLayout(g.host, g.gpu, g.model, g.mode, g.slots, f"GPU-{mark}{g.gpu}") for g in A)

    apply(diff(with_uuids("a"), B), _target(with_uuids("a")))
    with pytest.raises(DriftError, match="other boards") as caught:
        apply(diff(with_uuids("a"), B), _target(with_uuids("b")))
    assert "h0/gpu0 (A100-80GB): is the board GPU-b0, was GPU-a0" in caught.value.findings


def test_another_board_is_not_rolled_back(tmp_path: Path) -> None:
    def with_uuids(layout: Layout, mark: str) -> Layout:
        return Layout.of(GpuLayout(g.host, g.gpu, g.model, g.mode, g.slots, f"GPU-{mark}{g.gpu}") for g in layout)

    target = _target(with_uuids(A, "a"), state=StateFolder(tmp_path))
    apply(diff(target.layout(), B), target)
    with pytest.raises(DriftError, match="not as the last apply left it") as caught:
        rollback(_target(with_uuids(B, "b"), state=StateFolder(tmp_path)))
    assert "h0/gpu0 (A100-80GB): is the board GPU-b0, was GPU-a0" in caught.value.findings


def test_other_types_are_refused() -> None:
    with pytest.raises(SpecError, match="changes are a Layout"):
        apply(B, _target(A))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="target is a Layout"):
        apply(diff(A, B), B)  # type: ignore[arg-type]


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_second_apply_is_refused(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    with target.state.lock(), pytest.raises(TargetError, match=f"another apply is under way, by process {os.getpid()} since 2"):
        apply(diff(A, B), target)
    assert target.calls == 0
    apply(diff(A, B), target)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "gpu-partitioner/journal", "version": 1}'])
def test_a_damaged_journal_stops_an_apply_before_it_begins(text: str, tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    target.state.journal.path.write_text(text)
    for call in (lambda: apply(diff(A, B), target), lambda: rollback(target)):
        with pytest.raises(TargetError, match=r"journal\.json.*restore it from a copy, or remove it"):
            call()
    assert (target.calls, target.layout(), target.state.journal.path.read_text()) == (0, A, text)


def test_a_journal_that_cannot_be_written_stops_an_apply_before_it_begins(tmp_path: Path) -> None:
    target = _target(A, state=StateFolder(tmp_path))
    target.state.journal.path.mkdir()  # in the way
    with pytest.raises(TargetError, match=r"journal\.json"):
        apply(diff(A, B), target)
    assert (target.calls, target.layout()) == (0, A)


_CHILD = """
import sys, time
from partitioner.applying import apply
from partitioner.changes import Changes
from partitioner.targets import SimulatedTarget

def tell(done, total, step):
    if done == int(sys.argv[3]):
        print("there", flush=True)
        time.sleep(60)

apply(Changes.load(sys.argv[2]), SimulatedTarget.open(sys.argv[1]), progress=tell)
"""


@pytest.mark.parametrize("at", [0, 3, STEPS])
def test_a_process_killed_while_it_holds_the_lock(at: int, tmp_path: Path) -> None:
    fleet, plan = tmp_path / "fleet.json", tmp_path / "changes.json"
    instances = {0: ["3g.40gb@0", "3g.40gb@4"], 2: ["7g.80gb@0"]}
    gpus = [{"model": "A100-80GB", "mode": gpu.mode, "instances": instances.get(gpu.gpu, [])} for gpu in A]
    fleet.write_text(json.dumps({"hosts": {"h0": {"gpus": gpus}}}))
    begin = SimulatedTarget.open(fleet).layout()
    changes = diff(begin, B)
    changes.save(plan)
    step = at if at < STEPS else len(changes)
    command = [sys.executable, "-c", _CHILD, str(fleet), str(plan), str(step)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "there\n"
        target = SimulatedTarget.open(fleet)
        with pytest.raises(TargetError, match=f"by process {child.pid} since"):
            apply(changes, target)
        child.kill()
    report = apply(changes, target)
    assert (len(report.skipped), report.layout) == (step, B)
    assert rollback(SimulatedTarget.open(fleet)).layout == begin


# -- the report --------------------------------------------------------------------------------------------------------


def test_a_report_in_words_and_as_data() -> None:
    report = apply(diff(A, B), _target(A))
    lines = str(report).splitlines()
    assert len(lines) == STEPS + 1
    assert lines[-1].startswith(f"simulated fleet: applied {STEPS} steps in ")
    data = json.loads(report.to_json())
    assert (data["verb"], data["dry_run"], len(data["steps"])) == ("apply", False, STEPS)
    assert Layout.from_data(data["layout"]) == B
    assert data["interruptions"] == list(report.interruptions)
    dry = apply(diff(A, B), _target(A), dry_run=True)
    assert f"would carry out {STEPS} steps; nothing was changed" in str(dry)
    assert "nothing to do" in str(apply(diff(A, A), _target(A)))
    assert isinstance(report, Report)


# -- the part of a goal that is a target's own -------------------------------------------------------------------------


def _board(index: int, uuid: str | None, *replicas: int, host: str = "h0") -> GpuLayout:
    slots = tuple(Slot("3g.40gb", 4 * at, "chat", replica) for at, replica in enumerate(replicas))
    return GpuLayout(host, index, "A100-80GB", "mig", slots, uuid)


def test_a_goal_of_many_hosts_is_carried_out_host_by_host() -> None:
    goal = Layout.of([_board(0, None, 0, host="h0"), _board(0, None, 1, host="h1")])
    target = SimulatedTarget(Fleet((Host("h1", (Gpu("A100-80GB", mode="mig"),)),)))
    changes, notes = changes_here(goal, target.layout(), target="this machine")
    assert notes == ("left out host h0, which this machine does not have",)
    apply(changes, target)
    assert target.layout() == goal.only([("h1", 0)])
    emptied = apply(diff(target.layout(), Layout.of([GpuLayout("h1", 0, "A100-80GB", "mig")])), target)
    assert (emptied.interruptions, emptied.endings, emptied.to_data()["endings"]) == ((), ("chat/1",), ["chat/1"])
    assert emptied.summary.endswith("interrupts nobody; ends chat/1")
    with pytest.raises(SpecError, match="the goal: is for host h0, and this machine has host h1"):
        goal_here(goal.only([("h0", 0)]), target.layout(), target="this machine")
    with pytest.raises(SpecError, match="the goal: is a str; a Plan or a Layout is wanted"):
        goal_here("plan.json", target.layout(), target="this machine")  # type: ignore[arg-type]


def test_boards_whose_indices_have_shifted_are_found_by_their_uuid() -> None:
    goal = Layout.of([_board(0, "GPU-a", 0, 1), _board(1, "GPU-b"), _board(2, "GPU-c", 2)])
    now = Layout.of([_board(0, "GPU-c"), _board(1, "GPU-a"), _board(2, "GPU-b")])
    here, notes = goal_here(goal, now, target="h0")
    assert {gpu.uuid: (gpu.gpu, len(gpu.slots)) for gpu in here} == {"GPU-a": (1, 2), "GPU-b": (2, 0), "GPU-c": (0, 1)}
    said = "indices have shifted: h0/gpu0 is h0/gpu1 now, h0/gpu1 is h0/gpu2 now, h0/gpu2 is h0/gpu0 now, by the UUIDs"
    assert notes == (said,)


def test_a_goal_names_the_gpu_that_is_another_model_now() -> None:
    goal = Layout.of([_board(0, None, 0)])
    lost = Layout.of([GpuLayout("h0", 0, "T4", "whole")])
    said = "plan.json: h0/gpu0 is a A100-80GB in it, and on h0 a T4; see `partitioner status` why, then plan anew"
    with pytest.raises(SpecError, match=said):
        goal_here(Goal.of(goal, origin="plan.json"), lost, target="h0")


def test_a_plan_knows_the_boards_that_it_was_made_for() -> None:
    current = Layout.of([_board(0, "GPU-a"), _board(1, "GPU-b"), _board(2, "GPU-c")])
    goal = Goal(Layout.of([_board(0, None), _board(2, None, 0)]), current=current)
    shifted = Layout.of([_board(0, "GPU-a"), _board(1, "GPU-c")])  # GPU-b fell off the bus
    changes, notes = changes_here(goal, shifted, target="h0")
    assert [gpu.gpu for gpu in changes.goal] == [1]
    assert notes == ("indices have shifted: h0/gpu2 is h0/gpu1 now, by the UUIDs",)
    both = Goal(Layout.of([_board(1, None, 1), _board(2, None, 0)]), current=current)
    with pytest.raises(SpecError, match="h0/gpu2 is h0/gpu1 now, by its UUID, and h0/gpu1 of then is not there; plan anew"):
        goal_here(both, shifted, target="h0")
