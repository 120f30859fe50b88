"""Every replica is placed once or reported, on what satisfies its demand; a service reaches its rate or is left out.

Must not know rules between workloads, hosts' limits or bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.geometry import Profile
from partitioner.solver.verification.books import MOST_FINDINGS, Books, Kind, Terms, tally
from partitioner.solver.verification.claim import Rated
from partitioner.workload import Workload

RATE_TOLERANCE = 1e-9
"""Relative shortfall of a sum of throughputs that is taken for rounding."""
_HARDWARE = ("mig", "whole")


def satisfies(terms: Terms, kind: Kind) -> bool:
    """Whether a placement satisfies what a workload asks of its profile and mode; of services, what narrows the choice."""
    model = catalog.gpu(kind.model)
    if terms.isolation == "hardware" and kind.mode not in _HARDWARE:
        return False
    profile = model.geometry(kind.mode).profile(kind.profile)
    if terms.profile is not None and not any(m == kind.mode and p.name == kind.profile for m, p in model.find(terms.profile)):
        return False
    return _large_enough(terms, model, kind.mode, profile)


def _large_enough(terms: Terms, model: GpuModel, mode: str, profile: Profile) -> bool:
    if terms.memory_gib is not None and profile.memory_mib < terms.memory_gib * 1024 - 1e-6:
        return False
    if terms.compute_slices is not None and profile.compute_slices < terms.compute_slices:
        return False
    if terms.gpu_share is not None and mode != "whole":
        if mode == "mig":
            memory, compute = profile.extent / model.memory_slices, profile.compute_slices / model.compute_slices
        else:
            memory, compute = round(profile.memory_mib / 1024) / max(1, model.record.memory_gib), 1.0
        return min(memory, compute) >= terms.gpu_share - 1e-6
    return True


# -- replicas ----------------------------------------------------------------------------------------------------------


def check_replicas(books: Books) -> Iterator[str]:
    """Yield replicas that are not there as often as they should be, and reports of left-out ones that are wrong.

    Services have as many instances as they like, numbered from 0 without gaps.
    """
    numbered = np.where(books.services, books.standing, books.counts)
    beyond = np.flatnonzero((books.replica < 0) | (books.replica >= numbered[books.workload]))
    for at in beyond[:MOST_FINDINGS].tolist():
        row, what = books.workload[at], "instance" if books.services[books.workload[at]] else "replica"
        yield (
            f"workload {books.names[row]!r}: {what} {books.replica[at]} was not asked for;"
            f" they are numbered from 0 to {numbered[row] - 1}"
        )
    if len(beyond):
        return
    first = np.concatenate(([0], np.cumsum(numbered)))
    times = np.bincount(first[books.workload] + books.replica, minlength=int(first[-1]))
    wanted = np.repeat(books.gpus_per_replica, numbered)
    for key in np.flatnonzero((times != wanted) & (times > 0))[:MOST_FINDINGS].tolist():
        row = int(np.searchsorted(first, key, side="right")) - 1
        yield (f"workload {books.names[row]!r}: replica {key - first[row]} stands on {times[key]} placements, not {wanted[key]}")
    yield from _check_left_out(books)


def _check_left_out(books: Books) -> Iterator[str]:
    left = books.counts - books.placed
    claimed = np.zeros(len(books.counts), dtype=np.int64)
    for entry in books.plan.unplaced:
        if entry.workload in books.rows:
            claimed[books.rows[entry.workload]] += entry.count
        else:
            yield f"workload {entry.workload!r} is reported as left out, but was not asked for"
    for row in np.flatnonzero(left != claimed)[:MOST_FINDINGS].tolist():
        yield f"workload {books.names[row]!r}: {left[row]} replicas are not placed, {claimed[row]} are reported"


def check_demands(books: Books) -> Iterator[str]:
    """Yield placements that do not satisfy their occupant; each pair of terms and kind is looked at once."""
    kinds = max(1, len(books.kinds))
    pairs, _ = tally(books.terms_of[books.workload] * kinds + books.kind)
    for pair in pairs.tolist():
        terms, kind = books.terms[pair // kinds], books.kinds[pair % kinds]
        if not satisfies(terms, kind):
            found = np.flatnonzero((books.terms_of[books.workload] == pair // kinds) & (books.kind == pair % kinds))
            name = books.names[books.workload[found[0]]]
            yield f"workload {name!r}: {kind.profile} on {kind.model} in mode {kind.mode} does not satisfy {terms.size}"


# -- services ----------------------------------------------------------------------------------------------------------


def check_ratings(books: Books) -> Iterator[str]:
    """Yield ratings that are not of a service or no figure."""
    for (name, model, mode, profile), rating in books.plan.ratings.items():
        if name not in books.rows or not books.services[books.rows[name]]:
            yield f"workload {name!r} has a rating, but is no service of this plan"
        elif not (math.isfinite(rating.throughput_rps) and rating.throughput_rps > 0):
            yield f"workload {name!r}: the rating on {profile} of {model} in mode {mode} is {rating.throughput_rps} requests/s"


def check_services(books: Books) -> Iterator[str]:
    """Yield services with instances that do not keep their latency, or that do not reach their rate together."""
    if not books.services.any():
        return
    for row, instances in instances_of(books).items():
        workload = books.plan.workloads[row]
        bad = [finding for kind in instances for finding in unfit(books, workload, kind)]
        yield from bad
        if not bad:
            reached = throughput(books, workload.name, instances)
            if falls_short(reached, workload):
                yield f"workload {workload.name!r}: its instances serve {reached:g} requests/s; the rate is {workload.rate:g}"


def instances_of(books: Books) -> dict[int, dict[Kind, int]]:
    """Return, for each service that has instances, how many of each kind."""
    mine = books.services[books.workload]
    kinds = max(1, len(books.kinds))
    keys, counts = tally(books.workload[mine] * kinds + books.kind[mine])
    found: dict[int, dict[Kind, int]] = {}
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        found.setdefault(key // kinds, {})[books.kinds[key % kinds]] = count
    return found


def unfit(books: Books, workload: Workload, kind: Kind) -> Iterator[str]:
    """Yield why a service may not have an instance of a kind."""
    rating = rating_of(books, workload.name, kind)
    who = f"workload {workload.name!r} on {kind.profile} of {kind.model} in mode {kind.mode}"
    if rating is None:
        yield f"{who}: the plan has no rating for it"
        return
    limits = (
        ("latency_ms", rating.latency_ms, workload.latency_ms),
        ("batch", rating.batch, workload.max_batch),
        ("processes", rating.processes, workload.max_processes),
    )
    for what, value, limit in limits:
        if value is not None and limit is not None and not value <= limit:
            yield f"{who}: {what} is {value:g}; the limit is {limit:g}"


def rating_of(books: Books, name: str, kind: Kind) -> Rated | None:
    """Return the rating of a service on a kind of placement, if the plan has one."""
    return books.plan.ratings.get((name, kind.model, kind.mode, kind.profile))


def throughput(books: Books, name: str, instances: Mapping[Kind, int]) -> float:
    """Return what rated instances of a service serve together [1/s]."""
    rated = ((rating_of(books, name, kind), count) for kind, count in instances.items())
    return math.fsum(count * rating.throughput_rps for rating, count in rated if rating is not None)


def falls_short(reached: float, workload: Workload) -> bool:
    """Whether a throughput is below the rate of a service by more than rounding."""
    return not reached >= (workload.rate or 0) * (1 - RATE_TOLERANCE)
