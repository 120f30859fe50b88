"""PyTorch in this process, where it is installed. With `torch_nets` the only place that loads torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.errors import RequestError, ServerError
from benchmarks.inprocess.system import InProcessSystem
from benchmarks.models.model import BenchModel
from benchmarks.models.samples import Arrays
from partitioner.errors import SpecError

PRECISIONS = ("float32", "float16", "bfloat16")


class TorchSystem(InProcessSystem):
    """A model run by PyTorch in this process; inputs and outputs are in the host's memory, as a request's are.

    Parameters
    ----------
    model : that is run.
    file : its TorchScript file, which takes the inputs in the model's order; None: a network with made-up weights.
    device : ``cuda`` or ``cpu``; None: CUDA where it is available.
    precision : of weights and floating-point inputs, one of `PRECISIONS`.
    threads : of the CPU for each batch; None: PyTorch's own choice.
    processes : how many batches run at the same time.
    n_samples : how many samples are prepared.
    seed : of their values, and of made-up weights.
    """

    def __init__(
        self,
        model: BenchModel,
        *,
        file: Path | None = None,
        device: str | None = None,
        precision: str = "float32",
        threads: int | None = None,
        processes: int = 1,
        n_samples: int = 64,
        seed: int = 0,
    ) -> None:
        if precision not in PRECISIONS:
            raise SpecError(f"{model.name} - precision {precision!r} is unknown; known: {', '.join(PRECISIONS)}")
        if model.file is not None and file is None:
            raise SpecError(
                f"{model.name} - PyTorch does not run ONNX files such as {model.file}; give its TorchScript file as file="
            )
        if threads is not None and threads < 1:
            raise SpecError(f"{model.name} - threads is {threads}; 1 is least")
        runtime = _Torch(model, file, device=device, precision=precision, threads=threads, seed=seed)
        super().__init__(model, runtime, processes=processes, n_samples=n_samples, seed=seed)


class _Torch:
    def __init__(
        self, model: BenchModel, file: Path | None, *, device: str | None, precision: str, threads: int | None, seed: int
    ) -> None:
        self._model, self._file, self._seed = model, file, seed
        self._device, self._precision, self._threads = device, precision, threads
        self._torch: Any = None
        self._module: Any = None

    def load(self) -> dict[str, str]:
        try:
            torch: Any = import_module("torch")
        except ImportError as error:
            raise ServerError(
                f"PyTorch cannot be loaded ({error}); pip install torch, or run the model by ONNX Runtime"
            ) from error
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            module = self._loaded(torch).eval().to(device, getattr(torch, self._precision))
        except (RuntimeError, AssertionError) as error:  # asserts where torch was built without CUDA
            raise ServerError(f"{self._model.name} - PyTorch cannot load it on {device}: {_reason(error)}") from error
        self._torch, self._device, self._module = torch, device, module
        return {
            "server": f"PyTorch {torch.__version__} in process",
            "torch": str(torch.__version__),
            "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
            "precision": self._precision,
            "threads": str(torch.get_num_threads()),
        }

    def _loaded(self, torch: Any) -> Any:
        if self._file is None:
            from benchmarks.inprocess.torch_nets import network

            return network(self._model, seed=self._seed)
        if not self._file.is_file():
            raise SpecError(f"model {self._model.name!r} - its file {self._file} is not there")
        return torch.jit.load(self._file, map_location="cpu")

    def run(self, inputs: Arrays) -> Arrays:
        torch, module = self._torch, self._module
        if module is None:  # closed since the batch was handed to its thread
            raise RequestError(f"{self._model.name} - the system was closed")
        try:
            with torch.inference_mode():
                answers = module(*(self._sent(inputs[tensor.name]) for tensor in self._model.inputs))
                answers = answers if isinstance(answers, (tuple, list)) else (answers,)
                outputs = zip(self._model.outputs, answers, strict=True)
                return {tensor.name: answer.to("cpu", getattr(torch, tensor.dtype.name)).numpy() for tensor, answer in outputs}
        except (RuntimeError, ValueError, TypeError) as error:
            batch = len(next(iter(inputs.values())))
            raise RequestError(f"{self._model.name} - a batch of {batch} failed: {_reason(error)}") from error

    def _sent(self, values: Any) -> Any:
        tensor = self._torch.from_numpy(values).to(self._device)
        return tensor.to(getattr(self._torch, self._precision)) if tensor.is_floating_point() else tensor

    def stop(self) -> None:
        self._module = None


def _reason(error: Exception) -> str:
    if "out of memory" in str(error).lower():
        return "it does not fit into memory; use smaller batches, or a larger instance"
    return next(iter(str(error).splitlines()), type(error).__name__)
