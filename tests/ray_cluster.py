"""Ray clusters of several nodes on this machine, of which every process is known and none is left."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

MARK = "GPU_PARTITIONER_TEST_NODE"
"""Variable by which all processes of a node are found, whoever has adopted them."""


def until(condition, *, seconds=60.0):
    """Wait for a condition and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come about")


class Node:
    """One node: ``ray start`` that stays in the foreground, and all that descends from it."""

    def __init__(self, folder, name, *options, environment):
        self.name, self.mark = name, f"{name}-{uuid.uuid4().hex}"
        self.log = Path(folder) / f"{name}.log"
        variables = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_kill_worker_timeout_milliseconds": "1000",
            "RAY_health_check_period_ms": "300",  # a dead node is found out in one second, not in fifteen
            "RAY_health_check_failure_threshold": "3",
            MARK: self.mark,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"),
                    *("--num-cpus=2", "--object-store-memory=80000000", f"--node-name={name}", *options),
                ],
                env={**os.environ, **variables, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self):
        """Every process of the node that is alive, with its command, by pid."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def running(self, *words):
        """Pids of processes whose command has one of these words."""
        return [pid for pid, command in self.processes().items() if any(word in command for word in words)]

    def kill(self, *words):
        """Send SIGKILL to the processes whose command has one of these words."""
        pids = self.running(*words)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pids

    def stop(self):
        """End the node; what does not end by itself is killed."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        deadline = time.monotonic() + 3
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill("")
        self.process.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RayCluster:
    """Nodes that know each other; the first one is the head."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))  # paths of sockets are short, those of pytest are not
        self.nodes = {}
        self.address = self.client = ""

    def __enter__(self):
        return self

    def start(self, name, **environment):
        """Start a node and return it before it is up; the head is waited for."""
        if self.nodes:
            options = (f"--address={self.address}",)
        else:
            self.client = f"ray://127.0.0.1:{(port := _free_port())}"
            ports = ("--port=0", f"--ray-client-server-port={port}")
            options = ("--head", *ports, "--include-dashboard=false", f"--temp-dir={self.folder}")
        node = self.nodes[name] = Node(self.folder, name, *options, environment=environment)
        if not self.address:
            self.address = until(lambda: self._gcs(node))
        return node

    def _gcs(self, node):
        assert node.process.poll() is None, node.log.read_text()
        path = self.folder / "ray_current_cluster"
        return path.read_text().strip() if path.exists() and "Ray runtime started" in node.log.read_text() else ""

    def wait(self):
        """Wait until all nodes have joined."""
        for node in self.nodes.values():
            until(lambda node=node: "Ray runtime started" in node.log.read_text() or node.process.poll() is not None)
            assert node.process.poll() is None, node.log.read_text()

    def __exit__(self, *error):
        for node in reversed(self.nodes.values()):
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
