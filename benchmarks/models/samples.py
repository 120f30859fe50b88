"""Made-up samples, and the check of what a model answers to them. Knows no servers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from benchmarks.errors import RequestError
from benchmarks.models.model import BenchModel, Tensor, echoed

Arrays = Mapping[str, npt.NDArray[np.generic]]
"""Values by the name of their tensor, with the batch dimension first."""


def samples(model: BenchModel, count: int, *, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return made-up inputs of some samples by the name of the tensor, each of shape ``(count, *tensor.shape)``.

    Parameters
    ----------
    model : whose inputs.
    count : how many samples.
    seed : of the values.
    """
    rng = np.random.default_rng(seed)
    return {tensor.name: _values(tensor, count, rng) for tensor in model.inputs}


def _values(tensor: Tensor, count: int, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    shape = (count, *tensor.shape)
    if tensor.dtype.kind == "f":
        return rng.standard_normal(shape, dtype=np.float32).astype(tensor.dtype, copy=False)
    return rng.integers(tensor.low, tensor.high, shape, dtype=np.int64).astype(tensor.dtype, copy=False)


def check_answer(model: BenchModel, inputs: Arrays, outputs: Arrays) -> None:
    """Check that an answer is one of this model to these inputs.

    Parameters
    ----------
    model : that was asked.
    inputs : what was sent.
    outputs : what came back.

    Raises
    ------
    RequestError
        An output is missing, has another shape or datatype, is not finite, or is not the echo.
    """
    batch = len(next(iter(inputs.values())))
    for tensor in model.outputs:
        values = outputs.get(tensor.name)
        if values is None:
            raise RequestError(f"{model.name} - no output {tensor.name!r} came back, only {', '.join(outputs) or 'nothing'}")
        shape = (batch, *tensor.shape)
        if values.dtype != tensor.dtype or not _fits(values.shape, shape):
            raise RequestError(
                f"{model.name} - output {tensor.name!r} is {values.dtype} of shape {values.shape}; "
                f"right would be {tensor.dtype} of shape {shape}"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise RequestError(f"{model.name} - output {tensor.name!r} holds values that are not finite numbers")
    if model.echoes:
        _check_echo(model, inputs, outputs)


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))


def _check_echo(model: BenchModel, inputs: Arrays, outputs: Arrays) -> None:
    wanted = echoed(model, inputs[model.inputs[0].name])
    answer = outputs[model.outputs[0].name]
    if not np.array_equal(answer, wanted):
        raise RequestError(f"{model.name} - answered {answer.ravel()[:4]}; right would be the echo {wanted.ravel()[:4]}")
