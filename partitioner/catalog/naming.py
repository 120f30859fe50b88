"""How NVIDIA's and VMware's names for one thing differ, and how to read them all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_BRAND = re.compile(r"^(?:mig[ _-]+)?(?:grid|nvidia)?[ _-]*", re.IGNORECASE)
_MIG = re.compile(r"^(?P<slices>\d{1,4})g(?:\.(?P<gb>\d{1,6})(?:gb)?)?(?P<attributes>(?:[+-](?:me\.all|me|gfx))*)$")
_SHORT_VGPU = re.compile(r"^(?P<slices>\d)-(?P<gb>\d+)c(?P<me>me)?$")


def fold(text: str) -> str:
    """Return the form in which names are compared: no brand, no case, one kind of blank.

    Examples
    --------
    >>> [fold(name) for name in ("MIG 3g.40gb", "GRID T4-4Q", "grid_t4-4q", "NVIDIA A100-SXM4-80GB")]
    ['3g.40gb', 't4-4q', 't4-4q', 'a100-sxm4-80gb']
    """
    words = re.sub(r"\s+device(?:\s+\d+)?:?$", "", text.strip(), flags=re.IGNORECASE)
    return re.sub(r"[\s_]+", "_", _BRAND.sub("", words).casefold())


def fold_gpu(text: str) -> str:
    """Return the form in which names of GPUs are compared; blanks, dashes and underscores are one."""
    return re.sub(r"[\s_-]+", "-", fold(text).removeprefix("tesla_").removeprefix("quadro_"))


def driver_name(compute_slices: int, memory_mib: int, total_mib: int, attributes: Iterable[str] = ()) -> str:
    """Return the name that the driver gives a GPU instance profile.

    Parameters
    ----------
    compute_slices : compute slices of the profile.
    memory_mib : its memory as NVML reports it [MiB].
    total_mib : memory of the GPU as NVML reports it [MiB].
    attributes : suffixes without plus sign, e.g. ``me``; ``-me`` with its minus sign.

    Notes
    -----
    ``gb = round(ceil(8 * memory / total) / 8 * ceil(total GiB))``: NVIDIA/go-nvlib, pkg/nvlib/device/mig_profile.go,
    ``getMigMemorySizeGB``. The same profile gets another name when the driver reports another total.

    Examples
    --------
    >>> driver_name(3, 40192, 81920), driver_name(7, 80640, 80896), driver_name(1, 9728, 81920, ["me"])
    ('3g.40gb', '7g.79gb', '1g.10gb+me')
    """
    eighths = math.ceil(8 * memory_mib / total_mib)
    gb = math.floor(eighths / 8 * math.ceil(total_mib / 1024) + 0.5)  # Go's math.Round: halves away from zero
    return f"{compute_slices}g.{gb}gb" + "".join(a if a.startswith("-") else f"+{a}" for a in attributes)


def drifted_gb(extent: int, units: int, memory_gib: int) -> frozenset[int]:
    """Return the numbers of GB that drivers may print for a profile of `extent` of `units` memory slices.

    Drivers take a little less than the nominal memory as the total (A100 80GB: 7g.79gb, 3g.39gb); 94% to 100% are
    understood. What goes above (GB200: 7g.189gb) is listed as an alias in the catalogue.
    """
    totals = range(math.floor(0.94 * memory_gib), memory_gib + 1)
    return frozenset(math.floor(extent / units * total + 0.5) for total in totals)


def parse_mig(folded: str) -> tuple[int, int | None, tuple[str, ...]] | None:
    """Split a folded MIG name into compute slices, GB (None for the short form ``4g``) and attributes."""
    match = _MIG.match(folded)
    if not match:
        return None
    attributes = tuple(a.removeprefix("+") for a in re.findall(r"[+-](?:me\.all|me|gfx)", match["attributes"]))
    return int(match["slices"]), int(match["gb"]) if match["gb"] else None, attributes


def parse_short_vgpu(folded: str) -> str | None:
    """Return the ending shared by full names of a MIG-backed type for the short form ``nvidia-4-40c``.

    The source documents write MIG-backed types so; on an A100 80GB ``nvidia-4-40c`` is ``grid_a100d-4-40c``.
    """
    return f"-{folded}" if _SHORT_VGPU.match(folded) else None


def parse_pci_device_id(text: str | int) -> int | None:
    """Read a PCI device id in the forms in use, or return None where the text is none.

    Parameters
    ----------
    text : ``0x20B2``, ``20B2``-with-vendor forms ``10DE:20B2``, ``0x20B210DE`` (NVML's pciDeviceId), or the integer.

    Examples
    --------
    >>> [f"{parse_pci_device_id(x):#06x}" for x in ("0x20B2", "0x20B210DE", "10de:20b2", 0x20B210DE)]
    ['0x20b2', '0x20b2', '0x20b2', '0x20b2']
    """
    if isinstance(text, str):
        form = text.strip().casefold()
        if match := re.fullmatch(r"0x([0-9a-f]{4})(?:10de)?|10de:([0-9a-f]{4})|0x([0-9a-f]{4})", form):
            return int(next(group for group in match.groups() if group), 16)
        return None
    if 0 < text <= 0xFFFF:
        return text
    return text >> 16 if text & 0xFFFF == 0x10DE else None
