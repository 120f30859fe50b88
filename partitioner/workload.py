"""What a user asks for, and every form in which people write it.

A `Workload` is a frozen value; `read_workloads` turns lists, mappings, frames, strings and files into workloads and
remembers where each stood, so that later complaints can name the line. This module must not know fleets or plans.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field as dataclass_field
from dataclasses import fields as dataclass_fields
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema, model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.documents import Document, Location, format_location, problems_of, read
from partitioner.errors import GeometryError, Problem, SpecError, did_you_mean
from partitioner.geometry import parse_terms
from partitioner.topology import Level

MAX_COUNT = 10_000_000
"""Most replicas of one workload, and of all workloads of one plan; a replica on k GPUs counts k times there."""
_MAX_PROBLEMS = 50  # listed in full; the rest is counted
_MANY = 10_000  # records for which the garbage collector is paused
_MAX_HINTED = 10_000  # names among which near matches are looked for; more would take seconds

Name = Annotated[str, Field(min_length=1, max_length=253)]


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_STRINGS = {"type": "array", "items": {"type": "string"}}
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, _STRINGS]}),
]
"""Names, or one name alone."""


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Workload:
    """Something that has to run, in a number of equal replicas; with a `model`, a service of which the planner chooses the size.

    Parameters
    ----------
    name : unique among the workloads of a plan.
    count : number of replicas; each gets a placement of its own. A service stands once.
    profile : exactly this profile, in any spelling in use (``3g.40gb``, ``T4-4Q``, ``grid_a100d-3-40c``);
        ``whole`` for a GPU of any model, the model's name for a whole GPU of it (``H100-80GB``).
    memory_gib : at least this much usable memory for each replica [GiB].
    compute_slices : at least this many MIG compute slices for each replica (time-sliced vGPUs own none).
    gpu_share : at least this share of a GPU for each replica, of its memory and, where compute is cut, of its
        compute, above 0 and at most 1.
    priority : where not everything fits, higher priorities are placed first.
    labels : the user's own marks, carried through.
    model : a model to serve, by its name in the calibration (``bert-99``); profiles, batches, processes and the number of
        instances are then chosen together, and `profile`, `memory_gib`, `compute_slices`, `gpu_share` only narrow the
        choice. All of its `rate` is served, or nothing is placed.
    rate : requests to serve in all [1/s].
    latency_ms : what the model may take [ms]; None where `scenario` is ``offline``.
    scenario : ``server``: 99% of requests with Poisson arrivals within `latency_ms`; ``batch``: one batch within it;
        ``offline``: throughput alone.
    max_batch, max_processes : largest batch and most processes on one instance.
    spread : ``gpu``: no two replicas (instances of a service) on one GPU, and of a replica that takes several profiles
        each on a GPU of its own; ``host``: no two replicas on one host.
    apart_from : workloads of which no replica may share a GPU or host, by `apart_on`, with a replica of this one; it
        holds both ways.
    apart_on : ``gpu`` or ``host``.
    together_with : workloads of which each replica of this one needs a replica beside it, on its GPU or host by
        `together_on`; it holds one way, they may also stand elsewhere.
    together_on : ``gpu`` or ``host``.
    tenant : workloads of different tenants never share a GPU; None may share with any.
    isolation : ``hardware`` allows MIG and whole GPUs only, ``any`` time-sliced vGPUs too.
    gpus_per_replica : equal profiles that each replica takes, all in one host.
    gpu_link : the worst link allowed between any two GPUs of one replica, which are then different GPUs: ``NVLINK``,
        ``PIX``, ``PXB``, ``PHB``, ``NODE``, ``SYS``, best first, as in ``nvidia-smi topo -m``.
    rdma : whether each GPU of a replica, which are then different GPUs, needs a NIC for GPUDirect RDMA beside it (see
        `Topology.nics_beside`).
    vcpus, ram_gib : what the VM or container of one replica takes of its host; memory in [GiB].
    only_on, never_on : hosts (``esx-01``) or GPUs (``esx-01/gpu2``) that alone may, or may not, be used.
    move_price : what moving one of its instances costs, in units of your own, where a plan starts from what runs now
        (``current=``); 0: it may be moved freely.

    Raises
    ------
    SpecError
        A value is out of range, a field unknown, fields contradict each other (`profile` and a size without a model,
        a rate without a model), or nothing is asked for.

    Examples
    --------
    >>> Workload("chat", profile="3g.40gb", count=2).count
    2
    >>> Workload("search", model="bert-99", rate=2500, latency_ms=130).demand
    'bert-99 at 2500/s within 130 ms'
    """

    name: Name
    count: Annotated[int, Number, Field(ge=1, le=MAX_COUNT)] = 1
    profile: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    memory_gib: Annotated[float, Number, Field(gt=0, le=1_000_000)] | None = None
    compute_slices: Annotated[int, Number, Field(ge=1, le=1_000)] | None = None
    gpu_share: Annotated[float, Number, Field(gt=0, le=1)] | None = None
    priority: Annotated[int, Number, Field(ge=-1_000_000_000, le=1_000_000_000)] = 0
    labels: dict[str, str] = dataclass_field(default_factory=dict, hash=False)
    model: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    rate: Annotated[float, Number, Field(gt=0, le=1e12)] | None = None
    latency_ms: Annotated[float, Number, Field(gt=0, le=1e9)] | None = None
    scenario: Literal["server", "offline", "batch"] = "server"
    max_batch: Annotated[int, Number, Field(ge=1, le=1_000_000)] | None = None
    max_processes: Annotated[int, Number, Field(ge=1, le=1_000)] | None = None
    spread: Literal["gpu", "host"] | None = None
    apart_from: Names = ()
    apart_on: Literal["gpu", "host"] = "gpu"
    together_with: Names = ()
    together_on: Literal["gpu", "host"] = "gpu"
    tenant: Name | None = None
    isolation: Literal["any", "hardware"] = "any"
    gpus_per_replica: Annotated[int, Number, Field(ge=1, le=1_000)] = 1
    gpu_link: Level | None = None
    rdma: bool = False
    vcpus: Annotated[int, Number, Field(ge=1, le=1_000_000)] | None = None
    ram_gib: Annotated[float, Number, Field(gt=0, le=1_000_000)] | None = None
    only_on: Names = ()
    never_on: Names = ()
    move_price: Annotated[int, Number, Field(ge=0, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _fields_agree(self) -> Workload:
        # One validator with the plain case first: a million workloads pass here.
        if self.model is not None:
            self._check_service()
        else:
            if self.memory_gib is None and self.compute_slices is None and self.gpu_share is None:
                if self.profile is None:
                    raise ValueError(
                        "nothing is asked for; give profile, or memory_gib, compute_slices or gpu_share, or a model and its rate"
                    )
            elif self.profile is not None:
                size = next(name for name in _SIZES if getattr(self, name) is not None)
                raise ValueError(f"profile {self.profile!r} and {size} are both given; a profile says both, give one of them")
            if (
                self.rate is not None
                or self.latency_ms is not None
                or self.scenario != "server"
                or self.max_batch is not None
                or self.max_processes is not None
            ):
                field = next(name for name in _SERVICE_FIELDS if getattr(self, name) not in (None, "server"))
                raise ValueError(f"{field} {getattr(self, field)!r} is given without a model; name one, e.g. model='bert-99'")
        if self.only_on and self.never_on:
            self._check_places()
        return self

    def _check_service(self) -> None:
        if self.rate is None:
            raise ValueError(f"model {self.model!r} is given without a rate; say how many requests/s it has to serve")
        if self.scenario == "offline" and self.latency_ms is not None:
            raise ValueError(
                f"latency_ms {self.latency_ms:g} is given, but scenario 'offline' has none; drop it, or choose server or batch"
            )
        if self.scenario != "offline" and self.latency_ms is None:
            raise ValueError(f"scenario {self.scenario!r} needs latency_ms; give it, or choose scenario 'offline'")
        if self.count != 1:
            raise ValueError(f"count is {self.count} with a model; the planner chooses the number of instances, leave count out")
        if self.gpus_per_replica != 1:
            raise ValueError(f"gpus_per_replica is {self.gpus_per_replica} with a model; a service runs on one profile each")

    def _check_places(self) -> None:
        """No place is pinned and excluded; a GPU is excluded with its host."""
        for place in self.only_on:
            host, _, gpu = place.rpartition("/gpu")
            excluded = place if place in self.never_on else host
            if excluded == place or (gpu.isdecimal() and host in self.never_on):
                raise ValueError(f"only_on {place!r} and never_on {excluded!r} exclude each other; drop one of the two")

    @property
    def demand(self) -> str:
        """The demand in words, e.g. ``3g.40gb``, ``8 GiB, 2 compute slices`` or ``4 x whole``."""
        parts = [self.profile] if self.profile is not None else []
        if self.memory_gib is not None:
            parts.append(f"{self.memory_gib:g} GiB")
        if self.compute_slices is not None:
            parts.append(f"{self.compute_slices} compute slice" + "s" * (self.compute_slices > 1))
        if self.gpu_share is not None:
            parts.append(f"{self.gpu_share:g} of a GPU")
        if self.model is not None:
            return ", ".join((self._service, *parts))
        if self.gpus_per_replica == 1:
            return ", ".join(parts)
        return f"{self.gpus_per_replica} x " + (f"({', '.join(parts)})" if len(parts) > 1 else parts[0])

    @property
    def _service(self) -> str:
        text = f"{self.model} at {_plain(self.rate or 0)}/s"
        if self.latency_ms is None:
            return text
        return f"{text} {'with batches ' if self.scenario == 'batch' else ''}within {_plain(self.latency_ms)} ms"


_SIZES = ("memory_gib", "compute_slices", "gpu_share")
_SERVICE_FIELDS = ("rate", "latency_ms", "scenario", "max_batch", "max_processes")


def _plain(number: float) -> str:
    """Return a number to six digits, and in full before the point."""
    return f"{number:.0f}" if number.is_integer() or number >= 1e5 else f"{number:g}"


_LIST = TypeAdapter(list[Workload])
FIELDS = tuple(field.name for field in dataclass_fields(Workload))

Locate = Callable[[int], Location]


class Workloads(Sequence[Workload]):
    """Workloads in order, and where each was written.

    Parameters
    ----------
    items : the workloads.
    document : the file they stand in, if any.
    locate : index of a workload to its place in the document or argument.
    """

    def __init__(self, items: Iterable[Workload], document: Document | None = None, locate: Locate | None = None) -> None:
        self._items = tuple(items)
        self._document = document
        self._locate: Locate = locate or (lambda index: ("workloads", index))

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Workload]:
        return iter(self._items)

    def problem(self, index: int, message: str, field: str | None = None) -> Problem:
        """Return a problem of the workload at `index`, with its place."""
        location = (*self._locate(index), *([field] if field else []))
        if self._document:
            return self._document.problem(message, location)
        return Problem(message, field=f"Workload {self._items[index].name!r}" + (f".{field}" if field else ""))


def read_workloads(source: object) -> Workloads:
    """Read workloads in any form in which people write them.

    Parameters
    ----------
    source : workloads or dicts with their fields (list, tuple, generator); a mapping of profile to count
        (``{"3g.40gb": 2}``), of name to profile or of name to fields; a pandas frame with the fields as columns; one
        workload; a configuration (``"4g+2g+1g"``, ``"7x1g"``); the path of a YAML or JSON file (``-``: standard
        input) with a list, a mapping, or either under ``workloads``; such a file already read.

    Returns
    -------
    At least one workload, names unique.

    Raises
    ------
    SpecError
        All problems found, each with file, line and field where there is a file.

    Examples
    --------
    >>> [(w.name, w.count) for w in read_workloads("4g+2g+2x1g")]
    [('4g', 1), ('2g', 1), ('1g', 2)]
    """
    document: Document | None = None
    prefix: tuple[str | int, ...] = ()
    if isinstance(source, Workloads):
        return source
    if isinstance(source, Document | os.PathLike) or (isinstance(source, str) and _is_path(source)):
        document = source if isinstance(source, Document) else read(source)
        data: object = document.data
        if isinstance(data, Mapping) and "workloads" in data:
            unknown = [key for key in data if key not in ("workloads", "format", "version")]
            if unknown:
                raise SpecError(
                    document.problem(f"unknown field {unknown[0]!r}; beside workloads nothing stands here", (unknown[0],))
                )
            data, prefix = data["workloads"], ("workloads",)
        if isinstance(data, str):
            data = _terms(data)
    elif isinstance(source, str):
        data = _terms(source)
    elif isinstance(source, Workload):
        data = [source]
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        data = _records_of_frame(source)
    else:
        data = source
    return _build(data, document, prefix)


def _is_path(text: str) -> bool:
    return text == "-" or os.sep in text or text.casefold().endswith((".yaml", ".yml", ".json"))


def _terms(text: str) -> dict[str, int]:
    try:
        terms = parse_terms(text)
    except GeometryError as error:
        raise SpecError(str(error)) from error
    merged: dict[str, int] = {}
    for name, count in terms:
        merged[name] = merged.get(name, 0) + count
    return merged


_INTEGERS = ("count", "compute_slices", "priority", "max_batch", "max_processes", "gpus_per_replica", "vcpus")


def _records_of_frame(frame: Any) -> list[dict[str, Any]]:
    """Rows of a pandas frame as dicts without missing values, numpy scalars turned into Python's."""
    missing = frame.isna().to_dict("list")
    columns = frame.to_dict("list")
    rows = [
        {
            str(name): value.item() if hasattr(value := values[row], "item") else value
            for name, values in columns.items()
            if not missing[name][row] or name == "name"
        }
        for row in range(len(frame))
    ]
    for record in rows:  # integers next to missing values come out of pandas as floats
        for name in _INTEGERS:
            if isinstance(record.get(name), float) and record[name].is_integer():
                record[name] = int(record[name])
    return rows


