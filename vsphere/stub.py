"""The one way to a vCenter: sends a call, logs in again once where the session ended, tries reads again after a drop.

A call that changes something is sent again only where the server said that it did not do it. This module must not know what
the calls are for.
"""

from __future__ import annotations

import http.client
import selectors
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any
from xml.parsers.expat import ExpatError

from pyVmomi import SoapStubAdapter, vim

from vsphere.errors import CertificateError, ConnectError, LoginError, words

POOL = 16
"""Connections kept open, and so calls that go at the same time without new ones."""

_IDLE_S = 60  # vCenter closes idle connections later than this
_LONGEST_PAUSE_S = 2.0

_ONCE = {"Login", "Logout"}
_SAFE = ("Retrieve", "Query", "Has", "Find", "Fetch", "Continue", "CurrentTime", "WaitForUpdates", "CheckForUpdates")
_SAFE_TOO = {
    "CreateContainerView",
    "CreateListView",
    "ModifyListView",
    "CreateFilter",
    "CreatePropertyCollector",
    "DestroyView",
    "DestroyPropertyFilter",
    "DestroyPropertyCollector",
}


_Adapter: Any = SoapStubAdapter  # its methods carry no types


class Stub(_Adapter):  # type: ignore[misc]
    """pyVmomi's adapter with a session that renews itself.

    Parameters
    ----------
    host, port : the server.
    version : API version that was negotiated.
    context : TLS context; it verifies.
    timeout_s : longest wait for an answer [s].

    Attributes
    ----------
    login : logs in; put there by the session.
    patience_s : how long reads are tried again after the connection broke [s]; 0 until the first login.
    logins : logins so far, the first included.
    calls : calls sent so far.
    """

    pool: list[tuple[Any, float]]

    def __init__(self, host: str, port: int, *, version: str, context: ssl.SSLContext, timeout_s: float) -> None:
        super().__init__(
            host=host,
            port=port,
            version=version,
            sslContext=context,
            poolSize=POOL,
            connectionPoolTimeout=_IDLE_S,
            httpConnectionTimeout=timeout_s,
        )
        self.who = f"{host}:{port}"
        self.timeout_s = timeout_s
        self.patience_s = 0.0
        self.login: Callable[[], None] | None = None
        self.logins = 0
        self.calls = 0
        self._renewing = threading.Lock()

    def InvokeMethod(self, mo: Any, info: Any, args: Any, outerStub: Any = None) -> Any:  # noqa: N802, N803 - pyVmomi's names
        """Send a call and return what vCenter answers.

        Raises
        ------
        vmodl.MethodFault
            vCenter refused.
        ConnectError
            The connection broke, there was no answer in time, or it cannot be read.
        LoginError
            The session ended and cannot be renewed.
        """
        name = str(info.wsdlName)
        renewed, pause_s, give_up = False, 0.1, time.monotonic() + self.patience_s
        while True:
            logins = self.logins
            try:
                self.calls += 1
                return super().InvokeMethod(mo, info, args, outerStub)
            except vim.fault.NotAuthenticated as fault:
                if renewed or name in _ONCE or self.login is None:
                    raise LoginError(f"{self.who}: {name}: the session has ended: {words(fault)}", fault=fault) from fault
                self._renew(logins)
                renewed = True
            except ssl.SSLCertVerificationError as error:
                said = error.verify_message if hasattr(error, "verify_message") else str(error)
                raise CertificateError(
                    f"{self.who}: {name}: its certificate is not trusted any more: {said}; it has changed"
                ) from error
            except KeyError as error:  # pyVmomi's way to say that it does not know a type
                raise ConnectError(f"{self.who}: {name}: {_said(error, name, self.timeout_s)}") from error
            except (OSError, http.client.HTTPException, ExpatError) as error:
                if not _may_repeat(name) or time.monotonic() + pause_s > give_up:
                    raise ConnectError(f"{self.who}: {name}: {_said(error, name, self.timeout_s)}") from error
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _renew(self, logins: int) -> None:
        """Log in again, unless another thread did since `logins`."""
        with self._renewing:
            if self.logins == logins and self.login is not None:
                self.SetSessionId(None)
                self.login()

    def GetConnection(self) -> Any:  # noqa: N802 - pyVmomi's name
        """Return a connection; one that the server closed meanwhile is not used again, so that no call is lost on it."""
        with self.lock:
            closed = [pair for pair in self.pool if _is_closed(pair[0])]
            self.pool = [pair for pair in self.pool if pair not in closed]
        for connection, _ in closed:
            connection.close()
        return super().GetConnection()


def _is_closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the other end of an idle connection has closed it; there is nothing else to be read from one."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def _may_repeat(name: str) -> bool:
    return name.startswith(_SAFE) or name in _SAFE_TOO


def _said(error: BaseException, name: str, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        what = f"no answer within {timeout_s:g} s"
    elif isinstance(error, ExpatError):
        what = "the answer was cut short, or is none of vCenter's"
    elif isinstance(error, KeyError):
        what = f"the answer has a type {error} that pyVmomi does not know; update it"
    else:
        what = f"the connection broke: {getattr(error, 'strerror', None) or words(error)}"
    return what if _may_repeat(name) else f"{what}; whether it was done is not known, read what is there and run it again"
