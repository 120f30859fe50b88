"""Comparison: likeness, changes with their intervals, relations between instances, and the figures of published studies."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from bench_results import RULES, metadata, result
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.comparing import Change, Comparison, compare
from benchmarks.comparing.likeness import ALIKE
from benchmarks.comparing.statistics import change, jain
from benchmarks.comparing.tables import COLUMNS
from benchmarks.errors import BenchmarkError, IncomparableError
from benchmarks.results import Result
from partitioner.errors import SpecError

WHOLE = result("7g", {"7g.80gb": (2000.0, 2010.0, 1990.0)}, p99=8.0, energy_j=4000.0)
MIXED = result(
    "4g+2g+1g",
    [("4g.40gb", (1200.0, 1210.0, 1190.0)), ("2g.20gb", (600.0, 605.0, 595.0)), ("1g.10gb", (300.0, 303.0, 297.0))],
    energy_j=4200.0,
)
SMALL = result("1g", {"1g.10gb": (310.0, 311.0, 309.0)}, p99=9.0)
SEVEN = result("7x1g", [("1g.10gb", (rate, rate + 1, rate - 1)) for rate in (300.0,) * 6 + (270.0,)], p99=12.0)
INVALID = result("2x3g", [("3g.40gb", (1500.0,) * 3)] * 2, run_fields={"valid": False, "reasons": ("p99 is 17 ms",)})


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give text the same width on every machine; parallel runs set another."""
    monkeypatch.setenv("COLUMNS", "160")


def table(*rows: tuple[str, str, Sequence[float]], **changed: object) -> list[Result]:
    """Return results of equal instances on a GPU each: (scenario, profile, throughput of each instance)."""
    return [
        result(name, [(profile, (rate,)) for rate in rates], one_gpu_each=True, gpu="T4", geometry="vgpu-equal-16", **changed)
        for name, profile, rates in rows
    ]


# -- figures of published studies --------------------------------------------------------------------------------------

TABLE_6 = [
    ("ResNet50", 5810, 22725, 3.91),
    ("BERT", 379, 1621, 4.28),
    ("BERT high accuracy", 176, 702, 3.99),
    ("SSD-ResNet34", 129, 534, 4.14),
]
TABLE_5 = [
    ("ResNet50", "offline", 23844, 22725, 0.95),
    ("ResNet50", "server", 21805, 20400, 0.94),
    ("BERT", "offline", 1738, 1621, 0.93),
    ("BERT", "server", 1348, 1273, 0.94),
    ("BERT high accuracy", "offline", 743, 702, 0.94),
    ("SSD-ResNet34", "offline", 546, 534, 0.98),
    ("SSD-ResNet34", "server", 469, 425, 0.91),
    ("3D-UNet", "offline", 29, 26.94, 0.93),
]


@pytest.mark.parametrize(("model", "one", "four", "scale"), TABLE_6)
def test_scaling_of_vgpus_on_vsphere(model: str, one: float, four: float, scale: float) -> None:
    """VMware, MLPerf Inference v0.7 on vSphere, table 6: one and four virtual T4."""
    found = compare(table(("vT4x1", "T4-16Q", [one]), ("vT4x4", "T4-16Q", [four / 4] * 4), model=model))
    assert [(entry.n_instances, round(entry.factor, 2)) for entry in found.scaling] == [(1, 1.0), (4, scale)]
    assert found.scaling[1].efficiency == pytest.approx(four / one / 4)
    assert found.best is not None
    assert found.best.name == "vT4x4"
    assert found.row("vT4x4").result.n_gpus == 4


@pytest.mark.parametrize(("model", "mode", "bare", "virtual", "ratio"), TABLE_5)
def test_virtual_over_bare_metal(model: str, mode: str, bare: float, virtual: float, ratio: float) -> None:
    """The same study, table 5: four T4 on bare metal and as virtual GPUs."""
    rows = table(("4xT4", "whole", [bare / 4] * 4), ("vT4x4", "T4-16Q", [virtual / 4] * 4), model=model, mode=mode)
    rows[1] = replace(rows[1], metadata=replace(rows[1].metadata, host={"vm": "on ESXi"}))
    with pytest.raises(IncomparableError, match="host"):
        compare(rows)
    changed = compare(rows, allow=["host"]).row("vT4x4").change
    assert changed is not None
    assert round(changed.relative + 1, 2) == ratio
    assert changed.low is None
    assert "one repeat" in changed.note


