"""A result as points of a calibration, so that the next plan uses what was measured. Knows no calibration as a whole.

A mode becomes what the planner reckons with: offline and the modes of a stream are batches, where their size is known, else
the highest throughput at whatever size; a server is a rate under a bound on its 99th percentile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from benchmarks.errors import IncomparableError

if TYPE_CHECKING:
    from benchmarks.results.values import InstanceRun, Metadata, Result
    from partitioner.performance import Point

_P99 = 0.99  # the percentile that the planner's bounds are of
_PROCESSES = 1  # copies of the model on a server; with more of them, points would not say how each fares
_ONE_WAITS = 2  # requests in flight, of which one is served


def points_of(result: Result, *, stand_ins: bool) -> tuple[Point, ...]:
    """Return one point for each profile of a result, and for each of the states busy and alone.

    Parameters
    ----------
    result : what was measured.
    stand_ins : take it also where something stood in for a GPU; the source of each point says so.

    Raises
    ------
    IncomparableError
        The result is INVALID, a stand-in's, or of a server under no bound on its 99th percentile.

    Notes
    -----
    An instance is busy where others of its GPU were at work. The error is the standard deviation over the mean, of all
    instances of a profile in all repeats. The latency of a batch is batch over throughput, by Little's law: with two requests
    in flight each waits for two batches.
    """
    _check(result, stand_ins=stand_ins)
    groups: dict[tuple[str, bool], list[InstanceRun]] = {}
    for repeat in result.repeats:
        together = [(run.host, run.gpu) for run in repeat.instances]
        for run in repeat.instances:
            groups.setdefault((run.profile, together.count((run.host, run.gpu)) > 1), []).append(run)
    return tuple(_point(result, profile, runs, busy=busy) for (profile, busy), runs in groups.items())


def _check(result: Result, *, stand_ins: bool) -> None:
    who, rules = f"result {result.metadata.scenario}", result.metadata.rules
    if not result.valid:
        raise IncomparableError(f"{who} - is INVALID and calibrates nothing; measure it again", result.reasons)
    if result.label and not stand_ins:
        raise IncomparableError(
            f"{who} - was measured on {result.metadata.device} ({result.label}), which says nothing of a GPU's speed;"
            " measure on the GPU, or allow it for a rehearsal (stand_ins=True, --stand-ins)"
        )
    if result.metadata.mode == "server" and (rules.get("latency_bound_ms") is None or rules.get("percentile") != _P99):
        bound, share = rules.get("latency_bound_ms"), rules.get("percentile")
        raise IncomparableError(
            f"{who} - mode server under latency_bound_ms {bound} at percentile {share}; a calibration knows rates under a bound"
            f" at {_P99}; measure with such rules"
        )


def _point(result: Result, profile: str, runs: list[InstanceRun], *, busy: bool) -> Point:
    from partitioner.performance import Point  # laws and tables, which a process that only measures does without

    how = result.metadata
    rates = [run.window_throughput_per_s if busy else run.throughput_per_s for run in runs]
    mean = fmean(rates)
    if mean <= 0:
        raise IncomparableError(f"result {how.scenario} - {profile} answered nothing; measure it again")
    error = stdev(rates) / mean if len(rates) > 1 else None
    if how.mode == "server":
        kind: dict[str, Any] = {"scenario": "server", "latency_ms": how.rules["latency_bound_ms"]}
    elif batch := batch_of(how, runs):
        kind = {"batch": batch, "processes": _PROCESSES, "latency_ms": batch * _PROCESSES * 1000 / mean}
    else:
        kind = {"scenario": "offline"}
    return Point(how.gpu, profile, how.model, mean, busy=busy, error=error, source=_source(result), **kind)


def batch_of(how: Metadata, runs: Sequence[InstanceRun]) -> int | None:
    """Return the size of the batches that the model ran in on an instance; None where the server was free to choose it.

    Parameters
    ----------
    how : how it was measured.
    runs : of one instance, or of equal ones.

    Raises
    ------
    IncomparableError
        The queries of a stream are not of one size.

    Notes
    -----
    A server that batches by itself takes all requests that wait, but no more samples than the model takes. With one or two
    requests in flight no more than one waits. Where at most k go together and at least 2 k are in flight, k wait whenever k
    are done. In this process every request is a batch.
    """
    if how.mode == "server":
        return None
    answered = [run for run in runs if run.queries]
    if how.mode != "offline":
        return _samples_per_query(how, answered)
    if how.servers == "inprocess":
        return how.batch
    if any(_copies(run) != _PROCESSES for run in answered):
        return None
    if how.concurrency <= _ONE_WAITS:
        return how.batch
    together = {_most(run) // how.batch for run in answered}
    k = together.pop() if len(together) == 1 else math.inf
    return int(k) * how.batch if 1 <= k <= how.concurrency / 2 else None


def _samples_per_query(how: Metadata, runs: Sequence[InstanceRun]) -> int:
    sizes = {run.samples / run.queries for run in runs}
    size = sizes.pop() if len(sizes) == 1 else 0.0
    if size < 1 or size != int(size):
        raise IncomparableError(
            f"result {how.scenario} - its queries are not of one size, so that no batch size is known; measure with whole queries"
        )
    return int(size)


def _most(run: InstanceRun) -> float:
    """Return how many samples the server puts into one batch at most, as it says itself."""
    said = run.facts.get("max_batch", "")
    return int(said) if said.isdecimal() else math.inf


def _copies(run: InstanceRun) -> int:
    """Return how many copies of the model the server runs, as it says itself: ``1 x KIND_GPU``; one where it says nothing."""
    return sum(map(int, re.findall(r"(\d+) x ", run.facts.get("model_instances", "")))) or _PROCESSES


def _source(result: Result) -> str:
    """Return where the figures come from, in one sentence without line ends."""
    how, began = result.metadata, result.repeats[0].began[:10]
    count = len(result.repeats)
    words = (
        f"{how.scenario} {how.mode}, {count} repeat{'s' * (count > 1)}",
        f"servers {how.servers}, engine {how.engine}",
        f"host {' and '.join(sorted(how.host))}" if how.host else "",
        began,
    )
    said = "measured with partitioner bench: " + ", ".join(word for word in words if word)
    return " ".join((f"[{result.label}] {said}" if result.label else said).split())
