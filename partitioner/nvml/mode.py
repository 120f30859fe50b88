"""Switching MIG mode on and off, with a reset of the GPU where the driver asks for one. Must not know layouts or workloads.

NVML has no call that resets a GPU; ``nvidia-smi --gpu-reset`` does, where it is on the PATH. It is refused while any process
has the GPU open, this one too, so NVML is shut down meanwhile.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress

from partitioner.errors import TargetError
from partitioner.nvml import words
from partitioner.nvml.library import Library, NvmlInUseError
from partitioner.nvml.reading import handle_of, mig_mode
from partitioner.nvml.words import IN_USE, in_words

_SWITCH = "nvmlDeviceSetMigMode"


def change_mode(library: Library, index: int, uuid: str, *, mig: bool, who: str) -> None:
    """Switch MIG mode of an empty GPU, and reset the GPU where that takes it; nothing happens where it is so already.

    Parameters
    ----------
    library : NVML.
    index, uuid : the GPU.
    mig : whether it is to be on.
    who : the GPU for messages.

    Raises
    ------
    InUseError
        Something has the GPU open; the mode is as before.
    TargetError
        GPU or driver have no MIG, the driver refused, or the new mode waits for a reset that could not be made.
    """
    device = handle_of(library, index, uuid, who=who)
    before = mig_mode(library, device, who=who)
    if before is None:
        raise TargetError(
            f"{who}: this GPU or its driver has no MIG, its mode is whole; MIG takes a MIG-capable GPU and driver 450 or later"
        )
    if before == (mig, mig):
        return
    activation = int(library.call(_SWITCH, device, int(mig), who=who))
    device = handle_of(library, index, uuid, who=who)  # the driver may have unbound and bound the GPU again
    now = mig_mode(library, device, who=who)
    if now is not None and now[0] == mig:
        return
    if activation == IN_USE:
        library.call(_SWITCH, device, int(not mig), who=who)  # else it would come with the next reset, unasked
        raise NvmlInUseError(in_words(who, _SWITCH, activation) + "; the mode is as before")
    if now is None or now[1] != mig:
        why = (
            in_words(who, _SWITCH, activation) if activation else f"{who}: the driver reports success; see the kernel log (dmesg)"
        )
        raise TargetError(f"{why}; MIG mode is as before")
    # The driver could not reset the GPU: NVML_ERROR_RESET_REQUIRED, or in a virtual machine NVML_ERROR_NOT_SUPPORTED.
    _reset(library, uuid, mig=mig, who=who)
    now = mig_mode(library, handle_of(library, index, uuid, who=who), who=who)
    if now is None or now[0] != mig:
        raise TargetError(f"{_waits(who, mig=mig)}; nvidia-smi reports one, and it still is; reboot the host, then run it again")


def _waits(who: str, *, mig: bool) -> str:
    return f"{who}: MIG mode {'on' if mig else 'off'} is pending and waits for a reset of the GPU"


def _reset(library: Library, uuid: str, *, mig: bool, who: str) -> None:
    waits = _waits(who, mig=mig)
    itself = f"{words.RESET_OR_REBOOT}, then run it again (to take it back: nvidia-smi -i UUID -mig {int(not mig)})"
    program = shutil.which("nvidia-smi")
    if program is None:
        raise TargetError(f"{waits}; nvidia-smi, which can reset it, is not on the PATH; {itself}")
    with library.stopped():
        rc, said = _run([program, "--gpu-reset", "-i", uuid], library.timeout_s)
    if rc is None:
        raise TargetError(f"{waits}; nvidia-smi --gpu-reset {said}; {itself}")
    if rc != 0:
        raise TargetError(f"{waits}; nvidia-smi --gpu-reset ended with {rc}: {said or 'no message'}; {itself}")


def _run(command: list[str], timeout_s: float) -> tuple[int | None, str]:
    """Return the exit status and what was said in one line; None where it could not be started or did not end in time."""
    try:
        process = subprocess.Popen(  # noqa: S603 - nvidia-smi of this machine, with a UUID that the driver gave
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        return None, f"cannot be started ({error.strerror})"
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel may never end
            process.wait(1.0)
        return None, f"did not end within {timeout_s:g} s"
    return process.returncode, " ".join(said.split())[:400]
