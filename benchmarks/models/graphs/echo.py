"""The graph of a model that echoes: its output is the first value of the first input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.models.model import BenchModel

if TYPE_CHECKING:
    from benchmarks.models.graphs.writing import Graph


def write_echo(graph: Graph, model: BenchModel) -> None:
    """Write the nodes of a model that echoes; it does as little as a graph can do.

    Parameters
    ----------
    graph : to write to.
    model : one that echoes.
    """
    first = model.inputs[0]
    rank = len(first.shape)
    values = first.name
    if rank:  # a slice before all else, so that nothing large is copied
        starts, ends, axes = ([0] * rank, [1] * rank, list(range(1, rank + 1)))
        values = graph.node("Slice", values, *(graph.constant(numbers, np.int64) for numbers in (starts, ends, axes)))
    values = graph.node("Reshape", values, graph.constant([-1, 1], np.int64))
    graph.cast(values, to=model.outputs[0].name)
