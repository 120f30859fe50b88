"""All placements of a fleet, with who occupies them: what planning, diffing, applying and benchmarking share.

Kept in columns, so that a million placements cost tens of megabytes: GPUs point at a table of distinct patterns (the
placements of one GPU), and one row for each placement names its occupant. This module must not know solvers or plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.errors import GeometryError, SpecError
from partitioner.geometry import Configuration, Geometry, Placement

Index = npt.NDArray[np.int32]
NOBODY = -1
"""Occupant of a placement that nobody holds."""

GpuKey = tuple[str | None, int]
"""A GPU: its host, None where none was named, and its index in the host."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The placements of one GPU, without occupants.

    Parameters
    ----------
    model : name of the GPU model.
    mode : mode of the GPU; None where it is left as it is, and then there are no placements.
    placements : sorted by start.
    """

    model: str
    mode: str | None
    placements: tuple[Placement, ...] = ()

    @property
    def geometry(self) -> Geometry | None:
        """The geometry that the GPU uses, None where its mode is left open."""
        return None if self.mode is None else catalog.gpu(self.model).geometry(self.mode)

    @property
    def configuration(self) -> Configuration:
        """The multiset of profiles."""
        counts: dict[str, int] = {}
        for placement in sorted(self.placements, key=lambda p: (-p.profile.extent, -p.profile.compute_slices)):
            counts[placement.profile.name] = counts.get(placement.profile.name, 0) + 1
        return Configuration(counts)


@dataclass(frozen=True, slots=True)
class Slot:
    """One placement with its occupant; `workload` and `replica` are None where nobody holds it.

    `ready` is False for an instance on hardware that was begun and not finished (a GPU instance without its compute
    instance); plans have none. `busy` is True where somebody uses it whom no layout names (a process that was not placed
    here, another's virtual machine): nobody is put there meanwhile. It takes no part in comparisons.
    """

    profile: str
    start: int
    workload: str | None = None
    replica: int | None = None
    ready: bool = True
    busy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class GpuLayout:
    """One GPU with its placements and occupants, sorted by start.

    `host` is None where no host was named (planning for GPUs that are still to be bought). `uuid` is the driver's name of
    the board, known where the layout was read off hardware; it says which GPU this is, not how it is laid out, so that it
    takes no part in comparisons.
    """

    host: str | None
    gpu: int
    model: str
    mode: str | None
    slots: tuple[Slot, ...] = ()
    uuid: str | None = field(default=None, compare=False)

    def to_data(self) -> dict[str, Any]:
        """Return the GPU as plain data, an entry of `Layout.to_data`."""
        return {
            "host": self.host,
            "gpu": self.gpu,
            "model": self.model,
            "mode": self.mode,
            **({} if self.uuid is None else {"uuid": self.uuid}),
            "placements": [
                {"profile": slot.profile, "start": slot.start, "workload": slot.workload, "replica": slot.replica}
                | ({} if slot.ready else {"ready": False})
                | ({"busy": True} if slot.busy else {})
                for slot in self.slots
            ],
        }


@dataclass(frozen=True, slots=True)
class Assignment:
    """One replica, or one instance of a service, and where it runs.

    Parameters
    ----------
    workload, replica : who it is; a replica that takes several GPUs has one assignment for each.
    host, gpu, mode, profile, start : where it runs.
    batch, processes, throughput : of a service: its batch size, processes, and what it serves there [requests/s].
    """

    workload: str
    replica: int
    host: str | None
    gpu: int
    mode: str
    profile: str
    start: int
    batch: int | None = None
    processes: int | None = None
    throughput: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """GPUs of one pattern.

    Parameters
    ----------
    pattern : what they all look like.
    gpus : their rows in the layout, ascending; shape ``(n_gpus,)``.
    """

    pattern: Pattern
    gpus: Index

    def __len__(self) -> int:
        return len(self.gpus)


@dataclass(frozen=True, eq=False)
class Layout:
    """Placements and occupants of a sequence of GPUs. Two layouts are equal when they say the same of the same GPUs.

    Parameters
    ----------
    hosts : names of hosts; None for GPUs without a host.
    patterns : distinct patterns.
    workloads : names of workloads.
    gpu_host, gpu_index, gpu_pattern : for each GPU its row in `hosts`, its index in the host, its row in `patterns`;
        shape ``(n_gpus,)``.
    occupant, replica : for each placement, GPU after GPU and sorted by start, the row in `workloads` or `NOBODY`, and
        the number of the replica; shape ``(n_placements,)``.
    unready : positions of placements that hardware has begun and not finished, ascending.
    busy : positions of placements that are used by somebody whom no layout names, ascending; no part of comparisons.
    uuids : (host, index in the host) to the driver's name of that GPU, where known; no part of comparisons.
    """

    hosts: tuple[str | None, ...]
    patterns: tuple[Pattern, ...]
    workloads: tuple[str, ...]
    gpu_host: Index
    gpu_index: Index
    gpu_pattern: Index
    occupant: Index
    replica: Index
    unready: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()
    uuids: Mapping[GpuKey, str] = field(default_factory=dict)

    # -- building --------------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, gpus: Iterable[GpuLayout]) -> Layout:
        """Return the layout of the given GPUs.

        Raises
        ------
        SpecError
            A GPU stands twice, or its placements are not legal.
        """
        hosts: dict[str | None, int] = {}
        patterns: dict[Pattern, int] = {}
        known: dict[tuple[Any, ...], int] = {}
        workloads: dict[str, int] = {}
        rows: list[tuple[int, int, int]] = []
        occupants: list[int] = []
        replicas: list[int] = []
        unready: list[int] = []
        busy: list[int] = []
        uuids: dict[GpuKey, str] = {}
        seen: set[GpuKey] = set()
        for gpu in gpus:
            if (gpu.host, gpu.gpu) in seen:
                raise SpecError(f"{gpu_label(gpu.host, gpu.gpu)} stands twice in the layout")
            seen.add((gpu.host, gpu.gpu))
            if gpu.uuid is not None:
                uuids[gpu.host, gpu.gpu] = gpu.uuid
            key = (gpu.model, gpu.mode, tuple((slot.profile, slot.start) for slot in gpu.slots))
            if key not in known:
                known[key] = patterns.setdefault(_pattern_of(gpu), len(patterns))
            rows.append((hosts.setdefault(gpu.host, len(hosts)), gpu.gpu, known[key]))
            for slot in sorted(gpu.slots, key=lambda slot: slot.start):
                held = slot.workload is not None
                if not slot.ready:
                    unready.append(len(occupants))
                if slot.busy:
                    busy.append(len(occupants))
                occupants.append(workloads.setdefault(slot.workload, len(workloads)) if slot.workload is not None else NOBODY)
                replicas.append(slot.replica or 0 if held else NOBODY)
        gpu_host, gpu_index, gpu_pattern = np.ascontiguousarray(np.array(rows, dtype=np.int32).reshape(-1, 3).T)
        return cls(
            tuple(hosts),
            tuple(patterns),
            tuple(workloads),
            gpu_host,
            gpu_index,
            gpu_pattern,
            np.array(occupants, dtype=np.int32),
            np.array(replicas, dtype=np.int32),
            tuple(unready),
            tuple(busy),
            uuids,
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of GPUs, unused ones included."""
        return len(self.gpu_pattern)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First placement of each GPU, and the end; shape ``(n_gpus + 1,)``."""
        sizes = np.array([len(pattern.placements) for pattern in self.patterns] or [0], dtype=np.int64)
        return np.concatenate(([0], np.cumsum(sizes[self.gpu_pattern]))) if len(self) else np.zeros(1, dtype=np.int64)

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Whether a GPU has placements; shape ``(n_gpus,)``."""
        return np.diff(self.offsets) > 0

    def gpu(self, row: int) -> GpuLayout:
        """Return one GPU with its occupants."""
        pattern = self.patterns[self.gpu_pattern[row]]
        first = int(self.offsets[row])
        slots = []
        for position, placement in enumerate(pattern.placements, first):
            who = int(self.occupant[position])
            held = who != NOBODY
            slots.append(
                Slot(
                    placement.profile.name,
                    placement.start,
                    self.workloads[who] if held else None,
                    int(self.replica[position]) if held else None,
                    position not in self._unready,
                    position in self._busy,
                )
            )
        host, index = self.hosts[self.gpu_host[row]], int(self.gpu_index[row])
        return GpuLayout(host, index, pattern.model, pattern.mode, tuple(slots), self.uuids.get((host, index)))

    @cached_property
    def _unready(self) -> frozenset[int]:
        return frozenset(self.unready)

    @cached_property
    def _busy(self) -> frozenset[int]:
        return frozenset(self.busy)

    @cached_property
    def rows(self) -> Mapping[GpuKey, int]:
        """(host, index in the host) of each GPU to its row."""
        hosts = [self.hosts[host] for host in self.gpu_host.tolist()]
        return {key: row for row, key in enumerate(zip(hosts, self.gpu_index.tolist(), strict=True))}

    def only(self, keys: Iterable[GpuKey]) -> Layout:
        """Return the layout of some of the GPUs, in the order of this layout.

        Raises
        ------
        KeyError
            A GPU is not in the layout.
        """
        rows = np.array(sorted({self.rows[key] for key in keys}), dtype=np.int64)
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[rows] = True
        kept = np.repeat(chosen, np.diff(self.offsets))
        place = np.cumsum(kept) - 1
        return Layout(
            self.hosts,
            self.patterns,
            self.workloads,
            self.gpu_host[rows],
            self.gpu_index[rows],
            self.gpu_pattern[rows],
            self.occupant[kept],
            self.replica[kept],
            tuple(int(place[position]) for position in self.unready if kept[position]),
            tuple(int(place[position]) for position in self.busy if kept[position]),
            {key: uuid for key, uuid in self.uuids.items() if chosen[self.rows[key]]},
        )

    def __iter__(self) -> Iterator[GpuLayout]:
        return (self.gpu(row) for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Layout of {len(self)} GPUs, {int(self.used.sum())} used, {len(self.occupant)} placements>"

    def assignments(self) -> Iterator[Assignment]:
        """Iterate over all replicas and where they run, GPU after GPU, by start."""
        position = 0
        occupants, replicas = self.occupant.tolist(), self.replica.tolist()
        for host, index, row in zip(self.gpu_host.tolist(), self.gpu_index.tolist(), self.gpu_pattern.tolist(), strict=True):
            pattern = self.patterns[row]
            for placement in pattern.placements:
                if occupants[position] != NOBODY:
                    yield Assignment(
                        self.workloads[occupants[position]],
                        replicas[position],
                        self.hosts[host],
                        index,
                        pattern.mode or "",
                        placement.profile.name,
                        placement.start,
                    )
                position += 1

    def groups(self) -> tuple[Group, ...]:
        """Return the GPUs grouped by pattern, in order of first appearance."""
        found = []
        order = np.argsort(self.gpu_pattern, kind="stable").astype(np.int32)
        bounds = np.searchsorted(self.gpu_pattern[order], np.arange(len(self.patterns) + 1))
        for row, pattern in enumerate(self.patterns):
            gpus = order[bounds[row] : bounds[row + 1]]
            if len(gpus):
                found.append(Group(pattern, gpus))
        return tuple(sorted(found, key=lambda group: int(group.gpus[0])))

    # -- files -----------------------------------------------------------------------------------------------------

    def to_data(self) -> list[dict[str, Any]]:
        """Return the layout as plain data, one entry for each GPU."""
        return [gpu.to_data() for gpu in self]

    @classmethod
    def from_data(cls, data: object) -> Layout:
        """Return the layout that `to_data` described.

        Raises
        ------
        SpecError
            The data has another form, or names GPUs or profiles that do not exist.
        """
        if not isinstance(data, Sequence) or isinstance(data, str):
            raise SpecError(f"layout: a list of GPUs is wanted, not {type(data).__name__}")
        return cls.of(_gpu_from_data(entry, position) for position, entry in enumerate(data))


def gpu_label(host: str | None, gpu: int) -> str:
    """Return the name of a GPU for people: ``esx-03/gpu0``, ``gpu0``."""
    return f"{host}/gpu{gpu}" if host is not None else f"gpu{gpu}"


def _pattern_of(gpu: GpuLayout) -> Pattern:
    who = gpu_label(gpu.host, gpu.gpu)
    try:
        model = catalog.gpu(gpu.model)
    except SpecError as error:
        raise SpecError(f"{who}: {error}") from error
    who = f"{who} ({gpu.model})"
    if gpu.mode is None:
        if gpu.slots:
            raise SpecError(f"{who}: has placements but no mode; modes are {', '.join(model.modes)}")
        return Pattern(model.name, None)
    try:
        geometry = model.geometry(gpu.mode)
        placements = tuple(sorted((Placement(geometry.profile(s.profile), s.start) for s in gpu.slots), key=lambda p: p.start))
    except (SpecError, GeometryError) as error:
        raise SpecError(f"{who}: {error}") from error
    reason = geometry.violation(placements)
    if reason is not None:
        raise SpecError(f"{who}: {reason}")
    return Pattern(model.name, gpu.mode, placements)


def _gpu_from_data(entry: object, position: int) -> GpuLayout:
    kinds: dict[str, tuple[type, ...]] = {
        "host": (str, type(None)),
        "gpu": (int,),
        "model": (str,),
        "mode": (str, type(None)),
        "placements": (list,),
    }
    slot_kinds: dict[str, tuple[type, ...]] = {
        "profile": (str,),
        "start": (int,),
        "workload": (str, type(None)),
        "replica": (int, type(None)),
    }
    values = _fields(entry, kinds, f"layout[{position}]", {"uuid": (str,)})
    slots = [
        Slot(**_fields(slot, slot_kinds, f"layout[{position}].placements[{row}]", {"ready": (bool,), "busy": (bool,)}))
        for row, slot in enumerate(values.pop("placements"))
    ]
    for row, slot in enumerate(slots):
        if slot.workload is None and slot.replica is not None:
            raise SpecError(f"layout[{position}].placements[{row}]: replica {slot.replica} of no workload; name the workload")
    return GpuLayout(**values, slots=tuple(slots))


def _fields(
    entry: object, kinds: Mapping[str, tuple[type, ...]], where: str, optional: Mapping[str, tuple[type, ...]]
) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise SpecError(f"{where}: a mapping is wanted, not {type(entry).__name__}")
    for name in chain(kinds, entry):
        known = kinds.get(name) or optional.get(name)
        if known is None:
            raise SpecError(f"{where}: unknown field {name!r}; fields are {', '.join((*kinds, *optional))}")
        if name not in entry:
            raise SpecError(f"{where}: field {name!r} is missing")
        if not isinstance(entry[name], known) or (isinstance(entry[name], bool) and bool not in known):
            raise SpecError(f"{where}.{name}: {entry[name]!r} is not {' or '.join(k.__name__ for k in known)}")
        if isinstance(entry[name], int) and not 0 <= entry[name] < 2**31:
            raise SpecError(f"{where}.{name}: {entry[name]} is not between 0 and 2,147,483,647")
    return dict(entry)
