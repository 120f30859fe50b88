"""One step of a change, as a value and in words. Must not know how steps are found or carried out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from partitioner.layout import gpu_label

Kind = Literal["create", "destroy", "keep", "mode", "drain", "start", "move"]
Restart = Literal["gpu reset", "host reboot"]


@dataclass(frozen=True, slots=True)
class Place:
    """An instance on a GPU."""

    host: str | None
    gpu: int
    profile: str
    start: int

    def __str__(self) -> str:
        return f"{gpu_label(self.host, self.gpu)} {self.profile}@{self.start}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step; carrying out a list of them in order leads from one legal layout to another, each step to a legal one.

    Parameters
    ----------
    kind : ``create``, ``destroy`` or ``keep`` an instance; ``mode``: change the mode of a GPU, which is empty then;
        ``start``: a replica begins to run in an instance; ``move``: it begins in another instance and then leaves
        `source`; ``drain``: it leaves its instance, which stays.
    host, gpu, model : the GPU.
    mode : its mode during the step; of ``mode``, the new one.
    profile, start : the instance; None for ``mode``.
    workload, replica : who is started, moved or drained, or occupies what is kept; else None.
    source : where a replica moves from; only of ``move``.
    before : the mode before; only of ``mode``.
    restart : what ``mode`` takes besides, which interrupts more than the GPU's own instances; None where nothing does.
    interrupts : replicas, as ``workload/replica``, that do not run for a while because of this step: a ``drain`` of a
        replica that starts again later, a ``mode`` change's drained replicas.
    reason : why, in words.
    """

    kind: Kind
    host: str | None
    gpu: int
    model: str
    mode: str
    profile: str | None = None
    start: int | None = None
    workload: str | None = None
    replica: int | None = None
    source: Place | None = None
    before: str | None = None
    restart: Restart | None = None
    interrupts: tuple[str, ...] = ()
    reason: str = ""

    @property
    def disruptive(self) -> bool:
        """Whether something that should run is interrupted, or more than one instance is touched."""
        return bool(self.interrupts) or self.kind == "mode"

    @property
    def mark(self) -> str:
        """``+`` create or start, ``~`` move, ``-`` destroy or drain for good, ``!`` disruptive, ``=`` keep."""
        if self.disruptive:
            return "!"
        return {"create": "+", "start": "+", "destroy": "-", "move": "~", "drain": "-", "keep": "="}[self.kind]

    @property
    def label(self) -> str:
        """The GPU for people: ``esx-03/gpu0``."""
        return gpu_label(self.host, self.gpu)

    @property
    def place(self) -> Place | None:
        """The instance, None for a change of mode."""
        if self.profile is None or self.start is None:
            return None
        return Place(self.host, self.gpu, self.profile, self.start)

    @property
    def who(self) -> str | None:
        """The replica as ``workload/replica``, None where the step is about none."""
        return None if self.workload is None else f"{self.workload}/{self.replica}"

    def to_data(self) -> dict[str, Any]:
        """Return the fields that say something, as plain data; the host always, a replica's source as its fields."""
        data = {name: value for name in _FIELDS if (value := getattr(self, name)) not in (None, "", ()) or name == "host"}
        if self.source is not None:
            data["source"] = {name: getattr(self.source, name) for name in _PLACE_FIELDS}
        return data

    def __str__(self) -> str:
        """One line: mark, GPU, what is done, and why."""
        text = f"{self.mark} {self.label} ({self.model}): {self._what}"
        return text + (f" ({self.reason})" if self.reason else "")

    @property
    def _what(self) -> str:
        instance = f"{self.profile}@{self.start}"
        match self.kind:
            case "mode":
                how = f" with {self.restart}" if self.restart else ""
                return f"mode {self.before} -> {self.mode}{how}; interrupts {', '.join(self.interrupts) or 'nobody'}"
            case "start":
                return f"start {self.who} in {instance}"
            case "move":
                return f"move {self.who} to {instance} from {self.source}"
            case "drain":
                return f"drain {self.who} from {instance}" + ("; it is interrupted" if self.interrupts else "")
            case "keep":
                return f"keep {instance}" + (f" with {self.who}" if self.who else "")
            case _:
                return f"{self.kind} {instance}"


_FIELDS = tuple(field.name for field in fields(Step))
_PLACE_FIELDS = tuple(field.name for field in fields(Place))
