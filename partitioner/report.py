"""Layouts and figures in words: the text table, and the rows that tables elsewhere show. Must not know solvers."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partitioner.layout import NOBODY, Group, Layout, gpu_label
from partitioner.metrics import Metrics, room

MAX_ROWS = 60
"""Groups of GPUs shown one by one; the rest is counted."""
_NAMES_SHOWN, _FITS_SHOWN = 3, 4


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
    width: int | None = None,
) -> str:
    """Return a plan as text: the summary, a table of groups of GPUs, what was left out, figures and notes.

    Parameters
    ----------
    summary : the answer in one line.
    layout, metrics : what is drawn and its figures.
    unplaced : what was left out.
    notes : remarks for the reader.
    width : columns of text; None takes the terminal's, or 100.
    """
    columns = width or shutil.get_terminal_size((100, 24)).columns
    stream = io.StringIO()
    console = Console(file=stream, width=columns, color_system=None, highlight=False, emoji=False, markup=False)
    console.print(Text(summary, style="bold"))
    console.print(_gpu_table(layout))
    if unplaced:
        console.print(_unplaced_table(unplaced))
    for line in (*figures(metrics), *(f"note: {note}" for note in notes)):
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _gpu_table(layout: Layout) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("GPUs", "where", "model", "mode", "configuration", "workloads", "still fits"):
        table.add_column(heading, justify="right" if heading == "GPUs" else "left", overflow="fold")
    shown = rows(layout)
    for row in shown[:MAX_ROWS]:
        table.add_row(*(str(value) for value in row.values()))
    if len(shown) > MAX_ROWS:
        table.add_row("...", f"and {len(shown) - MAX_ROWS} more kinds of GPUs", "", "", "", "", "")
    return table


def _unplaced_table(unplaced: Sequence[LeftOut]) -> Table:
    table = Table(show_edge=False, pad_edge=False, title="left out", title_justify="left")
    for heading in ("count", "workload", "why", "remedy"):
        table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for entry in unplaced[:MAX_ROWS]:
        table.add_row(f"{entry.count:,}", entry.workload, entry.reason, entry.remedy)
    if len(unplaced) > MAX_ROWS:
        rest = sum(entry.count for entry in unplaced[MAX_ROWS:])
        table.add_row(f"{rest:,}", f"and {len(unplaced) - MAX_ROWS} more workloads", "", "")
    return table


def rows(layout: Layout) -> list[dict[str, Any]]:
    """Return one row for each group of GPUs with the same placements; unused GPUs last."""
    groups = sorted(layout.groups(), key=lambda group: not group.pattern.placements)
    return [
        {
            "GPUs": f"{len(group):,}",
            "where": _where(layout, group),
            "model": group.pattern.model,
            "mode": group.pattern.mode or "",
            "configuration": str(group.pattern.configuration) if group.pattern.placements else "unused",
            "workloads": _occupants(layout, group),
            "still fits": _room(group),
        }
        for group in groups
    ]


def _where(layout: Layout, group: Group) -> str:
    first, last = (
        gpu_label(layout.hosts[layout.gpu_host[row]], int(layout.gpu_index[row])) for row in (group.gpus[0], group.gpus[-1])
    )
    return first if len(group) == 1 else f"{first}, {last}" if len(group) == 2 else f"{first} ... {last}"


def _occupants(layout: Layout, group: Group) -> str:
    names: dict[str, None] = {}
    for who in _held(layout, group):
        names[layout.workloads[who]] = None
        if len(names) > 1000:
            return "over 1,000 workloads"
    shown = list(names)[:_NAMES_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _held(layout: Layout, group: Group) -> Iterator[int]:
    size = len(group.pattern.placements)
    for row in group.gpus:
        first = int(layout.offsets[row])
        yield from (int(who) for who in layout.occupant[first : first + size] if who != NOBODY)


def _room(group: Group) -> str:
    if not group.pattern.placements:
        return ""
    geometry = group.pattern.geometry
    assert geometry is not None
    alike: dict[object, str] = {}  # types of one size in one series family take the same room; one of them is named
    for name, count in room(group.pattern).items():
        profile = geometry.profile(name)
        alike.setdefault((profile.starts, profile.extent, profile.family, profile.uses), f"{count} x {name}")
    return " or ".join(list(alike.values())[:_FITS_SHOWN]) or "nothing"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 GPU``, ``1,200 GPUs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def figures(metrics: Metrics) -> tuple[str, ...]:
    """Return the figures of a layout as short lines."""
    lines = []
    if metrics.gpus_unused:
        lines.append(f"{counted(metrics.gpus_unused, 'GPU')} unused")
    if metrics.memory_mib:
        given = metrics.memory_allocated_mib / 1024
        beyond = f", {metrics.memory_waste_mib / 1024:,.1f} GiB of it beyond the demand" if metrics.memory_waste_mib else ""
        lines.append(f"memory: {given:,.0f} of {metrics.memory_mib / 1024:,.0f} GiB allocated{beyond}")
    if metrics.compute_slices:
        beyond = f", {metrics.compute_waste_slices:,} of them beyond the demand" if metrics.compute_waste_slices else ""
        lines.append(f"compute: {metrics.compute_slices_allocated:,} of {metrics.compute_slices:,} MIG slices allocated{beyond}")
        lines.append(
            f"stranded MIG slices: {metrics.stranded_compute_slices:,} compute, {metrics.stranded_memory_slices:,} memory"
        )
    return tuple(lines)
