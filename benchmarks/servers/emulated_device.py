"""An emulated device: how long an instance would take for each batch, by the calibration. Values only; knows no network.

Nothing of it is measured. Whatever runs against it rehearses a benchmark, or tests the tool itself.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from benchmarks.models.model import BenchModel
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.catalog import GpuModel
    from partitioner.geometry import Profile
    from partitioner.performance import Calibration

LABEL = "emulated, not measured"
WRONGS = ("shape", "value", "output")
REFUSALS = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, for tests; None: never. Requests of the emulated model count from 0.

    Parameters
    ----------
    crash_after : the process kills itself at this request.
    wrong_after, wrong : from this request on, answers are wrong: in the ``shape`` of the first output, in its ``value``
        (which clients can see of models that echo), or without an ``output``.
    refuse_after, refusal : from this request on, requests are refused, with this gRPC status.
    slow_after, slow_ms : from this request on, answers come later by so much [ms].
    hang_after : from this request on, there are no answers.
    not_ready : the server never becomes ready.
    """

    crash_after: int | None = None
    wrong_after: int | None = None
    wrong: str = "shape"
    refuse_after: int | None = None
    refusal: str = "UNAVAILABLE"
    slow_after: int | None = None
    slow_ms: float = 0.0
    hang_after: int | None = None
    not_ready: bool = False

    def __post_init__(self) -> None:
        if self.wrong not in WRONGS:
            raise SpecError(f"faults - wrong {self.wrong!r} is unknown; known: {', '.join(WRONGS)}")
        if self.refusal not in REFUSALS:
            raise SpecError(f"faults - refusal {self.refusal!r} is unknown; known: {', '.join(REFUSALS)}")


