"""Which GPU devices the placements of one machine become. Must not know pyVmomi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.layout import Assignment
from vsphere.machine.defaults import VmDefaults
from vsphere.machine.mmio import FLOOR_GB, mmio_size_gb, next_power
from vsphere.machine.vm import Device
from vsphere.names import default_vgpu_type, frame_buffer_mib, vgpu_type
from vsphere.values import Place

if TYPE_CHECKING:
    from partitioner.catalog import GpuModel
    from vsphere.values import GpuInfo, HostInfo

Models = Mapping[tuple[str | None, int], str]
"""Host and index of each GPU to its model."""

NVIDIA = "10de"
_ALL = 1 << 30


def devices_for(places: Sequence[Assignment], models: Models, defaults: VmDefaults, host: HostInfo | None) -> tuple[Device, ...]:
    """Return a device for each placement of one machine, in the plan's order.

    Raises
    ------
    SpecError
        The host offers no such type, has no such GPU, or a whole GPU cannot be given as wanted.
    """
    return tuple(_device(place, models[place.host, place.gpu], defaults, host) for place in places)


def _device(at: Assignment, model: str, defaults: VmDefaults, host: HostInfo | None) -> Device:
    place = Place(at.workload, at.replica, at.gpu, at.mode, at.profile, at.start)
    gpu = _gpu(at, host)
    node = gpu.numa_node if gpu is not None and defaults.numa else None
    if at.mode == "whole" and defaults.whole == "fixed":
        if gpu is None:
            raise SpecError(
                f"gpu{at.gpu} of host {at.host!r} is to be given whole, but its PCI address is not known;"
                " give the hosts of the inventory, or choose whole='dynamic'"
            )
        return Device(fixed=gpu.pci_id, numa_node=node, place=place)
    if at.mode == "whole" and defaults.whole == "dynamic":
        ids = (
            [gpu.device_id]
            if gpu is not None and gpu.device_id
            else [f"{NVIDIA}:{i:04x}" for i in catalog.gpu(model).pci_device_ids]
        )
        return Device(dynamic=tuple(ids), label=defaults.label, numa_node=node, place=place)
    profile = _full(catalog.gpu(model)) if at.mode == "whole" else at.profile
    if host is not None:
        name = vgpu_type(profile, host, model=model, series=defaults.series)
    else:
        name = default_vgpu_type(profile, model, series=defaults.series)
    return Device(vgpu=name, parameters=defaults.parameters, numa_node=node, place=place)


def _gpu(at: Assignment, host: HostInfo | None) -> GpuInfo | None:
    if host is None:
        return None
    if at.gpu >= len(host.gpus):
        raise SpecError(f"host {host.name!r} has no gpu{at.gpu}; it has {len(host.gpus)} GPUs; read the inventory again")
    return host.gpus[at.gpu]


def _full(model: GpuModel) -> str:
    """Return the time-sliced compute type that takes a whole GPU, for a whole GPU given as a vGPU."""
    types = [t for board in model.record.boards for t in board.types if not t.gi_profile and t.max_per_gpu == 1]
    types.sort(key=lambda vgpu: ("CQBA".index(vgpu.series), -vgpu.frame_buffer_mib))
    if not types:
        raise SpecError(f"{model.name}: no vGPU type takes the whole GPU; choose whole='fixed' or 'dynamic'")
    return types[0].name


def mmio_for(places: Sequence[Assignment], devices: Sequence[Device], models: Models, defaults: VmDefaults) -> int | None:
    """Return the address space above 4 GiB that a machine needs for its devices, None where it needs none [GB].

    Whole GPUs count by `mmio_size_gb`. A vGPU shows a small BAR whatever its frame buffer is: it counts for
    `defaults.mmio_vgpu_gb`, so that one vGPU gives the 64 GB of the source documents and k of them k times that, rounded up to
    a power of two.
    """
    whole: list[str | float] = []
    shared = 0
    for at, device in zip(places, devices, strict=True):
        model = catalog.gpu(models[at.host, at.gpu])
        if device.vgpu is None:
            whole.append(model.name)
        elif mmio_size_gb([model]) is not None:
            if defaults.mmio_vgpu_gb is None:
                whole.append(max(1.0, memory_mib(device) / 1024))
            else:
                shared += defaults.mmio_vgpu_gb
    needed = (mmio_size_gb(whole, defaults.mmio_policy) or 0) if whole else 0
    total = needed + shared
    return max(FLOOR_GB, next_power(total)) if total else None


def memory_mib(device: Device) -> int:
    """Return the memory that a device takes of its GPU; of a whole GPU or an unknown type more than any [MiB]."""
    known = frame_buffer_mib(device.vgpu) if device.vgpu is not None else None
    return _ALL if known is None else known
