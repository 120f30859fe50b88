"""The fewest A100-80GB for a demand as a formula, and the planner checked against it."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.planner.mixes import GPU
from partitioner import plan_mig

PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
"""The profiles of the formula, in its order."""

PRICES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((1, 2, 2, 4, 4, 8), 8),  # memory slices
    ((1, 1, 2, 3, 4, 7), 7),  # compute slices
    ((0, 0, 1, 1, 2, 3), 3),  # three 2g.20gb, or one 4g.40gb and one of 2g.20gb and 3g.40gb
    ((0, 0, 0, 0, 1, 1), 1),  # one 4g.40gb or 7g.80gb
)
"""Extreme prices of the configurations: (price of each profile, what one GPU is worth)."""


def fewest_gpus(demand: Sequence[int]) -> int:
    """Return the fewest A100-80GB that hold a demand.

    Parameters
    ----------
    demand : count of each of `PROFILES`, shape ``(6,)``.

    Notes
    -----
    ``ceil(max((d1+2d2+2d3+4d4+4d5+8d6)/8, (d1+d2+2d3+3d4+4d5+7d6)/7, (d3+d4+2d5+3d6)/3, d5+d6))``: the vertices of the
    dual of the configuration LP; rounding up is exact for all 97,160 demands whose LP value is at most 6, which suffices
    because a basic optimum has at most 6 configurations.

    Examples
    --------
    >>> fewest_gpus((9, 0, 0, 2, 0, 0))
    3
    """
    return max(-(-sum(price * count for price, count in zip(prices, demand, strict=True)) // gpu) for prices, gpu in PRICES)


def random_demands(n: int, *, seed: int, largest: int = 100_000) -> list[tuple[int, ...]]:
    """Draw demands of all sizes: each profile is absent in one of three, else its count has a random number of digits.

    Parameters
    ----------
    n : number of demands; each asks for something.
    seed : of the random numbers.
    largest : largest count of a profile.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    demands: list[tuple[int, ...]] = []
    while len(demands) < n:
        demand = tuple(
            0 if numbers.random() < 1 / 3 else int(math.exp(numbers.uniform(0, math.log(largest + 1)))) for _ in PROFILES
        )
        if any(demand):
            demands.append(demand)
    return demands


@dataclass(frozen=True, slots=True)
class Agreement:
    """The planner against the formula.

    Parameters
    ----------
    demands : how many were tried.
    equal : how many the planner proved optimal with as many GPUs as the formula says.
    smallest_gpus, largest_gpus : the range of the answers.
    planner_s, formula_s : seconds for all demands [s].
    """

    demands: int
    equal: int
    smallest_gpus: int
    largest_gpus: int
    planner_s: float
    formula_s: float


def check(n: int, *, seed: int) -> Agreement:
    """Plan random demands and compare with the formula.

    Parameters
    ----------
    n : number of demands.
    seed : of the random numbers.
    """
    demands = random_demands(n, seed=seed)
    started = time.perf_counter()
    expected = [fewest_gpus(demand) for demand in demands]
    formula_s = time.perf_counter() - started
    started, equal = time.perf_counter(), 0
    for demand, gpus in zip(demands, expected, strict=True):
        plan = plan_mig({name: count for name, count in zip(PROFILES, demand, strict=True) if count}, gpu=GPU)
        equal += plan.status == "optimal" and plan.gpus_used == gpus
    return Agreement(n, equal, min(expected), max(expected), time.perf_counter() - started, formula_s)
