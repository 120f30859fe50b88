"""Which CPU cores a server gets: slices of the CPU that stand in for instances, and the cores beside a GPU.

Knows no servers; reads sysfs for the cores of a GPU, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

from partitioner.errors import SpecError

_ROUNDING = 1e-9  # shares such as 3/7 + 4/7 are not exact
_RESERVE_FROM = 4  # cores of a machine on which one is kept for the load generators


@dataclass(frozen=True, slots=True)
class Split:
    """Cores of a machine by use.

    Parameters
    ----------
    servers : for the servers.
    load : for the load generators; the same where there are too few to divide.
    """

    servers: tuple[int, ...]
    load: tuple[int, ...]


def usable_cores() -> tuple[int, ...]:
    """Return the cores that this process may use, ascending."""
    return tuple(sorted(os.sched_getaffinity(0)))


def split_cores(usable: Sequence[int], *, reserved: int | None = None) -> Split:
    """Divide cores between servers and load generators.

    Parameters
    ----------
    usable : cores that may be used, ascending.
    reserved : how many, the last ones, are for the load generators; None: one of four and more, none of fewer.

    Raises
    ------
    SpecError
        Nothing would be left for the servers.

    Examples
    --------
    >>> split_cores((0, 1, 2, 3))
    Split(servers=(0, 1, 2), load=(3,))
    """
    if reserved is None:
        reserved = 1 if len(usable) >= _RESERVE_FROM else 0
    if not 0 <= reserved < len(usable):
        raise SpecError(
            f"cores for load generators - {reserved} of {len(usable)} leave none for servers; give 0 to {len(usable) - 1}"
        )
    if reserved == 0:
        return Split(tuple(usable), tuple(usable))
    return Split(tuple(usable[:-reserved]), tuple(usable[-reserved:]))


def cores_of_share(usable: Sequence[int], start: float, share: float) -> tuple[int, ...]:
    """Return the cores of a slice of the CPU: an interval of the usable ones, rounded outwards, at least one.

    Neighbours share a core where the division does not come out even, as 1g on four cores does.

    Parameters
    ----------
    usable : cores that may be used, ascending.
    start : where the slice begins, as a share of all in [0, 1).
    share : how much of all it is, in (0, 1].

    Raises
    ------
    SpecError
        There are no cores, or the slice is not a part of the whole.

    Examples
    --------
    >>> cores_of_share(range(8), 0, 4 / 7), cores_of_share(range(8), 4 / 7, 2 / 7), cores_of_share(range(8), 6 / 7, 1 / 7)
    ((0, 1, 2, 3, 4), (4, 5, 6), (6, 7))
    """
    count = len(usable)
    if not count:
        raise SpecError("cores - there are none to divide; give at least one")
    if start < 0 or share <= 0 or start + share > 1 + _ROUNDING:
        raise SpecError(f"slice of the CPU - from {start:g} for {share:g} is not within the whole; both are shares in [0, 1]")
    first = floor(start * count + _ROUNDING)
    last = ceil((start + share) * count - _ROUNDING)
    return tuple(usable[first : max(last, first + 1)])


def threads_for(cores: Sequence[int], processes: int = 1) -> int:
    """Return how many threads each of some processes uses for one inference on these cores, at least one."""
    return max(1, len(cores) // processes)


def cores_beside(bus_id: str, *, sysfs: Path = Path("/sys")) -> tuple[int, ...]:
    """Return the usable cores of the NUMA node that a GPU hangs on; none where the kernel does not say.

    Memory follows by itself: Linux takes it from the node of the core that touches it first.

    Parameters
    ----------
    bus_id : PCI address as NVML spells it, ``00000000:3B:00.0``.
    sysfs : where sysfs is mounted.
    """
    domain, _, rest = bus_id.lower().partition(":")
    device = sysfs / "bus/pci/devices" / f"{domain[-4:]}:{rest}"
    try:
        text = (device / "local_cpulist").read_text()
    except OSError:
        return ()
    return tuple(sorted(parse_cpulist(text) & set(usable_cores())))


def parse_cpulist(text: str) -> set[int]:
    """Return the cores of a list as the kernel writes it.

    Examples
    --------
    >>> sorted(parse_cpulist("0-2,8"))
    [0, 1, 2, 8]
    """
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cores.update(range(int(first), int(last or first) + 1))
    return cores
