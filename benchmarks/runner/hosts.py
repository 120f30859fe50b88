"""Where agents run. The default is this machine; Ray's nodes are in `benchmarks.runner.ray_hosts`. Knows no scenarios."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from benchmarks.load.values import Load
from benchmarks.runner.agent import Agent, AgentTask, Outcome, Prepared


class Handle(Protocol):
    """An agent, wherever it runs; methods as of `Agent`, each may raise `BenchmarkError` when its host is lost."""

    host: str

    def start(self) -> dict[str, str]:
        """Start the server."""
        ...

    def prepare(self, load: Load, warmup_s: float) -> Prepared:
        """Start a load generator."""
        ...

    def clock(self) -> float:
        """Return the time of the agent's host."""
        ...

    def begin(self, at_s: float) -> None:
        """Let the load generator begin."""
        ...

    def poll(self) -> tuple[int, bool]:
        """Return the samples done, and whether the run is over."""
        ...

    def outcome(self) -> Outcome:
        """Return what was measured."""
        ...

    def server_died(self) -> str | None:
        """Return what became of the server where it no longer runs."""
        ...

    def logs(self) -> dict[str, bytes]:
        """Return the logs of the last run."""
        ...

    def stop(self) -> None:
        """End everything."""
        ...


class Hosts(Protocol):
    """Makes agents on hosts."""

    def place(self, task: AgentTask, *, host: str | None = None) -> Handle:
        """Return an agent on a host by name, on any where it is None."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Return each host with its processor, cores, memory and kernel as one line."""
        ...

    def close(self) -> None:
        """Let go of the hosts."""
        ...


class LocalHosts:
    """The machine that this process runs on, with agents in this process."""

    def place(self, task: AgentTask, *, host: str | None = None) -> Handle:
        """Return an agent in this process; whatever host a layout names, it is taken to be this one."""
        return _LocalHandle(task, host or platform.node())

    def describe(self) -> Mapping[str, str]:
        """Return this machine as one line."""
        return {platform.node(): describe_host()}

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class _LocalHandle(Agent):
    def __init__(self, task: AgentTask, host: str) -> None:
        super().__init__(task)
        self.host = host


def describe_host() -> str:
    """Return the processor, cores, memory and kernel of this machine."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
