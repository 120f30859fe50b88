"""What is said when a run did not reach its goal. Must not know how runs are performed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partitioner.applying.performing import Outcome
from partitioner.applying.position import Position
from partitioner.applying.words import some_lines
from partitioner.errors import PartitionerError, StepError, TargetError


@dataclass(frozen=True, slots=True)
class Return:
    """Whether what was done was taken back.

    Parameters
    ----------
    wanted : whether it should be.
    error : why it could not be; None where it was, or was not wanted.
    """

    wanted: bool
    error: PartitionerError | None = None

    @property
    def succeeded(self) -> bool | None:
        """As `StepError.rolled_back`."""
        return (self.error is None) if self.wanted else None

    @property
    def text(self) -> str:
        """What is to be done now."""
        if not self.wanted:
            return "what was done stays; diff again and apply to go on, or roll back"
        if self.error is None:
            return "what was done was taken back, the GPUs are as before"
        return f"what was done could not be taken back: {self.error}; mend that, then roll back, or diff again and apply to go on"


def step_error(where: Position, outcome: Outcome, taken: Return) -> StepError:
    """Return the error of a step that failed."""
    step, done = outcome.remaining[0], (*where.done, *outcome.done)
    number, total = len(done) + 1, len(done) + len(outcome.remaining)
    what = step.kind if step.place is None else f"{step.kind} {step.profile}@{step.start}"
    gpu = f"{step.label} ({step.model}): "
    text = "the steps before it were taken back" if step.kind == "mode" and taken.succeeded else taken.text  # a mode may pend
    message = f"{gpu}step {number} of {total}, {what}, failed: {str(outcome.error).removeprefix(gpu)}; {text}"
    return StepError(message, step=step, done=done, remaining=outcome.remaining, rolled_back=taken.succeeded)


def goal_missed(target: str, lines: Sequence[str], taken: Return) -> TargetError:
    """Return the error of a target that reported success for all steps and is not at the goal."""
    head = f"{target}: reported success for every step, but is not at the goal; {taken.text}"
    return TargetError("\n".join((head, *some_lines(lines))))
