"""Which GPU of the catalogue a PCI device is, and which mode it is in. Integers, names and the catalogue; no pyVmomi."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from partitioner import catalog
from partitioner.errors import SpecError
from vsphere.values.terms import Mode

_MODES: dict[str, Mode] = {"multiInstanceGpu": "mig", "sameSize": "vgpu-equal", "mixedSize": "vgpu-mixed"}

_BY_SUBSYSTEM = {
    ("10de:25b6", "10de:14a9"): "A16",
    ("10de:25b6", "10de:157e"): "A2",
    ("10de:1e78", "10de:13d8"): "RTX8000P",
    ("10de:1e78", "10de:13d9"): "RTX6000P",
}
"""Boards that share a PCI device id, by device and subsystem: NVIDIA Linux driver README (R550), "Supported NVIDIA GPU
Products"."""


@lru_cache(maxsize=4096)
def known_model(
    device_id: str, subsystem_id: str = "", *, name: str = "", memory_mib: int = 0, offered: Sequence[str] = ()
) -> str | None:
    """Return the catalogue's name of a GPU; None where it has none, or several that cannot be told apart.

    Parameters
    ----------
    device_id, subsystem_id : ``10de:20b5``, vendor first; the latter decides between boards with one device id.
    name : product name as the host says it.
    memory_mib : memory that the host sees [MiB]; 0 where it does not say.
    offered : vGPU types that the host offers (a tuple).

    Examples
    --------
    >>> known_model("10de:20b5"), known_model("10de:25b6", "10de:157e"), known_model("10de:0001")
    ('A100-80GB', 'A2', None)
    """
    number = int(device_id.partition(":")[2] or "0", 16)
    alike = [model for model in map(catalog.gpu, catalog.names()) if number and number in model.pci_device_ids]
    if len(alike) == 1:
        return alike[0].name
    if not alike:
        return _by_name(name, catalog.names())
    names = [model.name for model in alike]
    by_subsystem = _BY_SUBSYSTEM.get((device_id, subsystem_id))
    if by_subsystem in names:
        return by_subsystem
    fitting = [model.name for model in alike if memory_mib and 0.85 * model.memory_mib <= memory_mib <= 1.02 * model.memory_mib]
    if len(fitting) == 1:
        return fitting[0]
    offering = [model.name for model in alike if types_of(model.name).keys() & set(offered)]
    return offering[0] if len(offering) == 1 else _by_name(name, names)


def _by_name(name: str, among: Sequence[str]) -> str | None:
    try:
        found = catalog.gpu(name).name if name.strip() else None
    except SpecError:  # unknown, or more than one
        return None
    return found if found in among else None


@lru_cache(maxsize=256)
def types_of(model: str) -> dict[str, bool]:
    """Return the vGPU types of a model in ESXi's spelling, each with whether it is MIG-backed."""
    return {
        vgpu_type.esxi_name: vgpu_type.gi_profile is not None
        for board in catalog.gpu(model).record.boards
        for vgpu_type in board.types
        if vgpu_type.esxi_name is not None
    }


def mode_of(model: str | None, *, graphics_type: str | None, vgpu_mode: str | None, offered: Sequence[str]) -> Mode | None:
    """Return the mode of a GPU that is not in passthrough; None where it offers no vGPUs, or it cannot be said.

    Parameters
    ----------
    model : name in the catalogue.
    graphics_type : as active now; only ``sharedDirect`` offers vGPUs.
    vgpu_mode : what the host says (API 8.0.3); before that, the types that it offers decide where they are of one kind.
    offered : vGPU types that the host offers.
    """
    if graphics_type != "sharedDirect":
        return None
    if vgpu_mode is not None:
        return _MODES.get(vgpu_mode)
    if model is None:
        return None
    types = types_of(model)
    kinds = {types[name] for name in offered if name in types}
    if len(kinds) != 1:
        return None
    return "mig" if kinds == {True} else "vgpu-equal"
