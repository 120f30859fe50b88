"""Tests of the simulated target and of the folder with what a target remembers."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner.changes import Place, Step, diff
from partitioner.errors import SpecError, TargetError
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.targets import Fault, Instance, Occupant, Run, SimulatedTarget, StateFolder, Target, begun, state_of

MODEL = "A100-80GB"
FLEET = Fleet((Host("h0", (Gpu(MODEL, instances=("3g.40gb@4", "1g.10gb@0")), Gpu(MODEL, mode="mig"), Gpu("T4"))),))
CREATE = Step("create", "h0", 1, MODEL, "mig", "3g.40gb", 4)
DESTROY = Step("destroy", "h0", 0, MODEL, "mig", "3g.40gb", 4)
START = Step("start", "h0", 0, MODEL, "mig", "3g.40gb", 4, "chat", 0)
MOVE = Step("move", "h0", 1, MODEL, "mig", "3g.40gb", 4, "chat", 0, Place("h0", 0, "3g.40gb", 4))


# -- the simulated target ----------------------------------------------------------------------------------------------


def test_begins_as_the_fleet_says() -> None:
    target = SimulatedTarget(FLEET)
    assert isinstance(target, Target)
    assert target.fleet() == FLEET
    assert state_of(target) is None
    assert list(target.layout()) == [
        GpuLayout("h0", 0, MODEL, "mig", (Slot("1g.10gb", 0), Slot("3g.40gb", 4))),
        GpuLayout("h0", 1, MODEL, "mig"),
        GpuLayout("h0", 2, "T4", "whole"),
    ]


def test_a_layout_overrides_the_fleet_where_it_names_gpus() -> None:
    gpu = GpuLayout("h0", 0, MODEL, "mig", (Slot("7g.80gb", 0, "chat", 0),), "GPU-1")
    layout = SimulatedTarget(FLEET, Layout.of([gpu])).layout()
    assert (layout.gpu(0), layout.gpu(0).uuid, len(layout)) == (gpu, "GPU-1", 3)


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (GpuLayout("h1", 0, MODEL, None), "the layout has h1/gpu0, which the fleet has not"),
        (GpuLayout("h0", 2, MODEL, None), "h0/gpu2 is a A100-80GB in the layout and a T4 in the fleet"),
    ],
)
def test_a_layout_of_another_fleet_is_refused(gpu: GpuLayout, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        SimulatedTarget(FLEET, Layout.of([gpu]))


def test_steps_obey_the_rules() -> None:
    target = SimulatedTarget(FLEET)
    target.perform(START)
    before = target.layout()
    with pytest.raises(TargetError, match="held by chat/0; drain it first"):
        target.perform(DESTROY)
    with pytest.raises(TargetError, match="overlaps another placement"):
        target.perform(Step("create", "h0", 0, MODEL, "mig", "7g.80gb", 0))
    assert target.layout() == before


@pytest.mark.parametrize(
    ("way", "error", "done"),
    [
        ("before", "refused", False),
        ("after", "although done", True),
        ("nothing", None, False),
        ("hang", r"no answer within 0\.01 s", False),
    ],
)
def test_ways_to_fail(way: str, error: str | None, done: bool) -> None:  # noqa: FBT001
    target = SimulatedTarget(FLEET, fail_at=Fault(2, way), delay_s=0.01)
    target.perform(START)
    if error is None:
        target.perform(CREATE)
    else:
        with pytest.raises(TargetError, match=f"h0/gpu1 .*{error}"):
            target.perform(CREATE)
    assert bool(target.layout().gpu(1).slots) == done


def test_a_move_changes_both_gpus(tmp_path: Path) -> None:
    target = SimulatedTarget(FLEET, state=StateFolder(tmp_path))
    for step in (START, CREATE, MOVE):
        target.perform(step)
    layout = SimulatedTarget(FLEET, state=StateFolder(tmp_path)).layout()
    assert layout == target.layout()
    assert [slot.workload for slot in (*layout.gpu(0).slots, *layout.gpu(1).slots)] == [None, None, "chat"]


def test_half_way_is_finished_by_the_same_step() -> None:
    target = SimulatedTarget(FLEET, fail_at=Fault(lambda step: step.kind in ("create", "destroy"), "half"))
    for step in (CREATE, DESTROY):
        with pytest.raises(TargetError, match="half way"):
            target.perform(step)
    assert [slot.ready for gpu in target.layout() for slot in gpu.slots] == [True, False, False]
    target.fault = None
    target.perform(CREATE)
    target.perform(DESTROY)
    assert target.layout().gpu(1).slots == (Slot("3g.40gb", 4),)
    assert target.layout().gpu(0).slots == (Slot("1g.10gb", 0),)


def test_what_has_no_half_way() -> None:
    gpu = SimulatedTarget(FLEET).layout().gpu(0)
    assert begun(gpu, Step("mode", "h0", 0, MODEL, "whole", before="mig")) is None
    assert begun(gpu, START) is None
    half = begun(gpu, DESTROY)
    assert half is not None
    assert begun(half, DESTROY) is None
    assert begun(GpuLayout("h0", 2, "T4", "whole"), Step("create", "h0", 2, "T4", "whole", "whole", 0)) is None
    assert begun(gpu, Step("create", "h0", 0, MODEL, "mig", "3g.40gb", 4)) is None  # it is there already


def test_steps_take_the_delay() -> None:
    target = SimulatedTarget(FLEET, delay_s=0.02)
    began = time.perf_counter()
    target.perform(START)
    target.perform(CREATE)
    assert time.perf_counter() - began >= 0.04


@pytest.mark.parametrize("bad", [{"fail_at": 0}, {"fail_at": True}, {"delay_s": -1}, {"delay_s": float("nan")}])
def test_bad_options(bad: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=r"not the number of a step|not a number of seconds"):
        SimulatedTarget(FLEET, **bad)


def test_unknown_way() -> None:
    with pytest.raises(SpecError, match="way is 'sideways'; ways are before, half"):
        Fault(1, "sideways")


# -- kept from one process to the next ---------------------------------------------------------------------------------


def _file(folder: Path, text: str = "hosts: {h0: {A100-80GB: 2, T4: 1}}") -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return path


MIG = Step("mode", "h0", 1, MODEL, "mig", before="whole", restart="gpu reset")


def test_opening_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    path = _file(tmp_path)
    first = SimulatedTarget.open(path)
    assert str(first) == f"sim:{path}"
    assert list(tmp_path.iterdir()) == [path]  # reading leaves nothing behind
    for step in (MIG, CREATE, Step("start", "h0", 1, MODEL, "mig", "3g.40gb", 4, "chät", 0)):
        first.perform(step)
        assert SimulatedTarget.open(path).layout() == first.layout()
    assert first.layout().gpu(1) == GpuLayout("h0", 1, MODEL, "mig", (Slot("3g.40gb", 4, "chät", 0),))
    assert stat.S_IMODE((tmp_path / "fleet.yaml.state").stat().st_mode) == 0o700


def test_two_that_are_open_see_each_others_steps(tmp_path: Path) -> None:
    path = _file(tmp_path)
    one, other = SimulatedTarget.open(path), SimulatedTarget.open(path)
    one.perform(MIG)
    other.perform(CREATE)
    one.perform(Step("create", "h0", 1, MODEL, "mig", "1g.10gb", 0))
    assert other.layout() == one.layout() == SimulatedTarget.open(path).layout()
    assert len(one.layout().gpu(1).slots) == 2


def test_a_step_adds_one_line(tmp_path: Path) -> None:
    target = SimulatedTarget.open(_file(tmp_path))
    for count, step in enumerate((MIG, CREATE, Step("destroy", "h0", 1, MODEL, "mig", "3g.40gb", 4))):
        target.perform(step)
        assert len(_kept(tmp_path).read_text().splitlines()) == 2 + count


def test_a_step_that_cannot_be_kept_is_not_done(tmp_path: Path) -> None:
    target = SimulatedTarget.open(_file(tmp_path))
    before = target.layout()
    (tmp_path / "fleet.yaml.state").symlink_to("nowhere")
    with pytest.raises(TargetError, match="the state folder cannot be made"):
        target.perform(MIG)
    (tmp_path / "fleet.yaml.state").unlink()
    assert target.layout() == before
    target.perform(MIG)
    assert SimulatedTarget.open(tmp_path / "fleet.yaml").layout() == target.layout() != before


def _kept(folder: Path) -> Path:
    return folder / "fleet.yaml.state" / "layout.jsonl"


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_that_was_cut_off_is_as_if_never_written(cut: int, tmp_path: Path) -> None:
    target = SimulatedTarget.open(_file(tmp_path))
    target.perform(MIG)
    before = target.layout()
    target.perform(CREATE)
    kept = _kept(tmp_path)
    kept.write_bytes(kept.read_bytes()[:-cut])
    again = SimulatedTarget.open(tmp_path / "fleet.yaml")
    assert again.layout() == before
    again.perform(CREATE)
    again.perform(Step("create", "h0", 1, MODEL, "mig", "1g.10gb", 0))
    assert SimulatedTarget.open(tmp_path / "fleet.yaml").layout() == again.layout()


@pytest.mark.parametrize(
    "text", ["\n", "{}\n[]\n", "[]\n", "nonsense\n", '{"format": "gpu-partitioner/simulated", "version": 2}\n', "\x00\n"]
)
def test_a_damaged_file_is_named_and_left_as_it_is(text: str, tmp_path: Path) -> None:
    path = _file(tmp_path)
    SimulatedTarget.open(path).perform(MIG)
    _kept(tmp_path).write_text(text)
    with pytest.raises(TargetError, match=r"layout\.jsonl: damaged: .*remove .*fleet\.yaml\.state to begin anew"):
        SimulatedTarget.open(path)
    assert _kept(tmp_path).read_text() == text


def test_a_damaged_line_in_the_middle_is_not_skipped(tmp_path: Path) -> None:
    target = SimulatedTarget.open(_file(tmp_path))
    target.perform(MIG)
    target.perform(CREATE)
    lines = _kept(tmp_path).read_text().splitlines(keepends=True)
    _kept(tmp_path).write_text("".join([*lines[:-1], "[{]\n", lines[-1]]))
    with pytest.raises(TargetError, match="damaged"):
        target.layout()


def test_a_fleet_file_that_changed_is_said(tmp_path: Path) -> None:
    path = _file(tmp_path)
    SimulatedTarget.open(path).perform(MIG)
    _file(tmp_path, "hosts: {h0: {A100-80GB: 3}}")
    with pytest.raises(TargetError, match=r"another fleet.*h0/gpu2 is A100-80GB in mode whole, was T4 in mode whole; undo"):
        SimulatedTarget.open(path)
    _file(tmp_path, "hosts: {h0: {gpus: [A100-80GB, A100-80GB, T4], vcpus: 8}}")  # of no matter for the layout
    assert SimulatedTarget.open(path).layout().gpu(1).mode == "mig"


def test_a_folder_that_is_removed_begins_anew(tmp_path: Path) -> None:
    target = SimulatedTarget.open(_file(tmp_path))
    begin = target.layout()
    target.perform(MIG)
    _kept(tmp_path).unlink()
    assert target.layout() == begin == SimulatedTarget.open(tmp_path / "fleet.yaml").layout()


def test_a_layout_that_is_given_replaces_what_is_kept(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    SimulatedTarget(FLEET, state=state).perform(CREATE)
    given_layout = Layout.of([GpuLayout("h0", 1, MODEL, "whole")])
    assert SimulatedTarget(FLEET, given_layout, state=state).layout() == SimulatedTarget(FLEET, state=state).layout()
    assert SimulatedTarget(FLEET, state=state).layout().gpu(1).mode == "whole"


def test_a_missing_fleet_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        SimulatedTarget.open(tmp_path / "fleet.yaml")


# -- the ledger --------------------------------------------------------------------------------------------------------

_entries = st.dictionaries(
    st.builds(Instance, st.text(min_size=1, max_size=5), st.sampled_from(("3g.40gb", "whole")), st.integers(0, 7)),
    st.none() | st.builds(Occupant, st.text(max_size=5), st.integers(0, 1000)),
    max_size=6,
)


@given(_entries, _entries, st.data())
def test_the_ledger_says_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    entries: dict[Instance, Occupant | None],
    more: dict[Instance, Occupant | None],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("state")
    StateFolder(folder).assignments.write(entries)
    assert StateFolder(folder).assignments.read() == entries
    drop = data.draw(st.lists(st.sampled_from(sorted(entries)))) if entries else []
    StateFolder(folder).assignments.update(more, drop=drop)
    assert StateFolder(folder).assignments.read() == {k: v for k, v in entries.items() if k not in drop} | more


def test_no_ledger_is_empty_and_reading_makes_nothing(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "a" / "state")
    assert state.assignments.read() == {}
    assert state.journal.read() is None
    state.assignments.update({}, drop=[Instance("GPU-1", "whole", 0)])
    assert list(tmp_path.iterdir()) == []


def test_folder_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "a" / "state")
    state.assignments.write({Instance("GPU-1", "whole", 0): None})
    with state.lock():
        pass
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.path.iterdir()}
    assert modes == {"assignments.json": 0o600, "lock": 0o600}  # and no temporary file is left
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


_ENTRY = {"gpu": "GPU-1", "profile": "whole", "start": 0, "workload": "a", "replica": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ('{"format": "gpu-partitioner/assign', "not JSON"),
        ("[]", "format is 'list'"),
        ('{"format": "gpu-partitioner/journal"}', "format is 'gpu-partitioner/journal'"),
        ([_ENTRY, _ENTRY], "whole@0 of GPU-1 stands twice"),
        ([{**_ENTRY, "start": "0"}], "start"),
        ([{**_ENTRY, "start": -1}], "start"),
        ([{**_ENTRY, "replica": None}], "workload 'a', replica None"),
        ([{**_ENTRY, "colour": "red"}], "unknown field 'colour'"),
        ([{"gpu": "GPU-1"}], "is missing"),
    ],
)
def test_a_damaged_ledger_is_named_and_never_written_over(text: object, said: str, tmp_path: Path) -> None:
    ledger = StateFolder(tmp_path).assignments
    if not isinstance(text, str):
        text = json.dumps({"format": "gpu-partitioner/assignments", "version": 1, "instances": text})
    ledger.path.write_text(text)
    for call in (ledger.read, lambda: ledger.update({Instance("GPU-2", "whole", 0): None})):
        with pytest.raises(TargetError, match=rf"assignments\.json.*{said}.*restore it from a copy, or remove it"):
            call()
    assert ledger.path.read_text() == text


@pytest.mark.parametrize("version", [2, "1", None, True])
def test_an_unknown_version_is_refused(version: object, tmp_path: Path) -> None:
    ledger = StateFolder(tmp_path).assignments
    ledger.path.write_text(json.dumps({"format": "gpu-partitioner/assignments", "version": version, "instances": []}))
    with pytest.raises(TargetError, match=f"its version is {version!r}, this program reads 1"):
        ledger.read()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    ledger = StateFolder(tmp_path).assignments
    ledger.path.write_bytes(b"\xff\xfe")
    with pytest.raises(TargetError, match="not UTF-8 text; restore"):
        ledger.read()


def test_what_cannot_be_read_or_made(tmp_path: Path) -> None:
    ledger = StateFolder(tmp_path).assignments
    ledger.path.mkdir()
    with pytest.raises(TargetError, match="is a directory"):
        ledger.read()
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="the state folder cannot be made"):
        StateFolder(tmp_path / "file" / "state").assignments.write({})
    with pytest.raises(TargetError, match="the state folder cannot be made"), StateFolder(tmp_path / "file").lock():
        pass


_FULL = """
import resource, sys
from pathlib import Path
from partitioner.changes import Step
from partitioner.errors import TargetError
from partitioner.targets import Instance, Occupant, SimulatedTarget, StateFolder