def _build(data: object, document: Document | None, prefix: tuple[str | int, ...]) -> Workloads:
    keys: list[str] | None = None
    if isinstance(data, Mapping):
        keys = [str(key) for key in data]
        records: list[Any] = [_from_entry(key, value) for key, value in data.items()]
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        records = list(data)
    else:
        records = []
        if data is not None:
            problem = f"workloads are a list or a mapping, not {type(data).__name__}; write e.g. {{3g.40gb: 2}}"
            raise SpecError(document.problem(problem, prefix) if document else problem)
    if not records:
        problem = "no workloads; name at least one"
        raise SpecError(document.problem(problem, prefix) if document else problem)

    def locate(index: int) -> Location:
        return (*prefix, index) if keys is None else (*prefix, keys[index])

    try:
        items: list[Workload] = records if all(type(r) is Workload for r in records) else _validate(records)
    except ValidationError as error:
        found = problems_of(error, FIELDS)
        raise SpecError(_list_problems(found, records, document, locate)) from None
    workloads = Workloads(items, document, locate)
    _check_together(workloads)
    return workloads


def _validate(records: list[Any]) -> list[Workload]:
    """Turn records into workloads.

    Nothing made here is garbage, yet the collector would walk all of it again and again: with a million records that
    was half of the time. So it rests meanwhile.
    """
    resting = len(records) > _MANY and gc.isenabled()
    if resting:
        gc.disable()
    try:
        return _LIST.validate_python(records)
    finally:
        if resting:
            gc.enable()


