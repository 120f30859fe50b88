"""The asyncio engine against MLPerf's LoadGen, on one emulated server and, in mode server, with LoadGen's own schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.load.log import RequestLog
from benchmarks.load.summary import latencies, throughput_per_s
from benchmarks.load.values import Load, Rules
from benchmarks.models.model import BenchModel, model
from benchmarks.quality.clients import measure
from benchmarks.quality.figures import Near
from benchmarks.quality.truth import emulated
from benchmarks.servers.emulated_device import EmulatedDevice

WITHIN = 0.03
_SHARE = 0.7  # of the capacity, in mode server
_FIGURES = {
    "offline": (),
    "server": ("p50", "p99"),
    "single_stream": ("p50", "p90"),
    "multi_stream": ("p50", "p99"),
}


def engines_agree(seconds: float, *, repeats: int = 3, seed: int = 0) -> Iterator[Near]:
    """Yield what the asyncio engine measures against what LoadGen does, in all modes.

    Parameters
    ----------
    seconds : of each run [s].
    repeats : of each run, in turn; of every figure the best counts: other programs on the machine can only make it worse.
    seed : of the loads.
    """
    device = EmulatedDevice("batches", model("echo"), tuple(10.0 + size for size in range(1, 17)))
    with emulated(device) as address:
        for mode, names in _FIGURES.items():
            load = Load(mode, Rules(min_duration_s=seconds), batch=4, concurrency=8, rate_per_s=_rate(device, mode), seed=seed)
            pairs = [_both(address, device.model, load) for _ in range(repeats)]
            ours, theirs = zip(*pairs, strict=True)
            yield Near(mode, "samples/s", max(map(throughput_per_s, ours)), max(map(throughput_per_s, theirs)), WITHIN)
            for name in names:
                yield Near(mode, f"{name} [ms]", _latency(ours, name), _latency(theirs, name), WITHIN)


def _rate(device: EmulatedDevice, mode: str) -> float | None:
    return _SHARE * device.capacity_per_s if mode == "server" else None


def _both(address: str, asked: BenchModel, load: Load) -> tuple[RequestLog, RequestLog]:
    """Measure with both engines; each needs something of the other."""
    if load.mode == "server":  # LoadGen's schedule
        (theirs,) = measure(address, asked, load, engine="loadgen")
        (ours,) = measure(address, asked, load, due_s=(theirs.due_s - theirs.due_s[0]).tolist())
    else:  # the rate to expect, from which LoadGen makes its queries
        (ours,) = measure(address, asked, load)
        (theirs,) = measure(address, asked, replace(load, rate_per_s=throughput_per_s(ours)), engine="loadgen")
    return ours, theirs


def _latency(logs: Sequence[RequestLog], name: str) -> float:
    """Return the least of some runs' percentile [ms]."""
    seen = [latencies(log) for log in logs]
    return min(figures[name] for figures in seen if figures is not None)  # the emulated server answers
