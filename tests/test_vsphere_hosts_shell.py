"""The shell of a host: a real sshd, its keys, and what its commands say."""

import os
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sshd import EsxiShell, SmiCard, sshd_program
from sshd.server import access

from partitioner.errors import SpecError
from vsphere.hosts import read_shells, smi
from vsphere.hosts.errors import (
    AccessError,
    CommandError,
    CommandTimeoutError,
    HostKeyError,
    MissingCommandError,
    OutputError,
    ShellError,
    UnreachableError,
)
from vsphere.hosts.smi import Vib
from vsphere.hosts.ssh import Ssh, SshAccess

A, B, T4 = "0000:3b:00.0", "0000:af:00.0", "0000:d8:00.0"


@pytest.fixture
def host():
    cards = [
        SmiCard(A),
        SmiCard(B, name="NVIDIA H100 PCIe", restarts=False),
        SmiCard(T4, name="Tesla T4", mig=None, pending=None),
    ]
    with EsxiShell("esx-01", cards) as shell:
        yield shell


@pytest.fixture
def shell(host):
    return host.access().shell("esx-01")


# -- connections -----------------------------------------------------------------------------------------------------------


def test_runs_a_command_and_returns_what_it_writes(shell):
    assert shell.run("nvidia-smi", "--query-gpu=pci.bus_id,mig.mode.current", "--format=csv") == (
        "pci.bus_id, mig.mode.current\n00000000:3B:00.0, Disabled\n00000000:AF:00.0, Disabled\n00000000:D8:00.0, [N/A]\n"
    )


@pytest.mark.parametrize("word", ["a b", "$(touch x)", "`id`", ";id", "it's", '"', "*", "-i", "", "\n", "ä"])
def test_arguments_reach_the_host_as_they_are(host, shell, word):
    shell.run("nv-hostengine", word)
    assert host.calls() == [["nv-hostengine", word]]


def test_another_host_key_is_refused_and_nothing_is_sent(host, shell):
    host.stop()
    host.new_host_key()
    host.start()
    moved = replace(shell, port=host.port)
    with pytest.raises(HostKeyError, match=r"esx-01: shows another host key than the one pinned.*Do not go on"):
        moved.run("nvidia-smi")
    assert host.calls() == []


def test_a_host_without_pinned_key_is_refused(host, shell, tmp_path):
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    with pytest.raises(HostKeyError, match=r"no host key that it shows is pinned in .*ssh-keyscan"):
        replace(shell, known_hosts=empty).run("nvidia-smi")
    with pytest.raises(HostKeyError, match="no file"):
        replace(shell, known_hosts=tmp_path / "none").run("nvidia-smi")
    assert host.calls() == []
    assert empty.read_text() == ""  # nothing was learned


def test_the_key_is_pinned_under_the_name_of_the_host(host, shell):
    with pytest.raises(HostKeyError):
        replace(shell, host="esx-02").run("nvidia-smi")


def test_a_key_that_the_host_does_not_know_is_refused(host, shell):
    with pytest.raises(AccessError, match=r"esx-01: user \S+ with the key .*strange_key is not accepted.*keys-root"):
        replace(shell, identity_file=host.folder / "strange_key").run("nvidia-smi")
    assert host.calls() == []


def test_the_agent_is_not_asked_where_a_key_is_named_and_is_asked_where_none_is(host, shell, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(host.folder / "no-agent"))
    assert shell.run("nv-hostengine", "-t")
    monkeypatch.setenv("HOME", str(host.folder))
    with pytest.raises(AccessError, match="any key of the ssh-agent"):
        replace(shell, identity_file=None).run("nvidia-smi")


def test_nobody_answers(host, shell):
    host.stop()
    with pytest.raises(UnreachableError, match=r"esx-01: no connection by SSH: .*Connection refused; .*TSM-SSH"):
        shell.run("nvidia-smi")


def test_a_name_that_does_not_resolve(shell):
    with pytest.raises(UnreachableError, match=r"Could not resolve"):
        replace(shell, address="no-such-host.invalid").run("nvidia-smi")


def test_a_command_that_does_not_end(host, shell):
    host.fail("nvidia-smi", sleep_s=5)
    with pytest.raises(CommandTimeoutError, match=r"nvidia-smi: no end after 0\.7 s; it may go on there") as caught:
        shell.run("nvidia-smi", timeout_s=0.7)
    assert caught.value.command == "nvidia-smi"


