"""What a user asks for, and every form in which people write it.

A `Workload` is a frozen value; `read_workloads` turns lists, mappings, frames, strings and files into workloads and
remembers where each stood, so that later complaints can name the line. This module must not know fleets or plans.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field as dataclass_field
from dataclasses import fields as dataclass_fields
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.documents import Document, Location, format_location, problems_of, read
from partitioner.errors import GeometryError, Problem, SpecError
from partitioner.geometry import parse_terms

MAX_COUNT = 10_000_000
"""Most replicas of one workload, and of all workloads of one plan."""
_MAX_PROBLEMS = 50  # listed in full; the rest is counted


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Workload:
    """Something that has to run, in a number of equal replicas.

    Parameters
    ----------
    name : unique among the workloads of a plan.
    count : number of replicas; each gets a placement of its own.
    profile : exactly this profile, in any spelling in use (``3g.40gb``, ``T4-4Q``, ``grid_a100d-3-40c``);
        ``whole`` for a GPU of any model, the model's name for a whole GPU of it (``H100-80GB``).
    memory_gib : at least this much usable memory for each replica [GiB].
    compute_slices : at least this many MIG compute slices for each replica (time-sliced vGPUs own none).
    gpu_share : at least this share of a GPU for each replica, of its memory and, where compute is cut, of its
        compute, above 0 and at most 1.
    model : a model to serve, by its name in the calibration (``bert-99``); profiles, batches, processes and the number of
        instances are then chosen together, and `profile`, `memory_gib`, `compute_slices`, `gpu_share` only narrow the
        choice.
    rate : requests/s to serve in all.
    latency_ms : what the model may take [ms]; None where `scenario` is ``offline``.
    scenario : ``server``: 99% of requests with Poisson arrivals within `latency_ms`; ``batch``: one batch within it;
        ``offline``: throughput alone.
    max_batch, max_processes : largest batch and most processes on one instance.
    isolation : ``hardware`` allows MIG and whole GPUs only, ``any`` time-sliced vGPUs too.
    priority : where not everything fits, higher priorities are placed first.
    labels : the user's own marks, carried through.

    Raises
    ------
    SpecError
        A value is out of range, a field unknown, fields contradict each other (`profile` and a size without a model,
        a rate without a model), or nothing is asked for.

    Examples
    --------
    >>> Workload("chat", profile="3g.40gb", count=2).count
    2
    """

    name: Annotated[str, Field(min_length=1, max_length=253)]
    count: Annotated[int, Number, Field(ge=1, le=MAX_COUNT)] = 1
    profile: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    memory_gib: Annotated[float, Number, Field(gt=0, le=1_000_000)] | None = None
    compute_slices: Annotated[int, Number, Field(ge=1, le=1_000)] | None = None
    gpu_share: Annotated[float, Number, Field(gt=0, le=1)] | None = None
    priority: Annotated[int, Number, Field(ge=-1_000_000_000, le=1_000_000_000)] = 0
    labels: dict[str, str] = dataclass_field(default_factory=dict, hash=False)

    @model_validator(mode="after")
    def _one_kind_of_demand(self) -> Workload:
        if self.memory_gib is None and self.compute_slices is None and self.gpu_share is None:
            if self.profile is None:
                raise ValueError("nothing is asked for; give profile, or memory_gib, compute_slices or gpu_share")
            return self
        sizes = [name for name in ("memory_gib", "compute_slices", "gpu_share") if getattr(self, name) is not None]
        if self.profile is not None:
            raise ValueError(f"profile {self.profile!r} and {sizes[0]} are both given; a profile says both, give one of them")
        return self

    @property
    def demand(self) -> str:
        """The demand in words, e.g. ``3g.40gb`` or ``8 GiB, 2 compute slices``."""
        if self.profile is not None:
            return self.profile
        parts = []
        if self.memory_gib is not None:
            parts.append(f"{self.memory_gib:g} GiB")
        if self.compute_slices is not None:
            parts.append(f"{self.compute_slices} compute slice" + "s" * (self.compute_slices > 1))
        if self.gpu_share is not None:
            parts.append(f"{self.gpu_share:g} of a GPU")
        return ", ".join(parts)


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
        for name in ("count", "compute_slices", "priority"):
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
        items: list[Workload] = records if all(type(r) is Workload for r in records) else _LIST.validate_python(records)
    except ValidationError as error:
        found = problems_of(error, FIELDS)
        raise SpecError(_list_problems(found, records, document, locate)) from None
    workloads = Workloads(items, document, locate)
    _check_together(workloads)
    return workloads


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
    """Names are unique and the replicas of all together stay within reason."""
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
    total = sum(workload.count for workload in workloads)
    if total > MAX_COUNT:
        raise SpecError(f"{total:,} replicas in all; at most {MAX_COUNT:,} are planned at a time")
