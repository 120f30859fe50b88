"""What is seen of GPUs: one reading, and the means of a run. Knows not where readings come from.

Names of metrics: ``gr_engine_active``, ``sm_active``, ``sm_occupancy``, ``tensor_active``, ``dram_active`` (shares, 0 to 1),
``pcie_tx_bytes_per_s``, ``pcie_rx_bytes_per_s``, ``power_w``, ``temperature_c``, ``sm_clock_mhz``, ``memory_used_mib``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

ENERGY = "energy_j"
"""Counter of the energy of a GPU since its driver was loaded [J]; a run's energy is what it grew by."""
OF_THE_BOARD = ("power_w", "temperature_c", "sm_clock_mhz", ENERGY)
"""What there is of whole GPUs only. Exporters repeat it for each MIG instance: it must not be added up."""


class Device(NamedTuple):
    """A GPU by the driver's UUID (of which `gpu_instance` is None), or a GPU instance on it by its id."""

    gpu: str
    gpu_instance: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One device at one moment.

    Parameters
    ----------
    device : which it is.
    index : of its GPU in its host.
    profile : of a GPU instance; None where it is not known, and for GPUs.
    host : where it is; None where that is not said.
    values : metrics by name, and the counter `ENERGY`.
    """

    device: Device
    index: int
    profile: str | None = None
    host: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuMetrics:
    """Means over a run.

    Parameters
    ----------
    source : ``dcgm``, ``nvml`` or ``none``.
    instances : by instance of the scenario, means by name; ``gpu_power_w`` and the like are of the whole GPU that the
        instance is a part of.
    gpus : by UUID of GPU, means by name.
    energy_j : of all GPUs that hold an instance, within the run [J]; None where not measured.
    notes : what is missing or doubtful, and why.
    """

    source: str
    instances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gpus: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    energy_j: float | None = None
    notes: tuple[str, ...] = ()


class Sampler(Protocol):
    """What watches GPUs from `start` to `stop`; both return at once or nearly so, and neither raises."""

    def start(self) -> None:
        """Begin to watch."""
        ...

    def stop(self) -> GpuMetrics:
        """End it, and return what was seen; what could not be seen stands in the notes."""
        ...


class Source(Protocol):
    """Where readings come from."""

    name: str

    def open(self) -> None:
        """Get ready; raises `PartitionerError` where that cannot be."""
        ...

    def read(self) -> tuple[Reading, ...]:
        """Return all devices at this moment; raises `PartitionerError` where they cannot be read."""
        ...

    def close(self) -> None:
        """Let go of everything; raises `PartitionerError` where that fails."""
        ...
