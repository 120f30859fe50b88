"""Ordered steps for virtual machines, as a value: text, JSON, files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from partitioner.documents import Document, json_lines, parse, problems_of, read, write
from partitioner.errors import SpecError
from vsphere.changes.step import KINDS, VmStep
from vsphere.machine.vm import Vm
from vsphere.values import ClusterInfo, VmInfo

FORMAT = "gpu-partitioner/vsphere-changes"
VERSION = 1
_MAX_MIB = 512


@dataclass(frozen=True)
class VmChanges:
    """What `diff` found. True when there is something to do.

    Parameters
    ----------
    vcenter : whose machines.
    base : machines that are touched, as they were.
    goal : machines that shall be, kept ones included.
    steps : what to do, in an order in which it may be done one by one.
    hosts : hosts whose machines of ours the goal replaces.
    clusters : clusters whose rules change, as they were.
    left : names of machines of ours that are no part of the goal and stay as they are.
    """

    vcenter: str
    base: tuple[VmInfo, ...]
    goal: tuple[Vm, ...]
    steps: tuple[VmStep, ...]
    hosts: tuple[str, ...] = ()
    clusters: tuple[ClusterInfo, ...] = ()
    left: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return len(self) > 0

    def __len__(self) -> int:
        """Return the number of steps that do something."""
        return sum(step.kind != "keep" for step in self.steps)

    def __iter__(self) -> Iterator[VmStep]:
        return iter(self.steps)

    def __repr__(self) -> str:
        return f"<VmChanges: {self.summary}>"

    def __str__(self) -> str:
        return self.to_text()

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(step.kind for step in self.steps)

    def count(self, kind: str) -> int:
        """Return the number of steps of a kind."""
        return self._counts[kind]

    @cached_property
    def interruptions(self) -> tuple[str, ...]:
        """Replicas that do not run for a while, as ``workload/replica``, each once."""
        return tuple(dict.fromkeys(who for step in self.steps for who in step.interrupts))

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """Replicas whose machines are destroyed and that the goal does not have, each once."""
        goes_on = {f"{vm.workload}/{replica}" for vm in self.goal for replica in vm.replicas}
        ended = dict.fromkeys(who for step in self.steps if step.kind == "destroy" for who in step.who)
        return tuple(who for who in ended if who not in goes_on)

    @property
    def plans(self) -> tuple[str, ...]:
        """Ids of the plans that the goal's machines are of."""
        return tuple(dict.fromkeys(vm.plan for vm in self.goal))

    @property
    def summary(self) -> str:
        """All in one line, e.g. ``2 to create, 2 to power on, 1 kept; interrupts nobody``."""
        if not self:
            return "nothing to do" + (f", {self._counts['keep']:,} kept" if self._counts["keep"] else "")
        words = {kind: f"to {kind}" for kind in KINDS} | {"rules": "with new DRS rules", "keep": "kept"}
        parts = [f"{self._counts[kind]:,} {words[kind]}" for kind in KINDS if self._counts[kind]]
        text = f"{', '.join(parts)}; interrupts {_some(self.interruptions) or 'nobody'}"
        if self.endings:
            text += f"; ends {_some(self.endings)}"
        if self.left:
            text += f"; leaves {_some(self.left)} of other plans as they are"
        return text

    def to_text(self) -> str:
        """Return the steps, one to a line, and their sum."""
        return "\n".join([*map(str, self.steps), self.summary[:1].upper() + self.summary[1:]])

    # -- files ------------------------------------------------------------------------------------------------------------

    def to_data(self) -> dict[str, Any]:
        """Return the changes as plain data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "summary": self.summary,
            "interruptions": list(self.interruptions),
            "vcenter": self.vcenter,
            "hosts": list(self.hosts),
            "left": list(self.left),
            "steps": [{"mark": step.mark} | step.to_data() for step in self.steps],
            "base": _BASE.dump_python(self.base, mode="json", exclude_defaults=True),
            "clusters": _CLUSTERS.dump_python(self.clusters, mode="json", exclude_defaults=True),
            "goal": _GOAL.dump_python(self.goal, mode="json", exclude_defaults=True),
        }

    def to_json(self) -> str:
        """Return the changes as JSON, one step and one machine to a line; equal changes give equal text."""
        lines = [
            f"{json.dumps(key)}: {json_lines(value) if key in _LISTS else json.dumps(value, ensure_ascii=False)}"
            for key, value in self.to_data().items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, *, origin: str = "<json>") -> VmChanges:
        """Return the changes that `to_json` wrote.

        Raises
        ------
        SpecError
            The text is no such file, or of another version.
        """
        return cls.from_document(parse(text, origin=origin, syntax="json"))

    @classmethod
    def from_document(cls, document: Document) -> VmChanges:
        """Return the changes of a document that was read.

        Raises
        ------
        SpecError
            It holds none.
        """
        data = document.data
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise SpecError(document.problem(f'no changes of machines; such a file has "format": "{FORMAT}"'))
        if data.get("version") != VERSION:
            message = f"changes of version {data.get('version')!r}; this release reads {VERSION}"
            raise SpecError(document.problem(message, ("version",)))
        unknown = sorted(set(data) - {"format", "version", "summary", "interruptions", "vcenter", "hosts", "left"} - set(_LISTS))
        missing = sorted({"vcenter", *_LISTS} - set(data))
        if unknown or missing:
            words = [f"unknown field {name!r}" for name in unknown] + [f"field {name!r} is missing" for name in missing]
            raise SpecError(document.problem("; ".join(words)))
        steps = [{k: v for k, v in step.items() if k != "mark"} if isinstance(step, Mapping) else step for step in data["steps"]]
        values = {
            "steps": _checked(document, "steps", _STEPS, steps),
            "base": _checked(document, "base", _BASE, data["base"]),
            "goal": _checked(document, "goal", _GOAL, data["goal"]),
            "clusters": _checked(document, "clusters", _CLUSTERS, data["clusters"]),
            "hosts": _checked(document, "hosts", _NAMES, data.get("hosts", [])),
            "left": _checked(document, "left", _NAMES, data.get("left", [])),
            "vcenter": _checked(document, "vcenter", _NAME, data["vcenter"]),
        }
        return cls(**values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the changes as JSON; the file is replaced as a whole or not at all.

        Raises
        ------
        SpecError
            The file cannot be written.
        """
        write(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VmChanges:
        """Return the changes saved in a file.

        Raises
        ------
        SpecError
            The file holds none.
        """
        return cls.from_document(read(path, max_mib=_MAX_MIB, syntax="json"))


_LISTS = ("steps", "base", "clusters", "goal")
_STEPS: TypeAdapter[tuple[VmStep, ...]] = TypeAdapter(tuple[VmStep, ...], config=ConfigDict(extra="forbid"))
_BASE = TypeAdapter(tuple[VmInfo, ...])
_CLUSTERS = TypeAdapter(tuple[ClusterInfo, ...])
_GOAL = TypeAdapter(tuple[Vm, ...])
_NAMES = TypeAdapter(tuple[str, ...])
_NAME = TypeAdapter(str)


def _checked(document: Document, field: str, adapter: TypeAdapter[Any], value: object) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise SpecError([document.problem(message, (field, *where)) for message, where in problems_of(error)]) from error


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
