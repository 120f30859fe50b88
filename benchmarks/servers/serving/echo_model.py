"""A model of Triton's Python backend that answers each sample with the first value of its first input, without any work.

Copied into a model repository; runs inside tritonserver's stub, so it must import nothing of this package.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_USED = b"used_dltensor"


class TritonPythonModel:
    """What the backend looks for, by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the names of the tensors."""
        config = json.loads(args["model_config"])
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of a batch."""
        # By DLPack: the stub of nvidia-pytriton was built for numpy 1, and its as_numpy garbles values under numpy 2.
        return [self._answer(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, self._input))) for request in requests]

    def _answer(self, values: Any) -> Any:
        first = values.reshape(len(values), -1)[:, :1].astype(np.float32)
        return pb_utils.InferenceResponse([_tensor(self._output, first)])


def _tensor(name: str, values: Any) -> Any:
    """Return an output that shares the memory of an array.

    The backend marks what it took as "used_dlpack", which numpy does not know: it would complain in the log for every answer,
    at half of the server's speed. DLPack's word for it is "used_dltensor".
    """
    capsule = values.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), _USED)
    return tensor
