"""Arrivals, early stopping, figures, verdicts and the search for the highest rate: all pure."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.load.arrivals import poisson
from benchmarks.load.early_stopping import fewest_queries, queries_needed, verify
from benchmarks.load.log import RequestLog
from benchmarks.load.search import Found, search_rates
from benchmarks.load.summary import (
    cpu_us_per_request,
    latencies,
    percentile_of,
    slip_p99_ms,
    throughput_per_s,
    window_throughput_per_s,
)
from benchmarks.load.values import Load, Rules
from benchmarks.load.verdict import judge
from partitioner.errors import SpecError

# -- arrivals -----------------------------------------------------------------------------------------------------------


def test_arrivals_are_a_seeded_poisson_process():
    due = poisson(1000.0, duration_s=60.0, seed=7)
    gaps = np.diff(due, prepend=0.0)
    assert len(due) == pytest.approx(60_000, rel=0.02)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps.std() == pytest.approx(1e-3, rel=0.02)
    assert np.quantile(gaps, 0.99) == pytest.approx(1e-3 * np.log(100), rel=0.05)
    per_second = np.histogram(due, bins=60, range=(0, 60))[0]
    assert per_second.var() / per_second.mean() == pytest.approx(1.0, abs=0.5)
    assert (due == poisson(1000.0, duration_s=60.0, seed=7)).all()
    assert not np.array_equal(due[:100], poisson(1000.0, duration_s=60.0, seed=8)[:100])


def test_arrivals_end_with_the_first_query_at_or_after_both_limits():
    by_time = poisson(100.0, duration_s=5.0, seed=1)
    assert by_time[-2] < 5.0 <= by_time[-1]
    by_number = poisson(100.0, duration_s=5.0, min_queries=2000, seed=1)
    assert len(by_number) == 2000
    assert by_number[-1] > 5.0


@given(st.integers(0, 2**32), st.floats(0.5, 500), st.floats(0.1, 8))
@settings(max_examples=40, deadline=None)
def test_arrivals_of_a_longer_or_faster_schedule_have_the_same_gaps(seed, rate_per_s, duration_s):
    short = poisson(rate_per_s, duration_s=duration_s, seed=seed)
    assert (np.diff(short) >= 0).all()
    assert short[-1] >= duration_s
    longer = poisson(rate_per_s, duration_s=3 * duration_s, seed=seed)
    assert (longer[: len(short)] == short).all()
    faster = poisson(2 * rate_per_s, duration_s=duration_s, seed=seed)
    common = min(len(short), len(faster))
    assert faster[:common] * 2 == pytest.approx(short[:common])


@pytest.mark.parametrize("rate_per_s", [0.0, -1.0, inf, float("nan")])
def test_arrivals_at_an_impossible_rate_are_refused(rate_per_s):
    with pytest.raises(SpecError, match=r"arrivals - a rate of .* give a positive number"):
        poisson(rate_per_s, duration_s=1.0, seed=0)


def test_arrivals_that_do_not_fit_into_memory_are_refused():
    with pytest.raises(SpecError, match=r"60,000,000 queries.*shorter run"):
        poisson(1e6, duration_s=60.0, seed=0)


# -- early stopping -----------------------------------------------------------------------------------------------------


def test_early_stopping_table_of_loadgen():
    table = {0: 459, 1: 662, 2: 838, 5: 1307, 10: 2010, 100: 12571}
    assert {late: queries_needed(late) for late in table} == table
    assert queries_needed(1, 0.90) == 64  # single stream


@pytest.mark.parametrize("late", [0, 1, 2, 5, 10])
def test_early_stopping_in_exact_arithmetic(late):
    def chance(total):
        late_share = Fraction(1, 100)
        return sum(comb(total, k) * late_share**k * (1 - late_share) ** (total - k) for k in range(late + 1))

    total = queries_needed(late)
    assert chance(total) <= Fraction(1, 100) < chance(total - 1)


@given(st.integers(0, 3000), st.sampled_from([0.9, 0.95, 0.99, 0.999]), st.sampled_from([0.9, 0.99, 0.999]))
@settings(max_examples=60, deadline=None)
def test_early_stopping_against_scipy(late, percentile, confidence):
    total = queries_needed(late, percentile, confidence)
    # with a grain of salt where both lie within rounding of the limit
    assert binom.cdf(late, total, 1 - percentile) <= (1 - confidence) * (1 + 1e-8)
    assert binom.cdf(late, total - 1, 1 - percentile) > (1 - confidence) * (1 - 1e-8)
    assert verify(late, total, percentile=percentile, confidence=confidence)
    assert not verify(late, total - 1, percentile=percentile, confidence=confidence)


@pytest.mark.parametrize("arguments", [(-1, 0.99, 0.99), (0, 1.0, 0.99), (0, 0.99, 0.0), (0, 0.99, 1.0)])
def test_early_stopping_refuses_what_makes_no_sense(arguments):
    with pytest.raises(SpecError, match="early stopping"):
        queries_needed(*arguments)


def test_fewest_queries_by_mode():
    def fewest(mode, **rules):
        return fewest_queries(Load(mode, Rules(**rules), rate_per_s=1.0))

    assert fewest("single_stream") == 64
    assert fewest("multi_stream") == 662
    assert fewest("server", latency_bound_ms=10.0) == 662
    assert fewest("server") == 1
    assert fewest("server", latency_bound_ms=10.0, min_queries=5000) == 5000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "batch"}, "mode 'batch' is unknown; known: offline, server, single_stream, multi_stream"),
        ({"mode": "server"}, "mode server - no rate is given"),
        ({"batch": 0}, "batch is 0; give 1 or more"),
        ({"concurrency": -1}, "concurrency is -1"),
        ({"timeout_s": 0.0}, "within 0 s; give timeout_s="),
        ({"min_duration_s": inf}, "a run of inf s"),
        ({"min_duration_s": -1.0}, "a run of -1 s"),
        ({"latency_bound_ms": 0.0}, "a bound of 0 ms"),
        ({"percentile": 99.0}, "percentile 99, confidence 0.99; give shares"),
    ],
)
def test_a_load_that_cannot_be_sent_is_refused(fields, message):
    rules = {name: fields[name] for name in fields if name in Rules.__dataclass_fields__}
    with pytest.raises(SpecError, match=message):
        Load(**{"mode": "offline"} | {name: value for name, value in fields.items() if name not in rules}, rules=Rules(**rules))


# -- figures ------------------------------------------------------------------------------------------------------------


def a_log(due_s, latency_s, *, samples=1, failed=(), slip_s=0.0, **fields):
    due = np.asarray(due_s, dtype=float)
    done = due + np.broadcast_to(np.asarray(latency_s, dtype=float), due.shape)
    flags = np.zeros(len(due), dtype=bool)
    flags[list(failed)] = True
    counts = np.broadcast_to(np.asarray(samples, dtype=np.int64), due.shape)
    return RequestLog(0.0, due, due + slip_s, done, counts, flags, **{"cpu_s": 0.0} | fields)


def test_percentiles_are_loadgens_and_leave_failed_queries_out():
    log = a_log(np.arange(1000) * 0.01, np.arange(1, 1001) * 1e-3, failed=[999])
    figures = latencies(log)
    assert figures == pytest.approx(
        {"min": 1, "mean": 500, "p50": 500, "p90": 900, "p95": 950, "p99": 990, "p999": 999, "max": 999}
    )
    assert percentile_of(np.arange(10.0), 1.0) == 9
    assert latencies(a_log([0.0], 1.0, failed=[0])) is None


def test_throughput_counts_answered_samples_up_to_the_last_answer():
    log = a_log([0.0, 1.0, 2.0, 3.0], 1.0, samples=8, failed=[1], cpu_s=0.001)
    assert throughput_per_s(log) == pytest.approx(24 / 4)
    assert cpu_us_per_request(log) == pytest.approx(250)
    assert throughput_per_s(a_log([], 1.0)) == 0
    assert slip_p99_ms(a_log([], 1.0)) == 0


def test_window_throughput_is_not_quantised_by_batches():
    # one batch of 64 after the other, 3 s each: the true rate is 64/3 in any window
    log = a_log(np.arange(10) * 3.0, 3.0, samples=64)
    for begin_s, end_s in ((0, 30), (0, 10), (1, 4), (0.5, 1.0), (2.9, 28.7)):
        assert window_throughput_per_s(log, begin_s=begin_s, end_s=end_s) == pytest.approx(64 / 3)
    assert window_throughput_per_s(log, begin_s=0, end_s=60) == pytest.approx(640 / 60)
    assert window_throughput_per_s(log, begin_s=5, end_s=5) == 0


def test_window_throughput_with_answers_at_one_instant_and_failures():
    # four in flight that end together every second, one of the four fails
    due = np.repeat(np.arange(10.0), 4)
    log = a_log(due, 1.0, failed=range(0, 40, 4))
    assert window_throughput_per_s(log, begin_s=0, end_s=10) == pytest.approx(3)
    assert window_throughput_per_s(log, begin_s=0.25, end_s=7.75) == pytest.approx(3)
    assert window_throughput_per_s(a_log([0.0], 1.0, failed=[0]), begin_s=0, end_s=1) == 0


# -- verdicts -----------------------------------------------------------------------------------------------------------

SERVER = Load("server", Rules(min_duration_s=10.0, latency_bound_ms=15.0), rate_per_s=100.0)
OFFLINE = Load("offline", Rules(min_duration_s=10.0, min_samples=1000))
TEN_SECONDS = np.linspace(0.0, 10.0, 1001)


def reasons(log, load, **arguments):
    verdict = judge(log, load, **arguments)
    assert len(verdict.reasons) == len(verdict.advice)
    assert verdict.valid is not bool(verdict.reasons)
    return "\n".join(verdict.reasons)


def late(count, *, total=1001):
    """Latencies of which so many are over the bound."""
    return np.where(np.arange(total) < count, 0.1, 0.01)


def test_a_run_that_keeps_all_rules_is_valid():
    assert judge(a_log(TEN_SECONDS, late(2)), SERVER).valid
    assert judge(a_log(TEN_SECONDS, 0.01), OFFLINE, ceiling_per_s=1000).valid


def test_latency_over_the_bound():
    text = reasons(a_log(TEN_SECONDS, late(11)), SERVER)
    assert text == "the 99th percentile of the latency is 100 ms, over the bound of 15 ms"


def test_early_stopping_asks_for_more_queries():
    text = reasons(a_log(TEN_SECONDS, late(5)), SERVER)
    assert text == "with 5 late queries early stopping needs 1,307 queries to be 0.99 sure of the bound, and there were 1,001"
    assert judge(a_log(TEN_SECONDS, late(3)), SERVER).valid  # 1,001 are just enough for three
    assert not judge(a_log(TEN_SECONDS, late(4)), SERVER).valid


def test_a_latency_at_the_bound_is_not_late():
    load = dataclasses.replace(SERVER, rules=dataclasses.replace(SERVER.rules, latency_bound_ms=250.0))
    log = a_log(np.arange(0, 12.0, 0.0078125), 0.25)  # exact in binary
    assert judge(log, load).valid


def test_failed_queries_make_every_mode_invalid_and_count_as_late():
    for load in (OFFLINE, SERVER):
        text = reasons(a_log(TEN_SECONDS, 0.01, failed=[3], failures=(("refused", 1),)), load)
        assert text == "1 of 1,001 queries failed: refused"
    assert "percentile of the latency is inf ms" in reasons(a_log(TEN_SECONDS, 0.01, failed=range(20)), SERVER)


def test_too_short_and_too_few():
    assert "lasted 5.00 s" in reasons(a_log(TEN_SECONDS / 2, 0.01), SERVER)
    # in mode server it is the schedule that has to be long enough, not the wait for the last answer
    assert "lasted 5.00 s" in reasons(a_log(TEN_SECONDS / 2, np.linspace(0.01, 6, 1001)), SERVER)
    assert "lasted 9.00 s" in reasons(a_log(np.arange(9.0), 1.0, samples=500), OFFLINE)
    assert "900 samples are fewer than the 1,000" in reasons(a_log(np.arange(9.0), 3.0, samples=100), OFFLINE)
    stream = Load("single_stream", Rules(min_duration_s=10.0))
    assert "63 queries are fewer than the 64 that early stopping" in reasons(a_log(np.linspace(0, 10, 63), 0.01), stream)
    assert judge(a_log(np.linspace(0, 10, 64), 0.01), stream).valid
    many = Load("multi_stream", Rules(min_duration_s=1.0, min_queries=1002))
    assert reasons(a_log(TEN_SECONDS, 0.01), many) == "1,001 queries are fewer than the 1,002 asked for"
    assert "no query was sent" in reasons(a_log([], 1.0), SERVER)


def test_a_client_that_cannot_keep_up():
    text = reasons(a_log(TEN_SECONDS, 0.01, slip_s=0.006), SERVER)
    assert text == "queries left late: the 99th percentile of the issue slip is 6 ms, over 5 ms"
    assert "100 samples/s are 91% of the 110" in reasons(a_log(TEN_SECONDS, 0.01), OFFLINE, ceiling_per_s=110)
    busy = a_log(TEN_SECONDS, 0.01, cpu_s=9.5)
    assert "busy 95% of the time on one core, 9491 us for each query" in reasons(busy, OFFLINE)
    assert judge(busy, OFFLINE, in_process=True).valid
    # other threads of the client do not take the sending thread's time
    assert judge(a_log(TEN_SECONDS, 0.01, cpu_s=12.0, loop_cpu_s=6.0), OFFLINE).valid
    assert "busy 95%" in reasons(a_log(TEN_SECONDS, 0.01, cpu_s=12.0, loop_cpu_s=9.5), OFFLINE)


def test_every_reason_comes_at_once():
    log = a_log(TEN_SECONDS / 2, 0.1, failed=[1], slip_s=0.05, cpu_s=9.0)
    assert len(judge(log, SERVER, ceiling_per_s=100.0).reasons) == 6


# -- search -------------------------------------------------------------------------------------------------------------


def search(capacity, answer, **arguments):
    """Drive a search to its end; return what was found and the rates that were tried."""
    steps, tried = search_rates(capacity, **arguments), []
    try:
        rates = next(steps)
        while True:
            tried.append(rates)
            rates = steps.send({name: answer(name, rates) for name in rates})
    except StopIteration as end:
        return end.value, tried


@given(st.lists(st.floats(0.03, 3.0), min_size=1, max_size=7), st.sampled_from([0.01, 0.02, 0.05]))
@settings(max_examples=60, deadline=None)
def test_search_finds_each_limit_within_the_tolerance(limits, tolerance):
    limit = {f"i{i}": 1000 * share for i, share in enumerate(limits)}
    found, tried = search(
        dict.fromkeys(limit, 1000.0), lambda name, rates: rates[name] <= limit[name], tolerance=tolerance, max_trials=100
    )
    for name, result in found.items():
        assert limit[name] / (1 + tolerance) - 1e-6 <= result.rate_per_s <= limit[name] < result.failed_per_s
        assert result.converged
    assert all(set(rates) == set(limit) for rates in tried), "all instances are at work in every trial"
    assert tried[-1] == {name: result.rate_per_s for name, result in found.items()}, "the last trial is at what was found"


@pytest.mark.parametrize("seed", range(20))
def test_search_is_not_misled_by_runs_that_fail_by_chance(seed):
    random = np.random.default_rng(seed)

    def noisy(name, rates):
        """Valid the surer the farther below the limit; one run in twelve fails for no reason."""
        sure = 1 / (1 + np.exp((rates[name] / {"a": 700, "b": 350, "c": 90}[name] - 1) / 0.01))
        return bool(random.random() < sure and random.random() > 1 / 12)

    found, tried = search({"a": 1000.0, "b": 500.0, "c": 100.0}, noisy, max_trials=60)
    assert len(tried) <= 60
    for name, limit in (("a", 700), ("b", 350), ("c", 90)):
        assert 0.95 * limit < found[name].rate_per_s < 1.05 * limit


def test_search_bisection_without_confirmation_would_be_misled():
    """The case that confirmation is for: the first trial at a good rate fails once."""
    seen = []

    def once(name, rates):
        seen.append(rates[name])
        return len(seen) > 1 and rates[name] <= 900

    found, _ = search({"a": 1000.0}, once)
    assert found["a"].rate_per_s == pytest.approx(900, rel=0.025)


def test_search_goes_down_where_instances_disturb_each_other():
    # alone each could do 800; together no more than 1000
    found, _ = search(
        {"a": 1000.0, "b": 1000.0}, lambda name, rates: rates[name] <= 800 and sum(rates.values()) <= 1000, max_trials=200
    )
    assert found["a"].rate_per_s + found["b"].rate_per_s <= 1000


def test_search_ends_where_no_rate_is_valid_and_goes_on_for_the_others():
    found, tried = search({"bad": 1000.0, "good": 1000.0}, lambda name, rates: name == "good" and rates[name] <= 500)
    assert found["bad"].rate_per_s is None
    assert not found["bad"].converged
    assert found["good"].rate_per_s == pytest.approx(500, rel=0.02)
    assert all(rates["bad"] > 0 for rates in tried), "it goes on being at work"


def test_search_is_bounded():
    found, tried = search({"a": 1000.0}, lambda name, rates: True, max_trials=5)
    assert found == {"a": Found(rate_per_s=pytest.approx(800 * 1.25**4), failed_per_s=None, converged=False, trials=5)}
    assert len(tried) == 5


@pytest.mark.parametrize(
    ("capacity", "arguments"),
    [({}, {}), ({"a": 0.0}, {}), ({"a": inf}, {}), ({"a": 1.0}, {"tolerance": 0.0}), ({"a": 1.0}, {"max_trials": 0})],
)
def test_search_refuses_what_it_cannot_search(capacity, arguments):
    with pytest.raises(SpecError, match="search for the highest rate"):
        next(search_rates(capacity, **arguments))
