"""The picture of a constraint graph: placements as dots where they lie, conflicts as curves.

Draws any networkx graph whose nodes say `mode`, `profile`, `start`, `extent` and `units`; networkx itself is not loaded.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from partitioner.drawing.colours import ranked
from partitioner.drawing.marks import (
    INK,
    MARGIN,
    MUTED,
    WIDTH,
    Piece,
    fit,
    number,
    paragraph,
    plain,
    sheet,
    stack,
    tag,
    text,
    words,
)
from partitioner.errors import SpecError

if TYPE_CHECKING:
    import networkx as nx

MOST_NODES, MOST_EDGES = 150, 3_000
"""Beyond either, edges between modes are left out."""
MOST_EDGES_OF_MODE = 6_000
"""Beyond, the edges of a mode are left out."""
_ATTRIBUTES = ("mode", "profile", "start", "extent", "units")
_X, _WIDTH = 190.0, 730.0
_STEP, _BAND = 34.0, 30.0  # between rows, and above the first row of a mode


@dataclass(frozen=True, slots=True)
class _Node:
    """A placement of the graph with the centre of its dot [px]."""

    mode: str
    profile: str
    start: int
    x: float
    y: float
    fill: str
    degree: int


def graph_svg(graph: nx.Graph[Any], *, title: str = "") -> str:
    """Draw a constraint graph.

    Parameters
    ----------
    graph : undirected; each node has the attributes ``mode``, ``profile`` (str), ``start``, ``extent`` and ``units``
        (int). A node is drawn at the centre of its placement along the units, in the row of its profile.
    title : heading.

    Returns
    -------
    A standalone SVG; the same input gives the same bytes. Large graphs are drawn without the edges between modes, and
    say so.

    Raises
    ------
    SpecError
        A node lacks an attribute.
    """
    nodes, rows = _nodes(graph)
    inside, across, notes = _edges(graph, nodes)
    n_nodes, n_edges = graph.number_of_nodes(), graph.number_of_edges()
    heading = plain(title) or "Constraint graph"
    facts = [f"{n_nodes:,} placements, {n_edges:,} pairs that exclude each other", *notes]
    head = text(MARGIN, 18, fit(heading, WIDTH - 2 * MARGIN, 20, bold=True), font_size=20.0, font_weight="700")
    return sheet(
        stack([Piece(head, 20), paragraph(facts), _plot(nodes, rows, inside, across)], 8),
        heading,
    )


def _nodes(graph: nx.Graph[Any]) -> tuple[dict[Hashable, _Node], dict[tuple[str, str], float]]:
    """Nodes with their positions, and the height of each (mode, profile)."""
    entries = []
    for node, data in graph.nodes(data=True):
        missing = [name for name in _ATTRIBUTES if name not in data]
        if missing:
            wanted = ", ".join(_ATTRIBUTES)
            raise SpecError(f"node {node!r} - lacks {', '.join(missing)}; a node of a constraint graph has {wanted}")
        entries.append((node, data))
    by_mode: dict[str, dict[str, None]] = {}
    for _, data in entries:
        by_mode.setdefault(data["mode"], {})[data["profile"]] = None
    rows, y = {}, 0.0
    for mode, profiles in by_mode.items():
        y += _BAND
        for profile in profiles:
            rows[mode, profile] = y
            y += _STEP
    palettes = {mode: ranked(data["extent"] for _, data in entries if data["mode"] == mode) for mode in by_mode}
    nodes = {}
    for node, data in entries:
        mode, profile, start = data["mode"], data["profile"], data["start"]
        x = _X + (start + data["extent"] / 2) / data["units"] * _WIDTH
        nodes[node] = _Node(mode, profile, start, x, rows[mode, profile], palettes[mode][data["extent"]].fill, graph.degree[node])
    return nodes, rows


_Pairs = list[tuple[_Node, _Node]]


def _edges(graph: nx.Graph[Any], nodes: dict[Hashable, _Node]) -> tuple[_Pairs, _Pairs, list[str]]:
    """Edges to be drawn, inside modes and across them, and what is said about those left out."""
    inside: dict[str, _Pairs] = {}
    across: _Pairs = []
    for a, b in graph.edges():
        pair = nodes[a], nodes[b]
        (inside.setdefault(pair[0].mode, []) if pair[0].mode == pair[1].mode else across).append(pair)
    notes = []
    if across and (graph.number_of_nodes() > MOST_NODES or graph.number_of_edges() > MOST_EDGES):
        notes.append(f"The {len(across):,} edges between modes are not drawn: placements of different modes never share a GPU.")
        across = []
    for mode, pairs in inside.items():
        if len(pairs) > MOST_EDGES_OF_MODE:
            notes.append(f"The {len(pairs):,} edges of {mode} are not drawn.")
            inside[mode] = []
    return [pair for pairs in inside.values() for pair in pairs], across, notes


def _plot(nodes: dict[Hashable, _Node], rows: dict[tuple[str, str], float], inside: _Pairs, across: _Pairs) -> Piece:
    labels, seen = [], set()
    for (mode, profile), y in rows.items():
        if mode not in seen:
            seen.add(mode)
            name = fit(mode, _X - MARGIN - 10, 12, bold=True)
            labels.append(text(MARGIN, y - 15, name, font_size=12.0, font_weight="700", fill=INK))
            labels.append(tag("path", d=f"M{number(MARGIN)} {number(y - _BAND)}H{number(WIDTH - MARGIN)}", stroke="#eaeef2"))
        labels.append(text(MARGIN + 10, y + 4, fit(profile, _X - MARGIN - 20, 12), font_size=12.0, fill=MUTED))
    dots = []
    for node in nodes.values():
        tip = words(f"{node.profile} at {node.start} ({node.mode}): excludes {node.degree} others")
        dot = tag("circle", cx=node.x, cy=node.y, r=6.0, fill=node.fill)
        dots.append(f"<g><title>{tip}</title>{dot}</g>")
    curves = [
        tag("g", *_curves(across), fill="none", stroke="#8c959f", stroke_opacity=0.17),
        tag("g", *_curves(inside), fill="none", stroke="#0550ae", stroke_opacity=0.28, stroke_width=1.1),
    ]
    markup = "".join(labels) + "".join(curves) + tag("g", *dots, stroke="#ffffff", stroke_width=1.5)
    return Piece(markup, max(rows.values(), default=0.0) + 12)


def _curves(pairs: _Pairs) -> Iterable[str]:
    """One path for all edges that begin in a node: translucent curves of different nodes add up, and the file stays small."""
    by_first: dict[tuple[float, float], list[_Node]] = {}
    for a, b in pairs:
        first, second = sorted((a, b), key=lambda node: (node.y, node.x))
        by_first.setdefault((first.x, first.y), []).append(second)
    for (x, y), others in by_first.items():
        steps = []
        for other in others:
            dx, dy = other.x - x, other.y - y
            if dy == 0:
                bend = (dx / 2, -min(26.0, 10 + dx * 0.12))
            elif dx == 0:  # straight down, the curve would run through the dots between
                bend = (min(14 + dy * 0.2, 70.0), dy / 2)
            else:
                bend = (dx / 2 + min(dy * 0.12, 40.0), dy / 2)
            steps.append(f"M{number(round(x, 1))} {number(round(y, 1))}q{' '.join(number(round(v, 1)) for v in (*bend, dx, dy))}")
        yield tag("path", d="".join(steps))
