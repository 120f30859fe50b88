"""The quality figures: their truth is true, and their clients really measure. The figures themselves are no test's business."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.load.arrivals import poisson
from benchmarks.load.values import Load, Rules
from benchmarks.models.model import model
from benchmarks.quality import __main__ as command
from benchmarks.quality import client, truth
from benchmarks.quality.clients import measure
from benchmarks.quality.figures import Bounded, Near
from benchmarks.servers.emulated_device import EmulatedDevice
from benchmarks.servers.emulated_queue import BatchQueue

ECHO = model("echo")


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 8), st.floats(0.1, 3.0))
@settings(max_examples=60, deadline=None)
def test_the_truth_and_the_emulated_servers_queue_agree(seed, processes, batch, load):
    """They were written independently of each other."""
    device = EmulatedDevice("any", ECHO, tuple(10.0 + 3 * size for size in range(1, batch + 1)), processes)
    due_s = poisson(load * device.capacity_per_s, duration_s=2.0, seed=seed)
    queue = BatchQueue([ms / 1000 for ms in device.service_ms], processes)
    taken = [batch for number, at_s in enumerate(due_s.tolist()) for batch in queue.arrive(at_s, 1, number)]
    done_s = np.full(len(due_s), np.nan)
    for served in [*taken, *queue.advance(float("inf"))]:
        done_s[list(served.tokens)] = served.done_s
    assert truth.true_done_s(device, due_s.tolist()) == pytest.approx(done_s)


def test_the_truth_is_pollaczek_and_khinchins_for_one_server():
    device = EmulatedDevice.constant(ECHO, 10.0)
    due_s = poisson(60.0, duration_s=20_000.0, seed=1)
    waits_s = truth.true_done_s(device, due_s.tolist()) - due_s - 0.01
    assert waits_s.mean() == pytest.approx(0.01 * 0.6 / (2 * (1 - 0.6)), rel=0.02)


def test_an_emulated_server_is_measured_over_grpc_as_it_is():
    device = EmulatedDevice.constant(ECHO, 20.0, processes=2)
    with truth.emulated(device) as address:
        load = Load("server", Rules(min_duration_s=1.5), rate_per_s=60.0, seed=5)
        (log,) = measure(address, device.model, load)
    assert (log.due_s == poisson(60.0, duration_s=1.5, seed=5)).all()
    assert not log.failed.any(), log.failures
    figures = list(truth.compare("case", log, truth.true_done_s(device, log.due_s.tolist())))
    assert [figure.figure for figure in figures] == ["samples/s", "p50 [ms]", "p99 [ms]"]
    assert figures[0].error < 1e-6, "nothing is faster than the truth"
    assert figures[1].error > 0
    assert figures[2].error > 0


def test_two_engines_and_several_processes_measure_one_server():
    device = EmulatedDevice.constant(ECHO, 5.0, processes=4)
    load = Load("offline", Rules(min_duration_s=0.5), concurrency=4, rate_per_s=device.capacity_per_s)
    with truth.emulated(device) as address:
        (loadgen,) = measure(address, device.model, load, engine="loadgen")
        (ours,) = measure(address, device.model, load)
    for log in (loadgen, ours):
        assert not log.failed.any()
        assert log.samples.sum() / log.end_s < device.capacity_per_s * 1.01


def test_a_figure_holds_within_what_is_allowed():
    assert Near("a", "b", 102.9, 100.0, 0.03).holds
    assert not Near("a", "b", 96.0, 100.0, 0.03).holds
    assert Bounded("a", "b", 5.0, 5.0).holds
    assert not Bounded("a", "b", 5.1, 5.0).holds
    assert Bounded("a", "b", 0.91, 0.9, least=True).holds
    assert not Bounded("a", "b", 0.89, 0.9, least=True).holds


def test_the_command_prints_a_table_and_says_by_its_status_what_holds(monkeypatch, capsys):
    figures = [Near("two servers: 20%", "p50 [ms]", 101.0, 100.0, 0.05), Near("two servers: 20%", "p99 [ms]", 120.0, 100.0, 0.05)]
    monkeypatch.setattr(command, "against_truth", lambda seconds, repeats, seed: iter(figures[:1]))
    assert command.main(["truth", "--seconds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "`python -m benchmarks.quality truth --seconds 1`" in printed
    assert "| two servers: 20% | p50 [ms] | 101 | 100 | +1.00% | 5% | yes |" in printed
    monkeypatch.setattr(command, "against_truth", lambda seconds, repeats, seed: iter(figures))
    assert command.main(["truth"]) == 1
    assert "+20.00% | 5% | NO |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command.main(["truht"])
    assert ended.value.code == 2
    assert "known: truth, engines, client" in capsys.readouterr().err


def test_the_client_is_measured_against_a_real_tritonserver(monkeypatch):
    monkeypatch.setattr("benchmarks.quality.clients._STARTING_S", 2.0)
    figures = list(client.client_keeps_up(0.3, repeats=1, processes=(1, 2)))
    names = [figure.figure for figure in figures]
    assert names[0] == "answered [1/s]"
    assert "CPU of a request [us]" in names
    assert all(figure.measured > 0 for figure in figures)
