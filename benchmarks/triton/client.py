"""A model behind a Triton server, as a system that load is sent to. Knows no load, no modes and no rules.

The path of a request is kept short: messages are serialised beforehand and go through a bare callable of `grpc.aio`, which
costs less CPU than tritonclient's `infer` does; an answer is compared with one that was checked in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.errors import RequestError, ServerError
from benchmarks.models.model import DTYPES, BenchModel
from benchmarks.models.samples import check_answer
from benchmarks.triton import checks, shared
from benchmarks.triton.inputs import SHARED_FROM_BYTES, Inputs, Prepared
from benchmarks.triton.wire import INFER, channel, grpc, service_pb2, stub

_ADVICE = {
    "UNAVAILABLE": "the server is gone, or not reached; see its log",
    "RESOURCE_EXHAUSTED": "the server has no room; use smaller batches or fewer requests in flight",
    "INVALID_ARGUMENT": "the server does not take such a request; see its model configuration",
    "NOT_FOUND": "the server does not have the model any more; see its log",
}


class TritonSystem:
    """A model behind a server that speaks the KServe v2 protocol over gRPC, as Triton does.

    Parameters
    ----------
    address : ``host:port`` of the server's gRPC endpoint.
    model : the model that is meant; the server's must have the same tensors.
    n_samples : different inputs.
    seed : of the inputs' values.
    shared_memory : whether inputs go through shared memory instead of the connection; None: where the server is on this
        host, can do it, and a request is large enough for it to pay.
    timeout_s : after which a request has failed [s].
    ready_s : how long `open` waits for the server [s].
    """

    def __init__(
        self,
        address: str,
        model: BenchModel,
        *,
        n_samples: int = 64,
        seed: int = 0,
        shared_memory: bool | None = None,
        timeout_s: float = 60.0,
        ready_s: float = 30.0,
    ) -> None:
        self.address, self.model, self.n_samples = address, model, n_samples
        self._seed, self._wants_shared, self._timeout_s, self._ready_s = seed, shared_memory, timeout_s, ready_s
        self._channel: Any = None
        self._infer: Any = None
        self._region: shared.Region | None = None
        self._accepted: dict[int, tuple[Any, list[int]]] = {}  # outputs that were checked in full, and their sizes, by batch

    async def open(self) -> dict[str, str]:
        """Connect, wait until the model is ready, check it, and prepare inputs; return facts of the server by name.

        Raises
        ------
        ServerError
            The server is not there, does not have the model or another one of this name, or cannot map shared memory that
            was asked for.
        """
        self._channel = channel(self.address)
        self._infer = self._channel.unary_unary(INFER, None, service_pb2.ModelInferResponse.FromString)
        methods = stub(self._channel)
        try:
            await checks.await_ready(methods, self.model, self.address, ready_s=self._ready_s)
            if not self.model.inputs:
                self.model = await checks.adopt(methods, self.model, self.address)
            facts = await checks.describe(methods, self.model, self.address)
            self._inputs = Inputs(self.model, self.n_samples, seed=self._seed, max_batch=int(facts["max_batch"]))
            facts["shared_memory"] = await self._share(methods)
        except BaseException:
            await self.close()
            raise
        for sample in range(self.n_samples):
            self._inputs.request(sample, 1)
        return facts

    async def _share(self, methods: Any) -> str:
        """Put the inputs into shared memory where that is wanted; return whether it was done, and why not."""
        if self._wants_shared is False:
            return "no: not wanted"
        always = bool(self._wants_shared)
        if not always and self._inputs.largest_bytes <= SHARED_FROM_BYTES:
            return f"no: no request is larger than {SHARED_FROM_BYTES // 1024} KiB"
        if not shared.on_this_host(self.address):
            if always:
                raise ServerError(f"{self.address} - is on another host, with which no memory is shared; do without")
            return "no: the server is on another host"
        await shared.clean(methods)
        arrays = self._inputs.arrays.values()
        region = shared.Region(methods, sum(array.nbytes for array in arrays))
        try:
            await region.open(arrays)
        except ServerError as error:
            if always:
                raise
            return f"no: {error}"
        self._region = region
        self._inputs.share(region.name, always=always)
        return f"yes, {region.size / 2**20:.1f} MiB"

    async def infer(self, samples: Sequence[int]) -> None:
        """Send one request with these samples and wait for the checked answer.

        Raises
        ------
        RequestError
            It was refused, came too late, broke off, or was answered with something else than the model's outputs.
        """
        batch = len(samples)
        request = self._inputs.request(samples[0], batch)
        try:
            answer = await self._infer(request.message, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        content = answer.raw_output_contents
        outputs = (answer.outputs, [len(values) for values in content])
        if outputs != self._accepted.get(batch):
            self._check(request, answer)
            self._accepted[batch] = outputs
        elif request.echo is not None and content[0] != request.echo:
            self._check(request, answer)

    def _failure(self, error: Any) -> RequestError:
        code = error.code().name
        if code == "DEADLINE_EXCEEDED":
            what = f"no answer within {self._timeout_s:g} s; allow more time, or send less"
        else:
            what = f"{code}: {error.details() or 'no reason was given'}; {_ADVICE.get(code, 'see the log of the server')}"
        return RequestError(f"{self.model.name} at {self.address} - {what}")

    def _check(self, request: Prepared, answer: Any) -> None:
        """Check all of an answer: names, datatypes, shapes, and values."""
        outputs = {}
        if len(answer.raw_output_contents) != len(answer.outputs):
            raise RequestError(
                f"{self.model.name} at {self.address} - answered {len(answer.outputs)} outputs with values of"
                f" {len(answer.raw_output_contents)}; right would be one for each"
            )
        for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
            if tensor.datatype not in DTYPES:
                raise RequestError(f"{self.model.name} at {self.address} - output {tensor.name!r} is {tensor.datatype}")
            try:
                outputs[tensor.name] = np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tuple(tensor.shape))
            except ValueError as error:
                raise RequestError(
                    f"{self.model.name} at {self.address} - output {tensor.name!r} of shape {list(tensor.shape)} came with"
                    f" {len(raw)} bytes"
                ) from error
        check_answer(self.model, request.inputs, outputs)

    async def close(self) -> None:
        """Let go of shared memory and of the connection; may be called again."""
        region, self._region = self._region, None
        if region is not None:
            await region.close()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
