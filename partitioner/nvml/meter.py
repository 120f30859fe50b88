"""Power, energy, temperature and clocks of the GPUs of this machine, and memory in use, as often as asked for. Reads only.

NVML knows power and energy of whole GPUs: of a MIG device only its memory is read. How busy a MIG device is NVML does not
say (``nvmlDeviceGetUtilizationRates`` is not supported under MIG: NVML API Reference Guide, R590); DCGM's profiling fields do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from partitioner.layout import gpu_label
from partitioner.nvml.library import Handle, Library, NvmlError
from partitioner.nvml.reading import mig_devices, mig_mode
from partitioner.nvml.words import FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NO_PERMISSION, NOT_SUPPORTED

_NOT_TOLD = (INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND)  # no figure, but no fault either
_GPU_SENSOR, _SM_CLOCK = 0, 1  # NVML_TEMPERATURE_GPU, NVML_CLOCK_SM


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A MIG device: what CUDA_VISIBLE_DEVICES takes for it, the id of its GPU instance, memory in use [MiB]."""

    uuid: str
    gpu_instance: int
    memory_used_mib: float | None = None


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """A GPU at one moment; None stands for what its driver does not tell this user.

    Parameters
    ----------
    index : NVML's index in the host.
    uuid : the driver's name of the board.
    power_w : power drawn by the board [W].
    energy_j : counter of the energy since the driver was loaded [J].
    sm_clock_mhz : clock of the multiprocessors [MHz].
    temperature_c : of the chip [degrees Celsius].
    memory_used_mib : memory in use [MiB].
    mig_devices : the MIG devices on it.
    problem : why it does not answer; then there are no figures.
    """

    index: int
    uuid: str
    power_w: float | None = None
    energy_j: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    memory_used_mib: float | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Gpu:
    who: str
    uuid: str
    device: Handle
    migs: tuple[tuple[str, int, Handle], ...]  # UUID, GPU instance


class Meter:
    """The figures of this machine's GPUs. Close it, or use it in ``with``.

    Which MIG devices there are is read once, when it is made.

    Parameters
    ----------
    timeout_s : longest wait for one call into the driver [s].

    Raises
    ------
    TargetError
        pynvml or the driver is missing, or the driver does not answer.
    """

    def __init__(self, *, timeout_s: float = 10.0) -> None:
        self._library = Library(timeout_s=timeout_s, host=socket.gethostname())
        try:
            self._gpus = self._library.run(self._found)
        except BaseException:
            self._library.close()
            raise

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Shut NVML down.

        Raises
        ------
        TargetError
            The driver refused.
        """
        self._library.close()

    def read(self) -> tuple[GpuFigures, ...]:
        """Return the figures of all GPUs at this moment, in NVML's order.

        Raises
        ------
        TargetError
            The driver does not return.
        """
        return self._library.run(lambda: tuple(self._figures(index, gpu) for index, gpu in self._gpus.items()))

    def _found(self) -> dict[int, _Gpu]:
        found = {}
        for index in range(int(self._library.call("nvmlDeviceGetCount"))):
            who = gpu_label(self._library.host, index)
            try:
                device = self._library.call("nvmlDeviceGetHandleByIndex", index, who=who)
                uuid = str(self._library.call("nvmlDeviceGetUUID", device, who=who))
                found[index] = _Gpu(who, uuid, device, self._migs(device, who))
            except NvmlError:  # fell off the bus: the others can be read
                continue
        return found

    def _migs(self, device: Handle, who: str) -> tuple[tuple[str, int, Handle], ...]:
        mode = mig_mode(self._library, device, who=who)
        if mode is None or not mode[0]:
            return ()
        return tuple((uuid, place[0], handle) for place, (handle, uuid) in mig_devices(self._library, device, who))

    def _figures(self, index: int, gpu: _Gpu) -> GpuFigures:
        try:
            return GpuFigures(
                index,
                gpu.uuid,
                power_w=self._number(gpu, "nvmlDeviceGetPowerUsage", scale=1e-3),
                energy_j=self._number(gpu, "nvmlDeviceGetTotalEnergyConsumption", scale=1e-3),
                sm_clock_mhz=self._number(gpu, "nvmlDeviceGetClockInfo", _SM_CLOCK),
                temperature_c=self._number(gpu, "nvmlDeviceGetTemperature", _GPU_SENSOR),
                memory_used_mib=self._memory(gpu, gpu.device),
                mig_devices=tuple(MigDevice(uuid, place, self._memory(gpu, mig)) for uuid, place, mig in gpu.migs),
            )
        except NvmlError as error:
            return GpuFigures(index, gpu.uuid, problem=str(error))

    def _memory(self, gpu: _Gpu, device: Handle) -> float | None:
        return self._number(gpu, "nvmlDeviceGetMemoryInfo", device=device, scale=2**-20, of=lambda memory: memory.used)

    def _number(
        self,
        gpu: _Gpu,
        name: str,
        *arguments: int,
        device: Handle | None = None,
        scale: float = 1.0,
        of: Callable[[Any], float] = float,
    ) -> float | None:
        asked = gpu.device if device is None else device
        value = self._library.call_or(_NOT_TOLD, None, name, asked, *arguments, who=gpu.who)
        return None if value is None else of(value) * scale
