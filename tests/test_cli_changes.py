"""The command line around a target: status, plan, diff, apply, rollback, watch, export, on the simulated fleet and on NVML.

Most run the real entry point in this process; what needs a process of its own (kills, terminals, signals) has one.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from nvml import Card, Machine

from partitioner.changes import Changes
from partitioner.cli import main
from partitioner.cli.events import events
from partitioner.cli.reading import GpuStatus, InstanceStatus, Status, User
from partitioner.layout import Layout
from partitioner.nvml import folders
from partitioner.plans import Plan
from partitioner.targets import SimulatedTarget

COMMAND = [sys.executable, "-m", "partitioner.cli"]
SIM = "sim:fleet.yaml"
FLEET = "hosts: {esx-01: [{model: A100-80GB, mode: mig, count: 2}], esx-02: [{model: A100-80GB, mode: mig}]}\n"
WORKLOADS = "- {name: chat, profile: 3g.40gb, count: 2}\n- {name: embed, memory_gib: 8, count: 3}\n"
OTHERS = "- {name: chat, profile: 3g.40gb, count: 1}\n- {name: big, profile: 7g.80gb}\n- {name: embed, memory_gib: 8, count: 4}\n"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Cli:
    """The entry point, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *args: str) -> Outcome:
        self._monkeypatch.setattr(sys, "argv", ["partitioner", *args])
        self._capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as leave:
            code = leave.code
        captured = self._capsys.readouterr()
        return Outcome(int(str(code or 0)), captured.out, captured.err)

    def ok(self, *args: str) -> str:
        outcome = self(*args)
        assert outcome.code == 0, outcome
        return outcome.out


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PARTITIONER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PARTITIONER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    Path("fleet.yaml").write_text(FLEET)
    Path("workloads.yaml").write_text(WORKLOADS)
    return Cli(capsys, monkeypatch)


@pytest.fixture
def planned(cli: Cli) -> Cli:
    cli.ok("plan", "workloads.yaml", "--target", SIM, "--out", "plan.json")
    return cli


def layout() -> Layout:
    return SimulatedTarget.open("fleet.yaml").layout()


def held(found: Layout) -> list[str]:
    return sorted(f"{a.workload}/{a.replica}" for a in found.assignments())


