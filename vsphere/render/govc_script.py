"""A Bash script that makes machines with govc. Every value is quoted; a second run changes only what is missing.

govc cannot set a machine's instanceUuid when it makes it: a machine is known by its name, its marks and its notes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from vsphere.machine.identity import marks
from vsphere.machine.layout import power_on_order
from vsphere.machine.rules import HostRule, host_rules
from vsphere.machine.vm import Vm
from vsphere.machine.words import annotation
from vsphere.render.shared import DATASTORE, DYNAMIC, NUMA_NODE, PLACE, SRIOV, VIRTUAL_NUMA, first_line, folders, refuse
from vsphere.values import PREFIX

_HEAD = """\
#!/usr/bin/env bash
# Makes virtual machines with GPUs. Written by gpu-partitioner; can be run again: what is there already stays as it is.
#
#   GOVC_URL=https://vcenter.example/sdk GOVC_USERNAME=... GOVC_PASSWORD=... bash this-script
#
# govc takes the certificate's authority from GOVC_TLS_CA_CERTS. It cannot set instanceUuid: machines are known by their marks.
# GUEST_DIR is the folder with NAME.metadata and NAME.userdata, where machines have guests.
set -euo pipefail
: "${GOVC_URL:?names the vCenter}"
: "${GUEST_DIR:=.}"
export GOVC_URL
shopt -s inherit_errexit

die() {
    echo "$*" >&2
    exit 1
}

datacenter() { # PATH
    dc=${1:-${GOVC_DATACENTER:-}}
    [ -n "$dc" ] || dc=$(govc find / -type d) || exit 1
    [[ "$dc" != *$'\\n'* ]] || die "there are several datacenters; set GOVC_DATACENTER to one of them"
    dc=/${dc#/}
}

exists() { # PATH
    [ -n "$(govc ls "$1")" ]
}

option() { # VM KEY
    govc object.collect -s "$1" "config.extraConfig[\\"$2\\"].value" 2>/dev/null || true
}

# A machine is ours when it carries our marks, or, where an earlier run ended before it set them, our notes.
ours() { # VM PLAN WORKLOAD REPLICA NOTES
    [ "$(option "$1" @PREFIX@plan)/$(option "$1" @PREFIX@workload)/$(option "$1" @PREFIX@replica)" = "$2/$3/$4" ] ||
        { [ -z "$(option "$1" @PREFIX@plan)" ] && [ "$(govc object.collect -s "$1" config.annotation)" = "$5" ]; }
}

powered_on() { # VM
    [ "$(govc object.collect -s "$1" runtime.powerState)" = poweredOn ]
}

# Types of vGPUs and addresses of devices that a machine has, in order, one to a line
devices() { # VM
    govc device.info -json -vm "$1" 'pcipassthrough-*' 2>/dev/null |
        { grep -oiE '"(vgpu|id)": *"[^"]*"' || true; } | cut -d'"' -f4
}

give() { # VM DEVICE...
    local vm=$1 have=() number
    shift
    mapfile -t have < <(devices "$vm")
    for number in "${!have[@]}"; do
        [ "${have[$number]}" = "${*:$((number + 1)):1}" ] ||
            die "$vm: device $number is ${have[$number]}, not ${*:$((number + 1)):1}; remove it, or the machine"
    done
    shift "${#have[@]}"
    for device in "$@"; do
        case $device in
        *:*:*.*) govc device.pci.add -vm "$vm" "$device" ;;
        *) govc gpu.vm.add -vm "$vm" -profile "$device" ;;
        esac
    done
}

# Reads to the end: grep -q would stop at the first match, and break the pipe of who still writes
listed() { # NAME
    grep -xF -- "$1" >/dev/null
}

