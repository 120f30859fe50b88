"""The form of a GPU's TOML file, checked on loading. Knows the file's fields, not what is computed from them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
PciDeviceId = Annotated[str, StringConstraints(pattern=r"^0x[0-9A-Fa-f]{4}$")]
Count = Annotated[int, Field(ge=1, le=4096)]
Units = Annotated[int, Field(ge=1, le=256)]
Amount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Starts = Annotated[tuple[Annotated[int, Field(ge=0, le=4096)], ...], Field(min_length=1)]


class Record(BaseModel):
    """Base of all records: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Record):
    """Where numbers were read, and when."""

    title: Name | Annotated[str, StringConstraints(min_length=1)]
    as_of: date


class ComputeInstanceRecord(Record):
    """A compute instance profile inside a GPU instance (``nvidia-smi mig -lcip``)."""

    compute_slices: Count
    ci_profile_id: Amount | None = None
    starts: Starts
    max_count: Count
    default: bool = False


class MigProfileRecord(Record):
    """A GPU instance profile (``nvidia-smi mig -lgip`` and ``-lgipp``)."""

    name: Name
    aliases: tuple[Name, ...] = ()
    attributes: tuple[Name, ...] = ()
    gi_profile_id: Amount | None = None
    nvml_profile: Amount | None = None
    compute_slices: Count
    memory_mib: Amount
    multiprocessors: Amount | None = None
    engines: dict[Name, Amount] = {}
    copy_engines: Amount | None = None
    starts: Starts
    extent: Count
    max_count: Count
    compute_instances: tuple[ComputeInstanceRecord, ...] = ()
    source: dict[Name, Name] = {}
    inferred: tuple[Name, ...] = ()


class MigRecord(Record):
    """How a GPU is cut by MIG."""

    compute_slices: Count
    memory_slices: Units
    max_gpu_instances: Count
    engine_totals: dict[Name, Amount] = {}
    instance_limits: dict[Literal["compute", "gfx"], Count] = {}
    sources: tuple[Name, ...] = ()
    inferred: tuple[Name, ...] = ()
    profiles: Annotated[tuple[MigProfileRecord, ...], Field(min_length=1)]


class MixedSizeRecord(Record):
    """Placement ids of one frame buffer size in mixed-size mode."""

    frame_buffer_mib: Amount
    extent: Count
    max_count: Count
    starts: Starts


class MixedRecord(Record):
    """Mixed-size (heterogeneous) time-sliced vGPU."""

    region_gb: Units
    source: Name
    inferred: tuple[Name, ...] = ()
    sizes: Annotated[tuple[MixedSizeRecord, ...], Field(min_length=1)]


class VgpuTypeRecord(Record):
    """A vGPU type, time-sliced or MIG-backed (then with the GPU instance profile it sits on)."""

    name: Name
    series: Literal["A", "B", "C", "Q"]
    frame_buffer_mib: Amount
    max_per_gpu: Units
    max_per_gpu_mixed: Count | None = None
    gi_profile: Name | None = None
    vgpus_per_gpu_instance: Count = 1
    alias_of: Name | None = None
    esxi_name: Name | None = None
    mdev_type_id: int | Name | None = None
    source: dict[Name, Name] = {}
    inferred: tuple[Name, ...] | None = None


class BoardRecord(Record):
    """A board with its vGPU types; `source` and `inferred` hold for types that do not say otherwise."""

    prefix: Name
    product: Name
    pci_device_ids: tuple[PciDeviceId, ...] = ()
    gpus_per_board: Count = 1
    mixed_size: bool | None = None
    source: dict[Name, Name] = {}
    inferred: tuple[Name, ...] = ()
    types: tuple[VgpuTypeRecord, ...] = ()


class GpuRecord(Record):
    """One GPU model: everything its file says."""

    format: Literal["gpu-partitioner/gpu"]
    version: Literal[1]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")]
    product_names: tuple[Name, ...] = ()
    aliases: tuple[Name, ...] = ()
    architecture: Name
    pci_device_ids: tuple[PciDeviceId, ...] = ()
    memory_gib: Annotated[int, Field(ge=0, le=100_000)]
    as_of: date
    notes: tuple[str, ...] = ()
    sources: dict[Name, Source] = {}
    mig: MigRecord | None = None
    vgpu_mixed: MixedRecord | None = None
    boards: tuple[BoardRecord, ...] = ()

    @model_validator(mode="after")
    def _sources_are_listed(self) -> GpuRecord:
        cited: set[str] = set()
        if self.mig:
            cited.update(self.mig.sources)
            for profile in self.mig.profiles:
                cited.update(profile.source.values())
        if self.vgpu_mixed:
            cited.add(self.vgpu_mixed.source)
        for board in self.boards:
            cited.update(board.source.values())
            for vgpu_type in board.types:
                cited.update(vgpu_type.source.values())
        missing = sorted(cited - set(self.sources))
        if missing:
            raise ValueError(f"sources cited but not listed under [sources]: {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _gpu_instance_profiles_exist(self) -> GpuRecord:
        known = {name for profile in (self.mig.profiles if self.mig else ()) for name in (profile.name, *profile.aliases)}
        unknown = sorted({t.gi_profile for board in self.boards for t in board.types if t.gi_profile} - known)
        if unknown:
            raise ValueError(f"vGPU types sit on GPU instance profiles that are not listed under [mig]: {', '.join(unknown)}")
        return self
