"""The GPUs of a layout in rows: equal ones together, with who is on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from partitioner.fleet import Fleet
from partitioner.layout import NOBODY, Group, Layout, gpu_label
from partitioner.metrics import room

_NAMES_SHOWN, _FITS_SHOWN = 3, 4
OTHERS = "in use by others"
"""What is said of existing instances."""

_Kept = dict[int, tuple[str, ...]]  # row of a GPU to its existing instances


def rows(layout: Layout, fleet: Fleet | None = None) -> list[dict[str, Any]]:
    """Return one row for each group of GPUs with the same placements; unused GPUs last.

    Parameters
    ----------
    layout : what is told.
    fleet : its GPUs, which say what existed before the plan; GPUs with other existing instances stand in other rows.
    """
    kept = _kept(layout, fleet)
    groups = [part for group in layout.groups() for part in _split(group, kept)]
    groups.sort(key=lambda group: not group.pattern.placements)
    return [
        {
            "GPUs": f"{len(group):,}",
            "where": _where(layout, group),
            "model": group.pattern.model,
            "mode": group.pattern.mode or "",
            "configuration": str(group.pattern.configuration) if group.pattern.placements else "unused",
            "workloads": _occupants(layout, group, kept.get(int(group.gpus[0]), ())),
            "still fits": _room(group),
        }
        for group in groups
    ]


def _kept(layout: Layout, fleet: Fleet | None) -> _Kept:
    instances = {(host, index): gpu.instances for host, index, gpu in fleet or () if gpu.instances}
    if not instances:
        return {}
    gpus = enumerate(zip(layout.gpu_host.tolist(), layout.gpu_index.tolist(), strict=True))
    found = {row: instances.get((layout.hosts[host] or "", index), ()) for row, (host, index) in gpus}
    return {row: stay for row, stay in found.items() if stay}


def _split(group: Group, kept: _Kept) -> list[Group]:
    """Split equal GPUs by what existed on them."""
    if not kept:
        return [group]
    parts: dict[tuple[str, ...], list[int]] = {}
    for row in group.gpus.tolist():
        parts.setdefault(kept.get(row, ()), []).append(row)
    return [Group(group.pattern, np.array(part, dtype=np.int32)) for part in parts.values()]


def _where(layout: Layout, group: Group) -> str:
    first, last = (
        gpu_label(layout.hosts[layout.gpu_host[row]], int(layout.gpu_index[row])) for row in (group.gpus[0], group.gpus[-1])
    )
    return first if len(group) == 1 else f"{first}, {last}" if len(group) == 2 else f"{first} ... {last}"


def _occupants(layout: Layout, group: Group, stay: Sequence[str]) -> str:
    names: dict[str, None] = {}
    n_spare = 0
    for who in _held(layout, group):
        if who == NOBODY:
            n_spare += 1
            continue
        names[layout.workloads[who]] = None
        if len(names) > 1000:
            return "over 1,000 workloads"
    shown = list(names)[:_NAMES_SHOWN]
    more = len(names) - len(shown)
    words = [", ".join(shown) + (f" and {more:,} more" if more else "")] if shown else []
    words += [f"{OTHERS}: {', '.join(stay)}"] if stay else []
    n_spare -= len(stay) * len(group)
    words += [f"{n_spare:,} spare"] if n_spare else []
    return "; ".join(words)


def _held(layout: Layout, group: Group) -> Iterator[int]:
    size = len(group.pattern.placements)
    for row in group.gpus:
        first = int(layout.offsets[row])
        yield from (int(who) for who in layout.occupant[first : first + size])


def _room(group: Group) -> str:
    if not group.pattern.placements:
        return ""
    geometry = group.pattern.geometry
    assert geometry is not None
    alike: dict[object, str] = {}  # types of one size in one series family take the same room; one of them is named
    for name, count in room(group.pattern).items():
        profile = geometry.profile(name)
        alike.setdefault((profile.starts, profile.extent, profile.family, profile.uses), f"{count} x {name}")
    return " or ".join(list(alike.values())[:_FITS_SHOWN]) or "nothing"
