"""Reads nvidia-mig-parted's configuration file. Must not know how one is written.

Format and rules: NVIDIA/mig-parted, api/spec/v1/spec.go and cmd/nvidia-mig-parted/assert (read at bd7160f4, 2026-08-21).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from partitioner import catalog
from partitioner.documents import Document, Location, parse, problems_of, read
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import Fleet
from partitioner.geometry import Configuration
from partitioner.layout import GpuLayout, Layout, Slot, gpu_label
from partitioner.workload import Workload

_FILTER = re.compile(r"(0x[0-9A-Fa-f]{1,8})(?::0x[0-9A-Fa-f]{1,8})?")
_FIELDS = ("version", "mig-configs", "device-filter", "devices", "mig-enabled", "mig-devices")
_VENDOR = 0x10DE

Counts = tuple[tuple[str, int], ...]


def _device_ids(value: object) -> object:
    ids = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else None
    if ids is None or not all(isinstance(text, str) and (text == "" or _FILTER.fullmatch(text)) for text in ids):
        raise ValueError(f"{value!r} is not a PCI device id like '0x20B210DE', nor a list of them")
    return tuple(text for text in ids if text)


def _indices(value: object) -> object:
    if value == "all":
        return None
    if not isinstance(value, list) or not all(isinstance(index, int) and not isinstance(index, bool) for index in value):
        raise ValueError(f"{value!r} is neither all nor a list of GPU indices like [0, 1]")
    if any(index < 0 for index in value):
        raise ValueError(f"{value!r}: indices of GPUs start at 0")
    return tuple(value)


def _enabled(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")  # noqa: TRY004 - pydantic makes it a problem
    return value


def _profile_counts(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is not a mapping like {{1g.10gb: 7}}")  # noqa: TRY004 - as above
    for name, count in value.items():
        if not isinstance(name, str) or isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 256:
            raise ValueError(f"{name!r}: {count!r} is not a profile with a count from 0 to 256")
    if value and not any(value.values()):
        raise ValueError("all counts are 0; write {} for a GPU without instances")
    return tuple((name, count) for name, count in value.items() if count)


class ConfigEntry(BaseModel):
    """What one entry of a configuration says of the GPUs that it matches.

    Parameters
    ----------
    device_filter : PCI device ids, as ``0x20B210DE`` (or with a subsystem, ``0x20B210DE:0x134F10DE``); none match all.
    devices : indices of GPUs; None for all.
    mig_enabled : whether MIG is on.
    mig_devices : (profile, count) on each of them, as written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    device_filter: Annotated[tuple[str, ...], BeforeValidator(_device_ids), Field(alias="device-filter")] = ()
    devices: Annotated[tuple[int, ...] | None, BeforeValidator(_indices)]
    mig_enabled: Annotated[bool, BeforeValidator(_enabled), Field(alias="mig-enabled")]
    mig_devices: Annotated[Counts | None, BeforeValidator(_profile_counts), Field(alias="mig-devices")] = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ConfigEntry:
        if self.mig_enabled and self.mig_devices is None:
            raise ValueError("mig-enabled is true but mig-devices is missing; write mig-devices: {} for no instances")
        if not self.mig_enabled and self.mig_devices:
            raise ValueError("mig-devices are listed but mig-enabled is false; one of them is wrong")
        return self

    def matches(self, index: int, device_ids: tuple[int, ...]) -> bool:
        """Whether the entry is about a GPU.

        Parameters
        ----------
        index : of the GPU in its host.
        device_ids : PCI device ids that boards of its model have. Subsystem ids in a filter are not looked at.
        """
        wanted = {int(match[1], 16) for text in self.device_filter if (match := _FILTER.fullmatch(text))}
        known = {device_id << 16 | _VENDOR for device_id in device_ids}
        return (self.devices is None or index in self.devices) and (not wanted or not known.isdisjoint(wanted))


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    mig_configs: Annotated[
        dict[str, Annotated[tuple[ConfigEntry, ...], Field(min_length=1)]], Field(alias="mig-configs", default_factory=dict)
    ]

    @model_validator(mode="after")
    def _is_v1(self) -> _File:
        if self.version != "v1":
            raise ValueError(f"version is {self.version!r}; only v1 is known")
        return self


