"""The GPUs a plan may use, those that are alike counted together. Must not know workloads or how plans are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import SpecError
from partitioner.fleet import Fleet
from partitioner.solver.problem import Kind


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


def supply_of_fleet(fleet: Fleet, modes: Sequence[str] | None) -> Supply:
    """Return the supply of a fleet; GPUs with a fixed mode stay in it."""
    rows: dict[tuple[str, str | None], list[int]] = {}
    for row, (_, _, gpu) in enumerate(fleet):
        rows.setdefault((gpu.model, gpu.mode), []).append(row)
    kinds = []
    for (name, fixed), members in rows.items():
        model = catalog.gpu(name)
        usable = match_modes(modes, model)
        usable = usable if fixed is None else tuple(mode for mode in usable if mode == fixed)
        kinds.append(Kind(name, fixed, usable, len(members), model.memory_mib))
    arrays = tuple(np.array(members, dtype=np.int32) for members in rows.values())
    return Supply(tuple(kinds), arrays, fleet, tuple(modes) if modes is not None else None)


def supply_of_model(model: GpuModel, count: int | None, modes: Sequence[str] | None) -> Supply:
    """Return a supply of `count` GPUs of one model without hosts; None: as many as needed."""
    usable = match_modes(modes, model)
    if not usable:
        raise SpecError(f"{model.name} has no mode {' or '.join(map(repr, modes or ()))}; its modes are {', '.join(model.modes)}")
    kind = Kind(model.name, None, usable, count, model.memory_mib)
    return Supply((kind,), (np.arange(count or 0, dtype=np.int32),), None, tuple(modes) if modes is not None else None)
