"""A comparison as text, CSV and HTML. Computes nothing; every output says what stood in for a GPU."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from html import escape
from typing import TYPE_CHECKING

from benchmarks.results.values import Latencies
from partitioner.report.section import rate

if TYPE_CHECKING:
    from rich.table import Table

    from benchmarks.comparing.comparison import Comparison, Row
    from benchmarks.results.values import InstanceSummary

COLUMNS = (
    "scenario",
    "instance",
    "profile",
    "valid",
    "device",
    "repeats",
    "throughput_per_s",
    "spread",
    "baseline",
    "change",
    "change_low",
    "change_high",
    *(f"latency_{field.name}_ms" for field in fields(Latencies)),
    "cost_per_million",
    "energy_per_million_wh",
)
"""Columns of the CSV. A line without an instance is of the whole scenario; its latency is that of the slowest instance."""

_MOST_ADVICE = 4
_WIDEST = 4.0  # upper over lower end of an interval, above which it says nothing
_Rows = Sequence[Mapping[str, str]]
_TEXT = frozenset({"scenario", "instance", "profile", "alone", "busy", "with busy neighbours"})


def sections(comparison: Comparison) -> Iterator[tuple[str, _Rows]]:
    """Iterate over the tables of a comparison: a title, and rows whose keys are the headings; empty ones are left out."""
    yield "scenarios", [_summary(comparison, row) for row in comparison.rows]
    yield "instances", [_instance(row, entry) for row in comparison.rows for entry in row.instances]
    if expenses := _expenses(comparison):
        yield "cost and energy of a million samples", expenses
    if comparison.fairness:
        yield (
            "fairness between equal instances",
            [
                {
                    "scenario": entry.scenario + _mark(valid=entry.valid),
                    "profile": entry.profile,
                    "instances": str(entry.n_instances),
                    "Jain's index": f"{entry.jain:.4f}",
                    "max/min": _number(entry.max_over_min),
                }
                for entry in comparison.fairness
            ],
        )
    if comparison.isolation:
        yield (
            "isolation: with busy neighbours, over alone",
            [
                {
                    "profile": entry.profile,
                    "alone": entry.alone,
                    "with busy neighbours": entry.busy + _mark(valid=entry.valid),
                    "throughput": _number(entry.throughput),
                    "p50": _number(entry.p50),
                    "p99": _number(entry.p99),
                }
                for entry in comparison.isolation
            ],
        )
    if comparison.scaling:
        yield (
            "scaling of equal instances",
            [
                {
                    "profile": entry.profile,
                    "scenario": entry.scenario + _mark(valid=entry.valid),
                    "instances": str(entry.n_instances),
                    "samples/s": rate(entry.throughput_per_s),
                    "factor": f"{entry.factor:.2f}",
                    "efficiency": f"{entry.efficiency:.1%}",
                }
                for entry in comparison.scaling
            ],
        )


def headline(comparison: Comparison) -> str:
    """Return what was compared, in one line, the label of a stand-in for a GPU first."""
    said = {
        name: " and ".join(dict.fromkeys(str(getattr(result.metadata, name)) for result in comparison.results))
        for name in ("model", "mode", "gpu", "servers", "engine", "batch")
    }
    bounds = dict.fromkeys(result.metadata.rules.get("latency_bound_ms") for result in comparison.results)
    kept = " or ".join(f"{bound:g} ms" for bound in bounds if bound is not None)
    words = "{model} {mode} on {gpu}, servers {servers}, engine {engine}, batch {batch}".format(**said)
    words += f", latency bound {kept}" if kept else ""
    return f"[{comparison.label}] {words}" if comparison.label else words


def remarks(comparison: Comparison) -> tuple[str, ...]:
    """Return the verdict, and what has to be known to read the tables."""
    lines = [_verdict(comparison)]
    if comparison.allowed:
        lines.append(f"allowed to differ, although figures hang on them: {', '.join(comparison.allowed)}")
    advice = dict.fromkeys(each for row in comparison.rows for each in row.result.advice)
    lines += [f"advice: {each}" for each in list(advice)[:_MOST_ADVICE]]
    lines += dict.fromkeys(row.change.note for row in comparison.rows if row.change is not None and row.change.note)
    return (*lines, *comparison.notes)


def _verdict(comparison: Comparison) -> str:
    best = comparison.best
    if best is None:
        return "best: none; every result is INVALID"
    said = f"best: {best.name} with {rate(best.throughput_per_s)} samples/s"
    if best.change is None:
        return said if best.name != comparison.baseline or len(comparison.rows) == 1 else f"{said}, the baseline itself"
    doubt = "" if best.change.significant or best.change.significant is None else ", which may be chance"
    interval = "" if best.change.low is None else f" ({_interval(best)})"
    return f"{said}, {_change(best)}{interval} against {comparison.baseline}{doubt}"


def text(comparison: Comparison, *, width: int | None) -> str:
    """Return the headline, every table and the remarks, as text for a terminal."""
    from rich.console import Console
    from rich.text import Text

    stream = io.StringIO()
    columns = width or shutil.get_terminal_size((120, 24)).columns
    console = Console(  # in a notebook rich would display pieces by itself instead of writing them
        file=stream, width=columns, color_system=None, highlight=False, emoji=False, markup=False, force_jupyter=False
    )
    console.print(Text(headline(comparison)))
    for title, rows in sections(comparison):
        console.print(Text(f"\n{title}"))
        console.print(_table(rows))
    console.print()
    for line in remarks(comparison):
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _table(rows: _Rows) -> Table:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for heading in rows[0]:
        words = heading in _TEXT
        whole = words or heading == "samples/s"
        table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*row.values())
    return table


def html(comparison: Comparison) -> str:
    """Return the same as a piece of HTML for notebooks."""
    parts = [f"<p><strong>{escape(headline(comparison))}</strong></p>"]
    for title, rows in sections(comparison):
        head = "".join(f"<th>{escape(heading)}</th>" for heading in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>" for row in rows)
        parts.append(f"<table><caption>{escape(title)}</caption><tr>{head}</tr>{body}</table>")
    return "".join(parts) + "".join(f"<p>{escape(line)}</p>" for line in remarks(comparison))


def csv_text(comparison: Comparison) -> str:
    """Return `COLUMNS`, then a line for each scenario and for each of its instances; numbers in full, shares not in percent."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in comparison.rows:
        shared = {"scenario": row.name, "device": row.result.metadata.device, "repeats": len(row.result.repeats)}
        writer.writerow(shared | _system_cells(comparison, row) | _latency_cells(row.latency))
        for entry in row.instances:
            writer.writerow(shared | _instance_cells(entry) | _latency_cells(entry.latency))
    return stream.getvalue()


