"""A stand-in for NVIDIA's DCGM exporter: a real HTTP server with pages in its format, which also fails on demand.

Format and order of labels: internal/pkg/rendermetrics/render_metrics.go of github.com/NVIDIA/dcgm-exporter. As there, a GPU
in MIG mode has series for its instances only, each with the power and energy of the whole GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

BLANK = 9223372036854775794  # DCGM_INT64_NOT_SUPPORTED
PROFILING = ("GR_ENGINE_ACTIVE", "SM_ACTIVE", "SM_OCCUPANCY", "PIPE_TENSOR_ACTIVE", "DRAM_ACTIVE")


@dataclass
class Gpu:
    """A GPU: how busy it or each of its instances is (by id: profile and share), its power [W], steps of its counter [s]."""

    uuid: str
    instances: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    busy: float = 0.5
    power_w: float = 250.0
    step_s: float = 0.0

    def energy_mj(self) -> int:
        now = time.monotonic()
        return round((now - now % self.step_s if self.step_s else now) * self.power_w * 1000)


class Exporter:
    """The exporter on a port of its own, in ``with``; `mode` may be changed while it runs.

    Modes: ``ok``; ``hang`` (accepts, answers nothing); ``trickle`` (a byte now and then); ``broken`` (HTTP 500); ``garbage``
    (no metrics); ``blank`` (values that mean "not supported").
    """

    def __init__(self, *gpus: Gpu, mode: str = "ok", host: str = "node-1") -> None:
        self.gpus, self.mode, self.host, self.asked = gpus, mode, host, 0
        self._ending = threading.Event()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.asked += 1
                exporter._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def __enter__(self) -> Exporter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path != "/metrics" or self.mode == "broken":
            request.send_error(500 if self.mode == "broken" else 404)
            return
        if self.mode == "hang":
            self._ending.wait(30)
            return
        request.send_response(200)
        request.send_header("Content-Type", "text/plain; version=0.0.4")
        request.end_headers()
        if self.mode == "trickle":
            while not self._ending.wait(0.05):
                try:
                    request.wfile.write(b"#")
                except OSError:
                    return
            return
        request.wfile.write((self.page() if self.mode != "garbage" else "<html>{oops=</html>").encode())

    def page(self) -> str:
        """Return the page."""
        fields = {f"DCGM_FI_PROF_{name}": self._shares() for name in PROFILING}
        fields["DCGM_FI_PROF_PCIE_TX_BYTES"] = [(labels, 1e9 * value) for labels, value in self._shares()]
        fields["DCGM_FI_DEV_POWER_USAGE"] = [(labels, gpu.power_w) for gpu in self.gpus for labels in self._labels(gpu)]
        fields["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] = [(la, gpu.energy_mj()) for gpu in self.gpus for la in self._labels(gpu)]
        fields["DCGM_FI_DEV_GPU_TEMP"] = [(labels, 61) for gpu in self.gpus for labels in self._labels(gpu)]
        fields["DCGM_FI_DEV_XID_ERRORS"] = [(labels, 0) for gpu in self.gpus for labels in self._labels(gpu)]
        lines = []
        for name, samples in fields.items():
            kind = "counter" if "ENERGY" in name else "gauge"
            lines += [f"# HELP {name} Of a GPU.", f"# TYPE {name} {kind}"]
            lines += [f"{name}{{{labels}}} {BLANK if self.mode == 'blank' else value}" for labels, value in samples]
        return "\n".join(lines) + "\n"

    def _labels(self, gpu: Gpu) -> list[str]:
        index = self.gpus.index(gpu)
        first = f'gpu="{index}",UUID="{gpu.uuid}",pci_bus_id="",device="nvidia{index}",modelName="NVIDIA A100 80GB PCIe"'
        last = f'Hostname="{self.host}",DCGM_FI_DRIVER_VERSION="580.95.05"'
        parts = [f'GPU_I_PROFILE="{profile}",GPU_I_ID="{number}",' for number, (profile, _) in gpu.instances.items()]
        return [f"{first},{part}{last}" for part in parts or [""]]

    def _shares(self) -> list[tuple[str, float]]:
        shares = ([share for _, share in gpu.instances.values()] or [gpu.busy] for gpu in self.gpus)
        return [pair for gpu, each in zip(self.gpus, shares, strict=True) for pair in zip(self._labels(gpu), each, strict=True)]
