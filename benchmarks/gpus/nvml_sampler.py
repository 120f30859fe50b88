"""NVIDIA's driver on this machine as a source of readings: power, energy, clocks, temperature, memory. No utilisation.

Under MIG the driver does not say how busy an instance is; a DCGM exporter does, with its profiling fields.
"""

from __future__ import annotations

from benchmarks.gpus.values import ENERGY, Device, Reading
from partitioner.nvml import GpuFigures, Meter


class NvmlSource:
    """The GPUs of this machine, by their driver.

    Parameters
    ----------
    timeout_s : longest wait for one call into the driver [s].
    """

    name = "nvml"

    def __init__(self, *, timeout_s: float = 10.0) -> None:
        self.timeout_s = timeout_s
        self._meter: Meter | None = None

    def open(self) -> None:
        """Initialise NVML.

        Raises
        ------
        TargetError
            pynvml or the driver is missing, or the driver does not answer.
        """
        self._meter = Meter(timeout_s=self.timeout_s)

    def close(self) -> None:
        """Shut NVML down.

        Raises
        ------
        TargetError
            The driver refused.
        """
        if self._meter is not None:
            self._meter.close()
            self._meter = None

    def read(self) -> tuple[Reading, ...]:
        """Return all GPUs and their MIG devices; GPUs that do not answer are left out.

        Raises
        ------
        TargetError
            The driver does not return.
        """
        assert self._meter is not None
        return tuple(reading for gpu in self._meter.read() if gpu.problem is None for reading in _readings(gpu))


def mig_devices(*, timeout_s: float = 10.0) -> dict[str, Device]:
    """Return the MIG devices of this machine: what CUDA_VISIBLE_DEVICES takes, to GPU and GPU instance.

    Raises
    ------
    TargetError
        pynvml or the driver is missing, or the driver does not answer.
    """
    with Meter(timeout_s=timeout_s) as meter:
        return {mig.uuid: Device(gpu.uuid, mig.gpu_instance) for gpu in meter.read() for mig in gpu.mig_devices}


def _readings(gpu: GpuFigures) -> tuple[Reading, ...]:
    told = {
        "power_w": gpu.power_w,
        ENERGY: gpu.energy_j,
        "sm_clock_mhz": gpu.sm_clock_mhz,
        "temperature_c": gpu.temperature_c,
        "memory_used_mib": gpu.memory_used_mib,
    }
    whole = Reading(Device(gpu.uuid), gpu.index, values={name: value for name, value in told.items() if value is not None})
    memory = ((mig, mig.memory_used_mib) for mig in gpu.mig_devices)
    return whole, *(
        Reading(Device(gpu.uuid, mig.gpu_instance), gpu.index, values={} if used is None else {"memory_used_mib": used})
        for mig, used in memory
    )
