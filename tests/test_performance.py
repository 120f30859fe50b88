"""Performance: real figures reproduced, laws tested where they were not fitted, queues against simulation, bad files."""

from __future__ import annotations

import math
import pickle
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from partitioner.errors import SpecError
from partitioner.performance import Calibration, CalibrationError, Point, cross_validate
from partitioner.performance.law import Law, Sample, fit, fit_each
from partitioner.performance.queueing import BatchServer
from partitioner.performance.validation import summarise

A100, SMALL = "A100-80GB", "1g.10gb"
KNOWN = Calibration.default()
HEADER = "gpu,profile,model,batch,processes,busy,throughput_per_s,latency_ms,source"
NETWORKS = [m for m in KNOWN.models() if KNOWN.batches(m, A100)]


# -- shipped figures ---------------------------------------------------------------------------------------------------


def test_the_shipped_table_is_the_whole_published_one() -> None:
    points = [p for p in KNOWN.points if not p.scenario]
    assert len(points) == 2475
    assert sum(not p.fits for p in points) == 728
    assert len(NETWORKS) == 11


def test_a_measured_point_is_returned_as_it_stands_with_its_source() -> None:
    rate = KNOWN.throughput("resnet50", "NVIDIA A100-SXM4-80GB", "MIG 1g.10gb", batch=8, processes=1, busy=False)
    assert (rate.value, rate.unit, rate.measured, rate.sources) == (358.277, "1/s", True, ("ParvaGPU_SC24@5f3de1e",))
    latency = KNOWN.latency_ms("resnet50", A100, SMALL, batch=8, busy=False)
    assert (latency.value, latency.unit, latency.measured) == (22.0, "ms", True)


def test_throughput_is_the_total_of_all_processes() -> None:
    rate = KNOWN.throughput("resnet50", A100, "7g.80gb", batch=1, processes=5).value
    assert rate == 1014.045  # 5 processes, each a batch of one in 5 ms
    assert KNOWN.latency_ms("resnet50", A100, "7g.80gb", batch=1, processes=5).value == 5.0


@pytest.mark.parametrize(
    ("model", "share", "busy_share"),
    [("resnet50", 0.132, 0.127), ("ssd-resnet34", 0.135, 0.1315), ("bert-99", 0.139, 0.127), ("bert-99.9", 0.140, 0.120)],
)
def test_the_share_of_one_slice_is_the_published_one(model: str, share: float, busy_share: float) -> None:
    whole = KNOWN.throughput(model, A100, "whole").value
    assert KNOWN.throughput(model, A100, SMALL, busy=False).value / whole == pytest.approx(share, rel=0.06)
    assert KNOWN.throughput(model, A100, SMALL, busy=True).value / whole == pytest.approx(busy_share, rel=0.08)


def test_a_busy_gpu_is_slower_and_neighbours_matter_only_where_there_are_some() -> None:
    for model in NETWORKS:
        alone = KNOWN.throughput(model, A100, SMALL, batch=4, busy=False)
        busy = KNOWN.throughput(model, A100, SMALL, batch=4)
        assert 0.9 < busy.value / alone.value < 1
        assert not busy.measured
        assert busy.error > alone.error
        assert KNOWN.throughput(model, A100, "7g.80gb", batch=4) == KNOWN.throughput(model, A100, "7g.80gb", batch=4, busy=False)


def test_every_scenario_figure_of_the_gpus_asked_for_is_there() -> None:
    for gpu in ("T4", "A2", "A10", "A30-24GB", "L4", "A40", "A100-40GB", "A100-80GB", "H100-80GB"):
        rating = KNOWN.best("resnet50", gpu, "whole", latency_ms=15)
        assert rating is not None
        assert rating.measured
        assert "MLPerf" in rating.sources[0]
        assert rating.throughput_rps < KNOWN.throughput("resnet50", gpu, "whole").value


