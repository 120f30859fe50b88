"""The way back: what leads from what there is now to what was before a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vsphere.applying.calls import Wish
from vsphere.changes import VmChanges, VmStep
from vsphere.changes.case import Case
from vsphere.changes.difference import sequence
from vsphere.changes.packing import is_ours
from vsphere.changes.settings import differences, found
from vsphere.values import ClusterInfo, Inventory, VmInfo


@dataclass(frozen=True, slots=True)
class WayBack:
    """Steps back.

    Parameters
    ----------
    steps : what to do.
    wishes : what machines shall be again, by name.
    clusters : clusters whose rules shall be again as they were, by vCenter's id.
    lost : machines that are not there any more and cannot be brought back, one line each.
    """

    steps: tuple[VmStep, ...]
    wishes: Mapping[str, Wish]
    clusters: Mapping[str, ClusterInfo]
    lost: tuple[str, ...]


def way_back(changes: VmChanges, now: Inventory) -> WayBack:
    """Return what brings machines back to what they were before changes; machines that changes made are destroyed.

    Only machines that carry our mark are touched.
    """
    made = {(step.uuid, step.name) for step in changes.steps if step.kind == "create"}
    was = {info.moid for info in changes.base}
    plans = {vm.plan for vm in changes.goal}
    doomed: list[VmInfo] = []
    for info, mark in now.ours():
        known = any(info.instance_uuid == uuid or info.name == name for uuid, name in made)
        if known and info.moid not in was and mark.plan in plans:
            doomed.append(info)
    cases, lost = [], []
    for before in changes.base:
        current = now.vm.get(before.moid)
        if current is None or current.mark is None:
            lost.append(f"VM {before.name!r} ({before.moid}) is not there any more")
            continue
        cases.append(_case(current, before))
    steps = sequence(now, (), cases, doomed)
    clusters = {cluster.moid: cluster for cluster in changes.clusters}
    if clusters:
        steps = _with_rules(steps, now, clusters)
    wishes = {case.settings.name: Wish(case.settings) for case in cases}
    return WayBack(tuple(step for step in steps if step.kind != "keep"), wishes, clusters, tuple(lost))


def _case(info: VmInfo, before: VmInfo) -> Case:
    goal, mark = found(before), before.mark
    replicas = () if mark is None else tuple(dict.fromkeys([mark.replica, *(place.replica for place in mark.places)]))
    changed = differences(found(info), goal)
    return Case(info, goal, before.powered_on, changed, "", "" if mark is None else mark.workload, replicas)


def _with_rules(steps: tuple[VmStep, ...], now: Inventory, clusters: Mapping[str, ClusterInfo]) -> tuple[VmStep, ...]:
    """Put the rules back before machines move and are switched on."""
    rules = []
    for cluster in now.clusters:
        before = clusters.get(cluster.moid)
        if before is not None and _groups(before, now) != _groups(cluster, now):
            rules.append(VmStep("rules", cluster.name, moid=cluster.moid, what=("as they were",)))
    late = ("move", "reconfigure", "power on", "destroy", "keep")
    at = next((number for number, step in enumerate(steps) if step.kind in late), len(steps))
    return (*steps[:at], *rules, *steps[at:])


def _groups(cluster: ClusterInfo, now: Inventory) -> dict[str, frozenset[str]]:
    """Return our groups with their members; machines that are not there any more cannot be in one."""
    return {group.name: frozenset(moid for moid in group.vms if moid in now.vm) for group in cluster.groups if is_ours(group)}
