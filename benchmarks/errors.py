"""Errors of the benchmarks. A message reads: who - what is wrong, with the value - what would be right."""

from __future__ import annotations

from collections.abc import Iterable

from partitioner.errors import PartitionerError


class BenchmarkError(PartitionerError, RuntimeError):
    """A measurement cannot be made, or broke off; what was measured before it is kept."""


class ServerError(BenchmarkError):
    """A server does not start, is not there, serves something else than was asked for, or died.

    Attributes
    ----------
    log : the last lines of what the server said, oldest first; empty where there are none.
    """

    def __init__(self, message: str, log: Iterable[str] = ()) -> None:
        self.log: tuple[str, ...] = tuple(log)
        super().__init__("\n".join((message, *(f"  | {line}" for line in self.log))))


class RequestError(BenchmarkError):
    """One request failed: refused, too late, broken off, or answered with something else than the model's outputs."""


class LoadGeneratorError(BenchmarkError):
    """A load generator does not start, cannot do what is asked of it, or died."""


class IncomparableError(PartitionerError, ValueError):
    """Results were not measured alike, so that nothing follows from their difference.

    Attributes
    ----------
    differences : one line for each field in which they differ.
    """

    def __init__(self, message: str, differences: Iterable[str] = ()) -> None:
        self.differences: tuple[str, ...] = tuple(differences)
        super().__init__("\n".join((message, *(f"  {line}" for line in self.differences))))
