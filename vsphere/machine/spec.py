"""From a `Vm` to vSphere's specification of it: pure, one call makes a machine with everything in it.

Talks to nobody and decides nothing; what is missing is an error, not a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from partitioner.errors import SpecError
from vsphere.machine.limits import violation
from vsphere.machine.vm import Device, Nic, Vm
from vsphere.machine.words import annotation
from vsphere.values import UUID

if TYPE_CHECKING:
    from vsphere.values import HostInfo, NetworkInfo

_DISK_CONTROLLER = -100
_FIRST_DISK = -200
_FIRST_GPU = -300
_FIRST_NIC = -400
_ADAPTERS: dict[str, Any] = {"vmxnet3": vim.vm.device.VirtualVmxnet3, "e1000e": vim.vm.device.VirtualE1000e}


def to_config_spec(
    vm: Vm,
    host: HostInfo | None = None,
    *,
    networks: Iterable[NetworkInfo] = (),
    guestinfo: Mapping[str, str] | None = None,
) -> vim.vm.ConfigSpec:
    """Return the specification with which one `CreateVM_Task` (or a clone) makes a machine with everything in it.

    Parameters
    ----------
    vm : the machine.
    host : the host that it goes to: its types are checked and its devices described; None checks nothing and cannot give
        devices by address.
    networks : networks of the inventory; a port group of a distributed switch needs its entry here.
    guestinfo : what the guest reads (see `vsphere.guest.guestinfo`); kept out of `Vm` because it may hold secrets.

    Raises
    ------
    SpecError
        The host is another one than the machine's, does not offer a type, takes fewer vGPUs in one machine, or does not know a
        device; a datastore is missing.
    """
    who = f"VM {vm.name!r}"
    if host is not None:
        _check(vm, host, who)
    if vm.datastore is None and vm.template is None:
        raise SpecError(f"{who}: datastore is missing; name the datastore of its files")
    known = {network.name: network for network in networks}
    devices: list[vim.vm.device.VirtualDevice] = []
    if vm.template is None and vm.disk_gib:
        devices += _disk(vm)
    devices += [_gpu(device, _FIRST_GPU - number, host, who) for number, device in enumerate(vm.devices)]
    devices += [_nic(nic, _FIRST_NIC - number, host, known, who) for number, nic in enumerate(vm.nics)]
    spec = vim.vm.ConfigSpec(
        name=vm.name,
        instanceUuid=vm.instance_uuid,
        guestId=vm.guest_id,
        annotation=annotation(vm),
        numCPUs=vm.vcpus,
        memoryMB=vm.ram_mib,
        memoryReservationLockedToMax=True,
        memoryAllocation=vim.ResourceAllocationInfo(reservation=vm.ram_mib),
        firmware=vm.firmware,
        deviceChange=[_added(device) for device in devices],
        extraConfig=[
            vim.option.OptionValue(key=key, value=value)
            for key, value in {**vm.extra_config(), UUID: vm.instance_uuid, **(guestinfo or {})}.items()
        ],
    )
    if vm.datastore is not None:
        spec.files = vim.vm.FileInfo(vmPathName=f"[{vm.datastore}]")
    if vm.hardware_version is not None:
        spec.version = vm.hardware_version
    if vm.cores_per_socket is not None:
        spec.numCoresPerSocket = vm.cores_per_socket
    if vm.latency != "normal":
        spec.latencySensitivity = vim.LatencySensitivity(level=vm.latency)
    if vm.cores_per_numa_node is not None:
        spec.virtualNuma = vim.vm.VirtualNuma(coresPerNumaNode=vm.cores_per_numa_node)
    return spec


def _check(vm: Vm, host: HostInfo, who: str) -> None:
    if vm.host is not None and vm.host != host.name:
        raise SpecError(f"{who}: is for host {vm.host!r}, not {host.name!r}; give the host that it names")
    missing = next((vgpu for vgpu in vm.vgpus if vgpu not in host.vgpu_types), None)
    if missing is not None:
        from vsphere.names import vgpu_type

        try:
            near = f"it spells it {vgpu_type(missing, host)!r}"
        except SpecError as error:
            raise SpecError(f"{who}: {error}") from error
        raise SpecError(f"{who}: host {host.name!r} does not offer {missing!r}; {near}")
    reason = violation(vm.vgpus, host.version) if host.version else None
    if reason is not None:
        raise SpecError(f"{who} on host {host.name!r}: {reason}")


def _added(device: vim.vm.device.VirtualDevice) -> vim.vm.device.VirtualDeviceSpec:
    spec = vim.vm.device.VirtualDeviceSpec(operation="add", device=device)
    if isinstance(device, vim.vm.device.VirtualDisk):
        spec.fileOperation = vim.vm.device.VirtualDeviceSpec.FileOperation.create
    return spec


def _disk(vm: Vm) -> list[vim.vm.device.VirtualDevice]:
    controller = vim.vm.device.ParaVirtualSCSIController(key=_DISK_CONTROLLER, busNumber=0, sharedBus="noSharing")
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=f"[{vm.datastore}]", diskMode="persistent", thinProvisioned=True
    )
    disk = vim.vm.device.VirtualDisk(
        key=_FIRST_DISK, controllerKey=_DISK_CONTROLLER, unitNumber=0, backing=backing, capacityInKB=vm.disk_gib << 20
    )
    return [controller, disk]


def _gpu(device: Device, key: int, host: HostInfo | None, who: str) -> vim.vm.device.VirtualDevice:
    return _on_node(vim.vm.device.VirtualPCIPassthrough(key=key, backing=_backing(device, host, who)), device.numa_node)


def _backing(device: Device, host: HostInfo | None, who: str) -> vim.vm.device.VirtualDevice.BackingInfo:
    kind = vim.vm.device.VirtualPCIPassthrough
    if device.vgpu is not None:
        return kind.VmiopBackingInfo(vgpu=device.vgpu)
    if device.fixed is not None:
        gpus = {gpu.pci_id: gpu.device_id for gpu in host.gpus} if host is not None else {}
        return _fixed(device.fixed, gpus, host, who)
    allowed = [
        kind.AllowedDevice(vendorId=int(vendor, 16), deviceId=int(product, 16))
        for vendor, product in (text.split(":") for text in device.dynamic)
    ]
    backing = kind.DynamicBackingInfo(deviceName="", allowedDevice=allowed)
    if device.label is not None:
        backing.customLabel = device.label
    return backing


def _fixed(
    address: str, ids: Mapping[str, str], host: HostInfo | None, who: str
) -> vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo:
    """Return the backing of a device by address; vSphere wants the ids of the device and of its host beside it."""
    if host is None:
        raise SpecError(f"{who}: device {address} is given by address; the host's inventory entry is needed to describe it")
    if address not in ids:
        raise SpecError(f"{who}: host {host.name!r} has no device {address}; it has {', '.join(sorted(ids)) or 'none'}")
    if not ids[address] or not host.system_id:
        raise SpecError(f"{who}: the inventory does not say what device {address} of host {host.name!r} is; read it again")
    vendor, product = ids[address].split(":")
    return vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo(
        deviceName="", id=address, deviceId=product, systemId=host.system_id, vendorId=_short(int(vendor, 16))
    )


def _short(number: int) -> int:
    """Return a vendor id as the signed 16-bit number that the API has for it."""
    return number - 0x10000 if number >= 0x8000 else number


def _nic(nic: Nic, key: int, host: HostInfo | None, networks: Mapping[str, NetworkInfo], who: str) -> vim.vm.device.VirtualDevice:
    ids = {adapter.pci_id: adapter.device_id for adapter in host.nics} if host is not None else {}
    if nic.fixed is not None:
        return _on_node(vim.vm.device.VirtualPCIPassthrough(key=key, backing=_fixed(nic.fixed, ids, host, who)), nic.numa_node)
    assert nic.network is not None
    backing = _network(nic.network, networks, who)
    if nic.sriov is None:
        connected = vim.vm.device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=False)
        made: vim.vm.device.VirtualDevice = _ADAPTERS[nic.adapter](
            key=key, backing=backing, connectable=connected, addressType="generated"
        )
        return made
    if host is not None and nic.sriov not in ids:
        raise SpecError(f"{who}: host {host.name!r} has no adapter {nic.sriov}; it has {', '.join(sorted(ids)) or 'none'}")
    # Only the address of the physical function says which adapter it is; the other ids may be left open.
    function = vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo(
        deviceName="", id=nic.sriov, deviceId="0", systemId=host.system_id if host else "", vendorId=0
    )
    sriov = vim.vm.device.VirtualSriovEthernetCard.SriovBackingInfo(physicalFunctionBacking=function)
    device = vim.vm.device.VirtualSriovEthernetCard(
        key=key, backing=backing, sriovBacking=sriov, addressType="generated", allowGuestOSMtuChange=False
    )
    return _on_node(device, nic.numa_node)


def _network(
    name: str, networks: Mapping[str, NetworkInfo], who: str
) -> vim.vm.device.VirtualEthernetCard.NetworkBackingInfo | vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo:
    if networks and name not in networks:
        raise SpecError(f"{who}: no network {name!r}; networks are {', '.join(sorted(networks)[:12])}")
    card = vim.vm.device.VirtualEthernetCard
    found = networks.get(name)
    if found is not None and found.portgroup_key:
        port = vim.dvs.PortConnection(switchUuid=found.switch_uuid, portgroupKey=found.portgroup_key)
        return card.DistributedVirtualPortBackingInfo(port=port)
    return card.NetworkBackingInfo(deviceName=name)


def _on_node(device: vim.vm.device.VirtualDevice, node: int | None) -> vim.vm.device.VirtualDevice:
    if node is not None:
        device.numaNode = node
    return device
