"""Who is in the way of a step, waiting until they have left, and refusing where they stay. Ends no process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from partitioner.changes.step import Place, Step
from partitioner.errors import InUseError, TargetError
from partitioner.nvml.library import NvmlInUseError
from partitioner.nvml.models import model_of, profile_names
from partitioner.nvml.processes import named
from partitioner.nvml.values import GpuReading, Process
from partitioner.targets import stop_asked

_POLL_S = 0.1


def in_the_way(reading: GpuReading, step: Step) -> tuple[Process, ...]:
    """Return the processes that a step would find where nothing may run; none for steps that only a ledger knows of.

    Parameters
    ----------
    reading : the GPU of the step.
    step : what is to be done.

    Raises
    ------
    TargetError
        They could not be read.
    """
    if step.kind not in ("create", "destroy", "drain", "mode"):
        return ()
    if reading.problem is not None:
        raise TargetError(reading.problem)
    if step.kind == "mode" or not reading.mig:
        return reading.clients()
    if step.kind == "create":  # only who has all of the GPU open keeps others from being made
        return tuple(process for process in reading.processes if process.gpu_instance is None)
    names = profile_names(reading, model_of(reading))
    there = [i for i in reading.instances if (names.get(i.profile_id), i.start) == (step.profile, step.start)]
    return tuple(process for instance in there for process in reading.clients(instance))


@dataclass(frozen=True, slots=True)
class Watch:
    """Guards a step that must not interrupt anything.

    Parameters
    ----------
    step : it.
    read : reads the GPU anew.
    timeout_s : how long to wait for processes to end [s].
    """

    step: Step
    read: Callable[[], GpuReading]
    timeout_s: float

    def until_idle(self, reading: GpuReading) -> None:
        """Return when nothing runs there, beginning with what was read just now.

        Raises
        ------
        InUseError
            Something still does, after the time that is allowed; names it.
        """
        end = time.monotonic() + self.timeout_s
        found = in_the_way(reading, self.step)
        while found and (left := end - time.monotonic()) > 0:
            _sleep(min(_POLL_S, left))
            found = in_the_way(self.read(), self.step)
        if found:
            waited = f" after {self.timeout_s:g} s" if self.timeout_s else ""
            hits = "is not possible beside" if self.step.kind == "create" else "would interrupt"
            raise InUseError(
                f"{self._where}: {self._what} {hits} {named(found)}, which still run{waited};"
                " end them, or wait for them with --drain",
                {process.pid for process in found},
            )

    def perform(self, act: Callable[[], None]) -> None:
        """Act; where the driver says that something uses it, say who, or wait and act again.

        Raises
        ------
        InUseError
            Something uses it, after the time that is allowed; names it where the driver lists it.
        """
        end = time.monotonic() + self.timeout_s
        while True:
            try:
                act()
            except NvmlInUseError:
                self.until_idle(self.read())
                if time.monotonic() >= end:  # nobody is listed: a monitor, or a process that the driver hides
                    raise
                _sleep(_POLL_S)
            else:
                return

    # -- words -----------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        of_instance = self.step.kind in ("destroy", "drain")
        return str(self.step.place) if of_instance else self.step.label

    @property
    def _what(self) -> str:
        step = self.step
        about = {"mode": step.mode, "drain": step.who}.get(step.kind, f"{step.profile}@{step.start}")
        return f"{step.kind} {about}"


def _sleep(seconds: float) -> None:
    """Wait; where somebody asked to stop, nothing is under way that would have to be finished first.

    Raises
    ------
    KeyboardInterrupt
        Somebody asked to stop.
    """
    if stop_asked():
        raise KeyboardInterrupt
    time.sleep(seconds)


def obstacles(readings: Iterable[GpuReading], host: str, steps: Iterable[Step]) -> dict[Place | str, tuple[Process, ...]]:
    """Return what steps need free and processes use: instances and GPUs, by their names, with those processes.

    Parameters
    ----------
    readings : the GPUs of the host.
    host : its name in the steps; steps on other hosts are passed over.
    steps : what is to be done.

    Raises
    ------
    TargetError
        The processes of a GPU could not be read.
    """
    by_index = {reading.index: reading for reading in readings}
    found: dict[Place | str, tuple[Process, ...]] = {}
    for step in steps:
        reading = by_index.get(step.gpu) if step.host == host else None
        if reading is None or (step.kind == "create" and reading.mig):  # beside what runs a driver may well create
            continue
        users = in_the_way(reading, step)
        if users:
            where = step.label if step.place is None or not reading.mig else step.place
            found.setdefault(where, users)
    return found
