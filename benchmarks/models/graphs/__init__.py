"""ONNX graphs of the benchmarked models: built here with made-up weights and kept in a folder, or a user's own.

The only place, beside the engines in this process, that knows ONNX; it is loaded when a graph is built or read.
"""

from benchmarks.models.graphs.files import graph_file
from benchmarks.models.graphs.reading import from_onnx

__all__ = ["from_onnx", "graph_file"]
