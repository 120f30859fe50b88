"""Which steps bring hosts to what a plan asks of their GPUs. Pure; must not know how steps are carried out.

Rules, from NVIDIA's and VMware's guides: graphics types are changed with no VM on the host running, and take effect after a
restart of the driver's host engine or of the host; MIG mode needs an idle GPU that the host's driver sees, and a restart of
the host on Ampere only, where it outlives restarts; on later architectures it is switched on again after each. Passthrough may
need a restart, which is made where it turns out so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.layout import Layout
from vsphere.hosts.evacuation import busy, not_empty
from vsphere.hosts.goals import SHARED_DIRECT, Goals, GpuNeed, check_models, goal_modes, need
from vsphere.hosts.smi import HostFacts
from vsphere.hosts.step import HostChanges, HostPlan, HostStep, Kind
from vsphere.values import HostInfo, Inventory, VmInfo

Policy = Literal["consolidation", "performance"]
Evacuation = Literal["refuse", "migrate"]
Restart = Literal["services", "host"]

_GOES = "MIG mode of this architecture does not outlive a restart of the host"
_ORDER: tuple[Kind, ...] = ("policy", "default type", "graphics type", "mig", "vgpu mode", "passthrough")
"""Of what is done before a restart: settings together, and MIG mode before what depends on it."""
_API_WITH_MODES = (8, 0, 3)


@dataclass(frozen=True, slots=True)
class _How:
    """How hosts may be prepared; see `plan_host_steps`."""

    policy: Policy | None
    evacuation: Evacuation
    restart: Restart
    shell: bool
    api_modes: bool


def plan_host_steps(
    inventory: Inventory,
    goal: Layout | Goals | Any,
    *,
    policy: Policy | None = "consolidation",
    facts: Mapping[str, HostFacts] | None = None,
    entered: Collection[str] = (),
    evacuation: Evacuation = "refuse",
    restart: Restart = "services",
    shell: bool = True,
) -> HostChanges:
    """Return the steps that bring hosts to the modes that a plan has for their GPUs.

    Parameters
    ----------
    inventory : what is there.
    goal : a plan, a layout, or modes in the catalogue's names by (host, index); GPUs and hosts that are not in it are left alone.
    policy : how hosts with vGPUs shall choose a GPU for one; None leaves it as it is.
    facts : what the shells of hosts say, by host; without them MIG mode is known from API 8.0.3 on only.
    entered : ids of hosts that an earlier run put into maintenance mode; they leave it when they are done.
    evacuation : ``refuse`` hosts that must be empty and are not; ``migrate``: vCenter may move VMs without GPU devices away,
        where their cluster moves VMs by itself. Nobody's VM is ever powered off.
    restart : what makes new graphics types effective: ``services`` of the driver (needs a shell), or the ``host``.
    shell : whether steps can be done in the hosts' shells; without, they are for a person.

    Raises
    ------
    SpecError
        The plan is for another fleet.

    Notes
    -----
    Linear in GPUs and VMs. The steps of a host are those that may be needed: performing them, a restart for which nothing
    waits is left out.
    """
    check_models(goal, inventory)
    wanted: dict[str, dict[int, str]] = {}
    for (name, index), mode in goal_modes(goal).items():
        wanted.setdefault(name, {})[index] = mode
    how = _How(policy, evacuation, restart, shell, _version(inventory.api_version) >= _API_WITH_MODES)
    running: dict[str | None, list[VmInfo]] = {}
    for vm in inventory.vms:
        if vm.powered_on and not vm.template:
            running.setdefault(vm.host, []).append(vm)
    hosts = []
    for name in sorted(wanted):
        host = inventory.host[name]
        seen = (facts or {}).get(name)
        mine = host.in_maintenance and host.moid in entered
        hosts.append(_host(inventory, host, wanted[name], running.get(name, []), facts=seen, mine=mine, how=how))
    return HostChanges(inventory.vcenter, tuple(hosts))


def _host(
    inventory: Inventory,
    host: HostInfo,
    modes: Mapping[int, str],
    running: list[VmInfo],
    *,
    facts: HostFacts | None,
    mine: bool,
    how: _How,
) -> HostPlan:
    found = [need(host, index, modes[index], api_modes=how.api_modes, facts=facts, shell=how.shell) for index in sorted(modes)]
    needs = [one for one in found if isinstance(one, GpuNeed)]
    refusals = [one for one in found if isinstance(one, str)]
    pci_ids = tuple(one.gpu.pci_id for one in needs)
    if not host.connected:
        refusals.append(f"{host.name}: is not connected; wait until it is back, or reconnect it, then read the inventory again")
    work = _Work(host, needs, how, frozenset(modes), facts)
    work.fill()
    if facts is not None and not facts.vibs and any(not one.wants_passthrough for one in needs) and work:
        refusals.append(f"{host.name}: has no VIB of NVIDIA; install the host driver of NVIDIA AI Enterprise, then restart it")
    if work.empties:
        refusals += not_empty(inventory, host, running, migrate=how.evacuation == "migrate")
    else:
        refusals += busy(needs, _changed(work), inventory)
    if refusals:
        return HostPlan(host.name, host.moid, refusals=tuple(refusals), gpus=pci_ids)
    steps = list(work)
    if work.empties and not host.in_maintenance:
        steps.insert(0, HostStep("enter maintenance", host.name, reason="the host must be empty"))
    if (work.empties and not host.in_maintenance) or mine:
        why = "an earlier run put it there" if mine else "it was not in it before"
        steps.append(HostStep("exit maintenance", host.name, reason=why))
    return HostPlan(host.name, host.moid, tuple(steps), (), _notes(host, needs, mine=mine), pci_ids, how.evacuation == "migrate")


@dataclass(slots=True)
class _Work:
    """The steps of one host, as they are found."""

    host: HostInfo
    needs: list[GpuNeed]
    how: _How
    planned: frozenset[int]
    facts: HostFacts | None
    steps: list[HostStep] = field(default_factory=list)
    _restart: list[str] = field(default_factory=list)
    _types: bool = False
    _fleeting: list[GpuNeed] = field(default_factory=list)
    _switched: set[str] = field(default_factory=set)
    _begun: int = 0

    def __iter__(self) -> Iterator[HostStep]:
        return iter(self.steps)

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def empties(self) -> bool:
        """Whether the host must be empty."""
        return any(step.kind in ("graphics type", "passthrough", "restart services", "reboot") for step in self.steps)

    def fill(self) -> None:
        """Find the steps: first all that can be done now, then what a GPU can have only after a restart."""
        self._host_settings()
        late = [one for one in self.needs if self._waits_for_restart(one)]
        for one in self.needs:
            if one not in late:
                self._gpu(one)
            elif one.wants_passthrough:
                self._mig(one)
            else:
                self._passthrough(one)
        self._end_phase()
        for one in late:
            if one.wants_passthrough:
                self._passthrough(one)
            else:
                self._gpu(one, seen=False)
        self._end_phase()

    def _waits_for_restart(self, one: GpuNeed) -> bool:
        """Whether a GPU takes two rounds: the driver must see it first, or must say that MIG is off before it is hidden."""
        if one.wants_passthrough:
            return one.mig_changes and one.restarts and (one.passthrough_changes or one.passthrough_waits)
        return one.hidden

    def _host_settings(self) -> None:
        if all(one.wants_passthrough for one in self.needs):
            return
        policy, default = self.how.policy, self.host.default_graphics_type
        if policy is not None and self.host.assignment_policy != policy:
            why = "vGPUs fill a GPU before the next" if policy == "consolidation" else "vGPUs spread over the GPUs"
            self._add("policy", before=self.host.assignment_policy, after=policy, reason=why)
        if default != SHARED_DIRECT:
            self._add("default type", before=default, after=SHARED_DIRECT, reason="VMs with a vGPU do not start otherwise")

    def _gpu(self, one: GpuNeed, *, seen: bool = True) -> None:
        """Add what one GPU needs; where it was not seen yet, its settings are made sure of."""
        if one.type_changes or not seen:
            before = one.gpu.configured_type or one.gpu.graphics_type
            self._add("graphics type", one, before=before, after=SHARED_DIRECT, reason="VMs with a vGPU do not start otherwise")
            self._types = True
        elif one.type_waits:
            self._types = True
        self._mig(one)
        if self.how.api_modes and one.wish in ("sameSize", "mixedSize") and (one.gpu.vgpu_mode != one.wish or not seen):
            before = one.gpu.vgpu_mode
            self._add("vgpu mode", one, before=before, after=one.wish, reason="the plan cuts it so")
        if seen:
            self._passthrough(one)

    def _mig(self, one: GpuNeed) -> None:
        if not one.restarts and one.wants_mig:
            self._fleeting.append(one)  # a restart would end it, so that it comes after those of this round
            return
        if not one.mig_changes:
            return
        if not one.mig_waits:
            before = None if one.mig is None else _on(on=one.mig)
            why = "the plan cuts it with MIG" if one.wants_mig else "the plan does not use MIG on it"
            self._add("mig", one, before=before, after=_on(on=one.wants_mig), reason=why, by_hand=not self.how.shell)
        if one.restarts or one.mig_waits:
            self._restart.append(f"MIG mode of {one.gpu.pci_id}")

    def _passthrough(self, one: GpuNeed) -> None:
        if one.passthrough_changes:
            on = one.wants_passthrough
            why = "the plan gives the whole GPU to a VM" if on else "the plan cuts it"
            self._add("passthrough", one, before=_on(on=one.gpu.passthrough_enabled), after=_on(on=on), reason=why)
        if one.passthrough_changes or one.passthrough_waits:
            self._restart.append(f"passthrough of {one.gpu.pci_id}")

    def _end_phase(self) -> None:
        self.steps[self._begun :] = sorted(self.steps[self._begun :], key=lambda step: _ORDER.index(step.kind))
        fresh = [one for one in self._fleeting if one.mig_changes and one.gpu.pci_id not in self._switched]
        self._restart += [f"MIG mode of {one.gpu.pci_id}" for one in fresh if one.mig_waits]
        by_services = self._types and not self._restart and self.how.shell and self.how.restart == "services"
        reboots = not by_services and bool(self._restart or self._types)
        if by_services:
            self._add("restart services", reason="the graphics types take effect then")
        elif reboots:
            causes = self._restart + (["graphics types"] if self._types else [])
            self._add("reboot", reason=f"where one still waits for it: {', '.join(causes)}")
        for one in self._fleeting:
            if one in fresh:
                self._switch(one, None if one.mig is None else _on(on=one.mig), "the plan cuts it with MIG")
            elif reboots:
                self._switch(one, None, _GOES)
        if reboots:
            for one in self._bystanders():
                self._switch(one, None, f"not in the plan; {_GOES}")
        self._restart, self._types, self._begun = [], False, len(self.steps)

    def _bystanders(self) -> Iterator[GpuNeed]:
        """Iterate over GPUs that are not in the plan and would lose MIG mode with a restart."""
        for gpu in self.host.gpus:
            if gpu.index not in self.planned and gpu.model is not None and "mig" in catalog.gpu(gpu.model).modes:
                one = need(self.host, gpu.index, "mig", api_modes=self.how.api_modes, facts=self.facts, shell=self.how.shell)
                if isinstance(one, GpuNeed) and one.mig and not one.restarts and not one.hidden:
                    yield one

    def _switch(self, one: GpuNeed, before: str | None, reason: str) -> None:
        """Add that MIG mode is switched on where a restart would end it."""
        self._switched.add(one.gpu.pci_id)
        self._add("mig", one, before=before, after="on", reason=reason, by_hand=not self.how.shell)

    def _add(self, kind: Kind, one: GpuNeed | None = None, **rest: Any) -> None:
        gpu: dict[str, Any] = {} if one is None else {"gpu": one.gpu.index, "pci_id": one.gpu.pci_id, "model": one.model}
        self.steps.append(HostStep(kind, self.host.name, **gpu, **rest))


def _on(*, on: bool) -> str:
    return "on" if on else "off"


def _changed(work: _Work) -> set[str | None]:
    """Return the GPUs that must be idle, where the rest of the host goes on."""
    return {step.pci_id for step in work if step.kind in ("mig", "vgpu mode")}


def _notes(host: HostInfo, needs: Iterable[GpuNeed], *, mine: bool) -> tuple[str, ...]:
    found = []
    if host.in_maintenance and not mine:
        found.append(f"{host.name}: was put into maintenance mode by somebody else and stays in it")
    if not host.vgpu_types and any(not one.wants_passthrough and not one.hidden for one in needs):
        found.append(f"{host.name}: offers no vGPU types yet; if it offers none afterwards, check its NVIDIA VIB and driver")
    return tuple(found)


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if not all(part.isdecimal() for part in parts):
        raise SpecError(f"API version {text!r} of the inventory is no version; write e.g. 8.0.3.0")
    return tuple(int(part) for part in parts)
