"""One run of LoadGen in a process of its own, for the tests; its task is JSON in the first argument, its answer JSON."""

import asyncio
import json
import sys
import time

from benchmarks.errors import BenchmarkError, RequestError
from benchmarks.load.values import Load, Rules
from benchmarks.loadgen import LoadGenEngine

assert "mlperf_loadgen" not in sys.modules, "importing the engine loads LoadGen"


class Served:
    """A system with a known service time and faults on demand; the n-th request is numbered from 0."""

    n_samples = 16

    def __init__(
        self, service_s, slots=None, slow=(), slow_s=0.0, fail_every=0, hangs_from=None, refuses_from=None, raises_at=None
    ):
        self.service_s, self.slow, self.slow_s, self.fail_every = service_s, set(slow), slow_s, fail_every
        self.hangs_from, self.refuses_from, self.raises_at = hangs_from, refuses_from, raises_at
        self.slots = asyncio.Semaphore(slots) if slots else None
        self.asked = []

    async def open(self):
        return {}

    async def close(self):
        pass

    async def infer(self, samples):
        number = len(self.asked)
        self.asked.append(list(samples))
        if self.hangs_from is not None and number >= self.hangs_from:
            await asyncio.sleep(3600)
        if self.refuses_from is not None and number >= self.refuses_from:
            raise RequestError("connection refused")
        if number == self.raises_at:
            raise ValueError("a mistake")
        await self._serve(self.slow_s if number in self.slow else self.service_s)
        if self.fail_every and number % self.fail_every == 0:
            raise RequestError("queue full")

    async def _serve(self, service_s):
        if self.slots is None:
            await asyncio.sleep(service_s)
            return
        async with self.slots:
            await asyncio.sleep(service_s)


def seen(log, engine, start_s, told):
    verdict = engine.verdict
    return {
        "began_s": log.began_s - start_s,
        "due_s": log.due_s.tolist(),
        "sent_s": log.sent_s.tolist(),
        "done_s": log.done_s.tolist(),
        "samples": log.samples.tolist(),
        "failed": log.failed.tolist(),
        "failures": log.failures,
        "cpu_s": log.cpu_s,
        "loop_cpu_s": log.loop_cpu_s,
        "told": told,
        "verdict": {
            "valid": verdict.valid,
            "reasons": verdict.reasons,
            "advice": verdict.advice,
            "figures": dict(verdict.figures),
        },
    }


async def main(task):
    load = Load(**{**task["load"], "rules": Rules(**task["rules"])})
    engine = LoadGenEngine(task["folder"], trace=task.get("trace", False))
    system, start_s, told = Served(**task["system"]), time.monotonic() + task.get("ahead_s", 0.1), []

    def run(engine=engine):
        return engine.run(system, load, start_s=start_s, progress=told.append)

    if task.get("do") == "cancel":
        running = asyncio.create_task(run())
        await asyncio.sleep(0.4)
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            return {"cancelled": len(system.asked)}
    if task.get("do") == "together":
        both = await asyncio.gather(run(), run(LoadGenEngine(task["folder"] + "-2")), return_exceptions=True)
        return {"errors": [f"{type(one).__name__}: {one}" for one in both if isinstance(one, Exception)]}
    if task.get("do") == "twice":
        await run()
        system.asked, told[:], start_s = [], [], time.monotonic() + 0.1
        return seen(await run(), engine, start_s, told)
    try:
        log = await run()
    except BenchmarkError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return seen(log, engine, start_s, told) | {"asked": system.asked[-100:]}


if __name__ == "__main__":
    answer = asyncio.run(main(json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps(answer))
