"""A running sshd with its own port, host key and user key; stopped by its pid."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vsphere.hosts.ssh import SshAccess

COMMANDS = Path(__file__).parent / "commands"
START_S = 20.0
_TRIES = 5


@cache
def sshd_program() -> str:
    """Return the path of sshd.

    Raises
    ------
    RuntimeError
        There is none; says what to install.
    """
    found = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise RuntimeError(
            "the tests of the hosts' shells start a real sshd, and there is none in PATH or /usr/sbin; install Debian's"
            " openssh-server and openssh-client (apt-get install openssh-server openssh-client)"
        )
    return found


@dataclass
class SmiCard:
    """A GPU as the stand-in of ``nvidia-smi`` has it.

    `restarts` is true of Ampere: a change of MIG mode waits for the host's restart. `mig` is None of a GPU without MIG.
    `stuck`: the driver reports success and changes nothing.
    """

    pci_id: str
    name: str = "NVIDIA A100 80GB PCIe"
    mig: bool | None = False
    pending: bool | None = False
    restarts: bool = True
    in_use: bool = False
    hidden: bool = False
    stuck: bool = False


class EsxiShell:
    """The shell of one host.

    Parameters
    ----------
    host : its name, under which its key is pinned.
    cards : its GPUs, by PCI address.
    control_url : of the extended vCenter, which then knows the GPUs' MIG modes; empty for a shell of its own.
    """

    def __init__(self, host: str = "esx-01", cards: Sequence[SmiCard] = (), *, control_url: str = "") -> None:
        self.host, self.control_url = host, control_url
        self.folder = Path(tempfile.mkdtemp(prefix="sshd-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._make_files()
        self.write(cards=[asdict(card) for card in cards], driver="550.90.05", fail={}, control_url=control_url, host=host)

    # -- state of the stand-ins ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return the state of the stand-ins."""
        state: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return state

    def write(self, **parts: Any) -> None:
        """Change parts of the state of the stand-ins."""
        path = self.folder / "state.json"
        state = (self.state() if path.exists() else {}) | parts
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(path)

    def set(self, pci_id: str, **values: Any) -> None:
        """Change a GPU."""
        cards = self.state()["cards"]
        for card in cards:
            if card["pci_id"] == pci_id:
                card.update(values)
        self.write(cards=cards)

    def card(self, pci_id: str) -> dict[str, Any]:
        """Return a GPU."""
        return next(card for card in self.state()["cards"] if card["pci_id"] == pci_id)

    def fail(self, command: str, *, status: int = 1, says: str = "", output: str = "", sleep_s: float = 0.0) -> None:
        """Have a command write that and end with that status, after that time; only while it is set (`work` ends it)."""
        self.write(fail={command: {"status": status, "says": says, "output": output, "sleep_s": sleep_s}})

    def work(self) -> None:
        """Have all commands work again."""
        self.write(fail={})

    def restart_host(self) -> None:
        """Do to the GPUs what a restart of the host does: pending modes come into force."""
        cards = self.state()["cards"]
        for card in cards:
            card["mig"] = card["pending"]
        self.write(cards=cards)

    def remove(self, command: str) -> None:
        """Take a command off the host's PATH."""
        (self.folder / "bin" / command).unlink()

    def calls(self) -> list[list[str]]:
        """Return the commands that ran, with their arguments, in order."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    # -- the server ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it; it listens when this returns.

        Raises
        ------
        RuntimeError
            It ended instead; holds what it said.
        """
        if os.getuid() == 0:  # what the service of Debian makes before it starts; sshd asks for it of root only
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        said = ""
        for _ in range(_TRIES):  # another process may take the port meanwhile
            self.port = _free_port()
            (self.folder / "sshd_config").write_text(self._config())
            with (self.folder / "log").open("wb") as log:
                command = [sshd_program(), "-D", "-e", "-f", str(self.folder / "sshd_config")]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if self._listens():
                return self
            said = self.log()
            self._end()
        raise RuntimeError(f"sshd ended: {said}")

    def stop(self) -> None:
        """Stop it; its keys and the state of the stand-ins stay until `close`."""
        self._end()

    def close(self) -> None:
        """Stop it and take its files away."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cut(self) -> None:
        """Break the connections that are open now."""
        assert self._process
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def log(self) -> str:
        """Return what the server wrote to its log."""
        return (self.folder / "log").read_text(errors="replace")

    def access(self, **changes: Any) -> SshAccess:
        """Return how to reach it."""
        return access([self], **changes)

    def new_host_key(self) -> None:
        """Give the host another key, as somebody in the middle would have; takes effect with the next start."""
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        _keygen(self.folder / "host_key")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _make_files(self) -> None:
        for name in ("host_key", "user_key", "strange_key"):
            _keygen(self.folder / name)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        public = (self.folder / "host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"{self.host} {public[0]} {public[1]}\n")
        commands = self.folder / "bin"
        commands.mkdir()
        for source in COMMANDS.glob("*.py"):
            program = commands / source.stem.replace("_", "-")
            program.write_text(f"#!{sys.executable} -IS\n{source.read_text()}")
            program.chmod(0o755)
        shell = self.folder / "shell"  # as on ESXi: a plain POSIX shell, and nothing of this machine's login files
        shell.write_text(f'#!/bin/sh\nexec env -i PATH={commands} HOST_FOLDER={self.folder} /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
        shell.chmod(0o755)

    def _config(self) -> str:
        lines = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "PidFile": "none",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "StrictModes": "no",  # the folder is a temporary one
            "UsePAM": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PubkeyAuthentication": "yes",
            "ForceCommand": self.folder / "shell",
            "SetEnv": "SHLVL=1",  # else bash reads the login files of this machine's user first
            "MaxStartups": "100",
            "UseDNS": "no",
            "LogLevel": "VERBOSE",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _listens(self) -> bool:
        assert self._process
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            if "Server listening on" in self.log():
                return True
            time.sleep(0.01)
        return False

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def access(shells: Sequence[EsxiShell], **changes: Any) -> SshAccess:
    """Return how to reach several hosts with one key and one file of pinned keys."""
    first = shells[0]
    known, key = first.folder / "all_known_hosts", first.folder / "user_key"
    known.write_text("".join((shell.folder / "known_hosts").read_text() for shell in shells))
    for shell in shells[1:]:
        shutil.copy(first.folder / "user_key.pub", shell.folder / "authorized_keys")
    parts: dict[str, Any] = {
        "known_hosts": known,
        "user": getpass.getuser(),
        "identity_file": key,
        "timeout_s": 30.0,
        "addresses": {shell.host: ("127.0.0.1", shell.port) for shell in shells},
    }
    return SshAccess(**(parts | changes))


def _keygen(path: Path) -> None:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise RuntimeError("the tests of the hosts' shells make keys with ssh-keygen; install Debian's openssh-client")
    subprocess.run([program, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
