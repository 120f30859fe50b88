"""What each error code of NVML means, in words, and what to do. Knows the numbers of nvml.h, not pynvml.

Codes and meanings: nvml.h (``nvmlReturn_t``), NVML API Reference Guide, R590. A code that is not here is said by number.
"""

from __future__ import annotations

from dataclasses import dataclass

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = 1, 2, 3, 4
NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 6, 7, 9, 12, 13
GPU_IS_LOST, RESET_REQUIRED, IN_USE, INSUFFICIENT_RESOURCES, VERSION_MISMATCH, GPU_NOT_FOUND = 15, 16, 19, 23, 25, 28

GONE = (8, 11, GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND)
"""Codes after which a GPU cannot be used at all."""

RESET_OR_REBOOT = "reset it (nvidia-smi --gpu-reset -i UUID) with nothing running on it, or reboot the host"
_REPORT = "see the kernel log (dmesg, lines with NVRM or Xid)"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One error code.

    Parameters
    ----------
    name : its name in nvml.h, without ``NVML_ERROR_``.
    what : what it says.
    remedy : what to do.
    """

    name: str
    what: str
    remedy: str


MEANINGS: dict[int, Meaning] = {
    1: Meaning("UNINITIALIZED", "NVML is not initialised", "begin again; this is a fault of this program"),
    2: Meaning("INVALID_ARGUMENT", "the driver refuses an argument", "read the GPU again; it may have changed meanwhile"),
    3: Meaning(
        "NOT_SUPPORTED", "this GPU or driver does not support it", "see `partitioner status`; MIG takes a MIG-capable GPU"
    ),
    4: Meaning("NO_PERMISSION", "no permission", "run it as root (sudo), in a container with CAP_SYS_ADMIN"),
    5: Meaning("ALREADY_INITIALIZED", "NVML is initialised already", "begin again; this is a fault of this program"),
    6: Meaning("NOT_FOUND", "what was asked for does not exist", "read the GPU again; it may have changed meanwhile"),
    7: Meaning("INSUFFICIENT_SIZE", "a list grew while it was read", "run it again"),
    8: Meaning("INSUFFICIENT_POWER", "the GPU's power cables are not attached", "attach them, then reboot the host"),
    9: Meaning("DRIVER_NOT_LOADED", "NVIDIA's driver is not loaded", "load it (modprobe nvidia), install it, or reboot the host"),
    10: Meaning("TIMEOUT", "the driver gave up waiting", f"run it again; if it stays, {RESET_OR_REBOOT}"),
    11: Meaning("IRQ_ISSUE", "the kernel found a fault with the GPU's interrupts", f"{_REPORT}; reboot the host"),
    12: Meaning(
        "LIBRARY_NOT_FOUND",
        "libnvidia-ml.so.1 was not found",
        "install NVIDIA's driver; in a container, give it the driver's libraries (NVIDIA_DRIVER_CAPABILITIES=utility)",
    ),
    13: Meaning("FUNCTION_NOT_FOUND", "this driver does not know the function", "update NVIDIA's driver"),
    14: Meaning("CORRUPTED_INFOROM", "the GPU's infoROM is damaged", f"{_REPORT}; the board needs repair"),
    15: Meaning("GPU_IS_LOST", "the GPU fell off the bus", f"{_REPORT}; {RESET_OR_REBOOT}; the other GPUs can still be used"),
    16: Meaning("RESET_REQUIRED", "the GPU needs a reset before it can be used", RESET_OR_REBOOT),
    17: Meaning("OPERATING_SYSTEM", "the operating system blocked it", "look at cgroups and device files (/dev/nvidia*)"),
    18: Meaning(
        "LIB_RM_VERSION_MISMATCH",
        "the library and the kernel module are of different driver versions",
        "reboot the host, or unload and load the module; this comes after an update of the driver",
    ),
    19: Meaning("IN_USE", "something is using it", "end what runs there, also monitoring (DCGM, nvidia-smi), then run it again"),
    20: Meaning("MEMORY", "no memory left", "free memory of the host, then run it again"),
    21: Meaning("NO_DATA", "the driver has no data for it", "run it again later"),
    22: Meaning("VGPU_ECC_NOT_SUPPORTED", "vGPUs are not possible with ECC on", "switch ECC off for this GPU"),
    23: Meaning(
        "INSUFFICIENT_RESOURCES",
        "no room left on the GPU for it",
        "read the GPU again and plan again; something was created there meanwhile",
    ),
    24: Meaning("FREQ_NOT_SUPPORTED", "the frequency is not supported", "name one that the GPU supports"),
    25: Meaning("ARGUMENT_VERSION_MISMATCH", "the driver does not know this version of the call", "update NVIDIA's driver"),
    26: Meaning("DEPRECATED", "the driver no longer has this function", "update this program and nvidia-ml-py"),
    27: Meaning("NOT_READY", "the GPU is not ready", "run it again in a while"),
    28: Meaning("GPU_NOT_FOUND", "no such GPU", "check `nvidia-smi -L`; reboot the host if one is missing"),
    29: Meaning("INVALID_STATE", "the GPU is not in a state that allows it", f"see `partitioner status`; else {RESET_OR_REBOOT}"),
    30: Meaning("RESET_TYPE_NOT_SUPPORTED", "the GPU cannot be reset this way", "reboot the host"),
    999: Meaning("UNKNOWN", "the driver does not say what went wrong", f"{_REPORT}; {RESET_OR_REBOOT}"),
}


def meaning(code: int) -> Meaning:
    """Return what an error code means; of an unknown one, that it is unknown.

    Examples
    --------
    >>> meaning(4).what, meaning(77).name
    ('no permission', 'code 77')
    """
    known = MEANINGS.get(code)
    return known or Meaning(f"code {code}", "an error this program does not know", f"update it and nvidia-ml-py; {_REPORT}")


def in_words(who: str, call: str, code: int) -> str:
    """Return the message for a call that failed.

    Parameters
    ----------
    who : the GPU, or the host.
    call : NVML's name of the function.
    code : what it returned.
    """
    said = meaning(code)
    name = f"NVML_ERROR_{said.name}" if code in MEANINGS else said.name
    return f"{who}: {call}: {said.what} ({name}); {said.remedy}"
