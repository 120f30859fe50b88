"""The emulated server, a process that speaks Triton's protocol and takes the time a device would: no inference is run.

``python -m benchmarks.servers.emulated --spec JSON --port 0`` writes one line of JSON when it is ready: its port, its process
id and that it is emulated. SIGTERM ends it. It also serves the echo twin of its model, which answers at once, as the ceiling
of clients is measured with it. Replies leave at the instant that `emulated_queue` says, in virtual time. What gRPC adds on
the way is real, one to two milliseconds a request on an idle machine: beside a service of a few milliseconds that shows.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import json
import os
import selectors
import signal
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.models.model import echo_of
from benchmarks.servers.emulated_device import LABEL, EmulatedDevice, Faults
from benchmarks.servers.emulated_queue import Batch, BatchQueue
from partitioner.errors import PartitionerError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["LABEL", "EmulatedDevice", "Faults", "command", "read_log"]

_GRACE_S = 0.2  # for answers that are due, when the server is told to end
_LOG_COLUMNS = ("arrival_s", "start_s", "done_s", "samples")


def command(device: EmulatedDevice, *, port: int = 0, host: str = "127.0.0.1", log: Path | None = None) -> list[str]:
    """Return the command that starts the server of a device.

    Parameters
    ----------
    device : what it emulates.
    port : of its gRPC endpoint; 0: a free one.
    host : address to listen on.
    log : file to which it writes when every request arrived and was done, when it ends; see `read_log`.
    """
    options = ["--spec", device.to_json(), "--host", host, "--port", str(port)]
    return [sys.executable, "-m", "benchmarks.servers.emulated", *options, *(("--log", str(log)) if log else ())]


def read_log(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Return what an emulated server wrote of its requests, in the order in which they were served.

    Columns: ``arrival_s``, ``start_s`` and ``done_s`` on `time.monotonic` of its host [s], and ``samples``.
    """
    import numpy as np

    rows = np.fromfile(path, dtype=np.float64).reshape(-1, len(_LOG_COLUMNS))
    return {name: rows[:, i] for i, name in enumerate(_LOG_COLUMNS)}


class Emulation:
    """A device that serves in virtual time, by the clock of an event loop.

    Parameters
    ----------
    device : what is emulated.
    loop : whose clock is `time.monotonic`.
    """

    def __init__(self, device: EmulatedDevice, loop: asyncio.AbstractEventLoop) -> None:
        self._device, self._loop = device, loop
        self._queue: BatchQueue[asyncio.Future[None]] = BatchQueue([ms / 1000 for ms in device.service_ms], device.processes)
        self._timer: asyncio.TimerHandle | None = None
        self._taken = 0
        self.log = array("d")

    async def take(self, samples: int) -> str:
        """Wait until a request is served; return how its answer is to be wrong, if at all.

        Raises
        ------
        Refusal
            It is one of the faults that were asked for.
        """
        number, faults = self._taken, self._device.faults
        self._taken += 1
        if _from(faults.crash_after, number):
            os.kill(os.getpid(), signal.SIGKILL)
        if _from(faults.refuse_after, number):
            from benchmarks.triton.serving import Refusal

            raise Refusal(faults.refusal, "emulated fault: no request is taken any more")
        served = self._loop.create_future()
        self._schedule(self._queue.arrive(self._loop.time(), samples, served))
        await served
        if _from(faults.slow_after, number):
            await asyncio.sleep(faults.slow_ms / 1000)
        if _from(faults.hang_after, number):
            await self._loop.create_future()
        return faults.wrong if _from(faults.wrong_after, number) else ""

    def _schedule(self, taken: list[Batch[asyncio.Future[None]]]) -> None:
        """Answer batches when they are done, and look again when the next one is due."""
        for batch in taken:
            for arrival_s, samples in zip(batch.arrivals_s, batch.samples, strict=True):
                self.log.extend((arrival_s, batch.start_s, batch.done_s, samples))
            self._loop.call_at(batch.done_s, _answer, batch)
        if self._timer is None and (next_s := self._queue.next_start_s) is not None:
            self._timer = self._loop.call_at(next_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._schedule(self._queue.advance(self._loop.time()))


class _AtOnce:
    """A device that takes no time: the echo twin's."""

    async def take(self, samples: int) -> str:  # noqa: ARG002 - of the protocol
        return ""


def _answer(batch: Batch[asyncio.Future[None]]) -> None:
    for served in batch.tokens:
        if not served.done():  # else its client has gone
            served.set_result(None)


def _from(first: int | None, number: int) -> bool:
    return first is not None and number >= first


async def _run(device: EmulatedDevice, host: str, port: int, log: Path | None) -> None:
    from benchmarks.triton.serving import SERVER_NAME, Served, Service, serve

    loop = asyncio.get_running_loop()
    emulation, twin = Emulation(device, loop), echo_of(device.model)
    served = [Served(device.model, emulation, device.max_batch, device.processes)]
    if twin is not device.model:
        served.append(Served(twin, _AtOnce(), device.max_batch))
    facts = {"device": LABEL, "emulates": device.name, "service times": device.source}
    service = Service(
        served, version=importlib.metadata.version("gpu-partitioner"), parameters=facts, ready=not device.faults.not_ready
    )
    server, bound = await serve(service, host=host, port=port)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    gc.freeze()  # what is there now is not searched again while requests wait
    sys.stdout.write(json.dumps({"port": bound, "pid": os.getpid(), "server": SERVER_NAME, **facts}) + "\n")
    sys.stdout.flush()
    await ended.wait()
    await server.stop(_GRACE_S)
    if log is not None:
        _write_log(log, emulation.log)


def _write_log(path: Path, rows: array[float]) -> None:
    try:
        path.write_bytes(rows.tobytes())
    except OSError as error:
        raise BenchmarkError(f"{path} - cannot be written: {error.strerror or error}; make room, or name another file") from error


def _loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are exact: asyncio's own rounds them up to whole milliseconds (epoll does)."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers.emulated", description=f"A server that is {LABEL}.")
    parser.add_argument("--spec", required=True, help="the device, as EmulatedDevice.to_json writes it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0: a free one")
    parser.add_argument("--log", type=Path, help="file for when every request arrived and was done")
    given = parser.parse_args(arguments)
    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(_run(EmulatedDevice.from_json(given.spec), given.host, given.port, given.log))
    except PartitionerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
