"""An independent check of a plan: from the catalogue's tables and the workloads, with no code of the solvers.

What is checked: every GPU exists and stands in one legal set of placements; every replica is placed at most once, on a
profile that satisfies its demand; placed and left-out replicas add up; the figures are those of the layout; and where
the bound rests on prices, that no configuration costs more than it may and that the prices give the bound claimed.
This module must not import any other module of this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import lcm
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import VerificationError
from partitioner.fleet import Fleet
from partitioner.geometry import Geometry, Profile
from partitioner.layout import NOBODY, Layout, Pattern, gpu_label
from partitioner.workload import Workload

KindKey = tuple[str, str | None]
"""GPU model and the mode it must stay in, None where it is free."""


class LeftOut(Protocol):
    """A workload of which replicas were left out."""

    @property
    def workload(self) -> str:
        """Name of the workload."""

    @property
    def count(self) -> int:
        """Replicas left out."""


class Stage(Protocol):
    """One stage of the objective."""

    @property
    def name(self) -> str:
        """Name of the stage."""

    @property
    def value(self) -> int:
        """Its value."""

    @property
    def bound(self) -> int:
        """The best possible value."""


class Claim(Protocol):
    """What a plan claims; `partitioner.Plan` is one."""

    @property
    def workloads(self) -> Sequence[Workload]:
        """What was asked for."""

    @property
    def fleet(self) -> Fleet | None:
        """The GPUs; None where GPUs of one model without hosts were planned."""

    @property
    def gpu(self) -> str | None:
        """That model."""

    @property
    def gpus(self) -> int | None:
        """How many of them; None: as many as needed."""

    @property
    def modes(self) -> tuple[str, ...] | None:
        """Modes or families of modes that the plan may use; None: all."""

    @property
    def status(self) -> str:
        """``optimal`` or ``feasible``."""

    @property
    def objectives(self) -> Sequence[Stage]:
        """Stages of the objective."""

    @property
    def certificate(self) -> str:
        """What proves the bound on the GPUs; it names branch and bound where that has a part in it."""

    @property
    def unplaced(self) -> Sequence[LeftOut]:
        """What was left out."""

    @property
    def layout(self) -> Layout:
        """Placements and occupants."""

    @property
    def prices(self) -> Mapping[tuple[KindKey, str, str], Fraction]:
        """(kind, mode, profile) to price; empty where the bound rests on a search."""

    @property
    def rents(self) -> Mapping[KindKey, Fraction]:
        """What one GPU of a kind may cost above 1."""


def verify(plan: Claim) -> None:
    """Check a plan against the catalogue, its workloads and its own figures.

    Raises
    ------
    VerificationError
        Everything that is wrong with it.

    Notes
    -----
    Legality is checked once for each distinct pattern; the rest is linear in GPUs and replicas, by columns.
    """
    findings = [
        *_check_gpus(plan),
        *(finding for pattern in plan.layout.patterns for finding in _check_pattern(pattern)),
        *_check_figures(plan),
    ]
    books = _read(plan)
    if isinstance(books, str):
        findings.append(books)
    else:
        findings += [*_check_replicas(plan, books), *_check_demands(plan, books)]
        if not findings:
            findings += _check_bound(plan, books)
    if findings:
        raise VerificationError(findings)


# -- GPUs and placements -----------------------------------------------------------------------------------------------


def _check_gpus(plan: Claim) -> Iterator[str]:
    layout = plan.layout
    used = layout.used
    keys = layout.gpu_host.astype(np.int64) * (int(layout.gpu_index.max(initial=0)) + 1) + layout.gpu_index
    keys.sort()  # np.unique hashes, which takes fifty times as long
    if (keys[1:] == keys[:-1]).any():
        yield "a GPU stands twice in the layout"
    allowed = _expected_gpus(plan)
    if allowed is None:
        if any(host is not None for host in layout.hosts):
            yield "the plan has no fleet, yet its layout names hosts"
        wrong = {p.model for p in layout.patterns} - {plan.gpu}
        if wrong:
            yield f"the layout has GPUs of {', '.join(sorted(map(str, wrong)))}; the plan is for {plan.gpu}"
        if plan.gpus is not None and len(layout) > plan.gpus:
            yield f"the layout has {len(layout)} GPUs; there are {plan.gpus}"
        models: dict[KindKey, bool] = {}
    else:
        models = {}
        for row, gpu in enumerate(
            zip(layout.gpu_host.tolist(), layout.gpu_index.tolist(), layout.gpu_pattern.tolist(), strict=True)
        ):
            host, index, pattern = layout.hosts[gpu[0]], gpu[1], layout.patterns[gpu[2]]
            known = allowed.get((host, index))
            if known is None:
                yield f"{gpu_label(host, index)} is not in the fleet"
            elif known[0] != pattern.model:
                yield f"{gpu_label(host, index)} is a {known[0]}, not a {pattern.model}"
            elif used[row] and known[1] is not None and known[1] != pattern.mode:
                yield f"{gpu_label(host, index)} must stay in mode {known[1]}, not {pattern.mode}"
    for pattern in layout.patterns:
        key = (pattern.model, pattern.mode)
        if pattern.placements and key not in models:
            models[key] = True
            if pattern.mode not in _modes(catalog.gpu(pattern.model), plan.modes):
                yield f"{pattern.model}: mode {pattern.mode} is not one of those allowed ({', '.join(plan.modes or ())})"


def _expected_gpus(plan: Claim) -> dict[tuple[str | None, int], KindKey] | None:
    if plan.fleet is None:
        return None
    return {(host, index): (gpu.model, gpu.mode) for host, index, gpu in plan.fleet}


def _modes(model: GpuModel, wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        return list(model.modes)
    return [mode for mode in model.modes if any((mode + "-").startswith(family + "-") for family in wanted)]


def _check_pattern(pattern: Pattern) -> Iterator[str]:
    """Legality from the tables: listed starts, no overlap, maxima, totals, series."""
    if not pattern.placements:
        return
    who = f"{pattern.model} in mode {pattern.mode}"
    geometry = catalog.gpu(pattern.model).geometry(pattern.mode or "")
    table = {profile.name: profile for profile in geometry.profiles}
    occupied: set[int] = set()
    number: dict[str, int] = {}
    totals: dict[str, int] = {}
    for placement in pattern.placements:
        name, start = placement.profile.name, placement.start
        profile = table.get(name)
        if profile is None or start not in profile.starts:
            yield f"{who}: {name!r} cannot start at {start}"
            continue
        cells = set(range(start, start + profile.extent))
        if occupied & cells or max(cells) >= geometry.units:
            yield f"{who}: {name!r} at {start} overlaps another placement"
        occupied |= cells
        number[name] = number.get(name, 0) + 1
        for resource, amount in profile.uses:
            totals[resource] = totals.get(resource, 0) + amount
    for name, count in number.items():
        if count > table[name].max_count:
            yield f"{who}: {count} x {name}, at most {table[name].max_count} are possible"
    for resource, limit in geometry.totals:
        if totals.get(resource, 0) > limit:
            yield f"{who}: {totals[resource]} {resource} used of {limit}"
    if geometry.exclusive and len({table[name].family for name in number}) > 1:
        yield f"{who}: series that do not mix share the GPU"


# -- replicas ----------------------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """What one replica asks for."""

    profile: str | None
    memory_gib: float | None
    compute_slices: int | None
    gpu_share: float | None


@dataclass(frozen=True, slots=True)
class _Books:
    """Workloads and occupants in columns.

    `asked`: distinct demands; `demand_of`, `counts`, shape ``(n_workloads,)``: the demand and the replicas of each
    workload; `held`, shape ``(n_placements,)``: whether a placement has an occupant; `workload`, shape ``(n_held,)``:
    the occupants.
    """

    asked: tuple[_Asked, ...]
    demand_of: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    rows: Mapping[str, int]
    held: npt.NDArray[np.bool_]
    workload: npt.NDArray[np.int64]


def _read(plan: Claim) -> _Books | str:
    """Return the books of a plan, or what makes them unreadable."""
    layout, workloads = plan.layout, tuple(plan.workloads)
    asked: dict[tuple[object, ...], int] = {}
    demand_of = np.array(
        [asked.setdefault((w.profile, w.memory_gib, w.compute_slices, w.gpu_share), len(asked)) for w in workloads],
        dtype=np.int64,
    )
    names = [w.name for w in workloads]
    rows = dict(zip(names, range(len(names)), strict=True))
    if len(rows) != len(names):
        return "two workloads share a name"
    held = layout.occupant != NOBODY
    if len(layout.occupant) != int(layout.offsets[-1]) or (held & (layout.occupant >= max(1, len(layout.workloads)))).any():
        return "the layout's columns do not match"
    if layout.workloads == tuple(names):
        workload = layout.occupant[held].astype(np.int64)
    else:
        workload = np.array([rows.get(name, -1) for name in layout.workloads] or [0], dtype=np.int64)[layout.occupant[held]]
    if (workload < 0).any():
        return "the layout places a workload that was not asked for"
    counts = np.array([w.count for w in workloads], dtype=np.int64)
    return _Books(tuple(_Asked(*key) for key in asked), demand_of, counts, rows, held, workload)  # type: ignore[arg-type]


def _satisfies(asked: _Asked, model: GpuModel, mode: str, profile: Profile) -> bool:
    if asked.profile is not None:
        return any(m == mode and p.name == profile.name for m, p in model.find(asked.profile))
    if asked.memory_gib is not None and profile.memory_mib < asked.memory_gib * 1024 - 1e-6:
        return False
    if asked.compute_slices is not None and profile.compute_slices < asked.compute_slices:
        return False
    if asked.gpu_share is not None and mode != "whole":
        if mode == "mig":
            memory, compute = profile.extent / model.memory_slices, profile.compute_slices / model.compute_slices
        else:
            memory, compute = round(profile.memory_mib / 1024) / max(1, model.record.memory_gib), 1.0
        return min(memory, compute) >= asked.gpu_share - 1e-6
    return True


def _check_replicas(plan: Claim, books: _Books) -> Iterator[str]:
    """Every replica is placed once or reported as left out."""
    replica = plan.layout.replica[books.held]
    if ((replica < 0) | (replica >= books.counts[books.workload])).any():
        yield "the layout has a replica that was not asked for"
        return
    first = np.concatenate(([0], np.cumsum(books.counts)))
    times = np.bincount(first[books.workload] + replica, minlength=int(first[-1]))
    if (times > 1).any():
        yield "a replica is placed twice"
    left = books.counts - np.bincount(books.workload, minlength=len(books.counts))
    claimed = np.zeros(len(books.counts), dtype=np.int64)
    for entry in plan.unplaced:
        if entry.workload in books.rows:
            claimed[books.rows[entry.workload]] += entry.count
        else:
            yield f"workload {entry.workload!r} is reported as left out, but was not asked for"
    for row in np.flatnonzero(left != claimed)[:10]:
        yield f"workload {plan.workloads[row].name!r}: {left[row]} replicas are not placed, {claimed[row]} are reported"


def _check_demands(plan: Claim, books: _Books) -> Iterator[str]:
    """Every placement satisfies its occupant's demand; each pair of demand and profile is looked at once."""
    layout = plan.layout
    kinds: dict[tuple[str, str, str], int] = {}
    tables = [
        [kinds.setdefault((p.model, p.mode or "", placement.profile.name), len(kinds)) for placement in p.placements]
        for p in layout.patterns
    ]
    sizes = np.diff(layout.offsets)
    most = max((len(table) for table in tables), default=0)
    padded = np.array([table + [0] * (most - len(table)) for table in tables] or [[]], dtype=np.int64).reshape(len(tables), most)
    gpu = np.repeat(np.arange(len(layout)), sizes)
    position = np.arange(int(layout.offsets[-1])) - layout.offsets[gpu]
    kind = padded[layout.gpu_pattern[gpu], position][books.held] if most else np.zeros(0, dtype=np.int64)
    pairs = np.flatnonzero(np.bincount(books.demand_of[books.workload] * max(1, len(kinds)) + kind))
    names = list(kinds)
    for pair in pairs.tolist():
        demand, (model, mode, name) = books.asked[pair // len(kinds)], names[pair % len(kinds)]
        gpu_model = catalog.gpu(model)
        if not _satisfies(demand, gpu_model, mode, gpu_model.geometry(mode).profile(name)):
            yield f"{name} on {model} in mode {mode} does not satisfy {demand}"


# -- figures and bound -------------------------------------------------------------------------------------------------


def _check_figures(plan: Claim) -> Iterator[str]:
    stages = {stage.name: stage for stage in plan.objectives}
    used = int(plan.layout.used.sum())
    placed = int((plan.layout.occupant != NOBODY).sum())
    for name, value in (("gpus", used), ("placed", placed)):
        if name not in stages:
            yield f"no figure for {name}"
        elif stages[name].value != value:
            yield f"{name} is {value}, not {stages[name].value}"
    for stage in plan.objectives:
        better = stage.value > stage.bound if stage.name == "placed" else stage.value < stage.bound
        if better:
            yield f"{stage.name} {stage.value} is better than its bound {stage.bound}"
        if plan.status == "optimal" and stage.value != stage.bound:
            yield f"status is optimal, but {stage.name} is {stage.value} with a bound of {stage.bound}"
    if plan.status not in ("optimal", "feasible"):
        yield f"unknown status {plan.status!r}"


def _check_bound(plan: Claim, books: _Books) -> Iterator[str]:
    """Prices prove the bound: no configuration costs more than 1 + rent, and the placed demand costs the bound."""
    available = _available(plan)
    for key, rent in plan.rents.items():
        if rent < 0 or (rent and available.get(key) is None):
            yield f"{key[0]}: a rent of {rent} proves nothing"
    for key in available:
        for mode in _kind_modes(key, plan.modes):
            geometry = catalog.gpu(key[0]).geometry(mode)
            prices = {name: price for (kind, m, name), price in plan.prices.items() if kind == key and m == mode and price}
            highest = _dearest(geometry, prices)
            if highest > 1 + plan.rents.get(key, 0):
                yield f"{key[0]} in mode {mode}: a configuration costs {highest}, more than 1 + {plan.rents.get(key, 0)}"
    proven = _proven(plan, books, available)
    stage = next(stage for stage in plan.objectives if stage.name == "gpus")
    if proven < stage.bound and _rests_on_prices(plan):
        yield f"the prices prove {proven} GPUs, not {stage.bound}"


def _rests_on_prices(plan: Claim) -> bool:
    """Whether prices have to give the bound; a search in one part of the fleet is enough that they need not."""
    return "branch and bound" not in plan.certificate


def _available(plan: Claim) -> dict[KindKey, int | None]:
    if plan.fleet is None:
        return {(plan.gpu or "", None): plan.gpus}
    found: dict[KindKey, int | None] = {}
    for host in plan.fleet.hosts:
        for gpu in host.gpus:
            found[gpu.model, gpu.mode] = (found.get((gpu.model, gpu.mode)) or 0) + 1
    return found


def _kind_modes(key: KindKey, wanted: Sequence[str] | None) -> list[str]:
    return [mode for mode in _modes(catalog.gpu(key[0]), wanted) if key[1] in (None, mode)]


def _proven(plan: Claim, books: _Books, available: Mapping[KindKey, int | None]) -> int:
    """Return the bound on the GPUs that the prices give for what is placed.

    It may be rounded up for each set of kinds by itself that no demand connects with others.
    """
    placed = np.bincount(books.demand_of[books.workload], minlength=len(books.asked)).tolist()
    sets = [({key}, -plan.rents.get(key, Fraction(0)) * (available[key] or 0)) for key in available]
    for asked, count in zip(books.asked, placed, strict=True):
        if count:
            offers = _offers(plan, asked, available)
            touched = [entry for entry in sets if entry[0] & offers.keys()]
            joined = set().union(*(keys for keys, _ in touched))
            value = sum((v for _, v in touched), Fraction(0)) + count * min(offers.values())
            sets = [entry for entry in sets if entry not in touched] + [(joined, value)]
    return sum(max(0, -(-value.numerator // value.denominator)) for _, value in sets)


def _offers(plan: Claim, asked: _Asked, available: Mapping[KindKey, int | None]) -> dict[KindKey, Fraction]:
    """Return, for each kind of GPU that can satisfy a demand, the price of the cheapest profile that does."""
    cheapest: dict[KindKey, Fraction] = {}
    for key in available:
        model = catalog.gpu(key[0])
        for mode in _kind_modes(key, plan.modes):
            for profile in model.geometry(mode).profiles:
                if _offered(asked, model, mode, profile) and _satisfies(asked, model, mode, profile):
                    price = plan.prices.get((key, mode, profile.name), Fraction(0))
                    cheapest[key] = min(price, cheapest.get(key, price))
    return cheapest


def _offered(asked: _Asked, model: GpuModel, mode: str, profile: Profile) -> bool:
    """Demands by size take plain MIG profiles (or +gfx where there are no plain ones) and vGPU series that run CUDA."""
    if asked.profile is not None or mode == "whole":
        return True
    if mode == "mig":
        plain = any(not p.attributes for p in model.geometry(mode).profiles)
        return profile.attributes == (() if plain else ("gfx",))
    return profile.name.rstrip("0123456789")[-1] in "CQ"


def _dearest(geometry: Geometry, prices: Mapping[str, Fraction]) -> Fraction:
    """Return the highest price of any legal configuration, by dynamic programming over the units.

    Overlap concerns neighbours only; what else limits a configuration (a maximum below the number of starts, totals)
    is carried in the state.
    """
    if not prices:
        return Fraction(0)
    scale = lcm(*(price.denominator for price in prices.values()))
    highest = 0
    families = {p.family for p in geometry.profiles} if geometry.exclusive else {None}
    for family in families:
        priced = [p for p in geometry.profiles if prices.get(p.name) and (family is None or p.family == family)]
        highest = max(highest, _dearest_of(geometry, priced, [int(prices[p.name] * scale) for p in priced]))
    return Fraction(highest, scale)


def _dearest_of(geometry: Geometry, priced: list[Profile], worth: list[int]) -> int:
    limits = [p.max_count for p in priced] + [total for _, total in geometry.totals]
    weights = [[int(p is q) for q in priced] + [dict(p.uses).get(resource, 0) for resource, _ in geometry.totals] for p in priced]
    binding = [
        i for i in range(len(limits)) if sum(weights[p][i] * len(priced[p].starts) for p in range(len(priced))) > limits[i]
    ]

    @cache
    def best(position: int, left: tuple[int, ...]) -> int:
        if position >= geometry.units:
            return 0
        value = best(position + 1, left)
        for p, profile in enumerate(priced):
            if position in profile.starts:
                rest = tuple(have - weights[p][i] for have, i in zip(left, binding, strict=True))
                if min(rest, default=0) >= 0:
                    value = max(value, worth[p] + best(position + profile.extent, rest))
        return value

    return best(0, tuple(limits[i] for i in binding))
