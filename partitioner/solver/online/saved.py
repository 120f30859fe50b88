"""Saved state of an allocator: a file from which another one goes on exactly as the first would have.

Must not know how requests are placed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from partitioner.documents import Document, json_lines, parse, read, write
from partitioner.errors import SpecError
from partitioner.fleet import Fleet, read_fleet

FORMAT, VERSION = "gpu-partitioner allocator", 1

_FLEET = TypeAdapter(Fleet)
_MAX_MIB = 2048  # a million GPUs with seven instances each
Made = TypeVar("Made")
Make = Callable[[Fleet, Mapping[str, Any]], Made]
"""Makes an allocator of a fleet and the data of its books."""


def to_json(fleet: Fleet, data: Mapping[str, Any]) -> str:
    """Return the data of books as JSON with one placement to a line.

    Parameters
    ----------
    fleet : the GPUs.
    data : what `Books.to_data` says.
    """
    head = {
        "format": FORMAT,
        "version": VERSION,
        "fleet": _FLEET.dump_python(fleet, mode="json", exclude_defaults=True),
        **{name: value for name, value in data.items() if name != "placements"},
    }
    return json.dumps(head, ensure_ascii=False)[:-1] + ',\n"placements": ' + json_lines(data["placements"]) + "}\n"


def save(text: str, path: str | os.PathLike[str]) -> None:
    """Write a state to a file."""
    write(path, text)


def load(make: Make[Made], path: str | os.PathLike[str]) -> Made:
    """Read the state in a file."""
    return _restored(make, read(path, max_mib=_MAX_MIB, syntax="json"))


def from_json(make: Make[Made], text: str, origin: str) -> Made:
    """Read a state from text."""
    if not isinstance(text, str):
        raise SpecError(f"{origin}: the state of an allocator is text, not {type(text).__name__}")
    return _restored(make, parse(text, origin=origin, syntax="json"))


def _restored(make: Make[Made], document: Document) -> Made:
    data = document.content(FORMAT, VERSION, what="the state of an allocator")
    try:
        return make(read_fleet(data["fleet"]), data)
    except SpecError as error:
        raise SpecError(document.problem(f"state of an allocator that contradicts itself: {error}")) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SpecError(document.problem(f"state of an allocator that is not complete or of other types: {error!r}")) from error
