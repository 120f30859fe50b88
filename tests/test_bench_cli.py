"""`partitioner bench`: every command, its exit codes, and what it says of bad input. Servers are emulated, and runs short."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench_results import result

from benchmarks.models.model import LATENCY_BOUNDS_MS
from benchmarks.results import Result
from benchmarks.runner import Progress, run_study
from benchmarks.scenarios import TABLE_2, Study
from benchmarks.servers.scratch import Scratch
from partitioner.cli import main
from partitioner.performance import Calibration

QUICK = ("--servers", "emulated", "--duration", "0.3", "--warmup", "0.1", "--repeats", "1")
COMMANDS = ("list", "schema", "run", "resume", "max-rate", "compare", "report", "calibrate", "export-mlperf")
HEAVY = (
    "tritonclient",
    "grpc",
    "mlperf_loadgen",
    "onnx",
    "onnxruntime",
    "torch",
    "ray",
    "matplotlib",
    "scipy",
    "prometheus_client",
    "ortools",
    "numpy",
)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["partitioner", "bench", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return call


def study_file(folder: Path, **fields: object) -> Path:
    path = folder / "study.yaml"
    quick = {"servers": "emulated", "duration_s": 0.3, "warmup_s": 0.1, "repeats": 1}
    Study.from_data({**quick, **fields}).save(path)
    return path


def saved(folder: Path, scenario: str = "7g", **changed: object) -> Path:
    profiles = {"7g": "7g.80gb", "4g": "4g.40gb"}
    path = folder / f"{scenario}-{len(list(folder.glob('*.json')))}.json"
    result(scenario, {profiles[scenario]: (1000.0, 1010.0, 990.0)}, **changed).save(path)
    return path


# -- as a program ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["list", "--help"]])
def test_help_loads_nothing_heavy(args):
    report = f"atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr))"
    code = f"import atexit, sys; from partitioner.cli import main; {report}; sys.argv = ['p', 'bench', *{args}]; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    assert "Usage: partitioner bench" in done.stdout


def test_help_names_every_command_and_each_has_help(bench):
    text = bench("--help").out
    for command in COMMANDS:
        assert re.search(rf"^  {command}\s", text, re.MULTILINE)
        assert f"Usage: partitioner bench {command} " in bench(command, "-h").out


def test_list_shows_scenarios_and_models(bench):
    text, data = bench("list").out, json.loads(bench("list", "--json").out)
    assert [entry["name"] for entry in data["scenarios"]][: len(TABLE_2)] == [scenario.name for scenario in TABLE_2]
    assert data["scenarios"][5]["profiles"] == ["4g.40gb", "2g.20gb", "1g.10gb"]
    bounds = {entry["name"]: entry["latency_ms"] for entry in data["models"]}
    assert bounds["resnet50"] == LATENCY_BOUNDS_MS["resnet50"]
    for name in (*bounds, *(entry["name"] for entry in data["scenarios"])):
        assert re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)


def test_the_schema_is_one_of_studies(bench):
    schema = json.loads(bench("schema").out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"scenarios", "models", "rate_per_s", "format", "version"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_run_measures_prints_and_keeps_and_the_rest_follows(bench):
    ran = bench("run", "7g", "4g+2g+1g", *QUICK, "--out", "out", "--json")
    assert ran.code == 0, ran.err
    assert "partitioner bench report out --out report.html" in ran.err
    compared = json.loads(ran.out)
    assert compared["label"] == "emulated, not measured"
    assert [scenario["name"] for scenario in compared["scenarios"]] == ["7g", "4g+2g+1g"]
    assert all(scenario["valid"] for scenario in compared["scenarios"])
    assert json.loads(bench("compare", "out", "--json").out) == compared

    files = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.json")}
    again = bench("resume", "out")
    assert again.code == 0
    assert "emulated, not measured" in again.out
    touched = {path.name for path, when in files.items() if path.stat().st_mtime_ns != when}
    assert touched <= {"7g.resnet50.offline.json", "4g+2g+1g.resnet50.offline.json"}  # no repeat is measured again

    assert "holds another study" in (other := bench("run", "1g", *QUICK, "--out", "out")).err
    assert other.code == 2
    assert "is kept" not in other.err  # nothing was begun

    refused = bench("calibrate", "out", "--out", "measured.csv")
    assert refused.code == 2
    assert "emulated, not measured" in refused.err
    assert not Path("measured.csv").exists()
    assert bench("calibrate", "out", "--out", "measured.csv", "--stand-ins").code == 0
    Calibration.from_csv("measured.csv")  # the next plan reads it
    measured = {line.split(",")[1] for line in Path("measured.csv").read_text().splitlines()[1:]}
    assert measured == {"7g.80gb", "4g.40gb", "2g.20gb", "1g.10gb"}

    assert bench("report", "out", "--out", "page.html", "--title", "Mixes & more").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "Mixes &amp; more" in page
    assert "emulated, not measured" in page


def test_a_study_from_a_file_with_an_invalid_result_exits_with_4(bench, tmp_path):
    path = study_file(tmp_path, scenarios=["1g"], modes="server", rate_per_s=5000, latency_ms=20)
    ran = bench("run", path, "--out", "out")
    assert ran.code == 4
    assert "INVALID" in ran.out
    assert bench("compare", "out").code == 0  # telling what was found is no failure


def test_the_highest_rate_is_printed_and_said_in_json(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.runner.searching._MAX_TRIALS", 4)
    path = study_file(tmp_path, scenarios=["1g"], percentile=0.8, latency_ms=200, duration_s=0.2)
    found = bench("max-rate", path, "--json")
    assert found.code == 0, found.err
    (entry,) = json.loads(found.out)
    assert entry["scenario"] == "1g"
    assert entry["rates_per_s"].keys() == {"1g.10gb"}
    assert entry["rates_per_s"]["1g.10gb"] > 50
    assert 1 < entry["trials"] <= 4
    hopeless = bench("max-rate", "1g", "--servers", "emulated", "--duration", "0.2", "--warmup", "0", "--latency-ms", "0.01")
    assert hopeless.code == 4
    assert "keeps a bound of 0.01 ms at no rate" in hopeless.err


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(tmp_path, again):
    command = [sys.executable, "-m", "partitioner.cli", "bench", "run", "1g", *QUICK, "--warmup", "60", "--out", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("gpu-partitioner-held-agent-*/*/load_generator.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)  # in its warm-up
    if again:
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "note: nothing was measured yet; go on with: partitioner bench resume out\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("gpu-partitioner")] == []


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["9g"], "unknown profile '9g'"),
        (["4g+4g"], "does not fit on 1 x A100-80GB"),
        (["1g", "1g"], "'1g' stands twice"),
        (["1g", "--gpu", "A1000"], "unknown GPU 'A1000'; did you mean 'A10'"),
        (["1g", "--model", "resnet5"], "did you mean 'resnet50'"),
        (["1g", "--mode", "servr"], "'multi_stream', not 'servr'"),
        (["1g", "--engine", "locust"], "'asyncio' or 'loadgen', not 'locust'"),
        (["1g", "--servers", "tritn"], "'inprocess', not 'tritn'"),
        (["1g", "--device", "tpu"], "'emulated', not 'tpu'"),
        (["1g", "--device", "emulated"], "device 'emulated' with servers 'triton'"),
        (["1g", "--repeats", "0"], "repeats: input should be greater than or equal to 1, not 0"),
        (["1g", "--duration", "nan"], "duration_s: input should be a finite number, not nan"),
        (["1g", "--seed", "-1"], "seed: input should be greater than or equal to 0, not -1"),
        (["1g", "--servers", "emulated", "--batch", "100000"], "a batch of 100000; at most 32 fits"),
        (["1g", "--mode", "server", "--rate", "x"], "--rate 'x' - 'x' is no number of queries a second; write e.g. --rate 20"),
        (["1g", "--mode", "server", "--rate", "1g="], "--rate '1g=' - write --rate NAME=N"),
        (["1g", "--mode", "server", "--rate", "7g=4"], "rate_per_s has no rate for '1g.10gb'"),
        (["1g", "--mode", "server", "--rate", "-4"], "input should be greater than 0, not -4.0"),
        (["1g", "--rate", "4"], "rate_per_s is of mode server, and the modes are offline"),
        (["1g", "--mode", "server", "--model", "bert-tiny"], "has no bound on its latency; give latency_ms="),
        (["1g", "--servers", "external"], "servers are 'external' without addresses; give the host:port"),
        (["1g", "--address", "1g.10gb=vm:8001"], "only external ones have addresses"),
        (["1g", "--servers", "external", "--address", "vm:8001"], "write --address NAME=HOST:PORT"),
        (["1g", "--servers", "external", "--address", "1g.10gb=vm"], "'vm' of '1g.10gb' is not host:port"),
        (["1g", "--servers", "external", "--address", "2g=vm:8001"], "addresses has none for '1g/1g.10gb'"),
        (["none.yaml"], "none.yaml: no such file"),
        (["a.yaml", "b.yaml"], "give it alone, or scenarios only"),
        (["7g", "a.yaml"], "give it alone, or scenarios only"),
    ],
)
def test_bad_input_is_told_in_a_line_and_nothing_is_begun(bench, tmp_path, args, said):
    outcome = bench("run", *args, "--out", "out")
    assert outcome.code == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_all_problems_of_a_file_are_told_with_their_lines(bench, tmp_path):
    lines = ("scenarios:", "- 4g+2g+1gg", "- 9g", "modes: [servr]", "repeats: 0", "durations_s: 5")
    (tmp_path / "bad.yaml").write_text("\n".join(lines) + "\n")
    outcome = bench("run", "bad.yaml")
    assert outcome.code == 2
    problems = outcome.err.splitlines()
    assert [line.split(": ")[1] for line in problems] == [f"bad.yaml:{number}" for number in (2, 3, 4, 5, 6)]
    assert "did you mean 'duration_s'?" in problems[-1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["resume", "nowhere"], "nowhere: has no study.json"),
        (["compare", "nowhere"], "nowhere: no such file"),
        (["compare", "."], "holds no complete result; measure what is missing with `partitioner bench resume`"),
        (["report", "nowhere", "--out", "page.html"], "nowhere: no such file"),
        (["report", ".", "--out", "none/page.html"], "there is no directory"),
        (["calibrate", ".", "--out", "c.csv"], "holds no complete result"),
        (["export-mlperf", "4g+2g+1g", "--rate", "10", "--out", "x"], "runs instances of one profile only"),
        (["export-mlperf", "7x1g", "--rate", "nan", "--out", "x"], "rate_per_s is nan; give a number above 0"),
        (["export-mlperf", "7x1g", "--rate", "10", "--out", "x", "--mode", "multi_stream"], "'multi_stream' is not in"),
        (["export-mlperf", "7x1g", "--rate", "10", "--out", "x", "--model", "bert-tiny"], "'bert-tiny' is unknown"),
    ],
)
def test_what_is_not_there_is_told_by_every_command(bench, tmp_path, args, said):
    outcome = bench(*args)
    assert outcome.code == 2
    assert outcome.out == ""
    assert said in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [["fly"], ["run", "--rate"], ["run", "1g", "--repeats", "x"], ["report"], ["compare"]])
def test_wrong_usage_exits_with_2(bench, args):
    outcome = bench(*args)
    assert outcome.code == 2
    assert "Error: " in outcome.err


# -- reading results ---------------------------------------------------------------------------------------------------


def test_compare_writes_csv_and_takes_a_baseline(bench, tmp_path):
    files = [saved(tmp_path), saved(tmp_path, "4g")]
    told = bench("compare", *files, "--baseline", "4g", "--cost-per-gpu-hour", "2.5", "--csv", "table.csv")
    assert told.code == 0, told.err
    assert "against 4g" in told.out
    rows = Path("table.csv").read_text().splitlines()
    assert rows[0].startswith("scenario,instance,")
    assert {row.split(",")[0] for row in rows[1:]} == {"7g", "4g"}
    assert "'9g' - not among the results; known: 7g, 4g" in bench("compare", *files, "--baseline", "9g").err
    assert "no field that has to be the same" in bench("compare", *files, "--allow", "colour").err


def test_results_of_two_models_are_compared_among_themselves(bench, tmp_path):
    files = [saved(tmp_path), saved(tmp_path, model="bert-99"), saved(tmp_path, "4g")]
    data = json.loads(bench("compare", *files, "--json").out)
    assert [[scenario["name"] for scenario in part["scenarios"]] for part in data] == [["7g", "4g"], ["7g"]]
    assert bench("compare", *files, "--csv", "both.csv").code == 0
    assert len(Path("both.csv").read_text().splitlines()) == 1 + 3 * 2


def test_results_that_were_not_measured_alike_are_refused(bench, tmp_path):
    files = [saved(tmp_path), saved(tmp_path, "4g", software={"python": "3.11", "triton": "2.52"})]
    refused = bench("compare", *files)
    assert refused.code == 2
    assert "not measured alike" in refused.err
    assert "software.triton: '2.51' in 7g; '2.52' in 4g" in refused.err
    allowed = bench("compare", *files, "--allow", "software.triton")
    assert allowed.code == 0
    assert "software.triton" in allowed.out  # said where the figures are


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"version": 1', '"version": 2'), "version 2 of the format; this release reads 1"),
        (('"valid": true', '"valid": false'), "take the file as it was written"),
        (("{", ""), "not JSON"),
        (('"engine"', '"motor"'), "unknown field 'motor'"),
    ],
)
def test_a_file_that_was_changed_is_refused(bench, tmp_path, change, said):
    path = saved(tmp_path)
    path.write_text(path.read_text().replace(*change, 1))
    outcome = bench("compare", path)
    assert outcome.code == 2
    assert said in outcome.err
    assert re.search(rf"^error: {re.escape(str(path))}(:\d+)?: ", outcome.err)


def test_export_writes_the_files_of_the_harness(bench, tmp_path):
    done = bench("export-mlperf", "7x1g", "--rate", "4000", "--mode", "server", "--out", "closed")
    assert done.code == 0, done.err
    written = [Path(line.removeprefix("wrote ")) for line in done.err.splitlines()]
    assert written
    assert all(path.is_file() for path in written)
    (conf,) = [path for path in written if path.name == "user.conf"]
    assert "*.Server.target_qps = 28000" in conf.read_text()  # of all seven


# -- going on ----------------------------------------------------------------------------------------------------------


def edit(path: Path, change) -> None:
    """Change the only instance of the only repeat of a result."""
    data = json.loads(path.read_text())
    change(data, data["repeats"][0]["instances"][0])
    path.write_text(json.dumps(data))


def test_resume_measures_again_what_could_not_be_measured(bench):
    """A server that did not start, or a host that was lost, is mended; the advice was to resume."""
    assert bench("run", "1g", *QUICK, "--out", "out").code == 0
    repeat = Path("out/1g.resnet50.offline/repeat-1.json")

    def fail(data, entry):
        data |= {"valid": False, "system_throughput_per_s": 0.0, "latencies": None}
        nothing = {"throughput_per_s": 0.0, "window_throughput_per_s": 0.0, "queries": 0, "samples": 0, "duration_s": 0.0}
        entry |= {"valid": False, "reasons": ["the server died"], "advice": ["resume"], "latency": None, **nothing}

    edit(repeat, fail)
    again = bench("resume", "out")
    assert again.code == 0, again.out + again.err
    assert Result.load(repeat).valid


def test_repeats_of_another_machine_are_not_averaged_with_these(bench):
    assert bench("run", "1g", *QUICK, "--repeats", "2", "--out", "out").code == 0
    for path in (Path("out/1g.resnet50.offline/repeat-2.json"), Path("out/1g.resnet50.offline.json")):
        path.unlink()

    def elsewhere(data, entry):
        data["metadata"]["host"] = {"other": "another processor, 2 cores"}

    edit(Path("out/1g.resnet50.offline/repeat-1.json"), elsewhere)
    refused = bench("resume", "out")
    assert refused.code == 2
    assert "its first repeats were measured otherwise" in refused.err
    assert "another processor, 2 cores" in refused.err


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def test_a_server_that_died_while_it_was_measured_is_told_and_its_repeat_measured_again(bench):
    study = Study(scenarios=("2g+1g",), servers="emulated", duration_s=1.5, warmup_s=0.1, repeats=2)
    calls = []

    def kill(progress: Progress) -> None:
        calls.extend(["repeat 2"] if "repeat 2" in progress.text else [])
        if len(calls) == 5:  # the first comes before the load generators, those that follow while they are at work
            calls.append("killed")
            guards = [pid for pid in children(os.getpid()) if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(children(guards[0])[0], signal.SIGKILL)

    (broken,) = run_study(study, out="out", progress=kill)
    assert not broken.valid
    assert [repeat.valid for repeat in broken.repeats] == [True, False]
    (failed,) = [entry for entry in broken.repeats[1].instances if not entry.valid]
    assert "was ended by SIGKILL" in failed.reasons[0]
    assert failed.queries  # what was measured before is kept
    first = Path("out/2g+1g.resnet50.offline/repeat-1.json")
    before = first.read_bytes()
    again = bench("resume", "out")
    assert again.code == 0, again.out + again.err
    assert first.read_bytes() == before


def test_long_and_odd_names_make_files(bench, tmp_path):
    for number, name in enumerate(("é" * 200, "..:*?[x] $(id)")):
        path = study_file(tmp_path, scenarios=[{"profiles": "1g", "name": name}])
        assert bench("run", path, "--out", f"out{number}").code == 0
        (found,) = json.loads(bench("compare", f"out{number}", "--json").out)["scenarios"]
        assert found["name"] == name


def test_temporary_folders_of_killed_processes_go_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "import os; from benchmarks.servers.scratch import Scratch; Scratch('agent'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "gpu-partitioner-other").mkdir()
    first = Scratch("server")
    second = Scratch("agent")
    assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"gpu-partitioner-other", first.path.name, second.path.name}
    for scratch in (first, second, second):
        scratch.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-partitioner-other"]
