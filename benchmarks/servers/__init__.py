"""Servers that are measured: started for each instance and cleaned up on every path, or found where they run already.

`server_for` returns the server of a task. Knows no load and no measurement.
"""

from __future__ import annotations

from benchmarks.servers.cores import Split, cores_of_share, split_cores, threads_for, usable_cores
from benchmarks.servers.values import KINDS, Server, ServerTask

__all__ = [
    "KINDS",
    "Server",
    "ServerTask",
    "Split",
    "cores_of_share",
    "server_for",
    "split_cores",
    "threads_for",
    "usable_cores",
]


def server_for(task: ServerTask) -> Server:
    """Return the server of an instance, not started yet.

    Parameters
    ----------
    task : which server it is to be.

    Raises
    ------
    ServerError
        The address of an external server is none.
    """
    if task.kind == "external":
        from benchmarks.servers.external import ExternalServer

        return ExternalServer(task)
    if task.kind == "emulated":
        from benchmarks.servers.emulation import EmulatedServer

        return EmulatedServer(task)
    from benchmarks.servers.tritonserver import TritonServer

    return TritonServer(task)