def test_a_command_that_the_host_does_not_have(host, shell):
    host.remove("nvidia-smi")
    with pytest.raises(MissingCommandError, match=r"nvidia-smi: there is no such command; is the NVIDIA host driver"):
        smi.read_gpus(shell)


def test_a_command_that_fails_keeps_status_and_words(host, shell):
    host.fail("nvidia-smi", status=9, says="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    with pytest.raises(CommandError, match="exit status 9: NVIDIA-SMI has failed because") as caught:
        smi.read_gpus(shell)
    assert caught.value.status == 9


def test_exit_status_255_of_a_command_is_not_taken_for_a_lost_connection(host, shell):
    host.fail("nvidia-smi", status=255, says="Permission denied")
    with pytest.raises(CommandError, match="exit status 255: Permission denied"):
        shell.run("nvidia-smi")


def test_the_connection_breaks_while_a_command_runs(host, shell):
    host.fail("nvidia-smi", sleep_s=5)

    def cut():
        while not host.calls():
            time.sleep(0.01)
        host.cut()

    with ThreadPoolExecutor() as pool:
        cutting = pool.submit(cut)
        with pytest.raises(UnreachableError, match=r"nvidia-smi: .*the command may have gone on"):
            shell.run("nvidia-smi")
        cutting.result()


def test_the_client_sees_no_secret_of_ours(host, shell, monkeypatch):
    """Neither in the environment of the client, nor sent to the host."""
    monkeypatch.setenv("VC_PASSWORD", "s3cret-word")
    fake = host.folder / "fake"
    fake.mkdir()
    (fake / "ssh").write_text(f'#!/bin/sh\n/usr/bin/env > {fake}/env\necho "$@" > {fake}/arguments\n')
    (fake / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(fake))
    shell.run("nvidia-smi")
    seen = (fake / "env").read_text() + (fake / "arguments").read_text()
    assert "s3cret-word" not in seen
    assert "StrictHostKeyChecking=yes" in seen


def test_without_a_client_it_says_what_to_install(shell, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShellError, match="install openssh-client"):
        shell.run("nvidia-smi")


def test_settings_of_the_user_do_not_count(host, shell, monkeypatch):
    """A configuration that turns checks off, or sends elsewhere, is not read."""
    config = host.folder / ".ssh"
    config.mkdir()
    (config / "config").write_text("Host *\n  StrictHostKeyChecking no\n  HostName 192.0.2.1\n  ConnectTimeout 1\n")
    monkeypatch.setenv("HOME", str(host.folder))
    assert shell.run("nv-hostengine", "-t")


@pytest.mark.parametrize("name", ["-oProxyCommand=id", "a b", "", "a;b", "x\n"])
@pytest.mark.parametrize("field", ["host", "address", "user"])
def test_names_that_would_be_options_are_refused(shell, name, field):
    if field == "address" and name == "":
        return  # its name is its address then
    with pytest.raises(SpecError, match="is not a name"):
        replace(shell, **{field: name})


def test_paths_with_blanks_and_per_cent_signs(host, shell, tmp_path):
    odd = tmp_path / "a b %h"
    odd.mkdir()
    for name in ("known_hosts", "user_key"):
        (odd / name).write_bytes((host.folder / name).read_bytes())
        (odd / name).chmod(stat.S_IRUSR | stat.S_IWUSR)
    moved = replace(shell, known_hosts=odd / "known_hosts", identity_file=odd / "user_key")
    assert moved.run("nv-hostengine", "-t")
    with pytest.raises(SpecError, match="quote or a line break"):
        replace(shell, known_hosts=Path('a"b'))


def test_access_names_each_host(tmp_path):
    access = SshAccess(tmp_path / "known", user="root", addresses={"esx-02": ("192.0.2.7", 2222)})
    assert access.shell("esx-01") == Ssh("esx-01", tmp_path / "known", address="esx-01", port=22, user="root")
    assert (access.shell("esx-02").address, access.shell("esx-02").port) == ("192.0.2.7", 2222)


def test_a_missing_sshd_is_said_clearly(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    sshd_program.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="install Debian's openssh-server"):
            sshd_program()
    finally:
        sshd_program.cache_clear()


def test_the_server_is_gone_when_it_is_closed(host):
    pid = host._process.pid
    folder = host.folder
    host.close()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# -- what the commands say -------------------------------------------------------------------------------------------------


def test_reads_gpus_driver_and_vibs(shell):
    facts = smi.read_facts(shell)
    assert [(gpu.index, gpu.pci_id, gpu.bus_id, gpu.mig, gpu.mig_pending) for gpu in facts.gpus] == [
        (0, A, "00000000:3B:00.0", False, False),
        (1, B, "00000000:AF:00.0", False, False),
        (2, T4, "00000000:D8:00.0", None, None),
    ]
    assert facts.driver == "550.90.05"
    assert facts.vibs == (
        Vib("NVD-AIE_ESXi_8.0.0_Driver", "550.90.05-1OEM.800.1.0.20613240", "NVD"),
        Vib("nvdgpumgmtdaemon", "550.90.05-1OEM.700.1.0.15843807", "NVD"),
    )


def test_all_gpus_in_passthrough(host, shell):
    for pci_id in (A, B, T4):
        host.set(pci_id, hidden=True)
    assert smi.read_gpus(shell) == ((), None)


def test_mig_comes_at_once_or_with_the_restart(host, shell):
    assert smi.set_mig(shell, B, on=True) is True
    assert smi.set_mig(shell, A, on=True) is False
    assert (host.card(A)["mig"], host.card(A)["pending"]) == (False, True)
    host.restart_host()
    before = len(host.calls())
    assert smi.set_mig(shell, A, on=True) is True
    assert all("-mig" not in call for call in host.calls()[before:])  # it is so already
    assert smi.set_mig(shell, B, on=False) is True
    assert host.card(B)["mig"] is False


def test_the_gpu_is_named_by_its_address_not_by_an_index_that_shifts(host, shell):
    host.set(A, hidden=True)  # in passthrough: the driver counts from the next one
    smi.set_mig(shell, B, on=True)
    assert ["nvidia-smi", "-i", "00000000:AF:00.0", "-mig", "1"] in host.calls()
    assert host.card(B)["mig"] is True
    with pytest.raises(
        OutputError, match=rf"{re.escape(A)}: nvidia-smi does not see this GPU; it sees {re.escape(B)}, .*passthrough"
    ):
        smi.set_mig(shell, A, on=True)


def test_success_that_is_none_is_noticed(host, shell):
    host.set(B, stuck=True)
    with pytest.raises(OutputError, match=r"reports success, but mig\.mode\.current is Disabled, not Enabled"):
        smi.set_mig(shell, B, on=True)


def test_a_gpu_without_mig(shell):
    with pytest.raises(OutputError, match="has no MIG"):
        smi.set_mig(shell, T4, on=True)


HEADER = "index, pci.bus_id, name, driver_version, mig.mode.current, mig.mode.pending\n"


@pytest.mark.parametrize(
    "output",
    [
        "",
        "garbage\n",
        HEADER.replace("mig.mode.pending", "other"),
        HEADER + "0, 00000000:3B:00.0, NVIDIA A100\n",
        HEADER + "0, 3B, NVIDIA A100, 550, Enabled, Enabled\n",
        HEADER + "x, 00000000:3B:00.0, NVIDIA A100, 550, Enabled, Enabled\n",
        HEADER + "0, 00000000:3B:00.0, NVIDIA A100, 550, Perhaps, Enabled\n",
        HEADER + "0, $(reboot), NVIDIA A100, 550, Disabled, Disabled\n",
        "\x00\xff",
    ],
)
def test_answers_that_cannot_be_understood(host, shell, output):
    host.fail("nvidia-smi", status=0, output=output)
    with pytest.raises(OutputError, match="the answer cannot be understood"):
        smi.read_gpus(shell)
    assert all("-mig" not in call for call in host.calls())


def test_many_hosts_are_asked_at_once_and_errors_are_kept_apart():
    with EsxiShell("esx-01", [SmiCard(A)]) as one, EsxiShell("esx-02", [SmiCard(B)]) as two, EsxiShell("esx-03") as gone:
        way = access([one, two, gone])
        gone.stop()
        facts, errors = read_shells(way, ["esx-02", "esx-01", "esx-03"])
    assert [(name, facts[name].gpus[0].pci_id) for name in facts] == [("esx-01", A), ("esx-02", B)]
    assert isinstance(errors["esx-03"], UnreachableError)
