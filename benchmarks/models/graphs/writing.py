"""Writing an ONNX graph node by node. Loads onnx; must not know which models there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models.model import BenchModel, Tensor

OPSET, IR_VERSION = 17, 8
"""Read by ONNX Runtime from 1.12, by Triton's backend and by TensorRT; 17 is the first with LayerNormalization."""

WEIGHTS = "model.weights"
"""Name of the file of the weights, beside ``model.onnx``, of a graph that is too large for one file."""
_INLINE_BYTES = 1 << 16  # shape inference and folding of constants want small tensors at hand

Attribute: TypeAlias = int | float | str | Sequence[int]


class Graph:
    """A graph that is being written.

    Parameters
    ----------
    model : whose inputs and outputs it has.
    seed : of its made-up weights.
    weights : open file for the values of large weights; None: they go into the graph itself.
    """

    def __init__(self, model: BenchModel, *, seed: int, weights: BinaryIO | None = None) -> None:
        self._model = model
        self._rng = np.random.default_rng(seed)
        self._file = weights
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, to: str | None = None, **attributes: Attribute) -> str:
        """Add a node and return the name of its output.

        Parameters
        ----------
        operator : of ONNX.
        inputs : names of values.
        to : name of the output; None: one is made up.
        attributes : of the operator.
        """
        return self.nodes(operator, *inputs, to=(to or f"{operator}_{len(self._nodes)}",), **attributes)[0]

    def nodes(self, operator: str, *inputs: str, to: tuple[str, ...], **attributes: Attribute) -> tuple[str, ...]:
        """Add a node with several outputs and return their names."""
        self._nodes.append(helper.make_node(operator, list(inputs), list(to), None, None, None, None, **attributes))
        return to

    def cast(self, values: str, *, to: str | None = None) -> str:
        """Add a conversion to FP32."""
        name = to or f"Cast_{len(self._nodes)}"
        self._nodes.append(helper.make_node("Cast", [values], [name], to=TensorProto.FLOAT))
        return name

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a constant that is no parameter of the model."""
        name = f"Constant_{len(self._nodes)}"
        value = numpy_helper.from_array(np.asarray(values, dtype))
        self._nodes.append(helper.make_node("Constant", [], [name], value=value))
        return name

    def normal(self, name: str, shape: tuple[int, ...], *, scale: float, mean: float = 0.0) -> str:
        """Add normally distributed made-up weights, standard deviation `scale`."""
        values = self._rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(scale)
        values += np.float32(mean)
        return self._add(name, values)

    def uniform(self, name: str, shape: tuple[int, ...], *, low: float, high: float) -> str:
        """Add uniformly distributed made-up weights."""
        return self._add(name, self._rng.uniform(low, high, shape).astype(np.float32))

    def _add(self, name: str, values: npt.NDArray[np.float32]) -> str:
        if self._file is None or values.nbytes < _INLINE_BYTES:
            self._weights.append(numpy_helper.from_array(values, name))
            return name
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS), ("offset", self._file.tell()), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._file.write(values.astype("<f4", copy=False).data)
        self._weights.append(tensor)
        return name

    def save(self, path: Path) -> None:
        """Write the graph to a file.

        Raises
        ------
        OSError
            It cannot be written.
        """
        graph = helper.make_graph(
            self._nodes,
            self._model.name,
            [_value_info(tensor) for tensor in self._model.inputs],
            [_value_info(tensor) for tensor in self._model.outputs],
            initializer=self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="gpu-partitioner")
        model.ir_version = IR_VERSION
        path.write_bytes(model.SerializeToString())


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    shape: list[str | int | None] = ["batch", *tensor.shape]
    return helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), shape)
