"""A running server: started with its settings, stopped by its pid."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from vcenter.program import build

START_S = 60.0  # long, for a machine on which much else runs
Certificate = Literal["good", "expired", "wrong-name"]


class Server:
    """What both kinds have in common: an address with TLS, a user, a password, an authority to trust.

    Attributes
    ----------
    host, port, user, password : to log in with.
    ca_file : PEM file of the authority that signed the server's certificate.
    thumbprint : SHA-256 of the server's certificate, hexadecimal.
    """

    host = "127.0.0.1"

    def __init__(self, *, user: str, password: str, api_version: str, certificate: Certificate) -> None:
        self.user, self.password = user, password
        self._settings: dict[str, Any] = {
            "user": user,
            "password": password,
            "api_version": api_version,
            "certificate": certificate,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self.port = 0
        self.control_port = 0
        self.ca_file = self.thumbprint = ""

    def start(self) -> Self:
        """Start it; it listens when this returns.

        Raises
        ------
        RuntimeError
            It ended instead; holds what it said.
        """
        program = build()
        self._folder = Path(tempfile.mkdtemp(prefix="vcenter-"))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"TMPDIR": str(self._folder), "GOGC": "200"},
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({**self._settings, "folder": str(self._folder)}).encode() + b"\n")
        self._process.stdin.flush()  # it stays open: the server ends when this process does
        line = self._process.stdout.readline()
        if not line:
            said = self.log()
            self.stop()
            raise RuntimeError(f"the server ended: {said}")
        ready = json.loads(line)
        self.port, self.control_port = int(ready["port"]), int(ready["control_port"] or 0)
        self.ca_file, self.thumbprint = ready["ca_file"], ready["thumbprint"]
        return self

    def stop(self) -> None:
        """Stop it and take its files away."""
        if self._process:
            assert self._process.stdin
            assert self._process.stdout
            self._process.terminate()
            self._process.stdin.close()
            self._process.stdout.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def log(self) -> str:
        """Return what the server wrote to its log."""
        return (self._folder / "log").read_text() if self._folder else ""

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process
        return self._process.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()


class Vcsim(Server):
    """The newest simulator of govmomi, unmodified: the independent check of the protocol.

    Parameters
    ----------
    clusters, hosts_per_cluster, standalone_hosts, datastores, vms : how many it makes (`vms` for each cluster and each
        standalone host); its names are ``DC0``, ``DC0_C0_H0``, ``DC0_H0_VM0``, ``LocalDS_0``.
    api_version : what it says it is; empty for its own.
    certificate : a good one, an ``expired`` one, or one for a ``wrong-name``.
    """

    def __init__(
        self,
        *,
        clusters: int = 1,
        hosts_per_cluster: int = 3,
        standalone_hosts: int = 1,
        datastores: int = 1,
        vms: int = 2,
        user: str = "administrator@vsphere.local",
        password: str = "P4ss&<word>",  # noqa: S107 -- of a server that lives as long as a test
        api_version: str = "8.0.3.0",
        certificate: Certificate = "good",
    ) -> None:
        super().__init__(user=user, password=password, api_version=api_version, certificate=certificate)
        self._settings["plain"] = {
            "clusters": clusters,
            "hosts_per_cluster": hosts_per_cluster,
            "standalone_hosts": standalone_hosts,
            "datastores": datastores,
            "vms": vms,
        }