def test_boards_differ() -> None:
    sxm, pcie = (Calibration.default(board).throughput("bert-99", "H100-80GB", "whole").value for board in ("sxm", "pcie"))
    assert sxm / pcie == pytest.approx(1.55, rel=0.05)
    with pytest.raises(SpecError, match="sxm"):
        Calibration.default("sxm5")


# -- the law -----------------------------------------------------------------------------------------------------------


def _single(model: str) -> list[Sample]:
    batches = KNOWN.batches(model, A100)
    assert batches
    return [s for group in batches.samples.values() for s in group if s.processes == 1]


def test_the_published_law_of_resnet50_is_found_again() -> None:
    published = Law(2.0, 4.47, 0.205, 0.148, {1: 1.0}, 0.0)
    found = fit(_single("resnet50"))
    for compute, memory in ((1 / 7, 1 / 8), (3 / 7, 1 / 2), (1.0, 1.0)):
        for batch in (1, 4, 16, 64):
            ours, theirs = (law.latency_ms(compute, memory, batch, 1) for law in (found, published))
            assert ours == pytest.approx(theirs, rel=0.08)
    assert found.fixed_ms == pytest.approx(4.47, rel=0.05)
    assert found.compute_ms + found.memory_ms == pytest.approx(0.353, rel=0.05)


@pytest.mark.parametrize("model", NETWORKS)
def test_the_law_fits_as_well_as_published(model: str) -> None:
    low, high = (0.20, 0.28) if model == "bert" else (0.02, 0.08)
    assert low < fit(_single(model)).error < high


def test_a_law_is_found_from_its_own_points() -> None:
    law = Law(3.0, 10.0, 0.5, 0.25, {1: 1.0, 2: 0.9}, 0.0)
    samples = [
        Sample(g / 7, m / 8, b, p, law.latency_ms(g / 7, m / 8, b, p))
        for g, m in ((1, 1), (2, 2), (3, 4), (4, 4), (7, 8))
        for b in (1, 4, 16, 64, 256)
        for p in (1, 2)
    ]
    found = fit(samples)
    assert found.error < 0.005
    assert (found.knee, found.fixed_ms, found.compute_ms) == (3.0, pytest.approx(10, rel=0.01), pytest.approx(0.5, rel=0.01))


def test_laws_fitted_together_are_those_fitted_one_by_one() -> None:
    every = [_single(model) for model in NETWORKS[:3]]
    every += [every[0][:7], every[1][::2]]
    for together, samples in zip(fit_each(every), every, strict=True):
        alone = fit(samples)
        assert (together.knee, together.efficiency) == (alone.knee, alone.efficiency)
        assert together.fixed_ms == pytest.approx(alone.fixed_ms, rel=1e-5)
        assert together.compute_ms + together.memory_ms == pytest.approx(alone.compute_ms + alone.memory_ms, rel=1e-5)
        assert together.error == pytest.approx(alone.error, rel=1e-5)


def test_between_measured_batches_the_law_stands_between_their_latencies() -> None:
    for model in NETWORKS:
        low, middle, high = (KNOWN.latency_ms(model, A100, "3g.40gb", batch=b, busy=False) for b in (8, 12, 16))
        assert low.value < middle.value < high.value
        assert not middle.measured
        assert middle.error >= 0.05


def test_an_unmeasured_profile_follows_from_the_law() -> None:
    """1g.20gb has one compute slice and two memory slices: no slower than 1g.10gb, no faster than 2g.20gb."""
    for model in NETWORKS:
        small, between, large = (
            KNOWN.throughput(model, A100, p, batch=8, busy=False).value for p in (SMALL, "1g.20gb", "2g.20gb")
        )
        assert small <= between * (1 + 1e-9)
        assert between <= large * (1 + 1e-9)


def test_what_does_not_fit_is_refused_even_when_extrapolating() -> None:
    with pytest.raises(
        CalibrationError, match=r"resnet50 on A100-80GB 1g.10gb - batch 64 .* does not fit .* 1 to 32 with 1 process"
    ):
        KNOWN.throughput("resnet50", A100, SMALL, batch=64, extrapolate=True)


