"""Results: figures over repeats, files that give the same value back, and refusal of files that were not written so."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_results import metadata, result, with_latencies
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import BenchmarkError, IncomparableError
from benchmarks.results import InstanceRun, Latencies, Repeat, Result
from benchmarks.results.form import schema
from partitioner.errors import SpecError

MIXED = result(
    "4g+2g+1g",
    [("4g.40gb", (1000.0, 1010.0, 990.0)), ("2g.20gb", (500.0, 505.0, 495.0)), ("1g.10gb", (250.0, 251.0, 249.0))],
    energy_j=3000.0,
)
EMULATED = result("7g", {"7g.80gb": (100.0,)}, device="emulated")
SLICES = result("7g", {"7g.80gb": (100.0,)}, device="cpu-slices")


def broken(reason: str = "p99 is 17 ms, above 15 ms", advice: str = "lower the rate") -> Result:
    """Return a result whose second instance was INVALID in two of three repeats."""
    repeats = []
    for number, repeat in enumerate(MIXED.repeats):
        runs = list(repeat.instances)
        if number != 1:
            runs[1] = replace(runs[1], valid=False, reasons=(reason,), advice=(advice,))
        repeats.append(replace(repeat, instances=tuple(runs)))
    return replace(MIXED, repeats=tuple(repeats))


# -- figures -----------------------------------------------------------------------------------------------------------


def test_system_is_the_sum_of_instances_and_mean_of_repeats() -> None:
    assert MIXED.system_throughput == pytest.approx(1750)
    assert MIXED.spread == pytest.approx(np.std([1750, 1766, 1734], ddof=1) / 1750)
    assert [entry.instance for entry in MIXED.instances] == ["4g.40gb", "2g.20gb", "1g.10gb"]
    assert sum(entry.throughput_per_s for entry in MIXED.instances) == pytest.approx(MIXED.system_throughput)
    assert MIXED.instances[1].spread == pytest.approx(0.01)
    assert MIXED.valid
    assert MIXED.reasons == ()
    assert MIXED.n_gpus == 1


def test_instances_add_up_within_the_common_window() -> None:
    found = result("2g+2g", [("2g.20gb", (100.0,)), ("2g.20gb", (100.0,))], run_fields={"window_throughput_per_s": 90.0})
    assert found.system_throughput == 180
    assert [entry.throughput_per_s for entry in found.instances] == [90, 90]


def test_latency_is_the_mean_of_repeats_that_answered() -> None:
    repeats = list(MIXED.repeats)
    first, *others = repeats[0].instances
    repeats[0] = replace(repeats[0], instances=(replace(first, latency=None), *others))
    third, *rest = repeats[2].instances
    repeats[2] = replace(repeats[2], instances=(replace(third, latency=Latencies(*[30.0] * 8)), *rest))
    found = replace(MIXED, repeats=tuple(repeats))
    assert found.instances[0].latency is not None
    assert found.instances[0].latency.p99 == pytest.approx(20)
    silent = result("7g", {"7g.80gb": (0.0,)}, run_fields={"latency": None})
    assert silent.instances[0].latency is None
    assert silent.spread == 0


def test_reasons_name_instance_and_repeats_once() -> None:
    found = broken()
    assert not found.valid
    assert found.reasons == ("2g.20gb, repeat 1, 3: p99 is 17 ms, above 15 ms",)
    assert found.advice == ("lower the rate",)
    assert [entry.valid for entry in found.instances] == [True, False, True]


def test_invalid_without_a_reason_still_says_so() -> None:
    found = result("7g", {"7g.80gb": (1.0,)}, run_fields={"valid": False})
    assert found.reasons == ("7g.80gb, repeat 1: no reason was given",)


@pytest.mark.parametrize(
    ("found", "label"), [(MIXED, ""), (SLICES, "CPU slices, not a GPU"), (EMULATED, "emulated, not measured")]
)
def test_every_output_carries_the_label(found: Result, label: str) -> None:
    assert found.label == label
    for text in (str(found), found._repr_html_(), found.to_json()):
        assert label in text
        assert ("not a GPU" in text or "not measured" in text) == bool(label)


def test_text_and_html_tell_why_it_is_invalid() -> None:
    found = broken(reason="answer <b>wrong</b>")
    assert "INVALID: 2g.20gb, repeat 1, 3: answer <b>wrong</b>" in str(found)
    assert "1,750 samples/s, INVALID" in str(found)
    assert "advice: lower the rate" in str(found)
    assert "<b>wrong" not in found._repr_html_()
    assert "&lt;b&gt;wrong" in found._repr_html_()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [MIXED, EMULATED, broken(), result("7g", {"7g.80gb": (0.0,)}, run_fields={"latency": None})])
def test_load_gives_what_save_wrote(found: Result, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    found.save(path)
    assert Result.load(path) == found
    assert Result.from_json(found.to_json()) == found
    assert Result.load(path).to_json() == found.to_json() == path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


_floats = st.floats(0, 1e12)
_texts = st.text(max_size=12)
_runs = st.builds(
    InstanceRun,
    instance=st.just("7g.80gb"),
    profile=st.just("7g.80gb"),
    valid=st.booleans(),
    throughput_per_s=_floats | st.integers(0, 10**6),
    window_throughput_per_s=_floats,
    latency=st.none() | st.builds(Latencies, *[_floats] * 8),
    queries=st.integers(0, 10**9),
    samples=st.integers(0, 10**9),
    failed=st.integers(0, 10**9),
    duration_s=_floats,
    gpu=st.integers(0, 15),
    host=st.none() | _texts,
    reasons=st.lists(_texts, max_size=2).map(tuple),
    advice=st.lists(_texts, max_size=2).map(tuple),
    rate_per_s=st.none() | _floats,
    slip_p99_ms=st.floats(-1e3, 1e3),
    gpu_metrics=st.dictionaries(_texts, st.floats(-1e6, 1e6), max_size=2),
    facts=st.dictionaries(_texts, _texts, max_size=2),
)
_repeats = st.builds(
    Repeat,
    seed=st.integers(),
    began=_texts,
    window_s=_floats,
    overlap=st.floats(0, 1),
    start_skew_ms=_floats,
    instances=st.tuples(_runs),
    energy_j=st.none() | _floats,
)


@given(
    st.lists(_repeats, min_size=1, max_size=3),
    st.dictionaries(_texts, _texts, max_size=3),
    st.dictionaries(_texts, st.none() | st.integers(0, 9) | st.floats(0, 9), max_size=3),
)
def test_any_result_survives_its_file(repeats: list[Repeat], software: dict[str, str], rules: dict[str, float | None]) -> None:
    how = metadata("7g", ["7g.80gb"], software=software, rules=rules)
    found = Result(how, tuple(repeats))
    again = Result.from_json(found.to_json())
    assert again == found
    assert again.to_json() == found.to_json()


def test_the_order_of_facts_does_not_change_the_bytes() -> None:
    one = result("7g", {"7g.80gb": (1.0,)}, software={"a": "1", "b": "2"}, run_fields={"facts": {"x": "1", "y": "2"}})
    other = result("7g", {"7g.80gb": (1,)}, software={"b": "2", "a": "1"}, run_fields={"facts": {"y": "2", "x": "1"}})
    assert one.to_json() == other.to_json()


def test_numbers_of_numpy_and_broken_text_can_be_saved(tmp_path: Path) -> None:
    fields = {"throughput_per_s": np.float64(2.5), "queries": np.int64(3), "valid": np.bool_(False), "reasons": ("\udc80 bad",)}
    found = result("7g", {"7g.80gb": (2.5,)}, run_fields=fields)
    found.save(tmp_path / "r.json")
    again = Result.load(tmp_path / "r.json")
    assert again == found
    assert type(again.repeats[0].instances[0].queries) is int


def changed(**fields: object) -> str:
    """Return the JSON of a result with fields changed, by dotted path with numbers."""
    data = json.loads(MIXED.to_json())
    for path, value in fields.items():
        place: object = data
        *parents, last = path.split("__")
        for key in parents:
            place = place[int(key) if key.isdigit() else key]  # type: ignore[index]
        if value is None:
            del place[last]  # type: ignore[attr-defined]
        else:
            place[last] = value  # type: ignore[index]
    return json.dumps(data, indent=1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": "gpu-partitioner/plan"}, "not a result of a benchmark"),
        ({"version": 2}, "version 2 of the format; this release reads 1"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"metadata__gpu": None}, "field 'gpu' is missing"),
        ({"metadata__device": "tpu"}, "metadata.device"),
        ({"metadata__batch": "8"}, "metadata.batch"),
        ({"metadata__batch": 0}, "greater than or equal to 1"),
        ({"metadata__mode": "burst"}, "metadata.mode"),
        ({"repeats": []}, "repeats"),
        ({"repeats__1__instances__2__queries": -1}, r"repeats\[1\].instances\[2\].queries"),
        ({"repeats__1__instances__2__valid": "yes"}, r"repeats\[1\].instances\[2\].valid"),
        ({"repeats__0__instances__0__instance": "1g.10gb"}, "every repeat has the same ones"),
        ({"repeats__1__instances": []}, r"repeats\[1\].instances"),
        ({"metadata__profiles": ["7g.80gb"]}, "with the profiles of the metadata: 7g.80gb"),
        ({"valid": False}, "the repeats say"),
        ({"label": "emulated, not measured"}, "the repeats say"),
        ({"metadata__device": "emulated"}, "the repeats say"),
        ({"system_throughput_per_s": 9999.0}, "9999.0"),
        ({"repeats__1__instances__0__window_throughput_per_s": 2000.0}, "the repeats say"),
        ({"latencies": {"name": "../x.npz", "sha256": "0" * 64}}, "latencies.name"),
    ],
)
def test_a_file_that_was_changed_is_refused(fields: dict[str, object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(changed(**fields))
    with pytest.raises(SpecError, match=words) as caught:
        Result.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "gpu-partitioner/bench-result", "version": 1}', "null", '"x"'])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        Result.from_json(text)


def test_a_problem_names_its_line() -> None:
    with pytest.raises(SpecError) as caught:
        Result.from_json(changed(metadata__batch=-1), origin="r.json")
    line = changed(metadata__batch=-1).splitlines().index('  "batch": -1,') + 1
    assert caught.value.problems[0].line == line


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_figure_that_is_none_is_not_written(value: float, tmp_path: Path) -> None:
    found = result("7g", {"7g.80gb": (1.0,)}, run_fields={"throughput_per_s": value})
    with pytest.raises(SpecError, match=r"result 7g: repeats\[0\].instances\[0\].throughput_per_s"):
        found.save(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_schema_is_strict() -> None:
    assert schema()["additionalProperties"] is False


# -- latencies of single queries ---------------------------------------------------------------------------------------


def arrays(found: Result) -> list[np.ndarray]:
    return [entry.latencies_ms for repeat in found.repeats for entry in repeat.instances]


def test_latencies_come_back_bit_by_bit(tmp_path: Path) -> None:
    found = with_latencies(MIXED)
    found.save(tmp_path / "r.json")
    again = Result.load(tmp_path / "r.json")
    for before, after in zip(arrays(found), arrays(again), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.dtype == np.float64
    assert np.isnan(arrays(again)[0][0])
    assert all(values is None for values in arrays(Result.load(tmp_path / "r.json", latencies=False)))


def test_same_latencies_same_bytes_and_older_ones_go(tmp_path: Path) -> None:
    path, other = tmp_path / "r.json", tmp_path / "r.keep.npz"
    other.write_bytes(b"somebody's")
    with_latencies(MIXED, seed=1).save(path)
    (first,) = set(tmp_path.glob("r.*.npz")) - {other}
    raw, text = first.read_bytes(), path.read_bytes()
    with_latencies(MIXED, seed=2).save(path)
    assert not first.exists()
    with_latencies(MIXED, seed=1).save(path)
    assert (first.read_bytes(), path.read_bytes()) == (raw, text)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, first.name, other.name}
    MIXED.save(path)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, other.name}


def test_a_wrong_file_of_latencies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with_latencies(MIXED).save(path)
    (npz,) = tmp_path.glob("*.npz")
    npz.write_bytes(npz.read_bytes()[:-1] + b"x")
    with pytest.raises(SpecError, match="its digest differs"):
        Result.load(path)
    npz.unlink()
    with pytest.raises(SpecError, match=r"put the file beside the result,.*latencies=False"):
        Result.load(path)
    assert Result.load(path, latencies=False) == MIXED


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "r.json"
    with_latencies(MIXED).save(path)
    (npz,) = tmp_path.glob("*.npz")
    np.savez(npz, **{"repeat0.instance0": np.array([object()])})
    digest = hashlib.sha256(npz.read_bytes()).hexdigest()
    data = json.loads(path.read_text())
    data["latencies"]["sha256"] = digest
    path.write_text(json.dumps(data))
    with pytest.raises(SpecError, match="no NPZ file of latencies"):
        Result.load(path)


def test_a_link_leads_to_both_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real" / "r.json")
    with_latencies(MIXED).save(link)
    assert {p.suffix for p in (tmp_path / "real").iterdir()} == {".json", ".npz"}
    assert arrays(Result.load(link))[0] is not None


# -- faults ------------------------------------------------------------------------------------------------------------


def test_full_disk_keeps_the_old_result(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    EMULATED.save(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        for found in (MIXED, with_latencies(MIXED)):
            with pytest.raises(BenchmarkError, match=r"cannot be written.*still stands; make room"):
                found.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("where", ["missing/r.json", "."])
def test_a_place_that_cannot_be_written(where: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="cannot be written"):
        with_latencies(MIXED).save(tmp_path / where)
    assert list(tmp_path.iterdir()) == []


def test_a_full_device(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="No space left"):
        with_latencies(MIXED).save("/dev/full")
    assert not list(Path("/dev").glob("full.*"))


def test_a_kill_while_saving_leaves_an_old_or_a_new_result(tmp_path: Path) -> None:
    """A process saves two results in turn until it is killed; whatever stands then can be loaded with its latencies."""
    path = tmp_path / "r.json"
    program = (
        "import sys\nfrom bench_results import result, with_latencies\n"
        "found = [with_latencies(result('7g', {'7g.80gb': (rate,)}), seed=int(rate)) for rate in (1.0, 2.0)]\n"
        f"found[0].save({os.fspath(path)!r}); print('on', flush=True)\n"
        f"while True:\n    for entry in found:\n        entry.save({os.fspath(path)!r})\n"
    )
    folders = [os.fspath(Path(__file__).parent), os.fspath(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    for pause_s in (0.0, 0.013, 0.031, 0.057):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=pause_s)
        process.kill()
        process.wait()
        process.stdout.close()
        found = Result.load(path)
        expected = with_latencies(found, seed=int(found.system_throughput))
        np.testing.assert_array_equal(arrays(found)[0], arrays(expected)[0])
    MIXED.save(path)
    assert not list(tmp_path.glob("*.npz"))


# -- points ------------------------------------------------------------------------------------------------------------


def test_points_tell_busy_from_alone_by_gpu() -> None:
    found = result(
        "7g|4g+2g",
        [("7g.80gb", (2000.0,)), ("4g.40gb", (1000.0,)), ("2g.20gb", (500.0,))],
    )
    (repeat,) = found.repeats
    first, *others = repeat.instances
    found = replace(found, repeats=(replace(repeat, instances=(replace(first, gpu=1), *others)),))
    assert {(p.profile, p.busy, p.error) for p in found.points()} == {
        ("7g.80gb", False, None),
        ("4g.40gb", True, None),
        ("2g.20gb", True, None),
    }
    assert found.n_gpus == 2


def test_a_stream_has_the_batch_of_its_queries() -> None:
    (point,) = result("7g", {"7g.80gb": (400.0,)}, mode="multi_stream").points()
    assert (point.batch, point.latency_ms, point.scenario) == (8, 20.0, "")
    (point,) = result("7g", {"7g.80gb": (400.0,)}, mode="single_stream", run_fields={"samples": 1000}).points()
    assert (point.batch, point.latency_ms) == (1, 2.5)
    uneven = result("7g", {"7g.80gb": (400.0,)}, mode="multi_stream", run_fields={"samples": 8001})
    with pytest.raises(IncomparableError, match="not of one size"):
        uneven.points()


@pytest.mark.parametrize(
    ("fields", "facts", "batch"),
    [
        ({"concurrency": 1}, {}, 8),
        ({"concurrency": 2}, {"model_instances": "1 x KIND_GPU"}, 8),
        ({"concurrency": 2}, {"model_instances": "2 x KIND_CPU"}, None),
        ({"concurrency": 2}, {"model_instances": "1 x KIND_CPU, 1 x KIND_GPU"}, None),
        ({"concurrency": 4}, {}, None),
        ({"concurrency": 4}, {"max_batch": "64"}, None),
        ({"concurrency": 5}, {"max_batch": "24"}, None),
        ({"concurrency": 6}, {"max_batch": "24"}, 24),
        ({"concurrency": 4}, {"max_batch": "23"}, 16),
        ({"concurrency": 4}, {"max_batch": "4"}, None),
        ({"concurrency": 4}, {"max_batch": "15"}, 8),
        ({"concurrency": 4, "servers": "inprocess"}, {}, 8),
    ],
)
def test_a_server_that_puts_requests_together_hides_its_batches(
    fields: dict[str, object], facts: dict[str, str], batch: int | None
) -> None:
    (point,) = result("7g", {"7g.80gb": (400.0,)}, run_fields={"facts": facts}, **fields).points()
    assert (point.batch, point.scenario) == (batch, "" if batch else "offline")
    assert (point.latency_ms is None) == (batch is None)


def test_values_import_no_planner() -> None:
    """A process that only measures loads the values; laws, tables and SciPy would only cost it time."""
    program = (
        "import sys, benchmarks.results\nprint([n for n in ('scipy', 'partitioner.performance', 'rich') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
