"""What a target remembers between commands, in a folder: who runs where, what the last apply started from, and a lock.

Hardware knows its instances but not who occupies them; `Assignments` does. `Journal` holds the layouts before and after the
last apply, for going on after a kill and for rolling back. This module must not know drivers, nor how steps are performed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from partitioner.changes import Changes
from partitioner.documents import problems_of
from partitioner.errors import SpecError, TargetError
from partitioner.layout import Layout
from partitioner.targets.files import make_folder, read_record, write_record

End = Literal["done", "rolled back"]


class Instance(NamedTuple):
    """An instance in the ledger.

    Parameters
    ----------
    gpu : the driver's UUID of the GPU, or ``host/gpu0`` where it has none.
    profile, start : the instance on it; ``whole`` at 0 is the GPU itself.
    """

    gpu: str
    profile: str
    start: int


class Occupant(NamedTuple):
    """A replica that occupies an instance."""

    workload: str
    replica: int


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _EntryRecord(_Record):
    gpu: str
    profile: str
    start: Annotated[int, Field(ge=0)]
    workload: str | None
    replica: Annotated[int, Field(ge=0)] | None


class _LedgerRecord(_Record):
    format: str
    version: int
    instances: list[_EntryRecord]


class _JournalRecord(_Record):
    format: str
    version: int
    pid: int
    started: str
    ended: End | None
    base: list[Any]
    goal: list[Any]
    changes: dict[str, Any]


class Assignments:
    """The ledger: which replica occupies which instance; what is not in it is occupied by nobody.

    An instance with occupant None exists and is idle, which only a whole GPU needs to say (its driver does not know).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[Instance, Occupant | None]:
        """Return all entries; none where nothing was ever written.

        Raises
        ------
        TargetError
            The file cannot be read or is damaged; it is left as it is.
        """
        remedy = "restore it from a copy, or remove it, and every instance counts as occupied by nobody"
        data = read_record(self.path, kind=_LEDGER, version=_VERSION, remedy=remedy)
        if data is None:
            return {}
        record = _checked(_LedgerRecord, data, self.path, remedy)
        found: dict[Instance, Occupant | None] = {}
        for entry in record.instances:
            instance = Instance(entry.gpu, entry.profile, entry.start)
            if instance in found:
                raise TargetError(f"{self.path}: {entry.profile}@{entry.start} of {entry.gpu} stands twice; {remedy}")
            if (entry.workload is None) != (entry.replica is None):
                who = f"workload {entry.workload!r}, replica {entry.replica!r}"
                raise TargetError(f"{self.path}: {entry.profile}@{entry.start} of {entry.gpu} has {who}; {remedy}")
            occupied = entry.workload is not None and entry.replica is not None
            found[instance] = Occupant(entry.workload or "", entry.replica or 0) if occupied else None
        return found

    def write(self, entries: Mapping[Instance, Occupant | None]) -> None:
        """Replace all entries, as a whole or not at all.

        Raises
        ------
        TargetError
            The file cannot be written; the entries before still stand.
        """
        instances = [
            {**instance._asdict(), **(dict.fromkeys(Occupant._fields) if occupant is None else occupant._asdict())}
            for instance, occupant in sorted(entries.items(), key=lambda entry: entry[0])
        ]
        write_record(self.path, {"format": _LEDGER, "version": _VERSION, "instances": instances})

    def update(self, put: Mapping[Instance, Occupant | None], *, drop: Iterable[Instance] = ()) -> None:
        """Set some entries and drop others, all in one write; dropping what is not there is no error.

        Raises
        ------
        TargetError
            The file cannot be read or written; the entries before still stand.
        """
        before = self.read()
        gone = set(drop)
        after = {instance: occupant for instance, occupant in before.items() if instance not in gone} | dict(put)
        if after != before:
            self.write(after)


@dataclass(frozen=True, slots=True)
class Run:
    """One apply, as the journal keeps it.

    Parameters
    ----------
    base : the GPUs it touches before it; of a run that goes on after one that did not end, before the first of them.
    goal : the same GPUs after it.
    changes : what it carries out.
    ended : how it ended; None while it runs, and when it was killed or stopped half way.
    started : when [UTC, ISO 8601].
    pid : the process.
    """

    base: Layout
    goal: Layout
    changes: Changes
    ended: End | None = None
    started: str = ""
    pid: int = 0

    @classmethod
    def begin(cls, base: Layout, goal: Layout, changes: Changes) -> Run:
        """Return a run that this process begins now."""
        return cls(base, goal, changes, None, _now(), os.getpid())


class Journal:
    """What the last apply started from and whether it ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Run | None:
        """Return the last apply, None where there was none.

        Raises
        ------
        TargetError
            The file cannot be read or is damaged; it is left as it is.
        """
        remedy = "restore it from a copy, or remove it, and the last apply can no longer be rolled back"
        data = read_record(self.path, kind=_JOURNAL, version=_VERSION, remedy=remedy)
        if data is None:
            return None
        record = _checked(_JournalRecord, data, self.path, remedy)
        try:
            changes = Changes.from_json(json.dumps(record.changes), origin=str(self.path))
            base, goal = Layout.from_data(record.base), Layout.from_data(record.goal)
        except SpecError as error:
            raise TargetError(f"{self.path}: {error}; {remedy}") from error
        return Run(base, goal, changes, record.ended, record.started, record.pid)

    def write(self, run: Run) -> None:
        """Replace what is kept, as a whole or not at all.

        Raises
        ------
        TargetError
            The file cannot be written; what was kept before still stands.
        """
        write_record(
            self.path,
            {
                "format": _JOURNAL,
                "version": _VERSION,
                "pid": run.pid,
                "started": run.started,
                "ended": run.ended,
                "base": run.base.to_data(),
                "goal": run.goal.to_data(),
            },
            encoded={"changes": run.changes.to_json()},
        )


class StateFolder:
    """A folder with the state of a target; it is made, for its owner alone, when something is first written.

    Parameters
    ----------
    path : the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.assignments = Assignments(self.path / "assignments.json")
        self.journal = Journal(self.path / "journal.json")

    def __repr__(self) -> str:
        return f"StateFolder({str(self.path)!r})"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder's lock; a process that is killed holding it frees it.

        Raises
        ------
        TargetError
            Another process, or another apply of this one, holds it: names it and since when.
        """
        import fcntl  # not on every system that can plan

        make_folder(self.path)
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)  # a link could lead to any file
        except OSError as error:
            remedy = "it is a link and none of ours, remove it" if path.is_symlink() else "run it as the owner of the folder"
            raise TargetError(f"{path}: cannot be opened: {error.strerror}; {remedy}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
                said = f"another apply is under way, by {holder or 'a process that is not named'}"
                raise TargetError(f"{path}: {said}; wait until it ends, then diff again") from error
            except OSError as error:  # no locks on this file system
                raise TargetError(f"{path}: cannot be locked: {error.strerror}; keep the state on a local disk") from error
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} since {_now()}\n".encode("ascii"), 0)
            except OSError as error:
                raise TargetError(f"{path}: cannot be written: {error.strerror}; make room and run it again") from error
            yield
        finally:
            os.close(descriptor)


_LEDGER = "gpu-partitioner/assignments"
_JOURNAL = "gpu-partitioner/journal"
_VERSION = 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


_T = TypeVar("_T", bound=BaseModel)


def _checked(kind: type[_T], data: dict[str, Any], path: Path, remedy: str) -> _T:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        message, where = problems_of(error, list(kind.model_fields))[0]
        place = ".".join(map(str, where))
        raise TargetError(f"{path}: {place}: {message}; {remedy}") from error