@pytest.mark.parametrize("model", NETWORKS)
def test_what_fits_is_what_some_point_tells(model: str) -> None:
    batches = KNOWN.batches(model, A100)
    assert batches
    memory = {name: batches.gpu.profile(name).memory_mib for name in batches.profiles}
    for profile in (batches.gpu.profile(name) for name in (SMALL, "1g.20gb", "3g.40gb", "A100D-8C", "whole")):
        larger = [p for p in batches.points if memory[p.profile] >= profile.memory_mib and not p.fits]
        smaller = [p for p in batches.points if memory[p.profile] <= profile.memory_mib and p.fits]
        for batch in (1, 3, 8, 32, 48, 128, 500):
            for processes in (1, 2, 3, 5, 9):
                told = batches.fits(profile, batch, processes)
                if any(_at_most(p, batch, processes) for p in larger):
                    assert told is False
                else:
                    assert bool(told) == any((p.batch or 0) >= batch and (p.processes or 0) >= processes for p in smaller)


def _at_most(point: Point, batch: int, processes: int) -> bool:
    assert point.batch is not None
    assert point.processes is not None
    return point.batch <= batch and point.processes <= processes


def test_outside_the_known_range_is_refused_unless_allowed() -> None:
    with pytest.raises(CalibrationError, match=r"batch 48 .* outside the known range; known to fit are batches from 1 to 32"):
        KNOWN.throughput("resnet50", A100, SMALL, batch=48)
    found = KNOWN.throughput("resnet50", A100, SMALL, batch=48, extrapolate=True)
    assert found.error > 0.25
    assert found.value == pytest.approx(412, rel=0.15)
    with pytest.raises(CalibrationError, match=r"1g\.10gb is outside the known range"):
        KNOWN.best("bert-99", "H100-80GB", SMALL, latency_ms=130)
    guess = KNOWN.best("bert-99", "H100-80GB", SMALL, latency_ms=130, extrapolate=True)
    whole = KNOWN.best("bert-99", "H100-80GB", "whole", latency_ms=130)
    assert guess
    assert whole
    assert guess.throughput_rps < whole.throughput_rps / 7
    assert guess.error > 0.2


# -- queues ------------------------------------------------------------------------------------------------------------


def _simulated_p99(service: Any, most: int, rate: float, count: int = 120_000) -> float:
    """One server of the documented system, event by event."""
    rng = random.Random(7)
    arrivals, now = [], 0.0
    for _ in range(count):
        now += rng.expovariate(rate)
        arrivals.append(now)
    free, first, latencies = 0.0, 0, []
    while first < count:
        start, last = max(free, arrivals[first]), first
        while last < count and last - first < most and arrivals[last] <= start:
            last += 1
        free = start + float(service(last - first))
        latencies += [free - arrival for arrival in arrivals[first:last]]
        first = last
    latencies.sort()
    return latencies[int(0.99 * count)]


@pytest.mark.parametrize(("fixed_ms", "work_ms"), [(4.47, 0.353), (13.0, 8.0), (1.0, 1.0)])
@pytest.mark.parametrize("most", [1, 4, 32])
@pytest.mark.parametrize("processes", [1, 3])
def test_the_p99_of_the_queueing_model_is_that_of_a_simulation(
    fixed_ms: float, work_ms: float, most: int, processes: int
) -> None:
    def service(batch: Any) -> Any:
        return (fixed_ms**2 + (processes * batch * work_ms) ** 2) ** 0.5 / 1000

    server = BatchServer(service, most, processes)
    for load in (0.1, 0.5, 0.85):
        rate = load * server.capacity
        assert server.quantile_s(rate) == pytest.approx(_simulated_p99(service, most, rate / processes), rel=0.1)


