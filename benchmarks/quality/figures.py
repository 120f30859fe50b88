"""What was measured beside what is true or allowed. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Near:
    """A figure that has to be near another one.

    Parameters
    ----------
    case : how it was measured.
    figure : its name and unit.
    measured, truth : its values.
    within : largest difference allowed, as a share of the truth.
    """

    case: str
    figure: str
    measured: float
    truth: float
    within: float

    @property
    def error(self) -> float:
        """Difference as a share of the truth."""
        return self.measured / self.truth - 1

    @property
    def holds(self) -> bool:
        """Whether the difference is allowed."""
        return abs(self.error) <= self.within


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure that has to keep to one side of a bound.

    Parameters
    ----------
    case : how it was measured.
    figure : its name and unit.
    measured : its value.
    bound : that it has to keep.
    least : whether the bound is the least that is wanted, not the most that is allowed.
    """

    case: str
    figure: str
    measured: float
    bound: float
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.measured >= self.bound if self.least else self.measured <= self.bound


Figure = Near | Bounded
