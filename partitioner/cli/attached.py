"""Groups of commands of the products beside the planner, found by name when they are asked for.

`partitioner` imports none of these packages: each stands above it, and is loaded for its commands and for help only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_GROUPS = {"vsphere": "vsphere.cli", "bench": "benchmarks.cli"}
"""Name of each group to the module that has it as ``app``."""


class Commands(TyperGroup):
    """Commands of the planner, and those of other packages at their end."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in the order of help."""
        return [*(name for name in super().list_commands(ctx) if name not in _GROUPS), *_GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, None where there is none of this name."""
        if cmd_name in _GROUPS and cmd_name not in self.commands:
            self.add_command(typer.main.get_command(import_module(_GROUPS[cmd_name]).app), cmd_name)
        return super().get_command(ctx, cmd_name)
