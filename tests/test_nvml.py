"""The NVML target over the C stand-in for libnvidia-ml, with the real pynvml: reading, creating, destroying, modes, ledger."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvml import Card, Machine
from strategies import legal_placements

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.changes import diff
from partitioner.changes.step import Kind, Place, Step
from partitioner.errors import InUseError, TargetError
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.nvml import NvmlTarget, catalogue_file, compare_with_catalogue, folders, model_of
from partitioner.nvml.folders import default_state, unread_ledger
from partitioner.nvml.models import catalogued, derived
from partitioner.targets import Instance, Occupant, StateFolder, Target

HOST = "bare-01"
A100 = "A100-80GB"
MIG_MODELS = [name for name in catalog.names() if "mig" in catalog.gpu(name).modes]

Open = Callable[..., tuple[Machine, NvmlTarget]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Makes a machine and a target on it; the last ones are closed before."""
    stack = ExitStack()

    def make(*cards: str | Card, **options: object) -> tuple[Machine, NvmlTarget]:
        stack.close()  # one machine at a time
        machine = stack.enter_context(Machine(tmp_path / "machine", cards))
        target = stack.enter_context(NvmlTarget(host=HOST, state=StateFolder(tmp_path / "state"), **options))
        return machine, target

    yield make
    stack.close()


def step(
    kind: Kind, place: str = "", gpu: int = 0, *, model: str = A100, mode: str = "mig", who: str = "", **fields: object
) -> Step:
    """A step: ``step("create", "3g.40gb@4")``, ``step("start", "3g.40gb@4", who="chat/0")``."""
    profile, _, start = place.partition("@")
    workload, _, replica = who.partition("/")
    occupant = {"workload": workload, "replica": int(replica)} if who else {}
    where = {"profile": profile, "start": int(start)} if place else {}
    return Step(kind, HOST, gpu, model, mode, **where, **occupant, **fields)


def only(target: NvmlTarget, gpu: int = 0) -> GpuLayout:
    return list(target.layout())[gpu]


def slots(target: NvmlTarget, gpu: int = 0) -> list[str]:
    """What is on a GPU, in words: ``3g.40gb@4``, with an occupant ``3g.40gb@4=chat/0``, half made ``3g.40gb@4?``."""
    return [
        f"{slot.profile}@{slot.start}"
        + (f"={slot.workload}/{slot.replica}" if slot.workload else "")
        + ("" if slot.ready else "?")
        for slot in only(target, gpu).slots
    ]


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in catalog.names() if catalog.gpu(name).record.pci_device_ids])
def test_every_catalogued_gpu_is_recognised_and_agrees_with_the_catalogue(opened: Open, name: str) -> None:
    _, target = opened(name)
    assert only(target).model == name
    assert compare_with_catalogue(target) == ()
    assert target.fleet().hosts[0].gpus[0].mode == (None if name in MIG_MODELS else "whole")


def test_a_reading_says_what_the_driver_says(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4)]), "T4")
    instance = machine.instances(0)[0]
    machine.run_process(4242, 0, gi=instance.id, name="/usr/bin/python3", memory_mib=700)
    reading = target.status()
    assert (reading.host, reading.driver_version) == (HOST, "580.95.05")
    gpu, other = reading.gpus
    assert (gpu.uuid, gpu.name, gpu.memory_mib) == (machine.uuid(0), "NVIDIA A100-SXM4-80GB", 81920)
    assert gpu.pci is not None
    assert (gpu.pci.device_id, gpu.pci.bus_id) == (0x20B210DE, "00000000:07:00.0")
    assert (gpu.mig, gpu.mig_pending, other.mig) == (True, True, None)
    assert [(i.id, i.start, i.size, len(i.compute_instances)) for i in gpu.instances] == [(instance.id, 4, 4, 1)]
    assert gpu.instances[0].uuid is not None
    assert gpu.instances[0].uuid.startswith("MIG-")
    assert [(p.pid, p.name, p.memory_mib, p.gpu_instance) for p in gpu.processes] == [(4242, "python3", 700, instance.id)]
    three = next(profile for profile in gpu.profiles if profile.name == "3g.40gb")
    assert (three.profile_id, three.starts, three.extent, three.max_count, three.memory_mib) == (9, (0, 4), 4, 2, 40192)
    data = reading.to_data()
    assert data["gpus"][0]["pci"]["device_id"] == "0x20B210DE"
    assert data["gpus"][0]["instances"][0]["compute_instances"][0]["uuid"] == gpu.instances[0].uuid


