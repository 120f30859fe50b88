"""The GPUs there are: hosts and what stands in them. Values only; must not know workloads or plans."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from partitioner import catalog
from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.documents import Document, Location, format_location, problems_of, read
from partitioner.errors import Problem, SpecError
from partitioner.geometry import Placement
from partitioner.topology import Topology, read_topology

MAX_GPUS = 1_000_000
"""Most GPUs in one fleet."""
_MAX_PROBLEMS = 50  # listed in full; the rest is counted


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Gpu:
    """One physical GPU of a host.

    Parameters
    ----------
    model : GPU model, in any name the catalogue knows; kept as the catalogue's name.
    mode : the mode it is in and must stay in (``mig``, ``vgpu-equal-8``, ...); None lets the planner choose, except
        where `instances` say it.
    cost_per_hour : what it costs while it is used, in a currency of your own [1/h].
    power_w : what it draws while it is used [W].
    instances : instances that exist, are busy and must stay, as ``profile@start`` (``3g.40gb@4``); the planner cuts what
        is free beside them. Kept with the catalogue's names, by ascending start.

    Raises
    ------
    SpecError
        The model is unknown or has no such mode, a number is out of range, or the instances cannot be on one GPU.

    Examples
    --------
    >>> Gpu("A100D", instances=("MIG 3g.40gb@4", "1g@0"))
    Gpu(model='A100-80GB', mode='mig', cost_per_hour=None, power_w=None, instances=('1g.10gb@0', '3g.40gb@4'))
    """

    model: str
    mode: str | None = None
    cost_per_hour: Annotated[float, Number, Field(ge=0, le=1e9)] | None = None
    power_w: Annotated[float, Number, Field(gt=0, le=1e6)] | None = None
    instances: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    @field_validator("model", mode="before")
    @classmethod
    def _known(cls, value: object) -> str:
        return catalog.gpu(value).name  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _has_mode(self) -> Gpu:
        if self.mode is not None:
            catalog.gpu(self.model).geometry(self.mode)
        if self.instances:
            mode, instances = _existing(self.model, self.mode, self.instances)
            object.__setattr__(self, "mode", mode)
            object.__setattr__(self, "instances", instances)
        return self


@lru_cache(maxsize=1024)  # a GPU is checked again with its host and its fleet, and fleets repeat a few
def _existing(gpu: str, mode: str | None, instances: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the mode that existing instances need and the instances in the catalogue's names, by ascending start.

    Raises
    ------
    SpecError
        An instance is not written as profile@start, or no mode, or more than one, holds all of them together.
    """
    model = catalog.gpu(gpu)
    written = [_name_and_start(text) for text in instances]
    found = {name: dict(reversed(model.find(name))) for name, _ in written}  # of one mode the first profile counts
    for name, _ in written:
        if not found[name]:
            raise SpecError(f"instances: {model.name}: {model.unknown_profile(name)}")
    shared = [m for m in model.modes if all(m in profiles for profiles in found.values())]
    if mode is not None and mode not in shared:
        odd = next(name for name in found if mode not in found[name])
        raise SpecError(f"instances: {model.name} has {odd!r} in mode {' or '.join(found[odd])}, not in mode {mode!r}")
    if not shared:
        modes = "; ".join(f"{name!r} in {' or '.join(profiles)}" for name, profiles in found.items())
        raise SpecError(f"instances: no mode of {model.name} has all of them: {modes}")
    candidates = [mode] if mode is not None else shared
    sets = {m: sorted((Placement(found[name][m], start) for name, start in written), key=_start) for m in candidates}
    violations = {m: model.geometry(m).violation(placements) for m, placements in sets.items()}
    legal = [m for m in candidates if violations[m] is None]
    if not legal:
        raise SpecError("instances: " + "; ".join(f"{model.name} in mode {m}: {violations[m]}" for m in candidates))
    if len(legal) > 1:
        raise SpecError(f"instances: they are legal in each of the modes {' and '.join(legal)} of {model.name}; give mode")
    return legal[0], tuple(map(str, sets[legal[0]]))


