"""The source's eight scenarios on a vCenter, through the command line alone: plan, diff, apply, status, destroy.

What the machines are is read with pyVmomi, past the package; the vCenter is the extended simulator behind TLS.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import os
import ssl
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import SmartStubAdapter
from pyVmomi import vim
from vcenter import Gpu, Host, VCenter, Vm

from partitioner import cli
from partitioner.errors import PartitionerError

ROOT = Path(__file__).parents[1]
SCENARIOS = {  # the document's Table 2: the vGPU types of each scenario, one virtual machine each
    1: ["7-80"],
    2: ["4-40"],
    3: ["3-40"],
    4: ["2-20"],
    5: ["1-10"],
    6: ["4-40", "2-20", "1-10"],
    7: ["2-20", "2-20", "2-20", "1-10"],
    8: ["1-10"] * 7,
}
SETTINGS = {"pciPassthru.use64bitMMIO": "TRUE", "pciPassthru.allowP2P": "TRUE", "pciPassthru.64bitMMIOSizeGB": "64"}
PASSWORD = "q9-unlikely&<word>-7f"  # noqa: S105 - of a server that lives as long as a test


@pytest.fixture
def center(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VCenter]:
    """The source's system: one server with four A100 80 GB, two of 32 cores; and a machine that is somebody else's."""
    server = Host("r750xa", gpus=[Gpu("A100-80GB", "mig")] * 4, policy="consolidation", cores=64, threads=128)
    theirs = Vm("theirs", host="r750xa", powered_on=True)
    with VCenter(hosts=[server], vms=[theirs], password=PASSWORD) as found:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        for name, value in environment(found, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield found


def environment(center: VCenter, folder: Path) -> dict[str, str]:
    return {
        "PARTITIONER_VCENTER": f"localhost:{center.port}",
        "PARTITIONER_VCENTER_USER": center.user,
        "PARTITIONER_VCENTER_PASSWORD": center.password,
        "PARTITIONER_STATE": str(folder / "state"),
    }


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["partitioner", "vsphere", *args])
    capsys.readouterr()
    code: Any = 0
    try:
        cli.main()
    except SystemExit as leave:
        code = leave.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


def machines(center: VCenter) -> dict[str, Any]:
    """Return the configuration and power state of all machines, by name."""
    context = ssl.create_default_context(cafile=center.ca_file)
    stub = SmartStubAdapter(host=center.host, port=center.port, sslContext=context)
    content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
    content.sessionManager.Login(center.user, center.password)
    try:
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
        return {vm.name: (vm.config, vm.runtime.powerState) for vm in view.view}
    finally:
        content.sessionManager.Logout()
        stub.DropConnections()


def check_machine(config: Any, power: str, vgpu: str) -> None:
    """Compare a machine with the source: EFI, 32 vCPUs, 64 GB, the three settings, and its vGPU."""
    assert power == "poweredOn"
    assert (config.firmware, config.hardware.numCPU, config.hardware.memoryMB) == ("efi", 32, 64 * 1024)
    assert config.memoryReservationLockedToMax
    options = {option.key: option.value for option in config.extraConfig}
    assert {key: value for key, value in options.items() if key.startswith("pciPassthru")} == SETTINGS
    devices = [device for device in config.hardware.device if isinstance(device, vim.vm.device.VirtualPCIPassthrough)]
    assert [device.backing.vgpu for device in devices] == [vgpu]


@pytest.mark.parametrize("number", SCENARIOS)
def test_a_scenario_from_plan_to_destroy(
    number: int, center: VCenter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ok(*args: str, ca: bool = True) -> str:
        code, out, err = run(capsys, monkeypatch, *args, *(("--ca-file", center.ca_file) if ca else ()))
        assert code == 0, (args, out, err)
        return out

    types = [f"grid_a100d-{name}c" for name in SCENARIOS[number]]
    workloads = str(ROOT / "examples" / "scenarios" / f"scenario-{number}.yaml")
    ok("plan", workloads, "--id", "scenario", "--datastore", "datastore-1", "--out", "plan.json", "--vms", "vms.yaml")
    assert machines(center).keys() == {"theirs"}  # a plan changes nothing
    said = ok("diff", "vms.yaml")
    assert f"{len(types)} to create, {len(types)} to power on; interrupts nobody" in said
    report = json.loads(ok("apply", "vms.yaml", "--yes", "--json", "--verify"))
    assert Counter(step["kind"] for step in report["steps"]) == {"create": len(types), "power on": len(types)}
    assert report["gpus"] == []  # each on the GPU that was planned

    ours = {name: entry for name, entry in machines(center).items() if name != "theirs"}
    assert len(ours) == len(types)
    wanted = {f"gpu-vm-{n}-0": vgpu for n, vgpu in enumerate(types, 1)}
    for name, vgpu in wanted.items():
        check_machine(*ours[name], vgpu)
    cards = center.gpus("r750xa")
    assert Counter(use.type for card in cards for use in card.uses) == Counter(types)
    assert sum(bool(card.uses) for card in cards) == 1  # a scenario is one GPU

    status = json.loads(ok("status", "--json"))["vms"]
    assert {vm["name"]: vm["vgpus"] for vm in status} == {name: [vgpu] for name, vgpu in wanted.items()}
    assert all(vm["power"] == "on" and vm["gpus"] == vm["gpus_planned"] for vm in status)

    center.clear_calls()
    assert json.loads(ok("apply", "vms.yaml", "--yes", "--json"))["steps"] == []  # a second apply has nothing to do
    code, _, _ = run(capsys, monkeypatch, "diff", "plan.json", "--id", "scenario", "--datastore", "datastore-1",
                     "--exit-code", "--ca-file", center.ca_file)  # fmt: skip
    assert code == 0
    assert not [call.method for call in center.calls() if call.method.endswith("_Task")]

    gone = ok("destroy", "vms.yaml", "--yes")
    assert f"destroyed with {2 * len(types)} steps" in gone
    assert machines(center).keys() == {"theirs"}
    assert machines(center)["theirs"][1] == "poweredOn"
    assert not any(card.uses for card in center.gpus("r750xa"))


def test_guests_get_what_they_read_and_nobody_else_does(
    center: VCenter, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source's guest steps go along with the machines; the token of the licence is in no file of ours."""
    token = "eyJ-client-token"  # noqa: S105 - of nothing
    (tmp_path / "token").write_text(token)
    (tmp_path / "guest.yaml").write_text("driver: /opt/nvidia/driver.run\ntoken_file: token\n")
    (tmp_path / "defaults.yaml").write_text("{plan: lab, datastore: datastore-1, guest: guest.yaml}")
    ca = ("--ca-file", center.ca_file)
    for args in (
        ("plan", "4g+2g", "--defaults", "defaults.yaml", "--out", "plan.json", "--vms", "vms.yaml"),
        ("apply", "vms.yaml", "--yes", "--out", "report.json"),
    ):
        code, out, err = run(capsys, monkeypatch, *args, *ca)
        assert code == 0, err
        assert token not in out + err
    for name in ("gpu-4g-0", "gpu-2g-0"):
        options = {option.key: option.value for option in machines(center)[name][0].extraConfig}
        assert options["guestinfo.userdata.encoding"] == "gzip+base64"
        text = gzip.decompress(base64.b64decode(options["guestinfo.userdata"])).decode()
        assert text.startswith("#cloud-config")
        assert base64.b64encode(token.encode()).decode() in text or token in text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "token":
            found = path.read_bytes()
            assert token.encode() not in found
            assert b"userdata" not in found


