"""What one GPU can hold, as the solvers count it: shapes, maximal configurations, and prices that bound the GPUs needed.

Profiles that are interchangeable in placement (``T4-4Q`` and ``T4-4A``) are one *shape*. A *configuration* here is a
vector of counts of shapes. *Prices* are vectors with which no configuration costs more than one GPU: the demand's total
price, rounded up, is a lower bound on the GPUs, and the best such bound is that of the configuration LP (Gilmore and
Gomory 1961). This module must not know workloads, fleets or solvers of integer programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd

import numpy as np

from partitioner import catalog
from partitioner.geometry import Geometry, Profile

Vector = tuple[int, ...]

MAX_RAYS = 4000
"""Give up listing all prices of a geometry beyond this many rays; then only a linear program prices a demand."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Profiles of one geometry that are interchangeable in every placement; the first stands for all."""

    profiles: tuple[Profile, ...]

    @property
    def name(self) -> str:
        """Name of the profile that stands for all."""
        return self.profiles[0].name


Kept = tuple[tuple[str, int], ...]
"""Existing instances of a GPU that stay, as (profile, start)."""


@lru_cache(maxsize=1024)
def free_geometry(model: str, mode: str, kept: Kept = ()) -> Geometry:
    """Return what a GPU offers beside existing instances: fewer starts, lower maxima and totals; the geometry without any.

    Profiles that no longer fit are not in it.
    """
    geometry = catalog.gpu(model).geometry(mode)
    if not kept:
        return geometry
    staying = [(geometry.profile(name), start) for name, start in kept]
    occupied = {unit for profile, start in staying for unit in range(start, start + profile.extent)}
    families = {profile.family for profile, _ in staying}
    profiles = []
    for profile in geometry.profiles:
        starts = tuple(s for s in profile.starts if not occupied & set(range(s, s + profile.extent)))
        left = profile.max_count - sum(name == profile.name for name, _ in kept)
        if starts and left > 0 and (not geometry.exclusive or profile.family in families):
            profiles.append(replace(profile, starts=starts, max_count=left))
    used: dict[str, int] = {}
    for profile, _ in staying:
        for resource, amount in profile.uses:
            used[resource] = used.get(resource, 0) + amount
    totals = tuple((resource, amount - used.get(resource, 0)) for resource, amount in geometry.totals)
    return Geometry(geometry.mode, geometry.units, tuple(profiles), totals, geometry.exclusive)


@lru_cache(maxsize=1024)
def shapes(model: str, mode: str, kept: Kept = ()) -> tuple[Shape, ...]:
    """Return the shapes of what a GPU offers in a mode beside existing instances, in the geometry's order.

    Profiles are interchangeable when they have the same starts, extent, uses and family, and neither is limited in
    number beyond what space limits.
    """
    geometry = free_geometry(model, mode, kept)
    found: dict[object, list[Profile]] = {}
    for profile in geometry.profiles:
        limited = profile.max_count < packed_alone(profile)
        family = profile.family if geometry.exclusive else ""
        key = profile.name if limited else (profile.starts, profile.extent, profile.uses, family)
        found.setdefault(key, []).append(profile)
    return tuple(Shape(tuple(profiles)) for profiles in found.values())


def packed_alone(profile: Profile) -> int:
    """Return how many placements of one profile fit side by side, its maximum count aside."""
    count, free_from = 0, 0
    for start in profile.starts:
        if start >= free_from:
            count, free_from = count + 1, start + profile.extent
    return count


def dominates(geometry: Geometry, small: Profile, large: Profile) -> bool:
    """Whether a placement of `large` can always be replaced by one of `small`, whatever else is on the GPU."""
    nested = all(any(start <= s and s + small.extent <= start + large.extent for s in small.starts) for start in large.starts)
    uses = dict(large.uses)
    lighter = all(amount <= uses.get(resource, 0) for resource, amount in small.uses)
    same_family = not geometry.exclusive or small.family == large.family
    return nested and lighter and same_family and small.max_count >= packed_alone(small)


@lru_cache(maxsize=65536)
def replaces(model: str, mode: str, kept: Kept, small: str, large: str) -> bool:
    """Whether profile `small` can always stand in for `large` on a GPU; `dominates` by name, remembered."""
    geometry = free_geometry(model, mode, kept)
    return dominates(geometry, geometry.profile(small), geometry.profile(large))


@lru_cache(maxsize=1024)
def maximal_configurations(model: str, mode: str, names: tuple[str, ...], kept: Kept = ()) -> tuple[Vector, ...]:
    """Return the maximal configurations of the named profiles beside existing instances, as counts in the order of `names`.

    Notes
    -----
    28 for the six profiles without attributes of an 8-slice GPU.
    """
    geometry = free_geometry(model, mode, kept).subset(names)
    if geometry.units > _ENUMERATED_UNITS and not geometry.totals:
        return _maximal_by_dominance(geometry, names)
    found = {tuple(c.get(name, 0) for name in names) for c in geometry.configurations(maximal=True)}
    return tuple(sorted(found, reverse=True))


