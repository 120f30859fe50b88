"""Creating and destroying GPU instances with their compute instances, and looking whether the driver really did it.

Every function finishes what was begun: a GPU instance without its compute instance gets it, one whose compute instances are
gone already is destroyed. Must not know layouts, workloads, nor who may interrupt whom.
"""

from __future__ import annotations

from typing import Any

from partitioner.errors import TargetError
from partitioner.nvml.library import Handle, Library
from partitioner.nvml.profiles import compute_profiles, whole_compute_profile
from partitioner.nvml.reading import compute_instances, gpu_instances
from partitioner.nvml.values import OfferedProfile

_RUN_AGAIN = "see the kernel log (dmesg), then run it again"


def create(
    library: Library, device: Handle, profiles: tuple[OfferedProfile, ...], wanted: OfferedProfile, start: int, *, who: str
) -> None:
    """Create a GPU instance at a start, and the compute instance that takes all of it; or what of them is missing.

    Parameters
    ----------
    library : NVML.
    device : the GPU.
    profiles : all profiles it offers.
    wanted : the profile to create.
    start : where, a legal start of it.
    who : the GPU for messages.

    Raises
    ------
    TargetError
        Something else is there, the driver refused, or it claims success and there is nothing.
    """
    size = next((size for place, size in wanted.places or () if place == start), wanted.extent)
    if size is None:
        raise TargetError(
            f"{who}: the driver does not tell this user where {wanted.name or wanted.profile_id} may be; run it as root"
        )
    found = _find(library, device, profiles, wanted, start, size, who)
    if found is None:
        found = library.create_gpu_instance(device, wanted.profile_id, start, size, who=who)
        found = _find(library, device, profiles, wanted, start, size, who)
        if found is None:
            raise TargetError(f"{who}: the driver reports success, but there is no instance at {start}; {_RUN_AGAIN}")
    _fill(library, found, start, who)


def _find(
    library: Library,
    device: Handle,
    profiles: tuple[OfferedProfile, ...],
    wanted: OfferedProfile,
    start: int,
    size: int,
    who: str,
) -> Handle | None:
    """Return the instance of the profile at the start; None where the place is free."""
    for handle, info in gpu_instances(library, device, profiles, who=who):
        first, length, profile_id = int(info.placement.start), int(info.placement.size), int(info.profileId)
        if (profile_id, first) == (wanted.profile_id, start):
            return handle
        if first < start + size and start < first + length:
            other = next((p.name for p in profiles if p.profile_id == profile_id), None) or f"profile {profile_id}"
            raise TargetError(
                f"{who}: {other}@{first} is where {wanted.name or wanted.profile_id}@{start} is to be created; destroy it first"
            )
    return None


def _fill(library: Library, instance: Handle, start: int, who: str) -> None:
    """Create the compute instance that takes all of a GPU instance, where there is none."""
    offered = compute_profiles(library, instance, who=who)
    if any(compute_instances(library, instance, offered, who=who)):
        return
    whole = whole_compute_profile(offered)
    if whole is None:
        raise TargetError(f"{who}: the driver offers no compute instance for the instance at {start}; update NVIDIA's driver")
    library.call("nvmlGpuInstanceCreateComputeInstance", instance, whole.profile_id, who=who)
    if not any(compute_instances(library, instance, offered, who=who)):
        raise TargetError(f"{who}: the driver reports success, but the instance at {start} has no compute instance; {_RUN_AGAIN}")


def destroy(library: Library, device: Handle, gone: OfferedProfile, start: int, *, who: str) -> None:
    """Destroy the compute instances of a GPU instance, then the GPU instance; nothing happens where there is none.

    Parameters
    ----------
    library : NVML.
    device : the GPU.
    gone : the profile of the instance.
    start : where it is.
    who : the GPU for messages.

    Raises
    ------
    InUseError
        Something uses it that the driver does not list.
    TargetError
        The driver refused, or it claims success and the instance is still there.
    """
    found = _at(library, device, gone, start, who)
    if found is None:
        return
    offered = compute_profiles(library, found, who=who)
    for handle, _, _ in tuple(compute_instances(library, found, offered, who=who)):
        library.call("nvmlComputeInstanceDestroy", handle, who=who)
    library.call("nvmlGpuInstanceDestroy", found, who=who)
    if _at(library, device, gone, start, who) is not None:
        raise TargetError(f"{who}: the driver reports success, but the instance at {start} is still there; {_RUN_AGAIN}")


def _at(library: Library, device: Handle, profile: OfferedProfile, start: int, who: str) -> Handle | None:
    for handle in library.gpu_instances(device, profile.profile_id, profile.max_count, who=who):
        info: Any = library.call("nvmlGpuInstanceGetInfo", handle, who=who)
        if int(info.placement.start) == start:
            return handle
    return None
