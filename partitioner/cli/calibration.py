"""`partitioner calibration`: what the product knows about performance, and how wrong it is where nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.output import console, print_json

if TYPE_CHECKING:
    from partitioner.performance import Calibration, Fold

app = typer.Typer(name="calibration", help="Measured throughput and latency: list, or check the errors.", no_args_is_help=True)

CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", metavar="FILE", help="Your own measurements (CSV), instead of the shipped ones.")
]


@app.command("list")
def list_(*, calibration: CalibrationFile = None, catalog_files: CatalogFiles = None, as_json: AsJson = False) -> None:
    """List the models with the GPUs, profiles and scenarios in which they were measured."""
    add_catalog_files(catalog_files)
    rows = _rows(_load(calibration))
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("model", "GPU", "profiles", "measured", "points", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["model"], row["gpu"], ", ".join(row["profiles"]), ", ".join(row["measured"]), str(row["points"]))
    console().print(table)


@app.command()
def check(*, calibration: CalibrationFile = None, catalog_files: CatalogFiles = None, as_json: AsJson = False) -> None:
    """Hold out each profile and each model in turn, predict it from the rest, and show the errors by model."""
    add_catalog_files(catalog_files)
    from partitioner.performance import cross_validate

    loaded = _load(calibration)
    folds = cross_validate(loaded)
    if as_json:
        print_json({"points": len(loaded.points), "errors": _summaries(folds)})
        return
    out = console()
    if not folds:
        out.print(f"Points: {len(loaded.points)}, all valid; no model has three profiles on one GPU,")
        out.print("so that nothing can be held out.")
        return
    from rich.table import Table

    table = Table("GPU", "model", "held out", "points", box=None, header_style="bold")
    for name in ("throughput mean", "p90", "latency mean", "p90"):
        table.add_column(name, justify="right")
    for row in _summaries(folds):
        figures = [row[key] for key in ("throughput_mean", "throughput_p90", "latency_mean", "latency_p90")]
        table.add_row(
            row["gpu"],
            row["model"],
            row["held_out"],
            str(row["points"]),
            *("-" if value is None else f"{value:.1%}" for value in figures),
        )
    out.print(table)
    out.print("\nHeld out: one profile at a time; one model, measured on its largest profile with one process only; the")
    out.print("profiles between the smallest and the largest, as scenario figures are interpolated.")


def _load(path: Path | None) -> Calibration:
    from partitioner.performance import Calibration

    return Calibration.default() if path is None else Calibration.from_csv(path)


def _rows(calibration: Calibration) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for point in calibration.points:
        groups.setdefault((point.model, point.gpu), []).append(point)
    return [
        {
            "model": model,
            "gpu": gpu,
            "profiles": list(dict.fromkeys(point.profile for point in points)),
            "measured": sorted({point.scenario or "batch" for point in points}),
            "points": len(points),
        }
        for (model, gpu), points in sorted(groups.items())
    ]


def _summaries(folds: tuple[Fold, ...]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from partitioner.performance.validation import LEAVE_OUT, summarise

    result = []
    for held_out in LEAVE_OUT:
        groups: dict[tuple[str, str], list[Fold]] = {}
        for fold in folds:
            if fold.leave_out == held_out:
                groups.setdefault((fold.gpu, fold.model), []).append(fold)
        for (gpu, model), group in sorted(groups.items()):
            result.append({"gpu": gpu, "model": model, "held_out": held_out, **asdict(summarise(group))})
    return result
