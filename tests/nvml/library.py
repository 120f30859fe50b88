"""Builds the library and the stand-in `nvidia-smi` with gcc, once for each content of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from ctypes import CDLL, c_char_p
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from nvml import state

SOURCES = Path(__file__).parent / "src"
BUILDS = Path(__file__).parents[2] / "build" / "nvml"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-fvisibility=hidden")
SONAME = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class Library:
    """A built library.

    Parameters
    ----------
    folder : holds ``libnvidia-ml.so.1`` and ``nvidia-smi``; goes into LD_LIBRARY_PATH and PATH.
    """

    folder: Path

    def load(self) -> CDLL:
        """Load it into this process; the real pynvml, which asks for its soname, then gets this one."""
        loaded = CDLL(str(self.folder / SONAME))
        loaded.standinLayout.restype = c_char_p
        said = loaded.standinLayout().decode()
        if said != state.layout():
            raise RuntimeError(f"state.h and state.py differ: {said!r} against {state.layout()!r}")
        return loaded


@cache
def build() -> Library:
    """Return the library, built where it is not yet; processes that build at the same time do not disturb each other.

    Raises
    ------
    RuntimeError
        gcc is missing or says something; holds what it said.
    """
    sources = sorted(SOURCES.rglob("*.[ch]"))
    content = sha256(repr((FLAGS, [(str(path.relative_to(SOURCES)), path.read_bytes()) for path in sources])).encode())
    folder = BUILDS / content.hexdigest()[:16]
    if not folder.is_dir():
        BUILDS.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=BUILDS))
        fresh.chmod(0o755)
        library, program = [[str(path) for path in sorted(part.glob("*.c"))] for part in (SOURCES, SOURCES / "nvidia_smi")]
        _compile(["-fPIC", "-shared", f"-Wl,-soname,{SONAME}", "-o", str(fresh / SONAME), *library])
        _compile(["-o", str(fresh / "nvidia-smi"), *program, str(fresh / SONAME), "-Wl,-rpath,$ORIGIN"])
        try:
            fresh.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(fresh)
    return Library(folder)


def _compile(arguments: list[str]) -> None:
    compiler = os.environ.get("CC", "gcc")
    try:
        done = subprocess.run([compiler, *FLAGS, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"the tests build tests/nvml with a C compiler, and {compiler!r} does not start: {error}") from error
    if done.returncode or done.stderr:
        raise RuntimeError(f"{compiler} {' '.join(arguments)}:\n{done.stderr}")
