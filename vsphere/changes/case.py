"""A machine that is there and shall be, with what has to be done about it. Must not know other machines."""

from __future__ import annotations

from dataclasses import dataclass

from vsphere.changes.settings import Difference, Settings, found, moves
from vsphere.values import VmInfo


@dataclass(frozen=True, slots=True)
class Case:
    """A machine that is there and shall be, and what has to be done about it.

    Parameters
    ----------
    info : what it is.
    settings : what it shall be.
    power_on : whether it shall run.
    changed : the settings that differ.
    reason : why it has to be off meanwhile though no setting asks for it; empty where it need not.
    workload, replicas : whom it serves.
    """

    info: VmInfo
    settings: Settings
    power_on: bool
    changed: tuple[Difference, ...] = ()
    reason: str = ""
    workload: str = ""
    replicas: tuple[int, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether it goes to another host."""
        return moves(found(self.info), self.settings)

    @property
    def needs_off(self) -> bool:
        """Whether it has to be off while it is changed."""
        return self.moves or bool(self.reason) or any(difference.off for difference in self.changed)

    @property
    def goes_off(self) -> bool:
        """Whether it is switched off to be changed."""
        return self.needs_off and (self.info.powered_on or self.info.suspended)

    @property
    def goes_on(self) -> bool:
        """Whether it is switched on, or wakes up, in the end."""
        return self.power_on and (self.goes_off or not self.info.powered_on)
