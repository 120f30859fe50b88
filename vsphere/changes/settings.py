"""What of a virtual machine can be changed after it was made, in one form for machines that are read and that are wanted.

Datastore, folder, networks, adapters by SR-IOV, template, disk and operating system are decided when a machine is made and are
not compared.
Must not know pyVmomi.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from vsphere.machine.vm import Device, Nic, Vm
from vsphere.values import PREFIX, Mark, VmDevice, VmInfo

READ = (PREFIX, "guestinfo.gpu-partitioner.", "pciPassthru", "numa.", "sched.", "cpuid.coresPerSocket", "vgpu.")
"""How the keys of extra configuration begin that are read, so that only these can be compared."""
_PLACES = f"{PREFIX}places"
_OWN = re.compile(
    r"(?i)^(?:gpu-partitioner\.(?:plan|workload|replica|places|version)"
    r"|pciPassthru\.(?:use64bitMMIO|64bitMMIOSizeGB|allowP2P|RelaxACSforP2P)|pciPassthru\d+\.cfg\..*)$"
)
"""Keys that are taken away where they are not wanted; vSphere writes others of its own beside them."""


@dataclass(frozen=True, slots=True, order=True)
class DeviceSetting:
    """One PCI device: `kind` and what it asks for; as of `VmDevice`."""

    kind: str
    vgpu: str = ""
    pci_id: str = ""
    allowed: tuple[str, ...] = ()
    label: str = ""
    numa_node: int = -1

    def __str__(self) -> str:
        what = self.vgpu or self.pci_id or ",".join(self.allowed)
        node = f" on NUMA node {self.numa_node}" if self.numa_node >= 0 else ""
        return (what if self.kind == "vgpu" else f"{self.kind} {what}") + node


@dataclass(frozen=True, slots=True)
class Settings:
    """What is compared and changed.

    Parameters
    ----------
    name : its name.
    host : where it is or shall be; None leaves the choice to vSphere.
    vcpus, cores_per_socket : virtual CPUs; cores None where it does not matter.
    ram_mib : memory [MiB].
    memory_locked : whether all memory is reserved.
    firmware : ``efi`` or ``bios``.
    latency : latency sensitivity.
    devices : PCI devices in order.
    options : extra configuration, by key; only what `READ` names.
    """

    name: str
    host: str | None
    vcpus: int
    cores_per_socket: int | None
    ram_mib: int
    memory_locked: bool
    firmware: str
    latency: str
    devices: tuple[DeviceSetting, ...]
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that differs: which, what it is and what it shall be, and whether the machine must be off to change it."""

    setting: str
    now: str
    goal: str
    off: bool

    def __str__(self) -> str:
        name = self.setting.removeprefix(PREFIX)
        now, goal = (_places(self.now), _places(self.goal)) if self.setting == _PLACES else (self.now, self.goal)
        return f"{name} {now or 'none'} -> {goal or 'none'}"


def wanted(vm: Vm) -> Settings:
    """Return the settings that a machine shall have."""
    devices = [_wanted_device(device) for device in vm.devices] + [s for nic in vm.nics for s in _wanted_nic(nic)]
    return Settings(
        vm.name,
        vm.host,
        vm.vcpus,
        vm.cores_per_socket,
        vm.ram_mib,
        True,
        vm.firmware,
        vm.latency,
        tuple(devices),
        tuple(sorted((key, value) for key, value in vm.extra_config().items() if key.startswith(READ))),
    )


def found(info: VmInfo) -> Settings:
    """Return the settings that a machine has."""
    return Settings(
        info.name,
        info.host,
        info.vcpus,
        info.cores_per_socket or None,
        round(info.ram_gib * 1024),
        info.memory_locked,
        info.firmware or "bios",
        info.latency_sensitivity or "normal",
        tuple(_found_device(device) for device in info.devices if device.kind != "sriov"),
        tuple(sorted((key, value) for key, value in info.options if key.startswith(READ) and value)),
    )


