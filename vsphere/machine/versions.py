"""Which version of the API each property of a specification needs.

At a lower version pyVmomi leaves such properties out and replaces backings by their parents, and the task still succeeds: so
they are compared with the connection's version first. Must not know connections.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyVmomi.VmomiSupport import DataObject, versionIdMap


def needed_versions(*specs: DataObject) -> dict[str, str]:
    """Return the API version that each type and property set in the specifications came with.

    Returns
    -------
    Names as ``vim.vm.ConfigSpec.virtualNuma`` (of a type: its name alone) to versions as ``8.0.0.1``; sorted by name.

    Examples
    --------
    >>> from pyVmomi import vim
    >>> needed_versions(vim.vm.ConfigSpec(virtualNuma=vim.vm.VirtualNuma(coresPerNumaNode=8)))["vim.vm.ConfigSpec.virtualNuma"]
    '8.0.0.1'
    """
    found: dict[str, str] = {}
    pending: list[object] = list(specs)
    while pending:
        value = pending.pop()
        if isinstance(value, list | tuple):
            pending.extend(value)
        elif isinstance(value, DataObject):
            kind = type(value)
            found[kind.__name__] = _text(kind._version)  # noqa: SLF001 - where pyVmomi keeps it
            for info in value._GetPropertyList():  # noqa: SLF001
                held = getattr(value, info.name)
                if held is None or (isinstance(held, list) and not held):
                    continue
                found[f"{kind.__name__}.{info.name}"] = _text(info.version)
                pending.append(held)
    return dict(sorted(found.items()))


def newest(versions: Iterable[str]) -> str:
    """Return the newest of versions; ``2.0`` where there is none.

    Examples
    --------
    >>> newest(["6.0", "8.0.0.1", "7.0.0.0"])
    '8.0.0.1'
    """
    return max(versions, key=order, default="2.0")


def order(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to be compared; letters in old ones (``2.5u2``) count for nothing."""
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split("."))


def too_new(needed: dict[str, str], api_version: str) -> dict[str, str]:
    """Return what a connection of an API version would lose: the part of `needed_versions` that is newer.

    Examples
    --------
    >>> too_new({"vim.vm.ConfigSpec.virtualNuma": "8.0.0.1", "vim.vm.ConfigSpec.name": "2.0"}, "7.0.3.0")
    {'vim.vm.ConfigSpec.virtualNuma': '8.0.0.1'}
    """
    return {name: version for name, version in needed.items() if order(version) > order(api_version)}


def _text(version: str) -> str:
    return str(versionIdMap.get(version) or "2.0")
