"""What ``nvidia-smi`` and ``esxcli`` of a host say, and switching MIG mode there. Must not know plans or vCenter.

The commands are those of NVIDIA's guide for vSphere: ``nvidia-smi -i N -mig 1|0``, verified by ``mig.mode.current``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vsphere.hosts.errors import CommandError, OutputError
from vsphere.hosts.ssh import Shell

_QUERY = ("index", "pci.bus_id", "name", "driver_version", "mig.mode.current", "mig.mode.pending")
_BUS = re.compile(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})\.([0-7])")
_MODES = {"Enabled": True, "Disabled": False, "[N/A]": None, "N/A": None, "[Not Supported]": None}
_NO_DEVICES = 6  # exit status of nvidia-smi
SMI_S = 300.0
"""Longest wait for a change of MIG mode [s]: it resets the GPU."""


@dataclass(frozen=True, slots=True)
class SmiGpu:
    """One GPU as the host's driver sees it; one in passthrough is not seen.

    Parameters
    ----------
    index : the driver's index, which counts the GPUs that it sees.
    pci_id : PCI address, as ESXi writes it.
    bus_id : PCI address, as ``nvidia-smi`` writes it.
    name : product name.
    mig, mig_pending : MIG mode now, and after the next reset; None without MIG.
    """

    index: int
    pci_id: str
    bus_id: str
    name: str
    mig: bool | None
    mig_pending: bool | None


@dataclass(frozen=True, slots=True)
class Vib:
    """An installed VIB: its name, version and vendor."""

    name: str
    version: str
    vendor: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the shell of a host says.

    Parameters
    ----------
    host : its name.
    driver : version of the NVIDIA driver; None where no GPU is seen.
    gpus : GPUs that the driver sees.
    vibs : NVIDIA's VIBs.
    """

    host: str
    driver: str | None
    gpus: tuple[SmiGpu, ...]
    vibs: tuple[Vib, ...] = ()

    def gpu(self, pci_id: str) -> SmiGpu | None:
        """Return the GPU at a PCI address, None where the driver does not see it."""
        return next((gpu for gpu in self.gpus if gpu.pci_id == pci_id), None)


def read_gpus(shell: Shell) -> tuple[tuple[SmiGpu, ...], str | None]:
    """Return the GPUs that the driver of a host sees, and the driver's version.

    Raises
    ------
    ShellError
        The shell cannot be used, or the answer cannot be understood.
    """
    command = ("nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv")
    try:
        rows = _table(shell, command, _QUERY)
    except CommandError as error:
        if error.status != _NO_DEVICES:
            raise
        rows = []  # all in passthrough
    gpus = tuple(_gpu(shell, command, row) for row in rows)
    return gpus, rows[0][3] if rows else None


def set_mig(shell: Shell, pci_id: str, *, on: bool, seen: Iterable[SmiGpu] | None = None) -> bool:
    """Switch MIG mode of a GPU; nothing happens where it is so already, or waits for a restart of the host.

    Parameters
    ----------
    shell : of the host.
    pci_id : the GPU.
    on : whether MIG mode shall be on.
    seen : what `read_gpus` said just now; None asks again.

    Returns
    -------
    Whether the mode is in force; False where it waits for a restart.

    Raises
    ------
    ShellError
        The shell cannot be used, the driver does not see the GPU, it refused, or the mode is still as before.
    """
    gpu = _found(shell, pci_id, read_gpus(shell)[0] if seen is None else seen)
    if gpu.mig == on and gpu.mig_pending in (on, None):
        return True
    # By PCI address: the index counts only the GPUs that are not in passthrough. Asked again where it is pending: what kept
    # the driver from it then (a GPU in use) may be gone.
    shell.run("nvidia-smi", "-i", gpu.bus_id, "-mig", str(int(on)), timeout_s=SMI_S)
    gpu = _found(shell, pci_id, read_gpus(shell)[0])
    if gpu.mig == on:
        return True
    if gpu.mig_pending == on:
        return False
    wanted, found = ("Enabled" if on else "Disabled"), "Enabled" if gpu.mig else "Disabled"
    raise OutputError(
        f"{shell.host}: {pci_id}: nvidia-smi reports success, but mig.mode.current is {found}, not {wanted}; is the GPU in use?",
        host=shell.host,
    )


def read_facts(shell: Shell) -> HostFacts:
    """Return what the shell of a host says of its GPUs, driver and VIBs.

    Raises
    ------
    ShellError
        The shell cannot be used, or an answer cannot be understood.
    """
    gpus, driver = read_gpus(shell)
    columns = ("Name", "Version", "Vendor")
    vibs = [Vib(*row) for row in _table(shell, ("esxcli", "--formatter=csv", "software", "vib", "list"), columns)]
    return HostFacts(shell.host, driver, gpus, nvidia_vibs(vibs))


def nvidia_vibs(vibs: Iterable[Vib]) -> tuple[Vib, ...]:
    """Return those of NVIDIA: the host driver and its management daemon."""
    names = ("NVIDIA", "NVD-", "NVDGPU")
    return tuple(vib for vib in vibs if vib.vendor.upper() in ("NVIDIA", "NVD") or vib.name.upper().startswith(names))


def restart_services(shell: Shell) -> None:
    """Restart the host engine of the NVIDIA driver, which then offers GPUs by their new graphics types.

    Raises
    ------
    ShellError
        The shell cannot be used, or a command failed.
    """
    shell.run("nv-hostengine", "-t")
    shell.run("nv-hostengine", "-d")


def _found(shell: Shell, pci_id: str, gpus: Iterable[SmiGpu]) -> SmiGpu:
    gpus = tuple(gpus)
    for gpu in gpus:
        if gpu.pci_id == pci_id:
            if gpu.mig is None:
                raise OutputError(f"{shell.host}: {pci_id}: nvidia-smi says that this GPU has no MIG", host=shell.host)
            return gpu
    seen = ", ".join(gpu.pci_id for gpu in gpus) or "none"
    said = f"{shell.host}: {pci_id}: nvidia-smi does not see this GPU; it sees {seen}. Is it in passthrough?"
    raise OutputError(said, host=shell.host)


def _gpu(shell: Shell, command: Sequence[str], row: Sequence[str]) -> SmiGpu:
    index, bus, name, _, current, pending = row
    match = _BUS.fullmatch(bus)
    if not match or not index.isdecimal() or current not in _MODES or pending not in _MODES:
        raise _unexpected(shell, command, ", ".join(row))
    domain, *rest = match.groups()
    pci_id = f"{int(domain, 16):04x}:{rest[0]}:{rest[1]}.{rest[2]}".lower()
    return SmiGpu(int(index), pci_id, bus, name, _MODES[current], _MODES[pending])


def _table(shell: Shell, command: Sequence[str], columns: Sequence[str]) -> list[list[str]]:
    """Return the wanted columns of a table that a command writes as comma-separated values with a header."""
    text = shell.run(*command)
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    header = rows[0] if rows else []
    if not set(columns) <= set(header):
        raise _unexpected(shell, command, text)
    places = [header.index(column) for column in columns]
    if any(len(row) <= max(places) for row in rows):
        raise _unexpected(shell, command, text)
    return [[row[place] for place in places] for row in rows[1:]]


def _unexpected(shell: Shell, command: Sequence[str], text: str) -> OutputError:
    typed = " ".join(command)
    said = f"{shell.host}: {typed}: the answer cannot be understood: {text.strip()[:200]!r}"
    return OutputError(f"{said}; run it in the host's shell and look", host=shell.host, command=typed)