def _start(placement: Placement) -> int:
    return placement.start


def _name_and_start(text: str) -> tuple[str, int]:
    name, _, start = text.rpartition("@")
    if not name or not start.strip().isdecimal() or len(start) > 9:
        raise SpecError(f"instances: {text!r} is not profile@start; write e.g. '3g.40gb@4'")
    return name.strip(), int(start)


_GPU = TypeAdapter(Gpu)


def _expand_gpus(value: object) -> object:
    """Accept ``[A100-80GB, {model: T4, mode: vgpu-equal-4, count: 2}]`` and ``{A100-80GB: 4}``."""
    if isinstance(value, Mapping) and "model" not in value:
        value = [{"model": model, "count": count} for model, count in value.items()]
    elif isinstance(value, str | Mapping | Gpu):
        value = [value]
    if not isinstance(value, Sequence):
        return value
    return [gpu for entry in value for gpu in _expand_entry(entry)]


def _expand_entry(entry: object) -> Sequence[object]:
    if isinstance(entry, str):
        return ({"model": entry},)
    if not isinstance(entry, Mapping) or "count" not in entry:
        return (entry,)
    count, fields = entry["count"], {key: value for key, value in entry.items() if key != "count"}
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_GPUS:
        raise ValueError(f"count of {entry.get('model')!r} is {count!r}, not a number of GPUs from 1 to {MAX_GPUS:,}")
    try:
        return (_GPU.validate_python(fields),) * count  # one value, checked once, however many there are
    except ValidationError:
        return (fields,)  # said once, with its place, when the host is validated


Cores = Annotated[int, Number, Field(ge=1, le=1_000_000)]
Gib = Annotated[float, Number, Field(gt=0, le=1_000_000)]


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class NumaNode:
    """A NUMA node of a host: a replica on one of its GPUs takes its vCPUs and memory from here.

    Parameters
    ----------
    gpus : indices of its GPUs in the host; may be empty.
    vcpus : vCPUs for replicas; None where they do not limit.
    ram_gib : memory for replicas [GiB]; None where it does not limit.

    Raises
    ------
    SpecError
        A number is out of range.
    """

    gpus: tuple[Annotated[int, Number, Field(ge=0)], ...]
    vcpus: Cores | None = None
    ram_gib: Gib | None = None


def _read_links(value: object) -> object:
    return read_topology(value) if isinstance(value, str) else value


