"""A plan as the text that is printed."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partitioner.fleet import Fleet
from partitioner.layout import Layout
from partitioner.metrics import Metrics
from partitioner.report.gpus import OTHERS, rows
from partitioner.report.section import MAX_ROWS, Section, counted

_RIGHT = frozenset({"GPUs", "count", "batch", "each", "given", "asked for", "value"})


class LeftOut(Protocol):
    """A workload of which replicas were left out."""

    @property
    def workload(self) -> str:
        """Name of the workload."""

    @property
    def count(self) -> int:
        """Replicas left out."""

    @property
    def reason(self) -> str:
        """Why."""

    @property
    def remedy(self) -> str:
        """The least change that brings them in."""


def text(
    summary: str,
    layout: Layout,
    metrics: Metrics,
    unplaced: Sequence[LeftOut],
    notes: Sequence[str],
    *,
    sections: Sequence[Section] = (),
    fleet: Fleet | None = None,
    width: int | None = None,
) -> str:
    """Return a plan as text: the summary, a table of groups of GPUs, what was left out, figures and notes.

    Parameters
    ----------
    summary : the answer in one line.
    layout, metrics : what is drawn and its figures.
    unplaced : what was left out.
    notes : remarks for the reader.
    sections : further tables, after that of the GPUs.
    fleet : the GPUs, which say what existed before the plan.
    width : columns of text; None takes the terminal's, or 100.
    """
    columns = width or shutil.get_terminal_size((100, 24)).columns
    stream = io.StringIO()
    console = Console(  # in a notebook rich would display pieces by itself instead of writing them
        file=stream, width=columns, color_system=None, highlight=False, emoji=False, markup=False, force_jupyter=False
    )
    console.print(Text(summary, style="bold"))
    console.print(_gpu_table(layout, fleet))
    for section in (*sections, *([_left_out(unplaced)] if unplaced else [])):
        console.print(Text(section.heading, style="bold"))
        console.print(_table(section))
    for line in (*figures(metrics), *(f"note: {note}" for note in notes)):
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _gpu_table(layout: Layout, fleet: Fleet | None) -> Table:
    table = _headed(("GPUs", "where", "model", "mode", "configuration", "workloads", "still fits"))
    shown = rows(layout, fleet)
    for row in shown[:MAX_ROWS]:
        table.add_row(*(str(value) for value in row.values()))
    if len(shown) > MAX_ROWS:
        table.add_row("...", f"and {len(shown) - MAX_ROWS} more kinds of GPUs", "", "", "", "", "")
    return table


def _left_out(unplaced: Sequence[LeftOut]) -> Section:
    shown: list[Mapping[str, str]] = [
        {"count": f"{entry.count:,}", "workload": entry.workload, "why": entry.reason, "remedy": entry.remedy}
        for entry in unplaced[:MAX_ROWS]
    ]
    if len(unplaced) > MAX_ROWS:
        rest = f"{sum(entry.count for entry in unplaced[MAX_ROWS:]):,}"
        shown.append({"count": rest, "workload": f"and {len(unplaced) - MAX_ROWS} more workloads", "why": "", "remedy": ""})
    return Section("left out", tuple(shown))


def _table(section: Section) -> Table:
    table = _headed(tuple(section.rows[0]))
    for row in section.rows:
        table.add_row(*row.values())
    return table


def _headed(headings: Sequence[str]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", overflow="fold")
    return table


def figures(metrics: Metrics) -> tuple[str, ...]:
    """Return the figures of a layout as short lines."""
    lines = []
    if metrics.migrations:
        later = f", {metrics.sequential_migrations:,} of them after another one" if metrics.sequential_migrations else ""
        lines.append(f"{counted(metrics.migrations, 'move')}{later}")
    if metrics.gpus_unused:
        lines.append(f"{counted(metrics.gpus_unused, 'GPU')} unused")
    if metrics.memory_mib:
        spare = f", {_gib(metrics.memory_spare_mib)} GiB of it spare" if metrics.memory_spare_mib else ""
        beyond = f", {metrics.memory_waste_mib / 1024:,.1f} GiB of it beyond the demand" if metrics.memory_waste_mib else ""
        others = f", {_gib(metrics.memory_kept_mib)} GiB {OTHERS}" if metrics.memory_kept_mib else ""
        given = f"{_gib(metrics.memory_allocated_mib)} of {_gib(metrics.memory_mib)} GiB"
        lines.append(f"memory: {given} allocated{spare}{beyond}{others}")
    if metrics.compute_slices:
        spare = f", {metrics.compute_slices_spare:,} of them spare" if metrics.compute_slices_spare else ""
        beyond = f", {metrics.compute_waste_slices:,} of them beyond the demand" if metrics.compute_waste_slices else ""
        others = f", {metrics.compute_slices_kept:,} {OTHERS}" if metrics.compute_slices_kept else ""
        given = f"{metrics.compute_slices_allocated:,} of {metrics.compute_slices:,} MIG slices"
        lines.append(f"compute: {given} allocated{spare}{beyond}{others}")
        lines.append(
            f"stranded MIG slices: {metrics.stranded_compute_slices:,} compute, {metrics.stranded_memory_slices:,} memory"
        )
    return tuple(lines)


def _gib(mib: int) -> str:
    return f"{mib / 1024:,.0f}"
