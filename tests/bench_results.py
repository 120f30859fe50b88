"""Results made by hand, for the tests of what is done with results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.results.values import InstanceRun, Latencies, Metadata, Repeat, Result
from benchmarks.scenarios.scenario import named

RULES = {
    "min_duration_s": 10.0,
    "min_samples": 1,
    "min_queries": 1,
    "latency_bound_ms": 15.0,
    "percentile": 0.99,
    "confidence": 0.99,
    "max_slip_ms": 5.0,
}


def latencies(p99: float) -> Latencies:
    """Return percentiles in proportion to the 99th."""
    return Latencies(*(p99 * share for share in (0.2, 0.45, 0.4, 0.7, 0.8, 1.0, 1.5, 2.0)))


def metadata(scenario: str, profiles: Sequence[str], **changed: object) -> Metadata:
    """Return how something was measured: an A100, offline, in batches of 8, two in flight."""
    fields: dict[str, object] = {
        "scenario": scenario,
        "gpu": "A100-80GB",
        "geometry": "mig",
        "profiles": tuple(profiles),
        "mode": "offline",
        "model": "resnet50",
        "servers": "triton",
        "device": "gpu",
        "engine": "asyncio",
        "batch": 8,
        "concurrency": 2,
        "seed": 0,
        "rules": RULES,
        "software": {"python": "3.11", "triton": "2.51"},
        "host": {"host-a": "16 cores"},
    }
    return Metadata(**(fields | changed))


def run(instance: str, profile: str, rate: float, p99: float = 10.0, **changed: object) -> InstanceRun:
    """Return one instance in one repeat."""
    fields: dict[str, object] = {
        "instance": instance,
        "profile": profile,
        "valid": True,
        "throughput_per_s": rate,
        "window_throughput_per_s": rate,
        "latency": latencies(p99),
        "queries": 1000,
        "samples": 8000,
        "failed": 0,
        "duration_s": 10.0,
    }
    return InstanceRun(**(fields | changed))


def result(
    scenario: str,
    rates: Mapping[str, Sequence[float]] | Sequence[tuple[str, Sequence[float]]],
    *,
    p99: float = 10.0,
    energy_j: float | None = None,
    run_fields: Mapping[str, object] | None = None,
    one_gpu_each: bool = False,
    **changed: object,
) -> Result:
    """Return a result of instances ``(profile, (throughput of each repeat, ...))``."""
    pairs = list(rates.items()) if isinstance(rates, Mapping) else list(rates)
    profiles = [profile for profile, _ in pairs]
    repeats = []
    for number in range(len(pairs[0][1])):
        runs = tuple(
            run(name, profile, values[number], p99, **({"gpu": at if one_gpu_each else 0} | dict(run_fields or {})))
            for at, (name, (profile, values)) in enumerate(zip(named(profiles), pairs, strict=True))
        )
        repeats.append(Repeat(number, f"2026-11-21T10:0{number}:00+00:00", 10.0, 1.0, 2.0, runs, energy_j))
    return Result(metadata(scenario, profiles, **changed), tuple(repeats))


def with_latencies(found: Result, *, seed: int = 0) -> Result:
    """Return a result with the latencies of every query, some of them failed."""
    from dataclasses import replace

    rng = np.random.default_rng(seed)
    repeats = []
    for repeat in found.repeats:
        runs = []
        for entry in repeat.instances:
            values = rng.exponential(3.0, entry.queries)
            values[::100] = np.nan
            runs.append(replace(entry, latencies_ms=values))
        repeats.append(replace(repeat, instances=tuple(runs)))
    return replace(found, repeats=tuple(repeats))
