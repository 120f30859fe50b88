"""`diff`: from two layouts to the steps between them. Pure: reads no file and asks no target."""

from __future__ import annotations

from typing import Protocol

from partitioner.changes.changes import Changes
from partitioner.changes.gpus import changed_gpus, journeys
from partitioner.changes.sequence import Sequencer
from partitioner.changes.spare import Spares
from partitioner.errors import SpecError
from partitioner.layout import Layout


class HasLayout(Protocol):
    """What has a layout: a plan."""

    @property
    def layout(self) -> Layout:
        """Placements and occupants."""


def diff(current: Layout | HasLayout, goal: Layout | HasLayout, *, max_interruptions: int | None = None) -> Changes:
    """Return the steps that lead from one layout to another.

    Parameters
    ----------
    current : what there is.
    goal : what shall be, a layout or a plan. GPUs that it does not name stay as they are; one without mode and
        placements is emptied.
    max_interruptions : most replicas that may be interrupted at one time; None for any number.

    Returns
    -------
    Steps that are each legal in their turn. Instances that stay are not touched. A replica that moves begins in its new
    instance before it leaves the old one; where places have to be exchanged, it waits in a spare instance of the same
    profile, and only where there is none it is interrupted.

    Raises
    ------
    SpecError
        The goal has a GPU that is not in the current layout or is of another model there.
    InfeasibleError
        No order was found that keeps to `max_interruptions`.

    Examples
    --------
    >>> from partitioner.layout import GpuLayout, Slot
    >>> now = Layout.of([GpuLayout("a", 0, "A100-80GB", "mig", (Slot("3g.40gb", 0, "chat", 0),))])
    >>> goal = Layout.of([GpuLayout("a", 0, "A100-80GB", "mig", (Slot("3g.40gb", 4, "chat", 0), Slot("4g.40gb", 0)))])
    >>> for step in diff(now, goal):
    ...     print(step)
    + a/gpu0 (A100-80GB): create 3g.40gb@4
    ~ a/gpu0 (A100-80GB): move chat/0 to 3g.40gb@4 from a/gpu0 3g.40gb@0
    - a/gpu0 (A100-80GB): destroy 3g.40gb@0 (not in the goal)
    + a/gpu0 (A100-80GB): create 4g.40gb@0

    Notes
    -----
    Linear in the number of placements of the GPUs that change, where no places have to be exchanged.
    """
    if max_interruptions is not None and (
        isinstance(max_interruptions, bool) or not isinstance(max_interruptions, int) or max_interruptions < 0
    ):
        raise SpecError(f"max_interruptions is {max_interruptions!r}, not a number of replicas from 0 on, or None")
    before, after = _layout(current, "current"), _layout(goal, "goal")
    gpus = changed_gpus(before, after)
    sequencer = Sequencer(gpus, journeys(gpus.values()), Spares(before, after, gpus), max_interruptions)
    steps = sequencer.run()
    return Changes(before.only(gpus), after.only(gpus), tuple(steps), sequencer.peak)


def _layout(value: Layout | HasLayout, name: str) -> Layout:
    found = value if isinstance(value, Layout) else getattr(value, "layout", None)
    if not isinstance(found, Layout):
        raise SpecError(f"diff: {name} is a {type(value).__name__}, neither a layout nor a plan")
    return found
