"""A vCenter as a target of changes: read at once, changed one step at a time, each step finished when repeated.

vSphere makes GPU instances when a machine is switched on, so that creating and destroying them only checks and notes; a replica
starts, moves and is drained by its virtual machine. Machines of others are never touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from partitioner.changes.step import Place as At
from partitioner.changes.step import Step
from partitioner.errors import TargetError
from partitioner.fleet import Fleet
from partitioner.layout import Assignment, GpuLayout, Layout, Slot, gpu_label
from partitioner.targets import Instance, Occupant, StateFolder
from partitioner.workload import Workload
from vsphere import inventory as inventories
from vsphere.applying.calls import Calls, Wish
from vsphere.applying.carrying import carry
from vsphere.applying.sites import Sites
from vsphere.changes import VmChanges
from vsphere.changes.difference import remaining, sequence
from vsphere.changes.settings import wanted
from vsphere.credentials import Credentials
from vsphere.machine.defaults import VmDefaults
from vsphere.machine.layout import layout_vms
from vsphere.machine.vm import Vm
from vsphere.planned import entry_of, planned_layout
from vsphere.session import Session
from vsphere.values import Inventory, Place, VmInfo

if TYPE_CHECKING:
    from partitioner.plans import Plan

ENGINE_PLAN = "layout"
"""Id of the plan in the marks of machines that the engine of changes makes, where the defaults name none."""


def default_state(host: str) -> StateFolder:
    """Return the folder of a vCenter for root, else of the user (XDG base directories)."""
    name = "".join(character if character.isalnum() or character in ".-" else "_" for character in host)
    if os.geteuid() == 0:
        return StateFolder(Path("/var/lib/gpu-partitioner/vsphere") / name)
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return StateFolder(Path(home) / "gpu-partitioner" / "vsphere" / name)


def connect(
    host: str,
    *,
    user: str,
    password_env: str | None = None,
    password_file: str | os.PathLike[str] | None = None,
    keyring: str | None = None,
    port: int = 443,
    ca_file: str | os.PathLike[str] | None = None,
    thumbprint: str | None = None,
    timeout_s: float = 60.0,
    defaults: VmDefaults | None = None,
    workloads: Iterable[Workload] = (),
    state: StateFolder | None = None,
) -> VSphereTarget:
    """Connect to a vCenter; close it, or use it in ``with``.

    Parameters
    ----------
    host, port : the vCenter.
    user : the account.
    password_env, password_file, keyring : where its password stands, exactly one of them: an environment variable, a file, a
        service of the system's keyring.
    ca_file : PEM file of the authorities to trust instead of the system's.
    thumbprint : SHA-256 of its certificate; that one alone is accepted then.
    timeout_s : longest wait for an answer [s].
    defaults : what machines are like that `gp.apply` makes; None takes `VmDefaults()`.
    workloads : whose machines have vCPUs and memory of their own in `gp.apply`.
    state : where lock, journal and ledger are kept; None takes the folder of the system or of the user for this vCenter.

    Raises
    ------
    SpecError
        A parameter cannot be used, or there is no password.
    VSphereError
        It cannot be reached, its certificate is not trusted, or the account is not accepted.

    Examples
    --------
    ``with vsphere.connect("vc.lab", user="svc-gpu", password_env="VC_PASSWORD") as target: print(target.layout())``
    """
    credentials = Credentials.of(user, password_env=password_env, password_file=password_file, keyring=keyring)
    session = Session.open(host, credentials, port=port, ca_file=ca_file, thumbprint=thumbprint, timeout_s=timeout_s)
    folder = default_state(session.who) if state is None else state
    return VSphereTarget(session, defaults=defaults, workloads=workloads, state=folder)


class VSphereTarget:
    """The GPUs of a vCenter, and the machines of ours on them; `connect` makes one.

    Parameters
    ----------
    session : the login; closed with the target.
    defaults, workloads : as of `connect`.
    state : where lock, journal and ledger are kept; None keeps none.
    guestinfo : what each new machine's guest reads, by its `Vm`; kept out of files, since it may hold secrets.
    """

    def __init__(
        self,
        session: Session,
        *,
        defaults: VmDefaults | None = None,
        workloads: Iterable[Workload] = (),
        state: StateFolder | None = None,
        guestinfo: Callable[[Vm], Mapping[str, str]] | None = None,
    ) -> None:
        self.session, self.state, self.guestinfo = session, state, guestinfo
        given = defaults or VmDefaults()
        self.defaults = replace(given, plan=given.plan or ENGINE_PLAN, per_vm=1, rule="none")
        self.workloads = {workload.name: workload for workload in workloads}
        self._created: dict[Instance, Occupant | None] = {}

    def __str__(self) -> str:
        return f"vSphere on {self.session.who}"

    def __repr__(self) -> str:
        return f"<VSphereTarget on {self.session.who}>"

    def __enter__(self) -> VSphereTarget:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Log out."""
        self.session.close()

    # -- reading ---------------------------------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        """Return what there is now, in one bulk read.

        Raises
        ------
        VSphereError
            vCenter does not answer, or refuses.
        """
        return inventories.read(self.session)

    def fleet(self) -> Fleet:
        """Return the hosts that can take machines now, with their GPUs; machines of others are occupied space.

        Raises
        ------
        SpecError
            There is no such host.
        VSphereError
            vCenter does not answer, or refuses.
        """
        return self.inventory().fleet()

    def layout(self) -> Layout:
        """Return what is on each GPU of `fleet`: our machines where they were planned, see `vsphere.planned`.

        Raises
        ------
        TargetError
            vCenter does not answer, or the ledger is damaged.
        """
        return planned_layout(self.inventory(), self._ledger())

    # -- doing -----------------------------------------------------------------------------------------------------------

    def perform(self, step: Step) -> None:
        """Carry one step out; it is done when this returns, and finished where it was begun before.

        Raises
        ------
        TargetError
            The step is for another host or GPU, is not legal now, needs a host to be prepared, or vCenter refused.
        """
        if step.kind == "keep":
            return
        inventory = self.inventory()
        gpu = self._look(step, inventory)
        match step.kind:
            case "mode":
                pass  # `_look` checked that the mode is there
            case "create":
                self._note(step, gpu)
            case "destroy":
                self._forget(step, gpu)
            case "start":
                self._check_free(step, gpu)
                self._settle(step, inventory, add=_place(step))
            case "drain":
                self._settle(step, inventory, drop=step.place)
            case "move":
                self._check_free(step, gpu)
                self._settle(step, inventory, add=_place(step), drop=step.source)

    def _look(self, step: Step, inventory: Inventory) -> GpuLayout:
        host = inventory.host.get(step.host or "")
        if host is None:
            known = ", ".join(sorted(inventory.host)[:8]) or "none"
            raise TargetError(f"{step.label}: host {step.host!r} is not in {self.session.who}; hosts are {known}")
        if not host.usable:
            state = "in maintenance mode" if host.connected else "disconnected"
            raise TargetError(f"{step.label}: host {host.name} is {state}; bring it back and run it again")
        if step.gpu >= len(host.gpus) or host.gpus[step.gpu].model != step.model:
            found = host.gpus[step.gpu].model if step.gpu < len(host.gpus) else "not there"
            raise TargetError(f"{step.label}: is {found}; the step was made for {step.model}; diff again")
        family = host.gpus[step.gpu].mode
        if family is None or not (step.mode == family or step.mode.startswith(f"{family}-")):
            raise TargetError(
                f"{step.label} ({step.model}): is in mode {family or 'unset'}, not {step.mode}; vSphere cannot change that "
                "by a step: prepare the host first (partitioner vsphere prepare-hosts), or plan with the modes that are there"
            )
        layout = planned_layout(inventory, self._ledger())
        return layout.gpu(layout.rows[step.host, step.gpu])

    def _note(self, step: Step, gpu: GpuLayout) -> None:
        """Note an instance that vSphere will make when its machine is switched on."""
        assert step.profile is not None
        assert step.start is not None
        if not any((slot.profile, slot.start) == (step.profile, step.start) for slot in gpu.slots):
            self._put(Instance(entry_of(gpu), step.profile, step.start))

    def _put(self, instance: Instance) -> None:
        self._write({instance: None})

    def _write(self, entries: Mapping[Instance, Occupant | None]) -> None:
        if self.state is None:
            self._created.update(entries)
        else:
            self.state.assignments.update(entries)

    def _check_free(self, step: Step, gpu: GpuLayout) -> None:
        """Refuse a place that is not noted as made by a step and is there all the same: a machine of others holds it."""
        slot = next((slot for slot in gpu.slots if (slot.profile, slot.start) == (step.profile, step.start)), None)
        if slot is None:
            raise TargetError(f"{step.place}: is not there; create it first")
        if slot.workload is None and Instance(entry_of(gpu), slot.profile, slot.start) not in self._ledger():
            raise TargetError(
                f"{step.place}: is held by a machine that is not ours; {step.who} cannot go there, use vsphere.diff"
            )

    def _forget(self, step: Step, gpu: GpuLayout) -> None:
        held = next((slot for slot in gpu.slots if (slot.profile, slot.start) == (step.profile, step.start)), None)
        if held is not None and held.workload is not None:
            raise TargetError(f"{step.place}: is held by {held.workload}/{held.replica}; drain it first")
        instance = Instance(entry_of(gpu), step.profile or "", step.start or 0)
        if self.state is None:
            self._created.pop(instance, None)
        else:
            self.state.assignments.update({}, drop=[instance])

    def _ledger(self) -> Mapping[Instance, Occupant | None]:
        return self._created if self.state is None else self.state.assignments.read()

    def _settle(self, step: Step, inventory: Inventory, *, add: Place | None = None, drop: At | None = None) -> None:
        """Bring the machine of a replica to where a step has the replica: made, changed and switched on, or switched off."""
        info = self._machine(step, inventory)
        noted = [i for i, occupant in self._ledger().items() if occupant == (step.workload, step.replica)]
        places = self._places(info, noted)
        held = {Instance(gpu_label(host, place.gpu), place.profile, place.start): place for host, place in places}
        if info is not None and info.powered_on:  # it counts as there while it is off to be changed, also after a kill
            now = {instance: Occupant(place.workload, place.replica) for instance, place in held.items()}
            self._write({**dict.fromkeys(noted), **now})
        if drop is not None:
            places = [(host, place) for host, place in places if At(host, place.gpu, place.profile, place.start) != drop]
        if add is not None:
            places = [entry for entry in places if entry != (step.host, add)] + [(step.host, add)]
        hosts = {host for host, _ in places}
        if len(hosts) > 1:
            raise TargetError(
                f"{step.who}: would be on {' and '.join(sorted(map(str, hosts)))} at the same time; a machine is on one "
                "host: move replicas that take several GPUs with vsphere.diff"
            )
        if places:
            vm = self._vm(step, str(hosts.pop()), [place for _, place in places], inventory)
            area = {vm.host, None if info is None else info.host} - {None}
            self._carry(
                inventory, remaining(inventory, VmChanges(inventory.vcenter, (), (vm,), (), tuple(sorted(map(str, area)))))
            )
        elif info is not None and info.powered_on:
            self._switch_off(inventory, info)
        self._write(dict.fromkeys(held))  # instances stay until steps destroy them

    def _places(self, info: VmInfo | None, noted: Iterable[Instance]) -> list[tuple[str | None, Place]]:
        """Return where a replica is: what its machine runs on, or ran on before a step that was not finished."""
        if info is None or info.mark is None:
            return []
        if info.powered_on:
            return [(info.host, place) for place in info.mark.places]
        mark = info.mark
        found: list[tuple[str | None, Place]] = []
        for instance in noted:
            host, _, gpu = instance.gpu.rpartition("/gpu")
            mode = mark.places[0].mode if mark.places else "mig"
            found.append((host, Place(mark.workload, mark.replica, int(gpu), mode, instance.profile, instance.start)))
        return found

    def _machine(self, step: Step, inventory: Inventory) -> VmInfo | None:
        """Return the machine of a replica, the running one where there are several."""
        found = [info for info, mark in inventory.ours() if (mark.workload, mark.replica) == (step.workload, step.replica)]
        own = [info for info in found if info.mark is not None and info.mark.plan == self.defaults.plan] or found
        return min(own, key=lambda info: (not info.powered_on, info.moid), default=None)

    def _vm(self, step: Step, host: str, places: list[Place], inventory: Inventory) -> Vm:
        gpus: dict[int, list[Place]] = {}
        for place in places:
            gpus.setdefault(place.gpu, []).append(place)
        models = {gpu.index: gpu.model or "" for gpu in inventory.host[host].gpus}
        layout = Layout.of(
            GpuLayout(
                host, gpu, models[gpu], on[0].mode, tuple(Slot(p.profile, p.start, p.workload, p.replica) for p in _sorted(on))
            )
            for gpu, on in sorted(gpus.items())
        )
        workload = self.workloads.get(step.workload or "") or Workload(name=step.workload or "", profile=places[0].profile)
        plan = cast("Plan", _Part(layout, (workload,)))
        vm = layout_vms(plan, self.defaults, hosts=inventory)[0]
        return replace(vm, power_on=True)

    def _switch_off(self, inventory: Inventory, info: VmInfo) -> None:
        steps = tuple(step for step in sequence(inventory, (), (), [info]) if step.kind == "power off")
        self._carry(inventory, VmChanges(inventory.vcenter, (info,), (), steps))

    def _carry(self, inventory: Inventory, changes: VmChanges) -> None:
        wishes = {vm.name: Wish(wanted(vm), vm) for vm in changes.goal}
        known = {step.name: step.moid for step in changes.steps if step.moid is not None}
        calls = Calls(Sites(self.session, inventory), dict(inventory.vm), wishes, changes.goal, self.guestinfo, known)
        calls.describe(changes.steps)
        carried = carry(self.session, changes.steps, calls, self.inventory)
        if carried.failed:
            raise carried.failed[0][1]


@dataclass(frozen=True, slots=True)
class _Part:
    """As much of a plan as `layout_vms` looks at."""

    layout: Layout
    workloads: tuple[Workload, ...]

    def assignments(self) -> Iterable[Assignment]:
        """Return who is where."""
        return self.layout.assignments()


def _place(step: Step) -> Place:
    if step.workload is None or step.replica is None or step.profile is None or step.start is None:
        raise TargetError(f"{step.label}: {step.kind} names no replica or no instance")
    return Place(step.workload, step.replica, step.gpu, step.mode, step.profile, step.start)


def _sorted(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda place: place.start)