def start(*args: str, **env: str) -> subprocess.Popen[str]:
    """Start a command that has no standard input."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **env}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *args], **pipes, env=environment, text=True)  # type: ignore[call-overload,no-any-return]


# -- the whole loop ----------------------------------------------------------------------------------------------------


def test_plan_diff_apply_status_again_rollback(planned: Cli) -> None:
    before = layout()
    plan = Plan.load("plan.json")
    shown = planned.ok("diff", "plan.json", "--target", SIM)
    assert shown.count("\n+ ") + shown.startswith("+ ") == 10  # five instances, five replicas
    assert "5 to create, 5 to start; interrupts nobody" in shown.lower()
    assert layout() == before
    applied = planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    assert applied.startswith(shown)
    assert f"{SIM}: applied 10 steps" in applied
    assert layout() == plan.layout
    status = planned.ok("status", "--target", SIM)
    assert "3 GPUs, 5 instances, 5 held" in status
    assert re.search(r"3g\.40gb@\d +chat/1", status)
    assert "nothing to do" in planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    assert planned.ok("diff", "plan.json", "--target", SIM, "--exit-code") == "Nothing to do\n"
    back = planned.ok("rollback", "--target", SIM, "--yes")
    assert "rolled back with 10 steps" in back
    assert layout() == before
    again = planned("rollback", "--target", SIM, "--yes")
    assert (again.code, again.out) == (4, "")
    assert "rolled back already" in again.err


def test_a_second_plan_starts_from_what_runs(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    Path("others.yaml").write_text(OTHERS)
    planned.ok("plan", "others.yaml", "--target", SIM, "--out", "second.json")
    second = Plan.load("second.json")
    assert second.current == layout()
    assert second.objective == ("placed", "gpus", "moves", "waste")
    changes = Changes.from_json(planned.ok("diff", "second.json", "--target", SIM, "--json"))
    assert changes.moved == len(second.moves)
    planned.ok("apply", "second.json", "--target", SIM, "--yes")
    assert layout() == second.layout
    assert [who.partition("/")[0] for who in held(layout())] == ["big", "chat", *["embed"] * 4]


def test_a_host_is_vacated_without_naming_workloads(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    running, busy = held(layout()), next(gpu for gpu in layout() if gpu.slots)
    gpu = f"{busy.host}/gpu{busy.gpu}"
    assert planned("plan", "--target", SIM, "--vacate", gpu, "--out", "moved.json").code == 0
    planned.ok("apply", "moved.json", "--target", SIM, "--yes", "--max-interruptions", "0")
    assert held(layout()) == running
    assert not next(now for now in layout() if (now.host, now.gpu) == (busy.host, busy.gpu)).slots


def test_kept_replicas_stay(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    where = [a for a in layout().assignments() if a.workload == "chat"]
    planned.ok("plan", "--target", SIM, "--keep", "chat", "--objective", "placed,gpus", "--out", "kept.json")
    assert [a for a in Plan.load("kept.json").layout.assignments() if a.workload == "chat"] == where
    wrong = planned("plan", "--target", SIM, "--keep", "nobody")
    assert wrong.code == 2
    assert "nobody" in wrong.err


def test_what_runs_can_be_ignored_or_come_from_a_file(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    planned.ok("plan", "workloads.yaml", "--target", SIM, "--current", "none", "--out", "fresh.json")
    assert Plan.load("fresh.json").current is None
    planned.ok("apply", "fresh.json", "--target", SIM, "--yes")
    Path("now.json").write_text(planned.ok("status", "--target", SIM, "--json"))
    planned.ok("plan", "workloads.yaml", "--fleet", "fleet.yaml", "--current", "now.json", "--out", "from-file.json")
    assert Plan.load("from-file.json").current == layout()


def test_a_recorded_status_is_a_goal_to_come_back_to(planned: Cli) -> None:
    Path("before.json").write_text(planned.ok("status", "--target", SIM, "--json"))
    before = layout()
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    assert planned("diff", "before.json", "--target", SIM, "--exit-code").code == 5
    planned.ok("apply", "before.json", "--target", SIM, "--yes")
    assert layout() == before


def test_saved_changes_are_applied_and_go_stale(planned: Cli) -> None:
    assert planned("diff", "plan.json", "--target", SIM, "--out", "changes.json").err == "wrote changes.json\n"
    planned.ok("apply", "changes.json", "--target", SIM, "--yes")
    assert layout() == Plan.load("plan.json").layout
    assert "nothing to do; 10 done before" in planned.ok("apply", "changes.json", "--target", SIM, "--yes")
    Path("others.yaml").write_text(OTHERS)
    planned.ok("plan", "others.yaml", "--target", SIM, "--out", "second.json")
    planned.ok("apply", "second.json", "--target", SIM, "--yes")
    stale = planned("apply", "changes.json", "--target", SIM, "--yes")
    assert stale.code == 4
    assert "is not as it was when the changes were computed" in stale.err


def test_a_plan_made_before_something_changed_says_so(planned: Cli) -> None:
    planned.ok("plan", "3g", "--target", SIM, "--out", "other.json")
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    outcome = planned("diff", "other.json", "--target", SIM)
    assert outcome.code == 0
    assert re.fullmatch(r"note: esx-0.*: not as when other\.json was made; the steps begin with what is there now\n", outcome.err)
    assert planned("diff", "plan.json", "--target", SIM).err == ""


def test_the_target_may_stand_in_the_environment(planned: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITIONER_TARGET", SIM)
    assert "3 GPUs" in planned.ok("status")
    assert "to create" in planned.ok("diff", "plan.json")
    planned.ok("plan", "4g+2g+1g", "--gpu", "A100-80GB")  # names its GPUs itself


def test_a_dry_run_changes_nothing_and_needs_no_answer(planned: Cli) -> None:
    before = layout()
    out = planned.ok("apply", "plan.json", "--target", SIM, "--dry-run")
    assert "would carry out 10 steps; nothing was changed (dry run)" in out
    assert layout() == before
    assert not Path("fleet.yaml.state").exists()
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    assert "rollback would carry out 10 steps" in planned.ok("rollback", "--target", SIM, "--dry-run")
    assert layout() == Plan.load("plan.json").layout


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_step_that_fails_is_taken_back_and_reported(planned: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout()
    monkeypatch.setenv("PARTITIONER_SIM_FAIL_AT", "4")
    outcome = planned("apply", "plan.json", "--target", SIM, "--yes", "--json", "--out", "report.json")
    assert outcome.code == 4
    assert "step 4 of 10" in outcome.err
    report = json.loads(outcome.out)
    assert report == json.loads(Path("report.json").read_text())
    assert (len(report["done"]), len(report["remaining"]), report["rolled_back"]) == (3, 7, True)
    assert report["step"]["kind"] == report["remaining"][0]["kind"]
    assert layout() == before


def test_without_rollback_a_second_run_goes_on(planned: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITIONER_SIM_FAIL_AT", "4")
    assert planned("apply", "plan.json", "--target", SIM, "--yes", "--no-rollback").code == 4
    assert sum(len(gpu.slots) for gpu in layout()) == 3
    monkeypatch.delenv("PARTITIONER_SIM_FAIL_AT")
    assert "applied 7 steps" in planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    assert layout() == Plan.load("plan.json").layout


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("saved", ["plan.json", "changes.json"])
def test_stopped_in_the_middle_a_second_run_finishes(planned: Cli, stop: signal.Signals, saved: str) -> None:
    before = layout()
    planned.ok("diff", "plan.json", "--target", SIM, "--out", "changes.json")
    process = start("apply", saved, "--target", SIM, "--yes", PARTITIONER_SIM_DELAY_S="0.2")
    wait_for(lambda: Path("fleet.yaml.state/layout.jsonl").exists())
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if stop is signal.SIGKILL else 130)
    if stop is signal.SIGINT:
        assert re.fullmatch(r"note: stopped after \d+ of 10 steps; run it again to go on, or roll back\n", err)
    there = layout()
    assert there not in (before, Plan.load("plan.json").layout)
    planned.ok("apply", saved, "--target", SIM, "--yes")
    assert layout() == Plan.load("plan.json").layout
    planned.ok("rollback", "--target", SIM, "--yes")
    assert layout() == before


def test_a_second_apply_at_the_same_time_is_refused(planned: Cli) -> None:
    process = start("apply", "plan.json", "--target", SIM, "--yes", PARTITIONER_SIM_DELAY_S="0.2")
    wait_for(lambda: Path("fleet.yaml.state/layout.jsonl").exists())
    outcome = planned("apply", "plan.json", "--target", SIM, "--yes")
    assert outcome.code == 4
    assert f"process {process.pid}" in outcome.err
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def wait_for(ready: object) -> None:
    assert callable(ready)
    for _ in range(600):
        if ready():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")


# -- questions ---------------------------------------------------------------------------------------------------------


def test_without_a_terminal_nothing_is_done_unasked(planned: Cli) -> None:
    for args in (["apply", "plan.json"], ["rollback"]):
        outcome = planned(*args, "--target", SIM)
        assert (outcome.code, outcome.out) == (2, "")
        assert "--yes" in outcome.err
        assert "nothing was changed" in outcome.err
    assert not Path("fleet.yaml.state").exists()


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 130), ("\n", 130), ("\x04", 130), ("\x03", 130)])
def test_the_question_is_answered_on_a_terminal(planned: Cli, answer: str, code: int) -> None:
    before = layout()
    process, terminal = on_terminal("apply", "plan.json", "--target", SIM)
    assert "10 steps on sim:fleet.yaml. Nothing is interrupted. Go on? [y/N]" in terminal.until("[y/N]")
    terminal.write(answer)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert ("applied 10 steps" in out) == (code == 0)
    assert layout() == (Plan.load("plan.json").layout if code == 0 else before)


def test_the_question_says_what_is_disruptive_and_a_bar_is_drawn(cli: Cli) -> None:
    Path("fleet.yaml").write_text("hosts: {esx-01: {A100-80GB: 1}}\n")
    cli.ok("plan", "3g", "--target", SIM, "--mode", "mig", "--out", "plan.json")
    cli.ok("apply", "plan.json", "--target", SIM, "--yes")
    process, terminal = on_terminal("rollback", "--target", SIM, PARTITIONER_SIM_DELAY_S="0.1")
    question = terminal.until("[y/N]")
    assert "DISRUPTIVE: 1 GPU will change the mode; 3g/0 will be stopped for good. Go on?" in question
    terminal.write("y\n")
    assert re.search(r"[123]/3\b", terminal.until("destroy 3g.40gb"))
    assert process.communicate(timeout=60)[0].splitlines()[-1].startswith(f"{SIM}: rolled back with 3 steps")


class Terminal:
    """The other end of a child's terminal, read all the time so that the child never waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._seen = descriptor, bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, 4096)
            except OSError:  # the child has gone
                break
            if not data:
                break
            self._seen += data
        os.close(self._descriptor)

    def until(self, words: str) -> str:
        wait_for(lambda: words.encode() in bytes(self._seen))
        return self._seen.decode()

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode())


