"""Who a virtual machine is: the id of its plan, its UUID, and the marks that say that it is ours.

A second run finds what the first one made by these alone. Must not know vCenter.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vsphere.values import PREFIX, Mark

if TYPE_CHECKING:
    from partitioner.plans import Plan

VERSION = f"{PREFIX}version"
MARK_VERSION = "1"
"""Version of the marks themselves."""

_SPACE = uuid.UUID("6c1dab9d-8ab6-58fc-8d3f-83ce49a4dcac")  # never to be changed: it would disown all machines made before


def plan_id(plan: Plan) -> str:
    """Return a short name of a plan that is the same for the same plan on every machine and in every run.

    Returns
    -------
    The first 12 hexadecimal digits of SHA-256 over canonical JSON (no blanks, ASCII) of what is to stand where: for every GPU
    with placements, in the plan's order, its host, index, model and mode, and of each placement profile, start, workload and
    replica. What the planner says beside it (status, bounds, notes, prices) takes no part, so that a plan made again, saved or
    loaded keeps its id.
    """
    gpus = [
        [gpu.host, gpu.gpu, gpu.model, gpu.mode, [[s.profile, s.start, s.workload, s.replica] for s in gpu.slots]]
        for gpu in plan.layout
        if gpu.slots
    ]
    return hashlib.sha256(json.dumps(gpus, separators=(",", ":")).encode()).hexdigest()[:12]


def instance_uuid(plan: str, workload: str, replicas: Iterable[int]) -> str:
    """Return the `instanceUuid` of the machine that runs these replicas of a workload in a plan: UUID version 5 of the three.

    Examples
    --------
    >>> instance_uuid("a1b2", "chat", [0]) == instance_uuid("a1b2", "chat", [0])
    True
    >>> len({instance_uuid("a1b2", "chat", [0]), instance_uuid("a1b2", "chat", [1]), instance_uuid("a1b2", "chat", [0, 1])})
    3
    """
    return str(uuid.uuid5(_SPACE, json.dumps([plan, workload, sorted(replicas)])))


def marks(mark: Mark) -> dict[str, str]:
    """Return the keys of extraConfig that make a machine ours, with the version of the marks.

    Examples
    --------
    >>> marks(Mark("a1b2", "chat", 0))["gpu-partitioner.version"]
    '1'
    """
    return {**mark.options(), VERSION: MARK_VERSION}
