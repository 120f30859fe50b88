"""Guests: cloud-init's files, checked by Debian's cloud-init, and the look that a guest takes at its GPUs, run for real.

Needs Debian's package cloud-init (its program on PATH); it is not started, its schema and its readers are used.
"""

from __future__ import annotations

import base64
import json
import logging
import shutil
import stat
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from partitioner import Plan, Workload, plan, plan_mig
from partitioner.errors import SpecError
from vsphere.guest import (
    Guest,
    GuestInfo,
    Nic,
    Triton,
    guestinfo,
    load_guest,
    meta_data,
    network_config,
    read_report,
    save_guestinfo,
    user_data,
)
from vsphere.guest.check import KEY, check_script
from vsphere.guest.cloud import TOKEN_PATH, hostname
from vsphere.guest.steps import setup_script
from vsphere.machine import Device, Vm, VmDefaults, instance_uuid, layout_vms, to_config_spec

TOKEN = "eyJhbGciOi.the-client-token.c2VjcmV0"  # noqa: S105 - of no server
DRIVER = "https://repo.example/NVIDIA-Linux-x86_64-550.163.01-grid.run"


@cache
def the_plan() -> Plan:
    return plan_mig("3g.40gb + 2x1g.10gb", gpu="A100-80GB", gpus=1)


def machine(**changes: Any) -> Vm:
    vm = layout_vms(the_plan(), VmDefaults(datastore="ds1", host="esx-01", guest="guest.yaml"))[0]
    return replace(vm, **changes)


@pytest.fixture
def full(tmp_path: Path) -> Guest:
    token = tmp_path / "client.tok"
    token.write_text(TOKEN)
    return Guest(
        driver=DRIVER,
        driver_sha256="ab" * 32,
        token_file=str(token),
        triton=Triton("nvcr.io/nvidia/tritonserver:25.09-py3", arguments=("--strict-readiness=true",)),
        ssh_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI admin@example",),
        network={"gpu-3g.40gb-0": Nic("10.0.0.5/24", "10.0.0.1", ("10.0.0.2",))},
    )


@cache
def cloud_init() -> tuple[str, str]:
    """Return cloud-init's program and the Python that it runs on."""
    program = shutil.which("cloud-init")
    if program is None:
        pytest.fail("cloud-init is not installed; install Debian's package: apt-get install --no-install-recommends cloud-init")
    return program, Path(program).read_text().splitlines()[0].removeprefix("#!").strip()


def with_cloud_init(code: str, text: str) -> Any:
    """Run code on cloud-init's own modules, with `text` on its standard input; it prints JSON."""
    done = subprocess.run([cloud_init()[1], "-c", code], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- cloud-init accepts it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["full", "least", "deb", "whole"])
