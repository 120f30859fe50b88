"""How many vGPUs one virtual machine takes, by the version of ESXi. Rules only; must not know plans or pyVmomi."""

from __future__ import annotations

import re
from collections.abc import Sequence

from partitioner.errors import SpecError
from vsphere.names import board_of, series_of, takes_whole_gpu

_LIMITS = ((8, 0, 2, 16), (8, 0, 0, 8), (6, 7, 3, 4))
"""(major, minor, update, most vGPUs of one machine), newest first: release notes of vSphere 6.7 U3, 8.0 and 8.0 U2."""
NEWEST = "8.0.3"


def max_vgpus(version: str) -> int:
    """Return how many vGPUs one virtual machine takes on a version of ESXi.

    Raises
    ------
    SpecError
        The text is no version.

    Examples
    --------
    >>> [max_vgpus(version) for version in ("6.7.0", "6.7.3", "7.0.3", "8.0.0", "8.0.1", "8.0.2", "9.0")]
    [1, 4, 4, 8, 8, 16, 16]
    """
    found = version_of(version)
    return next((most for *least, most in _LIMITS if found >= tuple(least)), 1)


def version_of(version: str) -> tuple[int, int, int]:
    """Return major, minor and update of a version as ESXi writes it: ``8.0.3``, ``7.0 U3``, ``6.7.0 Update 3``.

    Raises
    ------
    SpecError
        The text is no version.
    """
    match = re.match(r"^\s*(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not match:
        raise SpecError(f"ESXi version {version!r} is none; write e.g. '8.0.3'")
    update = re.search(r"(?i)\bu(?:pdate)?\s*(\d+)", version)
    return int(match[1]), int(match[2]), int(update[1] if update else match[3] or 0)


def violation(vgpus: Sequence[str], version: str) -> str | None:
    """Return why one virtual machine cannot have these vGPUs on a version of ESXi, or None where it can.

    Notes
    -----
    Several vGPUs of one machine are of one board and one series; before 8.0 each takes the whole frame buffer of its GPU.
    """
    most = max_vgpus(version)
    if len(vgpus) > most:
        return f"{len(vgpus)} vGPUs in one virtual machine; ESXi {version} takes at most {most}"
    if len(vgpus) < 2:
        return None
    kinds = list(dict.fromkeys((board_of(name), series_of(name)) for name in vgpus))
    if len(kinds) > 1:
        return f"vGPUs {', '.join(dict.fromkeys(vgpus))} in one virtual machine; they must be of one board and one series"
    part = next((name for name in vgpus if version_of(version) < (8, 0, 0) and takes_whole_gpu(name) is False), None)
    if part is not None:
        return f"vGPU {part} beside others in one virtual machine; before ESXi 8.0 each must take a GPU's whole frame buffer"
    return None
