"""What a load generator does, from opening its system to writing its log down. Knows events, no processes and no pipes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError, LoadGeneratorError
from benchmarks.load.engine import AsyncioEngine
from benchmarks.load.log import RequestLog
from benchmarks.load.summary import throughput_per_s
from benchmarks.load.values import Engine, Load, Rules, System
from benchmarks.worker.tasks import SystemTask, WorkerTask

Tell = Callable[[Mapping[str, Any]], None]

_ECHO_S = 0.5  # how long the echo model is asked for the ceiling of the generator
_ECHO_IN_FLIGHT = 32


@dataclass(slots=True)
class Session:
    """One run of one instance.

    Parameters
    ----------
    task : what to do.
    tell : told every event, as a mapping with ``event``.
    """

    task: WorkerTask
    tell: Tell

    async def run(self, started: asyncio.Future[float]) -> None:
        """Open, warm up, wait until `started` says when to begin (on `time.monotonic`), send the load, write it down."""
        system = _system(self.task.system, self.task.load)
        try:
            facts = await system.open()
            ceiling = await self._ceiling()
            warm_per_s = await self._warm_up(system)
            load = self._load(warm_per_s)
            engine = _engine(self.task)
            gc.collect()  # now, and not in the middle of the run
            self.tell({"event": "ready", "facts": facts, "warm_per_s": warm_per_s, "ceiling_per_s": ceiling})
            start_s = await started
            log = await engine.run(system, load, start_s=start_s, progress=self._progress)
            _save(log, Path(self.task.folder) / "requests.npz")
            self.tell({"event": "done", "failures": log.failures, "verdict": _verdict(engine), "load": _asked(load)})
        finally:
            await system.close()

    def _progress(self, done: int) -> None:
        self.tell({"event": "progress", "samples": done})

    async def _warm_up(self, system: System) -> float:
        """Return the samples a second of a closed loop; the first answers, which load and compile, are waited for before."""
        load = self.task.load
        batch = 1 if load.mode == "server" else load.samples_per_query if load.mode == "multi_stream" else load.batch
        await system.infer([i % system.n_samples for i in range(batch)])
        if not self.task.warmup_s:
            return 0.0
        rules = Rules(min_duration_s=self.task.warmup_s)
        closed = replace(load, mode="offline", rules=rules, batch=batch, rate_per_s=None)
        log = await AsyncioEngine().run(system, closed, start_s=time.monotonic(), progress=lambda _done: None)
        if log.failures:
            raise LoadGeneratorError(f"warm-up - requests fail: {log.failures[0][0]}")
        return throughput_per_s(log)

    async def _ceiling(self) -> float | None:
        """Return the samples a second that this generator gets out of a model that does no work; None where there is none."""
        if self.task.echo is None:
            return None
        load, source = self.task.load, replace(self.task.system, model=self.task.echo)
        closed = Load("offline", Rules(min_duration_s=_ECHO_S), batch=load.batch, concurrency=_ECHO_IN_FLIGHT, seed=load.seed)
        echo = _system(source, closed)
        try:
            await echo.open()
            log = await AsyncioEngine().run(echo, closed, start_s=time.monotonic(), progress=lambda _done: None)
        finally:
            await echo.close()
        return throughput_per_s(log)

    def _load(self, warm_per_s: float) -> Load:
        load = self.task.load
        if load.rate_per_s is None and warm_per_s and load.mode != "server":
            return replace(load, rate_per_s=warm_per_s)
        return load


def _asked(load: Load) -> dict[str, Any]:
    return {"rate_per_s": load.rate_per_s}


def _system(source: SystemTask, load: Load) -> System:
    if source.kind == "triton":
        from benchmarks.triton import TritonSystem

        return TritonSystem(
            source.address,
            source.model,
            n_samples=source.n_samples,
            seed=load.seed,
            shared_memory=source.shared_memory,
            timeout_s=load.timeout_s,
        )
    from benchmarks import inprocess

    kind = inprocess.TorchSystem if source.kind == "torch" else inprocess.OnnxRuntimeSystem
    return kind(source.model, threads=source.threads or None, n_samples=source.n_samples, seed=load.seed)


def _engine(task: WorkerTask) -> Engine:
    if task.engine == "asyncio":
        return AsyncioEngine()
    from benchmarks.loadgen import LoadGenEngine

    return LoadGenEngine(task.folder)


def _verdict(engine: Engine) -> dict[str, Any] | None:
    """Return what LoadGen itself says of the run."""
    verdict = getattr(engine, "verdict", None)
    return None if verdict is None else {"valid": verdict.valid, "reasons": verdict.reasons, "advice": verdict.advice}


def _save(log: RequestLog, path: Path) -> None:
    import numpy as np

    try:
        with path.open("wb") as file:
            np.savez(
                file,
                began_s=log.began_s,
                due_s=log.due_s,
                sent_s=log.sent_s,
                done_s=log.done_s,
                samples=log.samples,
                failed=log.failed,
                cpu_s=log.cpu_s,
                loop_cpu_s=np.nan if log.loop_cpu_s is None else log.loop_cpu_s,
            )
    except OSError as error:
        message = f"{path}: cannot be written: {error.strerror or error}; make room, or name another folder"
        raise BenchmarkError(message) from error


def load_log(path: Path, failures: tuple[tuple[str, int], ...]) -> RequestLog:
    """Return the log that a load generator wrote."""
    import numpy as np

    with np.load(path, allow_pickle=False) as data:
        return RequestLog(
            began_s=float(data["began_s"]),
            due_s=data["due_s"],
            sent_s=data["sent_s"],
            done_s=data["done_s"],
            samples=data["samples"],
            failed=data["failed"],
            cpu_s=float(data["cpu_s"]),
            loop_cpu_s=None if np.isnan(data["loop_cpu_s"]) else float(data["loop_cpu_s"]),
            failures=failures,
        )
