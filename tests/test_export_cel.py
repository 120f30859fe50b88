"""Selectors of Kubernetes objects, evaluated by a CEL engine against devices as NVIDIA's DRA driver publishes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import celpy
import pytest

from partitioner import catalog, export
from partitioner.export.claims import device_expression, profile_names
from partitioner.layout import GpuLayout, Layout, Slot

DRIVER = "gpu.nvidia.com"
MIG = [name for name in catalog.names() if "mig" in catalog.gpu(name).modes]


@dataclass(frozen=True)
class Device:
    """A device: `profile` is the catalogue's, `spelled` the driver's name of it."""

    model: str
    product: str
    profile: str
    spelled: str
    start: int = 0
    extent: int = 0
    uuid: str = "GPU-0"

    @property
    def published(self) -> dict[str, Any]:
        attributes = {"productName": self.product, "type": "mig" if self.extent else "gpu"}
        if self.extent:
            attributes |= {"profile": self.spelled, "parentUUID": self.uuid, "uuid": f"MIG-{self.start}"}
        else:
            attributes |= {"uuid": self.uuid}
        slices = {f"memorySlice{number}": {"value": "1"} for number in range(self.start, self.start + self.extent)}
        return {"driver": DRIVER, "attributes": {DRIVER: attributes}, "capacity": {DRIVER: {"memory": {"value": "1Gi"}} | slices}}


@cache
def program(expression: str) -> Any:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def takes(expression: str, device: Device, published: dict[str, Any] | None = None) -> bool:
    return bool(program(expression).evaluate({"device": celpy.json_to_cel(published or device.published)}))


def products(model: str) -> tuple[str, ...]:
    """The driver's names; what stands in brackets in the catalogue is its own remark."""
    return tuple(dict.fromkeys(name.partition(" (")[0] for name in catalog.gpu(model).record.product_names))


@cache
def devices() -> tuple[Device, ...]:
    """One of each kind: every product, whole and in every profile by every name that drivers give it."""
    found = []
    for model in catalog.names():
        for product in products(model):
            found.append(Device(model, product, "whole", "whole"))
            for profile in catalog.gpu(model).geometry("mig").profiles if model in MIG else ():
                found += [Device(model, product, profile.name, name, 0, profile.extent) for name in profile_names(model, profile)]
    return tuple(found)


def may_be_mistaken(model: str, profile: str) -> Iterator[Device]:
    """Devices of the model, and those of others that share a name of the profile."""
    names = {device.spelled for device in devices() if (device.model, device.profile) == (model, profile)}
    return (device for device in devices() if device.model == model or device.spelled in names)


@pytest.mark.parametrize("model", MIG)
def test_a_class_takes_the_devices_of_its_profile_and_no_others(model: str) -> None:
    assert products(model)
    for profile in ("whole", *(profile.name for profile in catalog.gpu(model).geometry("mig").profiles)):
        expression = device_expression(model, profile)
        own = dict.fromkeys(products(model), 0)
        for device in may_be_mistaken(model, profile):
            mine = (device.model, device.profile) == (model, profile)
            assert takes(expression, device) == mine, (expression, device)
            if mine:
                own[device.product] += 1
        assert all(own.values())


def test_a_class_takes_no_device_of_another_driver() -> None:
    device = Device("A100-80GB", products("A100-80GB")[0], "3g.40gb", "3g.40gb", 0, 4)
    expression = device_expression("A100-80GB", "3g.40gb")
    assert takes(expression, device)
    assert not takes(expression, device, device.published | {"driver": "gpu.example.com"})


def requests_of(layout: Layout) -> Iterator[tuple[str, list[str]]]:
    """Placement (in words) of each replica's claim, and the expressions a device has to satisfy for it."""
    written = export.kubernetes(layout, nodes={"a": "node-a"}, claims="replica")
    classes = {
        entry["metadata"]["name"]: [selector["cel"]["expression"] for selector in entry["spec"]["selectors"]]
        for entry in written.objects
        if entry["kind"] == "DeviceClass"
    }
    for entry in written.objects:
        if entry["kind"] == "ResourceClaim":
            (request,) = entry["spec"]["devices"]["requests"]
            exactly = request["exactly"]
            own = [selector["cel"]["expression"] for selector in exactly.get("selectors", ())]
            yield entry["metadata"]["annotations"]["gpu-partitioner/placement"], [*classes[exactly["deviceClassName"]], *own]


@pytest.mark.parametrize("model", MIG)
def test_a_claim_takes_the_device_at_its_placement_and_no_other(model: str) -> None:
    """Every placement of every profile is claimed once, on a GPU of its own, among all placements on all these GPUs."""
    placements = catalog.gpu(model).geometry("mig").placements
    product = products(model)[0]
    gpus = [
        GpuLayout("a", index, model, "mig", (Slot(p.profile.name, p.start, "w", index),), uuid=f"GPU-{index}")
        for index, p in enumerate(placements)
    ]
    every = [Device(model, product, p.profile.name, p.profile.name, p.start, p.profile.extent) for p in placements]
    claims = dict(requests_of(Layout.of(gpus)))
    assert len(claims) == len(placements)
    for index, placement in enumerate(placements):
        wanted = claims[f"a/gpu{index} {placement}"]
        here = [replace(device, uuid=f"GPU-{index}") for device in every]
        elsewhere = [replace(here[index], uuid="GPU-other")]
        taken = [device for device in here + elsewhere if all(takes(expression, device) for expression in wanted)]
        assert taken == [here[index]]


def test_a_claim_of_a_whole_gpu_takes_that_gpu() -> None:
    gpus = [GpuLayout("a", i, "T4", "whole", (Slot("whole", 0, "w", i),), uuid=f"GPU-{i}") for i in range(2)]
    for number, (_, wanted) in enumerate(requests_of(Layout.of(gpus))):
        devices = [Device("T4", products("T4")[0], "whole", "whole", uuid=f"GPU-{i}") for i in range(2)]
        assert [all(takes(expression, device) for expression in wanted) for device in devices] == [i == number for i in range(2)]
