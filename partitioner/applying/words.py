"""Lists in messages, cut where they grow long. Must not know what is listed."""

from __future__ import annotations

from collections.abc import Sequence

_NAMES, _LINES = 6, 50


def some(names: Sequence[str]) -> str:
    """Return names with commas, the first six where there are more.

    Examples
    --------
    >>> some("abcdefgh")
    'a, b, c, d, e, f and 2 more'
    """
    return ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def some_lines(lines: Sequence[str]) -> list[str]:
    """Return lines that each say a difference, the first fifty and a count where there are more."""
    left = len(lines) - _LINES
    return [*lines[:_LINES], *([f"and {left:,} more differences"] if left > 0 else [])]
