"""What happened between two readings of a target, as values. Pure; must not know who asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from partitioner.cli.reading import GpuStatus, InstanceStatus, Status, User


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Parameters
    ----------
    time : when it was seen, ISO 8601.
    kind : ``start``, ``gpu``, ``mode``, ``instance``, ``occupant``, ``process``, ``problem``, ``plan`` or ``error``.
    mark : ``+`` something came, ``-`` it went, ``~`` it changed, blank where it is only said.
    text : what happened, in words.
    gpu : the GPU, ``esx-01/gpu0``; None where it is about none.
    fields : what it is about, for programs.
    """

    time: str
    kind: str
    mark: str
    text: str
    gpu: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        where = f"{self.gpu}: " if self.gpu else ""
        return f"{self.time} {self.mark or ' '} {where}{self.text}"

    def to_data(self) -> dict[str, Any]:
        """Return plain data, flat."""
        data: dict[str, Any] = {name: value for name, value in asdict(self).items() if value is not None}
        fields: dict[str, Any] = data.pop("fields")
        return data | fields


def events(before: Status, after: Status) -> Iterator[Event]:
    """Iterate over what happened between two readings, GPU after GPU."""
    old = {(gpu.host, gpu.index): gpu for gpu in before.gpus}
    new = {(gpu.host, gpu.index): gpu for gpu in after.gpus}
    for key in {**old, **new}:
        was, is_ = old.get(key), new.get(key)
        if was is None and is_ is not None:
            yield Event(after.time, "gpu", "+", f"a GPU is there: {is_.model or is_.product}", is_.label)
        elif is_ is None and was is not None:
            yield Event(after.time, "gpu", "-", "the GPU is not there any more", was.label)
        elif was is not None and is_ is not None and was != is_:
            yield from _of_gpu(was, is_, after.time)


def _of_gpu(was: GpuStatus, now: GpuStatus, time: str) -> Iterator[Event]:
    if was.problem != now.problem:
        said = now.problem or "answers again"
        yield Event(time, "problem", "-" if now.problem else "+", said, now.label, {"problem": now.problem})
    if was.uuid != now.uuid and was.uuid and now.uuid:
        yield Event(time, "gpu", "~", f"is the board {now.uuid}, was {was.uuid}", now.label, {"uuid": now.uuid})
    if (was.mode, was.mode_pending) != (now.mode, now.mode_pending) and now.mode is not None:
        pending = "" if now.mode_pending in (None, now.mode) else f", {now.mode_pending} after a reset"
        fields = {"mode": now.mode, "mode_pending": now.mode_pending, "before": was.mode}
        yield Event(time, "mode", "~", f"mode {now.mode}{pending}, was {was.mode}", now.label, fields)
    if was.instances is not None and now.instances is not None:
        yield from _of_instances(was.instances, now.instances, now.label, time)
    yield from _of_processes(was.processes, now.processes, now.label, "", time)


def _of_instances(was: tuple[InstanceStatus, ...], now: tuple[InstanceStatus, ...], gpu: str, time: str) -> Iterator[Event]:
    old = {(instance.profile, instance.start): instance for instance in was}
    new = {(instance.profile, instance.start): instance for instance in now}
    for at in [at for at in old if at not in new]:
        yield Event(time, "instance", "-", f"instance {old[at].name}", gpu, _fields(old[at]))
        yield from _of_processes(old[at].processes, (), gpu, old[at].name, time)
    for at, instance in new.items():
        before = old.get(at)
        if before is None:
            held = "" if instance.held == "-" else f", {_held(instance)}"
            yield Event(time, "instance", "+", f"instance {instance.name}{held}", gpu, _fields(instance))
        elif before.held != instance.held:
            text = f"{instance.name} is {_held(instance)}, was {_held(before)}"
            yield Event(time, "occupant", "~", text, gpu, _fields(instance))
        elif before.uuid != instance.uuid:
            yield Event(time, "instance", "~", f"{instance.name} was made anew", gpu, _fields(instance))
        yield from _of_processes(before.processes if before else (), instance.processes, gpu, instance.name, time)


def _of_processes(was: Iterable[User], now: Iterable[User], gpu: str, place: str, time: str) -> Iterator[Event]:
    old, new = {user.pid: user for user in was}, {user.pid: user for user in now}
    where = f" on {place}" if place else ""
    for mark, users, others in (("-", old, new), ("+", new, old)):
        for pid, user in users.items():
            if pid not in others:
                fields = {"pid": pid, "name": user.name, "instance": place or None}
                yield Event(time, "process", mark, f"process {user}{where}", gpu, fields)


def _held(instance: InstanceStatus) -> str:
    if not instance.ready:
        return "begun and not finished"
    return "held by nobody" if instance.workload is None else f"held by {instance.held}"


def _fields(instance: InstanceStatus) -> dict[str, Any]:
    names = ("profile", "start", "workload", "replica", "ready", "uuid")
    return {name: getattr(instance, name) for name in names}
