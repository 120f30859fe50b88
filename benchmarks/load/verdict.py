"""Whether a run counts: LoadGen's validity test, and whether it was the client that was measured. Knows numbers only.

Sources: LoadGen, results.cc (least duration, queries and samples; percentile against the bound; early stopping), and MLPerf's
inference rules. Failed queries are not known there: a system must answer every query, and its accuracy run would show that
it did not. So one failed query makes a run INVALID in every mode, and it counts as over the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.load.early_stopping import fewest_queries, queries_needed
from benchmarks.load.log import RequestLog
from benchmarks.load.summary import percentile_of, slip_p99_ms, throughput_per_s
from benchmarks.load.values import Load

BUSY = 0.9
"""Share of one core, and of what the client reaches with the echo model, above which the client is what is measured."""
_CLOCK_S = 1e-3  # by which a run may seem too short when it was not

_Finding = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run counts.

    Parameters
    ----------
    reasons : why not, one sentence each; empty where it does.
    advice : what to do about each reason, in the same order.
    """

    reasons: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the run counts."""
        return not self.reasons


def judge(log: RequestLog, load: Load, *, ceiling_per_s: float | None = None, in_process: bool = False) -> Verdict:
    """Return whether a run counts, and if not, why and what to do.

    Parameters
    ----------
    log : what was seen.
    load : what was asked.
    ceiling_per_s : samples a second that the client gets out of the echo model [1/s]; None: not measured.
    in_process : whether the system runs in the client's process, whose CPU time then says nothing about the client.
    """
    if not len(log):
        finding = ("no query was sent", "see the log of the server and of the load generator")
        return Verdict((finding[0],), (finding[1],))
    findings = [*_failures(log), *_amount(log, load), *_latency(log, load), *_client(log, load, ceiling_per_s)]
    findings += [] if in_process else list(_client_cpu(log))
    return Verdict(tuple(reason for reason, _ in findings), tuple(advice for _, advice in findings))


def _failures(log: RequestLog) -> Iterator[_Finding]:
    failed = int(log.failed.sum())
    if failed:
        first = f": {log.failures[0][0]}" if log.failures else ""
        yield (
            f"{failed:,} of {len(log):,} queries failed{first}",
            "every query has to be answered; see the log of the server, send less, or allow more time for a request",
        )


def _amount(log: RequestLog, load: Load) -> Iterator[_Finding]:
    """Find a run that is too short, or of too few queries."""
    rules = load.rules
    lasted_s = float(log.due_s[-1]) if load.mode == "server" else log.end_s
    if lasted_s < rules.min_duration_s - _CLOCK_S:
        yield (
            f"it lasted {lasted_s:.2f} s, less than the {rules.min_duration_s:g} s asked for",
            "see why it ended early; with LoadGen, warm up longer, so that the rate that comes is expected",
        )
    samples = int(log.samples.sum())
    if load.mode == "offline" and samples < rules.min_samples:
        yield f"{samples:,} samples are fewer than the {rules.min_samples:,} asked for", "let it run longer"
    if load.mode != "offline" and len(log) < rules.min_queries:
        yield f"{len(log):,} queries are fewer than the {rules.min_queries:,} asked for", "let it run longer"
    elif load.mode in ("single_stream", "multi_stream") and len(log) < fewest_queries(load):
        yield (
            f"{len(log):,} queries are fewer than the {fewest_queries(load):,} that early stopping needs for its percentile",
            "let it run longer",
        )


def _latency(log: RequestLog, load: Load) -> Iterator[_Finding]:
    """Find latency over the bound, or too few queries to know that it is kept."""
    rules = load.rules
    if load.mode != "server" or rules.latency_bound_ms is None:
        return
    latency_ms = np.where(log.failed, np.inf, 1e3 * log.latency_s)
    at_percentile_ms = percentile_of(latency_ms, rules.percentile)
    late = int((latency_ms > rules.latency_bound_ms).sum())
    needed = queries_needed(late, rules.percentile, rules.confidence)
    if at_percentile_ms > rules.latency_bound_ms:
        yield (
            (
                f"the {_ordinal(rules.percentile)} percentile of the latency is {at_percentile_ms:.4g} ms,"
                f" over the bound of {rules.latency_bound_ms:g} ms"
            ),
            "ask for fewer queries a second",
        )
    elif len(log) < needed:
        yield (
            (
                f"with {late:,} late queries early stopping needs {needed:,} queries to be"
                f" {rules.confidence:.4g} sure of the bound, and there were {len(log):,}"
            ),
            f"let it run {math.ceil(10 * needed / len(log)) / 10:.1f} times as long, or ask for fewer queries a second",
        )


def _client(log: RequestLog, load: Load, ceiling_per_s: float | None) -> Iterator[_Finding]:
    """Find a client that sends late, or comes near to what it can do at most."""
    slip_ms = slip_p99_ms(log)
    if load.mode == "server" and slip_ms > load.rules.max_slip_ms:
        yield (
            f"queries left late: the 99th percentile of the issue slip is {slip_ms:.3g} ms, over {load.rules.max_slip_ms:g} ms",
            "the client cannot keep up: give the load generator cores of its own, or ask for fewer queries a second",
        )
    rate_per_s = throughput_per_s(log)
    if ceiling_per_s is not None and rate_per_s > BUSY * ceiling_per_s:
        yield (
            (
                f"{rate_per_s:,.0f} samples/s are {rate_per_s / ceiling_per_s:.0%} of the {ceiling_per_s:,.0f} that the client"
                " reaches with a model that does nothing"
            ),
            "it is the client that was measured: send larger batches, or give the load generator more and faster cores",
        )


def _client_cpu(log: RequestLog) -> Iterator[_Finding]:
    """Find a client without time left in the thread that sends; the others of its process wait for the network beside it."""
    cpu_s = log.cpu_s if log.loop_cpu_s is None else log.loop_cpu_s
    busy = cpu_s / log.end_s if log.end_s > 0 else 0.0
    if busy > BUSY:
        yield (
            f"the load generator was busy {busy:.0%} of the time on one core, {1e6 * cpu_s / len(log):.0f} us for each query",
            "it is the client that was measured: send larger batches, or ask for fewer queries a second",
        )


def _ordinal(share: float) -> str:
    return f"{100 * share:.4g}th"
