"""What a server is to those who measure it, and what is needed to start one. Knows no processes and no protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.models.model import BenchModel
from partitioner.errors import SpecError

KINDS = ("triton", "external", "emulated")
"""``triton``: a tritonserver is started; ``external``: one runs already; ``emulated``: a stand-in that infers nothing."""


@dataclass(frozen=True, slots=True)
class ServerTask:
    """Which server an instance gets. Can be sent to another host.

    Parameters
    ----------
    name : of the instance, in messages.
    kind : one of `KINDS`.
    model : what it serves.
    folder : for logs and repositories that are generated; made where it is not there. Empty: a temporary one.
    cuda_visible_devices : ``MIG-...`` or ``GPU-...``; None: no GPU, the model runs on the CPU.
    cores : CPU cores that it keeps to; empty: with a GPU those of its NUMA node, else all.
    processes : copies of the model that run at the same time.
    threads : of one inference on the CPU; None: as many as its share of the cores.
    echo : whether the echo twin of the model is served beside it.
    repository : a model repository of the user's; None: one is generated.
    program : the tritonserver; None: the one that is found.
    grpc_port, http_port : None: free ones.
    address : ``host:port`` of an external server's gRPC.
    http_address : of its HTTP, for a look at its readiness; None: it is not looked at.
    emulation : of an emulated server: its device as plain data, see `EmulatedDevice.to_json`; else empty.
    timeout_s : longest time until it is ready [s].
    """

    name: str
    kind: str
    model: BenchModel
    folder: str = ""
    cuda_visible_devices: str | None = None
    cores: tuple[int, ...] = ()
    processes: int = 1
    threads: int | None = None
    echo: bool = True
    repository: str | None = None
    program: str | None = None
    grpc_port: int | None = None
    http_port: int | None = None
    address: str | None = None
    http_address: str | None = None
    emulation: Mapping[str, object] = field(default_factory=dict, hash=False)
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(f"server of {self.name} - kind {self.kind!r} is unknown; known: {', '.join(KINDS)}")
        if self.kind == "external" and not self.address:
            raise SpecError(f"server of {self.name} - an external server needs its address; give host:port of its gRPC")
        if self.kind == "emulated" and not self.emulation:
            raise SpecError(f"server of {self.name} - an emulated server needs a device to emulate; give emulation=")
        if self.processes < 1:
            raise SpecError(f"server of {self.name} - {self.processes} processes serve nothing; give 1 or more")


class Server(Protocol):
    """A server of one instance. Ready when `start` returns; `stop` may be called at any time, from any thread, and again."""

    @property
    def address(self) -> str:
        """Host and port of its gRPC."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known of it, by name."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as can be seen."""
        ...

    def start(self) -> None:
        """Start it and wait until it serves the model.

        Raises
        ------
        ServerError
            It does not; the message says why and what to do.
        """
        ...

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of what it said, oldest first; none of a server that is not ours."""
        ...

    def why_ended(self) -> str:
        """Return why it does not run, and what to do; empty while it does."""
        ...

    def stop(self) -> None:
        """End it; nothing is left of it. A server that ran before goes on running."""
        ...
