"""Clusters, datastores, networks and folders out of vCenter's properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyVmomi import vim

from vsphere.inventory.collection import Properties
from vsphere.inventory.hosts import moid
from vsphere.values import ClusterInfo, DatastoreInfo, GroupInfo, NetworkInfo, RuleInfo

SITE_PROPERTIES: dict[Any, tuple[str, ...]] = {
    vim.ComputeResource: ("name", "parent", "configurationEx"),
    vim.Datastore: ("name", "summary"),
    vim.Network: ("name",),
    vim.dvs.DistributedVirtualPortgroup: ("name", "key", "config.distributedVirtualSwitch"),
    vim.DistributedVirtualSwitch: ("name", "uuid"),
    vim.Folder: ("name", "parent"),
    vim.Datacenter: ("name", "parent"),
}


def paths_of(found: Mapping[Any, Properties]) -> dict[Any, str]:
    """Return the paths of folders and datacenters, without the root folder: ``DC0/vm/gpu``."""
    paths: dict[Any, str] = {}
    for obj in found:
        if isinstance(obj, vim.Folder | vim.Datacenter):
            parts: list[str] = []
            place: Any = obj
            while place in found and len(parts) < 100:
                parts.append(str(found[place].get("name", "")))
                place = found[place].get("parent")
            paths[obj] = "/".join(reversed(parts))
    return paths


def cluster_info(obj: Any, properties: Properties) -> ClusterInfo:
    """Return a cluster."""
    config = properties.get("configurationEx")
    drs = config.drsConfig if config else None
    return ClusterInfo(
        name=str(properties.get("name") or moid(obj)),
        moid=moid(obj),
        drs=str(drs.defaultVmBehavior) if drs and drs.enabled and drs.defaultVmBehavior else None,
        groups=tuple(_group(group) for group in (config.group if config else ()) or ()),
        rules=tuple(_rule(rule) for rule in (config.rule if config else ()) or ()),
    )


def _group(group: Any) -> GroupInfo:
    hosts = tuple(moid(host) for host in getattr(group, "host", None) or ())
    return GroupInfo(name=str(group.name), hosts=hosts, vms=tuple(moid(vm) for vm in getattr(group, "vm", None) or ()))


def _rule(rule: Any) -> RuleInfo:
    off = getattr(rule, "antiAffineHostGroupName", None)
    kinds = {
        vim.cluster.VmHostRuleInfo: "vm-host",
        vim.cluster.AffinityRuleSpec: "affinity",
        vim.cluster.AntiAffinityRuleSpec: "anti-affinity",
    }
    kind = next((name for type_, name in kinds.items() if isinstance(rule, type_)), type(rule).__name__.rpartition(".")[2])
    return RuleInfo(
        name=str(rule.name or rule.key),
        key=int(rule.key or 0),
        kind=kind,
        enabled=bool(rule.enabled),
        mandatory=bool(rule.mandatory),
        vm_group=getattr(rule, "vmGroupName", None),
        host_group=getattr(rule, "affineHostGroupName", None) or off,
        hosts_excluded=bool(off),
        vms=tuple(moid(vm) for vm in getattr(rule, "vm", None) or ()),
    )


def datastore_info(obj: Any, properties: Properties) -> DatastoreInfo:
    """Return a datastore."""
    summary = properties.get("summary")
    return DatastoreInfo(
        name=str(properties["name"]),
        moid=moid(obj),
        kind=str(summary.type or "") if summary else "",
        capacity_gib=int(summary.capacity or 0) / 2**30 if summary else 0.0,
        free_gib=int(summary.freeSpace or 0) / 2**30 if summary else 0.0,
        accessible=bool(summary.accessible) if summary else False,
    )


def network_info(obj: Any, properties: Properties, found: Mapping[Any, Properties]) -> NetworkInfo:
    """Return a network or a port group."""
    switch = found.get(properties.get("config.distributedVirtualSwitch"), {})
    return NetworkInfo(
        name=str(properties["name"]),
        moid=moid(obj),
        switch_uuid=str(switch.get("uuid") or ""),
        portgroup_key=str(properties.get("key") or ""),
    )
