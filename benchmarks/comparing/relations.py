"""What results say about instances beside one another: fairness, isolation and scaling. Knows no baseline and no cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from benchmarks.comparing.statistics import jain
from benchmarks.results.values import InstanceSummary, Result


@dataclass(frozen=True, slots=True)
class Fairness:
    """How evenly the equal instances of a scenario were served.

    Parameters
    ----------
    scenario, profile : which instances.
    n_instances : how many.
    jain : Jain's index, 1 where all have the same throughput.
    max_over_min : highest over lowest throughput; None where one instance did nothing.
    valid : whether the result counts.
    """

    scenario: str
    profile: str
    n_instances: int
    jain: float
    max_over_min: float | None
    valid: bool


@dataclass(frozen=True, slots=True)
class Isolation:
    """Instances of a profile with neighbours at work, over one that is alone on its GPU; 1 is perfect.

    Parameters
    ----------
    profile : the profile.
    alone : the scenario in which it is alone.
    busy : the scenario in which others are at work.
    throughput : mean throughput of its instances, over that alone.
    p50, p99 : latency of its slowest instance, over that alone; None where not known.
    valid : whether both results count.
    """

    profile: str
    alone: str
    busy: str
    throughput: float | None
    p50: float | None
    p99: float | None
    valid: bool


@dataclass(frozen=True, slots=True)
class Scaling:
    """Equal instances against fewer of them.

    Parameters
    ----------
    profile : the profile of all instances.
    scenario : the scenario with `n_instances` of it.
    n_instances, n_fewest : how many there are, and in the scenario it is measured against.
    throughput_per_s : of the system [1/s].
    factor : throughput over that of the fewest.
    efficiency : the factor over that of perfect scaling.
    valid : whether both results count.
    """

    profile: str
    scenario: str
    n_instances: int
    n_fewest: int
    throughput_per_s: float
    factor: float
    efficiency: float
    valid: bool


def fairness(results: Mapping[str, Result]) -> Iterator[Fairness]:
    """Iterate over the profiles that stand in a scenario at least twice; `results` by name."""
    for name, result in results.items():
        for profile, instances in _by_profile(result).items():
            rates = [entry.throughput_per_s for entry in instances]
            if len(rates) > 1:
                ratio = max(rates) / min(rates) if min(rates) > 0 else None
                yield Fairness(name, profile, len(rates), jain(rates), ratio, result.valid)


def isolation(results: Mapping[str, Result]) -> Iterator[Isolation]:
    """Iterate over the profiles that are alone in one scenario and have neighbours in others; `results` by name."""
    lone = {result.instances[0].profile: name for name, result in results.items() if len(result.instances) == 1}
    for profile, alone in lone.items():
        for busy, result in results.items():
            instances = _by_profile(result).get(profile, [])
            if len(result.instances) > 1 and instances:
                single = results[alone].instances[0]
                rate = fmean(entry.throughput_per_s for entry in instances)
                valid = result.valid and results[alone].valid
                p50, p99 = (_slowest(instances, single, name) for name in ("p50", "p99"))
                yield Isolation(profile, alone, busy, _over(rate, single.throughput_per_s), p50, p99, valid)


def scaling(results: Mapping[str, Result]) -> Iterator[Scaling]:
    """Iterate over scenarios of equal instances of which there are several counts; `results` by name."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name, result in results.items():
        profiles = _by_profile(result)
        if len(profiles) == 1:
            groups.setdefault(next(iter(profiles)), []).append((len(result.instances), name))
    for profile, entries in groups.items():
        fewest, first = min(entries)
        base = results[first].system_throughput
        if len({count for count, _ in entries}) < 2 or base <= 0:
            continue
        for count, name in sorted(entries):
            rate, valid = results[name].system_throughput, results[name].valid and results[first].valid
            yield Scaling(profile, name, count, fewest, rate, rate / base, rate / base * fewest / count, valid)


def _by_profile(result: Result) -> dict[str, list[InstanceSummary]]:
    groups: dict[str, list[InstanceSummary]] = {}
    for entry in result.instances:
        groups.setdefault(entry.profile, []).append(entry)
    return groups


def _slowest(instances: list[InstanceSummary], single: InstanceSummary, name: str) -> float | None:
    if single.latency is None or any(entry.latency is None for entry in instances):
        return None
    return _over(max(float(getattr(entry.latency, name)) for entry in instances), float(getattr(single.latency, name)))


def _over(value: float, base: float) -> float | None:
    return value / base if base > 0 else None
