"""Waiting for processes to leave a GPU or an instance, and refusing where they stay. Ends no process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from partitioner.changes.step import Place
from partitioner.errors import InUseError, TargetError
from partitioner.nvml.library import NvmlInUseError
from partitioner.nvml.models import model_of, profile_names
from partitioner.nvml.processes import named
from partitioner.nvml.values import GpuReading, Process

_POLL_S = 0.1


def clients_of(reading: GpuReading, place: Place | None) -> tuple[Process, ...]:
    """Return the processes on an instance, or on all of the GPU (`place` None, or MIG mode off).

    Raises
    ------
    TargetError
        They could not be read.
    """
    if reading.problem is not None:
        raise TargetError(reading.problem)
    if place is None or not reading.mig:
        return reading.clients()
    names = profile_names(reading, model_of(reading))
    there = [i for i in reading.instances if (names.get(i.profile_id), i.start) == (place.profile, place.start)]
    return tuple(process for instance in there for process in reading.clients(instance))


@dataclass(frozen=True, slots=True)
class Watch:
    """Guards a step that must not interrupt anything.

    Parameters
    ----------
    label : the GPU for messages.
    place : the instance; None takes the whole GPU.
    what : the step in words.
    read : reads the GPU anew.
    timeout_s : how long to wait for processes to end [s].
    """

    label: str
    place: Place | None
    what: str
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
        found = clients_of(reading, self.place)
        while found and (left := end - time.monotonic()) > 0:
            time.sleep(min(_POLL_S, left))
            found = clients_of(self.read(), self.place)
        if found:
            waited = f" after {self.timeout_s:g} s" if self.timeout_s else ""
            raise InUseError(
                f"{self.place or self.label}: {self.what} would interrupt {named(found)}, which still run{waited};"
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
                time.sleep(_POLL_S)
            else:
                return
