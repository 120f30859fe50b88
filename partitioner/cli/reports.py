"""How a run that changes something is asked for and told of, on any target. Must not know what is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from partitioner.cli.asking import say_interrupted
from partitioner.cli.output import counted, print_json, print_text, write_file
from partitioner.errors import StepError


class Told(Protocol):
    """What a run reports."""

    @property
    def target(self) -> str:
        """Name of the target."""

    @property
    def steps(self) -> Sequence[object]:
        """The steps."""

    @property
    def summary(self) -> str:
        """All in one line."""

    def to_json(self) -> str:
        """Return all as JSON."""


def question(verb: str, report: Told, warnings: Sequence[str]) -> str:
    """Return the question before a run, with what is disruptive in it."""
    said = f" DISRUPTIVE: {'; '.join(warnings)}." if warnings else " Nothing is interrupted."
    return f"{verb.capitalize()}: {counted(len(report.steps), 'step')} on {report.target}.{said} Go on?"


def present(report: Told, *, as_json: bool, out: Path | None) -> None:
    """Print a report, and write it to a file where one is named."""
    if as_json:
        print_json(report.to_json())
    else:
        print_text(report.summary)
    if out:  # last: what was done is said, whatever becomes of the file
        write_file(out, report.to_json())


@contextmanager
def reporting(out: Path | None, *, as_json: bool) -> Iterator[None]:
    """Where a step fails, write what was done for programs too; the message itself is written by `main`."""
    try:
        yield
    except StepError as error:
        data = {
            "error": str(error),
            "rolled_back": error.rolled_back,
            "step": _data(error.step),
            "done": [_data(step) for step in error.done],
            "remaining": [_data(step) for step in error.remaining],
        }
        if as_json:
            print_json(data)
        if out:
            write_file(out, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
        raise
    except KeyboardInterrupt as stop:
        raise say_interrupted(stop) from stop


def _data(step: Any) -> dict[str, Any]:
    return {"mark": step.mark} | dict(step.to_data())
