"""Whether a server is there and serves the model that is meant, before anything is measured. Knows no load.

Every reader of a server's own description stands here; what it says becomes facts of the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from benchmarks.errors import ServerError
from benchmarks.models.model import BenchModel, Tensor
from benchmarks.triton.wire import grpc, model_config_pb2, service_pb2
from partitioner.errors import SpecError, did_you_mean

_RPC_S = 5.0
_PAUSE_S = 0.05  # between two looks at a server that is not ready yet


async def await_ready(stub: Any, model: BenchModel, address: str, *, ready_s: float) -> None:
    """Wait until a server and the model in it are ready.

    Raises
    ------
    ServerError
        Nobody answers in time, or the server says that the model is not there or cannot be loaded.
    """
    deadline = time.monotonic() + ready_s
    seen = "it was not asked"
    while True:
        left_s = min(_RPC_S, max(_PAUSE_S, deadline - time.monotonic()))
        try:
            server = await stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=left_s)
            ready = await stub.ModelReady(service_pb2.ModelReadyRequest(name=model.name), timeout=left_s)
            if server.ready and ready.ready:
                return
            seen = f"the server is {'' if server.ready else 'not '}ready, model {model.name!r} is not"
            await _refuse_hopeless(stub, model, address)
        except grpc.RpcError as error:
            seen = error.details() or error.code().name
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise ServerError(f"{address} - {seen}; it is no server of the KServe v2 protocol, as Triton is") from error
        if time.monotonic() >= deadline:
            raise ServerError(
                f"{address} - not ready after {ready_s:g} s: {seen}; start the server, check its log, or wait longer for it"
            )
        await asyncio.sleep(_PAUSE_S)


async def _refuse_hopeless(stub: Any, model: BenchModel, address: str) -> None:
    """Raise where waiting does not help: the model is not in the repository, or failed to load."""
    index = (await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=_RPC_S)).models
    names = sorted({entry.name for entry in index})
    mine = [entry for entry in index if entry.name == model.name]
    if not mine:
        hint = did_you_mean(model.name, names) or f"it has {', '.join(names) or 'none'}"
        raise ServerError(f"{address} - has no model {model.name!r}; {hint}; put the model into the server's repository")
    if all(entry.state == "UNAVAILABLE" and entry.reason not in ("", "unloaded") for entry in mine):
        raise ServerError(f"{address} - model {model.name!r} is not served: {mine[0].reason}; correct it and start anew")


async def adopt(stub: Any, model: BenchModel, address: str) -> BenchModel:
    """Return a model with the tensors and the largest batch that the server has for its name.

    Raises
    ------
    ServerError
        An input is of no fixed size or of a datatype that cannot be made up, or the server does not answer.
    """
    try:
        meta = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model.name), timeout=_RPC_S)
        config = (await stub.ModelConfig(service_pb2.ModelConfigRequest(name=model.name), timeout=_RPC_S)).config
    except grpc.RpcError as error:
        raise ServerError(f"{address} - does not describe {model.name!r}: {error.details()}; is it a Triton server?") from error
    for tensor in meta.inputs:
        if -1 in tensor.shape[1:]:
            raise ServerError(
                f"{address} - input {tensor.name!r} of {model.name!r} is of open size {list(tensor.shape)}; serve it with fixed"
                " sizes, the batch alone left open"
            )
    try:
        inputs, outputs = (
            tuple(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape[1:])) for tensor in side)
            for side in (meta.inputs, meta.outputs)
        )
        return BenchModel(model.name, inputs, outputs, max(1, config.max_batch_size), model.latency_bound_ms)
    except SpecError as error:
        raise ServerError(f"{address} - model {model.name!r} cannot be measured: {error}") from error


async def describe(stub: Any, model: BenchModel, address: str) -> dict[str, str]:
    """Check the model's description against the model that is meant; return facts of the server by name.

    Raises
    ------
    ServerError
        Tensors differ, no batches are taken, or the server does not answer.
    """
    try:
        server = await stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=_RPC_S)
        meta = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model.name), timeout=_RPC_S)
        config = (await stub.ModelConfig(service_pb2.ModelConfigRequest(name=model.name), timeout=_RPC_S)).config
    except grpc.RpcError as error:
        raise ServerError(f"{address} - does not describe {model.name!r}: {error.details()}; is it a Triton server?") from error
    problems = [
        *_problems("input", model.inputs, meta.inputs, complete=True),
        *_problems("output", model.outputs, meta.outputs, complete=False),
    ]
    if problems:
        raise ServerError(
            f"{address} - model {model.name!r} is another one than is meant: "
            + "; ".join(problems)
            + ". Serve it under a name of your own to have it measured as it is"
        )
    facts = {
        "server": f"{server.name} {server.version}",
        "server_extensions": " ".join(sorted(server.extensions)),
        "model": f"{meta.name} version {', '.join(meta.versions) or '1'}",
        "backend": config.backend or config.platform,
        "max_batch": str(config.max_batch_size),
        "model_instances": ", ".join(_groups(config)),
    }
    for name, parameter in sorted(config.parameters.items()):
        facts[f"parameter {name}"] = parameter.string_value
    return {name: value for name, value in facts.items() if value}


def _groups(config: Any) -> Iterable[str]:
    for group in config.instance_group:
        yield f"{group.count} x {model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)}"


def _problems(kind: str, wanted: Iterable[Tensor], served: Iterable[Any], *, complete: bool) -> Iterable[str]:
    """Yield one phrase for each tensor that is missing or of another kind; `complete`: more than are wanted are wrong, too."""
    there = {tensor.name: tensor for tensor in served}
    known = [tensor.name for tensor in wanted]
    for tensor in wanted:
        shape = (-1, *tensor.shape)
        found = there.get(tensor.name)
        if found is None:
            yield f"it has no {kind} {tensor.name!r} but {', '.join(map(repr, there)) or 'none'}"
        elif found.datatype != tensor.datatype:
            yield f"{kind} {tensor.name!r} is {found.datatype} there; right would be {tensor.datatype}"
        elif not _fits(tuple(found.shape), shape):
            yield f"{kind} {tensor.name!r} is of shape {list(found.shape)} there; right would be {list(shape)}"
    if complete:
        for name in there.keys() - set(known):
            yield f"it wants {kind} {name!r} too; right would be {', '.join(map(repr, known))}"


def _fits(served: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is the wanted one; -1 stands for any size, but the batch dimension must be there."""
    if len(served) != len(wanted) or served[0] not in (-1, 1):
        return False
    return all(-1 in (has, wants) or has == wants for has, wants in zip(served[1:], wanted[1:], strict=True))
