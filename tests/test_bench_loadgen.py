"""The LoadGen engine with the real LoadGen, each run in a process of its own, on systems whose service time is known."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.errors import LoadGeneratorError, RequestError
from benchmarks.load.early_stopping import queries_needed, verify
from benchmarks.load.log import RequestLog
from benchmarks.load.summary import percentile_of
from benchmarks.load.values import Load, Rules
from benchmarks.loadgen import expected_rate, read_verdict
from benchmarks.loadgen.library import DETAIL, FILES, check_logs, load_library
from benchmarks.loadgen.schedule import seeds, server_schedule

HERE = Path(__file__).parent
LONG_S = 600.0


class Seen:
    """What a run in a child process came to."""

    def __init__(self, answer):
        self.answer, self.verdict = answer, answer["verdict"]
        arrays = {name: np.array(answer[name]) for name in ("due_s", "sent_s", "done_s", "samples", "failed")}
        self.log = RequestLog(began_s=answer["began_s"], cpu_s=answer["cpu_s"], failures=answer["failures"], **arrays)

    @property
    def per_s(self):
        """Samples a second from LoadGen's start, which on a busy machine may be after the common one."""
        return self.log.samples.sum() / (self.log.end_s - self.log.began_s)

    def figure(self, name):
        return self.verdict["figures"][name]