def test_a_queue_without_batches_is_the_textbook_s() -> None:
    """M/D/1: 1 - rho of the requests do not wait; at 0.5 the 99th percentile of the wait is 2.51 services."""
    server = BatchServer(lambda batch: 1.0 + 0.0 * batch, 1)
    assert server.late(0.5, 0.999) == pytest.approx(1.0)
    assert server.late(0.5, 1.0001) == pytest.approx(0.5, abs=0.01)
    assert server.quantile_s(0.005) == pytest.approx(1.0, rel=0.01)
    assert server.quantile_s(1.0) == math.inf


def test_the_highest_rate_keeps_the_bound_and_little_more_does_not() -> None:
    server = BatchServer(lambda batch: (0.005**2 + (batch * 0.001) ** 2) ** 0.5, 64)
    rate = server.highest_rate(0.03)
    assert server.late(rate, 0.03) <= 0.01 < server.late(1.03 * rate, 0.03)
    assert server.highest_rate(0.004) == 0


@pytest.mark.parametrize("load", [0.05, 0.4, 0.8, 0.96])
@pytest.mark.parametrize(("most", "processes"), [(1, 1), (8, 2), (200, 1)])
def test_the_quantile_is_where_the_late_ones_become_too_many(load: float, most: int, processes: int) -> None:
    server = BatchServer(lambda batch: (0.004**2 + (batch * 0.0015) ** 2) ** 0.5, most, processes)
    rate = load * server.capacity
    p99 = server.quantile_s(rate)
    assert server.late(rate, p99 * 1.001) <= 0.01 < server.late(rate, p99 * 0.999)


def test_a_rate_does_not_depend_on_bounds_asked_before() -> None:
    def server() -> BatchServer:
        return BatchServer(lambda batch: (0.004**2 + (batch * 0.0005) ** 2) ** 0.5, 32, 2)

    used, bounds = server(), [0.012, 0.2, 0.05, 0.03, 0.0301, 0.012, 1.0, 0.008, 0.5]
    rates = [used.highest_rate(bound) for bound in bounds]
    assert rates == [server().highest_rate(bound) for bound in bounds]
    assert used.highest_rate(0.05, above=rates[2] * 0.7) == rates[2]
    assert used.highest_rate(0.05, above=rates[2]) == 0


@pytest.mark.parametrize(("peak", "rate"), [(22475.0, 21488.0), (13727.0, 13202.0)])
def test_long_queues_are_served_as_in_a_simulation(peak: float, rate: float) -> None:
    """So many arrive in an interval that their number is all but certain: states of the chain are left for good.

    States are wide against the chance in that number, so that the model is coarser here.
    """
    server = BatchServer(lambda batch: (0.152**2 + (batch / peak) ** 2) ** 0.5, 100_000)
    found = _simulated_p99(lambda n: (0.152**2 + (n / peak) ** 2) ** 0.5, 100_000, rate, 300_000)
    assert server.quantile_s(rate) == pytest.approx(found, rel=0.15)


# -- ratings -----------------------------------------------------------------------------------------------------------


def test_offline_and_batch_take_the_best_point() -> None:
    points = [p for p in KNOWN.points if (p.model, p.profile) == ("vgg16", "7g.80gb") and p.fits]
    offline = KNOWN.best("vgg16", A100, "7g.80gb", scenario="offline")
    assert offline is not None
    assert offline.throughput_rps == max(p.throughput_per_s for p in points)
    batch = KNOWN.best("vgg16", A100, "7g.80gb", scenario="batch", latency_ms=30)
    assert batch is not None
    within = [p for p in points if p.latency_ms is not None and p.latency_ms <= 30]
    assert batch.throughput_rps == max(p.throughput_per_s for p in within)
    assert batch.latency_ms is not None
    assert batch.latency_ms <= 30
    assert batch.measured


def test_limits_on_batch_and_processes_hold() -> None:
    rating = KNOWN.best("vgg16", A100, "7g.80gb", scenario="offline", max_batch=8, max_processes=2)
    assert rating is not None
    assert rating.batch is not None
    assert rating.processes is not None
    assert rating.batch <= 8
    assert rating.processes <= 2


