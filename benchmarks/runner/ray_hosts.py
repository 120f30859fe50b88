"""Many hosts through Ray: each agent is an actor beside its server and its load generator. The only importer of Ray.

An agent that is lost with its process or its node is never made again somewhere else: the loss is a `BenchmarkError` that
names the host, so that it fails one instance and not the run. Knows no scenarios and no results.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.load.values import Load
from benchmarks.runner.agent import Agent, AgentTask, Outcome, Prepared
from benchmarks.runner.hosts import Handle
from partitioner.errors import PartitionerError, SpecError, did_you_mean

_CONNECT_S = 10.0  # for the head's port to take a connection
_FIRST_S = 90.0  # for a node's first process: it imports what is needed
_CALL_S = 20.0  # for an answer that needs no work
_BRING_S = 180.0  # for the log of a run, which may be large
_MARGIN_S = 90.0  # beside what starting a server may take, e.g. writing the graph of its model
_STOP_S = 45.0  # for a load generator and a server to end, which are killed before that
_CALLS = 8  # of one agent at the same time: it answers and can be stopped while it starts something
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}
"""Settings that Ray reads when it is imported: reports to nobody, and nothing on standard output, where results may go; what
Ray would print there of dead nodes is said by `HostError`."""


class HostError(BenchmarkError):
    """A host is lost, or an agent on it: it died, hangs, or cannot be reached."""


@dataclass(slots=True)
class _Node:
    """A node of the cluster.

    Parameters
    ----------
    identifier : Ray's.
    label : what it is called in results.
    names : all by which it may be asked for.
    cpus : that Ray knows of.
    alive : as Ray saw it last.
    text : what it is, as one line; empty until it was looked at.
    agents : those that are on it now.
    """

    identifier: str
    label: str
    names: tuple[str, ...]
    cpus: float
    alive: bool
    text: str = ""
    agents: list[_RayHandle] = field(default_factory=list)


class RayHosts:
    """The nodes of a Ray cluster that exists.

    An instance whose host is named goes to that node, by its Ray name, host name, address or Ray's identifier; others are spread
    by the number of CPUs. The connection that this process has already is used, whatever `address` says; one that is
    made here is ended by `close`.

    Parameters
    ----------
    address : ``host:6379`` from one of the nodes, ``ray://host:10001`` from anywhere; None or ``auto``: the cluster that
        RAY_ADDRESS names, or that runs on this machine.

    Raises
    ------
    BenchmarkError
        Ray is not installed, or no cluster answers there.

    Notes
    -----
    The loss of the head is the loss of the cluster: without its ``ray://`` Ray ends the process that is connected to it. Agents,
    load generators and servers end with it, and with this process too, whatever ends it.
    """

    def __init__(self, address: str | None = None) -> None:
        self._ray = _import_ray()
        self._ours = not self._ray.is_initialized()
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        if self._ours:
            _connect(self._ray, address or "auto")

    def place(self, task: AgentTask, *, host: str | None = None) -> Handle:
        """Return an agent on a node by name, on the one with the most room where it is None.

        An agent for a node that was lost since it was used first is placed too: it fails in `prepare`, so that the other
        instances of a scenario are measured in all repeats.

        Parameters
        ----------
        task : what it is for.
        host : name of the node.

        Raises
        ------
        SpecError
            No node has this name.
        BenchmarkError
            No node is alive, or this one cannot run agents: gpu-partitioner is missing there, or of another version.
        """
        with self._lock:
            self._look()
            node = self._choose(task.name, host)
            if not node.alive:
                handle = _RayHandle(self._ray, None, node, task)
            else:
                self._examine(node)
                handle = _RayHandle(self._ray, self._actor(node, task), node, task)
            node.agents.append(handle)
            return handle

    def describe(self) -> Mapping[str, str]:
        """Return each node that has agents now as one line, all nodes that are alive where none has.

        Raises
        ------
        BenchmarkError
            A node that was not looked at before does not answer.
        """
        with self._lock:
            used = [node for node in self._nodes.values() if node.agents]
            if not used:
                self._look()
                used = [node for node in self._nodes.values() if node.alive]
                for node in used:
                    self._examine(node)
            return {node.label: node.text for node in sorted(used, key=lambda node: node.label)}

    def close(self) -> None:
        """End all agents that are left, and the connection where it was made here."""
        for handle in [handle for node in self._nodes.values() for handle in node.agents]:
            with contextlib.suppress(BenchmarkError):
                handle.stop()
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()

    def _look(self) -> None:
        """Read which nodes there are, and which of them are alive."""
        with _losses("the head of the Ray cluster", "list its nodes"):
            rows = self._ray.nodes()
        shared = [row["NodeManagerHostname"] for row in rows if row["Alive"]]
        for row in rows:
            known = self._nodes.get(row["NodeID"])
            if known is not None:
                known.alive = row["Alive"]
            elif row["Alive"]:
                self._nodes[row["NodeID"]] = _node(row, alone=shared.count(row["NodeManagerHostname"]) == 1)

    def _choose(self, who: str, host: str | None) -> _Node:
        alive = [node for node in self._nodes.values() if node.alive]
        if host is None:
            if not alive:
                raise BenchmarkError(f"{who} - no node of the Ray cluster is alive; start one: ray start --address=<head>:6379")
            return min([node for node in alive if node.cpus] or alive, key=_crowd)
        named = [node for node in self._nodes.values() if host in node.names]
        if not named:
            names = sorted({node.label for node in alive})
            right = did_you_mean(host, names) or f"there are {', '.join(names)}"
            raise SpecError(f"{who} - host {host!r} is no node of the Ray cluster; {right}")
        return min([node for node in named if node.alive] or named, key=_crowd)

    def _examine(self, node: _Node) -> None:
        """Check once that a node can run agents, and learn what it is."""
        if node.text:
            return
        look = self._ray.remote(num_cpus=0, max_retries=0)(_look_around()).options(**self._on(node))
        found: dict[str, str] = _answer(self._ray, look.remote, _FIRST_S, f"host {node.label}", "start a process")
        ours, theirs = version("gpu-partitioner"), found.get("version")
        if theirs is None:
            raise BenchmarkError(
                f"host {node.label} - gpu-partitioner cannot be imported there ({found['problem']});"
                f" pip install 'gpu-partitioner[bench,ray]=={ours}' into the Python of its Ray, {found['python']}"
            )
        if theirs != ours:
            raise BenchmarkError(
                f"host {node.label} - has gpu-partitioner {theirs}, here is {ours}; install the same into {found['python']}"
            )
        node.text = found["text"]

    def _actor(self, node: _Node, task: AgentTask) -> Any:
        kind = self._ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=_CALLS)(_Resident)
        with _losses(f"host {node.label}", "make an agent"):
            return kind.options(**self._on(node)).remote(task)

    def _on(self, node: _Node) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node.identifier, soft=False)}


class _Resident(Agent):
    """An agent in a process of Ray, from which its children inherit nothing that slows them down."""

    def __init__(self, task: AgentTask) -> None:
        with contextlib.suppress(PermissionError):  # without it: ray start with RAY_worker_niceness=0
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        super().__init__(task)

    def start(self) -> dict[str, str]:
        _all_threads()
        return super().start()

    def prepare(self, load: Load, warmup_s: float) -> Prepared:
        _all_threads()
        return super().prepare(load, warmup_s)


def _all_threads() -> None:
    """Take away the limit of one thread that Ray sets in every call of an actor without CPUs of its own."""
    os.environ.pop("OMP_NUM_THREADS", None)


class _RayHandle:
    """An agent on a node; every call ends in time, with an answer or with an error that names the host.

    Once it is lost it stays lost: later calls raise the same at once. A loss in `start` is kept for `prepare`, which is where
    it fails the one instance.
    """

    def __init__(self, ray: Any, actor: Any, node: _Node, task: AgentTask) -> None:
        self.host = node.label
        self._ray, self._actor, self._node, self._task = ray, actor, node, task
        self._who = f"{task.name} on host {node.label}"
        self._lost: HostError | None = None
        if actor is None:
            self._lost = HostError(
                f"{self._who} - its node was lost; bring it back (ray start --address=<head>:6379), and resume"
            )
        self._stopping = threading.Lock()

    def start(self) -> dict[str, str]:
        server_s = 0.0 if self._task.server is None else self._task.server.timeout_s
        try:
            facts: dict[str, str] = self._call("start", server_s + _FIRST_S + _MARGIN_S)
        except HostError:
            return {}
        return facts

    def prepare(self, load: Load, warmup_s: float) -> Prepared:
        prepared: Prepared = self._call("prepare", _BRING_S + warmup_s, load, warmup_s)
        return prepared

    def clock(self) -> float:
        return float(self._call("clock", _CALL_S))

    def begin(self, at_s: float) -> None:
        self._call("begin", _CALL_S, at_s)

    def poll(self) -> tuple[int, bool]:
        samples, over = self._call("poll", _CALL_S)
        return samples, over

    def outcome(self) -> Outcome:
        outcome: Outcome = self._call("outcome", _BRING_S)
        return outcome

    def server_died(self) -> str | None:
        died: str | None = self._call("server_died", _CALL_S)
        return died

    def logs(self) -> dict[str, bytes]:
        logs: dict[str, bytes] = self._call("logs", _BRING_S)
        return logs

    def stop(self) -> None:
        with self._stopping:
            if self not in self._node.agents:
                return
            try:
                if self._lost is None:
                    self._call("stop", _STOP_S)
            finally:  # what the agent left behind ends with it: pipes tie it to its process
                self._node.agents.remove(self)
                if self._actor is not None:
                    with contextlib.suppress(Exception):  # a cluster that is gone has killed it already
                        self._ray.kill(self._actor)

    def _call(self, method: str, longest_s: float, *arguments: Any) -> Any:
        if self._lost is not None:
            raise HostError(str(self._lost)) from self._lost
        try:
            return _answer(self._ray, lambda: getattr(self._actor, method).remote(*arguments), longest_s, self._who, method)
        except HostError as error:
            self._lost = error
            raise


def _answer(ray: Any, ask: Callable[[], Any], longest_s: float, who: str, what: str) -> Any:
    """Return what Ray brings back; raise our own errors as they were raised there, and the loss of a host as `HostError`."""
    from ray.exceptions import GetTimeoutError, RayTaskError

    with _losses(who, what):
        try:
            return ray.get(ask(), timeout=longest_s)
        except GetTimeoutError as error:
            raise HostError(
                f"{who} - no answer to {what!r} in {longest_s:g} s; the host hangs or its network is cut: look at it, and resume"
            ) from error
        except RayTaskError as error:
            if isinstance(error.cause, PartitionerError):
                raise error.cause from error
            raise BenchmarkError(f"{who} - {what!r} failed: {type(error.cause).__name__}: {error.cause}") from error


@contextlib.contextmanager
def _losses(who: str, what: str) -> Iterator[None]:
    """Turn what Ray raises when something of it is gone into `HostError`."""
    from ray.exceptions import ActorDiedError, NodeDiedError, RayError

    try:
        yield
    except PartitionerError:
        raise
    except (ActorDiedError, NodeDiedError) as error:
        if isinstance(error, ActorDiedError) and error.actor_init_failed:
            raise BenchmarkError(f"{who} - the agent cannot be made: {_last_line(error)}") from error
        raise HostError(
            f"{who} - it was lost: the agent's process or its node died. Look at the host (out of memory, ray status), and resume"
        ) from error
    except (RayError, ConnectionError, RuntimeError) as error:
        raise HostError(
            f"{who} - {what!r} failed: {type(error).__name__}: {_last_line(error)}; look at the host, and resume"
        ) from error


def _last_line(error: Exception) -> str:
    """Return where an error comes from: texts of Ray begin with the outermost one."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