def test_the_layout_has_uuids_and_the_target_follows_the_protocol(opened: Open) -> None:
    machine, target = opened(A100, "T4")
    assert isinstance(target, Target)
    assert target.layout().uuids == {(HOST, 0): machine.uuid(0), (HOST, 1): machine.uuid(1)}
    assert [(gpu.mode, gpu.slots) for gpu in target.layout()] == [("whole", ()), ("whole", ())]
    assert str(target) == "NVML on bare-01"


def test_instances_of_others_are_given_to_planners(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4), ("2g.20gb", 0), ("1g.10gb", 2)]), A100, "T4", "T4")
    by_start = {instance.start: instance.id for instance in machine.instances(0)}
    machine.run_process(10, 0, gi=by_start[4])
    machine.run_process(11, 0, gi=by_start[0])
    machine.run_process(12, 1, kind="graphics", name="Xorg")
    machine.run_process(13, 2)
    target.perform(step("start", "2g.20gb@0", who="chat/0"))
    gpus = target.fleet().hosts[0].gpus
    assert (gpus[0].mode, gpus[0].instances) == ("mig", ("3g.40gb@4",))
    assert (gpus[1].mode, gpus[1].instances) == ("whole", ("whole@0",))
    assert (gpus[2].mode, gpus[2].instances) == ("whole", ("whole@0",))
    assert (gpus[3].mode, gpus[3].instances) == ("whole", ())
    assert slots(target, 1) == ["whole@0"]  # as planners show it, so that a diff leaves it


def test_identifiers_for_cuda_visible_devices(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4)]), "T4")
    target.perform(step("create", "whole@0", 1, model="T4", mode="whole"))
    found = target.identifiers()
    assert found[Place(HOST, 1, "whole", 0)] == machine.uuid(1)
    assert found[Place(HOST, 0, "3g.40gb", 4)] == target.status().gpus[0].instances[0].uuid
    assert len(found) == 2


def test_the_user_without_privileges_sees_processes_of_mig_devices(opened: Open) -> None:
    machine, target = opened(A100)
    machine.configure(privileged=False)
    assert only(target).mode == "whole"
    assert all(profile.places is None for profile in target.status().gpus[0].profiles)
    assert compare_with_catalogue(target) == ()  # places were not compared, the rest agrees


def test_where_the_ledger_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path("/var/lib/gpu-partitioner") == folders.SYSTEM
    monkeypatch.setattr(folders, "SYSTEM", tmp_path / "none")  # on this machine there may be one
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state().path == tmp_path / "none"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ada/state")
    assert default_state().path == Path("/home/ada/state/gpu-partitioner")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_state().path == Path("/home/ada/.local/state/gpu-partitioner")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state().path == Path("/home/ada/.local/state/gpu-partitioner")
    monkeypatch.setenv("HOME", "~")
    with pytest.raises(TargetError, match="user 1000 has no home directory to keep the ledger in; set XDG_STATE_HOME"):
        default_state()


def test_users_go_by_the_ledger_of_the_system_where_they_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SYSTEM", tmp_path / "system")
    system = StateFolder(tmp_path / "system")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    own = StateFolder(tmp_path / "own" / "gpu-partitioner")
    assert unread_ledger(own) is None  # there is none
    system.assignments.write({Instance("GPU-1", "whole", 0): None})
    assert system.assignments.path.stat().st_mode & 0o777 == 0o600
    system.path.chmod(0o755)  # an administrator opens the folder; files written from then on are open too
    system.assignments.write({})
    assert system.assignments.path.stat().st_mode & 0o777 == 0o644
    assert default_state().path == system.path
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != system.assignments.path)  # root may read anything
    assert default_state().path == own.path
    assert unread_ledger(default_state()) == system.path


