"""A GPU model as the planner sees it: geometries computed from its record, and every spelling of its profiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from partitioner.catalog.naming import drifted_gb, fold, parse_mig, parse_short_vgpu
from partitioner.catalog.records import GpuRecord, MigProfileRecord, MigRecord, VgpuTypeRecord
from partitioner.errors import GeometryError, SpecError, did_you_mean
from partitioner.geometry import Geometry, Profile

_VGPU_SUFFIX = re.compile(r"^(?P<gb>\d+)(?P<series>[ABCQ])\d?$")
GRAPHICS, COMPUTE = "Q/B/A", "C"  # families of time-sliced vGPU series


@dataclass(frozen=True)
class GpuModel:
    """A GPU model: its record and what follows from it.

    Parameters
    ----------
    record : the checked content of its TOML file.

    Raises
    ------
    SpecError
        The record contradicts itself (a profile leaves its GPU, a name stands twice).
    """

    record: GpuRecord

    def __post_init__(self) -> None:
        try:
            _ = self._geometries, self._spellings
        except GeometryError as error:
            raise SpecError(f"GPU {self.record.name!r}: {error}") from error

    def __repr__(self) -> str:
        return f"GpuModel({self.name!r})"

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """Name in the catalogue, e.g. ``A100-80GB``."""
        return self.record.name

    @property
    def memory_mib(self) -> int:
        """Nominal memory of the whole GPU [MiB]; 0 where it is shared with the CPU."""
        return self.record.memory_gib * 1024

    @property
    def compute_slices(self) -> int:
        """MIG compute slices of the whole GPU; 0 without MIG."""
        return self.record.mig.compute_slices if self.record.mig else 0

    @property
    def memory_slices(self) -> int:
        """MIG memory slices of the whole GPU; 0 without MIG."""
        return self.record.mig.memory_slices if self.record.mig else 0

    @cached_property
    def pci_device_ids(self) -> tuple[int, ...]:
        """PCI device ids without the vendor's part."""
        return tuple(int(text, 16) for text in self.record.pci_device_ids)

    # -- geometries ------------------------------------------------------------------------------------------------

    @property
    def geometries(self) -> tuple[Geometry, ...]:
        """All geometries; a GPU uses one at a time."""
        return tuple(self._geometries.values())

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of the geometries: ``mig``, ``vgpu-equal-<GB>``, ``vgpu-mixed``, ``whole``."""
        return tuple(self._geometries)

    def geometry(self, mode: str) -> Geometry:
        """Return the geometry of a mode.

        Raises
        ------
        SpecError
            The GPU has no such mode.
        """
        found = self._geometries.get(mode)
        if found is None:
            raise SpecError(f"{self.name} has no mode {mode!r}; its modes are {', '.join(self._geometries)}")
        return found

    @cached_property
    def _geometries(self) -> dict[str, Geometry]:
        found = [*self._mig(), *self._vgpu_equal(), *self._vgpu_mixed(), self._whole()]
        return {geometry.mode: geometry for geometry in found}

    def _mig(self) -> Iterator[Geometry]:
        mig = self.record.mig
        if not mig:
            return
        totals = {**mig.engine_totals, **{f"{kind} instances": most for kind, most in mig.instance_limits.items()}}
        totals["GPU instances"] = mig.max_gpu_instances
        profiles = tuple(self._mig_profile(profile, mig) for profile in mig.profiles)
        yield Geometry("mig", mig.memory_slices, profiles, tuple(totals.items()))

    def _mig_profile(self, record: MigProfileRecord, mig: MigRecord) -> Profile:
        uses = {name: amount for name, amount in record.engines.items() if amount}
        if mig.instance_limits:
            uses[f"{'gfx' if 'gfx' in record.attributes else 'compute'} instances"] = 1
        uses["GPU instances"] = 1
        backed = [
            name
            for board in self.record.boards
            for vgpu_type in board.types
            if vgpu_type.gi_profile in (record.name, *record.aliases) and vgpu_type.vgpus_per_gpu_instance == 1
            for name in (vgpu_type.name, vgpu_type.esxi_name)
            if name
        ]
        compute_instances = tuple(
            Profile(
                record.name if ci.compute_slices == record.compute_slices else f"{ci.compute_slices}c.{record.name}",
                ci.starts,
                ci.compute_slices,
                ci.max_count,
                ci.compute_slices,
                record.memory_mib,
            )
            for ci in record.compute_instances
        )
        return Profile(
            record.name,
            record.starts,
            record.extent,
            record.max_count,
            record.compute_slices,
            record.memory_mib,
            record.gi_profile_id,
            record.attributes,
            uses=tuple(uses.items()),
            multiprocessors=record.multiprocessors,
            aliases=(*record.aliases, *dict.fromkeys(backed)),
            compute_instances=compute_instances,
        )

    @cached_property
    def _time_sliced(self) -> dict[str, tuple[VgpuTypeRecord, tuple[str, ...]]]:
        """Suffix (``4Q``) to the type of the first board that has it and the names on all boards.

        Boards of one GPU model differ in the prefix of their types only.
        """
        found: dict[str, tuple[VgpuTypeRecord, tuple[str, ...]]] = {}
        for board in self.record.boards:
            for vgpu_type in board.types:
                if vgpu_type.gi_profile or vgpu_type.alias_of:
                    continue
                suffix = vgpu_type.name.removeprefix(f"{board.prefix}-")
                if not _VGPU_SUFFIX.match(suffix):
                    raise SpecError(
                        f"GPU {self.name!r}: vGPU type {vgpu_type.name!r} is not named"
                        f" {board.prefix}-<GB><series>, e.g. {board.prefix}-4Q"
                    )
                first, names = found.get(suffix, (vgpu_type, ()))
                found[suffix] = (first, (*names, vgpu_type.name, *filter(None, [vgpu_type.esxi_name])))
        return found

    def _vgpu_equal(self) -> Iterator[Geometry]:
        by_size: dict[int, list[Profile]] = {}
        for suffix, (vgpu_type, names) in self._time_sliced.items():
            match = _VGPU_SUFFIX.match(suffix)
            assert match
            most = vgpu_type.max_per_gpu
            by_size.setdefault(int(match["gb"]), []).append(_vgpu(vgpu_type, names, tuple(range(most)), 1, most))
        for gb in sorted(by_size):
            units = max(profile.max_count for profile in by_size[gb])
            yield Geometry(f"vgpu-equal-{gb}", units, tuple(by_size[gb]), exclusive=True)

    def _vgpu_mixed(self) -> Iterator[Geometry]:
        mixed = self.record.vgpu_mixed
        if not mixed or not any(board.mixed_size for board in self.record.boards):
            return
        sizes = {size.frame_buffer_mib: size for size in mixed.sizes}
        profiles = []
        for vgpu_type, names in self._time_sliced.values():
            size = sizes.get(vgpu_type.frame_buffer_mib)
            if size and vgpu_type.max_per_gpu_mixed:
                most = min(vgpu_type.max_per_gpu_mixed, size.max_count)
                profiles.append(_vgpu(vgpu_type, names, size.starts, size.extent, most))
        if profiles:
            profiles.sort(key=lambda profile: profile.extent)
            yield Geometry("vgpu-mixed", mixed.region_gb, tuple(profiles), exclusive=True)

    def _whole(self) -> Geometry:
        everything = self.record.mig.profiles if self.record.mig else ()
        multiprocessors = max((profile.multiprocessors or 0 for profile in everything), default=0) or None
        whole = Profile(
            "whole",
            (0,),
            1,
            1,
            self.compute_slices,
            self.memory_mib,
            multiprocessors=multiprocessors,
            aliases=(self.name, "passthrough"),
        )
        return Geometry("whole", 1, (whole,))

    # -- spellings -------------------------------------------------------------------------------------------------

    @cached_property
    def _spellings(self) -> dict[str, list[tuple[str, Profile]]]:
        """Folded spelling to every (mode, profile) it names."""
        found: dict[str, list[tuple[str, Profile]]] = {}
        for geometry in self.geometries:
            for profile in geometry.profiles:
                for spelling in {fold(name) for name in (profile.name, *profile.aliases)}:
                    found.setdefault(spelling, []).append((geometry.mode, profile))
        return found

    def find(self, spelling: str) -> tuple[tuple[str, Profile], ...]:
        """Return every (mode, profile) that a spelling names on this GPU; empty where none does.

        Parameters
        ----------
        spelling : e.g. ``3g.40gb``, ``7g.79gb``, ``MIG 3g.40gb``, ``4g``, ``grid_a100d-3-40c``, ``A100D-3-40C``,
            ``nvidia-4-40c``, ``T4-4Q``, ``whole``.
        """
        folded = fold(spelling)
        found = self._spellings.get(folded)
        if found:
            return tuple(found)
        if (ending := parse_short_vgpu(folded)) is not None:
            backed = {
                p.name: (m, p) for s, entries in self._spellings.items() if s.endswith(ending) for m, p in entries if m == "mig"
            }
            return tuple(backed.values()) if len(backed) == 1 else ()
        parsed = parse_mig(folded)
        if parsed is None or "mig" not in self._geometries:
            return ()
        slices, gb, attributes = parsed
        geometry = self._geometries["mig"]
        like = [p for p in geometry.profiles if p.compute_slices == slices and p.attributes == attributes]
        if gb is None:  # the short form 4g: the usual profile of that many slices has the least memory
            like = sorted(like, key=lambda profile: profile.extent)[:1]
        else:
            like = [p for p in like if gb in drifted_gb(p.extent, geometry.units, self.record.memory_gib)]
        return tuple(("mig", profile) for profile in like) if len(like) == 1 else ()

    def profile(self, spelling: str) -> Profile:
        """Return the profile that a spelling names, from the first mode that has it.

        Raises
        ------
        SpecError
            No profile of this GPU is spelled so; names the near matches.
        """
        found = self.find(spelling)
        if not found:
            raise SpecError(f"{self.name}: {self.unknown_profile(spelling)}")
        return found[0][1]

    def unknown_profile(self, spelling: str) -> str:
        """Return the words that say why a spelling names no profile of this GPU."""
        shared = next(
            (t for b in self.record.boards for t in b.types if fold(spelling) in (fold(t.name), fold(t.esxi_name or t.name))),
            None,
        )
        if shared is not None and shared.gi_profile:
            return (
                f"vGPU type {shared.name!r} time-slices inside a GPU instance ({shared.vgpus_per_gpu_instance} in one"
                f" {shared.gi_profile}); it is not planned yet, ask for {shared.gi_profile!r}"
            )
        if re.match(r"^\d+c\.", fold(spelling)):
            return (
                f"{spelling!r} is a compute instance; ask for its GPU instance profile"
                f" {spelling.split('.', 1)[1]!r} and cut that with Profile.compute_geometry()"
            )
        names = {name for geometry in self.geometries for p in geometry.profiles for name in (p.name, *p.aliases)}
        hint = did_you_mean(spelling, sorted(names))
        if not hint and self.record.mig:
            hint = "MIG profiles are " + ", ".join(profile.name for profile in self.record.mig.profiles)
        return f"unknown profile {spelling!r}" + (f"; {hint}" if hint else "")


def _vgpu(record: VgpuTypeRecord, names: tuple[str, ...], starts: tuple[int, ...], extent: int, most: int) -> Profile:
    return Profile(
        record.name,
        starts,
        extent,
        most,
        memory_mib=record.frame_buffer_mib,
        family=COMPUTE if record.series == "C" else GRAPHICS,
        aliases=tuple(name for name in dict.fromkeys(names) if name != record.name),
    )
