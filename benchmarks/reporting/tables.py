"""Tables of how a comparison came about: what was measured how, and how well. Knows no HTML and no plots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from benchmarks.comparing import Comparison, Row
from benchmarks.results.values import InstanceRun, Repeat
from partitioner.report.section import plain, rate

_METRICS = {
    "sm_active": "SM active",
    "gr_engine_active": "engine active",
    "sm_occupancy": "SM occupancy",
    "tensor_active": "tensor active",
    "dram_active": "DRAM active",
    "pcie_tx_bytes_per_s": "PCIe sent [MB/s]",
    "pcie_rx_bytes_per_s": "PCIe received [MB/s]",
    "power_w": "power [W]",
    "gpu_power_w": "power of the whole GPU [W]",
    "sm_clock_mhz": "SM clock [MHz]",
    "gpu_sm_clock_mhz": "SM clock of the GPU [MHz]",
    "temperature_c": "temperature [°C]",
    "gpu_temperature_c": "temperature of the GPU [°C]",
    "memory_used_mib": "memory used [MiB]",
}

Rows = list[Mapping[str, str]]


def quality(comparison: Comparison) -> Rows:
    """Return how well each scenario was measured: the worst of all repeats and instances."""
    return [_quality(row) for row in comparison.rows]


def _quality(row: Row) -> Mapping[str, str]:
    repeats = row.result.repeats
    runs = list(_runs(repeats))
    ceilings = [run.client_ceiling_per_s for run in runs if run.client_ceiling_per_s is not None]
    return {
        "scenario": row.name,
        "repeats": str(len(repeats)),
        "queries": f"{sum(run.queries for run in runs):,}",
        "failed": f"{sum(run.failed for run in runs):,}",
        "common window [s]": plain(round(min(repeat.window_s for repeat in repeats), 1)),
        "overlap": f"{min(repeat.overlap for repeat in repeats):.1%}",
        "start skew [ms]": plain(round(max(repeat.start_skew_ms for repeat in repeats), 2)),
        "issue slip p99 [ms]": plain(round(max(run.slip_p99_ms for run in runs), 2)),
        "CPU of the client [µs/request]": plain(round(max(run.cpu_us_per_request for run in runs), 1)),
        "ceiling of the client [1/s]": rate(min(ceilings)) if ceilings else "-",
    }


def gpu_metrics(comparison: Comparison) -> Rows:
    """Return what the GPUs did, mean over the repeats, by instance; empty where nothing was seen of them."""
    seen = [(row.name, runs) for row in comparison.rows for runs in _by_instance(row) if any(run.gpu_metrics for run in runs)]
    names = [name for name in _METRICS if any(name in run.gpu_metrics for _, runs in seen for run in runs)]
    return [
        {"scenario": scenario, "instance": runs[0].instance} | {_METRICS[name]: _metric(name, runs) for name in names}
        for scenario, runs in seen
    ]


def _metric(name: str, runs: Sequence[InstanceRun]) -> str:
    values = [run.gpu_metrics[name] for run in runs if name in run.gpu_metrics]
    if not values:
        return "-"
    mean = fmean(values)
    if name.endswith("_bytes_per_s"):
        return plain(round(mean / 1e6, 1))
    return f"{mean:.1%}" if name.endswith(("_active", "_occupancy")) else plain(round(mean, 1))


def circumstances(comparison: Comparison) -> Rows:
    """Return all that has to be known to repeat the measurement, one line for each piece; what differs, by scenario."""
    entries: dict[str, dict[str, list[str]]] = {}
    for row in comparison.rows:
        for name, value in _told(row):
            entries.setdefault(name, {}).setdefault(value, []).append(row.name)
    everywhere = len(comparison.rows)
    return [
        {"what": name, "value": value, "where": "" if len(scenarios) == everywhere else ", ".join(scenarios)}
        for name, values in entries.items()
        for value, scenarios in values.items()
    ]


def _told(row: Row) -> Iterator[tuple[str, str]]:
    how = row.result.metadata
    yield "model", how.model
    yield "mode (MLPerf's scenario)", how.mode
    yield "GPU", how.gpu
    yield "geometry", how.geometry
    yield "device", f"{how.device} ({row.result.label})" if row.result.label else how.device
    yield "servers", how.servers
    yield "load generator", how.engine
    yield "batch", str(how.batch)
    yield "requests in flight", str(how.concurrency)
    yield "seed of the first repeat", str(how.seed)
    for name, limit in how.rules.items():
        yield f"rule {name}", "none" if limit is None else plain(limit)
    for name, version in how.software.items():
        yield f"software: {name}", version
    for name, words in how.host.items():
        yield f"host {name}", words
    facts: dict[str, dict[str, None]] = {}
    for run in _runs(row.result.repeats):
        for name, value in run.facts.items():
            facts.setdefault(name, {})[value] = None
    for name, values in facts.items():
        yield f"server: {name}", ", ".join(values)


def _runs(repeats: Iterable[Repeat]) -> Iterator[InstanceRun]:
    for repeat in repeats:
        yield from repeat.instances


def _by_instance(row: Row) -> Iterator[list[InstanceRun]]:
    groups: dict[str, list[InstanceRun]] = {}
    for run in _runs(row.result.repeats):
        groups.setdefault(run.instance, []).append(run)
    yield from groups.values()
