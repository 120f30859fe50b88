"""The server's own dry run: vCenter checks machines before they are made or changed. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyVmomi import vmodl

from vsphere.applying.calls import Calls
from vsphere.changes import VmStep
from vsphere.errors import VSphereError, words
from vsphere.session import Session
from vsphere.tasks import Job, carry_out


def server_says(session: Session, steps: Sequence[VmStep], calls: Calls) -> tuple[str, ...]:
    """Have vCenter check all machines that are to be made, changed, or only switched on, and return its warnings, one line each.

    Returns
    -------
    Warnings; that it cannot check, where it cannot.

    Raises
    ------
    VSphereError
        It finds errors; names them all.
    """
    checker = session.content.vmCompatibilityChecker
    if checker is None:
        return (f"{session.who}: does not offer to check machines beforehand",)
    jobs = [Job(f"VM {step.name!r}", lambda step=step: _check(checker, step, calls), None) for step in _checked(steps)]  # type: ignore[misc]
    errors: list[str] = []
    warnings: list[str] = []
    fault = None
    for outcome in carry_out(session, jobs):
        if outcome.error is not None:
            if isinstance(
                outcome.error.fault, vmodl.fault.NotSupported | vmodl.fault.NotImplemented | vmodl.fault.MethodNotFound
            ):
                return (f"{session.who}: does not offer to check machines beforehand",)
            raise outcome.error
        for result in outcome.result or ():
            errors += [f"{outcome.job.who}: {words(each)}" for each in result.error or ()]
            warnings += [f"{outcome.job.who}: {words(each)}" for each in result.warning or ()]
            fault = fault or next(iter(result.error or ()), None)
    if errors:
        raise VSphereError("\n".join([f"{session.who}: refuses machines beforehand; nothing was changed", *errors]), fault=fault)
    return tuple(warnings)


def _checked(steps: Sequence[VmStep]) -> list[VmStep]:
    """Return the steps that can be checked now: switching on only of machines as they are, beside those that run now."""
    made = [step for step in steps if step.kind in ("create", "reconfigure")]
    changing = {step.moid for step in steps if step.kind in ("reconfigure", "move")}
    if any(step.kind == "power off" for step in steps):
        return made
    return made + [step for step in steps if step.kind == "power on" and step.moid is not None and step.moid not in changing]


def _check(checker: Any, step: VmStep, calls: Calls) -> Any:
    host = calls.sites.host(step.host)
    if step.kind == "create":
        vm = calls.wishes[step.name].vm
        assert vm is not None
        return checker.CheckVmConfig_Task(calls.described[step.name], None, host, calls.sites.pool(vm), None)
    if step.kind == "power on":
        return checker.CheckPowerOn_Task(calls.sites.machine(step.moid or ""), host, None, None)
    return checker.CheckVmConfig_Task(calls.described[step.name], calls.sites.machine(step.moid or ""), host, None, None)
