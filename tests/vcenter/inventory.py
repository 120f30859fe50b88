"""What is there when the vCenter starts: hosts, GPUs, network adapters, VMs; and GPU facts taken from the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

from partitioner import catalog

Mode = Literal["vgpu", "vgpu-mixed", "mig", "shared", "passthrough"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of a host.

    Parameters
    ----------
    model : name in the catalogue.
    mode : ``vgpu`` (time-sliced, equal sizes), ``vgpu-mixed``, ``mig``, ``shared`` (host not prepared), ``passthrough``.
    numa_node : node it is at; None spreads the GPUs of a host over its nodes.
    pci_id : e.g. ``0000:3b:00.0``; empty for the next free one.
    passthrough_capable : whether passthrough can be enabled.
    subsystem_id : PCI subsystem device id, which tells boards with one device id apart.
    """

    model: str
    mode: Mode = "vgpu"
    numa_node: int | None = None
    pci_id: str = ""
    passthrough_capable: bool = True
    subsystem_id: int = 0x1533


@dataclass(frozen=True, slots=True)
class Nic:
    """A network adapter, with RDMA by default; `passthrough` enabled and active or not."""

    name: str = "MT28908 Family [ConnectX-6]"
    numa_node: int = 0
    pci_id: str = ""
    vendor_id: int = 0x15B3
    device_id: int = 0x101B
    passthrough: bool = False
    speed_mb: int = 100_000


