"""A PowerCLI script that makes machines from the very specifications that we send to vCenter.

Each machine is made by one call with everything in it, its instanceUuid too, so that a second run finds it and leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vsphere.machine.layout import power_on_order
from vsphere.machine.rules import HostRule, host_rules
from vsphere.machine.spec import to_config_spec
from vsphere.machine.vm import Vm
from vsphere.machine.words import annotation
from vsphere.render.powershell import expression, quoted
from vsphere.render.shared import DATASTORE, PLACE, first_line, refuse
from vsphere.values import PREFIX

if TYPE_CHECKING:
    from vsphere.values import HostInfo, NetworkInfo

_HEAD = """\
#Requires -Modules VMware.VimAutomation.Core
# Makes virtual machines with GPUs. Written by gpu-partitioner; can be run again: what is there already stays as it is.
#
#   ./this-script.ps1 -Server vcenter.example -Credential (Get-Credential)
#
# GuestFolder is the folder with NAME.metadata and NAME.userdata, where machines have guests.
param(
    [Parameter(Mandatory = $true)][string] $Server,
    [Parameter(Mandatory = $true)][System.Management.Automation.PSCredential] $Credential,
    [string] $GuestFolder = '.'
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

function Get-GpuDatacenter {
    param([string] $Path)
    if ($Path) {
        $found = @(Get-Datacenter -Name ($Path -split '/')[-1])
    } else {
        $found = @(Get-Datacenter)
    }
    if ($found.Count -ne 1) {
        throw "there are $($found.Count) datacenters '$Path'; name one"
    }
    return $found[0].ExtensionData
}

function Get-GpuFolder {
    param($Datacenter, [string] $Path)
    $folder = Get-View -Id $Datacenter.VmFolder
    foreach ($name in ($Path -split '/' | Where-Object { $_ })) {
        $child = $folder.ChildEntity | Where-Object { $_.Type -eq 'Folder' } | ForEach-Object { Get-View -Id $_ } |
            Where-Object { $_.Name -eq $name }
        if (-not $child) {
            $child = Get-View -Id $folder.CreateFolder($name)
        }
        $folder = $child
    }
    return $folder
}

function Get-GpuOption {
    param($Machine, [string] $Key)
    return ($Machine.Config.ExtraConfig | Where-Object { $_.Key -eq $Key } | Select-Object -First 1 -ExpandProperty Value)
}

function Add-GpuGuest {
    param($Spec)
    foreach ($key in 'metadata', 'userdata') {
        $text = (Get-Content -Raw -Path (Join-Path -Path $GuestFolder -ChildPath "$($Spec.Name).$key")).Trim()
        $Spec.ExtraConfig += New-Object -TypeName VMware.Vim.OptionValue -Property @{ Key = "guestinfo.$key"; Value = $text }
        $Spec.ExtraConfig += New-Object -TypeName VMware.Vim.OptionValue -Property @{
            Key = "guestinfo.$key.encoding"; Value = 'gzip+base64'
        }
    }
}

function Set-GpuMachine {
    param($Spec, [string] $Datacenter, [string] $Folder, [string] $Cluster, [string] $HostName, [string] $Template)
    $index = Get-View -Id (Get-View -Id ServiceInstance).Content.SearchIndex
    $found = $index.FindByUuid($null, $Spec.InstanceUuid, $true, $true)
    if ($found) {
        $machine = Get-View -Id $found
        if ((Get-GpuOption $machine '@PREFIX@plan') -ne (Get-GpuOption @{ Config = $Spec } '@PREFIX@plan')) {
            throw "$($Spec.Name): a machine with its instanceUuid is there, and it is not ours"
        }
        Write-Output "$($Spec.Name): is there, left as it is"
        return
    }
    $place = Get-GpuFolder (Get-GpuDatacenter $Datacenter) $Folder
    if ($index.FindChild($place.MoRef, $Spec.Name)) {
        throw "$($Spec.Name): a machine of this name is there, and it is not ours"
    }
    $target = $null
    if ($HostName) {
        $target = (Get-VMHost -Name $HostName).ExtensionData
        $pool = (Get-View -Id $target.Parent).ResourcePool
        $target = $target.MoRef
    } else {
        $pool = (Get-Cluster -Name $Cluster).ExtensionData.ResourcePool
    }
    if ($Template) {
        $source = Get-View -ViewType VirtualMachine -Filter @{ Name = "^$([regex]::Escape($Template))$" }
        $store = (Get-Datastore -Name ($Spec.Files.VmPathName.Trim('[', ']'))).ExtensionData.MoRef
        $Spec.Files = $null
        $clone = New-Object -TypeName VMware.Vim.VirtualMachineCloneSpec -Property @{
            Config   = $Spec
            Location = (New-Object -TypeName VMware.Vim.VirtualMachineRelocateSpec -Property @{
                Host = $target; Pool = $pool; Datastore = $store
            })
            PowerOn  = $false
            Template = $false
        }
        $task = $source.CloneVM_Task($place.MoRef, $Spec.Name, $clone)
    } else {
        $task = $place.CreateVM_Task($Spec, $pool, $target)
    }
    Get-VIObjectByVIView -MORef $task | Wait-Task | Out-Null
}

function Set-GpuRule {
    param([string] $Cluster, [string] $Name, [string] $HostName, [string] $HostGroup, [string[]] $Machines, [string] $Type)
    $where = Get-Cluster -Name $Cluster
    $members = Get-VM -Name $Machines -Location $where
    $group = Get-DrsClusterGroup -Cluster $where -Name "$Name-vms" -ErrorAction SilentlyContinue
    if ($group) {
        Set-DrsClusterGroup -DrsClusterGroup $group -VM $members -Add | Out-Null
    } else {
        $group = New-DrsClusterGroup -Cluster $where -Name "$Name-vms" -VM $members
    }
    $there = Get-DrsClusterGroup -Cluster $where -Name $HostGroup -ErrorAction SilentlyContinue
    if (-not $there) {
        $there = New-DrsClusterGroup -Cluster $where -Name $HostGroup -VMHost (Get-VMHost -Name $HostName)
    }
    if (-not (Get-DrsVMHostRule -Cluster $where -Name $Name -ErrorAction SilentlyContinue)) {
        New-DrsVMHostRule -Cluster $where -Name $Name -VMGroup $group -VMHostGroup $there -Type $Type -Enabled $true | Out-Null
    }
}

function Start-GpuMachine {
    param([string] $InstanceUuid)
    $index = Get-View -Id (Get-View -Id ServiceInstance).Content.SearchIndex
    $machine = Get-VIObjectByVIView -MORef $index.FindByUuid($null, $InstanceUuid, $true, $true)
    if ($machine.PowerState -ne 'PoweredOn') {
        Start-VM -VM $machine -Confirm:$false | Out-Null
    }
}

$connection = Connect-VIServer -Server $Server -Credential $Credential
try {
""".replace("@PREFIX@", PREFIX)

_TAIL = """\
} finally {
    Disconnect-VIServer -Server $connection -Confirm:$false
}
"""


def script(vms: Sequence[Vm], hosts: Mapping[str, HostInfo], networks: Sequence[NetworkInfo]) -> str:
    """Return the script.

    Raises
    ------
    SpecError
        A specification cannot be built, or a machine's place is left open.
    """
    refuse("the PowerCLI script", vms, (DATASTORE, PLACE))
    parts = [_HEAD, *(_machine(vm, hosts, networks) for vm in vms), *(_rule(rule) for rule in host_rules(vms))]
    on = [vm for vm in power_on_order(vms) if vm.power_on]
    if on:
        parts.append("    # Large profiles first: MIG instances are made when a machine is switched on\n")
        parts += [f"    Start-GpuMachine {quoted(vm.instance_uuid)} # {first_line(vm.name)}\n" for vm in on]
    return "".join([*parts, _TAIL])


def _machine(vm: Vm, hosts: Mapping[str, HostInfo], networks: Sequence[NetworkInfo]) -> str:
    spec = to_config_spec(vm, hosts.get(vm.host or ""), networks=networks)
    guest = "    Add-GpuGuest $spec\n" if vm.guest is not None else ""
    arguments = {
        "Datacenter": vm.datacenter,
        "Folder": vm.folder,
        "Cluster": vm.cluster,
        "HostName": vm.host,
        "Template": vm.template,
    }
    given = " ".join(f"-{name} {quoted(value)}" for name, value in arguments.items() if value is not None)
    return (
        f"    # {first_line(vm.name)}: {first_line(annotation(vm))}\n"
        f"    $spec = {expression(spec, 4)}\n{guest}    Set-GpuMachine -Spec $spec {given}\n\n"
    )


def _rule(rule: HostRule) -> str:
    kind = "MustRunOn" if rule.mandatory else "ShouldRunOn"
    names = ", ".join(quoted(name) for name in rule.vms)
    return (
        f"    Set-GpuRule -Cluster {quoted(rule.cluster)} -Name {quoted(rule.name)} -HostName {quoted(rule.host)}"
        f" -HostGroup {quoted(rule.host_group)} -Machines @({names}) -Type {kind}\n"
    )
