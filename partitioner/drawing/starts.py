"""The picture of a geometry: where each of its profiles may start."""

from __future__ import annotations

from partitioner.drawing.colours import Colour, ranked
from partitioner.drawing.marks import (
    MARGIN,
    MUTED,
    WIDTH,
    Piece,
    fit,
    number,
    plain,
    sheet,
    stack,
    tag,
    text,
    words,
)
from partitioner.geometry import Geometry, Profile

_X, _WIDTH = 176.0, 600.0
_LANE, _GAP = 20.0, 4.0
_INNER = WIDTH - 2 * MARGIN


def geometry_svg(geometry: Geometry, *, title: str = "") -> str:
    """Draw the legal starts of each profile of a geometry.

    Parameters
    ----------
    geometry : what is drawn: a row for each profile, a block at each legal start, overlapping ones in lanes.
    title : heading.

    Returns
    -------
    A standalone SVG; the same input gives the same bytes.
    """
    palette = ranked(profile.extent for profile in geometry.profiles)
    noun = "memory slices" if geometry.mode == "mig" else "units"
    heading = plain(title) or geometry.mode
    under = f"{geometry.mode} · {geometry.units} {noun if geometry.units != 1 else noun[:-1]}"
    head = text(MARGIN, 18, fit(heading, _INNER, 20, bold=True), font_size=20.0, font_weight="700")
    head += text(MARGIN, 40, under + " · each block is a legal start", font_size=12.5, fill=MUTED)
    rows = [_row(profile, geometry, palette[profile.extent]) for profile in geometry.profiles]
    return sheet(stack([Piece(head, 44), _scale(geometry), *rows], 10), heading)


def _scale(geometry: Geometry) -> Piece:
    unit = _WIDTH / geometry.units
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, geometry.units) if s * unit >= 18)
    figures = [text(_X + (position + 0.5) * unit, 9, str(position)) for position in range(0, geometry.units, step)]
    return Piece(tag("g", *figures, font_size=10.5, fill=MUTED, text_anchor="middle"), 8)


def _lanes(profile: Profile) -> list[tuple[int, int]]:
    """Every start with its lane; starts in one lane do not overlap."""
    ends: list[int] = []
    found = []
    for start in profile.starts:
        lane = next((row for row, end in enumerate(ends) if end <= start), len(ends))
        ends[lane : lane + 1] = [start + profile.extent]
        found.append((start, lane))
    return found


def _row(profile: Profile, geometry: Geometry, colour: Colour) -> Piece:
    unit = _WIDTH / geometry.units
    lanes = _lanes(profile)
    height = (1 + max(lane for _, lane in lanes)) * (_LANE + _GAP) - _GAP
    grid = "".join(f"M{number(_X + position * unit)} 0v{number(height)}" for position in range(geometry.units + 1))
    blocks = [tag("path", d=grid, stroke="#eaeef2")]
    for start, lane in lanes:
        x, y, width = _X + start * unit, lane * (_LANE + _GAP), profile.extent * unit
        box = tag("rect", x=x + 1.5, y=y + 0.5, width=width - 3, height=_LANE - 1, rx=4.0)
        blocks.append(f"<g><title>{words(f'{profile.name} at {start}')}</title>{box}</g>")
    middle = height / 2 + 4.5
    name = text(MARGIN, middle, fit(profile.name, _X - MARGIN - 12, 13, bold=True), font_size=13.0, font_weight="600")
    memory = f" · {profile.memory_mib / 1024:.1f}".removesuffix(".0") + " GiB" if profile.memory_mib else ""
    figures = text(_X + _WIDTH + 14, middle, f"max {profile.max_count}{memory}", font_size=11.5, fill=MUTED)
    style: dict[str, str | float] = {"fill": colour.fill, "fill_opacity": 0.2, "stroke": colour.fill, "stroke_width": 1.5}
    return Piece(blocks[0] + tag("g", *blocks[1:], **style) + name + figures, height)