@pytest.mark.parametrize("model", ["vgg16", "bert", "densenet201", "resnet50", "bert-99"])
def test_a_looser_bound_never_serves_less(model: str) -> None:
    lowest = KNOWN.lowest_latency(model, A100, "2g.20gb")
    rates = []
    for factor in (0.5, 0.98, 1.05, 1.5, 2, 3, 5, 10, 20):
        rating = KNOWN.best(model, A100, "2g.20gb", latency_ms=lowest * factor)
        rates.append(rating.throughput_rps if rating else 0.0)
    assert rates[:2] == [0, 0]
    assert rates[2] > 0
    assert all(later >= 0.99 * earlier for earlier, later in pairwise(rates))
    assert rates[-1] <= KNOWN.best(model, A100, "2g.20gb", scenario="offline").throughput_rps  # type: ignore[union-attr]


@pytest.mark.parametrize("scenario", ["server", "batch"])
def test_the_lowest_latency_can_be_kept_and_less_cannot(scenario: str) -> None:
    asked = 0
    for model in NETWORKS:
        for profile in KNOWN.profiles(model, A100, scenario=scenario):
            lowest = KNOWN.lowest_latency(model, A100, profile, scenario=scenario)
            assert KNOWN.best(model, A100, profile, latency_ms=lowest, scenario=scenario)
            assert not KNOWN.best(model, A100, profile, latency_ms=0.999 * lowest, scenario=scenario)
            asked += 1
    assert asked >= 77


def test_the_rate_of_a_server_is_confirmed_by_simulation() -> None:
    rating = KNOWN.best("densenet121", A100, "3g.40gb", latency_ms=60)
    assert rating is not None
    assert rating.batch is not None
    assert rating.processes is not None
    batches = KNOWN.batches("densenet121", A100)
    assert batches
    service = batches.service_s(batches.gpu.profile("3g.40gb"), rating.processes, busy=True)
    table = [0.0, *(float(service(float(n))) for n in range(1, rating.batch + 1))]
    p99 = _simulated_p99(lambda n: table[n], rating.batch, rating.throughput_rps / rating.processes, 60_000)
    assert 1000 * p99 == pytest.approx(60, rel=0.1)


def test_published_server_rates_are_preferred_at_their_bound() -> None:
    rating = KNOWN.best("bert-99", A100, SMALL, latency_ms=130, busy=False)
    assert rating is not None
    assert (rating.throughput_rps, rating.measured) == (359.98, True)
    offline = KNOWN.throughput("bert-99", A100, SMALL, busy=False).value
    assert rating.throughput_rps / offline == pytest.approx(0.785, abs=0.07)  # published ratio


def test_profiles_between_one_slice_and_the_whole_are_interpolated() -> None:
    rates = [KNOWN.best("bert-99", A100, p, latency_ms=130) for p in (SMALL, "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb", "whole")]
    values = [rating.throughput_rps for rating in rates if rating]
    assert len(values) == 6
    assert values == sorted(values)
    assert [rating.measured for rating in rates if rating] == [True, False, False, False, False, True]
    assert rates[1] is not None
    assert rates[1].error >= 0.11


def test_time_sliced_gpus_share_the_whole() -> None:
    whole = KNOWN.throughput("resnet50", "T4", "whole").value
    half = KNOWN.throughput("resnet50", "T4", "T4-8C").value
    assert 0.91 / 2 < half / whole < 0.98 / 2
    assert KNOWN.throughput("resnet50", "T4", "T4-16C").value == 5681.4
    with pytest.raises(CalibrationError, match=r"GiB; the least in which it is known to run is 4\.75 GiB"):
        KNOWN.throughput("resnet50", "T4", "T4-1Q")
    with pytest.raises(CalibrationError, match="no server rate is known for T4-8C"):
        KNOWN.best("resnet50", "T4", "T4-8C", latency_ms=15)


