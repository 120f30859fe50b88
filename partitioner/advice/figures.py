"""What a layout takes of a fleet: GPUs, cost, power, hosts. Must not know the solver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from partitioner.fleet import Fleet, Gpu
from partitioner.layout import Layout


@dataclass(frozen=True, slots=True)
class Figures:
    """What is placed and what that takes.

    Parameters
    ----------
    placed : replicas placed; a service counts 1.
    gpus : GPUs in use.
    cost_per_hour : of the GPUs in use; None where one of them has no cost.
    power_w : of the GPUs in use [W]; None where one of them has none.
    hosts : hosts with GPUs in use; None where no hosts were planned.
    """

    placed: int
    gpus: int
    cost_per_hour: float | None
    power_w: float | None
    hosts: int | None


def figures_of(layout: Layout, fleet: Fleet | None, placed: int) -> Figures:
    """Return the figures of a layout on a fleet.

    Parameters
    ----------
    layout : placements and occupants.
    fleet : the GPUs; None where GPUs of one model without hosts were planned.
    placed : replicas placed, which the layout alone does not tell of services.
    """
    used = layout.used
    hosts = None if fleet is None else len(np.unique(layout.gpu_host[used]))
    gpus = list(_gpus(layout, fleet))
    return Figures(placed, int(used.sum()), _total(gpus, "cost_per_hour", fleet), _total(gpus, "power_w", fleet), hosts)


def _gpus(layout: Layout, fleet: Fleet | None) -> Iterator[tuple[Gpu, int]]:
    """Iterate over the distinct GPUs in use as the fleet describes them, with their number."""
    of = {host.name: host.gpus for host in fleet.hosts} if fleet is not None else {}
    counts: dict[Gpu, int] = {}
    for row in np.flatnonzero(layout.used).tolist() if of else ():
        gpu = of[layout.hosts[layout.gpu_host[row]] or ""][layout.gpu_index[row]]
        counts[gpu] = counts.get(gpu, 0) + 1
    yield from counts.items()


def _total(gpus: list[tuple[Gpu, int]], field: str, fleet: Fleet | None) -> float | None:
    values = [(getattr(gpu, field), count) for gpu, count in gpus]
    if fleet is None or any(value is None for value, _ in values):
        return None
    return float(sum(value * count for value, count in values))
