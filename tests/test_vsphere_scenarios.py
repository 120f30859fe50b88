"""The source's eight scenarios on a vCenter, through the command line alone: plan, diff, apply, status, destroy.

What the machines are is read with pyVmomi, past the package; the vCenter is the extended simulator behind TLS.
"""

from __future__ import annotations

import io
import json
import os
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import SmartStubAdapter
from pyVmomi import vim
from vcenter import Gpu, Host, VCenter, Vm

from partitioner.cli import main

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
        main()
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


# -- the password ------------------------------------------------------------------------------------------------------


SPELLINGS = (PASSWORD, PASSWORD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), PASSWORD.replace("&<", ""))


def searched(*texts: str) -> None:
    for text in texts:
        for spelling in (*SPELLINGS, "q9-unlikely"):
            assert spelling not in text


def test_the_password_is_in_no_log_file_or_traceback(tmp_path: Path) -> None:
    """Run all commands, good and failing, with every logger at DEBUG and locals shown in tracebacks; then search."""
    shouting = (  # logs of all libraries, and tracebacks with the variables of all frames
        "import logging, sys, traceback\n"
        "logging.basicConfig(level=logging.DEBUG, filename='debug.log')\n"
        "import http.client, ssl, partitioner.cli as cli\n"
        "from partitioner.errors import PartitionerError\n"
        "inner = cli.app\n"
        "def shown(**options):\n"
        "    try:\n"
        "        return inner(**options)\n"
        "    except PartitionerError as error:\n"
        "        told = traceback.TracebackException.from_exception(error, capture_locals=True)\n"
        "        sys.stderr.write(''.join(told.format()))\n"
        "        raise\n"
        "cli.app = shown\n"
        "cli.main()\n"
    )
    host = Host("r750xa", gpus=[Gpu("A100-80GB", "mig")] * 2, policy="consolidation")
    codes: dict[str, int] = {}
    said: list[str] = []
    with VCenter(hosts=[host], password=PASSWORD) as center:
        env = {**os.environ, **environment(center, tmp_path), "HOME": str(tmp_path)}

        def call(name: str, *args: str, **other: str) -> None:
            command = [sys.executable, "-X", "dev", "-c", shouting, "vsphere", *args]
            done = subprocess.run(command, env=env | other, cwd=tmp_path, capture_output=True, text=True, check=False)
            codes[name] = done.returncode
            said.extend((done.stdout, done.stderr))

        ca = ("--ca-file", center.ca_file)
        call("inventory", "inventory", *ca, "--out", "inventory.yaml")
        call(
            "plan",
            "plan",
            "4g+2g+1g",
            "--from",
            "inventory.yaml",
            "--datastore",
            "datastore-1",
            "--vms",
            "vms.yaml",
            "--out",
            "p.json",
        )
        call("diff", "diff", "vms.yaml", *ca, "--out", "changes.json", "--json")
        center.fail("PowerOnVM_Task", "vim.fault.InsufficientGraphicsResourcesFault", of="task")
        call("a step fails", "apply", "vms.yaml", *ca, "--yes", "--out", "report.json", "--json")
        center.clear_faults()
        center.drop("CreateVM_Task", when="after", times=0)
        call("connection breaks", "apply", "vms.yaml", *ca, "--yes", "--timeout", "5")
        center.clear_faults()
        call("apply", "apply", "vms.yaml", *ca, "--yes", "--out", "report.json")
        center.fail("Logout", "vmodl.fault.SystemError")  # the one thing that is only logged
        call("status", "status", *ca, "--html", "now.html")
        call("not trusted", "status")
        call("wrong password", "status", *ca, PARTITIONER_VCENTER_PASSWORD=PASSWORD + "x")
        center.fail("Login", "vmodl.fault.SystemError")
        call("login fails", "status", *ca)
        center.drop("Login")
        call("login breaks", "status", *ca)
        call("no such option", "status", *ca, f"--password={PASSWORD}")
        said.pop(-1)  # who writes a password on a command line has shown it already; click repeats the option's name only
        call("render", "render", "govc", "vms.yaml")
        call("destroy", "destroy", "vms.yaml", *ca, "--yes")
        said.append(center.log())
    failing = {"a step fails", "not trusted", "wrong password", "login fails", "login breaks"}
    assert {name for name, code in codes.items() if code == 4} - {"connection breaks"} == failing, codes
    assert codes["no such option"] == 2
    assert not [name for name, code in codes.items() if code not in (0, 2, 4)], codes
    assert (tmp_path / "debug.log").stat().st_size
    searched(*said)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"inventory.yaml", "vms.yaml", "changes.json", "report.json", "now.html", "debug.log"} <= {path.name for path in files}
    assert any("state" in path.parts for path in files)
    for path in files:
        searched(path.read_bytes().decode("utf-8", "replace"))
