"""A result in a few lines, as text and as HTML. Knows no files and no comparison."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from partitioner.report.section import rate

if TYPE_CHECKING:
    from benchmarks.results.values import InstanceSummary, Result

_MOST_REASONS = 8


def headline(result: Result) -> str:
    """Return how something was measured in one line, the label of a stand-in for a GPU first."""
    how = result.metadata
    words = f"{how.model} {how.mode} on {how.gpu}, servers {how.servers}, engine {how.engine}, batch {how.batch}"
    return f"[{result.label}] {words}" if result.label else words


def text(result: Result) -> str:
    """Return the figures of a result, one line for each instance, and why it does not count where it does not."""
    return "\n".join((headline(result), _system(result), *map(_instance, result.instances), *_complaints(result)))


def html(result: Result) -> str:
    """Return the same as a piece of HTML for notebooks."""
    head = f"<p><strong>{escape(_system(result))}</strong><br>{escape(headline(result))}</p>"
    rows = "".join(
        f"<tr><td>{escape(entry.instance)}</td><td>{rate(entry.throughput_per_s)}</td><td>{_ms(entry, 'p50')}</td>"
        f"<td>{_ms(entry, 'p99')}</td></tr>"
        for entry in result.instances
    )
    table = f"<table><tr><th>instance</th><th>1/s</th><th>p50 [ms]</th><th>p99 [ms]</th></tr>{rows}</table>"
    complaints = "".join(f"<li>{escape(line)}</li>" for line in _complaints(result))
    return head + table + (f"<ul>{complaints}</ul>" if complaints else "")


def _system(result: Result) -> str:
    count = len(result.repeats)
    verdict = "VALID" if result.valid else "INVALID"
    spread = f", spread {result.spread:.1%}" if count > 1 else ""
    repeats = f"{count} repeat{'s' * (count > 1)}{spread}"
    return f"{result.metadata.scenario}: {rate(result.system_throughput)} samples/s, {verdict} ({repeats})"


def _instance(entry: InstanceSummary) -> str:
    return f"  {entry.instance}: {rate(entry.throughput_per_s)}/s, p50 {_ms(entry, 'p50')} ms, p99 {_ms(entry, 'p99')} ms"


def _ms(entry: InstanceSummary, name: str) -> str:
    return "-" if entry.latency is None else f"{getattr(entry.latency, name):.3g}"


def _complaints(result: Result) -> tuple[str, ...]:
    reasons = [f"INVALID: {reason}" for reason in result.reasons]
    more = [f"and {len(reasons) - _MOST_REASONS} more reasons"] if len(reasons) > _MOST_REASONS else []
    return (*reasons[:_MOST_REASONS], *more, *(f"advice: {advice}" for advice in result.advice[:_MOST_REASONS]))
