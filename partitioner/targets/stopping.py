"""Whether somebody asked a run to stop, for targets that wait. Must not know who asks, nor what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("stop_asked", default=None)


def stop_asked() -> bool:
    """Whether the run that this is a part of shall stop; a target that only waits raises KeyboardInterrupt then."""
    asked = _asked.get()
    return asked is not None and asked()


@contextmanager
def stoppable(asked: Callable[[], bool]) -> Iterator[None]:
    """Let `stop_asked` answer what a function says, in this thread."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)
