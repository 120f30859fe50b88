"""Own measurements as points of a calibration. Knows that something was measured and gives points; not how it was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean
from typing import Protocol, runtime_checkable

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.performance.points import MEASURED_ERROR, Point


@runtime_checkable
class Measured(Protocol):
    """What a benchmark found, as far as a calibration asks."""

    def points(self, *, stand_ins: bool = False) -> Iterable[Point]:
        """Return the points that follow from it.

        Parameters
        ----------
        stand_ins : give them also where something stood in for a GPU, with sources that say so.

        Raises
        ------
        PartitionerError
            It does not count, or was measured on a stand-in without leave.
        """
        ...


def points_of(results: Iterable[Measured], *, stand_ins: bool) -> tuple[Point, ...]:
    """Return the points of several results, those of the same key as one.

    Parameters
    ----------
    results : at least one.
    stand_ins : take results of what stood in for a GPU too.

    Raises
    ------
    SpecError
        There is no result, it is none, or its GPU or profile is not in the catalogue.
    PartitionerError
        A result does not count, as `Measured.points` says.

    Notes
    -----
    Of a batch size measured more than once (the same profile in two scenarios) the mean is taken, with an error that reaches
    the outermost figure. Of a server the highest rate is taken: each rate that kept the bound says that a server can do it.
    """
    found = list(results)
    for result in found:
        if not isinstance(result, Measured):
            raise SpecError(f"calibration - {result!r} is no result of a benchmark; give objects with points()")
    if not found:
        raise SpecError("calibration - no results; give at least one")
    groups: dict[tuple[object, ...], list[Point]] = {}
    for result in found:
        for point in map(_checked, result.points(stand_ins=stand_ins)):
            groups.setdefault(point.key, []).append(point)
    return tuple(_one(points) for points in groups.values())


def _checked(point: Point) -> Point:
    """Return the point with the catalogue's own spelling of GPU and profile."""
    gpu = catalog.gpu(point.gpu)
    return replace(point, gpu=gpu.name, profile=gpu.profile(point.profile).name)


def _one(points: list[Point]) -> Point:
    if len(points) == 1:
        return points[0]
    best = max(points, key=lambda point: point.throughput_per_s)
    if best.scenario == "server":
        return best
    source = "; ".join(dict.fromkeys(point.source for point in points))
    rates = [point.throughput_per_s for point in points]
    mean = fmean(rates)
    own = max(MEASURED_ERROR if point.error is None else point.error for point in points)
    error = math.hypot(own, max(abs(rate / mean - 1) for rate in rates))
    latencies = [point.latency_ms for point in points if point.latency_ms is not None]
    latency_ms = fmean(latencies) if latencies else None
    return replace(best, throughput_per_s=mean, latency_ms=latency_ms, error=error, source=source)
