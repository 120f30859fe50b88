"""Which GPU of a host each device of its running VMs is on, as far as vCenter says it, and the likeliest where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vsphere.occupancy.placements import Wish, arranged, mode_and_profiles

if TYPE_CHECKING:
    from vsphere.values import GpuInfo, HostInfo, Place, VmDevice, VmInfo

_MAX_TRIES = 5_000  # of ways to spread the devices of one VM over GPUs


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One device of a running VM.

    Parameters
    ----------
    vm : the VM.
    device : its device.
    occupant : workload and replica where the VM is ours; None where it is somebody else's.
    place : what the plan meant the device for, where that was written down.
    """

    vm: VmInfo
    device: VmDevice
    occupant: tuple[str, int] | None
    place: Place | None

    @property
    def whole(self) -> bool:
        """Whether it takes the GPU itself."""
        return self.device.kind != "vgpu"


@dataclass(slots=True, eq=False)
class GpuUse:
    """Who uses one GPU: devices, or a reason why the GPU counts as taken as a whole."""

    gpu: GpuInfo
    uses: list[Use] = field(default_factory=list)
    taken: str | None = None

    def fits(self, more: Sequence[Use] = ()) -> bool:
        """Whether its devices, and some more, can be on it together."""
        return self.arrangement(more) is not None

    def arrangement(self, more: Sequence[Use] = ()) -> tuple[str, tuple[tuple[Use, str, int], ...]] | None:
        """Return the mode and, for each device, profile and start; None where they cannot be on the GPU together."""
        uses, model = [*self.uses, *more], self.gpu.model
        if model is None:
            return None
        if any(use.whole for use in uses):
            return ("whole", ((uses[0], "whole", 0),)) if len(uses) == 1 else None
        found = mode_and_profiles(model, self.gpu.mode, [use.device.vgpu or "" for use in uses])
        if found is None:
            return None
        mode, profiles = found
        starts = arranged(model, mode, [self._wish(use, mode, name) for use, name in zip(uses, profiles, strict=True)])
        return (mode, tuple(zip(uses, profiles, starts, strict=True))) if starts is not None else None

    def _wish(self, use: Use, mode: str, profile: str) -> Wish:
        meant = use.place
        same = meant is not None and (meant.gpu, meant.mode, meant.profile) == (self.gpu.index, mode, profile)
        return profile, meant.start if meant is not None and same else None


def usage(host: HostInfo, vms: Iterable[VmInfo]) -> tuple[GpuUse, ...]:
    """Return who uses each GPU of a host whose model is known.

    Parameters
    ----------
    host : the host.
    vms : the VMs on it; those that run count.
    """
    gpus = tuple(GpuUse(gpu) for gpu in host.gpus if gpu.model is not None)
    running = [vm for vm in vms if vm.powered_on]
    known = {vm.moid for vm in running if vm.devices}
    for entry in gpus:
        strangers = [moid for moid in entry.gpu.vms if moid not in known]
        if strangers:
            entry.taken = f"used by {', '.join(strangers)}, of which vCenter shows no GPU device"
    wanted = [(vm, uses) for vm in running if (uses := _uses(vm))]
    for vm, uses in sorted(wanted, key=lambda entry: (len(_listing(gpus, entry[0])), entry[0].moid)):
        _spread(vm, uses, gpus)
    for entry in gpus:
        if entry.taken is None and entry.uses and entry.arrangement() is None:
            types = ", ".join(use.device.vgpu or use.device.kind for use in entry.uses)
            entry.taken = f"holds {types}, which by the catalogue cannot be on one {entry.gpu.model} together"
    return gpus


def _uses(vm: VmInfo) -> list[Use]:
    mark = vm.mark
    found = []
    number = 0
    for device in vm.devices:
        if device.kind not in ("vgpu", "fixed", "dynamic"):
            continue
        place = mark.places[number] if mark is not None and number < len(mark.places) else None
        occupant = None
        if mark is not None:
            occupant = (place.workload, place.replica) if place is not None else (mark.workload, mark.replica)
        found.append(Use(vm, device, occupant, place))
        number += 1
    return found


def _listing(gpus: Sequence[GpuUse], vm: VmInfo) -> list[GpuUse]:
    return [entry for entry in gpus if vm.moid in entry.gpu.vms]


def _spread(vm: VmInfo, uses: list[Use], gpus: Sequence[GpuUse]) -> None:
    """Put the devices of one VM on GPUs: where vCenter says so, else where the plan meant them, else where they fit."""
    listing = _listing(gpus, vm)
    open_uses = []
    for use in uses:
        addressed = [entry for entry in gpus if use.device.pci_id is not None and entry.gpu.pci_id == use.device.pci_id]
        if addressed:
            addressed[0].uses.append(use)
        elif not use.whole:
            open_uses.append(use)
        elif use.device.kind == "dynamic" and use.device.pci_id is None:
            _take_one_alike(use, gpus)
    if not open_uses:
        return
    candidates = [entry for entry in listing if not any(use.vm is vm for use in entry.uses)] or listing or list(gpus)
    found = _ways(open_uses, candidates, must_all=bool(listing))
    if found is None and listing:  # vCenter knows better than the catalogue: the GPUs count as taken
        for entry in candidates:
            entry.taken = entry.taken or f"used by {vm.name} ({vm.moid}) in a way that the catalogue does not have"
        return
    for use, entry in zip(open_uses, found or (), strict=False):
        entry.uses.append(use)


def _take_one_alike(use: Use, gpus: Sequence[GpuUse]) -> None:
    """Count a dynamic device, whose GPU vCenter does not say, on the last free one of those it may be."""
    for entry in reversed(gpus):
        if entry.gpu.mode == "whole" and entry.gpu.device_id in use.device.allowed and not entry.uses:
            entry.uses.append(use)
            return


def _ways(uses: list[Use], candidates: Sequence[GpuUse], *, must_all: bool) -> list[GpuUse] | None:
    """Return a GPU for each device so that all fit, each candidate getting one where it must; None where there is no way."""
    chosen: list[GpuUse] = []
    tries = 0

    def visit(depth: int) -> bool:
        nonlocal tries
        if depth == len(uses):
            return True
        use = uses[depth]
        unserved = [entry for entry in candidates if entry not in chosen] if must_all else []
        pool = unserved if len(unserved) >= len(uses) - depth else candidates
        for entry in sorted(pool, key=lambda entry: use.place is None or use.place.gpu != entry.gpu.index):
            tries += 1
            if tries > _MAX_TRIES:
                return False
            if entry.fits([*(u for u, e in zip(uses, chosen, strict=False) if e is entry), use]):
                chosen.append(entry)
                if visit(depth + 1):
                    return True
                chosen.pop()
        return False

    return chosen if visit(0) else None
