"""What a report is of: a comparison. Knows no plots and no pages."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.comparing import Comparison, compare
from benchmarks.results.values import Result

Compared = Comparison | Sequence[Result]
"""What a plot shows: a comparison, or results that can be compared."""


def compared(results: Compared) -> Comparison:
    """Return the comparison of some results, or what is one already.

    Raises
    ------
    SpecError
        There are no results.
    IncomparableError
        They were not measured alike.
    """
    return results if isinstance(results, Comparison) else compare(results)


# -- parts ----------------------------------------------------------------------------------------------------------------
