"""Carrying out the steps that prepare hosts: one host at a time, looking before each step. Must not know how steps are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from partitioner.errors import InUseError, StepError, TargetError
from partitioner.targets import StateFolder
from vsphere.errors import VSphereError
from vsphere.hosts import settings, smi, waits
from vsphere.hosts.errors import RefusedError, UnreachableError, WaitError
from vsphere.hosts.journal import HostJournal, MigJournal
from vsphere.hosts.live import HostNow, host_object, read_host
from vsphere.hosts.ssh import Shell, SshAccess
from vsphere.hosts.step import GRAPHICS, HostChanges, HostPlan, HostStep
from vsphere.hosts.waits import Limits

if TYPE_CHECKING:
    from vsphere.session import Session

Outcome = Literal["done", "was so", "not needed"]
Progress = Callable[[HostStep, Outcome], None]

_PRIVILEGES = {
    "passthrough": "Host.Config.PciPassthru",
    "enter maintenance": "Host.Config.Maintenance",
    "exit maintenance": "Host.Config.Maintenance",
    "reboot": "Host.Config.Maintenance",
    **dict.fromkeys(GRAPHICS, "Host.Config.Settings"),
}


@dataclass(frozen=True, slots=True)
class HostReport:
    """What was done.

    Parameters
    ----------
    outcomes : each step with what became of it: ``done``, ``was so`` already, or ``not needed`` (a restart for nothing).
    by_hand : steps that are left, the first of them for a person.
    """

    outcomes: tuple[tuple[HostStep, Outcome], ...]
    by_hand: tuple[HostStep, ...] = ()

    @property
    def done(self) -> tuple[HostStep, ...]:
        """Steps that changed something."""
        return tuple(step for step, outcome in self.outcomes if outcome == "done")

    def __str__(self) -> str:
        """One line for each step, and what is left."""
        lines = [f"{outcome:>10}  {step}" for step, outcome in self.outcomes]
        lines += [f"{'left':>10}  {step}" for step in self.by_hand]
        return "\n".join(lines) + "\n" if lines else "nothing to do\n"


def perform(
    changes: HostChanges,
    session: Session,
    *,
    access: SshAccess | None = None,
    state: StateFolder | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> HostReport:
    """Carry out what hosts need, one host after the other.

    Parameters
    ----------
    changes : what `plan_host_steps` found.
    session : of the vCenter.
    access : how the shells of the hosts are reached; without it, it stops before the first step for a shell.
    state : a folder that remembers which hosts we put into maintenance mode, so that a run that was killed can be ended.
    limits : how long to wait.
    progress : called after each step.

    Returns
    -------
    What was done, and what is left for a person.

    Raises
    ------
    RefusedError
        Something stands against it; nothing was begun.
    PrivilegeError
        The account lacks privileges; nothing was begun.
    StepError
        A step failed; its cause says why. The host stays as it is then, in maintenance mode where it was put there. Plan and
        perform again: what is done is found done.

    Notes
    -----
    Nothing but the hosts and GPUs of the plan is changed, and nobody's VM is powered off. A restart is left out when nothing
    waits for one.
    """
    if changes.refusals:
        raise RefusedError("hosts cannot be prepared as they are now; nothing was begun", changes.refusals)
    if any(step.kind == "restart services" for step in changes.steps) and access is None:
        raise RefusedError("the plan restarts services in the hosts' shells, and no access to them is given; plan without shell")
    session.check_privileges(
        {
            host_object(session, host.moid): sorted({_PRIVILEGES[step.kind] for step in host.steps if step.kind in _PRIVILEGES})
            for host in changes.hosts
            if any(step.kind in _PRIVILEGES for step in host.steps)
        }
    )
    with ExitStack() as stack:
        if state is not None:
            stack.enter_context(state.lock())
        run = _Run(session, access, state, limits or Limits(), changes.vcenter, progress)
        for number, host in enumerate(changes.hosts):
            left = run.host(host)
            if left:
                later = [step for other in changes.hosts[number + 1 :] for step in other.steps]
                return HostReport(tuple(run.outcomes), (*left, *later))
        return HostReport(tuple(run.outcomes))


class _Run:
    """One run over the hosts."""

    def __init__(
        self,
        session: Session,
        access: SshAccess | None,
        state: StateFolder | None,
        limits: Limits,
        vcenter: str,
        progress: Progress | None,
    ) -> None:
        self.session, self.access, self.limits = session, access, limits
        self.journal, self.lost = HostJournal(state), MigJournal(state)
        self.vcenter, self.progress = vcenter, progress
        self.outcomes: list[tuple[HostStep, Outcome]] = []

    def host(self, plan: HostPlan) -> tuple[HostStep, ...]:
        """Carry out the steps of one host; returns those that are left for a person, none when all is done."""
        plan = self._with_lost(plan)
        groups = list(_groups(plan.steps))
        if groups and not read_host(self.session, plan.moid, plan.host).in_maintenance:
            self.journal.leave(self.vcenter, plan.moid)  # somebody took it out; what they do with it later is theirs
        restarted = False
        for number, group in enumerate(groups):
            if group[0].kind == "mig" and self.access is None:
                if not self._seen_so(plan, group[0]):
                    return tuple(step for later in groups[number:] for step in later)
                self._record(group, "was so")
                continue
            try:
                outcome = self._step(plan, group, restarted=restarted)
            except TargetError as error:
                done = [step for step, _ in self.outcomes]
                remaining = [step for later in groups[number:] for step in later]
                raise StepError(f"{error}", step=group[0], done=done, remaining=remaining) from error
            restarted = restarted or (group[0].kind == "reboot" and outcome == "done")
            if group[0].kind == "mig":
                self.lost.leave(self.vcenter, f"{plan.moid} {group[0].pci_id}")
            self._record(group, outcome)
        return ()

    def _with_lost(self, plan: HostPlan) -> HostPlan:
        """Return the plan with what an earlier run that was killed owes to GPUs that are in no plan."""
        known = {step.pci_id for step in plan.steps if step.kind == "mig"} | set(plan.gpus)
        owed = [
            HostStep("mig", plan.host, pci_id=pci_id, after="on", reason="an earlier run restarted the host, which ended it")
            for pci_id in self.lost.lost(self.vcenter, plan.moid)
            if pci_id not in known
        ]
        last = len(plan.steps) - sum(step.kind == "exit maintenance" for step in plan.steps)
        return replace(plan, steps=(*plan.steps[:last], *owed, *plan.steps[last:]))

    def _record(self, group: Iterable[HostStep], outcome: Outcome) -> None:
        for step in group:
            self.outcomes.append((step, outcome))
            if self.progress is not None:
                self.progress(step, outcome)

    def _step(self, plan: HostPlan, group: tuple[HostStep, ...], *, restarted: bool) -> Outcome:
        step = group[0]
        now = read_host(self.session, plan.moid, plan.host)
        if not now.connected:
            raise WaitError(f"{plan.host}: is {now.connection}; wait until it is back, then run it again")
        match step.kind:
            case "enter maintenance":
                return self._enter(plan, now)
            case "exit maintenance":
                return self._exit(plan, now)
            case "reboot":
                return self._reboot(plan, now)
            case "restart services":
                return self._services(plan, now)
            case "mig":
                return self._mig(plan, step, now, restarted=restarted)
            case "passthrough":
                return "done" if settings.update_passthrough(self.session, now, step) else "was so"
            case _:
                return self._graphics(plan, group, now)

    def _graphics(self, plan: HostPlan, group: tuple[HostStep, ...], now: HostNow) -> Outcome:
        done = settings.update_graphics(self.session, now, group)
        if _followed(plan, group[-1], "restart services", "reboot"):
            return "done" if done else "was so"
        wanted = {step.pci_id: step.after for step in group if step.kind == "vgpu mode"}
        if done or any(now.vgpu_modes.get(pci_id or "") != mode for pci_id, mode in wanted.items()):
            settings.refresh(self.session, now)

        def still() -> str | None:
            modes = read_host(self.session, plan.moid, plan.host).vgpu_modes
            late = [
                f"{pci_id} is {modes.get(pci_id or '')}" for pci_id, mode in wanted.items() if modes.get(pci_id or "") != mode
            ]
            return f"the vGPU mode of {', '.join(late)}" if late else None

        what = f"host {plan.host!r} with new vGPU modes"
        waits.wait_until(still, what, timeout_s=self.limits.settle_s, limits=self.limits)
        return "done" if done else "was so"

    def _enter(self, plan: HostPlan, now: HostNow) -> Outcome:
        if now.in_maintenance:
            return "was so"
        self.journal.enter(self.vcenter, plan.moid)
        try:
            waits.enter_maintenance(self.session, plan.moid, now, migrate=plan.migrate, limits=self.limits)
        except (VSphereError, InUseError) as error:
            if not isinstance(error, VSphereError) or error.fault is not None:  # else it may have been done
                self.journal.leave(self.vcenter, plan.moid)
            raise
        return "done"

    def _exit(self, plan: HostPlan, now: HostNow) -> Outcome:
        if now.in_maintenance and plan.moid not in self.journal.entered(self.vcenter):
            return "not needed"  # somebody else put it there, after the plan was made
        if now.in_maintenance:
            waits.exit_maintenance(self.session, plan.moid, now, limits=self.limits)
        self.journal.leave(self.vcenter, plan.moid)
        return "done" if now.in_maintenance else "was so"

    def _reboot(self, plan: HostPlan, now: HostNow) -> Outcome:
        if not settings.waiting(now, plan.gpus) and not self._mig_waits(plan):
            return "not needed"
        for pci_id in (step.pci_id for step in plan.steps if step.kind == "mig" and step.pci_id not in plan.gpus):
            self.lost.enter(self.vcenter, f"{plan.moid} {pci_id}")
        waits.reboot(self.session, plan.moid, now, plan.gpus, limits=self.limits)
        after = read_host(self.session, plan.moid, plan.host)
        still = (*settings.waiting(after, plan.gpus), *self._mig_waits(plan, restarted=True))
        if still:
            raise WaitError(f"{plan.host}: was restarted, and still waiting: {', '.join(still)}; look at its settings and driver")
        return "done"

    def _mig_waits(self, plan: HostPlan, *, restarted: bool = False) -> tuple[str, ...]:
        """Return whose MIG mode waits for a restart, in words; where nobody can look and it was changed, all that were."""
        changed = {step.pci_id for step in plan.steps if step.kind == "mig"}
        if self.access is None:
            return () if restarted else tuple(f"MIG mode of {pci_id}" for pci_id in sorted(filter(None, changed)))
        if not changed and not any("MIG" in step.reason for step in plan.steps if step.kind == "reboot"):
            return ()
        mine = [gpu for gpu in self._asked(plan.host, restarted=restarted) if gpu.pci_id in plan.gpus]
        return tuple(f"MIG mode of {gpu.pci_id}" for gpu in mine if gpu.mig_pending is not None and gpu.mig != gpu.mig_pending)

    def _services(self, plan: HostPlan, now: HostNow) -> Outcome:
        if not settings.waiting(now, plan.gpus):
            return "not needed"
        smi.restart_services(self._shell(plan.host))
        settings.refresh(self.session, now)

        def still() -> str | None:
            waiting = settings.waiting(read_host(self.session, plan.moid, plan.host), plan.gpus)
            return f"still waiting: {', '.join(waiting)} (plan it with restart='host')" if waiting else None

        what = f"host {plan.host!r} after a restart of the driver's services"
        waits.wait_until(still, what, timeout_s=self.limits.settle_s, limits=self.limits)
        return "done"

    def _mig(self, plan: HostPlan, step: HostStep, now: HostNow, *, restarted: bool) -> Outcome:
        pci_id, on = step.pci_id or "", step.after == "on"
        gpus = self._asked(plan.host, restarted=restarted)
        found = next((gpu for gpu in gpus if gpu.pci_id == pci_id), None)
        if found is not None and found.mig == on and found.mig_pending in (on, None):
            return "was so"
        users = now.users.get(pci_id, ())
        if users:
            named = ", ".join(f"{name!r} ({vm})" for vm, name in users)
            raise InUseError(f"{step.label}: must be idle, and {named} run on it; power them off, then plan anew")
        if not smi.set_mig(self._shell(plan.host), pci_id, on=on, seen=gpus) and not _followed(plan, step, "reboot"):
            said = f"{step.label}: MIG mode {step.after} waits for a restart of the host, which is not in the plan"
            raise WaitError(f"{said}; plan anew with what its shell says, and it will be")
        return "done"

    def _seen_so(self, plan: HostPlan, step: HostStep) -> bool:
        """Whether vCenter itself says that the MIG mode is what a step asks for."""
        mode = read_host(self.session, plan.moid, plan.host).vgpu_modes.get(step.pci_id or "")
        return mode is not None and mode != "none" and (mode == "multiInstanceGpu") == (step.after == "on")

    def _shell(self, host: str) -> Shell:
        assert self.access is not None
        return self.access.shell(host)

    def _asked(self, host: str, *, restarted: bool) -> tuple[smi.SmiGpu, ...]:
        """Return the GPUs that the shell of a host sees; after a restart, when its shell is there again."""
        shell = self._shell(host)
        found: list[smi.SmiGpu] = []

        def missing() -> str | None:
            try:
                found[:] = smi.read_gpus(shell)[0]
            except UnreachableError as error:
                if not restarted:
                    raise
                return str(error)
            return None

        waits.wait_until(missing, f"shell of host {host!r}", timeout_s=self.limits.settle_s, limits=self.limits)
        return tuple(found)


def _groups(steps: Iterable[HostStep]) -> Iterator[tuple[HostStep, ...]]:
    """Iterate over steps, those in a row that one call makes so together."""
    for graphics, group in groupby(steps, key=lambda step: step.kind in GRAPHICS):
        if graphics:
            yield tuple(group)
        else:
            yield from ((step,) for step in group)


def _followed(plan: HostPlan, step: HostStep, *kinds: str) -> bool:
    """Whether a step of one of the kinds comes after a step."""
    return any(later.kind in kinds for later in plan.steps[plan.steps.index(step) + 1 :])