group() { # CLUSTER NAME KIND MEMBER...
    local cluster=$1 name=$2 kind=$3
    shift 3
    if govc cluster.group.ls -cluster "$cluster" | listed "$name"; then
        govc cluster.group.change -cluster "$cluster" -name "$name" -- "$@"
    else
        govc cluster.group.create -cluster "$cluster" -name "$name" "$kind" -- "$@"
    fi
}
""".replace("@PREFIX@", PREFIX)

_LACKS = (NUMA_NODE, VIRTUAL_NUMA, DYNAMIC, SRIOV, DATASTORE, PLACE)


def script(vms: Sequence[Vm]) -> str:
    """Return the script.

    Raises
    ------
    SpecError
        A machine needs what govc cannot do: Dynamic DirectPath, SR-IOV, NUMA nodes, virtual NUMA, or a place left open.
    """
    refuse("govc", vms, _LACKS)
    parts = [_HEAD]
    made: set[tuple[str | None, str]] = set()
    for vm in vms:
        parts += _folders(vm, made)
        parts.append(_machine(vm))
    parts += [_rule(rule, vms) for rule in host_rules(vms)]
    on = [vm for vm in power_on_order(vms) if vm.power_on]
    if on:
        parts.append("\n# Large profiles first: MIG instances are made when a machine is switched on\n")
        parts += [f"{_datacenter(vm)}powered_on {_path(vm)} || govc vm.power -on {_path(vm)}\n" for vm in on]
    return "".join(parts)


def _datacenter(vm: Vm) -> str:
    return f"datacenter {shlex.quote(vm.datacenter or '')}\n"


def _below(path: str) -> str:
    """Return a path under the datacenter for the shell: only the variable stands outside of single quotes."""
    return '"$dc"' + shlex.quote(f"/{path}")


def _folder(vm: Vm) -> str:
    return _below(f"vm/{vm.folder}" if vm.folder else "vm")


def _path(vm: Vm) -> str:
    return _below(f"vm/{vm.folder}/{vm.name}" if vm.folder else f"vm/{vm.name}")


def _folders(vm: Vm, made: set[tuple[str | None, str]]) -> list[str]:
    lines = []
    for path in folders(vm.folder or ""):
        if (vm.datacenter, path) not in made:
            made.add((vm.datacenter, path))
            place = _below(f"vm/{path}")
            lines.append(f"\n{_datacenter(vm)}exists {place} || govc folder.create {place}\n")
    return lines


def _machine(vm: Vm) -> str:
    own = marks(vm.mark)
    notes = shlex.quote(annotation(vm))
    identity = " ".join(shlex.quote(own[f"{PREFIX}{name}"]) for name in ("plan", "workload", "replica"))
    lines = [
        f"\n# {first_line(vm.name)}: {first_line(annotation(vm))}",
        f"{_datacenter(vm)}vm={_path(vm)}",
        'if exists "$vm"; then',
        f'    ours "$vm" {identity} {notes} || die "$vm: a machine of this name is there, and it is not ours"',
        "else",
        f"    {_create(vm, notes)}",
        "fi",
        'if powered_on "$vm"; then',
        '    echo "$vm: is on, left as it is"',
        "else",
        f'    give "$vm" {" ".join(shlex.quote(name) for name in _devices(vm))}',
        f"    {_change(vm)}",
        *_networks(vm),
        "fi",
        "",
    ]
    return "\n".join(lines)


def _devices(vm: Vm) -> list[str]:
    return [name for name in (*(d.vgpu or d.fixed for d in vm.devices), *(n.fixed for n in vm.nics)) if name is not None]


def _create(vm: Vm, notes: str) -> str:
    words = ["govc", "vm.clone", "-vm", shlex.quote(vm.template)] if vm.template else ["govc", "vm.create"]
    words += ["-on=false", "-c", str(vm.vcpus), "-m", str(vm.ram_mib), "-annotation", notes]
    words += ["-ds", _below(f"datastore/{vm.datastore}"), "-folder", _folder(vm)]
    if vm.host is not None:
        words += ["-host", _below(f"host/{vm.cluster or vm.host}/{vm.host}")]
    else:
        words += ["-pool", _below(f"host/{vm.cluster}/Resources")]
    if vm.template is None:
        words += ["-g", shlex.quote(vm.guest_id), "-firmware", vm.firmware, "-disk.controller", "pvscsi"]
        words += ["-disk", f"{vm.disk_gib}GB"] if vm.disk_gib else []
        words += ["-version", vm.hardware_version] if vm.hardware_version else []
    network = next((nic for nic in vm.nics if nic.network is not None), None)
    if network is not None:
        words += ["-net", _below(f"network/{network.network}"), "-net.adapter", network.adapter]
    return " ".join([*words, "--", shlex.quote(vm.name)])  # a name may begin with a dash


def _change(vm: Vm) -> str:
    """Return the command that sets what creation could not, marks included; the same values again change nothing."""
    words = ["govc", "vm.change", "-vm", '"$vm"', "-memory-pin=true", f"-mem.reservation={vm.ram_mib}"]
    words += ["-c", str(vm.vcpus), "-m", str(vm.ram_mib)]
    words += ["-latency", vm.latency] if vm.latency != "normal" else []
    options = vm.extra_config()
    if vm.cores_per_socket is not None:
        options = {"cpuid.coresPerSocket": str(vm.cores_per_socket), **options}
    for key, value in options.items():
        words += ["-e", shlex.quote(f"{key}={value}")]
    if vm.guest is not None:
        for key in ("metadata", "userdata"):
            words += [
                "-f",
                f'guestinfo.{key}="$GUEST_DIR"/{shlex.quote(f"{vm.name}.{key}")}',
                "-e",
                f"guestinfo.{key}.encoding=gzip+base64",
            ]
    if vm.template is not None:
        return " ".join(words) + f'\n    govc device.boot -vm "$vm" -firmware {vm.firmware}'
    return " ".join(words)


def _networks(vm: Vm) -> list[str]:
    """Return commands that add what a machine has beyond its first network."""
    lines = []
    for number, nic in enumerate([nic for nic in vm.nics if nic.network is not None]):
        if number:
            have = '"$(govc device.ls -vm "$vm" | grep -c \'^ethernet-\' || true)"'
            add = f'govc vm.network.add -vm "$vm" -net {_below(f"network/{nic.network}")} -net.adapter {nic.adapter}'
            lines.append(f"    [ {have} -gt {number} ] || {add}")
    return lines


def _rule(rule: HostRule, vms: Sequence[Vm]) -> str:
    member = next(vm for vm in vms if vm.cluster == rule.cluster and vm.name in rule.vms)
    names = " ".join(shlex.quote(name) for name in rule.vms)  # govc looks members up by name, not by path
    cluster = _below(f"host/{rule.cluster}")
    name, own, there = (shlex.quote(text) for text in (rule.name, rule.vm_group, rule.host_group))
    lines = [
        f"\n# DRS keeps these machines on {first_line(rule.host)}",
        f"{_datacenter(member)}cluster={cluster}",
        f'group "$cluster" {own} -vm {names}',
        f'group "$cluster" {there} -host {shlex.quote(rule.host)}',
        f'govc cluster.rule.ls -cluster "$cluster" | listed {name} ||',
        f'    govc cluster.rule.create -cluster "$cluster" -name {name} -enable -mandatory={str(rule.mandatory).lower()} \\',
        f"        -vm-host -vm-group {own} -host-affine-group {there}",
        "",
    ]
    return "\n".join(lines)
