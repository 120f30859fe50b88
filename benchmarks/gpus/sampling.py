"""A thread that reads devices once a second beside a run. What goes wrong with it becomes a note, never an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from benchmarks.gpus.means import Sample, energy, means, of_instances
from benchmarks.gpus.places import devices_of, gpu_of
from benchmarks.gpus.values import Device, GpuMetrics, Source
from benchmarks.scenarios.scenario import Instance
from partitioner.errors import PartitionerError


class NoSampler:
    """Watches nothing, and says why.

    Parameters
    ----------
    note : why there are no metrics.
    """

    def __init__(self, note: str) -> None:
        self.note = note

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> GpuMetrics:
        """Return no metrics, and the note."""
        return GpuMetrics("none", notes=(self.note,))


class ThreadSampler:
    """Reads a source in a thread of its own, from `start` to `stop`; may be started again.

    Parameters
    ----------
    source : where readings come from.
    instances : of the scenario.
    mig_devices : UUIDs of MIG devices that are known, with their devices.
    interval_s : from one reading to the next [s].
    patience_s : how long `stop` waits for the last reading [s]; a thread that hangs is left to itself.
    """

    def __init__(
        self,
        source: Source,
        instances: Sequence[Instance],
        *,
        mig_devices: Mapping[str, Device] | None = None,
        interval_s: float = 1.0,
        patience_s: float = 3.0,
    ) -> None:
        self._source, self._instances, self._mig_devices = source, tuple(instances), dict(mig_devices or {})
        self._interval_s, self._patience_s = interval_s, patience_s
        self._run: _Run | None = None
        self._hanging: _Run | None = None

    def start(self) -> None:
        """Begin to read; the first reading is asked for at once, and not waited for. Nothing while an old one hangs."""
        if self._hanging is None or not self._hanging.alive:
            self._run, self._hanging = _Run(self._source, self._interval_s), None

    def stop(self) -> GpuMetrics:
        """Take a last reading, if it comes soon, and return the means; without a `start` there are none."""
        run, self._run = self._run, None
        if run is None:
            why = "were not started" if self._hanging is None else "could not be started: one of an earlier run still hangs"
            return GpuMetrics(self._source.name, notes=(f"the readings {why}",))
        duration_s, notes = run.end(self._patience_s)
        self._hanging = run if run.alive else None
        samples = tuple(run.samples)
        if not samples:
            return GpuMetrics(self._source.name, notes=notes)
        readings = samples[-1].readings
        places, unknown = devices_of(self._instances, readings, self._mig_devices)
        found = {gpu_of(instance, readings, places) for instance in self._instances}
        gpus = sorted(gpu for gpu in found if gpu is not None)
        energy_j, doubts = (None, ()) if None in found else energy(samples, gpus, duration_s)
        return GpuMetrics(
            self._source.name,
            of_instances(samples, places),
            {gpu: means(samples, Device(gpu)) for gpu in gpus},
            energy_j,
            (*notes, *unknown, *doubts),
        )


class _Run:
    """One thread, from its start to its end."""

    def __init__(self, source: Source, interval_s: float) -> None:
        self.samples: list[Sample] = []
        self._source, self._interval_s = source, interval_s
        self._problems: list[str] = []
        self._ending = threading.Event()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=f"gpu-metrics-{source.name}", daemon=True)
        self._thread.start()

    def end(self, patience_s: float) -> tuple[float, tuple[str, ...]]:
        """End the thread; return the duration [s], and what went wrong."""
        duration_s = time.monotonic() - self._began_s
        self._ending.set()
        self._thread.join(patience_s)
        problems = list(self._problems)
        notes = [f"{len(problems)} readings failed, the last one: {problems[-1]}"] if problems else []
        if self.alive:
            notes.append(f"the last reading did not come within {patience_s:g} s, and was not waited for")
        if not self.samples:
            notes.append("no reading succeeded: there are no GPU metrics of this run")
        return duration_s, tuple(notes)

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def _work(self) -> None:
        try:
            self._source.open()
            try:
                due_s = time.monotonic()
                self._read()
                while not self._ending.wait(max(0.0, due_s + self._interval_s - time.monotonic())):
                    due_s = max(due_s + self._interval_s, time.monotonic() - self._interval_s)
                    self._read()
                self._read()
            finally:
                self._source.close()
        except PartitionerError as error:
            self._problems.append(str(error))

    def _read(self) -> None:
        asked_s = time.monotonic()
        try:
            readings = self._source.read()
        except PartitionerError as error:
            self._problems.append(str(error))
            return
        self.samples.append(Sample((asked_s + time.monotonic()) / 2, readings))