# -- creating and destroying -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIG_MODELS)
def test_every_profile_at_every_start_is_created_read_back_and_destroyed(opened: Open, name: str) -> None:
    machine, target = opened(Card(name, mig=True))
    model = model_of(target.status().gpus[0]).name
    for placement in catalog.gpu(model).geometry("mig").placements:
        target.perform(step("create", str(placement), model=model))
        assert machine.placed(0) == {(placement.profile.name, placement.start)}
        assert len(machine.instances(0)[0].compute) == 1
        target.perform(step("destroy", str(placement), model=model))
        assert machine.placed(0) == frozenset()


@pytest.mark.parametrize("name", MIG_MODELS)
def test_random_layouts_are_made_in_any_order_and_read_back(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("nvml")
    geometry = catalog.gpu(name).geometry("mig")
    with Machine(folder / "machine", [Card(name, mig=True)]) as machine, _target(folder) as target:
        model = only(target).model

        @settings(max_examples=5, suppress_health_check=list(HealthCheck))
        @given(legal_placements(geometry), st.integers(0, 99))
        def check(placements: tuple[object, ...], seed: int) -> None:
            wanted = [str(placement) for placement in placements]
            random.Random(seed).shuffle(wanted)
            for place in wanted:
                target.perform(step("create", place, model=model))
            assert sorted(slots(target)) == sorted(wanted)
            assert machine.placed(0) == {(p.profile.name, p.start) for p in placements}  # type: ignore[attr-defined]
            random.Random(seed + 1).shuffle(wanted)
            for place in wanted:
                target.perform(step("destroy", place, model=model))
            assert machine.placed(0) == frozenset()

        check()


def _target(folder: Path, **options: object) -> NvmlTarget:
    return NvmlTarget(host=HOST, state=StateFolder(folder / "state"), **options)


def test_what_stays_is_never_touched(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4), ("1g.10gb", 0)]), A100)
    kept = {instance.id: instance.generation for instance in machine.instances(0)}
    machine.clear_log()
    for kind, place in (("create", "2g.20gb@2"), ("create", "1g.10gb@1"), ("destroy", "2g.20gb@2"), ("create", "1g.20gb@2")):
        target.perform(step(kind, place))
    after = {instance.id: instance.generation for instance in machine.instances(0)}
    assert {identity: after[identity] for identity in kept} == kept
    assert machine.placed(0) == {("3g.40gb", 4), ("1g.10gb", 0), ("1g.10gb", 1), ("1g.20gb", 2)}
    assert {call.gpu for call in machine.changes()} == {0}
    assert not {call.gi for call in machine.changes()} & set(kept)


def test_compute_instances_go_before_their_gpu_instance(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True))
    target.perform(step("create", "2g.20gb@2"))
    target.perform(step("destroy", "2g.20gb@2"))
    assert [call.function for call in machine.changes()] == [
        "nvmlDeviceCreateGpuInstanceWithPlacement",
        "nvmlGpuInstanceCreateComputeInstance",
        "nvmlComputeInstanceDestroy",
        "nvmlGpuInstanceDestroy",
    ]


def test_steps_that_are_done_change_nothing(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    target.perform(step("start", "3g.40gb@4", who="chat/1"))
    machine.clear_log()
    target.perform(step("create", "3g.40gb@4"))
    target.perform(step("start", "3g.40gb@4", who="chat/1"))
    target.perform(step("destroy", "1g.10gb@0"))
    target.perform(step("keep", "3g.40gb@4"))
    target.perform(step("mode", before="whole"))
    assert machine.changes() == ()
    assert slots(target) == ["3g.40gb@4=chat/1"]


def test_a_half_made_instance_is_shown_and_finished(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True))
    machine.put(0, "3g.40gb", 0, compute=False)
    assert slots(target) == ["3g.40gb@0?"]
    (begun,) = machine.instances(0)
    target.perform(step("create", "3g.40gb@0"))
    (finished,) = machine.instances(0)
    assert (finished.id, finished.generation, len(finished.compute)) == (begun.id, begun.generation, 1)
    assert slots(target) == ["3g.40gb@0"]


