"""The asyncio engine: all four modes against systems of known service time, failures, time limits, Ctrl-C, and its timer."""

from __future__ import annotations

import asyncio
import gc
import time

import numpy as np
import pytest

from benchmarks.errors import LoadGeneratorError, RequestError
from benchmarks.load.alarm import Alarm, sleep_until
from benchmarks.load.arrivals import poisson
from benchmarks.load.engine import FAILURES_IN_A_ROW, AsyncioEngine
from benchmarks.load.summary import throughput_per_s
from benchmarks.load.values import Load, Rules
from benchmarks.load.verdict import judge
from benchmarks.models.model import model
from benchmarks.quality.truth import true_done_s
from benchmarks.servers.emulated_device import EmulatedDevice


class Device:
    """A queue before one server that takes the same time for every request, in virtual time: its lateness does not add up."""

    n_samples = 10

    def __init__(self, service_s=0.0):
        self.service_s, self.free_s = service_s, 0.0
        self.asked = []
        self.in_flight = self.most_in_flight = 0

    async def open(self):
        return {}

    async def close(self):
        pass

    async def infer(self, samples):
        number = len(self.asked)
        self.asked.append(tuple(samples))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.free_s = max(time.monotonic(), self.free_s) + self.service_s
        try:
            await sleep_until(self.free_s)
            await self.fault(number)
        finally:
            self.in_flight -= 1

    async def fault(self, number):
        pass


def run(system, load, *, progress=lambda done: None):
    async def measure():
        return await AsyncioEngine().run(system, load, start_s=time.monotonic() + 0.05, progress=progress)

    return asyncio.run(measure())


def whole(log):
    """Every query has all its times, in order."""
    assert len(log.due_s) == len(log.sent_s) == len(log.done_s) == len(log.samples) == len(log.failed)
    assert (np.diff(log.due_s) >= 0).all()
    assert (log.slip_s >= 0).all()
    assert (log.done_s >= log.sent_s).all()
    assert 0 < log.loop_cpu_s <= log.cpu_s
    return log


# -- modes --------------------------------------------------------------------------------------------------------------


def test_server_sends_at_the_seeded_times_whatever_is_in_flight():
    device = Device(0.02)
    load = Load("server", Rules(min_duration_s=1.0), rate_per_s=40.0, seed=3)
    log = whole(run(device, load))
    assert (log.due_s == poisson(40.0, duration_s=1.0, seed=3)).all()
    assert (log.samples == 1).all()
    assert not log.failed.any()
    assert device.most_in_flight > 1
    # Lindley's recursion on the seeded arrivals: what an ideal client would see
    truth = true_done_s(EmulatedDevice.constant(model("echo"), 20.0), log.due_s.tolist()) - log.due_s
    assert np.median(log.latency_s - truth) < 0.5  # a generous limit: the machine may be busy
    assert (log.latency_s > truth - 1e-6).all()


def test_server_sends_enough_queries_for_early_stopping():
    log = whole(run(Device(), Load("server", Rules(min_duration_s=0.1, latency_bound_ms=500), rate_per_s=2000.0)))
    assert len(log) == 662
    log = whole(run(Device(), Load("server", Rules(min_duration_s=0.1, min_queries=300), rate_per_s=2000.0)))
    assert len(log) == 300


def test_the_same_seed_sends_the_same_samples_and_another_does_not():
    def asked(seed, mode="server"):
        device = Device()
        run(
            device,
            Load(mode, Rules(min_duration_s=0.05, min_queries=100, min_samples=100), rate_per_s=1000.0, batch=3, seed=seed),
        )
        return device.asked[:90]

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
    assert set(asked(1)) == {(sample,) for sample in range(10)}
    batches = asked(1, "offline")
    assert batches[:3] == batches[3:6]
    assert len({sample for batch in batches[:3] for sample in batch}) == 9, "few distinct batches, all samples of them different"


def test_offline_keeps_its_requests_in_flight_until_both_limits():
    device = Device(0.004)
    log = whole(run(device, Load("offline", Rules(min_duration_s=0.5), batch=4, concurrency=3)))
    assert device.most_in_flight == 3
    assert (log.samples == 4).all()
    assert log.end_s >= 0.5
    assert throughput_per_s(log) <= 4 / 0.004 * 1.01
    log = whole(run(Device(0.001), Load("offline", Rules(min_duration_s=0.0, min_samples=640), batch=64, concurrency=2)))
    assert 640 <= log.samples.sum() <= 640 + 64


def test_a_batch_larger_than_all_samples_repeats_them():
    device = Device()
    run(device, Load("offline", Rules(min_duration_s=0.0, min_samples=32), batch=32))
    assert len(device.asked[0]) == 32
    assert set(device.asked[0]) == set(range(10))


@pytest.mark.parametrize(("mode", "size", "fewest"), [("single_stream", 1, 64), ("multi_stream", 8, 662)])
def test_streams_send_the_next_query_when_the_last_is_done(mode, size, fewest):
    device = Device(0.0005)
    log = whole(run(device, Load(mode, Rules(min_duration_s=0.1))))
    assert device.most_in_flight == 1
    assert len(log) >= fewest
    assert (log.samples == size).all()
    assert (log.due_s[1:] >= log.done_s[:-1]).all()
    assert judge(log, Load(mode, Rules(min_duration_s=0.1)), in_process=True).valid


def test_progress_and_times_are_relative_to_the_common_start():
    told = []
    began = time.monotonic()
    log = run(Device(0.01), Load("offline", Rules(min_duration_s=0.6)), progress=told.append)
    assert began + 0.05 <= log.began_s <= time.monotonic() - (log.end_s - log.due_s[0])
    assert log.end_s >= 0.6
    assert log.due_s[0] >= 0
    assert told == sorted(told)
    assert told[-1] == log.samples.sum()
    assert len(told) >= 3