def _system_cells(comparison: Comparison, row: Row) -> dict[str, object]:
    cells: dict[str, object] = {
        "valid": _yes(row.valid),
        "throughput_per_s": row.throughput_per_s,
        "spread": row.result.spread,
        "baseline": comparison.baseline,
        "cost_per_million": row.cost_per_million,
        "energy_per_million_wh": row.energy_per_million_wh,
    }
    if row.change is not None:
        cells |= {"change": row.change.relative, "change_low": row.change.low, "change_high": row.change.high}
    return cells


def _instance_cells(entry: InstanceSummary) -> dict[str, object]:
    return {
        "instance": entry.instance,
        "profile": entry.profile,
        "valid": _yes(entry.valid),
        "throughput_per_s": entry.throughput_per_s,
        "spread": entry.spread,
    }


def _latency_cells(latency: Latencies | None) -> dict[str, object]:
    return {} if latency is None else {f"latency_{name}_ms": value for name, value in asdict(latency).items()}


# -- rows --------------------------------------------------------------------------------------------------------------


def _summary(comparison: Comparison, row: Row) -> dict[str, str]:
    """Return the line of a scenario."""
    cells = {
        "scenario": row.name + _mark(valid=row.valid) + _stand_in(comparison, row),
        "samples/s": _spread(row.throughput_per_s, row.result.spread, row),
    }
    if comparison.baseline is not None:
        cells[f"against {comparison.baseline}"] = "baseline" if row.name == comparison.baseline else _change(row)
        cells[f"{100 * comparison.confidence:g}% interval"] = _interval(row)
    return cells | {"p50 [ms]": _ms(row.latency, "p50"), "p99 [ms]": _ms(row.latency, "p99")}


def _expenses(comparison: Comparison) -> list[dict[str, str]]:
    """Return the price and the energy of a million samples, as far as they are known for any scenario."""
    columns = {
        "cost per million": [row.cost_per_million for row in comparison.rows],
        "Wh per million": [row.energy_per_million_wh for row in comparison.rows],
    }
    known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return [
        {"scenario": row.name + _mark(valid=row.valid), "GPUs": str(row.result.n_gpus)}
        | {name: _number(values[place]) for name, values in known.items()}
        for place, row in enumerate(comparison.rows)
        if known
    ]


def _instance(row: Row, entry: InstanceSummary) -> dict[str, str]:
    names = ("p50", "p90", "p99", "p999")
    asked = {run.instance: run.rate_per_s for run in row.result.repeats[0].instances}.get(entry.instance)
    return {
        "scenario": row.name,
        "instance": entry.instance + _mark(valid=entry.valid),
        **({} if asked is None else {"asked [1/s]": rate(asked)}),
        "samples/s": _spread(entry.throughput_per_s, entry.spread, row),
    } | {f"{name} [ms]": _ms(entry.latency, name) for name in names}


def _change(row: Row) -> str:
    return "-" if row.change is None else f"{row.change.relative:+.1%}"


def _interval(row: Row) -> str:
    if row.change is None or row.change.low is None or row.change.high is None:
        return "-"
    if (1 + row.change.high) / (1 + row.change.low) > _WIDEST:
        return "too wide, repeat more"
    return f"{row.change.low:+.1%} to {row.change.high:+.1%}"


def _spread(per_s: float, spread: float, row: Row) -> str:
    """Return ``2,110 ±0.8%``; one repeat has no spread."""
    return f"{rate(per_s)} ±{spread:.1%}" if len(row.result.repeats) > 1 else rate(per_s)


def _stand_in(comparison: Comparison, row: Row) -> str:
    """Return the label of a row where the rows, by allowance, do not all have the same."""
    alike = len({other.result.label for other in comparison.rows}) == 1
    return "" if alike or not row.result.label else f" [{row.result.label}]"


def _mark(*, valid: bool) -> str:
    return "" if valid else " INVALID"


def _ms(latency: Latencies | None, name: str) -> str:
    return "-" if latency is None else _number(getattr(latency, name))


def _number(value: float | None) -> str:
    """Return a number to three digits, never in powers of ten; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.2g}"


def _yes(flag: bool) -> str:  # noqa: FBT001 - the flag is the value
    return "yes" if flag else "no"
