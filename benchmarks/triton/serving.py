"""A server that speaks the KServe v2 protocol and answers for a device that is not there. It runs no model.

Knows messages and shared memory; when an answer is due, and whether it is right, the device says. Of the protocol it has
what a client needs to find the model, to check it and to ask it.
"""

from __future__ import annotations

import mmap
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np

from benchmarks.errors import ServerError
from benchmarks.models.model import BenchModel
from benchmarks.triton.shared import FOLDER
from benchmarks.triton.wire import OPTIONS, grpc, model_config_pb2, service_pb2, service_pb2_grpc

SERVER_NAME = "gpu-partitioner emulated"
_EXTENSIONS = ("model_configuration", "model_repository", "system_shared_memory", "emulated")


class Refusal(Exception):  # noqa: N818 - an answer of the protocol, not an error of this program
    """A device takes no request; the name of a gRPC status and what the server says."""

    def __init__(self, status: str, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class Device(Protocol):
    """What requests of one model wait for."""

    def take(self, samples: int) -> Awaitable[str]:
        """Return when the answer is due: how it is wrong (``shape``, ``value``, ``output``), or an empty text.

        Raises
        ------
        Refusal
            The request is not taken.
        """
        ...


@dataclass(slots=True)
class Served:
    """A model that is served.

    Parameters
    ----------
    model : its tensors.
    device : what its requests wait for.
    max_batch : samples in the largest batch.
    instances : copies of the model.
    """

    model: BenchModel
    device: Device
    max_batch: int
    instances: int = 1
    answers: dict[int, Any] = field(default_factory=dict)


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # its base is not typed
    """The protocol's methods.

    Parameters
    ----------
    models : what is served.
    version : of the server.
    parameters : shown in the configuration of every model.
    ready : whether the server says that it is ready.
    """

    def __init__(self, models: Sequence[Served], *, version: str, parameters: Mapping[str, str], ready: bool = True) -> None:
        self._models = {served.model.name: served for served in models}
        self._version, self._parameters, self._ready = version, parameters, ready
        self._regions: dict[str, tuple[str, int, mmap.mmap]] = {}

    # -- descriptions ----------------------------------------------------------------------------------------------

    async def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Answer that the server lives."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Answer whether the server is ready."""
        return service_pb2.ServerReadyResponse(ready=self._ready)

    async def ModelReady(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Answer whether a model is ready."""
        return service_pb2.ModelReadyResponse(ready=self._ready and request.name in self._models)

    async def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Answer what this server is."""
        return service_pb2.ServerMetadataResponse(name=SERVER_NAME, version=self._version, extensions=_EXTENSIONS)

    async def RepositoryIndex(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Answer which models there are."""
        answer = service_pb2.RepositoryIndexResponse()
        for name in self._models:
            answer.models.add(name=name, version="1", state="READY" if self._ready else "LOADING")
        return answer

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer which tensors a model has."""
        model = (await self._find(request.name, context)).model
        answer = service_pb2.ModelMetadataResponse(name=model.name, versions=["1"], platform="emulated")
        for tensors, described in ((model.inputs, answer.inputs), (model.outputs, answer.outputs)):
            for tensor in tensors:
                described.add(name=tensor.name, datatype=tensor.datatype, shape=(-1, *tensor.shape))
        return answer

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer how a model is configured, and that it is emulated."""
        served = await self._find(request.name, context)
        config = model_config_pb2.ModelConfig(
            name=served.model.name, platform="emulated", backend="emulated", max_batch_size=served.max_batch
        )
        config.instance_group.add(count=served.instances, kind=model_config_pb2.ModelInstanceGroup.KIND_MODEL)
        config.dynamic_batching.SetInParent()
        for tensors, described in ((served.model.inputs, config.input), (served.model.outputs, config.output)):
            for tensor in tensors:
                described.add(name=tensor.name, data_type=f"TYPE_{tensor.datatype}", dims=tensor.shape)
        for name, value in self._parameters.items():
            config.parameters[name].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    async def _find(self, name: str, context: Any) -> Served:
        if name not in self._models:
            known = ", ".join(self._models)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found; served: {known}")
        return self._models[name]

    # -- shared memory ---------------------------------------------------------------------------------------------

    async def SystemSharedMemoryStatus(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Answer which regions are registered."""
        answer = service_pb2.SystemSharedMemoryStatusResponse()
        for name, (key, size, _) in self._regions.items():
            answer.regions[name].name, answer.regions[name].key, answer.regions[name].byte_size = name, key, size
        return answer

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Map a region."""
        if request.name in self._regions:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"shared memory region '{request.name}' already in manager")
        try:
            with (FOLDER / request.key.lstrip("/")).open("rb") as file:
                memory = mmap.mmap(file.fileno(), request.byte_size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"Unable to open shared memory region: '{request.key}': {error}"
            )
        self._regions[request.name] = (request.key, request.byte_size, memory)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Let go of a region, or of all where none is named."""
        for name in [request.name] if request.name else list(self._regions):
            if name in self._regions:
                self._regions.pop(name)[2].close()
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    # -- inference -------------------------------------------------------------------------------------------------

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a request when the device says that it is due."""
        served = self._models.get(request.model_name) or await self._find(request.model_name, context)
        batch = request.inputs[0].shape[0] if request.inputs and request.inputs[0].shape else 0
        wrong_with = self._objection(served, request, batch)
        if wrong_with:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"[request id: <id_unknown>] {wrong_with}")
        try:
            wrong = await served.device.take(batch)
        except Refusal as refusal:
            await context.abort(getattr(grpc.StatusCode, refusal.status), refusal.message)
        if not wrong and not served.model.echoes:
            if batch not in served.answers:
                served.answers[batch] = _answer(served.model, batch, None)
            return served.answers[batch]
        answer = _answer(served.model, batch, self._first_values(request, batch) if served.model.echoes else None)
        return _spoilt(answer, wrong) if wrong else answer

    def _objection(self, served: Served, request: Any, batch: int) -> str:
        """Return why a request is none for a model, in the words of Triton; empty where it is one."""
        model = served.model
        if not 1 <= batch <= served.max_batch:
            return f"inference request batch-size must be <= {served.max_batch} for '{model.name}'"
        if len(request.inputs) != len(model.inputs):
            return f"expected {len(model.inputs)} inputs but got {len(request.inputs)} inputs for model '{model.name}'"
        for tensor, given in zip(model.inputs, request.inputs, strict=True):
            wanted = (tensor.name, tensor.datatype, [batch, *tensor.shape])
            if (given.name, given.datatype, given.shape) != wanted:
                return (
                    f"unexpected shape or datatype for input '{given.name}' for model '{model.name}'."
                    f" Expected {wanted}, got {given.datatype} {list(given.shape)}"
                )
            region = given.parameters["shared_memory_region"].string_param if given.parameters else None
            if region is not None and region not in self._regions:
                return f"Unable to find shared memory region: '{region}'"
        return ""

    def _first_values(self, request: Any, batch: int) -> bytes:
        """Return the first value of the first input of every sample, as FP32."""
        given = request.inputs[0]
        dtype = np.dtype(next(t for t in self._models[request.model_name].model.inputs if t.name == given.name).dtype)
        count = prod(given.shape)
        if given.parameters:
            _, _, memory = self._regions[given.parameters["shared_memory_region"].string_param]
            offset = given.parameters["shared_memory_offset"].int64_param
            values = np.frombuffer(memory[offset : offset + count * dtype.itemsize], dtype)
        else:
            values = np.frombuffer(request.raw_input_contents[0], dtype, count)
        return values.reshape(batch, -1)[:, 0].astype(np.float32).tobytes()


def _answer(model: BenchModel, batch: int, content: bytes | None) -> Any:
    answer = service_pb2.ModelInferResponse(model_name=model.name, model_version="1")
    for tensor in model.outputs:
        shape = [batch, *(max(1, size) for size in tensor.shape)]
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        answer.raw_output_contents.append(bytes(prod(shape) * tensor.dtype.itemsize) if content is None else content)
    return answer


def _spoilt(answer: Any, wrong: str) -> Any:
    """Return an answer that is wrong."""
    if wrong == "output":
        del answer.outputs[0]
        del answer.raw_output_contents[0]
    elif wrong == "shape":
        answer.outputs[0].shape[0] += 1
    else:
        values = answer.raw_output_contents[0]
        answer.raw_output_contents[0] = bytes([values[0] ^ 1]) + values[1:]  # a little more or less, and no NaN
    return answer


async def serve(service: Service, *, host: str, port: int) -> tuple[Any, int]:
    """Start a server; return it and its port.

    Parameters
    ----------
    service : what it answers.
    host : address to listen on.
    port : 0 takes a free one.

    Raises
    ------
    ServerError
        The port is taken, or the address is none of this host.
    """
    options = (*OPTIONS, ("grpc.so_reuseport", 0))  # two servers on one port would share its requests
    server = grpc.aio.server(options=options)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise ServerError(f"{host}:{port} - cannot be listened on, something else may do so; give another port, or 0") from error
    await server.start()
    return server, bound
