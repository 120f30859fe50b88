"""One bulk read: the wanted properties of every object of some types, however many pages vCenter makes of them.

Must not know what the properties mean.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyVmomi import vim, vmodl

from vsphere.errors import translated
from vsphere.session import Session

_LOG = logging.getLogger(__name__)

_TRIES = 3  # a session that ends, or an object that vanishes, spoils a read; it is then made again from the start

Properties = dict[str, Any]


def collect(session: Session, wanted: Mapping[Any, Sequence[str]], *, page: int | None = None) -> dict[Any, Properties]:
    """Return all objects of some types that the account may see, each with the properties it has.

    Parameters
    ----------
    session : where to read.
    wanted : types to the paths of their properties; those that the negotiated API version does not know are left out.
    page : most objects in one answer; None leaves it to vCenter, whose pages are followed in any case.

    Returns
    -------
    Objects (pyVmomi references, hashable) to their properties; one that is missing was not set, or is not to be seen by this
    account.

    Raises
    ------
    VSphereError
        vCenter refuses, or objects vanished from under each of three reads.

    Notes
    -----
    Three round trips where vCenter answers in one page: it makes a view, reads it, and takes it away.
    """
    with translated(session.who, "reading the inventory"):
        for left in reversed(range(_TRIES)):
            logins = session.logins
            try:
                found = _collect(session, wanted, page)
                if session.logins == logins:  # else the view was lost with the session, and what it showed with it
                    return found
            except (vmodl.fault.ManagedObjectNotFound, vmodl.fault.InvalidArgument):
                if not left:
                    raise
                reason = "an object vanished" if session.logins == logins else "the session was renewed"
                _LOG.info("%s: %s while the inventory was read; reading it again", session.who, reason)
    raise AssertionError("unreachable")


def _collect(session: Session, wanted: Mapping[Any, Sequence[str]], page: int | None) -> dict[Any, Properties]:
    content = session.content
    collector = content.propertyCollector
    view = content.viewManager.CreateContainerView(content.rootFolder, list(wanted), True)
    try:
        specification = vmodl.query.PropertyCollector.FilterSpec(
            objectSet=[
                vmodl.query.PropertyCollector.ObjectSpec(
                    obj=view,
                    skip=True,
                    selectSet=[vmodl.query.PropertyCollector.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)],
                )
            ],
            propSet=[
                vmodl.query.PropertyCollector.PropertySpec(
                    type=kind, all=False, pathSet=[path for path in paths if is_known(session, kind, path)]
                )
                for kind, paths in wanted.items()
            ],
        )
        options = vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=page)
        result = collector.RetrievePropertiesEx([specification], options)
        found: dict[Any, Properties] = {}
        while result is not None:
            for entry in result.objects:
                found[entry.obj] = {prop.name: prop.val for prop in entry.propSet}
                for lack in entry.missingSet:
                    _LOG.debug("%s: %s has no %s: %s", session.who, entry.obj, lack.path, type(lack.fault.fault).__name__)
            result = collector.ContinueRetrievePropertiesEx(result.token) if result.token else None
        return found
    finally:
        _put_away(view)


def _put_away(view: Any) -> None:
    with suppress(vmodl.fault.ManagedObjectNotFound):  # gone with its session
        view.DestroyView()


def is_known(session: Session, kind: Any, path: str) -> bool:
    """Whether the negotiated API version knows a property of a managed object, given by its path."""
    for name in path.split("."):
        known = {part.name: part for part in kind._GetPropertyList()}  # noqa: SLF001
        if name not in known:
            return False
        if not session.has_version(known[name].version):
            return False
        kind = known[name].type
    return True
