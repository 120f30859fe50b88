"""How the fields of a study are written, and read: scenarios in several forms, numbers for all or by name.

Knows how they look, not what is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from benchmarks.scenarios.scenario import Scenario
from partitioner.boundary import Number
from partitioner.errors import SpecError, did_you_mean

ALL = "*"
"""Key of `Study.rate_per_s` and `Study.latency_ms` for everything that has no key of its own."""

_ENTRY_FIELDS = ("profiles", "gpu", "gpus", "name", "plan")
_MOST = 1_000_000


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str | Scenario | Mapping) else value


def _read_scenario(value: object, info: ValidationInfo) -> Scenario:
    """Accept a scenario, its text, its data, or a mapping with ``profiles`` or ``plan`` (a saved plan's file)."""
    if isinstance(value, Scenario):
        return value
    if isinstance(value, Mapping) and "instances" in value:
        return Scenario.from_data(value)
    entry: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"profiles": value}
    for key in entry:
        if key not in _ENTRY_FIELDS:
            raise SpecError(f"unknown field {key!r}; {did_you_mean(str(key), _ENTRY_FIELDS)}")
    if not isinstance(entry.get("name", ""), str):
        raise SpecError(f"name {entry['name']!r} is no text; write e.g. 'two halves'")
    if "plan" in entry and "profiles" not in entry:
        from partitioner.plans import Plan

        return Scenario.from_plan(Plan.load(entry["plan"]), gpu=entry.get("gpu"), name=entry.get("name"))
    if "profiles" not in entry or "plan" in entry:
        raise SpecError("a scenario has either 'profiles', e.g. '4g+2g+1g', or 'plan', the file of a saved plan")
    if "gpu" in entry or "gpu" not in info.data:  # another GPU than the study's, whose number of GPUs does not hold for it
        return Scenario.parse(**{"text" if key == "profiles" else key: entry[key] for key in entry})
    given = {"gpus": info.data.get("gpus"), **entry}
    return Scenario.parse(entry["profiles"], gpu=info.data["gpu"], gpus=given["gpus"], name=given.get("name"))


def _for_all(value: object) -> object:
    return value if isinstance(value, Mapping) or value is None else {ALL: value}


def _number_too(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "number", "exclusiveMinimum": 0, "description": "one for all"})


def _text_too(schema: dict[str, Any]) -> None:
    entry = {"type": "object", "properties": {key: {} for key in _ENTRY_FIELDS}, "additionalProperties": False}
    schema["items"] = {"anyOf": [{"type": "string"}, entry, schema["items"]]}


Positive = Annotated[float, Number, Field(gt=0, le=1e9)]
ByName = Annotated[Mapping[str, Positive] | None, BeforeValidator(_for_all), Field(json_schema_extra=_number_too)]
Count = Annotated[int, Number, Field(ge=1, le=_MOST)]
Seconds = Annotated[float, Number, Field(gt=0, le=86_400)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed), Field(min_length=1)]
Scenarios = Annotated[
    tuple[Annotated[Scenario, BeforeValidator(_read_scenario)], ...],
    BeforeValidator(_listed),
    Field(min_length=1, json_schema_extra=_text_too),
]
Modes = Annotated[
    tuple[Literal["offline", "server", "single_stream", "multi_stream"], ...], BeforeValidator(_listed), Field(min_length=1)
]