def _from_entry(key: object, value: object) -> object:
    """Turn an entry of a mapping into the fields of a workload; what is wrong is left for validation to say."""
    if isinstance(value, Mapping):
        return {"name": key, **value} if "name" not in value else {**value, "name": key}
    if isinstance(value, str):
        return {"name": key, "profile": value}
    return {"name": key, "profile": key, "count": value}


def _list_problems(
    found: list[tuple[str, tuple[str | int, ...]]],
    records: list[Any],
    document: Document | None,
    locate: Locate,
) -> list[Problem]:
    problems = []
    for message, location in found[:_MAX_PROBLEMS]:
        index, rest = location[0], location[1:]
        assert isinstance(index, int)
        record = records[index]
        name = record.get("name") if isinstance(record, Mapping) else None
        who = f"workload {name!r}: " if isinstance(name, str) else ""
        if document:
            problems.append(document.problem(who + message, (*locate(index), *rest)))
        else:
            problems.append(Problem(who + message, field=format_location(("workloads", index, *rest))))
    if len(found) > _MAX_PROBLEMS:
        problems.append(Problem(f"and {len(found) - _MAX_PROBLEMS} more problems", document.origin if document else None))
    return problems


def _check_together(workloads: Workloads) -> None:
    """Names are unique, the replicas of all together stay within reason, and no two rules on affinity clash."""
    names = {workload.name for workload in workloads}
    if len(names) < len(workloads):
        seen: set[str] = set()
        problems: list[Problem] = []
        for index, workload in enumerate(workloads):
            if workload.name in seen and len(problems) < _MAX_PROBLEMS:
                problems.append(
                    workloads.problem(index, f"workload name {workload.name!r} is used twice; names are unique", "name")
                )
            seen.add(workload.name)
        raise SpecError(problems)
    total, bound = 0, []
    for index, workload in enumerate(workloads):
        total += workload.count * workload.gpus_per_replica
        if workload.apart_from or workload.together_with:
            bound.append(index)
    if total > MAX_COUNT:
        raise SpecError(f"{total:,} replicas in all; at most {MAX_COUNT:,} are planned at a time")
    if bound:
        by_name = {workload.name: workload for workload in workloads}
        problems = list(islice(_unknown_partners(workloads, bound, by_name), _MAX_PROBLEMS))
        problems = problems or list(islice(_contradictions(workloads, bound, by_name), _MAX_PROBLEMS))
        if problems:
            raise SpecError(problems)


