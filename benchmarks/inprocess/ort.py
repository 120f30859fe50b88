"""ONNX Runtime in this process, on the CPU's cores or on CUDA. The only module that loads onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.errors import RequestError, ServerError
from benchmarks.inprocess.system import InProcessSystem
from benchmarks.models.graphs import graph_file
from benchmarks.models.model import BenchModel
from benchmarks.models.samples import Arrays
from partitioner.errors import SpecError, did_you_mean

_PREFERRED = ("CUDAExecutionProvider", "CPUExecutionProvider")
_DATATYPES = {  # ONNX Runtime's names, and Triton's
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(int8)": "INT8",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}
_NO_MEMORY = ("failed to allocate memory", "bad_alloc", "out of memory", "bfcarena", "cannot allocate memory")


class OnnxRuntimeSystem(InProcessSystem):
    """A model run by ONNX Runtime in this process; inputs and outputs are in the host's memory, as a request's are.

    Parameters
    ----------
    model : that is run.
    file : its ONNX file; None: that of `graph_file`.
    threads : of the CPU for each batch; None: the cores this process may use, shared among `processes`.
    processes : how many batches run at the same time.
    providers : of ONNX Runtime, in the order of preference; None: CUDA where it can be had, and it must be where
        CUDA_VISIBLE_DEVICES names a GPU; else the CPU.
    n_samples : how many samples are prepared.
    seed : of their values.
    """

    def __init__(
        self,
        model: BenchModel,
        *,
        file: Path | None = None,
        threads: int | None = None,
        processes: int = 1,
        providers: Sequence[str] | None = None,
        n_samples: int = 64,
        seed: int = 0,
    ) -> None:
        if threads is None:
            threads = max(1, len(os.sched_getaffinity(0)) // max(1, processes))
        if threads < 1:
            raise SpecError(f"{model.name} - threads is {threads}; 1 is least")
        runtime = _OnnxRuntime(model, file, threads=threads, providers=providers)
        super().__init__(model, runtime, processes=processes, n_samples=n_samples, seed=seed)


class _OnnxRuntime:
    def __init__(self, model: BenchModel, file: Path | None, *, threads: int, providers: Sequence[str] | None) -> None:
        self._model = model if file is None else replace(model, file=file)
        self._threads, self._providers = threads, providers
        self._outputs = [tensor.name for tensor in model.outputs]
        self._session: Any = None
        self._options: Any = None
        self._faults: tuple[type[Exception], ...] = ()

    def load(self) -> dict[str, str]:
        runtime = _onnxruntime()
        self._faults = _faults(runtime)
        providers = self._chosen(runtime)
        file = graph_file(self._model)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads  # a number given here also keeps it from pinning threads to cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is raised; its log would break into the worker's own output
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would take the engine's core
        try:
            session = runtime.InferenceSession(file, options, providers=providers)
        except self._faults as error:
            raise ServerError(_loading(self._model, file, error)) from error
        active = session.get_providers()
        if providers[0] not in active and (self._providers or _visible()):
            raise ServerError(
                f"{self._model.name} - ONNX Runtime fell back to {active[0]}, {providers[0]} did not start; see that driver, "
                "CUDA and cuDNN fit onnxruntime-gpu and that the GPU is there, or ask for providers=('CPUExecutionProvider',)"
            )
        _check_tensors(self._model, session)
        self._options = runtime.RunOptions()
        self._session = session
        return {
            "server": f"ONNX Runtime {runtime.__version__} in process",
            "onnxruntime": str(runtime.__version__),
            "providers": ",".join(active),
            "threads": str(self._threads),
            "file": f"{file.parent.name}/{file.name}",
        }

    def _chosen(self, runtime: ModuleType) -> list[str]:
        offered = runtime.get_available_providers()
        if self._providers is None:
            if _visible() and _PREFERRED[0] not in offered:  # else the CPU would be measured in the name of a GPU
                raise ServerError(
                    f"{self._model.name} - CUDA_VISIBLE_DEVICES is {_visible()}, and ONNX Runtime {runtime.__version__} has "
                    f"no CUDA, only {', '.join(offered)}; pip install onnxruntime-gpu, or unset the variable to run on the CPU"
                )
            return [provider for provider in _PREFERRED if provider in offered]
        for provider in self._providers:
            if provider not in offered:
                hint = did_you_mean(provider, offered) or f"offered: {', '.join(offered)}"
                raise SpecError(f"provider {provider!r} is not offered by ONNX Runtime {runtime.__version__} here; {hint}")
        if not self._providers:
            raise SpecError(f"no provider is given; offered: {', '.join(offered)}")
        return list(self._providers)

    def run(self, inputs: Arrays) -> Arrays:
        session = self._session
        if session is None:  # closed since the batch was handed to its thread
            raise RequestError(f"{self._model.name} - the system was closed")
        try:
            values = session.run(self._outputs, inputs, self._options)
        except self._faults as error:
            batch = len(next(iter(inputs.values())))
            if _is_memory(error):
                raise RequestError(
                    f"{self._model.name} - a batch of {batch} does not fit into memory; use smaller ones"
                ) from error
            raise RequestError(f"{self._model.name} - a batch of {batch} failed: {_first_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def stop(self) -> None:
        if self._options is not None:
            self._options.terminate = True  # looked at between two nodes of the graph
        self._session = None


def _visible() -> str | None:
    """Return the GPU that this process was given, if any; None also where it was given none on purpose."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return None if given in ("", "-1") else given


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise ServerError(
            f"ONNX Runtime cannot be loaded ({error}); pip install 'gpu-partitioner[bench]', or onnxruntime-gpu for CUDA"
        ) from error
    runtime: ModuleType = onnxruntime
    return runtime


