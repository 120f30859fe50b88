"""Load generators in processes of their own, as a benchmark has them. Knows addresses and loads, starts no servers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.load.engine import AsyncioEngine
from benchmarks.load.log import RequestLog
from benchmarks.load.values import Engine, Load
from benchmarks.models.model import BenchModel

_WARM_UP = 300  # requests
_STARTING_S = 6.0  # for all processes to be there, which import the client first


def measure(
    address: str,
    model: BenchModel,
    load: Load,
    *,
    engine: str = "asyncio",
    due_s: Sequence[float] | None = None,
    processes: int = 1,
    cores: Sequence[int] = (),
) -> list[RequestLog]:
    """Send a load to a server from one or more processes at the same time, and return what each of them saw.

    Parameters
    ----------
    address : of the server's gRPC.
    model : to ask.
    load : of each process.
    engine : ``asyncio`` or ``loadgen``.
    due_s : when queries are to be sent after the start, instead of the asyncio engine's own arrivals [s].
    processes : how many.
    cores : that they keep to; empty: any.
    """
    start_s = time.monotonic() + (_STARTING_S if processes > 1 else 0.0)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(_measure, address, model, load, engine=engine, due_s=due_s, start_s=start_s, cores=tuple(cores))
            for _ in range(processes)
        ]
        return [future.result() for future in futures]


def _measure(
    address: str,
    model: BenchModel,
    load: Load,
    *,
    engine: str,
    due_s: Sequence[float] | None,
    start_s: float,
    cores: tuple[int, ...],
) -> RequestLog:
    if cores:
        os.sched_setaffinity(0, cores)
    with TemporaryDirectory() as folder:
        return asyncio.run(_send(address, model, load, engine=_engine(engine, due_s, folder), start_s=start_s))


def _engine(name: str, due_s: Sequence[float] | None, folder: str) -> Engine:
    if name == "loadgen":
        from benchmarks.loadgen import LoadGenEngine

        return LoadGenEngine(folder)
    return AsyncioEngine() if due_s is None else AsyncioEngine(lambda _: np.asarray(due_s, dtype=np.float64))


async def _send(address: str, model: BenchModel, load: Load, *, engine: Engine, start_s: float) -> RequestLog:
    from benchmarks.triton import TritonSystem

    system = TritonSystem(address, model, timeout_s=load.timeout_s, seed=load.seed)
    await system.open()
    try:
        for i in range(_WARM_UP if model.echoes and load.mode == "offline" else 10):
            await system.infer([i % system.n_samples])
        soon_s = time.monotonic() + 0.2  # one process waits for nobody
        return await engine.run(system, load, start_s=max(start_s, soon_s), progress=lambda _: None)
    finally:
        await system.close()
