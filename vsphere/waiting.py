"""One wait for many tasks of a vCenter: a list of them that grows while it is waited for, watched by one property filter.

Must not know what the tasks do, nor how many may run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pyVmomi import vim, vmodl

from vsphere.errors import VSphereError, words
from vsphere.session import Session

_LOG = logging.getLogger(__name__)

_WATCHED = ["info.state", "info.progress", "info.error", "info.result"]
_GONE = (vmodl.fault.ManagedObjectNotFound, vmodl.query.InvalidCollectorVersion)
_RENEWALS = 5  # in a row, without an update between them

Change = tuple[Any, dict[str, Any]]
"""A task, and its properties that changed; empty where vCenter no longer knows it."""


class Waiting:
    """Tasks that are waited for. One thread waits, another one may add tasks meanwhile.

    Views and filters live in a session: where that ends and is renewed, they are made again with all tasks that were added and
    not dropped.

    Parameters
    ----------
    session : whose tasks.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing = threading.Lock()
        self._tasks: set[Any] = set()
        self._lost: list[Any] = []
        self._collector: Any = None
        self._view: Any = None
        self._version = ""
        self._made = 0

    def read(self, tasks: Sequence[Any]) -> tuple[Change, ...]:
        """Return how far some tasks are now; nothing where vCenter no longer knows one of them (`changes` tells which).

        Raises
        ------
        VSphereError
            vCenter cannot be reached, or refuses.
        """
        query = vmodl.query.PropertyCollector
        specification = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=task, skip=False) for task in tasks],
            propSet=[query.PropertySpec(type=vim.Task, all=False, pathSet=_WATCHED)],
        )
        collector = self._session.content.propertyCollector
        found: list[Change] = []
        try:
            result = collector.RetrievePropertiesEx([specification], query.RetrieveOptions())
            while result is not None:
                found += [(entry.obj, {prop.name: prop.val for prop in entry.propSet}) for entry in result.objects]
                result = collector.ContinueRetrievePropertiesEx(result.token) if result.token else None
        except (vmodl.fault.ManagedObjectNotFound, vmodl.fault.InvalidArgument):
            return ()
        except vmodl.MethodFault as fault:
            raise self._refused(fault) from fault
        return tuple(found)

    def change(self, *, add: Sequence[Any], drop: Sequence[Any] = ()) -> None:
        """Wait for some more tasks, and for some no more.

        Raises
        ------
        VSphereError
            vCenter cannot be reached, or refuses.
        """
        with self._changing:
            gone = self._tasks & set(drop)
            self._tasks = (self._tasks - gone) | set(add)
            for _ in range(_RENEWALS):
                try:
                    if self._view is None:
                        self._make()
                    else:
                        self._lost += self._view.Modify(add=list(add), remove=list(gone)) or ()
                except vmodl.fault.ManagedObjectNotFound:
                    self._view = None
                except vmodl.MethodFault as fault:
                    raise self._refused(fault) from fault
                else:
                    return
        raise VSphereError(f"{self._session.who}: waiting for tasks: the session ends again and again")

    def changes(self, longest_s: int) -> Iterator[Change]:
        """Wait until something changes, at most so long, and iterate over the changes.

        Parameters
        ----------
        longest_s : longest wait [s].

        Raises
        ------
        VSphereError
            vCenter cannot be reached, or refuses.
        """
        for _ in range(_RENEWALS):
            made, collector, version = self._made, self._collector, self._version
            try:
                update = collector.WaitForUpdatesEx(version, vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=longest_s))
            except _GONE:
                with self._changing:
                    if self._made == made:
                        _LOG.info("%s: the session was renewed; waiting for tasks again", self._session.who)
                        self._make()
                continue
            except vmodl.MethodFault as fault:
                raise self._refused(fault) from fault
            if update is not None and self._made == made:
                self._version = update.version
            yield from self._read(update)
            return
        raise VSphereError(f"{self._session.who}: waiting for tasks: the session ends again and again")

    def _read(self, update: Any) -> Iterator[Change]:
        for filtered in update.filterSet if update is not None else ():
            for entry in filtered.objectSet:
                yield entry.obj, {} if str(entry.kind) == "leave" else {c.name: c.val for c in entry.changeSet}
        with self._changing:
            lost, self._lost = self._lost, []
        for task in lost:
            yield task, {}

    def _make(self) -> None:
        """Make view and filter, with all tasks there are."""
        content = self._session.content
        query = vmodl.query.PropertyCollector
        try:
            collector = content.propertyCollector.CreatePropertyCollector()
            view = content.viewManager.CreateListView(None)
            if self._tasks:
                self._lost += view.Modify(add=list(self._tasks)) or ()
            members = query.TraversalSpec(type=vim.view.ListView, path="view", skip=False)
            collector.CreateFilter(
                query.FilterSpec(
                    objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[members])],
                    propSet=[query.PropertySpec(type=vim.Task, all=False, pathSet=_WATCHED)],
                ),
                False,
            )
        except vmodl.MethodFault as fault:
            raise self._refused(fault) from fault
        self._collector, self._view, self._version = collector, view, ""
        self._made += 1

    def _refused(self, fault: vmodl.MethodFault) -> VSphereError:
        return VSphereError(f"{self._session.who}: waiting for tasks: {words(fault)}", fault=fault)

    def closings(self) -> tuple[Callable[[], None], ...]:
        """Return what takes view and filter away; where vCenter no longer answers, they end with the session."""
        return partial(_put_away, self._collector, "Destroy"), partial(_put_away, self._view, "DestroyView")


def _put_away(obj: Any, method: str) -> None:
    with suppress(vmodl.MethodFault, VSphereError):
        if obj is not None:
            getattr(obj, method)()
