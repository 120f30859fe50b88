"""`partitioner bench compare`, `report` and `calibrate`: what follows from results that were measured. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.cli.terminal import AsJson, check_files, print_json, print_text, write_file
from partitioner.errors import Problem, SpecError

if TYPE_CHECKING:
    from benchmarks.comparing import Comparison
    from benchmarks.results import Result

COMPARE_HELP = """Put results side by side: throughput, latency, change against a baseline, fairness, isolation, cost, energy.

Results that were not measured alike are refused; --allow names what may differ all the same.

\b
Examples:
  partitioner bench compare results --baseline 7g --cost-per-gpu-hour 2.5
  partitioner bench compare old/7g.resnet50.offline.json new/7g.resnet50.offline.json --allow software
"""

CALIBRATE_HELP = """Write results as a calibration file (CSV), so that the next plan uses what was measured.

Results of slices of the CPU or of emulated devices say nothing of a GPU and are refused, except with --stand-ins.

\b
Example:
  partitioner bench calibrate results --out measured.csv && partitioner plan services.yaml --extend-calibration measured.csv
"""

Paths = Annotated[list[Path], typer.Argument(metavar="DIR|FILE...", help="Folders of studies, or files of results.")]
Baseline = Annotated[str | None, typer.Option("--baseline", metavar="SCENARIO", help="By default the first that is valid.")]
Cost = Annotated[float | None, typer.Option("--cost-per-gpu-hour", metavar="N", help="Price of a GPU hour, in your currency.")]
Allow = Annotated[list[str] | None, typer.Option("--allow", metavar="FIELD", help="What may differ; may be given again.")]


def compare(
    paths: Paths,
    *,
    baseline: Baseline = None,
    cost_per_gpu_hour: Cost = None,
    allow: Allow = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put results side by side."""
    check_files([csv])
    results = _results(paths)
    tell(results, baseline=baseline, cost_per_gpu_hour=cost_per_gpu_hour, allow=allow or (), csv=csv, as_json=as_json)


def report(
    paths: Paths,
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The page; by default report.html.")] = None,
    baseline: Baseline = None,
    cost_per_gpu_hour: Cost = None,
    allow: Allow = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="Of the page.")] = None,
) -> None:
    """Write one HTML page: tables, plots, prediction against measurement, and how it was measured."""
    from benchmarks.reporting import report as page

    to = out or Path("report.html")
    check_files([to])
    groups = _groups(_results(paths))
    comparisons = [_compared(g, baseline=baseline, cost_per_gpu_hour=cost_per_gpu_hour, allow=allow or ()) for g in groups]
    write_file(to, page(comparisons, title=title))


def calibrate(
    paths: Paths,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The calibration (CSV).")],
    stand_ins: Annotated[
        bool, typer.Option("--stand-ins", help="Take results of stand-ins for a GPU too; their source says so.")
    ] = False,
) -> None:
    """Write results as a calibration."""
    from partitioner.performance import Calibration

    check_files([out])
    write_file(out, Calibration.from_results(_results(paths), stand_ins=stand_ins).to_csv())


def tell(
    results: Sequence[Result],
    *,
    baseline: str | None = None,
    cost_per_gpu_hour: float | None = None,
    allow: Sequence[str] = (),
    csv: Path | None = None,
    as_json: bool = False,
) -> None:
    """Print the comparison of results; those of another model or mode are compared among themselves."""
    groups = _groups(results)
    comparisons = [_compared(g, baseline=baseline, cost_per_gpu_hour=cost_per_gpu_hour, allow=allow) for g in groups]
    if csv is not None:
        head, *_ = texts = [comparison.to_csv() for comparison in comparisons]
        write_file(csv, head + "".join(text.partition("\n")[2] for text in texts[1:]))
    if as_json:
        data = [comparison.to_data() for comparison in comparisons]
        print_json(data[0] if len(data) == 1 else data)
        return
    print_text("\n\n".join(comparison.to_text() for comparison in comparisons))


def _compared(
    results: Sequence[Result], *, baseline: str | None, cost_per_gpu_hour: float | None, allow: Sequence[str]
) -> Comparison:
    from benchmarks.comparing import compare as side_by_side

    return side_by_side(results, baseline, cost_per_gpu_hour=cost_per_gpu_hour, allow=allow)


def _groups(results: Sequence[Result]) -> list[list[Result]]:
    """Return the results by model, mode and GPU, in the order in which these are first met."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        how = result.metadata
        groups.setdefault((how.model, how.mode, how.gpu), []).append(result)
    return list(groups.values())


def _results(paths: Sequence[Path]) -> list[Result]:
    """Return the results in files, and of folders all that are complete."""
    from benchmarks.results import Result
    from benchmarks.runner.journal import Journal

    found: list[Result] = []
    for path in paths:
        if path.is_dir():
            results = Journal(path).results()
            if not results:
                text = "holds no complete result; measure what is missing with `partitioner bench resume`"
                raise SpecError(Problem(text, str(path)))
            found += results
        else:
            found.append(Result.load(path))
    return found
