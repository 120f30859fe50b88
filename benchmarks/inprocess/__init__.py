"""Systems that run a model in this process, for hosts without Triton: ONNX Runtime, and PyTorch where it is installed.

Must not know networks, servers or load; the frameworks are loaded when a system is opened.
"""

from benchmarks.inprocess.ort import OnnxRuntimeSystem
from benchmarks.inprocess.torch_system import TorchSystem

__all__ = ["OnnxRuntimeSystem", "TorchSystem"]
