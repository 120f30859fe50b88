"""`partitioner bench export-mlperf`: the files that NVIDIA's MLPerf harness needs for a scenario. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXPORT_HELP = """Write the system_list.py entry, the configuration and user.conf of NVIDIA's MLPerf harness (v1.1) for MIG.

The harness runs instances of one profile only; a mixed scenario is refused, and `partitioner bench run` measures it.

\b
Example:
  partitioner bench export-mlperf 7x1g --gpu A100-80GB --model resnet50 --rate 4000 --out closed/NVIDIA
"""


def export_mlperf(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="Instances of one profile, e.g. 7x1g.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder, such as closed/NVIDIA.")],
    rate: Annotated[float, typer.Option("--rate", metavar="N", help="Expected samples, or queries, a second of each instance.")],
    gpu: Annotated[str, typer.Option("--gpu", metavar="MODEL", help="GPU model.")] = "A100-80GB",
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="MLPerf's benchmark.")] = "resnet50",
    mode: Annotated[str, typer.Option("--mode", metavar="MODE", help="offline, server or single_stream.")] = "offline",
    board: Annotated[str | None, typer.Option("--board", metavar="ID", help="The harness's board, e.g. A100-SXM-80GB.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Samples in a batch.")] = None,
    latency_ms: Annotated[float | None, typer.Option("--latency-ms", metavar="MS", help="Bound of mode server.")] = None,
) -> None:
    """Write files for NVIDIA's MLPerf harness."""
    from benchmarks import mlperf
    from benchmarks.scenarios import Scenario

    files = mlperf.export_mlperf(
        Scenario.parse(scenario, gpu=gpu),
        model=model,
        mode=mode,
        rate_per_s=rate,
        board=board,
        batch=batch,
        latency_ms=latency_ms,
    )
    for path in mlperf.write_mlperf(out, files):
        typer.echo(f"wrote {path}", err=True)
