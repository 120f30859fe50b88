"""The eight scenarios of Table 2 with plausible figures of ResNet-50 on an A100 80GB, made by hand: for pictures, no facts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bench_results import result

from benchmarks.results.values import Latencies, Result

ALONE = {"7g.80gb": 30_000.0, "4g.40gb": 18_050.0, "3g.40gb": 13_900.0, "2g.20gb": 9_340.0, "1g.10gb": 4_660.0}
MIXES = {
    "4g+2g+1g": (("4g.40gb", 17_900.0), ("2g.20gb", 9_250.0), ("1g.10gb", 4_581.0)),
    "2g+2g+2g+1g": (("2g.20gb", 9_080.0), ("2g.20gb", 9_050.0), ("2g.20gb", 9_020.0), ("1g.10gb", 4_350.0)),
    "7x1g": tuple(("1g.10gb", 4_430.0 + 12 * (n % 3)) for n in range(7)),
}


def table_2(*, kept: bool = True, energy: bool = True, n_queries: int = 2000, **changed: object) -> list[Result]:
    """Return the eight results, three repeats each; `kept`: with the latency of every query."""
    rng = np.random.default_rng(5)
    scenarios = {profile.partition(".")[0]: ((profile, rate),) for profile, rate in ALONE.items()} | MIXES
    results = []
    for name, parts in scenarios.items():
        pairs = [(profile, tuple(rate * (1 + d) for d in rng.normal(0, 0.004, 3))) for profile, rate in parts]
        found = result(name, pairs, energy_j=3000.0 if energy else None, **changed)
        results.append(_timed(found, rng, n_queries, kept=kept))
    return results


def _timed(found: Result, rng: np.random.Generator, n_queries: int, *, kept: bool) -> Result:
    repeats = []
    for repeat in found.repeats:
        runs = []
        for run in repeat.instances:
            # batches of 8, four in flight: the mean follows from Little's law, the tail from what is plausible
            values = 4 * 8 / run.throughput_per_s * 1000 * (0.9 + rng.gamma(2.0, 0.05, n_queries))
            points = [values.min(), values.mean(), *np.percentile(values, (50, 90, 95, 99, 99.9)), values.max()]
            metrics = {"sm_active": 0.93, "tensor_active": 0.41, "dram_active": 0.37, "gpu_power_w": 284.0}
            runs.append(
                replace(
                    run,
                    latency=Latencies(*map(float, points)),
                    latencies_ms=values if kept else None,
                    queries=n_queries,
                    samples=8 * n_queries,
                    gpu_metrics=metrics,
                    slip_p99_ms=0.4,
                    cpu_us_per_request=92.0,
                    facts={"server": "triton 2.51", "cores": "2"},
                )
            )
        repeats.append(replace(repeat, instances=tuple(runs)))
    return replace(found, repeats=tuple(repeats))


def spoilt(found: Result, *, instance: int = 0, reason: str = "p99 was 18.2 ms, above the bound of 15 ms") -> Result:
    """Return a result of which one instance does not count in the second repeat."""
    first, second, *others = found.repeats
    runs = list(second.instances)
    runs[instance] = replace(runs[instance], valid=False, reasons=(reason,), advice=("ask for fewer queries a second",))
    return replace(found, repeats=(first, replace(second, instances=tuple(runs)), *others))
