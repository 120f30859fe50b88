"""Which tritonserver there is on this machine, and what it needs to run. Starts nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import ServerError

VARIABLE = "PARTITIONER_TRITONSERVER"
"""Variable of the environment that says which tritonserver to use."""

_CONTAINER = Path("/opt/tritonserver/bin/tritonserver")  # where NVIDIA's container has it
_HOW_TO_GET = (
    "get one with `pip install --no-deps nvidia-pytriton` (Linux on x86-64), run inside NVIDIA's container of Triton, "
    f"or set {VARIABLE} to its path"
)


@dataclass(frozen=True, slots=True)
class Tritonserver:
    """A tritonserver that can be started.

    Parameters
    ----------
    binary : the program.
    backends : its folder of backends; None: it knows by itself.
    stub : of the Python backend, for this interpreter; None: `backends` is complete.
    libraries : folders for LD_LIBRARY_PATH.
    """

    binary: Path
    backends: Path | None = None
    stub: Path | None = None
    libraries: tuple[Path, ...] = ()

    def has_backend(self, name: str) -> bool:
        """Return whether a backend is there."""
        return self.backends is not None and (self.backends / name).is_dir()


def find_tritonserver(given: str | os.PathLike[str] | None = None) -> Tritonserver:
    """Return the tritonserver to use: the one given, of the environment, the PATH, NVIDIA's container, or nvidia-pytriton.

    Parameters
    ----------
    given : path of the program; None: look.

    Raises
    ------
    ServerError
        There is none, it cannot be run, or this interpreter lacks what its Python backend needs.
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        return _installed(Path(named))
    found = shutil.which("tritonserver") or (str(_CONTAINER) if _CONTAINER.is_file() else None)
    if found:
        return _installed(Path(found))
    package = _package()
    if package is None:
        raise ServerError(f"tritonserver - is neither on the PATH nor in the package nvidia-pytriton; {_HOW_TO_GET}")
    return _packaged(package)


def _installed(path: Path) -> Tritonserver:
    """Return a tritonserver by its path."""
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ServerError(f"tritonserver - {path} is not a program that can be run; {_HOW_TO_GET}")
    package = _package()
    if package is not None and path.resolve().is_relative_to(package.resolve()):
        return _packaged(package)
    backends = path.resolve().parent.parent / "backends"
    return Tritonserver(path, backends if backends.is_dir() else None)


def _package() -> Path | None:
    """Return where nvidia-pytriton keeps its tritonserver, without importing it: it wants another numpy."""
    spec = importlib.util.find_spec("pytriton")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "tritonserver/bin/tritonserver").is_file():
            return Path(folder) / "tritonserver"
    return None


def _packaged(package: Path) -> Tritonserver:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = package / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        have = ", ".join(sorted(path.name for path in (package / "python_backend_stubs").iterdir()))
        raise ServerError(
            f"nvidia-pytriton - its tritonserver has no Python backend for Python {version}; it has {have}; use one of them"
        )
    return Tritonserver(
        package / "bin/tritonserver",
        package / "backends",
        stub,
        (package.parent.parent / "nvidia_pytriton.libs", _library_of_python()),
    )


def _library_of_python() -> Path:
    """Return the folder of this interpreter's shared library, which the stub loads."""
    name = sysconfig.get_config_var("INSTSONAME") or f"libpython{sysconfig.get_config_var('VERSION')}.so.1.0"
    folders = [Path(folder) for key in ("LIBDIR", "LIBPL") if (folder := sysconfig.get_config_var(key))]
    folders.append(Path(sys.base_prefix) / "lib")
    for folder in folders:
        if (folder / name).is_file() and ".so" in name:
            return folder
    raise ServerError(
        f"tritonserver - its Python backend needs {name}, and {sys.executable} ({platform.python_implementation()} "
        f"{platform.python_version()}) has none in {', '.join(map(str, folders))}; use a Python that was built with "
        "--enable-shared, or install the system's libpython"
    )
