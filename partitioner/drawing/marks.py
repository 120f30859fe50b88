"""The marks that every picture is made of: text that fits, blocks, pieces stacked into a sheet.

All text from outside passes through `words`, so that no name can break the XML. Must not know GPUs or layouts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 960.0
"""Width of every picture [px]."""
MARGIN = 24.0
INK, MUTED, FAINT = "#1f2328", "#59636e", "#d1d9e0"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Noto Sans', sans-serif"
TIMES = "\N{MULTIPLICATION SIGN}"
FREE, STRANDED, EXISTING = "\x01", "\x02", "\x03"
"""Stand for the ids of the hatchings until `sheet` knows the whole picture; no text from outside contains them."""

# What XML 1.0 forbids (section 2.2), and the marks that reverse the direction of the text around them.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")
_NARROW = frozenset("iljtfrI.,:;'|!()[]{}` /\\-")
_SLIM = frozenset("ckszvxyJ")
_BROAD = frozenset("mMW@%—…")
_ROUND = frozenset("wDGHNOQU")
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a picture, drawn from y = 0 downwards; height in [px]."""

    markup: str
    height: float


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def plain(content: str) -> str:
    """Return text in one line, without the characters that XML forbids."""
    return " ".join(_FORBIDDEN.sub("", content).split())


def words(content: str) -> str:
    """Return text as it may stand between two tags."""
    return escape(plain(content))


def attribute(content: str) -> str:
    """Return text as the quoted value of an attribute."""
    return quoteattr(plain(content))


def tag(name: str, *children: str, **attributes: str | float) -> str:
    """Return an element; an underscore in the name of an attribute stands for a hyphen, a last one is dropped."""
    values = (
        f" {key.rstrip('_').replace('_', '-')}={attribute(value) if isinstance(value, str) else attribute(number(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{''.join(values)}" + (f">{''.join(children)}</{name}>" if children else "/>")


def text(x: float, y: float, content: str, **attributes: str | float) -> str:
    """Return a line of text with its baseline at y."""
    return tag("text", words(content), x=x, y=y, **attributes)


def text_width(content: str, size: float, *, bold: bool = False) -> float:
    """Estimate the width of a line of text in a sans-serif font, rather too wide than too narrow [px].

    Parameters
    ----------
    content : the text.
    size : size of the font [px].
    bold : whether it is set in bold.

    Notes
    -----
    Classes of widths after DejaVu Sans, the widest of the usual system fonts; scripts of full width and emoji take more.
    """
    return size * (1.1 if bold else 1.0) * sum(map(_advance, content))


def _advance(character: str) -> float:
    if character in _NARROW:
        return 0.38
    if character in _SLIM:
        return 0.59
    if character in _BROAD:
        return 0.98
    if character in _ROUND:
        return 0.8
    if character.isascii():
        return 0.7 if character.isupper() else 0.63
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    return 1.35 if unicodedata.east_asian_width(character) in "WF" else 0.8


def fit(content: str, width: float, size: float, *, bold: bool = False, keep_end: bool = False) -> str:
    """Shorten text with an ellipsis until it fits.

    Parameters
    ----------
    content : the text.
    width : room [px].
    size : size of the font [px].
    bold : whether it is set in bold.
    keep_end : cut in the middle, for names that differ at their ends.

    Returns
    -------
    The text, a shortened one, or the empty string where not even a letter with an ellipsis fits.

    Examples
    --------
    >>> fit("recommendation-engine", 80, 10)
    'recommenda…'
    """
    content = plain(content)
    if text_width(content, size, bold=bold) <= width:
        return content
    # Longest prefix (with keep_end: longest part of both ends) that fits, by bisection: names may be long.
    low, high = 0, len(content)
    while low < high:
        length = (low + high + 1) // 2
        if text_width(_cut(content, length, keep_end=keep_end), size, bold=bold) <= width:
            low = length
        else:
            high = length - 1
    return _cut(content, low, keep_end=keep_end) if low else ""


def _cut(content: str, length: int, *, keep_end: bool) -> str:
    end = length // 2 if keep_end else 0
    head = content[: length - end].rstrip(" -_.\u200d")
    return head + _ELLIPSIS + (content[len(content) - end :] if end else "")


def wrap(content: str, width: float, size: float) -> list[str]:
    """Break text into lines at spaces; a word wider than a line is shortened."""
    lines: list[str] = []
    for word in plain(content).split(" "):
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(fit(word, width, size))
    return lines


def paragraph(lines: Sequence[str], *, x: float = MARGIN, size: float = 12.5, fill: str = MUTED) -> Piece:
    """Return lines of text under each other."""
    step = size * 1.45
    markup = (text(x, step * row + size, line, font_size=size, fill=fill) for row, line in enumerate(lines))
    return Piece("".join(markup), step * len(lines))


def hatch(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a hatched rectangle: `FREE`, `STRANDED` or `EXISTING`."""
    box = f'x="{number(x + 1)}" y="{number(y + 1)}" width="{number(width - 2)}" height="{number(height - 2)}"'
    edge = _EDGES[kind]
    return f'<rect {box} rx="5" fill="url(#{kind})" {edge}/>'


def stack(pieces: Iterable[Piece], gap: float) -> Piece:
    """Put pieces under each other."""
    markup, y = [], 0.0
    for piece in pieces:
        markup.append(f'<g transform="translate(0 {number(y)})">{piece.markup}</g>')
        y += piece.height + gap
    return Piece("".join(markup), max(0.0, y - gap))


def sheet(piece: Piece, label: str) -> str:
    """Return a standalone SVG: the piece on a white card that stands on any background.

    Parameters
    ----------
    piece : what it shows.
    label : what it is called by screen readers.
    """
    # Several pictures of one notebook share a namespace of ids, hence ids that depend on the picture.
    digest = hashlib.sha256(piece.markup.encode()).hexdigest()[:10]
    height = piece.height + 2 * MARGIN
    definitions = "".join(pattern for kind, pattern in _PATTERNS.items() if kind in piece.markup)
    body = f"<defs>{definitions}</defs>{piece.markup}"
    for kind, name in _IDS.items():
        body = body.replace(kind, f"gp-{name}-{digest}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{number(WIDTH)}" height="{number(height)}"'
        f' viewBox="0 0 {number(WIDTH)} {number(height)}" style="max-width:100%;height:auto" role="img"'
        f' aria-label={attribute(label)} font-family="{FONT}" fill="{INK}">'
        f'<rect x=".5" y=".5" width="{number(WIDTH - 1)}" height="{number(height - 1)}" rx="10" fill="#ffffff" stroke="{FAINT}"/>'
        f'<g transform="translate(0 {number(MARGIN)})">{body}</g></svg>'
    )


_IDS = {FREE: "free", STRANDED: "lost", EXISTING: "kept"}
_EDGES = {
    FREE: 'stroke="#8c959f" stroke-dasharray="4 3"',
    STRANDED: 'stroke="#b0877f"',
    EXISTING: 'stroke="#8c959f"',
}
_PATTERNS = {
    FREE: f'<pattern id="{FREE}" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="8" height="8" fill="#fff"/><path d="M0 0V8" stroke="#d5dbe1" stroke-width="2.5"/></pattern>',
    STRANDED: f'<pattern id="{STRANDED}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#f1e4e0"/><path d="M0 0V6M0 0H6" stroke="#c9a59d" stroke-width="1.6"/></pattern>',
    EXISTING: f'<pattern id="{EXISTING}" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect width="7" height="7" fill="#e3e7eb"/><path d="M0 0V7" stroke="#d2d8de" stroke-width="3"/></pattern>',
}
