"""`apply`, `rollback` and `destroy` of machines: look, do, look again; what they know in between stands in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol

from partitioner.errors import PartitionerError, SpecError, StepError, TargetError
from partitioner.targets import StateFolder
from vsphere.applying.calls import Calls, Wish
from vsphere.applying.carrying import Carried, VmProgress, carry
from vsphere.applying.checking import server_says
from vsphere.applying.drift import still_to_do
from vsphere.applying.journal import VmJournal, VmRun
from vsphere.applying.readback import other_gpus
from vsphere.applying.report import VmReport
from vsphere.applying.restoring import WayBack, way_back
from vsphere.applying.sites import Sites
from vsphere.changes import VmChanges
from vsphere.changes.difference import sequence
from vsphere.changes.owners import copied
from vsphere.changes.settings import wanted
from vsphere.machine.vm import Vm
from vsphere.session import Session
from vsphere.values import Inventory


class Center(Protocol):
    """What carries changes of machines out: a session, a folder for the journal, and what there is now."""

    @property
    def session(self) -> Session:
        """The login."""

    @property
    def state(self) -> StateFolder | None:
        """Where lock and journal are kept; None keeps none."""

    @property
    def guestinfo(self) -> Callable[[Vm], Mapping[str, str]] | None:
        """What each new machine's guest reads."""

    def inventory(self) -> Inventory:
        """Return what there is now."""


def apply(
    changes: VmChanges,
    target: Center,
    *,
    dry_run: bool = False,
    verify: bool = False,
    rollback_on_error: bool = True,
    exact_gpus: bool = False,
    progress: VmProgress | None = None,
) -> VmReport:
    """Carry changes of machines out; after a kill, the same call, or `diff` and `apply`, goes on where that one stopped.

    Parameters
    ----------
    changes : what `diff` found.
    target : the vCenter.
    dry_run : check all, change nothing.
    verify : have vCenter check first, where it can: new and changed machines (`CheckVmConfig_Task`), and those only
        switched on (`CheckPowerOn_Task`).
    rollback_on_error : take back what was done when a step fails; else it stays, and a second call goes on from there. Once
        machines are being destroyed, all else is done and nothing is taken back any more.
    exact_gpus : whether it is an error where a machine got another GPU of its host than planned; else it is reported.
    progress : told of each step that is done.

    Returns
    -------
    What was done, and which machines got other GPUs than planned.

    Raises
    ------
    DriftError
        vCenter is not in the state that the changes were made from, nor on the way; nothing was changed.
    StepError
        A step failed; says what was done, what remains, and whether it was taken back. Its `__cause__` has vCenter's fault.
    TargetError
        Another apply runs on this vCenter, or the goal cannot be reached; nothing was changed. Or all steps succeeded, and the
        goal is not reached.
    KeyboardInterrupt
        Ctrl-C; steps under way were finished first, nothing was taken back, and a second call goes on.
    """
    _check(changes, target)
    began = time.perf_counter()
    with _locked(target.state, dry_run=dry_run):
        now = target.inventory()
        left = still_to_do(now, changes)
        calls = _calls(target, now, left)
        calls.describe(left.steps)
        warnings = server_says(target.session, left.steps, calls) if verify else ()
        steps = tuple(step for step in left.steps if step.kind != "keep")
        if dry_run or not steps:
            if not steps and not dry_run:
                _end(target, changes)
            return VmReport("apply", _name(target), steps, _since(began), dry_run, other_gpus(now, changes.goal), warnings)
        run = _begin(target, changes)
        carried = carry(target.session, left.steps, calls, target.inventory, progress)
        if carried.failed:
            raise _failure(target, run, carried, wanted=rollback_on_error) from carried.failed[0][1]
        after = target.inventory()
        missed = still_to_do(after, changes)
        if missed:
            lines = [str(step) for step in missed.steps if step.kind != "keep"]
            raise TargetError(
                "\n".join([f"{_name(target)}: reported success for every step, but is not at the goal", *lines[:50]])
            )
        _write(target, run, "done")
        gpus = other_gpus(after, changes.goal)
        if exact_gpus and gpus:
            raise TargetError("\n".join([f"{_name(target)}: all machines run, but not on the GPUs planned", *gpus]))
        return VmReport("apply", _name(target), steps, _since(began), dry_run, gpus, warnings)


