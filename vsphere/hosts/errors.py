"""What goes wrong while hosts are prepared: in their shell, or while waiting for them. Must not know what was being done."""

from __future__ import annotations

from collections.abc import Iterable

from partitioner.errors import TargetError


class ShellError(TargetError):
    """The shell of a host cannot be used, or a command there did not do what it should.

    Attributes
    ----------
    host : the host.
    command : the command, as it was to be typed there; empty where there was none.
    """

    def __init__(self, message: str, *, host: str, command: str = "") -> None:
        self.host, self.command = host, command
        super().__init__(message)


class UnreachableError(ShellError):
    """No SSH server answers; no command was begun, or the connection broke while one ran."""


class HostKeyError(ShellError):
    """The host shows another key than the pinned one, or none is pinned; nothing was sent to it."""


class AccessError(ShellError):
    """The host does not accept the user's key."""


class CommandTimeoutError(ShellError):
    """A command did not end in time; it may go on there."""


class MissingCommandError(ShellError):
    """The host has no such command."""


class CommandError(ShellError):
    """A command failed.

    Attributes
    ----------
    status : its exit status.
    output : what it wrote to standard output and standard error.
    """

    def __init__(self, message: str, *, host: str, command: str, status: int, output: str) -> None:
        self.status, self.output = status, output
        super().__init__(message, host=host, command=command)


class OutputError(ShellError):
    """A command ended well but wrote what cannot be understood."""


class WaitError(TargetError):
    """A host did not get where it should in time; what was begun may go on."""


class RefusedError(TargetError):
    """Hosts cannot be prepared as they are now; nothing was begun.

    Attributes
    ----------
    reasons : one line for each thing that stands against it.
    """

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons: tuple[str, ...] = tuple(reasons)
        super().__init__("\n".join((message, *self.reasons)))