@dataclass(frozen=True, slots=True)
class MigConfigs:
    """The named configurations of an nvidia-mig-parted file.

    Parameters
    ----------
    configs : name to its entries.

    Examples
    --------
    >>> text = "{version: v1, mig-configs: {two: [{devices: all, mig-enabled: true, mig-devices: {3g.40gb: 2}}]}}"
    >>> found = from_mig_parted(text)
    >>> [str(g.slots[1].profile) for g in found.layout(Fleet.of("A100-80GB", gpus_per_host=1))]
    ['3g.40gb']
    """

    configs: Mapping[str, tuple[ConfigEntry, ...]]
    _document: Document = field(repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of configurations."""
        return len(self.configs)

    def __hash__(self) -> int:
        return hash(frozenset(self.configs.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the configurations, in the file's order."""
        return tuple(self.configs)

    def layout(self, fleet: Fleet, config: str | Mapping[str, str] | None = None) -> Layout:
        """Return the layout that hosts get from a configuration, with nobody in its instances.

        GPUs that no entry matches are left out, since nvidia-mig-parted leaves them as they are; those with MIG off are
        in mode ``whole``. The format has no placements: they are those of `Geometry.layout_of`, the driver may choose others.

        Parameters
        ----------
        fleet : the hosts.
        config : name of the configuration; host name to name where hosts differ (others are left out); None where
            there is only one.

        Raises
        ------
        SpecError
            There is no such configuration or host, a GPU is named that a host lacks or that has no MIG, two entries say
            different things of one GPU, or instances do not fit on one GPU.
        """
        gpus = []
        for host in fleet.hosts:
            name = self._config_of(host.name, config)
            if name is None:
                continue
            self._check_indices(name, host.name, len(host.gpus))
            for index, gpu in enumerate(host.gpus):
                found = self._gpu(name, host.name, index, gpu.model)
                if found is not None:
                    gpus.append(found)
        if isinstance(config, Mapping):
            hosts = [host.name for host in fleet.hosts]
            for name in config:
                if name not in hosts:
                    raise SpecError(f"host {name!r} is not in the fleet; {did_you_mean(name, hosts)}")
        return Layout.of(gpus)

    def workloads(self, fleet: Fleet, config: str | Mapping[str, str] | None = None) -> tuple[Workload, ...]:
        """Return what a configuration offers as demands: one workload for each profile, named like it, to plan anew.

        Parameters
        ----------
        fleet, config : see `layout`.

        Raises
        ------
        SpecError
            See `layout`.
        """
        counts: dict[str, int] = {}
        for gpu in self.layout(fleet, config):
            for slot in gpu.slots:
                counts[slot.profile] = counts.get(slot.profile, 0) + 1
        return tuple(Workload(name, profile=name, count=count) for name, count in counts.items())

    # -- one host, one GPU -----------------------------------------------------------------------------------------

    def _config_of(self, host: str, config: str | Mapping[str, str] | None) -> str | None:
        if config is None:
            if len(self.configs) != 1:
                raise SpecError(f"{self._document.origin}: name one of the configurations {', '.join(self.configs) or '(none)'}")
            return self.names[0]
        name = config.get(host) if isinstance(config, Mapping) else config
        if name is not None and name not in self.configs:
            hint = did_you_mean(name, self.configs)
            raise SpecError(f"{self._document.origin}: no configuration {name!r}" + (f"; {hint}" if hint else ""))
        return name

    def _check_indices(self, name: str, host: str, n_gpus: int) -> None:
        for number, entry in enumerate(self.configs[name]):
            for index in entry.devices or ():
                if index >= n_gpus:
                    raise self._problem(f"GPU {index} is named, but {host} has GPUs 0 to {n_gpus - 1}", name, number, "devices")

    def _gpu(self, name: str, host: str, index: int, model: str) -> GpuLayout | None:
        device_ids = catalog.gpu(model).pci_device_ids
        matching = [(n, entry) for n, entry in enumerate(self.configs[name]) if entry.matches(index, device_ids)]
        if not matching:
            return None
        (number, entry), label = matching[0], f"{gpu_label(host, index)} ({model})"
        for other, second in matching[1:]:
            if (second.mig_enabled, second.mig_devices or ()) != (entry.mig_enabled, entry.mig_devices or ()):
                raise self._problem(f"says something else of {label} than entry {number} does", name, other)
        if not entry.mig_enabled:
            return GpuLayout(host, index, model, "whole")
        if "mig" not in catalog.gpu(model).modes:
            if entry.devices is None:
                return None  # nvidia-mig-parted passes over GPUs without MIG where all are meant
            raise self._problem(f"{label} has no MIG; leave it out or set mig-enabled: false", name, number, "devices")
        return GpuLayout(host, index, model, "mig", self._slots(label, model, name, number))

    def _slots(self, label: str, model: str, name: str, number: int) -> tuple[Slot, ...]:
        known, counts = catalog.gpu(model), dict[str, int]()
        for spelling, count in self.configs[name][number].mig_devices or ():
            profile = dict(known.find(spelling)).get("mig")
            if profile is None:
                raise self._problem(f"{label}: {known.unknown_profile(spelling)}", name, number, "mig-devices", spelling)
            counts[profile.name] = counts.get(profile.name, 0) + count
        placements = known.geometry("mig").layout_of(counts)
        if placements is None:
            raise self._problem(f"{label}: {Configuration(counts)} does not fit on one GPU", name, number, "mig-devices")
        return tuple(Slot(placement.profile.name, placement.start) for placement in placements)

    def _problem(self, message: str, *location: str | int) -> SpecError:
        return SpecError(self._document.problem(message, ("mig-configs", *location)))


def from_mig_parted(source: str | os.PathLike[str]) -> MigConfigs:
    """Read a configuration file of nvidia-mig-parted, as strictly as that tool does.

    Parameters
    ----------
    source : the text of the file; or its path, as a `pathlib.Path`.

    Raises
    ------
    SpecError
        All problems found, each with its line: not YAML, unknown or missing fields, wrong values.

    Examples
    --------
    >>> from_mig_parted("{version: v1, mig-configs: {none: [{devices: all, mig-enabled: false}]}}").names
    ('none',)
    """
    document = parse(source, origin="mig-parted configuration") if isinstance(source, str) else read(source)
    data: Any = document.data
    if not isinstance(data, Mapping):
        raise SpecError(document.problem(f"a mapping with version and mig-configs is wanted, not {type(data).__name__}"))
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise SpecError([document.problem(message, _written(place)) for message, place in problems_of(error, _FIELDS)]) from None
    return MigConfigs(MappingProxyType(file.mig_configs), document)


def _written(location: Location) -> Location:
    """Return the place of a problem without the parts that name types of values."""
    return tuple(part for part in location if part != "tuple")
