"""A timer for asyncio that rings when it is told to. Knows no load.

asyncio waits in whole milliseconds (`epoll_wait` takes no less), so that `loop.call_at` comes up to a millisecond late; that
is a quarter of a fast model's latency. Linux' timerfd wakes the same wait within some tens of microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = 0o2004000
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls back at a time of `time.monotonic`, which asyncio's loops go by as well.

    Parameters
    ----------
    loop : on which it calls back.
    ring : what it calls, once for each `set`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._handle: asyncio.TimerHandle | None = None
        self._fd = _timerfd()
        if self._fd >= 0:
            self._spec = _Itimerspec()
            loop.add_reader(self._fd, self._read)

    def set(self, at_s: float) -> None:
        """Ring at `at_s`, or at once where that is past; an alarm set before is forgotten."""
        if self._fd < 0 or _LIBC is None:
            if self._handle:
                self._handle.cancel()
            self._handle = self._loop.call_at(at_s, self._ring)
            return
        value = self._spec.value
        value.seconds = int(at_s)
        value.nanoseconds = int((at_s - int(at_s)) * 1e9) or 1  # 0 s and 0 ns would switch it off
        _LIBC.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def close(self) -> None:
        """Ring no more."""
        if self._handle:
            self._handle.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew between ringing and being heard
            os.read(self._fd, 8)
            self._ring()


def _timerfd() -> int:
    """Return the descriptor of a new timer; -1 where the system has none, or none left."""
    if _LIBC is None:
        return -1
    return int(_LIBC.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC))


_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


async def sleep_until(at_s: float) -> None:
    """Sleep until a time of `time.monotonic` [s], without asyncio's millisecond."""
    loop = asyncio.get_running_loop()
    rung: asyncio.Future[None] = loop.create_future()
    alarm = Alarm(loop, lambda: None if rung.done() else rung.set_result(None))
    try:
        alarm.set(at_s)
        await rung
    finally:
        alarm.close()
