"""A layout as a web page that needs nothing else: the picture, its facts, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from partitioner.drawing.cards import Context
from partitioner.drawing.marks import words
from partitioner.drawing.picture import svg
from partitioner.layout import Layout

_STYLE = """
:root { color-scheme: light dark; --ground: #f6f8fa; --card: #ffffff; --ink: #1f2328; --muted: #59636e; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --card: #151b23; --ink: #f0f6fc; --muted: #9198a1; --line: #3d444d; }
}
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 32px 16px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 17px; line-height: 1.3; margin: 28px 0 -14px; overflow-wrap: anywhere; }
ul { margin: 0 0 20px; padding: 0; list-style: none; color: var(--muted); }
li { display: inline; overflow-wrap: anywhere; }
li + li::before { content: "·"; padding: 0 0.5em; }
svg { display: block; }
.scroll { overflow-x: auto; margin-top: 24px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 8px 10px; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 600; white-space: nowrap; }
tr + tr > *, tbody > tr:first-child > * { border-top: 1px solid var(--line); }
.s { white-space: nowrap; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
"""
_SHORT = 20  # characters of a cell that stays on one line: GPU models, modes, labels


def html(
    layout: Layout,
    *,
    title: str = "",
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    table: Sequence[Mapping[str, object]] = (),
    tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
    context: Context | None = None,
) -> str:
    """Draw a layout as a standalone HTML page, without scripts or anything to load.

    Parameters
    ----------
    layout : what is drawn.
    title : heading of the page.
    facts : short statements under the heading.
    notes : sentences under the picture.
    table : rows under the picture; the headings are the keys, in order of first appearance.
    tables : further tables under it, by their titles.
    context : what is known of the layout besides, as for `svg`.

    Returns
    -------
    The page; the same input gives the same bytes.
    """
    parts = [
        f"<h1>{words(title)}</h1>" if title else "",
        "<ul>" + "".join(f"<li>{words(fact)}</li>" for fact in facts) + "</ul>" if facts else "",
        svg(layout, notes=notes, context=context),
        _table(table) if table else "",
        *(f"<h2>{words(heading)}</h2>\n{_table(rows)}" for heading, rows in (tables or {}).items() if rows),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{words(title) or 'GPU layout'}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    headings = tuple(dict.fromkeys(heading for row in rows for heading in row))
    aligned = {heading: ' class="n"' if all(_is_number(row.get(heading, 0)) for row in rows) else "" for heading in headings}
    head = "".join(f"<th{aligned[heading]}>{words(str(heading))}</th>" for heading in headings)
    short = {heading for heading in headings if all(len(str(row.get(heading, ""))) <= _SHORT for row in rows)}
    aligned |= {heading: ' class="s"' for heading in short if not aligned[heading]}
    lines = ("".join(f"<td{aligned[heading]}>{_cell(row.get(heading))}</td>" for heading in headings) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return words("" if value is None else str(value))
