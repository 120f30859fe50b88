"""A table with its title, and numbers as they are written in it. Must not know what the tables are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_ROWS = 60
"""Rows shown one by one; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table with its title.

    Parameters
    ----------
    title : what it is about.
    rows : its rows; the headings are the keys, the same in each row.
    n_left_out : rows beyond those shown.
    """

    title: str
    rows: tuple[Mapping[str, str], ...]
    n_left_out: int = 0

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, str]]) -> Section:
        """Return a table of the first `MAX_ROWS` rows, the rest counted."""
        return cls(title, tuple(rows[:MAX_ROWS]), max(0, len(rows) - MAX_ROWS))

    @property
    def heading(self) -> str:
        """The title, and how much of the table is shown where that is not all."""
        return f"{self.title} (the first {len(self.rows)} rows; {self.n_left_out:,} more)" if self.n_left_out else self.title


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 GPU``, ``1,200 GPUs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def plain(number: float) -> str:
    """Return a number with at most two decimals: ``1,585``, ``0.25``.

    Examples
    --------
    >>> plain(64.0), plain(2.5), plain(1585.521)
    ('64', '2.5', '1,585.52')
    """
    return f"{number:,.2f}".rstrip("0").rstrip(".")


def rate(requests: float) -> str:
    """Return requests per second to three digits, from 100 on as a whole number.

    Examples
    --------
    >>> rate(7611.9), rate(31.4159), rate(0.5)
    ('7,612', '31.4', '0.5')
    """
    return f"{requests:,.0f}" if requests >= 100 else f"{requests:.3g}"
