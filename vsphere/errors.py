"""What goes wrong between us and a vCenter, with vCenter's own fault kept. Must not know what was being done, or why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyVmomi import vmodl

from partitioner.errors import TargetError


class VSphereError(TargetError):
    """A vCenter cannot be reached, refused, or answered what cannot be used.

    Attributes
    ----------
    fault : what vCenter raised, with its type and fields; None where it did not say, e.g. when it could not be reached.
    """

    def __init__(self, message: str, *, fault: vmodl.MethodFault | None = None) -> None:
        self.fault = fault
        super().__init__(message)


class ConnectError(VSphereError):
    """No connection, or it broke, or there was no answer in time. What was asked for may have been done nevertheless."""


class CertificateError(ConnectError):
    """The server's certificate is not trusted; nothing was sent to it.

    Attributes
    ----------
    thumbprint : SHA-256 of the certificate that it showed, as ``AA:BB:...``; None where it could not be read.
    """

    def __init__(self, message: str, *, thumbprint: str | None = None) -> None:
        self.thumbprint = thumbprint
        super().__init__(message)


class LoginError(VSphereError):
    """vCenter does not accept the account and its password."""


class VersionError(VSphereError):
    """What is needed is newer than the API version that was negotiated; vCenter would have dropped it silently.

    Attributes
    ----------
    missing : (what is needed, the version that brought it) for each.
    """

    def __init__(self, message: str, *, missing: Iterable[tuple[str, str]] = ()) -> None:
        self.missing: tuple[tuple[str, str], ...] = tuple(missing)
        super().__init__(message)


class PrivilegeError(VSphereError):
    """The account lacks privileges; nothing was begun.

    Attributes
    ----------
    missing : (vCenter's id of the object, privilege) for each.
    """

    def __init__(self, message: str, *, missing: Iterable[tuple[str, str]] = ()) -> None:
        self.missing: tuple[tuple[str, str], ...] = tuple(missing)
        super().__init__(message)


def words(fault: BaseException) -> str:
    """Return what a fault of vCenter, or another error, says: its message, what it adds, and its type.

    Examples
    --------
    >>> from pyVmomi import vim
    >>> words(vim.fault.InvalidLogin(msg="Cannot complete login."))
    'Cannot complete login (InvalidLogin)'
    """
    kind = type(fault).__name__.rpartition(".")[2]
    if not isinstance(fault, vmodl.MethodFault):
        return f"{str(fault) or 'no reason given'} ({kind})".replace(f"{kind} ({kind})", kind)
    added = [message.message for message in fault.faultMessage or () if message.message]
    said = [text.strip().rstrip(".") for text in dict.fromkeys([getattr(fault, "msg", None) or "", *added]) if text.strip()]
    return f"{'; '.join(said)} ({kind})" if said else kind


@contextmanager
def translated(who: str, doing: str) -> Iterator[None]:
    """Turn a fault of vCenter into a `VSphereError` that says who, what was being done, and what vCenter says.

    Parameters
    ----------
    who : what it is about: ``vc.lab``, ``vc.lab: VM 'chat-0'``.
    doing : what was being done: ``reading the inventory``.

    Raises
    ------
    VSphereError
        vCenter raised a fault inside.
    """
    try:
        yield
    except vmodl.MethodFault as fault:
        raise VSphereError(f"{who}: {doing}: {words(fault)}", fault=fault) from fault
