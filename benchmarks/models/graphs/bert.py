"""BERT for answering questions (SQuAD) with made-up weights: Devlin et al., arXiv 1810.04805; no pooler, as in MLPerf's."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.models.model import BenchModel

if TYPE_CHECKING:
    from benchmarks.models.graphs.writing import Graph

_SCALE = 0.02  # initializer_range of BERT
_MASKED = -10_000.0  # what BERT adds to scores of tokens that are not there


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a BERT."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int = 30_522
    positions: int = 512
    segments: int = 2

    @property
    def parameters(self) -> int:
        """Trained parameters: embeddings, layers of 12 h^2 + 13 h, and the two logits."""
        hidden = self.hidden
        embeddings = (self.vocabulary + self.positions + self.segments + 2) * hidden
        return embeddings + self.layers * (12 * hidden**2 + 13 * hidden) + 2 * hidden + 2


SHAPES = {"bert-99": Shape(24, 1024, 16), "bert-base": Shape(12, 768, 12), "bert-tiny": Shape(2, 128, 2)}
"""BERT-large (MLPerf's), BERT-base and BERT-tiny (arXiv 1908.08962)."""


def write_bert(graph: Graph, model: BenchModel) -> None:
    """Write the nodes and weights of a BERT.

    Parameters
    ----------
    graph : to write to.
    model : one of `SHAPES`.
    """
    shape = SHAPES[model.name]
    ids, mask, segments = (tensor.name for tensor in model.inputs)
    values = _embeddings(graph, shape, ids=ids, segments=segments, tokens=model.inputs[0].shape[0])
    bias = _mask(graph, mask)
    for layer in range(shape.layers):
        values = _layer(graph, shape, values, bias=bias, name=f"layer{layer}")
    logits = _dense(graph, values, "qa", shape=(shape.hidden, 2))
    halves = graph.nodes("Split", logits, to=("start", "end"), axis=-1)
    last = graph.constant([-1], np.int64)
    for half, output in zip(halves, model.outputs, strict=True):
        graph.node("Squeeze", half, last, to=output.name)


def _embeddings(graph: Graph, shape: Shape, *, ids: str, segments: str, tokens: int) -> str:
    words = graph.node("Gather", graph.normal("words", (shape.vocabulary, shape.hidden), scale=_SCALE), ids)
    places = graph.normal("positions", (shape.positions, shape.hidden), scale=_SCALE)
    places = graph.node("Gather", places, graph.constant(np.arange(tokens), np.int64))
    kinds = graph.node("Gather", graph.normal("segments", (shape.segments, shape.hidden), scale=_SCALE), segments)
    return _norm(graph, graph.node("Add", graph.node("Add", words, kinds), places), "embeddings.norm", hidden=shape.hidden)


def _mask(graph: Graph, mask: str) -> str:
    """Write what is added to the scores: 0 where a token is, much less where none is; shape ``(batch, 1, 1, tokens)``."""
    absent = graph.node("Sub", graph.constant(1.0, np.float32), graph.cast(mask))
    absent = graph.node("Mul", absent, graph.constant(_MASKED, np.float32))
    return graph.node("Unsqueeze", absent, graph.constant([1, 2], np.int64))


def _layer(graph: Graph, shape: Shape, values: str, *, bias: str, name: str) -> str:
    hidden = shape.hidden
    attended = _dense(graph, _attention(graph, shape, values, bias=bias, name=name), f"{name}.out", shape=(hidden, hidden))
    values = _norm(graph, graph.node("Add", attended, values), f"{name}.norm1", hidden=hidden)
    inner = _gelu(graph, _dense(graph, values, f"{name}.inner", shape=(hidden, 4 * hidden)))
    outer = _dense(graph, inner, f"{name}.outer", shape=(4 * hidden, hidden))
    return _norm(graph, graph.node("Add", outer, values), f"{name}.norm2", hidden=hidden)


def _attention(graph: Graph, shape: Shape, values: str, *, bias: str, name: str) -> str:
    size = shape.hidden // shape.heads
    split = graph.constant([0, 0, shape.heads, size], np.int64)

    def heads(part: str, perm: tuple[int, ...]) -> str:
        projected = _dense(graph, values, f"{name}.{part}", shape=(shape.hidden, shape.hidden))
        return graph.node("Transpose", graph.node("Reshape", projected, split), perm=perm)

    query, key, value = heads("query", (0, 2, 1, 3)), heads("key", (0, 2, 3, 1)), heads("value", (0, 2, 1, 3))
    scores = graph.node("Div", graph.node("MatMul", query, key), graph.constant(sqrt(size), np.float32))
    shares = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", shares, value), perm=(0, 2, 1, 3))
    return graph.node("Reshape", mixed, graph.constant([0, 0, shape.hidden], np.int64))


def _dense(graph: Graph, values: str, name: str, *, shape: tuple[int, int]) -> str:
    product = graph.node("MatMul", values, graph.normal(f"{name}.weight", shape, scale=_SCALE))
    return graph.node("Add", product, graph.normal(f"{name}.bias", shape[1:], scale=_SCALE))


def _norm(graph: Graph, values: str, name: str, *, hidden: int) -> str:
    scale = graph.normal(f"{name}.gamma", (hidden,), scale=_SCALE, mean=1.0)
    shift = graph.normal(f"{name}.beta", (hidden,), scale=_SCALE)
    return graph.node("LayerNormalization", values, scale, shift, axis=-1, epsilon=1e-12)


def _gelu(graph: Graph, values: str) -> str:
    """Write x/2 (1 + erf(x / sqrt 2)), in the form that runtimes fuse into one kernel."""
    error = graph.node("Erf", graph.node("Div", values, graph.constant(sqrt(2), np.float32)))
    doubled = graph.node("Mul", values, graph.node("Add", error, graph.constant(1.0, np.float32)))
    return graph.node("Mul", doubled, graph.constant(0.5, np.float32))
