"""Every error the package raises on purpose.

A message reads: who - what is wrong, with the value - what would be right. This module knows nothing else of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class PartitionerError(Exception):
    """Base of all errors raised on purpose by gpu-partitioner."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input.

    Parameters
    ----------
    message : what is wrong, with the value, and what would be right.
    origin : the file (or ``"<stdin>"``) it stands in, if any.
    line : 1-based line in that file, if known.
    field : dotted path of the field, if any, e.g. ``workloads[3].profile``.
    """

    message: str
    origin: str | None = None
    line: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.origin, self.line) if part is not None)
        return ": ".join(part for part in (place, self.field, self.message) if part)


class SpecError(PartitionerError, ValueError):
    """An input (argument, workload, fleet, catalogue file) is not valid; nothing was done with it.

    Attributes
    ----------
    problems : all problems found in the input, in order of appearance.
    """

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class GeometryError(PartitionerError, ValueError):
    """Placements or a configuration break a rule of a GPU's geometry."""


class InfeasibleError(PartitionerError):
    """Not everything that was asked for can be placed.

    Attributes
    ----------
    reasons : one line for each workload left out.
    """

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons: tuple[str, ...] = tuple(reasons)
        super().__init__("\n".join((message, *self.reasons)))


class VerificationError(PartitionerError):
    """A plan contradicts the catalogue, its workloads or its own figures.

    Attributes
    ----------
    findings : one line for each contradiction.
    """

    def __init__(self, findings: Iterable[str]) -> None:
        self.findings: tuple[str, ...] = tuple(findings)
        super().__init__("\n".join(self.findings))


class TargetError(PartitionerError, RuntimeError):
    """What carries changes out (a driver, a simulated fleet, vCenter) cannot do or tell what was asked of it."""


class InUseError(TargetError):
    """Something runs where a change would interrupt it.

    Attributes
    ----------
    pids : the processes, by id, ascending; empty where only the fact is known.
    """

    def __init__(self, message: str, pids: Iterable[int] = ()) -> None:
        self.pids: tuple[int, ...] = tuple(sorted(pids))
        super().__init__(message)


class DriftError(TargetError):
    """The target is no longer in the state that changes were computed from; nothing was changed.

    Attributes
    ----------
    findings : one line for each difference.
    """

    def __init__(self, message: str, findings: Iterable[str] = ()) -> None:
        self.findings: tuple[str, ...] = tuple(findings)
        super().__init__("\n".join((message, *self.findings)))


class StepError(TargetError):
    """A step could not be carried out; its cause is `__cause__`.

    Attributes
    ----------
    step : the step that failed.
    done : steps carried out before it, in order.
    remaining : steps not carried out, the failed one first.
    rolled_back : whether the steps done were taken back; None where that was not wanted.
    """

    def __init__(
        self,
        message: str,
        *,
        step: object,
        done: Sequence[object] = (),
        remaining: Sequence[object] = (),
        rolled_back: bool | None = None,
    ) -> None:
        self.step, self.done, self.remaining = step, tuple(done), tuple(remaining)
        self.rolled_back = rolled_back
        super().__init__(message)


def did_you_mean(word: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Return a hint with the near matches of a word, or with all known words when they are few.

    Parameters
    ----------
    word : what was given.
    known : what would be right.
    limit : most near matches to name.

    Returns
    -------
    A phrase to put after the message: ``did you mean 'x'?``, or ``known: a, b``; empty when nothing helps.

    Examples
    --------
    >>> did_you_mean("A100-90GB", ["A100-80GB", "T4"])
    "did you mean 'A100-80GB'?"
    """
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    near = difflib.get_close_matches(word.casefold(), list(by_folded), n=limit, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(by_folded[match]) for match in near) + "?"
    names = list(by_folded.values())
    return "known: " + ", ".join(names) if 0 < len(names) <= 12 else ""
