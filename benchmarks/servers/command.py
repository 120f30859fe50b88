"""What a tritonserver is started with: arguments, environment and backends. Starts nothing.

The options are those of Triton 2.51; `tritonserver --help` describes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import ServerError
from benchmarks.servers.find import Tritonserver

HOST = "127.0.0.1"
"""Where our servers listen: load generators run beside them."""

_EXIT_S = 3  # for Triton to unload its models; nothing is in flight when a measurement is over


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a server listens."""

    grpc: int
    http: int


def command_line(
    program: Tritonserver,
    *,
    identity: str,
    repository: Path,
    models: Iterable[str],
    complete: bool,
    backends: Path | None,
    ports: Ports,
    shared: str,
) -> list[str]:
    """Return program and arguments.

    Parameters
    ----------
    program : which tritonserver.
    identity : name that it gives itself, by which it is told from a stranger on the same port.
    repository : its models.
    models : names of those it loads; others that are there stay unloaded.
    complete : whether their configurations are complete; to find the rest Triton loads each model once more.
    backends : folder of backends; None: its own.
    ports : where it listens.
    shared : prefix of the names of its segments in shared memory.
    """
    return [
        str(program.binary),
        f"--id={identity}",
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        *(["--disable-auto-complete-config"] if complete else []),
        *([f"--backend-directory={backends}"] if backends else []),
        f"--backend-config=python,shm-region-prefix-name={shared}",
        f"--grpc-address={HOST}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={HOST}",
        f"--http-port={ports.http}",
        "--allow-metrics=false",  # Triton has none of MIG instances, and looking takes time of the cores that are measured
        f"--exit-timeout-secs={_EXIT_S}",
    ]


def environment(program: Tritonserver, cuda_visible_devices: str | None) -> dict[str, str]:
    """Return the environment of a server: this process's, with the one instance that it may see.

    Parameters
    ----------
    program : which tritonserver.
    cuda_visible_devices : of the instance; None: no GPU.
    """
    libraries = [*map(str, program.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    found = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": cuda_visible_devices or ""}
    return found | ({"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {})


def backends_of(program: Tritonserver, folder: Path) -> Path | None:
    """Return the folder of backends; that of nvidia-pytriton is made of links here, for it keeps the stubs elsewhere.

    Parameters
    ----------
    program : which tritonserver.
    folder : to make it in.

    Raises
    ------
    ServerError
        It cannot be made.
    """
    if program.stub is None or program.backends is None:
        return program.backends
    python = folder / "backends" / "python"
    try:
        python.mkdir(parents=True, exist_ok=True)
        for file in [*(path for path in (program.backends / "python").iterdir() if path.is_file()), program.stub]:
            (python / file.name).unlink(missing_ok=True)
            (python / file.name).symlink_to(file)
    except OSError as error:
        raise ServerError(
            f"backends of Triton {python} - cannot be made: {error.strerror}; free space, or say another folder"
        ) from error
    return python.parent
