"""A model of Triton's Python backend: runs an ONNX graph with ONNX Runtime, all requests of a dynamic batch at once.

Copied into a model repository; runs inside tritonserver's stub, so it must import nothing of this package. Parameters of its
config.pbtxt: `graph`, the file; `threads` of one inference.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_DATATYPES = {"float": "FP32", "float16": "FP16", "double": "FP64"}  # ONNX Runtime's names, where they are not Triton's
_WANTED = ("CUDAExecutionProvider", "CPUExecutionProvider")
_USED = b"used_dltensor"


class TritonPythonModel:
    """What the backend looks for, by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph, check that it is the one the configuration describes, and log what it runs on."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        on_gpu = args["model_instance_kind"] == "GPU"
        offered = onnxruntime.get_available_providers()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.inter_op_num_threads = 1
        if on_gpu and _WANTED[0] not in offered:
            raise RuntimeError(f"ONNX Runtime offers no CUDA, only {', '.join(offered)}; install onnxruntime-gpu")
        self._session = onnxruntime.InferenceSession(
            parameters["graph"], options, providers=[name for name in _WANTED if name in offered and (on_gpu or "CPU" in name)]
        )
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        for side, described in (("input", self._session.get_inputs()), ("output", self._session.get_outputs())):
            _check(side, config[side], described)
        _report(threads=parameters["threads"], providers=self._session.get_providers())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of a batch."""
        # By DLPack: the stub of nvidia-pytriton was built for numpy 1, and its as_numpy garbles values under numpy 2.
        values = [
            [np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for request in requests] for name in self._inputs
        ]
        sizes = [len(part) for part in values[0]]
        feed = {
            name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in zip(self._inputs, values, strict=True)
        }
        try:
            answers = self._session.run(self._outputs, feed)
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises: it is for the clients to hear
            return [pb_utils.InferenceResponse([], pb_utils.TritonError(str(error))) for _ in requests]
        parts = zip(*(np.split(answer, np.cumsum(sizes)[:-1]) for answer in answers), strict=True)
        return [self._response(each) for each in parts]

    def _response(self, outputs: tuple[Any, ...]) -> Any:
        named = zip(self._outputs, outputs, strict=True)
        return pb_utils.InferenceResponse([_tensor(name, np.ascontiguousarray(part)) for name, part in named])


def _tensor(name: str, values: Any) -> Any:
    """Return an output that shares the memory of an array.

    The backend marks what it took as "used_dlpack", which numpy does not know: it would complain in the log for every answer,
    at half of the server's speed. DLPack's word for it is "used_dltensor".
    """
    capsule = values.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), _USED)
    return tensor


def _check(side: str, configured: list[dict[str, Any]], described: list[Any]) -> None:
    """Refuse a graph whose tensors are not those of the configuration."""
    graph = {tensor.name: tensor for tensor in described}
    for tensor in configured:
        name, datatype, shape = tensor["name"], tensor["data_type"].removeprefix("TYPE_"), [int(size) for size in tensor["dims"]]
        if name not in graph:
            raise ValueError(f"{side} '{name}' is not in the graph; it has {', '.join(graph)}")
        found = graph[name].type.removeprefix("tensor(").removesuffix(")")
        if _DATATYPES.get(found, found.upper()) != datatype:
            raise ValueError(f"{side} '{name}' is {datatype} in the configuration, {found} in the graph")
        sizes = graph[name].shape[1:]  # without the batch dimension
        known = len(sizes) == len(shape) and all(
            want < 0 or not isinstance(size, int) or size == want for size, want in zip(sizes, shape, strict=True)
        )
        if not known:
            raise ValueError(f"{side} '{name}' has shape {shape} in the configuration, {sizes} in the graph")


def _report(**facts: object) -> None:
    """Put what this process runs on into the server's log, for the one who started it."""
    facts |= {
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cores": sorted(os.sched_getaffinity(0)),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }
    pb_utils.Logger.log_info(f"gpu-partitioner facts {json.dumps(facts)}")