def test_best_scenarios_of_table_2() -> None:
    """A100 on vSphere, MLPerf v1.1: 4g+2g+1g gives 5.77% more than 7g with ResNet50, 2g+2g+2g+1g 21% more with BERT."""
    mixed = result("4g+2g+1g", [("4g.40gb", (604.4,)), ("2g.20gb", (302.2,)), ("1g.10gb", (151.1,))])
    found = compare([result("7g", {"7g.80gb": (1000.0,)}), mixed])
    assert found.best is not None
    assert found.best.name == "4g+2g+1g"
    assert "best: 4g+2g+1g with 1,058 samples/s, +5.8% against 7g" in str(found)
    twos = result("2g+2g+2g+1g", [("2g.20gb", (346.0,))] * 3 + [("1g.10gb", (172.0,))])
    best = compare([result("7g", {"7g.80gb": (1000.0,)}), mixed, twos]).best
    assert best is not None
    assert best.change is not None
    assert (best.name, round(best.change.relative, 2)) == ("2g+2g+2g+1g", 0.21)


# -- changes -----------------------------------------------------------------------------------------------------------


def test_interval_is_welchs_on_logarithms() -> None:
    from scipy import stats

    one, two = [2100.0, 2150.0, 2050.0], [2000.0, 2010.0, 1990.0, 1980.0]
    found = change(one, two, confidence=0.9)
    assert found is not None
    expected = stats.ttest_ind(np.log(one), np.log(two), equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((math.expm1(expected.low), math.expm1(expected.high)))
    assert found.relative == pytest.approx(2100 / 1995 - 1)
    assert found.significant


@given(
    st.lists(st.floats(90, 110), min_size=2, max_size=5),
    st.lists(st.floats(90, 110), min_size=2, max_size=5),
    st.floats(0.5, 0.999),
)
def test_interval_holds_the_change_and_turns_round(one: list[float], two: list[float], confidence: float) -> None:
    there, back = change(one, two, confidence=confidence), change(two, one, confidence=confidence)
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert back.low is not None
    assert there.low <= there.high
    assert (1 + there.high) * (1 + back.low) == pytest.approx(1)
    wider = change(one, two, confidence=(1 + confidence) / 2)
    assert wider is not None
    assert wider.low is not None
    assert wider.low <= there.low + 1e-12


@pytest.mark.parametrize(
    ("values", "base", "expected"),
    [
        ([110.0] * 3, [100.0] * 3, (0.1, 0.1, 0.1)),
        ([110.0], [100.0] * 3, (0.1, None, None)),
        ([110.0] * 3, [100.0], (0.1, None, None)),
    ],
)
def test_no_spread_and_no_repeats(values: list[float], base: list[float], expected: tuple[float | None, ...]) -> None:
    found = change(values, base, confidence=0.95)
    assert found is not None
    assert (found.relative, found.low, found.high) == pytest.approx(expected)
    assert bool(found.note) == (expected[1] is None)
    assert found.significant == (None if expected[1] is None else True)


def test_nothing_follows_from_nothing() -> None:
    assert change([0.0, 1.0], [1.0, 1.0], confidence=0.95) is None
    found = compare([WHOLE, result("1g", {"1g.10gb": (0.0, 0.0, 0.0)}, run_fields={"latency": None})], cost_per_gpu_hour=1.0)
    row = found.row("1g")
    assert (row.change, row.latency, row.cost_per_million) == (None, None, None)
    assert "nan" not in str(found)


def test_a_change_within_the_noise_is_called_chance() -> None:
    noisy = result("2g", {"2g.20gb": (2000.0, 2300.0, 1800.0)})
    found = compare([WHOLE, noisy])
    changed = found.row("2g").change
    assert changed is not None
    assert changed.significant is False
    assert "which may be chance" in str(found)
    assert "which may be chance" not in str(compare([WHOLE, MIXED]))


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95, "0.95", True])
def test_a_confidence_is_a_share(confidence: object) -> None:
    with pytest.raises(SpecError, match="between 0 and 1"):
        compare([WHOLE, MIXED], confidence=confidence)


def test_without_scipy_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'gpu-partitioner\[bench\]'"):
        compare([WHOLE, MIXED])


