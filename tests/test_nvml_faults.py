"""The NVML target when the driver, a GPU, the user's rights, other processes or the disk do not do what they should."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pynvml
import pytest
from nvml import Card, Machine
from test_nvml import A100, HOST, Open, only, opened, slots, step

from partitioner.applying import apply
from partitioner.changes import diff
from partitioner.changes.step import Step
from partitioner.errors import InUseError, StepError, TargetError
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.nvml import NvmlError, NvmlInUseError, NvmlTarget, words
from partitioner.targets import StateFolder

__all__ = ["opened"]  # the fixture

CODES = {name: getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML_ERROR_")}
MIG = Card(A100, mig=True, layout=[("3g.40gb", 4)])


def _python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


# -- error codes -------------------------------------------------------------------------------------------------------


def test_the_table_has_every_code_of_pynvml_under_its_name() -> None:
    assert {f"NVML_ERROR_{meaning.name}": code for code, meaning in words.MEANINGS.items()} == CODES


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_error_code_is_said_in_words_with_what_to_do(opened: Open, name: str) -> None:
    machine, target = opened(MIG)
    machine.fail("nvmlDeviceCreateGpuInstanceWithPlacement", code=CODES[name])
    with pytest.raises(NvmlError) as caught:
        target.perform(step("create", "1g.10gb@0"))
    said = words.meaning(CODES[name])
    message = str(caught.value)
    assert message.startswith(f"bare-01/gpu0: nvmlDeviceCreateGpuInstanceWithPlacement: {said.what} ({name}); {said.remedy}")
    assert caught.value.code == CODES[name]
    assert isinstance(caught.value, InUseError) == (name == "NVML_ERROR_IN_USE")
    assert isinstance(caught.value.__cause__, pynvml.NVMLError)
    assert machine.placed(0) == {("3g.40gb", 4)}
    target.perform(step("create", "1g.10gb@0"))  # a second run finishes
    assert machine.placed(0) == {("3g.40gb", 4), ("1g.10gb", 0)}


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_error_code_at_the_start_is_said(opened: Open, name: str, tmp_path: Path) -> None:
    machine, _ = opened(A100)
    machine.fail("nvmlInit*", code=CODES[name])
    with pytest.raises(NvmlError, match=name):
        NvmlTarget(host=HOST, state=StateFolder(tmp_path))


def test_a_code_of_a_later_driver_is_said_by_number(opened: Open) -> None:
    machine, target = opened(MIG)
    machine.fail("nvmlDeviceCreateGpuInstanceWithPlacement", code=77)
    with pytest.raises(NvmlError, match=r"an error this program does not know \(code 77\)"):
        target.perform(step("create", "1g.10gb@0"))


STEPS = {
    "create": step("create", "1g.10gb@0"),
    "destroy": step("destroy", "3g.40gb@4"),
    "start": step("start", "3g.40gb@4", who="chat/0"),
}


@pytest.mark.parametrize("kind", sorted(STEPS))
def test_whichever_call_fails_the_error_is_typed_and_a_second_run_finishes(opened: Open, kind: str) -> None:
    """Every call that a step makes fails once, with and without its effect."""
    machine, target = opened(MIG)
    target.perform(STEPS[kind])
    made = sum(machine.counts().values())
    for at in range(1, made):
        for action in ("return", "fail after"):
            machine, target = opened(MIG)
            target.state.assignments.write({})
            fault = machine.fail("*", action, code=words.INSUFFICIENT_RESOURCES, at=at)
            with suppress(TargetError):  # any other error is not suppressed
                target.perform(STEPS[kind])
            assert machine.hits(fault) <= 1
            machine.clear_faults()
            target.perform(STEPS[kind])
            assert (
                slots(target)
                == {
                    "create": ["1g.10gb@0", "3g.40gb@4"],
                    "destroy": [],
                    "start": ["3g.40gb@4=chat/0"],
                }[kind]
            )
            assert all(len(instance.compute) == 1 for instance in machine.instances(0))


# -- the driver says that it did something ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "done", "message"),
    [
        ("nvmlDeviceCreateGpuInstanceWithPlacement", STEPS["create"], "reports success, but there is no instance at 0"),
        ("nvmlGpuInstanceCreateComputeInstance", STEPS["create"], "the instance at 0 has no compute instance"),
        ("nvmlGpuInstanceDestroy", STEPS["destroy"], "reports success, but the instance at 4 is still there"),
        ("nvmlDeviceSetMigMode", step("mode", gpu=1, before="whole"), "reports success; .*MIG mode is as before"),
    ],
)
def test_success_reported_and_nothing_done_is_an_error(opened: Open, function: str, done: Step, message: str) -> None:
    machine, target = opened(MIG, A100)
    machine.fail(function, "nothing")
    with pytest.raises(TargetError, match=message):
        target.perform(done)
    target.perform(done)


# -- a call that does not return ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "done"),
    [
        ("nvmlDeviceCreateGpuInstanceWithPlacement", STEPS["create"]),
        ("nvmlDeviceGetMigMode", STEPS["create"]),
        ("nvmlDeviceSetMigMode", step("mode", gpu=1, before="whole")),
    ],
)
def test_a_hanging_call_is_given_up_and_no_further_one_is_made(opened: Open, function: str, done: Step) -> None:
    machine, target = opened(MIG, A100, timeout_s=0.05)
    machine.fail(function, "hang", hang_s=1.0)
    began = time.monotonic()
    with pytest.raises(TargetError, match=rf"bare-01/gpu{done.gpu}: {function} did not return within 0.05 s; .*reset"):
        target.perform(done)
    assert time.monotonic() - began < 0.9
    made = sum(machine.counts().values())
    with pytest.raises(TargetError, match=rf"was not made: {function} on bare-01/gpu{done.gpu} did not return within 0.05 s"):
        target.layout()
    target.close()  # neither hangs nor calls
    target._library._thread.join(timeout=30)  # its own alone: targets of other tests may still be open in this process
    assert not target._library._thread.is_alive()
    assert sum(machine.counts().values()) <= made + 1  # the hanging one may count when it ends


def test_many_short_calls_are_no_time_out(opened: Open) -> None:
    machine, target = opened(MIG, timeout_s=0.1)
    machine.fail("nvmlDeviceGetGpuInstances", "hang", hang_s=0.03, times=6)
    began = time.monotonic()
    assert slots(target) == ["3g.40gb@4"]
    assert time.monotonic() - began > 0.15  # longer than one call may take


def test_the_process_ends_while_a_call_hangs_for_ever(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", [MIG])
    machine.fail("nvmlDeviceGetUUID", "hang")
    code = (
        "from partitioner.nvml import NvmlTarget; from partitioner.errors import TargetError; from partitioner.targets import *\n"
        f"target = NvmlTarget(host='h', timeout_s=0.1, state=StateFolder({str(tmp_path / 'state')!r}))\n"
        "try: target.layout()\n"
        "except TargetError as error: print(error)\n"
        "target.close()\n"
    )
    done = _python(code, machine.environment())
    assert "h/gpu0: nvmlDeviceGetUUID did not return within 0.1 s" in done.stdout
    assert done.returncode == 0, done.stderr


# -- who is in the way -------------------------------------------------------------------------------------------------


def test_destroy_and_drain_name_who_runs(opened: Open) -> None:
    machine, target = opened(MIG)
    (instance,) = machine.instances(0)
    machine.run_process(4711, 0, gi=instance.id, name="/opt/triton/tritonserver")
    machine.run_process(4712, 0, gi=instance.id, kind="graphics", name="Xorg")
    target.perform(step("start", "3g.40gb@4", who="chat/0"))
    machine.clear_log()
    with pytest.raises(
        InUseError, match=r"gpu0 3g.40gb@4: drain chat/0 would interrupt 4711 \(tritonserver\), 4712 \(Xorg\)"
    ) as caught:
        target.perform(step("drain", "3g.40gb@4", who="chat/0"))
    assert caught.value.pids == (4711, 4712)
    assert slots(target) == ["3g.40gb@4=chat/0"]
    target.state.assignments.write({})
    with pytest.raises(InUseError, match=r"destroy 3g.40gb@4 would interrupt 4711"):
        target.perform(step("destroy", "3g.40gb@4"))
    assert machine.changes() == ()


def test_processes_on_other_instances_do_not_matter(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4), ("3g.40gb", 0)]))
    by_start = {instance.start: instance.id for instance in machine.instances(0)}
    machine.run_process(4711, 0, gi=by_start[0])
    target.perform(step("destroy", "3g.40gb@4"))
    assert machine.placed(0) == {("3g.40gb", 0)}


def test_a_mode_change_names_who_runs(opened: Open) -> None:
    machine, target = opened(A100)
    machine.run_process(4711, 0)
    with pytest.raises(InUseError, match=r"bare-01/gpu0: mode mig would interrupt 4711 \(python\)"):
        target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (False, False)


def test_a_monitor_that_is_not_listed_leaves_the_mode_as_it_was(opened: Open) -> None:
    machine, target = opened(A100)
    machine.run_process(4711, 0, kind="monitor")
    with pytest.raises(NvmlInUseError, match=r"something is using it \(NVML_ERROR_IN_USE\); .*DCGM.*; the mode is as before"):
        target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (False, False)  # nothing pending that would come with the next reboot


def test_draining_waits_for_processes_to_end(opened: Open) -> None:
    machine, target = opened(MIG, drain_timeout_s=5.0)
    (instance,) = machine.instances(0)
    machine.run_process(4711, 0, gi=instance.id)
    timer = threading.Timer(0.1, machine.end_process, [4711])
    timer.start()
    target.perform(step("destroy", "3g.40gb@4"))
    timer.join()
    assert machine.placed(0) == frozenset()


def test_draining_waits_for_a_monitor_to_end(opened: Open) -> None:
    machine, target = opened(A100, drain_timeout_s=5.0)
    machine.run_process(4711, 0, kind="monitor")
    timer = threading.Timer(0.05, machine.end_process, [4711])
    timer.start()
    target.perform(step("mode", before="whole"))
    timer.join()
    assert machine.mode(0) == (True, True)


def test_draining_ends_when_the_time_is_over_and_kills_nobody(opened: Open) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        machine, target = opened(MIG, drain_timeout_s=0.15)
        (instance,) = machine.instances(0)
        machine.run_process(process.pid, 0, gi=instance.id, only_while_alive=True)
        with pytest.raises(InUseError, match=r"which still run after 0.15 s"):
            target.perform(step("destroy", "3g.40gb@4"))
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait()
    target.perform(step("destroy", "3g.40gb@4"))


def test_a_process_that_begins_between_look_and_act_is_named(opened: Open) -> None:
    machine, target = opened(MIG)
    (instance,) = machine.instances(0)
    machine.fail("nvmlComputeInstanceDestroy", code=words.IN_USE)
    machine.fail("nvmlComputeInstanceDestroy", "hang", hang_s=0.001)
    with pytest.raises(NvmlInUseError, match="nvmlComputeInstanceDestroy: something is using it"):
        target.perform(step("destroy", "3g.40gb@4"))
    assert machine.instances(0) == (instance,)


def test_creation_beside_a_process_on_the_whole_gpu_names_it(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    (instance,) = machine.instances(0)
    machine.run_process(4711, 0, kind="graphics", name="Xorg")
    machine.run_process(4712, 0, gi=instance.id, name="triton")  # on an instance of its own: nobody's obstacle
    with pytest.raises(InUseError, match=r"gpu0: create 1g.10gb@0 is not possible beside 4711 \(Xorg\), which") as caught:
        target.perform(step("create", "1g.10gb@0"))
    assert caught.value.pids == (4711,)
    assert machine.placed(0) == {("3g.40gb", 4)}


def test_creation_waits_for_a_process_on_the_whole_gpu(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True), drain_timeout_s=5.0)
    machine.run_process(4711, 0)
    timer = threading.Timer(0.05, machine.end_process, [4711])
    timer.start()
    target.perform(step("create", "1g.10gb@0"))
    timer.join()
    assert machine.placed(0) == {("1g.10gb", 0)}


# -- GPUs and rights ---------------------------------------------------------------------------------------------------


def test_a_lost_gpu_leaves_the_others_usable(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True), Card(A100, mig=True, layout=[("3g.40gb", 4)]), "T4")
    machine.lose(1)
    lost = target.status().gpus[1]
    assert lost.problem is not None
    assert "bare-01/gpu1: " in lost.problem
    assert "the GPU fell off the bus (NVML_ERROR_GPU_IS_LOST)" in lost.problem
    assert "reset it" in lost.problem
    gpus = target.fleet().hosts[0].gpus
    assert [gpu.model for gpu in gpus] == [A100, "unreachable-GPU", "T4"]  # indices stay
    assert gpus[1].instances == ("whole@0",)  # and nothing is planned for it
    assert slots(target, 1) == ["whole@0"]
    target.perform(step("create", "1g.10gb@0"))
    assert slots(target, 0) == ["1g.10gb@0"]
    with pytest.raises(TargetError, match=r"bare-01/gpu1: .*NVML_ERROR_GPU_IS_LOST"):
        target.perform(step("create", "1g.10gb@0", 1))


def test_a_gpu_that_is_lost_while_it_is_read(opened: Open) -> None:
    machine, target = opened(Card(A100, mig=True), "T4")
    target.layout()
    for at in range(1, 30):
        machine.fail("nvmlDeviceGet*", code=words.GPU_IS_LOST, at=at, gpu=0)
        assert target.status().gpus[1].reachable
        machine.clear_faults()


def test_a_driver_without_mig(opened: Open) -> None:
    machine, target = opened(A100)
    machine.configure(mig_functions=False, driver_version="418.87.00")
    assert target.status().gpus[0].mig is None
    assert only(target).mode == "whole"
    assert target.fleet().hosts[0].gpus[0].mode == "whole"  # so that no MIG is planned for it
    with pytest.raises(TargetError, match=r"this GPU or its driver has no MIG.*driver 450 or later"):
        target.perform(step("mode", before="whole"))
    with pytest.raises(TargetError, match="is in mode whole; create needs mode mig"):
        target.perform(step("create", "1g.10gb@0"))


def test_without_permission(opened: Open) -> None:
    machine, target = opened(MIG, A100)
    machine.configure(privileged=False)
    with pytest.raises(TargetError, match=r"bare-01/gpu0: nvmlDeviceGetGpuInstances: no permission .*run it as root"):
        target.layout()
    reading = target.status()  # but what can be read is
    assert reading.gpus[0].problem is not None
    assert [(gpu.name, gpu.mig) for gpu in reading.gpus] == [("NVIDIA A100-SXM4-80GB", True), ("NVIDIA A100-SXM4-80GB", False)]
    with pytest.raises(TargetError, match=r"nvmlDeviceSetMigMode: no permission .*run it as root"):
        target.perform(step("mode", gpu=1, before="whole"))
    assert machine.mode(1) == (False, False)


def test_a_driver_that_is_not_loaded(tmp_path: Path, opened: Open) -> None:
    machine, _ = opened(A100)
    machine.configure(driver_loaded=False)
    with pytest.raises(NvmlError, match=r"NVIDIA's driver is not loaded \(NVML_ERROR_DRIVER_NOT_LOADED\); load it"):
        NvmlTarget(host=HOST, state=StateFolder(tmp_path))


@pytest.mark.parametrize(
    ("hide", "message"),
    [("", "libnvidia-ml.so.1 was not found (NVML_ERROR_LIBRARY_NOT_FOUND); install NVIDIA's driver"), ("pynvml", "pip install")],
)
def test_a_machine_without_driver_or_pynvml(tmp_path: Path, hide: str, message: str) -> None:
    machine = Machine(tmp_path / "machine", [A100])
    code = (
        f"import sys; sys.modules.update({{{hide!r}: None}} if {hide!r} else {{}})\n"
        "from partitioner.nvml import NvmlTarget; from partitioner.errors import TargetError\n"
        "try: NvmlTarget(host='h')\n"
        "except TargetError as error: print(error)\n"
    )
    done = _python(code, machine.environment(library=False))
    assert message in done.stdout, done.stderr


def test_a_host_without_gpus(opened: Open) -> None:
    _, target = opened()
    assert len(target.layout()) == 0
    with pytest.raises(TargetError, match="the driver shows no GPU"):
        target.fleet()


# -- modes that stay pending -------------------------------------------------------------------------------------------


def test_without_nvidia_smi_the_pending_mode_is_told(opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine, target = opened(A100)
    monkeypatch.setenv("PATH", str(tmp_path))
    machine.fail("nvmlDeviceSetMigMode", "activation", code=words.RESET_REQUIRED)
    with pytest.raises(TargetError, match=r"MIG mode on is pending .*nvidia-smi.* is not on the PATH; reset it .*or reboot"):
        target.perform(step("mode", before="whole"))
    assert machine.mode(0) == (False, True)
    assert only(target).mode == "whole"


def test_an_apply_does_not_claim_that_a_pending_mode_was_taken_back(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine, target = opened(A100, Card(A100, needs_external_reset=True))
    monkeypatch.setenv("PATH", str(tmp_path))
    goal = Layout.of(GpuLayout(HOST, index, A100, "mig", (Slot("7g.80gb", 0),)) for index in (0, 1))
    with pytest.raises(StepError, match=r"MIG mode on is pending .*reboot the host.*; the steps before it were taken back$"):
        apply(diff(target.layout(), goal), target)
    assert [machine.mode(index) for index in (0, 1)] == [(False, False), (False, True)]
    machine.reboot()
    apply(diff(target.layout(), goal), target)
    assert target.layout() == goal


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "nvidia-smi reports one, and it still is; reboot the host"),
        ("echo In use; exit 19", "ended with 19: In use; reset it"),
        ("exec sleep 30", "did not end within 0.2 s; reset it"),
        (None, "cannot be started"),
    ],
)
def test_a_reset_that_fails_is_told(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None, message: str
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/no/such/shell\n" if script is None else f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    machine, target = opened(A100, timeout_s=0.2)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    machine.fail("nvmlDeviceSetMigMode", "activation", code=words.RESET_REQUIRED)
    with pytest.raises(TargetError, match=message):
        target.perform(step("mode", before="whole"))
    assert only(target).mode == "whole"  # NVML works again


# -- the ledger --------------------------------------------------------------------------------------------------------


def test_a_damaged_ledger_is_named_with_what_to_do(opened: Open) -> None:
    machine, target = opened(MIG)
    path = target.state.path / "assignments.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"format": "gpu-partitioner/assign')
    for act in (target.layout, target.fleet, lambda: target.perform(STEPS["create"])):
        with pytest.raises(TargetError, match=rf"{path}.*restore it from a copy, or remove it"):
            act()
    assert machine.changes() == ()
    assert target.status().gpus[0].reachable  # which needs no ledger
    path.unlink()
    assert slots(target) == ["3g.40gb@4"]


@contextmanager
def _full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_ledger_as_it_was_and_a_second_run_finishes(opened: Open) -> None:
    _, target = opened(MIG)
    target.perform(step("start", "3g.40gb@4", who="chat/0"))
    with _full_disk(), pytest.raises(TargetError, match=r"assignments.json: cannot be written: .*the old content stands"):
        target.perform(step("drain", "3g.40gb@4", who="chat/0"))
    assert slots(target) == ["3g.40gb@4=chat/0"]
    target.perform(step("drain", "3g.40gb@4", who="chat/0"))
    assert slots(target) == ["3g.40gb@4"]