def _faults(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """Everything that ONNX Runtime raises: its exceptions have no class in common."""
    state = runtime.capi.onnxruntime_pybind11_state
    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException, RuntimeError, ValueError, MemoryError)


def _loading(model: BenchModel, file: Path, error: Exception) -> str:
    if _is_memory(error):
        return f"{model.name} - {file} does not fit into memory; take a larger instance or a smaller model ({_first_line(error)})"
    remedy = "give another file" if model.file else f"delete {file.parent}, it is then built anew"
    return f"{model.name} - {file} cannot be loaded: {_first_line(error)}; {remedy}"


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in _NO_MEMORY)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_tensors(model: BenchModel, session: Any) -> None:
    """Compare the graph's inputs and outputs with the model's; sizes that the graph leaves open fit every size."""
    sides: Mapping[str, tuple[Any, Any]] = {
        "input": (model.inputs, {node.name: node for node in session.get_inputs()}),
        "output": (model.outputs, {node.name: node for node in session.get_outputs()}),
    }
    for side, (wanted, present) in sides.items():
        for tensor in wanted:
            node = present.pop(tensor.name, None)
            if node is None:
                has = ", ".join(present) or "none"
                raise ServerError(f"{model.name} - the graph has no {side} {tensor.name!r}; its other {side}s: {has}")
            datatype, sizes = _DATATYPES.get(node.type, node.type), tuple(node.shape[1:])
            fits = len(sizes) == len(tensor.shape) and all(
                not isinstance(size, int) or want in (-1, size) for size, want in zip(sizes, tensor.shape, strict=True)
            )
            if datatype != tensor.datatype or not fits:
                raise ServerError(
                    f"{model.name} - {side} {tensor.name!r} of the graph is {datatype} {sizes}; "
                    f"right would be {tensor.datatype} {tensor.shape}, both without the batch"
                )
        if side == "input" and present:
            raise ServerError(
                f"{model.name} - the graph also wants the inputs {', '.join(present)}, which the model does not name"
            )