def differences(now: Settings, goal: Settings) -> tuple[Difference, ...]:
    """Return what has to change, the host apart (see `moves`).

    Examples
    --------
    >>> from dataclasses import replace
    >>> now = Settings("a", "esx-01", 8, None, 65536, True, "efi", "normal", (), ())
    >>> [str(d) for d in differences(now, replace(now, vcpus=16))]
    ['vCPUs 8 -> 16']
    """
    rows: list[tuple[str, str, str, bool]] = [
        ("name", now.name, goal.name, False),
        ("vCPUs", str(now.vcpus), str(goal.vcpus), True),
        ("RAM", f"{now.ram_mib:,} MiB", f"{goal.ram_mib:,} MiB", True),
        ("memory reserved", _word(now.memory_locked), _word(goal.memory_locked), False),
        ("firmware", now.firmware, goal.firmware, True),
        ("latency sensitivity", now.latency, goal.latency, True),
    ]
    if goal.cores_per_socket is not None:
        rows.append(("cores per socket", str(now.cores_per_socket or ""), str(goal.cores_per_socket), True))
    if Counter(now.devices) != Counter(goal.devices):
        rows.append(("GPUs", _listed(now.devices), _listed(goal.devices), True))
    rows += [(key, was, shall, not key.startswith(PREFIX)) for key, was, shall in changed_options(now, goal)]
    return tuple(Difference(*row) for row in rows if row[1] != row[2] or row[0] == "GPUs")


def changed_options(now: Settings, goal: Settings) -> list[tuple[str, str, str]]:
    """Return key, value now and value wanted of the extra configuration that differs; no value is the empty string."""
    before, after = dict(now.options), dict(goal.options)
    keys = sorted({*after, *(key for key in before if _OWN.match(key))})
    return [(key, before.get(key, ""), after.get(key, "")) for key in keys if before.get(key, "") != after.get(key, "")]


def moves(now: Settings, goal: Settings) -> bool:
    """Whether the machine has to go to another host."""
    return goal.host is not None and now.host != goal.host


def _wanted_device(device: Device) -> DeviceSetting:
    node = -1 if device.numa_node is None else device.numa_node
    if device.vgpu:
        return DeviceSetting("vgpu", vgpu=device.vgpu, numa_node=node)
    if device.fixed:
        return DeviceSetting("fixed", pci_id=device.fixed, numa_node=node)
    return DeviceSetting("dynamic", allowed=tuple(sorted(device.dynamic)), label=device.label or "", numa_node=node)


def _wanted_nic(nic: Nic) -> list[DeviceSetting]:
    node = -1 if nic.numa_node is None else nic.numa_node
    return [DeviceSetting("fixed", pci_id=nic.fixed, numa_node=node)] if nic.fixed else []


def _found_device(device: VmDevice) -> DeviceSetting:
    node = -1 if device.numa_node is None else device.numa_node
    if device.kind in ("dynamic", "dvx"):  # the device that a dynamic one has now is vSphere's choice
        return DeviceSetting(device.kind, allowed=tuple(sorted(device.allowed)), label=device.label, numa_node=node)
    return DeviceSetting(device.kind, vgpu=device.vgpu or "", pci_id=device.pci_id or "", numa_node=node)


def _places(text: str) -> str:
    """Return what devices are for in words; the text as it is where it is not ours."""
    mark = Mark.of({f"{PREFIX}plan": "-", f"{PREFIX}workload": "-", f"{PREFIX}replica": "0", _PLACES: text})
    return ", ".join(f"GPU {p.gpu} {p.profile}@{p.start}" for p in mark.places) if mark is not None else text


def _listed(devices: tuple[DeviceSetting, ...]) -> str:
    counts = Counter(map(str, devices))
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def _word(value: bool) -> str:  # noqa: FBT001 - one value to one word
    return "yes" if value else "no"
