"""A process under a guard, with a log: what our own servers have in common. Knows no protocol and no models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import ServerError

_GUARD = Path(__file__).with_name("guard.py")
_TAIL_BYTES = 1 << 18
_MARGIN_S = 5.0  # for a guard to end after the grace of its command is over
NO_COMMAND = 127
"""Exit status of a guard whose command cannot be run."""


class Guarded:
    """A running command that ends with this process, however that ends.

    Parameters
    ----------
    command : program and arguments.
    who : of messages.
    log : file for what it says; one that is there is replaced.
    environment : all of it.
    cores : CPU cores it keeps to; empty: any.
    shared : prefix of the names of segments in shared memory that are to go with it; empty: none.
    scratch : folder that is to go with it where it does not end by itself; None: none.
    grace_s : from SIGTERM to SIGKILL [s].

    Raises
    ------
    ServerError
        The log cannot be written, or no process can be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        who: str,
        log: Path,
        environment: Mapping[str, str],
        cores: Sequence[int] = (),
        shared: str = "",
        scratch: Path | None = None,
        grace_s: float = 10.0,
    ) -> None:
        self.who, self.log, self._grace_s = who, log, grace_s
        options = [
            "--cores",
            ",".join(map(str, cores)),
            "--grace",
            str(grace_s),
            "--shared",
            shared,
            "--scratch",
            str(scratch or ""),
        ]
        try:
            with log.open("wb") as file:
                self._process = subprocess.Popen(  # noqa: S603 - the command is this package's own
                    [sys.executable, "-I", "-S", str(_GUARD), *options, "--", *command],
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=file,
                    env=dict(environment),
                    start_new_session=True,  # Ctrl-C in a terminal is for its owner
                )
        except OSError as error:
            raise ServerError(
                f"{who} - cannot be started: {error.strerror} ({error.filename}); free space and processes"
            ) from error

    @property
    def pid(self) -> int:
        """Process id of the guard."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status of the command, ``-n`` after signal n; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End the command and all that it started; return when nothing is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=self._grace_s + _MARGIN_S)
        except subprocess.TimeoutExpired:  # the kernel kills the command with its guard
            self._process.kill()
            self._process.wait()

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of the log, oldest first."""
        return tuple(self.log_text().splitlines()[-lines:])

    def log_text(self) -> str:
        """Return the log, of a long one the end; empty where it cannot be read."""
        if not self.log.is_file():  # a device, or removed
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")


def ended(status: int) -> str:
    """Return how a process ended, in words.

    Examples
    --------
    >>> ended(1), ended(-11)
    ('ended with exit status 1', 'was ended by SIGSEGV')
    """
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
