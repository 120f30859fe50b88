"""`partitioner plan`, `show` and `schema`. Turns arguments into one call of the planner, and the plan into output."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.output import check_files, console, print_json, print_text, write_file
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.performance import Calibration
    from partitioner.planning import Plan
    from partitioner.workload import Workloads

MAX_TIME_LIMIT_S = 1_000_000
LEFT_OUT = 3
"""Exit code of a plan that leaves something out."""


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
"""
_OBJECTIVE_HELP = (
    "What is best, the most important first: placed, then any of gpus, cost, power, hosts, waste, spread, headroom; with"
    " commas, or given several times. Default: placed,gpus,waste."
)
_MODE_HELP = (
    "How GPUs may be cut; give it twice for a choice, e.g. --mode mig --mode whole. vgpu: time-sliced; alone also"
    " MIG-backed. Default: with --gpu mig, or vgpu where it has no MIG; with --fleet any."
)
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report with the picture.")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture.")]


def plan(
    workloads: Annotated[
        str,
        typer.Argument(
            metavar="FILE", show_default=False, help="Workloads in YAML or JSON, - for standard input, or e.g. 4g+2g+1g."
        ),
    ],
    *,
    gpu: Annotated[str | None, typer.Option(metavar="GPU", help="Plan for GPUs of this model, e.g. A100-80GB.")] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many of them; default: as many as needed.")] = None,
    fleet: Annotated[str | None, typer.Option(metavar="FILE", help="Plan for the hosts in this YAML or JSON file.")] = None,
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
    _check_options(workloads, gpu, gpus, fleet, time_limit)
    if calibration is not None and extend_calibration is not None:
        raise SpecError("--calibration and --extend-calibration are both given; the first leaves the shipped table out, give one")
    if host_failures and fleet is None:
        raise SpecError(f"--host-failures {host_failures} looks at hosts; give them with --fleet FILE")
    check_files([out, html, svg])
    add_catalog_files(catalog_files)
    wanted, where = _read(workloads), _gpus(gpu, gpus, fleet)  # all that can be wrong with files shows before any work
    options = _options(objective, host_failures, _calibration(calibration, extend_calibration))
    found = _planner(mode or [], gpu)(wanted, **where, **options, time_limit_s=time_limit, seed=seed)
    if out:
        found.save(out)
        typer.echo(f"wrote {out}", err=True)
    _present(found, as_json=as_json, html=html, svg=svg)
    if not found.complete:
        raise typer.Exit(LEFT_OUT)


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A plan saved with --out.")],
    *,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    html: Html = None,
    svg: Svg = None,
) -> None:
    """Show a saved plan."""
    check_files([html, svg])
    add_catalog_files(catalog_files)
    from partitioner.planning import Plan

    _present(Plan.load(file), as_json=as_json, html=html, svg=svg)


def schema(kind: Annotated[Kind, typer.Argument(help="The file to describe.")] = Kind.WORKLOADS) -> None:
    """Print the JSON schema (draft 2020-12) of a file, for editors that complete and check."""
    from partitioner import planning

    print_json(planning.schema(kind.value))


def _check_options(workloads: str, gpu: str | None, gpus: int | None, fleet: str | None, time_limit: float) -> None:
    if gpu is None and fleet is None:
        raise SpecError(
            "no GPUs given; give --gpu MODEL, e.g. --gpu A100-80GB (`partitioner catalog list` names all), or --fleet FILE"
        )
    if gpu is not None and fleet is not None:
        raise SpecError("--gpu and --fleet are both given; a fleet says its GPUs itself, give one of them")
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
