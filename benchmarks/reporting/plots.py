"""Plots of results: throughput, latency, scaling, prediction against measurement.

Each function draws on the axes it is given, or on fresh ones, and returns them; none shows anything or touches pyplot. What
was measured on a stand-in for a GPU says so in its title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from benchmarks.comparing import Comparison, Row
from benchmarks.reporting.compared import Compared, compared
from benchmarks.reporting.plots_axes import BAD, CARD, COLOURS, INK, LINE, MUTED, SQUARE_IN, axes, legend, numbers, short, title
from benchmarks.reporting.plots_latency import latency
from partitioner.drawing.colours import text_on
from partitioner.errors import SpecError
from partitioner.report.section import rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["equals", "latency", "prediction", "scaling", "throughput"]

_HEAD_IN, _ROW_IN = 1.1, 0.32
_DARK = "#101418"  # text on a light fill, which stays dark where a page is dark


def throughput(results: Compared, ax: Axes | None = None) -> Axes:
    """Draw the system throughput of each scenario, stacked by instance, and its change against the baseline.

    As Figures 5 and 7 of Dell's "MLPerf v1.1 Inference on Virtualized and Multi-Instance GPUs" (2022). Bars of instances that
    are not valid are hatched; the thin line is the spread of the repeats.

    Parameters
    ----------
    results : scenarios, drawn from top to bottom.
    ax : axes to draw on.

    Raises
    ------
    SpecError
        There are no results.
    IncomparableError
        They were not measured alike.
    """
    comparison = compared(results)
    colours = _colours([entry.profile for row in comparison.rows for entry in row.instances])
    longest = max(row.throughput_per_s for row in comparison.rows) or 1.0
    with axes(ax, height_in=_HEAD_IN + _ROW_IN * len(comparison.rows)) as drawn:
        for y, row in enumerate(comparison.rows):
            _bar(drawn, y, row, colours, longest)
            spread = row.throughput_per_s * row.result.spread
            if spread:
                drawn.errorbar(row.throughput_per_s, y, xerr=spread, color=INK, capsize=2, linewidth=0.9)
            colour = INK if row.valid else BAD
            _write(drawn, row.throughput_per_s + spread + 0.02 * longest, y, _words(row), color=colour, fontsize=8)
        _scenarios(drawn, [row.name for row in comparison.rows])
        _rates(drawn, "x", 1.42 * max(longest, *(row.throughput_per_s * (1 + row.result.spread) for row in comparison.rows)))
        drawn.set_axisbelow(True)
        drawn.grid(axis="x")
        drawn.set_xlabel("samples/s, all instances together")
        title(drawn, "System throughput", comparison.label)
    return drawn


def scaling(results: Compared, ax: Axes | None = None) -> Axes:
    """Draw throughput over the number of equal instances, against what it were if nobody were in anybody's way.

    Parameters
    ----------
    results : scenarios, of which those with one profile only are drawn, where they are valid.
    ax : axes to draw on.

    Raises
    ------
    SpecError
        No profile was measured in two different numbers.
    IncomparableError
        They were not measured alike.
    """
    comparison = compared(results)
    groups = equals(comparison)
    if not groups:
        raise SpecError("scaling plot - no profile was measured in two different numbers; measure e.g. 1g and 1g+1g")
    with axes(ax, height_in=SQUARE_IN) as drawn:
        for (profile, points), colour in zip(groups.items(), cycle(COLOURS), strict=False):
            _scaled(drawn, profile, points, colour)
        drawn.set_xlim(0, max(number for points in groups.values() for number, _ in points) * 1.06)
        drawn.locator_params(axis="x", integer=True)
        _rates(drawn, "y", None)
        drawn.grid()
        drawn.set_xlabel("equal instances at work (dotted: ideal)")
        drawn.set_ylabel("samples/s")
        drawn.legend(loc="upper left")
        title(drawn, "Scaling", comparison.label)
    return drawn


def equals(comparison: Comparison) -> dict[str, list[tuple[int, Row]]]:
    """Return the valid scenarios of equal instances by profile, ascending by number, where there are two numbers at least."""
    groups: dict[str, dict[int, Row]] = {}
    for entry in comparison.scaling:
        row = comparison.row(entry.scenario)
        if row.valid:
            groups.setdefault(entry.profile, {}).setdefault(entry.n_instances, row)
    return {profile: sorted(rows.items()) for profile, rows in groups.items() if len(rows) > 1}


def prediction(results: Compared, predicted: Mapping[str, tuple[float, float]], ax: Axes | None = None) -> Axes:
    """Draw what was predicted beside what was measured.

    Parameters
    ----------
    results : what was measured.
    predicted : by scenario, system throughput [samples/s] and its relative error; scenarios may be missing.
    ax : axes to draw on.

    Raises
    ------
    SpecError
        There are no results, or a prediction for none of them.
    IncomparableError
        They were not measured alike.
    """
    comparison = compared(results)
    rows = [row for row in comparison.rows if row.name in predicted]
    if not rows:
        raise SpecError("prediction plot - there is a prediction for none of the scenarios; is the model in the calibration?")
    with axes(ax, height_in=_HEAD_IN + 0.25 + _ROW_IN * len(rows)) as drawn:
        for y, row in enumerate(rows):
            _pair(drawn, y, row, *predicted[row.name])
        _scenarios(drawn, [row.name for row in rows])
        _rates(drawn, "x", 1.2 * max(max(_most(*predicted[row.name]), row.throughput_per_s) for row in rows))
        drawn.grid(axis="x")
        drawn.set_xlabel("samples/s (percentage: measured against predicted)")
        legend(drawn)
        title(drawn, "Prediction against measurement", comparison.label)
    return drawn


def _bar(ax: Axes, y: int, row: Row, colours: Mapping[str, str], longest: float) -> None:
    left = 0.0
    for entry in row.instances:
        fill, width = colours[entry.profile], entry.throughput_per_s
        bar = ax.barh(y, width, 0.68, left, color=fill, edgecolor=CARD, linewidth=0.8)
        if not entry.valid:
            bar.patches[0].set_hatch("////")
        name = _short(entry.profile)
        if width > 0.024 * longest * (len(name) + 0.3):
            _write(ax, left + width / 2, y, name, color=_on(fill), ha="center", fontsize=7.5)
        left += width


def _scaled(ax: Axes, profile: str, points: Sequence[tuple[int, Row]], colour: str) -> None:
    n = [number for number, _ in points]
    rates = [row.throughput_per_s for _, row in points]
    spreads = [row.throughput_per_s * row.result.spread for _, row in points]
    ideal = rates[0] / n[0] * n[-1]
    ax.plot([0, n[-1]], [0.0, ideal], color=colour, linewidth=1.0, linestyle=(0, (1, 1.5)))
    name = f"{short(profile, 24)}: {rates[-1] / ideal:.0%} of ideal at {n[-1]}"
    ax.errorbar(n, rates, yerr=spreads, color=colour, marker="o", markersize=4, capsize=2, linewidth=1.4, label=name)


def _pair(ax: Axes, y: int, row: Row, value: float, error: float) -> None:
    seen = row.throughput_per_s
    above, below = y - 0.13, y + 0.13
    ax.plot([value, seen], [above, below], color=LINE, linewidth=1.0, zorder=1)
    words = "" if y else "predicted, with its error"
    ax.errorbar(
        value,
        above,
        xerr=value * error,
        color=COLOURS[1],
        marker="D",
        markersize=5,
        capsize=3,
        linewidth=1.1,
        label=words or None,
    )
    ax.plot([seen], [below], "o", color=COLOURS[0], markersize=5, label=None if y else "measured")
    if value:
        ax.annotate(
            f"{seen / value - 1:+.1%}", (max(_most(value, error), seen), y), (6, 0), textcoords="offset points",
            va="center_baseline", color=MUTED if row.valid else BAD, fontsize=8,
        )  # fmt: skip


def _most(value: float, error: float) -> float:
    return value * (1 + error)


def _scenarios(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [short(name, 18) for name in names])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)  # axes of the user may have been made with formulas
    ax.set_ylim(len(names) - 0.5, -0.5)


def _rates(ax: Axes, which: Literal["x", "y"], most: float | None) -> None:
    axis, limit = (ax.xaxis, ax.set_xlim) if which == "x" else (ax.yaxis, ax.set_ylim)
    limit(0, most)
    ax.locator_params(axis=which, nbins=5)
    axis.set_major_formatter(numbers(lambda value: f"{value:,.10g}"))


def _colours(names: Sequence[str]) -> dict[str, str]:
    return dict(zip(dict.fromkeys(names), cycle(COLOURS), strict=False))


def _short(profile: str) -> str:
    """Return ``4g`` for ``4g.40gb``; other names as they are."""
    return profile.partition(".")[0]


def _on(fill: str) -> str:
    return "#ffffff" if text_on(fill) == "#ffffff" else _DARK


def _write(ax: Axes, x: float, y: float, text: str, **style: object) -> None:
    ax.text(x, y, text, va="center_baseline", **style)  # type: ignore[arg-type,unused-ignore]


def _words(row: Row) -> str:
    change = "" if row.change is None else f" ({row.change.relative:+.1%})"
    return f"{rate(row.throughput_per_s)}{change}" + ("" if row.valid else " INVALID")