# -- affinity ----------------------------------------------------------------------------------------------------------

_SHARED = {"gpu": "a GPU", "host": "a host"}


def _unknown_partners(workloads: Workloads, bound: list[int], by_name: Mapping[str, Workload]) -> Iterator[Problem]:
    """Yield a problem for each name in `apart_from` and `together_with` that is no other workload."""
    for index in bound:
        workload = workloads[index]
        for field, partners in (("apart_from", workload.apart_from), ("together_with", workload.together_with)):
            for partner in partners:
                if partner == workload.name:
                    message = f"{field} names {partner!r} itself; for its own replicas use spread"
                    yield workloads.problem(index, message, field)
                elif partner not in by_name:
                    hint = did_you_mean(partner, by_name if len(by_name) <= _MAX_HINTED else ())
                    yield workloads.problem(
                        index, f"{field} of {workload.name!r}: no workload {partner!r}" + (f"; {hint}" if hint else ""), field
                    )


def _contradictions(workloads: Workloads, bound: list[int], by_name: Mapping[str, Workload]) -> Iterator[Problem]:
    """Yield a problem for each `together_with` that no layout can satisfy, each pair once.

    A replica lies with replicas of all its partners on one GPU or host, so these share it with each other as well.
    """
    told: set[frozenset[str]] = set()
    for index in bound:
        workload = workloads[index]
        if not workload.together_with:
            continue
        members = [workload, *(by_name[name] for name in dict.fromkeys(workload.together_with))]
        for first, second, message in _clashes(members, on=workload.together_on):
            pair = frozenset((first.name, second.name))
            if pair not in told:
                told.add(pair)
                yield workloads.problem(index, message, "together_with")


