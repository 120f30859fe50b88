"""`partitioner plan`, `show` and `schema`. Turns arguments into one call of the planner, and the plan into output."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.cli.asking import spinner
from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.codes import LEFT_OUT
from partitioner.cli.goals import read_layout_goal, read_plan
from partitioner.cli.output import check_files, console, print_json, print_text, write_file
from partitioner.cli.target import VARIABLE, TargetName, is_hardware, opened
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.layout import Layout
    from partitioner.performance import Calibration
    from partitioner.planning import Plan
    from partitioner.workload import Workloads

MAX_TIME_LIMIT_S = 1_000_000


class Mode(StrEnum):
    """Ways to cut a GPU among which a plan may choose."""

    MIG = "mig"
    VGPU = "vgpu"
    WHOLE = "whole"
    ANY = "any"


class Kind(StrEnum):
    """Files of which there is a JSON schema."""

    WORKLOADS = "workloads"
    FLEET = "fleet"
    PLAN = "plan"
    CHANGES = "changes"
    GPU = "gpu"


PLAN_HELP = """Plan which GPU is cut how, and what runs where, on the fewest GPUs.

Exits with 0 when everything is placed, 3 when something is left out.

\b
Examples:
  partitioner plan workloads.yaml --gpu A100-80GB
  partitioner plan 4g+2g+3x1g --gpu H100-80GB --gpus 1
  partitioner plan - --fleet fleet.yaml --json < workloads.yaml
  partitioner plan services.yaml --fleet fleet.yaml --objective placed,cost,gpus
  partitioner plan services.yaml --fleet fleet.yaml --host-failures 1
  partitioner plan services.yaml --gpu A100-80GB --extend-calibration mine.csv

\b
For what is there, moving as little as possible (`partitioner diff` and `apply` take the plan from there):
  partitioner plan workloads.yaml --target nvml --out plan.json
  partitioner plan workloads.yaml --target sim:fleet.yaml --keep chat --vacate esx-02/gpu1 --out plan.json
  partitioner plan --target sim:fleet.yaml --vacate esx-02 --out plan.json      what runs now, on the other hosts
