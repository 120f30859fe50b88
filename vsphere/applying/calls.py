"""What each step asks of vCenter: one call, one task. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyVmomi import vim

from partitioner.errors import DriftError, TargetError
from vsphere.applying.privileges import privileges_for
from vsphere.applying.sites import Sites
from vsphere.applying.specs import reconfigure_spec, restored_rules_spec, rules_spec
from vsphere.changes import VmStep
from vsphere.changes.settings import Settings, differences, found
from vsphere.machine.spec import to_config_spec
from vsphere.machine.vm import Vm
from vsphere.machine.words import annotation
from vsphere.negotiation import needs_of
from vsphere.values import ClusterInfo, Inventory, VmInfo


@dataclass(frozen=True, slots=True)
class Wish:
    """What one machine shall be: its settings, and what it is made from where it is not there."""

    settings: Settings
    vm: Vm | None = None


@dataclass(slots=True)
class Calls:
    """Starts the tasks of steps.

    Parameters
    ----------
    sites : where machines are put.
    infos : machines that are there, by vCenter's id.
    wishes : what machines shall be, by name.
    goal : all machines that shall be, for the rules of clusters.
    guestinfo : what each new machine's guest reads; may hold secrets.
    moids : names of machines to vCenter's ids; grows as machines are made.
    gone : ids of machines that go.
    restored : clusters as they shall be again, by vCenter's id; None where the rules are those of the goal.
    """

    sites: Sites
    infos: dict[str, VmInfo]
    wishes: Mapping[str, Wish]
    goal: Sequence[Vm]
    guestinfo: Callable[[Vm], Mapping[str, str]] | None
    moids: dict[str, str]
    gone: tuple[str, ...] = ()
    restored: Mapping[str, ClusterInfo] | None = None
    described: dict[str, Any] = field(default_factory=dict)

    def describe(self, steps: Sequence[VmStep]) -> None:
        """Describe all machines that are to be made or changed, so that what cannot be is found before anything is done.

        Raises
        ------
        SpecError
            One cannot be described.
        VersionError
            A description needs a newer API than was negotiated.
        PrivilegeError
            The account lacks privileges; lists all.
        """
        made = []
        for step in steps:
            if step.kind == "create":
                vm = self.wishes[step.name].vm
                assert vm is not None
                made.append(vm)
                self.described[step.name] = self.specification(vm)
            elif step.kind == "reconfigure":
                self.described[step.name] = self.change(step)
        needs = dict.fromkeys(needs_of(list(self.described.values())))  # the same ones again and again
        self.sites.session.check_version(*needs)
        self.sites.check(made)
        self.sites.session.check_privileges(privileges_for(list(steps), self.sites, made))

    def refresh(self, steps: Iterable[VmStep], now: Inventory) -> None:
        """Take over what machines are now, before they are changed: switching off and moving gave them a new version.

        Raises
        ------
        DriftError
            One is no longer what it was when this run began.
        """
        lines = []
        for step in steps:
            before, info = self.infos[step.moid or ""], now.vm.get(step.moid or "")
            if info is None:
                lines.append(f"VM {step.name!r} ({step.moid}) is not there any more")
                continue
            lines += [f"VM {step.name!r}: {change}" for change in differences(found(before), found(info))]
            self.infos[info.moid] = info
            self.described[step.name] = self.change(step)
        if lines:
            raise DriftError(f"{now.vcenter}: machines were changed by somebody else meanwhile", lines)

    def begin(self, step: VmStep) -> Any:
        """Start the task of a step and return it; None where there is nothing to do.

        Raises
        ------
        PartitionerError, vmodl.MethodFault
            It cannot be described, or vCenter refuses.
        """
        match step.kind:
            case "create":
                return self._create(step)
            case "reconfigure":
                return self._reconfigure(step)
            case "move":
                return self._move(step)
            case "rules":
                return self._rules(step)
            case "power on":
                return self._machine(step).PowerOnVM_Task(None)
            case "power off":
                return self._machine(step).PowerOffVM_Task()
            case "destroy":
                return self._machine(step).Destroy_Task()
            case _:
                return None

    def specification(self, vm: Vm) -> Any:
        """Return the specification of a machine that is to be made."""
        inventory = self.sites.inventory
        guestinfo = self.guestinfo(vm) if self.guestinfo is not None else {}
        host = inventory.host.get(vm.host) if vm.host is not None else None
        return to_config_spec(vm, host, networks=inventory.networks, guestinfo=guestinfo)

    def change(self, step: VmStep) -> Any:
        """Return the specification of a change."""
        info = self.infos[step.moid or ""]
        wish = self.wishes[step.name]
        host = self.sites.host_info(step.host)
        return reconfigure_spec(info, wish.settings, host, notes=annotation(wish.vm) if wish.vm is not None else None)

    def _create(self, step: VmStep) -> Any:
        vm = self.wishes[step.name].vm
        assert vm is not None
        spec, sites = self.described[step.name], self.sites
        if vm.template is None:
            return sites.folder(vm).CreateVM_Task(spec, sites.pool(vm), sites.host(vm.host))
        location = vim.vm.RelocateSpec(pool=sites.pool(vm), host=sites.host(vm.host))
        if vm.datastore is not None:
            location.datastore = sites.datastore(vm.datastore)
        spec.files = None  # a clone's files go where the location says
        clone = vim.vm.CloneSpec(location=location, config=spec, powerOn=False, template=False)
        return sites.template(vm).CloneVM_Task(sites.folder(vm), vm.name, clone)

    def _reconfigure(self, step: VmStep) -> Any:
        return self._machine(step).ReconfigVM_Task(self.described[step.name])

    def _move(self, step: VmStep) -> Any:
        vm = next((wish.vm for name, wish in self.wishes.items() if self.moids.get(name) == step.moid), None)
        location = vim.vm.RelocateSpec(host=self.sites.host(step.host))
        info = self.sites.host_info(step.host)
        old = self.sites.host_info(step.source)
        if info is not None and old is not None and info.cluster_moid != old.cluster_moid and info.cluster_moid:
            location.pool = self.sites.pool_of(info.cluster_moid)
            if vm is not None and vm.datastore is not None:
                location.datastore = self.sites.datastore(vm.datastore)
        return self._machine(step).RelocateVM_Task(location, None)

    def has_rules(self, step: VmStep) -> bool:
        """Whether a step changes rules of a cluster; machines made meanwhile may leave nothing to do."""
        return self.rules(step) is not None

    def rules(self, step: VmStep) -> Any:
        """Return the change of a cluster's rules."""
        inventory = self.sites.inventory
        cluster = next(cluster for cluster in inventory.clusters if cluster.moid == step.moid)
        if self.restored is not None:
            return restored_rules_spec(cluster, self.restored[cluster.moid], inventory)
        return rules_spec(cluster, self.goal, known=self.moids, gone=self.gone, inventory=inventory)

    def _rules(self, step: VmStep) -> Any:
        spec = self.rules(step)
        return None if spec is None else self.sites.cluster(step.moid or "").ReconfigureComputeResource_Task(spec, modify=True)

    def _machine(self, step: VmStep) -> Any:
        moid = step.moid or self.moids.get(step.name)
        if moid is None:
            raise TargetError(f"VM {step.name!r}: is not there, so it cannot be done: {step.kind}")
        return self.sites.machine(moid)