def test_measured_time_slices_are_rated_where_no_queue_is_needed() -> None:
    """Of a vGPU that shares its compute the points measured on it are known, no others, and no rate of a server."""
    own = Calibration(
        [
            *(Point("T4", "whole", "mine", 100.0 * b, 10.0, b, 1) for b in (1, 2, 4)),
            *(Point("T4", "T4-8C", "mine", 20.0 * b, 50.0, b, 1, busy=True) for b in (2, 4)),
        ]
    )
    rating = own.best("mine", "T4", "T4-8C", scenario="batch", latency_ms=50)
    assert rating is not None
    assert (rating.throughput_rps, rating.batch, rating.measured) == (80, 4, True)
    assert own.knows("mine", "T4", "T4-8C", scenario="offline")
    assert not own.knows("mine", "T4", "T4-8C", scenario="server")
    assert own.knows("mine", "T4", "whole", scenario="server")
    with pytest.raises(CalibrationError, match="no server rate is known for T4-8C"):
        own.best("mine", "T4", "T4-8C", latency_ms=500)
    with pytest.raises(CalibrationError, match="no server rate is known for T4-8C"):
        own.lowest_latency("mine", "T4", "T4-8C")


def test_published_rates_follow_at_every_bound() -> None:
    rates = [KNOWN.best("rnnt", "H100-80GB", "whole", latency_ms=bound) for bound in (400, 1000, 2000, 4000)]
    values = [rating.throughput_rps for rating in rates if rating]
    assert len(values) == 4
    assert values == sorted(values)
    assert values[1] == 21487.9


@pytest.mark.parametrize("scenario", ["server", "batch"])
def test_ratings_do_not_depend_on_what_was_asked_before(scenario: str) -> None:
    used = Calibration(KNOWN.points)
    asked = [(p, bound) for p in (SMALL, "1g.20gb", "7g.80gb") for bound in (200.0, 40.0, 45.0, 90.0, 40.0)]
    answers = [used.best("vgg16", A100, p, latency_ms=bound, scenario=scenario) for p, bound in asked]
    fresh = [Calibration(KNOWN.points).best("vgg16", A100, p, latency_ms=bound, scenario=scenario) for p, bound in asked]
    assert answers == fresh
    assert pickle.loads(pickle.dumps(used)).best("vgg16", A100, SMALL, latency_ms=90, scenario=scenario) == answers[3]  # noqa: S301


def test_a_merged_calibration_answers_from_its_own_points() -> None:
    """Ratings of both are asked by turns: neither may find what the other one remembers."""
    before = KNOWN.best("vgg16", A100, SMALL, latency_ms=60)
    half = [
        Point(p.gpu, p.profile, p.model, p.throughput_per_s / 2, (p.latency_ms or 0) * 2, p.batch, p.processes)
        for p in KNOWN.points
        if p.model == "vgg16" and not p.scenario and not p.busy
    ]
    slower = KNOWN.merge(Calibration(half)).best("vgg16", A100, SMALL, latency_ms=60)
    assert before is not None
    assert slower is not None
    assert slower.throughput_rps < 0.6 * before.throughput_rps
    assert KNOWN.best("vgg16", A100, SMALL, latency_ms=60) == before


