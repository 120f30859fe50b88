"""A vSphere data object as plain data that people read and tests compare. Must not know what the object means."""

from __future__ import annotations

from typing import Any

from pyVmomi import vmodl
from pyVmomi.VmomiSupport import DataObject, ManagedObject


def dump(value: object) -> Any:
    """Return a data object as plain data: what is set, in vSphere's order, each object with its type.

    Examples
    --------
    >>> from pyVmomi import vim
    >>> dump(vim.vm.ConfigSpec(name="a", extraConfig=[vim.option.OptionValue(key="k", value="v")]))
    {'type': 'vim.vm.ConfigSpec', 'name': 'a', 'extraConfig': {'k': 'v'}}
    """
    if isinstance(value, ManagedObject):
        return f"{type(value).__name__}:{value._moId}"  # noqa: SLF001 - pyVmomi has no other name for it
    if isinstance(value, DataObject):
        return _object(value)
    if isinstance(value, list | tuple):
        return [dump(entry) for entry in value]
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def _object(value: DataObject) -> dict[str, Any]:
    found: dict[str, Any] = {"type": type(value).__name__}
    for info in value._GetPropertyList():  # noqa: SLF001 - how pyVmomi lists properties
        held = getattr(value, info.name)
        if held is None or (isinstance(held, list) and not held):
            continue
        if info.name == "extraConfig":
            found[info.name] = {option.key: dump(option.value) for option in held}
        elif not isinstance(held, vmodl.DynamicProperty):
            found[info.name] = dump(held)
    return found
