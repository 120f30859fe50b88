"""Whether a vCenter is still as it was when changes were computed, or on the way that they lead. Must not know pyVmomi."""

from __future__ import annotations

from partitioner.errors import DriftError
from vsphere.changes import VmChanges, VmStep
from vsphere.changes.difference import remaining
from vsphere.changes.settings import differences, found
from vsphere.values import Inventory

_MAX_LINES = 50


def still_to_do(now: Inventory, changes: VmChanges) -> VmChanges:
    """Return what of changes is still to be done.

    Raises
    ------
    DriftError
        A machine is neither as it was nor on the way to what it shall be: it was deleted, changed or moved by somebody else.
    TargetError
        The goal cannot be reached any more: a host is away, a name is taken.
    """
    lines = _gone(now, changes) + _repurposed(now, changes)
    if lines:
        raise _drift(now, lines)
    left = remaining(now, changes)
    approved = {_same(step) for step in changes.steps}
    strange = [step for step in left.steps if step.kind not in ("keep", "rules") and _same(step) not in approved]
    if strange:
        raise _drift(now, [_words(step) for step in strange])
    return left


def _gone(now: Inventory, changes: VmChanges) -> list[str]:
    doomed = {step.moid for step in changes.steps if step.kind == "destroy"}
    there = now.vm
    kept = {step.moid: step.name for step in changes.steps if step.moid is not None and step.kind not in ("destroy", "rules")}
    return [
        f"VM {name!r} ({moid}) is not there any more" for moid, name in kept.items() if moid not in there and moid not in doomed
    ]


def _repurposed(now: Inventory, changes: VmChanges) -> list[str]:
    """Return one line for each machine that shall be destroyed and is another than it was."""
    doomed = {step.moid for step in changes.steps if step.kind == "destroy"}
    lines = []
    for info in changes.base:
        current = now.vm.get(info.moid)
        if info.moid not in doomed or current is None:
            continue
        if current.mark is None:
            lines.append(f"VM {info.name!r} ({info.moid}) does not carry our mark any more")
        lines += [f"VM {info.name!r} ({info.moid}): {change}" for change in differences(found(info), found(current))]
    return lines


def _same(step: VmStep) -> tuple[object, ...]:
    """Return what makes two steps the same one; a machine that was made meanwhile is known by its UUID."""
    what = step.what if step.kind == "reconfigure" else ()
    return step.kind, step.uuid, step.host if step.kind in ("create", "move") else None, what


def _words(step: VmStep) -> str:
    if step.kind == "reconfigure":
        return f"VM {step.name!r}: differs by {', '.join(step.what)}"
    if step.kind == "create":
        return f"VM {step.name!r}: is not there any more"
    states = {"power on": "is off", "power off": "is on", "move": f"is on {step.source}", "destroy": "is there"}
    return f"VM {step.name!r}: {states[step.kind]}"


def _drift(now: Inventory, lines: list[str]) -> DriftError:
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = [f"and {len(lines) - _MAX_LINES} more differences"]
    return DriftError(f"{now.vcenter}: is not as it was when the changes were computed; compute them anew", lines)
