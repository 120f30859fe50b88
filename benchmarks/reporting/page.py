"""A web page that needs nothing else: its style, tables, figures. Must not know what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from partitioner.drawing.marks import attribute, words

_STYLE = """
:root { color-scheme: light dark; --ground: #f6f8fa; --card: #ffffff; --ink: #1f2328; --muted: #59636e; --line: #d1d9e0;
  --bad: #c62828; --bad-ground: #fdecea; --note: #7a4b00; --note-ground: #fff4d6; --note-line: #e2b93b; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --card: #151b23; --ink: #f0f6fc; --muted: #9198a1; --line: #3d444d;
    --bad: #ff7b72; --bad-ground: #3a1714; --note: #f2cc60; --note-ground: #33270a; --note-line: #9e7a1a; }
}
@media print {
  :root { color-scheme: light; --ground: #ffffff; --card: #ffffff; --ink: #000000; --muted: #444444; --line: #bbbbbb;
    --bad: #a01010; --bad-ground: #ffffff; --note: #5a3800; --note-ground: #ffffff; --note-line: #5a3800; }
}
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 16px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; overflow-wrap: anywhere; }
h2, h3 { font-size: 18px; line-height: 1.3; margin: 36px 0 10px; overflow-wrap: anywhere; }
h2.part { font-size: 22px; margin-top: 56px; padding-top: 20px; border-top: 3px solid var(--line); }
p { margin: 0 0 8px; overflow-wrap: anywhere; }
.facts { margin: 0 0 20px; padding: 0; list-style: none; color: var(--muted); }
.facts li { display: inline; overflow-wrap: anywhere; }
.facts li + li::before { content: "·"; padding: 0 0.5em; }
.box { margin: 0 0 16px; padding: 12px 16px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.box p:last-child { margin: 0; }
.note { color: var(--note); background: var(--note-ground); border: 2px solid var(--note-line); }
.note strong { font-size: 17px; }
.bad { background: var(--bad-ground); border-color: var(--bad); }
.bad dt { font-weight: 600; color: var(--bad); }
.bad dl, .bad dd { margin: 0; overflow-wrap: anywhere; }
.bad dd + dt { margin-top: 8px; }
b.invalid { color: var(--bad); font-size: 0.85em; letter-spacing: 0.02em; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; align-items: start; }
figure { margin: 0; padding: 12px; border: 1px solid var(--line); border-radius: 10px; background: var(--card);
  break-inside: avoid; }
figure svg { display: block; width: 100%; max-width: 560px; height: auto; margin: 0 auto; }
figure svg text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif !important; }
.scroll + .box { margin-top: 12px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 12px; text-align: left; vertical-align: top; white-space: nowrap; }
th { color: var(--muted); font-weight: 600; white-space: normal; }
thead th { vertical-align: bottom; }
tr + tr > *, tbody > tr:first-child > * { border-top: 1px solid var(--line); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.long { white-space: normal; min-width: 14em; overflow-wrap: anywhere; }
tr > :first-child { position: sticky; left: 0; background: var(--card); }
@media (max-width: 600px) {
  main { padding: 20px 10px 40px; }
  h1 { font-size: 22px; }
  th, td { padding: 6px 8px; font-size: 13px; }
  figure { padding: 6px; }
}
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 11px; }
  .scroll { overflow: visible; }
  .plots { grid-template-columns: 1fr 1fr; gap: 8px; }
  table { font-size: 9px; }
  th, td { padding: 3px 5px; white-space: normal; }
  tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
_NUMBER = re.compile(r"[+-]?[\d,]+(\.\d+)?%?( \([^()]*\))?|-|baseline|")
_LONG = 48  # characters of a cell from which on it may be broken
_INVALID = " INVALID"

Rows = Sequence[Mapping[str, str]]


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page with a heading and parts that are HTML already; the same input gives the same text."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{words(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{words(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def facts(lines: Iterable[str]) -> str:
    """Return short statements in one line, as far as it reaches."""
    return '<ul class="facts">' + "".join(f"<li>{words(line)}</li>" for line in lines) + "</ul>"


def box(lines: Sequence[str], *, kind: str = "", strong: str = "") -> str:
    """Return a box of paragraphs, before them a word that has to be seen; nothing where there is nothing to say."""
    head = f"<p><strong>{words(strong)}</strong></p>" if strong else ""
    text = "".join(f"<p>{words(line)}</p>" for line in lines)
    return f'<div class="{f"box {kind}".strip()}">{head}{text}</div>' if head or text else ""


def complaints(entries: Mapping[str, Sequence[str]]) -> str:
    """Return a box of what is wrong, with lines under each name; nothing where nothing is."""
    inner = "".join(f"<dt>{words(name)}</dt>" + "".join(f"<dd>{words(line)}</dd>" for line in entries[name]) for name in entries)
    return f'<div class="box bad"><dl>{inner}</dl></div>' if inner else ""


def figures(pictures: Mapping[str, str]) -> str:
    """Return pictures (SVG by what is said of them to who cannot see) side by side, as many as there is room for."""
    inner = "\n".join(f'<figure role="img" aria-label={attribute(name)}>{svg}</figure>' for name, svg in pictures.items())
    return f'<div class="plots">\n{inner}\n</div>'


def part(title: str) -> str:
    """Return the heading of a part of a page, under which tables stand at level 3."""
    return f'<h2 class="part">{words(title)}</h2>'


def table(title: str, rows: Rows, *, level: int = 2) -> str:
    """Return a table under its title, a heading of some level; numbers to the right, no empty columns, nothing without rows."""
    if not rows:
        return ""
    headings = list(dict.fromkeys(heading for row in rows for heading in row if any(row.get(heading) for row in rows)))
    kinds = {heading: _kind([row.get(heading, "") for row in rows]) for heading in headings[1:]}
    head = "".join(f"<th{kinds.get(heading, '')}>{words(heading)}</th>" for heading in headings)
    body = "\n".join(
        "<tr>" + "".join(f"<td{kinds.get(heading, '')}>{_cell(row.get(heading, ''))}</td>" for heading in headings) + "</tr>"
        for row in rows
    )
    return (
        f'<h{level}>{words(title[:1].upper() + title[1:])}</h{level}>\n<div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _kind(cells: Sequence[str]) -> str:
    if all(_NUMBER.fullmatch(cell) for cell in cells):
        return ' class="n"'
    return ' class="long"' if any(len(cell) > _LONG for cell in cells) else ""


def _cell(text: str) -> str:
    if text.endswith(_INVALID):
        return f'{words(text.removesuffix(_INVALID))} <b class="invalid">INVALID</b>'
    return words(text)
