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
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.runner.agent import AgentTask
from benchmarks.runner.hosts import Handle
from benchmarks.runner.ray_agents import FIRST_S, Node, RayHandle, Resident, answer, last_line, losses
from partitioner.errors import SpecError, did_you_mean

_CONNECT_S = 10.0  # for the head's port to take a connection
_CALLS = 8  # of one agent at the same time: it answers and can be stopped while it starts something
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}
"""Settings that Ray reads when it is imported: reports to nobody, and nothing on standard output, where results may go; what
Ray would print there of dead nodes is said by `HostError`."""


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
    SpecError
        The address is none.
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
        self._nodes: dict[str, Node] = {}
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
                handle = RayHandle(self._ray, None, node, task)
            else:
                self._examine(node)
                handle = RayHandle(self._ray, self._actor(node, task), node, task)
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
        with losses(self._ray, "the head of the Ray cluster", "list its nodes"):
            rows = self._ray.nodes()
        shared = [row["NodeManagerHostname"] for row in rows if row["Alive"]]
        for node in self._nodes.values():
            node.alive = False
        for row in rows:
            known = self._nodes.get(row["NodeID"])
            if known is not None:
                known.alive = row["Alive"]
            elif row["Alive"]:
                self._nodes[row["NodeID"]] = _node(row, alone=shared.count(row["NodeManagerHostname"]) == 1)

    def _choose(self, who: str, host: str | None) -> Node:
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

    def _examine(self, node: Node) -> None:
        """Check once that a node can run agents, and learn what it is."""
        if node.text:
            return
        look = self._ray.remote(num_cpus=0, max_retries=0)(_look_around()).options(**self._on(node))
        found: dict[str, str] = answer(self._ray, look.remote, FIRST_S, f"host {node.label}", "start a process")
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

    def _actor(self, node: Node, task: AgentTask) -> Any:
        kind = self._ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=_CALLS)(Resident)
        with losses(self._ray, f"host {node.label}", "make an agent"):
            return kind.options(**self._on(node)).remote(task)

    def _on(self, node: Node) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node.identifier, soft=False)}


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


def _node(row: Mapping[str, Any], *, alone: bool) -> Node:
    """Return a node from Ray's list; its label is the name it was given, else that of its host."""
    address, host, given = row["NodeManagerAddress"], row["NodeManagerHostname"], row.get("NodeName") or ""
    label = given if given and given != address else host if alone else f"{host}-{row['NodeID'][:8]}"
    return Node(row["NodeID"], label, (label, given, host, address, row["NodeID"]), row["Resources"].get("CPU", 0.0), alive=True)


def _crowd(node: Node) -> float:
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
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise BenchmarkError(
            f"Ray cluster at {address!r} - cannot be used: {type(error).__name__}: {last_line(error)}; start one with"
            " `ray start --head`, with the same versions of Python and Ray as here, and give its address"
        ) from error
    finally:
        if terminated is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)  # Ray takes it for itself


def _require_listener(address: str) -> None:
    """Check that a port answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if ":" not in address:  # auto
        return
    if not host or not port.isdecimal():
        raise SpecError(f"Ray cluster at {address!r} - that is no address; right would be auto, host:6379 or ray://host:10001")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise BenchmarkError(
            f"Ray cluster at {address!r} - does not answer: {error}; start its head (`ray start --head`), or correct the address"
        ) from error
