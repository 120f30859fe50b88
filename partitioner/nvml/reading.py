"""Discovery: from the driver's answers to values. Reads only; a GPU that does not answer does not keep the others from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from partitioner.errors import TargetError
from partitioner.layout import gpu_label
from partitioner.nvml.library import Handle, Library, NvmlError, text_of
from partitioner.nvml.processes import processes_of
from partitioner.nvml.profiles import ComputeProfile, compute_profiles, offered_profiles
from partitioner.nvml.values import ComputeInstance, GpuInstance, GpuReading, OfferedProfile, Pci, Reading
from partitioner.nvml.words import FUNCTION_NOT_FOUND, GONE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED

Profiles = tuple[OfferedProfile, ...]


def read_host(library: Library, known: dict[str, Profiles]) -> Reading:
    """Return all GPUs of this host.

    Parameters
    ----------
    library : NVML.
    known : profiles by UUID that were read before, which do not change while the driver runs; added to.

    Raises
    ------
    TargetError
        The driver does not answer.
    """
    return library.run(lambda: _read_host(library, known))


def _read_host(library: Library, known: dict[str, Profiles]) -> Reading:
    count = int(library.call("nvmlDeviceGetCount"))
    return Reading(
        library.host,
        str(library.call("nvmlSystemGetDriverVersion")),
        str(library.call("nvmlSystemGetNVMLVersion")),
        tuple(read_gpu(library, index, known) for index in range(count)),
    )


def read_gpu(library: Library, index: int, known: dict[str, Profiles]) -> GpuReading:
    """Return one GPU; where it does not answer, `problem` says why.

    Raises
    ------
    TargetError
        The driver does not return.
    """
    return library.run(lambda: _read_gpu(library, index, known))


def _read_gpu(library: Library, index: int, known: dict[str, Profiles]) -> GpuReading:
    who = gpu_label(library.host, index)
    try:
        device = library.call("nvmlDeviceGetHandleByIndex", index, who=who)
        basics = _basics(library, index, device, who)
        mode = mig_mode(library, device, who=who)
    except NvmlError as error:
        return GpuReading(index, problem=str(error))
    basics |= {"mig": mode and mode[0], "mig_pending": mode and mode[1]}
    uuid = basics["uuid"]
    try:
        if mode is not None and uuid not in known:
            known[uuid] = offered_profiles(library, device, who=who)
        profiles = known[uuid] if mode is not None else ()
        return GpuReading(**basics, profiles=profiles, **_content(library, device, profiles, bool(mode and mode[0]), who))
    except NvmlError as error:
        if error.code in GONE:
            return GpuReading(index, problem=str(error))
        return GpuReading(**basics, profiles=known.get(uuid, ()), problem=str(error))


def _basics(library: Library, index: int, device: Handle, who: str) -> dict[str, Any]:
    pci = library.call("nvmlDeviceGetPciInfo", device, who=who)
    memory = library.call_or((NOT_SUPPORTED,), None, "nvmlDeviceGetMemoryInfo", device, who=who)  # shared with the CPU
    return {
        "index": index,
        "uuid": str(library.call("nvmlDeviceGetUUID", device, who=who)),
        "name": str(library.call("nvmlDeviceGetName", device, who=who)),
        "pci": Pci(text_of(pci.busId), int(pci.pciDeviceId), int(pci.pciSubSystemId)),
        "memory_mib": 0 if memory is None else int(memory.total) >> 20,
    }


def mig_mode(library: Library, device: Handle, *, who: str) -> tuple[bool, bool] | None:
    """Return whether MIG mode is on and will be after the next reset; None where GPU or driver have no MIG.

    Raises
    ------
    TargetError
        It cannot be read.
    """
    mode = library.call_or((NOT_SUPPORTED, FUNCTION_NOT_FOUND), None, "nvmlDeviceGetMigMode", device, who=who)
    return None if mode is None else (bool(mode[0]), bool(mode[1]))


def _content(library: Library, device: Handle, profiles: Profiles, mig: bool, who: str) -> dict[str, Any]:  # noqa: FBT001 - private
    if not mig:
        return {"processes": processes_of(library, device, who=who)}
    migs = dict(mig_devices(library, device, who))
    processes = processes_of(library, device, who=who, mig_devices=tuple(handle for handle, _ in migs.values()))
    uuids = {place: uuid for place, (_, uuid) in migs.items()}
    return {"instances": _instances(library, device, profiles, uuids, who), "processes": processes}


def mig_devices(library: Library, device: Handle, who: str) -> Iterator[tuple[tuple[int, int], tuple[Handle, str]]]:
    """Iterate over (ids of GPU and compute instance, (handle, UUID)) of the MIG devices of a GPU.

    Raises
    ------
    TargetError
        They cannot be read.
    """
    most = int(library.call("nvmlDeviceGetMaxMigDeviceCount", device, who=who))
    for number in range(most):
        handle = library.call_or(
            (NOT_FOUND, INVALID_ARGUMENT), None, "nvmlDeviceGetMigDeviceHandleByIndex", device, number, who=who
        )
        if handle is None:  # indices may have gaps
            continue
        place = int(library.call("nvmlDeviceGetGpuInstanceId", handle, who=who))
        inner = int(library.call("nvmlDeviceGetComputeInstanceId", handle, who=who))
        yield (place, inner), (handle, str(library.call("nvmlDeviceGetUUID", handle, who=who)))


def gpu_instances(library: Library, device: Handle, profiles: Profiles, *, who: str) -> Iterator[tuple[Handle, Any]]:
    """Iterate over the GPU instances of a GPU: their handles, and id, profileId and placement as NVML gives them.

    Raises
    ------
    TargetError
        They cannot be read; it takes root.
    """
    for profile in profiles:
        for handle in library.gpu_instances(device, profile.profile_id, profile.max_count, who=who):
            yield handle, library.call("nvmlGpuInstanceGetInfo", handle, who=who)


def compute_instances(
    library: Library, instance: Handle, profiles: tuple[ComputeProfile, ...], *, who: str
) -> Iterator[tuple[Handle, Any, int]]:
    """Iterate over the compute instances of a GPU instance: handle, what NVML says of it, and its compute slices.

    Raises
    ------
    TargetError
        They cannot be read; it takes root.
    """
    for profile in profiles:
        for handle in library.compute_instances(instance, profile.profile_id, profile.max_count, who=who):
            yield handle, library.call("nvmlComputeInstanceGetInfo", handle, who=who), profile.slices


def _instances(
    library: Library, device: Handle, profiles: Profiles, uuids: dict[tuple[int, int], str], who: str
) -> tuple[GpuInstance, ...]:
    found, offered = [], dict[int, tuple[ComputeProfile, ...]]()
    for handle, info in gpu_instances(library, device, profiles, who=who):
        profile_id = int(info.profileId)
        if profile_id not in offered:
            offered[profile_id] = compute_profiles(library, handle, who=who)
        inner = tuple(
            ComputeInstance(
                int(ci.id),
                int(ci.profileId),
                slices,
                int(ci.placement.start),
                int(ci.placement.size),
                uuids.get((int(info.id), int(ci.id))),
            )
            for _, ci, slices in compute_instances(library, handle, offered[profile_id], who=who)
        )
        found.append(GpuInstance(int(info.id), profile_id, int(info.placement.start), int(info.placement.size), inner))
    return tuple(sorted(found, key=lambda instance: instance.start))


def handle_of(library: Library, index: int, uuid: str, *, who: str) -> Handle:
    """Return the handle of a GPU that must be the one read before.

    Raises
    ------
    TargetError
        Another GPU has this index now, or none.
    """
    device = library.call("nvmlDeviceGetHandleByIndex", index, who=who)
    now = str(library.call("nvmlDeviceGetUUID", device, who=who))
    if now != uuid:
        raise TargetError(f"{who}: is {now} now and was {uuid} when it was read; indices have moved, diff again")
    return device
