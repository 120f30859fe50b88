"""Scenarios: which instances are measured together, and studies: which scenarios are measured how. Knows no servers and no load.

`TABLE_2` and `T4_VGPU`, which read the catalogue of GPUs, are made when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.scenarios.names import named, short_name
from benchmarks.scenarios.scenario import Instance, Scenario
from benchmarks.scenarios.study import Study

if TYPE_CHECKING:
    from benchmarks.scenarios.tables import T4_VGPU as T4_VGPU
    from benchmarks.scenarios.tables import TABLE_2 as TABLE_2

__all__ = ["T4_VGPU", "TABLE_2", "Instance", "Scenario", "Study", "named", "short_name"]


def __getattr__(name: str) -> object:
    if name in ("TABLE_2", "T4_VGPU"):
        from benchmarks.scenarios import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
