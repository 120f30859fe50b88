"""TLS contexts that always verify: by authorities, by a file of them, or by the thumbprint of the one certificate expected.

Must not know vSphere, and sends nothing to a server.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import socket
import ssl
from typing import Any

from partitioner.errors import SpecError

_LENGTHS = {40: "sha1", 64: "sha256"}


class PinnedContext(ssl.SSLContext):
    """A context that accepts one certificate alone, whatever opens the connection; checked before anything is sent.

    pyVmomi's own `thumbprint` is not looked at with a context that does not verify, so that this one does it itself.
    """

    thumbprint: str = ""

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Wrap a socket, and close it where the server shows another certificate.

        Raises
        ------
        ssl.SSLCertVerificationError
            The server's certificate has another thumbprint.
        """
        wrapped = super().wrap_socket(*args, **kwargs)
        try:
            fits = self._fits(wrapped)
        except BaseException:
            wrapped.close()
            raise
        if not fits:
            wrapped.close()
            raise ssl.SSLCertVerificationError("its certificate has another thumbprint than the one given")
        return wrapped

    def _fits(self, wrapped: ssl.SSLSocket) -> bool:
        shown = wrapped.getpeercert(binary_form=True) or b""
        return hmac.compare_digest(hashlib.new(_LENGTHS[len(self.thumbprint)], shown).hexdigest(), self.thumbprint)


def context(*, ca_file: str | os.PathLike[str] | None = None, thumbprint: str | None = None) -> ssl.SSLContext:
    """Return a context that verifies the server.

    Parameters
    ----------
    ca_file : PEM file of authorities to trust instead of the system's.
    thumbprint : SHA-256 (or SHA-1) of the server's certificate, with or without colons; it alone is accepted then, also where
        its name or its authority does not fit. With `ca_file` too, both must hold.

    Raises
    ------
    SpecError
        The file cannot be used, or the thumbprint is none.
    """
    digest = read_thumbprint(thumbprint) if thumbprint is not None else None
    try:
        if digest is None:
            return ssl.create_default_context(cafile=os.fspath(ca_file) if ca_file is not None else None)
        pinned = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
        pinned.thumbprint = digest
        if ca_file is not None:
            pinned.load_verify_locations(cafile=os.fspath(ca_file))
        else:
            pinned.check_hostname = False
            pinned.verify_mode = ssl.CERT_NONE  # the thumbprint decides, and is checked on every connection
    except FileNotFoundError as error:
        raise SpecError(f"ca_file: {os.fspath(ca_file or '')}: no such file") from error
    except OSError as error:  # ssl.SSLError among them
        raise SpecError(f"ca_file: {os.fspath(ca_file or '')}: not a file of PEM certificates ({error.strerror})") from error
    return pinned


def read_thumbprint(text: str) -> str:
    """Return a thumbprint as lower-case digits.

    Raises
    ------
    SpecError
        It is not 64 (SHA-256) or 40 (SHA-1) hexadecimal digits.
    """
    digits = re.sub(r"[:\s]", "", text).casefold()
    if len(digits) not in _LENGTHS or not re.fullmatch(r"[0-9a-f]+", digits):
        raise SpecError(f"thumbprint {text!r} is not the SHA-256 of a certificate; write its 64 digits, e.g. AA:BB:...")
    return digits


def shown_thumbprint(host: str, port: int, *, timeout_s: float) -> str | None:
    """Return the SHA-256 of the certificate that a server shows, as ``AA:BB:...``; None where it shows none.

    For messages only: nothing is sent, and the connection is closed.
    """
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            looking.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            shown = wrapped.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None
    digits = hashlib.sha256(shown).hexdigest().upper() if shown else ""
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2)) or None
