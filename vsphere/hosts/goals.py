"""What the GPUs of a plan ask of their hosts, and what is so already. Must not know steps, nor how they are carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from partitioner import catalog
from partitioner.errors import SpecError, did_you_mean
from partitioner.layout import GpuLayout, Layout, gpu_label
from vsphere.hosts.smi import HostFacts
from vsphere.values import GpuInfo, HostInfo, Inventory

Wish = Literal["mig", "sameSize", "mixedSize", "whole"]
Goals = Mapping[tuple[str, int], str]
"""Modes of GPUs, in the catalogue's names, by host and index."""

SHARED_DIRECT = "sharedDirect"


def goal_modes(goal: Layout | Goals | Any) -> dict[tuple[str, int], str]:
    """Return the mode that each GPU of a plan is to have; GPUs whose mode is left as it is are left out.

    Parameters
    ----------
    goal : a plan, a layout, or modes by (host, index).

    Raises
    ------
    SpecError
        The plan names no hosts.
    """
    if isinstance(goal, Mapping):
        return {(host, index): mode for (host, index), mode in goal.items()}
    return {(host, gpu.gpu): gpu.mode for host, gpu in _gpus(goal) if gpu.mode is not None}


def check_models(goal: Layout | Goals | Any, inventory: Inventory) -> None:
    """Refuse a plan for other GPUs than the inventory has.

    Raises
    ------
    SpecError
        A host or GPU is missing there, or is of another model.
    """
    models: dict[tuple[str, int], str | None]
    if isinstance(goal, Mapping):
        models = dict.fromkeys(goal)
    else:
        models = {(host, gpu.gpu): gpu.model for host, gpu in _gpus(goal)}
    for (name, index), model in models.items():
        host = inventory.host.get(name)
        if host is None:
            hint = did_you_mean(name, inventory.host)
            raise SpecError(f"host {name!r} is not in the inventory of {inventory.vcenter}" + (f"; {hint}" if hint else ""))
        if not 0 <= index < len(host.gpus):
            raise SpecError(f"{gpu_label(name, index)}: the host has {len(host.gpus)} GPUs; the plan was made for another fleet")
        found = host.gpus[index].model
        if model is not None and found is not None and found != model:
            said = f"{gpu_label(name, index)}: the plan says {model}, the inventory {found}"
            raise SpecError(f"{said}; the plan was made for another fleet")


def _gpus(goal: Any) -> list[tuple[str, GpuLayout]]:
    layout: Layout = goal if isinstance(goal, Layout) else goal.layout
    found = []
    for gpu in layout:
        if gpu.host is None:
            raise SpecError(f"GPU {gpu.gpu} of the plan is on no named host; plan with the fleet of the inventory")
        found.append((gpu.host, gpu))
    return found


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """One GPU, what it is to be, and what it is.

    Parameters
    ----------
    host : name of its host.
    gpu : as read.
    model : name in the catalogue.
    wish : ``mig``, ``sameSize`` and ``mixedSize`` (time-sliced vGPU), ``whole`` (passthrough).
    mig : whether MIG mode is on; None where nobody said.
    mig_pending : whether MIG mode will be on after a restart; as `mig` where nobody said.
    restarts : whether a change of MIG mode takes a restart of the host (Ampere).
    has_mig : whether the model has MIG.
    """

    host: str
    gpu: GpuInfo
    model: str
    wish: Wish
    mig: bool | None
    mig_pending: bool | None
    restarts: bool
    has_mig: bool

    @property
    def wants_mig(self) -> bool:
        """Whether MIG mode is to be on."""
        return self.wish == "mig"

    @property
    def wants_passthrough(self) -> bool:
        """Whether it is to be given to a VM as it is."""
        return self.wish == "whole"

    @property
    def hidden(self) -> bool:
        """Whether the host's driver does not see it, because it is in passthrough."""
        return self.gpu.passthrough_active

    @property
    def mig_changes(self) -> bool:
        """Whether MIG mode is another than it is to be, or may be."""
        if not self.has_mig:
            return False
        if self.hidden and self.wants_passthrough:
            return False  # nobody can look; it was off when it was hidden, or its owner's wish
        return self.mig != self.wants_mig

    @property
    def mig_waits(self) -> bool:
        """Whether MIG mode was changed already and waits for a restart."""
        return self.mig_changes and self.mig is not None and self.mig_pending == self.wants_mig

    @property
    def type_changes(self) -> bool:
        """Whether the configured graphics type is to be another; in passthrough it has none."""
        if self.wants_passthrough or self.hidden or self.gpu.passthrough_enabled:
            return False
        return (self.gpu.configured_type or self.gpu.graphics_type) != SHARED_DIRECT

    @property
    def type_waits(self) -> bool:
        """Whether the graphics type was changed already and waits for a restart."""
        return not self.wants_passthrough and self.gpu.configured_type == SHARED_DIRECT != self.gpu.graphics_type

    @property
    def passthrough_changes(self) -> bool:
        """Whether passthrough is configured otherwise than it is to be."""
        return self.gpu.passthrough_enabled != self.wants_passthrough

    @property
    def passthrough_waits(self) -> bool:
        """Whether passthrough was changed already and waits for a restart."""
        return not self.passthrough_changes and self.gpu.passthrough_active != self.wants_passthrough


def need(host: HostInfo, index: int, mode: str, *, api_modes: bool, facts: HostFacts | None, shell: bool) -> GpuNeed | str:
    """Return what a GPU needs, or what stands against it, in words.

    Parameters
    ----------
    host, index : the GPU.
    mode : that it is to have, in the catalogue's names.
    api_modes : whether vCenter knows vGPU modes (API 8.0.3).
    facts : what the host's shell says; None where it was not asked.
    shell : whether there will be a shell.
    """
    gpu = host.gpus[index]
    who = gpu_label(host.name, index)
    if gpu.model is None:
        return f"{who}: the catalogue does not know this GPU ({gpu.name or gpu.device_id or gpu.pci_id}); add it to the catalogue"
    model = catalog.gpu(gpu.model)
    if mode not in model.modes:
        return f"{who} ({model.name}): has no mode {mode!r}; its modes are {', '.join(model.modes)}"
    wish: Wish = "sameSize" if mode.startswith("vgpu-equal") else "mixedSize" if mode == "vgpu-mixed" else _exact(mode)
    if wish == "mixedSize" and not api_modes:
        return f"{who} ({model.name}): vGPU mode mixedSize takes API 8.0.3 or later; update vCenter, or plan equal sizes"
    if wish == "whole" and not gpu.passthrough_capable and not gpu.passthrough_enabled:
        return f"{who} ({model.name}): the host says that it cannot be passed through; switch VT-d/IOMMU on in its BIOS"
    has_mig = "mig" in model.modes
    seen = facts.gpu(gpu.pci_id) if facts else None
    mig = seen.mig if seen else _mig_by_api(gpu)
    if mig is None and wish != "mig" and not shell:
        mig = False  # nobody can look, and vCenter will say it once the type is set
    pending = seen.mig_pending if seen else mig
    return GpuNeed(host.name, gpu, model.name, wish, mig, pending, model.record.architecture == "Ampere", has_mig)


def _exact(mode: str) -> Wish:
    return "mig" if mode == "mig" else "whole"


def _mig_by_api(gpu: GpuInfo) -> bool | None:
    """Return whether vCenter says that MIG mode is on; of a GPU that is not prepared it does not know."""
    if gpu.mode == "mig" or gpu.vgpu_mode == "multiInstanceGpu":
        return True
    return False if gpu.vgpu_mode in ("sameSize", "mixedSize") else None
