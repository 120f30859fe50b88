"""Ordered steps from one layout to another, as a value: text, JSON, files, and the way back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import ConfigDict, TypeAdapter, ValidationError

from partitioner.changes.state import State
from partitioner.changes.step import Step
from partitioner.documents import Document, json_lines, json_text, parse, problems_of, read, write
from partitioner.errors import SpecError, TargetError
from partitioner.layout import GpuKey, Layout, gpu_label

FORMAT = "gpu-partitioner/changes"
VERSION = 1
_MAX_MIB = 2048


@dataclass(frozen=True, eq=False)
class Changes:
    """What `diff` found. True when there is something to do.

    Parameters
    ----------
    base : the GPUs that change, or lend a spare instance, as they were.
    goal : the same GPUs as they shall be.
    steps : what to do, in this order; ``keep`` says what stays on these GPUs.
    peak_interruptions : most replicas that are interrupted at one time.
    """

    base: Layout
    goal: Layout
    steps: tuple[Step, ...]
    peak_interruptions: int = 0
    _counts: Counter[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_counts", Counter(step.kind for step in self.steps))

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __len__(self) -> int:
        """Return the number of steps that do something."""
        return len(self.steps) - self._counts["keep"]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Changes):
            return NotImplemented
        return self.steps == other.steps and self.base == other.base and self.goal == other.goal

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Changes: {self.summary}>"

    # -- figures ---------------------------------------------------------------------------------------------------

    @property
    def created(self) -> int:
        """Instances created, spare ones included."""
        return self._counts["create"]

    @property
    def destroyed(self) -> int:
        """Instances destroyed, spare ones included."""
        return self._counts["destroy"]

    @property
    def kept(self) -> int:
        """Instances that stay on the GPUs that change."""
        return self._counts["keep"]

    @property
    def moved(self) -> int:
        """Moves of replicas, those to a spare instance included."""
        return self._counts["move"]

    @property
    def started(self) -> int:
        """Replicas started, interrupted ones that run again included."""
        return self._counts["start"]

    @property
    def mode_changes(self) -> int:
        """GPUs whose mode changes."""
        return self._counts["mode"]

    @cached_property
    def interruptions(self) -> tuple[str, ...]:
        """Replicas that do not run for a while, as ``workload/replica``, each once."""
        return tuple(dict.fromkeys(who for step in self.steps if step.kind == "drain" for who in step.interrupts))

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """Replicas that the goal does not have and that are stopped for good, as ``workload/replica``, each once."""
        stopped = {(s.workload, s.replica): s.who or "" for s in self.steps if s.kind == "drain" and not s.interrupts}
        for a in self.goal.assignments() if stopped else ():
            stopped.pop((a.workload, a.replica), None)  # one on several GPUs that gives up one of them runs on
        return tuple(stopped.values())

    @property
    def gpus(self) -> tuple[GpuKey, ...]:
        """The GPUs concerned: (host, index in the host)."""
        return tuple(self.base.rows)

    @property
    def summary(self) -> str:
        """All in one line, e.g. ``2 to create, 1 to destroy, 3 kept; interrupts nobody; ends web/0``."""
        if not self.steps:
            return "nothing to do"
        words = {"create": "to create", "destroy": "to destroy", "mode": "to change mode", "move": "to move"}
        words |= {"start": "to start", "drain": "to drain", "keep": "kept"}
        parts = [f"{self._counts[kind]:,} {word}" for kind, word in words.items() if self._counts[kind]]
        stopped = self.interruptions
        interrupts = "nobody" if not stopped else f"{_some(stopped)} ({self.peak_interruptions} at a time)"
        ends = f"; ends {_some(self.endings)}" if self.endings else ""
        return f"{', '.join(parts)}; interrupts {interrupts}{ends}"

    # -- text ------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return the steps, one to a line, and their sum."""
        return "\n".join([*map(str, self.steps), self.summary[:1].upper() + self.summary[1:]])

    # -- ways ------------------------------------------------------------------------------------------------------

    def check(self) -> Changes:
        """Carry the steps out on a copy of the base and return the changes themselves.

        Raises
        ------
        SpecError
            A step is not legal in its turn, or the steps do not end at the goal: the file was changed by hand.
        """
        state = State(self.base)
        for number, step in enumerate(self.steps, 1):
            try:
                state.perform(step)
            except TargetError as error:
                raise SpecError(f"changes: step {number} is not legal in its turn: {error}") from error
        for wanted in self.goal:
            found = state.gpu((wanted.host, wanted.gpu))
            if found.slots != wanted.slots or wanted.mode not in (None, found.mode):
                raise SpecError(f"changes: the steps do not lead to the goal on {gpu_label(wanted.host, wanted.gpu)}")
        return self

    # -- files -----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the changes as JSON, one step and one GPU to a line; equal changes give equal text."""
        head = {
            "format": FORMAT,
            "version": VERSION,
            "summary": self.summary,
            "peak_interruptions": self.peak_interruptions,
            "interruptions": list(self.interruptions),
        }
        lines = [f"{json_text(key)}: {json_text(value)}" for key, value in head.items()]
        lines.append('"steps": ' + json_lines([step.to_data() for step in self.steps]))
        lines.append('"base": ' + json_lines(self.base.to_data()))
        lines.append('"goal": ' + json_lines(self.goal.to_data()))
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, *, origin: str = "<json>") -> Changes:
        """Return the changes that `to_json` wrote, checked.

        Raises
        ------
        SpecError
            The text is no such file, of another version, or its steps do not lead from its base to its goal.
        """
        return cls._from_document(parse(text, origin=origin, syntax="json"))

    @classmethod
    def _from_document(cls, document: Document) -> Changes:
        data = document.content(FORMAT, VERSION, what="a file of changes")
        unknown = sorted(set(data) - {"format", "version", "summary", "peak_interruptions", "interruptions"} - _PARTS)
        missing = sorted(_PARTS - set(data))
        if unknown or missing:
            words = [f"unknown field {name!r}" for name in unknown] + [f"field {name!r} is missing" for name in missing]
            raise SpecError(document.problem("; ".join(words)))
        try:
            steps = _STEPS.validate_python(data["steps"])
        except ValidationError as error:
            problems = problems_of(error, tuple(Step.__dataclass_fields__))
            raise SpecError([document.problem(message, ("steps", *location)) for message, location in problems]) from error
        try:
            base, goal = Layout.from_data(data["base"]), Layout.from_data(data["goal"])
            return cls(base, goal, steps, int(data.get("peak_interruptions") or 0)).check()
        except SpecError as error:
            raise SpecError(document.problem(f"changes are not consistent: {error}")) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the changes as JSON; the file is replaced as a whole or not at all.

        Raises
        ------
        SpecError
            The file cannot be written.
        """
        write(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Changes:
        """Return the changes saved in a file.

        Raises
        ------
        SpecError
            The file holds no changes.
        """
        return cls._from_document(read(path, max_mib=_MAX_MIB, syntax="json"))


_PARTS = {"steps", "base", "goal"}
_STEPS = TypeAdapter(tuple[Step, ...], config=ConfigDict(extra="forbid"))


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