# -- the password ------------------------------------------------------------------------------------------------------


SPELLINGS = (PASSWORD, PASSWORD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), PASSWORD.replace("&<", ""))


def searched(*texts: str) -> None:
    for text in texts:
        for spelling in (*SPELLINGS, "q9-unlikely"):
            assert spelling not in text


def test_the_password_is_in_no_log_file_or_traceback(
    center: VCenter,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run all commands, good and failing, all loggers at DEBUG, tracebacks with the variables of all frames; then search."""
    caplog.set_level(logging.DEBUG)
    codes: dict[str, int] = {}
    said: list[str] = []
    inner = cli.app

    def shown(**options: Any) -> None:
        try:
            inner(**options)
        except PartitionerError as error:
            told = traceback.TracebackException.from_exception(error, capture_locals=True)
            said.append("".join(told.format()))
            raise

    monkeypatch.setattr(cli, "app", shown)

    def call(name: str, *args: str) -> None:
        codes[name], *texts = run(capsys, monkeypatch, *args)
        said.extend(texts)

    ca = ("--ca-file", center.ca_file)
    call("inventory", "inventory", *ca, "--out", "inventory.yaml")
    call("plan", "plan", "4g+2g+1g", "--from", "inventory.yaml", "--datastore", "datastore-1", "--vms", "vms.yaml")
    call("diff", "diff", "vms.yaml", *ca, "--out", "changes.json", "--json")
    center.fail("PowerOnVM_Task", "vim.fault.InsufficientGraphicsResourcesFault", of="task")
    call("a step fails", "apply", "vms.yaml", *ca, "--yes", "--out", "report.json", "--json")
    center.drop("CreateVM_Task", when="after")
    call("the answer is lost", "apply", "vms.yaml", *ca, "--yes")
    call("apply", "apply", "vms.yaml", *ca, "--yes", "--out", "report.json")
    center.fail("Logout", "vmodl.fault.SystemError")  # that is only logged
    call("status", "status", *ca, "--html", "now.html")
    call("not trusted", "status")
    monkeypatch.setenv("PARTITIONER_VCENTER_PASSWORD", PASSWORD + "x")
    call("wrong password", "status", *ca)
    monkeypatch.setenv("PARTITIONER_VCENTER_PASSWORD", PASSWORD)
    center.fail("Login", "vmodl.fault.SystemError")
    call("login fails", "status", *ca)
    center.drop("Login")
    call("login breaks", "status", *ca)
    call("no such option", "status", *ca, f"--password={PASSWORD}")
    call("render", "render", "govc", "vms.yaml")
    call("destroy", "destroy", "vms.yaml", *ca, "--yes")
    failing = {"a step fails", "not trusted", "wrong password", "login fails", "login breaks"}
    assert {name for name, code in codes.items() if code == 4} - {"the answer is lost"} == failing, (codes, said)
    assert {name for name, code in codes.items() if code not in (0, 4)} == {"no such option"}
    assert "logging out" in caplog.text
    assert sum("Traceback" in text for text in said) >= len(failing)
    searched(*said, caplog.text, center.log())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"inventory.yaml", "vms.yaml", "changes.json", "report.json", "now.html"} <= {path.name for path in files}
    assert any("state" in path.parts for path in files)
    for path in files:
        searched(path.read_bytes().decode("utf-8", "replace"))


def test_the_password_is_not_in_a_process_s_arguments_or_output(center: VCenter, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    (tmp_path / "secret").chmod(0o600)
    env = {name: value for name, value in os.environ.items() if name != "PARTITIONER_VCENTER_PASSWORD"}
    command = [sys.executable, "-W", "error", "-m", "partitioner.cli", "vsphere", "status", "--ca-file", center.ca_file]
    done = subprocess.run(
        [*command, "--password-file", "secret"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 host, 4 GPUs, 1 VM, 0 of ours" in done.stdout
    searched(done.stdout)
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2  # nowhere to be found
    assert "PARTITIONER_VCENTER_PASSWORD" in done.stderr