# -- likeness ----------------------------------------------------------------------------------------------------------

OTHER = {
    "gpu": "A30-24GB",
    "mode": "server",
    "model": "bert-99",
    "servers": "emulated",
    "device": "emulated",
    "engine": "loadgen",
    "batch": 16,
    "concurrency": 4,
    "rules": RULES | {"latency_bound_ms": 20.0},
    "software": {"python": "3.11", "triton": "2.52", "driver": "550"},
    "host": {"host-b": "16 cores"},
}


def test_every_field_is_either_what_is_compared_or_has_to_be_alike() -> None:
    assert set(OTHER) == set(ALIKE)


@pytest.mark.parametrize("name", OTHER)
def test_unlike_results_are_refused_unless_allowed(name: str) -> None:
    other = replace(MIXED, metadata=replace(MIXED.metadata, **{name: OTHER[name]}))
    with pytest.raises(IncomparableError, match=f"allow={name}") as caught:
        compare([WHOLE, other])
    assert all(line.startswith(name) and "in 7g" in line and "in 4g+2g+1g" in line for line in caught.value.differences)
    found = compare([WHOLE, other], allow=(name,))
    assert f"allowed to differ, although figures hang on them: {name}" in str(found)


def test_one_line_for_each_difference_with_the_values() -> None:
    fields = {"engine": "loadgen", "software": OTHER["software"], "rules": OTHER["rules"]}
    other = replace(MIXED, metadata=replace(MIXED.metadata, **fields))
    with pytest.raises(IncomparableError) as caught:
        compare([WHOLE, SMALL, other])
    assert caught.value.differences == (
        "engine: 'asyncio' in 7g, 1g; 'loadgen' in 4g+2g+1g",
        "rules.latency_bound_ms: 15.0 in 7g, 1g; 20.0 in 4g+2g+1g",
        "software.triton: '2.51' in 7g, 1g; '2.52' in 4g+2g+1g",
        "software.driver: not told in 7g, 1g; '550' in 4g+2g+1g",
    )
    with pytest.raises(IncomparableError, match=r"allow=software\.driver"):
        compare([WHOLE, other], allow=("engine", "rules", "software.triton"))
    assert compare([WHOLE, other], allow=("engine", "rules", "software.triton", "software.driver"))


def test_what_is_compared_may_differ() -> None:
    other = replace(MIXED, metadata=replace(MIXED.metadata, geometry="whole", seed=7))
    assert compare([WHOLE, other]).best is not None


def test_an_unknown_allowance_is_refused() -> None:
    with pytest.raises(SpecError, match="did you mean 'engine'"):
        compare([WHOLE], allow=("engines",))


def test_a_scenario_stands_once_unless_an_allowance_tells_it_apart() -> None:
    again = replace(WHOLE, metadata=replace(WHOLE.metadata, seed=3))
    with pytest.raises(IncomparableError, match="7g - stands more than once"):
        compare([WHOLE, again])
    loadgen = replace(WHOLE, metadata=replace(WHOLE.metadata, engine="loadgen", host={"host-b": "8 cores"}))
    found = compare([WHOLE, loadgen], allow=("engine", "host", "software"))
    assert [row.name for row in found.rows] == ["7g (asyncio, host-a)", "7g (loadgen, host-b)"]
    driver = replace(WHOLE, metadata=replace(WHOLE.metadata, software={"python": "3.11", "triton": "2.52"}))
    assert [row.name for row in compare([WHOLE, driver], allow="software").rows] == ["7g (triton 2.51)", "7g (triton 2.52)"]


@pytest.mark.parametrize("results", [[], ["7g"], [None]])
def test_what_are_no_results(results: list[Result]) -> None:
    with pytest.raises(SpecError):
        compare(results)


# -- baseline and winner -----------------------------------------------------------------------------------------------


def test_baseline_is_the_first_valid_one() -> None:
    found = compare([INVALID, WHOLE, MIXED])
    assert found.baseline == "7g"
    assert "2x3g is no baseline, being INVALID; 7g is" in found.notes
    assert found.row("7g").change is None
    assert found.row("2x3g").change is not None
    assert compare([INVALID, result("1g", {"1g.10gb": (1.0,)}, run_fields={"valid": False})]).baseline is None


