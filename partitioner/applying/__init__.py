"""Carrying changes out on a target, all of them or none, also across kills. Must not know drivers, plans or exports."""

from __future__ import annotations

from partitioner.applying.goals import Goal, changes_here, goal_here
from partitioner.applying.performing import Progress
from partitioner.applying.report import Report
from partitioner.applying.runs import apply, rollback
from partitioner.applying.schema import changes_schema

__all__ = ["Goal", "Progress", "Report", "apply", "changes_here", "changes_schema", "goal_here", "rollback"]
