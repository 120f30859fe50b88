"""The door to tritonclient and gRPC, for nobody else to import: `TritonSystem` asks a server, `serving` answers as one."""

from benchmarks.triton.client import TritonSystem

__all__ = ["TritonSystem"]
