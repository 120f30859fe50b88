"""A login to a vCenter: verified, renewed where it ends, closed on every path, its password never kept or shown.

This module must not know what a session is used for.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from pyVmomi import vim, vmodl

from partitioner.errors import SpecError
from vsphere import tls
from vsphere.credentials import Credentials
from vsphere.errors import CertificateError, ConnectError, LoginError, PrivilegeError, VersionError, VSphereError, words
from vsphere.negotiation import Need, knows, needs_of, negotiated, newer, version_id
from vsphere.stub import Stub

_LOG = logging.getLogger(__name__)
_HOST = re.compile(r"^(?:[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?\]?)$")


class Session:
    """A session on a vCenter, to be used as a context manager; `Session.open` makes one.

    Parameters
    ----------
    stub : the connection.
    content : what the server says of itself.
    credentials : the account.

    Attributes
    ----------
    who : name of the vCenter for messages.
    """

    def __init__(self, stub: Stub, content: Any, credentials: Credentials) -> None:
        self.who = stub.who.removesuffix(":443")
        self.content = content
        self.stub = stub
        self._credentials = credentials
        self._key = ""
        stub.login = self._log_in

    @classmethod
    def open(
        cls,
        host: str,
        credentials: Credentials,
        *,
        port: int = 443,
        ca_file: str | os.PathLike[str] | None = None,
        thumbprint: str | None = None,
        timeout_s: float = 60.0,
        patience_s: float = 15.0,
    ) -> Session:
        """Connect and log in.

        Parameters
        ----------
        host, port : the vCenter.
        credentials : the account.
        ca_file : PEM file of the authorities to trust instead of the system's (``/certs/download.zip`` of a vCenter has its
            own).
        thumbprint : SHA-256 of its certificate; that one alone is accepted then.
        timeout_s : longest wait for an answer [s].
        patience_s : how long reads are tried again where the connection breaks later on [s].

        Raises
        ------
        SpecError
            A parameter cannot be used, or there is no password.
        CertificateError
            The certificate is not trusted; nothing was sent. The message has its thumbprint.
        LoginError
            The account is not accepted.
        ConnectError
            The server cannot be reached, or is no vCenter.
        """
        name = _checked(host, port, timeout_s)
        context = tls.context(ca_file=ca_file, thumbprint=thumbprint)
        stub = _reached(name, port, context, timeout_s, pinned=thumbprint is not None)
        try:
            content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
            session = cls(stub, content, credentials)
            session._log_in()
        except vmodl.MethodFault as fault:
            stub.DropConnections()
            raise VSphereError(f"{stub.who}: connecting: {words(fault)}", fault=fault) from fault
        except BaseException:
            stub.DropConnections()
            raise
        stub.patience_s = patience_s
        return session

    def __repr__(self) -> str:
        return f"<Session on {self.who} as {self._credentials.user}, API {self.api_version}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Log out and close all connections; where vCenter no longer answers, it ends the session by itself later."""
        self.stub.login = None
        self.stub.patience_s = 0.0
        try:
            if self._key:
                self.content.sessionManager.Logout()
        except (vmodl.MethodFault, VSphereError) as error:
            _LOG.debug("%s: logging out: %s", self.who, error if isinstance(error, VSphereError) else words(error))
        finally:
            self._key = ""
            self.stub.DropConnections()

    # -- login ---------------------------------------------------------------------------------------------------------

    def _log_in(self) -> None:
        """Log in, and count it. No frame of the failed call is kept: they hold the password."""
        failure: BaseException | None = None
        try:
            self._key = str(self.content.sessionManager.Login(self._credentials.user, self._credentials.reveal(), None).key)
        except SpecError:  # no password; nothing was sent
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below, without its frames
            failure = _forgetful(error)
        if failure is None:
            self.stub.logins += 1
            return
        if isinstance(failure, vim.fault.InvalidLogin | vim.fault.NoPermission | vim.fault.PasswordExpired):
            said = f"{self.who}: {words(failure)}; check the account ({self._credentials})"
            raise LoginError(said, fault=failure) from failure
        if isinstance(failure, vmodl.MethodFault):
            raise LoginError(f"{self.who}: logging in {self._credentials.user}: {words(failure)}", fault=failure) from failure
        raise failure

    @property
    def logins(self) -> int:
        """Logins so far; what hangs on a session (views, filters) is gone where this has changed."""
        return self.stub.logins

    # -- checks --------------------------------------------------------------------------------------------------------

    @property
    def api_version(self) -> str:
        """API version that was negotiated, e.g. ``8.0.3.0``."""
        return version_id(self.stub.version)

    def check_version(self, *needs: Need) -> None:
        """Refuse what is newer than the negotiated version.

        Parameters
        ----------
        needs : types of pyVmomi, or (type, property) pairs.

        Raises
        ------
        VersionError
            Something is; names all, with the versions that brought them.
        """
        missing = newer(self.stub.version, needs)
        if missing:
            named = ", ".join(f"{name} (API {since})" for name, since in missing)
            said = f"{self.who}: API {self.api_version} does not know {named}"
            raise VersionError(f"{said}; vCenter would drop it silently. Update vCenter, or do without it", missing=missing)

    def check_spec(self, spec: object) -> None:
        """Refuse a request that uses anything newer than the negotiated version, however deep inside.

        Raises
        ------
        VersionError
            It does; names all, with the versions that brought them.
        """
        self.check_version(*needs_of(spec))

    def has(self, *needs: Need) -> bool:
        """Whether the negotiated version knows all of the needs."""
        return not newer(self.stub.version, needs)

    def has_version(self, version: str) -> bool:
        """Whether the negotiated version is a version in pyVmomi's spelling (``vim.version.v8_0_3_0``), or newer."""
        return knows(self.stub.version, version)

    def check_privileges(self, wanted: Mapping[Any, Iterable[str]]) -> None:
        """Refuse to begin where the account lacks privileges.

        Parameters
        ----------
        wanted : managed objects to the privileges needed on each, e.g. ``{folder: ["VirtualMachine.Inventory.Create"]}``.

        Raises
        ------
        PrivilegeError
            Some are missing; lists all.
        VSphereError
            vCenter does not answer the question.
        """
        alike: dict[tuple[str, ...], list[Any]] = {}
        for entity, privileges in wanted.items():
            alike.setdefault(tuple(sorted(set(privileges))), []).append(entity)
        missing: list[tuple[str, str]] = []
        for names, entities in alike.items():
            for answer in self._granted(entities, names) if names else ():
                missing += [(answer.entity._moId, p.privId) for p in answer.privAvailability if not p.isGranted]  # noqa: SLF001
        if missing:
            where: dict[str, list[str]] = {}
            for moid, privilege in missing:
                where.setdefault(privilege, []).append(moid)
            lines = "; ".join(f"{privilege} on {_some(moids)}" for privilege, moids in where.items())
            said = f"{self.who}: {self._credentials.user} lacks {lines}; nothing was begun"
            raise PrivilegeError(f"{said}. Give it a role with them there", missing=missing)

    def _granted(self, entities: list[Any], names: tuple[str, ...]) -> list[Any]:
        try:
            while True:
                key = self._key
                answers = self.content.authorizationManager.HasPrivilegeOnEntities(entities, key, list(names))
                if key == self._key:  # else it was asked for a session that has ended meanwhile
                    return list(answers)
        except vmodl.MethodFault as fault:
            said = f"{self.who}: asking for the privileges of {self._credentials.user}: {words(fault)}"
            raise VSphereError(said, fault=fault) from fault


