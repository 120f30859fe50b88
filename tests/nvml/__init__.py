"""A stand-in for NVIDIA's driver library: `libnvidia-ml.so.1` in C, and the machine it pretends to be.

See README.md here. It shares no code with the package under test but the catalogue's tables.
"""

from nvml.cards import Card
from nvml.library import Library, build
from nvml.machine import Machine

__all__ = ["Card", "Library", "Machine", "build"]