_ENUMERATED_UNITS = 12  # up to here all configurations are few; beyond, only maximal ones are kept on the way


def _maximal_by_dominance(geometry: Geometry, names: Sequence[str]) -> tuple[Vector, ...]:
    """List maximal configurations where listing all is too much.

    As in `Geometry.configurations`, what units u.. can hold follows from later units; dominated counts are dropped on
    the way. That is safe because a geometry this large limits counts by space and by maxima only: cutting the larger
    of two vectors down to what a maximum leaves gives a vector that still dominates the smaller one.
    """
    families: dict[str, list[str]] = {}
    for name in names:
        profile = geometry.profile(name)
        families.setdefault(profile.family if geometry.exclusive else "", []).append(name)
    result: list[Vector] = []  # vectors of different families never dominate each other
    for members in families.values():
        steps = [1 << (_BITS * i) for i in range(len(members))]  # a vector is one number, so many bits a count
        profiles = [(step, geometry.profile(name)) for step, name in zip(steps, members, strict=True)]
        reachable: list[set[int]] = [set() for _ in range(geometry.units)] + [{0}]
        for position in range(geometry.units - 1, -1, -1):
            here = set(reachable[position + 1])
            for step, profile in profiles:
                if position in profile.starts:
                    most = profile.max_count * step
                    mask = _MOST * step
                    here |= {counts + step for counts in reachable[position + profile.extent] if counts & mask < most}
            # A vector that another exceeds by one in one place goes; all others that are dominated go one step later.
            reachable[position] = {counts for counts in here if not any(counts + step in here for step in steps)}
        found = {tuple(counts >> (_BITS * i) & _MOST for i in range(len(members))) for counts in reachable[0]}
        at = [members.index(name) if name in members else -1 for name in names]
        result += [tuple(vector[i] if i >= 0 else 0 for i in at) for vector in _maximal(found)]
    return tuple(sorted(result, reverse=True))


_BITS = 16  # for a count; none of a GPU comes near
_MOST = (1 << _BITS) - 1


def _maximal(vectors: set[Vector]) -> list[Vector]:
    """Keep the vectors that no other is at least as large as everywhere.

    Vectors are compared as numbers with a guard bit above every count: where subtracting borrows none, nothing is smaller.
    """
    ordered = sorted(vectors, key=lambda vector: (-sum(vector), vector))  # only those with a larger sum can dominate
    if not ordered or len(ordered[0]) * _PACKED > 64 or max(map(max, ordered)) >= 1 << (_PACKED - 1):
        return _maximal_of_any(ordered)
    shifts = np.arange(len(ordered[0]), dtype=np.uint64) * np.uint64(_PACKED)
    packed = (np.array(ordered, dtype=np.uint64) << shifts).sum(axis=1, dtype=np.uint64)
    guard = (np.uint64(1 << (_PACKED - 1)) << shifts).sum(dtype=np.uint64)
    kept = np.empty(len(ordered), dtype=np.uint64)
    result: list[Vector] = []
    for vector, number in zip(ordered, packed, strict=True):
        if not (((kept[: len(result)] | guard) - number) & guard == guard).any():
            kept[len(result)] = number
            result.append(vector)
    return result


_PACKED = 7  # bits for a count and its guard


def _maximal_of_any(ordered: list[Vector]) -> list[Vector]:
    table = np.array(ordered, dtype=np.int32)
    kept = np.ones(len(table), dtype=bool)
    for row in range(1, len(table)):
        kept[row] = not (table[:row][kept[:row]] >= table[row]).all(axis=1).any()
    return [tuple(row) for row in table[kept].tolist()]


