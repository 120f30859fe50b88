"""Rules of DRS that keep each machine on the host that the plan chose. Pure: values, and the specification of a change.

Without them DRS moves machines by CPU and memory, and the packing of the GPUs is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyVmomi import vim

from partitioner.errors import SpecError
from vsphere.machine.vm import Vm
from vsphere.values import ClusterInfo

_PREFIX = "gpu-partitioner"


@dataclass(frozen=True, slots=True)
class HostRule:
    """Machines of one plan and cluster that stay on one host.

    Parameters
    ----------
    plan : id of the plan: rules and groups of machines bear it, so that plans do not touch each other's.
    cluster, host : names.
    mandatory : whether DRS may never break it; else it should not.
    vms : names of the machines, sorted.
    """

    plan: str
    cluster: str
    host: str
    mandatory: bool
    vms: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the rule; groups are named after it."""
        return f"{_PREFIX}-{self.plan}-{'must' if self.mandatory else 'should'}-{self.host}"

    @property
    def vm_group(self) -> str:
        """Name of the group of its machines."""
        return f"{self.name}-vms"

    @property
    def host_group(self) -> str:
        """Name of the group of its host."""
        return f"{_PREFIX}-host-{self.host}"


def host_rules(vms: Iterable[Vm]) -> tuple[HostRule, ...]:
    """Return the rules that machines want: one for each plan, host and strictness, in order of appearance.

    Machines without a cluster (their host stands alone, DRS does not move them), without a host or with ``rule: none`` have none.
    """
    found: dict[tuple[str, str, str, bool], list[str]] = {}
    for vm in vms:
        if vm.cluster is not None and vm.host is not None and vm.rule != "none":
            found.setdefault((vm.plan, vm.cluster, vm.host, vm.rule == "mandatory"), []).append(vm.name)
    return tuple(HostRule(*key, tuple(sorted(names))) for key, names in found.items())


def to_rules_spec(
    rules: Iterable[HostRule], cluster: ClusterInfo, *, vms: Mapping[str, str], hosts: Mapping[str, str]
) -> vim.cluster.ConfigSpecEx | None:
    """Return the change that gives a cluster these rules, or None where it has them.

    Parameters
    ----------
    rules : of this cluster; rules of others are left out.
    cluster : what it has now: groups and rules of these names are changed, others are not touched.
    vms, hosts : names to vCenter's ids.

    Raises
    ------
    SpecError
        A machine or host has no id, or a name is taken by a rule that is none of ours.
    """
    groups = {group.name: group for group in cluster.groups}
    known = {rule.name: rule for rule in cluster.rules}
    spec = vim.cluster.ConfigSpecEx()
    added: set[str] = set()
    for rule in rules:
        if rule.cluster != cluster.name:
            continue
        members = [_id(name, vms, f"rule {rule.name!r}: VM") for name in rule.vms]
        host = _id(rule.host, hosts, f"rule {rule.name!r}: host")
        old = groups.get(rule.vm_group)
        if old is None or sorted(old.vms) != sorted(members):
            refs = [vim.VirtualMachine(moid) for moid in members]
            group = vim.cluster.VmGroup(name=rule.vm_group, userCreated=True, vm=refs)
            spec.groupSpec.append(vim.cluster.GroupSpec(operation="add" if old is None else "edit", info=group))
        old = groups.get(rule.host_group)
        if rule.host_group not in added and (old is None or old.hosts != (host,)):
            one = vim.cluster.HostGroup(name=rule.host_group, userCreated=True, host=[vim.HostSystem(host)])
            spec.groupSpec.append(vim.cluster.GroupSpec(operation="add" if old is None else "edit", info=one))
            added.add(rule.host_group)
        _add_rule(spec, rule, known)
    return spec if spec.groupSpec or spec.rulesSpec else None


def _add_rule(spec: vim.cluster.ConfigSpecEx, rule: HostRule, known: Mapping[str, object]) -> None:
    from vsphere.values import RuleInfo

    info = vim.cluster.VmHostRuleInfo(
        name=rule.name,
        enabled=True,
        mandatory=rule.mandatory,
        userCreated=True,
        vmGroupName=rule.vm_group,
        affineHostGroupName=rule.host_group,
    )
    old = known.get(rule.name)
    if not isinstance(old, RuleInfo):
        spec.rulesSpec.append(vim.cluster.RuleSpec(operation="add", info=info))
        return
    if old.kind != "vm-host":
        raise SpecError(f"rule {rule.name!r} of the cluster is of kind {old.kind!r}, not between machines and hosts; rename it")
    wanted = (True, rule.mandatory, rule.vm_group, rule.host_group, False)
    if (old.enabled, old.mandatory, old.vm_group, old.host_group, old.hosts_excluded) != wanted:
        info.key = old.key
        spec.rulesSpec.append(vim.cluster.RuleSpec(operation="edit", info=info))


def _id(name: str, ids: Mapping[str, str], what: str) -> str:
    if name not in ids:
        raise SpecError(f"{what} {name!r} is not in the inventory; make it first, or read the inventory again")
    return ids[name]
