"""Free ports of this host, and whether one is free. Knows no servers."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from benchmarks.errors import ServerError


def free_ports(count: int) -> tuple[int, ...]:
    """Return different ports that are free now; another program may take one before it is used.

    Parameters
    ----------
    count : how many.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)


def require_free(port: int, *, who: str) -> None:
    """Check that a port that was asked for can be listened on.

    Parameters
    ----------
    port : of this host.
    who : of the message.

    Raises
    ------
    ServerError
        It cannot.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: the last one's connections do not count
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ServerError(f"{who} - port {port} cannot be used: {error}; free it, or leave the choice of ports to us") from error


def split_address(address: str, *, who: str) -> tuple[str, int]:
    """Return host and port of an address.

    Parameters
    ----------
    address : ``host:port``, ``[::1]:8001``.
    who : of the message.

    Raises
    ------
    ServerError
        It is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ServerError(f"{who} - address {address!r} is none; right would be host:port, e.g. vm-7.lab:8001")
    return host.removeprefix("[").removesuffix("]"), int(port)
