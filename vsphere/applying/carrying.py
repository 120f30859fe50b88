"""Carrying steps out, those of one kind at the same time, up to the first that fails. Must not know journals or rolling back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pyVmomi import vim

from partitioner.applying.interrupting import between_steps
from partitioner.errors import PartitionerError
from vsphere.applying.calls import Calls
from vsphere.changes import VmStep
from vsphere.errors import VSphereError
from vsphere.session import Session
from vsphere.tasks import PER_HOST, Job, Outcome, carry_out
from vsphere.values import Inventory, Mark

VmProgress = Callable[[int, int, "VmStep | None"], None]
"""Called after each step with the number done, the number of all, and the step; at the end with None."""


@dataclass(slots=True)
class Carried:
    """How far steps were carried out.

    Parameters
    ----------
    done : steps that succeeded, in the order of the changes.
    failed : steps that failed, each with why.
    unbegun : steps that were not begun.
    """

    done: list[VmStep] = field(default_factory=list)
    failed: list[tuple[VmStep, PartitionerError]] = field(default_factory=list)
    unbegun: list[VmStep] = field(default_factory=list)


def carry(
    session: Session,
    steps: Sequence[VmStep],
    calls: Calls,
    read: Callable[[], Inventory],
    progress: VmProgress | None = None,
) -> Carried:
    """Carry steps out in order; those of one kind that stand together at the same time.

    On one host, machines are switched on one after another in their order, since the order decides which GPU each gets.

    Parameters
    ----------
    session : where to.
    steps : what to do.
    calls : knows how each is asked for; takes over the ids of machines that are made.
    read : reads what there is now.
    progress : told of each step that is done.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C; steps under way were finished first.
    """
    carried = Carried()
    calls.sites.prepare(vm for step in steps if step.kind == "create" and (vm := calls.wishes[step.name].vm) is not None)
    phases = [(kind, list(group)) for kind, group in groupby(steps, key=lambda step: step.kind) if kind != "keep"]
    total = sum(len(group) for _, group in phases)
    with between_steps() as asked:
        for kind, group in phases:
            if carried.failed:
                carried.unbegun += group
                continue
            if asked():
                raise KeyboardInterrupt(
                    f"stopped after {len(carried.done)} of {total} steps; run it again to go on, or roll back"
                )
            if kind == "reconfigure":
                changed = {step.moid for step in carried.done if step.kind in ("power off", "move")}
                again = [step for step in group if step.moid in changed]
                if again:
                    try:
                        calls.refresh(again, read())
                    except PartitionerError as error:
                        carried.failed.append((again[0], error))
                        carried.unbegun += [step for step in group if step is not again[0]]
                        continue
            _phase(session, group, calls, carried, 1 if kind == "power on" else PER_HOST, progress, total)
    if progress is not None and not carried.failed:
        progress(total, total, None)
    return carried


def _phase(
    session: Session,
    group: list[VmStep],
    calls: Calls,
    carried: Carried,
    per_host: int,
    progress: VmProgress | None,
    total: int,
) -> None:
    begun: list[VmStep] = []
    jobs: list[Job] = []
    for step in group:
        if step.kind == "rules" and not calls.has_rules(step):
            carried.done.append(step)
            continue
        begun.append(step)
        jobs.append(Job(_who(step), lambda step=step: calls.begin(step), step.host))  # type: ignore[misc]
    before = len(carried.done)
    names = {job.who: step for job, step in zip(jobs, begun, strict=True)}

    def tell(event: Any) -> None:
        if progress is not None and event.state == "done":
            progress(before + event.finished, total, names.get(event.who))

    for step, outcome in zip(begun, carry_out(session, jobs, per_host=per_host, progress=tell, stop_on_error=True), strict=True):
        error = _settled(step, outcome, calls)
        if not outcome.begun:
            carried.unbegun.append(step)
        elif error is None:
            carried.done.append(step)
        else:
            carried.failed.append((step, error))


def _settled(step: VmStep, outcome: Outcome, calls: Calls) -> PartitionerError | None:
    """Take over what a step gave, and return why it failed; None where what it was for is so nevertheless."""
    if not outcome.begun:
        return None
    error = outcome.error
    if error is None:
        if step.kind == "create" and outcome.result is not None:
            calls.moids[step.name] = _moid(outcome.result)
        return None
    fault = error.fault
    if step.kind == "create" and isinstance(fault, vim.fault.DuplicateName):
        return _adopted(step, fault, calls, error)
    if isinstance(fault, vim.fault.InvalidPowerState):
        wanted = {"power on": "poweredOn", "power off": "poweredOff"}.get(step.kind)
        if wanted is not None and str(fault.existingState) == wanted:
            return None
    return error


def _adopted(step: VmStep, fault: Any, calls: Calls, error: VSphereError) -> PartitionerError | None:
    """Take a machine that has the name already for the one that was to be made, where it is that one.

    It is where an earlier run was killed after it had asked for it and before it was there.
    """
    moid = _moid(fault.object)
    try:
        config = calls.sites.machine(moid).config
    except Exception as other:  # noqa: BLE001 - whatever it is, it is not known to be ours
        error.add_note(f"the machine {moid} of that name cannot be read: {other}")
        return error
    options = {str(option.key): str(option.value) for option in config.extraConfig} if config is not None else {}
    vm, mark = calls.wishes[step.name].vm, Mark.of(options)
    if vm is not None and mark is not None and mark == vm.mark and str(config.instanceUuid) == vm.instance_uuid:
        calls.moids[step.name] = moid
        return None
    said = f"{error}: the machine {moid} has that name and is not the one of this plan; it is not touched: rename one of them"
    return VSphereError(said, fault=fault)


def _moid(reference: Any) -> str:
    return str(reference._GetMoId())  # noqa: SLF001


def _who(step: VmStep) -> str:
    return f"cluster {step.name!r}: rules" if step.kind == "rules" else f"VM {step.name!r} on {step.host}: {step.kind}"
