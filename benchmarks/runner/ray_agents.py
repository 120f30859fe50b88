"""An agent in an actor of Ray, and its handle: calls that end in time, and the loss of a host as an error that names it.

Is given Ray, and does not import it: `benchmarks.runner.ray_hosts` does. Knows no cluster.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.load.values import Load
from benchmarks.runner.agent import Agent, AgentTask, Outcome, Prepared
from partitioner.errors import PartitionerError

FIRST_S = 90.0
"""Longest time for the first process on a node, which imports what is needed [s]."""
_CALL_S = 20.0  # for an answer that needs no work
_BRING_S = 180.0  # for the log of a run, which may be large
_MARGIN_S = 90.0  # beside what starting a server may take, e.g. writing the graph of its model
_STOP_S = 45.0  # for a load generator and a server to end, which are killed before that


class HostError(BenchmarkError):
    """A host is lost, or an agent on it: it died, hangs, or cannot be reached."""


@dataclass(slots=True)
class Node:
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
    agents: list[RayHandle] = field(default_factory=list)


class Resident(Agent):
    """An agent in a process of Ray, from which its children inherit nothing that slows them down."""

    def start(self) -> dict[str, str]:
        """Start the server, as `Agent.start` does."""
        _unhindered()
        return super().start()

    def prepare(self, load: Load, warmup_s: float) -> Prepared:
        """Start a load generator, as `Agent.prepare` does."""
        _unhindered()
        return super().prepare(load, warmup_s)


def _unhindered() -> None:
    """Take away what Ray puts on the calls of an actor without CPUs of its own: one thread for OpenMP, and a niceness of 15."""
    os.environ.pop("OMP_NUM_THREADS", None)
    with contextlib.suppress(PermissionError):  # then it needs RAY_worker_niceness=0 where Ray is started
        os.setpriority(os.PRIO_PROCESS, 0, 0)  # of this thread, from which children have theirs


class RayHandle:
    """An agent on a node; every call ends in time, with an answer or with an error that names the host.

    Once it is lost it stays lost: later calls raise the same at once. A loss in `start` is kept for `prepare`, which is where
    it fails the one instance.
    """

    def __init__(self, ray: Any, actor: Any, node: Node, task: AgentTask) -> None:
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
        """Start the server; a loss meanwhile is raised by `prepare`."""
        server_s = 0.0 if self._task.server is None else self._task.server.timeout_s
        try:
            facts: dict[str, str] = self._call("start", server_s + FIRST_S + _MARGIN_S)
        except HostError:
            return {}
        return facts

    def prepare(self, load: Load, warmup_s: float) -> Prepared:
        """Start a load generator, and wait until it waits for the start."""
        prepared: Prepared = self._call("prepare", _BRING_S + warmup_s, load, warmup_s)
        return prepared

    def clock(self) -> float:
        """Return the time of the agent's host [s]."""
        return float(self._call("clock", _CALL_S))

    def begin(self, at_s: float) -> None:
        """Let the load generator begin at a time of its host [s]."""
        self._call("begin", _CALL_S, at_s)

    def poll(self) -> tuple[int, bool]:
        """Return the samples done so far, and whether the run is over."""
        samples, over = self._call("poll", _CALL_S)
        return samples, over

    def outcome(self) -> Outcome:
        """Return what was measured."""
        outcome: Outcome = self._call("outcome", _BRING_S)
        return outcome

    def server_died(self) -> str | None:
        """Return what became of the server where it no longer runs."""
        died: str | None = self._call("server_died", _CALL_S)
        return died

    def logs(self) -> dict[str, bytes]:
        """Return the logs of the last run."""
        logs: dict[str, bytes] = self._call("logs", _BRING_S)
        return logs

    def stop(self) -> None:
        """End the agent and all that it started; a second time does nothing."""
        with self._stopping:
            if self not in self._node.agents:
                return
            try:
                if self._lost is None:
                    self._call("stop", _STOP_S)
            finally:  # what the agent left behind ends with it: pipes tie it to its process
                self._node.agents.remove(self)
                if self._actor is not None:
                    gone = (self._ray.exceptions.RayError, OSError, RuntimeError, ValueError)
                    with contextlib.suppress(*gone):  # a cluster that is gone has killed it already
                        self._ray.kill(self._actor)

    def _call(self, method: str, longest_s: float, *arguments: Any) -> Any:
        if self._lost is not None:
            raise HostError(str(self._lost)) from self._lost
        try:
            return answer(self._ray, lambda: getattr(self._actor, method).remote(*arguments), longest_s, self._who, method)
        except HostError as error:
            self._lost = error
            raise


def answer(ray: Any, ask: Callable[[], Any], longest_s: float, who: str, what: str) -> Any:
    """Return what Ray brings back; raise our own errors as they were raised there, and the loss of a host as `HostError`."""
    failures = ray.exceptions
    with losses(ray, who, what):
        try:
            return ray.get(ask(), timeout=longest_s)
        except failures.GetTimeoutError as error:
            raise HostError(
                f"{who} - no answer to {what!r} in {longest_s:g} s; the host hangs or its network is cut: look at it, and resume"
            ) from error
        except failures.RayTaskError as error:
            if isinstance(error.cause, PartitionerError):
                raise error.cause from error
            raise BenchmarkError(f"{who} - {what!r} failed: {type(error.cause).__name__}: {error.cause}") from error


@contextlib.contextmanager
def losses(ray: Any, who: str, what: str) -> Iterator[None]:
    """Turn what Ray raises when something of it is gone into `HostError`."""
    failures = ray.exceptions
    try:
        yield
    except PartitionerError:
        raise
    except (failures.ActorDiedError, failures.NodeDiedError) as error:
        if isinstance(error, failures.ActorDiedError) and error.actor_init_failed:
            raise BenchmarkError(f"{who} - the agent cannot be made: {last_line(error)}") from error
        raise HostError(
            f"{who} - it was lost: the agent's process or its node died. Look at the host (out of memory, ray status), and resume"
        ) from error
    except (failures.RayError, ConnectionError, RuntimeError) as error:
        raise HostError(
            f"{who} - {what!r} failed: {type(error).__name__}: {last_line(error)}; look at the host, and resume"
        ) from error


def last_line(error: Exception) -> str:
    """Return where an error comes from: texts of Ray begin with the outermost one."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
