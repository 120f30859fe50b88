"""Which hosts we have put into maintenance mode and not yet taken out of it. Must not know why.

It is written before a host enters, so that a run that was killed is known to the next one, which ends what was begun. A host
that somebody else put into maintenance mode is not in it and stays there.
"""

from __future__ import annotations

from pathlib import Path

from partitioner.errors import TargetError
from partitioner.targets import StateFolder
from partitioner.targets.files import read_record, write_record

_FORMAT, _VERSION = "gpu-partitioner/hosts-in-maintenance", 1


class HostJournal:
    """The hosts that we keep in maintenance mode, in a state folder.

    Parameters
    ----------
    folder : the state folder; None forgets when the process ends.
    """

    _FILE = "hosts.json"

    def __init__(self, folder: StateFolder | None) -> None:
        self._path: Path | None = None if folder is None else folder.path / self._FILE
        self._forgetful: dict[str, list[str]] = {}

    def entered(self, vcenter: str) -> frozenset[str]:
        """Return the ids of the hosts of a vCenter.

        Raises
        ------
        TargetError
            The file cannot be read or is damaged; it is left as it is.
        """
        return frozenset(self._read().get(vcenter, ()))

    def enter(self, vcenter: str, moid: str) -> None:
        """Write down that we put a host into maintenance mode, before it is done.

        Raises
        ------
        TargetError
            The file cannot be read or written; nothing may be done then.
        """
        self._write(vcenter, self.entered(vcenter) | {moid})

    def leave(self, vcenter: str, moid: str) -> None:
        """Write down that a host is out of maintenance mode.

        Raises
        ------
        TargetError
            The file cannot be read or written.
        """
        if moid in self.entered(vcenter):
            self._write(vcenter, self.entered(vcenter) - {moid})

    def _read(self) -> dict[str, list[str]]:
        if self._path is None:
            return self._forgetful
        remedy = "restore it from a copy, or remove it and take hosts out of maintenance mode yourself"
        data = read_record(self._path, kind=_FORMAT, version=_VERSION, remedy=remedy)
        hosts = {} if data is None else data.get("hosts")
        if not isinstance(hosts, dict) or not all(
            isinstance(moids, list) and all(isinstance(moid, str) for moid in moids) for moids in hosts.values()
        ):
            raise TargetError(f"{self._path}: hosts is no mapping of vCenters to ids; {remedy}")
        return hosts

    def _write(self, vcenter: str, moids: frozenset[str]) -> None:
        hosts = {**self._read(), vcenter: sorted(moids)}
        if self._path is None:
            self._forgetful = hosts
        else:
            write_record(self._path, {"format": _FORMAT, "version": _VERSION, "hosts": hosts})


class MigJournal(HostJournal):
    """GPUs in no plan that lose MIG mode with a restart of ours, until they have it again, as ``host-21 0000:3b:00.0``."""

    _FILE = "mig.json"

    def lost(self, vcenter: str, moid: str) -> tuple[str, ...]:
        """Return the PCI addresses of those of a host.

        Raises
        ------
        TargetError
            The file cannot be read or is damaged; it is left as it is.
        """
        pairs = (entry.partition(" ") for entry in sorted(self.entered(vcenter)))
        return tuple(pci_id for host, _, pci_id in pairs if host == moid)
