"""Exact prices prove the bound on the GPUs: no configuration costs more than 1 + rent, and what is placed costs the bound.

A service counts its throughput in whole units, rounded down, and its rate in units rounded up; the bound is that of this
count, which loses less than 0.01%. Must not know how prices were found.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import lcm

import numpy as np

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.geometry import Geometry, Profile
from partitioner.solver.verification.books import Books, Kind, Terms
from partitioner.solver.verification.claim import Claim, KindKey
from partitioner.solver.verification.gpus import modes_allowed
from partitioner.solver.verification.replicas import satisfies

_SEARCHES = ("branch and bound", "contents", "identity")
"""Words of certificates whose bound rests on a search, at least in one part of the fleet."""
_Offer = tuple[Fraction, bool, str, str]
"""Price, whether demands by size may take it, mode, profile."""
_DIGITS = 4  # of the slowest option of a service that its units keep


def check_bound(books: Books) -> Iterator[str]:
    """Yield why the prices do not prove the bound on the GPUs, where it is prices that have to."""
    plan = books.plan
    if not _priced(books):
        return
    available = _available(plan)
    for key, rent in plan.rents.items():
        if rent < 0 or (rent and available.get(key) is None):
            yield f"{key[0]}: a rent of {rent} proves nothing"
    for key in available:
        for mode in _modes_of(key, plan.modes):
            geometry = catalog.gpu(key[0]).geometry(mode)
            prices = {name: price for (kind, m, name), price in plan.prices.items() if kind == key and m == mode and price}
            highest = _dearest(geometry, prices)
            if highest > 1 + plan.rents.get(key, 0):
                yield f"{key[0]} in mode {mode}: a configuration costs {highest}, more than 1 + {plan.rents.get(key, 0)}"
    stage = next(stage for stage in plan.objectives if stage.name == "gpus")
    if not any(word in plan.certificate for word in _SEARCHES):
        proven = _proven(books, available)
        if proven < stage.bound:
            yield f"the prices prove {proven} GPUs, not {stage.bound}"


def _priced(books: Books) -> bool:
    """Whether the bound on the GPUs is one that prices can prove.

    It is one on the GPUs that what is placed needs at all: GPUs come first, and no GPU differs from others of its model
    by who may stand on it or by what stands there already.
    """
    plan = books.plan
    stages = [name for name in plan.objective if name != "placed"]
    if stages[:1] != ["gpus"] or plan.pinned or plan.vacate or books.having("only_on", "never_on", "tenant").any():
        return False
    gpus = {gpu for host in plan.fleet.hosts for gpu in set(host.gpus)} if plan.fleet is not None else set()
    if any(gpu.instances for gpu in gpus):
        return False
    alike = len({(gpu.model, gpu.mode) for gpu in gpus}) == len(gpus)  # prices name GPUs by model and mode alone
    return alike or bool(plan.prices)


def _available(plan: Claim) -> dict[KindKey, int | None]:
    if plan.fleet is None:
        return {(plan.gpu or "", None): plan.gpus}
    found: dict[KindKey, int | None] = {}
    for host in plan.fleet.hosts:
        for gpu in host.gpus:
            found[gpu.model, gpu.mode] = (found.get((gpu.model, gpu.mode)) or 0) + 1
    return found


def _modes_of(key: KindKey, wanted: Sequence[str] | None) -> list[str]:
    return [mode for mode in modes_allowed(catalog.gpu(key[0]), wanted) if key[1] in (None, mode)]


def _proven(books: Books, available: Mapping[KindKey, int | None]) -> int:
    """Return the bound on the GPUs that the prices give for what is placed.

    It may be rounded up for each set of kinds by itself that no demand connects with others.
    """
    rents = books.plan.rents
    sets = [({key}, -rents.get(key, Fraction(0)) * (available[key] or 0)) for key in available]
    for offers, amount in _priced_demand(books, available):
        touched = [entry for entry in sets if entry[0] & offers.keys()]
        joined = set().union(*(keys for keys, _ in touched))
        value = sum((v for _, v in touched), Fraction(0)) + amount * min(offers.values())
        sets = [entry for entry in sets if entry not in touched] + [(joined, value)]
    return sum(max(0, -(-value.numerator // value.denominator)) for _, value in sets)


def _priced_demand(books: Books, available: Mapping[KindKey, int | None]) -> Iterator[tuple[dict[KindKey, Fraction], int]]:
    """Iterate over (the lowest price of a unit on each kind of GPU, units placed): units are placements or throughput."""
    plain = ~books.services[books.workload]
    placements = np.bincount(books.terms_of[books.workload[plain]], minlength=len(books.terms)).tolist()
    memories = _memories(available)
    alike: dict[tuple[object, ...], tuple[Terms, int]] = {}
    for terms, count in zip(books.terms, placements, strict=True):
        if count:
            memory = None if terms.memory_gib is None else bisect_left(memories, terms.memory_gib * 1024 - 1e-6)
            key = (terms.profile, memory, terms.compute_slices, terms.gpu_share, terms.isolation)
            alike[key] = terms, count + (alike[key][1] if key in alike else 0)
    offered = _everything_offered(books.plan, available)
    for terms, count in alike.values():
        yield _offers(offered, terms), count
    for row in np.flatnonzero(books.services & (books.standing > 0)).tolist():
        yield _service(books, row, available)


def _memories(available: Mapping[KindKey, int | None]) -> list[int]:
    """Return the memory of all profiles [MiB], ascending; demands between the same two of them have the same offers."""
    return sorted({p.memory_mib for model, _ in available for g in catalog.gpu(model).geometries for p in g.profiles})


def _everything_offered(plan: Claim, available: Mapping[KindKey, int | None]) -> dict[KindKey, list[_Offer]]:
    """Return what each kind of GPU offers, cheapest first."""
    found: dict[KindKey, list[_Offer]] = {}
    for key in available:
        model = catalog.gpu(key[0])
        found[key] = sorted(
            (plan.prices.get((key, mode, profile.name), Fraction(0)), _by_size(model, mode, profile), mode, profile.name)
            for mode in _modes_of(key, plan.modes)
            for profile in model.geometry(mode).profiles
        )
    return found


def _offers(offered: Mapping[KindKey, Sequence[_Offer]], terms: Terms) -> dict[KindKey, Fraction]:
    """Return, for each kind of GPU that can satisfy a demand, the price of the cheapest profile that does."""
    cheapest: dict[KindKey, Fraction] = {}
    for key, offers in offered.items():
        for price, by_size, mode, profile in offers:
            if (by_size or terms.profile is not None) and satisfies(terms, Kind(key[0], mode, profile)):
                cheapest[key] = price
                break
    return cheapest


def _by_size(model: GpuModel, mode: str, profile: Profile) -> bool:
    """Demands by size take plain MIG profiles (or +gfx where there are no plain ones) and vGPU series that run CUDA."""
    if mode == "whole":
        return True
    if mode == "mig":
        plain = any(not p.attributes for p in model.geometry(mode).profiles)
        return profile.attributes == (() if plain else ("gfx",))
    return profile.name.rstrip("0123456789")[-1] in "CQ"


def _service(books: Books, row: int, available: Mapping[KindKey, int | None]) -> tuple[dict[KindKey, Fraction], int]:
    """Return the lowest price of a unit of throughput on each kind of GPU, over all rated options, and the units needed."""
    plan, workload = books.plan, books.plan.workloads[row]
    rated = {
        (model, mode, profile): rating.throughput_rps
        for (name, model, mode, profile), rating in plan.ratings.items()
        if name == workload.name
    }
    units = 10 ** max(0, math.ceil(_DIGITS - math.log10(min(rated.values()))))
    cheapest: dict[KindKey, Fraction] = {}
    for key in available:
        modes = _modes_of(key, plan.modes)
        for (model, mode, profile), throughput in rated.items():
            if model == key[0] and mode in modes:
                price = plan.prices.get((key, mode, profile), Fraction(0)) / math.floor(throughput * units)
                cheapest[key] = min(price, cheapest.get(key, price))
    return cheapest, math.ceil((workload.rate or 0) * units)


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
