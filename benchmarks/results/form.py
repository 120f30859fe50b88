"""The form of a result's file: which fields there are and what may stand in them. Knows no files.

Version 1. A field that is not listed here, a number that is text and a figure that is not finite are refused.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.results.values import InstanceRun, Latencies, Metadata, Repeat, Result
from partitioner.errors import SpecError

FORMAT = "gpu-partitioner/bench-result"
VERSION = 1

_Amount = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=0)]
_Name = Annotated[str, Field(min_length=1)]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class LatencyFile(_Form):
    """The file of the latencies of single queries, beside the result: its name without a folder, and its digest."""

    name: Annotated[str, Field(pattern=r"^[^/\\]{1,255}\.npz$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _LatenciesForm(_Form):
    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float


class _RunForm(_Form):
    instance: _Name
    profile: _Name
    valid: bool
    throughput_per_s: _Amount
    window_throughput_per_s: _Amount
    latency: _LatenciesForm | None
    queries: _Count
    samples: _Count
    failed: _Count
    duration_s: _Amount
    gpu: _Count
    host: str | None
    reasons: list[str]
    advice: list[str]
    rate_per_s: _Amount | None
    start_skew_ms: float
    slip_p99_ms: float
    cpu_us_per_request: _Amount
    client_ceiling_per_s: _Amount | None
    gpu_metrics: dict[str, float]
    facts: dict[str, str]


class _RepeatForm(_Form):
    seed: int
    began: str
    window_s: float
    overlap: float
    start_skew_ms: float
    energy_j: float | None
    instances: Annotated[list[_RunForm], Field(min_length=1)]


class _MetadataForm(_Form):
    scenario: _Name
    gpu: _Name
    geometry: str
    profiles: list[_Name]
    mode: Literal["offline", "server", "single_stream", "multi_stream"]
    model: _Name
    servers: str
    device: Literal["gpu", "cpu-slices", "emulated"]
    engine: str
    batch: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)]
    seed: int
    rules: dict[str, int | float | None]
    software: dict[str, str]
    host: dict[str, str]


class Record(_Form):
    """A saved result. What follows from the repeats stands in it for people and programs, and is checked."""

    format: Literal["gpu-partitioner/bench-result"]
    version: Literal[1]
    label: str
    valid: bool
    system_throughput_per_s: _Amount
    latencies: LatencyFile | None
    metadata: _MetadataForm
    repeats: Annotated[list[_RepeatForm], Field(min_length=1)]


def record_of(result: Result, latencies: LatencyFile | None) -> Record:
    """Return the record of a result, without the latencies of single queries.

    Parameters
    ----------
    result : what is to be saved.
    latencies : the file in which those latencies stand; None: nowhere.

    Raises
    ------
    ValidationError
        A figure is not finite, or a number below 0 that cannot be.
    """
    how = result.metadata
    metadata = asdict(replace(how, rules=dict(how.rules), software=dict(how.software), host=dict(how.host)))
    content = {
        "format": FORMAT,
        "version": VERSION,
        "label": result.label,
        "valid": result.valid,
        "system_throughput_per_s": result.system_throughput,
        "latencies": latencies,
        "metadata": metadata,
        "repeats": [_repeat_data(repeat) for repeat in result.repeats],
    }
    return Record.model_validate(_plain(content))


def _repeat_data(repeat: Repeat) -> dict[str, Any]:
    runs = [replace(run, latencies_ms=None, gpu_metrics=dict(run.gpu_metrics), facts=dict(run.facts)) for run in repeat.instances]
    data = asdict(replace(repeat, instances=tuple(runs)))
    for run in data["instances"]:
        del run["latencies_ms"]
    return data


_MAPPINGS = ("rules", "software", "host", "gpu_metrics", "facts")


def _plain(value: Any, name: str = "") -> Any:
    """Return data without numbers of numpy, mappings of free names sorted, so that equal results give the same text."""
    if isinstance(value, dict):
        keys = sorted(value) if name in _MAPPINGS else value
        return {key: _plain(value[key], key) for key in keys}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def result_of(record: Record) -> Result:
    """Return the result that a record is of.

    Raises
    ------
    SpecError
        Its repeats are not of the same instances.
    """
    profiles = record.metadata.profiles
    names = [run.instance for run in record.repeats[0].instances]
    for number, repeat in enumerate(record.repeats, 1):
        here = [run.instance for run in repeat.instances]
        if here != names or len(set(here)) < len(here) or [run.profile for run in repeat.instances] != profiles:
            raise SpecError(
                f"repeat {number} has the instances {', '.join(here)}; every repeat has the same ones, each once, with the"
                f" profiles of the metadata: {', '.join(profiles)}"
            )
    fields = record.metadata.model_dump() | {"profiles": tuple(profiles)}
    return Result(Metadata(**fields), tuple(map(_repeat_of, record.repeats)))


def _repeat_of(form: _RepeatForm) -> Repeat:
    fields = form.model_dump(exclude={"instances"})
    return Repeat(**fields, instances=tuple(map(_run_of, form.instances)))


def _run_of(form: _RunForm) -> InstanceRun:
    fields = form.model_dump(exclude={"latency", "reasons", "advice"})
    latency = None if form.latency is None else Latencies(**form.latency.model_dump())
    return InstanceRun(**fields, latency=latency, reasons=tuple(form.reasons), advice=tuple(form.advice))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a saved result."""
    return Record.model_json_schema()
