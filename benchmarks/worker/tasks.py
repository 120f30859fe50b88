"""What a load generator is told, as values and as JSON. Knows no processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from benchmarks.load.values import Load, Rules
from benchmarks.models.model import BenchModel


@dataclass(frozen=True, slots=True)
class SystemTask:
    """Which system to open.

    Parameters
    ----------
    kind : ``triton``: a server at `address`; ``onnxruntime``, ``torch``: in the process itself.
    model : what is asked of it.
    address : host and port of the server.
    threads : of the systems in the process; 0: as many as suit the cores.
    shared_memory : whether inputs go through shared memory; None: where that is faster.
    n_samples : different inputs that are sent in turn.
    """

    kind: str
    model: BenchModel
    address: str = ""
    threads: int = 0
    shared_memory: bool | None = None
    n_samples: int = 64


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """One run of one instance.

    Parameters
    ----------
    system : what answers.
    load : what is asked of it.
    engine : ``asyncio`` or ``loadgen``.
    warmup_s : how long the system is warmed up before [s].
    echo : model of the same server that answers without work, to measure what the generator can do; None: there is none.
    cores : CPUs that the process keeps to; empty: any.
    folder : where the log of the requests, and LoadGen's own, are written.
    """

    system: SystemTask
    load: Load
    engine: str
    warmup_s: float
    folder: str
    echo: BenchModel | None = None
    cores: tuple[int, ...] = field(default=())

    def to_json(self) -> str:
        """Return the task as one line of JSON."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> WorkerTask:
        """Return the task that a line of JSON says."""
        data = json.loads(text)
        return WorkerTask(
            system=SystemTask(**data["system"] | {"model": BenchModel.from_data(data["system"]["model"])}),
            load=Load(**data["load"] | {"rules": Rules(**data["load"]["rules"])}),
            engine=data["engine"],
            warmup_s=data["warmup_s"],
            folder=data["folder"],
            echo=None if data["echo"] is None else BenchModel.from_data(data["echo"]),
            cores=tuple(data["cores"]),
        )
