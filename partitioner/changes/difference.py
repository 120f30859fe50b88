"""`diff`: from two layouts to the steps between them. Pure: reads no file and asks no target."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

from partitioner.changes.changes import Changes
from partitioner.changes.gpus import GpuChange, changed_gpus, journeys
from partitioner.changes.groups import small_groups
from partitioner.changes.sequence import Sequencer
from partitioner.changes.spare import Spares
from partitioner.changes.writer import Writer
from partitioner.errors import InfeasibleError, SpecError
from partitioner.layout import GpuKey, Layout

_MANY = 500  # GPUs, from which on the garbage collector would walk all steps again and again


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
    profile, and only where there is none it is interrupted. Where few replicas move, the order is the one with the fewest
    interruptions, then the fewest moves.

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
    Linear in the number of placements of the GPUs that change, where no places have to be exchanged. Exchanges between few
    replicas (`groups.FEW`) are searched for the best order, in at most so many states (`search.best_order`).
    """
    if max_interruptions is not None and (
        isinstance(max_interruptions, bool) or not isinstance(max_interruptions, int) or max_interruptions < 0
    ):
        raise SpecError(f"max_interruptions is {max_interruptions!r}, not a number of replicas from 0 on, or None")
    before, after = _layout(current, "current"), _layout(goal, "goal")
    with _collector_at_rest() if len(before) > _MANY else nullcontext():
        gpus, writer = _order(before, after, max_interruptions)
        return Changes(before.only(gpus), after.only(gpus), tuple(writer.steps), writer.peak)


def _order(before: Layout, after: Layout, most: int | None) -> tuple[dict[GpuKey, GpuChange], Writer]:
    """Return the GPUs concerned and the steps.

    Where nobody makes a detour, nothing can be better than what is found at once. Else the best order is looked for on the
    GPUs where few replicas move.
    """
    found = _Attempt(before, after, most)
    found.run()
    if found.problem is not None or found.sequencer.detours:
        groups = small_groups(found.given, found.journeys, found.sequencer.detours if found.problem is None else found.given)
        if groups:
            other = _Attempt(before, after, most)
            other.run(groups)
            found = min(found, other, key=_Attempt.cost)
    if found.problem is not None:
        raise found.problem
    return found.gpus, found.sequencer.writer


class _Attempt:
    """One way to order the steps."""

    def __init__(self, before: Layout, after: Layout, most: int | None) -> None:
        self.gpus = changed_gpus(before, after)
        self.given = tuple(self.gpus)
        self.journeys = journeys(self.gpus.values())
        self.sequencer = Sequencer(self.gpus, self.journeys, Spares(before, after, self.gpus), most)
        self.problem: InfeasibleError | None = None

    def run(self, groups: Iterable[Iterable[GpuKey]] = ()) -> None:
        try:
            self.sequencer.run({key: self.gpus[key] for key in group} for group in groups)
        except InfeasibleError as error:
            self.problem = error

    def cost(self) -> tuple[bool, int, int, int]:
        return self.problem is not None, *self.sequencer.writer.cost


def _layout(value: Layout | HasLayout, name: str) -> Layout:
    found = value if isinstance(value, Layout) else getattr(value, "layout", None)
    if not isinstance(found, Layout):
        raise SpecError(f"diff: {name} is a {type(value).__name__}, neither a layout nor a plan")
    return found


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Let the garbage collector rest meanwhile: nothing made here is garbage, and walking all of it took a third of the time."""
    resting = gc.isenabled()
    if resting:
        gc.disable()
    try:
        yield
    finally:
        if resting:
            gc.enable()
