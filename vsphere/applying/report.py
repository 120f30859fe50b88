"""What an apply, rollback or destroy of machines did, as a value. Must not know vCenter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from vsphere.changes import VmStep

VmVerb = Literal["apply", "rollback", "destroy"]


@dataclass(frozen=True, slots=True)
class VmReport:
    """What was done.

    Parameters
    ----------
    verb : ``apply``, ``rollback`` or ``destroy``.
    target : name of the vCenter.
    steps : steps carried out; of a dry run, those that would be.
    seconds : what all took, reading and checking included [s].
    dry_run : whether nothing was changed.
    gpus : machines that got other GPUs than planned, one line each.
    warnings : what vCenter said of them when they were checked beforehand, one line each.
    """

    verb: VmVerb
    target: str
    steps: tuple[VmStep, ...]
    seconds: float
    dry_run: bool
    gpus: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def interruptions(self) -> tuple[str, ...]:
        """Replicas that did not run for a while, as ``workload/replica``, each once."""
        return tuple(dict.fromkeys(who for step in self.steps for who in step.interrupts))

    @property
    def summary(self) -> str:
        """All in one line."""
        count = f"{len(self.steps):,} step{'' if len(self.steps) == 1 else 's'}"
        if not self.steps:
            text = f"{self.target}: nothing to do"
        elif self.dry_run:
            text = f"{self.target}: {self.verb} would carry out {count}; nothing was changed (dry run)"
        else:
            done = {"apply": "applied", "rollback": "rolled back with", "destroy": "destroyed with"}[self.verb]
            text = f"{self.target}: {done} {count} in {self.seconds:.2f} s"
        if self.steps:
            text += f"; interrupts {', '.join(self.interruptions) or 'nobody'}"
        return text + (f"; {len(self.gpus):,} on other GPUs than planned" if self.gpus else "")

    def __str__(self) -> str:
        """One line for each step, what is to be known, and the sum."""
        return "\n".join([*map(str, self.steps), *self.warnings, *self.gpus, self.summary])

    def to_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "verb": self.verb,
            "target": self.target,
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 6),
            "interruptions": list(self.interruptions),
            "steps": [{"mark": step.mark} | step.to_data() for step in self.steps],
            "gpus": list(self.gpus),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_data(), ensure_ascii=False, indent=1) + "\n"
