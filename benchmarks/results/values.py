"""Results: what was measured of a scenario, by repeat and by instance, with all that has to be known to compare it.

Immutable. Knows no servers, no form of a file and no statistics over several results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.results.points import points_of

if TYPE_CHECKING:
    from partitioner.performance import Point

STAND_INS = ("cpu-slices", "emulated")
"""Devices that stand in for a GPU. ``cpu-slices``: real inference on shares of the CPU's cores. ``emulated``: no inference at
all, a server that takes the time the calibration says."""

LABELS = {"cpu-slices": "CPU slices, not a GPU", "emulated": "emulated, not measured"}
"""What every output says of a result that was measured on one of `STAND_INS`."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles of the latency of a query [ms]."""

    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True, slots=True)
class InstanceRun:
    """One instance in one repeat.

    Parameters
    ----------
    instance, profile, gpu, host : which it is.
    valid : whether the run counts.
    reasons : why not; empty where it does.
    advice : what to do about each reason, in the same order.
    throughput_per_s : samples a second over its own run [1/s].
    window_throughput_per_s : samples a second within the common window of all instances [1/s].
    latency : percentiles; None where no query was answered.
    queries, samples, failed : how many were sent; failed queries are among them.
    duration_s : from the common start to its last answer [s].
    rate_per_s : the rate that was asked for in mode server [1/s].
    start_skew_ms : how long after the first instance this one began [ms].
    slip_p99_ms : 99th percentile of the issue slip [ms].
    cpu_us_per_request : CPU time of the load generator for each request [us].
    client_ceiling_per_s : what the generator can do at most, measured with the echo model [1/s]; None where not measured.
    gpu_metrics : means over the run by name, e.g. ``power_w``, ``sm_active``; empty where there are none.
    facts : of its server, e.g. ``server``, ``model``, ``cuda_visible_devices``, ``cores``.
    latencies_ms : of every query, in the order of sending, NaN for failed ones, shape ``(n_queries,)``; None where not kept.
    """

    instance: str
    profile: str
    valid: bool
    throughput_per_s: float
    window_throughput_per_s: float
    latency: Latencies | None
    queries: int
    samples: int
    failed: int
    duration_s: float
    gpu: int = 0
    host: str | None = None
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    rate_per_s: float | None = None
    start_skew_ms: float = 0.0
    slip_p99_ms: float = 0.0
    cpu_us_per_request: float = 0.0
    client_ceiling_per_s: float | None = None
    gpu_metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    latencies_ms: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """All instances of a scenario, measured once at the same time.

    Parameters
    ----------
    seed : of this repeat.
    began : when, UTC, ISO 8601.
    window_s : the common window, in which all instances were at work [s].
    overlap : the common window as a share of the longest run of an instance.
    start_skew_ms : between the first and the last instance to begin [ms].
    instances : in the order of the scenario.
    energy_j : of all GPUs within the run [J]; None where not measured.
    """

    seed: int
    began: str
    window_s: float
    overlap: float
    start_skew_ms: float
    instances: tuple[InstanceRun, ...]
    energy_j: float | None = None

    @property
    def system_throughput(self) -> float:
        """Samples a second of all instances within the common window [1/s]."""
        return sum(run.window_throughput_per_s for run in self.instances)

    @property
    def valid(self) -> bool:
        """Whether every instance's run counts."""
        return all(run.valid for run in self.instances)


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that has to be the same, or known, for two results to be compared.

    Parameters
    ----------
    scenario : name of the scenario.
    gpu : GPU model in the catalogue.
    mode : MLPerf's scenario: offline, server, single_stream, multi_stream.
    model : what was run.
    servers : triton, external, emulated, inprocess.
    device : ``gpu``, or one of `STAND_INS`.
    engine : asyncio or loadgen.
    batch, concurrency : of the load.
    rules : fields of `benchmarks.load.Rules` by name.
    geometry : mode of the GPUs (``mig``, ``whole``, ...).
    profiles : of the instances, in order.
    software : versions by name: python, gpu-partitioner, triton, onnxruntime, loadgen, driver, ...
    host : processor, cores, memory and kernel of each host by name, as one line.
    seed : of the first repeat.
    """

    scenario: str
    gpu: str
    geometry: str
    profiles: tuple[str, ...]
    mode: str
    model: str
    servers: str
    device: str
    engine: str
    batch: int
    concurrency: int
    seed: int
    rules: Mapping[str, float | None]
    software: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceSummary:
    """One instance over all repeats: means, and the spread of its throughput.

    The throughput is that within the common window, so that the instances add up to the system; the percentiles are means of
    those of the repeats in which a query was answered.
    """

    instance: str
    profile: str
    throughput_per_s: float
    spread: float
    latency: Latencies | None
    valid: bool


@dataclass(frozen=True, repr=False)
class Result:
    """What was measured of one scenario.

    Parameters
    ----------
    metadata : how it was measured.
    repeats : at least one.
    """

    metadata: Metadata
    repeats: tuple[Repeat, ...]

    @property
    def system_throughput(self) -> float:
        """Mean over the repeats of the throughput of all instances together [samples/s]."""
        return fmean(repeat.system_throughput for repeat in self.repeats)

    @property
    def spread(self) -> float:
        """Standard deviation of the system throughput over its mean; 0 for one repeat."""
        return relative_spread([repeat.system_throughput for repeat in self.repeats])

    @property
    def valid(self) -> bool:
        """Whether every instance was valid in every repeat."""
        return all(repeat.valid for repeat in self.repeats)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not valid: each reason with its instance and the repeats, counted from 1, in which it was met."""
        return tuple(
            f"{instance}, repeat {', '.join(map(str, repeats))}: {reason}"
            for (instance, reason), repeats in self._complaints.items()
        )

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do about the reasons, each piece once."""
        runs = [run for repeat in self.repeats for run in repeat.instances if not run.valid]
        return tuple(dict.fromkeys(advice for run in runs for advice in run.advice if advice))

    @property
    def _complaints(self) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for number, repeat in enumerate(self.repeats, 1):
            for run in repeat.instances:
                for reason in () if run.valid else run.reasons or ("no reason was given",):
                    found.setdefault((run.instance, reason), []).append(number)
        return found

    @property
    def label(self) -> str:
        """What stood in for a GPU, for every output that shows the result; empty where it was a GPU."""
        return LABELS.get(self.metadata.device, "")

    @property
    def n_gpus(self) -> int:
        """GPUs that the instances lie on."""
        return len({(run.host, run.gpu) for run in self.repeats[0].instances})

    @cached_property
    def instances(self) -> tuple[InstanceSummary, ...]:
        """Each instance over all repeats, in the order of the scenario."""
        groups: dict[str, list[InstanceRun]] = {}
        for repeat in self.repeats:
            for run in repeat.instances:
                groups.setdefault(run.instance, []).append(run)
        return tuple(_summary(runs) for runs in groups.values())

    def points(self, *, stand_ins: bool = False) -> tuple[Point, ...]:
        """Return what a calibration can take from it, as `benchmarks.results.points.points_of` does."""
        return points_of(self, stand_ins=stand_ins)

    def __repr__(self) -> str:
        how = self.metadata
        return f"Result({how.scenario}, {how.model}, {how.mode}: {self.system_throughput:.4g} samples/s)"

    def __str__(self) -> str:
        from benchmarks.results import words  # like the files: not for a process that only measures

        return words.text(self)

    def _repr_html_(self) -> str:
        from benchmarks.results import words

        return words.html(self)

    # -- files -----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the result as JSON, without the latencies of single queries; equal results give the same text."""
        from benchmarks.results import files

        return files.to_json(self)

    @classmethod
    def from_json(cls, text: str, *, origin: str = "<json>") -> Result:
        """Return the result that `to_json` wrote; raises `SpecError` where it is none."""
        from benchmarks.results import files

        return files.from_json(text, origin=origin)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result as JSON, and the latencies of single queries, where they were kept, to an NPZ file beside it.

        Raises
        ------
        BenchmarkError
            It cannot be written (disk full, no permission); what stood there before still stands.
        """
        from benchmarks.results import files

        files.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, latencies: bool = True) -> Result:
        """Return the result saved in a file.

        Parameters
        ----------
        path : the JSON file.
        latencies : read the latencies of single queries too, where they were kept.

        Raises
        ------
        SpecError
            The file is no result, or the file of latencies beside it is missing or belongs to another result.
        """
        from benchmarks.results import files

        return files.load(path, latencies=latencies)


def relative_spread(values: list[float]) -> float:
    """Return the standard deviation of some values over their mean; 0 for one value, or where the mean is 0."""
    return stdev(values) / fmean(values) if len(values) > 1 and fmean(values) else 0.0


def _summary(runs: list[InstanceRun]) -> InstanceSummary:
    rates = [run.window_throughput_per_s for run in runs]
    seen = [run.latency for run in runs if run.latency is not None]
    names = [field.name for field in fields(Latencies)]
    mean = Latencies(*(fmean(getattr(latency, name) for latency in seen) for name in names)) if seen else None
    valid = all(run.valid for run in runs)
    return InstanceSummary(runs[0].instance, runs[0].profile, fmean(rates), relative_spread(rates), mean, valid)
