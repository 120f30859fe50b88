"""System shared memory for large inputs on the server's host, of which nothing is left behind.

A region is a file in /dev/shm that the server maps when it is registered. It is unlinked as soon as that is done: both keep
their mappings, and a crash afterwards leaves no file. What a crash within these milliseconds leaves, and the mapping that a
server keeps of a client that is gone, the next client takes away: names tell the process that made them. Knows no models.
(tritonclient's own module would keep the file for the whole run, and a second process that watches over it.)
"""

from __future__ import annotations

import itertools
import mmap
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.errors import ServerError
from benchmarks.triton.wire import grpc, service_pb2

FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_PREFIX = "gpu-partitioner-inputs"
_NAME = re.compile(rf"{_PREFIX}-(\d+)-(\d+)-(\d+)-\d+")
_COUNTER = itertools.count()
_RPC_S = 5.0


class Region:
    """Bytes that a server on this host reads without their being sent.

    Parameters
    ----------
    stub : methods of the server.
    size : [bytes].
    """

    def __init__(self, stub: Any, size: int) -> None:
        self._memory: mmap.mmap | None = None
        self.name = f"{_PREFIX}-{_namespace()}-{os.getpid()}-{_started(os.getpid())}-{next(_COUNTER)}"
        self.size = size
        self._stub = stub

    async def open(self, arrays: Iterable[npt.NDArray[np.generic]]) -> None:
        """Fill the region with arrays, one after the other, and register it with the server.

        Raises
        ------
        ServerError
            There is no room, or the server cannot map it: it runs elsewhere, or in a container without this /dev/shm.
        """
        path = FOLDER / self.name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServerError(f"{path} - cannot be made: {error.strerror}; or set shared_memory to no") from error
        try:
            os.posix_fallocate(descriptor, 0, self.size)  # writing into memory that is not there would kill the process
            self._memory = mmap.mmap(descriptor, self.size)
            for array in arrays:
                self._memory.write(np.ascontiguousarray(array).data)
            request = service_pb2.SystemSharedMemoryRegisterRequest(name=self.name, key=f"/{self.name}", byte_size=self.size)
            await self._stub.SystemSharedMemoryRegister(request, timeout=_RPC_S)
        except OSError as error:
            self._unmap()
            need = f"{self.size / 2**20:.0f} MiB"
            raise ServerError(f"{FOLDER} - {need} cannot be had: {error.strerror}; enlarge it, or use fewer samples") from error
        except grpc.RpcError as error:
            self._unmap()
            raise ServerError(f"shared memory - the server cannot map it: {error.details()}") from error
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Unregister and let go of the region; a server that is gone has nothing to unregister."""
        if self._memory is not None:
            await _unregister(self._stub, self.name)
            self._unmap()

    def _unmap(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None


async def clean(stub: Any) -> None:
    """Remove what clients of this host that are gone have left: files, and regions registered with a server."""
    for path in FOLDER.glob(f"{_PREFIX}-*"):
        if _abandoned(path.name):
            path.unlink(missing_ok=True)
    try:
        status = await stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest(), timeout=_RPC_S)
    except grpc.RpcError:
        return  # a server that knows no shared memory says so again when a region is registered
    for name in status.regions:
        if _abandoned(name):
            await _unregister(stub, name)


async def _unregister(stub: Any, name: str) -> None:
    with suppress(grpc.RpcError):
        await stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest(name=name), timeout=_RPC_S)


def on_this_host(address: str) -> bool:
    """Return whether a server's address, ``host:port``, is one of this host: only those can be bound to."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, place in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
            return True
    return False


def _abandoned(name: str) -> bool:
    """Whether a name is one of ours whose process is gone; others' process ids mean nothing here."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) != _namespace():
        return False
    return _started(int(match[2])) != int(match[3])


def _namespace() -> int:
    """Return which namespace process ids are of: containers may share /dev/shm and yet count their processes apart."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _started(pid: int) -> int:
    """Return when a process was started, in clock ticks since the boot; 0 where there is none, or only its exit status."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    state, *others = text.rpartition(")")[2].split()  # from field 3 of proc_pid_stat(5) on: the command's name may hold spaces
    return 0 if state in "ZX" else int(others[18])
