"""The smallest changes with which a workload fits beside all that is placed; each is verified by a solve.

Knows questions and fleets; must not know why something does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from partitioner import catalog
from partitioner.advice.fleets import models_of, richest, with_gpus, with_hosts
from partitioner.advice.limits import Relaxation
from partitioner.advice.whatif import Trials, change_workload
from partitioner.fleet import MAX_GPUS, Fleet, Host
from partitioner.geometry import Profile
from partitioner.report import counted
from partitioner.solver.inquiry import Inquiry, supply_of
from partitioner.solver.options import candidates, share
from partitioner.solver.supply import match_modes
from partitioner.workload import Workload

MOST_GPUS_MORE = 1024
"""Most GPUs more that are tried."""
_RATE_STEPS = 100
_LATENCY_FACTOR, _LATENCY_STEPS = 1.05, 28  # up to 3.9 times as long; beyond, throughput hardly grows
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change with which everything that is placed and the workload fit; verified by a solve.

    Parameters
    ----------
    kind : what is changed: ``time``, ``modes``, ``rule``, ``latency_ms``, ``profile``, ``memory_gib``, ``compute_slices``,
        ``gpu_share``, ``count``, ``rate``, ``gpus`` or ``hosts``.
    words : the change in words.
    change : how large it is: the share of what there was, 0.05 for 5% of a rate; a rule or mode given up counts 1.
    inquiry : the changed question; its workloads are those placed and the one that was left out.
    """

    kind: str
    words: str
    change: float
    inquiry: Inquiry = field(repr=False, compare=False)


def of_relaxations(found: Sequence[Relaxation]) -> Iterator[Remedy]:
    """Iterate over the remedies among single limits that were dropped, and with which everything fits."""
    for relaxation in found:
        if relaxation.remedy:
            kind = "modes" if relaxation.limit.name in ("modes", "mode") else "rule"
            yield Remedy(kind, relaxation.remedy, 1.0, relaxation.inquiry)


def one_mode_more(inquiry: Inquiry, trials: Trials) -> Iterator[Remedy]:
    """Iterate over the single modes that, allowed beside those of a plan, bring everything in."""
    if inquiry.modes is None:
        return
    models = map(catalog.gpu, _models(inquiry))
    for mode in dict.fromkeys(mode for model in models for mode in match_modes(inquiry.widest_modes, model)):
        changed = replace(inquiry, modes=(*inquiry.modes, mode))
        if mode not in inquiry.modes and trials.fits(changed, f"mode {mode}"):
            yield Remedy("modes", f"allow mode {mode}", 1.0, changed)
            return


def _models(inquiry: Inquiry) -> tuple[str, ...]:
    return models_of(inquiry.fleet) if inquiry.fleet is not None else (inquiry.gpu or "",)


# -- less ----------------------------------------------------------------------------------------------------------------


def less_of(inquiry: Inquiry, workload: Workload, placed: int, trials: Trials) -> Iterator[Remedy]:
    """Iterate over smaller demands: fewer replicas, a lower rate, a longer latency, a smaller profile or size."""
    if workload.model is not None:
        yield from _lower_rate(inquiry, workload, trials)
        yield from _longer_latency(inquiry, workload, trials)
    else:
        yield from _fewer_replicas(inquiry, workload, placed, trials)
        yield from _smaller_size(inquiry, workload, trials)
        yield from _smaller_profile(inquiry, workload, trials)


def _lower_rate(inquiry: Inquiry, workload: Workload, trials: Trials) -> Iterator[Remedy]:
    rate = workload.rate or 0.0
    rates = [_rounded(rate * step / _RATE_STEPS, math.floor) for step in range(1, _RATE_STEPS)]
    lower = _last(rates, lambda value: _fits(inquiry, trials, workload, f"rate {value:g}", rate=value))
    if lower is not None:
        changed = _changed(inquiry, workload, rate=lower)
        yield Remedy("rate", f"serve {lower:,g} requests/s instead of {rate:,g}", 1 - lower / rate, changed)