def answer_of(folder, *, load, rules=None, system=None, cwd=None, status=0, **task):
    task |= {"load": {"rate_per_s": None, "seed": 5, **load}, "rules": rules or {}, "folder": str(folder)}
    task["system"] = {"service_s": 0.002, **(system or {})}
    done = subprocess.run(
        [sys.executable, HERE / "loadgen_run.py", json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd or HERE.parent,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")
    return json.loads(done.stdout)


def run(folder, **task):
    return Seen(answer_of(folder, **task))


def close(value, truth, *, share, floor=0.0):
    return abs(value - truth) <= max(share * truth, floor)


# --- the modes ---------------------------------------------------------------------------------------------------------------


def test_server_sends_loadgens_schedule_and_agrees_with_its_log(tmp_path):
    load = {"mode": "server", "rate_per_s": 400.0}
    seen = run(tmp_path, load=load, rules={"min_duration_s": 2.0, "latency_bound_ms": 500.0}, ahead_s=0.3)
    log = seen.log
    assert seen.verdict == {"valid": True, "reasons": [], "advice": [], "figures": seen.verdict["figures"]}
    assert len(log) == seen.figure("result_query_count") >= 662
    assert log.samples.tolist() == [1] * len(log)
    assert not log.failed.any()
    assert close((len(log) - 1) / (log.due_s[-1] - log.began_s), seen.figure("result_scheduled_samples_per_sec"), share=0.02)
    assert close(seen.per_s, seen.figure("result_completed_samples_per_sec"), share=0.02)
    for share, name in ((0.5, "50.00"), (0.9, "90.00")):
        theirs_ms = seen.figure(f"result_{name}_percentile_latency_ns") / 1e6
        assert close(percentile_of(log.latency_s * 1e3, share), theirs_ms, share=0.05, floor=0.3)
    assert (log.slip_s >= 0).all()
    assert (log.latency_s >= 0.002).all()
    assert log.due_s[0] == pytest.approx(log.due_s.min())
    assert -0.05 < seen.answer["began_s"] < 5.0
    assert seen.answer["told"] == sorted(seen.answer["told"])
    assert seen.answer["told"][-1] == len(log)
    assert 0 < seen.answer["loop_cpu_s"] <= seen.answer["cpu_s"]
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_the_computed_schedule_is_the_one_of_loadgens_trace(tmp_path):
    seen = run(tmp_path, load={"mode": "server", "rate_per_s": 700.0}, rules={"min_duration_s": 1.0}, trace=True)
    trace = (tmp_path / "mlperf_log_trace.json").read_text()  # no JSON: LoadGen quotes texts twice
    begun = re.findall(r'"name":"Sample","cat":"default","ph":"b".*?"ts":([\d.]+).*?"query_seq":(\d+)', trace)
    due_us = np.array([float(due) for due, _ in sorted(begun, key=lambda event: int(event[1]))])
    assert len(due_us) == len(seen.log)
    np.testing.assert_allclose((due_us - due_us[0]) * 1e-6, seen.log.due_s - seen.log.due_s[0], rtol=0, atol=2e-8)


def test_the_same_seed_asks_the_same(tmp_path):
    load, rules = {"mode": "server", "rate_per_s": 700.0}, {"min_duration_s": 0.2}
    first, second, other = (run(tmp_path / str(n), load=load | {"seed": n // 2}, rules=rules) for n in range(3))
    np.testing.assert_allclose(np.diff(first.log.due_s), np.diff(second.log.due_s), rtol=0, atol=1e-9)
    assert first.answer["asked"] == second.answer["asked"] != other.answer["asked"]


@pytest.mark.parametrize(("mode", "least"), [("single_stream", 64), ("multi_stream", 662)])
def test_streams_send_one_query_after_the_other(tmp_path, mode, least):
    size = 1 if mode == "single_stream" else 4
    seen = run(
        tmp_path, load={"mode": mode, "samples_per_query": size}, rules={"min_duration_s": 0.5}, system={"service_s": 0.001}
    )
    log = seen.log
    assert seen.verdict["valid"], seen.verdict
    assert len(log) >= least
    assert log.samples.tolist() == [size] * len(log)
    assert (log.due_s[1:] >= log.done_s[:-1]).all()
    assert log.due_s[-1] - log.due_s[0] >= 0.49
    per_query = "per_query_" if mode == "multi_stream" else ""
    theirs_ms = seen.figure(f"result_50.00_percentile_{per_query}latency_ns") / 1e6
    assert close(percentile_of(log.latency_s * 1e3, 0.5), theirs_ms, share=0.05, floor=0.3)


def test_offline_is_one_query_that_goes_in_batches(tmp_path):
    load = {"mode": "offline", "batch": 8, "concurrency": 3, "rate_per_s": 8000.0}  # two at a time, each of them 2 ms
    seen = run(tmp_path, load=load, rules={"min_duration_s": 0.8, "min_samples": 500}, system={"slots": 2})
    log = seen.log
    assert seen.verdict["valid"], seen.verdict
    assert log.samples[:-1].tolist() == [8] * (len(log) - 1)
    assert log.samples.sum() >= 500
    assert close(seen.per_s, seen.figure("result_samples_per_second"), share=0.03)
    in_flight = np.searchsorted(np.sort(log.sent_s), log.sent_s, side="right") - np.searchsorted(np.sort(log.done_s), log.sent_s)
    assert in_flight.max() <= 3
    assert log.end_s - log.began_s >= 0.8
    assert seen.answer["asked"][0] != sorted(seen.answer["asked"][0])  # LoadGen's own order of the samples


def test_offline_takes_the_expected_rate_and_the_least_samples(tmp_path):
    seen = run(
        tmp_path, load={"mode": "offline", "batch": 50, "rate_per_s": 1.0}, rules={"min_duration_s": 0.1, "min_samples": 330}
    )
    assert seen.log.samples.tolist() == [50] * 6 + [30]
    assert not seen.verdict["valid"]  # LoadGen asks for the duration, whatever was expected
    assert any("shorter than 0.1 s" in reason for reason in seen.verdict["reasons"])
    assert len(seen.verdict["reasons"]) == len(seen.verdict["advice"])


# --- LoadGen's verdict -------------------------------------------------------------------------------------------------------


def test_early_stopping_is_ours_to_the_query(tmp_path):
    slow = [50, 150, 250, 350, 450]
    load, rules = {"mode": "server", "rate_per_s": 900.0}, {"min_duration_s": 1.0, "latency_bound_ms": 400.0}
    seen = run(tmp_path, load=load, rules=rules, system={"slow": slow, "slow_s": 0.6})
    late, total = int((seen.log.latency_s > 0.4).sum()), len(seen.log)
    assert seen.figure("result_overlatency_query_count") == late >= 5
    assert not verify(late, total)
    reason = next(reason for reason in seen.verdict["reasons"] if "early stopping" in reason)
    assert f"{queries_needed(late) - total} more queries" in reason
    assert not seen.verdict["valid"]


def test_a_broken_bound_is_named(tmp_path):
    load, rules = {"mode": "server", "rate_per_s": 700.0}, {"min_duration_s": 0.5, "latency_bound_ms": 1.0}
    seen = run(tmp_path, load=load, rules=rules, system={"service_s": 0.01})
    assert f"LoadGen: {len(seen.log)} of {len(seen.log)} queries took longer than the bound of 1 ms" in seen.verdict["reasons"]


def test_an_audit_file_in_the_working_folder_changes_nothing(tmp_path):
    (tmp_path / "audit.config").write_text("*.Server.target_qps = 50\n*.*.min_duration = 10\n")
    load, rules = {"mode": "server", "rate_per_s": 800.0}, {"min_duration_s": 1.0}
    seen = run(tmp_path / "logs", load=load, rules=rules, cwd=tmp_path)
    expected = server_schedule(seeds(5)[2], 800.0, min_duration_s=1.0, min_queries=1)
    assert len(seen.log) == len(expected)


def test_a_log_without_an_end_does_not_count(tmp_path):
    line = ':::MLLOG {"key": "result_validity", "value": "VALID", "metadata": {"is_error": false}}\n'
    (tmp_path / "whole").write_text("noise\n" + line)
    (tmp_path / "cut").write_text(line[:40])
    wrong = line.replace("result_validity", "error_runtime").replace("VALID", "Something broke").replace("false", "true")
    (tmp_path / "wrong").write_text(wrong + line)
    assert read_verdict(tmp_path / "whole").valid
    cut = read_verdict(tmp_path / "cut")
    assert not cut.valid
    assert "has no verdict" in cut.reasons[0]
    assert read_verdict(tmp_path / "wrong").reasons == ("LoadGen: Something broke",)
    with pytest.raises(LoadGeneratorError, match="cannot be read"):
        read_verdict(tmp_path / "none")


# --- faults ------------------------------------------------------------------------------------------------------------------


def test_failed_requests_are_written_down_and_the_run_goes_on(tmp_path):
    seen = run(tmp_path, load={"mode": "server", "rate_per_s": 700.0}, rules={"min_duration_s": 0.5}, system={"fail_every": 3})
    expected = -(-len(seen.log) // 3)
    assert seen.log.failed.sum() == expected
    assert seen.log.failures == [["queue full", expected]]
    assert len(seen.log) == seen.figure("result_query_count")  # LoadGen cannot tell


@pytest.mark.parametrize("mode", ["offline", "multi_stream", "server"])
def test_a_system_that_dies_ends_the_run_long_before_its_time(tmp_path, mode):
    load = {"mode": mode, "rate_per_s": 200.0, "timeout_s": 0.3, "batch": 2, "concurrency": 4}
    seen = run(tmp_path, load=load, rules={"min_duration_s": LONG_S}, system={"hangs_from": 20})
    log = seen.log
    assert log.end_s < LONG_S / 10
    assert not log.failed[:20].any()
    assert log.failed[20:].all()
    assert len(log) > 20
    assert any("no answer within 0.3 s" in message for message, _ in log.failures)
    assert not seen.verdict["valid"]
    assert "given up: nothing was answered for" in seen.verdict["reasons"][0]


def test_a_system_that_refuses_everything_ends_the_run(tmp_path):
    load = {"mode": "single_stream"}
    seen = run(tmp_path, load=load, rules={"min_duration_s": LONG_S}, system={"refuses_from": 0}, ahead_s=0.0)
    assert seen.log.failed.all()
    assert dict(map(tuple, seen.log.failures)) == {"connection refused": len(seen.log)}
    assert not seen.verdict["valid"]


def test_a_rate_beyond_the_system_ends_the_run(tmp_path):
    load, rules = {"mode": "server", "rate_per_s": 400.0}, {"min_duration_s": LONG_S, "latency_bound_ms": 100.0}
    seen = run(tmp_path, load=load, rules=rules, system={"service_s": 0.1, "slots": 1})
    assert seen.log.end_s < LONG_S / 10
    assert any("Too many outstanding queries" in reason for reason in seen.verdict["reasons"])
    assert "ask for a lower rate: queries pile up faster than they are answered" in seen.verdict["advice"]
    assert (~seen.log.failed).sum() > 10
    ((message, count),) = seen.log.failures
    assert re.fullmatch(r"given up: LoadGen ended the test with 20\d\d queries in flight", message)
    assert count == seen.log.failed.sum()


def test_a_mistake_of_the_system_is_an_error_and_no_crash(tmp_path):
    load = {"mode": "offline", "rate_per_s": 100.0}
    answer = answer_of(tmp_path, load=load, rules={"min_duration_s": LONG_S}, system={"raises_at": 10})
    assert answer["error"].startswith("LoadGeneratorError: LoadGen engine - the system raised ValueError('a mistake')")


@pytest.mark.parametrize(("mode", "status"), [("offline", 0), ("server", 1)])
def test_a_run_can_be_cancelled_and_its_process_ends_without_a_crash(tmp_path, mode, status):
    load = {"mode": mode, "rate_per_s": 100.0}
    answer = answer_of(tmp_path, load=load, rules={"min_duration_s": LONG_S}, do="cancel", status=status)
    assert answer["cancelled"] > 5


def test_a_process_has_one_test_at_a_time_and_may_have_another_after_it(tmp_path):
    load, rules = {"mode": "single_stream", "rate_per_s": 1000.0}, {"min_duration_s": 0.2}
    (error,) = answer_of(tmp_path / "together", load=load, rules=rules, do="together")["errors"]
    assert error == (
        "LoadGeneratorError: LoadGen - a test is running in this process already; give each test a process of its own"
    )
    assert run(tmp_path / "twice", load=load, rules=rules, do="twice").verdict["valid"]


def test_logs_that_cannot_be_written_are_an_error_before_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadGeneratorError, match="cannot be written: Not a directory; make room, or name another folder"):
        check_logs(tmp_path / "file" / "logs")
    full = tmp_path / "full"
    full.mkdir()
    (full / DETAIL).symlink_to("/dev/full")
    answer = answer_of(full, load={"mode": "single_stream"})
    assert answer["error"].startswith(f"LoadGeneratorError: LoadGen - {full / DETAIL} cannot be written: No space left on device")


def test_a_missing_loadgen_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(LoadGeneratorError, match=r"pip install 'gpu-partitioner\[bench\]'"):
        load_library()


def test_the_expected_rate_is_that_of_the_way_of_asking():
    async def rate(mode, infer, **load):
        system = SimpleNamespace(n_samples=5, infer=infer)
        return await expected_rate(system, Load(mode, Rules(), timeout_s=0.2, **load), for_s=0.1)

    async def answer(samples):
        assert all(0 <= sample < 5 for sample in samples)
        await asyncio.sleep(0.01)

    async def refuse(samples):
        raise RequestError("refused")

    async def hang(samples):
        await asyncio.sleep(3600)

    assert 20 < asyncio.run(rate("single_stream", answer)) <= 100
    assert 80 < asyncio.run(rate("multi_stream", answer, samples_per_query=4)) <= 400
    assert 300 < asyncio.run(rate("offline", answer, batch=3, concurrency=5)) <= 1500
    assert asyncio.run(rate("offline", refuse)) == asyncio.run(rate("single_stream", hang)) == 1.0


# --- the schedule ------------------------------------------------------------------------------------------------------------


def test_a_schedule_ends_as_loadgens_does():
    times = server_schedule(3, 1000.0, min_duration_s=2.0, min_queries=1)
    assert times[0] == 0
    assert times[-2] < 2.0 <= times[-1]
    assert close(len(times), 2000, share=0.1)
    longer = server_schedule(3, 1000.0, min_duration_s=2.0, min_queries=200_000)
    assert len(longer) == 200_000
    np.testing.assert_array_equal(longer[: len(times)], times)
    assert close(longer[-1], 200.0, share=0.02)


def test_the_three_seeds_differ_and_follow_from_one():
    assert len(set(seeds(0))) == 3
    assert seeds(0) == seeds(0) != seeds(1)
