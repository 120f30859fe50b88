"""One virtual machine as it shall be: a value that says everything, and nothing of how it is made.

An administrator reads and edits it as YAML before anything happens. Must not know plans or pyVmomi.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import VALUE, Number, raises_spec_error
from vsphere.machine.identity import marks
from vsphere.machine.options import Options, PowerOfTwo
from vsphere.values import Mark, Place
from vsphere.values.terms import PciId as _PciId

MAX_NAME = 80
"""Longest name of a virtual machine that vCenter takes [characters]."""
_FORBIDDEN = frozenset("/\\%*?[]{}\"'`$")  # vCenter escapes the first three, inventory paths and shells read the others
_OWNED = re.compile(
    r"(?i)^(?:gpu-partitioner\..*|pciPassthru\.(?:use64bitMMIO|64bitMMIOSizeGB|allowP2P|RelaxACSforP2P)|pciPassthru\d+\.cfg\..*)$"
)
_UUID = r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def _in_quotes(value: object) -> object:
    if isinstance(value, int | float):  # YAML takes 0000:17:00.0 for a number of base 60; pydantic wants a ValueError
        raise ValueError(f"a PCI address is wanted, not the number {value}; put it in quotes: '0000:17:00.0'")  # noqa: TRY004
    return value


PciId = Annotated[_PciId, BeforeValidator(_in_quotes)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
DeviceId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
"""Vendor and device: ``10de:20b5``."""
Node = Annotated[int, Number, Field(ge=0, le=63)]
GuestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,80}$")]
"""Operating system by vSphere's name: ``ubuntu64Guest``, ``rhel9_64Guest``."""
HardwareVersion = Annotated[str, Field(pattern=r"^vmx-\d{2}$")]
Latency = Literal["low", "normal", "medium", "high"]


