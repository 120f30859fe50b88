"""Where a password stands; it is looked up when it is needed and never kept. Must not know vSphere."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from partitioner.errors import SpecError

_MAX_BYTES = 4096
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account and where its password stands: an environment variable, a file, or the system's keyring.

    Parameters
    ----------
    user : the account.
    kind : where to look.
    place : name of the variable, path of the file, or name of the service in the keyring.
    """

    user: str
    kind: Literal["environment", "file", "keyring"]
    place: str

    @classmethod
    def of(
        cls,
        user: str,
        *,
        password_env: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        keyring: str | None = None,
    ) -> Credentials:
        """Return credentials; exactly one place of the password must be named.

        Raises
        ------
        SpecError
            There is no user, or not exactly one place.
        """
        if not user:
            raise SpecError("user is empty; name an account, e.g. svc-gpu@vsphere.local")
        given: list[tuple[Literal["environment", "file", "keyring"], str]] = []
        if password_env is not None:
            given.append(("environment", password_env))
        if password_file is not None:
            given.append(("file", os.fspath(password_file)))
        if keyring is not None:
            given.append(("keyring", keyring))
        if len(given) != 1:
            named = " and ".join(f"{kind} {place!r}" for kind, place in given) or "nowhere"
            raise SpecError(f"password of {user!r}: {named}; give exactly one of password_env, password_file, keyring")
        return cls(user, *given[0])

    def __str__(self) -> str:
        return f"{self.user}, password from {self.kind} {self.place}"

    def reveal(self) -> str:
        """Return the password. Do not put it into a variable: frames of a traceback show variables.

        Raises
        ------
        SpecError
            There is none, or it cannot be sent.
        """
        lookup: Callable[[Credentials], tuple[str, str | None]] = {
            "environment": _from_environment,
            "file": _from_file,
            "keyring": _from_keyring,
        }[self.kind]
        found, reason = lookup(self)
        reason = reason or _unfit(found)
        if reason is None:
            return found
        del found
        raise SpecError(f"password of {self.user!r}: {self.kind} {self.place!r}: {reason}")


def _unfit(password: str) -> str | None:
    """Return why a password cannot be sent; without a part of it."""
    if not password:
        return "it is empty; put the password there"
    if any("\ud800" <= character <= "\udfff" for character in password):
        return "it is not UTF-8 text"
    return "it has control characters, which vCenter cannot receive" if _NOT_IN_XML.search(password) else None


def _from_environment(where: Credentials) -> tuple[str, str | None]:
    if where.place not in os.environ:
        return "", "there is no such variable; set it, or name a file with password_file"
    return os.environ[where.place], None


def _from_file(where: Credentials) -> tuple[str, str | None]:
    try:
        with open(where.place, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        return "", f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if len(raw) > _MAX_BYTES:
        return "", f"longer than {_MAX_BYTES} bytes; it must hold the password alone"
    text = raw.decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").removesuffix("\r"), None  # what editors put at the end is no part of it


def _from_keyring(where: Credentials) -> tuple[str, str | None]:
    try:
        module = importlib.import_module("keyring")
    except ImportError:
        return "", "the Python package keyring is not installed; install it, or use password_env or password_file"
    try:
        found = module.get_password(where.place, where.user)
    except Exception as error:  # noqa: BLE001 - whatever a backend raises; its message alone goes on
        return "", f"the keyring does not answer ({type(error).__name__})"
    if found is None:
        return "", f"the keyring has no password of {where.user!r} there; add it with `keyring set {where.place} {where.user}`"
    return found, None
