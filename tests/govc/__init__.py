"""Builds govc with Go, once for each content of its sources; see main.go."""

from __future__ import annotations

import fcntl
import os
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path

from vcenter.program import go

SOURCES = Path(__file__).parent
BUILDS = SOURCES.parents[1] / "build" / "govc"


@cache
def build() -> Path:
    """Return the program, built where it is not yet; of processes that come at the same time one builds.

    Raises
    ------
    RuntimeError
        Go says something; holds what it said.
    """
    names = ("main.go", "go.mod", "go.sum")
    content = sha256(repr([(name, (SOURCES / name).read_bytes()) for name in names]).encode()).hexdigest()[:16]
    program = BUILDS / content / "govc"
    if program.exists():
        return program
    BUILDS.mkdir(parents=True, exist_ok=True)
    with (BUILDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            fresh = BUILDS / f"{content}.{os.getpid()}"
            fresh.mkdir(exist_ok=True)
            settings = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
            done = subprocess.run(
                [go(), "build", "-trimpath", "-o", str(fresh / "govc"), "."],
                cwd=SOURCES,
                env={**os.environ, **settings},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"go build of govc:\n{done.stdout}{done.stderr}")
            fresh.rename(program.parent)
    return program
