"""Running scenarios: real processes for every server and every load generator, killed, broken off and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nvml import Card, Machine

import benchmarks
from benchmarks.errors import BenchmarkError, ServerError
from benchmarks.gpus import sampler_for
from benchmarks.models.graphs import graph_file
from benchmarks.models.model import model
from benchmarks.results import Result
from benchmarks.runner import LocalHosts, Progress, find_max_rate, resume, run, run_study
from benchmarks.runner.casting import Measurement
from benchmarks.runner.devices import settle
from benchmarks.runner.journal import Journal
from benchmarks.runner.measuring import Member, measure
from benchmarks.scenarios import Scenario, Study
from benchmarks.servers import ServerTask, server_for
from benchmarks.servers.emulated_device import EmulatedDevice, Faults
from benchmarks.servers.find import find_tritonserver
from benchmarks.servers.repository import Serving, write_repository
from partitioner.errors import SpecError

MIXED = "4g+2g+1g"
QUICK = {"duration_s": 0.5, "warmup_s": 0.1, "repeats": 1}


def processes_of(mark: str) -> list[int]:
    """Processes that have a variable of the environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def none_left(mark: str) -> bool:
    deadline = time.monotonic() + 20
    while processes_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes_of(mark)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A variable that every process of this test inherits; none of them may be left at its end."""
    name = f"BENCH_TEST_MARK={request.node.name}-{os.getpid()}"
    monkeypatch.setenv(*name.split("="))
    yield name
    assert none_left(name)


def measured(scenario: str, faults: dict[str, Faults], *, mode: str = "offline", rate_per_s: float | None = None, **settings):
    """Measure once with emulated servers, some of which have faults."""
    study = Study(scenarios=(scenario,), servers="emulated", modes=mode, **{**QUICK, **settings})
    chosen, device = settle(study.scenarios[0], servers="emulated", device=None)
    measurement = Measurement(study, chosen, "resnet50", mode, device)
    tasks, handles = measurement.tasks(), []
    try:
        members = []
        for number, instance in enumerate(chosen.instances):
            task = tasks[instance.name]
            if instance.name in faults:
                emulated = EmulatedDevice.from_json(json.dumps(task.server.emulation))
                broken = replace(emulated, faults=faults[instance.name])
                task = replace(task, server=replace(task.server, emulation=json.loads(broken.to_json())))
            handles.append(LocalHosts().place(task))
            handles[-1].start()
            members.append(Member(instance, handles[-1], measurement.load(number, repeat=1, rate_per_s=rate_per_s)))
        sampler = sampler_for(chosen.instances, device=device)
        return measure(members, warmup_s=study.warmup_s, sampler=sampler, seed=1, watch=lambda _share: None)
    finally:
        for handle in handles:
            handle.stop()


# -- what is measured --------------------------------------------------------------------------------------------------


def test_a_mixed_scenario_is_measured_as_one(mark):
    seen: list[Progress] = []
    result = run(MIXED, servers="emulated", progress=seen.append, **QUICK | {"duration_s": 1.0, "repeats": 2})
    assert result.valid, result.reasons
    assert [entry.instance for entry in result.instances] == ["4g.40gb", "2g.20gb", "1g.10gb"]
    assert len(result.repeats) == 2
    assert result.repeats[0].seed != result.repeats[1].seed
    for repeat in result.repeats:
        assert repeat.system_throughput == pytest.approx(sum(run.window_throughput_per_s for run in repeat.instances))
        assert 0.5 < repeat.overlap <= 1
        assert min(run.start_skew_ms for run in repeat.instances) == 0
    profiles = Scenario.parse(MIXED).profiles
    truth = {profile: EmulatedDevice.of(model("resnet50"), "A100-80GB", profile, busy=True) for profile in profiles}
    for entry in result.instances:
        times = truth[entry.profile].service_ms
        batch = min(result.metadata.batch, len(times))
        assert entry.throughput_per_s == pytest.approx(1000 * batch / times[batch - 1], rel=0.15)
    assert result.label == "emulated, not measured"
    assert [p.done_s for p in seen] == sorted(p.done_s for p in seen)
    assert seen[-1].done_s <= seen[-1].total_s


def test_real_triton_on_slices_of_the_cpu_with_both_engines(mark):
    own = run("2g+1g", model="echo", **QUICK)
    theirs = run("2g+1g", model="echo", engine="loadgen", **QUICK)
    for result in (own, theirs):
        assert result.label == "CPU slices, not a GPU"
        assert [entry.throughput_per_s > 0 for entry in result.instances] == [True, True]
        for entry in result.repeats[0].instances:
            assert entry.failed == 0
            assert entry.client_ceiling_per_s
            assert "2.51" in entry.facts["server"] or "triton" in entry.facts["server"].lower()
    assert (own.metadata.engine, theirs.metadata.engine) == ("asyncio", "loadgen")
    with pytest.raises(benchmarks.IncomparableError, match="engine"):
        benchmarks.compare([own, theirs])


def test_a_model_in_the_load_generators_needs_no_server(mark):
    result = run("1g", model="bert-tiny", servers="inprocess", mode="single_stream", min_queries=1, **QUICK)
    (entry,) = result.repeats[0].instances
    assert entry.queries > 10
    assert entry.latency is not None
    assert entry.facts["onnxruntime"]


def test_the_rate_of_a_server_is_given_by_profile_or_searched(mark):
    rates = {"4g": 400, "2g": 200, "1g": 100}
    result = run(MIXED, servers="emulated", mode="server", rate_per_s=rates, latency_ms=200, **QUICK)
    assert {run.profile[:2]: run.rate_per_s for run in result.repeats[0].instances} == rates
    for entry in result.repeats[0].instances:
        assert entry.queries >= 662  # one late query is allowed


def test_the_highest_rate_is_between_nothing_and_the_capacity(mark):
    options = {"latency_ms": 130, "percentile": 0.9, "duration_s": 0.4, "warmup_s": 0.1}
    found = find_max_rate("1g", model="bert-99", servers="emulated", tolerance=0.3, **options)
    capacity = EmulatedDevice.of(model("bert-99"), "A100-80GB", "1g.10gb", busy=False).capacity_per_s
    assert 0 < found.system_rate_per_s < 1.05 * capacity  # how near to it hangs on how busy the machine is
    trials = [(trial.rates_per_s["1g.10gb"], trial.valid["1g.10gb"], trial.p99_ms["1g.10gb"]) for trial in found.trials]
    assert any(valid and rate == found.system_rate_per_s and p99 <= 130 for rate, valid, p99 in trials)
    assert any(not valid and rate > found.system_rate_per_s for rate, valid, _ in trials)
    with pytest.raises(BenchmarkError, match="keeps a bound of 1 ms at no rate"):
        find_max_rate("1g", model="bert-99", servers="emulated", **options | {"latency_ms": 1})


def test_a_model_repository_of_ones_own_is_served_as_it_is(tmp_path, mark):
    mine = replace(model("echo"), name="mine")
    write_repository(tmp_path, {mine: None}, program=find_tritonserver(), serving=Serving(1, 1, on_gpu=False))
    result = run("1g", model="mine", model_repository=str(tmp_path), **QUICK)
    (entry,) = result.repeats[0].instances
    assert (result.metadata.model, entry.failed, entry.facts["model"]) == ("mine", 0, "mine version 1")
    assert entry.queries > 10
    assert entry.client_ceiling_per_s is None  # no echo twin is put into what is not ours


def test_models_of_ones_own_are_measured_as_they_are(tmp_path, mark):
    own = EmulatedDevice.constant(replace(model("resnet50"), name="my-net"), 4.0, batch=8)
    server = server_for(ServerTask("vm-7", "emulated", own.model, emulation=json.loads(own.to_json())))
    server.start()
    try:
        settings = {"servers": "external", "addresses": {"1g.10gb": server.address}, "batch": 8, **QUICK}
        result = run("1g", model="my-net", **settings)
        assert result.metadata.model == "my-net"
        assert result.system_throughput == pytest.approx(8 / 0.004, rel=0.4)
        with pytest.raises(BenchmarkError, match="has no model 'resnet50'"):
            run("1g", model="resnet50", **settings)
    finally:
        server.stop()
    graph = tmp_path / "mine.onnx"
    shutil.copy(graph_file(model("bert-tiny")), graph)
    results = run_study(Study(scenarios=("1g",), models=(str(graph),), servers="inprocess", **QUICK), out=tmp_path / "out")
    assert results[0].metadata.model == "mine"
    assert Journal(tmp_path / "out").results() == results


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_server_that_dies_fails_its_instance_and_no_other(mark):
    repeat = measured(MIXED, {"2g.20gb": Faults(crash_after=30)}, duration_s=1.0)
    by_name = {run.instance: run for run in repeat.instances}
    assert not by_name["2g.20gb"].valid
    assert any("failed" in reason or "died" in reason for reason in by_name["2g.20gb"].reasons)
    assert by_name["4g.40gb"].valid, by_name["4g.40gb"].reasons
    assert by_name["1g.10gb"].valid, by_name["1g.10gb"].reasons
    assert not repeat.valid


def test_wrong_and_slow_answers_are_failures(mark):
    faults = {
        "4g.40gb": Faults(wrong_after=200),
        "2g.20gb": Faults(slow_after=200, slow_ms=5000),
        "1g.10gb": Faults(refuse_after=200),
    }
    repeat = measured(MIXED, faults, mode="server", rate_per_s=200, latency_ms=200, timeout_s=0.5, duration_s=1.0)
    for entry in repeat.instances:
        assert not entry.valid
        assert 0 < entry.failed <= entry.queries
        assert len(entry.reasons) == len(entry.advice) > 0
    reasons = " ".join(reason for run in repeat.instances for reason in run.reasons)
    assert "shape" in reasons
    assert "nothing was answered for 0.5 s" in reasons
    assert "UNAVAILABLE" in reasons


def test_what_does_not_exist_is_refused_before_anything_starts(tmp_path, mark):
    with pytest.raises(SpecError, match="resnet5"):
        run(MIXED, model="resnet5", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SpecError, match="no bound"):
        run("1g", model="bert-tiny", mode="server")
    with pytest.raises(SpecError, match="unknown field 'durations_s'"):
        run("1g", durations_s=3)
    with pytest.raises(SpecError, match="unknown model 'echo'"):
        run("1g", model="echo", servers="emulated")


def test_a_missing_server_program_says_how_to_get_one(tmp_path, monkeypatch, mark):
    monkeypatch.setenv("PARTITIONER_TRITONSERVER", str(tmp_path / "none"))
    with pytest.raises(ServerError, match="none"):
        run("1g", model="echo", out=tmp_path / "out", **QUICK)


def test_no_room_for_the_results_keeps_those_before(tmp_path, mark):
    out = tmp_path / "out"
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from benchmarks.runner import run\n"
        "first = run('1g', servers='emulated', duration_s=0.3, warmup_s=0.1, repeats=1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        f"run('1g', servers='emulated', duration_s=0.3, warmup_s=0.1, repeats=2, out={str(out)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "BenchmarkError" in done.stderr
    assert "make room" in done.stderr
    assert not (out / "1g.resnet50.offline.json").exists()
    kept = {path: path.read_bytes() for path in out.glob("*/repeat-*.json")}
    assert kept
    result = resume(out)
    assert {path: path.read_bytes() for path in kept} == kept
    assert result[0].valid
    assert len(result[0].repeats) == 2


# -- folders -----------------------------------------------------------------------------------------------------------


def cli(*args: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "partitioner.cli", "bench", *args]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_killed_is_resumed(tmp_path, mark, blow):
    options = ("--servers", "emulated", "--duration", "0.6", "--warmup", "0.1", "--repeats", "2", "--out", "out")
    process = cli("run", "7g", MIXED, *options, cwd=tmp_path)
    first = tmp_path / "out" / "7g.resnet50.offline" / "repeat-1.json"
    wait_for(first, process)
    time.sleep(0.4)  # into the second repeat
    process.send_signal(blow)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: -15}[blow], err
    assert none_left(mark)
    if blow == signal.SIGINT:
        assert "partitioner bench resume out" in err
    before = first.read_bytes()
    again = cli("resume", "out", cwd=tmp_path)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert first.read_bytes() == before
    assert "7g" in out
    assert MIXED in out
    assert "emulated, not measured" in out
    kept = [Result.load(path) for path in sorted((tmp_path / "out").glob("*.resnet50.offline.json"))]
    assert [len(result.repeats) for result in kept] == [2, 2]


def test_a_folder_holds_one_study_and_one_process(tmp_path, mark):
    study = Study(scenarios=("1g",), servers="emulated", **QUICK)
    (result,) = run_study(study, out=tmp_path / "out")
    seen = []
    assert run_study(study, out=tmp_path / "out", progress=seen.append) == (result,)
    assert not [p for p in seen if "repeat" in p.text]  # nothing was measured again
    with pytest.raises(SpecError, match="another study"):
        run_study(replace(study, repeats=2), out=tmp_path / "out")
    with Journal(tmp_path / "out").lock(), pytest.raises(BenchmarkError, match="another process"):
        run_study(study, out=tmp_path / "out")
    with pytest.raises(SpecError, match=r"study\.json"):
        resume(tmp_path)
    loaded = Result.load(tmp_path / "out" / "1g.resnet50.offline.json")
    assert loaded == result
    assert loaded.repeats[0].instances[0].latencies_ms is not None


def test_logs_of_loadgen_are_kept(tmp_path, mark):
    result = run("1g", servers="emulated", engine="loadgen", out=tmp_path / "out", **QUICK)
    folder = tmp_path / "out" / "1g.resnet50.offline" / "logs" / "repeat-1" / "1g.10gb"
    assert "MLLOG" in (folder / "mlperf_log_detail.txt").read_text()
    assert "offline" in (folder / "mlperf_log_summary.txt").read_text().lower()
    assert result.metadata.software["mlcommons-loadgen"]


# -- devices -----------------------------------------------------------------------------------------------------------


def test_instances_of_the_gpu_are_found_by_the_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Machine(tmp_path / "machine", ["A100-80GB", Card("A100-80GB", mig=True)]) as machine:
        with pytest.raises(BenchmarkError, match=r"no GPU has 1 x 4g\.40gb, 1 x 2g\.20gb, 1 x 1g\.10gb free"):
            settle(Scenario.parse(MIXED), servers="triton", device=None)
        for profile, start in (("4g.40gb", 0), ("2g.20gb", 4), ("1g.10gb", 6)):
            machine.put(1, profile, start)
        scenario, device = settle(Scenario.parse(MIXED), servers="triton", device=None)
        assert device == "gpu"
        uuids = [instance.uuid for instance in scenario.instances]
        assert len(set(uuids)) == 3
        assert all(uuid and uuid.startswith("MIG-") for uuid in uuids)
        assert {instance.gpu for instance in scenario.instances} == {1}
        whole, device = settle(Scenario.parse("whole"), servers="triton", device=None)
        assert whole.instances[0].uuid.startswith("GPU-")
        study = Study(scenarios=(scenario,))
        task = Measurement(study, scenario, "resnet50", "offline", device).tasks()["2g.20gb"]
        assert task.server.cuda_visible_devices == scenario.instances[1].uuid
        assert task.cpu_slice is None


def test_without_a_driver_the_cpu_stands_in_and_a_gpu_that_is_wanted_is_missed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    scenario = Scenario.parse("7x1g")
    assert settle(scenario, servers="triton", device=None)[1] == "cpu-slices"
    with pytest.raises(BenchmarkError, match="device 'gpu' is wanted"):
        settle(scenario, servers="triton", device="gpu")
    tasks = Measurement(Study(scenarios=(scenario,)), scenario, "resnet50", "offline", "cpu-slices").tasks()
    slices = [task.cpu_slice for task in tasks.values()]
    assert [begin for begin, _ in slices] == pytest.approx([i / 7 for i in range(7)])
    assert [share for _, share in slices] == pytest.approx([1 / 7] * 7)


def test_agents_end_while_they_start(mark):
    """Ctrl-C while servers start: those that come up afterwards are ended too."""
    study = Study(scenarios=("2g+1g",), models=("echo",), **QUICK)
    measurement = Measurement(study, study.scenarios[0], "echo", "offline", "cpu-slices")
    handles = [LocalHosts().place(task) for task in measurement.tasks().values()]
    threads = [threading.Thread(target=_start, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    for handle in handles:
        handle.stop()
    for thread in threads:
        thread.join(60)
    assert none_left(mark)


def _start(handle) -> None:
    with contextlib.suppress(BenchmarkError):
        handle.start()
