"""A GPU as a file for the catalogue, made from what its driver says. Writes text only; calls no driver."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from partitioner.errors import TargetError
from partitioner.nvml.models import catalogued, derived
from partitioner.nvml.values import GpuReading, Reading


def catalogue_file(reading: Reading, gpu: GpuReading, *, read_on: date) -> str:
    """Return the TOML file that describes a GPU as this driver has it, for ``--catalog FILE``.

    Parameters
    ----------
    reading : the host, for the driver's version.
    gpu : one of its GPUs.
    read_on : when it was read.

    Raises
    ------
    TargetError
        The GPU does not answer.
    """
    if not gpu.reachable:
        raise TargetError(gpu.problem or f"gpu{gpu.index} does not answer")
    base = catalogued(gpu)
    record = derived(gpu, base)
    data = record.model_dump(mode="json", exclude_defaults=True) | {"as_of": read_on}
    title = f"driver {reading.driver_version} on {gpu.name}, through NVML (profiles and possible placements)"
    data["sources"] = {"driver": {"title": title, "as_of": read_on}}
    if base is None:  # names that the catalogue has already belong to its own file
        data |= {"product_names": [gpu.name], "pci_device_ids": [f"0x{gpu.pci.device_id >> 16:04X}"] if gpu.pci else []}
    text = "\n".join(_lines(data))
    return f"# {gpu.name}: what may be cut from this GPU, as its driver says.\n\n{text}\n"


def _lines(data: dict[str, Any]) -> list[str]:
    mig = data.pop("mig", None)
    sources = data.pop("sources")
    lines = [*_fields(data), "", "[sources]", *_fields(sources)]
    if mig:
        profiles = mig.pop("profiles")
        lines += ["", "[mig]", *_fields(mig)]
        for profile in profiles:
            lines += ["", "[[mig.profiles]]", *_fields(profile)]
    return lines


def _fields(data: dict[str, Any]) -> list[str]:
    return [f"{_key(name)} = {_value(value)}" for name, value in data.items() if value is not None]


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(inner)}" for name, inner in value.items() if inner is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False)  # TOML has the escapes of JSON, but no surrogates
