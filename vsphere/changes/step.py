"""One step of a change to virtual machines, as a value and in words. Must not know how steps are found or carried out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

Kind = Literal["create", "power off", "rules", "move", "reconfigure", "power on", "destroy", "keep"]
KINDS: tuple[Kind, ...] = ("create", "power off", "rules", "move", "reconfigure", "power on", "destroy", "keep")


@dataclass(frozen=True, slots=True)
class VmStep:
    """One step; each but ``keep`` is one task of vCenter.

    Parameters
    ----------
    kind : ``create``, ``power off``, ``rules`` of DRS of a cluster, ``move`` to another host (off), ``reconfigure``
        (everything in one task), ``power on``, ``destroy``, ``keep``.
    name : the machine's name, of ``reconfigure`` the one it has afterwards; of ``rules`` the cluster's.
    uuid : its instance UUID.
    host : host that it is on or comes to; None leaves it to vSphere.
    moid : vCenter's id; None of a machine that is still to be made.
    workload, replicas : whom it serves.
    source : host that it leaves; only of ``move``.
    what : what is changed or made, in words.
    interrupts : replicas, as ``workload/replica``, that do not run for a while because of this step.
    reason : why, in words.
    """

    kind: Kind
    name: str
    uuid: str = ""
    host: str | None = None
    moid: str | None = None
    workload: str = ""
    replicas: tuple[int, ...] = ()
    source: str | None = None
    what: tuple[str, ...] = ()
    interrupts: tuple[str, ...] = ()
    reason: str = ""

    @property
    def disruptive(self) -> bool:
        """Whether something that should run is interrupted."""
        return bool(self.interrupts)

    @property
    def mark(self) -> str:
        """``+`` create or power on, ``~`` change, ``-`` destroy or power off for good, ``!`` interrupts, ``=`` keep."""
        if self.disruptive:
            return "!"
        return {"create": "+", "power on": "+", "destroy": "-", "power off": "-", "keep": "="}.get(self.kind, "~")

    @property
    def who(self) -> tuple[str, ...]:
        """The replicas it serves, as ``workload/replica``."""
        return tuple(f"{self.workload}/{replica}" for replica in self.replicas)

    @property
    def label(self) -> str:
        """The machine for people: ``esx-01/gpu-chat-0``."""
        return f"{self.host}/{self.name}" if self.host is not None else self.name

    def to_data(self) -> dict[str, Any]:
        """Return the fields that say something, as plain data."""
        return {name: value for name in _FIELDS if (value := getattr(self, name)) not in (None, "", ())}

    def __str__(self) -> str:
        """One line: mark, machine, what is done, and why."""
        text = f"{self.mark} {self.label}: {self.kind}"
        if self.source is not None:
            text += f" from {self.source}"
        if self.what:
            text += f" {', '.join(self.what)}" if self.kind == "create" else f": {', '.join(self.what)}"
        if self.interrupts:
            text += f"; interrupts {', '.join(self.interrupts)}"
        return text + (f" ({self.reason})" if self.reason else "")


_FIELDS = tuple(field.name for field in fields(VmStep))
