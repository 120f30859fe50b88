"""Every GPU exists and stands in one legal set of placements, existing instances among them. Must not know workloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.fleet import Gpu
from partitioner.layout import NOBODY, Pattern, gpu_label
from partitioner.solver.verification.books import Books, Column, Flags, kept_of
from partitioner.solver.verification.claim import Claim


def modes_allowed(model: GpuModel, wanted: Sequence[str] | None) -> list[str]:
    """Return the modes of a GPU model that a plan may use, which names modes or families of modes."""
    if wanted is None:
        return list(model.modes)
    return [mode for mode in model.modes if any((mode + "-").startswith(family + "-") for family in wanted)]


def check_gpus(books: Books) -> Iterator[str]:
    """Yield what is wrong with the GPUs of the layout, and with the placements of each."""
    plan, layout = books.plan, books.plan.layout
    keys = layout.gpu_host.astype(np.int64) * (int(layout.gpu_index.max(initial=0)) + 1) + layout.gpu_index
    keys.sort()  # np.unique hashes, which takes fifty times as long
    if (keys[1:] == keys[:-1]).any():
        yield "a GPU stands twice in the layout"
    for pattern in layout.patterns:
        yield from _check_pattern(pattern)
    kept = np.zeros(len(layout), dtype=np.int64)
    if plan.fleet is None:
        yield from _check_pool(plan)
    else:
        gpus = {(host, index): gpu for host, index, gpu in plan.fleet}
        yield from _check_fleet(plan, gpus)
        keeping = {place: gpu for place, gpu in gpus.items() if gpu.instances}
        if keeping:
            yield from _check_kept(plan, keeping, kept)
    yield from _check_modes(plan, np.diff(layout.offsets) > kept)


def _check_pool(plan: Claim) -> Iterator[str]:
    """GPUs of one model without hosts."""
    layout = plan.layout
    if any(host is not None for host in layout.hosts):
        yield "the plan has no fleet, yet its layout names hosts"
    wrong = {p.model for p in layout.patterns} - {plan.gpu}
    if wrong:
        yield f"the layout has GPUs of {', '.join(sorted(map(str, wrong)))}; the plan is for {plan.gpu}"
    if plan.gpus is not None and len(layout) > plan.gpus:
        yield f"the layout has {len(layout)} GPUs; there are {plan.gpus}"


def _check_fleet(plan: Claim, gpus: dict[tuple[str, int], Gpu]) -> Iterator[str]:
    layout = plan.layout
    columns = (layout.gpu_host, layout.gpu_index, layout.gpu_pattern, layout.used)
    for row, index, number, used in zip(*(column.tolist() for column in columns), strict=True):
        host, pattern = layout.hosts[row], layout.patterns[number]
        known = gpus.get((host, index))
        if known is None:
            yield f"{gpu_label(host, index)} is not in the fleet"
        elif known.model != pattern.model:
            yield f"{gpu_label(host, index)} is a {known.model}, not a {pattern.model}"
        elif used and known.mode is not None and known.mode != pattern.mode:
            yield f"{gpu_label(host, index)} must stay in mode {known.mode}, not {pattern.mode}"


def _check_kept(plan: Claim, keeping: dict[tuple[str, int], Gpu], kept: Column) -> Iterator[str]:
    """Existing instances stay where they are and go to nobody; counts those found on each GPU into `kept`."""
    layout = plan.layout
    missing = dict(keeping)
    for row, (host, index) in enumerate(zip(layout.gpu_host.tolist(), layout.gpu_index.tolist(), strict=True)):
        gpu = missing.pop((layout.hosts[host], index), None)
        if gpu is None:
            continue
        pattern, first = layout.patterns[layout.gpu_pattern[row]], int(layout.offsets[row])
        who = f"{gpu_label(layout.hosts[host], index)} ({gpu.model})"
        places = {(p.profile.name, p.start): first + position for position, p in enumerate(pattern.placements)}
        for profile, start in kept_of(gpu):
            at = places.get((profile, start))
            if at is None:
                yield f"{who}: the existing instance {profile}@{start} must stay, but is not in the layout"
            elif layout.occupant[at] != NOBODY:
                yield f"{who}: the existing instance {profile}@{start} is busy, but {_occupant(plan, at)} stands on it"
            else:
                kept[row] += 1
    for (host_name, index), gpu in missing.items():
        yield f"{gpu_label(host_name, index)} ({gpu.model}) has existing instances, but is not in the layout"


def _occupant(plan: Claim, at: int) -> str:
    row = int(plan.layout.occupant[at])
    return f"workload {plan.layout.workloads[row]!r}" if row < len(plan.layout.workloads) else "somebody"


def _check_modes(plan: Claim, cut: Flags) -> Iterator[str]:
    """GPUs that the plan itself cuts are in modes that it may use."""
    for number in np.unique(plan.layout.gpu_pattern[cut]).tolist():
        pattern = plan.layout.patterns[number]
        model = catalog.gpu(pattern.model)
        for wanted in (plan.modes, plan.fleet.modes if plan.fleet is not None else None):
            if pattern.mode not in modes_allowed(model, wanted):
                yield f"{pattern.model}: mode {pattern.mode} is not one of those allowed ({', '.join(wanted or ())})"


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
