"""What follows from a few numbers: a change with its confidence interval, and fairness. Knows no results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from benchmarks.errors import BenchmarkError
from partitioner.errors import SpecError


@dataclass(frozen=True, slots=True)
class Change:
    """A throughput against that of the baseline.

    Parameters
    ----------
    relative : the change of the mean, e.g. 0.0577 for 5.77% more.
    low, high : confidence interval of the change; None where there is none.
    confidence : of the interval.
    note : why there is no interval; empty where there is one.
    """

    relative: float
    low: float | None
    high: float | None
    confidence: float
    note: str = ""

    @property
    def significant(self) -> bool | None:
        """Whether the interval leaves out no change at all; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0.0 <= self.high


def change(values: Sequence[float], baseline: Sequence[float], *, confidence: float) -> Change | None:
    """Return the change of some repeats against those of a baseline; None where one of them did nothing.

    Parameters
    ----------
    values, baseline : the throughput of each repeat [1/s].
    confidence : of the interval, between 0 and 1.

    Raises
    ------
    SpecError
        The confidence is none.
    BenchmarkError
        SciPy is not installed.

    Notes
    -----
    Welch's t-test on the logarithms, whose difference is the logarithm of the ratio: B. L. Welch, Biometrika 34 (1947),
    pages 28-35, with his degrees of freedom. Without any spread the interval is the change itself.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise SpecError(f"confidence {confidence!r} - a share between 0 and 1 is wanted, e.g. 0.95")
    if min(*values, *baseline, math.inf) <= 0:
        return None
    relative = fmean(values) / fmean(baseline) - 1
    if min(len(values), len(baseline)) < 2:
        return Change(relative, None, None, confidence, "one repeat: no interval; measure three")
    logs = [[math.log(value) for value in group] for group in (values, baseline)]
    parts = [variance(group) / len(group) for group in logs]
    difference, total = fmean(logs[0]) - fmean(logs[1]), sum(parts)
    half = 0.0
    if total > 0:
        freedom = total**2 / sum(part**2 / (len(group) - 1) for part, group in zip(parts, logs, strict=True))
        half = _quantile_of_t(freedom, (1 + confidence) / 2) * math.sqrt(total)
    return Change(relative, math.expm1(difference - half), math.expm1(difference + half), confidence)


def _quantile_of_t(freedom: float, share: float) -> float:
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise BenchmarkError(
            "SciPy is not installed, which confidence intervals need; run: pip install 'gpu-partitioner[bench]'"
        ) from error
    return float(stdtrit(freedom, share))


def jain(values: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 where all get the same, 1/n where one gets everything.

    Notes
    -----
    (sum x)^2 / (n sum x^2): R. Jain, D. Chiu, W. Hawe, DEC Research Report TR-301 (1984).

    Examples
    --------
    >>> jain([10.0, 10.0]), jain([20.0, 0.0])
    (1.0, 0.5)
    """
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0
