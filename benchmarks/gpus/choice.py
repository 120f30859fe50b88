"""Which sampler suits: a DCGM exporter where one is named, the driver where there is one, else none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.gpus.dcgm import DcgmExporter
from benchmarks.gpus.nvml_sampler import NvmlSource, mig_devices
from benchmarks.gpus.sampling import NoSampler, ThreadSampler
from benchmarks.gpus.values import Device, Sampler
from benchmarks.results.values import STAND_INS
from benchmarks.scenarios.scenario import Instance
from partitioner.errors import TargetError


def sampler_for(
    instances: Sequence[Instance], *, device: str = "gpu", dcgm_url: str | None = None, interval_s: float = 1.0
) -> Sampler:
    """Return what watches the GPUs of a scenario on this machine, or behind an exporter.

    How busy MIG instances are only a DCGM exporter says (``DCGM_FI_PROF_*``); the driver tells power, energy, clocks,
    temperature and memory.

    Parameters
    ----------
    instances : of the scenario.
    device : ``gpu``, or a stand-in, of which there are no GPU metrics.
    dcgm_url : address of a DCGM exporter, e.g. ``http://gpu-host:9400/metrics``.
    interval_s : from one reading to the next [s].

    Raises
    ------
    SpecError
        `dcgm_url` is not an address.
    BenchmarkError
        `dcgm_url` is given and prometheus-client is not installed.
    """
    if device in STAND_INS:
        return NoSampler(f"device {device!r} is not a GPU: there are no GPU metrics")
    exporter = None if dcgm_url is None else DcgmExporter(dcgm_url)
    known: Mapping[str, Device] = {}
    problem = ""
    try:
        known = mig_devices()
    except TargetError as error:
        problem = str(error)
    if exporter is not None:
        return ThreadSampler(exporter, instances, mig_devices=known, interval_s=interval_s)
    if problem:
        return NoSampler(f"no GPU metrics: {problem}; or name a DCGM exporter")
    return ThreadSampler(NvmlSource(), instances, mig_devices=known, interval_s=interval_s)
