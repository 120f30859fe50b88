"""The benchmarked networks in plain PyTorch, the same layers as the ONNX graphs. Loads torch; knows no requests."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.models.graphs.bert import SHAPES, Shape
from benchmarks.models.graphs.resnet import STAGES
from benchmarks.models.model import BenchModel
from partitioner.errors import SpecError

torch: Any = import_module("torch")  # by name: it is no dependency, and checks have to pass without it
nn: Any = torch.nn
Module: Any = nn.Module


def network(model: BenchModel, *, seed: int) -> Any:
    """Return the network of a model with made-up weights, a `torch.nn.Module`.

    Parameters
    ----------
    model : one that is known here.
    seed : of its weights; the state of torch's own generator stays as it is.

    Raises
    ------
    SpecError
        It is not known here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model.name in STAGES:
            return _resnet(STAGES[model.name])
        if model.name in SHAPES:
            return _Bert(SHAPES[model.name], tokens=model.inputs[0].shape[0])
    known = ", ".join((*STAGES, *SHAPES))
    raise SpecError(f"model {model.name!r} - no PyTorch network of it is known here; known: {known}; give its TorchScript file")


def _resnet(stages: tuple[int, ...]) -> Any:
    layers = [*_conv(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    channels = 64
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            layers.append(_Bottleneck(channels, 64 << stage, stride=2 if stage and not block else 1))
            channels = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def _conv(channels: int, out: int, kernel: int, *, stride: int = 1) -> tuple[Any, Any]:
    return nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(out)


class _Bottleneck(Module):  # type: ignore[misc]
    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        inner = (*_conv(channels, width, 1), nn.ReLU(), *_conv(width, width, 3, stride=stride), nn.ReLU())
        self.branch = nn.Sequential(*inner, *_conv(width, 4 * width, 1))
        same = stride == 1 and channels == 4 * width
        self.trunk = nn.Identity() if same else nn.Sequential(*_conv(channels, 4 * width, 1, stride=stride))

    def forward(self, values: Any) -> Any:
        return torch.relu(self.branch(values) + self.trunk(values))


class _Bert(Module):  # type: ignore[misc]
    def __init__(self, shape: Shape, *, tokens: int) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.hidden)
        self.positions = nn.Embedding(shape.positions, shape.hidden)
        self.segments = nn.Embedding(shape.segments, shape.hidden)
        self.norm = nn.LayerNorm(shape.hidden, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            shape.hidden,
            shape.heads,
            4 * shape.hidden,
            activation="gelu",
            batch_first=True,
            layer_norm_eps=1e-12,
        )
        self.layers = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.logits = nn.Linear(shape.hidden, 2)
        self.register_buffer("places", torch.arange(tokens))

    def forward(self, ids: Any, mask: Any, segments: Any) -> tuple[Any, Any]:
        values = self.norm(self.words(ids) + self.segments(segments) + self.positions(self.places))
        start, end = self.logits(self.layers(values, src_key_padding_mask=mask == 0)).unbind(-1)
        return start, end
