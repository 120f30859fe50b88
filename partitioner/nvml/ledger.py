"""Steps that only the ledger knows of: replicas that start, move and leave, and whole GPUs. Calls no driver.

Each function is done when it was done already, so that a run that was killed can be repeated.
"""

from __future__ import annotations

from partitioner.changes.step import Place, Step
from partitioner.errors import TargetError
from partitioner.layout import GpuLayout, Slot
from partitioner.targets import Assignments, Instance, Occupant


def slot_at(gpu: GpuLayout, place: Place) -> Slot | None:
    """Return what is at a place; None where nothing is."""
    return next((slot for slot in gpu.slots if (slot.profile, slot.start) == (place.profile, place.start)), None)


def entry(gpu: GpuLayout, place: Place) -> Instance:
    """Return the ledger's name of an instance."""
    return Instance(gpu.uuid or f"{gpu.host}/gpu{gpu.gpu}", place.profile, place.start)


def start(ledger: Assignments, step: Step, gpu: GpuLayout, place: Place) -> None:
    """Write down that a replica runs in an instance.

    Raises
    ------
    TargetError
        The instance is not there, not finished, or held by another replica; or the ledger cannot be written.
    """
    if _may_take(step, gpu, place):
        ledger.update({entry(gpu, place): occupant(step)})


def move(ledger: Assignments, step: Step, origin: GpuLayout, gpu: GpuLayout, place: Place) -> None:
    """Write down that a replica runs in an instance and no more in `step.source`, in one.

    Raises
    ------
    TargetError
        As `start`; or the replica is in neither of the two.
    """
    assert step.source is not None
    left = slot_at(origin, step.source)
    there = left is not None and _holds(left, step)
    takes = _may_take(step, gpu, place)
    if takes and not there:
        raise TargetError(f"{step.source}: is not held by {step.who}, which was to move from there to {place}; diff again")
    if takes or there:
        ledger.update({entry(gpu, place): occupant(step), entry(origin, step.source): None})


def drain(ledger: Assignments, step: Step, gpu: GpuLayout, place: Place) -> None:
    """Write down that a replica has left an instance, which stays.

    Raises
    ------
    TargetError
        Another replica holds it, or the ledger cannot be written.
    """
    slot = slot_at(gpu, place)
    if slot is None or slot.workload is None:
        return
    if not _holds(slot, step):
        raise TargetError(f"{place}: is held by {slot.workload}/{slot.replica}, not by {step.who}; diff again")
    ledger.update({entry(gpu, place): None})


def occupant(step: Step) -> Occupant:
    """Return the replica that a step is about.

    Raises
    ------
    TargetError
        It is about none.
    """
    if step.workload is None:
        raise TargetError(f"{step.label}: {step.kind} names no workload; write which replica it is about")
    return Occupant(step.workload, step.replica or 0)


def _holds(slot: Slot, step: Step) -> bool:
    return (slot.workload, slot.replica) == tuple(occupant(step))


def _may_take(step: Step, gpu: GpuLayout, place: Place) -> bool:
    """Whether a replica is still to be written into an instance; False where it is.

    Raises
    ------
    TargetError
        It finds no room there.
    """
    slot = slot_at(gpu, place)
    if slot is None:
        there = ", ".join(f"{slot.profile}@{slot.start}" for slot in gpu.slots) or "none"
        raise TargetError(f"{place}: no such instance for {step.who}; there is {there}")
    if _holds(slot, step):
        return False
    if slot.workload is not None:
        raise TargetError(f"{place}: is held by {slot.workload}/{slot.replica}; {step.who} finds no room there")
    if not slot.ready:
        raise TargetError(f"{place}: is not finished, its compute instance is missing; {step.who} cannot start there")
    return True
