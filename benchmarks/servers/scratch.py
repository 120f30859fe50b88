"""Temporary folders that go with their process: what one that was killed left behind is removed by the next that needs one.

Each is held by a lock of the kernel, which falls however its owner ends; unlike a process id, that also holds between containers
that share a folder. Knows no servers.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

_NEW = "gpu-partitioner-new-"  # not looked at by others before its lock is held
_HELD = "gpu-partitioner-held-"


class Scratch:
    """A temporary folder.

    Parameters
    ----------
    kind : what it is for, a part of its name.

    Raises
    ------
    OSError
        It cannot be made.
    """

    def __init__(self, kind: str) -> None:
        made = Path(tempfile.mkdtemp(prefix=f"{_NEW}{kind}-")).resolve()
        _remove_stale(made.parent)
        lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        self._release = weakref.finalize(self, os.close, lock)  # once, whichever thread is first
        with suppress(OSError):  # a file system without locks: nobody can take it for stale there, and it may stay
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = made.rename(made.with_name(made.name.replace(_NEW, _HELD, 1)))

    def remove(self) -> None:
        """Remove it with what is in it; again does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()


def _remove_stale(folder: Path) -> None:
    """Remove folders that nobody holds."""
    for path in folder.glob(f"{_HELD}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
