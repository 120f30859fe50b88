"""Which processes steps would find where nothing may run. Looks only; the target itself refuses, in its turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from partitioner.cli.output import some
from partitioner.cli.reading import GpuStatus, User, read_status

if TYPE_CHECKING:
    from partitioner.changes import Step
    from partitioner.targets import Target


def in_the_way(target: Target, steps: Iterable[Step]) -> tuple[str, ...]:
    """Return one sentence for each instance, or GPU, that steps need free and on which processes run.

    Raises
    ------
    TargetError
        The target does not answer.
    """
    from partitioner.nvml import NvmlTarget

    if not isinstance(target, NvmlTarget):
        return ()
    there = {(gpu.host, gpu.index): gpu for gpu in read_status(target).gpus}
    found: dict[str, tuple[User, ...]] = {}
    for step in steps:
        gpu = there.get((step.host, step.gpu))
        if gpu is not None and step.kind in ("destroy", "drain", "mode"):
            found |= {where: users for where, users in _users(gpu, step) if users}
    return tuple(
        f"{where}: {some([str(user) for user in users])} must end first; apply waits for that with --drain, else it refuses"
        for where, users in found.items()
    )


def _users(gpu: GpuStatus, step: Step) -> Iterator[tuple[str, tuple[User, ...]]]:
    for instance in gpu.instances or ():
        if step.kind == "mode" or (instance.profile, instance.start) == (step.profile, step.start):
            yield gpu.label if instance.profile == "whole" else f"{gpu.label} {instance.name}", instance.processes
    if step.kind == "mode":
        yield gpu.label, gpu.processes