@dataclass(frozen=True, slots=True)
class Host:
    """An ESXi host.

    Parameters
    ----------
    gpus : GPUs in order; a name alone is time-sliced with equal sizes.
    cluster : name of its cluster, None for a host of its own.
    policy : ``performance`` (GPU with the fewest VMs) or ``consolidation`` (fill GPUs up).
    default_graphics : ``sharedDirect`` or ``shared``.
    graphics_needs_reboot : a change of the graphics type is active after a reboot only, not after RefreshGraphicsManager.
    reboot_s : time that a reboot takes [s].
    vibs : NVIDIA's (name, version), None for one driver where there are GPUs.
    """

    name: str
    gpus: Sequence[str | Gpu] = ()
    cluster: str | None = "cluster-1"
    cores: int = 64
    threads: int = 128
    ram_gib: int = 1024
    numa_nodes: int = 2
    datastores: Sequence[str] = ("datastore-1",)
    networks: Sequence[str] = ("VM Network",)
    nics: Sequence[Nic] = ()
    policy: Literal["performance", "consolidation"] = "performance"
    default_graphics: Literal["sharedDirect", "shared"] = "sharedDirect"
    maintenance: bool = False
    connected: bool = True
    graphics_needs_reboot: bool = False
    reboot_s: float = 0.05
    esxi: str = "8.0.3"
    vibs: Sequence[tuple[str, str]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that the server reads, with PCI addresses given."""
        content = {name: value for name, value in asdict(self).items() if name != "reboot_s"}
        gpus = [entry if isinstance(entry, Gpu) else Gpu(entry) for entry in self.gpus]
        places = [
            n * self.numa_nodes // max(1, len(gpus)) if gpu.numa_node is None else gpu.numa_node for n, gpu in enumerate(gpus)
        ]
        content["gpus"] = [
            asdict(replace(gpu, numa_node=node, pci_id=gpu.pci_id or pci_id(n)))
            for n, (gpu, node) in enumerate(zip(gpus, places, strict=True))
        ]
        content["nics"] = [
            asdict(replace(nic, pci_id=nic.pci_id or f"0000:{0x10 + n:02x}:00.0")) for n, nic in enumerate(self.nics)
        ]
        usual = [("NVD-AIE_ESXi_8.0.0_Driver", "550.90.05-1OEM.800.1.0.20613240")] if self.gpus else []
        vibs = usual if self.vibs is None else self.vibs
        content["vibs"] = [{"name": name, "version": version, "vendor": "NVIDIA"} for name, version in vibs]
        return {**content, "cluster": self.cluster or "", "reboot_ms": round(self.reboot_s * 1000)}


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM that is there already, made by somebody else.

    Parameters
    ----------
    vgpus : vGPU types as the host offers them.
    passthrough : PCI addresses of devices of the host.
    dynamic : GPU models for Dynamic DirectPath.
    reserved : all memory is reserved; None for "where it has a GPU".
    folder : name of its folder; made where it is not there, empty for the data centre's.
    """

    name: str
    host: str
    vgpus: Sequence[str] = ()
    passthrough: Sequence[str] = ()
    dynamic: Sequence[str] = ()
    vcpus: int = 8
    ram_gib: int = 16
    reserved: bool | None = None
    powered_on: bool = False
    folder: str = ""
    datastore: str = ""
    networks: Sequence[str] = ()
    instance_uuid: str = ""
    extra_config: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that the server reads."""
        reserved = bool(self.vgpus or self.passthrough or self.dynamic) if self.reserved is None else self.reserved
        return {**asdict(self), "reserved": reserved, "extra_config": self.extra_config or {}}


def pci_id(index: int) -> str:
    """Return the PCI address of the GPU of an index where none was given."""
    return f"0000:{0x3B + 0x10 * (index % 12) + index // 12:02x}:00.0"


def models(hosts: Iterable[Host]) -> dict[str, dict[str, Any]]:
    """Return the facts about all GPU models of some hosts."""
    names = {entry if isinstance(entry, str) else entry.model for host in hosts for entry in host.gpus}
    return {name: facts(name) for name in sorted(names)}


@cache
def facts(name: str) -> dict[str, Any]:
    """Return what the server has to know about a GPU model, of its first board that ESXi knows."""
    record = catalog.gpu(name).record
    boards = [board for board in record.boards if any(kind.esxi_name for kind in board.types)] or record.boards[:1]
    board = boards[0] if boards else None
    ids = (board.pci_device_ids if board else ()) or record.pci_device_ids or ("0x1eff",)
    ampere = record.architecture == "Ampere"
    profiles = record.mig.profiles if record.mig else ()
    names = {spelling: profile.name for profile in profiles for spelling in (profile.name, *profile.aliases)}
    return {
        "name": record.name,
        "device_name": _product(record.product_names, record.pci_device_ids, ids[0]) or record.name,
        "device_id": int(ids[0], 16),
        "memory_mib": record.memory_gib * 1024,
        "mig_needs_reboot": ampere,
        "mig_survives_boot": ampere,
        "types": [
            {
                "name": kind.esxi_name or f"nvidia_{kind.name.lower().replace(' ', '_')}",
                "series": kind.series,
                "frame_buffer_mib": kind.frame_buffer_mib,
                "max": kind.max_per_gpu,
                "max_mixed": (kind.max_per_gpu_mixed or 0) if not kind.gi_profile else 0,
                "profile": names.get(kind.gi_profile or "", ""),
                "per_instance": kind.vgpus_per_gpu_instance,
            }
            for kind in (board.types if board else ())
            if not kind.alias_of
        ],
        "mig": _mig(name),
        "mixed": _mixed(name),
    }


def _product(products: tuple[str, ...], ids: tuple[str, ...], device_id: str) -> str:
    """Return the product of a PCI device id; the catalogue lists both in one order where they pair."""
    if len(products) == len(ids) and device_id in ids:
        return products[ids.index(device_id)]
    return products[0] if products else ""


def _mig(name: str) -> dict[str, Any] | None:
    mig = catalog.gpu(name).record.mig
    if mig is None:
        return None
    limits = {f"{kind} instances": most for kind, most in mig.instance_limits.items()}
    shapes = []
    for profile in mig.profiles:
        uses = {**profile.engines, "instances": 1}
        if limits:
            uses[f"{'gfx' if 'gfx' in profile.attributes else 'compute'} instances"] = 1
        shapes.append(
            {"name": profile.name, "starts": profile.starts, "extent": profile.extent, "max": profile.max_count, "uses": uses}
        )
    totals = {**mig.engine_totals, **limits, "instances": mig.max_gpu_instances}
    return {"units": mig.memory_slices, "shapes": shapes, "totals": totals}


def _mixed(name: str) -> dict[str, Any] | None:
    mixed = catalog.gpu(name).record.vgpu_mixed
    if mixed is None:
        return None
    shapes = [
        {"name": str(size.frame_buffer_mib), "starts": size.starts, "extent": size.extent, "max": size.max_count, "uses": {}}
        for size in mixed.sizes
    ]
    return {"units": mixed.region_gb, "shapes": shapes, "totals": {}}
