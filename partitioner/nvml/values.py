"""What was read off a host, as values: GPUs, their instances, who uses them, what this driver offers. Knows no library."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Places = tuple[tuple[int, int], ...]
"""(start, size) of each place where a profile may be, in memory slices."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that uses a GPU.

    Parameters
    ----------
    pid, name : the process; name ``?`` where it cannot be read.
    kind : ``compute``, ``graphics`` or ``mps``.
    memory_mib : what it uses of the GPU's memory [MiB]; None where the driver does not say.
    gpu_instance, compute_instance : the driver's ids of the instance it runs on; None where it uses the whole GPU.
    """

    pid: int
    name: str
    kind: str
    memory_mib: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None

    def __str__(self) -> str:
        return f"{self.pid} ({self.name})"


@dataclass(frozen=True, slots=True)
class ComputeInstance:
    """A compute instance inside a GPU instance.

    Parameters
    ----------
    id, profile_id : the driver's numbers.
    slices : compute slices it takes.
    start, size : its place among the compute slices of the GPU instance.
    uuid : ``MIG-...``, what CUDA_VISIBLE_DEVICES takes; None where the driver does not say.
    """

    id: int
    profile_id: int
    slices: int
    start: int
    size: int
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """A GPU instance that exists.

    Parameters
    ----------
    id, profile_id : the driver's numbers.
    start, size : its place in memory slices.
    compute_instances : none where it was begun and not finished.
    """

    id: int
    profile_id: int
    start: int
    size: int
    compute_instances: tuple[ComputeInstance, ...] = ()

    @property
    def uuid(self) -> str | None:
        """What CUDA_VISIBLE_DEVICES takes: the identifier of the largest compute instance."""
        ordered = sorted(self.compute_instances, key=lambda instance: (-instance.slices, instance.start))
        return ordered[0].uuid if ordered else None


@dataclass(frozen=True, slots=True)
class OfferedProfile:
    """A GPU instance profile as this driver offers it on this GPU.

    Parameters
    ----------
    profile_id : the driver's id, as ``nvidia-smi mig -lgip`` prints it.
    nvml_profile : NVML's enumerator.
    name : the driver's name without ``MIG``, e.g. ``3g.40gb``; None with drivers that do not say.
    compute_slices, memory_mib, multiprocessors : its size.
    copy_engines, decoders, encoders, jpeg, ofa : engines of one instance.
    max_count : most instances on the GPU.
    places : where it may be, in memory slices; None where the driver does not tell this user.
    """

    profile_id: int
    nvml_profile: int
    name: str | None
    compute_slices: int
    memory_mib: int
    multiprocessors: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg: int
    ofa: int
    max_count: int
    places: Places | None = None

    @property
    def engines(self) -> dict[str, int]:
        """Engines by the catalogue's names."""
        return {"decoders": self.decoders, "encoders": self.encoders, "jpeg": self.jpeg, "ofa": self.ofa}

    @property
    def starts(self) -> tuple[int, ...]:
        """Legal starts, ascending; empty where they are not known."""
        return tuple(sorted({start for start, _ in self.places or ()}))

    @property
    def extent(self) -> int | None:
        """Memory slices that one instance takes; None where that is not known."""
        return max((size for _, size in self.places), default=None) if self.places else None


@dataclass(frozen=True, slots=True)
class Pci:
    """Where a GPU is and what it says it is: bus id, and ids of device and subsystem with the vendor's (``0x20B210DE``)."""

    bus_id: str
    device_id: int
    subsystem_id: int


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU, as the driver describes it.

    Parameters
    ----------
    index : NVML's index in the host.
    uuid : the driver's name of the board; None where it cannot be reached.
    name : product name.
    pci : bus and ids.
    memory_mib : total memory [MiB].
    mig, mig_pending : whether MIG mode is on, and will be after the next reset; None where GPU or driver have no MIG.
    profiles : what may be cut; empty where the driver does not say.
    instances : GPU instances that exist, by start.
    processes : who uses it.
    problem : why something could not be read; with `uuid` None the GPU cannot be used at all, else its instances are
        not known.
    """

    index: int
    uuid: str | None = None
    name: str = ""
    pci: Pci | None = None
    memory_mib: int = 0
    mig: bool | None = None
    mig_pending: bool | None = None
    profiles: tuple[OfferedProfile, ...] = ()
    instances: tuple[GpuInstance, ...] = ()
    processes: tuple[Process, ...] = ()
    problem: str | None = None

    @property
    def reachable(self) -> bool:
        """Whether the driver answers for this GPU; one that fell off the bus does not."""
        return self.uuid is not None

    def clients(self, instance: GpuInstance | None = None) -> tuple[Process, ...]:
        """Return the processes on an instance, or all of the GPU."""
        return tuple(p for p in self.processes if instance is None or p.gpu_instance == instance.id)

    def to_data(self) -> dict[str, Any]:
        """Return plain data; PCI ids as ``0x20B210DE``."""
        data = asdict(self)
        if self.pci is not None:
            ids = {name: f"0x{getattr(self.pci, name):08X}" for name in ("device_id", "subsystem_id")}
            data["pci"] = {"bus_id": self.pci.bus_id, **ids}
        return data


@dataclass(frozen=True, slots=True)
class Reading:
    """All GPUs of a host.

    Parameters
    ----------
    host : name of the host.
    driver_version, nvml_version : as the driver says.
    gpus : in NVML's order.
    """

    host: str
    driver_version: str
    nvml_version: str
    gpus: tuple[GpuReading, ...]

    def to_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "host": self.host,
            "driver_version": self.driver_version,
            "nvml_version": self.nvml_version,
            "gpus": [gpu.to_data() for gpu in self.gpus],
        }
