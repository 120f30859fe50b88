"""One repeat: every instance prepared, a common start, a common window, and what each did in it.

Knows agents by their handles, wherever they run. The loss of one fails its instance, not the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from benchmarks.errors import BenchmarkError
from benchmarks.gpus import GpuMetrics, Sampler
from benchmarks.load.early_stopping import fewest_queries
from benchmarks.load.log import RequestLog
from benchmarks.load.values import Load
from benchmarks.results.values import InstanceRun, Repeat
from benchmarks.runner.agent import Outcome, Prepared
from benchmarks.runner.hosts import Handle
from benchmarks.runner.records import failed_run, run_of
from benchmarks.runner.waiting import results
from benchmarks.scenarios import Instance

_PINGS = 5  # of which the quickest tells the difference of clocks best
_MARGIN_S = 0.25  # between telling the load generators when to begin, and the start
_POLL_S = 0.1
_GRACE_S = 60.0  # that a run may take longer than twice its time, before its instance is given up

SERVER_ENDED = "server_ended"
"""Fact of an instance whose server died while it was measured: how."""

Watch = Callable[[float], None]
"""Told from time to time how far a repeat is, as a share of its time."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Member:
    """One instance with its agent and its load."""

    instance: Instance
    handle: Handle
    load: Load


def measure(members: Sequence[Member], *, warmup_s: float, sampler: Sampler, seed: int, watch: Watch) -> Repeat:
    """Measure all instances at the same time.

    Parameters
    ----------
    members : the instances, whose servers are up.
    warmup_s : how long each is warmed up before [s].
    sampler : of GPU metrics.
    seed : of the repeat, for the record.
    watch : told how far the repeat is.
    """
    pool = ThreadPoolExecutor(len(members), thread_name_prefix="instance")
    try:
        prepared = _each(pool, lambda m: m.handle.prepare(m.load, warmup_s), members)
        usable = [m for m in members if not isinstance(prepared[m.instance.name], BenchmarkError)]
        offsets = _each(pool, _offset_s, usable)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        sampler.start()
        try:
            start_s = time.monotonic() + _MARGIN_S
            _each(pool, lambda m: m.handle.begin(start_s + _number(offsets[m.instance.name])), usable)
            _wait(pool, usable, start_s, watch)
        finally:
            metrics = sampler.stop()
        ended = _each(pool, lambda m: m.handle.server_died(), usable)
        outcomes = _each(pool, lambda m: _outcome(m, _said(ended[m.instance.name])), usable)
    finally:  # after Ctrl-C threads may still wait for a warm-up: they end when the agents do, which is not up to us
        pool.shutdown(wait=False, cancel_futures=True)
    repeat = _repeat(members, prepared, outcomes, offsets, metrics, began=began, seed=seed)
    return replace(repeat, instances=tuple(_with_end(run, _said(ended.get(run.instance))) for run in repeat.instances))


def _each(pool: ThreadPoolExecutor, work: Callable[[Member], _T], members: Sequence[Member]) -> dict[str, _T | BenchmarkError]:
    """Do something for all instances at once; what failed is in place of what it would have returned."""

    def attempt(member: Member) -> _T | BenchmarkError:
        try:
            return work(member)
        except BenchmarkError as error:
            return error

    done = results([pool.submit(attempt, member) for member in members])
    return {member.instance.name: each for member, each in zip(members, done, strict=True)}


def _offset_s(member: Member) -> float:
    """Return how far the clock of the agent's host is ahead of ours [s] (Cristian, Distributed Computing 3, 1989)."""
    best: tuple[float, float] | None = None
    for _ in range(_PINGS):
        sent = time.monotonic()
        there = member.handle.clock()
        back = time.monotonic()
        if best is None or back - sent < best[0]:
            best = (back - sent, there - (sent + back) / 2)
    assert best is not None
    return best[1]


def _number(value: float | BenchmarkError) -> float:
    return 0.0 if isinstance(value, BenchmarkError) else value


def _wait(pool: ThreadPoolExecutor, members: Sequence[Member], start_s: float, watch: Watch) -> None:
    """Wait until every run is over, its agent lost, or its time long past."""
    lasts_s = max((_expected_s(member.load) for member in members), default=0.0)
    running = list(members)
    while running and time.monotonic() < start_s + 2 * lasts_s + _GRACE_S:
        time.sleep(_POLL_S)
        seen = _each(pool, lambda m: m.handle.poll()[1], running)
        running = [m for m in running if seen[m.instance.name] is False]
        watch(min(1.0, max(0.0, (time.monotonic() - start_s) / lasts_s)) if lasts_s else 1.0)


def _expected_s(load: Load) -> float:
    if load.mode == "server" and load.rate_per_s:
        return max(load.rules.min_duration_s, fewest_queries(load) / load.rate_per_s)
    return load.rules.min_duration_s


def _said(died: str | BenchmarkError | None) -> str | None:
    return None if isinstance(died, BenchmarkError) else died


def _with_end(run: InstanceRun, died: str | None) -> InstanceRun:
    """Return what was measured of an instance, INVALID where its server died meanwhile."""
    if died is None or not run.queries:  # that it could not be measured is said
        return run
    reasons, advice = (died, *run.reasons), ("resume: this repeat is measured again", *run.advice)
    return replace(run, valid=False, reasons=reasons, advice=advice, facts={**run.facts, SERVER_ENDED: died})


def _outcome(member: Member, died: str | None) -> Outcome:
    if not member.handle.poll()[1]:
        raise BenchmarkError(f"{member.instance.name}: " + (died or "its run did not end in twice its time; it was given up"))
    try:
        return member.handle.outcome()
    except BenchmarkError as error:
        if died is not None:
            raise BenchmarkError(f"{error}; {died}") from error
        raise


def _repeat(
    members: Sequence[Member],
    prepared: dict[str, Prepared | BenchmarkError],
    outcomes: dict[str, Outcome | BenchmarkError],
    offsets: dict[str, float | BenchmarkError],
    metrics: GpuMetrics,
    *,
    began: str,
    seed: int,
) -> Repeat:
    logs: dict[str, RequestLog] = {n: o.log for n, o in outcomes.items() if not isinstance(o, BenchmarkError) and len(o.log)}
    starts = {name: log.began_s - _number(offsets[name]) for name, log in logs.items()}
    first = min(starts.values(), default=0.0)
    window_s = min((log.end_s for log in logs.values()), default=0.0)
    longest_s = max((log.end_s for log in logs.values()), default=0.0)
    runs: list[InstanceRun] = []
    for member in members:
        name = member.instance.name
        ready, outcome = prepared[name], outcomes.get(name)
        failure = next((each for each in (ready, outcome) if isinstance(each, BenchmarkError)), None)
        if isinstance(ready, BenchmarkError) or isinstance(outcome, BenchmarkError) or outcome is None:
            runs.append(failed_run(member.instance, member.handle.host, failure))
            continue
        run = run_of(member.instance, member.handle.host, member.load, ready, outcome, window_s=window_s)
        skew_ms = 1000 * (starts.get(name, first) - first)
        facts = {**run.facts, "gpu_metrics": "; ".join((metrics.source, *metrics.notes))}
        runs.append(replace(run, start_skew_ms=skew_ms, gpu_metrics=metrics.instances.get(name, {}), facts=facts))
    return Repeat(
        seed=seed,
        began=began,
        window_s=window_s,
        overlap=window_s / longest_s if longest_s else 0.0,
        start_skew_ms=1000 * (max(starts.values(), default=first) - first),
        instances=tuple(runs),
        energy_j=metrics.energy_j,
    )