def _text_too(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string", "description": "what nvidia-smi topo -m prints"})


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Host:
    """A machine with GPUs.

    Parameters
    ----------
    name : unique in the fleet.
    gpus : its GPUs in the order of their indices; also model names, ``{model: count}`` or entries with a ``count``.
    vcpus : vCPUs for replicas; None where they do not limit.
    ram_gib : memory for replicas [GiB]; None where it does not limit.
    max_vms : most replicas, each being a virtual machine; None where their number does not limit.
    numa : its NUMA nodes; none where the nodes do not matter, else each GPU stands in exactly one.
    links : how its GPUs and NICs are linked: a `Topology`, its fields, or the text of ``nvidia-smi topo -m``.

    Raises
    ------
    SpecError
        A GPU is not known, or there is none; a number is out of range; nodes or links do not match the GPUs.
    """

    name: Annotated[str, Field(min_length=1, max_length=253)]
    gpus: Annotated[tuple[Gpu, ...], BeforeValidator(_expand_gpus), Field(min_length=1, max_length=MAX_GPUS)]
    vcpus: Cores | None = None
    ram_gib: Gib | None = None
    max_vms: Annotated[int, Number, Field(ge=1, le=1_000_000)] | None = None
    numa: tuple[NumaNode, ...] = ()
    links: Annotated[Topology | None, BeforeValidator(_read_links), Field(json_schema_extra=_text_too)] = None

    @model_validator(mode="after")
    def _describes_its_gpus(self) -> Host:
        if self.numa:
            self._check_numa()
        if self.links is not None and len(self.links) != len(self.gpus):
            raise ValueError(f"links are of {len(self.links)} GPUs, but the host has {len(self.gpus)}; they must be the same")
        return self

    def _check_numa(self) -> None:
        node_of: dict[int, int] = {}
        for number, node in enumerate(self.numa):
            for gpu in node.gpus:
                if gpu >= len(self.gpus):
                    raise ValueError(f"numa[{number}] names GPU {gpu}, but the host has GPUs 0 to {len(self.gpus) - 1}")
                if gpu in node_of:
                    raise ValueError(f"GPU {gpu} stands in numa[{node_of[gpu]}] and in numa[{number}]; it belongs to one node")
                node_of[gpu] = number
        missing = [str(gpu) for gpu in range(len(self.gpus)) if gpu not in node_of]
        if missing:
            raise ValueError(f"GPU {', '.join(missing[:8])} is in no NUMA node; with numa given, each GPU is in exactly one")


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Fleet:
    """All hosts that a plan may use, in the order in which it fills them.

    Parameters
    ----------
    hosts : the hosts; names unique.
    modes : modes or families of modes that its GPUs can be put in, e.g. ``("mig", "whole")`` on bare metal, where there
        is no hypervisor that time-slices vGPUs; None means all.

    Raises
    ------
    SpecError
        There is no host, a name stands twice, or a mode is unknown.

    Examples
    --------
    >>> fleet = Fleet.of("A100-80GB", hosts=2, gpus_per_host=4)
    >>> len(fleet), fleet.hosts[1].name
    (8, 'host-1')
    """

    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]
    modes: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _unique(self) -> Fleet:
        if self.modes is not None:
            catalog.check_modes(self.modes)
        seen: set[str] = set()
        for host in self.hosts:
            if host.name in seen:
                raise ValueError(f"host name {host.name!r} is used twice; names are unique")
            seen.add(host.name)
        if len(self) > MAX_GPUS:
            raise ValueError(f"{len(self):,} GPUs in all; at most {MAX_GPUS:,} are planned at a time")
        return self

    def __len__(self) -> int:
        """Return the number of GPUs."""
        return sum(len(host.gpus) for host in self.hosts)

    def __iter__(self) -> Iterator[tuple[str, int, Gpu]]:
        """Iterate over (host name, index in the host, GPU)."""
        for host in self.hosts:
            for index, gpu in enumerate(host.gpus):
                yield host.name, index, gpu

    @classmethod
    def of(
        cls,
        model: str,
        *,
        hosts: int | Sequence[str] = 1,
        gpus_per_host: int = 8,
        mode: str | None = None,
        vcpus: int | None = None,
        ram_gib: float | None = None,
        max_vms: int | None = None,
        cost_per_hour: float | None = None,
        power_w: float | None = None,
    ) -> Fleet:
        """Return a fleet of equal hosts.

        Parameters
        ----------
        model : GPU model, in any name the catalogue knows.
        hosts : number of hosts (then named ``host-0``, ``host-1``, ...) or their names.
        gpus_per_host : GPUs in each host.
        mode : the mode all GPUs are in; None lets the planner choose.
        vcpus, ram_gib, max_vms : limits of each host, memory in [GiB]; None where they do not limit (see `Host`).
        cost_per_hour, power_w : of each GPU, power in [W] (see `Gpu`).

        Raises
        ------
        SpecError
            The model is unknown or a number is not positive.
        """
        named = isinstance(hosts, Sequence) and not isinstance(hosts, str)
        for what, number in (("hosts", 1 if named else hosts), ("gpus_per_host", gpus_per_host)):
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_GPUS:
                raise SpecError(f"Fleet.of: {what} is {number!r}, not a number from 1 to {MAX_GPUS:,}")
        names = [f"host-{index}" for index in range(hosts)] if isinstance(hosts, int) else list(hosts)
        gpus = (Gpu(model, mode, cost_per_hour, power_w),) * gpus_per_host
        return cls(hosts=tuple(Host(name, gpus, vcpus, ram_gib, max_vms) for name in names))