def test_user_data_is_valid_to_cloud_init(case: str, full: Guest, tmp_path: Path) -> None:
    guests = {
        "full": full,
        "least": Guest(packages=(), container_toolkit=False, check=False),
        "deb": Guest(driver="/opt/nvidia/nvidia-linux-grid-550_amd64.deb"),
        "whole": Guest(),
    }
    vm = machine(devices=(Device(fixed="0000:17:00.0"),)) if case == "whole" else machine()
    path = tmp_path / "user-data"
    path.write_text(user_data(guests[case], vm))
    done = subprocess.run([cloud_init()[0], "schema", "--config-file", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Valid" in done.stdout
    path.write_text(user_data(guests[case], vm).replace("runcmd:", "runcmds:").replace("packages:", "packages: 7\nx:"))
    done = subprocess.run([cloud_init()[0], "schema", "--config-file", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0, "the schema check must be able to fail"


def test_cloud_init_reads_what_the_machine_carries(full: Guest) -> None:
    """The datasource VMware decodes metadata and userdata, and will take userdata out of the machine afterwards."""
    vm = machine()
    info = guestinfo(full, vm)
    code = """
import json, sys
from cloudinit.sources import DataSourceVMware as source
given = json.load(sys.stdin)
read = lambda key: source.decode(key, given[f"guestinfo.{key}.encoding"], given[f"guestinfo.{key}"])
print(json.dumps({"user": read("userdata"), "meta": source.process_metadata(source.load_json_or_yaml(read("metadata")))}))
"""
    seen = with_cloud_init(code, json.dumps(dict(info)))
    assert seen["user"] == user_data(full, vm)
    assert seen["meta"]["instance-id"] == vm.instance_uuid
    assert seen["meta"]["network"]["config"] == network_config(full, vm)
    assert seen["meta"]["redact"] == ["userdata"]


@pytest.mark.parametrize("given", [None, Nic(), Nic("10.0.0.5/24", "10.0.0.1", ("10.0.0.2",)), Nic("fd00::5/64", "fd00::1")])
def test_network_config_is_understood_by_cloud_init(given: Nic | None) -> None:
    vm = machine()
    guest = Guest(network={vm.name: given} if given else {})
    code = """
import json, sys
from cloudinit.net.network_state import parse_net_config_data
state = parse_net_config_data(json.load(sys.stdin))
print(json.dumps([interface["subnets"] for interface in state.iter_interfaces()]))
"""
    subnets = with_cloud_init(code, json.dumps(network_config(guest, vm)))[0]
    if given is None or given.address is None:
        assert subnets[0]["type"] == "dhcp4"
    else:
        assert subnets[0]["address"].startswith(given.address.split("/")[0])
        assert subnets[0]["routes"][0]["gateway"] == given.gateway if given.gateway else True
    bare = network_config(Guest(), machine(nics=()))
    assert bare["ethernets"] == {}


# -- what is in it -----------------------------------------------------------------------------------------------------


def files(guest: Guest, vm: Vm | None = None) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in yaml.safe_load(user_data(guest, vm or machine()))["write_files"]}


def test_steps_of_the_source_are_there(full: Guest) -> None:
    data = yaml.safe_load(user_data(full, machine()))
    assert {"docker.io", "cmake", "build-essential", "curl"} <= set(data["packages"])
    written = files(full)
    assert written["/etc/nvidia/gridd.conf"]["content"].endswith("FeatureType=1\n")
    assert base64.b64decode(written[TOKEN_PATH]["content"]) == TOKEN.encode()
    assert written[TOKEN_PATH]["permissions"] == "0744"
    steps = setup_script(full)
    order = [
        steps.index(word) for word in (DRIVER, "sha256sum", '"$package" --silent', "nvidia-gridd", "nvidia-ctk", "triton.service")
    ]
    assert order == sorted(order)
    unit = written["/etc/systemd/system/triton.service"]["content"]
    assert "nvcr.io/nvidia/tritonserver:25.09-py3 \\\n" in unit
    assert "--http-port=8000" in unit
    assert data["runcmd"] == [["/usr/local/sbin/gpu-partitioner-setup"]]
    assert hostname(machine(name="GPU Chät_0")) == "gpu-ch-t-0"


def test_long_names_make_hosts_of_different_names():
    first, second = (
        machine(name=f"gpu-{'long-' * 14}{number}", instance_uuid=instance_uuid("p", "chat", [number])) for number in (0, 1)
    )
    assert len(first.name) > 63
    assert hostname(first) != hostname(second)
    assert hostname(first).endswith("-" + first.instance_uuid[:8])
    assert max(len(hostname(one)) for one in (first, second)) <= 63


@pytest.mark.parametrize("path", ["/usr/local/sbin/gpu-partitioner-setup", "/usr/local/sbin/gpu-partitioner-check"])
def test_scripts_are_bash(path: str, full: Guest) -> None:
    done = subprocess.run(["/bin/bash", "-n"], input=files(full)[path]["content"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_token_is_in_guestinfo_only(full: Guest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    vm = machine()
    info = guestinfo(full, vm)
    encoded = base64.b64encode(TOKEN.encode()).decode()
    for shown in (repr(info), str(info), f"{info}", repr(full), repr(vm), str(meta_data(full, vm)), caplog.text):
        assert TOKEN not in shown
        assert encoded not in shown
        assert info["guestinfo.userdata"] not in shown
    assert isinstance(info, GuestInfo)
    assert dict(guestinfo(full, vm)) == dict(info), "the same input gives the same bytes"
    spec = to_config_spec(vm, guestinfo=info)
    assert {option.key for option in spec.extraConfig} >= set(info)
    for path in save_guestinfo(full, vm, tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Path(full.token_file or "").unlink()
    with pytest.raises(SpecError, match=r"client\.tok: client token cannot be read: No such file"):
        guestinfo(full, vm)


def test_an_empty_token_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "t.tok").write_bytes(b" \n")
    with pytest.raises(SpecError, match="empty or over 64 KiB"):
        user_data(Guest(token_file=str(tmp_path / "t.tok")), machine())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"driver": "http://repo.example/x.run"}, "neither an https URL nor"),
        ({"driver": "https://repo.example/x.exe", "driver_sha256": "ab" * 32}, "neither a .run nor a .deb"),
        ({"driver": DRIVER}, "driver_sha256 is needed"),
        ({"driver": "/opt/$(reboot).run"}, "neither an https URL nor"),
        ({"packages": ["curl; reboot"]}, "packages"),
        ({"packages": ["curl"]}, "container_toolkit needs Docker"),
        ({"triton": {"image": "x y"}}, "image"),
        ({"triton": {"image": "t"}, "container_toolkit": False}, "triton needs GPUs"),
        ({"network": {"a": {"address": "10.0.0.5"}}}, "has no prefix"),
        ({"network": {"a": {"gateway": "10.0.0.1"}}}, "without an address"),
        ({"feature_type": 3}, "feature_type"),
        ({"tokn_file": "x"}, "did you mean 'token_file'"),
        ({"ssh_keys": ["a\nb"]}, "ssh_keys"),
    ],
)
def test_guest_file_is_read_strictly(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "guest.yaml"
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(SpecError, match=message) as caught:
        load_guest(path)
    assert all(problem.line for problem in caught.value.problems)


def test_guest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "guest.yaml"
    path.write_text(f"driver: {DRIVER}\ndriver_sha256: {'ab' * 32}\ntriton: {{image: 'nvcr.io/nvidia/tritonserver:25.09-py3'}}\n")
    guest = load_guest(path)
    assert (guest.driver, guest.triton.models if guest.triton else None) == (DRIVER, "/srv/models")


# -- the check, run ----------------------------------------------------------------------------------------------------


_ASKED = "#!/bin/bash\n[ \"$*\" = '--query-gpu=name --format=csv,noheader' ] || exit 9\n"


def run_check(vm: Vm, smi: str, tmp_path: Path, *, code: int = 0) -> tuple[int, str]:
    """Run a machine's check with a stand-in of nvidia-smi and of VMware's tool; return its code and what was reported."""
    programs = {
        "nvidia-smi": f"{_ASKED}cat <<'END'\n{smi}\nEND\nexit {code}\n",
        "vmware-rpctool": f'#!/bin/bash\nprintf "%s" "$1" >{tmp_path}/said\n',
        "gpu-check": check_script(vm),
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "gpu-check"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    return done.returncode, (tmp_path / "said").read_text()


TWO = (Device(vgpu="grid_a100d-1-10c"), Device(vgpu="nvidia_a100d-1-10c"))


@pytest.mark.parametrize(
    ("devices", "smi", "ok"),
    [
        ((Device(vgpu="grid_a100d-3-40c"),), "GRID A100D-3-40C", True),
        ((Device(vgpu="grid_a100d-3-40c"),), "NVIDIA A100D-3-40C MIG 3g.40gb", True),
        ((Device(vgpu="nvidia_rtx_pro_6000_blackwell_dc-1-24q"),), "NVIDIA RTX Pro 6000 Blackwell DC-1-24Q", True),
        ((Device(vgpu="grid_a100d-3-40c"),), "GRID A100D-4-40C", False),
        ((Device(vgpu="grid_a100d-3-40c"),), "", False),
        ((Device(vgpu="grid_a100d-3-40c"),), "GRID A100D-3-40C\nGRID A100D-3-40C", False),
        (TWO, "GRID A100D-1-10C\nGRID A100D-1-10C", True),
        (TWO, "GRID A100D-1-10C", False),
        ((Device(fixed="0000:17:00.0"),), "NVIDIA A100 80GB PCIe", True),
        ((Device(fixed="0000:17:00.0"),), "", False),
    ],
)
def test_check_sees_whether_the_gpus_are_those_of_the_plan(
    devices: tuple[Device, ...], smi: str, *, ok: bool, tmp_path: Path
) -> None:
    code, said = run_check(machine(devices=devices), smi, tmp_path)
    assert said.startswith(f"info-set {KEY} {'ok' if ok else 'failed'} ")
    report = read_report({KEY: said.removeprefix(f"info-set {KEY} ")})
    assert report is not None
    assert (report.ok, code == 0) == (ok, ok)


def test_check_reports_a_driver_that_does_not_answer(tmp_path: Path) -> None:
    code, said = run_check(machine(), "NVIDIA-SMI has failed\nbecause $(it) could not communicate", tmp_path, code=9)
    assert code == 1
    assert said == f"info-set {KEY} failed nvidia-smi: NVIDIA-SMI has failed because $(it) could not communicate"


def test_reports_are_read_with_care() -> None:
    assert read_report({}) is None
    assert read_report({KEY: " "}) is None
    report = read_report({KEY: "owned\x1b[31m " + "x" * 9999})
    assert report is not None
    assert not report.ok
    assert len(report.text) <= 500
    assert "\x1b" not in report.text


def test_a_time_sliced_type_is_checked_by_its_name(tmp_path: Path) -> None:
    vms = layout_vms(plan([Workload("d", profile="T4-4Q")], gpu="T4", gpus=1), VmDefaults(datastore="d", series="Q"))
    assert run_check(vms[0], "GRID T4-4Q", tmp_path)[0] == 0
