"""From workloads and GPUs to the aggregate problem: who may take which profile of which GPU.

Demands by profile may take that profile alone; demands by size may take every profile that is large enough, less those
that are never better than another one. This module must not know engines or placements.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import Problem as Complaint
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import Fleet
from partitioner.geometry import Profile
from partitioner.solver.configurations import dominates, shapes
from partitioner.solver.problem import PREFERENCES, DemandClass, Kind, Problem, SlotType, slot_cost
from partitioner.workload import Workload, Workloads

SIZED_SERIES = ("C", "Q")
"""vGPU series that demands by size may take: those that run CUDA; C first. B and A only when asked for by name."""

_MAX_PROBLEMS = 50  # listed; near matches of each are looked for, which takes milliseconds

WHOLE_GPU = -1
"""Stands for a slot that takes a GPU whole, in `Demand.dropped`."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The GPUs a plan may use.

    Parameters
    ----------
    kinds : GPUs that are alike, in order of first appearance.
    rows : for each kind the rows of its GPUs in the fleet; empty where as many as needed are to be had.
    fleet : the fleet; None where as many GPUs as needed are to be had.
    modes : the modes a plan may use at all, as given; None means any.
    """

    kinds: tuple[Kind, ...]
    rows: tuple[npt.NDArray[np.int32], ...]
    fleet: Fleet | None
    modes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """The aggregate problem and the way back from it.

    Parameters
    ----------
    problem : what the solver sees.
    class_of : for each workload its row in `problem.classes`; shape ``(n_workloads,)``.
    profiles : (class, slot) to the profile that a replica of the class gets there.
    dropped : options that some class was not given because another is never worse, as (kind, mode, profile name), to
        the slots that stand in for them; `WHOLE_GPU` where any use of a whole GPU does.
    """

    problem: Problem
    class_of: npt.NDArray[np.int32]
    profiles: dict[tuple[int, int], Profile]
    dropped: dict[tuple[int, str, str], frozenset[int]]


def match_modes(wanted: Sequence[str] | None, model: GpuModel) -> tuple[str, ...]:
    """Return the modes of a GPU model among those wanted.

    Parameters
    ----------
    wanted : modes or families of modes: ``mig``, ``vgpu`` (all time-sliced ones), ``vgpu-equal``, ``vgpu-mixed``,
        ``vgpu-equal-8``, ``whole``; None means all.
    model : the GPU model.
    """
    if wanted is None:
        return model.modes
    return tuple(mode for mode in model.modes if any(mode == w or mode.startswith(f"{w}-") for w in wanted))


def supply_of_fleet(fleet: Fleet, modes: Sequence[str] | None) -> Supply:
    """Return the supply of a fleet; GPUs with a fixed mode stay in it."""
    rows: dict[tuple[str, str | None], list[int]] = {}
    for row, (_, _, gpu) in enumerate(fleet):
        rows.setdefault((gpu.model, gpu.mode), []).append(row)
    kinds = []
    for (name, fixed), members in rows.items():
        model = catalog.gpu(name)
        usable = match_modes(modes, model)
        usable = usable if fixed is None else tuple(mode for mode in usable if mode == fixed)
        kinds.append(Kind(name, fixed, usable, len(members), model.memory_mib))
    arrays = tuple(np.array(members, dtype=np.int32) for members in rows.values())
    return Supply(tuple(kinds), arrays, fleet, tuple(modes) if modes is not None else None)


def supply_of_model(model: GpuModel, count: int | None, modes: Sequence[str] | None) -> Supply:
    """Return a supply of `count` GPUs of one model without hosts; None: as many as needed."""
    usable = match_modes(modes, model)
    if not usable:
        raise SpecError(f"{model.name} has no mode {' or '.join(map(repr, modes or ()))}; its modes are {', '.join(model.modes)}")
    kind = Kind(model.name, None, usable, count, model.memory_mib)
    return Supply((kind,), (np.arange(count or 0, dtype=np.int32),), None, tuple(modes) if modes is not None else None)


Option = tuple[int, str, Profile]  # kind, mode, profile
_Replaced = tuple[Option, Option | None]  # what was left out, and what is never worse; None: any other use of the GPU


@dataclass(slots=True)
class _Slots:
    """Numbers slot types as options name them."""

    supply: Supply
    numbers: dict[tuple[int, str, str], int] = field(default_factory=dict)
    types: list[SlotType] = field(default_factory=list)

    def number(self, option: Option) -> int:
        kind, mode, profile = option
        shape = next(s for s in shapes(self.supply.kinds[kind].model, mode) if profile in s.profiles)
        key = (kind, mode, shape.name)
        if key not in self.numbers:
            self.numbers[key] = len(self.types)
            self.types.append(SlotType(kind, mode, shape.name, slot_cost(profile.memory_mib, _preference(mode, profile))))
        return self.numbers[key]


def _preference(mode: str, profile: Profile) -> int:
    """Among slots of equal memory: partitions with compute of their own first, mixed-size mode last."""
    order = ["mig", "whole", "vgpu-equal", "vgpu-mixed"]
    rank = next(position for position, prefix in enumerate(order) if mode.startswith(prefix))
    return min(PREFERENCES - 1, 2 * rank + (profile.family not in ("", "C")))


def build(workloads: Workloads, supply: Supply) -> Demand:
    """Return the aggregate problem of workloads on a supply.

    Raises
    ------
    SpecError
        A profile does not exist on any GPU of the supply in the modes allowed; all such problems at once.
    """
    named = _options_by_name(workloads, supply)
    slots = _Slots(supply)
    sizes = _SizeSteps(supply)
    options_of: dict[object, tuple[tuple[int, Profile], ...]] = {}
    classes: dict[tuple[tuple[tuple[int, str], ...], int], int] = {}
    counts: list[int] = []
    by_key: dict[object, int] = {}
    dropped: dict[tuple[int, str, str], frozenset[int]] = {}
    class_of = np.empty(len(workloads), dtype=np.int32)
    found: list[tuple[tuple[int, Profile], ...]] = []
    priorities: list[int] = []
    for index, workload in enumerate(workloads):
        demand = workload.profile if workload.profile is not None else sizes.step(workload)
        key = (demand, workload.priority)
        number = by_key.get(key)
        if number is None:
            if demand not in options_of:
                kept, replaced = (named[workload.profile], []) if workload.profile is not None else _sized(workload, supply)
                options_of[demand] = tuple((slots.number(o), o[2]) for o in kept)
                for (kind, mode, profile), by in replaced:
                    place = (kind, mode, profile.name)
                    dropped[place] = dropped.get(place, frozenset()) | {slots.number(by) if by else WHOLE_GPU}
            options = options_of[demand]
            same = (tuple((slot, profile.name) for slot, profile in options), workload.priority)
            number = classes.setdefault(same, len(classes))
            if number == len(counts):
                counts.append(0)
                found.append(options)
                priorities.append(workload.priority)
            by_key[key] = number
        counts[number] += workload.count
        class_of[index] = number
    problem = Problem(
        supply.kinds,
        tuple(slots.types),
        tuple(
            DemandClass(count, priority, tuple(slot for slot, _ in options))
            for count, priority, options in zip(counts, priorities, found, strict=True)
        ),
    )
    profiles = {(number, slot): profile for number, options in enumerate(found) for slot, profile in options}
    return Demand(problem, class_of, profiles, dropped)


def _options_by_name(workloads: Workloads, supply: Supply) -> dict[str, list[Option]]:
    """Return the options of every profile that is asked for by name.

    Raises
    ------
    SpecError
        Profiles are not to be had: every workload that asks for one, up to `_MAX_PROBLEMS`.
    """
    found: dict[str, list[Option]] = {}
    wrong: dict[str, str] = {}
    complaints: list[Complaint] = []
    for index, workload in enumerate(workloads):
        name = workload.profile
        if name is None or name in found:
            continue
        if name not in wrong:
            try:
                found[name] = _named(name, supply)
                continue
            except SpecError as error:
                wrong[name] = str(error)
        if len(complaints) == _MAX_PROBLEMS:
            complaints.append(Complaint(f"and maybe more problems; the first {_MAX_PROBLEMS} are listed"))
            break
        complaints.append(workloads.problem(index, wrong[name], "profile"))
    if complaints:
        raise SpecError(complaints)
    return found


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
        raise SpecError(f"profile {spelling!r} needs {name} in mode {mode}; this plan uses {allowed} only, allow {mode} too")
    return [
        (kind, mode, profile)
        for kind, k in enumerate(supply.kinds)
        for (name, mode), profile in somewhere.items()
        if name == k.model and mode in k.modes
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


def candidates(model: GpuModel, mode: str) -> list[Profile]:
    """Return the profiles that demands by size may take in a mode.

    MIG profiles without attributes (``+me`` owns the media engines others may want, ``-me`` has none), or those with
    ``+gfx`` where there are no others; vGPU types of series that run CUDA.
    """
    profiles = list(model.geometry(mode).profiles)
    if mode == "mig":
        plain = [profile for profile in profiles if not profile.attributes]
        return plain or [profile for profile in profiles if profile.attributes == ("gfx",)]
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


def _sized(workload: Workload, supply: Supply) -> tuple[list[Option], list[_Replaced]]:
    """Return the options of a demand by size and those left out because another is never worse."""
    kept: list[Option] = []
    replaced: list[_Replaced] = []
    for kind in range(len(supply.kinds)):
        of_kind, instead = _undominated(_large_enough(workload, kind, supply), supply)
        kept += of_kind
        replaced += instead
    return kept, replaced


def _large_enough(workload: Workload, kind: int, supply: Supply) -> list[Option]:
    model = catalog.gpu(supply.kinds[kind].model)
    return [
        (kind, mode, profile)
        for mode in supply.kinds[kind].modes
        for profile in candidates(model, mode)
        if profile.memory_mib >= (workload.memory_gib or 0) * 1024 - _EPSILON
        and profile.compute_slices >= (workload.compute_slices or 0)
        and share(profile, model, mode) >= (workload.gpu_share or 0) - _EPSILON
    ]


_EPSILON = 1e-9


def _undominated(options: list[Option], supply: Supply) -> tuple[list[Option], list[_Replaced]]:
    """Split the options of one kind into those worth having and those that another one is never worse than."""
    if not options:
        return [], []
    model = catalog.gpu(supply.kinds[options[0][0]].model)
    filling = [o for o in options if _fills(model, o[1], o[2])]
    out: list[Option] = []
    if len(filling) < len(options):  # whoever takes a whole GPU may take a part and leave the rest to others
        out = [o for o in filling if o[1] == "whole"]
    elif any(o[1] == "whole" for o in filling):  # all take the GPU whole: then the GPU itself is the best of them
        out = [o for o in filling if o[1] != "whole"]
    replaced: list[_Replaced] = [(option, None) for option in out]
    options = [o for o in options if o not in out]
    better = [
        [
            other
            for other, rival in enumerate(options)
            if other != number and _beats(model, rival, option) and (other < number or not _beats(model, option, rival))
        ]
        for number, option in enumerate(options)
    ]
    kept = [option for option, rivals in zip(options, better, strict=True) if not rivals]
    for option, rivals in zip(options, better, strict=True):
        if rivals:  # being better is transitive, so one of the better ones is itself unbeaten
            replaced.append((option, next(options[rival] for rival in rivals if not better[rival])))
    return kept, replaced


def _beats(model: GpuModel, rival: Option, option: Option) -> bool:
    return rival[1] == option[1] and dominates(model.geometry(rival[1]), rival[2], option[2])


def _fills(model: GpuModel, mode: str, profile: Profile) -> bool:
    return profile.extent == model.geometry(mode).units


class _SizeSteps:
    """Maps a demand by size to a step: demands on one step have the same options, however many sizes are asked for."""

    def __init__(self, supply: Supply) -> None:
        memory, slices, shares = set(), set(), set()
        for kind in supply.kinds:
            model = catalog.gpu(kind.model)
            for mode in kind.modes:
                for profile in candidates(model, mode):
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
        for profile in candidates(catalog.gpu(kind.model), mode)
    }
    return sorted(every, key=lambda entry: (-entry[2].memory_mib, -entry[2].compute_slices, entry[0], entry[1], entry[2].name))
