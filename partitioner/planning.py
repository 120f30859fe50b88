"""`plan`, `plan_mig`, `plan_vgpu`: from workloads and GPUs to a proven-best plan.

The whole of the product's first step in one function: read, aggregate, solve, assign, explain, verify.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import yaml
from pydantic import TypeAdapter

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.catalog.records import GpuRecord
from partitioner.documents import read
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import MAX_GPUS, Fleet, read_fleet
from partitioner.plans import FORMAT, Plan, Price
from partitioner.plans import schema as plan_schema
from partitioner.solver import aggregate
from partitioner.solver.assign import assign
from partitioner.solver.configurations import shapes
from partitioner.solver.demand import WHOLE_GPU, Demand, Supply, build, match_modes, supply_of_fleet, supply_of_model
from partitioner.solver.explain import explain, together
from partitioner.solver.problem import Solution
from partitioner.solver.verification import KindKey
from partitioner.workload import Workload, Workloads, read_workloads

__all__ = ["Plan", "dump", "load", "plan", "plan_mig", "plan_vgpu", "schema"]


def plan(
    workloads: object,
    *,
    fleet: object = None,
    gpu: str | GpuModel | None = None,
    gpus: int | None = None,
    modes: Sequence[str] | None = None,
    time_limit_s: float = 10.0,
    seed: int = 0,
) -> Plan:
    """Find a provably best way to cut GPUs for workloads.

    Parameters
    ----------
    workloads : what has to run, in any form that `read_workloads` takes.
    fleet : the GPUs there are: a `Fleet`, a mapping, or a YAML or JSON file.
    gpu : instead of a fleet, one GPU model.
    gpus : how many of it there are; None asks how many are needed.
    modes : modes or families of modes that may be used: ``mig``, ``vgpu`` (time-sliced), ``whole``, ``vgpu-equal-8``;
        None means all. Time-sliced vGPUs need a hypervisor; on bare metal give ``("mig", "whole")``.
    time_limit_s : when to stop looking for a proof [s]; the best plan so far comes back with its bound.
    seed : for the engines; the same input and seed give the same plan where the time limit does not cut in.

    Returns
    -------
    The plan: the most replicas placed, highest priorities first; then on the fewest GPUs; then with the least waste.

    Raises
    ------
    SpecError
        An input is not valid; nothing was planned.

    Examples
    --------
    >>> answer = plan({"3g.40gb": 2, "1g.10gb": 9}, gpu="A100-80GB")
    >>> answer.gpus_used, answer.lower_bound, answer.status
    (3, 3, 'optimal')

    Notes
    -----
    The configuration model of cutting stock (Gilmore and Gomory 1961): its size depends on the number of different
    demands, not on the number of replicas or GPUs.
    """
    started = time.monotonic()
    _check_numbers(gpus, time_limit_s, seed)
    wanted = _check_modes(modes)
    asked = read_workloads(workloads)
    supply = _supply(fleet, gpu, gpus, wanted)
    deadline = started + time_limit_s
    demand = build(asked, supply)
    solution = aggregate.solve(demand.problem, deadline=deadline, seed=seed)
    layout, left = assign(asked, supply, demand, solution)
    unplaced = explain(asked, supply, demand, solution, left, deadline=deadline, seed=seed)
    prices, rents = _prices(supply, demand, solution)
    proven = all(stage.proven for stage in solution.objectives)
    return Plan(
        tuple(asked),
        supply.fleet,
        None if supply.fleet is not None else supply.kinds[0].model,
        None if supply.fleet is not None else gpus,
        supply.modes,
        "optimal" if proven else "feasible",
        solution.objectives,
        solution.certificate,
        unplaced,
        (
            *together(demand, solution, unplaced, deadline=deadline, seed=seed),
            *_notes(asked, supply, demand, solution),
        ),
        layout,
        prices,
        rents,
    ).verify()


def plan_mig(
    workloads: object,
    gpu: str | GpuModel = "A100-80GB",
    gpus: int | None = None,
    fleet: object = None,
    time_limit_s: float = 10.0,
    seed: int = 0,
) -> Plan:
    """Find a provably best way to cut GPUs into MIG slices.

    Parameters
    ----------
    workloads : what has to run, in any form that `read_workloads` takes: ``[Workload(...)]``, ``{"3g.40gb": 2}``,
        ``"4g+2g+1g"``, a frame, a file.
    gpu : the GPU model.
    gpus : how many there are; None asks how many are needed.
    fleet : instead of `gpu` and `gpus`, a fleet, of which the GPUs with MIG are used.
    time_limit_s, seed : see `plan`.

    Raises
    ------
    SpecError
        An input is not valid; nothing was planned.

    Examples
    --------
    >>> plan_mig("4g+2g+1g").gpus_used
    1
    """
    return _plan_modes(("mig",), workloads, gpu, gpus, fleet, time_limit_s, seed)


def plan_vgpu(
    workloads: object,
    gpu: str | GpuModel = "T4",
    gpus: int | None = None,
    fleet: object = None,
    time_limit_s: float = 10.0,
    seed: int = 0,
) -> Plan:
    """Find a provably best way to cut GPUs into vGPUs: time-sliced (equal or mixed size) and MIG-backed.

    Parameters
    ----------
    workloads : what has to run; vGPU types in any spelling (``T4-4Q``, ``grid_t4-4q``, ``A100D-3-40C``).
    gpu, gpus, fleet, time_limit_s, seed : see `plan_mig`.

    Raises
    ------
    SpecError
        An input is not valid; nothing was planned.

    Examples
    --------
    >>> plan_vgpu({"T4-4Q": 5, "T4-8Q": 1}, gpu="T4").gpus_used
    3
    """
    return _plan_modes(("vgpu", "mig"), workloads, gpu, gpus, fleet, time_limit_s, seed)


def _plan_modes(
    modes: tuple[str, ...],
    workloads: object,
    gpu: str | GpuModel,
    gpus: int | None,
    fleet: object,
    time_limit_s: float,
    seed: int,
) -> Plan:
    if fleet is not None:
        if gpus is not None:
            raise SpecError("fleet and gpus are both given; a fleet says how many GPUs there are")
        return plan(workloads, fleet=fleet, modes=modes, time_limit_s=time_limit_s, seed=seed)
    return plan(workloads, gpu=gpu, gpus=gpus, modes=modes, time_limit_s=time_limit_s, seed=seed)


# -- input -------------------------------------------------------------------------------------------------------------


def _check_numbers(gpus: object, time_limit_s: object, seed: object) -> None:
    if gpus is not None and (isinstance(gpus, bool) or not isinstance(gpus, int) or not 1 <= gpus <= MAX_GPUS):
        raise SpecError(f"gpus is {gpus!r}, not a number of GPUs from 1 to {MAX_GPUS:,}, or None for as many as needed")
    if (
        isinstance(time_limit_s, bool)
        or not isinstance(time_limit_s, int | float)
        or not math.isfinite(time_limit_s)
        or not 0 < time_limit_s <= 1_000_000
    ):
        raise SpecError(f"time_limit_s is {time_limit_s!r}, not a number of seconds above 0 and at most 1,000,000")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SpecError(f"seed is {seed!r}, not a whole number from 0 on")


def _check_modes(modes: Sequence[str] | None) -> tuple[str, ...] | None:
    if modes is None:
        return None
    wanted = (modes,) if isinstance(modes, str) else tuple(modes)
    known = {mode for name in catalog.names() for mode in catalog.gpu(name).modes}
    families = known | {"vgpu", "vgpu-equal"}
    for mode in wanted:
        if mode not in families:
            hint = did_you_mean(str(mode), sorted(families)) or "modes are mig, vgpu, vgpu-equal-<GB>, vgpu-mixed, whole"
            raise SpecError(f"unknown mode {mode!r}; {hint}")
    if not wanted:
        raise SpecError("modes is empty; give at least one of mig, vgpu, whole, or None for all")
    return wanted


def _supply(fleet: object, gpu: str | GpuModel | None, gpus: int | None, modes: tuple[str, ...] | None) -> Supply:
    if fleet is None:
        if gpu is None:
            raise SpecError("no GPUs are given; give a fleet, or a gpu model such as 'A100-80GB'")
        return supply_of_model(catalog.gpu(gpu), gpus, modes)
    if gpu is not None or gpus is not None:
        raise SpecError("fleet and gpu (or gpus) are both given; a fleet says which GPUs there are")
    there = read_fleet(fleet)
    supply = supply_of_fleet(there, modes)
    if not any(match_modes(modes, catalog.gpu(kind.model)) for kind in supply.kinds):
        models = ", ".join(dict.fromkeys(kind.model for kind in supply.kinds))
        raise SpecError(f"no GPU of the fleet ({models}) has mode {' or '.join(modes or ())}")
    return supply


# -- output ------------------------------------------------------------------------------------------------------------


def _prices(supply: Supply, demand: Demand, solution: Solution) -> tuple[dict[Price, Fraction], dict[KindKey, Fraction]]:
    """Spell the proof's prices out for every profile, also those that another one stands in for.

    A profile that another is never worse than may be priced like that other one, and one that takes its GPU whole at
    1 + rent: no configuration becomes dearer than it may be.
    """
    if solution.proof is None:
        return {}, {}
    keys: list[KindKey] = [(kind.model, kind.fixed) for kind in supply.kinds]
    prices: dict[Price, Fraction] = {}
    for slot, price in zip(demand.problem.slots, solution.proof.slots, strict=True):
        shape = next(s for s in shapes(supply.kinds[slot.kind].model, slot.mode) if s.name == slot.shape)
        for profile in shape.profiles:
            prices[keys[slot.kind], slot.mode, profile.name] = price
    for (kind, mode, name), slots in demand.dropped.items():
        place = (keys[kind], mode, name)
        whole_gpu = 1 + solution.proof.rents[kind]
        floor = max(whole_gpu if slot == WHOLE_GPU else solution.proof.slots[slot] for slot in slots)
        prices[place] = max(prices.get(place, Fraction(0)), floor)
    rents = {key: rent for key, rent in zip(keys, solution.proof.rents, strict=True) if rent}
    return {place: price for place, price in prices.items() if price}, rents


def _notes(workloads: Workloads, supply: Supply, demand: Demand, solution: Solution) -> tuple[str, ...]:
    """Say what a reader would not expect: time slicing, memory below its name, tables that were inferred."""
    used = {
        (supply.kinds[demand.problem.slots[slot].kind].model, demand.problem.slots[slot].mode, demand.profiles[c, slot].name)
        for (c, slot), count in solution.served.items()
        if count
    }
    notes = []
    sliced = sorted({model for model, mode, _ in used if mode.startswith("vgpu")})
    if supply.modes is None and sliced and any(catalog.gpu(model).compute_slices for model in sliced):
        notes.append(
            f"time-sliced vGPUs on {', '.join(sliced)} need a hypervisor with NVIDIA's vGPU manager;"
            " for bare metal plan with modes=('mig', 'whole')"
        )
    notes += _memory_below_its_name(workloads, supply, demand, solution)
    for model in sorted({model for model, mode, _ in used if mode == "mig"}):
        mig = catalog.gpu(model).record.mig
        inferred = {
            fact
            for profile in (mig.profiles if mig else ())
            if (model, "mig", profile.name) in used
            for fact in profile.inferred
            if fact in ("placements", "memory_mib")
        }
        if inferred:
            what = " and ".join({"placements": "starts", "memory_mib": "memory"}[fact] for fact in sorted(inferred, reverse=True))
            notes.append(
                f"{model}: {what} of the profiles used are inferred, not read off a driver; check before relying on them"
            )
    return tuple(notes)


def _memory_below_its_name(workloads: Workloads, supply: Supply, demand: Demand, solution: Solution) -> list[str]:
    """Explain demands that just miss a profile whose name promises enough: 10 GiB and 1g.10gb with 9.5 GiB usable.

    Only where it matters: replicas took a larger MIG profile, or were left out.
    """
    taken: dict[int, list[tuple[int, str, int]]] = {}
    for (number, slot), count in solution.served.items():
        if count:
            where = demand.problem.slots[slot]
            taken.setdefault(number, []).append((where.kind, where.mode, demand.profiles[number, slot].memory_mib))
    notes: dict[str, None] = {}
    seen: set[tuple[float, int]] = set()
    for workload, number in zip(workloads, demand.class_of.tolist(), strict=True):
        if workload.memory_gib is None or (workload.memory_gib, number) in seen:
            continue
        seen.add((workload.memory_gib, number))
        missing = solution.placed[number] < demand.problem.classes[number].count
        for kind, k in enumerate(supply.kinds):
            largest = max((mib for at, mode, mib in taken.get(number, ()) if at == kind and mode == "mig"), default=0)
            for profile in catalog.gpu(k.model).geometry("mig").profiles if "mig" in k.modes else ():
                named_gb = int(profile.name.split(".")[1].split("gb")[0])
                if (
                    not profile.attributes
                    and profile.memory_mib < workload.memory_gib * 1024 <= named_gb * 1024
                    and (missing or largest > profile.memory_mib)
                ):
                    usable = f"{profile.memory_mib / 1024:g} GiB of it are usable"
                    notes[f"{workload.memory_gib:g} GiB do not fit {profile.name} of {k.model}: {usable}"] = None
    return list(notes)[:5]


# -- files -------------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Workloads | Fleet | Plan:
    """Read a file of workloads, a fleet, or a saved plan; the content says which it is.

    Parameters
    ----------
    path : a YAML or JSON file: a plan has ``format: gpu-partitioner/plan``, a fleet has ``hosts``, all else are
        workloads.

    Raises
    ------
    SpecError
        The file is none of them; all problems, each with its line.
    """
    head = _head(path)
    if FORMAT in head:
        return Plan.load(path)
    document = read(path)
    if isinstance(document.data, dict) and "hosts" in document.data:
        return read_fleet(document)
    return read_workloads(document)


def dump(value: Iterable[Workload] | Fleet) -> str:
    """Return workloads or a fleet as YAML that `load` reads back as the same value. Plans have `Plan.save`.

    Examples
    --------
    >>> print(dump([Workload("chat", profile="3g.40gb", count=2)]), end="")
    workloads:
    - name: chat
      count: 2
      profile: 3g.40gb
    """
    if isinstance(value, Fleet):
        data = TypeAdapter(Fleet).dump_python(value, mode="json", exclude_defaults=True)
    else:
        data = {"workloads": TypeAdapter(list[Workload]).dump_python(list(value), mode="json", exclude_defaults=True)}
    return yaml.dump(data, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)


def _head(path: str | os.PathLike[str]) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(256).decode("utf-8", "replace")
    except OSError:
        return ""  # reading it in full gives the error its words


def schema(kind: str = "workloads") -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a kind of file, for editors.

    Parameters
    ----------
    kind : ``workloads``, ``fleet``, ``plan`` or ``gpu``.

    Raises
    ------
    SpecError
        The kind is unknown.
    """
    makers = {
        "workloads": _workloads_schema,
        "fleet": lambda: TypeAdapter(Fleet).json_schema(),
        "plan": plan_schema,
        "gpu": GpuRecord.model_json_schema,
    }
    if kind not in makers:
        raise SpecError(f"no schema {kind!r}; there are {', '.join(makers)}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"gpu-partitioner {kind}", **makers[kind]()}


def _workloads_schema() -> dict[str, Any]:
    """Describe a list of workloads, a mapping of names to workloads, profiles or counts, or either under ``workloads``."""
    one = TypeAdapter(Workload).json_schema()
    named = {**one, "required": [], "title": "Workload without its name"}
    entry = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}, named]}
    listed = {"type": "array", "items": {"$ref": "#/$defs/Workload"}, "minItems": 1}
    mapped = {"type": "object", "additionalProperties": entry, "minProperties": 1}
    wrapped = {
        "type": "object",
        "properties": {"workloads": {"anyOf": [listed, mapped]}, "format": {}, "version": {}},
        "required": ["workloads"],
        "additionalProperties": False,
    }
    return {"$defs": {"Workload": one}, "anyOf": [listed, wrapped, mapped]}
