"""The highest rate at which each of several instances still keeps its bound, measured with all of them at work.

A pure search: it says which rates to try and is told which of them were valid. A failure by chance must not hide half of the
range, so a rate has failed when two of three trials did, and the lowest that failed is tried once more in the end. Knows no
servers and no clocks.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from partitioner.errors import SpecError

_GROW = 1.25
_SHRINK = 0.7
_FIRST = 0.8  # of the capacity: about where common models end up
_LOWEST = 1 / 64  # of the capacity: below it there is no use in searching

Rates = dict[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found for one instance.

    Parameters
    ----------
    rate_per_s : highest rate that was valid, all others being at theirs; None where none was [1/s].
    failed_per_s : lowest rate that failed; None where none did [1/s].
    converged : whether the two are as close as was asked for, and the rate was valid in the last trial of all.
    trials : in which the instance was tried at rates of its own.
    """

    rate_per_s: float | None
    failed_per_s: float | None
    converged: bool
    trials: int


@dataclass(slots=True)
class _Bracket:
    """One instance: between which rates the answer lies, and what was seen at the rate that is being tried."""

    capacity: float
    tolerance: float
    rate: float
    valid: list[float] = field(default_factory=list)  # ascending
    failed: list[float] = field(default_factory=list)  # descending
    settled: bool = False
    passes: int = 0
    fails: int = 0
    trials: int = 0

    @property
    def low(self) -> float:
        return self.valid[-1] if self.valid else 0.0

    @property
    def high(self) -> float:
        return self.failed[-1] if self.failed else math.inf

    @property
    def narrow(self) -> bool:
        return bool(self.valid) and self.high <= self.low * (1 + self.tolerance) * (1 + 1e-9)

    @property
    def hopeless(self) -> bool:
        return not self.valid and self.high <= self.capacity * _LOWEST

    @property
    def open(self) -> bool:
        return not (self.settled or self.hopeless)

    def see(self, *, valid: bool) -> None:
        """Take in one trial at `rate`: valid at once, or the better of three."""
        self._count(valid=valid)
        if self.rate == self.high:  # tried once more
            self.settled = not valid
            if valid:
                self.valid.append(self.failed.pop())
        elif self.fails >= 2:
            self.failed.append(self.rate)
        elif self.passes > self.fails or self.passes >= 2:
            self.valid.append(self.rate)
        else:
            return
        self.aim()

    def confirm(self, *, valid: bool) -> None:
        """Take in one trial with all others at what was found for them: go one step down where two of three fail."""
        self._count(valid=valid)
        if self.fails >= 2:
            self.failed.append(self.rate)
            step = self.rate / (1 + self.tolerance)
            self.valid = [*(rate for rate in self.valid if rate < step), step]
        if self.fails >= 2 or self.passes >= 2:
            self.aim()

    def _count(self, *, valid: bool) -> None:
        self.trials += 1
        self.passes += valid
        self.fails += not valid

    def aim(self) -> None:
        """Choose the next rate."""
        self.passes = self.fails = 0
        if not self.open:
            self.rate = self.low
        elif not self.valid:
            self.rate = self.high * _SHRINK
        elif not self.failed:
            self.rate = self.low * _GROW
        elif self.narrow:  # a failure by chance below the limit shows here, for the price of one trial
            self.rate = self.high
        else:
            self.rate = math.sqrt(self.low * self.high)


def search_rates(
    capacity_per_s: Mapping[str, float], *, tolerance: float = 0.02, max_trials: int = 40
) -> Generator[Rates, Mapping[str, bool], dict[str, Found]]:
    """Yield the rates of all instances for the next trial; send whether each was valid; return what was found.

    Each instance has a bracket of its own, narrowed by bisection. Those that are done go on at their rate, so that the others
    are measured with all at work. In the end all are tried together at what was found; who fails twice of three takes one
    step down, until all are valid in one trial.

    Parameters
    ----------
    capacity_per_s : samples a second of each instance in a closed loop, by name [1/s]: where the search begins.
    tolerance : how far apart the highest valid and the lowest failed rate may stay, relative.
    max_trials : most trials; what was found by then is returned.

    Raises
    ------
    SpecError
        There is nothing to search for: a capacity or the tolerance is not a positive number, or no trial is allowed.

    Examples
    --------
    >>> search = search_rates({"1g": 100.0}, tolerance=0.02)
    >>> rates = next(search)
    >>> try:
    ...     while True:
    ...         rates = search.send({"1g": rates["1g"] <= 70})
    ... except StopIteration as end:
    ...     found = end.value["1g"]
    >>> 70 / 1.02 <= found.rate_per_s <= 70, found.converged
    (True, True)
    """
    _check(capacity_per_s, tolerance, max_trials)
    brackets = {name: _Bracket(capacity, tolerance, rate=_FIRST * capacity) for name, capacity in capacity_per_s.items()}
    trials, agreed = 0, False
    while trials < max_trials and any(bracket.open for bracket in brackets.values()):
        valid = yield _rates(brackets)
        trials += 1
        for name, bracket in brackets.items():
            if bracket.open:
                bracket.see(valid=valid[name])
    living = {name: bracket for name, bracket in brackets.items() if bracket.settled}
    while trials < max_trials and living and not agreed:
        valid = yield _rates(brackets)
        trials += 1
        agreed = all(valid[name] for name in living)
        for name, bracket in living.items():
            bracket.confirm(valid=valid[name])
    return {name: _found(bracket, agreed=agreed) for name, bracket in brackets.items()}


def _check(capacity_per_s: Mapping[str, float], tolerance: float, max_trials: int) -> None:
    for name, capacity in capacity_per_s.items():
        if not (math.isfinite(capacity) and capacity > 0):
            raise SpecError(f"search for the highest rate - {name} has a capacity of {capacity:g}/s; it has to answer something")
    if not capacity_per_s or not 0 < tolerance < 1 or max_trials < 1:
        raise SpecError(
            f"search for the highest rate - {len(capacity_per_s)} instances, tolerance {tolerance:g}, {max_trials} trials;"
            " give at least one instance, a tolerance between 0 and 1, and at least one trial"
        )


def _rates(brackets: Mapping[str, _Bracket]) -> Rates:
    """Return the rate of each instance; one that is never valid goes on at its lowest, so that it is at work."""
    return {name: bracket.rate or bracket.high for name, bracket in brackets.items()}


def _found(bracket: _Bracket, *, agreed: bool) -> Found:
    return Found(
        rate_per_s=bracket.low or None,
        failed_per_s=bracket.failed[-1] if bracket.failed else None,
        converged=agreed and bracket.settled,
        trials=bracket.trials,
    )
