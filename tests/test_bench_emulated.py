"""The emulated device: its queue against brute force, its times against the calibration, and its server as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import RequestError
from benchmarks.models.model import echo_of, model
from benchmarks.servers.emulated import LABEL, EmulatedDevice, Faults, command, read_log
from benchmarks.servers.emulated_queue import BatchQueue
from benchmarks.triton import TritonSystem
from partitioner.errors import SpecError
from partitioner.performance import Calibration, CalibrationError

ECHO, RESNET, BERT = model("echo"), model("resnet50"), model("bert-99")

# -- the queue ---------------------------------------------------------------------------------------------------------

ARRIVALS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 3)), min_size=1, max_size=40)


def played(
    queue: BatchQueue[int], arrivals: Sequence[tuple[float, int]], looks: Sequence[float] = ()
) -> dict[int, tuple[float, float]]:
    """Return start and end of each request when the queue is looked at at its arrivals, and at other times."""
    found = {}
    events = sorted([(at, 1, i) for i, (at, _) in enumerate(arrivals)] + [(at, 0, -1) for at in looks])
    for at, _, i in [*events, (float("inf"), 0, -1)]:
        for batch in queue.advance(at) if i < 0 else queue.arrive(at, arrivals[i][1], i):
            assert sum(batch.samples) <= queue.most
            for token, arrival in zip(batch.tokens, batch.arrivals_s, strict=True):
                assert arrival == arrivals[token][0] <= batch.start_s
                found[token] = (batch.start_s, batch.done_s)
    return found


def brute_force(
    arrivals: Sequence[tuple[float, int]], service: Sequence[float], processes: int
) -> dict[int, tuple[float, float]]:
    """Step through whole moments: in each, free servers take what has arrived, those that came first alone."""
    free, waiting, found = [0] * processes, [], {}
    pending = sorted((at, i) for i, (at, _) in enumerate(arrivals))
    for now in range(500):
        moment = [i for at, i in pending if at == now]
        for i in [None, *moment]:  # servers that become free look before what arrives in the same moment
            waiting += [] if i is None else [i]
            for server in range(processes):
                if free[server] <= now and waiting:
                    batch = []
                    while waiting and sum(arrivals[j][1] for j in batch) + arrivals[waiting[0]][1] <= len(service):
                        batch.append(waiting.pop(0))
                    free[server] = now + service[sum(arrivals[j][1] for j in batch) - 1]
                    found |= dict.fromkeys(batch, (now, free[server]))
    return found


@given(ARRIVALS, st.lists(st.integers(1, 9), min_size=3, max_size=8), st.integers(1, 3))
def test_the_queue_serves_as_brute_force_does(arrivals, service, processes):
    arrivals = sorted(arrivals)
    assert played(BatchQueue(service, processes), arrivals) == brute_force(arrivals, service, processes)


@given(ARRIVALS, st.lists(st.floats(0, 60), max_size=20))
def test_who_looks_late_or_often_changes_nothing(arrivals, looks):
    arrivals = sorted(arrivals)
    service = (3.0, 4.0, 5.0, 5.5)
    assert played(BatchQueue(service, 2), arrivals, looks) == played(BatchQueue(service, 2), arrivals)


def test_one_at_a_time_it_is_the_queue_of_lindley():
    at = np.cumsum(np.random.default_rng(0).exponential(1.25, 2000))
    found = played(BatchQueue([1.0]), [(float(t), 1) for t in at])
    done = 0.0
    for i, t in enumerate(at):
        done = max(done, t) + 1.0
        assert found[i][1] == pytest.approx(done)


def test_what_is_taken_next_and_when():
    queue: BatchQueue[str] = BatchQueue([2.0, 3.0])
    assert queue.next_start_s is None
    (first,) = queue.arrive(1.0, 1, "a")
    assert (first.start_s, first.done_s, first.tokens) == (1.0, 3.0, ("a",))
    for name in "bcd":
        assert not queue.arrive(2.0, 1, name)
    assert queue.next_start_s == 3.0
    assert not queue.advance(2.9)
    (second,) = queue.advance(3.0)
    assert second.tokens == ("b", "c")
    assert queue.next_start_s == 6.0


@pytest.mark.parametrize(("service", "processes"), [([], 1), ([1.0, -1.0], 1), ([1.0], 0)])
def test_a_queue_without_service_is_refused(service, processes):
    with pytest.raises(SpecError, match="at least one of each is wanted"):
        BatchQueue(service, processes)


# -- the device --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "busy"), [("1g.10gb", True), ("1g.10gb", False), ("4g.40gb", True), ("7g.80gb", True)])
def test_measured_profiles_take_the_time_of_the_calibrations_law(profile, busy):
    known = Calibration.default()
    batches = known.batches("resnet50", "A100-80GB")
    assert batches is not None
    shape = batches.gpu.profile(profile)
    device = EmulatedDevice.of(RESNET, "A100-80GB", profile, busy=busy)
    for batch in (1, 8, 32):
        assert device.service_ms[batch - 1] == pytest.approx(batches.service_ms(shape, batch, 1, busy=busy), rel=1e-4)
    assert device.name == f"A100-80GB {profile}"
    assert "ParvaGPU" in device.source


def test_a_larger_profile_can_do_more_and_batches_can_be_limited():
    small, large = (EmulatedDevice.of(RESNET, "A100-80GB", profile) for profile in ("1g.10gb", "4g.40gb"))
    assert 2 < large.capacity_per_s / small.capacity_per_s < 5
    one = EmulatedDevice.of(RESNET, "A100-80GB", "1g.10gb", batch=1)
    assert one.service_ms == small.service_ms[:1]
    assert one.capacity_per_s == pytest.approx(1000 / small.service_ms[0])


@pytest.mark.parametrize(("profile", "parts"), [("whole", 1), ("T4-16Q", 1), ("T4-8Q", 2)])
def test_published_figures_give_their_throughput(profile, parts):
    known = Calibration.default()
    published = known.published("resnet50", "T4")
    assert published is not None
    offline = published.offline(published.gpu.profile(profile), busy=True, extrapolate=False).value
    device = EmulatedDevice.of(RESNET, "T4", profile)
    assert device.max_batch == RESNET.max_batch
    assert device.capacity_per_s == pytest.approx(offline, rel=0.02)
    if parts > 1:  # no server figure is known of time slices
        assert device.service_ms[0] == pytest.approx(1000 / offline, rel=1e-4)
    else:
        assert device.service_ms[0] == pytest.approx(
            published.lowest_ms(published.gpu.profile(profile), busy=True, extrapolate=False)
        )


def test_what_is_not_known_to_fit_has_to_be_asked_for():
    with pytest.raises(CalibrationError, match=r"T4-4Q has 4 GiB; .*extrapolate=True"):
        EmulatedDevice.of(RESNET, "T4", "T4-4Q")
    quarter, whole = EmulatedDevice.of(RESNET, "T4", "T4-4Q", extrapolate=True), EmulatedDevice.of(RESNET, "T4", "T4-16Q")
    assert quarter.capacity_per_s == pytest.approx(whole.capacity_per_s / 4, rel=0.02)


def test_a_calibration_of_ones_own_counts():
    known = Calibration.default()
    points = [
        replace(p, throughput_per_s=p.throughput_per_s / 2, latency_ms=2 * (p.latency_ms or 0)) for p in known.points if p.batch
    ]
    own = Calibration(points)
    slow, fast = (EmulatedDevice.of(RESNET, "A100-80GB", "1g.10gb", calibration) for calibration in (own, known))
    assert slow.service_ms[7] > 1.5 * fast.service_ms[7]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((RESNET, "A100-80GB", "1g.10gb"), {"batch": 0}, "a batch of 0; 1 to 128 are possible"),
        ((RESNET, "A100-80GB", "1g.10gb"), {"batch": 128}, "a batch of 128 with 1 processes is not known to fit; at most"),
        ((ECHO, "A100-80GB", "1g.10gb"), {}, "unknown model 'echo'"),
        ((BERT, "A100-80GB", "1g.11gb"), {}, "1g.11gb"),
        ((RESNET, "B300", "whole"), {}, "B300"),
        ((replace(ECHO, name="vgg16"), "T4", "whole"), {}, "measured GPUs are A100-80GB"),
    ],
)
def test_what_the_calibration_does_not_know_is_said(arguments, options, message):
    with pytest.raises(SpecError, match=message):
        EmulatedDevice.of(*arguments, **options)


def test_time_sliced_profiles_without_figures_are_refused():
    with pytest.raises(CalibrationError):
        EmulatedDevice.of(replace(ECHO, name="vgg16"), "A100-80GB", "whole", Calibration(Calibration.default().points[:1]))


def test_json_gives_the_same_device_back():
    device = replace(EmulatedDevice.of(BERT, "T4", "T4-8Q"), processes=2, faults=Faults(crash_after=3, wrong="value"))
    assert EmulatedDevice.from_json(device.to_json()) == device
    own = replace(device, model=replace(BERT, file=Path("own.onnx")))
    assert EmulatedDevice.from_json(own.to_json()) == own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "emulated device - JSONDecodeError"),
        ("{}", "emulated device - KeyError.*'model'.*; EmulatedDevice.to_json writes what is wanted"),
        (EmulatedDevice.constant(ECHO, 1).to_json().replace("[1]", "[-1]"), "finite ones of at least 0 ms are wanted"),
        (EmulatedDevice.constant(ECHO, 1).to_json().replace('"shape"', '"odd"', 9), "emulated device|wrong 'odd'"),
    ],
)
def test_a_device_that_is_none_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        EmulatedDevice.from_json(text)


@pytest.mark.parametrize("fault", [{"wrong": "colour"}, {"refusal": "NO"}])
def test_unknown_faults_are_refused(fault):
    with pytest.raises(SpecError, match="is unknown; known: "):
        Faults(**fault)


# -- the process -------------------------------------------------------------------------------------------------------


@contextmanager
def running(device: EmulatedDevice, *, log: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """Start the server of a device; yield its process and what it says when it is ready."""
    with subprocess.Popen(command(device, log=log), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(30)


def test_a_log_tells_the_truth_about_every_request(tmp_path):
    """Two closed loops against one server that takes 10 ms for one sample at a time: the law holds exactly."""
    answered: list[float] = []

    async def ask(address: str) -> None:
        system = TritonSystem(address, ECHO)
        facts = await system.open()
        assert facts["parameter device"] == LABEL
        assert facts["parameter emulates"] == "10 ms a batch"

        async def loop() -> None:
            for i in range(12):
                await system.infer([i])
                answered.append(time.monotonic())

        await asyncio.gather(loop(), loop())
        await system.close()

    log = tmp_path / "log"
    with running(EmulatedDevice.constant(ECHO, 10), log=log) as (process, said):
        assert said["device"] == LABEL
        assert said["pid"] == process.pid
        asyncio.run(ask(f"127.0.0.1:{said['port']}"))
    assert process.returncode == 0
    seen = read_log(log)
    assert len(seen["samples"]) == 24
    assert set(seen["samples"]) == {1.0}
    assert seen["done_s"] - seen["start_s"] == pytest.approx(0.010)
    assert seen["start_s"][1:] == pytest.approx(np.maximum(seen["arrival_s"][1:], seen["done_s"][:-1]))
    assert all(at > due for at, due in zip(sorted(answered), sorted(seen["done_s"]), strict=True)), "no answer leaves early"


def test_what_waits_is_served_as_one_batch(tmp_path):
    async def ask(address: str) -> None:
        system = TritonSystem(address, RESNET, n_samples=2, shared_memory=True)
        facts = await system.open()
        assert facts["max_batch"] == "4"
        first = asyncio.create_task(system.infer([0]))
        await asyncio.sleep(0.1)
        await asyncio.gather(*(system.infer([1]) for _ in range(4)), first)
        await system.close()
        twin = TritonSystem(address, echo_of(RESNET), n_samples=2)
        await twin.open()
        await twin.infer([0, 1])  # the twin does not wait for the device
        await twin.close()

    log = tmp_path / "log"
    with running(EmulatedDevice.constant(RESNET, 400, batch=4), log=log) as (_, said):
        asyncio.run(ask(f"127.0.0.1:{said['port']}"))
    seen = read_log(log)
    assert len(set(seen["start_s"])) == 2
    assert list(seen["start_s"][1:]) == [seen["done_s"][0]] * 4


def test_a_crash_fails_all_that_wait():
    async def ask(address: str) -> list[object]:
        system = TritonSystem(address, ECHO, timeout_s=30)
        await system.open()
        for i in range(3):
            await system.infer([i])
        found = await asyncio.gather(*(system.infer([i]) for i in range(8)), return_exceptions=True)
        await system.close()
        return list(found)

    device = replace(EmulatedDevice.constant(ECHO, 20), faults=Faults(crash_after=6))
    with running(device) as (process, said):
        found = asyncio.run(ask(f"127.0.0.1:{said['port']}"))
        assert process.wait(30) == -signal.SIGKILL
    assert {type(each) for each in found} == {RequestError}
    assert all("UNAVAILABLE" in str(each) for each in found)


def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(command(EmulatedDevice.constant(ECHO, 1), port=port), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} - cannot be listened on" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bad_device_ends_the_process_with_its_reason():
    line = [sys.executable, "-m", "benchmarks.servers.emulated", "--spec", "{}"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "emulated device - KeyError" in ended.stderr


def test_a_log_that_cannot_be_written_is_said():
    line = command(EmulatedDevice.constant(ECHO, 1), log=Path("/dev/full"))
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]

        async def ask() -> None:
            system = TritonSystem(f"127.0.0.1:{port}", ECHO)
            await system.open()
            await system.infer([0])
            await system.close()

        asyncio.run(ask())
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == "/dev/full - cannot be written: No space left on device; make room, or name another file\n"


def test_describing_a_device_loads_nothing_heavy():
    code = (
        "import sys; from benchmarks.servers.emulated import EmulatedDevice, command; from benchmarks.models.model import model;"
        "command(EmulatedDevice.constant(model('echo'), 1));"
        "print([name for name in ('grpc', 'tritonclient', 'onnx', 'onnxruntime', 'ray') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
