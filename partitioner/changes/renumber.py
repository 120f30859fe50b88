"""Replicas of one workload are copies of one thing: which number stands where may follow what runs already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from partitioner.changes.gpus import At
from partitioner.layout import GpuKey, Layout

_Piece = tuple[GpuKey, At]


def renumbered(goal: Layout, current: Layout) -> Layout:
    """Return the goal with replicas renumbered within their workloads, so that those that can stay do.

    Parameters
    ----------
    goal : what shall be; a plan that was made without looking at what runs numbers replicas as it comes.
    current : what there is.

    Returns
    -------
    The same instances with the same workloads. A replica keeps the number of the one that runs where most of its
    instances are; the others take numbers that are left, smallest first.

    Examples
    --------
    >>> from partitioner.layout import GpuLayout, Slot
    >>> def of(*replicas):
    ...     slots = (Slot("1g.10gb", start, "web", replica) for start, replica in enumerate(replicas))
    ...     return Layout.of([GpuLayout("a", 0, "A100-80GB", "mig", tuple(slots))])
    >>> [slot.replica for slot in renumbered(of(0, 1, 2), of(2, 5)).gpu(0).slots]
    [2, 5, 0]
    """
    now, then = _pieces(current), _pieces(goal)
    numbers: dict[tuple[str, int], int] = {}
    for workload, replicas in then.items():
        for old, new in _matched(replicas, now.get(workload, {})).items():
            numbers[workload, old] = new
    gpus = []
    for gpu in goal:
        slots = tuple(
            slot if slot.workload is None else replace(slot, replica=numbers[slot.workload, slot.replica or 0])
            for slot in gpu.slots
        )
        gpus.append(replace(gpu, slots=slots))
    return Layout.of(gpus)


def _pieces(layout: Layout) -> dict[str, dict[int, set[_Piece]]]:
    """Return workload to number of the replica to its instances."""
    found: dict[str, dict[int, set[_Piece]]] = {}
    for a in layout.assignments():
        found.setdefault(a.workload, {}).setdefault(a.replica, set()).add(((a.host, a.gpu), (a.profile, a.start)))
    return found


def _matched(replicas: Mapping[int, set[_Piece]], running: Mapping[int, set[_Piece]]) -> dict[int, int]:
    """Return number in the goal to number that it gets; most instances in common first."""
    holder = {piece: number for number, pieces in running.items() for piece in pieces}
    shared: dict[tuple[int, int], int] = {}
    for number, pieces in replicas.items():
        for piece in pieces:
            if piece in holder:
                shared[number, holder[piece]] = shared.get((number, holder[piece]), 0) + 1
    chosen: dict[int, int] = {}
    taken: set[int] = set()
    for (number, other), _ in sorted(shared.items(), key=lambda entry: (-entry[1], entry[0][0] != entry[0][1], entry[0])):
        if number not in chosen and other not in taken:
            chosen[number] = other
            taken.add(other)
    left = iter(sorted(set(replicas) - taken))
    spare = (number for number in range(2**31) if number not in taken and number not in replicas)
    for number in sorted(set(replicas) - set(chosen)):
        chosen[number] = next(left, -1)
        if chosen[number] < 0:
            chosen[number] = next(spare)
    return chosen
