"""Where graphs are kept: each is built once, also when several processes ask at the same time. Must not know their content."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from benchmarks.errors import BenchmarkError
from benchmarks.models.model import BenchModel
from partitioner.errors import SpecError

GENERATION = 1
"""Version of what is built here; raise it with every change of a graph or of its weights, and old files are left alone."""

SEED = 0
"""Of the made-up weights, so that every host builds the same."""


def graph_file(model: BenchModel, folder: Path | None = None) -> Path:
    """Return the ONNX file of a model; build it where it is not there yet.

    Parameters
    ----------
    model : a user's own file is returned as it is.
    folder : to keep graphs in; None: ``gpu-partitioner/models`` in the user's cache (XDG_CACHE_HOME, or ``~/.cache``).

    Returns
    -------
    The file ``model.onnx`` in a folder of its own; a graph that is too large for one file has its weights beside it.

    Raises
    ------
    SpecError
        The user's own file is not there, or no graph is known for the model.
    BenchmarkError
        The folder cannot be written to, or onnx is not installed.
    """
    if model.file is not None:
        if not model.file.is_file():
            raise SpecError(f"model {model.name!r} - its file {model.file} is not there")
        return model.file
    kept = folder or _cache()
    tensors = crc32(repr((model.inputs, model.outputs, model.echoes)).encode())
    place = kept / f"{model.name}-g{GENERATION}-{tensors:08x}"
    if not (place / "model.onnx").is_file():
        try:
            with _locked(kept, place.name):
                _build(model, place)
        except OSError as error:
            raise BenchmarkError(
                f"model {model.name!r} - its graph cannot be kept in {kept}: {error.strerror or error}; "
                "make room there, or set XDG_CACHE_HOME to a folder with room that you may write to"
            ) from error
    return place / "model.onnx"


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():  # others count as not given, says the specification
        return Path(given) / "gpu-partitioner" / "models"
    try:
        return Path.home() / ".cache" / "gpu-partitioner" / "models"
    except RuntimeError as error:
        raise BenchmarkError(
            f"user {os.geteuid()} has no home directory to keep graphs in; set XDG_CACHE_HOME, or give folder="
        ) from error


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """Keep others from building the same graph; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(model: BenchModel, place: Path) -> None:
    if (place / "model.onnx").is_file():  # another process was faster
        return
    try:
        from benchmarks.models.graphs.building import build
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            f"model {model.name!r} - its graph is built with onnx, which is not installed; pip install 'gpu-partitioner[bench]'"
        ) from error
    partial = place.with_name(f".{place.name}.partial")
    for left in (partial, place):  # of a process that was killed; ours alone while we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    try:
        build(model, partial, seed=SEED)
        partial.rename(place)  # whole or not at all
    finally:
        shutil.rmtree(partial, ignore_errors=True)
