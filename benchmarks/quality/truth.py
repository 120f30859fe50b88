"""The asyncio engine against an emulated server of known service time, over real gRPC.

What an ideal client would see follows from the seeded arrivals and the queue alone. All that the measurement adds is counted
as its error: late sending, client, wire and the emulated server's own lateness.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from benchmarks.load.log import RequestLog
from benchmarks.load.summary import latencies, percentile_of, throughput_per_s
from benchmarks.load.values import Load, Rules
from benchmarks.models.model import model
from benchmarks.quality.clients import measure
from benchmarks.quality.figures import Near
from benchmarks.servers import ServerTask, server_for
from benchmarks.servers.emulated_device import EmulatedDevice

THROUGHPUT_WITHIN = 0.02
LATENCY_WITHIN = 0.05
SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of the device's capacity."""
_QUERIES = 400
"""At least: the 99th percentile of fewer is that of one or two queries, which any other program on the machine can delay."""


def devices() -> dict[str, EmulatedDevice]:
    """Return the devices that are measured, by what they are called in the table.

    Their times are long beside what a request takes through two Python programs and gRPC, some 2 ms at low rates, which is real
    and no error of the measurement.
    """
    asked = model("echo")
    batches = tuple(80.0 + 2.0 * size for size in range(1, 17))
    return {
        "ten servers, 100 ms each": EmulatedDevice.constant(asked, 100.0, processes=10),
        "batches up to 16, 80 ms + 2 ms a sample": EmulatedDevice("batches", asked, batches),
    }


def true_done_s(device: EmulatedDevice, due_s: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return when each query would be done if it arrived when it was due [s]: Lindley's recursion, with batches.

    Parameters
    ----------
    device : whose queue it is.
    due_s : arrivals, ascending [s].

    Notes
    -----
    Written anew, so that a mistake in the emulated server's queue shows.
    """
    free_s = [-np.inf] * device.processes
    done_s = np.empty(len(due_s))
    first = 0
    while first < len(due_s):
        start_s = max(due_s[first], heapq.heappop(free_s))
        after = first + 1
        while after < len(due_s) and after - first < device.max_batch and due_s[after] <= start_s:
            after += 1
        done_s[first:after] = start_s + device.service_ms[after - first - 1] / 1e3
        heapq.heappush(free_s, float(done_s[first]))
        first = after
    return done_s


def against_truth(seconds: float, *, repeats: int = 3, seed: int = 0, shares: Sequence[float] = SHARES) -> Iterator[Near]:
    """Yield throughput and latency against the truth, for each device at each share of its capacity, and in a closed loop.

    Parameters
    ----------
    seconds : of each run [s].
    repeats : of each run, of which the one of the least p99 counts: other programs on the machine can only make it worse.
    seed : of the arrivals.
    shares : of the capacity.
    """
    for name, device in devices().items():
        with emulated(device) as address:
            for share in shares:
                load = Load("server", Rules(seconds, min_queries=_QUERIES), rate_per_s=share * device.capacity_per_s, seed=seed)
                log = min((measure(address, device.model, load)[0] for _ in range(repeats)), key=_p99_ms)
                yield from compare(f"{name}: {share:.0%}", log, true_done_s(device, log.due_s.tolist()))
            load = Load("offline", Rules(min_duration_s=seconds), concurrency=2 * device.processes * device.max_batch)
            (log,) = measure(address, device.model, load)
            yield Near(f"{name}: closed loop", "samples/s", throughput_per_s(log), device.capacity_per_s, THROUGHPUT_WITHIN)


def compare(case: str, log: RequestLog, done_s: npt.NDArray[np.float64]) -> Iterator[Near]:
    """Yield throughput, median and 99th percentile of a run against the truth.

    Parameters
    ----------
    case : how it was measured.
    log : what was seen.
    done_s : when each query would be done for an ideal client [s].
    """
    seen = latencies(log)
    assert seen is not None  # the emulated server answers
    truth_ms = 1e3 * (done_s - log.due_s)
    yield Near(case, "samples/s", throughput_per_s(log), len(log) / float(done_s.max()), THROUGHPUT_WITHIN)
    yield Near(case, "p50 [ms]", seen["p50"], percentile_of(truth_ms, 0.50), LATENCY_WITHIN)
    yield Near(case, "p99 [ms]", seen["p99"], percentile_of(truth_ms, 0.99), LATENCY_WITHIN)


def _p99_ms(log: RequestLog) -> float:
    return 1e3 * percentile_of(log.latency_s, 0.99)


@contextmanager
def emulated(device: EmulatedDevice) -> Iterator[str]:
    """Run the emulated server of a device; its address."""
    task = ServerTask(name=device.name, kind="emulated", model=device.model, emulation=json.loads(device.to_json()))
    server = server_for(task)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()
