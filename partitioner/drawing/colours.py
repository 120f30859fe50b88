"""Colours of names: the same name has the same colour in every picture, as far as a dozen colours go.

Must not know what the names are names of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle

from partitioner.drawing.marks import INK

# After Okabe and Ito (2008) and Tol's "muted" scheme (technical note SRON/EPS/TN/09-002), which keep apart for the
# common kinds of colour blindness; some darker or lighter than there, so that text on them can be read.
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#c65300",
    "#4b3d9e", "#ddcc77", "#882255", "#8f9a2f", "#8fd3c1", "#aa4499",
)  # fmt: skip
_SHADES = (0.0, 0.5, -0.45)  # as it is, towards white, towards black


@dataclass(frozen=True, slots=True)
class Colour:
    """A fill and the colour of text that can be read on it."""

    fill: str
    text: str


NEUTRAL = Colour("#c3cfdd", INK)
"""Something held by several names at once."""
NOBODY_COLOUR = Colour("#ffffff", "#59636e")
"""Something that nobody holds."""
SPARE_COLOUR = Colour("#e9f6ec", "#1d5c30")
"""Something that is kept free on purpose."""
EXISTING_COLOUR = Colour("none", "#3d444d")
"""Something that was there before; it lies on a hatching."""


def colours(names: Iterable[str]) -> dict[str, Colour]:
    """Return a colour for each name.

    Parameters
    ----------
    names : distinct names, in any order.

    Returns
    -------
    Name to colour. Up to a dozen names get distinct colours; more are told apart by shades, and may share one.
    """
    ordered = sorted(names)
    few = len(ordered) <= len(PALETTE)
    taken: set[int] = set()
    found = {}
    for name in ordered:
        digest = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        hue, shade = digest % len(PALETTE), 0.0
        if few:
            while hue in taken:
                hue = (hue + 1) % len(PALETTE)
            taken.add(hue)
        else:
            shade = _SHADES[digest // len(PALETTE) % len(_SHADES)]
        fill = _shaded(PALETTE[hue], shade)
        found[name] = Colour(fill, text_on(fill))
    return found


def ranked(values: Iterable[int]) -> dict[int, Colour]:
    """Return a colour for each distinct value, in ascending order through the palette and round again."""
    return {value: Colour(fill, text_on(fill)) for value, fill in zip(sorted(set(values)), cycle(PALETTE), strict=False)}


def text_on(fill: str) -> str:
    """Return white or ink, whichever has more contrast on a fill (``#rrggbb``).

    Notes
    -----
    Contrast ratio and relative luminance of WCAG 2.1.
    """
    luminance = _luminance(fill)
    on_white = 1.05 / (luminance + 0.05)
    on_ink = (luminance + 0.05) / (_luminance(INK) + 0.05)
    return "#ffffff" if on_white >= on_ink else INK


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _luminance(colour: str) -> float:
    shares = [value / 255 for value in _channels(colour)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _shaded(colour: str, shade: float) -> str:
    target = 255 if shade > 0 else 0
    return "#" + "".join(f"{round(value + (target - value) * abs(shade)):02x}" for value in _channels(colour))
