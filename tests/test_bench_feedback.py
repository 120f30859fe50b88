"""Feedback: what was measured changes the next plan, and what was predicted is held against what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from bench_results import RULES, result

import partitioner as gp
from benchmarks.errors import IncomparableError
from benchmarks.feedback import deviations, predict
from benchmarks.results import Result
from benchmarks.scenarios.scenario import Instance, Scenario
from partitioner.errors import SpecError
from partitioner.performance import Calibration, Point

GPU = "A100-80GB"
MIXED = result(
    "4g+2g+1g", [("4g.40gb", (900.0, 909.0, 891.0)), ("2g.20gb", (450.0, 454.5, 445.5)), ("1g.10gb", (200.0, 202.0, 198.0))]
)
SEVEN = result("7x1g", [("1g.10gb", (210.0,))] * 7)
ALONE = result("1g", {"1g.10gb": (220.0, 220.0, 220.0)})
SERVER = result("7x1g", [("1g.10gb", (120.0,))] * 7, mode="server", batch=1)


def point(calibration: Calibration, profile: str, *, busy: bool = True) -> Point:
    (found,) = (p for p in calibration.points if (p.profile, p.busy) == (profile, busy))
    return found


# -- results become calibration ----------------------------------------------------------------------------------------


def test_a_result_gives_a_point_for_each_profile() -> None:
    found = Calibration.from_results([MIXED])
    assert {(p.profile, p.batch, p.processes, p.busy, p.scenario) for p in found.points} == {
        ("4g.40gb", 8, 1, True, ""),
        ("2g.20gb", 8, 1, True, ""),
        ("1g.10gb", 8, 1, True, ""),
    }
    large = point(found, "4g.40gb")
    assert large.throughput_per_s == pytest.approx(900)
    assert large.latency_ms == pytest.approx(8 * 1000 / 900)
    assert large.error == pytest.approx(0.01)
    for words in ("4g+2g+1g offline", "3 repeats", "triton", "asyncio", "host-a", "2026-11-21"):
        assert words in large.source


def test_alone_and_busy_are_kept_apart_and_give_their_ratio() -> None:
    found = Calibration.from_results([ALONE, SEVEN])
    assert point(found, "1g.10gb", busy=False).throughput_per_s == 220
    assert point(found, "1g.10gb").throughput_per_s == pytest.approx(210)
    assert point(found, "1g.10gb").error == 0
    known = found.batches("resnet50", GPU)
    assert known is not None
    assert known.ratio.value == pytest.approx(210 / 220)


def test_a_profile_in_two_scenarios_is_one_point_that_reaches_both() -> None:
    found = point(Calibration.from_results([MIXED, SEVEN]), "1g.10gb")
    assert found.throughput_per_s == pytest.approx(205)
    assert found.error == pytest.approx(math.hypot(0.01, 5 / 205))
    assert "4g+2g+1g" in found.source
    assert "7x1g" in found.source


def test_a_server_gives_its_highest_rate_under_the_bound() -> None:
    slower = result("4g+2g+1g", [(p, (100.0,)) for p in MIXED.metadata.profiles], mode="server", batch=1)
    found = Calibration.from_results([SERVER, slower])
    small = point(found, "1g.10gb")
    assert (small.scenario, small.throughput_per_s, small.latency_ms, small.batch) == ("server", 120.0, 15.0, None)
    rating = found.best("resnet50", GPU, "1g.10gb", latency_ms=15)
    assert rating is not None
    assert rating.throughput_rps == 120
    other = replace(SERVER, metadata=replace(SERVER.metadata, rules=RULES | {"latency_bound_ms": 30.0}))
    assert len(Calibration.from_results([SERVER, other]).points) == 2


def test_measurements_survive_a_calibration_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = Calibration.from_results([MIXED, ALONE, SERVER])
    path = tmp_path_factory.mktemp("calibration") / "own.csv"
    path.write_text(found.to_csv())
    assert Calibration.from_csv(path).points == found.points


@pytest.mark.parametrize(
    ("device", "label"), [("cpu-slices", "[CPU slices, not a GPU]"), ("emulated", "[emulated, not measured]")]
)
def test_stand_ins_need_leave_and_their_sources_say_so(device: str, label: str) -> None:
    stand_in = replace(MIXED, metadata=replace(MIXED.metadata, device=device))
    with pytest.raises(IncomparableError, match="stand_ins=True"):
        Calibration.from_results([ALONE, stand_in])
    found = Calibration.from_results([stand_in], stand_ins=True)
    assert all(p.source.startswith(label) for p in found.points)


def test_invalid_results_calibrate_nothing() -> None:
    bad = result("7g", {"7g.80gb": (1000.0,)}, run_fields={"valid": False, "reasons": ("p99 is 17 ms",)})
    with pytest.raises(IncomparableError, match=r"result 7g - is INVALID(.|\n)*p99 is 17 ms"):
        Calibration.from_results([ALONE, bad], stand_ins=True)


@pytest.mark.parametrize("rules", [{"latency_bound_ms": None}, {"percentile": 0.9}])
def test_a_server_without_a_bound_at_p99_is_refused(rules: dict[str, object]) -> None:
    odd = replace(SERVER, metadata=replace(SERVER.metadata, rules=RULES | rules))
    with pytest.raises(IncomparableError, match="latency_bound_ms"):
        Calibration.from_results([odd])


def test_what_answered_nothing_is_refused() -> None:
    with pytest.raises(IncomparableError, match=r"7g\.80gb answered nothing"):
        Calibration.from_results([result("7g", {"7g.80gb": (0.0,)})])


@pytest.mark.parametrize("results", [[], ["result.json"], [None]])
def test_what_are_no_results(results: Iterable[Result]) -> None:
    with pytest.raises(SpecError, match="calibration - "):
        Calibration.from_results(results)


def test_gpus_and_profiles_are_those_of_the_catalogue() -> None:
    spelt = replace(ALONE, metadata=replace(ALONE.metadata, gpu="a100-80gb"))
    assert Calibration.from_results([spelt]).points[0].gpu == GPU
    with pytest.raises(SpecError, match=r"9g\.80gb"):
        Calibration.from_results([result("9g", {"9g.80gb": (1.0,)})])
    with pytest.raises(SpecError, match="A100-90GB"):
        Calibration.from_results([replace(ALONE, metadata=replace(ALONE.metadata, gpu="A100-90GB"))])


# -- the next plan -----------------------------------------------------------------------------------------------------


def test_the_next_plan_uses_what_was_measured() -> None:
    """Servers three times as fast as the shipped tables say need fewer GPUs, slower ones alone more."""
    workloads = [
        gp.Workload("service", model="resnet50", rate=3000, latency_ms=60, scenario="batch", max_batch=8, max_processes=1)
    ]
    fast = result("4g+2g+1g", [("4g.40gb", (3900.0,)), ("2g.20gb", (2000.0,)), ("1g.10gb", (1000.0,))])
    halved = result("4g+2g+1g", [("4g.40gb", (450.0,)), ("2g.20gb", (225.0,)), ("1g.10gb", (100.0,))])
    merged = Calibration.default().merge(Calibration.from_results([fast]))
    before = gp.plan(workloads, gpu=GPU, modes=("mig",))
    after = gp.plan(workloads, gpu=GPU, modes=("mig",), calibration=merged)
    slow = gp.plan(workloads, gpu=GPU, modes=("mig",), calibration=Calibration.from_results([halved]))
    assert {before.status, after.status, slow.status} == {"optimal"}
    assert (after.gpus_used, before.gpus_used, slow.gpus_used) == (1, 2, 4)
    ratings = {key[3]: rating for key, rating in after.ratings.items()}
    assert ratings["4g.40gb"].throughput_rps == 3900
    assert ratings["4g.40gb"].measured
    assert "partitioner bench" in ratings["4g.40gb"].sources[0]


def test_own_figures_with_neighbours_replace_foreign_ones_alone() -> None:
    """Two software stacks beside each other would pass for what neighbours cost."""
    merged = Calibration.default().merge(Calibration.from_results([SEVEN]))
    kept = [p for p in merged.points if (p.gpu, p.profile, p.model, p.batch, p.processes) == (GPU, "1g.10gb", "resnet50", 8, 1)]
    assert [p.throughput_per_s for p in kept] == [pytest.approx(210)]
    known = merged.batches("resnet50", GPU)
    assert known is not None
    assert "of resnet50" not in known.ratio.source


# -- prediction --------------------------------------------------------------------------------------------------------

SCENARIO = Scenario.parse("4g+2g+1g", gpu=GPU)


def test_prediction_of_what_was_measured_is_the_measurement() -> None:
    own = Calibration.from_results([MIXED])
    found = predict(SCENARIO, model="resnet50", batch=8, calibration=own)
    assert found.throughput_per_s == pytest.approx(MIXED.system_throughput)
    assert found.error == pytest.approx(0.01)
    assert all(entry.measured and entry.busy and not entry.reason for entry in found.instances)


def test_prediction_from_the_shipped_tables() -> None:
    known = Calibration.default()
    found = predict(SCENARIO, model="resnet50", batch=8)
    expected = [known.throughput("resnet50", GPU, p, batch=8).value for p in ("4g.40gb", "2g.20gb", "1g.10gb")]
    assert [entry.throughput_per_s for entry in found.instances] == expected
    offline = predict(SCENARIO, model="resnet50").throughput_per_s
    server = predict(SCENARIO, model="resnet50", mode="server", latency_bound_ms=15).throughput_per_s
    assert offline is not None
    assert server is not None
    assert server < offline
    single = predict(SCENARIO, model="resnet50", mode="single_stream")
    multi = predict(SCENARIO, model="resnet50", mode="multi_stream")
    assert single == predict(SCENARIO, model="resnet50", batch=1)
    assert multi == predict(SCENARIO, model="resnet50", batch=8)


def test_one_instance_is_predicted_alone() -> None:
    known = Calibration.default()
    found = predict(Scenario.parse("1g", gpu=GPU), model="resnet50", batch=8)
    assert found.throughput_per_s == known.throughput("resnet50", GPU, "1g.10gb", batch=8, busy=False).value
    apart = Scenario("1g on two GPUs", GPU, "mig", (Instance("a", "1g.10gb", 0), Instance("b", "1g.10gb", 1)))
    assert [entry.busy for entry in predict(apart, model="resnet50", batch=8).instances] == [False, False]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": "resnot50"}, "did you mean 'resnet50'"),
        ({"model": "dlrm-99", "batch": 8}, "at no batch size"),
        ({"model": "resnet50", "mode": "server", "latency_bound_ms": 0.01}, "cannot keep 0.01 ms"),
        ({"model": "resnet50", "batch": 4096}, "4096"),
    ],
)
def test_what_is_not_known_has_a_reason(asked: dict[str, object], words: str) -> None:
    found = predict(SCENARIO, **asked)
    assert (found.throughput_per_s, found.error) == (None, None)
    assert words in found.reasons[0]


def test_one_unknown_instance_leaves_the_sum_unknown() -> None:
    found = predict(SCENARIO, model="resnet50", batch=8, calibration=Calibration.from_results([ALONE]))
    assert found.throughput_per_s is None
    assert found.instances[2].throughput_per_s is not None
    assert found.instances[0].reason


@pytest.mark.parametrize("asked", [{"mode": "burst"}, {"mode": "server"}, {"batch": 0}])
def test_what_cannot_be_asked(asked: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        predict(SCENARIO, model="resnet50", **asked)


# -- prediction against measurement ------------------------------------------------------------------------------------


def test_deviation_from_the_prediction() -> None:
    own = Calibration.from_results([MIXED])
    faster = result("4g+2g+1g", [("4g.40gb", (900.0,)), ("2g.20gb", (450.0,)), ("1g.10gb", (300.0,))])
    same, other = deviations([MIXED, faster], calibration=own)
    assert (same.ratio, same.within, same.notes) == (pytest.approx(1.0), True, ())
    assert other.ratio == pytest.approx(1650 / 1550)
    assert other.within is False
    assert [entry.within for entry in other.instances] == [True, True, False]
    assert other.instances[2].ratio == pytest.approx(1.5)


def test_deviation_where_nothing_is_known() -> None:
    unknown = replace(MIXED, metadata=replace(MIXED.metadata, model="own-net"))
    (found,) = deviations([unknown])
    assert (found.ratio, found.within) == (None, None)
    assert "own-net" in found.prediction.reasons[0]
    free = replace(SERVER, metadata=replace(SERVER.metadata, rules=RULES | {"latency_bound_ms": None}))
    (found,) = deviations([free])
    assert found.ratio is None
    assert found.prediction.reasons == ("no latency bound, no rate",)


def test_batches_that_a_server_chose_are_predicted_from_half_of_what_is_in_flight() -> None:
    merged = replace(MIXED, metadata=replace(MIXED.metadata, batch=4, concurrency=4))
    (found,) = deviations([merged], calibration=Calibration.from_results([MIXED]))
    assert found.ratio == pytest.approx(1.0)
    assert "may put requests together" in found.notes[0]


def test_without_batch_sizes_the_best_offline_is_predicted() -> None:
    merged = replace(MIXED, metadata=replace(MIXED.metadata, concurrency=8))
    offline = Calibration.from_results([merged])
    assert {p.scenario for p in offline.points} == {"offline"}
    (found,) = deviations([merged], calibration=offline)
    assert found.ratio == pytest.approx(1.0)
    assert "nothing is known of this batch size" in found.notes[-1]


def test_what_does_not_count_is_noted() -> None:
    slices = replace(MIXED, metadata=replace(MIXED.metadata, device="cpu-slices"))
    assert deviations([slices])[0].notes[0].startswith("CPU slices, not a GPU: the prediction is of A100-80GB")
    bad = result("1g", {"1g.10gb": (1.0,)}, run_fields={"valid": False})
    assert deviations([bad])[0].notes == ("INVALID: the measurement does not count",)
    assert "rate that was asked for" in deviations([SERVER])[0].notes[0]
