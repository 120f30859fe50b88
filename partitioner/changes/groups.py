"""GPUs between which replicas move and no others: their order can be looked for by itself. Must not know any order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from partitioner.changes.gpus import Journey
from partitioner.layout import GpuKey

FEW = 12
"""Most replicas that move in a group whose order is looked for."""


def small_groups(gpus: Iterable[GpuKey], journeys: Sequence[Journey], wanted: Iterable[GpuKey]) -> list[list[GpuKey]]:
    """Return the groups in which few replicas move and that have a wanted GPU; where few move in all, all GPUs are one.

    Notes
    -----
    Linear: a group is walked over until it is complete or too large.
    """
    ways = [(j.begin[0].key, j.end[0].key, j.who) for j in journeys if j.begin is not None and j.end is not None]
    if len(ways) <= FEW:
        return [list(gpus)]
    links: dict[object, list[int]] = {}
    for number, (begin, end, who) in enumerate(ways):
        for item in (begin, end, ("replica", who)):
            links.setdefault(item, []).append(number)
    found: list[list[GpuKey]] = []
    seen: set[GpuKey] = set()
    for key in wanted:
        group = [] if key in seen else _group(key, ways, links)
        seen.update(group)
        if group:
            found.append(group)
    return found


def _group(key: GpuKey, ways: Sequence[tuple[GpuKey, GpuKey, object]], links: dict[object, list[int]]) -> list[GpuKey]:
    """Return the GPUs that are linked with one, itself included; none where too many replicas move between them."""
    gpus = {key: None}
    items: dict[object, None] = {key: None}
    moving: set[int] = set()
    waiting: list[object] = [key]
    while waiting:
        for number in links.get(waiting.pop(), ()):
            if number in moving:
                continue
            moving.add(number)
            if len(moving) > FEW:
                return []
            begin, end, who = ways[number]
            gpus |= {begin: None, end: None}
            linked = [item for item in (begin, end, ("replica", who)) if item not in items]
            items |= dict.fromkeys(linked)
            waiting += linked
    return list(gpus)
