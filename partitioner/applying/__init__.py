"""Carrying changes out on a target, all of them or none, also across kills. Must not know drivers, plans or exports."""

from __future__ import annotations

from partitioner.applying.performing import Progress
from partitioner.applying.report import Report
from partitioner.applying.runs import apply, rollback

__all__ = ["Progress", "Report", "apply", "rollback"]