@dataclass(frozen=True, slots=True)
class EmulatedDevice:
    """How an instance would serve a model.

    Parameters
    ----------
    name : of the instance, for messages, e.g. ``A100-80GB 1g.10gb``.
    model : what it serves.
    service_ms : time that a batch of 1, 2, ... samples takes [ms]; as many as the largest batch has samples.
    processes : copies of the model that share one queue, each with these times while all are at work.
    source : where the times come from.
    faults : what goes wrong.
    """

    name: str
    model: BenchModel
    service_ms: tuple[float, ...]
    processes: int = 1
    source: str = "given"
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if not self.service_ms or not all(0 <= time_ms < math.inf for time_ms in self.service_ms):
            raise SpecError(f"{self.name} - service times {self.service_ms[:4]}; finite ones of at least 0 ms are wanted")
        if self.processes < 1:
            raise SpecError(f"{self.name} - {self.processes} processes; at least 1 is wanted")

    @property
    def max_batch(self) -> int:
        """Samples in the largest batch."""
        return len(self.service_ms)

    @property
    def capacity_per_s(self) -> float:
        """Most samples a second, over all sizes of batches [1/s]; infinite where a batch takes no time."""
        rates = (batch / time_ms if time_ms else math.inf for batch, time_ms in enumerate(self.service_ms, 1))
        return max(rates) * 1000 * self.processes

    @staticmethod
    def constant(model: BenchModel, service_ms: float, *, batch: int = 1, processes: int = 1) -> EmulatedDevice:
        """Return a device that takes the same time for every batch; of batch 1 it is the queue M/D/`processes`.

        Parameters
        ----------
        model : what it serves.
        service_ms : time of a batch [ms].
        batch : samples in the largest batch.
        processes : copies of the model.
        """
        return EmulatedDevice(f"{service_ms:g} ms a batch", model, (service_ms,) * batch, processes, "constant")

    @staticmethod
    def of(
        model: BenchModel,
        gpu: str | GpuModel,
        profile: str,
        calibration: Calibration | None = None,
        *,
        busy: bool = True,
        batch: int | None = None,
        processes: int = 1,
        extrapolate: bool = False,
    ) -> EmulatedDevice:
        """Return the device that a profile is by a calibration.

        Parameters
        ----------
        model : what it serves; looked up by its name.
        gpu, profile : GPU model and profile, in any spelling of the catalogue.
        calibration : None: the shipped one.
        busy : all instances of the GPU are at work.
        batch : samples in the largest batch; None: the most that are known to fit, at most the model's own limit.
        processes : copies of the model on the instance.
        extrapolate : also where the calibration has to guess, e.g. whether the model fits into the memory.

        Raises
        ------
        SpecError
            A name is unknown, a batch does not fit, or the calibration says nothing of model, GPU and profile
            (`CalibrationError`).

        Notes
        -----
        Where batches were measured, the law of `Calibration.batches`. Where only MLPerf's figures are known, n samples take
        (c^2 + (n / offline)^2)^(1/2), with c such that one takes the time that the server figure tells, or 0 where there is none.
        """
        from partitioner.performance import Calibration
        from partitioner.performance.points import resolve

        known = calibration or Calibration.default()
        found, shape = resolve(gpu, profile)
        name = known.model(model.name)
        if batch is not None and not 1 <= batch <= model.max_batch:
            raise SpecError(f"{model.name} - a batch of {batch}; 1 to {model.max_batch} are possible")
        asked = _Asked(known, name, found, shape, batch or model.max_batch, processes, busy, extrapolate)
        times, source = asked.measured() or asked.published()
        if batch is not None and batch > len(times):
            raise SpecError(
                f"{model.name} on {found.name} {shape.name} - a batch of {batch} with {processes} processes is not known to fit;"
                f" at most {len(times)} is"
            )
        return EmulatedDevice(f"{found.name} {shape.name}", model, times, processes, source)

    def to_json(self) -> str:
        """Return the device as one line of JSON."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> EmulatedDevice:
        """Return the device that a line of JSON says.

        Raises
        ------
        SpecError
            It says none.
        """
        try:
            data = json.loads(text)
            model, faults = BenchModel.from_data(data["model"]), Faults(**data["faults"])
            return EmulatedDevice(**data | {"model": model, "service_ms": tuple(data["service_ms"]), "faults": faults})
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"emulated device - {error!r}; EmulatedDevice.to_json writes what is wanted") from error


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of a calibration: times of batches of 1 to `most` samples [ms], and their source."""

    known: Calibration
    model: str
    gpu: GpuModel
    profile: Profile
    most: int
    processes: int
    busy: bool
    extrapolate: bool

    def measured(self) -> tuple[tuple[float, ...], str] | None:
        """Return what follows from measured batches, up to the largest that fits; None where there are none."""
        import numpy as np

        from partitioner.performance.points import shares

        batches = self.known.batches(self.model, self.gpu)
        if batches is None or shares(self.gpu, self.profile) is None:
            return None
        largest = max((batch for batch, copies in batches.fitting(self.profile) if copies == self.processes), default=0)
        if not largest or not (self.extrapolate or batches.covers(self.profile)):
            return None
        service_s = batches.service_s(self.profile, self.processes, busy=self.busy)
        times = 1000 * np.asarray(service_s(np.arange(1.0, min(self.most, largest) + 1)))
        return tuple(round(float(time_ms), 6) for time_ms in times), "; ".join(batches.sources)

    def published(self) -> tuple[tuple[float, ...], str]:
        """Return what follows from MLPerf's figures."""
        from partitioner.performance import CalibrationError

        published = self.known.published(self.model, self.gpu)
        if published is None:
            raise CalibrationError(
                f"{self.model} on {self.gpu.name} {self.profile.name} - not known with {self.processes} processes;"
                f" measured GPUs are {', '.join(self.known.gpus(self.model))}"
            )
        offline = published.offline(self.profile, busy=self.busy, extrapolate=self.extrapolate)
        first_ms = 0.0
        if published.covers(self.profile, "server"):
            first_ms = published.lowest_ms(self.profile, busy=self.busy, extrapolate=self.extrapolate)
        sample_ms = 1000 / offline.value
        fixed_ms = max(0.0, first_ms**2 - sample_ms**2) ** 0.5
        batches = range(1, self.most + 1)
        times = tuple(round(math.hypot(fixed_ms, count * self.processes * sample_ms), 6) for count in batches)
        return times, "; ".join(offline.sources)
