"""Where the ledger of this machine's replicas is kept, and which one this user does not see. Must not know its content."""

from __future__ import annotations

import os
from pathlib import Path

from partitioner.errors import TargetError
from partitioner.targets import StateFolder

SYSTEM = Path("/var/lib/gpu-partitioner")
"""The folder of root; other users go by it too where they may read it, so that a machine has one ledger."""


def default_state() -> StateFolder:
    """Return the system's folder for root and for users who may read it, else the user's own (XDG base directories).

    Raises
    ------
    TargetError
        The user has no home directory.
    """
    if os.geteuid() == 0 or _may_read(SYSTEM):
        return StateFolder(SYSTEM)
    given = os.environ.get("XDG_STATE_HOME", "")
    if Path(given).is_absolute():  # others count as not given, says the specification
        return StateFolder(Path(given) / "gpu-partitioner")
    try:
        return StateFolder(Path.home() / ".local" / "state" / "gpu-partitioner")
    except RuntimeError as error:
        raise TargetError(
            f"user {os.geteuid()} has no home directory to keep the ledger in; set XDG_STATE_HOME, or name a StateFolder"
        ) from error


def unread_ledger(state: StateFolder) -> Path | None:
    """Return the system's folder where it exists and a target goes by another one, because this user may not read it."""
    return SYSTEM if state.path != SYSTEM and not _may_read(SYSTEM) and os.path.lexists(SYSTEM) else None


def _may_read(folder: Path) -> bool:
    ledger = folder / "assignments.json"
    return os.access(folder, os.R_OK | os.X_OK) and (os.access(ledger, os.R_OK) or not os.path.lexists(ledger))