def rollback(target: Center, *, dry_run: bool = False, progress: VmProgress | None = None) -> VmReport:
    """Bring machines back to what they were before the last apply, whether it ended or not.

    Machines that it destroyed cannot be brought back; they are named in an error, after all else was done.

    Raises
    ------
    StepError
        A step failed; a second call goes on.
    TargetError
        There is nothing to roll back, another apply runs, or machines are lost.
    """
    began = time.perf_counter()
    if target.state is None:
        raise TargetError(f"{_name(target)}: keeps no state folder, so it does not know what was before")
    with _locked(target.state, dry_run=dry_run):
        run = VmJournal(target.state.path).read()
        if run is None or run.ended == "rolled back":
            said = "no apply was recorded" if run is None else "the last apply was rolled back already"
            raise TargetError(f"{_name(target)}: nothing to roll back: {said}")
        now = target.inventory()
        back = way_back(run.changes, now)
        if dry_run:
            return VmReport("rollback", _name(target), back.steps, _since(began), dry_run, (), back.lost)
        steps = back.steps
        for _ in range(_LOOKS):
            if not back.steps:
                break
            carried = _return(target, now, back, progress)
            if carried.failed:
                raise _step_error(carried, "what was done stays; roll back again to go on", None) from carried.failed[0][1]
            now = target.inventory()
            back = way_back(run.changes, now)  # a machine that was asked for before a kill may have come meanwhile
        if back.steps:
            lines = "\n".join(map(str, back.steps))
            raise TargetError(f"{_name(target)}: reported success for every step, but is not as before; roll back again\n{lines}")
        _write(target, run, "rolled back")
        if back.lost:
            raise TargetError("\n".join([f"{_name(target)}: all else is as it was, but machines are lost", *back.lost]))
        return VmReport("rollback", _name(target), steps, _since(began), dry_run)


def destroy(target: Center, plan: str, *, dry_run: bool = False, progress: VmProgress | None = None) -> VmReport:
    """Switch off and destroy the machines of one plan, and nothing else.

    Parameters
    ----------
    target : the vCenter.
    plan : id of the plan; only machines that carry our mark and this id are touched.

    Raises
    ------
    SpecError
        The id is empty.
    StepError
        A step failed; a second call goes on.
    TargetError
        Another apply runs on this vCenter.
    """
    if not plan:
        raise SpecError("destroy: plan is empty; name the id of the plan, as the machines' marks have it")
    began = time.perf_counter()
    with _locked(target.state, dry_run=dry_run):
        now = target.inventory()
        copies = copied(now)
        doomed = [info for info, mark in now.ours() if mark.plan == plan and not info.template and info.moid not in copies]
        steps = sequence(now, (), (), doomed)
        if dry_run or not steps:
            return VmReport("destroy", _name(target), steps, _since(began), dry_run)
        calls = _calls(target, now, VmChanges(now.vcenter, tuple(doomed), (), steps))
        carried = carry(target.session, steps, calls, target.inventory, progress)
        if carried.failed:
            raise _step_error(carried, "run it again to go on", None) from carried.failed[0][1]
        return VmReport("destroy", _name(target), steps, _since(began), dry_run)


_LOOKS = 3
"""How often a rollback looks whether something is left to be taken back."""


# -- parts -----------------------------------------------------------------------------------------------------------------


def _calls(target: Center, now: Inventory, left: VmChanges) -> Calls:
    wishes = {vm.name: Wish(wanted(vm), vm) for vm in left.goal}
    known = {step.name: step.moid for step in left.steps if step.kind in ("keep", "reconfigure", "power on") and step.moid}
    gone = tuple(step.moid for step in left.steps if step.kind == "destroy" and step.moid)
    known |= {
        step.name: step.moid for step in left.steps if step.kind == "move" and step.moid and step.moid not in known.values()
    }
    return Calls(Sites(target.session, now), dict(now.vm), wishes, left.goal, target.guestinfo, known, gone)


