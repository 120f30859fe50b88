"""Rules of DRS that hold machines on their hosts: which clusters need a change, and which of our old rules are in the way.

Must not know pyVmomi.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vsphere.changes.step import VmStep
from vsphere.machine.vm import Vm
from vsphere.values import ClusterInfo, GroupInfo, Inventory

PREFIX = "gpu-partitioner-"
"""How the names of our rules and groups begin."""
_MEMBERS = "-vms"


def rule_steps(current: Inventory, vms: Sequence[Vm], known: Mapping[str, str], gone: Collection[str]) -> list[VmStep]:
    """Return a step for each cluster with DRS whose rules have to change.

    Parameters
    ----------
    current : what there is.
    vms : machines that shall be.
    known : names of those of them that are there, to vCenter's ids.
    gone : ids of machines that go.
    """
    steps = []
    for cluster in current.clusters:
        if cluster.drs is not None:
            what = (
                *_lacking(cluster, vms, known),
                *(f"drop {name}" for name in obsolete(cluster, vms, known, gone=gone, there=current.vm)),
            )
            if what:
                steps.append(VmStep("rules", cluster.name, "", None, cluster.moid, what=what))
    return steps


def obsolete(
    cluster: ClusterInfo, vms: Sequence[Vm], known: Mapping[str, str], *, gone: Collection[str], there: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Return our groups of machines that hold some who go elsewhere or go for good, each with the ids that stay in it.

    Parameters
    ----------
    cluster : what it has.
    vms : machines that shall be.
    known : names of those of them that are there, to vCenter's ids.
    gone : ids of machines that go.
    there : ids of all machines that there are.
    """
    from vsphere.machine.rules import host_rules

    wanted = {rule.vm_group for rule in host_rules(vms) if rule.cluster == cluster.name}
    leaving = {known[vm.name] for vm in vms if vm.name in known} | set(gone)
    found: dict[str, tuple[str, ...]] = {}
    for group in cluster.groups:
        if is_ours(group) and group.name not in wanted and leaving & set(group.vms):
            found[group.name] = tuple(moid for moid in group.vms if moid not in leaving and moid in there)
    return found


def is_ours(group: GroupInfo) -> bool:
    """Whether a group is one of machines that we made."""
    return group.name.startswith(PREFIX) and group.name.endswith(_MEMBERS)


def _lacking(cluster: ClusterInfo, vms: Sequence[Vm], known: Mapping[str, str]) -> list[str]:
    """Return in words which rules a cluster has not, or not so."""
    from vsphere.machine.rules import host_rules

    groups = {group.name: group for group in cluster.groups}
    rules = {rule.name: rule for rule in cluster.rules}
    lines = []
    for rule in host_rules(vms):
        if rule.cluster != cluster.name:
            continue
        group, there = groups.get(rule.vm_group), rules.get(rule.name)
        members = {known.get(name) for name in rule.vms}
        holds = group is not None and there is not None and set(group.vms) == members and rule.host_group in groups
        if not holds or there is None or (there.enabled, there.mandatory) != (True, rule.mandatory):
            count = f"{len(rule.vms):,} machine{'' if len(rule.vms) == 1 else 's'}"
            lines.append(f"{count} {'must' if rule.mandatory else 'should'} stay on {rule.host}")
    return lines