def _clashes(members: Sequence[Workload], *, on: str) -> Iterator[tuple[Workload, Workload, str]]:
    """Yield two of some workloads that must share a GPU or host, but cannot, and why, in words."""
    by_name = {member.name: member for member in members}
    who, *others = by_name
    must = f"{who!r} must share {_SHARED[on]} with {', '.join(map(repr, others))} (together_with), but"
    for first in members:
        if first.apart_on == "gpu" and on == "host":
            continue  # on one host, but on two of its GPUs
        for name in first.apart_from:
            if name in by_name:
                never = f"{first.name!r} must not share {_SHARED[first.apart_on]} with {name!r} (apart_from)"
                yield first, by_name[name], f"{must} {never}; drop one of the two"
    if on == "host":
        return
    tenants = [member for member in members if member.tenant is not None]
    for other in tenants[1:]:
        if other.tenant != tenants[0].tenant:
            whose = f"{tenants[0].name!r} belongs to tenant {tenants[0].tenant!r} and {other.name!r} to {other.tenant!r}"
            yield tenants[0], other, f"{must} {whose}, and tenants never share a GPU; use together_on='host'"
    for member in members:
        if member.profile is not None and member.profile.casefold() == "whole":
            other = members[1] if member is members[0] else members[0]
            yield member, other, f"{must} {member.name!r} takes a whole GPU for itself; use together_on='host'"
