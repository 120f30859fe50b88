"""vSphere's data objects as PowerShell expressions, for PowerCLI's classes. Must not know what the objects mean."""

from __future__ import annotations

import re

from pyVmomi.VmomiSupport import DataObject, Enum

_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")  # PowerShell takes all of them for a single quote


def quoted(text: str) -> str:
    """Return a text as a PowerShell literal in which nothing is expanded.

    Examples
    --------
    >>> print(quoted("it's $x"))
    'it''s $x'
    """
    return "'" + _QUOTES.sub(r"\1\1", text) + "'"


def expression(value: object, indent: int = 0) -> str:
    """Return an expression that makes a data object, of all that is set in it.

    PowerCLI names classes as the WSDL does (`VMware.Vim.VirtualMachineConfigSpec`) and properties with a capital.

    Raises
    ------
    TypeError
        The value is of a kind that specifications of machines do not hold.
    """
    inner = " " * (indent + 4)
    if isinstance(value, DataObject):
        rows = []
        for info in value._GetPropertyList():  # noqa: SLF001 - how pyVmomi lists properties
            held = getattr(value, info.name)
            if held is None or (isinstance(held, list) and not held):
                continue
            rows.append(f"{inner}{info.name[:1].upper()}{info.name[1:]} = {expression(held, indent + 4)}\n")
        name = f"New-Object -TypeName VMware.Vim.{type(value)._wsdlName}"  # noqa: SLF001 - the WSDL's name stands nowhere else
        body = f"{name} -Property @{{\n{''.join(rows)}{' ' * indent}}}"
        return f"({body})" if indent else body
    if isinstance(value, list):
        rows = [f"{inner}{expression(entry, indent + 4)}\n" for entry in value]
        return f"@(\n{''.join(rows)}{' ' * indent})"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str | Enum):
        return quoted(str(value))
    raise TypeError(f"no PowerShell for {type(value).__name__}")
