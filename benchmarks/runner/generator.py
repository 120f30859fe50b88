"""The process of a load generator, as its owner sees it. Knows one process, no servers and no scenario."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError, LoadGeneratorError
from benchmarks.worker.tasks import WorkerTask

_DONE_S = 30.0  # for its last event, once the run is over
_STOP_S = 8.0  # for it to end after it was told to


class LoadGenerator:
    """A process of ``benchmarks.worker``, and the thread that reads its events.

    Parameters
    ----------
    name : of the instance, in messages.
    task : what it has to do; its folder is there.
    environment : variables of the process, beside those of this one.

    Raises
    ------
    LoadGeneratorError
        It cannot be started.
    """

    def __init__(self, name: str, task: WorkerTask, environment: Mapping[str, str]) -> None:
        self.name, self.task = name, task
        self.samples, self.over = 0, False
        self._events: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self._log = Path(task.folder) / "load_generator.txt"
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **environment},
                    start_new_session=True,  # Ctrl-C in a terminal is for its owner
                )
        except OSError as error:
            raise LoadGeneratorError(f"{name}: the load generator cannot be started: {error.strerror or error}") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._write(task.to_json())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "progress":
                self.samples = event["samples"]
                continue
            self.over = self.over or event["event"] in ("done", "error")
            self._events.put(event)
        self.over = True
        self._events.put(None)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died; its last event, or the lack of one, says why
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def ready(self, timeout_s: float) -> Mapping[str, Any]:
        """Wait until it waits for the start; return what it knows of the system.

        Raises
        ------
        BenchmarkError
            It failed, or takes longer.
        """
        return self._next("ready", timeout_s)

    def begin(self, at_s: float) -> None:
        """Let it begin at a time of this host's `time.monotonic` [s]."""
        self._write(json.dumps({"begin": at_s}))

    def done(self) -> Mapping[str, Any]:
        """Return what it says at the end of its run.

        Raises
        ------
        BenchmarkError
            It failed.
        """
        return self._next("done", _DONE_S)

    def _next(self, wanted: str, timeout_s: float) -> Mapping[str, Any]:
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            raise LoadGeneratorError(f"{self.name}: the load generator is not {wanted} after {timeout_s:.0f} s") from None
        if event is None:
            status = self._process.wait(timeout=_STOP_S)
            raise LoadGeneratorError(f"{self.name}: the load generator died{_cause(status)}{self._last_words()}")
        if event["event"] == "error":
            raise BenchmarkError(f"{self.name}: {event['message']}")
        return event

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-6:]
        return "".join(f"\n  | {line}" for line in lines)

    def end(self) -> None:
        """End the process, if need be by force."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died before
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _cause(status: int) -> str:
    if status == -9:
        return " (killed; where nobody did that, the host ran out of memory: use a smaller batch or fewer instances)"
    return f" (signal {-status})" if status < 0 else f" (exit status {status})"