def test_what_can_be_rated_is_known() -> None:
    assert {SMALL, "1g.20gb", "7g.80gb", "whole"} <= set(KNOWN.profiles("bert-99", A100, scenario="server"))
    assert "whole" in KNOWN.profiles("bert-99", "H100-80GB", scenario="server")
    assert SMALL not in KNOWN.profiles("bert-99", "H100-80GB", scenario="server")
    assert KNOWN.profiles("bert", "T4") == ()
    assert KNOWN.knows("BERT", A100, SMALL, scenario="batch")
    assert not KNOWN.knows("bert-99", A100, SMALL, scenario="batch")
    assert not KNOWN.knows("3d-unet-99", A100, "whole", scenario="server")
    for profile in KNOWN.profiles("vgg19", A100, scenario="server"):
        assert KNOWN.best("vgg19", A100, profile, latency_ms=500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "bert-98"}, r"unknown model 'bert-98'; did you mean 'bert-99'.*columns gpu,profile"),
        ({"gpu": "A100-90GB"}, r"unknown GPU 'A100-90GB'; did you mean 'A100-80GB'"),
        ({"profile": "5g.50gb"}, r"unknown profile '5g.50gb'"),
        ({"gpu": "T4", "profile": "whole"}, r"bert - not measured on T4; measured are A100-80GB"),
        ({"latency_ms": None}, r"latency_ms is missing"),
        ({"latency_ms": math.nan}, r"latency_ms nan"),
        ({"scenario": "offline"}, r"the scenario offline has no latency"),
        ({"scenario": "sever"}, r"scenario 'sever' is unknown; did you mean 'server'"),
    ],
)
def test_bad_questions_get_one_clear_message(arguments: dict[str, Any], message: str) -> None:
    asked = {"model": "bert", "gpu": A100, "profile": SMALL, "latency_ms": 100.0} | arguments
    with pytest.raises(SpecError, match=message):
        KNOWN.best(asked.pop("model"), asked.pop("gpu"), asked.pop("profile"), **asked)


# -- files -------------------------------------------------------------------------------------------------------------


