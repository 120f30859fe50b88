"""Which devices each replica's process may see: CUDA_VISIBLE_DEVICES. Must not know how UUIDs are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from partitioner.changes.step import Place
from partitioner.errors import SpecError
from partitioner.export.files import Files, file_stem
from partitioner.export.machines import Source, checked_uuid, machines, plain
from partitioner.layout import GpuLayout, Slot, gpu_label

Fields = tuple[str | None, int, str, int]
Devices = Mapping[Place, str] | Mapping[Fields, str] | Mapping[Place | Fields, str]
"""Placement to UUID; a placement is a `Place`, or its fields host, gpu, profile, start."""

Replica = tuple[str, int]


class VisibleDevices(Mapping[Replica, str]):
    """(workload, replica) to the value of CUDA_VISIBLE_DEVICES: UUIDs, separated by commas. Immutable.

    A process of CUDA uses one MIG device at most (NVIDIA Multi-Instance GPU user guide, "CUDA Device Enumeration"); where a
    replica holds several, start a process for each.
    """

    __slots__ = ("_of",)

    def __init__(self, of: Mapping[Replica, str]) -> None:
        self._of = dict(of)

    def __getitem__(self, replica: Replica) -> str:
        return self._of[replica]

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __hash__(self) -> int:
        return hash(frozenset(self._of.items()))

    def __repr__(self) -> str:
        return f"<VisibleDevices of {len(self._of)} replicas>"

    def __str__(self) -> str:
        """For each replica a comment with its name and the line for an environment file."""
        return "".join(self.env(*replica) for replica in self._of)

    def env(self, workload: str, replica: int) -> str:
        """Return the text of an environment file, as ``EnvironmentFile=`` of systemd and ``docker run --env-file`` take it.

        Raises
        ------
        KeyError
            There is no such replica.
        """
        return f"# {plain(workload)}/{replica}\nCUDA_VISIBLE_DEVICES={self._of[workload, replica]}\n"

    def files(self) -> Files:
        """Return an environment file for each replica: ``chat-0.env``."""
        contents: dict[str, str] = {}
        for workload, replica in self._of:
            stem = name = f"{file_stem(workload)}-{replica}"
            number = 2
            while f"{name}.env" in contents:  # names that differ only in what file names cannot have
                name, number = f"{stem}_{number}", number + 1
            contents[f"{name}.env"] = self.env(workload, replica)
        return Files(contents)


def cuda_visible_devices(source: Source, devices: Devices | None = None, *, host: str | None = None) -> VisibleDevices:
    """Return CUDA_VISIBLE_DEVICES for each replica, in the layout's order.

    Parameters
    ----------
    source : a `Plan`, a `Layout`, or anything with a ``layout``.
    devices : placement to UUID: of a MIG device (``MIG-...``), or of the GPU (``GPU-...``) for ``whole`` at 0, where the
        layout's own UUIDs serve too. `NvmlTarget.identifiers()` returns them, ``nvidia-smi -L`` lists them.
    host : the only host wanted; None for all.

    Raises
    ------
    SpecError
        A placement that a replica holds has no UUID, two have the same, or one is not of the driver's form; the host is not
        in the layout, or a GPU is in a vGPU mode.
    """
    given = {_place(key): uuid for key, uuid in (devices or {}).items()}
    found: dict[Replica, list[str]] = {}
    seen: dict[str, str] = {}
    missing: list[str] = []
    for machine in machines(source, host):
        for gpu in machine.gpus:
            for slot in gpu.slots:
                if slot.workload is None:
                    continue
                uuid, where = _uuid(gpu, slot, given), f"{gpu_label(gpu.host, gpu.gpu)} {slot.profile}@{slot.start}"
                if uuid is None:
                    missing.append(where)
                    continue
                if seen.setdefault(uuid, where) != where:
                    raise SpecError(f"{where} and {seen[uuid]} both have UUID {uuid}; each device has its own")
                found.setdefault((slot.workload, slot.replica or 0), []).append(uuid)
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise SpecError(
            f"no UUID known of {', '.join(missing[:8])}{more}; instances get theirs when they are made: apply the plan, then"
            " give devices=NvmlTarget(host=...).identifiers() or {(host, gpu, profile, start): 'MIG-...'} from nvidia-smi -L"
        )
    return VisibleDevices({replica: ",".join(uuids) for replica, uuids in found.items()})


def _place(key: Place | Fields) -> Place:
    if isinstance(key, Place):
        return key
    if not isinstance(key, tuple) or len(key) != 4:
        raise SpecError(f"devices: {key!r} is not a placement; write (host, gpu, profile, start)")
    return Place(*key)


def _uuid(gpu: GpuLayout, slot: Slot, given: Mapping[Place, str]) -> str | None:
    uuid = given.get(Place(gpu.host, gpu.gpu, slot.profile, slot.start))
    if uuid is None and gpu.mode == "whole":
        uuid = gpu.uuid
    return None if uuid is None else checked_uuid(uuid, f"{gpu_label(gpu.host, gpu.gpu)} {slot.profile}@{slot.start}")
