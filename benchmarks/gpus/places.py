"""Which device each instance of a scenario is. Knows no source of readings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.gpus.values import Device, Reading
from benchmarks.scenarios.scenario import Instance

_OLD_MIG = re.compile(r"MIG-(GPU-[^/]+)/(\d+)/\d+")  # how drivers before R470 named MIG devices

Places = Mapping[str, Device]


def devices_of(
    instances: Sequence[Instance], readings: Iterable[Reading], mig_devices: Mapping[str, Device]
) -> tuple[dict[str, Device], tuple[str, ...]]:
    """Return the device of each instance by name, and a note for each that cannot be told.

    An instance is known by its UUID; else by the index of its GPU and its profile. Instances of one profile on one GPU have
    ids in the order of their places, so that the first by start is the first by id, where all of them belong to the scenario.

    Parameters
    ----------
    instances : of the scenario.
    readings : all devices that were seen.
    mig_devices : UUIDs of MIG devices that are known, with their devices.
    """
    seen = tuple(readings)
    found: dict[str, Device] = {}
    notes = []
    for instance in instances:
        device = _by_uuid(instance, mig_devices) or _by_place(instance, instances, seen)
        if device is not None and any(reading.device == device for reading in seen):
            found[instance.name] = device
        else:
            notes.append(f"{instance.name}: none of the devices seen is known to be it; no figures of its own")
    return found, tuple(notes)


def gpu_of(instance: Instance, readings: Iterable[Reading], found: Places) -> str | None:
    """Return the UUID of the GPU that an instance is on, also where it is not known which of its parts; None: not known."""
    if instance.name in found:
        return found[instance.name].gpu
    gpus = {reading.device.gpu for reading in readings if reading.index == instance.gpu and _same_host(reading, instance)}
    return gpus.pop() if len(gpus) == 1 and instance.uuid is None else None


def _by_uuid(instance: Instance, mig_devices: Mapping[str, Device]) -> Device | None:
    uuid = instance.uuid or ""
    if uuid.startswith("GPU-"):
        return Device(uuid)
    if match := _OLD_MIG.fullmatch(uuid):
        return Device(match[1], int(match[2]))
    return mig_devices.get(uuid)


def _by_place(instance: Instance, instances: Sequence[Instance], seen: Sequence[Reading]) -> Device | None:
    on_gpu = [reading for reading in seen if reading.index == instance.gpu and _same_host(reading, instance)]
    if len({reading.device.gpu for reading in on_gpu}) != 1:
        return None  # none, or GPUs of several hosts
    parts = [reading for reading in on_gpu if reading.device.gpu_instance is not None]
    beside = [other for other in instances if (other.host, other.gpu) == (instance.host, instance.gpu)]
    if not parts:
        return on_gpu[0].device if len(beside) == 1 else None
    alike = sorted(reading.device for reading in parts if reading.profile in (instance.profile, None))
    wanted = sorted((other for other in beside if other.profile == instance.profile), key=lambda other: other.start)
    return alike[wanted.index(instance)] if len(alike) == len(wanted) else None


def _same_host(reading: Reading, instance: Instance) -> bool:
    return reading.host is None or instance.host is None or reading.host.partition(".")[0] == instance.host.partition(".")[0]
