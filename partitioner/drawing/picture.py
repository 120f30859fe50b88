"""The picture of a layout: one row for each card of equal GPUs, blocks where the placements are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from partitioner import catalog
from partitioner.drawing.cards import Block, Card, Cards, Context, deal
from partitioner.drawing.colours import EXISTING_COLOUR, NEUTRAL, NOBODY_COLOUR, SPARE_COLOUR, Colour, colours
from partitioner.drawing.marks import (
    EXISTING,
    FAINT,
    FREE,
    INK,
    MARGIN,
    MUTED,
    STRANDED,
    TIMES,
    WIDTH,
    Piece,
    fit,
    hatch,
    number,
    paragraph,
    plain,
    sheet,
    stack,
    tag,
    text,
    text_width,
    words,
    wrap,
)
from partitioner.geometry import Geometry
from partitioner.layout import NOBODY, Layout

BAR_X, BAR_WIDTH, BAR_HEIGHT = 248.0, 560.0, 56.0
"""Where the units of a GPU are drawn [px]."""
_NAME_WIDTH = BAR_X - MARGIN - 14
_INNER = WIDTH - 2 * MARGIN
_MOST_NOTES = 40
_MOST_IN_LEGEND = 12
_PAD = 5.5  # between the edge of a block and its text


def svg(
    layout: Layout,
    *,
    title: str = "",
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    context: Context | None = None,
) -> str:
    """Draw a layout as a standalone SVG.

    Parameters
    ----------
    layout : what is drawn. GPUs with equal placements and workloads share a card; with more than 60 cards, GPUs with
        equal placements do; beyond 200 cards the rest is counted.
    title : heading.
    facts : short statements under the heading, e.g. ``3 GPUs used, proven optimal``.
    notes : sentences at the foot, e.g. why a workload was left out.
    context : what is known of the layout besides: existing instances, what services serve, what is taken of hosts.

    Returns
    -------
    SVG 960 px wide with a white background; the same input gives the same bytes.

    Notes
    -----
    Units that some placement could still use are hatched; stranded units, which none can use, are cross-hatched. Existing
    instances that others use are hatched in grey. Blocks of a replica on several GPUs carry a knot and the same label.

    Examples
    --------
    >>> from partitioner.layout import GpuLayout, Layout, Slot
    >>> layout = Layout.of([GpuLayout("esx-01", 0, "A100-80GB", "mig", (Slot("3g.40gb", 4, "chat", 0),))])
    >>> "chat" in svg(layout, title="One GPU")
    True
    """
    context = context or Context()
    cards = deal(layout, context)
    held = sorted({layout.workloads[row] for row in set(layout.occupant.tolist()) - {NOBODY}})
    palette = colours(held)
    rows = list(_rows(cards.shown, palette, context))
    pieces = [
        *_header(title, facts),
        *_legend(palette if len(held) <= _MOST_IN_LEGEND else {}, rows, cards, spare=context.spare),
        *_caption(cards, len(held)),
        *rows,
        *([_unused(cards.unused)] if cards.unused else []),
        *([] if len(layout) else [paragraph(["No GPUs."])]),
        *_notes(notes),
    ]
    return sheet(stack(pieces, 14), title or f"Layout of {len(layout):,} GPUs")


# -- header and foot ---------------------------------------------------------------------------------------------------


def _header(title: str, facts: Sequence[str]) -> Iterator[Piece]:
    pieces = []
    if plain(title):
        heading = fit(title, _INNER, 20, bold=True)
        pieces.append(Piece(text(MARGIN, 18, heading, font_size=20.0, font_weight="700"), 22))
    if facts:
        pieces.append(paragraph(wrap("  ·  ".join(map(plain, facts)), _INNER, 12.5)))
    if pieces:
        yield stack(pieces, 6)


def _notes(notes: Sequence[str]) -> Iterator[Piece]:
    if not notes:
        return
    lines = [line for note in notes[:_MOST_NOTES] for line in wrap(note, _INNER - 32, 12)]
    if len(notes) > _MOST_NOTES:
        lines.append(f"and {len(notes) - _MOST_NOTES:,} more notes")
    body = paragraph(lines, x=MARGIN + 16, size=12, fill=INK)
    height = body.height + 20
    ground = tag("rect", x=MARGIN, y=0.0, width=_INNER, height=height, rx=6.0, fill="#fff8e1")
    edge = tag("rect", x=MARGIN, y=0.0, width=4.0, height=height, rx=2.0, fill="#e0a800")
    yield Piece(f'{ground}{edge}<g transform="translate(0 9)">{body.markup}</g>', height)


def _caption(cards: Cards, n_workloads: int) -> Iterator[Piece]:
    total = len(cards.shown) + cards.n_left_out
    lines = []
    if n_workloads > _MOST_IN_LEGEND and cards.by_workload:
        lines.append(f"{n_workloads:,} workloads, each named in its block.")
    if not cards.by_workload:
        lines.append(f"{total:,} different sets of placements; GPUs with equal placements share a row, whatever runs on them.")
    elif any(card.n_gpus > 1 for card in cards.shown):
        lines.append("GPUs with equal placements and workloads share a row.")
    if cards.n_left_out:
        rest = f"{cards.n_left_out:,} more ({_gpus(cards.n_gpus_left_out)})"
        lines.append(f"The first {len(cards.shown):,} rows are shown; {rest} are not.")
    if lines:
        yield paragraph(lines, size=11.5)


def _legend(palette: Mapping[str, Colour], rows: Sequence[Piece], cards: Cards, *, spare: bool) -> Iterator[Piece]:
    entries: list[tuple[str, str]] = [
        (tag("rect", x=0.0, y=0.0, width=14.0, height=14.0, rx=3.0, fill=colour.fill), name) for name, colour in palette.items()
    ]
    drawn = "".join(row.markup for row in rows)
    hatchings = ((FREE, "free"), (STRANDED, "stranded: no profile can use it"), (EXISTING, "in use by others"))
    for kind, meaning in hatchings:
        if kind in drawn:
            entries.append((hatch(-1, -1, 16, 16, kind), meaning))
    blocks = [(block, card.n_gpus) for card in cards.shown for block in card.blocks]
    if any(block.n_unheld == n_gpus for block, n_gpus in blocks):
        colour = SPARE_COLOUR if spare else NOBODY_COLOUR
        meaning = "spare: room for replicas of a host that fails" if spare else "placement that nobody holds"
        entries.append((_face(0, 0, 14, 14, colour, rx=3), meaning))
    if any(block.span > 1 for block, _ in blocks):
        entries.append((f'<g transform="translate(-1.5 1)">{_knot(0, INK)}</g>', "one replica on several GPUs"))
    if not entries:
        return
    x, y, markup = MARGIN, 0.0, []
    for swatch, meaning in entries:
        shown = fit(meaning, 300, 12)
        width = 20 + text_width(shown, 12) + 14
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + 22
        label = text(20, 11.5, shown, font_size=12.0, fill=INK)
        markup.append(f'<g transform="translate({number(x)} {number(y)})">{_tooltip(meaning)}{swatch}{label}</g>')
        x += width
    yield Piece("".join(markup), y + 16)


# -- one card ----------------------------------------------------------------------------------------------------------


def _rows(cards: Sequence[Card], palette: Mapping[str, Colour], context: Context) -> Iterator[Piece]:
    """Yield a piece for each card, under the name of its host where hosts are told apart."""
    host: str | None = None
    for card in cards:
        row = _row(card, palette, context)
        if card.host is not None and card.host != host:
            row = stack([_host(card.host, context.hosts.get(card.host, "")), row], 16)
        host = card.host
        yield row


def _host(name: str, figures: str) -> Piece:
    """Return the name of a host, and what is taken of it."""
    ground = tag("rect", x=MARGIN, y=0.0, width=_INNER, height=26.0, rx=6.0, fill="#f6f8fa")
    shown = fit(figures, _INNER - 260, 12)
    head = fit(name, _INNER - 40 - text_width(shown, 12), 13, bold=True, keep_end=True)
    words_ = text(MARGIN + 10, 17.5, head, font_size=13.0, font_weight="700")
    words_ += text(WIDTH - MARGIN - 10, 17.5, shown, font_size=12.0, fill=MUTED, text_anchor="end")
    return Piece(f"<g>{_tooltip(f'{name}: {figures}' if figures else name)}{ground}{words_}</g>", 26)


def _row(card: Card, palette: Mapping[str, Colour], context: Context) -> Piece:
    geometry = card.pattern.geometry
    assert geometry is not None
    scale, foot = _scale(geometry)
    unit = BAR_WIDTH / geometry.units
    bar = [_room(card, geometry, unit), *(_block(card, block, unit, palette, spare=context.spare) for block in card.blocks)]
    rule = "" if card.host is not None else tag("path", d=f"M{number(MARGIN)} -7.5H{number(WIDTH - MARGIN)}", stroke="#eaeef2")
    return Piece("".join([rule, _name(card), *bar, scale, _figures(card, geometry)]), BAR_HEIGHT + foot)


def _name(card: Card) -> str:
    pattern = card.pattern
    if card.n_gpus == 1:
        head, below = card.first, f"{pattern.model} · {pattern.mode}"
    else:
        head, below = f"{card.n_gpus:,} {TIMES} {pattern.model} · {pattern.mode}", ""
    head = fit(head, _NAME_WIDTH, 13, bold=True, keep_end=card.n_gpus == 1)
    below = fit(below, _NAME_WIDTH, 11.5) if below else _range(card, _NAME_WIDTH, 11.5)
    lines = text(MARGIN, 25, head, font_size=13.0, font_weight="600") + text(MARGIN, 42, below, font_size=11.5, fill=MUTED)
    return f"<g>{_tooltip(_names(card))}{lines}</g>"


def _range(card: Card, width: float, size: float) -> str:
    """First and last GPU of a card; the first stands for itself where both do not fit."""
    link = " … "
    room = width - text_width(link, size)
    last = fit(card.last, max(room / 2, room - text_width(card.first, size)), size, keep_end=True)
    return fit(card.first, room - text_width(last, size), size, keep_end=True) + link + last


def _names(card: Card) -> str:
    more = card.n_gpus - len(card.named)
    return ", ".join(card.named) + (f" and {more:,} more" if more else "")


def _gpus(count: int) -> str:
    return f"{count:,} GPU" + "s" * (count != 1)


def _block(card: Card, block: Block, unit: float, palette: Mapping[str, Colour], *, spare: bool) -> str:
    placement = block.placement
    x, width = BAR_X + placement.start * unit, placement.profile.extent * unit
    others = block.n_existing == card.n_gpus
    name, suffix = ("in use by others", "") if others else _holder(block, spare=spare)
    colour = _colour(card, block, palette, spare=spare)
    face = hatch(0, 0, width, BAR_HEIGHT, EXISTING) if others else _face(1, 1, width - 2, BAR_HEIGHT - 2, colour)
    label = _label(placement.profile.name, name, suffix, width, colour.text)
    knot = (
        f'<g transform="translate({number(width - 21)} 6)">{_knot(0, colour.text)}</g>' if block.span > 1 and width > 60 else ""
    )
    # A nested svg clips what is in it, should a font be wider than estimated.
    tip = _tooltip(_story(card, block, name))
    return tag("svg", tip, face, label, knot, x=x, y=0.0, width=width, height=BAR_HEIGHT)


def _colour(card: Card, block: Block, palette: Mapping[str, Colour], *, spare: bool) -> Colour:
    if block.workload is not None:
        return palette[block.workload]
    if block.n_workloads:
        return NEUTRAL
    if block.n_existing == card.n_gpus:
        return EXISTING_COLOUR
    return SPARE_COLOUR if spare else NOBODY_COLOUR


def _story(card: Card, block: Block, name: str) -> str:
    """All that is known of a block, as its tooltip."""
    memory = f", {_gib(block.placement.profile.memory_mib)} GiB" if block.placement.profile.memory_mib else ""
    replica = f" #{block.replica}" if block.replica is not None else ""
    parts = [f"{block.placement.profile.name} at {block.placement.start}{memory}: {name}{replica}"]
    parts += [f"one replica on {block.span} GPUs or instances"] if block.span > 1 else []
    parts += [f"serves {_per_second(block.rate)}"] if block.rate is not None else []
    if block.n_workloads:
        parts += [f"held by nobody on {_gpus(block.n_unheld)}"] if block.n_unheld else []
    parts += [f"in use by others on {_gpus(block.n_existing)}"] if 0 < block.n_existing < card.n_gpus else []
    return ", ".join(parts)


def _holder(block: Block, *, spare: bool) -> tuple[str, str]:
    """Who holds a block, and what is written after the name: what a service serves, or which replica it is."""
    if block.workload is not None:
        if block.rate is not None:
            return block.workload, f" {_per_second(block.rate)}"
        tied = f" {TIMES}{block.span}" if block.span > 1 else ""
        return block.workload, (f" #{block.replica}" if block.replica is not None else "") + tied
    if block.n_workloads:
        return f"{block.n_workloads:,} workload" + "s" * (block.n_workloads != 1), ""
    return "spare" if spare else "nobody", ""


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def _knot(x: float, colour: str) -> str:
    """Two links of a chain, 15 by 8 px."""
    links = (tag("rect", x=x + at, y=1.0, width=9.0, height=6.0, rx=3.0) for at in (0.5, 6.0))
    return tag("g", *links, fill="none", stroke=colour, stroke_width=1.5)


def _face(x: float, y: float, width: float, height: float, colour: Colour, rx: float = 5) -> str:
    edge: dict[str, str | float] = {}
    if colour is NOBODY_COLOUR:
        edge = {"stroke": "#8c959f"}
    elif colour is SPARE_COLOUR:
        edge = {"stroke": "#6fa580", "stroke_dasharray": "5 3"}
    return tag("rect", x=x, y=y, width=width, height=height, rx=float(rx), fill=colour.fill, **edge)


def _label(profile: str, name: str, replica: str, width: float, fill: str) -> str:
    """Profile over holder; upright in narrow blocks, in very narrow ones the holder alone or nothing."""
    across = width - 2 * _PAD
    if across < min(text_width(profile, 12, bold=True), 44):
        return _upright_label(profile, name, replica, width, fill)
    lines = _two_lines(name, replica, across, 11)
    top = 24.0 if len(lines) == 1 else 17.5
    drawn = [text(_PAD, top, fit(profile, across, 12, bold=True), font_size=12.0, font_weight="600")]
    drawn += [text(_PAD, top + 17 + 13.5 * row, line, font_size=11.0) for row, line in enumerate(lines)]
    return tag("g", *drawn, fill=fill)


def _two_lines(name: str, replica: str, width: float, size: float) -> list[str]:
    """Break a name with the number of its replica, which is kept, into at most two lines."""
    name = plain(name)
    if text_width(name + replica, size) <= width:
        return [name + replica]
    head = fit(name, width + text_width("…", size), size).removesuffix("…") or name[:1]
    at = max(head.rfind(mark) for mark in " -_./") + 1
    if at <= len(head) / 2 and not (at and text_width(name[at:] + replica, size) <= width):  # no good place to break
        if replica:
            return [fit(name, width, size), replica.strip()]
        at = len(head)
    return [name[:at], fit(name[at:].lstrip(), width - text_width(replica, size), size) + replica]


def _upright_label(profile: str, name: str, replica: str, width: float, fill: str) -> str:
    along, middle = BAR_HEIGHT - 6, width / 2
    holder = name + replica if text_width(name + replica, 9.5) <= along else fit(name, along, 9.5, keep_end=True)
    if width >= 30:
        lines = [(profile, middle - 3.5, True), (holder, middle + 9, False)]
    elif width >= 13:
        lines = [(holder, middle + 3.5, False)]
    else:
        return ""
    drawn = [
        text(-BAR_HEIGHT / 2, baseline, fit(content, along, 9.5, bold=bold), font_weight="600" if bold else "400")
        for content, baseline, bold in lines
    ]
    return tag("g", *drawn, transform="rotate(-90)", text_anchor="middle", font_size=9.5, fill=fill)


def _room(card: Card, geometry: Geometry, unit: float) -> str:
    """Free and stranded units, in runs."""
    placements = card.pattern.placements
    taken = {position for p in placements for position in range(p.start, p.end)}
    usable = {position for p in geometry.free(placements) for position in range(p.start, p.end)}
    room = ", ".join(f"{count} x {name}" for name, count in geometry.room(placements).items())
    parts = []
    start = 0
    while start < geometry.units:
        end = start + 1
        if start not in taken:
            free = start in usable
            while end < geometry.units and end not in taken and (end in usable) == free:
                end += 1
            parts.append(_gap(start, end, unit, room if free else None))
        start = end
    return "".join(parts)


def _gap(start: int, end: int, unit: float, room: str | None) -> str:
    """One run of units that nothing occupies; `room` is None where they are stranded."""
    kind, name = (STRANDED, "stranded") if room is None else (FREE, "free")
    units = f"unit {start}" if end == start + 1 else f"units {start} to {end - 1}"
    tip = f"{units} stranded: no profile fits here" if room is None else f"{units} free; room for one of: {room}"
    x, width = BAR_X + start * unit, (end - start) * unit
    marks = [_tooltip(tip), hatch(x, 0, width, BAR_HEIGHT, kind)]
    label_width = text_width(name, 11.5)
    if label_width + 14 <= width:
        middle, fill = x + width / 2, "#8a4b3f" if room is None else MUTED
        left, pill = middle - label_width / 2 - 5, label_width + 10
        y = BAR_HEIGHT / 2
        marks.append(tag("rect", x=left, y=y - 9, width=pill, height=18.0, rx=9.0, fill="#ffffff", fill_opacity=0.88))
        marks.append(text(middle, y + 4, name, font_size=11.5, text_anchor="middle", fill=fill))
    return tag("g", *marks, class_=f"gp-{name}", data_units=f"{start}-{end - 1}")


def _scale(geometry: Geometry) -> tuple[str, float]:
    """Tick marks under the bar and the height that they take: slices of MIG, gigabytes of mixed sizes."""
    if geometry.mode not in ("mig", "vgpu-mixed"):
        return "", 4.0
    unit, units = BAR_WIDTH / geometry.units, geometry.units
    slices = geometry.mode == "mig"
    step = 1 if slices else next(s for s in (1, 2, 4, 8, 16, 32, units) if units / s <= 12)
    edges = [*range(0, units, step), units]
    ticks = "".join(f"M{number(BAR_X + edge * unit)} {number(BAR_HEIGHT + 2)}v4" for edge in edges)
    shift, labels = (unit / 2, edges[:-1]) if slices else (0.0, edges)
    figures = [text(BAR_X + edge * unit + shift, BAR_HEIGHT + 14, str(edge)) for edge in labels]
    if not slices:
        figures.append(text(BAR_X + BAR_WIDTH + 12, BAR_HEIGHT + 14, "GB", text_anchor="start"))
    return tag("path", d=ticks, stroke="#8c959f") + tag("g", *figures, font_size=10.0, fill=MUTED, text_anchor="middle"), 20.0


def _figures(card: Card, geometry: Geometry) -> str:
    """Memory and compute used, at the right."""
    placements, model = card.pattern.placements, catalog.gpu(card.pattern.model)
    used = sum(placement.profile.memory_mib for placement in placements)
    whole = f" of {_gib(model.memory_mib)}" if model.memory_mib else ""
    if geometry.mode == "mig":
        compute = f"{sum(p.profile.compute_slices for p in placements)}/{model.compute_slices} compute"
    elif geometry.mode == "whole":
        compute = "whole GPU"
    else:
        compute = f"{len(placements)} vGPU" + "s" * (len(placements) != 1)
    x = BAR_X + BAR_WIDTH + 14
    return text(x, 25, compute, font_size=11.5) + text(x, 42, f"{_gib(used)}{whole} GiB", font_size=11.5, fill=MUTED)


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f}".removesuffix(".0")


def _tooltip(content: str) -> str:
    return f"<title>{words(content)}</title>"


# -- GPUs without placements -------------------------------------------------------------------------------------------


def _unused(cards: Sequence[Card]) -> Piece:
    rows = []
    for card in cards:
        head = fit(f"{card.n_gpus:,} {TIMES} {card.pattern.model} unused", 300, 12.5, bold=True)
        names = card.first if card.n_gpus == 1 else _range(card, 520, 11.5)
        ground = tag("rect", x=MARGIN, y=0.0, width=_INNER, height=30.0, rx=6.0, fill="#f6f8fa", stroke=FAINT)
        line = text(MARGIN + 12, 20, head, font_size=12.5, font_weight="600", fill=MUTED)
        shown = fit(names, 540, 11.5, keep_end=True)
        line += text(WIDTH - MARGIN - 12, 20, shown, font_size=11.5, fill=MUTED, text_anchor="end")
        rows.append(Piece(f"<g>{_tooltip(_names(card))}{ground}{line}</g>", 30))
    return stack(rows, 6)
