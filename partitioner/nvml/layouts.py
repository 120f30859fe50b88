"""From a reading and the ledger to a `Fleet` and a `Layout`. Pure: calls no driver and writes no file.

The driver knows instances and processes; the ledger knows which replica occupies which instance. An instance with processes
and no occupant in the ledger belongs to somebody else: planners are told to leave it.
"""

from __future__ import annotations

from collections.abc import Mapping

from partitioner.catalog import GpuModel
from partitioner.changes.step import Place
from partitioner.errors import SpecError, TargetError
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.layout import GpuLayout, Layout, Slot, gpu_label
from partitioner.nvml.models import model_of, profile_names
from partitioner.nvml.values import GpuInstance, GpuReading, Reading
from partitioner.targets import Instance, Occupant

Ledger = Mapping[Instance, Occupant | None]
WHOLE = "whole"
BARE_METAL = ("mig", WHOLE)  # time-sliced vGPUs take a hypervisor


def fleet_of(reading: Reading, ledger: Ledger) -> Fleet:
    """Return this host with its GPUs; instances that others use stand in `Gpu.instances`.

    Raises
    ------
    TargetError
        There is no GPU, or the instances of one could not be read.
    """
    if not reading.gpus:
        raise TargetError(f"{reading.host}: the driver shows no GPU; check `nvidia-smi -L`")
    try:
        return Fleet((Host(reading.host, tuple(_fleet_gpu(reading.host, gpu, ledger) for gpu in reading.gpus)),), BARE_METAL)
    except SpecError as error:
        raise _contradiction(reading.host, error) from error


def _fleet_gpu(host: str, gpu: GpuReading, ledger: Ledger) -> Gpu:
    layout = gpu_layout(host, gpu, ledger)
    if not gpu.mig:
        busy = not gpu.reachable or _by_others(gpu, ledger)
        fixed = gpu.mig is None or busy  # without MIG nothing else can be made of it through this driver
        return Gpu(layout.model, WHOLE if fixed else None, instances=("whole@0",) if busy else ())
    names = profile_names(gpu, model_of(gpu))
    foreign = [
        f"{names[instance.profile_id]}@{instance.start}"
        for instance in gpu.instances
        if gpu.clients(instance) and ledger.get(_entry(gpu, names[instance.profile_id], instance.start)) is None
    ]
    return Gpu(layout.model, "mig" if foreign else None, instances=tuple(foreign))


def layout_of(reading: Reading, ledger: Ledger) -> Layout:
    """Return what is on each GPU now.

    Raises
    ------
    TargetError
        The instances of a GPU could not be read, or are not legal by the catalogue.
    """
    try:
        return Layout.of(gpu_layout(reading.host, gpu, ledger) for gpu in reading.gpus)
    except SpecError as error:
        raise _contradiction(reading.host, error) from error


def gpu_layout(host: str, gpu: GpuReading, ledger: Ledger) -> GpuLayout:
    """Return what is on one GPU; one that does not answer is taken as a whole, so that nothing is planned for it.

    Raises
    ------
    TargetError
        Its instances could not be read.
    """
    if not gpu.reachable:
        return GpuLayout(host, gpu.index, model_of(gpu).name, WHOLE, (Slot(WHOLE, 0, busy=True),))
    if gpu.problem is not None:
        raise TargetError(gpu.problem)
    model = model_of(gpu)
    if gpu.mig:
        slots = tuple(_slot(host, gpu, model, instance, ledger) for instance in gpu.instances)
        return GpuLayout(host, gpu.index, model.name, "mig", slots, gpu.uuid)
    entry = _entry(gpu, WHOLE, 0)
    taken = entry in ledger or _by_others(gpu, ledger)
    return GpuLayout(
        host,
        gpu.index,
        model.name,
        WHOLE,
        (_held(WHOLE, 0, ledger.get(entry), busy=bool(gpu.processes)),) if taken else (),
        gpu.uuid,
    )


def _slot(host: str, gpu: GpuReading, model: GpuModel, instance: GpuInstance, ledger: Ledger) -> Slot:
    name = profile_names(gpu, model).get(instance.profile_id)
    if name is None:
        raise TargetError(
            f"{gpu_label(host, gpu.index)} ({model.name}): instance at {instance.start} has profile id {instance.profile_id},"
            " which neither catalogue nor driver names; see `partitioner catalog check --target nvml`, as root"
        )
    held = ledger.get(_entry(gpu, name, instance.start))
    return _held(name, instance.start, held, ready=bool(instance.compute_instances), busy=bool(gpu.clients(instance)))


def _held(profile: str, start: int, occupant: Occupant | None, *, busy: bool, ready: bool = True) -> Slot:
    """Return a slot; processes in it are somebody else's where the ledger knows no occupant."""
    workload, replica = occupant or (None, None)
    return Slot(profile, start, workload, replica, ready, busy and occupant is None)


def _entry(gpu: GpuReading, profile: str, start: int) -> Instance:
    return Instance(gpu.uuid or "", profile, start)


def _by_others(gpu: GpuReading, ledger: Ledger) -> bool:
    """Whether processes use the whole of a GPU that nobody in the ledger occupies."""
    return bool(gpu.processes) and ledger.get(_entry(gpu, WHOLE, 0)) is None


def identifiers_of(reading: Reading, ledger: Ledger) -> dict[Place, str]:
    """Return what CUDA_VISIBLE_DEVICES takes for each instance: ``MIG-...``, of a whole GPU ``GPU-...``.

    Raises
    ------
    TargetError
        The instances of a GPU could not be read.
    """
    found = {}
    for gpu in reading.gpus:
        if not gpu.reachable:
            continue
        uuids = {instance.start: instance.uuid for instance in gpu.instances}
        for slot in gpu_layout(reading.host, gpu, ledger).slots:
            uuid = uuids.get(slot.start) if gpu.mig else gpu.uuid
            if uuid is not None:
                found[Place(reading.host, gpu.index, slot.profile, slot.start)] = uuid
    return found


def _contradiction(host: str, error: SpecError) -> TargetError:
    return TargetError(
        f"{host}: what the driver shows is not legal by the catalogue: {error}; see `partitioner catalog check --target nvml`"
    )
