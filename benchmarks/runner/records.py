"""From what a load generator saw to the record of one instance. Pure; knows no processes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BenchmarkError
from benchmarks.load import summary
from benchmarks.load.log import RequestLog
from benchmarks.load.values import Load
from benchmarks.load.verdict import judge
from benchmarks.results import InstanceRun, Latencies
from benchmarks.runner.agent import Outcome, Prepared
from benchmarks.scenarios import Instance


def run_of(instance: Instance, host: str, load: Load, ready: Prepared, outcome: Outcome, *, window_s: float) -> InstanceRun:
    """Return the record of an instance whose run ended.

    Parameters
    ----------
    instance, host : which it is, and where it ran.
    load : what was asked of it.
    ready : what its load generator knew before the start.
    outcome : what it brought back.
    window_s : end of the common window [s].
    """
    log, figures = outcome.log, summary.latencies(outcome.log)
    verdict = judge(log, load, ceiling_per_s=ready.ceiling_per_s, in_process=outcome.in_process)
    reasons, advice = list(verdict.reasons), list(verdict.advice)
    if outcome.verdict is not None and not outcome.verdict["valid"]:
        reasons += list(outcome.verdict["reasons"])
        advice += list(outcome.verdict["advice"])
    return InstanceRun(
        instance=instance.name,
        profile=instance.profile,
        gpu=instance.gpu,
        host=host,
        valid=not reasons,
        reasons=tuple(reasons),
        advice=tuple(advice),
        throughput_per_s=summary.throughput_per_s(log),
        window_throughput_per_s=summary.window_throughput_per_s(log, begin_s=0.0, end_s=window_s),
        latency=None if figures is None else Latencies(**figures),
        queries=len(log),
        samples=int(log.samples.sum()),
        failed=int(log.failed.sum()),
        duration_s=log.end_s,
        rate_per_s=load.rate_per_s if load.mode == "server" else None,
        slip_p99_ms=summary.slip_p99_ms(log),
        cpu_us_per_request=summary.cpu_us_per_request(log),
        client_ceiling_per_s=ready.ceiling_per_s,
        facts=ready.facts,
        latencies_ms=_latencies_ms(log),
    )


def _latencies_ms(log: RequestLog) -> npt.NDArray[np.float64]:
    return np.where(log.failed, np.nan, 1e3 * log.latency_s)


def failed_run(instance: Instance, host: str, error: BenchmarkError | None) -> InstanceRun:
    """Return the record of an instance that could not be measured, or was lost."""
    return InstanceRun(
        instance=instance.name,
        profile=instance.profile,
        gpu=instance.gpu,
        host=host,
        valid=False,
        reasons=(str(error) if error is not None else "it was not measured",),
        advice=("mend that, and resume: what was measured is kept",),
        throughput_per_s=0.0,
        window_throughput_per_s=0.0,
        latency=None,
        queries=0,
        samples=0,
        failed=0,
        duration_s=0.0,
    )