def _longer_latency(inquiry: Inquiry, workload: Workload, trials: Trials) -> Iterator[Remedy]:
    bound = workload.latency_ms
    if bound is None or not _fits(inquiry, trials, workload, "any latency", scenario="offline", latency_ms=None):
        return
    bounds = [_rounded(bound * _LATENCY_FACTOR**step, math.ceil) for step in range(_LATENCY_STEPS, 0, -1)]  # longest first
    longer = _last(bounds, lambda value: _fits(inquiry, trials, workload, f"latency {value:g} ms", latency_ms=value))
    if longer is not None:
        words = f"allow {longer:,g} ms instead of {bound:,g} ms"
        yield Remedy("latency_ms", words, longer / bound - 1, _changed(inquiry, workload, latency_ms=longer))


def _fewer_replicas(inquiry: Inquiry, workload: Workload, placed: int, trials: Trials) -> Iterator[Remedy]:
    counts = range(max(1, placed), workload.count)
    count = _last(counts, lambda n: _fits(inquiry, trials, workload, counted(n, "replica"), count=n))
    if count is not None:
        words = f"{counted(count, 'replica')} instead of {workload.count:,}"
        yield Remedy("count", words, 1 - count / workload.count, _changed(inquiry, workload, count=count))


def _smaller_size(inquiry: Inquiry, workload: Workload, trials: Trials) -> Iterator[Remedy]:
    """Iterate over the largest memory, compute and share that fit, of the sizes that profiles have."""
    every = [
        (catalog.gpu(kind.model), mode, profile)
        for kind in supply_of(inquiry).kinds
        for mode in kind.modes
        for profile in candidates(catalog.gpu(kind.model), mode, kind.kept)
    ]
    sizes: dict[str, tuple[str, set[float]]] = {
        "memory_gib": (" GiB", {profile.memory_mib / 1024 for _, _, profile in every}),
        "compute_slices": (" compute slices", {profile.compute_slices for _, _, profile in every}),
        "gpu_share": (" of a GPU", {share(profile, model, mode) for model, mode, profile in every}),
    }
    for name, (unit, values) in sizes.items():
        asked = getattr(workload, name)
        smaller = sorted(value for value in values if asked is not None and 0 < value < asked)
        size = _last(smaller, lambda value, name=name: _fits(inquiry, trials, workload, f"{name} {value:g}", **{name: value}))  # type: ignore[misc]
        if size is not None:
            words = f"ask for {size:g}{unit} instead of {asked:g}"
            yield Remedy(name, words, 1 - size / asked, _changed(inquiry, workload, **{name: size}))


def _smaller_profile(inquiry: Inquiry, workload: Workload, trials: Trials) -> Iterator[Remedy]:
    """Yield the largest profile of the same kind, smaller than the one asked for, that fits."""
    if workload.profile is None:
        return
    for profile, asked in _smaller_profiles(inquiry, workload.profile):
        if _fits(inquiry, trials, workload, f"profile {profile.name}", profile=profile.name):
            words = f"take {profile.name} instead of {workload.profile}"
            changed = _changed(inquiry, workload, profile=profile.name)
            yield Remedy("profile", words, 1 - profile.memory_mib / asked.memory_mib, changed)
            return


def _smaller_profiles(inquiry: Inquiry, spelling: str) -> list[tuple[Profile, Profile]]:
    """Return profiles smaller than one by name, the largest first, each with that one."""
    found: dict[str, tuple[Profile, Profile]] = {}
    for model in _models(inquiry):
        for mode, asked in catalog.gpu(model).find(spelling):
            for profile in catalog.gpu(model).geometry(mode).profiles:
                alike = (profile.family, profile.attributes) == (asked.family, asked.attributes)
                if alike and profile.memory_mib < asked.memory_mib and profile.compute_slices <= asked.compute_slices:
                    found.setdefault(profile.name, (profile, asked))
    return sorted(found.values(), key=lambda pair: (-pair[0].memory_mib, -pair[0].compute_slices, pair[0].name))


def _last(values: Sequence[_T], fits: Callable[[_T], bool | None]) -> _T | None:
    """Return the last of values, ordered from what fits best, that fits; None where none does, by bisection.

    What was tried and fitted is returned even where the time ran out before a larger one was settled.
    """
    low, high = 0, len(values)
    best: _T | None = None
    while low < high:
        # The first value first: where it does not fit, none does.
        middle = (low + high) // 2 if best is not None else low
        if fits(values[middle]):
            best, low = values[middle], middle + 1
        elif best is None:
            return None
        else:
            high = middle
    return best


def _fits(inquiry: Inquiry, trials: Trials, workload: Workload, words: str, **fields: object) -> bool | None:
    return trials.fits(_changed(inquiry, workload, **fields), words)


