"""From profiles to the names of vGPU types as one host offers them, and back. Must not know virtual machines or vCenter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from partitioner import catalog
from partitioner.catalog.naming import fold, parse_mig
from partitioner.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from partitioner.catalog import GpuModel
    from vsphere.values import HostInfo

_SERIES = re.compile(r"^(?P<board>.+?)-(?:(?P<slices>\d{1,2})-)?(?P<gb>\d{1,4})(?P<series>[abcq])(?P<attribute>me|gfx|\d)?$")


def vgpu_type(profile: str, host: HostInfo | Sequence[str], *, model: str | None = None, series: str = "C") -> str:
    """Return the vGPU type that a host offers for a profile, spelled exactly as the host spells it.

    Parameters
    ----------
    profile : a MIG profile (``3g.40gb``, ``MIG 3g.40gb``, ``4g``), a vGPU type (``A100D-3-40C``, ``grid_a100d-3-40c``,
        ``GRID T4-4Q``) or the source documents' short form (``nvidia-3-40c``); case and brand do not matter.
    host : the host, or the names that it offers (then of any model).
    model : the GPU it must be of, where the host has several; None takes the host's models.
    series : series that is taken where a MIG profile has a type in several: ``C`` (compute), ``Q``, ``B`` or ``A``.

    Raises
    ------
    SpecError
        The host offers no such type, or more than one; names the near matches and what is offered.

    Examples
    --------
    >>> vgpu_type("3g.40gb", ["grid_a100d-3-40c", "grid_a100d-4-40c"])
    'grid_a100d-3-40c'
    >>> vgpu_type("MIG nvidia-4-40c", ["nvidia_a100d-3-40c", "nvidia_a100d-4-40c"])
    'nvidia_a100d-4-40c'
    """
    who, offered, models = _offer(host, model)
    found = _matching(profile, offered, models)
    if len(found) > 1:  # RTX PRO 6000 has types of several series for one MIG profile, with and without graphics
        found = [name for name in found if series_of(name) == series.casefold()] or found
        found = [name for name in found if _attributes_of(name) == _attributes_asked(profile)] or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(offered) or "nothing"
    if found:
        raise SpecError(f"{who}: profile {profile!r} may be {' or '.join(found)}; name the vGPU type or the GPU model")
    if not offered:
        raise SpecError(f"{who}: offers no vGPU types; its graphics type must be sharedDirect and NVIDIA's host driver installed")
    near = _near(profile, offered, models)
    raise SpecError(f"{who}: no vGPU type for profile {profile!r}" + (f"; {near}" if near else "") + f"; offered are {listed}")


def default_vgpu_type(profile: str, model: str, *, series: str = "C") -> str:
    """Return the usual vGPU type of a profile where no host is known: the first board of the model in the catalogue.

    Raises
    ------
    SpecError
        The model has no such type.

    Examples
    --------
    >>> default_vgpu_type("3g.40gb", "A100-80GB")
    'grid_a100d-3-40c'
    """
    known = catalog.gpu(model)
    for board in known.record.boards:
        offered = [vgpu.esxi_name for vgpu in board.types if vgpu.esxi_name and vgpu.vgpus_per_gpu_instance == 1]
        if _matching(profile, offered, [known]):
            return vgpu_type(profile, offered, model=known.name, series=series)
    raise SpecError(f"{known.name}: no vGPU type for profile {profile!r}; name one that the host offers")


def frame_buffer_mib(vgpu: str) -> int | None:
    """Return the frame buffer of a vGPU type, None where the catalogue does not know it [MiB]."""
    found = _frame_buffers(len(catalog.names())).get(fold(vgpu))
    return found[0] if found else None


def takes_whole_gpu(vgpu: str) -> bool | None:
    """Return whether a vGPU type takes the whole frame buffer of its GPU, None where the catalogue does not know it."""
    found = _frame_buffers(len(catalog.names())).get(fold(vgpu))
    return found[0] >= found[1] if found else None


@cache
def _frame_buffers(_models: int) -> dict[str, tuple[int, int]]:
    """Folded name of each type to its frame buffer and the largest of its board [MiB]; anew when models are added."""
    found: dict[str, tuple[int, int]] = {}
    for name in catalog.names():
        for board in catalog.gpu(name).record.boards:
            most = max((known.frame_buffer_mib for known in board.types), default=0)
            for known in board.types:
                for spelling in (known.name, known.esxi_name or known.name):
                    found[fold(spelling)] = (known.frame_buffer_mib, most)
    return found


def board_of(vgpu: str) -> str:
    """Return the board of a vGPU type, folded: ``a100d`` of ``grid_a100d-3-40c``; the whole name where it has another form."""
    match = _SERIES.match(fold(vgpu))
    return match["board"] if match else fold(vgpu)


def series_of(vgpu: str) -> str:
    """Return the series of a vGPU type, ``a``, ``b``, ``c`` or ``q``; empty where its name has another form."""
    match = _SERIES.match(fold(vgpu))
    return match["series"] if match else ""


def _attributes_of(vgpu: str) -> tuple[str, ...]:
    match = _SERIES.match(fold(vgpu))
    return tuple(filter(None, [match["attribute"]])) if match else ()


def _attributes_asked(profile: str) -> tuple[str, ...]:
    mig = parse_mig(fold(profile))
    return mig[2] if mig else ()


def _offer(host: HostInfo | Sequence[str], model: str | None) -> tuple[str, tuple[str, ...], list[GpuModel]]:
    """Return who offers, what, and for which models."""
    if isinstance(host, str):
        raise SpecError(f"vgpu_type: host is {host!r}, a name; give the host of the inventory, or the list of types it offers")
    if model is not None:
        models = [catalog.gpu(model)]
    elif isinstance(host, Sequence):
        models = [catalog.gpu(name) for name in catalog.names()]
    else:
        models = [catalog.gpu(name) for name in dict.fromkeys(gpu.model for gpu in host.gpus if gpu.model is not None)]
    if isinstance(host, Sequence):
        return "vgpu_type", tuple(host), models
    return f"host {host.name!r}", host.vgpu_types, models


def _matching(profile: str, offered: Iterable[str], models: Iterable[GpuModel]) -> list[str]:
    """Return what is offered and means the profile: by its own name first, then by what the catalogue knows of it."""
    by_folded = {fold(name): name for name in offered}
    folded = fold(profile)
    if folded in by_folded:
        return [by_folded[folded]]
    meant = {
        fold(spelling)
        for model in models
        for mode, found in model.find(profile)
        if mode != "whole"
        for spelling in (found.name, *found.aliases)
    }
    found = [name for short, name in by_folded.items() if short in meant]
    return found or _by_form(folded, by_folded)


def _by_form(folded: str, by_folded: dict[str, str]) -> list[str]:
    """Return types by the form of their names alone, for GPUs that the catalogue does not know: 3g.40gb ends in -3-40c."""
    mig = parse_mig(folded)
    if mig is None:
        return [name for short, name in by_folded.items() if short.endswith(f"-{folded}") and re.match(r"\d+-\d+[abcq]", folded)]
    slices, gb, attributes = mig
    found = []
    for short, name in by_folded.items():
        match = _SERIES.match(short)
        alike = match and match["slices"] == str(slices) and (gb is None or match["gb"] == str(gb))
        if alike and _attributes_of(name) == attributes:
            found.append(name)
    return found


def _near(profile: str, offered: Sequence[str], models: Sequence[GpuModel]) -> str:
    """Return the near matches, among the names offered and the MIG profiles that they stand for."""
    spelled: dict[str, str] = {}
    for name in offered:
        spelled[fold(name)] = name
        for model in models:
            for mode, found in model.find(name):
                if mode == "mig":
                    spelled.setdefault(found.name, name)
    hint = did_you_mean(fold(profile), spelled)
    if not hint.startswith("did you mean"):
        return ""
    near = dict.fromkeys(spelled[word] for word in re.findall(r"'([^']+)'", hint) if word in spelled)
    return "did you mean " + " or ".join(repr(name) for name in near) + "?" if near else ""
