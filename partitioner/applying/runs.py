"""`apply` and `rollback`: check, perform, check again; what they know in between stands in the target's journal.

Whatever happens on the way, the journal and the layout say together where to go on. Must not know drivers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from partitioner.applying.books import Books, check_way, continued, way_back
from partitioner.applying.failing import Return, goal_missed, step_error
from partitioner.applying.performing import Outcome, Progress, not_reached, perform
from partitioner.applying.position import Position, position
from partitioner.applying.report import Report, Verb
from partitioner.changes import Changes
from partitioner.errors import PartitionerError, SpecError, TargetError
from partitioner.layout import Layout
from partitioner.targets import Run, StateFolder, Target, state_of


def apply(
    changes: Changes,
    target: Target,
    *,
    dry_run: bool = False,
    rollback_on_error: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Carry changes out on a target; after a kill, the same call goes on where that one stopped.

    Parameters
    ----------
    changes : what `diff` found, between this target's layout and a goal.
    target : where to carry them out.
    dry_run : check all, change nothing.
    rollback_on_error : take back what was done when a step fails; else it stays, and a second call goes on from there.
    progress : called before each step with the number done, the number of all, and the step; after the last with None.

    Returns
    -------
    What was done, and the layout afterwards, read from the target again.

    Raises
    ------
    DriftError
        The target is not in the state that the changes were made from, nor on the way; nothing was changed.
    StepError
        A step failed; says what was done, what remains, and whether it was taken back.
    TargetError
        Another apply runs on this target; or all steps succeeded, and the layout is not the goal.
    KeyboardInterrupt
        Ctrl-C; the step under way was finished first, nothing was taken back, and a second call goes on.
    """
    _check(changes, target)
    began, folder = time.perf_counter(), state_of(target)
    with _locked(folder, dry_run=dry_run):
        now = target.layout()
        where = position(changes, now, target=str(target))
        if dry_run:
            return _report("apply", target, where, now, began)
        books = Books.of(folder, changes, where, now)
        if where.remaining:
            books.write()
        outcome = perform(where.remaining, target, progress)
        if outcome.error is not None:
            taken = _take_back(books, target, wanted=rollback_on_error)
            raise step_error(where, outcome, taken) from outcome.error
        after = target.layout()
        missed = not_reached(where.final, after, target=str(target))
        if missed:
            taken = _take_back(books, target, wanted=rollback_on_error)
            raise goal_missed(str(target), missed, taken) from taken.error
        if where.remaining or books.continues:
            books.write("done")
        return _report("apply", target, where, after, began, outcome)


def rollback(target: Target, *, dry_run: bool = False, progress: Progress | None = None) -> Report:
    """Bring the GPUs that the last apply touched back to what was on them before it, whether it ended or not.

    Parameters
    ----------
    target : where it was applied; it must keep its state in a folder.
    dry_run : check all, change nothing.
    progress : as of `apply`.

    Raises
    ------
    DriftError
        Something else changed these GPUs since; nothing was changed.
    StepError
        A step failed; a second call goes on.
    TargetError
        There is nothing to roll back, or another apply runs on this target.
    """
    began, folder = time.perf_counter(), state_of(target)
    if folder is None:
        raise TargetError(f"{target}: keeps no state folder, so it does not know what was before; diff to the layout you want")
    with _locked(folder, dry_run=dry_run):
        run, now = _last(folder, target), target.layout()
        check_way(run, now, target=str(target))
        back = way_back(run, now)
        where = position(back, now, target=str(target))
        if dry_run:
            return _report("rollback", target, where, now, began)
        books = Books(folder, continued(run, back, where, now))
        books.write()
        outcome = perform(where.remaining, target, progress)
        if outcome.error is not None:
            raise step_error(where, outcome, Return(wanted=False)) from outcome.error
        after = target.layout()
        missed = not_reached(where.final, after, target=str(target))
        if missed:
            raise goal_missed(str(target), missed, Return(wanted=False))
        books.write("rolled back")
        return _report("rollback", target, where, after, began, outcome)


def _take_back(books: Books, target: Target, *, wanted: bool) -> Return:
    """Bring the GPUs back to where the run began, as far as the target lets; touches no other GPU."""
    taken = Return(wanted, _returning(books, target) if wanted else None)
    if not taken.succeeded:
        with suppress(PartitionerError):  # of a target that does not answer; then the journal says on which way it was
            books.settle(target.layout())
    return taken


def _returning(books: Books, target: Target) -> PartitionerError | None:
    """Carry out the way back and return why it failed, None where it did not."""
    try:
        now = target.layout()
        back = way_back(books.run, now)
        where = position(back, now, target=str(target))
        Books(books.folder, continued(books.run, back, where, now)).write()
        outcome = perform(where.remaining, target)
        if outcome.error is not None:
            return outcome.error
        missed = not_reached(where.final, target.layout(), target=str(target))
        if missed:
            return goal_missed(str(target), missed, Return(wanted=False))
        books.withdraw()
    except PartitionerError as error:
        return error
    return None


def _last(folder: StateFolder, target: Target) -> Run:
    run = folder.journal.read()
    if run is None or run.ended == "rolled back":
        said = "no apply was recorded" if run is None else "the last apply was rolled back already"
        raise TargetError(f"{target}: nothing to roll back: {said}")
    return run


def _check(changes: object, target: object) -> None:
    if not isinstance(changes, Changes):
        said = f"changes are a {type(changes).__name__}, not what diff returns"
        raise SpecError(f"apply: {said}; write apply(diff(target.layout(), plan), target)")
    if not isinstance(target, Target):
        raise SpecError(f"apply: target is a {type(target).__name__}; it needs fleet(), layout() and perform(step)")


@contextmanager
def _locked(folder: StateFolder | None, *, dry_run: bool) -> Iterator[None]:
    if folder is None or dry_run:  # a dry run writes nothing, not even a lock
        yield
        return
    with folder.lock():
        yield


def _report(verb: Verb, target: Target, where: Position, layout: Layout, began: float, outcome: Outcome | None = None) -> Report:
    return Report(
        verb,
        str(target),
        where.remaining if outcome is None else outcome.done,
        where.done,
        () if outcome is None else outcome.durations_s,
        time.perf_counter() - began,
        outcome is None,
        layout,
    )
