"""One tritonserver for one instance: started under a guard, ready when `start` returns, gone when `stop` does.

Knows when Triton is ready and why it is not; sends no inference requests.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from benchmarks.errors import ServerError
from benchmarks.models.graphs import graph_file
from benchmarks.models.model import echo_of
from benchmarks.servers import shared
from benchmarks.servers.command import HOST, Ports, backends_of, command_line, environment
from benchmarks.servers.cores import cores_beside, threads_for, usable_cores
from benchmarks.servers.find import Tritonserver, find_tritonserver
from benchmarks.servers.health import is_ready, server_name
from benchmarks.servers.own import OwnProcess
from benchmarks.servers.ports import free_ports, require_free
from benchmarks.servers.reasons import Reason, reason
from benchmarks.servers.repository import Serving, check_repository, write_repository
from benchmarks.servers.values import ServerTask
from benchmarks.servers.visible import bus_id_of

_ATTEMPTS = 4  # with new ports each, where another program took one meanwhile
_LOOK_S = 0.03
_GRACE_S = 8.0
_FACTS = re.compile(r"gpu-partitioner facts (\{.*\})\"?$", re.MULTILINE)


class TritonServer:
    """A tritonserver of our own.

    Parameters
    ----------
    task : what it is to serve, and where.
    program : the tritonserver; None: the one of the task, or the one that is found.
    """

    def __init__(self, task: ServerTask, *, program: Tritonserver | None = None) -> None:
        self.task = task
        self._who = f"tritonserver of {task.name}"
        self._program = program
        self._cores: tuple[int, ...] = task.cores
        self._models = [task.model.name]
        if task.echo and task.repository is None and not task.model.echoes:
            self._models.append(echo_of(task.model).name)
        self._ports = Ports(0, 0)
        self._process = OwnProcess(self._who, task.folder)
        self._told: dict[str, str] = {}

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Host and port of its gRPC."""
        return f"{HOST}:{self._ports.grpc}"

    @property
    def http_address(self) -> str:
        """Host and port of its HTTP."""
        return f"{HOST}:{self._ports.http}"

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.alive

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known of it: device, cores, copies of the model, and what the model's program says it runs on."""
        known = {
            "server": "tritonserver",
            "cuda_visible_devices": self.task.cuda_visible_devices or "",
            "cores": ",".join(map(str, self._cores or usable_cores())),
            "processes": str(self.task.processes),
        }
        return known | self._told

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of what it said, oldest first."""
        return self._process.log_tail(lines)

    def why_ended(self) -> str:
        """Return why it does not run, and what to do; empty while it does, and before it was started."""
        return "" if self._process.status is None else f"{self._who} - {self._why().text}"

    # -- starting and stopping ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it serves the model.

        Raises
        ------
        ServerError
            There is no tritonserver, a port is taken, the model is missing or does not load, the GPU is gone, memory ran out,
            or it takes too long.
        """
        with self._process.starting():
            self._begin(time.monotonic() + self.task.timeout_s)

    def stop(self) -> None:
        """End it; nothing is left of it but its log, where the task named a folder."""
        self._process.stop()

    def _begin(self, deadline: float) -> None:
        program = self._program or find_tritonserver(self.task.program)
        device = self.task.cuda_visible_devices
        bus_id = None if device is None else bus_id_of(device, who=self._who)
        if bus_id and not self._cores:
            self._cores = cores_beside(bus_id)
        folder = self._process.make_folder()
        repository = self._repository(folder, program)
        backends = backends_of(program, folder)
        shared.remove_stale()
        for attempt in range(1, _ATTEMPTS + 1):
            identity, prefix = f"{self.task.name}-{secrets.token_hex(6)}", shared.new_prefix()
            self._ports = self._choose_ports()
            command = command_line(
                program,
                identity=identity,
                repository=repository,
                models=self._models,
                complete=self.task.repository is None,
                backends=backends,
                ports=self._ports,
                shared=prefix,
            )
            self._process.launch(
                command,
                log=folder / "tritonserver.log",
                environment=environment(program, device),
                cores=self._cores,
                grace_s=_GRACE_S,
                shared=prefix,
            )
            if version := self._wait(identity, deadline):
                self._told = {"triton": version} | _told(self._process.log_text())
                return
            why = self._why()
            if not why.port_taken or attempt == _ATTEMPTS or self.task.grpc_port or self.task.http_port:
                raise ServerError(f"{self._who} - {why.text}", self.log_tail())

    def _wait(self, identity: str, deadline: float) -> str:
        """Wait until the server serves and return its version; empty where it ended or the time is over."""
        while self.alive and time.monotonic() < deadline:
            name, version = server_name(HOST, self._ports.http) or ("", "")
            if name == identity and all(is_ready(HOST, self._ports.http, model) for model in self._models):
                return version
            self._process.require_wanted()
            time.sleep(_LOOK_S)
        self._process.require_wanted()
        return ""

    def _why(self) -> Reason:
        log, status = self._process.log_text(), self._process.status
        why = reason(log, status, device=self.task.cuda_visible_devices)
        if status is None:
            return Reason(f"{why.text} after {self.task.timeout_s:g} s; give more with timeout_s= where it is only slow")
        return why

    # -- what it is started with -------------------------------------------------------------------------------------

    def _repository(self, folder: Path, program: Tritonserver) -> Path:
        task = self.task
        if task.repository is not None:
            check_repository(Path(task.repository), task.model.name)
            return Path(task.repository).resolve()
        graphs = {task.model: None if task.model.echoes else graph_file(task.model)}
        if task.echo:
            graphs[echo_of(task.model)] = None
        threads = task.threads or threads_for(self._cores or usable_cores(), task.processes)
        serving = Serving(task.processes, threads, on_gpu=task.cuda_visible_devices is not None)
        write_repository(folder / "repository", graphs, program=program, serving=serving)
        return folder / "repository"

    def _choose_ports(self) -> Ports:
        for port in filter(None, (self.task.grpc_port, self.task.http_port)):
            require_free(port, who=self._who)
        grpc, http = free_ports(2)
        return Ports(self.task.grpc_port or grpc, self.task.http_port or http)


def _told(log: str) -> dict[str, str]:
    """Return what the model's program says of itself; Triton logs it in quotation marks."""
    said = _FACTS.search(log)
    told = json.loads(said[1].replace('\\"', '"')) if said else {}
    return {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in told.items()}
