"""What a scenario runs on: instances that exist on this machine's GPUs, or a stand-in, which is said in every output.

Reads through NVML, changes nothing. Knows no servers.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.scenarios import Scenario
from partitioner.errors import TargetError
from partitioner.nvml import NvmlTarget
from partitioner.nvml.values import GpuReading, Reading

DEVICES = ("gpu", "cpu-slices", "emulated")
"""``gpu``: instances on hardware; the others stand in for it, see `benchmarks.results.STAND_INS`."""

_DRIVER = Path("/proc/driver/nvidia/version")
"""There where NVIDIA's kernel module is loaded."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An instance of hardware."""

    profile: str
    start: int
    uuid: str
    pids: tuple[int, ...]

    def __str__(self) -> str:
        return self.profile + (f" (in use by {', '.join(map(str, self.pids))})" if self.pids else "")


def settle(scenario: Scenario, *, servers: str, device: str | None) -> tuple[Scenario, str]:
    """Return the scenario with the identifiers of its instances, and the device that it runs on.

    Parameters
    ----------
    scenario : what is to be measured.
    servers : kind of the servers.
    device : one of `DEVICES`; None: GPUs where this machine has a driver with GPUs, else slices of the CPU.

    Raises
    ------
    BenchmarkError
        There are GPUs, and they are not cut like the scenario, or somebody uses the instances.
    """
    if servers == "emulated":
        return scenario, "emulated"
    if device == "cpu-slices":
        return scenario, device
    if servers == "external" or all(instance.uuid for instance in scenario.instances):
        return scenario, "gpu"
    try:
        with NvmlTarget() as target:
            reading = target.status()
            places = {gpu.index: _places(target, gpu) for gpu in reading.gpus if gpu.reachable} if reading.gpus else {}
    except TargetError as error:
        if device == "gpu":
            raise BenchmarkError(f"{scenario.name}: device 'gpu' is wanted, and there is none: {error}") from error
        if _DRIVER.exists():  # the CPU must not be measured in the place of GPUs that are there
            raise BenchmarkError(
                f"{scenario.name}: this machine has NVIDIA's driver, and its GPUs cannot be read: {error};"
                " mend that, or rehearse with device='cpu-slices'"
            ) from error
        return scenario, "cpu-slices"
    if not places and device != "gpu":
        return scenario, "cpu-slices"
    return _matched(scenario, reading, places), "gpu"


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver on this machine; None where there is none."""
    try:
        with NvmlTarget() as target:
            return target.status().driver_version
    except TargetError:
        return None


def _places(target: NvmlTarget, gpu: GpuReading) -> list[_Place]:
    """Return the instances of one GPU, or the GPU itself where MIG is off."""
    if not gpu.mig:
        assert gpu.uuid is not None
        return [_Place("whole", 0, gpu.uuid, tuple(process.pid for process in gpu.clients()))]
    by_start = {instance.start: instance for instance in gpu.instances}
    return [
        _Place(place.profile, place.start, uuid, tuple(process.pid for process in gpu.clients(by_start[place.start])))
        for place, uuid in target.identifiers().items()
        if place.gpu == gpu.index and place.start in by_start
    ]


def _matched(scenario: Scenario, reading: Reading, places: dict[int, list[_Place]]) -> Scenario:
    """Return the scenario on the first GPUs that have its instances free."""
    found: dict[str, _Place] = {}
    home: dict[str, int] = {}
    free = dict(places)
    for gpu in sorted({instance.gpu for instance in scenario.instances}):
        wanted = [instance for instance in scenario.instances if instance.gpu == gpu]
        need = Counter(instance.profile for instance in wanted)
        for index, offered in free.items():
            idle = [place for place in offered if not place.pids]
            if need <= Counter(place.profile for place in idle):
                for instance in wanted:
                    place = next(p for p in idle if p.profile == instance.profile)
                    idle.remove(place)
                    found[instance.name], home[instance.name] = place, index
                del free[index]
                break
        else:
            raise BenchmarkError(_missing(scenario, need, reading, places))
    instances = [
        replace(i, uuid=found[i.name].uuid, gpu=home[i.name], start=found[i.name].start, host=reading.host)
        for i in scenario.instances
    ]
    return replace(scenario, instances=tuple(instances))


def _missing(scenario: Scenario, need: Counter[str], reading: Reading, places: dict[int, list[_Place]]) -> str:
    wanted = ", ".join(f"{count} x {profile}" for profile, count in need.items())
    have = "; ".join(f"gpu{index}: {', '.join(map(str, offered)) or 'nothing cut'}" for index, offered in places.items())
    return (
        f"{scenario.name} on {reading.host}: no GPU has {wanted} free; {have}. Cut one with `partitioner apply`,"
        " or rehearse with device='cpu-slices'"
    )


def visible(uuid: str) -> dict[str, str]:
    """Return the environment in which a process sees one instance only, and no GPU at all where that is empty."""
    return {"CUDA_VISIBLE_DEVICES": uuid, "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
