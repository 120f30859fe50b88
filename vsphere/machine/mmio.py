"""How much address space above 4 GiB a virtual machine needs for its GPUs. Numbers only; must not know plans or vCenter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import SpecError

Policy = Literal["double", "above"]
"""How the sum over a machine's GPUs becomes a size; see `mmio_size_gb`."""
POLICIES: tuple[Policy, ...] = get_args(Policy)

FLOOR_GB = 64
"""Least size that is set [GB]: what the source documents use."""
_WITHOUT = frozenset({"T4"})
"""Models whose address space fits below 4 GiB: BAR1 of a T4 has 256 MiB."""
_MOST_GB = 1 << 20


def mmio_size_gb(gpus: Iterable[str | float | GpuModel], policy: Policy = "double") -> int | None:
    """Return `pciPassthru.64bitMMIOSizeGB` for a virtual machine with these GPUs, or None where it needs none.

    Parameters
    ----------
    gpus : the GPUs, each as the name of its model or as its memory [GiB].
    policy : ``double``: the sum is rounded up to a power of two and doubled; ``above``: the smallest power of two strictly
        above the sum. ``double`` is never less.

    Returns
    -------
    A power of two, at least 64 [GB]; None where no GPU needs address space above 4 GiB (a T4).

    Raises
    ------
    SpecError
        A model or the policy is unknown, a size is no number above 0, or there is no GPU.

    Notes
    -----
    Of each GPU counts its memory rounded up to a power of two, because that is the size of its BAR1, which may be more than
    the memory (A100 80 GB: 128 GB). Both policies are in use among administrators; too much costs address space only.

    Examples
    --------
    >>> mmio_size_gb(["A100-80GB"]), mmio_size_gb(["A100-80GB"] * 3), mmio_size_gb(["A100-80GB"] * 3, "above")
    (256, 1024, 512)
    >>> mmio_size_gb([16.0]), mmio_size_gb(["T4"]) is None
    (64, True)
    """
    check_policy(policy)
    listed = [gpus] if isinstance(gpus, str | GpuModel) else list(gpus)
    if not listed:
        raise SpecError("mmio_size_gb: gpus is empty; name the GPUs of one virtual machine")
    total = sum(_bar_gb(gpu) for gpu in listed)
    return None if total == 0 else max(FLOOR_GB, _sized(total, policy))


def check_policy(policy: object) -> None:
    """Refuse what is no policy.

    Raises
    ------
    SpecError
        It is none.
    """
    if policy not in POLICIES:
        raise SpecError(f"mmio_size_gb: unknown policy {policy!r}; policies are {', '.join(POLICIES)}")


def next_power(number: float) -> int:
    """Return the smallest power of two that is not below a number of at least 1."""
    power = 1
    while power < number:
        power *= 2
    return power


def _sized(total: int, policy: Policy) -> int:
    return 2 * next_power(total) if policy == "double" else next_power(total + 1)


def _bar_gb(gpu: str | float | GpuModel) -> int:
    """Return the size of a GPU's BAR1, 0 where it stays below 4 GiB [GB]."""
    if isinstance(gpu, str | GpuModel):
        model = catalog.gpu(gpu)
        if model.name in _WITHOUT:
            return 0
        if not model.memory_mib:
            raise SpecError(f"mmio_size_gb: {model.name} shares the memory of its host; it is no device of a virtual machine")
        return next_power(model.memory_mib / 1024)
    if isinstance(gpu, bool) or not isinstance(gpu, int | float) or not 0 < gpu <= _MOST_GB:
        raise SpecError(f"mmio_size_gb: {gpu!r} is neither a GPU model nor its memory in GiB; write e.g. 'A100-80GB' or 80")
    return next_power(max(gpu, 1))
