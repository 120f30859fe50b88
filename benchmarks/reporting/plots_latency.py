"""The plot of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.comparing import Row
from benchmarks.reporting.compared import Compared, compared
from benchmarks.reporting.curves import Numbers, curve
from benchmarks.reporting.plots_axes import BAD, COLOURS, SQUARE_IN, axes, legend, numbers, short, title
from benchmarks.results.values import InstanceRun
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def latency(results: Compared, ax: Axes | None = None, *, by: str = "scenario") -> Axes:
    """Draw which share of the queries was answered within which time; the axis of shares stretches the slow end.

    Parameters
    ----------
    results : scenarios.
    ax : axes to draw on.
    by : ``scenario``: a curve for each scenario, its instances together; ``instance``: one for each instance.

    Raises
    ------
    SpecError
        There are no results, or `by` is something else.
    IncomparableError
        They were not measured alike.
    """
    if by not in ("scenario", "instance"):
        raise SpecError(f"latency plot - by={by!r} is unknown; known: scenario, instance")
    comparison = compared(results)
    groups = [group for row in comparison.rows for group in _groups(row, by, several=len(comparison.rows) > 1)]
    bounds = {
        how.rules.get("latency_bound_ms") for how in (row.result.metadata for row in comparison.rows) if how.mode == "server"
    }
    with axes(ax, height_in=SQUARE_IN + 0.17 * ((len(groups) + 1) // 2)) as drawn:
        for (name, runs), colour, style in zip(groups, cycle(COLOURS), cycle(_styles()), strict=False):
            found = curve(runs)
            if found is not None:
                drawn.plot(
                    found.latency_ms,
                    _stretched(found.shares),
                    color=colour,
                    linestyle=style,
                    linewidth=1.4,
                    label=short(name, 24),
                )
        for bound in sorted(value for value in bounds if value is not None):
            _bound(drawn, bound)
        ticks = np.array([0.0, 0.5, 0.9, 0.99, 0.999])
        drawn.set_yticks(_stretched(ticks), [f"{100 * share:g}%" for share in ticks])
        drawn.set_ylim(0, 3.05)
        _time_axis(drawn)
        drawn.grid()
        drawn.set_ylabel("queries answered within")
        legend(drawn)
        where = f", {short(comparison.rows[0].name, 22)}" if by == "instance" and len(comparison.rows) == 1 else ""
        title(drawn, f"Latency by {by}{where}", comparison.label)
    return drawn


def _groups(row: Row, by: str, *, several: bool) -> list[tuple[str, list[InstanceRun]]]:
    runs = [run for repeat in row.result.repeats for run in repeat.instances]
    if by == "scenario":
        return [(row.name, runs)]
    names = [entry.instance for entry in row.instances]
    return [(f"{row.name}: {name}" if several else name, [run for run in runs if run.instance == name]) for name in names]


def _bound(ax: Axes, bound_ms: float) -> None:
    ax.axvline(bound_ms, color=BAD, linewidth=0.9, linestyle=(0, (4, 2)))
    ax.annotate(
        f"bound\n{bound_ms:g} ms", (bound_ms, 0.0), (3, 4), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
        color=BAD, fontsize=7.5,
    )  # fmt: skip
    ax.set_xlim(right=max(ax.get_xlim()[1], 2.0 * bound_ms))  # room for the words


def _styles() -> Sequence[Any]:
    return ["-"] * len(COLOURS) + [(0, (4, 1.5))] * len(COLOURS) + [(0, (1, 1))] * len(COLOURS)


def _stretched(shares: Numbers) -> Numbers:
    """Return where shares stand on the axis: each nine as far from the last as the first from 0."""
    stretched: Numbers = -np.log10(1 - np.minimum(shares, 0.9999))
    return stretched


def _time_axis(ax: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(numbers(lambda value: f"{value:,.10g}"))
    ax.set_xlabel("ms")
