"""The shell of a host over SSH, by the system's own OpenSSH client.

The client is run without any configuration of its user, without passwords and without a terminal; the host's key must be
pinned in a file. This module must not know what commands mean.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from partitioner.errors import SpecError
from vsphere.hosts.errors import (
    AccessError,
    CommandError,
    CommandTimeoutError,
    HostKeyError,
    MissingCommandError,
    ShellError,
    UnreachableError,
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*")  # never begins with a dash: it would be an option
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*")
_MISSING, _CLIENT_FAILED = 127, 255
_BROKE = re.compile(r"^(?:Connection to \S+ closed|client_loop: |Timeout, server ).*$", re.MULTILINE)
_MOST_SAID = 2000


class Shell(Protocol):
    """Runs commands on one host."""

    @property
    def host(self) -> str:
        """Its name."""
        ...

    def run(self, *command: str, timeout_s: float | None = None) -> str:
        """Return what a command writes to standard output."""
        ...


@dataclass(frozen=True, slots=True)
class Ssh:
    """The shell of one host.

    Parameters
    ----------
    host : its name, under which its key is pinned.
    known_hosts : file of pinned keys, in the format of OpenSSH's ``known_hosts``.
    address, port : where it listens; its name and 22 by default.
    user : whom to log in as.
    identity_file : private key; None takes those of the running ``ssh-agent``.
    connect_timeout_s : longest wait for the server [s].
    timeout_s : longest that a command may take [s].
    """

    host: str
    known_hosts: Path
    address: str = ""
    port: int = 22
    user: str = "root"
    identity_file: Path | None = None
    connect_timeout_s: int = 15
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for what, text, pattern in (
            ("host", self.host, _NAME),
            ("address", self.address or self.host, _NAME),
            ("user", self.user, _USER),
        ):
            if not pattern.fullmatch(text):
                raise SpecError(f"SSH to {self.host!r}: {what} {text!r} is not a name; write it without blanks or quotes")
        for path in (self.known_hosts, self.identity_file):
            if path is not None and any(sign in str(path) for sign in '"\n\r'):
                raise SpecError(f"SSH to {self.host}: {str(path)!r} holds a quote or a line break; move the file elsewhere")

    def run(self, *command: str, timeout_s: float | None = None) -> str:
        """Run a command and return what it writes to standard output.

        Parameters
        ----------
        command : the command and its arguments; each reaches the host's shell quoted.
        timeout_s : longest that it may take [s]; the connection's own by default.

        Raises
        ------
        UnreachableError, HostKeyError, AccessError
            There is no connection.
        CommandTimeoutError, MissingCommandError, CommandError
            The command did not end well.
        ShellError
            This machine has no SSH client.
        """
        client = shutil.which("ssh")
        if client is None:
            raise ShellError(f"{self.host}: there is no ssh on the PATH; install openssh-client", host=self.host)
        if not self.known_hosts.is_file():
            said = f"{self.host}: no file {self.known_hosts} with pinned host keys; {self._advice()}"
            raise HostKeyError(said, host=self.host)
        text = shlex.join(command)
        with tempfile.TemporaryDirectory(prefix="gpu-partitioner-") as folder:
            log = Path(folder) / "log"
            try:
                done = subprocess.run(  # noqa: S603 - a fixed list, names checked above, the command quoted
                    [client, *self._options(log), "--", self.address or self.host, text],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=self.timeout_s if timeout_s is None else timeout_s,
                    env=_environment(),
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                said = f"{self.host}: {text}: no end after {error.timeout:g} s; it may go on there"
                raise CommandTimeoutError(f"{said}. Look at the host, then run it again", host=self.host, command=text) from error
            client_says = log.read_text(errors="replace").strip() if log.exists() else ""
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode == 0:
            return output
        if done.returncode == _CLIENT_FAILED and client_says:
            raise self._no_connection(client_says, text)
        complaints = done.stderr.decode("utf-8", "replace")
        broke = _BROKE.search(complaints) if done.returncode == _CLIENT_FAILED else None
        if broke:
            what = f"{self.host}: {text}: {broke[0].rstrip('.')}; the command may have gone on"
            raise UnreachableError(f"{what}. Look at the host, then run it again", host=self.host, command=text)
        said = f"{complaints.strip()}\n{output.strip()}".strip()
        if done.returncode == _MISSING:
            what = f"{self.host}: {command[0]}: there is no such command"
            raise MissingCommandError(f"{what}; is the NVIDIA host driver (VIB) installed?", host=self.host, command=text)
        raise CommandError(
            f"{self.host}: {text}: exit status {done.returncode}: {said[:_MOST_SAID] or 'it says nothing'}",
            host=self.host,
            command=text,
            status=done.returncode,
            output=said,
        )

    def _options(self, log: Path) -> list[str]:
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": self.host,
            "CheckHostIP": "no",
            "UpdateHostKeys": "no",
            "VerifyHostKeyDNS": "no",
            "PreferredAuthentications": "publickey",
            "ConnectTimeout": str(self.connect_timeout_s),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "ControlPath": "none",
            "PermitLocalCommand": "no",
            "RequestTTY": "no",
            "EscapeChar": "none",
            "LogLevel": "ERROR",
        }
        if self.identity_file is not None:
            options |= {"IdentityFile": _quoted(self.identity_file), "IdentitiesOnly": "yes", "IdentityAgent": "none"}
        pairs = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["-F", "none", "-E", str(log), *pairs, "-p", str(self.port), "-l", self.user]

    def _no_connection(self, said: str, command: str) -> ShellError:
        last = said.splitlines()[-1].strip().rstrip(".")
        if "HOST IDENTIFICATION HAS CHANGED" in said:
            what = f"{self.host}: shows another host key than the one pinned in {self.known_hosts}; nothing was sent"
            return HostKeyError(f"{what}. Do not go on until you know why", host=self.host, command=command)
        if "Host key verification failed" in said or "host key is known" in said:
            what = f"{self.host}: no host key that it shows is pinned in {self.known_hosts}; {self._advice()}"
            return HostKeyError(what, host=self.host, command=command)
        if "Permission denied" in said:
            key = f"the key {self.identity_file}" if self.identity_file else "any key of the ssh-agent"
            what = f"{self.host}: user {self.user} with {key} is not accepted"
            advice = "put its public half into /etc/ssh/keys-root/authorized_keys of the host, or name another key"
            return AccessError(f"{what}: {last}; {advice}", host=self.host, command=command)
        advice = "check address and port, and that the service TSM-SSH of the host is started"
        return UnreachableError(f"{self.host}: no connection by SSH: {last}; {advice}", host=self.host, command=command)

    def _advice(self) -> str:
        return (
            f"compare what 'ssh-keyscan {self.address or self.host}' shows with the host's own console, and write it there with"
            f" {self.host} as its name"
        )


@dataclass(frozen=True, slots=True)
class SshAccess:
    """How the shells of all hosts are reached.

    Parameters
    ----------
    known_hosts : file with the pinned keys of all of them, under their names in vCenter.
    user, identity_file, port, connect_timeout_s, timeout_s : as of `Ssh`.
    addresses : of hosts that do not listen under their names in vCenter, (address, port).
    """

    known_hosts: Path
    user: str = "root"
    identity_file: Path | None = None
    port: int = 22
    connect_timeout_s: int = 15
    timeout_s: float = 120.0
    addresses: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def shell(self, host: str) -> Ssh:
        """Return the shell of a host; nothing is connected yet.

        Raises
        ------
        SpecError
            A name cannot be used.
        """
        address, port = self.addresses.get(host, (host, self.port))
        return Ssh(
            host,
            self.known_hosts,
            address=address,
            port=port,
            user=self.user,
            identity_file=self.identity_file,
            connect_timeout_s=self.connect_timeout_s,
            timeout_s=self.timeout_s,
        )


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace("%", "%%") + '"'


def _environment() -> dict[str, str]:
    """Return what the client may see: no passwords of ours, and messages in English."""
    kept: Sequence[str] = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
