"""The agent of one instance: its server, and for every repeat the process that loads it. It runs on the instance's host.

Knows one instance, no scenario and no other hosts; everything that it is given and returns can be sent between hosts.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError, LoadGeneratorError
from benchmarks.load.log import RequestLog
from benchmarks.load.values import Load
from benchmarks.models.model import BenchModel, echo_of
from benchmarks.runner.generator import LoadGenerator
from benchmarks.servers import Server, ServerTask, server_for
from benchmarks.servers.cores import cores_of_share, split_cores, threads_for, usable_cores
from benchmarks.servers.scratch import Scratch
from benchmarks.worker.session import load_log
from benchmarks.worker.tasks import SystemTask, WorkerTask

_LOG_LINES = 500  # of a server's log that are kept with a repeat
_READY_S = 120.0  # for a load generator to connect, beside its warm-up


@dataclass(frozen=True, slots=True)
class AgentTask:
    """What an agent is made for.

    Parameters
    ----------
    name : of the instance.
    server : which server to start or to find; None: the model runs in the load generator.
    system : kind of the system that the load generator opens, ``triton``, ``onnxruntime`` or ``torch``.
    model : what is run.
    engine : ``asyncio`` or ``loadgen``.
    cpu_slice : where the slice of the host's CPU begins that stands in for the instance, and how large it is, as shares;
        None: the instance is on a GPU.
    environment : variables of the load generator's process, e.g. CUDA_VISIBLE_DEVICES for a model in the process.
    shared_memory : as of `SystemTask`.
    echo : whether the server has the echo twin of the model.
    """

    name: str
    server: ServerTask | None
    system: str
    model: BenchModel
    engine: str
    cpu_slice: tuple[float, float] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    shared_memory: bool | None = None
    echo: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A load generator that waits for the start.

    Parameters
    ----------
    facts : of the server, by name.
    warm_per_s : samples a second in the warm-up [1/s].
    ceiling_per_s : samples a second of the echo model [1/s]; None where there is none.
    """

    facts: Mapping[str, str]
    warm_per_s: float
    ceiling_per_s: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load generator brought back.

    Parameters
    ----------
    log : of its requests.
    rate_per_s : the rate that was asked for, or expected of it [1/s].
    verdict : of LoadGen: ``valid``, ``reasons``, ``advice``; None of the asyncio engine.
    in_process : whether the model ran in the load generator's process.
    """

    log: RequestLog
    rate_per_s: float | None
    verdict: Mapping[str, Any] | None
    in_process: bool = False


class Agent:
    """Server and load generators of one instance.

    Parameters
    ----------
    task : what it is for.

    Raises
    ------
    BenchmarkError
        There is no place for its temporary files.
    """

    def __init__(self, task: AgentTask) -> None:
        self.task = task
        self._server: Server | None = None
        self._worker: LoadGenerator | None = None
        try:
            self._scratch = Scratch("agent")
        except OSError as error:
            raise _no_place(task.name, error) from error
        self._stopped = False
        self._cores: tuple[int, ...] = ()  # that the model keeps to
        self._load_cores: tuple[int, ...] = ()
        if task.cpu_slice is not None:
            split = split_cores(usable_cores())
            self._cores, self._load_cores = cores_of_share(split.servers, *task.cpu_slice), split.load

    def start(self) -> dict[str, str]:
        """Start the server and wait until it serves the model; return what is known of it.

        Raises
        ------
        ServerError
            It does not start, or does not serve the model.
        """
        if self.task.server is None:
            return {}
        self._server = server_for(
            replace(self.task.server, cores=self._cores, threads=threads_for(self._cores)) if self._cores else self.task.server
        )
        if not self._stopped:
            self._server.start()
        if self._stopped:  # while it was starting
            self._server.stop()
        return self._facts()

    def prepare(self, load: Load, warmup_s: float) -> Prepared:
        """Start a load generator, let it warm the system up, and return when it waits for the start.

        Raises
        ------
        BenchmarkError
            It cannot be started, or its requests fail.
        """
        self._end_worker()
        try:
            folder = Path(tempfile.mkdtemp(dir=self._scratch.path))
        except OSError as error:
            raise _no_place(self.task.name, error) from error
        task = self.task
        source = SystemTask(
            kind=task.system,
            model=task.model,
            address="" if self._server is None else self._server.address,
            threads=threads_for(self._cores) if self._cores else 0,
            shared_memory=task.shared_memory,
        )
        echo = echo_of(task.model) if task.echo else None
        cores = self._cores if task.server is None else self._load_cores
        orders = WorkerTask(source, load, task.engine, warmup_s, str(folder), echo, cores)
        self._worker = LoadGenerator(task.name, orders, task.environment)
        if self._stopped:  # while it was starting
            self._end_worker()
            raise LoadGeneratorError(f"{task.name}: the load generator was stopped before it was ready")
        ready = self._worker.ready(_READY_S + warmup_s)
        facts = {**ready["facts"], **self._facts()}  # what the server is known to be counts more than what it calls itself
        return Prepared(facts, ready["warm_per_s"], ready["ceiling_per_s"])

    def clock(self) -> float:
        """Return the time of this host [s]."""
        return time.monotonic()

    def begin(self, at_s: float) -> None:
        """Let the load generator begin at a time of this host [s]."""
        self._require_worker().begin(at_s)

    def poll(self) -> tuple[int, bool]:
        """Return the samples done so far, and whether the run is over, one way or the other."""
        worker = self._require_worker()
        return worker.samples, worker.over

    def outcome(self) -> Outcome:
        """Return what was measured, once the run is over.

        Raises
        ------
        BenchmarkError
            The load generator failed; the message says why.
        """
        worker = self._require_worker()
        done = worker.done()
        failures = tuple((str(text), int(count)) for text, count in done["failures"])
        log = load_log(Path(worker.task.folder) / "requests.npz", failures)
        return Outcome(log, done["load"]["rate_per_s"], done["verdict"], in_process=self.task.server is None)

    def _facts(self) -> dict[str, str]:
        return {} if self._server is None else dict(self._server.facts)

    def server_died(self) -> str | None:
        """Return what became of the server where it no longer runs, and what to do; None where it does."""
        return None if self._server is None or self._server.alive else self._server.why_ended()

    def logs(self) -> dict[str, bytes]:
        """Return the logs of LoadGen and of the load generator of the last run, and the server's last, by name of the file."""
        if self._worker is None:
            return {}
        said = "\n".join(() if self._server is None else self._server.log_tail(_LOG_LINES))
        server = {"server.txt": f"{said}\n".encode()} if said else {}
        names = (path for path in sorted(Path(self._worker.task.folder).iterdir()) if path.suffix in (".txt", ".json"))
        return server | {path.name: path.read_bytes() for path in names if path.stat().st_size}

    def stop(self) -> None:
        """End the load generator and the server; nothing is left of either."""
        self._stopped = True
        self._end_worker()
        if self._server is not None:
            self._server.stop()
        self._scratch.remove()

    def _require_worker(self) -> LoadGenerator:
        if self._worker is None:
            raise LoadGeneratorError(f"{self.task.name}: no load generator was prepared")
        return self._worker

    def _end_worker(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.end()
            shutil.rmtree(worker.task.folder, ignore_errors=True)


def _no_place(name: str, error: OSError) -> BenchmarkError:
    why = error.strerror or str(error)
    return BenchmarkError(f"{name}: no temporary folder can be made: {why}; make room, or set TMPDIR to a folder with room")