def test_invalid_results_stay_and_win_nothing() -> None:
    found = compare([WHOLE, INVALID])
    assert found.best is not None
    assert found.best.name == "7g"
    assert "2x3g INVALID" in str(found)
    assert "3g.40gb#2 INVALID" in str(found)
    assert any("3g.40gb, repeat 1, 2, 3: p99 is 17 ms" in note for note in found.notes)
    assert compare([INVALID]).best is None
    assert "every result is INVALID" in str(compare([INVALID]))


def test_a_named_baseline() -> None:
    assert compare([WHOLE, MIXED, SMALL], "4g+2g+1g").baseline == "4g+2g+1g"
    assert compare([WHOLE, MIXED], MIXED).baseline == "4g+2g+1g"
    joined = compare([MIXED], WHOLE)
    assert [row.name for row in joined.rows] == ["7g", "4g+2g+1g"]
    assert joined.baseline == "7g"
    named = compare([WHOLE, INVALID], "2x3g")
    assert "the baseline 2x3g is INVALID: changes against it say nothing" in named.notes
    with pytest.raises(SpecError, match=r"'4g\+2g' - not among the results; did you mean '4g\+2g\+1g'"):
        compare([WHOLE, MIXED], "4g+2g")


def test_change_against_the_baseline() -> None:
    found = compare([WHOLE, MIXED])
    changed = found.row("4g+2g+1g").change
    assert isinstance(changed, Change)
    assert changed.relative == pytest.approx(0.05)
    assert changed.low is not None
    assert changed.high is not None
    assert 0.02 < changed.low < 0.05 < changed.high < 0.08


# -- relations ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_jain_lies_between_one_for_all_and_all_for_one(values: list[float]) -> None:
    assert 1 / len(values) - 1e-9 <= jain(values) <= 1 + 1e-9


def test_fairness_between_equal_instances() -> None:
    found = compare([WHOLE, SEVEN, MIXED])
    (entry,) = found.fairness
    assert (entry.scenario, entry.profile, entry.n_instances) == ("7x1g", "1g.10gb", 7)
    assert entry.max_over_min == pytest.approx(300 / 270)
    assert entry.jain == pytest.approx(2070**2 / (7 * (6 * 300**2 + 270**2)))
    dead = result("2x1g", [("1g.10gb", (100.0,)), ("1g.10gb", (0.0,))])
    (entry,) = compare([dead]).fairness
    assert (entry.jain, entry.max_over_min) == (0.5, None)


def test_isolation_against_the_instance_alone() -> None:
    found = compare([WHOLE, SMALL, MIXED, SEVEN])
    rows = {entry.busy: entry for entry in found.isolation}
    assert set(rows) == {"4g+2g+1g", "7x1g"}
    assert rows["4g+2g+1g"].throughput == pytest.approx(300 / 310)
    assert rows["7x1g"].throughput == pytest.approx(2070 / 7 / 310)
    assert rows["7x1g"].p99 == pytest.approx(12 / 9)
    assert rows["7x1g"].p50 == pytest.approx(12 / 9)
    assert all(entry.alone == "1g" and entry.profile == "1g.10gb" and entry.valid for entry in found.isolation)


def test_instances_under_unlike_loads_are_not_held_against_one_another() -> None:
    loadgen = replace(SEVEN, metadata=replace(SEVEN.metadata, engine="loadgen"))
    found = compare([SMALL, loadgen], allow=("engine",))
    assert (found.isolation, found.scaling) == ((), ())
    assert len(found.fairness) == 1
    assert "engine asyncio and loadgen" in str(found)


def test_relations_to_what_is_invalid_are_marked() -> None:
    bad = result("2x1g", [("1g.10gb", (300.0,) * 3)] * 2, run_fields={"valid": False})
    found = compare([SMALL, bad])
    assert [entry.valid for entry in (*found.fairness, *found.isolation, *found.scaling)] == [False, False, True, False]


def test_worst_instance_gives_the_latency_of_a_row() -> None:
    runs = list(MIXED.repeats[0].instances)
    assert runs[2].latency is not None
    runs[2] = replace(runs[2], latency=replace(runs[2].latency, p99=40.0))
    found = compare([replace(MIXED, repeats=(replace(MIXED.repeats[0], instances=tuple(runs)),))])
    assert found.rows[0].latency is not None
    assert found.rows[0].latency.p99 == 40
    assert found.rows[0].latency.p50 == 4


