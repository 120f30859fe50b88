"""ResNet-50, -101 and -152 v1.5 with made-up weights: He et al., arXiv 1512.03385; v1.5 strides in the 3x3 convolution.

Batch normalization stands in the graph as it was trained; every runtime folds it into the convolutions when it loads.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from benchmarks.models.model import BenchModel

if TYPE_CHECKING:
    from benchmarks.models.graphs.writing import Graph

STAGES = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
"""Blocks in each stage, table 1 of the paper."""

_EXPANSION = 4  # channels that a block puts out over those inside it
_BRANCH_SCALE = 0.2  # of the last normalization of a block, so that 50 blocks of made-up weights stay small numbers


def write_resnet(graph: Graph, model: BenchModel) -> None:
    """Write the nodes and weights of a ResNet.

    Parameters
    ----------
    graph : to write to.
    model : one of `STAGES`.
    """
    image, logits = model.inputs[0], model.outputs[0]
    values = _conv(graph, image.name, "stem", shape=(64, image.shape[0], 7, 7), stride=2)
    values = graph.node("Relu", values)
    values = graph.node("MaxPool", values, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    channels = 64
    for stage, blocks in enumerate(STAGES[model.name]):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            values = _bottleneck(graph, values, f"stage{stage}.block{block}", channels=channels, width=width, stride=stride)
            channels = width * _EXPANSION
    values = graph.node("Flatten", graph.node("GlobalAveragePool", values))
    weight = graph.normal("fc.weight", (logits.shape[0], channels), scale=0.01)
    bias = graph.normal("fc.bias", logits.shape, scale=0.01)
    graph.node("Gemm", values, weight, bias, to=logits.name, transB=1)


def _bottleneck(graph: Graph, values: str, name: str, *, channels: int, width: int, stride: int) -> str:
    out = width * _EXPANSION
    branch = graph.node("Relu", _conv(graph, values, f"{name}.conv1", shape=(width, channels, 1, 1)))
    branch = graph.node("Relu", _conv(graph, branch, f"{name}.conv2", shape=(width, width, 3, 3), stride=stride))
    branch = _conv(graph, branch, f"{name}.conv3", shape=(out, width, 1, 1), gain=_BRANCH_SCALE)
    if stride > 1 or channels != out:
        values = _conv(graph, values, f"{name}.downsample", shape=(out, channels, 1, 1), stride=stride)
    return graph.node("Relu", graph.node("Add", branch, values))


def _conv(graph: Graph, values: str, name: str, *, shape: tuple[int, int, int, int], stride: int = 1, gain: float = 1.0) -> str:
    """Write a convolution and its batch normalization."""
    out, fan_in, kernel = shape[0], shape[1] * shape[2] * shape[3], shape[2]
    weight = graph.normal(f"{name}.weight", shape, scale=sqrt(2 / fan_in))  # He et al., arXiv 1502.01852
    pad = kernel // 2
    values = graph.node("Conv", values, weight, kernel_shape=(kernel, kernel), strides=(stride, stride), pads=(pad,) * 4)
    scale = graph.uniform(f"{name}.gamma", (out,), low=0.9 * gain, high=1.1 * gain)
    shift = graph.normal(f"{name}.beta", (out,), scale=0.05)
    mean = graph.normal(f"{name}.running_mean", (out,), scale=0.05)
    variance = graph.uniform(f"{name}.running_var", (out,), low=0.8, high=1.2)
    return graph.node("BatchNormalization", values, scale, shift, mean, variance, epsilon=1e-5)
