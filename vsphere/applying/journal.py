"""What the last apply of machines started from and whether it ended, in the target's folder. Must not know vCenter."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from partitioner.errors import SpecError, TargetError
from partitioner.targets.files import read_record, write_record
from vsphere.changes import VmChanges

End = Literal["done", "rolled back"]
_FORMAT = "gpu-partitioner/vsphere-journal"
_VERSION = 1
_REMEDY = "restore it from a copy, or remove it, and the last apply can no longer be rolled back"


@dataclass(frozen=True, slots=True)
class VmRun:
    """One apply of machines.

    Parameters
    ----------
    changes : what it carries out; its base is what was before.
    ended : how it ended; None while it runs, and when it was killed or stopped half way.
    started : when [UTC, ISO 8601].
    pid : the process.
    """

    changes: VmChanges
    ended: End | None = None
    started: str = ""
    pid: int = 0

    @classmethod
    def begin(cls, changes: VmChanges) -> VmRun:
        """Return a run that this process begins now."""
        return cls(changes, None, datetime.now(UTC).isoformat(timespec="seconds"), os.getpid())

    def follows(self, before: VmRun | None) -> VmRun:
        """Return this run as one that goes on after another that did not end: it began where that one did.

        What was before the first of them is what is kept of each machine, and machines made by it count as made by this one.
        """
        if before is None or before.ended is not None or before.changes.vcenter != self.changes.vcenter:
            return self
        old, new = before.changes, self.changes
        made = {step.uuid for step in old.steps if step.kind == "create"}
        base = {info.moid: info for info in new.base if info.instance_uuid not in made} | {info.moid: info for info in old.base}
        goal = {vm.instance_uuid: vm for vm in old.goal} | {vm.instance_uuid: vm for vm in new.goal}
        clusters = {cluster.moid: cluster for cluster in new.clusters} | {cluster.moid: cluster for cluster in old.clusters}
        steps = dict.fromkeys((*(step for step in old.steps if step.kind == "create"), *new.steps))
        hosts = tuple(sorted({*old.hosts, *new.hosts}))
        merged = VmChanges(new.vcenter, tuple(base.values()), tuple(goal.values()), tuple(steps), hosts, tuple(clusters.values()))
        return replace(self, changes=merged)


class VmJournal:
    """The file of the last apply of machines.

    Parameters
    ----------
    folder : the target's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "machines.json"

    def read(self) -> VmRun | None:
        """Return the last apply, None where there was none.

        Raises
        ------
        TargetError
            The file cannot be read or is damaged; it is left as it is.
        """
        data = read_record(self.path, kind=_FORMAT, version=_VERSION, remedy=_REMEDY)
        if data is None:
            return None
        try:
            changes = VmChanges.from_json(json.dumps(data["changes"]), origin=str(self.path))
            ended, started, pid = data["ended"], str(data["started"]), int(data["pid"])
        except (KeyError, TypeError, ValueError) as error:  # SpecError is a ValueError
            said = str(error) if isinstance(error, SpecError) else f"field {error} is missing or wrong"
            raise TargetError(f"{self.path}: {said}; {_REMEDY}") from error
        if ended not in (None, "done", "rolled back"):
            raise TargetError(f"{self.path}: ended is {ended!r}, neither 'done' nor 'rolled back'; {_REMEDY}")
        return VmRun(changes, ended, started, pid)

    def write(self, run: VmRun, ended: End | None = None) -> None:
        """Replace what is kept, as a whole or not at all.

        Raises
        ------
        TargetError
            The file cannot be written; what was kept before still stands.
        """
        write_record(
            self.path,
            {
                "format": _FORMAT,
                "version": _VERSION,
                "pid": run.pid,
                "started": run.started,
                "ended": ended,
                "changes": run.changes.to_data(),
            },
        )
