"""Small files of state that survive a kill, a full disk and a power cut. Must not know what stands in them."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from partitioner.documents import read
from partitioner.errors import SpecError, TargetError

_MAX_MIB = 4096  # layouts of a million GPUs; our own files, not anybody's input
_NOTHING: Mapping[str, str] = MappingProxyType({})


def make_folder(path: Path) -> int:
    """Make a folder, and those above it, that only its owner may enter; one that is there is left as it is.

    Returns
    -------
    Its permissions.

    Raises
    ------
    TargetError
        It cannot be made; or it is another user's, or every user may write in it, so that others could say what this user
        does to GPUs.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise TargetError(f"{path}: the state folder cannot be made: {_said(error)}") from error
    if found.st_uid not in (0, os.geteuid()):
        raise TargetError(
            f"{path}: the state folder {os.path.realpath(path)} is that of user {found.st_uid}, and this is user {os.geteuid()};"
            " run it as that user, give the folder to this one (chown), or name another"
        )
    if found.st_mode & stat.S_IWOTH:
        where = os.path.realpath(path)
        raise TargetError(f"{path}: every user may write in the state folder {where}; take that away (chmod o-w {where})")
    return found.st_mode


def write_record(path: Path, data: Mapping[str, Any], *, encoded: Mapping[str, str] = _NOTHING) -> None:
    """Write a JSON file as `write_text` does.

    Parameters
    ----------
    path : the file.
    data : what it is to say.
    encoded : what else it is to say, as JSON already.

    Raises
    ------
    TargetError
        The file cannot be written (disk full, no permission), or the folder is not this user's; what stood there before
        still stands.
    """
    texts = {key: _lines(value) for key, value in data.items()} | dict(encoded)
    write_text(path, "{\n" + ",\n".join(f"{json.dumps(key)}: {text.rstrip()}" for key, text in texts.items()) + "\n}\n")


def _lines(value: object) -> str:
    """Return JSON with one entry of a list to a line, in ASCII, which any name survives."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value)


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all, on the disk when this returns; makes its folder.

    Others may read the file where they may read the folder.

    Raises
    ------
    TargetError
        The file cannot be written (disk full, no permission); what stood there before still stands.
    """
    readers = make_folder(path.parent) & (stat.S_IRGRP | stat.S_IROTH)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                os.fchmod(descriptor, 0o600 | readers)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise TargetError(
            f"{path}: cannot be written: {_said(error)}; make room or give permission and run it again, the old content stands"
        ) from error


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk.

    Raises
    ------
    OSError
        The folder cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(path: Path, *, kind: str, version: int, remedy: str) -> dict[str, Any] | None:
    """Return what a JSON file of this program says, None where there is no file.

    Parameters
    ----------
    path : the file.
    kind : its ``format``, e.g. ``gpu-partitioner/assignments``.
    version : the only version that is understood.
    remedy : what to do when the file is damaged, for the message.

    Raises
    ------
    TargetError
        The file cannot be read, is damaged, or of another kind or version; it is left as it is.
    """
    try:
        data = read(path, max_mib=_MAX_MIB, syntax="json").data
    except SpecError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        if isinstance(error.__cause__, OSError):
            raise TargetError(f"{error}; run it as the owner of the folder") from error
        raise TargetError(f"{error}; {remedy}") from error
    if not isinstance(data, dict) or data.get("format") != kind:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise TargetError(f"{path}: its format is {found!r}, not {kind!r}; {remedy}")
    if data.get("version") != version or isinstance(data.get("version"), bool):
        raise TargetError(
            f"{path}: its version is {data.get('version')!r}, this program reads {version}; use the program that wrote it"
        )
    return data


def _said(error: OSError) -> str:
    return error.strerror or str(error)
