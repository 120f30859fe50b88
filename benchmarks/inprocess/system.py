"""A system in this process: samples, threads that run the model, and the check of its answers. Knows no framework."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from benchmarks.errors import RequestError
from benchmarks.models.model import BenchModel
from benchmarks.models.samples import Arrays, check_answer, samples
from partitioner.errors import SpecError


class Framework(Protocol):
    """What runs a model."""

    def load(self) -> dict[str, str]:
        """Load the model and return facts by name; raises `ServerError` where it cannot be loaded."""
        ...

    def run(self, inputs: Arrays) -> Arrays:
        """Return the outputs for a batch; called from several threads; raises `RequestError` where it fails."""
        ...

    def stop(self) -> None:
        """Make running batches end as soon as they can, and let go of the model."""
        ...


class InProcessSystem:
    """A model that runs in this process, on threads of its own so that the engine keeps time.

    A request is a batch; it waits where all threads are at work. Batches of requests are not merged.

    Parameters
    ----------
    model : that is run.
    framework : that runs it.
    processes : how many batches run at the same time, each on a thread.
    n_samples : how many samples are prepared.
    seed : of their values.
    """

    def __init__(self, model: BenchModel, framework: Framework, *, processes: int, n_samples: int, seed: int) -> None:
        for name, value in (("processes", processes), ("n_samples", n_samples)):
            if value < 1:
                raise SpecError(f"{model.name} - {name} is {value}; 1 is least")
        self.n_samples = n_samples
        self._model, self._framework, self._seed = model, framework, seed
        self._processes = processes
        self._pool = ThreadPoolExecutor(processes, thread_name_prefix="infer")
        self._inputs: Arrays = {}

    async def open(self) -> dict[str, str]:
        """Load the model, prepare the samples, and answer one request; return facts of the framework by name.

        Raises
        ------
        ServerError
            The model cannot be loaded, or is another one than was meant.
        RequestError
            It does not answer as it should.
        """
        facts = await asyncio.get_running_loop().run_in_executor(self._pool, self._framework.load)
        self._inputs = samples(self._model, self.n_samples, seed=self._seed)
        await self.infer((0,))
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return {
            "model": self._model.name,
            "cores": cores,
            "processes": str(self._processes),
            **({} if visible is None else {"cuda_visible_devices": visible}),
            **facts,
        }

    async def infer(self, samples: Sequence[int]) -> None:
        """Run one batch of these samples and wait for the checked answer.

        Raises
        ------
        RequestError
            The batch is too large or failed, or the answer is not one of this model.
        """
        if not self._inputs:
            raise RequestError(f"{self._model.name} - the system is closed, or was not opened")
        if len(samples) > self._model.max_batch:
            raise RequestError(f"{self._model.name} - a batch of {len(samples)} samples; {self._model.max_batch} is most")
        await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, samples)

    def _answer(self, numbers: Sequence[int]) -> None:
        inputs = self._batch(numbers)
        check_answer(self._model, inputs, self._framework.run(inputs))

    def _batch(self, numbers: Sequence[int]) -> Arrays:
        """Return the inputs of a batch, without a copy where the samples follow one another."""
        first, count = numbers[0], len(numbers)
        if all(number == first + place for place, number in enumerate(numbers)):
            return {name: values[first : first + count] for name, values in self._inputs.items()}
        return {name: values[list(numbers)] for name, values in self._inputs.items()}

    async def close(self) -> None:
        """End running batches, drop those that wait, and let go of the model; may be called twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._framework.stop()
        await asyncio.to_thread(self._pool.shutdown)
        self._inputs = {}
