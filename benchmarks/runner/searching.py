"""The highest rate at which every instance keeps its bound, with all of them at work: trials of a crew, driven by a search.

The search itself is `benchmarks.load.search`; here its rates are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.gpus import Sampler
from benchmarks.load.search import search_rates
from benchmarks.load.values import Load
from benchmarks.results import Repeat
from benchmarks.runner.crew import Crew

TOLERANCE = 0.02
_MAX_TRIALS = 40
_IN_FLIGHT = 8  # enough that an instance is never idle, few enough that its queue stays short
_TRIALS = 1_000_000  # repeats from this number on are trials, so that their arrivals are others than those that count


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a search.

    Parameters
    ----------
    rates_per_s : what was tried, by name of the instance [queries/s].
    valid : which were valid.
    p99_ms : 99th percentile of each instance's latency [ms]; None where nothing was answered.
    """

    rates_per_s: Mapping[str, float]
    valid: Mapping[str, bool]
    p99_ms: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class MaxRate:
    """The highest valid rates of a scenario, all instances at work.

    Parameters
    ----------
    scenario : its name.
    rates_per_s : of each instance, by name [queries/s].
    converged : whether all of them were valid together in the last trial, and no higher ones were.
    trials : in the order in which they were made.
    """

    scenario: str
    rates_per_s: Mapping[str, float]
    converged: bool
    trials: tuple[Trial, ...]

    @property
    def system_rate_per_s(self) -> float:
        """Of all instances together [queries/s]."""
        return sum(self.rates_per_s.values())


def search(members: Crew, sampler: Sampler, *, tolerance: float = TOLERANCE, watch: Callable[[str], None]) -> MaxRate:
    """Find the highest valid rates.

    Parameters
    ----------
    members : of a measurement in mode server.
    sampler : of GPU metrics.
    tolerance : how far apart the highest valid and the lowest failed rate may stay, relative.
    watch : told what is tried.

    Raises
    ------
    BenchmarkError
        An instance cannot be measured, or keeps its bound at no rate that is worth searching.
    """
    name = members.measurement.scenario.name
    trials: list[Trial] = []
    watch("measuring the capacity")
    _check_reachable(members, sampler)
    searching = search_rates(_capacities(members, sampler), tolerance=tolerance, max_trials=_MAX_TRIALS)
    rates = next(searching)
    while True:
        watch(f"trial {len(trials) + 1}: " + ", ".join(f"{each} {rate:.4g}/s" for each, rate in rates.items()))
        trials.append(_trial(members, sampler, rates, number=len(trials)))
        try:
            rates = searching.send(trials[-1].valid)
        except StopIteration as end:
            found = end.value
            break
    for each, answer in found.items():
        if answer.rate_per_s is None:
            seen = [trial.p99_ms[each] for trial in trials]
            raise BenchmarkError(_hopeless(members, each, min((p99 for p99 in seen if p99 is not None), default=math.nan)))
    return MaxRate(
        name,
        {each: answer.rate_per_s for each, answer in found.items()},
        all(answer.converged for answer in found.values()),
        tuple(trials),
    )


def _check_reachable(members: Crew, sampler: Sampler) -> None:
    """Refuse a bound that an instance does not keep even for one request at a time: no rate would be low enough."""
    bound_ms = members.measurement.latency_bound_ms
    assert bound_ms is not None
    for run in _closed_loop(members, sampler, in_flight=1).instances:
        if run.latency is not None and run.latency.p50 > bound_ms:
            raise BenchmarkError(_hopeless(members, run.instance, run.latency.p50))


def _capacities(members: Crew, sampler: Sampler) -> dict[str, float]:
    """Return what each instance does in a closed loop, all at work [samples/s]."""
    repeat = _closed_loop(members, sampler, in_flight=_IN_FLIGHT)
    return {run.instance: run.window_throughput_per_s for run in repeat.instances}


def _closed_loop(members: Crew, sampler: Sampler, *, in_flight: int) -> Repeat:
    measurement = members.measurement
    loads = [
        Load(
            "offline",
            measurement.rules,
            concurrency=in_flight,
            timeout_s=measurement.study.timeout_s,
            seed=measurement.seed(0, number),
        )
        for number, _ in enumerate(members.handles)
    ]
    return _measured(members, sampler, loads)


def _trial(members: Crew, sampler: Sampler, rates: Mapping[str, float], *, number: int) -> Trial:
    measurement = members.measurement
    loads = [
        measurement.load(i, repeat=_TRIALS + number, rate_per_s=rates[instance.name])
        for i, instance in enumerate(measurement.scenario.instances)
    ]
    repeat = _measured(members, sampler, loads)
    return Trial(
        dict(rates),
        {run.instance: run.valid for run in repeat.instances},
        {run.instance: None if run.latency is None else run.latency.p99 for run in repeat.instances},
    )


def _measured(members: Crew, sampler: Sampler, loads: list[Load]) -> Repeat:
    repeat = members.repeat(loads, sampler=sampler, seed=0, watch=lambda _share: None)
    for run in repeat.instances:
        if not run.queries:
            raise BenchmarkError("\n".join(run.reasons))
    return repeat


def _hopeless(members: Crew, instance: str, lowest_ms: float) -> str:
    bound_ms = members.measurement.latency_bound_ms
    return (
        f"{members.measurement.scenario.name}: {instance} keeps a bound of {bound_ms:g} ms at no rate; the lowest latency seen is"
        f" {lowest_ms:.4g} ms. Give a looser bound (latency_ms), or a larger instance"
    )
