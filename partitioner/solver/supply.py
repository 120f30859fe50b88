"""The GPUs a plan may use, those that are alike counted together. Must not know workloads or how plans are found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.fleet import Fleet, Gpu
from partitioner.layout import gpu_label
from partitioner.solver.problem import Kind

COST_UNITS, POWER_UNITS = 1_000_000, 1000
"""Costs are counted in millionths of the currency, power in milliwatts."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The GPUs a plan may use.

    Parameters
    ----------
    kinds : GPUs that are alike, in order of first appearance.
    rows : for each kind the rows of its GPUs in the fleet; empty where as many as needed are to be had.
    fleet : the fleet; None where as many GPUs as needed are to be had.
    modes : the modes a plan may use at all, as given; None means any.
    """

    kinds: tuple[Kind, ...]
    rows: tuple[npt.NDArray[np.int32], ...]
    fleet: Fleet | None
    modes: tuple[str, ...] | None = None

    @property
    def widest_modes(self) -> tuple[str, ...] | None:
        """Modes that any plan on these GPUs could use; None means all."""
        return self.fleet.modes if self.fleet is not None else None


def match_modes(wanted: Sequence[str] | None, model: GpuModel) -> tuple[str, ...]:
    """Return the modes of a GPU model among those wanted.

    Parameters
    ----------
    wanted : modes or families of modes: ``mig``, ``vgpu`` (all time-sliced ones), ``vgpu-equal``, ``vgpu-mixed``,
        ``vgpu-equal-8``, ``whole``; None means all.
    model : the GPU model.
    """
    if wanted is None:
        return model.modes
    return tuple(mode for mode in model.modes if any(mode == w or mode.startswith(f"{w}-") for w in wanted))


def supply_of_fleet(
    fleet: Fleet, modes: Sequence[str] | None, places: Collection[str] = (), *, vacate: Collection[str] = ()
) -> Supply:
    """Return the supply of a fleet; GPUs with a fixed mode or with existing instances stay as they are.

    Parameters
    ----------
    fleet : the GPUs.
    modes : modes or families of modes that may be used; None means all.
    places : names of hosts and GPUs that workloads are pinned to or kept off; such GPUs are kinds of their own.
    vacate : names of hosts and GPUs on which nothing may stand.
    """
    rows: dict[tuple[Gpu, tuple[str, ...], bool], list[int]] = {}
    of_object: dict[int, list[int]] = {}  # equal GPUs are mostly one object, and hashing a value takes longer
    row = 0
    for host in fleet.hosts:
        on_host = (host.name,) if host.name in places else ()
        for index, gpu in enumerate(host.gpus):
            if not places and not vacate:
                members = of_object.get(id(gpu))
                if members is None:
                    members = of_object[id(gpu)] = rows.setdefault((gpu, (), False), [])
                members.append(row)
            else:
                label = gpu_label(host.name, index)
                empty = label in vacate or host.name in vacate
                rows.setdefault((gpu, (*on_host, label) if label in places else on_host, empty), []).append(row)
            row += 1
    kinds = tuple(_kind(gpu, at, len(members), () if empty else modes) for (gpu, at, empty), members in rows.items())
    arrays = tuple(np.array(members, dtype=np.int32) for members in rows.values())
    return Supply(kinds, arrays, fleet, tuple(modes) if modes is not None else None)


def _kind(gpu: Gpu, places: tuple[str, ...], count: int, modes: Sequence[str] | None) -> Kind:
    model = catalog.gpu(gpu.model)
    usable = match_modes(modes, model)
    usable = usable if gpu.mode is None else tuple(mode for mode in usable if mode == gpu.mode)
    kept = tuple(sorted((name, int(start)) for name, _, start in (entry.rpartition("@") for entry in gpu.instances)))
    return Kind(
        gpu.model,
        gpu.mode,
        usable,
        count,
        model.memory_mib,
        kept,
        round((gpu.cost_per_hour or 0) * COST_UNITS),
        round((gpu.power_w or 0) * POWER_UNITS),
        places,
    )


def supply_of_model(model: GpuModel, count: int | None, modes: Sequence[str] | None) -> Supply:
    """Return a supply of `count` GPUs of one model without hosts; None: as many as needed."""
    kind = Kind(model.name, None, match_modes(modes, model), count, model.memory_mib)
    return Supply((kind,), (np.arange(count or 0, dtype=np.int32),), None, tuple(modes) if modes is not None else None)