def on_terminal(*args: str, **env: str) -> tuple[subprocess.Popen[str], Terminal]:
    """Start a command whose standard input and error are a terminal, its own as far as Ctrl-C goes."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", **env}
    code = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *COMMAND, *args]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True)
    os.close(theirs)
    return process, Terminal(ours)


# -- json --------------------------------------------------------------------------------------------------------------


def test_json_is_all_that_is_printed(planned: Cli) -> None:
    for args in (
        ["status"],
        ["plan", "workloads.yaml"],
        ["diff", "plan.json"],
        ["apply", "plan.json", "--dry-run"],
        ["apply", "plan.json", "--yes"],
        ["apply", "plan.json", "--yes"],
        ["rollback", "--dry-run"],
        ["rollback", "--yes"],
    ):
        outcome = planned(*args, "--target", SIM, "--json")
        assert outcome.code == 0, outcome
        assert outcome.err == ""
        assert isinstance(json.loads(outcome.out), dict)


def test_status_as_json_has_all_gpus_and_a_layout(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    data = json.loads(planned.ok("status", "--target", SIM, "--json"))
    assert (data["format"], data["version"], data["target"]) == ("gpu-partitioner/status", 1, SIM)
    assert [(gpu["host"], gpu["index"], gpu["model"]) for gpu in data["gpus"]] == [
        ("esx-01", 0, "A100-80GB"),
        ("esx-01", 1, "A100-80GB"),
        ("esx-02", 0, "A100-80GB"),
    ]
    assert Layout.from_data(data["layout"]) == layout()
    shown = {(i["workload"], i["replica"]) for gpu in data["gpus"] for i in gpu["instances"]}
    assert shown == {("chat", 0), ("chat", 1), ("embed", 0), ("embed", 1), ("embed", 2)}


def test_status_is_drawn(planned: Cli) -> None:
    outcome = planned("status", "--target", SIM, "--html", "now.html", "--svg", "now.svg")
    assert outcome.err == "wrote now.html\nwrote now.svg\n"
    assert SIM in Path("now.html").read_text()
    assert Path("now.svg").read_text().startswith("<svg")


# -- watch -------------------------------------------------------------------------------------------------------------


def test_watch_says_what_changes_until_ctrl_c(planned: Cli) -> None:
    watcher = start("watch", "--target", SIM, "--plan", "plan.json", "--interval", "0.02", "--json")
    assert watcher.stdout
    lines = iter(watcher.stdout.readline, "")
    assert json.loads(next(lines))["kind"] == "start"
    assert "not as planned" in json.loads(next(lines))["text"]
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    seen = []
    for line in lines:
        seen.append(json.loads(line))
        if seen[-1]["text"] == "as planned":
            break
    created = {(e["gpu"], e["profile"], e["start"]) for e in seen if e["kind"] == "instance" and e["mark"] == "+"}
    assert created == {(f"{g.host}/gpu{g.gpu}", s.profile, s.start) for g in layout() for s in g.slots}
    watcher.send_signal(signal.SIGINT)
    out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, out, err) == (0, "", "")


def test_watch_ends_after_so_many_readings(planned: Cli) -> None:
    lines = planned.ok("watch", "--target", SIM, "--count", "3", "--interval", "0.01").splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d   sim:fleet.yaml: 3 GPUs, 0 instances", lines[0])


def test_events_between_two_readings() -> None:
    def status(*gpus: GpuStatus) -> Status:
        return Status("t", "now", None, gpus, Layout.of(()))

    def gpu(index: int, *instances: InstanceStatus, mode: str = "mig", **fields: object) -> GpuStatus:
        return GpuStatus("a", index, "A100-80GB", mode, fields.pop("mode_pending", mode), instances, **fields)  # type: ignore[arg-type]

    python = User(7, "python")
    before = status(
        gpu(0, InstanceStatus("3g.40gb", 0, "chat", 0), InstanceStatus("2g.20gb", 4, processes=(python,))),
        gpu(1, mode="whole"),
        gpu(2),
        gpu(4),
    )
    after = status(
        gpu(0, InstanceStatus("3g.40gb", 0, "web", 1), InstanceStatus("1g.10gb", 6, ready=False)),
        gpu(1, mode="whole", mode_pending="mig"),
        gpu(3),
        gpu(4, problem="fell off the bus"),
    )
    assert [(event.kind, event.mark, event.gpu, event.text) for event in events(before, after)] == [
        ("instance", "-", "a/gpu0", "instance 2g.20gb@4"),
        ("process", "-", "a/gpu0", "process 7 (python) on 2g.20gb@4"),
        ("occupant", "~", "a/gpu0", "3g.40gb@0 is held by web/1, was held by chat/0"),
        ("instance", "+", "a/gpu0", "instance 1g.10gb@6, begun and not finished"),
        ("mode", "~", "a/gpu1", "mode whole, mig after a reset, was whole"),
        ("gpu", "-", "a/gpu2", "the GPU is not there any more"),
        ("problem", "-", "a/gpu4", "fell off the bus"),
        ("gpu", "+", "a/gpu3", "a GPU is there: A100-80GB"),
    ]
    assert list(events(after, after)) == []


# -- export ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("mig-parted", "mig-configs:"),
        ("nvidia-smi", "nvidia-smi mig"),
        ("kubernetes", "kind: ConfigMap"),
        ("systemd", "[Service]"),
    ],
)
def test_exports_are_printed_or_written(planned: Cli, form: str, words: str) -> None:
    printed = planned.ok("export", form, "plan.json")
    assert words in printed
    written = planned("export", form, "plan.json", "--out", "exported")
    assert written.code == 0
    assert written.out == ""
    paths = [Path(line.removeprefix("wrote ")) for line in written.err.splitlines()]
    assert paths
    assert any(words in path.read_text() for path in paths)
    assert "unknown-host" in planned("export", form, "plan.json", "--host", "unknown-host").err


def test_a_status_can_be_exported(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    Path("now.json").write_text(planned.ok("status", "--target", SIM, "--json"))
    assert planned.ok("export", "nvidia-smi", "now.json") == planned.ok("export", "nvidia-smi", "plan.json")


# -- hosts -------------------------------------------------------------------------------------------------------------


def test_only_the_part_of_a_plan_for_hosts_that_are_there_is_applied(planned: Cli) -> None:
    Path("others.yaml").write_text(FLEET.replace("esx-01", "esx-09"))
    outcome = planned("diff", "plan.json", "--target", "sim:others.yaml")
    assert outcome.code == 0
    assert outcome.err == "note: left out host esx-01, which sim:others.yaml does not have\n"
    Path("strange.yaml").write_text("hosts: {web-1: {A100-80GB: 1}}\n")
    outcome = planned("apply", "plan.json", "--target", "sim:strange.yaml", "--yes")
    assert outcome.code == 2
    assert "is for hosts esx-01, esx-02, and sim:strange.yaml has host web-1" in outcome.err


def test_a_plan_without_hosts_is_for_the_only_host(cli: Cli) -> None:
    Path("one.yaml").write_text("hosts: {web-1: [T4, {model: A100-80GB, mode: mig, count: 2}]}\n")
    cli.ok("plan", "2x3g", "--gpu", "A100-80GB", "--out", "plan.json")
    outcome = cli("apply", "plan.json", "--target", "sim:one.yaml", "--yes")
    assert outcome.code == 0
    assert outcome.err == "note: plan.json names no host: its GPUs are taken for web-1/gpu1\n"
    assert "create 3g.40gb@4" in outcome.out
    several = cli("apply", "plan.json", "--target", SIM, "--yes")
    assert several.code == 2
    assert "GPUs are of no host" in several.err
    cli.ok("plan", "5x3g", "--gpu", "A100-80GB", "--out", "large.json")
    large = cli("diff", "large.json", "--target", "sim:one.yaml")
    assert large.code == 2
    assert "gpu2 is a A100-80GB, and sim:one.yaml has 2 of it" in large.err


def test_a_plan_that_did_not_look_takes_the_numbers_that_run() -> None:
    from partitioner.applying import Goal, goal_here
    from partitioner.layout import GpuLayout, Slot

    def of(host: str | None, *replicas: int) -> Layout:
        slots = tuple(Slot("3g.40gb", 4 * at, "chat", replica) for at, replica in enumerate(replicas))
        return Layout.of([GpuLayout(host, 0, "A100-80GB", "mig", slots)])

    now = of("a", 7, 0)
    assert goal_here(Goal(of(None, 0, 1), numbered=False, origin="plan"), now, target="t")[0] == now
    assert goal_here(Goal(of("a", 0, 1), numbered=True, origin="plan"), now, target="t")[0] == of("a", 0, 1)


def test_saved_changes_are_shown_and_have_a_schema(planned: Cli) -> None:
    shown = planned.ok("diff", "plan.json", "--target", SIM, "--out", "changes.json")
    assert planned.ok("show", "changes.json") == shown
    text = planned.ok("show", "changes.json", "--json")
    assert Changes.from_json(text) == Changes.load("changes.json")
    schema = json.loads(planned.ok("schema", "changes"))
    checked = jsonschema.Draft202012Validator(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(checked.iter_errors(json.loads(text))) == []
    moved = json.loads(text)
    moved["steps"][0]["kind"] = "explode"
    moved["base"][0]["placements"] = [{"profile": "3g.40gb"}]
    assert len(list(checked.iter_errors(moved))) == 2
    pictured = planned("show", "changes.json", "--svg", "x.svg")
    assert (pictured.code, pictured.out) == (2, "")
    assert "changes have no picture" in pictured.err


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("PARTITIONER_SIM_FAIL_AT", "inf", "PARTITIONER_SIM_FAIL_AT is 'inf', not the number of a step"),
        ("PARTITIONER_SIM_FAIL_AT", "1.5", "PARTITIONER_SIM_FAIL_AT is '1.5', not the number of a step"),
        ("PARTITIONER_SIM_FAIL_AT", "0", "at is 0, not the number of a step from 1"),
        ("PARTITIONER_SIM_DELAY_S", "nan", "delay_s is nan, not a number of seconds"),
        ("PARTITIONER_SIM_DELAY_S", "soon", "PARTITIONER_SIM_DELAY_S is 'soon', not a number"),
    ],
)
def test_bad_variables_are_one_message(cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    outcome = cli("status", "--target", SIM)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["status"], 2, "PARTITIONER_TARGET"),
        (["status", "--target", "vcenter"], 2, "target 'vcenter' is none; write nvml"),
        (["status", "--target", "sim:"], 2, "sim:FILE"),
        (["status", "--target", "sim:none.yaml"], 2, "none.yaml: no such file"),
        (["status", "--target", "nvml:"], 2, "sim:FILE"),
        (["status", "--target", SIM, "--svg", "none/x.svg"], 2, "there is no directory"),
        (["plan", "3g", "--target", SIM, "--gpu", "T4"], 2, "--target is given with --gpu"),
        (["plan", "3g", "--fleet", "fleet.yaml", "--current", "none.json"], 2, "none.json: no such file"),
        (["plan", "3g", "--fleet", "fleet.yaml", "--current", "changes.json"], 2, "holds changes, not a layout"),
        (["plan", "3g", "--target", SIM, "--vacate", "esx-77"], 2, "esx-77"),
        (["plan", "--target", SIM], 2, "nothing runs on sim:fleet.yaml"),
        (["diff", "none.json", "--target", SIM], 2, "none.json: no such file"),
        (["diff", "fleet.yaml", "--target", SIM], 2, "not JSON"),
        (["diff", "changes.json", "--target", SIM], 2, "`partitioner apply changes.json` carries them out"),
        (["diff", "other.json", "--target", SIM], 2, "its format is 'x'"),
        (["apply", "other.json", "--target", SIM, "--yes"], 2, "a plan (partitioner plan"),
        (["apply", "changes.json", "--target", SIM, "--yes", "--max-interruptions", "1"], 2, "--max-interruptions"),
        (["apply", "plan.json", "--target", SIM, "--yes", "--drain-timeout", "5"], 2, "--drain"),
        (["apply", "plan.json", "--target", SIM, "--yes", "--out", "none/r.json"], 2, "there is no directory"),
        (["apply", "plan.json", "--target", SIM, "--yes", "--max-interruptions", "-1"], 2, "--max-interruptions"),
        (["rollback", "--target", SIM, "--yes"], 4, "nothing to roll back"),
        (["watch", "--target", SIM, "--plan", "changes.json", "--count", "1"], 2, "watch takes the plan"),
        (["watch", "--target", SIM, "--interval", "0"], 2, "--interval"),
        (["export", "mig-parted", "changes.json"], 2, "export takes the plan"),
        (["export", "ansible", "plan.json"], 2, "ansible"),
        (["export", "cuda-visible-devices", "plan.json", "--target", SIM], 2, "have no UUIDs"),
        (["export", "cuda-visible-devices", "plan.json"], 2, "PARTITIONER_TARGET"),
        (["catalog", "check"], 2, "--target nvml"),
        (["catalog", "check", "--target", SIM], 2, "nothing to compare"),
    ],
)
def test_bad_input_is_one_message_and_nothing_else(planned: Cli, args: list[str], code: int, words: str) -> None:
    planned.ok("diff", "plan.json", "--target", SIM, "--out", "changes.json")
    Path("other.json").write_text('{"format": "x"}')
    outcome = planned(*args)
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("fleet.yaml.state/layout.jsonl").exists()


def test_numbers_in_the_environment_are_checked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITIONER_SIM_DELAY_S", "soon")
    outcome = cli("status", "--target", SIM)
    assert outcome.code == 2
    assert "PARTITIONER_SIM_DELAY_S is 'soon'" in outcome.err


def test_damaged_state_is_named_and_left(planned: Cli) -> None:
    planned.ok("apply", "plan.json", "--target", SIM, "--yes")
    path = Path("fleet.yaml.state/layout.jsonl")
    path.write_text("{\n")
    outcome = planned("status", "--target", SIM)
    assert outcome.code == 4
    assert str(path) in outcome.err
    assert path.read_text() == "{\n"


# -- hardware ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    cards: list[str | Card] = [Card("A100-80GB", mig=True, layout=[("3g.40gb", 4)]), "T4", Card("A100-80GB")]
    with Machine(tmp_path / "machine", cards) as machine:
        yield machine


def test_the_loop_on_hardware(cli: Cli, machine: Machine) -> None:
    before = {gpu: machine.placed(gpu) for gpu in range(3)}
    machine.run_process(4711, 0, gi=machine.instances(0)[0].id)
    status = cli.ok("status", "--target", "nvml:esx-01")
    assert "driver 580.95.05: 3 GPUs, 1 instance, 0 held" in status
    assert re.search(r"esx-01/gpu0 +A100-80GB +mig +3g\.40gb@4 +- +4711 \(python\)", status)
    assert machine.uuid(1) in status
    assert f"who holds what: {os.environ['PARTITIONER_STATE']}\n" in status
    cli.ok("plan", "workloads.yaml", "--target", "nvml:esx-01", "--out", "plan.json")
    shown = cli.ok("diff", "plan.json", "--target", "nvml:esx-01")
    machine.clear_log()
    applied = cli.ok("apply", "plan.json", "--target", "nvml:esx-01", "--yes")
    assert applied.startswith(shown)
    data = json.loads(cli.ok("status", "--target", "nvml:esx-01", "--json"))
    held = {f"{i['workload']}/{i['replica']}" for gpu in data["gpus"] for i in gpu["instances"] if i["workload"]}
    assert held == {"chat/0", "chat/1", "embed/0", "embed/1", "embed/2"}
    assert ("3g.40gb", 4) in machine.placed(0)  # somebody else's, never touched
    assert not [call for call in machine.changes() if "Destroy" in call.function]
    visible = cli.ok("export", "cuda-visible-devices", "plan.json", "--target", "nvml:esx-01")
    assert visible.count("CUDA_VISIBLE_DEVICES=MIG-") == 5
    assert cli("export", "cuda-visible-devices", "plan.json", "--target", "nvml:esx-01", "--out", "env").err.count("wrote") == 5
    assert cli.ok("watch", "--target", "nvml:esx-01", "--plan", "plan.json", "--count", "1").endswith("+ as planned\n")
    assert "nothing to do" in cli.ok("apply", "plan.json", "--target", "nvml:esx-01", "--yes")
    cli.ok("rollback", "--target", "nvml:esx-01", "--yes")
    assert {gpu: machine.placed(gpu) for gpu in range(3)} == before


def test_killed_inside_the_driver_a_second_run_finishes(cli: Cli, machine: Machine) -> None:
    cli.ok("plan", "workloads.yaml", "--target", "nvml:esx-01", "--out", "plan.json")
    machine.fail("nvmlDeviceCreateGpuInstanceWithPlacement", "kill after", at=2)
    process = start("apply", "plan.json", "--target", "nvml:esx-01", "--yes", **machine.environment())
    process.communicate(timeout=60)
    assert process.returncode == -9
    status = cli.ok("status", "--target", "nvml:esx-01")
    assert "begun, not finished" in status
    cli.ok("apply", "plan.json", "--target", "nvml:esx-01", "--yes")
    assert cli.ok("diff", "plan.json", "--target", "nvml:esx-01") == "Nothing to do\n"


def waiting(machine: Machine, cli: Cli) -> subprocess.Popen[str]:
    """Start an apply that waits for a process to end."""
    cli.ok("plan", "3g", "--target", "nvml:esx-01", "--vacate", "esx-01/gpu0", "--out", "plan.json")
    machine.run_process(99, 0, gi=machine.instances(0)[0].id)
    process = start("apply", "plan.json", "--target", "nvml:esx-01", "--yes", "--drain", **machine.environment())
    wait_for((Path(os.environ["PARTITIONER_STATE"]) / "journal.json").exists)
    before = machine.counts()
    wait_for(lambda: machine.counts() != before)  # it looks again and again
    assert machine.changes() == ()
    return process


def test_killed_while_it_waits_for_processes_a_second_run_finishes(cli: Cli, machine: Machine) -> None:
    process = waiting(machine, cli)
    process.kill()
    process.communicate(timeout=60)
    assert machine.changes() == ()
    machine.end_process(99)
    assert "applied" in cli.ok("apply", "plan.json", "--target", "nvml:esx-01", "--yes", "--drain")
    assert cli.ok("diff", "plan.json", "--target", "nvml:esx-01") == "Nothing to do\n"
    assert machine.placed(2) == {("3g.40gb", 0)}


def test_ctrl_c_stops_waiting_for_processes(cli: Cli, machine: Machine) -> None:
    process = waiting(machine, cli)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)  # well before the 300 s of --drain are over
    assert process.returncode == 130
    assert re.search(r"note: stopped after 0 of \d+ steps; run it again to go on, or roll back", err)
    assert machine.changes() == ()


def test_a_ledger_that_the_user_may_not_read_is_told(
    cli: Cli, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = tmp_path / "system"
    system.mkdir()
    monkeypatch.setattr(folders, "SYSTEM", system)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != system)
    outcome = cli("status", "--target", "nvml:esx-01")
    assert (outcome.code, len(machine.changes())) == (0, 0)
    assert f"note: the ledger of the system, in {system}, is not for this user to read" in outcome.err
    assert json.loads(cli.ok("status", "--target", "nvml:esx-01", "--json"))["ledger"] == os.environ["PARTITIONER_STATE"]


def test_who_is_in_the_way_is_named(cli: Cli, machine: Machine) -> None:
    cli.ok("plan", "3g", "--target", "nvml:esx-01", "--vacate", "esx-01/gpu0", "--out", "plan.json")
    machine.run_process(99, 2, name="triton")
    note = "note: esx-01/gpu2: 99 (triton) must end first; apply waits for that with --drain, else it refuses\n"
    assert cli("diff", "plan.json", "--target", "nvml:esx-01").err.endswith(note)
    outcome = cli("apply", "plan.json", "--target", "nvml:esx-01", "--yes", "--drain", "--drain-timeout", "0.1")
    assert outcome.code == 4
    before, _, after = outcome.err.partition(note)
    assert "esx-01/gpu2: not as when plan.json was made" in before
    assert re.match(r"error: esx-01/gpu2 \(A100-80GB\): step \d of \d, destroy whole@0, failed", after)
    assert "99 (triton)" in after
    threading.Timer(0.1, machine.end_process, [99]).start()
    cli.ok("apply", "plan.json", "--target", "nvml:esx-01", "--yes", "--drain", "--drain-timeout", "30")
    assert machine.placed(2) == {("3g.40gb", 0)} or machine.placed(2) == {("3g.40gb", 4)}


def test_a_user_without_rights_sees_what_the_driver_tells(cli: Cli, machine: Machine) -> None:
    machine.configure(privileged=False)
    outcome = cli("status", "--target", "nvml:esx-01")
    assert outcome.code == 0
    assert "held; 1 GPU not read" in outcome.out
    assert re.search(r"esx-01/gpu0 +A100-80GB +mig +unknown", outcome.out)
    assert "run it as root" in outcome.err
    refused = cli("plan", "3g", "--target", "nvml:esx-01")
    assert refused.code == 4
    assert "run it as root" in refused.err


def test_the_driver_is_compared_with_the_catalogue(cli: Cli, machine: Machine) -> None:
    assert "no differences" in cli.ok("catalog", "check", "--target", "nvml")
    data = json.loads(cli.ok("catalog", "check", "--target", "nvml", "--json"))
    assert data["differences"] == []
    assert data["gpus"][0]["placements"] is True
    with machine.locked() as content:
        content.models[0].profiles[0].max_count -= 1
    outcome = cli("catalog", "check", "--target", "nvml")
    assert outcome.code == 5
    assert "max_count" in outcome.out
    machine.configure(privileged=False)
    assert "to root only" in cli("catalog", "check", "--target", "nvml").err


def test_a_gpu_that_does_not_answer_does_not_hide_the_others(cli: Cli, machine: Machine) -> None:
    machine.lose(2)
    outcome = cli("status", "--target", "nvml:esx-01")
    assert outcome.code == 0
    assert "3g.40gb@4" in outcome.out
    assert "esx-01/gpu2" in outcome.err
    assert json.loads(cli.ok("status", "--target", "nvml:esx-01", "--json"))["gpus"][2]["problem"]


def test_watch_sees_processes_and_gpus_go(cli: Cli, machine: Machine) -> None:
    watcher = start("watch", "--target", "nvml:esx-01", "--interval", "0.02", **machine.environment())
    assert watcher.stdout
    lines = iter(watcher.stdout.readline, "")
    assert "3 GPUs, 1 instance\n" in next(lines)
    machine.run_process(4711, 0, gi=machine.instances(0)[0].id)
    assert next(lines).endswith("+ esx-01/gpu0: process 4711 (python) on 3g.40gb@4\n")
    machine.take(0, 4)
    assert next(lines).endswith("- esx-01/gpu0: instance 3g.40gb@4\n")
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=60)
    assert watcher.returncode == 0


def test_without_a_driver_it_says_what_to_do(cli: Cli, machine: Machine) -> None:
    process = start("status", "--target", "nvml", **machine.environment(library=False))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, "")
    assert "driver" in err
    assert "Traceback" not in err
