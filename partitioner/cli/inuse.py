"""Which processes steps would find where nothing may run, in words. Looks only; the target itself refuses, in its turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from partitioner.cli.output import some

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
    return tuple(
        f"{where}: {some([str(user) for user in users])} must end first; apply waits for that with --drain, else it refuses"
        for where, users in target.in_the_way(steps).items()
    )
