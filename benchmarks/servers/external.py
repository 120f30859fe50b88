"""A server that runs already, in a VM or on another host, known by its address. Looked at, never started and never stopped."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from benchmarks.errors import ServerError
from benchmarks.servers.health import is_ready
from benchmarks.servers.ports import split_address
from benchmarks.servers.values import ServerTask

_CONNECT_S = 3.0
_LOOK_S = 0.2


class ExternalServer:
    """A server that runs already.

    Parameters
    ----------
    task : its addresses, and the model that it has to serve.

    Raises
    ------
    ServerError
        An address is none.
    """

    def __init__(self, task: ServerTask) -> None:
        assert task.address is not None
        self.task = task
        self._who = f"server of {task.name} at {task.address}"
        self._grpc = split_address(task.address, who=self._who)
        self._http = split_address(task.http_address, who=self._who) if task.http_address else None

    @property
    def address(self) -> str:
        """Host and port of its gRPC."""
        assert self.task.address is not None
        return self.task.address

    @property
    def facts(self) -> Mapping[str, str]:
        """Where it is; the rest is asked of it by the one who measures."""
        return {"server": "external", "address": self.address}

    @property
    def alive(self) -> bool:
        """Whether its port takes connections."""
        return not self._refusal()

    def start(self) -> None:
        """Wait until it answers; its model is looked at where the address of its HTTP is known.

        Raises
        ------
        ServerError
            It does not answer in time, or does not serve the model.
        """
        deadline = time.monotonic() + self.task.timeout_s
        missing = self._missing()
        while missing and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            missing = self._missing()
        if missing:
            raise ServerError(f"{self._who} - {missing} after {self.task.timeout_s:g} s; start it, or correct the address")

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:  # noqa: ARG002 - its log is not ours
        """Return nothing."""
        return ()

    def why_ended(self) -> str:
        """Return what can be seen from here."""
        refusal = self._refusal()
        return f"{self._who} - {refusal}; look at it there" if refusal else ""

    def stop(self) -> None:
        """Leave it running."""

    def _refusal(self) -> str:
        """Return why its port takes no connections; empty where it does."""
        try:
            with socket.create_connection(self._grpc, timeout=_CONNECT_S):
                return ""
        except OSError as error:
            return f"takes no connections ({error.strerror or error})"

    def _missing(self) -> str:
        if refusal := self._refusal():
            return refusal
        if self._http and not is_ready(*self._http):
            return f"is not ready by its HTTP at {self.task.http_address}"
        if self._http and not is_ready(*self._http, self.task.model.name):
            return f"does not serve model {self.task.model.name!r}"
        return ""
