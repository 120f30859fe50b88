"""An Ansible play that makes machines with the collection community.vmware.

The collection cannot set a machine's instanceUuid: a machine is known by its name and notes, as in the govc script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from vsphere.machine.layout import power_on_order
from vsphere.machine.rules import HostRule, host_rules
from vsphere.machine.vm import Vm
from vsphere.machine.words import annotation
from vsphere.render.shared import (
    DATASTORE,
    DYNAMIC,
    FIXED,
    LATENCY,
    NUMA_NODE,
    PLACE,
    SRIOV,
    VIRTUAL_NUMA,
    Lack,
    folders,
    refuse,
)

_HEAD = """\
# Makes virtual machines with GPUs. Written by gpu-partitioner; can be run again.
#
#   ansible-playbook this-file.yaml -e vcenter_hostname=vcenter.example -e vcenter_username=... -e @secrets.yaml
#
# Needs ansible-core and the collection community.vmware. The password belongs into a vault (vcenter_password). guest_dir is the
# folder with NAME.metadata and NAME.userdata, where machines have guests. The collection cannot set instanceUuid.
"""
_BRACES: Lack = (
    "keep braces in a folder beside a datacenter that it fills in; name the datacenter",
    lambda vm: not vm.datacenter and "{" in (vm.folder or ""),
)
_LACKS = (NUMA_NODE, VIRTUAL_NUMA, DYNAMIC, FIXED, SRIOV, LATENCY, DATASTORE, PLACE, _BRACES)
_MODULE = "community.vmware."
_LOGIN = {
    "hostname": "{{ vcenter_hostname }}",
    "port": "{{ vcenter_port }}",
    "username": "{{ vcenter_username }}",
    "password": "{{ vcenter_password }}",
    "validate_certs": True,
}


def play(vms: Sequence[Vm]) -> str:
    """Return the play as YAML.

    Raises
    ------
    SpecError
        A machine needs what the collection cannot do: passthrough, SR-IOV, NUMA, latency, or a place left open.
    """
    refuse("community.vmware", vms, _LACKS)
    tasks: list[dict[str, Any]] = []
    made: set[tuple[str, str]] = set()
    for vm in vms:
        tasks += _folders(vm, made)
        tasks += _machine(vm)
    for rule in host_rules(vms):
        tasks += _rule(rule, next(_datacenter(vm) for vm in vms if vm.name in rule.vms))
    tasks += [_power_on(vm) for vm in power_on_order(vms) if vm.power_on]
    modules = ["vcenter_folder", "vmware_guest", "vmware_guest_info", "vmware_guest_vgpu"]
    modules += ["vmware_drs_group", "vmware_cluster_info", "vmware_vm_host_drs_rule", "vmware_guest_powerstate"]
    whole = [
        {
            "name": "Virtual machines with GPUs",
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"vcenter_port": 443, "guest_dir": "."},
            "module_defaults": {f"{_MODULE}{module}": _LOGIN for module in modules},
            "tasks": tasks,
        }
    ]
    return _HEAD + yaml.dump(whole, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=4096)


class _Plain(yaml.SafeDumper):
    """Writes what stands in two places twice: anchors are hard to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the library's signature
        """Never make an alias."""
        return True


class Raw(str):
    """A text that Ansible must not expand, whatever braces it holds."""

    __slots__ = ()


_Plain.add_representer(Raw, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style="'"))


def _text(value: str) -> str:
    """Return a user's text for the play: marked where Ansible would take a part of it for a template."""
    return Raw(value) if "{" in value else value


def _datacenter(vm: Vm) -> str:
    return _text(vm.datacenter.strip("/")) if vm.datacenter else "{{ datacenter }}"


def _below(vm: Vm, path: str) -> str:
    return _text(f"/{vm.datacenter.strip('/')}/vm{path}") if vm.datacenter else "/{{ datacenter }}/vm" + path


def _where(vm: Vm) -> dict[str, Any]:
    folder = _below(vm, f"/{vm.folder}" if vm.folder else "")
    return {"datacenter": _datacenter(vm), "folder": folder, "name": _text(vm.name)}


def _folders(vm: Vm, made: set[tuple[str, str]]) -> list[dict[str, Any]]:
    tasks = []
    for path in folders(vm.folder or ""):
        if (_datacenter(vm), path) in made:
            continue
        made.add((_datacenter(vm), path))
        parent, _, name = path.rpartition("/")
        arguments = {"datacenter": _datacenter(vm), "folder_name": _text(name), "folder_type": "vm", "state": "present"}
        if parent:
            arguments["parent_folder"] = _text(parent.rpartition("/")[2])
        tasks.append({"name": _text(f"Folder {path}"), f"{_MODULE}vcenter_folder": arguments})
    return tasks