def _return(target: Center, now: Inventory, back: WayBack, progress: VmProgress | None = None) -> Carried:
    gone = tuple(step.moid for step in back.steps if step.kind == "destroy" and step.moid)
    calls = Calls(Sites(target.session, now), dict(now.vm), back.wishes, (), None, {}, gone, back.clusters)
    calls.describe(back.steps)
    return carry(target.session, back.steps, calls, target.inventory, progress)


def _failure(target: Center, run: VmRun, carried: Carried, *, wanted: bool) -> StepError:
    """Take back what was done, where that is wanted and still possible, and return the error to raise."""
    destroying = any(step.kind == "destroy" for step in (*carried.done, *(step for step, _ in carried.failed)))
    if destroying:
        return _step_error(carried, "all else is done; run it again to destroy the rest", None)
    if not wanted:
        return _step_error(carried, "what was done stays; diff again and apply to go on, or roll back", None)
    try:
        now = target.inventory()
        back = way_back(run.changes, now)
        taken = _return(target, now, back)
        if taken.failed:
            raise taken.failed[0][1]
        if back.lost:
            raise TargetError("; ".join(back.lost))
        _write(target, run, "rolled back")
    except PartitionerError as error:
        said = f"what was done could not be taken back: {error}; mend that, then roll back, or diff again and apply to go on"
        return _step_error(carried, said, rolled_back=False)
    return _step_error(carried, "what was done was taken back, the machines are as before", rolled_back=True)


def _step_error(carried: Carried, text: str, rolled_back: bool | None) -> StepError:  # noqa: FBT001 - of StepError
    step, error = carried.failed[0]
    total = len(carried.done) + len(carried.failed) + len(carried.unbegun)
    more = f" (and {len(carried.failed) - 1} more failed)" if len(carried.failed) > 1 else ""
    message = f"step {len(carried.done) + 1} of {total}: {error}{more}; {text}"
    remaining = (*(step for step, _ in carried.failed), *carried.unbegun)
    return StepError(message, step=step, done=carried.done, remaining=remaining, rolled_back=rolled_back)


def _begin(target: Center, changes: VmChanges) -> VmRun:
    run = VmRun.begin(changes)
    if target.state is not None:
        journal = VmJournal(target.state.path)
        run = run.follows(journal.read())
        journal.write(run)
    return run


def _end(target: Center, changes: VmChanges) -> None:
    """Note that a run that was killed after its last step has ended; nothing is written where none was under way."""
    if target.state is None or not changes:
        return
    journal = VmJournal(target.state.path)
    run = journal.read()
    if run is not None and run.ended is None and run.changes.vcenter == changes.vcenter:
        journal.write(run, "done")


def _write(target: Center, run: VmRun, ended: Literal["done", "rolled back"]) -> None:
    if target.state is not None:
        VmJournal(target.state.path).write(run, ended)


def _check(changes: object, target: object) -> None:
    if not isinstance(changes, VmChanges):
        said = f"changes are a {type(changes).__name__}, not what vsphere.diff returns"
        raise SpecError(f"apply: {said}; write vsphere.apply(vsphere.diff(target.inventory(), vms), target)")
    vcenter = getattr(getattr(target, "session", None), "who", None)
    if vcenter is None:
        raise SpecError(f"apply: target is a {type(target).__name__}; it is what vsphere.connect returns")
    if vcenter != changes.vcenter:
        raise SpecError(f"apply: the changes are for {changes.vcenter}, and this is {vcenter}; apply them there")


@contextmanager
def _locked(folder: StateFolder | None, *, dry_run: bool) -> Iterator[None]:
    if folder is None or dry_run:  # a dry run writes nothing, not even a lock
        yield
        return
    with folder.lock():
        yield


def _name(target: Center) -> str:
    return target.session.who


def _since(began: float) -> float:
    return time.perf_counter() - began
