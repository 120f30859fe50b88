"""`plan`, `plan_mig`, `plan_vgpu`: from workloads and GPUs to a proven-best plan.

The whole of the product's first step in one function: read, aggregate, solve, assign, explain, verify.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from pydantic import TypeAdapter

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.catalog.records import GpuRecord
from partitioner.current import read_current, read_pinned, read_vacate, workloads_of
from partitioner.documents import read
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import MAX_GPUS, Fleet, read_fleet
from partitioner.layout import Layout, gpu_label
from partitioner.performance import Calibration
from partitioner.plans import FORMAT, Plan
from partitioner.plans import schema as plan_schema
from partitioner.solver.inquiry import Inquiry, answer
from partitioner.solver.resume import check_pins
from partitioner.solver.stages import LOCATED, STAGES
from partitioner.solver.supply import match_modes
from partitioner.workload import Workload, Workloads, read_workloads

__all__ = ["Plan", "dump", "load", "plan", "plan_mig", "plan_vgpu", "schema", "workloads_of"]


def plan(
    workloads: object,
    *,
    fleet: object = None,
    gpu: str | GpuModel | None = None,
    gpus: int | None = None,
    modes: Sequence[str] | None = None,
    current: object = None,
    objective: Sequence[str] | None = None,
    pinned: Sequence[str] = (),
    vacate: Sequence[str] = (),
    host_failures: int = 0,
    calibration: Calibration | None = None,
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
    current : what runs now on these GPUs: a `Layout`, or anything with a ``layout`` such as a `Plan`. Replicas that are
        asked for stay where they are as far as the objective allows; those that are not asked for leave; free instances
        are used again.
    objective : what is best, the most important first: ``placed`` (replicas, by priority), then any of ``gpus`` in use,
        ``moves`` (instances that `current` has and that stay in their place no longer, at their workloads' prices),
        ``cost`` per hour or ``power`` of the GPUs in use, ``hosts`` in use, ``waste`` of memory, ``spread`` (the most GPUs
        in use on one host) and ``headroom`` (room left in the GPUs in use). None: ``placed``, ``gpus``, with `current`
        then ``moves``, and ``waste``.
    pinned : workloads, or single replicas as ``workload/replica``, that stay exactly where `current` has them.
    vacate : hosts (``esx-01``) and GPUs (``esx-01/gpu2``) on which nothing may stand, to free them for maintenance.
    host_failures : 1 plans for the loss of any one host: its replicas then fit into instances that are cut and free on
        the other hosts.
    calibration : what models do on profiles, for workloads with a model; None takes the published measurements that
        come with this package.
    time_limit_s : when to stop looking for a proof [s]; the best plan so far comes back with its bound.
    seed : for the engines; the same input and seed give the same plan where the time limit does not cut in.

    Returns
    -------
    The plan: the most replicas placed, highest priorities first; then the best in each stage of `objective`.

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
    gpus = _whole_number(gpus)
    _check_numbers(gpus, time_limit_s, seed, host_failures)
    wanted = _check_modes(modes)
    asked = read_workloads(workloads)
    there = _check_gpus(fleet, gpu, gpus, wanted)
    hosts = there if isinstance(there, Fleet) else None
    wanted = wanted if hosts is None else _modes_there(wanted, hosts)
    now = read_current(current, there, gpus)
    inquiry = Inquiry(
        asked,
        hosts,
        there if isinstance(there, str) else None,
        gpus,
        wanted,
        _check_objective(objective, hosts, now),
        host_failures,
        _check_calibration(calibration, asked),
        now,
        read_pinned(pinned, asked, now),
        read_vacate(vacate, hosts),
    )
    if inquiry.pinned:
        check_pins(inquiry)
    deadline = started + time_limit_s - _afterwards_s(inquiry, time_limit_s)
    return Plan.of(inquiry, answer(inquiry, deadline=deadline, seed=seed)).verify()


def _afterwards_s(inquiry: Inquiry, time_limit_s: float) -> float:
    """Return the time to keep for handing out placements and checking the plan [s]; about 2 s for a million replicas."""
    replicas = sum(workload.count for workload in inquiry.workloads)
    gpus = len(inquiry.fleet) if inquiry.fleet is not None else 0
    return min(0.5 * time_limit_s, 1.6e-6 * replicas + 0.8e-6 * gpus)


def plan_mig(
    workloads: object,
    gpu: str | GpuModel = "A100-80GB",
    gpus: int | None = None,
    fleet: object = None,
    time_limit_s: float = 10.0,
    seed: int = 0,
    *,
    current: object = None,
    objective: Sequence[str] | None = None,
    pinned: Sequence[str] = (),
    vacate: Sequence[str] = (),
    host_failures: int = 0,
    calibration: Calibration | None = None,
) -> Plan:
    """Find a provably best way to cut GPUs into MIG slices.

    Parameters
    ----------
    workloads : what has to run, in any form that `read_workloads` takes: ``[Workload(...)]``, ``{"3g.40gb": 2}``,
        ``"4g+2g+1g"``, a frame, a file.
    gpu : the GPU model.
    gpus : how many there are; None asks how many are needed.
    fleet : instead of `gpu` and `gpus`, a fleet, of which the GPUs with MIG are used.
    time_limit_s, seed, current, objective, pinned, vacate, host_failures, calibration : see `plan`.

    Raises
    ------
    SpecError
        An input is not valid; nothing was planned.

    Examples
    --------
    >>> plan_mig("4g+2g+1g").gpus_used
    1
    """
    return _plan_modes(
        ("mig",),
        workloads,
        gpu,
        gpus,
        fleet,
        time_limit_s=time_limit_s,
        seed=seed,
        current=current,
        objective=objective,
        pinned=pinned,
        vacate=vacate,
        host_failures=host_failures,
        calibration=calibration,
    )


def plan_vgpu(
    workloads: object,
    gpu: str | GpuModel = "T4",
    gpus: int | None = None,
    fleet: object = None,
    time_limit_s: float = 10.0,
    seed: int = 0,
    *,
    current: object = None,
    objective: Sequence[str] | None = None,
    pinned: Sequence[str] = (),
    vacate: Sequence[str] = (),
    host_failures: int = 0,
    calibration: Calibration | None = None,
) -> Plan:
    """Find a provably best way to cut GPUs into vGPUs: time-sliced (equal or mixed size) and MIG-backed.

    Parameters
    ----------
    workloads : what has to run; vGPU types in any spelling (``T4-4Q``, ``grid_t4-4q``, ``A100D-3-40C``).
    gpu, gpus, fleet : see `plan_mig`.
    time_limit_s, seed, current, objective, pinned, vacate, host_failures, calibration : see `plan`.

    Raises
    ------
    SpecError
        An input is not valid; nothing was planned.

    Examples
    --------
    >>> plan_vgpu({"T4-4Q": 5, "T4-8Q": 1}, gpu="T4").gpus_used
    3
    """
    return _plan_modes(
        ("vgpu", "mig"),
        workloads,
        gpu,
        gpus,
        fleet,
        time_limit_s=time_limit_s,
        seed=seed,
        current=current,
        objective=objective,
        pinned=pinned,
        vacate=vacate,
        host_failures=host_failures,
        calibration=calibration,
    )


def _plan_modes(
    modes: tuple[str, ...],
    workloads: object,
    gpu: str | GpuModel,
    gpus: int | None,
    fleet: object,
    **others: Any,
) -> Plan:
    if fleet is not None:
        if gpus is not None:
            raise SpecError("fleet and gpus are both given; a fleet says how many GPUs there are")
        return plan(workloads, fleet=fleet, modes=modes, **others)
    return plan(workloads, gpu=gpu, gpus=gpus, modes=modes, **others)


# -- input -------------------------------------------------------------------------------------------------------------


def _whole_number(gpus: Any) -> Any:
    """Return a whole number of numpy or pandas as Python's; what is none is left for its check to say."""
    return gpus.__index__() if hasattr(gpus, "__index__") and not isinstance(gpus, bool) else gpus