def _write(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    path = tmp_path / "my.csv"
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return path


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text(KNOWN.to_csv(), encoding="utf-8")
    assert Calibration.from_csv(path).points == KNOWN.points


def test_own_points_override_and_extend(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "NVIDIA A100-SXM4-80GB,MIG 1g.10gb,vgg16,8,1,no,500,16,mine",
        "T4,T4-8C,mine,4,1,yes,100,40,mine",
    )
    merged = KNOWN.merge(Calibration.from_csv(path))
    assert merged.throughput("vgg16", A100, SMALL, batch=8, busy=False).value == 500
    assert KNOWN.throughput("vgg16", A100, SMALL, batch=8, busy=False).value != 500
    assert len(merged.points) == len(KNOWN.points) + 1
    assert merged.throughput("mine", "T4", "T4-8C", batch=4).sources == ("mine",)


def test_own_batches_displace_figures_of_another_stack(tmp_path: Path) -> None:
    own = Calibration.from_csv(_write(tmp_path, *(f"T4,whole,resnet50,{b},1,no,{300 * b},{1000 / 300},mine" for b in (1, 2))))
    rating = KNOWN.merge(own).best("resnet50", "T4", "whole", scenario="offline")
    assert rating is not None
    assert (rating.throughput_rps, rating.batch, rating.sources) == (600, 2, ("mine",))


def test_all_problems_of_a_file_are_named_with_their_lines(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "A100-80GB,1g.10gb,m,1,1,no,nan,5,x",
        "A100-80GB,1g.11gb,m,1,1,no,10,5,x",
        "A100-81GB,1g.10gb,m,1,1,no,10,5,x",
        "A100-80GB,1g.10gb,m,0,1,maybe,-1,0,x",
        "A100-80GB,1g.10gb,m,2,1,no,10,5,x",
        "A100-80GB,MIG 1g.10gb,m,2,1,no,11,6,x",
        "A100-80GB,1g.10gb,m",
    )
    with pytest.raises(SpecError) as caught:
        Calibration.from_csv(path)
    lines = [(problem.line, problem.field) for problem in caught.value.problems]
    assert lines == [
        (2, "throughput_per_s"), (3, "profile"), (4, "gpu"), (5, "throughput_per_s"), (5, "batch"), (5, "latency_ms"),
        (5, "busy"), (7, None), (8, None),
    ]  # fmt: skip
    text = str(caught.value)
    assert "did you mean '1g.10gb'" in text
    assert "did you mean 'A100-80GB'" in text
    assert "the same point as in line 6" in text


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("latency_ms", "latency_s"), "unknown column 'latency_s'; call it 'latency_ms' and give it in that unit"),
        (HEADER.replace("batch", "bach"), "unknown column 'bach'; did you mean 'batch'"),
        (HEADER + ",model", "column 'model' stands twice"),
        (HEADER.removesuffix(",source"), "columns missing: source"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Calibration.from_csv(_write(tmp_path, "x", header=header))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "x.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in ((binary, "UTF-8"), (tmp_path, "regular file"), (tmp_path / "none.csv", "no such file")):
        with pytest.raises(SpecError, match=message):
            Calibration.from_csv(path)
    for lines in ((), ("# nothing",)):
        with pytest.raises(SpecError, match="no measurement"):
            Calibration.from_csv(_write(tmp_path, *lines))


def test_one_measured_profile_answers_for_itself_alone(tmp_path: Path) -> None:
    own = Calibration.from_csv(_write(tmp_path, *(f"A30-24GB,1g.6gb,m,{b},1,no,{b * 50},{20},x" for b in (1, 4))))
    assert own.throughput("m", "A30-24GB", "1g.6gb", batch=2, busy=False).value == pytest.approx(100, rel=0.1)
    with pytest.raises(CalibrationError, match=r"2g\.12gb is outside the known range; measured are 1g\.6gb"):
        own.throughput("m", "A30-24GB", "2g.12gb", batch=2)


def test_two_points_with_one_key_are_refused() -> None:
    point = Point(A100, SMALL, "m", 1.0, 2.0, 1, 1)
    with pytest.raises(SpecError, match="two points"):
        Calibration([point, point])


# -- cross-validation --------------------------------------------------------------------------------------------------


def test_cross_validated_errors_are_those_of_the_readme() -> None:
    folds = cross_validate(KNOWN)
    assert folds == cross_validate(Calibration(KNOWN.points))
    means = {m: summarise(f for f in folds if f.model == m and f.leave_out == "profile").throughput_mean for m in NETWORKS}
    assert 0.20 < means.pop("bert") < 0.25
    assert max(means.values()) < 0.18
    assert sorted(means.values())[len(means) // 2] < 0.10
    between = summarise(f for f in folds if f.leave_out == "between")
    assert (between.points, between.throughput_mean) == (33, pytest.approx(0.11, abs=0.01))


def test_a_held_out_profile_does_not_see_its_own_points() -> None:
    """Spoil one profile: its own error grows, which it would not if it had been fitted."""
    spoilt = [
        Point(p.gpu, p.profile, p.model, p.throughput_per_s * (3 if p.profile == "4g.40gb" else 1), 0.0, p.batch, p.processes)
        for p in KNOWN.points
        if p.model == "resnet50" and not p.scenario
    ]
    folds = {f.held_out: f for f in cross_validate(Calibration(spoilt)) if f.leave_out == "profile"}
    assert summarise([folds["4g.40gb"]]).throughput_mean > 0.5


def test_the_command_line_checks_and_lists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from partitioner.cli import app

    result = CliRunner().invoke(app, ["calibration", "check", "--json"])
    assert result.exit_code == 0
    errors = json.loads(result.stdout)["errors"]
    assert {(row["model"], row["held_out"]) for row in errors} >= {("resnet50", "profile"), ("bert", "model")}
    assert "resnet50" in CliRunner().invoke(app, ["calibration", "check"]).stdout
    listed = json.loads(CliRunner().invoke(app, ["calibration", "list", "--json"]).stdout)
    assert sum(row["points"] for row in listed) == len(KNOWN.points)
    own = _write(tmp_path, "T4,whole,mine,1,1,no,10,100,x")
    assert "mine" in CliRunner().invoke(app, ["calibration", "list", "--calibration", str(own)]).stdout
    assert "no model has three profiles" in CliRunner().invoke(app, ["calibration", "check", "--calibration", str(own)]).stdout