def test_a_half_destroyed_instance_is_destroyed(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True))
    machine.put(0, "3g.40gb", 0, compute=False)
    target.perform(step("destroy", "3g.40gb@0"))
    assert machine.placed(0) == frozenset()


@pytest.mark.parametrize(
    ("done", "message"),
    [
        (step("create", "2g.20gb@6"), "cannot start at 6; legal starts are 0, 2, 4"),
        (step("create", "9g.90gb@0"), "does not offer profile '9g.90gb' on this GPU; it offers 1g.10gb,"),
        (step("create", "4g.40gb@0"), "1g.10gb@1 is where 4g.40gb@0 is to be created; destroy it first"),
        (step("create", "whole@0", mode="whole"), "is in mode mig; create needs mode whole"),
        (step("create", "1g.5gb@0", model="A100-40GB"), "is a A100-80GB; the step was made for A100-40GB; diff again"),
        (step("create", "1g.10gb@0", gpu=7), "bare-01/gpu7: no such GPU; the host has 1"),
        (step("mode", mode="vgpu-equal-8", before="mig"), "NVML switches between mig and whole"),
        (step("mode", mode="whole", before="mig"), "cannot change to mode whole with 1g.10gb@1 on it; destroy first"),
        (step("start", "1g.10gb@0", who="chat/0"), "no such instance for chat/0; there is 1g.10gb@1"),
        (step("create"), "create names no instance; it needs profile and start"),
        (step("start", "1g.10gb@1"), "start names no workload"),
    ],
)
def test_illegal_steps_are_refused_with_reason_and_change_nothing(opened: Open, done: Step, message: str) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("1g.10gb", 1)]))
    with pytest.raises(TargetError, match=re.escape(message)):
        target.perform(done)
    assert machine.changes() == ()


def test_a_step_for_another_host_is_refused(opened: Open) -> None:
    _, target = opened(Card(A100, mig=True))
    for host in ("esx-01", None):
        with pytest.raises(TargetError, match=f"the step is for host {host!r}, this is 'bare-01'; apply it there"):
            target.perform(Step("create", host, 0, A100, "mig", "1g.10gb", 0))


def test_a_gpu_that_was_swapped_since_it_was_read_is_not_touched(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True))
    target.layout()
    with machine.locked() as content:
        content.gpus[0].uuid = b"GPU-00000000-0000-0000-0000-000000000000"
    with pytest.raises(TargetError, match="indices have moved, diff again"):
        target.perform(step("create", "1g.10gb@0"))
    assert machine.changes() == ()


# -- ledger ------------------------------------------------------------------------------------------------------------


def test_replicas_start_move_and_leave_in_the_ledger_alone(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 0), ("3g.40gb", 4)]))
    target.perform(step("start", "3g.40gb@0", who="chat/0"))
    assert slots(target) == ["3g.40gb@0=chat/0", "3g.40gb@4"]
    move = step("move", "3g.40gb@4", who="chat/0", source=Place(HOST, 0, "3g.40gb", 0))
    for _ in range(2):
        target.perform(move)
        assert slots(target) == ["3g.40gb@0", "3g.40gb@4=chat/0"]
    with pytest.raises(TargetError, match="is held by chat/0; embed/3 finds no room there"):
        target.perform(step("start", "3g.40gb@4", who="embed/3"))
    with pytest.raises(TargetError, match="is held by chat/0, not by embed/3"):
        target.perform(step("drain", "3g.40gb@4", who="embed/3"))
    with pytest.raises(TargetError, match="is held by chat/0; drain it first"):
        target.perform(step("destroy", "3g.40gb@4"))
    with pytest.raises(TargetError, match="is not held by embed/3, which was to move"):
        target.perform(step("move", "3g.40gb@0", who="embed/3", source=Place(HOST, 0, "3g.40gb", 4)))
    for _ in range(2):
        target.perform(step("drain", "3g.40gb@4", who="chat/0"))
        assert slots(target) == ["3g.40gb@0", "3g.40gb@4"]
    assert machine.changes() == ()


