"""Which GPU hardware a CUDA_VISIBLE_DEVICES means, asked of the driver where there is one. Changes nothing."""

from __future__ import annotations

from benchmarks.errors import ServerError
from partitioner.errors import TargetError
from partitioner.nvml import GpuReading, NvmlTarget


def bus_id_of(uuid: str, *, who: str) -> str | None:
    """Return the PCI address of the GPU behind an identifier; None where this host has no driver to ask.

    Parameters
    ----------
    uuid : ``MIG-...`` or ``GPU-...``.
    who : of the message.

    Raises
    ------
    ServerError
        The driver knows no such instance or GPU.
    """
    try:
        with NvmlTarget() as target:
            gpus = [gpu for gpu in target.status().gpus if gpu.reachable]
    except TargetError:  # without a driver the server itself will say that it sees no GPU
        return None
    known = {identifier: gpu for gpu in gpus for identifier in _identifiers(gpu)}
    if uuid not in known:
        raise ServerError(
            f"{who} - this host has no instance {uuid}; it has {', '.join(known) or 'none'}. It was destroyed, or is on another "
            "host: apply the plan again, or take the identifiers anew"
        )
    pci = known[uuid].pci
    return pci.bus_id if pci else None


def _identifiers(gpu: GpuReading) -> list[str]:
    """Return all that CUDA takes for a GPU: of one with MIG its compute instances, else itself."""
    if gpu.mig:
        return [part.uuid for instance in gpu.instances for part in instance.compute_instances if part.uuid]
    return [gpu.uuid] if gpu.uuid else []
