"""A small process that runs a command and outlives nobody: when its owner goes, the command and all it started go too.

    python -I -S guard.py [--cores 0,1] [--grace 10] [--shared PREFIX] [--scratch FOLDER] -- command argument ...

Its standard input is a pipe from the owner. When that ends, because the owner closed it or died of whatever, or when a
signal asks for it, the command gets SIGTERM, after the grace all its descendants get SIGKILL, and segments of shared memory
whose names begin with PREFIX go; so does FOLDER, unless the command ended by itself and its log is still to be read. Its own
end is the command's: the same exit status, or the same signal.

A script of its own, started without site-packages: it must import nothing of this package.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
_ASKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_S = 1.0  # between looks at whether the owner is still there; the end of the pipe is seen at once
_ORPHANS_S = 0.3  # for what a dead command left behind to end by itself
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps segments of POSIX shared memory


class Guard:
    """The command, and what is left of it."""

    def __init__(self, command: list[str], cores: set[int]) -> None:
        self.status: int | None = None
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)  # else one that comes before the command is there would be lost on it
        self.main = os.fork()
        if self.main == 0:
            _become(command, cores)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)

    def reap(self) -> bool:
        """Take note of descendants that ended; return whether some are left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.main:
                    self.status = status
        except ChildProcessError:
            return False

    def end(self, grace_s: float) -> None:
        """End the command, and then all its descendants, which become children of this process when their parents die."""
        if self.status is None:
            _send([self.main], signal.SIGTERM)
            self._wait(grace_s, until=lambda: self.status is not None)
        if self.status is not None:
            _send(_descendants(), signal.SIGTERM)
            self._wait(_ORPHANS_S, until=lambda: not self.reap())
        while self.reap():
            _send(_descendants(), signal.SIGKILL)
            time.sleep(0.02)

    def _wait(self, longest_s: float, *, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            self.reap()
            if until():
                return
            time.sleep(0.01)


def _become(command: list[str], cores: set[int]) -> None:
    """Turn this process, a fresh child of the guard, into the command."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # for a guard that dies without a word
        if cores:
            os.sched_setaffinity(0, cores)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (*_ASKED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
        os.execvp(command[0], command)  # noqa: S606 - running the command is what this is for
    except OSError as error:
        os.write(2, f"guard: {command[0]} cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, number)


def _descendants() -> list[int]:
    """Return the processes that descend from this one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - a Path for each process costs more than all the rest
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        offspring = children.get(todo.pop(), [])
        found += offspring
        todo += offspring
    return found


def _wait(guard: Guard, owner: int, wake: int) -> None:
    """Return when the command ended, the owner is gone, or a signal asks for the end."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(wake, select.POLLIN)
    while True:
        ready = dict(poll.poll(_LOOK_S * 1000))
        if 0 in ready and (ready[0] & select.POLLNVAL or not os.read(0, 4096)):
            return
        if wake in ready and any(number in _ASKED for number in os.read(wake, 4096)):
            return
        guard.reap()
        if guard.status is not None or os.getppid() != owner:
            return


def _remove_shared(prefix: str) -> None:
    for path in _SHARED_MEMORY.glob(f"{prefix}*") if prefix else ():
        path.unlink(missing_ok=True)


def _leave_like(status: int) -> None:
    """End as the command ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core of the command says more than one of its guard
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def main() -> None:
    """Run the command that the arguments say, until it ends or the owner goes."""
    owner = os.getppid()
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", default="")
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--shared", default="")
    parser.add_argument("--scratch", default="")
    parser.add_argument("command", nargs="+")
    task = parser.parse_args()
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (*_ASKED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    guard = Guard(task.command, {int(core) for core in task.cores.split(",") if core})
    _wait(guard, owner, wake)
    by_itself = guard.status is not None
    guard.end(task.grace)
    _remove_shared(task.shared)
    if task.scratch and not by_itself:
        shutil.rmtree(task.scratch, ignore_errors=True)
    assert guard.status is not None
    _leave_like(guard.status)


if __name__ == "__main__":
    main()