folder = Path(sys.argv[1])
ledger = StateFolder(folder / "ledger").assignments
few = {Instance("GPU-1", "whole", 0): None}
ledger.write(few)
target = SimulatedTarget({"hosts": {"h0": {"A100-80GB": 1}}}, state=StateFolder(folder / "sim"))
target.perform(Step("mode", "h0", 0, "A100-80GB", "mig", before="whole"))
size = (folder / "sim" / "layout.jsonl").stat().st_size
before = target.layout()
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))  # a disk with room for a few bytes
for call in (
    lambda: ledger.update({Instance(f"GPU-{n}", "whole", 0): Occupant("w", n) for n in range(100)}),
    lambda: target.perform(Step("create", "h0", 0, "A100-80GB", "mig", "3g.40gb", 4)),
):
    try:
        call()
    except TargetError as error:
        assert "cannot be written: File too large; make room" in str(error), error
    else:
        raise SystemExit("was written")
assert ledger.read() == few
assert target.layout() == before
assert SimulatedTarget({"hosts": {"h0": {"A100-80GB": 1}}}, state=StateFolder(folder / "sim")).layout() == before
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
assert (folder / "sim" / "layout.jsonl").stat().st_size == size
assert sorted(path.name for path in folder.rglob("*.*")) == ["assignments.json", "layout.jsonl"]
"""


def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=True, timeout=60)


# -- the journal and the lock ------------------------------------------------------------------------------------------


def test_the_journal_says_what_was_written(tmp_path: Path) -> None:
    now = SimulatedTarget(FLEET).layout()
    goal = Layout.of([GpuLayout("h0", 0, MODEL, "mig", (Slot("7g.80gb", 0, "chat", 0),), "GPU-7")])
    run = Run.begin(now, goal, diff(now, goal))
    journal = StateFolder(tmp_path).journal
    journal.write(run)
    assert journal.read() == run
    found = journal.read()
    assert found is not None
    assert (found.pid, found.ended, found.goal.gpu(0).uuid) == (os.getpid(), None, "GPU-7")


def test_a_journal_whose_layout_is_not_legal(tmp_path: Path) -> None:
    now = SimulatedTarget(FLEET).layout()
    journal = StateFolder(tmp_path).journal
    journal.write(Run.begin(now, now, diff(now, now)))
    text = journal.path.read_text().replace('"start": 4', '"start": 2')
    journal.path.write_text(text)
    with pytest.raises(TargetError, match=r"journal\.json: h0/gpu0.*cannot start at 2.*restore it from a copy"):
        journal.read()


def test_the_lock_is_free_again_after_it_was_held(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    said = f"lock: another apply is under way, by process {os.getpid()} since 2"
    for _ in range(2):
        with state.lock(), pytest.raises(TargetError, match=said), StateFolder(tmp_path).lock():
            pass


def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / "fleet.yaml.state"
    theirs.mkdir()
    link.symlink_to(theirs)
    if os.geteuid() == 0:
        os.chown(theirs, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
    for act in (StateFolder(link).lock().__enter__, lambda: StateFolder(link).assignments.write({})):
        with pytest.raises(TargetError, match=r"fleet.yaml.state: the state folder .*theirs is that of user \d+, and this is"):
            act()
    assert list(theirs.iterdir()) == []


def test_a_folder_that_every_user_may_write_in_is_not_trusted(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.path.mkdir()
    state.path.chmod(0o777)
    with (
        pytest.raises(TargetError, match=r"every user may write in the state folder .*; take that away \(chmod o-w"),
        state.lock(),
    ):
        pass
    state.path.chmod(0o770)  # a group of administrators
    with state.lock():
        pass


def test_the_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(TargetError, match="it is a link and none of ours, remove it"), StateFolder(tmp_path).lock():
        pass
    assert victim.read_text() == "precious"


def test_errors_under_the_lock_are_their_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine"), StateFolder(tmp_path).lock():
        raise OSError("mine")
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").mkdir()
    with pytest.raises(TargetError, match="lock: cannot be opened: Is a directory"), StateFolder(tmp_path).lock():
        pass
