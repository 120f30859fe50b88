"""Exported commands and the script of the systemd unit, run with nvidia-smi over the stand-in for the driver's library."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import tempfile
from pathlib import Path

import exports
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvml import Card, Machine

from partitioner import catalog, export
from partitioner.errors import SpecError
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.nvml import NvmlTarget
from partitioner.targets import StateFolder

A100, A30, H100 = "A100-80GB", "A30-24GB", "H100-80GB"
SCRIPT, UNIT = "gpu-partitioner-layout.sh", "gpu-partitioner-layout.service"

PLANNED = Layout.of(
    [
        GpuLayout("h", 0, A100, "mig", (Slot("3g.40gb", 4, "chat", 0), Slot("1g.10gb", 0, "embed", 0), Slot("1g.10gb", 2))),
        GpuLayout("h", 1, "T4", "whole", (Slot("whole", 0, "train", 0),)),
        GpuLayout("h", 2, H100, "whole"),
        GpuLayout("h", 3, A30, None),
        GpuLayout("h", 4, A30, "mig", (Slot("2g.12gb", 2),)),
    ]
)
WANTED = {0: {("3g.40gb", 4), ("1g.10gb", 0), ("1g.10gb", 2)}, 4: {("2g.12gb", 2)}}


@pytest.fixture
def machine(tmp_path) -> Machine:
    cards = [Card(A100), "T4", Card(H100, mig=True), Card(A30, mig=True, layout=[("1g.6gb", 3)]), Card(A30, mig=True)]
    return Machine(tmp_path / "nvml", cards)


def run(script: str, machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    call = ["/bin/sh", "-c", script, "script", *arguments]
    return subprocess.run(call, env=machine.environment(), capture_output=True, text=True, check=False)


def restore(machine: Machine, *arguments: str, layout: Layout = PLANNED) -> subprocess.CompletedProcess[str]:
    return run(export.systemd(layout)[SCRIPT], machine, *arguments)


def as_planned(machine: Machine) -> bool:
    placed = {gpu: set(machine.placed(gpu)) for gpu in WANTED}
    ready = all(instance.compute for gpu in WANTED for instance in machine.instances(gpu))
    return placed == WANTED and ready and [machine.mode(gpu)[0] for gpu in (0, 2, 4)] == [True, False, True]


# -- nvidia-smi --------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.data())
def test_commands_give_exactly_the_planned_placements(data: st.DataObject) -> None:
    gpus = [data.draw(exports.gpu_layouts("h", index)) for index in range(data.draw(st.integers(1, 3)))]
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder) / "nvml", [Card(gpu.model) for gpu in gpus])
        done = run(export.nvidia_smi(Layout.of(gpus)), machine)
        assert done.returncode == 0, done.stdout + done.stderr
        for index, gpu in enumerate(gpus):
            assert machine.placed(index) == {(s.profile, s.start) for s in gpu.slots if gpu.mode == "mig"}
            assert machine.mode(index)[0] == (gpu.mode == "mig")
            assert all(instance.compute for instance in machine.instances(index))


def test_commands_find_a_gpu_by_its_uuid(tmp_path) -> None:
    machine = Machine(tmp_path / "nvml", [Card(A30), Card(A30)])
    layout = Layout.of([GpuLayout("h", 0, A30, "mig", (Slot("1g.6gb", 2),), machine.uuid(1))])
    assert run(export.nvidia_smi(layout), machine).returncode == 0
    assert (machine.placed(0), machine.placed(1)) == (set(), {("1g.6gb", 2)})


def test_commands_stop_at_the_first_failure(machine: Machine) -> None:
    machine.fail("nvmlDeviceCreateGpuInstanceWithPlacement", code=4, at=1)
    assert run(export.nvidia_smi(PLANNED), machine).returncode != 0
    assert machine.placed(4) == set()


# -- the script --------------------------------------------------------------------------------------------------------


def test_the_script_restores_and_the_second_time_does_nothing(machine: Machine) -> None:
    first = restore(machine)
    assert (first.returncode, first.stdout.splitlines()[-1]) == (0, "restored"), first.stderr
    assert as_planned(machine)
    assert machine.placed(3) == {("1g.6gb", 3)}  # not in use: left as it is
    machine.clear_log()
    second = restore(machine)
    assert (second.returncode, second.stdout) == (0, "as planned\n")
    assert machine.changes() == ()


def test_the_script_restores_after_a_reboot(machine: Machine) -> None:
    assert restore(machine).returncode == 0
    machine.reboot()
    assert machine.placed(0) == set()
    assert restore(machine).returncode == 0
    assert as_planned(machine)


def test_check_only_looks(machine: Machine) -> None:
    before = restore(machine, "check")
    assert before.returncode == 1
    assert before.stdout.startswith("not as planned: GPU 0: MIG mode Disabled, planned Enabled; GPU 0: missing 19:0,19:2,9:4;")
    assert machine.changes() == ()
    restore(machine)
    assert restore(machine, "check").returncode == 0
    machine.take(0, 2)
    lost = restore(machine, "check")
    assert (lost.returncode, lost.stdout) == (1, "not as planned: GPU 0: missing 19:2;\n")


@pytest.mark.parametrize("gpu", [0, 4])
def test_foreign_instances_are_refused_and_nothing_is_touched(machine: Machine, gpu: int) -> None:
    machine.set_mode(0, current=True)
    machine.put(gpu, {0: "1g.20gb", 4: "1g.6gb"}[gpu], 2 if gpu == 0 else 0)
    before = [machine.instances(index) for index in range(5)]
    refused = restore(machine)
    assert refused.returncode == 1
    assert f"GPU {gpu}: instances that are not in the plan: " in refused.stderr
    assert "Remove them" in refused.stderr
    assert machine.changes() == ()
    assert [machine.instances(index) for index in range(5)] == before


def test_the_right_profile_at_another_start_is_foreign(machine: Machine) -> None:
    machine.put(4, "2g.12gb", 0)
    refused = restore(machine)
    assert (refused.returncode, machine.changes()) == (1, ())
    assert "2g.12gb:0" in refused.stderr


def test_another_model_is_refused(tmp_path) -> None:
    other = Machine(tmp_path / "nvml", [Card("A100-40GB", mig=True)])
    layout = Layout.of([GpuLayout("h", 0, A100, "mig", (Slot("1g.10gb", 0),))])
    refused = restore(other, layout=layout)
    assert (refused.returncode, other.changes()) == (1, ())
    assert "GPU 0: its PCI device id is 0x20B010DE, planned was one of 0x20B210DE" in refused.stderr


def test_what_is_there_already_is_kept_and_the_rest_added(machine: Machine) -> None:
    machine.set_mode(0, current=True)
    machine.put(0, "1g.10gb", 2)
    kept = machine.instances(0)[0].generation
    assert restore(machine).returncode == 0
    assert as_planned(machine)
    assert next(i for i in machine.instances(0) if i.start == 2).generation == kept


def test_an_instance_begun_and_not_finished_gets_its_compute_instance(machine: Machine) -> None:
    machine.put(4, "2g.12gb", 2, compute=False)
    assert restore(machine, "check").returncode == 1
    assert restore(machine).returncode == 0
    assert as_planned(machine)


@pytest.mark.parametrize("at", range(1, 11))
@pytest.mark.parametrize("action", ["return", "kill before", "kill after"])
def test_whatever_fails_a_second_run_finishes(machine: Machine, action, at: int) -> None:
    fault = machine.fail("change", action, code=999, at=at)
    first = restore(machine)
    assert machine.hits(fault) == 1
    assert first.returncode == 1 or as_planned(machine)  # a mode that changed though nvidia-smi was killed is no failure
    assert restore(machine).returncode == 0
    assert as_planned(machine)


def test_claimed_success_without_effect_is_found_out(machine: Machine) -> None:
    machine.fail("nvmlDeviceSetMigMode", "nothing", times=0)
    done = restore(machine)
    assert done.returncode == 1
    assert "MIG mode is not Enabled" in done.stderr


def test_a_pending_mode_is_activated_by_a_reset(machine: Machine) -> None:
    machine.fail("nvmlDeviceSetMigMode", "activation", code=19, gpu=0)
    done = restore(machine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was successfully reset" in done.stdout
    assert as_planned(machine)


def test_where_nothing_can_be_read_nothing_is_assumed(machine: Machine) -> None:
    machine.set_mode(0, current=True)
    machine.fail("nvmlDeviceGetGpuInstances", code=999, times=0)
    done = restore(machine)
    assert (done.returncode, machine.changes()) == (1, ())
    assert "nvidia-smi mig -lgi failed" in done.stderr
    machine.clear_faults()
    machine.configure(driver_loaded=False)
    done = restore(machine)
    assert done.returncode == 1
    assert "is the driver loaded?" in done.stderr


@settings(max_examples=10)
@given(st.data())
def test_any_layout_is_restored_and_stays(data: st.DataObject) -> None:
    gpus = [data.draw(exports.gpu_layouts("h", index)) for index in range(data.draw(st.integers(1, 3)))]
    layout = Layout.of(gpus)
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder) / "nvml", [Card(gpu.model) for gpu in gpus])
        for _ in range(2):
            done = restore(machine, layout=layout)
            assert done.returncode == 0, done.stdout + done.stderr
            for index, gpu in enumerate(gpus):
                assert machine.placed(index) == {(s.profile, s.start) for s in gpu.slots if gpu.mode == "mig"}
            machine.clear_log()
            assert restore(machine, layout=layout).stdout == "as planned\n"
            assert machine.changes() == ()
            machine.reboot()


@settings(max_examples=30)
@given(exports.layouts(max_gpus=2))
def test_names_cannot_become_lines_of_the_script(layout: Layout) -> None:
    files = export.systemd(layout)
    for name, content in files.items():
        if name.endswith(SCRIPT):
            subprocess.run(["/bin/sh", "-n"], input=content.encode(), check=True, capture_output=True)
            lines = content.split("\n")
            body = lines[lines.index("plan() {") + 1 : lines.index("}")]
            assert all(line.startswith(("    # ", '    "$1" ')) or line.strip() in (":", ":  # no GPU is used") for line in body)
            head = lines[: lines.index("set -eu")]
            assert all(line.startswith("#") for line in head)
        else:
            assert read_unit(content).sections() == ["Unit", "Service", "Install"]


def test_the_target_names_the_devices_that_replicas_see(tmp_path) -> None:
    layout = Layout.of(
        [
            GpuLayout("h", 0, A30, "mig", (Slot("1g.6gb", 1, "a", 0), Slot("2g.12gb", 2, "b", 0))),
            GpuLayout("h", 1, A30, "whole", (Slot("whole", 0, "c", 0),)),
        ]
    )
    with Machine(tmp_path / "nvml", [Card(A30), Card(A30)]) as machine:
        assert restore(machine, layout=layout).returncode == 0
        target = NvmlTarget(host="h", state=StateFolder(tmp_path / "state"))
        seen = export.cuda_visible_devices(layout, {**target.identifiers(), ("h", 1, "whole", 0): machine.uuid(1)})
    assert seen["c", 0] == machine.uuid(1)
    listed = subprocess.run(["nvidia-smi", "-L"], env=machine.environment(), capture_output=True, text=True, check=True).stdout  # noqa: S607
    assert all(f"(UUID: {uuid})" in listed for uuid in seen.values())
    assert f"MIG 2g.12gb     Device  0: (UUID: {seen['b', 0]})" in listed
    assert f"MIG 1g.6gb      Device  1: (UUID: {seen['a', 0]})" in listed


# -- the unit ----------------------------------------------------------------------------------------------------------


def read_unit(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_the_unit_runs_the_script_before_what_uses_gpus() -> None:
    unit = read_unit(export.systemd(PLANNED)[UNIT])
    assert dict(unit["Service"]) == {
        "Type": "oneshot",
        "RemainAfterExit": "yes",
        "TimeoutStartSec": "480",
        "ExecStart": "/bin/sh /usr/local/sbin/gpu-partitioner-layout",
    }
    assert {"nvidia-persistenced.service", "nvidia-fabricmanager.service"} <= set(unit["Unit"]["After"].split())
    assert {"kubelet.service", "docker.service", "nvidia-gpu-reset.target"} <= set(unit["Unit"]["Before"].split())
    assert unit["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.parametrize("host", [None, "h%n\nExecStart=/bin/false", 'a"b'])
def test_systemd_accepts_the_unit(host: str | None, tmp_path) -> None:
    layout = Layout.of([GpuLayout(host, 0, A30, "mig", (Slot("1g.6gb", 0),))])
    script = tmp_path / "gpu-partitioner-layout"
    files = export.systemd(layout, script="/opt/layout-1.sh")
    unit, _ = files.write(tmp_path)
    script.write_text(files[SCRIPT])
    assert read_unit(files[UNIT])["Service"]["ExecStart"] == "/bin/sh /opt/layout-1.sh"
    analyze = shutil.which("systemd-analyze")
    if analyze:  # its own reader where it is installed; the assertions above hold everywhere
        done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if UNIT in line]
        assert complaints == []


def test_several_hosts_have_a_folder_each() -> None:
    hosts = ["esx-01", "a/b", "a_b", "../x", None]
    layout = Layout.of([GpuLayout(host, 0, A30, "mig", (Slot("1g.6gb", 0),)) for host in hosts])
    folders = [name.split("/")[0] for name in export.systemd(layout) if name.endswith(SCRIPT)]
    assert folders == ["esx-01", "a_b", "a_b-2", "_x", "host"]
    assert list(export.systemd(layout, host="a/b")) == [UNIT, SCRIPT]


@pytest.mark.parametrize("script", ["layout.sh", "/opt/lay out", "/opt/%n", "/opt/../x\n", "/", ""])
def test_the_path_of_the_script_is_plain(script: str) -> None:
    with pytest.raises(SpecError, match="absolute path"):
        export.systemd(PLANNED, script=script)


def test_every_mig_model_has_what_the_script_needs() -> None:
    for name in exports.MIG_MODELS:
        for profile in catalog.gpu(name).geometry("mig").profiles:
            layout = Layout.of([GpuLayout(None, 0, name, "mig", (Slot(profile.name, profile.starts[-1]),))])
            which = profile.name if profile.gi_profile_id is None else str(profile.gi_profile_id)
            assert f" {which}:{profile.starts[-1]}\n" in export.systemd(layout)[SCRIPT]