def test_a_new_instance_does_not_inherit_the_occupant_of_an_old_one(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 0)]))
    target.perform(step("start", "3g.40gb@0", who="chat/0"))
    machine.reboot()
    assert slots(target) == []
    target.perform(step("create", "3g.40gb@0"))
    assert slots(target) == ["3g.40gb@0"]


def test_occupants_belong_to_the_board_and_not_to_the_index(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 0)]))
    entries = {Instance("GPU-of-another-board", "3g.40gb", 0): Occupant("chat", 0)}
    target.state.assignments.write(entries)
    assert slots(target) == ["3g.40gb@0"]
    target.state.assignments.write({Instance(machine.uuid(0), "3g.40gb", 0): Occupant("chat", 0)})
    assert slots(target) == ["3g.40gb@0=chat/0"]


def test_a_replica_does_not_start_in_what_is_half_made(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True))
    machine.put(0, "3g.40gb", 0, compute=False)
    with pytest.raises(TargetError, match="its compute instance is missing; chat/0 cannot start there"):
        target.perform(step("start", "3g.40gb@0", who="chat/0"))


def test_whole_gpus_are_kept_in_the_ledger(opened: Open) -> None:
    machine, target = opened("T4")
    assert slots(target) == []
    whole = {"model": "T4", "mode": "whole"}
    target.perform(step("create", "whole@0", **whole))
    assert slots(target) == ["whole@0"]
    target.perform(step("start", "whole@0", who="chat/2", **whole))
    machine.run_process(77, 0)
    assert slots(target) == ["whole@0=chat/2"]
    assert target.fleet().hosts[0].gpus[0].instances == ()  # ours
    with pytest.raises(InUseError, match=r"77 \(python\)"):
        target.perform(step("drain", "whole@0", who="chat/2", **whole))
    machine.end_process(77)
    target.perform(step("drain", "whole@0", who="chat/2", **whole))
    target.perform(step("destroy", "whole@0", **whole))
    assert slots(target) == []
    assert machine.changes() == ()


def test_a_whole_gpu_that_others_use_is_not_taken(opened: Open) -> None:
    machine, target = opened("T4")
    machine.run_process(77, 0)
    with pytest.raises(InUseError, match=r"create whole@0 is not possible beside 77 \(python\)"):
        target.perform(step("create", "whole@0", model="T4", mode="whole"))
    assert target.state.assignments.read() == {}


# -- models that the driver describes otherwise ------------------------------------------------------------------------


def _with_other_starts(machine: Machine, *, max_count: int = 2) -> None:
    with machine.locked() as content:
        model = content.models[0]
        three = next(p for p in model.profiles if p.name == b"3g.40gb")
        three.starts[0], three.starts[1], three.max_count = 1, 5 - 1, max_count
        three.start_count = 2
        extra = model.profiles[model.profile_count]
        extra.name, extra.nvml_profile, extra.id, extra.slices, extra.extent = b"6g.60gb", 6, 77, 6, 6
        extra.max_count, extra.start_count, extra.starts[0], extra.memory_mib, extra.multiprocessors = 1, 1, 0, 60000, 84
        extra.compute_profile_count = 1
        compute = extra.compute_profiles[0]
        compute.nvml_profile, compute.id, compute.slices, compute.extent, compute.max_count = 6, 6, 6, 6, 1
        compute.start_count = 1
        model.profile_count += 1


