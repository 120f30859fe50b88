"""The journal's entry of one run: where it began, where it goes, and that it goes on from one that did not end.

Must not know how steps are performed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from partitioner.applying.drift import differences, other_boards
from partitioner.applying.position import Position, by_key, position, touched
from partitioner.changes import Changes, diff
from partitioner.errors import DriftError
from partitioner.layout import Layout
from partitioner.targets import End, Run, StateFolder


@dataclass(frozen=True, slots=True)
class Books:
    """One run's entry; it stays in memory where the target has no folder.

    Parameters
    ----------
    folder : where the journal is.
    run : the entry.
    previous : the entry before it, of another run.
    continues : whether this run goes on from one that did not end.
    """

    folder: StateFolder | None
    run: Run
    previous: Run | None = None
    continues: bool = False

    @classmethod
    def of(cls, folder: StateFolder | None, changes: Changes, where: Position, now: Layout) -> Books:
        """Begin the entry of a run.

        Raises
        ------
        TargetError
            The journal cannot be read.
        """
        previous = None if folder is None else folder.journal.read()
        if previous is not None and previous.ended is None and _is_on_way(previous, now):
            return cls(folder, continued(previous, changes, where, now), continues=True)
        return cls(folder, Run.begin(changes.base, Layout.of(where.final.values()), changes), previous)

    def write(self, ended: End | None = None) -> None:
        """Write the entry.

        Raises
        ------
        TargetError
            It cannot be written.
        """
        if self.folder is not None:
            self.folder.journal.write(replace(self.run, ended=ended))

    def settle(self, now: Layout) -> None:
        """Note that the run stopped here, wherever that is: it can be rolled back, or gone on from with other changes.

        Raises
        ------
        TargetError
            It cannot be written.
        """
        here = Layout.of(touched(now, self.run.base.rows, target="the target").values())
        stopped = replace(self.run, goal=here, changes=Changes(here, here, ()))
        replace(self, run=stopped).write()

    def withdraw(self) -> None:
        """Note that the run was taken back, so that the one before it, where it ended, can be rolled back again.

        Raises
        ------
        TargetError
            It cannot be written.
        """
        if self.folder is not None and self.previous is not None and self.previous.ended == "done":
            self.folder.journal.write(self.previous)
        else:
            self.write("rolled back")


def continued(run: Run, changes: Changes, where: Position, now: Layout) -> Run:
    """Return the entry of a run that goes on with other changes: it began where the first one did."""
    base = by_key(changes.base) | by_key(run.base)
    goal = touched(now, base, target="the target") | where.final
    return Run.begin(Layout.of(base.values()), Layout.of(goal.values()), changes)


def way_back(run: Run, now: Layout) -> Changes:
    """Return the changes that lead from here to where a run began; they touch its GPUs only."""
    return diff(now.only(run.base.rows), run.base)


def check_way(run: Run, now: Layout, *, target: str) -> None:
    """Check that a layout is where a run ended, or one that it passes through where it did not end.

    Raises
    ------
    DriftError
        It is not.
    """
    here = touched(now, run.base.rows, target=target)
    findings = other_boards(by_key(run.base).values(), here.values())
    goal, moving = by_key(run.goal), run.changes.base.rows if run.ended is None else {}
    try:
        if moving:
            position(run.changes, now, target=target)
    except DriftError as error:
        if not error.findings:
            raise
        findings.extend(error.findings)
    for key, gpu in goal.items():
        if key not in moving:
            findings.extend(differences(gpu, here[key]))
    if findings:
        raise DriftError(
            f"{target}: is not as the last apply left it; diff to the layout that you want instead", dict.fromkeys(findings)
        )


def _is_on_way(run: Run, now: Layout) -> bool:
    try:
        check_way(run, now, target="the target")
    except DriftError:
        return False
    return True
