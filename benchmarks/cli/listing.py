"""`partitioner bench list` and `schema`: what can be measured, and how a study is written. Runs nothing."""

from __future__ import annotations

from benchmarks.cli.terminal import AsJson, print_json, print_text


def list_(*, as_json: AsJson = False) -> None:
    """List the scenarios of the source documents and the models that can be built here."""
    from benchmarks.models.model import LATENCY_BOUNDS_MS, names
    from benchmarks.scenarios import T4_VGPU, TABLE_2

    if as_json:
        scenarios = [{"name": s.name, "gpu": s.gpu, "profiles": list(s.profiles)} for s in (*TABLE_2, *T4_VGPU)]
        print_json({"scenarios": scenarios, "models": [{"name": n, "latency_ms": LATENCY_BOUNDS_MS.get(n)} for n in names()]})
        return
    rows: list[tuple[str, ...]] = [("scenario", "GPU", "instances")]
    rows += [(s.name, s.gpu, ", ".join(s.profiles)) for s in (*TABLE_2, *T4_VGPU)]
    print_text(_columns(rows))
    bounds = [(name, LATENCY_BOUNDS_MS.get(name)) for name in names()]
    print_text("\n" + _columns([("model", "MLPerf's bound"), *((n, "-" if ms is None else f"{ms:g} ms") for n, ms in bounds)]))


def schema() -> None:
    """Print the JSON schema of a study's file: completion and checks in editors."""
    from benchmarks.scenarios import study

    print_json(study.schema())


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
