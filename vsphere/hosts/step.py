"""Steps that prepare hosts, as values and in words. Must not know how they are found or carried out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from partitioner.layout import gpu_label

Kind = Literal[
    "enter maintenance",
    "policy",
    "default type",
    "graphics type",
    "vgpu mode",
    "passthrough",
    "mig",
    "restart services",
    "reboot",
    "exit maintenance",
]
GRAPHICS: frozenset[str] = frozenset({"policy", "default type", "graphics type", "vgpu mode"})
"""Kinds that are settings of the host's graphics configuration; those in a row are changed by one call."""
_QUIET: frozenset[str] = frozenset({"policy", "default type", "vgpu mode", "exit maintenance"})


_WORDS: dict[str, str] = {
    "mig": "MIG mode",
    "vgpu mode": "vGPU mode",
    "policy": "assignment policy",
    "default type": "default graphics type",
    "enter maintenance": "enter maintenance mode",
    "exit maintenance": "exit maintenance mode",
}


@dataclass(frozen=True, slots=True)
class HostStep:
    """One step on one host.

    Parameters
    ----------
    kind : what is done.
    host : name of the host.
    gpu, pci_id, model : the GPU, where the step is about one.
    before, after : the setting; `before` is None where it could not be read, and the step makes sure of `after`.
    reason : why, in words.
    by_hand : a person has to do it: no shell of the host was given.
    """

    kind: Kind
    host: str
    gpu: int | None = None
    pci_id: str | None = None
    model: str | None = None
    before: str | None = None
    after: str | None = None
    reason: str = ""
    by_hand: bool = False

    @property
    def disruptive(self) -> bool:
        """Whether VMs cannot run on the GPU, or on the host, meanwhile."""
        return self.kind not in _QUIET

    @property
    def mark(self) -> str:
        """``!`` where VMs cannot run meanwhile, else ``~``."""
        return "!" if self.disruptive else "~"

    @property
    def label(self) -> str:
        """The host, or the GPU, for people."""
        return self.host if self.gpu is None else f"{gpu_label(self.host, self.gpu)} ({self.model or self.pci_id})"

    @property
    def what(self) -> str:
        """What is done, in words."""
        words = _WORDS.get(self.kind, self.kind)
        return words if self.after is None else f"{words} {self.before or 'unknown'} -> {self.after}"

    def __str__(self) -> str:
        """One line: mark, host or GPU, what is done, who does it, and why."""
        text = f"{self.mark} {self.label}: {self.what}" + (" by hand" if self.by_hand else "")
        return text + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What one host needs.

    Parameters
    ----------
    host, moid : its name and vCenter's id.
    steps : in order; empty where it is as it should be, and where something stands against it.
    refusals : what stands against preparing it as it is now; none of its steps is planned then.
    notes : what to know besides.
    gpus : PCI addresses of the GPUs in the plan; no other GPU of the host is changed.
    migrate : vCenter may move other people's VMs away when the host enters maintenance mode.
    """

    host: str
    moid: str
    steps: tuple[HostStep, ...] = ()
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    migrate: bool = False


@dataclass(frozen=True, slots=True)
class HostChanges:
    """What hosts need, host by host, in the order in which it is done. True when there is something to do or refuse.

    Parameters
    ----------
    vcenter : the vCenter that it was computed for.
    hosts : the hosts of the plan, by name.
    """

    vcenter: str
    hosts: tuple[HostPlan, ...]

    @property
    def steps(self) -> tuple[HostStep, ...]:
        """All steps, in order."""
        return tuple(step for host in self.hosts for step in host.steps)

    @property
    def refusals(self) -> tuple[str, ...]:
        """All that stands against it, one line each."""
        return tuple(line for host in self.hosts for line in host.refusals)

    @property
    def notes(self) -> tuple[str, ...]:
        """All that is to be known besides, one line each."""
        return tuple(line for host in self.hosts for line in host.notes)

    @property
    def reboots(self) -> tuple[str, ...]:
        """Hosts that may be restarted."""
        return tuple(dict.fromkeys(step.host for step in self.steps if step.kind == "reboot"))

    def __bool__(self) -> bool:
        return any(host.steps or host.refusals for host in self.hosts)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[HostStep]:
        return iter(self.steps)

    def to_data(self) -> dict[str, Any]:
        """Return plain data, with the marks, for other programs."""
        data = asdict(self)
        for entry, host in zip(data["hosts"], self.hosts, strict=True):
            entry["steps"] = [
                {"mark": step.mark}
                | {
                    name: value
                    for name, value in asdict(step).items()
                    if value is not None and value is not False and value != ""
                }
                for step in host.steps
            ]
        return {"format": "gpu-partitioner/host-changes", "version": 1} | data

    def to_json(self) -> str:
        """Return the data as JSON."""
        return json.dumps(self.to_data(), indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        """One line for each step, refusal and note, and a summary."""
        lines = [str(step) for step in self.steps]
        lines += [f"x {line}" for line in self.refusals] + [f"  {line}" for line in self.notes]
        summary = f"{len(self)} steps on {sum(bool(host.steps) for host in self.hosts)} hosts, {len(self.reboots)} may restart"
        return "\n".join([*lines, summary if self else "hosts are as they should be"]) + "\n"
