"""`partitioner vsphere`: options, files, how it asks, what it prints and how it ends; with a vCenter over TLS, and without.

The eight scenarios and the search for the password are in test_vsphere_scenarios.py.
"""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from sshd import EsxiShell, SmiCard
from vcenter import Gpu, Host, VCenter, Vm

from partitioner.cli import main
from partitioner.errors import SpecError
from partitioner.plans import Plan
from vsphere.changes import VmChanges
from vsphere.cli.site import _address
from vsphere.machine import load_vms
from vsphere.values import Mark, Place

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "examples" / "vsphere_cluster"
INVENTORY, WORKLOADS, DEFAULTS = (str(CLUSTER / name) for name in ("inventory.yaml", "workloads.yaml", "defaults.yaml"))
HOSTS = [
    Host("esx-01", gpus=[Gpu("A100-80GB", "mig")] * 2, policy="consolidation"),
    Host("esx-02", gpus=["T4", "T4"], policy="consolidation"),
]
THEIRS = Vm("theirs", host="esx-01", vgpus=["grid_a100d-3-40c"], powered_on=True)
TASKS = ("CreateVM_Task", "PowerOnVM_Task", "PowerOffVM_Task", "ReconfigVM_Task", "Destroy_Task")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Cli:
    """The entry point, in a folder of its own, with a vCenter or without."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self.monkeypatch = capsys, monkeypatch
        self.center: VCenter | None = None

    def use(self, center: VCenter) -> None:
        self.center = center
        self.monkeypatch.setenv("PARTITIONER_VCENTER", f"localhost:{center.port}")
        self.monkeypatch.setenv("PARTITIONER_VCENTER_USER", center.user)
        self.monkeypatch.setenv("PARTITIONER_VCENTER_PASSWORD", center.password)

    def __call__(self, *args: str, answer: str | None = None) -> Outcome:
        online = self.center is not None and "--from" not in args and "--thumbprint" not in args
        trust = ("--ca-file", self.center.ca_file) if self.center is not None and online else ()
        self.monkeypatch.setattr(sys, "argv", ["partitioner", "vsphere", *args, *trust])
        self.monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Keyboard(answer))
        self._capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as leave:
            code = leave.code
        said = self._capsys.readouterr()
        return Outcome(int(str(code or 0)), said.out, said.err)

    def ok(self, *args: str, answer: str | None = None) -> str:
        outcome = self(*args, answer=answer)
        assert outcome.code == 0, outcome
        return outcome.out

    def changed(self) -> list[str]:
        """Return the calls that change machines since the last look."""
        assert self.center is not None
        found = [call.method for call in self.center.calls() if call.method in TASKS]
        self.center.clear_calls()
        return found


class Keyboard(io.StringIO):
    """A terminal at which somebody types one line."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PARTITIONER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PARTITIONER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "160")
    return Cli(capsys, monkeypatch)


@pytest.fixture
def lab(cli: Cli) -> Iterator[Cli]:
    """The command line with a vCenter, and machines that have been planned."""
    with VCenter(hosts=HOSTS, vms=[THEIRS]) as center:
        cli.use(center)
        Path("workloads.yaml").write_text(
            "- {name: chat, profile: 3g.40gb, count: 2}\n- {name: ocr, profile: T4-4C, count: 2, ram_gib: 16}\n"
        )
        cli.ok("plan", "workloads.yaml", "--id", "lab", "--datastore", "datastore-1", "--out", "plan.json", "--vms", "vms.yaml")
        center.clear_calls()
        yield cli


# -- found, and light --------------------------------------------------------------------------------------------------


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code, *args], capture_output=True, text=True, check=False)


def test_the_planner_does_not_load_it_and_help_loads_nothing_heavy() -> None:
    seen = "print([name for name in ('vsphere', 'pyVmomi', 'rich', 'ortools') if name in sys.modules], file=sys.stderr)"
    done = python(f"import sys, partitioner.cli\n{seen}")
    assert done.stderr.strip() == "[]"
    for arguments in (["vsphere", "--help"], ["vsphere", "apply", "--help"], ["--help"]):
        done = python(f"import sys, partitioner.cli as c\ntry:\n    c.main()\nfinally:\n    {seen}", *arguments)
        assert done.returncode == 0
        assert done.stderr.strip() == "['vsphere']"
    assert "vsphere      Carry plans out on vSphere, with virtual machines." in done.stdout


