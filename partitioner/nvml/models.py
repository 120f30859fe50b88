"""The GPU model of a reading: the catalogue's, or one made from what the driver says where the two differ.

A driver knows its GPU better than any table. Where profiles, starts, extents or maxima differ from the catalogue, and where
the GPU is not in it, a record is made from the reading, which this process can look up under a name that says so and follows
from the content alone. This module must not call the driver.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.catalog.records import ComputeInstanceRecord, GpuRecord, MigProfileRecord, MigRecord, Source
from partitioner.errors import SpecError
from partitioner.nvml.values import GpuReading, OfferedProfile

UNREACHABLE = "unreachable-GPU"
"""Model of a GPU that does not answer: it can only stay as it is."""

AS_READ = "as-read-"
"""How names of derived models begin."""

_AS_OF = date(2026, 11, 20)  # of the form of derived records; their content comes from the driver at hand
_ATTRIBUTES = {7: "me", 8: "me", 10: "gfx", 11: "gfx", 12: "gfx", 17: "gfx", 13: "-me", 14: "-me", 15: "me.all", 16: "me.all"}
"""NVML's enumerators of profiles with attributes: nvml.h, NVML_GPU_INSTANCE_PROFILE_*."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One point where driver and catalogue do not agree.

    Parameters
    ----------
    gpu : index in the host.
    model : the catalogue's name of the GPU; None where it is not in the catalogue.
    profile : the profile; None where it is about the GPU.
    what : ``profile``, ``starts``, ``extent``, ``max_count``, ``compute_slices``, ``memory_mib``, ``multiprocessors``,
        ``name``, or the name of an engine.
    catalogue, driver : what each says; None where it has none.
    geometric : whether it changes what can be placed.
    """

    gpu: int
    model: str | None
    profile: str | None
    what: str
    catalogue: Any
    driver: Any
    geometric: bool

    def __str__(self) -> str:
        where = " ".join(filter(None, (f"gpu{self.gpu}", self.model, self.profile)))
        return f"{where}: {self.what} is {_said(self.driver)} by the driver and {_said(self.catalogue)} in the catalogue"

    def to_data(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def _said(value: object) -> str:
    return "missing" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


# -- what the catalogue has --------------------------------------------------------------------------------------------


def catalogued(gpu: GpuReading) -> GpuModel | None:
    """Return the catalogue's model of a GPU, by PCI device id and then by product name; None where there is none."""
    for name in (gpu.pci.device_id if gpu.pci else "", gpu.name):
        if name:
            try:
                return catalog.gpu(name)
            except SpecError:  # unknown, or an id that several models share: the name decides
                continue
    return None


def matched(gpu: GpuReading, model: GpuModel | None) -> dict[int, MigProfileRecord]:
    """Return the driver's profile ids with the catalogue's profiles: the same id, or the same enumerator without one."""
    records = model.record.mig.profiles if model is not None and model.record.mig is not None else ()
    by_id = {record.gi_profile_id: record for record in records if record.gi_profile_id is not None}
    by_number = {record.nvml_profile: record for record in records if record.gi_profile_id is None}
    found = {}
    for offered in gpu.profiles:
        record = by_id.get(offered.profile_id) or by_number.get(offered.nvml_profile)
        if record is not None:
            found[offered.profile_id] = record
    return found


# -- where they differ -------------------------------------------------------------------------------------------------


def differences(gpu: GpuReading) -> tuple[Difference, ...]:
    """Return where the driver and the catalogue do not agree on a GPU; none where the driver says nothing of profiles.

    Notes
    -----
    Places that the driver does not tell this user (it takes root) are not compared.
    """
    if not gpu.reachable:
        return ()
    model = catalogued(gpu)
    if model is None:
        return (Difference(gpu.index, None, None, "model", None, f"{gpu.name} ({_pci(gpu)})", geometric=True),)
    return tuple(_differences(gpu, model)) if gpu.profiles else ()


def _differences(gpu: GpuReading, model: GpuModel) -> Iterator[Difference]:
    pairs = matched(gpu, model)
    known = {record.name for record in pairs.values()}
    for record in model.record.mig.profiles if model.record.mig else ():
        if record.name not in known:
            yield Difference(gpu.index, model.name, record.name, "profile", record.gi_profile_id, None, geometric=True)
    for offered in gpu.profiles:
        found = pairs.get(offered.profile_id)
        if found is None:
            name = offered.name or _driver_name(gpu, offered)
            yield Difference(gpu.index, model.name, name, "profile", None, offered.profile_id, geometric=True)
        else:
            yield from _of_profile(gpu, model, found, offered)


def _of_profile(gpu: GpuReading, model: GpuModel, record: MigProfileRecord, offered: OfferedProfile) -> Iterator[Difference]:
    geometric: list[tuple[str, Any, Any]] = [
        ("max_count", record.max_count, offered.max_count),
        ("compute_slices", record.compute_slices, offered.compute_slices),
    ]
    if offered.places is not None:
        geometric += [("starts", tuple(record.starts), offered.starts), ("extent", record.extent, offered.extent)]
    others: list[tuple[str, Any, Any]] = [("memory_mib", record.memory_mib, offered.memory_mib)]
    if record.multiprocessors is not None:
        others.append(("multiprocessors", record.multiprocessors, offered.multiprocessors))
    others += [(name, record.engines.get(name, 0), amount) for name, amount in offered.engines.items()]
    if offered.name is not None and record.name not in {profile.name for _, profile in model.find(offered.name)}:
        others.append(("name", record.name, offered.name))
    for pairs, changes in ((geometric, True), (others, False)):
        for what, one, other in pairs:
            if one != other:
                yield Difference(gpu.index, model.name, record.name, what, one, other, geometric=changes)