def _check_numbers(gpus: object, time_limit_s: object, seed: object, host_failures: object) -> None:
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
    if isinstance(host_failures, bool) or host_failures not in (0, 1):
        raise SpecError(f"host_failures is {host_failures!r}; 0, or 1 for a plan that survives the loss of any one host")


def _check_modes(modes: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if modes is None else catalog.check_modes(modes)


def _modes_there(wanted: tuple[str, ...] | None, fleet: Fleet) -> tuple[str, ...] | None:
    """Return the modes that are wanted and that the fleet's GPUs can be put in; of two families the narrower one."""
    if fleet.modes is None or wanted is None:
        return wanted or fleet.modes
    narrower = [*(w for w in wanted if _among(w, fleet.modes)), *(mode for mode in fleet.modes if _among(mode, wanted))]
    if not narrower:
        raise SpecError(f"modes are {', '.join(wanted)}; the GPUs of the fleet can be put in {', '.join(fleet.modes)} only")
    return tuple(dict.fromkeys(narrower))


def _among(mode: str, families: Sequence[str]) -> bool:
    return any(mode == family or mode.startswith(f"{family}-") for family in families)


def _check_gpus(fleet: object, gpu: str | GpuModel | None, gpus: int | None, modes: tuple[str, ...] | None) -> Fleet | str:
    """Return the fleet, or the name of the one GPU model."""
    if fleet is None:
        if gpu is None:
            raise SpecError("no GPUs are given; give a fleet, or a gpu model such as 'A100-80GB'")
        model = catalog.gpu(gpu)
        if not match_modes(modes, model):
            known = ", ".join(model.modes)
            raise SpecError(f"{model.name} has no mode {' or '.join(map(repr, modes or ()))}; its modes are {known}")
        return model.name
    if gpu is not None or gpus is not None:
        raise SpecError("fleet and gpu (or gpus) are both given; a fleet says which GPUs there are")
    return read_fleet(fleet)


def _check_objective(objective: Sequence[str] | None, fleet: Fleet | None, current: Layout | None) -> tuple[str, ...]:
    """Return the stages of the objective; GPUs are counted in every plan, last where they are not named."""
    if objective is None:
        return ("placed", "gpus", "waste") if current is None else ("placed", "gpus", "moves", "waste")
    if not isinstance(objective, str | Sequence):
        raise SpecError(f"objective is {objective!r}, not names of stages; e.g. ('placed', 'gpus', 'waste')")
    stages = tuple(part.strip() for part in objective.split(",")) if isinstance(objective, str) else tuple(objective)
    for stage in stages:
        if stage not in STAGES:
            hint = did_you_mean(str(stage), STAGES) or f"stages are {', '.join(STAGES)}"
            raise SpecError(f"unknown stage {stage!r} of the objective; {hint}")
    if len(set(stages)) < len(stages) or stages[:1] != ("placed",):
        raise SpecError(f"objective is {stages!r}; it starts with 'placed' and names each stage once")
    if fleet is None and (located := [stage for stage in stages if stage in LOCATED]):
        raise SpecError(f"objective {located[0]!r} counts hosts; give a fleet")
    if "moves" in stages and current is None:
        raise SpecError("objective 'moves' counts what does not stay in its place; give current=, what runs now")
    if "headroom" in stages and "gpus" not in stages[: stages.index("headroom")]:
        raise SpecError("objective 'headroom' looks at the GPUs in use; name 'gpus' before it")
    _check_figures_known(stages, fleet)
    missing = [name for name in ("gpus", *(("moves",) if current is not None else ())) if name not in stages]
    return (*stages, *missing)


def _check_figures_known(stages: Sequence[str], fleet: Fleet | None) -> None:
    """Cost and power are known of every GPU where they are minimised."""
    for stage, name in (("cost", "cost_per_hour"), ("power", "power_w")):
        if stage not in stages:
            continue
        if fleet is None:
            raise SpecError(f"objective {stage!r} needs {name} of each GPU; give a fleet")
        missing = [gpu_label(host, index) for host, index, gpu in fleet if getattr(gpu, name) is None]
        if missing:
            more = f" and {len(missing) - 1} more GPUs" if len(missing) > 1 else ""
            raise SpecError(f"objective {stage!r} needs {name} of each GPU; {missing[0]}{more} have none")


def _check_calibration(calibration: object, workloads: Workloads) -> Calibration | None:
    if calibration is not None and not isinstance(calibration, Calibration):
        raise SpecError(f"calibration is a {type(calibration).__name__}, not a Calibration; read one with Calibration.from_csv")
    if calibration is None and any(workload.model is not None for workload in workloads):
        return Calibration.default()
    return calibration


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
