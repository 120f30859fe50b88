"""What every export starts from: the hosts of a plan or layout with their GPUs, checked for what exports can say.

Must not know any format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from partitioner import catalog
from partitioner.errors import SpecError, did_you_mean
from partitioner.geometry import Profile
from partitioner.layout import GpuLayout, Layout, gpu_label

_UUID = re.compile(r"(?:GPU|MIG)-[A-Za-z0-9/-]{1,120}")  # also MIG-GPU-<uuid>/<GI>/<CI> of drivers before 470
_SHOWN = 8  # GPUs named in a message before the rest is counted


class HasLayout(Protocol):
    """What can be exported besides a layout: a plan, or anything else with a layout."""

    @property
    def layout(self) -> Layout:
        """All placements."""


Source = Layout | HasLayout


@dataclass(frozen=True, slots=True)
class Machine:
    """One host with the GPUs that a layout names of it, by index; `host` is None where the layout names no host."""

    host: str | None
    gpus: tuple[GpuLayout, ...]

    @property
    def label(self) -> str:
        """The host for people."""
        return self.host if self.host is not None else "a host without a name"


def machines(source: Source, host: str | None = None) -> tuple[Machine, ...]:
    """Return the hosts of a plan or layout, in the layout's order, each with its GPUs by index.

    Parameters
    ----------
    source : a `Plan`, a `Layout`, or anything with a ``layout``.
    host : the only host wanted; None for all.

    Raises
    ------
    SpecError
        The source has no layout, the host is not in it, or a GPU is in a vGPU mode, of which these exports can say
        nothing.
    """
    layout = layout_of(source)
    found: dict[str | None, list[GpuLayout]] = {}
    for gpu in layout:
        found.setdefault(gpu.host, []).append(gpu)
    if host is not None:
        found = {host: _of_host(found, host)}
    every = tuple(Machine(name, tuple(sorted(gpus, key=lambda gpu: gpu.gpu))) for name, gpus in found.items())
    _refuse_vgpu(every)
    return every


def layout_of(source: object) -> Layout:
    """Return the layout of a plan, or the layout itself.

    Raises
    ------
    SpecError
        There is none.
    """
    found = source if isinstance(source, Layout) else getattr(source, "layout", None)
    if not isinstance(found, Layout):
        raise SpecError(f"an export takes a Plan or a Layout, not {type(source).__name__}")
    return found


def _of_host(found: dict[str | None, list[GpuLayout]], host: str) -> list[GpuLayout]:
    if host in found:
        return found[host]
    named = [name for name in found if name is not None]
    if not named:
        raise SpecError(f"host {host!r}: the layout names no hosts; leave host out, or plan for a fleet with hosts")
    hint = did_you_mean(host, named)
    raise SpecError(f"host {host!r} is not in the layout" + (f"; {hint}" if hint else ""))


def _refuse_vgpu(every: tuple[Machine, ...]) -> None:
    shared = [
        f"{gpu_label(gpu.host, gpu.gpu)} ({gpu.model}, {gpu.mode})"
        for machine in every
        for gpu in machine.gpus
        if gpu.mode not in (None, "mig", "whole")
    ]
    if shared:
        more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
        raise SpecError(
            f"{', '.join(shared[:_SHOWN])}{more}: time-sliced vGPUs are made by a hypervisor; only MIG and whole GPUs can be"
            " exported. Plan without them (modes=('mig', 'whole'), partitioner plan --mode mig --mode whole), or leave such"
            " GPUs out with Layout.only"
        )


def profiles(gpu: GpuLayout) -> Iterator[tuple[Profile, int]]:
    """Iterate over (profile, start) of a GPU's placements, by start."""
    if gpu.mode is not None:
        geometry = catalog.gpu(gpu.model).geometry(gpu.mode)
        for slot in gpu.slots:
            yield geometry.profile(slot.profile), slot.start


def plain(text: str) -> str:
    r"""Return text for a comment: what cannot be printed (line ends, controls, marks of direction) is escaped.

    Examples
    --------
    >>> plain("chat" + chr(10) + "rm -rf /")
    'chat\\x0arm -rf /'
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def occupants(gpu: GpuLayout) -> str:
    """Return who runs on a GPU, as text for a comment: ``3g.40gb@4 chat/0, 1g.10gb@0 free``."""
    words = []
    for slot in gpu.slots:
        who = "free" if slot.workload is None else f"{slot.workload}/{slot.replica}"
        words.append(f"{slot.profile}@{slot.start} {who}")
    return plain(", ".join(words)) or "no instances"


def checked_uuid(text: object, who: str) -> str:
    """Return a UUID as the driver writes it, ``GPU-...`` or ``MIG-...``; nothing else can stand in a command or a file.

    Parameters
    ----------
    text : the UUID.
    who : whose it is, for the message.

    Raises
    ------
    SpecError
        It is none.
    """
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise SpecError(f"{who}: {text!r} is not a UUID of the driver; they look like GPU-... and MIG-... (nvidia-smi -L)")
    return text
