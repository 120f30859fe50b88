"""Reading the tensors of a user's own ONNX file. Loads onnx when it is asked to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.models.model import DTYPES, BenchModel, Tensor
from partitioner.errors import Problem, SpecError

if TYPE_CHECKING:
    import onnx


def from_onnx(
    path: Path,
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    max_batch: int = 64,
    latency_bound_ms: float | None = None,
) -> BenchModel:
    """Return a user's own model, with the inputs and outputs that its ONNX file says.

    Parameters
    ----------
    path : the file.
    name : of the model; None: the file's.
    shapes : sizes without the batch dimension of inputs that the graph leaves open, by name.
    max_batch : most samples in one request; a graph that fixes its batch to one has 1.
    latency_bound_ms : bound on the 99th percentile of the latency in mode server [ms].

    Raises
    ------
    SpecError
        The file is not there or no ONNX graph, a size is open, or the first dimension is no batch; all problems at once.
    BenchmarkError
        onnx is not installed.
    """
    graph = _read(path)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [info for info in graph.input if info.name not in weights]
    given = {key: tuple(sizes) for key, sizes in (shapes or {}).items()}
    problems = [
        Problem(f"shapes name an input {key!r}; the graph has {', '.join(info.name for info in inputs)}", str(path))
        for key in given
        if key not in {info.name for info in inputs}
    ]
    problems += [Problem(message, str(path)) for info in inputs if (message := _problem(info, given))]
    if problems:
        raise SpecError(problems)
    sizes = {symbol: size for info in inputs for symbol, size in _named_sizes(info, given).items()}
    fixed = any(dim.dim_value == 1 for dim in (_dims(info)[0] for info in inputs))
    return BenchModel(
        name or path.stem,
        tuple(Tensor(info.name, _datatype(info), given.get(info.name) or _sizes(info, {})) for info in inputs),
        tuple(Tensor(info.name, _datatype(info), _sizes(info, sizes)) for info in graph.output),
        max_batch=1 if fixed else max_batch,
        latency_bound_ms=latency_bound_ms,
        file=path.absolute(),
    )


def _read(path: Path) -> onnx.GraphProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise BenchmarkError(f"{path} is read with onnx, which is not installed; pip install 'gpu-partitioner[bench]'") from error
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except OSError as error:
        raise SpecError(f"{path} - cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise SpecError(f"{path} - is no ONNX file: {error}") from error
    if not graph.input or not graph.output:
        raise SpecError(f"{path} - is no ONNX graph with inputs and outputs")
    return graph


def _problem(info: onnx.ValueInfoProto, given: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say what keeps a value from being an input of requests, if anything does."""
    dims = _dims(info)
    if _datatype(info) not in DTYPES:
        return f"input {info.name!r} has ONNX's datatype {info.type.tensor_type.elem_type}; known: {', '.join(DTYPES)}"
    if not dims:
        return f"input {info.name!r} has no batch dimension; the first of its dimensions has to be the batch"
    if dims[0].dim_value > 1:
        return (
            f"input {info.name!r} fixes the batch to {dims[0].dim_value}; it has to be open or 1, export it with a dynamic axis"
        )
    own = _sizes(info, {})
    if info.name not in given:
        example = ", ".join(str(size) if size > 0 else "..." for size in own)
        return f"input {info.name!r} leaves sizes open: {own}; give shapes={{{info.name!r}: ({example},)}}" if -1 in own else None
    sizes = given[info.name]
    if len(sizes) != len(own) or any(size < 1 or fixed not in (-1, size) for size, fixed in zip(sizes, own, strict=False)):
        return f"input {info.name!r} - given shape {sizes} does not fit the graph's {own} (-1: open), both without the batch"
    return None


def _dims(info: onnx.ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(info.type.tensor_type.shape.dim)


def _sizes(info: onnx.ValueInfoProto, known: Mapping[str, int]) -> tuple[int, ...]:
    """Sizes without the batch; -1 where open."""
    return tuple(dim.dim_value or known.get(dim.dim_param, -1) for dim in _dims(info)[1:])


def _named_sizes(info: onnx.ValueInfoProto, given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes that a user gave to dimensions with a name, by the name: outputs use the same names."""
    sizes = given.get(info.name, ())
    return {dim.dim_param: size for dim, size in zip(_dims(info)[1:], sizes, strict=False) if dim.dim_param}


def _datatype(info: onnx.ValueInfoProto) -> str:
    """Triton's name of the datatype; empty where it has none here."""
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    return next((name for name, kind in DTYPES.items() if dtype == kind), "")
