"""NVIDIA's DCGM exporter: its page of metrics, read. The only module that imports prometheus_client.

Format: internal/pkg/rendermetrics/render_metrics.go of github.com/NVIDIA/dcgm-exporter, for instance
``DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-...",device="nvidia0",GPU_I_PROFILE="1g.5gb",GPU_I_ID="13",Hostname="n1"} 0.9``.
Units: etc/dcp-metrics-included.csv there. Under MIG a GPU has no series of its own, only its instances have (issue 561), how
busy they are stands in the profiling fields only (``DCGM_FI_DEV_GPU_UTIL`` stays 0: issue 216), and the power that stands with
an instance is that of the whole GPU (issue 257).
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from benchmarks.errors import BenchmarkError
from benchmarks.gpus.values import ENERGY, OF_THE_BOARD, Device, Reading
from partitioner.errors import SpecError

FIELDS: Mapping[str, tuple[str, float]] = {
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("gr_engine_active", 1.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active", 1.0),
    "DCGM_FI_PROF_SM_OCCUPANCY": ("sm_occupancy", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active", 1.0),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("dram_active", 1.0),
    "DCGM_FI_PROF_PCIE_TX_BYTES": ("pcie_tx_bytes_per_s", 1.0),
    "DCGM_FI_PROF_PCIE_RX_BYTES": ("pcie_rx_bytes_per_s", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": (ENERGY, 1e-3),  # counted in mJ
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_c", 1.0),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_FB_USED": ("memory_used_mib", 1.0),
}
"""Fields of DCGM that are read: our name, and what the value is multiplied with."""

_BLANK_INT32, _BLANK_FP64 = range(0x7FFFFFF0, 0x80000000), 2.0**47  # dcgm_structs.h: "no value", and why there is none
_MAX_BYTES = 16 * 2**20


class DcgmExporter:
    """A DCGM exporter by address.

    Parameters
    ----------
    url : e.g. ``http://gpu-host:9400/metrics``; ``/metrics`` may be left out.
    timeout_s : longest wait for an answer [s].

    Raises
    ------
    SpecError
        It is no address of a web page.
    BenchmarkError
        prometheus-client is not installed.
    """

    name = "dcgm"

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        self.url, self.timeout_s = _checked(url), timeout_s
        self._families = _parser()
        # An exporter stands beside the GPUs: proxies that the environment names are for other places.
        self._web = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def open(self) -> None:
        """Do nothing: each reading asks anew."""

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    def read(self) -> tuple[Reading, ...]:
        """Return all GPUs and GPU instances of the page.

        Raises
        ------
        BenchmarkError
            The exporter does not answer, or with something else than metrics.
        """
        return tuple(_readings(self._samples(self._page())))

    def _page(self) -> str:
        try:
            with self._web.open(self.url, timeout=self.timeout_s) as answer:
                content: bytes = answer.read(_MAX_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error) or type(error).__name__
            raise BenchmarkError(f"DCGM exporter {self.url} - no answer: {why}; see whether it runs") from error
        if len(content) > _MAX_BYTES:
            raise BenchmarkError(f"DCGM exporter {self.url} - its page is larger than {_MAX_BYTES >> 20} MiB; is it an exporter?")
        return content.decode("utf-8", "replace")

    def _samples(self, page: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
        try:
            for family in self._families(page):
                for sample in family.samples:
                    name = sample.name.removesuffix("_total")  # which the parser adds to counters
                    if name in FIELDS:
                        yield name, sample.labels, float(sample.value)
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # what the parser raises for other texts
            raise BenchmarkError(f"DCGM exporter {self.url} - its page is not Prometheus' text format ({error})") from error


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise SpecError(f"DCGM exporter {url!r} - not an address; give one such as http://gpu-host:9400/metrics")
    return url if parts.path not in ("", "/") else parts._replace(path="/metrics").geturl()


def _parser() -> Callable[[str], Any]:
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError as error:
        raise BenchmarkError(
            "prometheus-client is not installed, which a DCGM exporter is read with; pip install 'gpu-partitioner[bench]'"
        ) from error
    return text_string_to_metric_families


def _readings(samples: Iterator[tuple[str, Mapping[str, str], float]]) -> Iterator[Reading]:
    values: dict[Device, dict[str, float]] = {}
    places: dict[Device, tuple[int, str | None, str | None]] = {}
    for field, labels, raw in samples:
        name, scale = FIELDS[field]
        device = _device(labels)
        if device is None:
            continue
        whole = Device(device.gpu)
        index, host = int(labels["gpu"]), labels.get("Hostname")
        places.setdefault(whole, (index, None, host))
        places.setdefault(device, (index, labels.get("GPU_I_PROFILE"), host))
        if not 0 <= raw < _BLANK_FP64 or raw in _BLANK_INT32:
            continue
        # The whole GPU's figures are repeated with each of its instances, some a moment older: the highest counter counts.
        owner = values.setdefault(whole if name in OF_THE_BOARD else device, {})
        owner[name] = max(owner.get(name, 0.0), raw * scale)
    for device, (index, profile, host) in places.items():
        yield Reading(device, index, profile, host, values.get(device, {}))


def _device(labels: Mapping[str, str]) -> Device | None:
    """Return the device of a sample; None where the labels name none."""
    uuid, instance = labels.get("UUID") or labels.get("uuid"), labels.get("GPU_I_ID", "")
    if not uuid or not labels.get("gpu", "").isdecimal() or not (instance.isdecimal() or instance == ""):
        return None
    return Device(uuid, int(instance) if instance else None)