def test_where_the_driver_has_another_geometry_it_wins(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True))
    _with_other_starts(machine)
    found = {(d.profile, d.what): (d.catalogue, d.driver, d.geometric) for d in compare_with_catalogue(target)}
    assert found == {("3g.40gb", "starts"): ((0, 4), (1, 4), True), ("6g.60gb", "profile"): (None, 77, True)}
    model = catalog.gpu(only(target).model)
    assert model.name.startswith("as-read-A100-80GB-")
    assert model.geometry("mig").profile("3g.40gb").starts == (1, 4)
    assert model.geometry("mig").profile("6g.60gb").compute_slices == 6
    assert model.profile("1g.10gb").starts == catalog.gpu(A100).profile("1g.10gb").starts
    assert target.fleet().hosts[0].gpus[0].model == model.name
    target.perform(step("create", "6g.60gb@0", model=model.name))
    assert slots(target) == ["6g.60gb@0"]
    assert catalog.gpu(A100).geometry("mig").profile("3g.40gb").starts == (0, 4)  # the catalogue's own stays


def test_the_derived_model_follows_from_the_reading_alone(opened: Open) -> None:
    names = []
    for _ in range(2):
        machine, target = opened(A100)
        _with_other_starts(machine)
        names.append(only(target).model)
    machine, target = opened(A100)
    _with_other_starts(machine, max_count=1)
    assert names[0] == names[1] != only(target).model


def test_a_derived_model_of_the_same_geometry_plans_alike(opened: Open) -> None:
    """Made from the reading alone, without the catalogue, every MIG GPU has the catalogue's layouts."""
    for name in ("A100-80GB", "A30-24GB", "H100-80GB", "RTX-PRO-6000-96GB"):
        _, target = opened(name)
        (gpu,) = target.status().gpus
        ours, theirs = catalog.gpu(name).geometry("mig"), GpuModel(derived(gpu, None)).geometry("mig")
        assert (ours.units, len(ours.placements)) == (theirs.units, len(theirs.placements))
        assert {p.name: (p.starts, p.extent, p.max_count) for p in ours.profiles} == {
            p.name: (p.starts, p.extent, p.max_count) for p in theirs.profiles
        }
        assert set(ours.configurations()) == set(theirs.configurations())


def test_a_gpu_that_is_not_catalogued_is_derived(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True), "T4")
    with machine.locked() as content:
        for model, name, device in zip(
            content.models, (b"NVIDIA Z9 (test) 80GB", b"NVIDIA GeForce Z1"), (0x7001, 0x7002), strict=False
        ):
            model.name, model.pci_device_id = name, device
    assert catalogued(target.status().gpus[0]) is None
    first, second = target.layout()
    assert first.model.startswith("as-read-NVIDIA-Z9-test-80GB-")
    assert second.model.startswith("as-read-NVIDIA-GeForce-Z1-")
    assert catalog.gpu(second.model).modes == ("whole",)
    target.perform(step("create", "3g.40gb@4", model=first.model))
    assert slots(target) == ["3g.40gb@4"]
    assert [(d.gpu, d.what, d.geometric) for d in compare_with_catalogue(target)] == [(0, "model", True), (1, "model", True)]
    assert "NVIDIA GeForce Z1 (PCI device id 0x7002)" in str(compare_with_catalogue(target)[1])


@pytest.mark.parametrize("name", [*MIG_MODELS, "T4"])
def test_a_reading_becomes_a_file_for_the_catalogue(opened: Open, name: str, tmp_path: Path) -> None:
    machine, target = opened(name)
    with machine.locked() as content:
        content.models[0].name = b'NVIDIA "Z9" 7\xc3\xbc\\x'
        content.models[0].pci_device_id = 0x7001
    reading = target.status()
    (gpu,) = reading.gpus
    path = tmp_path / "z9.toml"
    path.write_text(catalogue_file(reading, gpu, read_on=date(2026, 3, 1)), encoding="utf-8")
    model = catalog.check(path)
    assert model.record.product_names == (gpu.name,)
    assert model.pci_device_ids == (0x7001,)
    assert model.record.as_of == date(2026, 3, 1)
    assert "580.95.05" in model.record.sources["driver"].title
    assert model.name == model_of(gpu).name
    assert model.record.mig == model_of(gpu).record.mig