_FLEET = TypeAdapter(Fleet)
_HOST_FIELDS = {field.name for field in dataclass_fields(Host)}
_FIELDS = sorted({f.name for kind in (Gpu, NumaNode, Topology, Host, Fleet) for f in dataclass_fields(kind)} | {"count"})


def read_fleet(source: object) -> Fleet:
    """Read a fleet: a `Fleet`, a dict, or the path of a YAML or JSON file (``-``: standard input), also one already read.

    Parameters
    ----------
    source : a file or dict says ``hosts``, a list of hosts or a mapping of host name to GPUs or to fields with ``gpus``.

    Raises
    ------
    SpecError
        All problems found, each with file, line and field where there is a file.

    Examples
    --------
    >>> len(read_fleet({"hosts": {"esx-01": {"A100-80GB": 2, "T4": 1}}}))
    3
    """
    if isinstance(source, Fleet):
        return source
    document = source if isinstance(source, Document) else read(source) if isinstance(source, str | os.PathLike) else None
    data: Any = document.data if document else source
    if not isinstance(data, Mapping):
        message = (
            f"a fleet is a mapping with hosts, not {type(data).__name__}; write e.g. {{hosts: {{esx-01: {{A100-80GB: 4}}}}}}"
        )
        raise SpecError(document.problem(message) if document else message)
    content = {key: value for key, value in data.items() if key not in ("format", "version")}
    if isinstance(content.get("hosts"), Mapping):
        content["hosts"] = [_host_fields(name, value) for name, value in content["hosts"].items()]
    try:
        return _FLEET.validate_python(content)
    except ValidationError as error:
        found, problems = problems_of(error, _FIELDS), []
        for message, location in found[:_MAX_PROBLEMS]:
            where = _as_written(data.get("hosts"), location)
            problems.append(document.problem(message, where) if document else Problem(message, field=format_location(where)))
        if len(found) > _MAX_PROBLEMS:
            problems.append(Problem(f"and {len(found) - _MAX_PROBLEMS} more problems", document.origin if document else None))
        raise SpecError(problems) from None


def _has_fields(value: object) -> bool:
    """Whether a host's entry is its fields rather than its GPUs alone; no GPU is named like a field."""
    return isinstance(value, Mapping) and not _HOST_FIELDS.isdisjoint(value)


def _host_fields(name: object, value: Any) -> dict[object, Any]:
    return {**value, "name": name} if _has_fields(value) else {"name": name, "gpus": value}


def _as_written(hosts: Any, location: Location) -> Location:
    """Return the place in the input of a place in the fleet: mappings became lists there, and counts many entries."""
    if len(location) < 2 or not isinstance(location[1], int):
        return location
    by_name = isinstance(hosts, Mapping)
    host = list(hosts)[location[1]] if by_name else location[1]
    bare = by_name and not _has_fields(hosts[host])  # its GPUs alone
    gpus = hosts[host] if bare else hosts[host].get("gpus") if isinstance(hosts[host], Mapping) else None
    where: Location = ("hosts", host)
    if location[2:3] != ("gpus",):
        return (*where, *(() if bare else location[2:]))
    where = where if bare else (*where, "gpus")
    if len(location) == 3 or not isinstance(position := location[3], int):
        return where
    if isinstance(gpus, Mapping) and "model" not in gpus:
        models = [model for model, count in gpus.items() for _ in _expand_entry({"model": model, "count": count})]
        return (*where, models[position])
    if not isinstance(gpus, Sequence) or isinstance(gpus, str):
        return where
    entry = [index for index, written in enumerate(gpus) for _ in _expand_entry(written)][position]
    return (*where, entry, *(location[4:] if isinstance(gpus[entry], Mapping) else ()))