@dataclass(frozen=True, slots=True)
class Prices:
    """A price for each entry of a configuration, as integers over one denominator.

    No configuration costs more than 1, so ``ceil(price of the demand)`` GPUs are needed at least.
    """

    numerators: Vector
    denominator: int

    def bound(self, demand: Sequence[int]) -> int:
        """Return the number of GPUs that a demand needs at least; `demand` has the order of the prices."""
        return -(-sum(n * d for n, d in zip(self.numerators, demand, strict=True)) // self.denominator)


@lru_cache(maxsize=1024)
def all_prices(configurations: tuple[Vector, ...]) -> tuple[Prices, ...] | None:
    """Return all undominated extreme prices of a set of configurations, or None where they are too many.

    Parameters
    ----------
    configurations : maximal configurations, all of the same length n.

    Returns
    -------
    The undominated vertices of ``{v >= 0: c . v <= 1 for every configuration c}``. The configuration LP's value is
    the largest of their bounds, so "demand d fits on g GPUs" needs ``v . d <= g`` for each, without placement
    variables.

    Notes
    -----
    Double description method (Motzkin et al. 1953) on the homogenised cone in exact integers. An A100's six profiles
    have four undominated prices: ``(1,1,2,3,4,7)/7, (1,2,2,4,4,8)/8, (0,0,1,1,2,3)/3, (0,0,0,0,1,1)``.
    """
    n = len(configurations[0])
    every = frozenset(range(n + 1))
    unit = [tuple(int(i == j) for j in range(n + 1)) for i in range(n + 1)]
    rays: list[tuple[Vector, frozenset[int]]] = [(unit[i], every - {i}) for i in range(n + 1)]
    for number, configuration in enumerate(configurations, n + 1):
        rays = _cut(rays, (*(-count for count in configuration), 1), number, n)
        if len(rays) > MAX_RAYS:
            return None
    vertices = [ray for ray, _ in rays if ray[-1]]
    kept = [v for v in vertices if any(v[:-1]) and not any(_below(v, other) for other in vertices)]
    return tuple(Prices(v[:-1], v[-1]) for v in sorted(kept))


def _cut(rays: list[tuple[Vector, frozenset[int]]], row: Vector, number: int, n: int) -> list[tuple[Vector, frozenset[int]]]:
    """Intersect a cone, given by its rays and the constraints tight at each, with ``row . x >= 0``."""
    signed = [(ray, tight, sum(a * b for a, b in zip(row, ray, strict=True))) for ray, tight in rays]
    result = [(ray, tight | {number} if value == 0 else tight) for ray, tight, value in signed if value >= 0]
    tights = [tight for _, tight in rays]
    for inside, tight_in, value_in in signed:
        if value_in <= 0:
            continue
        for outside, tight_out, value_out in signed:
            if value_out >= 0:
                continue
            common = tight_in & tight_out
            if len(common) < n - 1 or sum(common <= tight for tight in tights) > 2:
                continue  # not adjacent: their combination is no ray
            crossing = tuple(value_in * b - value_out * a for a, b in zip(inside, outside, strict=True))
            divisor = gcd(*crossing)
            result.append((tuple(x // divisor for x in crossing), common | {number}))
    return result


def _below(a: Vector, b: Vector) -> bool:
    """Whether price vector `a` (last entry: denominator) is nowhere above `b` and different from it."""
    return a != b and all(x * b[-1] <= y * a[-1] for x, y in zip(a[:-1], b[:-1], strict=True))


def peel(configurations: Sequence[Vector], prices: Sequence[Prices], demand: Sequence[int]) -> list[tuple[int, Vector]] | None:
    """Cover a demand with as few GPUs as its bound says, or return None where that does not succeed.

    Parameters
    ----------
    configurations : maximal configurations.
    prices : all prices of these configurations.
    demand : counts to cover.

    Returns
    -------
    (number of GPUs, configuration) pairs that cover the demand; the numbers add up to the best bound of `prices`.

    Notes
    -----
    Takes configurations one after another, each as often as every GPU taken lowers the bound by one. Where every
    demand meets its bound (integer round-up, which holds for all catalogued MIG geometries tested) some configuration
    always does. The number of steps does not depend on the size of the demand.
    """
    left, taken = list(demand), []
    gpus = max(price.bound(left) for price in prices)
    while gpus > 0:
        best, best_configuration = 0, None
        for configuration in configurations:
            times = _times(configuration, prices, left, gpus)
            if times > best:
                best, best_configuration = times, configuration
                if best == gpus:
                    break
        if best_configuration is None:
            return None
        taken.append((best, best_configuration))
        left = [max(0, d - best * c) for d, c in zip(left, best_configuration, strict=True)]
        gpus = max(price.bound(left) for price in prices)
    return taken


def _times(configuration: Vector, prices: Sequence[Prices], demand: Sequence[int], gpus: int) -> int:
    """Return the largest t for which t GPUs of a configuration lower the bound of the demand, `gpus`, by t."""

    def lowers(times: int) -> bool:
        rest = [max(0, d - times * c) for d, c in zip(demand, configuration, strict=True)]
        return all(price.bound(rest) <= gpus - times for price in prices)

    # As long as every GPU is filled, each price gives a linear inequality in t; only beyond is there something to try.
    filled = min(d // c for d, c in zip(demand, configuration, strict=True) if c)
    low = min(filled, gpus)
    for price in prices:
        cost = sum(n * c for n, c in zip(price.numerators, configuration, strict=True))
        if cost < price.denominator:
            total = sum(n * d for n, d in zip(price.numerators, demand, strict=True))
            low = min(low, (price.denominator * gpus - total) // (price.denominator - cost))
    if low < filled or low == gpus or not lowers(low + 1):
        return low
    low, step = low + 1, 1
    while low + step <= gpus and lowers(low + step):
        low, step = low + step, step * 2
    high = min(low + step, gpus + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lowers(middle) else (low, middle)
    return low
