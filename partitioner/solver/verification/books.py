"""The claim in columns: what each workload asks for, what stands on each placement. Must not know what is right or wrong.

Whatever is asked of many replicas is looked up once for each distinct set of terms, so a million plain replicas cost no
more than their columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from partitioner.fleet import Gpu, Host
from partitioner.layout import NOBODY, Index, Layout, gpu_label
from partitioner.solver.verification.claim import Claim

Column = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
MOST_FINDINGS = 10
"""Findings of one sort that are listed."""


class Terms(NamedTuple):
    """What a workload asks for; the fields are those of `Workload`."""

    profile: str | None
    memory_gib: float | None
    compute_slices: int | None
    gpu_share: float | None
    isolation: str
    model: str | None
    spread: str | None
    apart_from: tuple[str, ...]
    together_with: tuple[str, ...]
    apart_on: str
    together_on: str
    tenant: str | None
    gpus_per_replica: int
    gpu_link: str | None
    rdma: bool
    vcpus: float | None
    ram_gib: float | None
    only_on: tuple[str, ...]
    never_on: tuple[str, ...]

    @property
    def size(self) -> str:
        """What is asked of a profile, in words."""
        wanted = (("profile", self.profile), ("memory_gib", self.memory_gib), ("compute_slices", self.compute_slices))
        given = [f"{k}={v}" for k, v in (*wanted, ("gpu_share", self.gpu_share)) if v is not None]
        return ", ".join([*given, *(["isolation=hardware"] if self.isolation == "hardware" else [])])


_READ_TERMS = attrgetter(*Terms._fields)


class Kind(NamedTuple):
    """What a placement is."""

    model: str
    mode: str
    profile: str


@dataclass(frozen=True)
class Books:
    """Workloads and placements in columns.

    Parameters
    ----------
    plan : the claim.
    names, rows : names of workloads in order, and the row of each.
    terms : distinct terms.
    terms_of, counts : terms and replicas of each workload; shape ``(n_workloads,)``.
    held : whether a placement has an occupant; shape ``(n_placements,)``.
    workload, replica, gpu : who stands on each held placement, and on which GPU; shape ``(n_held,)``.
    kinds, kind : distinct kinds of placements, and the kind of each held placement; shape ``(n_held,)``.
    """

    plan: Claim
    names: tuple[str, ...]
    rows: Mapping[str, int]
    terms: tuple[Terms, ...]
    terms_of: Column
    counts: Column
    held: Flags
    workload: Column
    replica: Column
    gpu: Column
    kinds: tuple[Kind, ...]
    kind: Column

    def of(self, row: int) -> Terms:
        """Return the terms of a workload."""
        return self.terms[int(self.terms_of[row])]

    def having(self, *fields: str) -> Flags:
        """Return which workloads have a value in any of some terms; shape ``(n_workloads,)``."""
        chosen = np.array([any(getattr(terms, field) for field in fields) for terms in self.terms], dtype=np.bool_)
        return chosen[self.terms_of]

    @cached_property
    def services(self) -> Flags:
        """Which workloads are services; shape ``(n_workloads,)``."""
        return self.having("model")

    @cached_property
    def gpus_per_replica(self) -> Column:
        """Placements of one replica; shape ``(n_workloads,)``."""
        return np.array([terms.gpus_per_replica for terms in self.terms], dtype=np.int64)[self.terms_of]

    @cached_property
    def standing(self) -> Column:
        """Held placements of each workload; shape ``(n_workloads,)``."""
        return np.bincount(self.workload, minlength=len(self.names))

    @cached_property
    def placed(self) -> Column:
        """Replicas placed of each workload, of a service 1 or 0; shape ``(n_workloads,)``."""
        return np.where(self.services, self.standing > 0, self.standing // self.gpus_per_replica)

    @cached_property
    def site(self) -> Site:
        """Hosts and GPUs of the layout as the fleet describes them."""
        return _site(self.plan)


def read(plan: Claim) -> Books | str:
    """Return the books of a plan, or what makes them unreadable."""
    layout, workloads = plan.layout, tuple(plan.workloads)
    found: dict[tuple[object, ...], int] = {}
    terms_of = np.array([found.setdefault(terms, len(found)) for terms in map(_READ_TERMS, workloads)], dtype=np.int64)
    names = tuple(w.name for w in workloads)
    rows = dict(zip(names, range(len(names)), strict=True))
    if len(rows) != len(names):
        return "two workloads share a name"
    if not _columns_match(layout):
        return "the layout's columns do not match"
    held = layout.occupant != NOBODY
    workload = layout.occupant[held].astype(np.int64)
    if layout.workloads != names:
        workload = np.array([rows.get(name, -1) for name in layout.workloads] or [0], dtype=np.int64)[workload]
    if (workload < 0).any():
        return "the layout places a workload that was not asked for"
    gpu = np.repeat(np.arange(len(layout)), np.diff(layout.offsets))
    kinds, kind = _kinds(plan, gpu)
    counts = np.array([w.count for w in workloads], dtype=np.int64)
    every = tuple(Terms(*key) for key in found)  # type: ignore[arg-type]
    replica = layout.replica[held].astype(np.int64)
    return Books(plan, names, rows, every, terms_of, counts, held, workload, replica, gpu[held], kinds, kind[held])


def _columns_match(layout: Layout) -> bool:
    """Whether columns have one length, and rows that they name are there."""
    if not len(layout.gpu_host) == len(layout.gpu_index) == len(layout.gpu_pattern):
        return False
    if not (_names(layout.gpu_host, len(layout.hosts)) and _names(layout.gpu_pattern, len(layout.patterns))):
        return False
    if layout.gpu_index.min(initial=0) < 0 or not len(layout.occupant) == len(layout.replica) == int(layout.offsets[-1]):
        return False
    return _names(layout.occupant, len(layout.workloads), NOBODY)


def _names(column: Index, n_rows: int, least: int = 0) -> bool:
    return not len(column) or bool(least <= column.min() and column.max() < n_rows)


def _kinds(plan: Claim, gpu: Column) -> tuple[tuple[Kind, ...], Column]:
    """Return distinct kinds of placements and the kind of every placement."""
    layout = plan.layout
    kinds: dict[Kind, int] = {}
    tables = [
        [kinds.setdefault(Kind(p.model, p.mode or "", placed.profile.name), len(kinds)) for placed in p.placements]
        for p in layout.patterns
    ]
    most = max((len(table) for table in tables), default=0)
    if not most:
        return (), np.zeros(len(gpu), dtype=np.int64)
    padded = np.array([table + [0] * (most - len(table)) for table in tables], dtype=np.int64)
    position = np.arange(len(gpu)) - layout.offsets[gpu]
    return tuple(kinds), padded[layout.gpu_pattern[gpu], position]


def tally(keys: Column) -> tuple[Column, Column]:
    """Return distinct keys, ascending, and how often each stands there; by sorting, since np.unique may hash."""
    ordered = np.sort(keys)
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else np.zeros(0, np.int64)
    return ordered[first], np.diff(np.concatenate((first, [len(ordered)])))


# -- hosts and GPUs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """The hosts and GPUs of a layout as the fleet describes them, by row in the layout; None where it does not.

    Parameters
    ----------
    plan : the claim.
    hosts : shape ``(n_hosts,)``.
    kept : (row of the GPU, start) of the placements that are existing instances.
    """

    plan: Claim
    hosts: tuple[Host | None, ...]
    kept: frozenset[tuple[int, int]]

    @property
    def host_of(self) -> Column:
        """Row of the host of each GPU; shape ``(n_gpus,)``."""
        return self.plan.layout.gpu_host.astype(np.int64)

    def index(self, gpu: int) -> int:
        """Return the index of a GPU in its host."""
        return int(self.plan.layout.gpu_index[gpu])

    def gpu_name(self, gpu: int) -> str:
        """Return the name of a GPU for people, e.g. ``esx-03/gpu0``."""
        return gpu_label(self.plan.layout.hosts[self.plan.layout.gpu_host[gpu]], self.index(gpu))

    def host_name(self, host: int) -> str:
        """Return the name of a host for people."""
        return self.plan.layout.hosts[host] or "the GPUs without hosts"

    def described(self) -> Iterator[tuple[int, Host]]:
        """Iterate over (row, host) of the hosts that the fleet describes."""
        return ((row, host) for row, host in enumerate(self.hosts) if host is not None)


def kept_of(gpu: Gpu) -> Iterator[tuple[str, int]]:
    """Iterate over (profile, start) of the instances that a GPU keeps."""
    for text in gpu.instances:
        profile, _, start = text.rpartition("@")
        yield profile, int(start)


def _site(plan: Claim) -> Site:
    layout = plan.layout
    by_name = {host.name: host for host in plan.fleet.hosts} if plan.fleet is not None else {}
    hosts = tuple(by_name.get(name) if name is not None else None for name in layout.hosts)
    keeping = [host is not None and any(gpu.instances for gpu in host.gpus) for host in hosts]
    kept = []
    for gpu in np.flatnonzero(np.array(keeping, dtype=np.bool_)[layout.gpu_host]).tolist() if any(keeping) else ():
        host, index = hosts[layout.gpu_host[gpu]], int(layout.gpu_index[gpu])
        if host is not None and index < len(host.gpus):
            kept += [(gpu, start) for _, start in kept_of(host.gpus[index])]
    return Site(plan, hosts, frozenset(kept))
