"""Names of shared memory that servers of ours make, so that what a killed one left behind is found and removed."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps segments of POSIX shared memory
_OURS = re.compile(r"gpu-partitioner-triton-(\d+)-")


def new_prefix() -> str:
    """Return a prefix for names of segments that says whose they are, this process's."""
    return f"gpu-partitioner-triton-{os.getpid()}-{secrets.token_hex(6)}-"


def remove_stale() -> None:
    """Remove segments whose owner no longer lives; where even the guard was killed nobody else does it."""
    for path in _FOLDER.glob("gpu-partitioner-triton-*"):
        owner = _OURS.match(path.name)
        if owner and not Path("/proc", owner[1]).exists():
            path.unlink(missing_ok=True)
