"""How many queries a run needs before its percentile can be believed: MLPerf's early stopping. Knows numbers only.

Source: LoadGen's rule: with `late` queries over the bound, n queries are enough when so few late ones would be seen with a
probability of at most 1 - confidence if the system kept the bound for just `percentile` of its queries, that is, when
BinomialCDF(late; n, 1 - percentile) <= 1 - confidence.
"""

from __future__ import annotations

import math
from functools import lru_cache

from benchmarks.load.values import Load
from partitioner.errors import SpecError

PERCENTILES = {"single_stream": 0.90, "multi_stream": 0.99}
"""What LoadGen reports of the modes that have no bound. Source: MLPerf Inference rules, metrics of the scenarios."""


@lru_cache(maxsize=4096)
def queries_needed(late: int, percentile: float = 0.99, confidence: float = 0.99) -> int:
    """Return the fewest queries, late ones among them, with which `late` of them may be over the bound.

    Parameters
    ----------
    late : queries over the bound.
    percentile : share of the queries that has to keep it.
    confidence : with which it has to be known that they do.

    Raises
    ------
    SpecError
        The count is negative, the percentile not between 0 and 1, or the confidence not between a half and 1.

    Examples
    --------
    >>> [queries_needed(late) for late in (0, 1, 2, 5, 10, 100)]
    [459, 662, 838, 1307, 2010, 12571]
    """
    if late < 0 or not (0 < percentile < 1 and 0.5 <= confidence < 1):
        raise SpecError(
            f"early stopping - {late} late queries, percentile {percentile:g}, confidence {confidence:g}; "
            "give a count of 0 or more, a percentile between 0 and 1 and a confidence of 0.5 or more and below 1"
        )
    few, many = late, 2 * (late + 1)
    while _chance(late, many, percentile) > 1 - confidence:
        few, many = many, 2 * many
    while many - few > 1:  # `few` are not enough, `many` are
        middle = (few + many) // 2
        if _chance(late, middle, percentile) > 1 - confidence:
            few = middle
        else:
            many = middle
    return many


def _chance(late: int, total: int, percentile: float) -> float:
    """Return BinomialCDF(late; total, 1 - percentile), summed from its largest term down, which takes a few hundred terms."""
    if late >= total * (1 - percentile):  # about the median: the largest term is not the first, and the answer is known
        return 1.0
    term = math.exp(
        math.lgamma(total + 1)
        - math.lgamma(late + 1)
        - math.lgamma(total - late + 1)
        + late * math.log1p(-percentile)
        + (total - late) * math.log(percentile)
    )
    result = term
    for k in range(late, 0, -1):
        term *= k * percentile / ((total - k + 1) * (1 - percentile))
        result += term
        if term < result * 1e-17:
            break
    return result


def verify(late: int, total: int, *, percentile: float = 0.99, confidence: float = 0.99) -> bool:
    """Return whether `late` queries over the bound are few enough among `total`.

    Examples
    --------
    >>> verify(1, 661), verify(1, 662)
    (False, True)
    """
    return total >= queries_needed(late, percentile, confidence)


def fewest_queries(load: Load) -> int:
    """Return how many queries an engine has to send for the run to count, with room for one late query.

    LoadGen asks for that room in its stream modes; in mode server it leaves the number to the submitter.
    """
    rules = load.rules
    if load.mode == "server" and rules.latency_bound_ms is not None:
        return max(rules.min_queries, queries_needed(1, rules.percentile, rules.confidence))
    if load.mode in PERCENTILES:
        return max(rules.min_queries, queries_needed(1, PERCENTILES[load.mode], rules.confidence))
    return rules.min_queries
