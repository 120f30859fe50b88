"""What has to happen between two layouts: ordered steps, each legal in its turn. Must not know plans or targets."""

from __future__ import annotations

from partitioner.changes.changes import FORMAT, Changes
from partitioner.changes.difference import HasLayout, diff
from partitioner.changes.renumber import renumbered
from partitioner.changes.state import State
from partitioner.changes.step import Place, Step

__all__ = ["FORMAT", "Changes", "HasLayout", "Place", "State", "Step", "diff", "renumbered"]