"""
_OBJECTIVE_HELP = (
    "What is best, the most important first: placed, then any of gpus, moves, cost, power, hosts, waste, spread, headroom;"
    " with commas, or given several times. Default: placed,gpus,waste; where something runs placed,gpus,moves,waste."
)
_MODE_HELP = (
    "How GPUs may be cut; give it twice for a choice, e.g. --mode mig --mode whole. vgpu: time-sliced; alone also"
    " MIG-backed. Default: with --gpu mig, or vgpu where it has no MIG; with --fleet and sim: any; with --target nvml mig"
    " and whole."
)
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report with the picture.")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture.")]


def plan(
    workloads: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="Workloads in YAML or JSON, - for standard input, or e.g. 4g+2g+1g. Without it: what runs on the target now.",
        ),
    ] = None,
    *,
    gpu: Annotated[str | None, typer.Option(metavar="GPU", help="Plan for GPUs of this model, e.g. A100-80GB.")] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many of them; default: as many as needed.")] = None,
    fleet: Annotated[str | None, typer.Option(metavar="FILE", help="Plan for the hosts in this YAML or JSON file.")] = None,
    target: TargetName = None,
    current: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What runs now: a plan or a status, or none. Default: what runs on the target."),
    ] = None,
    pinned: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", "--pinned", metavar="NAME", help="A workload, or NAME/0 for one replica, that stays in its place."
        ),
    ] = None,
    vacate: Annotated[
        list[str] | None, typer.Option(metavar="HOST[/gpuN]", help="A host or GPU on which nothing may stay, for maintenance.")
    ] = None,
    catalog_files: CatalogFiles = None,
    mode: Annotated[list[Mode] | None, typer.Option(help=_MODE_HELP)] = None,
    objective: Annotated[list[str] | None, typer.Option(metavar="STAGES", help=_OBJECTIVE_HELP)] = None,
    host_failures: Annotated[
        int, typer.Option(metavar="N", min=0, max=1, help="1: whatever host fails, its replicas find room on the others.")
    ] = 0,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measurements of models (CSV), instead of the shipped ones.")
    ] = None,
    extend_calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measurements of models (CSV), beside the shipped ones and before them.")
    ] = None,
    time_limit: Annotated[float, typer.Option(metavar="S", help="Seconds to look for a proof; the best so far counts.")] = 10.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="Same input and seed, same plan.")] = 0,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the plan as JSON.")] = None,
    html: Html = None,
    svg: Svg = None,
) -> None:
    """Plan which GPU is cut how, and what runs where, on the fewest GPUs."""
    target = target or (os.environ.get(VARIABLE) if gpu is None and fleet is None else None)
    _check_options(workloads, gpu, gpus, fleet, target, time_limit)
    if calibration is not None and extend_calibration is not None:
        raise SpecError("--calibration and --extend-calibration are both given; the first leaves the shipped table out, give one")
    if host_failures and fleet is None and target is None:
        raise SpecError(f"--host-failures {host_failures} looks at hosts; give them with --fleet FILE or --target")
    check_files([out, html, svg])
    add_catalog_files(catalog_files)
    asked = None if workloads is None else _read(workloads)  # all that can be wrong with files shows before any work
    where = _gpus(gpu, gpus, fleet) if target is None else _target(target)
    where |= _current(current, where.get("current"))
    wanted = _running(where.get("current"), target) if asked is None else asked
    options = _options(objective, host_failures, _calibration(calibration, extend_calibration))
    options |= {"pinned": tuple(pinned)} if pinned else {}
    options |= {"vacate": tuple(vacate)} if vacate else {}
    planner = _planner(mode or _modes_of(target), gpu)
    with spinner("planning"):
        found = planner(wanted, **where, **options, time_limit_s=time_limit, seed=seed)
    if out:
        found.save(out)
        typer.echo(f"wrote {out}", err=True)
    _present(found, as_json=as_json, html=html, svg=svg)
    if not found.complete:
        raise typer.Exit(LEFT_OUT)


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A plan or changes, saved with --out.")],
    *,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    html: Html = None,
    svg: Svg = None,
) -> None:
    """Show a saved plan, or saved changes."""
    check_files([html, svg])
    add_catalog_files(catalog_files)
    from partitioner.changes import Changes

    found = read_plan(file)
    if not isinstance(found, Changes):
        _present(found, as_json=as_json, html=html, svg=svg)
        return
    if html or svg:
        raise SpecError(f"{file}: changes have no picture; give --html and --svg with the plan that they were made from")
    if as_json:
        print_json(found.to_json())
    else:
        print_text(found.to_text())


def schema(kind: Annotated[Kind, typer.Argument(help="The file to describe.")] = Kind.WORKLOADS) -> None:
    """Print the JSON schema (draft 2020-12) of a file, for editors that complete and check."""
    if kind is Kind.CHANGES:
        from partitioner.applying import changes_schema

        print_json(changes_schema())
        return
    from partitioner import planning

    print_json(planning.schema(kind.value))


def _check_options(
    workloads: str | None, gpu: str | None, gpus: int | None, fleet: str | None, target: str | None, time_limit: float
) -> None:
    if workloads is None and target is None:
        raise typer.BadParameter("missing; without it, give --target to plan anew what runs there", param_hint="FILE")
    if gpu is None and fleet is None and target is None:
        raise SpecError(
            "no GPUs given; give --gpu MODEL, e.g. --gpu A100-80GB (`partitioner catalog list` names all), --fleet FILE,"
            " or --target"
        )
    if gpu is not None and fleet is not None:
        raise SpecError("--gpu and --fleet are both given; a fleet says its GPUs itself, give one of them")
    if target is not None and (gpu is not None or fleet is not None or gpus is not None):
        raise SpecError("--target is given with --gpu, --gpus or --fleet; a target says itself which GPUs there are")
    if fleet is not None and gpus is not None:
        raise SpecError(f"--gpus {gpus} is given with --fleet; a fleet says itself how many GPUs there are")
    if workloads == "-" and fleet == "-":
        raise SpecError("workloads and --fleet both read standard input; put one of them in a file")
    if not 0 < time_limit <= MAX_TIME_LIMIT_S:  # false for NaN
        raise SpecError(
            f"--time-limit is {time_limit:g}, not a number of seconds above 0 and up to {MAX_TIME_LIMIT_S:,}; e.g. 10"
        )


def _read(workloads: str) -> Workloads:
    from partitioner.workload import read_workloads

    # A name that does not look like a path is one when such a file exists; Path.exists would raise for absurd names.
    is_file = workloads != "-" and os.path.exists(workloads)  # noqa: PTH110
    return read_workloads(Path(workloads) if is_file else workloads)


def _gpus(gpu: str | None, gpus: int | None, fleet: str | None) -> dict[str, Any]:
    if gpu is not None:
        from partitioner import catalog

        return {"gpu": catalog.gpu(gpu).name, "gpus": gpus}
    from partitioner.fleet import read_fleet

    return {"fleet": read_fleet(fleet)}


def _target(name: str) -> dict[str, Any]:
    """Return the fleet of a target, and what runs on it."""
    with opened(name) as target:
        return {"fleet": target.fleet(), "current": target.layout()}


def _current(file: str | None, there: Layout | None) -> dict[str, Any]:
    """Return what runs now, as an argument of the planner; none where nobody asked to look at it."""
    if file == "none":
        return {"current": None}
    found = there if file is None else read_layout_goal(file, wanted="--current").layout
    return {} if found is None else {"current": found}


def _running(current: Layout | None, target: str | None) -> Workloads:
    from partitioner.planning import workloads_of

    if current is None or not any(True for _ in current.assignments()):
        raise SpecError(f"nothing runs on {target} that could be planned anew; name a file of workloads")
    return workloads_of(current)


def _modes_of(target: str | None) -> list[Mode]:
    """Return the modes in which bare metal can be cut; time-sliced vGPUs are a hypervisor's."""
    return [Mode.MIG, Mode.WHOLE] if target is not None and is_hardware(target) else []


