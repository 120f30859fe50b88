"""Reading what a vCenter has, in one bulk read, and the file that keeps it for work without a vCenter.

`load` and `dump` need no pyVmomi; the others import it when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vsphere.inventory.files import dump, load

if TYPE_CHECKING:
    from vsphere.inventory.reading import read as read
    from vsphere.inventory.system_ids import with_system_ids as with_system_ids

_HOME_OF = {"read": "reading", "with_system_ids": "system_ids"}

__all__ = ["dump", "load", "read", "with_system_ids"]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vsphere.inventory' has no attribute {name!r}")
    value = getattr(import_module(f"vsphere.inventory.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
