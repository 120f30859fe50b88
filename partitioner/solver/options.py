"""What a workload may take: the profiles that satisfy it, less those that are never better than another one.

Demands by profile may take that profile alone; demands by size every profile that is large enough; services every profile
on which the calibration says that the model meets its latency. This module must not know engines or placements.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import SpecError, did_you_mean
from partitioner.geometry import Geometry, Profile
from partitioner.performance import Calibration, Rating
from partitioner.solver.configurations import Kept, free_geometry, replaces
from partitioner.solver.problem import Kind
from partitioner.solver.supply import Supply, match_modes
from partitioner.workload import MAX_COUNT, Workload

SIZED_SERIES = ("C", "Q")
"""vGPU series that demands by size may take: those that run CUDA; C first. B and A only when asked for by name."""
HARDWARE_MODES = ("mig", "whole")
"""Modes in which what runs on one part of a GPU cannot slow down what runs on another."""

SCENARIOS = ("server", "batch", "offline")

Option = tuple[int, str, Profile]
"""Kind of GPU, mode, profile."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a workload may take.

    Parameters
    ----------
    kept : options worth having.
    replaced : options left out, each with the kept one that is never worse; None where any use of the whole GPU is.
    ratings : of services, what the calibration says of each option, kept or not.
    """

    kept: tuple[Option, ...]
    replaced: tuple[tuple[Option, Option | None], ...] = ()
    ratings: Mapping[Option, Rating] = field(default_factory=dict)


def options_of(workload: Workload, supply: Supply, calibration: Calibration | None, *, every: bool = False) -> Options:
    """Return what a workload may take; `every` keeps options that another is never worse than.

    Raises
    ------
    SpecError
        The profile is on no GPU of the supply in the modes allowed; the model is not calibrated on any of them, or
        cannot meet its latency.
    """
    every = every or workload.gpus_per_replica > 1  # GPUs of different kinds have to agree on one profile
    if workload.model is not None:
        assert calibration is not None
        return _rated(workload, supply, calibration, every=every)
    if workload.profile is not None:
        return Options(tuple(_allowed(workload, supply, _named(workload.profile, supply))))
    found = _allowed(workload, supply, _large_enough(workload, supply))
    return Options(tuple(found)) if every else _undominated(found, supply)


def _allowed(workload: Workload, supply: Supply, options: list[Option]) -> list[Option]:
    """Drop options that do not isolate as the workload wants, or stand where it may not be."""
    if workload.isolation == "hardware":
        options = [option for option in options if option[1] in HARDWARE_MODES]
    if workload.only_on or workload.never_on:
        allowed = [may_use(workload, kind.places) for kind in supply.kinds]
        options = [option for option in options if allowed[option[0]]]
    return options


def may_use(workload: Workload, places: Collection[str]) -> bool:
    """Whether the pins and exclusions of a workload allow GPUs that are, or stand in, these places."""
    there = set(places)
    return (not workload.only_on or not there.isdisjoint(workload.only_on)) and there.isdisjoint(workload.never_on)


def _large_enough(workload: Workload, supply: Supply) -> list[Option]:
    """Return every plain profile that is large enough for a demand by size, on every kind of GPU."""
    return [
        (number, mode, profile)
        for number, kind in enumerate(supply.kinds)
        for mode, profile in large_enough(workload, catalog.gpu(kind.model), kind.modes, kind.kept)
    ]


def large_enough(workload: Workload, model: GpuModel, modes: Iterable[str], kept: Kept = ()) -> list[tuple[str, Profile]]:
    """Return (mode, profile) of everything on a GPU in some of its modes, beside existing instances, that is large enough."""
    return [
        (mode, profile)
        for mode in modes
        for profile in candidates(model, mode, kept)
        if profile.memory_mib >= (workload.memory_gib or 0) * 1024 - _EPSILON
        and profile.compute_slices >= (workload.compute_slices or 0)
        and share(profile, model, mode) >= (workload.gpu_share or 0) - _EPSILON
    ]


_EPSILON = 1e-9


# -- services ----------------------------------------------------------------------------------------------------------


def _rated(workload: Workload, supply: Supply, calibration: Calibration, *, every: bool) -> Options:
    """Return the profiles on which a model meets its latency, with what one instance serves there."""
    assert workload.model is not None
    possible = _named(workload.profile, supply) if workload.profile else _large_enough(workload, supply)
    possible = _allowed(workload, supply, possible)
    model = calibration.model(workload.model)
    known = [o for o in possible if calibration.knows(model, supply.kinds[o[0]].model, o[2].name, scenario=workload.scenario)]
    if not known:
        _check_scenario(workload, model, possible, supply, calibration)
        there = _models(supply)
        raise SpecError(
            f"model {model!r} is calibrated on {', '.join(calibration.gpus(model))}, on no profile that {there} may offer here;"
            " measure it and give the points as calibration"
        )
    best: dict[tuple[str, str], Rating | None] = {}
    ratings: dict[Option, Rating] = {}
    for option in known:
        place = (supply.kinds[option[0]].model, option[2].name)
        if place not in best:
            best[place] = calibration.best(
                model,
                *place,
                latency_ms=workload.latency_ms,
                scenario=workload.scenario,
                max_batch=workload.max_batch,
                max_processes=workload.max_processes,
            )
        rating = best[place]
        if rating is not None and rating.throughput_rps > 0:
            ratings[option] = rating
    if ratings and workload.rate is not None:
        most = max(rating.throughput_rps for rating in ratings.values())
        if workload.rate > MAX_COUNT * most:
            raise SpecError(
                f"rate {workload.rate:g} needs {workload.rate / most:,.0f} instances of {model!r} or more;"
                f" at most {MAX_COUNT:,} are planned at a time"
            )
    if not ratings:
        _raise_too_slow(workload, model, known, supply, calibration)
    return Options(tuple(ratings), (), ratings) if every else _undominated(list(ratings), supply, ratings)


def _check_scenario(workload: Workload, model: str, possible: Sequence[Option], supply: Supply, calibration: Calibration) -> None:
    """Refuse a scenario in which nothing was measured here, where another one was."""
    places = {(supply.kinds[kind].model, profile.name) for kind, _, profile in possible}
    measured = [s for s in SCENARIOS if any(calibration.knows(model, *place, scenario=s) for place in places)]
    if measured and workload.scenario not in measured:
        raise SpecError(
            f"model {model!r} is not measured in scenario {workload.scenario!r} on what {_models(supply)} may offer here,"
            f" but in {' and '.join(map(repr, measured))}; choose that, or measure it and give the points as calibration"
        )


def _models(supply: Supply) -> str:
    return ", ".join(dict.fromkeys(kind.model for kind in supply.kinds))


def _raise_too_slow(workload: Workload, model: str, known: Sequence[Option], supply: Supply, calibration: Calibration) -> None:
    lowest = min(
        (
            calibration.lowest_latency(model, supply.kinds[kind].model, profile.name, scenario=workload.scenario),
            profile.name,
            supply.kinds[kind].model,
        )
        for kind, _, profile in known
    )
    raise SpecError(
        f"latency_ms is {workload.latency_ms:g}, but the lowest that {model!r} reaches here is {lowest[0]:.3g} ms,"
        f" on {lowest[1]} of {lowest[2]}"
    )


# -- options that are never better than another ------------------------------------------------------------------------


def _undominated(options: list[Option], supply: Supply, ratings: Mapping[Option, Rating] | None = None) -> Options:
    """Split options into those worth having and those that another one of the same kind of GPU is never worse than."""
    kept: list[Option] = []
    replaced: list[tuple[Option, Option | None]] = []
    for kind in dict.fromkeys(option[0] for option in options):
        mine = [option for option in options if option[0] == kind]
        gain = {option: ratings[option].throughput_rps if ratings else 1.0 for option in mine}
        of = supply.kinds[kind]
        stand_in: dict[Option, Option] = {}
        for option in mine:
            rivals = (rival for rival in mine if rival != option and rival not in stand_in)
            better = next((rival for rival in rivals if _never_worse(of, rival, option, gain)), None)
            if better is not None:
                stand_in[option] = better
        kept += [option for option in mine if option not in stand_in]
        replaced += [(option, _last(option, stand_in)) for option in stand_in]
    return Options(tuple(kept), tuple(replaced), ratings or {})


def _last(option: Option, stand_in: Mapping[Option, Option]) -> Option | None:
    """Follow stand-ins to the one that was kept; None where the way leads through another mode."""
    mode = option[1]
    while option in stand_in:
        option = stand_in[option]
        if option[1] != mode:
            return None
    return option


def _never_worse(kind: Kind, rival: Option, option: Option, gain: Mapping[Option, float]) -> bool:
    """Whether `rival` can always be taken in place of `option` and gives as much."""
    if gain[rival] < gain[option]:
        return False
    if rival[1] == option[1]:
        return replaces(kind.model, rival[1], kind.kept, rival[2].name, option[2].name)
    # In another mode it can where the option takes its GPU whole: the GPU changes its mode. Of two that take it whole
    # and give as much, the GPU itself is the better one.
    return _fills(kind, option) and (not _fills(kind, rival) or rival[1] == "whole" or gain[rival] > gain[option])


def _fills(kind: Kind, option: Option) -> bool:
    return option[2].extent == offered(kind, option[1]).units


# -- demands by profile ------------------------------------------------------------------------------------------------


def _named(spelling: str, supply: Supply) -> list[Option]:
    """Return where a profile asked for by name is to be had.

    Raises
    ------
    SpecError
        On no GPU of the supply, or only in modes that this plan does not use.
    """
    models = list(dict.fromkeys(kind.model for kind in supply.kinds))
    somewhere = {(name, mode): profile for name in models for mode, profile in catalog.gpu(name).find(spelling)}
    if not somewhere:
        _raise_unknown(spelling, models)
    if not any(mode in match_modes(supply.modes, catalog.gpu(name)) for name, mode in somewhere):
        name, mode = next(iter(somewhere))
        allowed = ", ".join(supply.modes or ())
        could = mode in match_modes(supply.widest_modes, catalog.gpu(name))
        remedy = f"allow {mode} too" if could else "no GPU of the fleet can be put in it"
        raise SpecError(f"profile {spelling!r} needs {name} in mode {mode}; this plan uses {allowed} only, {remedy}")
    return [
        (kind, mode, free)
        for kind, k in enumerate(supply.kinds)
        for (name, mode), profile in somewhere.items()
        if name == k.model and mode in k.modes
        for free in offered(k, mode).profiles
        if free.name == profile.name
    ]


def _raise_unknown(spelling: str, models: Sequence[str]) -> None:
    owners = catalog.profile_exists(spelling)
    if owners:
        shown = ", ".join(owners[:4]) + (", ..." if len(owners) > 4 else "")
        raise SpecError(f"profile {spelling!r} is one of {shown}, not of {', '.join(models)}")
    if len(models) == 1:
        raise SpecError(f"{models[0]}: {catalog.gpu(models[0]).unknown_profile(spelling)}")
    names = {p.name for name in models for g in catalog.gpu(name).geometries for p in g.profiles}
    raise SpecError(f"unknown profile {spelling!r} on {', '.join(models)}; {did_you_mean(spelling, sorted(names))}".rstrip("; "))


# -- demands by size ---------------------------------------------------------------------------------------------------


def offered(kind: Kind, mode: str) -> Geometry:
    """Return what a GPU of a kind offers in a mode beside its existing instances."""
    return free_geometry(kind.model, mode, kind.kept)


def candidates(model: GpuModel, mode: str, kept: Kept = ()) -> list[Profile]:
    """Return the profiles that demands by size may take in a mode, beside existing instances.

    MIG profiles without attributes (``+me`` owns the media engines others may want, ``-me`` has none), or those with
    ``+gfx`` where there are no others; vGPU types of series that run CUDA.
    """
    profiles = list(free_geometry(model.name, mode, kept).profiles)
    if mode == "mig":
        attributes = () if any(not profile.attributes for profile in model.geometry(mode).profiles) else ("gfx",)
        return [profile for profile in profiles if profile.attributes == attributes]
    if mode.startswith("vgpu"):
        by_series = {series: [p for p in profiles if p.name.rstrip("0123456789").endswith(series)] for series in SIZED_SERIES}
        return [profile for series in SIZED_SERIES for profile in by_series[series]]
    return profiles


def share(profile: Profile, model: GpuModel, mode: str) -> float:
    """Return the share of a GPU that an instance owns, from 0 to 1.

    MIG: the smaller of its shares of compute slices and memory slices. Time-sliced vGPU: its share of the frame
    buffer, compute being divided in time. Whole GPU: 1.
    """
    if mode == "mig":
        return min(profile.compute_slices / model.compute_slices, profile.extent / model.memory_slices)
    if mode == "whole" or not model.memory_mib:
        return 1.0
    return min(1.0, round(profile.memory_mib / 1024) / model.record.memory_gib)


class SizeSteps:
    """Maps a demand by size to a step: demands on one step have the same options, however many sizes are asked for."""

    def __init__(self, supply: Supply) -> None:
        memory, slices, shares = set(), set(), set()
        for kind in supply.kinds:
            model = catalog.gpu(kind.model)
            for mode in kind.modes:
                for profile in candidates(model, mode, kind.kept):
                    memory.add(float(profile.memory_mib))
                    slices.add(float(profile.compute_slices))
                    shares.add(share(profile, model, mode))
        self._steps = sorted(memory), sorted(slices), sorted(shares)

    def step(self, workload: Workload) -> tuple[int, int, int]:
        """Return the numbers of the first large enough memory, compute and share."""
        memory, slices, shares = self._steps
        return (
            bisect_left(memory, (workload.memory_gib or 0) * 1024 - _EPSILON),
            bisect_left(slices, workload.compute_slices or 0),
            bisect_left(shares, (workload.gpu_share or 0) - _EPSILON),
        )


def largest(supply: Supply) -> Iterable[tuple[str, str, Profile]]:
    """Return (GPU model, mode, profile) of everything a demand by size could take, largest memory first."""
    every = {
        (kind.model, mode, profile)
        for kind in supply.kinds
        for mode in kind.modes
        for profile in candidates(catalog.gpu(kind.model), mode, kind.kept)
    }
    return sorted(every, key=lambda entry: (-entry[2].memory_mib, -entry[2].compute_slices, entry[0], entry[1], entry[2].name))
