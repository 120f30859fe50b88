"""The part of a goal that is a target's own: a plan is often of more hosts than one target has, or names none.

Must not know files, nor how changes are carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from partitioner.applying.words import some
from partitioner.changes import Changes, HasLayout, diff, renumbered
from partitioner.errors import SpecError
from partitioner.layout import GpuKey, GpuLayout, Layout, gpu_label


@dataclass(frozen=True, eq=False)
class Goal:
    """A layout to be reached.

    Parameters
    ----------
    layout : it.
    numbered : whether the numbers of replicas mean something: a plan made without looking at what runs numbers them as it
        comes.
    origin : its name in messages, e.g. the file.
    current : what ran when a plan was made that looked at it; None of others.
    """

    layout: Layout
    numbered: bool = True
    origin: str = "the goal"
    current: Layout | None = None

    @classmethod
    def of(cls, source: Layout | HasLayout, *, origin: str = "the goal") -> Goal:
        """Return what a plan, or a layout, asks for; a plan's `current` says what ran when it was made.

        Raises
        ------
        SpecError
            The source has no layout.
        """
        if isinstance(source, Layout):
            return cls(source, origin=origin)
        layout, current = getattr(source, "layout", None), getattr(source, "current", None)
        if not isinstance(layout, Layout):
            raise SpecError(f"{origin}: is a {type(source).__name__}; a Plan or a Layout is wanted")
        return cls(layout, isinstance(current, Layout), origin, current if isinstance(current, Layout) else None)


def goal_here(goal: Goal | Layout | HasLayout, now: Layout, *, target: str) -> tuple[Layout, tuple[str, ...]]:
    """Return the part of a goal that is this target's, with notes on what was left out or taken for something else.

    Parameters
    ----------
    goal : what shall be, perhaps of more hosts than the target has; GPUs without a host are taken for the target's of the
        same model, in their order.
    now : the target's layout.
    target : its name.

    Raises
    ------
    SpecError
        No host of the goal is there, or its GPUs are of no host and the target has several, or too few of the model; or a
        GPU is of another model now, or does not answer.

    Examples
    --------
    >>> both = Layout.of(GpuLayout(host, 0, "T4", "whole") for host in ("esx-01", "esx-02"))
    >>> here, notes = goal_here(both, both.only([("esx-02", 0)]), target="this machine")
    >>> [gpu.host for gpu in here], notes
    (['esx-02'], ('left out host esx-01, which this machine does not have',))
    """
    found, shifted = _on_boards(goal if isinstance(goal, Goal) else Goal.of(goal), now)
    wanted, there = hosts_of(found.layout.rows), hosts_of(now.rows)
    if wanted == [None] and None not in there:
        layout, notes = _placed_in_host(found, now, there, target=target)
    else:
        strange = [host for host in wanted if host not in there]
        if wanted and len(strange) == len(wanted):
            raise SpecError(
                f"{found.origin}: is for {named(wanted)}, and {target} has {named(there)}; take it there, or say with"
                " --target nvml:NAME (NvmlTarget(host=NAME)) how this machine is called in it"
            )
        layout, notes = found.layout, ()
        if strange:
            here = set(there)
            layout = layout.only(key for key in layout.rows if key[0] in here)
            notes = (f"left out {named(strange)}, which {target} does not have",)
    _check_models(layout, now, origin=found.origin, target=target)
    return (layout if found.numbered else renumbered(layout, now)), (*shifted, *notes)


def changes_here(
    goal: Goal | Layout | HasLayout, now: Layout, *, target: str, max_interruptions: int | None = None
) -> tuple[Changes, tuple[str, ...]]:
    """Return the changes that lead from a target's layout to its part of a goal, with notes.

    Parameters
    ----------
    goal, now, target : as of `goal_here`.
    max_interruptions : as of `diff`.

    Raises
    ------
    SpecError
        The goal is not for this target.
    InfeasibleError
        No order was found that keeps to `max_interruptions`.
    """
    found = goal if isinstance(goal, Goal) else Goal.of(goal)
    here, notes = goal_here(found, now, target=target)
    found, _ = _on_boards(found, now)
    changes = diff(now, here, max_interruptions=max_interruptions)
    return changes, (*notes, *_outdated(found, changes)) if changes else notes


def hosts_of(keys: Iterable[GpuKey]) -> list[str | None]:
    """Return the hosts of GPUs, each once, in their order."""
    return list(dict.fromkeys(host for host, _ in keys))


def named(hosts: Sequence[str | None]) -> str:
    """Return hosts in words, the first six where there are more.

    Examples
    --------
    >>> named(["esx-01", "esx-02"]), named([None])
    ('hosts esx-01, esx-02', 'GPUs of no host')
    """
    names = some(["GPUs of no host" if host is None else host for host in hosts])
    word = "hosts " if len(hosts) > 1 else "host " if list(hosts) != [None] else ""
    return f"{word}{names}" if names else "no GPUs"


def _placed_in_host(goal: Goal, now: Layout, there: list[str | None], *, target: str) -> tuple[Layout, tuple[str, ...]]:
    """Take the GPUs of a plan without hosts for the target's GPUs of the same model, in their order."""
    if len(there) != 1:
        raise SpecError(
            f"{goal.origin}: its GPUs are of no host, and {target} has {named(there)}; plan with --target {target} instead"
        )
    free: dict[str, list[GpuLayout]] = {}
    for gpu in now:
        free.setdefault(gpu.model, []).append(gpu)
    placed = []
    for gpu in goal.layout:
        own = free.get(gpu.model)
        if not own:
            count = sum(gpu.model == other.model for other in now)
            has = f"{count} of it" if count else ", ".join(sorted({other.model for other in now}))
            raise SpecError(
                f"{goal.origin}: {gpu_label(None, gpu.gpu)} is a {gpu.model}, and {target} has {has};"
                f" plan with --target {target} instead"
            )
        here = own.pop(0)
        placed.append(replace(gpu, host=here.host, gpu=here.gpu, uuid=here.uuid))
    names = some([gpu_label(gpu.host, gpu.gpu) for gpu in placed])
    return Layout.of(placed), (f"{goal.origin} names no host: its GPUs are taken for {names}",)


