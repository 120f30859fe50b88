"""The process of a load generator: ``python -m benchmarks.worker``; its first line of input is its task.

Commands after it: ``{"begin": t}`` on `time.monotonic`. Events: ready, progress, done, error. Whatever else writes to standard
output (LoadGen does) is sent to standard error, which its owner keeps as a log.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.worker.session import Session
from benchmarks.worker.tasks import WorkerTask
from partitioner.errors import PartitionerError

_CLOSING_S = 5.0  # for letting go of shared memory and connections once the owner is gone


def main() -> int:
    """Do what standard input says; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then says stop
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    commands = io.FileIO(0, closefd=False)  # raw: a thread that waits in a buffered reader breaks the end of the interpreter
    task = WorkerTask.from_json(commands.readline().decode())
    if task.cores:
        os.sched_setaffinity(0, task.cores)

    def tell(event: Mapping[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")

    try:
        asyncio.run(_run(task, tell, commands))
    except PartitionerError as error:
        tell({"event": "error", "kind": type(error).__name__, "message": str(error)})
        return 1
    except asyncio.CancelledError:
        return 1
    except MemoryError:
        tell({"event": "error", "kind": "LoadGeneratorError", "message": "out of memory; use a smaller batch or fewer samples"})
        return 1
    return 0


async def _run(task: WorkerTask, tell: Any, commands: io.FileIO) -> None:
    loop = asyncio.get_running_loop()
    started: asyncio.Future[float] = loop.create_future()
    running = asyncio.current_task()
    assert running is not None

    def begin(at_s: float) -> None:
        if not started.done():
            started.set_result(at_s)

    def listen() -> None:
        for line in commands:
            loop.call_soon_threadsafe(begin, json.loads(line)["begin"])
        loop.call_soon_threadsafe(running.cancel)
        time.sleep(_CLOSING_S)
        os._exit(1)  # something does not let itself be cancelled; nobody waits for it any more

    threading.Thread(target=listen, daemon=True).start()
    await Session(task, tell).run(started)


if __name__ == "__main__":
    sys.exit(main())
