"""What an apply or a rollback did, as a value. Must not know targets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from partitioner.applying.words import some
from partitioner.changes import Step
from partitioner.layout import Layout

Verb = Literal["apply", "rollback"]


@dataclass(frozen=True, eq=False)
class Report:
    """What was done.

    Parameters
    ----------
    verb : ``apply`` or ``rollback``.
    target : name of the target.
    steps : steps carried out, in order; of a dry run, those that would be.
    skipped : steps that had been carried out before, by a run that did not end.
    durations_s : what each step took [s]; none of a dry run.
    seconds : what all took, reading and checking included [s].
    dry_run : whether nothing was changed.
    layout : what is on all GPUs of the target afterwards.
    """

    verb: Verb
    target: str
    steps: tuple[Step, ...]
    skipped: tuple[Step, ...]
    durations_s: tuple[float, ...]
    seconds: float
    dry_run: bool
    layout: Layout

    def __bool__(self) -> bool:
        """Whether anything was, or would be, done."""
        return bool(self.steps)

    @property
    def interruptions(self) -> tuple[str, ...]:
        """Replicas that did not run for a while, as ``workload/replica``, each once."""
        return tuple(dict.fromkeys(who for step in self.steps for who in step.interrupts))

    @property
    def endings(self) -> tuple[str, ...]:
        """Replicas that were stopped for good, as ``workload/replica``, each once."""
        return tuple(dict.fromkeys(step.who or "" for step in self.steps if step.kind == "drain" and not step.interrupts))

    def __repr__(self) -> str:
        return f"<Report: {self.summary}>"

    @property
    def summary(self) -> str:
        """All in one line."""
        count = f"{len(self.steps):,} step{'' if len(self.steps) == 1 else 's'}"
        if not self.steps:
            text = f"{self.target}: nothing to do"
        elif self.dry_run:
            text = f"{self.target}: {self.verb} would carry out {count}; nothing was changed (dry run)"
        else:
            text = f"{self.target}: {'applied' if self.verb == 'apply' else 'rolled back with'} {count} in {self.seconds:.2f} s"
        if self.skipped:
            text += f"; {len(self.skipped):,} done before"
        if self.steps:
            text += f"; interrupts {some(self.interruptions) or 'nobody'}"
        if self.endings:
            text += f"; ends {some(self.endings)}"
        return text

    def __str__(self) -> str:
        """One line for each step with what it took, and the sum."""
        times = [f"{took:.3f} s".rjust(9) + "  " for took in self.durations_s] or [""] * len(self.steps)  # none of a dry run
        first = len(self.skipped) + 1
        lines = [f"{n:>4}  {took}{step}" for n, (took, step) in enumerate(zip(times, self.steps, strict=True), first)]
        return "\n".join([*lines, self.summary])

    def to_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "verb": self.verb,
            "target": self.target,
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 6),
            "interruptions": list(self.interruptions),
            "endings": list(self.endings),
            "steps": [{"mark": step.mark} | step.to_data() for step in self.steps],
            "skipped": [{"mark": step.mark} | step.to_data() for step in self.skipped],
            "durations_s": [round(duration, 6) for duration in self.durations_s],
            "layout": self.layout.to_data(),
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_data(), ensure_ascii=False, indent=1) + "\n"
