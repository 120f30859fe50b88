"""A study: which scenarios are measured, with which models, loads and servers, as a file says it.

Values and their file only: starts no servers, sends no load, and does not know which models there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields as dataclass_fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from benchmarks.scenarios.entries import ALL, ByName, Count, Modes, Names, Scenarios, Seconds
from benchmarks.scenarios.names import short_name
from benchmarks.scenarios.scenario import Instance, Scenario
from partitioner import catalog
from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.documents import Document, format_location, json_text, problems_of, read, write
from partitioner.errors import Problem, SpecError, did_you_mean

FORMAT, VERSION = "gpu-partitioner/study", 1


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE, kw_only=True)
class Study:
    """What is measured, and how: every scenario with every model in every mode.

    Parameters
    ----------
    gpu : GPU model of scenarios that do not say their own.
    gpus : GPUs that such a scenario may use; None: see `Scenario.parse`.
    scenarios : texts (``4g+2g+1g``), mappings with ``profiles`` (and ``gpu``, ``gpus``, ``name``) or ``plan``, or scenarios.
    models : names of models, ONNX files, or with servers of your own their names there.
    modes : MLPerf's scenarios.
    name : of the study; None: it has none.
    engine : what sends the load.
    servers : what answers it.
    device : where it is answered; None: a GPU where the scenario has UUIDs, else a stand-in.
    repeats : how often each is measured.
    seed : of the first repeat; the others follow from it.
    rate_per_s : of mode server, for each instance [queries/s]: one number, or numbers by ``model/instance``, ``model/profile``,
        ``model``, ``instance``, ``profile`` and ``*``, of which the first that is there counts; None: it is searched.
    latency_ms : bound on the latency in mode server [ms], one number or by model; None: the model's own.
    percentile : share of the queries that have to keep the bound.
    duration_s, warmup_s : of one measurement, and of the load before it that does not count [s].
    framework : what runs the model in the load generator's process (servers ``inprocess``).
    batch, concurrency : samples in a request, and requests in flight, offline; None: what suits the device.
    samples_per_query : of mode multi_stream.
    min_samples, min_queries : fewest that count; MLPerf asks for 24,576 samples offline.
    timeout_s : after which a request has failed [s].
    addresses : with external servers ``host:port`` of each, by ``scenario/instance`` or ``instance``.
    model_repository : a folder of Triton's, instead of the one that is generated.
    cost_per_gpu_hour : in a currency of your own [1/h]; None: cost is not reported.
    baseline : scenario with which the others are compared; None: the first.

    Raises
    ------
    SpecError
        A value is out of range, a scenario is not understood, or a name means nothing.

    Examples
    --------
    >>> study = Study(scenarios=("7g", "7x1g"), modes="server", rate_per_s={"7g": 900, "1g": 100})
    >>> [(str(scenario), model, mode) for scenario, model, mode in study]
    [('7g', 'resnet50', 'server'), ('7x1g', 'resnet50', 'server')]
    >>> study.rate_of(study.scenarios[1].instances[3], "resnet50", gpu="A100-80GB")
    100.0
    """

    gpu: str = "A100-80GB"
    gpus: Count | None = None
    scenarios: Scenarios
    models: Names = ("resnet50",)
    modes: Modes = ("offline",)
    name: str | None = None
    engine: Literal["asyncio", "loadgen"] = "asyncio"
    servers: Literal["triton", "external", "emulated", "inprocess"] = "triton"
    device: Literal["gpu", "cpu-slices", "emulated"] | None = None
    repeats: Annotated[int, Number, Field(ge=1, le=1000)] = 3
    seed: Annotated[int, Number, Field(ge=0, lt=2**63)] = 0
    rate_per_s: ByName = None
    latency_ms: ByName = None
    percentile: Annotated[float, Number, Field(gt=0, lt=1)] = 0.99
    duration_s: Seconds = 10.0
    warmup_s: Annotated[float, Number, Field(ge=0, le=86_400)] = 2.0
    framework: Literal["onnxruntime", "torch"] = "onnxruntime"
    batch: Count | None = None
    concurrency: Count | None = None
    samples_per_query: Count = 8
    min_samples: Annotated[int, Number, Field(ge=1)] = 1
    min_queries: Annotated[int, Number, Field(ge=1)] = 1
    timeout_s: Seconds = 60.0
    addresses: Mapping[str, str] = Field(default_factory=dict)
    model_repository: str | None = None
    cost_per_gpu_hour: Annotated[float, Number, Field(ge=0, le=1e9)] | None = None
    baseline: str | None = None

    @field_validator("gpu", mode="before")
    @classmethod
    def _known(cls, value: object) -> str:
        return catalog.gpu(value).name  # type: ignore[arg-type]

    @field_validator("scenarios", "models", "modes")
    @classmethod
    def _unique(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [str(value) for value in values]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice!r} stands twice; give repeats to measure more often, or another name to another scenario")
        return values

    @model_validator(mode="after")
    def _means_something(self) -> Study:
        names = [scenario.name for scenario in self.scenarios]
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is no scenario of the study; {did_you_mean(self.baseline, names)}")
        if (self.servers == "emulated") != (self.device == "emulated") and self.device is not None:
            raise ValueError(f"device {self.device!r} with servers {self.servers!r}; emulated servers are an emulated device")
        self._check_rates()
        self._check_addresses()
        return self

    def _check_rates(self) -> None:
        known = {ALL, *self.models}
        for scenario in self.scenarios:
            for instance in scenario.instances:
                known.update(key for model in self.models for key in _keys(instance, model, scenario.gpu))
                for model in self.models if self.rate_per_s is not None and "server" in self.modes else ():
                    if self.rate_of(instance, model, gpu=scenario.gpu) is None:
                        raise ValueError(
                            f"rate_per_s has no rate for {instance.name!r} of scenario {scenario.name!r} with {model}; give one"
                            f" for {instance.profile!r}, or for all with '{ALL}'"
                        )
        for key in self.rate_per_s or ():
            if key not in known:
                raise ValueError(f"rate_per_s: {key!r} is no instance, profile or model of the study; {did_you_mean(key, known)}")
        if self.rate_per_s is not None and "server" not in self.modes:
            raise ValueError(
                f"rate_per_s is of mode server, and the modes are {', '.join(self.modes)}; add server, or leave it out"
            )
        for key in self.latency_ms or ():
            if key not in (ALL, *self.models):
                raise ValueError(f"latency_ms: {key!r} is no model of the study; models are {', '.join(self.models)}")

    def _check_addresses(self) -> None:
        if self.servers == "external" and not self.addresses:
            raise ValueError("servers are 'external' without addresses; give the host:port of each instance's server")
        if self.servers != "external" and self.addresses:
            raise ValueError(f"servers are {self.servers!r}, which we start, with addresses; only external ones have addresses")
        known: set[str] = set()
        for scenario in self.scenarios:
            for instance in scenario.instances:
                keys = (f"{scenario.name}/{instance.name}", instance.name)
                known.update(keys)
                if self.addresses and self.address_of(scenario, instance) is None:
                    raise ValueError(f"addresses has none for {keys[0]!r}; give its host:port under that name or {keys[1]!r}")
        for key, address in self.addresses.items():
            if key not in known:
                raise ValueError(f"addresses: {key!r} is no instance of the study; {did_you_mean(key, known)}")
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port[:6]) < 65_536:
                raise ValueError(f"addresses: {address!r} of {key!r} is not host:port; write e.g. 'vm-01:8001'")

    def __iter__(self) -> Iterator[tuple[Scenario, str, str]]:
        """Iterate over (scenario, model, mode), in the order in which they are measured."""
        return ((scenario, model, mode) for model in self.models for mode in self.modes for scenario in self.scenarios)

    def rate_of(self, instance: Instance, model: str, *, gpu: str) -> float | None:
        """Return the rate for an instance in mode server [queries/s]; None: it is to be searched.

        Parameters
        ----------
        instance : of one of the scenarios.
        model : what it runs.
        gpu : GPU model of the scenario, for names of profiles in short.
        """
        rates = self.rate_per_s or {}
        return next((rates[key] for key in (*_keys(instance, model, gpu), ALL) if key in rates), None)

    def latency_of(self, model: str) -> float | None:
        """Return the bound on a model's latency in mode server [ms]; None: the model's own."""
        bounds = self.latency_ms or {}
        return bounds.get(model, bounds.get(ALL))

    def address_of(self, scenario: Scenario, instance: Instance) -> str | None:
        """Return ``host:port`` of the external server of an instance; None where servers are started."""
        return self.addresses.get(f"{scenario.name}/{instance.name}", self.addresses.get(instance.name))

    def to_data(self) -> dict[str, Any]:
        """Return the study as plain data for a file; what is as by default is left out."""
        data = _adapter().dump_python(self, mode="json", exclude_defaults=True)
        for key in ("rate_per_s", "latency_ms"):
            if data.get(key, {}).keys() == {ALL}:
                data[key] = data[key][ALL]
        data["scenarios"] = [_written(scenario, self.gpu, self.gpus) for scenario in self.scenarios]
        return {"format": FORMAT, "version": VERSION, **data}

    @classmethod
    def from_data(cls, data: object, *, document: Document | None = None) -> Study:
        """Return the study that plain data describe; a file's format and version may be left out.

        Parameters
        ----------
        data : the content of a study's file.
        document : the file, for the lines of its problems.

        Raises
        ------
        SpecError
            All problems found.
        """
        if not isinstance(data, Mapping):
            text = f"a study is a mapping with scenarios, not {type(data).__name__}; write e.g. {{scenarios: [7g, 4g+2g+1g]}}"
            raise SpecError(document.problem(text) if document else text)
        for key, right in (("format", FORMAT), ("version", VERSION)):
            if data.get(key, right) != right:
                text = f"{key} is {data[key]!r}, not {right!r} of a study that this release reads"
                raise SpecError(document.problem(text, (key,)) if document else Problem(text, field=key))
        try:
            return _adapter().validate_python({key: value for key, value in data.items() if key not in ("format", "version")})
        except ValidationError as error:
            found = problems_of(error, [field.name for field in dataclass_fields(cls)])
            if document:
                raise SpecError([document.problem(text, place) for text, place in found]) from error
            raise SpecError([Problem(text, field=format_location(place)) for text, place in found]) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the study as YAML, or as JSON where the file is called ``.json``.

        Raises
        ------
        SpecError
            The file cannot be written.
        """
        data = self.to_data()
        as_json = Path(path).suffix.casefold() == ".json"
        write(path, json_text(data) + "\n" if as_json else yaml.safe_dump(data, sort_keys=False, allow_unicode=True))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Study:
        """Read a study from a YAML or JSON file; ``-`` reads standard input.

        Raises
        ------
        SpecError
            The file cannot be read; or all problems found in it, each with its line.
        """
        document = read(path)
        return cls.from_data(document.data, document=document)


def _keys(instance: Instance, model: str, gpu: str) -> tuple[str, ...]:
    own = (instance.name, instance.profile, short_name(gpu, (instance.profile,)))
    return (*(f"{model}/{key}" for key in own), model, *own)


def _written(scenario: Scenario, gpu: str, gpus: int | None) -> str | dict[str, Any]:
    """Return a scenario as short as it reads back the same: its profiles as text, with its GPU or name, or all its data."""
    text = short_name(scenario.gpu, scenario.profiles)
    same_gpu = scenario.gpu == gpu
    try:
        if Scenario.parse(text, gpu=scenario.gpu, gpus=gpus if same_gpu else None, name=scenario.name) != scenario:
            return scenario.to_data()
    except SpecError:
        return scenario.to_data()
    other = ({} if same_gpu else {"gpu": scenario.gpu}) | ({} if scenario.name == text else {"name": scenario.name})
    return {"profiles": text, **other} if other else text


@cache
def _adapter() -> TypeAdapter[Study]:
    return TypeAdapter(Study)


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a study's file, for editors."""
    content = _adapter().json_schema()
    content["properties"] |= {"format": {"const": FORMAT}, "version": {"const": VERSION}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **content, "title": "gpu-partitioner study"}
