"""Axes in the style of this project, and pictures as SVG that are the same for the same input. Knows no results.

Nothing here touches what the user set: neither pyplot, nor its backend, nor its settings.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, BAD, CARD = "#1f2328", "#59636e", "#d1d9e0", "#c62828", "#fefefe"
"""Colours of text, of what is less important, of lines, of what does not count, of the ground; a page may change them."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8f9a2f", "#aa4499")
"""Colours of what is measured: of Okabe and Ito (2008), two of Tol's; those that can be seen on white and on black."""
WIDTH_IN = 4.8
"""Width of a picture [inch]; small, so that its text can be read on a telephone."""

SQUARE_IN = 3.3
"""Height of a picture with two axes of numbers [inch]."""

_SETTINGS: Any = {  # a dictionary, whose keys matplotlib lists as a type since 3.11
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.unicode_minus": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": INK,
}


@contextmanager
def axes(ax: Axes | None, *, height_in: float) -> Iterator[Axes]:
    """Give axes to draw on: the user's, or fresh ones in a figure of their own that pyplot does not know.

    Parameters
    ----------
    ax : the user's, which keep their figure; None makes some.
    height_in : height of the fresh figure [inch].

    Raises
    ------
    BenchmarkError
        matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BenchmarkError(
            "matplotlib is not installed, which plots are drawn with; pip install 'gpu-partitioner[bench]'"
        ) from error
    with rc_context(_SETTINGS):
        if ax is None:
            figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained", facecolor="none")
            ax = figure.add_subplot(facecolor="none")
            ax.tick_params(length=0)
            ax.set_axisbelow(True)
        yield ax


def title(ax: Axes, text: str, label: str) -> None:
    """Write a title, under it what stood in for a GPU, where something did."""
    ax.set_title(f"{text}\n{label}" if label else text, color=INK)


def legend(ax: Axes) -> None:
    """Write a legend under a figure of our own, and where there is room on axes of the user's."""
    handles, labels = ax.get_legend_handles_labels()
    own = ax.figure.get_layout_engine() is not None and len(ax.figure.axes) == 1  # type: ignore[union-attr,unused-ignore]
    if own and handles:
        columns = 3 if len(handles) > 4 and max(map(len, labels)) < 14 else 2
        ax.figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.2)
    elif handles:
        ax.legend()


def svg(ax: Axes, *, name: str = "plot", themed: bool = False) -> str:
    """Return the figure of some axes as SVG; the same figure gives the same text.

    Parameters
    ----------
    ax : any axes of the figure.
    name : letters, digits and hyphens; goes in front of all ids, so that several pictures can stand in one page.
    themed : for a page that defines ``--ink``, ``--muted``, ``--line``, ``--bad``, ``--card``; without the head of a file.
    """
    from matplotlib import rc_context

    figure, stream = ax.figure, io.StringIO()
    with rc_context(_SETTINGS | {"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})  # type: ignore[union-attr,unused-ignore]
    text = re.sub(r'\bid="|url\(#|href="#', lambda start: f"{start[0]}{name}-", stream.getvalue())
    if not themed:
        return text
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in ((INK, "ink"), (MUTED, "muted"), (LINE, "line"), (BAD, "bad"), (CARD, "card")):
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)


def short(name: str, most: int) -> str:
    """Return a name with its middle left out where it has more than some characters: both ends tell names apart.

    Examples
    --------
    >>> short("2g+2g+2g+1g", 20), short("7g (software.triton 2.51)", 13)
    ('2g+2g+2g+1g', '7g (so… 2.51)')
    """
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1 - most // 2) :]}"


def numbers(form: Callable[[float], str]) -> Any:
    """Return what writes the numbers of an axis."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: form(value))
