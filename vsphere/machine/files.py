"""Virtual machines as YAML, for an administrator to read and edit before anything happens."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from partitioner.documents import Document, parse, problems_of, read, write
from partitioner.errors import Problem, SpecError
from vsphere.machine.layout import check_names
from vsphere.machine.vm import Device, Nic, Vm
from vsphere.values import Place

FORMAT = "gpu-partitioner/vms"
VERSION = 1

_HEAD = """\
# Virtual machines for GPUs. Edit what you like; what is left out has its default. Nothing happens until you apply it.
# plan, workload, replicas and instance_uuid say whose a machine is: with others it is another machine.
"""
_VM = TypeAdapter(Vm)
_FIELDS = sorted({field.name for kind in (Vm, Device, Nic, Place) for field in fields(kind)})
_MAX_PROBLEMS = 50


class _Exact(yaml.SafeDumper):
    """Writes texts so that they come back as they are: line separators of Unicode survive in double quotes only."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Exact.add_representer(str, _text)


def vms_to_yaml(vms: Iterable[Vm]) -> str:
    """Return machines as YAML; `vms_from_yaml` gives equal ones back.

    Examples
    --------
    >>> vms_from_yaml(vms_to_yaml(()))
    ()
    """
    data = {"format": FORMAT, "version": VERSION, "vms": [_data(vm) for vm in vms]}
    return _HEAD + yaml.dump(data, Dumper=_Exact, sort_keys=False, allow_unicode=True, width=120)


def vms_from_yaml(text: str, *, origin: str = "<yaml>") -> tuple[Vm, ...]:
    """Return the machines that a YAML text describes.

    Raises
    ------
    SpecError
        All problems found, each with line and field: an unknown field, a value out of range, a name or identity that stands
        twice, another format or version.
    """
    return _from_document(parse(text, origin=origin))


def save_vms(vms: Iterable[Vm], path: str | os.PathLike[str]) -> None:
    """Write machines to a YAML file, as a whole or not at all.

    Raises
    ------
    SpecError
        The file cannot be written.
    """
    write(path, vms_to_yaml(vms))


def load_vms(path: str | os.PathLike[str]) -> tuple[Vm, ...]:
    """Return the machines of a YAML or JSON file (``-``: standard input).

    Raises
    ------
    SpecError
        As of `vms_from_yaml`, or the file cannot be read.
    """
    return _from_document(read(path))


def _data(vm: Vm) -> dict[str, Any]:
    data: dict[str, Any] = _VM.dump_python(vm, mode="json", exclude_defaults=True)
    return data


def _from_document(document: Document) -> tuple[Vm, ...]:
    data = document.content(FORMAT, VERSION, what="a file of virtual machines")
    problems = [
        document.problem(f"unknown field {key!r}; beside format and version stands vms", (key,))
        for key in data
        if key not in ("format", "version", "vms")
    ]
    entries = data.get("vms")
    if not isinstance(entries, list):
        raise SpecError([*problems, document.problem("vms is a list of virtual machines; an empty one is []", ("vms",))])
    vms: list[Vm] = []
    places: list[int] = []
    for number, entry in enumerate(entries):
        try:
            vms.append(_VM.validate_python(entry))
            places.append(number)
        except ValidationError as error:
            problems += [document.problem(m, ("vms", number, *place)) for m, place in problems_of(error, _FIELDS)]
    for position, message, field in check_names(vms):
        problems.append(document.problem(message, ("vms", places[position], field)))
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        raise SpecError(
            [*problems[:_MAX_PROBLEMS], *([Problem(f"and {more} more problems", document.origin)] if more > 0 else [])]
        )
    return tuple(vms)