def test_without_pyvmomi_one_line_says_what_to_install() -> None:
    code = "import sys\nsys.modules['pyVmomi'] = None\nimport partitioner.cli\npartitioner.cli.main()"
    done = python(code, "vsphere", "status", "--vcenter", "vc.lab", "--user", "a")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line == "error: this needs pyvmomi, which is not installed; install it: pip install 'gpu-partitioner[vsphere]'"
    for args in (["--help"], ["plan", "--help"], ["inventory", "--from", INVENTORY], ["plan", WORKLOADS, "--from", INVENTORY]):
        assert python(code, "vsphere", *args).returncode == 0  # what asks no vCenter does without it
    assert python(code, "plan", "4g", "--gpu", "A100-80GB").returncode == 0


def test_every_command_has_help_with_its_codes_and_no_option_for_the_password(cli: Cli) -> None:
    for command in ("inventory", "plan", "diff", "apply", "destroy", "rollback", "status", "prepare-hosts", "render"):
        text = cli.ok(command, "--help")
        assert "--vcenter HOST[:PORT]" in text
        assert "--password " not in text
        assert ("--from" in text) == (command not in ("apply", "destroy", "rollback"))


# -- naming the vCenter ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("vc.lab", ("vc.lab", 443)),
        ("vc.lab:8989", ("vc.lab", 8989)),
        ("::1", ("::1", 443)),
        ("[::1]:8989", ("[::1]", 8989)),
        ("[::1]", ("[::1]", 443)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert _address(text) == address


@pytest.mark.parametrize("text", ["vc.lab:", "vc.lab:https", "vc.lab:0", "vc.lab:65536"])
def test_a_bad_port_is_named(text: str) -> None:
    with pytest.raises(SpecError, match="port"):
        _address(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no vCenter given; give --vcenter HOST, or set PARTITIONER_VCENTER"),
        (["--vcenter", "vc.lab"], "no account given for vc.lab; give --user NAME"),
        (["--vcenter", "vc.lab", "--user", "a"], "there is no variable PARTITIONER_VCENTER_PASSWORD; set it, or give --pass"),
        (["--vcenter", "vc.lab", "--user", "a", "--password-env", "NONE"], "there is no variable NONE"),
        (["--vcenter", "vc.lab", "--user", "a", "--password-env", "X", "--keyring", "y"], "give exactly one of"),
        (["--vcenter", "vc.lab", "--from", INVENTORY], "are both given"),
        (["--from", "gone.yaml"], "gone.yaml: no such file"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_reached(options: list[str], words: str, cli: Cli) -> None:
    cli.monkeypatch.setattr("vsphere.session._reached", lambda *_a, **_k: pytest.fail("connected"))
    outcome = cli("inventory", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err


def test_a_password_comes_from_a_file(lab: Cli) -> None:
    assert lab.center is not None
    lab.monkeypatch.delenv("PARTITIONER_VCENTER_PASSWORD")
    Path("secret").write_text(lab.center.password + "\n")
    assert "2 hosts" in lab.ok("inventory", "--password-file", "secret")
    outcome = lab("inventory", "--password-file", "gone")
    assert outcome.code == 2
    assert "'gone': cannot be read" in outcome.err


def test_certificates_are_verified(lab: Cli) -> None:
    assert lab.center is not None
    outcome = lab("inventory", "--thumbprint", "AA:" * 31 + "AA")
    assert outcome.code == 4
    assert "not trusted" in outcome.err
    assert "2 hosts" in lab.ok("inventory", "--thumbprint", lab.center.thumbprint)
    lab.monkeypatch.setenv("PARTITIONER_VCENTER", f"127.0.0.1:{lab.center.port}")
    assert "2 hosts" in lab.ok("inventory")


# -- inventory ---------------------------------------------------------------------------------------------------------


def test_an_inventory_is_shown_saved_and_read_back(lab: Cli) -> None:
    assert lab.center is not None
    said = lab.ok("inventory", "--out", "inventory.yaml")
    assert "2 hosts, 4 GPUs, 1 VM, 0 of ours" in said
    [row] = [line for line in said.splitlines() if "theirs" in line]
    assert row.split()[:5] == ["esx-01", "gpu0", "A100-80GB", "0000:3b:00.0", "mig"]
    assert row.endswith("theirs (not ours)")
    assert sum(call.method not in ("Login", "Logout", "RetrieveServiceContent") for call in lab.center.calls()) <= 3
    lab.center.clear_calls()
    again = lab.ok("inventory", "--from", "inventory.yaml")
    assert again == said
    assert json.loads(lab.ok("inventory", "--from", "inventory.yaml", "--json"))["format"] == "gpu-partitioner/vsphere-inventory"
    assert lab.center.calls() == ()


# -- plan --------------------------------------------------------------------------------------------------------------


def test_a_plan_without_a_vcenter(cli: Cli) -> None:
    files = ("--out", "plan.json", "--vms", "vms.yaml", "--html", "plan.html")
    said = cli.ok("plan", WORKLOADS, "--from", INVENTORY, "--defaults", DEFAULTS, *files)
    assert "10 replicas on 4 GPUs, proven optimal" in said
    assert "in use by others: 3g.40gb" in said
    vms = load_vms("vms.yaml")
    assert len(vms) == 10
    assert {(vm.plan, vm.datastore) for vm in vms} == {("inference", "nvme-1")}
    assert {vm.workload: (vm.vcpus, vm.ram_gib) for vm in vms} == {"chat": (32, 64.0), "embed": (8, 16.0), "ocr": (4, 16.0)}
    assert Plan.load("plan.json").placed == 10
    assert "<svg" in Path("plan.html").read_text()
    data = json.loads(cli.ok("plan", WORKLOADS, "--from", INVENTORY, "--defaults", DEFAULTS, "--json"))
    assert [vm["name"] for vm in data["vms"]] == [vm.name for vm in vms]
    assert data["plan"]["gpus_used"] == 4


def test_machines_are_not_planned_where_the_host_has_no_memory_for_them(cli: Cli) -> None:
    """Memory is reserved as a whole; 64 GiB of the defaults four times are more than esx-03 has left."""
    Path("ocr.yaml").write_text("- {name: ocr, profile: T4-4C, count: 5, vcpus: 4}\n")
    outcome = cli("plan", "ocr.yaml", "--from", INVENTORY, "--vms", "vms.yaml")
    assert outcome.code == 3
    assert len(load_vms("vms.yaml")) == 3
    assert "ocr" in outcome.out


def test_bad_files_are_named_with_their_line(cli: Cli) -> None:
    Path("bad.yaml").write_text("workloads:\n  - {name: a, profile: 9g.90gb}\n")
    outcome = cli("plan", "bad.yaml", "--from", INVENTORY)
    assert outcome.code == 2
    assert "bad.yaml:2" in outcome.err
    Path("defaults.yaml").write_text("datastor: nvme-1\n")
    outcome = cli("plan", WORKLOADS, "--from", INVENTORY, "--defaults", "defaults.yaml")
    assert outcome.code == 2
    assert "defaults.yaml:1" in outcome.err
    assert "'datastore'" in outcome.err
    assert cli("plan", "-", "--from", "-").code == 2
    assert cli("plan", WORKLOADS, "--from", INVENTORY, "--vms", "no/folder.yaml").code == 2


# -- diff --------------------------------------------------------------------------------------------------------------


def test_a_diff_without_a_vcenter(cli: Cli) -> None:
    cli.ok("plan", WORKLOADS, "--from", INVENTORY, "--defaults", DEFAULTS, "--out", "plan.json", "--vms", "vms.yaml")
    said = cli.ok("diff", "vms.yaml", "--from", INVENTORY, "--out", "changes.json")
    assert said.endswith("10 to create, 1 with new DRS rules, 10 to power on; interrupts nobody\n")
    assert cli("diff", "vms.yaml", "--from", INVENTORY, "--exit-code").code == 5
    assert cli.ok("diff", "plan.json", "--from", INVENTORY, "--defaults", DEFAULTS) == said
    assert VmChanges.from_json(cli.ok("diff", "vms.yaml", "--from", INVENTORY, "--json")) == VmChanges.load("changes.json")
    for args, words in (
        (["changes.json"], "holds changes already"),
        ([WORKLOADS], "its format is None"),
        (["vms.yaml", "--id", "other"], "--defaults, --id and --datastore go with a plan"),
        (["vms.yaml", "--host", "esx-09"], "esx-09"),
    ):
        outcome = cli("diff", *args, "--from", INVENTORY)
        assert outcome.code == 2, outcome
        assert words in outcome.err


# -- apply, status, rollback, destroy ----------------------------------------------------------------------------------


def test_apply_asks_first(lab: Cli) -> None:
    assert lab.center is not None
    outcome = lab("apply", "vms.yaml")
    assert outcome.code == 2
    assert "there is no terminal to answer on" in outcome.err
    assert lab.center.calls() == ()  # not even a login
    outcome = lab("apply", "vms.yaml", answer="n\n")
    assert outcome.code == 130
    assert "Apply: 8 steps on localhost" in outcome.err
    assert "Nothing is interrupted. Go on? [y/N]" in outcome.err
    assert "nothing was changed" in outcome.err
    outcome = lab("apply", "vms.yaml", "--dry-run", "--verify")
    assert outcome.code == 0
    assert "apply would carry out 8 steps; nothing was changed (dry run)" in outcome.out
    assert lab.changed() == []
    said = lab.ok("apply", "vms.yaml", answer="y\n")
    assert said.count("+ esx-01/gpu-chat-") == 4
    assert "applied 8 steps" in said
    assert sorted(lab.changed()) == ["CreateVM_Task"] * 4 + ["PowerOnVM_Task"] * 4


def test_status_says_whom_machines_serve_and_where_they_are(lab: Cli) -> None:
    assert lab.center is not None
    lab.ok("apply", "plan.json", "--id", "lab", "--datastore", "datastore-1", "--yes")
    said = lab.ok("status", "--html", "now.html")
    assert "5 VMs, 4 of ours" in said
    assert "theirs" not in said.split("\n", 1)[1]
    rows = {line.split()[0]: line for line in said.splitlines()[2:]}
    assert rows["gpu-chat-0"].split()[1:6] == ["lab", "chat/0", "esx-01", "on", "grid_a100d-3-40c"]
    assert "<svg" in Path("now.html").read_text()
    lab.center.power_off("gpu-ocr-1")
    vms = {vm["name"]: vm for vm in json.loads(lab.ok("status", "--json", "--plan", "lab"))["vms"]}
    assert {name: vm["power"] for name, vm in vms.items() if vm["power"] != "on"} == {"gpu-ocr-1": "off"}
    assert json.loads(lab.ok("status", "--json", "--plan", "other"))["vms"] == []
    assert lab("diff", "vms.yaml", "--exit-code").code == 5
    assert "+ esx-02/gpu-ocr-1: power on" in lab.ok("apply", "vms.yaml", "--yes")


def test_status_shows_other_gpus_than_planned_and_what_guests_report(lab: Cli) -> None:
    assert lab.center is not None
    mark = Mark("hand", "search", 0, (Place("search", 0, 1, "mig", "3g.40gb", 0),))
    options = {**mark.options(), "guestinfo.gpu-partitioner.check": "failed no GPU\x1b[2J"}
    lab.center.create_vm(Vm("by-hand", host="esx-01", vgpus=["grid_a100d-3-40c"], powered_on=True, extra_config=options))
    outcome = lab("status")
    assert outcome.code == 0
    assert "FAILED no GPU?[2J" in outcome.out
    assert outcome.err == "note: by-hand on esx-01: is on gpu0, planned was gpu1\n"
    [vm] = json.loads(lab.ok("status", "--json"))["vms"]
    assert (vm["gpus"], vm["gpus_planned"], vm["guest"]["ok"]) == ([0], [1], False)


def test_a_failed_step_is_reported_for_people_and_programs(lab: Cli) -> None:
    assert lab.center is not None
    lab.center.fail("PowerOnVM_Task", "vim.fault.InsufficientGraphicsResourcesFault", of="task", at=2)
    outcome = lab("apply", "vms.yaml", "--yes", "--json", "--out", "report.json")
    assert outcome.code == 4
    assert "InsufficientGraphicsResourcesFault" in outcome.err
    assert "the machines are as before" in outcome.err
    data = json.loads(outcome.out)
    assert data["rolled_back"] is True
    assert data["step"]["kind"] == "power on"
    assert json.loads(Path("report.json").read_text()) == data
    assert "0 of ours" in lab.ok("status")
    lab.center.clear_faults()
    lab.ok("apply", "vms.yaml", "--yes")


def test_missing_privileges_are_listed_before_anything_is_done(lab: Cli) -> None:
    assert lab.center is not None
    lab.center.deny("Datastore.AllocateSpace", "VirtualMachine.Interact.PowerOn")
    for how in ("--dry-run", "--yes"):
        outcome = lab("apply", "vms.yaml", how)
        assert outcome.code == 4
        assert "Datastore.AllocateSpace" in outcome.err
        assert "VirtualMachine.Interact.PowerOn" in outcome.err
    assert lab.changed() == []


def test_what_an_administrator_edits_is_applied(lab: Cli) -> None:
    lab.ok("apply", "vms.yaml", "--yes")
    data = yaml.safe_load(Path("vms.yaml").read_text())
    data["vms"][0]["vcpus"] = 16
    del data["vms"][-1]
    Path("vms.yaml").write_text(yaml.safe_dump(data))
    said = lab.ok("diff", "vms.yaml", "--out", "changes.json")
    assert "interrupts chat/" in said
    outcome = lab("apply", "changes.json", answer="y\n")
    assert outcome.code == 0, outcome
    assert "DISRUPTIVE: chat/" in outcome.err
    assert "will be stopped for good" in outcome.err
    assert lab("apply", "changes.json", "--id", "x", "--yes").code == 2
    assert "3 of ours" in lab.ok("status")


def test_a_rollback_brings_back_what_was(lab: Cli) -> None:
    lab.ok("apply", "vms.yaml", "--yes")
    assert "rollback would carry out 8 steps" in lab.ok("rollback", "--dry-run")
    said = lab("rollback", answer="yes\n")
    assert said.code == 0, said
    assert "0 of ours" in lab.ok("status")
    outcome = lab("rollback", "--yes")
    assert outcome.code == 4
    assert "rolled back already" in outcome.err


def test_destroy_takes_one_plan_by_name_or_file(lab: Cli) -> None:
    lab.ok("apply", "vms.yaml", "--yes")
    outcome = lab("destroy", "other", "--yes")
    assert (outcome.code, outcome.err) == (0, "note: no machine is of plan 'other'; there are machines of lab\n")
    assert "nothing to do" in outcome.out
    dry = lab.ok("destroy", "vms.yaml", "--dry-run", "--json")
    assert {step["kind"] for step in json.loads(dry)["steps"]} == {"power off", "destroy"}
    outcome = lab("destroy", "lab", answer="n\n")
    assert outcome.code == 130
    assert "will be stopped for good, the disks destroyed" in outcome.err
    lab.changed()
    lab.ok("destroy", "lab", "--yes", "--out", "report.json")
    assert sorted(lab.changed()) == ["Destroy_Task"] * 4 + ["PowerOffVM_Task"] * 4
    assert "1 VM, 0 of ours" in lab.ok("status")
    assert json.loads(Path("report.json").read_text())["verb"] == "destroy"
    assert lab("destroy", "workloads.yaml", "--yes").code == 2


def test_a_bar_is_drawn_on_a_terminal_only(lab: Cli) -> None:
    assert lab.center is not None
    lab.center.task_delay_ms(50)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "partitioner.cli", "vsphere", "apply", "vms.yaml", "--yes", "--ca-file", lab.center.ca_file]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        drawn = b""
        try:
            while part := os.read(ours, 65536):
                drawn += part
        except OSError:  # Linux ends a terminal that nobody writes to any more like this
            pass
        assert process.stdout is not None
        said = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    assert b"8/8" in drawn or b"7/8" in drawn
    assert "\x1b" not in said
    assert "applied 8 steps" in said


# -- prepare-hosts -----------------------------------------------------------------------------------------------------


def test_hosts_are_prepared_as_far_as_vcenter_can_and_then_by_hand(cli: Cli) -> None:
    with VCenter(hosts=[Host("esx-01", gpus=[Gpu("A100-80GB", "shared")])]) as center:
        cli.use(center)
        outcome = cli("plan", "4g+2g+1g", "--change-modes", "--out", "plan.json")
        assert outcome.code == 0, outcome
        assert "esx-01/gpu0: in another mode than planned" in outcome.err
        assert cli("plan", "4g+2g+1g", "--change-modes", "--vms", "vms.yaml").code == 2
        cli.ok("inventory", "--out", "inventory.yaml")
        text = cli.ok("prepare-hosts", "plan.json", "--from", "inventory.yaml", "--print-host-steps")
        assert "nvidia-smi -i 0000:3b:00.0 -mig 1" in text
        assert cli("prepare-hosts", "plan.json", "--from", "inventory.yaml", "--yes").code == 2
        assert "graphics type shared -> sharedDirect" in cli.ok("prepare-hosts", "plan.json", "--dry-run")
        outcome = cli("prepare-hosts", "plan.json", answer="no\n")
        assert outcome.code == 130
        assert "DISRUPTIVE: esx-01 will enter maintenance mode; esx-01 may be restarted" in outcome.err
        assert center.count("UpdateGraphicsConfig") == 0
        outcome = cli("prepare-hosts", "plan.json", "--yes", "--json")
        assert outcome.code == 5
        assert json.loads(outcome.out)["by_hand"][0]["kind"] == "mig"
        assert center.count("UpdateGraphicsConfig") >= 1


def test_mig_mode_is_changed_in_the_shell(cli: Cli) -> None:
    """A real sshd on this machine; so the host is called as this machine is."""
    host = Host("localhost", gpus=[Gpu("H100-80GB", "vgpu")], policy="consolidation")
    with VCenter(hosts=[host]) as center:
        cli.use(center)
        cli.ok("plan", "4g+2g+1g", "--change-modes", "--mode", "mig", "--out", "plan.json")
        [gpu] = center.gpus("localhost")
        card = SmiCard(gpu.pci_id, "NVIDIA H100 PCIe", restarts=False)
        with EsxiShell("localhost", [card], control_url=center.control_url) as shell:
            access = shell.access()
            ssh = ["--ssh-known-hosts", str(access.known_hosts), "--ssh-key", str(access.identity_file)]
            ssh += ["--ssh-user", access.user, "--ssh-port", str(shell.port)]
            outcome = cli("prepare-hosts", "plan.json", "--yes", *ssh)
            assert outcome.code == 0, outcome
            assert "MIG mode off -> on" in outcome.out
            assert "all hosts of the plan are as they should be" in cli.ok("prepare-hosts", "plan.json", "--yes", *ssh)
        assert [card.mode for card in center.gpus("localhost")] == ["mig"]
        cli.ok("apply", "plan.json", "--datastore", "datastore-1", "--yes")


def test_a_host_that_cannot_be_prepared_now_is_refused(cli: Cli) -> None:
    theirs = Vm("theirs", host="esx-01", powered_on=True)
    with VCenter(hosts=[Host("esx-01", gpus=[Gpu("A100-80GB", "shared")])], vms=[theirs]) as center:
        cli.use(center)
        cli.ok("plan", "4g", "--change-modes", "--out", "plan.json")
        outcome = cli("prepare-hosts", "plan.json", "--yes")
        assert outcome.code == 4
        assert "theirs" in outcome.err
        assert "nothing was begun" in outcome.err


# -- render ------------------------------------------------------------------------------------------------------------


def test_machines_for_the_tools_of_others(cli: Cli) -> None:
    cli.ok("plan", WORKLOADS, "--from", INVENTORY, "--defaults", DEFAULTS, "--out", "plan.json", "--vms", "vms.yaml")
    for form, word in (("govc", "govc vm.create"), ("ansible", "community.vmware"), ("powercli", "Connect-VIServer")):
        text = cli.ok("render", form, "vms.yaml")
        assert word in text
        assert "grid_a100d-3-40c" in text
        cli.ok("render", form, "plan.json", "--from", INVENTORY, "--defaults", DEFAULTS, "--out", form)
        assert Path(form).read_text().rstrip("\n").count("\n") > 30
    again = cli.ok("render", "vms", "plan.json", "--from", INVENTORY, "--defaults", DEFAULTS)
    assert again == Path("vms.yaml").read_text()


def test_guests_get_their_files(cli: Cli, tmp_path: Path) -> None:
    Path("guest.yaml").write_text("driver: /opt/nvidia/driver.run\ntoken_file: token\n")
    Path("token").write_text("secret-token")
    Path("defaults.yaml").write_text("datastore: nvme-1\nguest: guest.yaml\n")
    cli.ok("plan", "4g+2g", "--from", INVENTORY, "--defaults", "defaults.yaml", "--vms", "vms.yaml")
    Path("guests").mkdir()
    cli.ok("render", "cloud-init", "vms.yaml", "--out", "guests")
    assert len(list(Path("guests").glob("*.userdata"))) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path("guests").iterdir())
    assert "secret-token" not in Path("vms.yaml").read_text()
    assert cli("render", "cloud-init", "vms.yaml").code == 2
    cli.ok("plan", "4g+2g", "--from", INVENTORY, "--vms", "bare.yaml")
    assert "no machine has a guest" in cli("render", "cloud-init", "bare.yaml", "--out", "guests").err
