"""An emulated server of our own: its process under a guard. It infers nothing, and its facts say so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from benchmarks.errors import ServerError
from benchmarks.servers.emulated import command
from benchmarks.servers.emulated_device import LABEL, EmulatedDevice
from benchmarks.servers.guarded import ended
from benchmarks.servers.own import OwnProcess
from benchmarks.servers.values import ServerTask

_HOST = "127.0.0.1"
_LOOK_S = 0.02
_GRACE_S = 3.0


class EmulatedServer:
    """A server that takes the time the calibration says.

    Parameters
    ----------
    task : what it is to emulate.
    """

    def __init__(self, task: ServerTask) -> None:
        self.task = task
        self.device = EmulatedDevice.from_json(json.dumps(task.emulation))
        self._who = f"emulated server of {task.name}"
        self._process = OwnProcess(self._who, task.folder)
        self._port = 0

    @property
    def address(self) -> str:
        """Host and port of its gRPC."""
        return f"{_HOST}:{self._port}"

    @property
    def facts(self) -> Mapping[str, str]:
        """What it emulates, and that it does no more than that."""
        return {"server": LABEL, "emulates": self.device.name, "service_times": self.device.source}

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.alive

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of what it said, oldest first."""
        return self._process.log_tail(lines)

    def why_ended(self) -> str:
        """Return how it ended; empty while it runs, and before."""
        status = self._process.status
        return "" if status is None else f"{self._who} - {ended(status)}"

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises
        ------
        ServerError
            It does not.
        """
        with self._process.starting():
            self._begin(time.monotonic() + self.task.timeout_s)

    def stop(self) -> None:
        """End it."""
        self._process.stop()

    def _begin(self, deadline: float) -> None:
        self._process.launch(
            command(self.device, port=self.task.grpc_port or 0, host=_HOST),
            log=self._process.make_folder() / "emulated.log",
            environment=os.environ,
            cores=self.task.cores,
            grace_s=_GRACE_S,
        )
        while not (port := self._said_port()):
            status = self._process.status
            if status is not None:
                raise ServerError(f"{self._who} - {ended(status)} before it was ready", self.log_tail())
            if time.monotonic() >= deadline:
                raise ServerError(
                    f"{self._who} - is not ready after {self.task.timeout_s:g} s; give more with timeout_s=", self.log_tail()
                )
            self._process.require_wanted()
            time.sleep(_LOOK_S)
        self._port = port

    def _said_port(self) -> int:
        """Return the port of the line that it writes when it is ready; 0 before."""
        for line in self.log_tail(5):
            if line.startswith("{") and line.endswith("}"):
                return int(json.loads(line)["port"])
        return 0
