"""`partitioner explain`: why a workload of a saved plan is placed as it is, or left out, and what would change that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from partitioner.cli.calibration import CalibrationFile
from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.output import print_json, print_text

EXPLAIN_HELP = """Say why a workload of a plan is placed as it is, or left out, and what would change that.

Each remedy named is verified by planning again; what the time limit left open is said.

\b
Examples:
  partitioner plan workloads.yaml --fleet fleet.yaml --out plan.json
  partitioner explain plan.json search
"""


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A plan saved with --out.")],
    workload: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The workload.")],
    *,
    calibration: CalibrationFile = None,
    catalog_files: CatalogFiles = None,
    time_limit: Annotated[float, typer.Option(metavar="S", help="Seconds for all what-if questions together.")] = 10.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="For the engines.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say why a workload of a plan is placed as it is, or left out, and what would change that."""
    add_catalog_files(catalog_files)
    from partitioner.performance import Calibration
    from partitioner.plans import Plan

    table = None if calibration is None else Calibration.from_csv(calibration)
    found = Plan.load(file).explain(workload, calibration=table, time_limit_s=time_limit, seed=seed)
    if as_json:
        print_json(found.to_data())
    else:
        print_text(str(found))
