"""What a request may take on each kind of GPU. Must not know policies or which GPUs are free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from typing import Any

from partitioner import catalog
from partitioner.errors import SpecError, did_you_mean
from partitioner.geometry import Profile
from partitioner.solver.online.contents import Contents, Move, Wanted
from partitioner.solver.options import HARDWARE_MODES, large_enough
from partitioner.solver.supply import match_modes
from partitioner.workload import Workload

_HONOURED = {"name", "count", "profile", "memory_gib", "compute_slices", "gpu_share", "priority", "labels", "isolation"}
_PLAIN = {field.name: field.default for field in dataclass_fields(Workload) if field.name not in _HONOURED}

Options = tuple[tuple[int, tuple[Wanted, ...]], ...]
"""For each kind by number what may be taken there, the first for a GPU whose mode is still open."""


class Demand:
    """Requests that may take the same.

    Attributes
    ----------
    number : its number in the allocator.
    origin : one way to ask for it, as fields of a workload.
    options : what it may take.
    asked : how often it was asked for; halved now and then, so that the past fades.
    field, base, moves : its bits in the ranking; where `b` is the number of bits up to the highest one set, ``moves[b - base]``
        is the best move.
    """

    __slots__ = ("asked", "base", "field", "moves", "number", "options", "origin")

    def __init__(self, number: int, origin: Mapping[str, Any], options: Options) -> None:
        self.number, self.origin, self.options = number, origin, options
        self.asked = 0
        self.field = 0
        self.base = 1
        self.moves: list[Move] = []


def options_of_profile(spelling: str, kinds: Sequence[Contents], modes: Sequence[str] | None) -> Options:
    """Return what a request for a profile may take.

    Raises
    ------
    SpecError
        No GPU of the fleet has it in a mode that may be used.
    """
    return _options_of_profile(spelling, kinds, modes, isolated=False)


def _options_of_profile(spelling: str, kinds: Sequence[Contents], modes: Sequence[str] | None, *, isolated: bool) -> Options:
    found: list[tuple[int, tuple[Wanted, ...]]] = []
    elsewhere: dict[str, None] = {}
    for number, kind in enumerate(kinds):
        model = catalog.gpu(kind.model)
        named = [(mode, profile.name) for mode, profile in model.find(spelling)]
        usable = _usable(kind, modes, isolated=isolated)
        elsewhere.update({f"{kind.model} in mode {mode}": None for mode, _ in named if mode not in usable})
        offered = tuple(w for w in named if w[0] in usable and _offers(kind, w))
        if offered:
            found.append((number, _best_mode_first(offered)))
        elif any(mode in usable for mode, _ in named):
            elsewhere[f"{kind.model} beside no existing instance"] = None
    if not found:
        raise SpecError(_unknown(spelling, kinds, list(elsewhere)))
    return tuple(found)


def _best_mode_first(offered: tuple[Wanted, ...]) -> tuple[Wanted, ...]:
    """Put mixed-size vGPU last: a GPU takes it only where it is fixed, since equal sizes hold at least as many."""
    return tuple(sorted(offered, key=lambda wanted: wanted[0] == "vgpu-mixed"))


def _usable(kind: Contents, modes: Sequence[str] | None, *, isolated: bool) -> tuple[str, ...]:
    allowed = match_modes(modes, catalog.gpu(kind.model))
    if kind.mode is not None:
        allowed = tuple(mode for mode in allowed if mode == kind.mode)
    else:
        allowed = tuple(mode for mode in allowed if mode != "vgpu-mixed")
    return tuple(mode for mode in allowed if mode in HARDWARE_MODES) if isolated else allowed


def _offers(kind: Contents, wanted: Wanted) -> bool:
    return any(profile.name == wanted[1] for profile in kind.geometry(wanted[0]).profiles)


def _unknown(spelling: str, kinds: Sequence[Contents], elsewhere: Sequence[str]) -> str:
    models = list(dict.fromkeys(kind.model for kind in kinds))
    if elsewhere:
        return f"profile {spelling!r} is to be had on {', '.join(elsewhere[:4])}, in which no GPU of this fleet may be"
    owners = catalog.profile_exists(spelling)
    if owners:
        return f"profile {spelling!r} is one of {', '.join(owners[:4])}, not of {', '.join(models)}"
    if len(models) == 1:
        return f"{models[0]}: {catalog.gpu(models[0]).unknown_profile(spelling)}"
    names = {p.name for name in models for g in catalog.gpu(name).geometries for p in g.profiles}
    return f"unknown profile {spelling!r} on {', '.join(models)}; {did_you_mean(spelling, sorted(names))}".rstrip("; ")


def options_of_workload(workload: Workload, kinds: Sequence[Contents], modes: Sequence[str] | None) -> Options:
    """Return what one replica of a workload may take: its profile, or the least profiles that are large enough.

    Notes
    -----
    Least is by memory, then compute, among the profiles of a mode. An empty GPU without a mode takes MIG where that has
    one, else the time-sliced type that is least, else itself whole.

    Raises
    ------
    SpecError
        It asks for what online placement does not know (places, rules between workloads, a model to serve), or for more
        than any GPU has.
    """
    check_honoured(workload)
    isolated = workload.isolation == "hardware"
    if workload.profile is not None:
        return _options_of_profile(workload.profile, kinds, modes, isolated=isolated)
    found = []
    for number, kind in enumerate(kinds):
        usable = _usable(kind, modes, isolated=isolated)
        enough = large_enough(workload, catalog.gpu(kind.model), usable, kind.kept)
        least: dict[str, list[Profile]] = {}
        for mode, profile in sorted(enough, key=lambda option: _size(option[1])):
            if mode not in least or _size(least[mode][0]) == _size(profile):
                least.setdefault(mode, []).append(profile)
        order = sorted(least, key=lambda mode: _preference(mode, least[mode][0]))
        if order:
            found.append((number, tuple((mode, profile.name) for mode in order for profile in least[mode])))
    if not found:
        models = ", ".join(dict.fromkeys(kind.model for kind in kinds))
        raise SpecError(f"Workload {workload.name!r}: no profile of {models} has {workload.demand}")
    return tuple(found)


def check_honoured(workload: Workload) -> None:
    """Refuse a workload that asks for what online placement does not know.

    Raises
    ------
    SpecError
        It does.
    """
    odd = next((name for name, plain in _PLAIN.items() if getattr(workload, name) != plain), None)
    if odd is not None:
        raise SpecError(
            f"Workload {workload.name!r}: online placement does not know {odd} (here {getattr(workload, odd)!r});"
            " leave it out, or use plan()"
        )


def _size(profile: Profile) -> tuple[int, int]:
    return profile.memory_mib, profile.compute_slices


def _preference(mode: str, profile: Profile) -> tuple[int, tuple[int, int]]:
    return (0 if mode == "mig" else 2 if mode == "whole" else 1), _size(profile)


def read_mix(mix: Mapping[str, float]) -> dict[str, float]:
    """Return a mix of profiles as shares that add up to 1.

    Raises
    ------
    SpecError
        It is no mapping of profiles to numbers of which none is negative and one is above 0.
    """
    if not isinstance(mix, Mapping):
        raise SpecError(f"mix is {mix!r}, not a mapping of profile to weight; write e.g. {{'1g.10gb': 3, '3g.40gb': 1}}")
    for name, weight in mix.items():
        plain = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (isinstance(name, str) and plain and 0 <= weight < float("inf")):
            raise SpecError(f"mix: weight of {name!r} is {weight!r}, not a number from 0 up")
    total = sum(mix.values())
    if not total > 0:
        raise SpecError("mix: no weight is above 0; give at least one profile that is asked for")
    return {name: weight / total for name, weight in mix.items() if weight}


def read_modes(modes: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return modes as a tuple, None for all.

    Raises
    ------
    SpecError
        They are no names.
    """
    if modes is None:
        return None
    listed = (modes,) if isinstance(modes, str) else tuple(modes) if isinstance(modes, Sequence) else ()
    if not listed or not all(isinstance(mode, str) for mode in listed):
        raise SpecError(f"modes is {modes!r}, not names of modes; write e.g. 'mig' or ('mig', 'whole')")
    known = {mode for name in catalog.names() for mode in catalog.gpu(name).modes}
    for mode in listed:
        if not any(name == mode or name.startswith(f"{mode}-") for name in known):
            raise SpecError(f"modes: unknown mode {mode!r}; {did_you_mean(mode, sorted(known)) or 'e.g. mig, vgpu, whole'}")
    return listed