def _look_around() -> Callable[[], dict[str, str]]:
    """Return a function that Ray sends as a whole, so that it also runs where this package is missing."""

    def look() -> dict[str, str]:
        import sys

        try:
            from importlib.metadata import version

            from benchmarks.runner.hosts import describe_host

            return {"python": sys.executable, "version": version("gpu-partitioner"), "text": describe_host()}
        except ImportError as error:
            return {"python": sys.executable, "problem": str(error)}

    return look


def _node(row: Mapping[str, Any], *, alone: bool) -> _Node:
    """Return a node from Ray's list; its label is the name it was given, else that of its host."""
    address, host, given = row["NodeManagerAddress"], row["NodeManagerHostname"], row.get("NodeName") or ""
    label = given if given and given != address else host if alone else f"{host}-{row['NodeID'][:8]}"
    return _Node(row["NodeID"], label, (label, given, host, address, row["NodeID"]), row["Resources"].get("CPU", 0.0), alive=True)


def _crowd(node: _Node) -> float:
    return (len(node.agents) + 1) / (node.cpus or 1)


def _import_ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise BenchmarkError(
            f"Ray cannot be imported ({error}), which runs over many hosts need; pip install 'gpu-partitioner[bench,ray]'"
        ) from error
    return ray


def _connect(ray: Any, address: str) -> None:
    _require_listener(address)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # whatever Ray and its client raise: there is no cluster
        raise BenchmarkError(
            f"Ray cluster at {address!r} - cannot be used: {type(error).__name__}: {_last_line(error)}; start one with `ray start --head`,"
            " with the same versions of Python and Ray as here, and give its address"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)  # Ray takes it for itself


def _require_listener(address: str) -> None:
    """Check that a port answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise BenchmarkError(
            f"Ray cluster at {address!r} - does not answer: {error}; start its head (`ray start --head`), or correct the address"
        ) from error
