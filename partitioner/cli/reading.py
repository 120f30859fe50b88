"""What is on a target now, as values for `status` and `watch`. Reads and changes nothing; prints nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from partitioner.cli.goals import STATUS_FORMAT
from partitioner.errors import TargetError

if TYPE_CHECKING:
    from partitioner.layout import GpuLayout, Layout
    from partitioner.nvml import GpuReading, NvmlTarget, Process
    from partitioner.targets import Target


@dataclass(frozen=True, slots=True)
class User:
    """A process on a GPU: id, name, and the memory it uses [MiB], None where that is not known."""

    pid: int
    name: str
    memory_mib: int | None = None

    def __str__(self) -> str:
        return f"{self.pid} ({self.name})"


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """An instance: its place, who holds it, whether it is finished, the driver's name of it, and who uses it."""

    profile: str
    start: int
    workload: str | None = None
    replica: int | None = None
    ready: bool = True
    uuid: str | None = None
    processes: tuple[User, ...] = ()

    @property
    def name(self) -> str:
        """The place, ``3g.40gb@4``."""
        return f"{self.profile}@{self.start}"

    @property
    def held(self) -> str:
        """Who holds it, in words."""
        if not self.ready:
            return "begun, not finished"
        return "-" if self.workload is None else f"{self.workload}/{self.replica}"


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """One GPU.

    Parameters
    ----------
    host, index, model : the GPU; its model None where it does not answer.
    mode, mode_pending : its mode now, and after the next reset.
    instances : what it is cut into; None where that could not be read.
    processes : users of the GPU that are on none of its instances.
    product, uuid, pci, memory_mib : what the driver says of the board; None of a simulated one.
    problem : why something could not be read.
    """

    host: str | None
    index: int
    model: str | None
    mode: str | None
    mode_pending: str | None
    instances: tuple[InstanceStatus, ...] | None
    processes: tuple[User, ...] = ()
    product: str | None = None
    uuid: str | None = None
    pci: str | None = None
    memory_mib: int | None = None
    problem: str | None = None

    @property
    def label(self) -> str:
        """The GPU for people."""
        return f"{self.host}/gpu{self.index}" if self.host is not None else f"gpu{self.index}"


@dataclass(frozen=True, slots=True)
class Status:
    """All of a target at one time.

    Parameters
    ----------
    target : its name.
    time : when it was read, ISO 8601 with the offset.
    driver : version of the driver; None of a simulated fleet.
    gpus : in the target's order.
    layout : the layout of the GPUs that could be read.
    ledger : the folder where it is kept who holds what; None of a simulated fleet.
    hidden : the folder with the system's ledger where this user may not read it; None where nothing is hidden.
    """

    target: str
    time: str
    driver: str | None
    gpus: tuple[GpuStatus, ...]
    layout: Layout
    ledger: str | None = None
    hidden: str | None = None

    def to_data(self) -> dict[str, Any]:
        """Return plain data, which `partitioner diff` and `apply` take as a goal too."""
        return {
            "format": STATUS_FORMAT,
            "version": 1,
            "target": self.target,
            "time": self.time,
            "driver": self.driver,
            "ledger": self.ledger,
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "layout": self.layout.to_data(),
        }


def now() -> str:
    """Return the time of day with the offset of this place, ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def read_status(target: Target) -> Status:
    """Return what is on a target.

    Raises
    ------
    TargetError
        It does not answer.
    """
    from partitioner.nvml import NvmlTarget

    if isinstance(target, NvmlTarget):
        return _of_hardware(target)
    layout = target.layout()
    return Status(str(target), now(), None, tuple(_of_layout(gpu) for gpu in layout), layout)


def _of_layout(gpu: GpuLayout) -> GpuStatus:
    instances = tuple(InstanceStatus(s.profile, s.start, s.workload, s.replica, s.ready) for s in gpu.slots)
    return GpuStatus(gpu.host, gpu.gpu, gpu.model, gpu.mode, gpu.mode, instances, uuid=gpu.uuid)


def _of_hardware(target: NvmlTarget) -> Status:
    from partitioner.layout import Layout
    from partitioner.nvml.folders import unread_ledger
    from partitioner.nvml.layouts import gpu_layout

    reading = target.status()
    ledger = target.state.assignments.read()
    gpus, layouts = [], []
    for gpu in reading.gpus:
        try:
            layout = gpu_layout(reading.host, gpu, ledger) if gpu.reachable else None
        except TargetError as error:
            gpus.append(replace(_board(reading.host, gpu), problem=str(error)))
            continue
        if layout is None:
            gpus.append(_board(reading.host, gpu))
        else:
            layouts.append(layout)
            gpus.append(_with_instances(_board(reading.host, gpu), gpu, layout))
    path, unread = str(target.state.path), unread_ledger(target.state)
    hidden = None if unread is None else str(unread)
    return Status(str(target), now(), reading.driver_version, tuple(gpus), Layout.of(layouts), path, hidden)


def _board(host: str, gpu: GpuReading) -> GpuStatus:
    """Return what the driver says of the board, without instances."""
    from partitioner.nvml.models import catalogued

    known = catalogued(gpu)
    return GpuStatus(
        host,
        gpu.index,
        known.name if known else None,
        _mode(gpu.mig) if gpu.reachable else None,
        _mode(gpu.mig_pending) if gpu.reachable else None,
        None,
        _users(gpu.processes),
        gpu.name or None,
        gpu.uuid,
        gpu.pci.bus_id if gpu.pci else None,
        gpu.memory_mib or None,
        gpu.problem,
    )


def _with_instances(board: GpuStatus, gpu: GpuReading, layout: GpuLayout) -> GpuStatus:
    by_start = {instance.start: instance for instance in gpu.instances}
    instances, rest = [], list(gpu.processes)
    for slot in layout.slots:
        found = by_start.get(slot.start) if gpu.mig else None
        users = gpu.clients(found) if found else tuple(gpu.processes) if not gpu.mig else ()
        rest = [process for process in rest if process not in users]
        uuid = found.uuid if found else gpu.uuid
        instances.append(InstanceStatus(slot.profile, slot.start, slot.workload, slot.replica, slot.ready, uuid, _users(users)))
    return replace(board, model=layout.model, instances=tuple(instances), processes=_users(tuple(rest)))


def _users(processes: tuple[Process, ...]) -> tuple[User, ...]:
    return tuple(User(process.pid, process.name, process.memory_mib) for process in processes)


def _mode(mig: bool | None) -> str:  # noqa: FBT001 - as NVML says it
    return "mig" if mig else "whole"
