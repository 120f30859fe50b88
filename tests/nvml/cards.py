"""GPUs and instances that are in a machine before a test begins, written into its state file."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, memset, sizeof
from dataclasses import dataclass
from uuid import NAMESPACE_DNS, uuid5

from nvml import state

Placed = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU to be put into a machine.

    Parameters
    ----------
    model : name in the catalogue.
    mig : whether MIG mode is on.
    layout : GPU instances present, as (profile, start), each with the compute instance that takes all of it.
    needs_reset : NVML cannot reset the GPU itself: a mode change reports RESET_REQUIRED and stays pending until
        `nvidia-smi --gpu-reset` or a reboot.
    needs_external_reset : as where a VM has the GPU passed through: a mode change reports NOT_SUPPORTED, `nvidia-smi
        --gpu-reset` too, and it stays pending until a reboot.
    """

    model: str
    mig: bool = False
    layout: Sequence[Placed] = ()
    needs_reset: bool = False
    needs_external_reset: bool = False


def write_gpu(content: state.State, index: int, card: Card, model: int) -> None:
    """Write a GPU with what stands on it; its model is written already."""
    gpu = content.gpus[index]
    gpu.uuid = f"GPU-{uuid5(NAMESPACE_DNS, f'{card.model}/{index}')}".encode()
    gpu.serial = f"13220210{index:05d}".encode()
    gpu.model, gpu.minor, gpu.persistence, gpu.ecc = model, index, 1, 1
    gpu.domain, gpu.bus, gpu.device = index // 16, 0x07 + 8 * (index % 16), 0
    gpu.mode = gpu.pending = int(card.mig)
    gpu.activation = 3 if card.needs_external_reset else 16 if card.needs_reset else 0
    for profile, start in card.layout:
        put_instance(content, index, profile, start)


def put_instance(content: state.State, index: int, profile: str, start: int, *, compute: bool = True) -> None:
    """Write an instance that was there before the test; ids follow NVIDIA's numbering, as in the library."""
    gpu = content.gpus[index]
    model = content.models[gpu.model]
    number = next(n for n in range(model.profile_count) if model.profiles[n].name.decode() == profile)
    extent = model.profiles[number].extent
    taken = {gi.id for gi in gpu.instances if gi.used}
    identity = model.units // extent - 1 + start // extent
    if model.units % extent or start % extent or identity in taken:
        identity = next(n for n in range(32, 64) if n not in taken)
    gi = next(gi for gi in gpu.instances if not gi.used)
    memset(addressof(gi), 0, sizeof(gi))
    content.generation += 2
    gi.generation, gi.id, gi.profile, gi.start, gi.used = content.generation - 1, identity, number, start, 1
    if compute:
        offered = model.profiles[number]
        whole = next(n for n in range(offered.compute_profile_count) if offered.compute_profiles[n].slices == offered.slices)
        ci = gi.compute[0]
        ci.generation, ci.profile, ci.start, ci.used = content.generation, whole, offered.compute_profiles[whole].starts[0], 1