def _some(moids: list[str]) -> str:
    return ", ".join(moids[:4]) + (f" and {len(moids) - 4} more" if len(moids) > 4 else "")


def _checked(host: str, port: int, timeout_s: float) -> str:
    if not _HOST.match(host):
        raise SpecError(f"vCenter {host!r} is not a name or an address; write e.g. vc.example.com, and the port as port=")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise SpecError(f"port {port!r} is not a number from 1 to 65535")
    if not 0 < timeout_s <= 3600:
        raise SpecError(f"timeout_s is {timeout_s!r}, not a number of seconds above 0 and up to 3600")
    return host.strip("[]")


def _reached(host: str, port: int, context: ssl.SSLContext, timeout_s: float, *, pinned: bool) -> Stub:
    who = f"{host}:{port}"
    try:
        version = negotiated(host, port, context=context, timeout_s=timeout_s)
    except ssl.SSLCertVerificationError as error:
        shown = tls.shown_thumbprint(host, port, timeout_s=timeout_s)
        reason = str(getattr(error, "verify_message", "") or error.args[-1])
        seen = f"; it shows SHA-256 {shown}" if shown else ""
        advice = "do not go on until you know why" if pinned else "give ca_file, the file of its authority"
        said = f"{who}: its certificate is not trusted: {reason}{seen}"
        raise CertificateError(
            f"{said}. {advice[:1].upper()}{advice[1:]}; or compare that with what the vCenter's own console says, and give it as"
            " thumbprint",
            thumbprint=shown,
        ) from error
    except TimeoutError as error:
        raise ConnectError(f"{who}: no answer within {timeout_s:g} s; check host, port and firewall") from error
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or words(error)
        raise ConnectError(f"{who}: cannot be reached: {said}; check host, port and firewall") from error
    return Stub(host, port, version=version, context=context, timeout_s=timeout_s)


def _forgetful(error: BaseException) -> BaseException:
    """Return an error without the frames that it came through, nor those of what it came from."""
    pending, seen = [error], {id(error)}
    while pending:
        one = pending.pop()
        one.__traceback__ = None
        for origin in (one.__cause__, one.__context__):
            if origin is not None and id(origin) not in seen:
                seen.add(id(origin))
                pending.append(origin)
    return error