def test_the_file_of_a_reading_may_be_in_the_catalogue_already(opened: Open, tmp_path: Path) -> None:
    machine, target = opened(Card(A100, mig=True))
    _with_other_starts(machine)
    reading = target.status()
    path = tmp_path / "as-read.toml"
    path.write_text(catalogue_file(reading, reading.gpus[0], read_on=date(2026, 3, 1)), encoding="utf-8")
    model = catalog.add(path)
    try:
        assert only(target).model == model.name
    finally:
        catalog._models().pop(model.name)
        catalog._spellings.cache_clear()


def test_derived_models_are_found_by_name_and_not_listed(opened: Open) -> None:
    before = catalog.names()
    machine, target = opened(A100, "T4")
    _with_other_starts(machine)
    machine.lose(1)
    other, lost = target.layout()
    assert catalog.gpu(other.model).name.startswith("as-read-A100-80GB-")
    assert catalog.gpu(lost.model).modes == ("whole",)
    assert catalog.names() == before
    assert catalog.gpu("NVIDIA A100-SXM4-80GB").name == A100


def test_other_memory_sizes_are_told_and_change_no_geometry(opened: Open) -> None:
    machine, target = opened(A100)
    with machine.locked() as content:
        content.models[0].profiles[0].memory_mib += 128
    (difference,) = compare_with_catalogue(target)
    assert (difference.what, difference.geometric) == ("memory_mib", False)
    assert "by the driver and" in str(difference)
    assert difference.to_data()["catalogue"] + 128 == difference.to_data()["driver"]
    assert only(target).model == A100


# -- MIG mode ----------------------------------------------------------------------------------------------------------


def test_mig_mode_is_switched_on_and_off(opened: Open) -> None:
    machine, target = opened(A100)
    target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (True, True)
    assert only(target).mode == "mig"
    target.perform(step("mode", mode="whole", before="mig"))
    assert machine.mode(0) == (False, False)


def test_a_mode_change_drops_what_the_ledger_says_of_the_gpu(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True), "T4")
    other = Instance(machine.uuid(1), "whole", 0)
    target.state.assignments.write({Instance(machine.uuid(0), "3g.40gb", 0): Occupant("chat", 0), other: None})
    target.perform(step("mode", mode="whole", before="mig"))
    assert target.state.assignments.read() == {other: None}


def test_a_gpu_in_the_ledger_as_a_whole_does_not_change_its_mode(opened: Open) -> None:
    machine, target = opened(A100)
    target.perform(step("create", "whole@0", mode="whole"))
    with pytest.raises(TargetError, match="cannot change to mode mig with whole@0 on it; destroy first"):
        target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (False, False)


