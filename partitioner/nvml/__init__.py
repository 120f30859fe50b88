"""The GPUs of this machine through NVIDIA's driver: what is there, and changing it one step at a time.

`NvmlTarget` is a target for `apply`; `compare_with_catalogue` says where driver and catalogue differ. pynvml is imported
when a target is made, by `library` alone. Must not know plans, solvers, nor how changes are found.
"""

from __future__ import annotations

from partitioner.nvml.files import catalogue_file
from partitioner.nvml.library import NvmlError, NvmlInUseError
from partitioner.nvml.meter import GpuFigures, Meter, MigDevice
from partitioner.nvml.models import Difference, differences, model_of
from partitioner.nvml.target import NvmlTarget
from partitioner.nvml.values import GpuInstance, GpuReading, OfferedProfile, Process, Reading

__all__ = [
    "Difference",
    "GpuFigures",
    "GpuInstance",
    "GpuReading",
    "Meter",
    "MigDevice",
    "NvmlError",
    "NvmlInUseError",
    "NvmlTarget",
    "OfferedProfile",
    "Process",
    "Reading",
    "catalogue_file",
    "compare_with_catalogue",
    "model_of",
]


def compare_with_catalogue(target: NvmlTarget) -> tuple[Difference, ...]:
    """Return where the driver of a machine and the catalogue do not agree, GPU after GPU; possible places take root.

    Raises
    ------
    TargetError
        The driver does not answer.
    """
    return tuple(difference for gpu in target.status().gpus for difference in differences(gpu))
