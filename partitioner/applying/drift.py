"""In which GPUs two layouts differ, in words. Must not know targets or changes."""

from __future__ import annotations

from collections.abc import Iterable

from partitioner.layout import GpuLayout, Slot, gpu_label


def differences(was: GpuLayout, now: GpuLayout) -> list[str]:
    """Return one line for each difference between what a GPU should be like and what it is like.

    Examples
    --------
    >>> was = GpuLayout("esx-01", 0, "A100-80GB", "mig", (Slot("3g.40gb", 4, "chat", 0),))
    >>> differences(was, GpuLayout("esx-01", 0, "A100-80GB", "mig"))
    ['esx-01/gpu0 (A100-80GB): 3g.40gb@4, held by chat/0, is not there']
    """
    who = f"{gpu_label(now.host, now.gpu)} ({now.model})"
    if was.model != now.model:
        return [f"{gpu_label(now.host, now.gpu)}: is a {now.model}, was a {was.model}; `partitioner status` may say why"]
    if was.mode != now.mode:
        return [f"{who}: is in mode {now.mode or 'unset'} with {_listed(now.slots)}, not in {was.mode or 'unset'}"]
    before = {(slot.profile, slot.start): slot for slot in was.slots}
    after = {(slot.profile, slot.start): slot for slot in now.slots}
    lines = []
    for at in {**before, **after}:
        old, new = before.get(at), after.get(at)
        name = f"{who}: {at[0]}@{at[1]}"
        if new is None:
            lines.append(f"{name}, {_state(old)}, is not there")
        elif old is None:
            lines.append(f"{name} is there too, {_state(new)}")
        elif old != new:
            lines.append(f"{name} is {_state(new)}, not {_state(old)}")
    return lines


def other_boards(was: Iterable[GpuLayout], now: Iterable[GpuLayout]) -> list[str]:
    """Return one line for each GPU that is another board than it was, by the driver's UUID, where both are known."""
    return [
        f"{gpu_label(new.host, new.gpu)} ({new.model}): is the board {new.uuid}, was {old.uuid}"
        for old, new in zip(was, now, strict=True)
        if old.uuid is not None and new.uuid is not None and old.uuid != new.uuid
    ]


def _state(slot: Slot | None) -> str:
    if slot is None or slot.workload is None:
        return "held by nobody" if slot is None or slot.ready else "begun and not finished"
    return f"held by {slot.workload}/{slot.replica}"


def _listed(slots: tuple[Slot, ...]) -> str:
    return ", ".join(f"{slot.profile}@{slot.start}" for slot in slots) or "no instances"
