"""Waiting for threads so that Ctrl-C is seen. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

_LOOK_S = 0.2
_T = TypeVar("_T")


def results(futures: Sequence[Future[_T]]) -> list[_T]:
    """Return what some threads return, or raise what the first of them raises.

    It waits in short pieces: a signal that comes just before a wait without end, after CPython looked for one, is seen only
    after that wait.
    """
    while wait(futures, timeout=_LOOK_S).not_done:
        continue
    return [future.result() for future in futures]
