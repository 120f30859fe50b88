"""Models that are benchmarked, as values: what goes in, what comes out, and MLPerf's bound on the latency.

Knows no graphs, no frameworks and no servers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from partitioner.errors import SpecError, did_you_mean

DTYPES: MappingProxyType[str, type[np.generic]] = MappingProxyType(
    {
        "BOOL": np.bool_,
        "UINT8": np.uint8,
        "INT8": np.int8,
        "INT32": np.int32,
        "INT64": np.int64,
        "FP16": np.float16,
        "FP32": np.float32,
        "FP64": np.float64,
    }
)
"""Datatypes of tensors as Triton spells them, and numpy's."""

LATENCY_BOUNDS_MS: MappingProxyType[str, float | None] = MappingProxyType(
    {
        "resnet50": 15.0,
        "ssd-resnet34": 100.0,
        "retinanet": 100.0,
        "bert-99": 130.0,
        "bert-99.9": 130.0,
        "rnnt": 1000.0,
        "dlrm-99": 30.0,
        "dlrm-99.9": 30.0,
        "3d-unet-99": None,
        "3d-unet-99.9": None,
    }
)
"""Bound on the 99th percentile of the latency in mode server [ms], MLPerf Inference v0.7-v3.0 data centre, by the calibration's
names; None: MLPerf does not run the model as a server. (DLRM's became 60 ms with its successor model.)"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


_ANY_BATCH = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of a model.

    Parameters
    ----------
    name : as the graph and the server call it.
    datatype : as Triton spells it, one of `DTYPES`.
    shape : without the batch dimension; -1 in outputs for sizes that are not known before.
    low, high : made-up integer values of an input are drawn from `low` to `high` - 1; floating-point ones are standard normal.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    low: int = 0
    high: int = 2

    def __post_init__(self) -> None:
        if self.datatype not in DTYPES:
            raise SpecError(f"tensor {self.name!r} - datatype {self.datatype!r} is unknown; known: {', '.join(DTYPES)}")

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Numpy's datatype."""
        return np.dtype(DTYPES[self.datatype])

    @property
    def nbytes(self) -> int:
        """Size of one sample's values [bytes]."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A model to be benchmarked.

    Parameters
    ----------
    name : as the calibration calls it, where it knows the same network.
    inputs, outputs : its tensors; none of a model that is taken as a server has it, see `served`.
    max_batch : most samples in one request.
    latency_bound_ms : MLPerf's bound on the 99th percentile of the latency in mode server [ms]; None: there is none.
    file : a user's own ONNX file; None: the graph is built here.
    echoes : whether its only output, FP32 of one element, is the first value of the first input, so that answers can be checked.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch: int
    latency_bound_ms: float | None = None
    file: Path | None = None
    echoes: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SpecError(f"model {self.name!r} - the name becomes that of a folder; use letters, digits, '.', '_' and '-'")
        if bool(self.inputs) != bool(self.outputs):
            raise SpecError(
                f"model {self.name!r} - it has {len(self.inputs)} inputs and {len(self.outputs)} outputs; one of each is least"
            )
        if self.max_batch < 1:
            raise SpecError(f"model {self.name!r} - max_batch is {self.max_batch}; 1 is least")

    @staticmethod
    def served(name: str) -> BenchModel:
        """Return a user's own model by the name that a server has for it; its tensors are asked of the server."""
        return BenchModel(name, (), (), max_batch=_ANY_BATCH)

    def to_data(self) -> dict[str, Any]:
        """Return the model as plain data."""
        return asdict(self) | {"file": None if self.file is None else str(self.file)}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> BenchModel:
        """Return the model that `to_data` described."""
        inputs, outputs = (
            tuple(Tensor(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in data[side]) for side in ("inputs", "outputs")
        )
        file = None if data["file"] is None else Path(data["file"])
        return BenchModel(**dict(data) | {"inputs": inputs, "outputs": outputs, "file": file})

    @property
    def request_bytes(self) -> int:
        """Size of the inputs of one sample [bytes]."""
        return sum(tensor.nbytes for tensor in self.inputs)


_ECHOED = (Tensor("echo", "FP32", (1,)),)
_VOCABULARY = 30_522  # WordPiece tokens of BERT, uncased


def _image_classifier(name: str) -> BenchModel:
    image, classes = Tensor("input", "FP32", (3, 224, 224)), Tensor("logits", "FP32", (1000,))
    return BenchModel(name, (image,), (classes,), max_batch=128, latency_bound_ms=LATENCY_BOUNDS_MS.get(name))


def _question_answerer(name: str, tokens: int) -> BenchModel:
    inputs = (  # MLPerf's names of the tensors of its BERT graph
        Tensor("input_ids", "INT64", (tokens,), high=_VOCABULARY),
        Tensor("input_mask", "INT64", (tokens,), low=1, high=2),
        Tensor("segment_ids", "INT64", (tokens,)),
    )
    outputs = (Tensor("output_start_logits", "FP32", (tokens,)), Tensor("output_end_logits", "FP32", (tokens,)))
    return BenchModel(name, inputs, outputs, max_batch=64, latency_bound_ms=LATENCY_BOUNDS_MS.get(name))


_MODELS = {
    model.name: model
    for model in (
        _image_classifier("resnet50"),
        _image_classifier("resnet101"),
        _image_classifier("resnet152"),
        _question_answerer("bert-99", 384),
        _question_answerer("bert-base", 128),
        _question_answerer("bert-tiny", 64),
        BenchModel("echo", (Tensor("input", "FP32", (4,)),), _ECHOED, max_batch=1024, echoes=True),
    )
}
_ECHO_SUFFIX = "-echo"


def names() -> tuple[str, ...]:
    """Return the names of the models that can be built here; each also has an echo twin, see `echo_of`."""
    return tuple(_MODELS)


def model(name: str) -> BenchModel:
    """Return a model by its name.

    Parameters
    ----------
    name : one of `names`, or that of an echo twin (``resnet50-echo``).

    Raises
    ------
    SpecError
        There is no such model.

    Examples
    --------
    >>> model("resnet50").inputs[0].shape, model("resnet50").latency_bound_ms
    ((3, 224, 224), 15.0)
    """
    if name in _MODELS:
        return _MODELS[name]
    twin_of = name.removesuffix(_ECHO_SUFFIX)
    if twin_of != name and twin_of in _MODELS:
        return echo_of(_MODELS[twin_of])
    hint = did_you_mean(name, _MODELS) or f"known: {', '.join(_MODELS)}"
    raise SpecError(f"model {name!r} cannot be built here; {hint}; an ONNX file of your own is read with from_onnx")


def echo_of(model: BenchModel) -> BenchModel:
    """Return the echo twin of a model: the same inputs and a trivial output, so that all but the network costs the same.

    It shows what client, server and wire can do at most, the client's ceiling. A model that echoes is its own twin.
    """
    if model.echoes:
        return model
    return replace(model, name=f"{model.name}{_ECHO_SUFFIX}", outputs=_ECHOED, latency_bound_ms=None, file=None, echoes=True)


def echoed(model: BenchModel, first_input: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return what a model that echoes has to answer to an input, shape ``(batch, 1)``.

    Parameters
    ----------
    model : one that echoes.
    first_input : values of its first input, with the batch dimension.
    """
    assert model.echoes
    return first_input.reshape(len(first_input), -1)[:, :1].astype(np.float32)