def _changed(inquiry: Inquiry, workload: Workload, **fields: object) -> Inquiry:
    return change_workload(inquiry, workload.name, lambda w: replace(w, **fields))  # type: ignore[arg-type]


def _rounded(value: float, towards: Callable[[float], int]) -> float:
    """Return a value to three digits, rounded down or up."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{towards(value / unit) * unit:.6g}")


# -- more ----------------------------------------------------------------------------------------------------------------


def more_gpus(inquiry: Inquiry, workload: Workload, trials: Trials) -> tuple[list[Remedy], bool | None]:
    """Return the fewest GPUs more of each model, and whether any number of them, up to a limit, makes room.

    Returns
    -------
    Remedies, and True, False, or None where that was not settled.
    """
    there = inquiry.gpus if inquiry.fleet is None else len(inquiry.fleet)
    if there is None:
        return [], False
    remedies, settled = [], True
    most = min(_most_gpus(workload), MAX_GPUS - there)
    for model in _models(inquiry):
        count, known = _fewest(most, lambda n, model=model: trials.fits(_with(inquiry, model, n), f"{n:,} {model} more"))  # type: ignore[misc]
        settled = settled and known
        if count is not None:
            where = f" on {richest(inquiry.fleet, model).name}" if inquiry.fleet is not None else ""
            words = f"add {count:,} {model}{where}" + ("" if known else " (fewer may do)")
            remedies.append(Remedy("gpus", words, count / there, _with(inquiry, model, count)))
    return remedies, True if remedies else None if not settled else False


def _with(inquiry: Inquiry, model: str, count: int) -> Inquiry:
    if inquiry.fleet is None:
        return replace(inquiry, gpus=(inquiry.gpus or 0) + count)
    return replace(inquiry, fleet=with_gpus(inquiry.fleet, model, count))


def _most_gpus(workload: Workload) -> int:
    """Return GPUs beyond which more of them are of no use, or `MOST_GPUS_MORE`."""
    return MOST_GPUS_MORE if workload.model is not None else min(MOST_GPUS_MORE, workload.count * workload.gpus_per_replica)


def _fewest(most: int, fits: Callable[[int], bool | None]) -> tuple[int | None, bool]:
    """Return the smallest number from 1 to `most` that fits, and whether it is known that there is no smaller one.

    Doubles until it fits, then bisects; what does not fit with many does not fit with fewer.
    """
    low, high, known = 0, 1, True
    while (found := fits(high)) is not True:
        known = known and found is False
        if high == most or found is None:
            return None, known
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        found = fits(middle)
        known = known and found is not None
        low, high = (low, middle) if found else (middle, high)
    return high, known


def more_hosts(inquiry: Inquiry, workload: Workload, trials: Trials) -> Iterator[Remedy]:
    """Iterate over the fewest hosts more like the smallest and like the largest one."""
    fleet = inquiry.fleet
    if fleet is None:
        return
    ordered = sorted(fleet.hosts, key=lambda host: (len(host.gpus), host.vcpus or 0, host.ram_gib or 0))
    for host in _different(ordered[0], ordered[-1]):
        most = min(_most_gpus(workload), (MAX_GPUS - len(fleet)) // len(host.gpus))
        count, known = _fewest(
            most,
            lambda n, host=host: trials.fits(_with_hosts(inquiry, fleet, host, n), f"{n:,} hosts like {host.name} more"),  # type: ignore[misc]
        )
        if count is not None:
            words = f"add {counted(count, 'host')} like {host.name} ({_gpus(host)})" + ("" if known else " (fewer may do)")
            yield Remedy("hosts", words, count * len(host.gpus) / len(fleet), _with_hosts(inquiry, fleet, host, count))


def _different(first: Host, second: Host) -> tuple[Host, ...]:
    return (first,) if replace(first, name=second.name) == second else (first, second)


def _with_hosts(inquiry: Inquiry, fleet: Fleet, host: Host, count: int) -> Inquiry:
    return replace(inquiry, fleet=with_hosts(fleet, host, count))


def _gpus(host: Host) -> str:
    counts: dict[str, int] = {}
    for gpu in host.gpus:
        counts[gpu.model] = counts.get(gpu.model, 0) + 1
    return ", ".join(f"{count} x {model}" for model, count in counts.items())
