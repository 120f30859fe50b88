"""What a step leaves on a GPU when it was begun and not finished. Must not know targets."""

from __future__ import annotations

from dataclasses import replace

from partitioner.changes.step import Step
from partitioner.layout import GpuLayout, Slot


def begun(gpu: GpuLayout, step: Step) -> GpuLayout | None:
    """Return a GPU on which a step was begun and not finished; None where the step has no half way that can be seen.

    Parameters
    ----------
    gpu : the GPU before the step.
    step : a step on it.

    Notes
    -----
    A GPU instance comes before its compute instance and goes after it (`create`, `destroy`). Starting, draining and moving
    write one entry of a ledger; a change of mode that is pending is not seen until it is active.
    """
    if step.profile is None or step.start is None:
        return None
    others = [slot for slot in gpu.slots if (slot.profile, slot.start) != (step.profile, step.start)]
    there = next((slot for slot in gpu.slots if (slot.profile, slot.start) == (step.profile, step.start)), None)
    half = Slot(step.profile, step.start, ready=False)
    creates = step.kind == "create" and there is None
    destroys = step.kind == "destroy" and there is not None and there.ready and there.workload is None
    if step.mode == "whole" or not (creates or destroys):
        return None
    return replace(gpu, slots=tuple(sorted((*others, half), key=lambda slot: slot.start)))
