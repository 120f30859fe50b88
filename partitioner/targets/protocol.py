"""What carries changes out, as `apply` sees it: three verbs. Must not know any driver, nor how changes are found."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from partitioner.changes.step import Step
from partitioner.fleet import Fleet
from partitioner.layout import Layout
from partitioner.targets.state import StateFolder


@runtime_checkable
class Target(Protocol):
    """GPUs that can be read and changed.

    A target may have an attribute `state`, a `StateFolder` or None: with one, `apply` locks it, keeps its journal there,
    and `rollback` works. `str` of a target is its name in messages.
    """

    def fleet(self) -> Fleet:
        """Return the hosts and GPUs that are there, with their modes and instances.

        Raises
        ------
        TargetError
            They cannot be read.
        """

    def layout(self) -> Layout:
        """Return what is on each GPU now, unused GPUs included, in the order of `fleet`.

        Raises
        ------
        TargetError
            It cannot be read.
        """

    def perform(self, step: Step) -> None:
        """Carry one step out; it is done when this returns.

        A step that was begun and not finished, by this process or one that was killed, is finished: performing it once
        more is safe. A step that is done already is not performed again by `apply`.

        Raises
        ------
        InUseError
            Something runs where the step would interrupt it.
        TargetError
            The step is not legal now, or the target refused; says why and what to do.
        """


def state_of(target: Target) -> StateFolder | None:
    """Return the folder where a target keeps its state, None where it keeps none."""
    state = getattr(target, "state", None)
    return state if isinstance(state, StateFolder) else None
