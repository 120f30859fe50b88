"""The file of an inventory, YAML or JSON: written, and read strictly, with the line of whatever is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from partitioner.documents import Document, problems_of, write
from partitioner.documents import read as read_document
from partitioner.errors import SpecError
from vsphere import values
from vsphere.values import Inventory

FORMAT, VERSION = "gpu-partitioner/vsphere-inventory", 1

_MAX_MIB = 256
_MAX_PROBLEMS = 50
_ADAPTER = TypeAdapter(Inventory)
_KINDS = [kind for name in values.__all__ if isinstance(kind := getattr(values, name), type)]
_DEFAULTS = {kind: tuple((field.name, field.default) for field in fields(kind)) for kind in _KINDS}
_FIELDS = sorted({field.name for kind in _KINDS for field in fields(kind)} | {"format", "version"})
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def to_data(inventory: Inventory) -> dict[str, Any]:
    """Return plain data of an inventory; what is as it is by default is left out."""
    return {"format": FORMAT, "version": VERSION} | {
        "product" if name == "version" else name: value for name, value in _plain(inventory).items()
    }


def _plain(value: Any) -> Any:
    defaults = _DEFAULTS.get(type(value))
    if defaults is not None:
        found = {}
        for name, default in defaults:
            part = getattr(value, name)
            if default is MISSING or part != default:
                pairs = name in ("options", "folders")
                found[name] = dict(part) if pairs else _plain(part)
        return found
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def dump(inventory: Inventory, path: str | os.PathLike[str]) -> None:
    """Write an inventory to a file: JSON where its name ends so, else YAML; as a whole or not at all.

    Raises
    ------
    SpecError
        The file cannot be written.
    """
    data = to_data(inventory)
    if os.fspath(path).casefold().endswith(".json"):
        text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    else:
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    write(path, text)


def load(source: str | os.PathLike[str] | Document | Mapping[str, Any]) -> Inventory:
    """Read an inventory from a file, a document or plain data.

    Raises
    ------
    SpecError
        All problems found, each with file and line where there is a file.
    """
    document = None
    if isinstance(source, Document):
        document = source
    elif not isinstance(source, Mapping):
        document = read_document(source, max_mib=_MAX_MIB)
    data: Any = document.data if document else source
    _check_format(data, document)
    content = {key: value for key, value in data.items() if key not in ("format", "version", "product")}
    try:
        return _ADAPTER.validate_python({**content, "version": data.get("product", "")})
    except ValidationError as error:
        found = [(message, ("product",) if where == ("version",) else where) for message, where in problems_of(error, _FIELDS)]
        problems = [document.problem(m, where) if document else m for m, where in found[:_MAX_PROBLEMS]]
        if document is None:
            raise SpecError("; ".join(f"{'.'.join(map(str, where))}: {m}" for m, where in found[:_MAX_PROBLEMS])) from None
        raise SpecError([problem for problem in problems if not isinstance(problem, str)]) from None


def _check_format(data: Any, document: Document | None) -> None:
    if not isinstance(data, Mapping):
        message = f"an inventory is a mapping, not {type(data).__name__}; `partitioner vsphere inventory --out FILE` writes one"
        raise SpecError(document.problem(message) if document else message)
    for key, right in (("format", FORMAT), ("version", VERSION)):
        if data.get(key) != right or isinstance(data.get(key), bool):
            message = f"{key} is {data.get(key)!r}, not {right!r}; `partitioner vsphere inventory --out FILE` writes such a file"
            raise SpecError(document.problem(message, (key,) if key in data else ()) if document else message)