def test_cost_and_energy_of_a_million() -> None:
    found = compare([WHOLE, MIXED, SMALL], cost_per_gpu_hour=3.6)
    assert found.row("7g").cost_per_million == pytest.approx(3.6 / 3600 / 2000 * 1e6)
    assert found.row("7g").energy_per_million_wh == pytest.approx(4000 / 8000 * 1e6 / 3600)
    assert found.row("1g").energy_per_million_wh is None
    assert "cost per million" in str(found)
    assert "cost per million" not in str(compare([WHOLE]))
    four = compare(table(("vT4x4", "T4-16Q", [100.0] * 4)), cost_per_gpu_hour=3.6)
    assert four.rows[0].cost_per_million == pytest.approx(4 * 3.6 / 3600 / 400 * 1e6)
    half = result("7g", {"7g.80gb": (1.0,)}, energy_j=4000.0, run_fields={"failed": 500})
    assert compare([half]).rows[0].energy_per_million_wh == pytest.approx(4000 / 4000 * 1e6 / 3600)
    with pytest.raises(SpecError, match="cost_per_gpu_hour"):
        compare([WHOLE], cost_per_gpu_hour=-1.0)


# -- outputs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_of_them() -> Comparison:
    return compare([WHOLE, SMALL, MIXED, SEVEN, INVALID], cost_per_gpu_hour=3.6)


def test_text_shows_every_table(all_of_them: Comparison) -> None:
    text = all_of_them.to_text(width=160)
    for words in (
        "against 7g",
        "fairness between equal",
        "isolation: with busy",
        "scaling of equal",
        "baseline",
        "best: 4g+2g+1g",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 160
    assert str(all_of_them).count("\n") >= text.count("\n")


def test_csv_holds_numbers_in_full(all_of_them: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(all_of_them.to_csv())))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 5 + 1 + 1 + 3 + 7 + 2
    systems = {row["scenario"]: row for row in rows if not row["instance"]}
    changed = all_of_them.row("4g+2g+1g").change
    assert changed is not None
    assert float(systems["4g+2g+1g"]["change"]) == changed.relative
    assert systems["7g"]["change"] == ""
    assert [row["valid"] for row in rows if row["scenario"] == "2x3g"] == ["no"] * 3
    assert {row["device"] for row in rows} == {"gpu"}


def test_data_is_json(all_of_them: Comparison) -> None:
    data = json.loads(json.dumps(all_of_them.to_data(), allow_nan=False))
    assert (data["baseline"], data["best"], data["label"]) == ("7g", "4g+2g+1g", "")
    assert [row["name"] for row in data["scenarios"]] == ["7g", "1g", "4g+2g+1g", "7x1g", "2x3g"]
    assert len(data["scenarios"][3]["instances"]) == 7


def test_html_is_escaped() -> None:
    odd = replace(MIXED, metadata=replace(metadata("<i>odd</i>", MIXED.metadata.profiles), model="<b>net</b>"))
    page = compare([odd])._repr_html_()
    assert "<i>" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;net&lt;/b&gt;" in page


@pytest.mark.parametrize(("device", "label"), [("cpu-slices", "CPU slices, not a GPU"), ("emulated", "emulated, not measured")])
def test_stand_ins_are_labelled_in_every_output(device: str, label: str) -> None:
    found = compare([replace(one, metadata=replace(one.metadata, device=device)) for one in (WHOLE, MIXED)])
    for text in (str(found), found._repr_html_(), json.dumps(found.to_data())):
        assert label in text
    assert f",{device}," in found.to_csv()
    mixed = compare([WHOLE, replace(MIXED, metadata=replace(MIXED.metadata, device=device))], allow=("device",))
    assert label in str(mixed)


def test_each_row_is_labelled_where_devices_differ() -> None:
    stand_ins = [replace(MIXED, metadata=replace(MIXED.metadata, device="emulated"))]
    lines = compare([WHOLE, *stand_ins], allow=("device",)).to_text(width=200).splitlines()
    summary = [line for line in lines if "│" in line][:2]
    assert ["emulated, not measured" in line for line in summary] == [False, True]


def test_comparing_loads_neither_plots_nor_planner() -> None:
    program = (
        "import sys, benchmarks.comparing\n"
        "print([n for n in ('scipy', 'matplotlib', 'ortools', 'partitioner.performance') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
