"""Which API version a server and pyVmomi both speak, and which properties of a request are newer than that.

What is newer than the negotiated version is not sent: pyVmomi leaves such properties out and turns newer types into the older
ones they extend, and the task succeeds without them. So they are looked for before anything is sent. This module must not
know sessions.
"""

from __future__ import annotations

import http.client
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from typing import Any

from pyVmomi import VmomiSupport, vmodl

from vsphere.errors import ConnectError

Need = tuple[type, str] | type
"""A property of a type, as (type, name), or a whole type."""

_MAX_BYTES = 1_000_000


def negotiated(host: str, port: int, *, context: ssl.SSLContext, timeout_s: float) -> str:
    """Return pyVmomi's name of the newest version of the vSphere API that a server speaks too.

    Raises
    ------
    OSError, http.client.HTTPException
        It cannot be reached, or its certificate is not trusted.
    ConnectError
        What answers is no vCenter.
    """
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=timeout_s)
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        response = connection.getresponse()
        status, text = response.status, response.read(_MAX_BYTES)
    finally:
        connection.close()
    if status in (502, 503, 504):
        raise ConnectError(f"{host}:{port}: vCenter's services are not up (HTTP status {status}); try again in some minutes")
    spoken = _versions(text) if status == 200 else set()
    for version in VmomiSupport.GetServiceVersions("vim25"):
        if VmomiSupport.versionIdMap[version] in spoken:
            return str(version)
    raise ConnectError(f"{host}:{port}: no vCenter answers there (HTTP status {status}); check host and port")


def _versions(text: bytes) -> set[str]:
    try:
        root = ET.fromstring(text)  # noqa: S314 - from a server that TLS verified, and at most 1 MB
    except ET.ParseError:
        return set()
    return {(element.text or "").strip() for element in root.iter("version")}


def version_id(version: str) -> str:
    """Return a version as people write it: ``8.0.3.0`` for ``vim.version.v8_0_3_0``."""
    return str(VmomiSupport.versionIdMap.get(version, version))


def knows(version: str, other: str) -> bool:
    """Whether a version is another one, or newer; both in pyVmomi's spelling."""
    return bool(VmomiSupport.IsChildVersion(version, other))


def newer(version: str, needs: Iterable[Need]) -> tuple[tuple[str, str], ...]:
    """Return which of the needs a version does not have, each with the version that brought it."""
    found: dict[str, str] = {}
    for need in needs:
        if isinstance(need, tuple):
            kind, name = need
            whole, part = kind, _property(kind, name)
            pairs = [(_type_name(whole), whole._version), (f"{_type_name(kind)}.{name}", part.version)]  # type: ignore[attr-defined] # noqa: SLF001
        else:
            pairs = [(_type_name(need), need._version)]  # type: ignore[attr-defined] # noqa: SLF001
        found |= {name: version_id(since) for name, since in pairs if not knows(version, since)}
    return tuple(found.items())


def needs_of(spec: Any) -> Iterator[Need]:
    """Iterate over all types and properties that a request uses, however deep."""
    if isinstance(spec, list):
        for entry in spec:
            yield from needs_of(entry)
    elif isinstance(spec, vmodl.DynamicData):
        kind: Any = type(spec)
        yield kind
        for part in kind._GetPropertyList():  # noqa: SLF001
            value = getattr(spec, part.name)
            if value is not None and value != []:
                yield kind, part.name
                yield from needs_of(value)


def _property(kind: Any, name: str) -> Any:
    for part in kind._GetPropertyList():  # noqa: SLF001
        if part.name == name:
            return part
    raise AttributeError(f"{_type_name(kind)} has no property {name!r}")


def _type_name(kind: type) -> str:
    return kind.__name__