# -- failures -----------------------------------------------------------------------------------------------------------


class Flaky(Device):
    async def fault(self, number):
        if number % 5 == 4:
            raise RequestError(f"refused {number % 10}")


@pytest.mark.parametrize("mode", ["offline", "server", "single_stream", "multi_stream"])
def test_failed_requests_are_written_down_and_the_run_goes_on(mode):
    load = Load(mode, Rules(min_duration_s=0.2), rate_per_s=500.0)
    log = whole(run(Flaky(), load))
    assert log.failed[4::5].all()
    assert not log.failed[:4].any()
    assert {message for message, _ in log.failures} == {"refused 4", "refused 9"}
    assert sum(count for _, count in log.failures) == log.failed.sum()
    assert not judge(log, load).valid


class Hanging(Device):
    """The third request is never answered."""

    async def fault(self, number):
        if number == 2:
            await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("mode", ["offline", "server", "single_stream"])
def test_a_request_without_an_answer_fails_after_the_time_limit(mode):
    load = Load(mode, Rules(min_duration_s=0.7, min_queries=50), rate_per_s=200.0, timeout_s=0.5, concurrency=2)
    log = whole(run(Hanging(0.001), load))
    assert log.failed.nonzero()[0].tolist() == [2]
    assert log.failures == (("no answer within 0.5 s", 1),)
    assert log.done_s[2] - log.sent_s[2] >= 0.5
    assert len(log) >= 50


class Dead(Device):
    async def fault(self, number):
        if number >= 20:
            raise ConnectionRefusedError("connection refused")


@pytest.mark.parametrize("mode", ["offline", "server", "single_stream"])
def test_a_dead_server_is_not_asked_for_ever(mode):
    load = Load(mode, Rules(min_duration_s=60.0, min_queries=10**5), rate_per_s=1000.0, concurrency=4)
    log = whole(run(Dead(), load))
    assert 20 + FAILURES_IN_A_ROW <= len(log) < 5000  # of the 60,000 and more that were to be sent
    assert log.failures[0][0] == "connection refused"
    assert log.failed[20:].all()
    assert any("lasted" in reason for reason in judge(log, load).reasons)


class Silent(Device):
    async def fault(self, number):
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("mode", ["offline", "server", "single_stream"])
def test_a_silent_server_ends_the_run_soon_after_the_time_limit(mode):
    load = Load(mode, Rules(min_duration_s=3600.0), rate_per_s=20.0, timeout_s=0.2, concurrency=3)
    log = whole(run(Silent(), load))
    assert log.failed.all()
    assert 2 <= len(log) < 100
    assert {message.split(":")[0] for message, _ in log.failures} <= {"no answer within 0.2 s", "given up"}
    assert len(judge(log, load).reasons) >= 2


class Broken(Device):
    async def fault(self, number):
        if number == 7:
            raise KeyError("a mistake in the system")


@pytest.mark.parametrize("mode", ["offline", "server"])
def test_what_no_system_should_raise_ends_the_run_with_a_typed_error(mode):
    with pytest.raises(LoadGeneratorError, match=r"the system raised KeyError\('a mistake in the system'\)"):
        run(Broken(0.001), Load(mode, Rules(min_duration_s=3600.0), rate_per_s=100.0, concurrency=2))


@pytest.mark.parametrize("mode", ["offline", "server", "single_stream"])
@pytest.mark.parametrize("after_s", [0.02, 0.2])  # before the start, and in the middle
def test_cancelling_leaves_nothing_behind(mode, after_s):
    device = Device(0.01)

    async def interrupted():
        load = Load(mode, Rules(min_duration_s=3600.0), rate_per_s=300.0, concurrency=8)
        task = asyncio.create_task(AsyncioEngine().run(device, load, start_s=time.monotonic() + 0.05, progress=lambda _: None))
        await asyncio.sleep(after_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert device.in_flight == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(interrupted())
    assert gc.get_freeze_count() == 0


# -- the timer ----------------------------------------------------------------------------------------------------------


def test_an_alarm_rings_once_for_the_last_time_it_was_set_to():
    async def rings():
        loop, rung = asyncio.get_running_loop(), []
        alarm = Alarm(loop, lambda: rung.append(time.monotonic()))
        now = time.monotonic()
        alarm.set(now + 3600)
        alarm.set(now + 0.02)
        await asyncio.sleep(0.1)
        assert len(rung) == 1
        assert now + 0.02 <= rung[0]
        alarm.set(now)  # past
        alarm.set(0.0)
        await asyncio.sleep(0.05)
        assert len(rung) == 2
        alarm.set(time.monotonic() + 0.02)
        alarm.close()
        await asyncio.sleep(0.05)
        assert len(rung) == 2

    asyncio.run(rings())


def test_alarms_work_where_the_system_has_no_timerfd(monkeypatch):
    monkeypatch.setattr("benchmarks.load.alarm._LIBC", None)
    log = whole(run(Device(0.001), Load("server", Rules(min_duration_s=0.2), rate_per_s=300.0)))
    assert (log.due_s == poisson(300.0, duration_s=0.2, seed=0)).all()
    assert not log.failed.any()


def test_sleeping_is_finer_than_asyncios_millisecond():
    async def late_s():
        result = []
        for _ in range(200):
            at_s = time.monotonic() + 0.0003
            await sleep_until(at_s)
            result.append(time.monotonic() - at_s)
        return result

    late = asyncio.run(late_s())
    assert min(late) >= 0
    assert min(late) < 0.0005  # asyncio's own sleep ends at whole milliseconds: 0.7 ms late