def test_a_pending_mode_is_activated_by_a_reset(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, target = opened(Card(A100, needs_reset=True), A100)
    monkeypatch.setenv("PATH", machine.environment()["PATH"])
    target.layout()
    target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (True, True)
    assert machine.mode(1) == (False, False)
    target.perform(step("create", "3g.40gb@4"))  # NVML works again
    assert slots(target) == ["3g.40gb@4"]


def test_a_pending_mode_that_only_a_reboot_activates(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, target = opened(Card(A100, needs_external_reset=True))
    monkeypatch.setenv("PATH", machine.environment()["PATH"])
    waits = r"MIG mode on is pending and waits for a reset of the GPU; .*is not supported.*reboot the host, then run it again"
    with pytest.raises(TargetError, match=waits):
        target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (False, True)
    machine.reboot()
    target.perform(step("mode", before="whole"))
    assert only(target).mode == "mig"


def test_a_mode_that_somebody_left_pending_is_activated(opened: Open) -> None:
    machine, target = opened(A100)
    machine.set_mode(0, pending=True)
    assert only(target).mode == "whole"
    target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (True, True)


def test_a_mode_that_somebody_left_pending_is_taken_back(opened: Open) -> None:
    machine, target = opened(A100)
    machine.set_mode(0, pending=True)
    target.perform(step("mode", mode="whole", before="mig"))
    assert machine.mode(0) == (False, False)


def test_taking_a_pending_mode_back_leaves_what_runs(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    (instance,) = machine.instances(0)
    target.perform(step("start", "3g.40gb@4", who="chat/0"))
    machine.run_process(4711, 0, gi=instance.id)
    machine.set_mode(0, current=True, pending=False)
    target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (True, True)
    assert slots(target) == ["3g.40gb@4=chat/0"]
    assert machine.instances(0) == (instance,)


def test_what_is_whole_without_mig_needs_no_change(opened: Open) -> None:
    machine, target = opened("T4")
    target.perform(step("mode", model="T4", mode="whole", before="mig"))
    with pytest.raises(TargetError, match="has no MIG, its mode is whole"):
        target.perform(step("mode", model="T4", mode="mig", before="whole"))
    assert machine.changes() == ()


# -- diffs ---


@st.composite
def _mig_or_whole(draw: st.DrawFn, model: str, gpu: int) -> GpuLayout:
    if draw(st.integers(0, 3)) == 3:
        return GpuLayout(HOST, gpu, model, "whole", draw(st.sampled_from(((), (Slot("whole", 0),)))))
    placements = draw(legal_placements(catalog.gpu(model).geometry("mig")))
    return GpuLayout(HOST, gpu, model, "mig", tuple(Slot(p.profile.name, p.start) for p in placements))


def _occupied(gpus: list[GpuLayout], seed: int) -> Layout:
    """The same with replicas a/0, a/1, ... in some of the instances."""
    rng, replica, found = random.Random(seed), iter(range(99)), []
    for gpu in gpus:
        held = tuple(replace(slot, workload="a", replica=next(replica)) if rng.random() < 0.6 else slot for slot in gpu.slots)
        found.append(replace(gpu, slots=held))
    return Layout.of(found)


@pytest.mark.parametrize("name", ["A100-80GB", "A30-24GB", "RTX-PRO-6000-96GB", "Thor-iGPU"])
def test_a_diff_carried_out_ends_at_the_goal(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("nvml")
    with Machine(folder / "machine", [Card(name), Card(name)]) as machine, _target(folder) as target:
        model = only(target).model

        @settings(max_examples=12, suppress_health_check=list(HealthCheck))
        @given(st.tuples(_mig_or_whole(model, 0), _mig_or_whole(model, 1)), st.integers(0, 999))
        def check(goal: tuple[GpuLayout, GpuLayout], seed: int) -> None:
            wanted = _occupied(list(goal), seed)
            current = target.layout()
            kept = {(gpu, i.profile, i.start): i.generation for gpu in (0, 1) for i in machine.instances(gpu)}
            machine.clear_log()
            for each in diff(current, wanted).steps:
                target.perform(each)
                target.perform(each)  # doing it twice changes nothing
            assert target.layout() == wanted
            for (gpu, profile, start), generation in kept.items():
                if current.gpu(gpu).mode == wanted.gpu(gpu).mode and any(
                    (slot.profile, slot.start) == (profile, start) for slot in wanted.gpu(gpu).slots
                ):
                    same = [i.generation for i in machine.instances(gpu) if (i.profile, i.start) == (profile, start)]
                    assert same == [generation]

        check()


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_a_layout_on_hardware_equals_the_same_layout_planned(opened: Open) -> None:
    _, target = opened(Card(A100, mig=True, layout=[("4g.40gb", 0), ("3g.40gb", 4)]), A100)
    target.perform(step("start", "4g.40gb@0", who="chat/0"))
    planned = Layout.of(
        [
            GpuLayout(HOST, 0, A100, "mig", (Slot("4g.40gb", 0, "chat", 0), Slot("3g.40gb", 4))),
            GpuLayout(HOST, 1, A100, "whole"),
        ]
    )
    assert target.layout() == planned
