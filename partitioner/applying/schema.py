"""The JSON schema of a file of changes, which `apply` takes. Must not know how changes are found."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from partitioner.changes import FORMAT, Step


def changes_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a file that `Changes.save` wrote.

    Notes
    -----
    Says the form. Whether each step is legal in its turn, and the last one ends at the goal, `Changes.load` checks.
    """
    steps = TypeAdapter(tuple[Step, ...]).json_schema()
    layout = {"type": "array", "items": {"$ref": "#/$defs/Gpu"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpu-partitioner changes",
        "$defs": {**steps.pop("$defs", {}), "Gpu": _GPU},
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "version": {"const": 1},
            "summary": {"type": "string"},
            "peak_interruptions": {"type": "integer", "minimum": 0},
            "interruptions": {"type": "array", "items": {"type": "string"}},
            "steps": steps,
            "base": layout,
            "goal": layout,
        },
        "required": ["format", "version", "steps", "base", "goal"],
        "additionalProperties": False,
    }


_NAME: dict[str, Any] = {"type": ["string", "null"]}
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}
_PLACEMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "profile": {"type": "string"},
        "start": _NUMBER,
        "workload": _NAME,
        "replica": {"type": ["integer", "null"], "minimum": 0},
        "ready": {"type": "boolean"},
    },
    "required": ["profile", "start"],
    "additionalProperties": False,
}
_GPU: dict[str, Any] = {
    "type": "object",
    "properties": {
        "host": _NAME,
        "gpu": _NUMBER,
        "model": {"type": "string"},
        "mode": _NAME,
        "uuid": {"type": "string"},
        "placements": {"type": "array", "items": _PLACEMENT},
    },
    "required": ["host", "gpu", "model", "mode", "placements"],
    "additionalProperties": False,
}
