"""Which graph belongs to which model. Loads onnx; must not know where files are kept."""

from __future__ import annotations

from pathlib import Path

from benchmarks.models.graphs.bert import SHAPES, write_bert
from benchmarks.models.graphs.echo import write_echo
from benchmarks.models.graphs.resnet import STAGES, write_resnet
from benchmarks.models.graphs.writing import WEIGHTS, Graph
from benchmarks.models.model import BenchModel
from partitioner.errors import SpecError

_ONE_FILE_PARAMETERS = 50_000_000  # beyond it protobuf copies for seconds; its limit is 2 GiB


def build(model: BenchModel, folder: Path, *, seed: int) -> None:
    """Write ``model.onnx`` into a folder, and ``model.weights`` beside it where the graph is too large for one file.

    Parameters
    ----------
    model : one that can be built here.
    folder : an empty one.
    seed : of the made-up weights.

    Raises
    ------
    SpecError
        No graph is known for the model.
    OSError
        The folder cannot be written to.
    """
    shape = SHAPES.get(model.name)
    if shape is None or shape.parameters <= _ONE_FILE_PARAMETERS:
        _write(Graph(model, seed=seed), model, folder)
        return
    with (folder / WEIGHTS).open("wb") as weights:
        _write(Graph(model, seed=seed, weights=weights), model, folder)


def _write(graph: Graph, model: BenchModel, folder: Path) -> None:
    if model.echoes:
        write_echo(graph, model)
    elif model.name in STAGES:
        write_resnet(graph, model)
    elif model.name in SHAPES:
        write_bert(graph, model)
    else:
        known = ", ".join((*STAGES, *SHAPES))
        raise SpecError(f"model {model.name!r} - no graph of it is known here; known: {known}; give its ONNX file to from_onnx")
    graph.save(folder / "model.onnx")