def check_name(name: str) -> str:
    """Return a name that vCenter takes as it is.

    Raises
    ------
    ValueError
        It is empty, longer than 80 characters, or has a character that vCenter would escape or that scripts trip over.
    """
    if not name or name != name.strip():
        raise ValueError(f"name {name!r} is empty or has blanks at its ends; give e.g. 'gpu-chat-0'")
    if len(name) > MAX_NAME:
        raise ValueError(f"name {name!r} has {len(name)} characters; vCenter takes at most {MAX_NAME}")
    bad = next((character for character in name if character in _FORBIDDEN or not character.isprintable()), None)
    if bad is not None:
        raise ValueError(f"name {name!r} has the character {bad!r}; use letters, digits, '-', '_' and '.'")
    return name


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Device:
    """One GPU device of a virtual machine: exactly one of `vgpu`, `fixed` and `dynamic`.

    Parameters
    ----------
    vgpu : vGPU type as the host spells it, e.g. ``grid_a100d-3-40c``.
    fixed : PCI address of a whole GPU that is given to the machine (DirectPath I/O); it pins the machine to its host.
    dynamic : vendor and device ids of whole GPUs of which the machine gets any (Dynamic DirectPath I/O, API 7.0).
    label : hardware label that a dynamic device must carry.
    parameters : plugin parameters of a vGPU, without their prefix: ``{enable_uvm: "1"}``.
    numa_node : NUMA node of the host that the device shall stand on (API 8.0).
    place : which placement of the plan it realises; vSphere chooses the GPU itself, this is what is compared afterwards.

    Raises
    ------
    SpecError
        Not exactly one kind is given, or a field belongs to another kind.
    """

    vgpu: Text | None = None
    fixed: PciId | None = None
    dynamic: tuple[DeviceId, ...] = ()
    label: Text | None = None
    parameters: Options = ()
    numa_node: Node | None = None
    place: Place | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Device:
        kinds = [name for name in ("vgpu", "fixed", "dynamic") if getattr(self, name)]
        if len(kinds) != 1:
            given = " and ".join(kinds) or "none of them"
            raise ValueError(f"a device is one of vgpu, fixed and dynamic, not {given}")
        if self.parameters and not self.vgpu:
            raise ValueError(f"parameters {dict(self.parameters)} are of a vGPU; a {kinds[0]} device has none")
        if self.label is not None and not self.dynamic:
            raise ValueError(f"label {self.label!r} is of a dynamic device; a {kinds[0]} device has none")
        return self


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Nic:
    """One network adapter: virtual on `network`, a virtual function of `sriov` on `network`, or the whole adapter `fixed`.

    Parameters
    ----------
    network : network or port group.
    sriov : PCI address of the physical adapter of which a virtual function is given (SR-IOV).
    fixed : PCI address of a physical adapter that is given whole (DirectPath I/O).
    adapter : kind of a virtual adapter.
    numa_node : NUMA node that the device shall stand on (API 8.0).

    Raises
    ------
    SpecError
        A network is missing or too many, or both addresses are given.
    """

    network: Text | None = None
    sriov: PciId | None = None
    fixed: PciId | None = None
    adapter: Literal["vmxnet3", "e1000e"] = "vmxnet3"
    numa_node: Node | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Nic:
        if self.sriov and self.fixed:
            raise ValueError(f"sriov {self.sriov} and fixed {self.fixed} are both given; an adapter is one of them")
        if self.fixed and self.network:
            raise ValueError(f"fixed {self.fixed} is the adapter itself; it stands on no network, drop network {self.network!r}")
        if not self.fixed and not self.network:
            raise ValueError("network is missing; name the network or port group that the adapter stands on")
        if self.numa_node is not None and not (self.fixed or self.sriov):
            raise ValueError(f"numa_node {self.numa_node} is of a physical device; a virtual adapter has none")
        return self

    @property
    def virtual(self) -> bool:
        """Whether no physical adapter is behind it."""
        return self.fixed is None and self.sriov is None


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Vm:
    """All that a virtual machine shall be.

    Parameters
    ----------
    name : unique among the machines; at most 80 characters.
    plan, workload, replicas : whom it belongs to and whom it serves.
    instance_uuid : its identity, derived from those three.
    host : host that it is pinned to; None leaves the choice to DRS.
    cluster : cluster of the host; None where the host stands alone.
    datacenter : path of the datacenter; None where there is one.
    folder : folder under the datacenter's machines, e.g. ``gpu/chat``; None for its root.
    datastore : datastore of its files.
    nics : network adapters; virtual ones come with the template where there is one.
    devices : GPUs.
    template : machine or template that it is cloned from; None makes it empty.
    guest_id : operating system, as vSphere names it.
    vcpus, cores_per_socket : virtual CPUs; cores per socket None leaves it to vSphere.
    ram_gib : memory, all of it reserved [GiB].
    hardware_version : e.g. ``vmx-21``; None takes vCenter's default. Virtual NUMA and NUMA nodes of devices need ``vmx-20``.
    disk_gib : disk of a machine that is made empty; 0 for none [GiB].
    firmware : ``efi``, which large BARs need, or ``bios``.
    mmio_size_gb : address space above 4 GiB for devices [GB]; None where they need none.
    allow_p2p, relax_acs : peer-to-peer between its devices, and also past access control services (GPUDirect RDMA).
    latency : latency sensitivity.
    cores_per_numa_node : virtual NUMA topology (API 8.0); None leaves it to vSphere.
    rule : whether a rule of DRS keeps it on its host: ``mandatory``, ``preferred`` or ``none``.
    options : extra configuration of your own.
    guest : file that describes what shall run in the guest; None leaves the guest alone.
    power_on : whether it is switched on once it is made.

    Raises
    ------
    SpecError
        A value is out of range or two contradict each other.
    """

    name: str
    plan: Text
    workload: Text
    replicas: Annotated[tuple[Annotated[int, Number, Field(ge=0)], ...], Field(min_length=1)]
    instance_uuid: Annotated[str, Field(pattern=_UUID)]
    devices: Annotated[tuple[Device, ...], Field(min_length=1)]
    host: Text | None = None
    cluster: Text | None = None
    datacenter: Text | None = None
    folder: Text | None = None
    datastore: Text | None = None
    nics: tuple[Nic, ...] = ()
    template: Text | None = None
    guest_id: GuestId = "ubuntu64Guest"
    vcpus: Annotated[int, Number, Field(ge=1, le=960)] = 32
    cores_per_socket: Annotated[int, Number, Field(ge=1, le=960)] | None = None
    ram_gib: Annotated[float, Number, Field(gt=0, le=24_576)] = 64.0
    hardware_version: HardwareVersion | None = None
    disk_gib: Annotated[int, Number, Field(ge=0, le=63_488)] = 100
    firmware: Literal["efi", "bios"] = "efi"
    mmio_size_gb: PowerOfTwo | None = None
    allow_p2p: bool = True
    relax_acs: bool = False
    latency: Latency = "normal"
    cores_per_numa_node: Annotated[int, Number, Field(ge=1, le=960)] | None = None
    rule: Literal["mandatory", "preferred", "none"] = "mandatory"
    options: Options = ()
    guest: Text | None = None
    power_on: bool = True

    @model_validator(mode="after")
    def _agrees(self) -> Vm:
        check_name(self.name)
        self._check_cpus()
        if len(set(self.replicas)) != len(self.replicas):
            raise ValueError(f"replicas {list(self.replicas)} name one twice; each lives in one machine")
        owned = next((key for key, _ in self.options if _OWNED.match(key)), None)
        if owned is not None:
            raise ValueError(f"options: {owned!r} is set from fields of the machine; change the field, not the option")
        if self.template is not None and any(nic.virtual for nic in self.nics):
            raise ValueError(f"nics has a virtual adapter, but template {self.template!r} brings its own; leave it out")
        if self.mmio_size_gb is not None and self.firmware != "efi":
            raise ValueError(f"mmio_size_gb {self.mmio_size_gb} needs firmware 'efi', not {self.firmware!r}")
        addresses = [a for a in (*(d.fixed for d in self.devices), *(n.fixed for n in self.nics)) if a]
        twice = next((address for address in addresses if addresses.count(address) > 1), None)
        if twice is not None:
            raise ValueError(f"device {twice} stands twice; a device is given once")
        if (addresses or any(nic.sriov for nic in self.nics)) and self.host is None:
            raise ValueError("devices by PCI address are of one host, but host is not given; name it")
        if self.ram_gib * 1024 != int(self.ram_gib * 1024) or int(self.ram_gib * 1024) % 4:
            raise ValueError(f"ram_gib {self.ram_gib:g} is no multiple of 4 MiB; vSphere takes such only")
        return self

    def _check_cpus(self) -> None:
        for name in ("cores_per_socket", "cores_per_numa_node"):
            cores = getattr(self, name)
            if cores is not None and self.vcpus % cores:
                near = [number for number in range(1, self.vcpus + 1) if self.vcpus % number == 0]
                raise ValueError(f"{name} {cores} does not divide {self.vcpus} vCPUs; {', '.join(map(str, near))} do")

    @property
    def mark(self) -> Mark:
        """What makes it ours, with the placements that its devices realise."""
        places = [device.place for device in self.devices if device.place is not None]
        return Mark(self.plan, self.workload, self.replicas[0], tuple(places) if len(places) == len(self.devices) else ())

    @property
    def vgpus(self) -> tuple[str, ...]:
        """Types of its vGPUs, in order."""
        return tuple(device.vgpu for device in self.devices if device.vgpu is not None)

    @property
    def ram_mib(self) -> int:
        """Memory [MiB]."""
        return int(self.ram_gib * 1024)

    def extra_config(self) -> dict[str, str]:
        """Return the whole extra configuration, in order: address space, peer-to-peer, plugin parameters, your own, marks.

        The number in ``pciPassthru<k>.cfg.*`` is that of the device among all passthrough devices of the machine, GPUs first;
        it is computed anew for every machine, because it shifts when a device goes.
        """
        found: dict[str, str] = {}
        if self.mmio_size_gb is not None:
            found["pciPassthru.use64bitMMIO"] = "TRUE"
            found["pciPassthru.64bitMMIOSizeGB"] = str(self.mmio_size_gb)
        if self.allow_p2p:
            found["pciPassthru.allowP2P"] = "TRUE"
        if self.relax_acs:
            found["pciPassthru.RelaxACSforP2P"] = "TRUE"
        for number, device in enumerate(self.devices):
            found |= {f"pciPassthru{number}.cfg.{key}": value for key, value in device.parameters}
        return {**found, **dict(self.options), **marks(self.mark)}
