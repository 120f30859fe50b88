"""Files that say what shall be, and the changes that lead there. Asks no questions and carries nothing out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.applying import Goal
    from partitioner.changes import Changes
    from partitioner.documents import Document
    from partitioner.layout import Layout
    from partitioner.plans import Plan

STATUS_FORMAT = "gpu-partitioner/status"
_MAX_MIB = 2048


def read_plan(path: str | os.PathLike[str]) -> Plan | Changes:
    """Return a saved plan, or saved changes.

    Raises
    ------
    SpecError
        The file is neither, or not consistent.
    """
    from partitioner.documents import read

    return _plan_or_changes(read(path, max_mib=_MAX_MIB, syntax="json"))


def _plan_or_changes(document: Document) -> Plan | Changes:
    from partitioner.changes import FORMAT as CHANGES
    from partitioner.changes import Changes
    from partitioner.plans import Plan

    if _format(document) == CHANGES:
        return Changes.from_json(document.text, origin=document.origin)
    return Plan.from_json(document.text, origin=document.origin)


def _format(document: Document) -> object:
    return document.data.get("format") if isinstance(document.data, dict) else None


def read_goal(path: str | os.PathLike[str]) -> Goal | Changes:
    """Return what a file says: a plan, a recorded status, or changes.

    Raises
    ------
    SpecError
        The file is none of them, or not consistent.
    """
    from partitioner.applying import Goal
    from partitioner.changes import FORMAT as CHANGES
    from partitioner.changes import Changes
    from partitioner.documents import read
    from partitioner.plans import FORMAT as PLAN

    document = read(path, max_mib=_MAX_MIB, syntax="json")
    kind = _format(document)
    if kind in (PLAN, CHANGES):
        found = _plan_or_changes(document)
        return found if isinstance(found, Changes) else Goal.of(found, origin=document.origin)
    if kind == STATUS_FORMAT:
        return Goal.of(_status_layout(document), origin=document.origin)
    raise SpecError(
        document.problem(
            f"its format is {kind!r}; a plan (partitioner plan ... --out), changes (partitioner diff ... --out)"
            " or a status (partitioner status --json) is wanted"
        )
    )


def _status_layout(document: Document) -> Layout:
    from partitioner.layout import Layout

    try:
        return Layout.from_data(document.data.get("layout"))
    except SpecError as error:
        raise SpecError(document.problem(f"status is not consistent: {error}")) from error


def read_layout_goal(path: str | os.PathLike[str], *, wanted: str) -> Goal:
    """Return what a file says that is a plan or a recorded status.

    Parameters
    ----------
    path : the file.
    wanted : what it is for, for the message.

    Raises
    ------
    SpecError
        The file is neither.
    """
    from partitioner.applying import Goal

    found = read_goal(path)
    if not isinstance(found, Goal):
        name = os.fspath(path)
        raise SpecError(f"{name}: holds changes, not a layout; {wanted} takes the plan that they were made from, or a status")
    return found


def changes_to(
    found: Goal | Changes, now: Layout, *, target: str, max_interruptions: int | None
) -> tuple[Changes, tuple[str, ...]]:
    """Return the changes that lead from a target's layout to what a file says, with notes.

    Parameters
    ----------
    found : what the file says; changes are returned as they are.
    now, target : the target's layout and name.
    max_interruptions : as of `diff`; does not go with changes.

    Raises
    ------
    SpecError
        The goal is not for this target.
    InfeasibleError
        No order was found that keeps to `max_interruptions`.
    """
    from partitioner.applying import Goal, changes_here

    if not isinstance(found, Goal):
        if max_interruptions is not None:
            raise SpecError("the order of saved changes is settled; give --max-interruptions to `partitioner diff` instead")
        return found, ()
    return changes_here(found, now, target=target, max_interruptions=max_interruptions)
