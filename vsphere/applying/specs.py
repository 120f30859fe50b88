"""Specifications of changes to a machine that is there: pure, everything in one. Talks to nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pyVmomi import vim

from partitioner.errors import SpecError
from vsphere.changes.packing import PREFIX, is_ours, obsolete
from vsphere.changes.settings import DeviceSetting, Settings, changed_options, found
from vsphere.machine.rules import host_rules, to_rules_spec
from vsphere.machine.vm import Vm
from vsphere.values import ClusterInfo, HostInfo, Inventory, VmInfo

_FIRST_KEY = -500
_Passthrough: Any = vim.vm.device.VirtualPCIPassthrough
_DeviceSpec: Any = vim.vm.device.VirtualDeviceSpec


def reconfigure_spec(info: VmInfo, goal: Settings, host: HostInfo | None, *, notes: str | None = None) -> Any:
    """Return the specification with which one `ReconfigVM_Task` gives a machine other settings.

    Parameters
    ----------
    info : what it is; its `change_version` goes along, so that vCenter refuses where somebody else changed it meanwhile.
    goal : what it shall be; the host apart.
    host : the host that it is on then; devices by address need it.
    notes : its notes; None leaves them.

    Raises
    ------
    SpecError
        A device is to be added that cannot be described.
    """
    now = found(info)
    spec: Any = vim.vm.ConfigSpec(changeVersion=info.change_version or None)
    if now.name != goal.name:
        spec.name = goal.name
    if now.vcpus != goal.vcpus:
        spec.numCPUs = goal.vcpus
    if goal.cores_per_socket is not None and now.cores_per_socket != goal.cores_per_socket:
        spec.numCoresPerSocket = goal.cores_per_socket
    if now.ram_mib != goal.ram_mib:
        spec.memoryMB = goal.ram_mib
    if now.ram_mib != goal.ram_mib or now.memory_locked != goal.memory_locked:
        spec.memoryReservationLockedToMax = goal.memory_locked
        if goal.memory_locked:
            spec.memoryAllocation = vim.ResourceAllocationInfo(reservation=goal.ram_mib)
    if now.firmware != goal.firmware:
        spec.firmware = goal.firmware
    if now.latency != goal.latency:
        spec.latencySensitivity = vim.LatencySensitivity(level=goal.latency)
    if notes is not None and notes != info.annotation:
        spec.annotation = notes
    spec.extraConfig = [vim.option.OptionValue(key=key, value=value) for key, _, value in changed_options(now, goal)]
    spec.deviceChange = _device_changes(info, now, goal, host)
    return spec


def _device_changes(info: VmInfo, now: Settings, goal: Settings, host: HostInfo | None) -> list[Any]:
    """Return devices to take away and to add.

    A machine with plugin parameters gets all of its devices anew, in order: parameters go by the number of the device.
    """
    if Counter(now.devices) == Counter(goal.devices):
        return []
    numbered = any(".cfg." in key for key, _ in (*now.options, *goal.options))
    kept = Counter[DeviceSetting]() if numbered else Counter(now.devices) & Counter(goal.devices)
    own = [device for device in info.devices if device.kind != "sriov"]
    changes = []
    for device, setting in zip(own, now.devices, strict=True):
        if kept[setting]:
            kept[setting] -= 1
        else:
            gone = _Passthrough(key=device.key, backing=_backing(setting, host, info.name))
            changes.append(_DeviceSpec(operation="remove", device=gone))
    kept = Counter[DeviceSetting]() if numbered else Counter(now.devices) & Counter(goal.devices)
    for number, setting in enumerate(goal.devices):
        if kept[setting]:
            kept[setting] -= 1
        else:
            device = _Passthrough(key=_FIRST_KEY - number, backing=_backing(setting, host, info.name))
            if setting.numa_node >= 0:
                device.numaNode = setting.numa_node
            changes.append(_DeviceSpec(operation="add", device=device))
    return changes


def _backing(setting: DeviceSetting, host: HostInfo | None, who: str) -> Any:
    if setting.kind == "vgpu":
        return _Passthrough.VmiopBackingInfo(vgpu=setting.vgpu)
    if setting.kind == "dynamic":
        pairs = [(int(vendor, 16), int(product, 16)) for vendor, product in (text.split(":") for text in setting.allowed)]
        allowed = [_Passthrough.AllowedDevice(vendorId=vendor, deviceId=product) for vendor, product in pairs]
        backing = _Passthrough.DynamicBackingInfo(deviceName="", allowedDevice=allowed)
        if setting.label:
            backing.customLabel = setting.label
        return backing
    if setting.kind == "dvx":
        return _Passthrough.DvxBackingInfo(deviceClass=setting.allowed[0])
    devices = (
        {} if host is None else {gpu.pci_id: gpu.device_id for gpu in host.gpus} | {n.pci_id: n.device_id for n in host.nics}
    )
    vendor, _, product = devices.get(setting.pci_id, "").partition(":")
    if host is None or not product:
        where = "its host is not known" if host is None else f"host {host.name!r} does not say what it is"
        raise SpecError(f"VM {who!r}: device {setting.pci_id} is given by address, and {where}; read the inventory again")
    number = int(vendor, 16)
    return _Passthrough.DeviceBackingInfo(
        deviceName="",
        id=setting.pci_id,
        deviceId=product,
        systemId=host.system_id,
        vendorId=number - 0x10000 if number >= 0x8000 else number,  # a signed 16-bit number in the API
    )


def rules_spec(
    cluster: ClusterInfo, vms: Sequence[Vm], *, known: Mapping[str, str], gone: Sequence[str], inventory: Inventory
) -> vim.cluster.ConfigSpecEx | None:
    """Return the change of a cluster's groups and rules that holds machines on their hosts; None where nothing is to do.

    Parameters
    ----------
    cluster : what it has.
    vms : machines that shall be.
    known : their names to vCenter's ids.
    gone : ids of machines that go.
    inventory : what there was when this run began.
    """
    there = [vm for vm in vms if vm.name in known]
    hosts = {host.name: host.moid for host in inventory.hosts}
    spec = to_rules_spec(host_rules(there), cluster, vms=known, hosts=hosts) or vim.cluster.ConfigSpecEx()
    kept = {rule.name: rule.host_group for rule in cluster.rules} | {r.name: r.host_group for r in host_rules(there)}
    hosts_left = []
    for name, stay in obsolete(cluster, there, known, gone=gone, there=inventory.vm).items():
        if stay:
            members = [vim.VirtualMachine(moid) for moid in stay]
            group = vim.cluster.VmGroup(name=name, userCreated=True, vm=members)
            spec.groupSpec.append(vim.cluster.GroupSpec(operation="edit", info=group))
            continue
        for rule in cluster.rules:
            if rule.vm_group == name:
                hosts_left.append(kept.pop(rule.name))
                spec.rulesSpec.append(vim.cluster.RuleSpec(operation="remove", removeKey=rule.key))
        spec.groupSpec.append(vim.cluster.GroupSpec(operation="remove", removeKey=name))
    groups = {group.name for group in cluster.groups if group.name.startswith(PREFIX)}
    for host_group in dict.fromkeys(hosts_left):
        if host_group in groups and host_group not in kept.values():
            spec.groupSpec.append(vim.cluster.GroupSpec(operation="remove", removeKey=host_group))
    return spec if spec.groupSpec or spec.rulesSpec else None


def restored_rules_spec(now: ClusterInfo, before: ClusterInfo, inventory: Inventory) -> vim.cluster.ConfigSpecEx | None:
    """Return the change that gives a cluster the rules of ours back that it had; None where nothing is to do.

    Parameters
    ----------
    now, before : what it has and had.
    inventory : what there is; machines that are not there any more cannot be in a group.
    """
    spec = vim.cluster.ConfigSpecEx()
    there = {group.name: group for group in now.groups}
    old = {group.name: group for group in before.groups}
    for name, group in old.items():
        members = [moid for moid in group.vms if moid in inventory.vm]
        if is_ours(group) and (name not in there or set(there[name].vms) != set(members)):
            one = vim.cluster.VmGroup(name=name, userCreated=True, vm=[vim.VirtualMachine(moid) for moid in members])
            spec.groupSpec.append(vim.cluster.GroupSpec(operation="edit" if name in there else "add", info=one))
    rules = {rule.name for rule in now.rules}
    for rule in before.rules:
        if rule.vm_group in old and is_ours(old[rule.vm_group]) and rule.name not in rules:
            info = vim.cluster.VmHostRuleInfo(
                name=rule.name,
                enabled=rule.enabled,
                mandatory=rule.mandatory,
                userCreated=True,
                vmGroupName=rule.vm_group,
                affineHostGroupName=rule.host_group,
            )
            spec.rulesSpec.append(vim.cluster.RuleSpec(operation="add", info=info))
    for name, group in there.items():
        if is_ours(group) and name not in old:
            for rule in now.rules:
                if rule.vm_group == name:
                    spec.rulesSpec.append(vim.cluster.RuleSpec(operation="remove", removeKey=rule.key))
            spec.groupSpec.append(vim.cluster.GroupSpec(operation="remove", removeKey=name))
    return spec if spec.groupSpec or spec.rulesSpec else None
