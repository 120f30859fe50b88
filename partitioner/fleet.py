"""The GPUs there are: hosts and what stands in them. Values only; must not know workloads or plans."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from partitioner import catalog
from partitioner.boundary import VALUE, raises_spec_error
from partitioner.documents import Document, Location, format_location, problems_of, read
from partitioner.errors import Problem, SpecError

MAX_GPUS = 1_000_000
"""Most GPUs in one fleet."""
_MAX_PROBLEMS = 50  # listed in full; the rest is counted


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Gpu:
    """One physical GPU of a host.

    Parameters
    ----------
    model : GPU model, in any name the catalogue knows; kept as the catalogue's name.
    mode : the mode it is in and must stay in (``mig``, ``vgpu-equal-8``, ...); None lets the planner choose.

    Raises
    ------
    SpecError
        The model is unknown or has no such mode.
    """

    model: str
    mode: str | None = None

    @field_validator("model", mode="before")
    @classmethod
    def _known(cls, value: object) -> str:
        return catalog.gpu(value).name  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _has_mode(self) -> Gpu:
        if self.mode is not None:
            catalog.gpu(self.model).geometry(self.mode)
        return self


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


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Host:
    """A machine with GPUs.

    Parameters
    ----------
    name : unique in the fleet.
    gpus : its GPUs in the order of their indices; also model names, ``{model: count}`` or entries with a ``count``.

    Raises
    ------
    SpecError
        A GPU is not known, or there is none.
    """

    name: Annotated[str, Field(min_length=1, max_length=253)]
    gpus: Annotated[tuple[Gpu, ...], BeforeValidator(_expand_gpus), Field(min_length=1, max_length=MAX_GPUS)]


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Fleet:
    """All hosts that a plan may use, in the order in which it fills them.

    Parameters
    ----------
    hosts : the hosts; names unique.

    Raises
    ------
    SpecError
        There is no host, or a name stands twice.

    Examples
    --------
    >>> fleet = Fleet.of("A100-80GB", hosts=2, gpus_per_host=4)
    >>> len(fleet), fleet.hosts[1].name
    (8, 'host-1')
    """

    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Fleet:
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
    def of(cls, model: str, *, hosts: int | Sequence[str] = 1, gpus_per_host: int = 8, mode: str | None = None) -> Fleet:
        """Return a fleet of equal hosts.

        Parameters
        ----------
        model : GPU model, in any name the catalogue knows.
        hosts : number of hosts (then named ``host-0``, ``host-1``, ...) or their names.
        gpus_per_host : GPUs in each host.
        mode : the mode all GPUs are in; None lets the planner choose.

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
        gpus = (Gpu(model, mode),) * gpus_per_host
        return cls(hosts=tuple(Host(name, gpus) for name in names))


_FLEET = TypeAdapter(Fleet)
_FIELDS = sorted({f.name for kind in (Gpu, Host, Fleet) for f in dataclass_fields(kind)} | {"count"})


def read_fleet(source: object) -> Fleet:
    """Read a fleet: a `Fleet`, a dict, or the path of a YAML or JSON file (``-``: standard input), also one already read.

    Parameters
    ----------
    source : a file or dict says ``hosts``, a list of hosts or a mapping of host name to GPUs.

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
        content["hosts"] = [{"name": name, "gpus": gpus} for name, gpus in content["hosts"].items()]
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


def _as_written(hosts: Any, location: Location) -> Location:
    """Return the place in the input of a place in the fleet: mappings became lists there, and counts many entries."""
    if len(location) < 2 or not isinstance(location[1], int):
        return location
    by_name = isinstance(hosts, Mapping)
    host = list(hosts)[location[1]] if by_name else location[1]
    gpus = hosts[host] if by_name else hosts[host].get("gpus") if isinstance(hosts[host], Mapping) else None
    where: Location = ("hosts", host)
    if location[2:3] != ("gpus",):
        return (*where, *(() if by_name else location[2:]))
    where = where if by_name else (*where, "gpus")
    if len(location) == 3 or not isinstance(position := location[3], int):
        return where
    if isinstance(gpus, Mapping) and "model" not in gpus:
        models = [model for model, count in gpus.items() for _ in _expand_entry({"model": model, "count": count})]
        return (*where, models[position])
    if not isinstance(gpus, Sequence) or isinstance(gpus, str):
        return where
    entry = [index for index, written in enumerate(gpus) for _ in _expand_entry(written)][position]
    return (*where, entry, *(location[4:] if isinstance(gpus[entry], Mapping) else ()))