def _check_models(layout: Layout, now: Layout, *, origin: str, target: str) -> None:
    for key, row in layout.rows.items():
        there = now.rows.get(key)
        if there is None:
            continue
        wanted, model = (found.patterns[found.gpu_pattern[at]].model for found, at in ((layout, row), (now, there)))
        if wanted != model:
            raise SpecError(
                f"{origin}: {gpu_label(*key)} is a {wanted} in it, and on {target} a {model}; see `partitioner status` why,"
                " then plan anew"
            )


def _on_boards(goal: Goal, now: Layout) -> tuple[Goal, tuple[str, ...]]:
    """Take a goal's boards where they are now: indices can shift when a host starts again, UUIDs do not.

    Raises
    ------
    SpecError
        A board took the index of one that is gone, of which the goal speaks too.
    """
    known = {**(goal.current.uuids if goal.current is not None else {}), **goal.layout.uuids}
    place = {uuid: key for key, uuid in now.uuids.items()}
    moved = {key: place[uuid] for key, uuid in known.items() if uuid in place and place[uuid] != key}
    wanted = [key for key in moved if key in goal.layout.rows]
    if not wanted:
        return goal, ()
    clash = [key for key, at in moved.items() if key in goal.layout.rows and at in goal.layout.rows and at not in moved]
    if clash:
        gone = gpu_label(*moved[clash[0]])
        raise SpecError(
            f"{goal.origin}: {gpu_label(*clash[0])} is {gone} now, by its UUID, and {gone} of then is not there;"
            " plan anew from what is there"
        )
    current = None if goal.current is None else _moved(goal.current, moved)
    names = some([f"{gpu_label(*key)} is {gpu_label(*moved[key])} now" for key in wanted])
    return replace(goal, layout=_moved(goal.layout, moved), current=current), (f"indices have shifted: {names}, by the UUIDs",)


def _moved(layout: Layout, moved: Mapping[GpuKey, GpuKey]) -> Layout:
    """Return a layout under the indices of now, without boards that are gone and whose index another one has."""
    gone = set(moved.values()) - set(moved)
    gpus = ((gpu, (gpu.host, gpu.gpu)) for gpu in layout)
    at = ((gpu, moved.get(key, key)) for gpu, key in gpus if key not in gone)
    return Layout.of(replace(gpu, host=host, gpu=index) for gpu, (host, index) in at)


def _outdated(goal: Goal, changes: Changes) -> Iterator[str]:
    """Say which GPUs are not as they were when a plan was made."""
    if goal.current is not None:
        rows = goal.current.rows
        moved = [gpu for gpu in changes.base if (row := rows.get((gpu.host, gpu.gpu))) is None or goal.current.gpu(row) != gpu]
        if moved:
            names = some([gpu_label(gpu.host, gpu.gpu) for gpu in moved])
            yield f"{names}: not as when {goal.origin} was made; the steps begin with what is there now"
