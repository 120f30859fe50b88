"""Virtual machines as read, their GPU devices, and the mark that makes one ours. Values only."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic.dataclasses import dataclass

from partitioner.boundary import raises_spec_error
from vsphere.values.terms import PREFIX, VALUE, Count, DeviceKind, Gib, Name, Options, PciId, Text


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Place:
    """What one GPU device of a VM is for, as planned.

    Parameters
    ----------
    workload, replica : the occupant.
    gpu : index of the GPU in the host.
    mode, profile, start : the placement on it, in the catalogue's names.
    """

    workload: Name
    replica: Count
    gpu: Count
    mode: Name
    profile: Name
    start: Count


UUID = f"{PREFIX}uuid"
"""Key of the instance UUID that a VM was made with: who clones a VM of ours takes its marks along, but not its UUID."""


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Mark:
    """What makes a VM ours; it stands in the VM's extra configuration under ``gpu-partitioner.*``.

    Parameters
    ----------
    plan : id of the plan that made it.
    workload, replica : who lives in it; the first, where several do.
    places : for each GPU device, in the order of the VM's devices, what it is for; empty where that was not written down.

    Raises
    ------
    SpecError
        A name is empty or a number negative.

    Examples
    --------
    >>> Mark.of(Mark("p1", "chat", 0).options())
    Mark(plan='p1', workload='chat', replica=0, places=())
    """

    plan: Name
    workload: Name
    replica: Count
    places: tuple[Place, ...] = ()

    def options(self) -> dict[str, str]:
        """Return the keys and values to put into a VM's extra configuration."""
        found = {
            f"{PREFIX}plan": self.plan,
            f"{PREFIX}workload": self.workload,
            f"{PREFIX}replica": str(self.replica),
        }
        if self.places:
            rows = [[p.workload, p.replica, p.gpu, p.mode, p.profile, p.start] for p in self.places]
            found[f"{PREFIX}places"] = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return found

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Mark | None:
        """Return the mark that extra configuration carries; None where it has none, or a damaged one.

        A VM whose mark is damaged counts as somebody else's: it is never touched.
        """
        try:
            rows = json.loads(options.get(f"{PREFIX}places") or "[]")
            places = tuple(Place(*row) for row in rows)
            replica = int(options[f"{PREFIX}replica"])
            return cls(options[f"{PREFIX}plan"], options[f"{PREFIX}workload"], replica, places)
        except (KeyError, TypeError, ValueError, RecursionError):  # SpecError is a ValueError
            return None


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class VmDevice:
    """One PCI device of a host that a VM has.

    Parameters
    ----------
    key : the device's key in the VM.
    kind : ``vgpu``; ``fixed`` or ``dynamic`` (DirectPath), ``dvx`` (vendor's own class), ``sriov`` (network adapter).
    vgpu : vGPU type, of a vGPU.
    pci_id : PCI address, of a fixed device or of the physical function of an SR-IOV adapter; of a dynamic one the device, and of
        a vGPU the GPU, that it has now, where vCenter says it (of vGPUs from API 9.1).
    allowed : of a dynamic device the ``vendor:device`` ids it may get, of a DVX device the class.
    label : custom label that a dynamic device asks for.
    numa_node : NUMA node that the VM asks for; None where it asks for none.
    """

    key: int
    kind: DeviceKind
    vgpu: Name | None = None
    pci_id: PciId | None = None
    allowed: tuple[Name, ...] = ()
    label: Text = ""
    numa_node: int | None = None


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class VmInfo:
    """One virtual machine.

    Parameters
    ----------
    name, moid, instance_uuid : its name (not unique in a vCenter), vCenter's id (``vm-42``), and the id that moves with it.
    host : name of the host it is on; None where vCenter does not say.
    powered_on, suspended : power state; off where both are False.
    template : whether it is a template.
    connection : ``connected``, ``disconnected``, ``inaccessible``, ``invalid`` or ``orphaned``.
    folder : path of its folder.
    resource_pool : id of its resource pool.
    devices : vGPUs and passthrough devices, in the order of their keys, which is that of ``pciPassthru0``, ``1``, ...
    vcpus, cores_per_socket : virtual CPUs.
    ram_gib : memory [GiB].
    memory_locked : whether all of its memory is reserved (``memoryReservationLockedToMax``).
    memory_reservation_mib : memory reserved [MiB].
    firmware : ``efi`` or ``bios``.
    hardware_version : ``vmx-21``.
    guest_id : guest operating system.
    latency_sensitivity : ``normal``, ``high``, ...; None where it is not set.
    datastores, networks : names of those it uses.
    options : extra configuration that matters here: keys that begin with ``gpu-partitioner.``, ``guestinfo.gpu-partitioner.``,
        ``pciPassthru``, ``numa.``, ``sched.``, ``cpuid.coresPerSocket`` or ``vgpu.``. Others are not read: they may hold
        secrets.
    annotation : its notes.
    change_version : what a change must name, so that it fails when somebody else changed the VM meanwhile.
    """

    name: Name
    moid: Name
    instance_uuid: Text = ""
    host: Name | None = None
    powered_on: bool = False
    suspended: bool = False
    template: bool = False
    connection: Name = "connected"
    folder: Text = ""
    resource_pool: Text = ""
    devices: tuple[VmDevice, ...] = ()
    vcpus: Count = 0
    cores_per_socket: Count = 0
    ram_gib: Gib = 0.0
    memory_locked: bool = False
    memory_reservation_mib: Count = 0
    firmware: Text = ""
    hardware_version: Text = ""
    guest_id: Text = ""
    latency_sensitivity: Name | None = None
    datastores: tuple[Name, ...] = ()
    networks: tuple[Name, ...] = ()
    options: Options = ()
    annotation: Text = ""
    change_version: Text = ""

    @property
    def vgpus(self) -> tuple[str, ...]:
        """Types of its vGPUs, in the order of the devices."""
        return tuple(device.vgpu for device in self.devices if device.vgpu is not None)

    @property
    def passthrough(self) -> tuple[str, ...]:
        """PCI addresses of the devices it has by direct passthrough, where known."""
        return tuple(d.pci_id for d in self.devices if d.kind in ("fixed", "dynamic") and d.pci_id is not None)

    @property
    def mark(self) -> Mark | None:
        """The mark that makes it ours; None for a VM of somebody else, which a copy of one of ours is."""
        options = dict(self.options)
        return Mark.of(options) if options.get(UUID, self.instance_uuid) == self.instance_uuid else None
