"""What a driver offers to cut on a GPU: GPU instance profiles with their places, compute instance profiles. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from partitioner.nvml.library import Handle, Library, NvmlError, text_of
from partitioner.nvml.values import OfferedProfile, Places
from partitioner.nvml.words import FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NO_PERMISSION, NOT_SUPPORTED, VERSION_MISMATCH

_NOT_OFFERED = (NOT_SUPPORTED, INVALID_ARGUMENT)  # an old driver does not accept the numbers of later profiles
_OLDER = (FUNCTION_NOT_FOUND, VERSION_MISMATCH)
_PREFIX = "MIG "


@dataclass(frozen=True, slots=True)
class ComputeProfile:
    """A compute instance profile inside a GPU instance: the driver's id, its compute slices, and the most of them."""

    profile_id: int
    slices: int
    max_count: int
    multiprocessors: int


def offered_profiles(library: Library, device: Handle, *, who: str) -> tuple[OfferedProfile, ...]:
    """Return the GPU instance profiles of a GPU, in NVML's order; none where the driver does not say.

    Raises
    ------
    TargetError
        The GPU cannot be read.
    """
    found = []
    for number in library.gpu_instance_profiles:
        info = _info(library, "nvmlDeviceGetGpuInstanceProfileInfo", device, number, who=who)
        if info is not None:
            found.append(_offered(info, number, _places(library, device, int(info.id), who)))
    return tuple(found)


def _info(library: Library, name: str, *arguments: Any, who: str) -> Any:
    """Return a profile's description, in the newest form the driver knows; None where it has no such profile."""
    for version in (2, 1):
        try:
            return library.call(name, *arguments, version, who=who)
        except NvmlError as error:
            if error.code in _NOT_OFFERED:
                return None
            if error.code not in _OLDER:
                raise
    return None


def _places(library: Library, device: Handle, profile_id: int, who: str) -> Places | None:
    try:
        return library.possible_placements(device, profile_id, who=who)
    except NvmlError as error:
        if error.code in (NO_PERMISSION, NOT_SUPPORTED, FUNCTION_NOT_FOUND):
            return None
        raise


def _offered(info: Any, number: int, places: Places | None) -> OfferedProfile:
    name = text_of(getattr(info, "name", "")).removeprefix(_PREFIX).strip()
    return OfferedProfile(
        int(info.id),
        number,
        name or None,
        int(info.sliceCount),
        int(info.memorySizeMB),
        int(info.multiprocessorCount),
        int(info.copyEngineCount),
        int(info.decoderCount),
        int(info.encoderCount),
        int(info.jpegCount),
        int(info.ofaCount),
        int(info.instanceCount),
        places,
    )


def compute_profiles(library: Library, instance: Handle, *, who: str) -> tuple[ComputeProfile, ...]:
    """Return the compute instance profiles of a GPU instance, in NVML's order.

    Raises
    ------
    TargetError
        They cannot be read.
    """
    found = []
    for number in library.compute_instance_profiles:
        info = _info(library, "nvmlGpuInstanceGetComputeInstanceProfileInfo", instance, number, 0, who=who)
        if info is not None:
            found.append(
                ComputeProfile(int(info.id), int(info.sliceCount), int(info.instanceCount), int(info.multiprocessorCount))
            )
    return tuple(found)


def whole_compute_profile(profiles: tuple[ComputeProfile, ...]) -> ComputeProfile | None:
    """Return the profile that takes all of its GPU instance: most slices, then most multiprocessors; None of none."""
    return max(profiles, key=lambda profile: (profile.slices, profile.multiprocessors), default=None)
