"""Services in rows: how many instances of what, what they serve, what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from partitioner.layout import Layout
from partitioner.report.section import Section, plain, rate

if TYPE_CHECKING:
    from partitioner.performance import Rating
    from partitioner.plans import Plan
    from partitioner.workload import Workload

Place = tuple[str, str, str, str]
"""Workload, GPU model, mode, profile."""


def instances(layout: Layout) -> Counter[Place]:
    """Return how many placements each workload has on each profile, in order of first appearance."""
    found: Counter[Place] = Counter()
    for group in layout.groups():
        for column, placement in enumerate(group.pattern.placements):
            who, counts = np.unique(layout.occupant[layout.offsets[group.gpus] + column], return_counts=True)
            for row, count in zip(who.tolist(), counts.tolist(), strict=True):
                if row >= 0:
                    place = (layout.workloads[row], group.pattern.model, group.pattern.mode or "", placement.profile.name)
                    found[place] += count
    return found


def services(plan: Plan) -> Section | None:
    """Return a table of the services placed; None where there are none.

    A batch of ``8 x 2`` is eight requests in each of two processes; ``-`` stands where only the figures of a whole
    scenario were published. What is given says how much more that is than asked for.
    """
    if not plan.ratings:
        return None
    standing: dict[str, list[tuple[Place, int]]] = {}
    for place, count in instances(plan.layout).items():
        standing.setdefault(place[0], []).append((place, count))
    shown = [
        row
        for workload in plan.workloads
        if workload.model is not None and workload.name in standing
        for row in _rows(workload, standing[workload.name], plan.ratings)
    ]
    return Section.of("services, in requests/s", shown) if shown else None


def _rows(workload: Workload, placed: list[tuple[Place, int]], ratings: Mapping[Place, Rating]) -> Iterator[dict[str, str]]:
    """Yield a row for each profile of a service, the largest part first; its totals stand in the first one."""
    parts = sorted(
        ((ratings[place], place, count) for place, count in placed), key=lambda part: -part[0].throughput_rps * part[2]
    )
    given, asked = sum(rating.throughput_rps * count for rating, _, count in parts), workload.rate or 0.0
    totals = [f"{rate(given)} ({given / asked - 1:+.0%})" if asked else rate(given), rate(asked)]
    for number, (rating, (_, gpu, _, profile), count) in enumerate(parts):
        first = number == 0
        yield {
            "service": workload.name if first else "",
            "model": workload.model or "" if first else "",
            "instances": f"{count:,} x {profile}",
            "on": gpu,
            "batch": f"{rating.batch} x {rating.processes}" if rating.batch else "-",
            "each": f"{rate(rating.throughput_rps)} ±{rating.error:.0%}",
            "given": totals[0] if first else "",
            "asked for": totals[1] if first else "",
            "latency": _latency(workload, rating),
        }


def _latency(workload: Workload, rating: Rating) -> str:
    if rating.latency_ms is None or workload.latency_ms is None:
        return "-"
    percentile = "p99 " if workload.scenario == "server" else ""
    return f"{percentile}{plain(round(rating.latency_ms, 1))} of {plain(workload.latency_ms)} ms"
