"""Who uses a GPU, and the names of processes. Reads only; ends nothing."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from partitioner.nvml.library import Handle, Library, NvmlError
from partitioner.nvml.values import Process
from partitioner.nvml.words import FUNCTION_NOT_FOUND, INSUFFICIENT_SIZE, NO_PERMISSION, NOT_FOUND, NOT_SUPPORTED

_LISTS = {"compute": "nvmlDeviceGetComputeRunningProcesses", "graphics": "nvmlDeviceGetGraphicsRunningProcesses"}
_LISTS |= {"mps": "nvmlDeviceGetMPSComputeRunningProcesses"}
_NO_INSTANCE = 0xFFFFFFFF  # what the driver says of a process that is on no instance
_TRIES = 3  # a list may grow while it is read


def processes_of(library: Library, device: Handle, *, who: str, mig_devices: tuple[Handle, ...] = ()) -> tuple[Process, ...]:
    """Return the processes that use a GPU, by pid.

    Parameters
    ----------
    library : NVML.
    device : the GPU.
    who : its name for messages.
    mig_devices : its MIG devices, which are asked where the user may not ask the GPU itself.

    Raises
    ------
    TargetError
        They cannot be read.
    """
    found: dict[tuple[int, int, int], Process] = {}
    for kind, function in _LISTS.items():
        listed = _listed(library, function, device, who)
        if listed is None:
            listed = [entry for mig in mig_devices for entry in _listed(library, function, mig, who) or ()]
        for entry in listed:
            place = int(entry.gpuInstanceId), int(entry.computeInstanceId)
            if (int(entry.pid), *place) not in found:
                found[int(entry.pid), *place] = _process(library, entry, kind, who)
    return tuple(found[key] for key in sorted(found))


def _listed(library: Library, function: str, device: Handle, who: str) -> Any:
    """Return what the driver lists; None where this user may not ask."""
    for name in (f"{function}_v3", f"{function}_v2"):
        for attempt in range(_TRIES):
            try:
                return library.call(name, device, who=who)
            except NvmlError as error:
                if error.code == NO_PERMISSION:
                    return None
                if error.code == NOT_SUPPORTED:
                    return []
                if error.code == FUNCTION_NOT_FOUND:
                    break
                if error.code != INSUFFICIENT_SIZE or attempt == _TRIES - 1:
                    raise
    return []


def _process(library: Library, entry: Any, kind: str, who: str) -> Process:
    pid, memory = int(entry.pid), entry.usedGpuMemory
    places = [None if int(n) == _NO_INSTANCE else int(n) for n in (entry.gpuInstanceId, entry.computeInstanceId)]
    return Process(pid, _name(library, pid, who), kind, None if memory is None else int(memory) >> 20, *places)


def _name(library: Library, pid: int, who: str) -> str:
    """Return the name of a program, as the driver says or as /proc does; ``?`` of a process in another container."""
    unknown = (NOT_FOUND, NO_PERMISSION, NOT_SUPPORTED, FUNCTION_NOT_FOUND, 2, 999)
    said = library.call_or(unknown, "", "nvmlSystemGetProcessName", pid, who=who)
    if said:
        return PurePath(str(said).split(" ", 1)[0]).name or str(said)
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() or "?"
    except OSError:
        return "?"


def named(processes: tuple[Process, ...], *, most: int = 8) -> str:
    """Return processes in words for a message: ``4711 (python), 4712 (triton)``."""
    pids = {process.pid: process for process in processes}
    said = ", ".join(str(process) for process in list(pids.values())[:most])
    return said + (f" and {len(pids) - most} more" if len(pids) > most else "")
