"""Why a tritonserver does not serve, read from its log. Knows text only.

The words are those of Triton 2.51 (24.10); lines that are not understood are given as they are.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.servers.guarded import NO_COMMAND, ended


@dataclass(frozen=True, slots=True)
class Reason:
    """What is wrong and what to do.

    Parameters
    ----------
    text : to stand after the name of the server.
    port_taken : whether another port would do.
    """

    text: str
    port_taken: bool = False


_MEMORY = "give the host more memory, or use fewer processes=, a smaller batch or fewer instances"
_NO_GPU = (
    "sees no GPU through CUDA_VISIBLE_DEVICES={device}; compare with `nvidia-smi -L`: the instance may have been destroyed, "
    "or the driver is missing"
)

_Words = Callable[[re.Match[str]], str]

_KNOWN: tuple[tuple[str, _Words], ...] = (
    (
        r"Socket '[^']*:(\d+)' already in use",
        lambda found: f"port {found[1]} is taken; free it, or leave the choice of ports to us",
    ),
    (r"Poll failed for model directory '([^']+)'", lambda found: f"cannot read config.pbtxt of model '{found[1]}'"),
    (r"failed to poll model '([^']+)': model not found", lambda found: f"has no model '{found[1]}' in its repository"),
    (r"failed to stat file (\S+)", lambda found: f"finds no model repository {found[1]}"),
    (
        r"error while loading shared libraries: (\S+):",
        lambda found: f"lacks the library {found[1]}; install it, or use NVIDIA's container",
    ),
    (r"guard: (.+) cannot be run: (.+)", lambda found: f"cannot be run: {found[1]}: {found[2]}"),
    (
        r"(?:shared memory|shm|/dev/shm).*No space left|Failed to increase the shared memory|Unable to initialize shared memory",
        lambda _: "finds no room in /dev/shm; enlarge it (containers: --shm-size=1g), or remove what is left there",
    ),
)
_GPU_GONE = re.compile(
    r"no GPUs are available|invalid or unsupported gpu id|no CUDA-capable device|CUDA-capable device\(s\) is/are busy"
)
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|MemoryError|Cannot allocate memory|Failed to allocate memory|out of memory|not enough memory"
    r"|Unable to allocate [\d.]+ [KMG]iB|failed to map segment from shared object",
    re.IGNORECASE,
)
_LOAD = re.compile(r"failed to load '([^']+)' version \d+: (.*?)\"?$", re.MULTILINE)
_PARSING = re.compile(r"Error parsing text-format inference\.ModelConfig: (.*)$", re.MULTILINE)


def reason(log: str, status: int | None, *, device: str | None) -> Reason:
    """Return why a server does not serve.

    Parameters
    ----------
    log : what it said.
    status : how it ended, ``-n`` by signal n; None: it runs.
    device : its CUDA_VISIBLE_DEVICES; None: none was asked for.
    """
    if status == -signal.SIGKILL:
        return Reason(f"was killed; where nobody did that, the host ran out of memory (see `dmesg`): {_MEMORY}")
    load = _LOAD.search(log)
    complaint = log if device is not None else load[2] if load else ""  # without a GPU, Triton remarks on it and goes on
    if _GPU_GONE.search(complaint):
        return Reason(_NO_GPU.format(device=device))
    if _OUT_OF_MEMORY.search(log):
        return Reason(f"ran out of memory; {_MEMORY}")
    for pattern, words in _KNOWN:
        if found := re.search(pattern, log):
            parsing = _PARSING.search(log)
            detail = f": {parsing[1]}" if parsing and "config.pbtxt" in words(found) else ""
            return Reason(words(found) + detail, port_taken="already in use" in pattern)
    if load:
        return Reason(f"cannot load model '{load[1]}': {load[2].split(chr(92) + 'n')[0]}")
    if status is None:
        return Reason("is not ready")
    return Reason(_end(status, said=bool(log.strip())))


def _end(status: int, *, said: bool) -> str:
    if status == NO_COMMAND:
        return "cannot be run; is its path right?"
    return f"{ended(status)} and " + ("did not say why" if said else "said nothing; is the disk full that its log is on?")
