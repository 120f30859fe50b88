"""The KServe v2 inference protocol as tritonclient generates it, and channels for it. Knows no models and no load."""

from __future__ import annotations

from typing import Any

from benchmarks.errors import BenchmarkError

try:
    import grpc
    from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
except ImportError as error:
    raise BenchmarkError(
        f"tritonclient - cannot be imported ({error}); pip install 'gpu-partitioner[bench]' brings it along"
    ) from error

__all__ = ["INFER", "OPTIONS", "channel", "grpc", "model_config_pb2", "service_pb2", "service_pb2_grpc", "stub"]

INFER = "/inference.GRPCInferenceService/ModelInfer"
"""Name of the method that runs a model, for callables without serialisers."""

OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
"""Batches of images are larger than the 4 MiB that gRPC allows by itself."""

_CLIENT_OPTIONS = (
    *OPTIONS,
    ("grpc.enable_http_proxy", 0),  # a proxy in between would be measured along
    ("grpc.use_local_subchannel_pool", 1),  # connections of one's own, closed with the channel
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def channel(address: str) -> Any:
    """Return a channel of `grpc.aio` to a server; it connects when it is first used."""
    return grpc.aio.insecure_channel(address, options=_CLIENT_OPTIONS)


def stub(channel: Any) -> Any:
    """Return the methods of the protocol over a channel."""
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)