def _machine(vm: Vm) -> list[dict[str, Any]]:
    who = vm.name
    look = {
        "name": _text(f"Look for {who}"),
        f"{_MODULE}vmware_guest_info": _where(vm),
        "register": "found",
        # A machine that is not there is an error of this module, and no failure of ours
        "failed_when": "found.failed and 'non-existing' not in found.msg | default('')",
    }
    notes = annotation(vm)
    refuse_others = {
        "name": _text(f"Leave {who} alone where it is not ours"),
        "ansible.builtin.assert": {
            "that": "found.instance is not defined or found.instance.annotation == notes",
            "fail_msg": _text(f"{who}: a machine of this name is there, and it is not ours"),
            "quiet": True,
        },
        "vars": {"notes": _text(notes)},
    }
    create: dict[str, Any] = {
        "name": _text(f"Make {who}"),
        f"{_MODULE}vmware_guest": _guest(vm, notes),
        "when": "found.instance is not defined or found.instance.hw_power_status != 'poweredOn'",
    }
    if vm.guest is not None:
        create["no_log"] = True  # what the guest reads may hold the client token
    return [look, refuse_others, create, *_vgpus(vm)]


def _guest(vm: Vm, notes: str) -> dict[str, Any]:
    hardware: dict[str, Any] = {
        "num_cpus": vm.vcpus,
        "memory_mb": vm.ram_mib,
        "memory_reservation_lock": True,
        "mem_reservation": vm.ram_mib,
        "boot_firmware": vm.firmware,
        "scsi": "paravirtual",
    }
    if vm.cores_per_socket is not None:
        hardware["num_cpu_cores_per_socket"] = vm.cores_per_socket
    if vm.hardware_version is not None:
        hardware["version"] = vm.hardware_version.removeprefix("vmx-")
    arguments: dict[str, Any] = {
        **_where(vm),
        "state": "present",
        "datastore": _text(vm.datastore or ""),
        "annotation": _text(notes),
    }
    arguments |= {"esxi_hostname": _text(vm.host)} if vm.host is not None else {"cluster": _text(vm.cluster or "")}
    if vm.template is not None:
        arguments["template"] = _text(vm.template)
    else:
        arguments["guest_id"] = vm.guest_id
        if vm.disk_gib:
            arguments["disk"] = [{"size_gb": vm.disk_gib, "type": "thin", "datastore": _text(vm.datastore or "")}]
    arguments["hardware"] = hardware
    if vm.nics:
        arguments["networks"] = [{"name": _text(nic.network or ""), "device_type": nic.adapter} for nic in vm.nics]
    settings = [{"key": _text(key), "value": _text(value)} for key, value in vm.extra_config().items()]
    if vm.guest is not None:
        for key in ("metadata", "userdata"):
            path = f"{vm.name}.{key}".replace("'", "''")
            value = "{{ lookup('ansible.builtin.file', guest_dir ~ '/" + path + "') }}"
            settings += [
                {"key": f"guestinfo.{key}", "value": value},
                {"key": f"guestinfo.{key}.encoding", "value": "gzip+base64"},
            ]
    arguments["advanced_settings"] = settings
    return arguments


def _vgpus(vm: Vm) -> list[dict[str, Any]]:
    """Return tasks that give a machine the vGPUs it lacks, one at a time as the module does."""
    tasks: list[dict[str, Any]] = []
    for number, vgpu in enumerate(vm.vgpus):
        tasks.append(
            {
                "name": _text(f"Count vGPUs of {vm.name}"),
                f"{_MODULE}vmware_guest_info": {
                    **_where(vm),
                    "schema": "vsphere",
                    "properties": ["config.hardware.device"],
                },
                "register": "have",
            }
        )
        tasks.append(
            {
                "name": _text(f"vGPU {number} of {vm.name}"),
                f"{_MODULE}vmware_guest_vgpu": {**_where(vm), "vgpu": _text(vgpu), "state": "present", "force": True},
                "when": "have.instance.config.hardware.device | selectattr('backing.vgpu', 'defined') | length < "
                + str(number + 1),
            }
        )
    return tasks


def _rule(rule: HostRule, datacenter: str) -> list[dict[str, Any]]:
    where = {"datacenter": datacenter, "cluster_name": _text(rule.cluster), "state": "present"}
    group, there = _text(rule.vm_group), _text(rule.host_group)
    kept = _text(f"Keep machines on {rule.host}")
    look = {"cluster_name": where["cluster_name"], "schema": "vsphere", "properties": ["configurationEx.rule"]}
    return [
        {"name": kept, f"{_MODULE}vmware_drs_group": {**where, "group_name": group, "vms": [_text(name) for name in rule.vms]}},
        {"name": kept, f"{_MODULE}vmware_drs_group": {**where, "group_name": there, "hosts": [_text(rule.host)]}},
        # vmware_vm_host_drs_rule changes a rule that is there to what it is already, which vCenter refuses without its key
        {"name": kept, f"{_MODULE}vmware_cluster_info": look, "register": "seen"},
        {
            "name": kept,
            "when": "there | selectattr('name', 'equalto', rule_name) | length == 0",
            "vars": {
                "rule_name": _text(rule.name),
                "there": "{{ (seen.clusters.values() | first).configurationEx.rule | default([], true) }}",
            },
            f"{_MODULE}vmware_vm_host_drs_rule": {
                **where,
                "drs_rule_name": _text(rule.name),
                "vm_group_name": group,
                "host_group_name": there,
                "affinity_rule": True,
                "mandatory": rule.mandatory,
                "enabled": True,
            },
        },
    ]


def _power_on(vm: Vm) -> dict[str, Any]:
    return {"name": _text(f"Switch {vm.name} on"), f"{_MODULE}vmware_guest_powerstate": {**_where(vm), "state": "powered-on"}}