# -- the model to use --------------------------------------------------------------------------------------------------


def model_of(gpu: GpuReading) -> GpuModel:
    """Return the model of a GPU as this driver has it; a derived one can be looked up in this process afterwards.

    Raises
    ------
    SpecError
        The driver's profiles contradict themselves.
    """
    if not gpu.reachable:
        return catalog.add_derived(GpuModel(_record(UNREACHABLE, "unknown", 0)))
    base = catalogued(gpu)
    if base is not None and not any(difference.geometric for difference in differences(gpu)):
        return base
    return catalog.add_derived(GpuModel(derived(gpu, base)))


def profile_names(gpu: GpuReading, model: GpuModel) -> Mapping[int, str]:
    """Return the driver's profile ids with the model's names."""
    return {profile_id: record.name for profile_id, record in matched(gpu, model).items()}


def derived(gpu: GpuReading, base: GpuModel | None) -> GpuRecord:
    """Return a record made from what the driver says of a GPU.

    Parameters
    ----------
    gpu : the reading.
    base : the catalogue's model, whose names, compute instances and totals are kept; None where it has none.

    Notes
    -----
    Engine totals are not read off a driver. Those of the catalogue hold, raised to what the driver's own maxima prove:
    so many instances of one profile, with so many engines each, do fit.
    """
    mig = _mig(gpu, base)
    said = {"name": gpu.name, "pci": _pci(gpu), "mig": mig and mig.model_dump(mode="json")}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", base.name if base else gpu.name).strip("-._") or "GPU"
    architecture = base.record.architecture if base else "unknown"
    memory_gib = base.record.memory_gib if base else math.ceil(gpu.memory_mib / 1024)
    return _record(f"{AS_READ}{plain[:40]}-{digest}", architecture, memory_gib, mig)


def _record(name: str, architecture: str, memory_gib: int, mig: MigRecord | None = None) -> GpuRecord:
    return GpuRecord(
        format="gpu-partitioner/gpu",
        version=1,
        name=name,
        architecture=architecture,
        memory_gib=memory_gib,
        as_of=_AS_OF,
        notes=("Made from what a driver said of a GPU at hand.",),
        sources={"driver": Source(title="NVML, GPU instance profiles and possible placements", as_of=_AS_OF)},
        mig=mig,
    )


def _mig(gpu: GpuReading, base: GpuModel | None) -> MigRecord | None:
    pairs = matched(gpu, base)
    offered = [p for p in gpu.profiles if (p.places or (p.places is None and p.profile_id in pairs)) and p.max_count > 0]
    if not offered:
        return None
    profiles = tuple(_profile(gpu, profile, pairs.get(profile.profile_id)) for profile in offered)
    before = base.record.mig if base is not None else None
    return MigRecord(
        compute_slices=max(profile.compute_slices for profile in profiles),
        memory_slices=max(profile.starts[-1] + profile.extent for profile in profiles),
        max_gpu_instances=_most([before.max_gpu_instances if before else 0, *(profile.max_count for profile in profiles)]),
        engine_totals=_totals(before.engine_totals if before else {}, profiles),
        instance_limits=before.instance_limits if before else {},
        sources=("driver",),
        profiles=profiles,
    )


def _most(numbers: Iterable[int]) -> int:
    return max(numbers, default=0)


def _totals(before: Mapping[str, int], profiles: tuple[MigProfileRecord, ...]) -> dict[str, int]:
    engines = dict.fromkeys([*before, *(name for profile in profiles for name in profile.engines)])
    return {
        name: _most([before.get(name, 0), *(profile.engines.get(name, 0) * profile.max_count for profile in profiles)])
        for name in engines
    }


def _profile(gpu: GpuReading, offered: OfferedProfile, record: MigProfileRecord | None) -> MigProfileRecord:
    whole = ComputeInstanceRecord(compute_slices=offered.compute_slices, starts=(0,), max_count=1, default=True)
    same = record is not None and record.compute_slices == offered.compute_slices
    attribute = _ATTRIBUTES.get(offered.nvml_profile)
    return MigProfileRecord(
        name=record.name if record else _unique_name(gpu, offered),
        aliases=record.aliases if record else (),
        attributes=record.attributes if record else (attribute,) if attribute else (),
        gi_profile_id=offered.profile_id,
        nvml_profile=offered.nvml_profile,
        compute_slices=offered.compute_slices,
        memory_mib=offered.memory_mib,
        multiprocessors=offered.multiprocessors,
        engines=offered.engines,
        copy_engines=offered.copy_engines,
        starts=offered.starts if offered.places else record.starts if record else (0,),
        extent=offered.extent or (record.extent if record else 1),
        max_count=offered.max_count,
        compute_instances=record.compute_instances if record and same else (whole,),
        source={"geometry": "driver"},
    )


def _unique_name(gpu: GpuReading, offered: OfferedProfile) -> str:
    """Return the driver's name; with the id where two profiles would have the same."""
    names = [profile.name or _driver_name(gpu, profile) for profile in gpu.profiles]
    name = offered.name or _driver_name(gpu, offered)
    return name if names.count(name) == 1 else f"{name}-id{offered.profile_id}"


def _driver_name(gpu: GpuReading, offered: OfferedProfile) -> str:
    attribute = _ATTRIBUTES.get(offered.nvml_profile)
    total = max(gpu.memory_mib, offered.memory_mib, 1)
    return catalog.driver_name(offered.compute_slices, offered.memory_mib, total, [attribute] if attribute else [])


def _pci(gpu: GpuReading) -> str:
    return f"PCI device id 0x{gpu.pci.device_id >> 16:04X}" if gpu.pci else "no PCI device id"