def _calibration(alone: Path | None, beside: Path | None) -> Calibration | None:
    """Return the table to plan services with; None for the shipped one."""
    from partitioner.performance import Calibration

    if alone is not None:
        return Calibration.from_csv(alone)
    return None if beside is None else Calibration.default().merge(Calibration.from_csv(beside))


def _options(objective: list[str] | None, host_failures: int, calibration: Calibration | None) -> dict[str, Any]:
    """Return the arguments of the planner that were given; the planner has its own defaults for the others."""
    stages = tuple(stage.strip() for part in objective or () for stage in part.split(","))
    chosen: dict[str, Any] = {"host_failures": host_failures, "calibration": calibration}
    return {**chosen, "objective": stages} if objective else chosen


def _planner(modes: list[Mode], gpu: str | None) -> Callable[..., Plan]:
    """Return the function that plans in modes; with one GPU model and no mode, the way that model is usually cut."""
    from functools import partial

    from partitioner import catalog, planning

    if not modes and gpu is not None:
        modes = [Mode.MIG if "mig" in catalog.gpu(gpu).modes else Mode.VGPU]
    if modes == [Mode.MIG]:
        return planning.plan_mig
    if modes == [Mode.VGPU]:
        return planning.plan_vgpu
    return partial(planning.plan, modes=None if not modes or Mode.ANY in modes else [mode.value for mode in modes])


def _present(found: Plan, *, as_json: bool, html: Path | None, svg: Path | None) -> None:
    if html:
        write_file(html, found.to_html())
    if svg:
        write_file(svg, found.to_svg())
    if as_json:
        print_json(found.to_json())
    else:
        print_text(found.to_text(width=console().width))
