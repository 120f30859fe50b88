"""The report of a comparison: plots that say what was measured, one page that needs nothing else."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_results import result
from bench_table_2 import spoilt, table_2

from benchmarks.comparing import compare
from benchmarks.errors import IncomparableError
from benchmarks.reporting import plots, report, save_report
from benchmarks.reporting.curves import curve
from benchmarks.reporting.plots_axes import svg
from benchmarks.reporting.tables import circumstances, gpu_metrics, quality
from partitioner.errors import SpecError

EVIL = '<b o$x^$"</b>'  # short enough to stand in full in a plot


def texts(ax):
    return [text.get_text() for text in ax.texts]


def bars(ax, row):
    return [bar for bar in ax.patches if abs(bar.get_y() + bar.get_height() / 2 - row) < 0.01]


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def eight():
    return table_2()


# -- throughput ---------------------------------------------------------------------------------------------------------


def test_bars_are_stacked_by_instance_and_add_up_to_the_system(eight):
    ax = plots.throughput(eight)
    for row, measured in enumerate(eight):
        parts = bars(ax, row)
        assert [part.get_width() for part in parts] == pytest.approx([i.throughput_per_s for i in measured.instances])
        assert [part.get_x() for part in parts[1:]] == pytest.approx([p.get_x() + p.get_width() for p in parts[:-1]])
        assert parts[-1].get_x() + parts[-1].get_width() == pytest.approx(measured.system_throughput)
    assert [label.get_text() for label in ax.get_yticklabels()] == [r.metadata.scenario for r in eight]
    assert "29,905" in texts(ax)
    assert "31,689 (+6.0%)" in texts(ax)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first scenario stands on top


def test_equal_profiles_have_equal_colours_in_all_scenarios(eight):
    ax = plots.throughput(eight)
    ones = {part.get_facecolor() for part in (*bars(ax, 7), *bars(ax, 4), bars(ax, 5)[2])}
    assert len(ones) == 1
    assert ones != {bars(ax, 0)[0].get_facecolor()}


def test_what_is_invalid_is_hatched_and_named(eight):
    ax = plots.throughput([*eight[:5], spoilt(eight[5], instance=1)])
    assert [bool(part.get_hatch()) for part in bars(ax, 5)] == [False, True, False]
    assert [text for text in texts(ax) if text.endswith("INVALID")] == ["31,689 (+6.0%) INVALID"]


def test_the_baseline_is_the_comparison_s(eight):
    assert "29,905 (-5.6%)" in texts(plots.throughput(compare(eight, "4g+2g+1g")))


# -- latency ------------------------------------------------------------------------------------------------------------


def runs_of(measured):
    return [run for repeat in measured.repeats for run in repeat.instances]


def test_the_curve_is_that_of_all_queries_of_all_instances(eight):
    found = curve(runs_of(eight[6]))
    together = np.concatenate([run.latencies_ms for run in runs_of(eight[6])])
    for share in (0.5, 0.9, 0.99):
        assert np.interp(share, found.shares, found.latency_ms) == pytest.approx(np.quantile(together, share), rel=0.01)
    assert found.exact


def test_failed_queries_never_were_answered(eight):
    (run, *_) = runs_of(eight[0])
    values = run.latencies_ms.copy()
    values[::10] = np.nan
    found = curve([replace(run, latencies_ms=values)])
    assert found.shares[-1] == pytest.approx(0.9, abs=0.011)
    assert np.isfinite(found.latency_ms).all()
    assert curve([replace(run, latencies_ms=np.full(5, np.nan), queries=5)]) is None
    assert curve([replace(run, latencies_ms=None, latency=None)]) is None


def test_without_single_queries_percentiles_are_joined(eight):
    exact = curve(runs_of(eight[5]))
    joined = curve(runs_of(table_2(kept=False)[5]))
    assert not joined.exact
    for share in (0.2, 0.5, 0.9, 0.99):
        values = [np.interp(share, found.shares, found.latency_ms) for found in (exact, joined)]
        assert values[1] == pytest.approx(values[0], rel=0.05)


def test_a_line_for_each_scenario_or_instance_and_the_bound_of_a_server(eight):
    assert len(plots.latency(eight).lines) == 8
    by_instance = plots.latency([eight[7]], by="instance")
    assert [line.get_label() for line in by_instance.lines] == [entry.instance for entry in eight[7].instances]
    server = plots.latency(table_2(mode="server")[:1])
    assert server.lines[1].get_xdata() == [15.0, 15.0]
    assert server.get_xlim()[1] >= 30
    with pytest.raises(SpecError, match="known: scenario, instance"):
        plots.latency(eight, by="gpu")


# -- scaling and prediction ---------------------------------------------------------------------------------------------


def test_scaling_is_drawn_against_the_ideal(eight):
    ax = plots.scaling(eight)
    (label,) = ax.get_legend_handles_labels()[1]
    share = eight[7].system_throughput / (7 * eight[4].system_throughput)
    assert label == f"1g.10gb: {share:.0%} of ideal at 7"
    with pytest.raises(SpecError, match="two different numbers"):
        plots.scaling([*eight[:7], spoilt(eight[7])])  # one number is left that counts


def test_predictions_stand_beside_measurements(eight):
    ax = plots.prediction(eight[:2], {"7g": (30_000.0, 0.05)})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["7g"]
    assert texts(ax) == [f"{eight[0].system_throughput / 30_000 - 1:+.1%}"]
    with pytest.raises(SpecError, match="calibration"):
        plots.prediction(eight, {})


# -- pictures -----------------------------------------------------------------------------------------------------------


def test_plots_leave_the_user_s_settings_and_figure_alone():
    out = run_python(
        "import matplotlib, sys; matplotlib.use('pdf'); matplotlib.rcParams['font.size'] = 33\n"
        "before = dict(matplotlib.rcParams)\n"
        "from matplotlib.figure import Figure\n"
        "from bench_table_2 import table_2\n"
        "from benchmarks.reporting import plots, report\n"
        "results, mine = table_2(n_queries=20), Figure().subplots(1, 2)\n"
        "for draw in (plots.throughput, plots.latency, plots.scaling):\n"
        "    assert draw(results, ax=mine[0]) is mine[0]\n"
        "    mine[0].figure.canvas.draw(); mine[0].clear()\n"
        "report(results)\n"
        "print(dict(matplotlib.rcParams) == before, matplotlib.get_backend(), 'matplotlib.pyplot' in sys.modules)\n"
    )
    assert out.split() == ["True", "pdf", "False"]


def test_the_same_results_give_the_same_bytes_in_every_process(eight):
    code = (
        "from bench_table_2 import table_2\nfrom benchmarks.reporting import report\nimport hashlib\n"
        "print(hashlib.sha256(report(table_2()).encode()).hexdigest())"
    )
    import hashlib

    assert run_python(code).strip() == hashlib.sha256(report(eight).encode()).hexdigest()


def test_an_svg_file_is_whole_and_carries_no_date(eight):
    text = svg(plots.throughput(eight), name="t")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--" not in text
    assert "dc:date" not in text


# -- the page -----------------------------------------------------------------------------------------------------------


def parsed(page):
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def test_the_page_is_well_formed_and_loads_nothing(eight):
    page = report(eight)
    root = parsed(page)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[\w.-]+", each) for each in ids)  # what needs no escape in url(#...)
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page)) <= set(ids)
    assert not re.search(r"<script|<link|<img|\ssrc=|@import|url\(['\"]?(?!#)", page)
    assert set(re.findall(r"https?://[^\"' )<]+", page)) <= {"http://www.w3.org/1999/xlink"}
    assert len(root.findall(".//figure")) == 5
    headings = [element.text for element in root.iter("h2")]
    for wanted in (
        "Scenarios",
        "Instances",
        "Fairness",
        "Isolation",
        "Scaling",
        "Prediction",
        "GPU metrics",
        "Quality",
        "How it",
    ):
        assert any(heading.startswith(wanted) for heading in headings), wanted


def test_the_page_says_who_is_best_what_it_costs_and_what_energy_it_takes(eight):
    page = report(compare(eight, cost_per_gpu_hour=2.5))
    assert "Best: 4g+2g+1g with 31,689 samples/s" in page
    assert "cost per million" in page
    assert "Wh per million" in page
    assert "INVALID" not in page


def test_invalid_results_stand_with_reasons_and_advice(eight):
    page = report([*eight[:7], spoilt(eight[7], instance=2)])
    assert "7x1g is INVALID: it does not count" in page
    assert "1g.10gb#3, repeat 2: p99 was 18.2 ms, above the bound of 15 ms" in page
    assert "What to do: ask for fewer queries a second" in page
    assert page.count('<b class="invalid">INVALID</b>') >= 3


@pytest.mark.parametrize(("device", "label"), [("cpu-slices", "CPU slices, not a GPU"), ("emulated", "emulated, not measured")])
def test_stand_ins_are_named_in_a_banner_and_in_every_plot(device, label):
    results = table_2(device=device, n_queries=100)
    root = parsed(report(results))
    (banner,) = [box for box in root.iter("div") if box.get("class") == "box note"]
    assert label in "".join(banner.itertext())
    for figure in root.iter("figure"):
        assert label in "".join(figure.itertext())
    named = plots.throughput(results), plots.latency(results), plots.scaling(results), plots.prediction(results, {"7g": (1.0, 0)})
    assert all(label in ax.get_title(loc="left") for ax in named)
    title = root.findtext(".//h1")
    assert title != report(table_2(n_queries=10)[:1]).partition("<h1>")[2].partition("</h1>")[0]


def test_measurements_on_a_gpu_carry_no_label(eight):
    page = report(eight)
    assert "not a GPU" not in page
    assert 'class="box note"' not in page


def test_names_are_text_and_never_markup_or_formulas():
    found = result(EVIL, [(EVIL, (100.0, 101.0)), (EVIL, (100.0, 99.0))], software={EVIL: EVIL}, model=EVIL)
    page = report([found], title=EVIL)
    root = parsed(page)
    assert not list(root.iter("b"))
    assert root.findtext(".//h1") == EVIL
    drawn = ["".join(text.itertext()) for text in root.iter("text")]
    assert any(EVIL in text for text in drawn)


def test_long_names_are_shortened_in_plots_and_stand_in_full_in_tables(eight):
    name = "4g+2g+1g, a scenario with a name for which no plot has room, on host-17"
    page = report([replace(eight[5], metadata=replace(eight[5].metadata, scenario=name))])
    root = parsed(page)
    assert max(len("".join(text.itertext())) for text in root.iter("text")) < 60
    assert any(cell.text == name for cell in root.iter("td"))


def test_names_are_no_formulas_on_axes_of_the_user_either():
    from matplotlib.figure import Figure

    mine = Figure().subplots()
    mine.set_yticks([0, 1], ["a", "b"])
    plots.throughput([result(EVIL, [(EVIL, (100.0,))])], ax=mine)
    mine.figure.canvas.draw()
    (label,) = mine.get_yticklabels()
    assert label.get_text() == EVIL


def test_results_that_were_not_measured_alike_are_refused(eight):
    other = table_2(model="bert-99", n_queries=10)[1]
    with pytest.raises(IncomparableError):
        report([eight[0], other])
    with pytest.raises(SpecError, match="no results"):
        report([])


def test_a_scenario_that_answered_nothing_is_reported_all_the_same():
    (found, *_) = table_2(n_queries=10, energy=False)
    dead = {"valid": False, "reasons": ("the server died",), "advice": ("read its log",), "latency": None, "latencies_ms": None}
    dead |= {"throughput_per_s": 0.0, "window_throughput_per_s": 0.0, "failed": 10}
    repeats = [replace(r, instances=tuple(replace(run, **dead) for run in r.instances)) for r in found.repeats]
    page = report([replace(found, repeats=tuple(repeats))])
    assert "the server died" in page
    assert "every result is INVALID" in page


def test_one_result_makes_a_report(eight):
    page = report(eight[:1], title="Only one")
    assert "<h1>Only one</h1>" in page
    assert len(parsed(page).findall(".//figure")) == 3


def test_several_comparisons_stand_one_after_the_other(eight):
    other = table_2(model="bert-99", n_queries=20)
    page = report([compare(eight), compare(other)], title="A study")
    root = parsed(page)
    assert [part.text for part in root.iter("h2")] == ["resnet50, offline, on A100-80GB", "bert-99, offline, on A100-80GB"]
    assert [heading.text for heading in root.iter("h3")].count("Scenarios") == 2
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page)) <= set(ids)


def test_a_prediction_that_cannot_be_is_said_and_not_drawn():
    unknown = report(table_2(model="no-such-model", n_queries=10)[:1])
    assert "No prediction:" in unknown
    assert "no-such-model" in unknown
    elsewhere = report(table_2(gpu="Z9000", n_queries=10)[:1])
    assert "No prediction:" in elsewhere
    slices = report(table_2(device="cpu-slices", n_queries=10)[:1])
    assert "calibration is of GPUs" in slices


def test_own_measurements_as_calibration_predict_themselves(eight):
    from partitioner.performance import Calibration

    own = Calibration.from_results(eight)
    page = report(eight, calibration=own)
    rows = page.partition("Prediction against measurement</h2>")[2].partition("</table>")[0]
    assert rows.count("<td>yes</td>") == 8, rows


def test_tables_of_how_it_was_measured(eight):
    comparison = compare(eight)
    worst = quality(comparison)[7]
    assert (worst["queries"], worst["failed"], worst["repeats"]) == ("42,000", "0", "3")
    assert worst["CPU of the client [µs/request]"] == "92"
    seen = gpu_metrics(comparison)
    assert len(seen) == 19
    assert seen[0]["SM active"] == "93.0%"
    assert seen[0]["power of the whole GPU [W]"] == "284"
    lines = circumstances(comparison)
    assert {"what": "software: triton", "value": "2.51", "where": ""} in lines
    assert {"what": "rule latency_bound_ms", "value": "15", "where": ""} in lines


def test_what_differs_between_scenarios_says_where(eight):
    other = replace(eight[1], metadata=replace(eight[1].metadata, software={"triton": "2.52"}))
    comparison = compare([eight[0], other], allow=["software"])
    values = {line["value"]: line["where"] for line in circumstances(comparison) if line["what"] == "software: triton"}
    assert values == {"2.51": "7g", "2.52": "4g"}
    assert "allowed to differ" in report(comparison)


def test_figures_of_the_driver_alone_say_why_there_is_no_utilisation():
    (found, *_) = table_2(n_queries=10)
    repeats = [
        replace(r, instances=tuple(replace(run, gpu_metrics={"gpu_power_w": 250.0}) for run in r.instances))
        for r in found.repeats
    ]
    page = report([replace(found, repeats=tuple(repeats))])
    assert "DCGM_FI_PROF_*" in page
    assert "DCGM_FI_PROF_*" not in report([found])


# -- files and imports --------------------------------------------------------------------------------------------------


def test_a_report_is_written_as_a_whole_or_not_at_all(tmp_path, eight):
    path = tmp_path / "report.html"
    save_report(eight[:2], path)
    written = path.read_text(encoding="utf-8")
    assert written == report(eight[:2])
    with pytest.raises(SpecError, match="cannot be written"):
        save_report(eight[:2], tmp_path / "no-such-folder" / "report.html")
    with pytest.raises(IncomparableError):
        save_report([eight[0], eight[0]], path)
    assert path.read_text(encoding="utf-8") == written


def test_importing_loads_no_heavy_library_and_a_missing_one_is_named():
    out = run_python(
        "import sys, benchmarks.reporting\n"
        "print([name for name in ('matplotlib', 'scipy', 'ortools') if name in sys.modules])\n"
        "sys.modules['matplotlib'] = None\n"
        "from bench_table_2 import table_2\nfrom benchmarks.errors import BenchmarkError\n"
        "try: benchmarks.reporting.report(table_2(n_queries=5)[:1])\n"
        "except BenchmarkError as error: print(error)\n"
    )
    assert out.splitlines()[0] == "[]"
    assert "pip install 'gpu-partitioner[bench]'" in out
