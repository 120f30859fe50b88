"""How cloud-init's files reach a guest: as values of its machine's extra configuration, which VMware's tools read."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from partitioner.errors import Problem, SpecError
from vsphere.guest.cloud import meta_data, user_data
from vsphere.guest.values import Guest
from vsphere.machine.vm import Vm

ENCODING = "gzip+base64"
_MAX_VALUE = 65_536  # larger ones vCenter does not take reliably


class GuestInfo(Mapping[str, str]):
    """Keys and values for a machine's extra configuration; shows its keys only, because a value holds the client token."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<GuestInfo of {', '.join(self._values)}>"


def guestinfo(guest: Guest, vm: Vm) -> GuestInfo:
    """Return what a machine's extra configuration says to cloud-init (its datasource VMware); the same input, the same bytes.

    Raises
    ------
    SpecError
        The token's file cannot be read, or there is more than a value of extra configuration holds.
    """
    values = {}
    for key, text in (("metadata", json.dumps(meta_data(guest, vm))), ("userdata", user_data(guest, vm))):
        values[f"guestinfo.{key}"] = encoded = _encoded(text)
        values[f"guestinfo.{key}.encoding"] = ENCODING
        if len(encoded) > _MAX_VALUE:
            raise SpecError(f"VM {vm.name!r}: {key} for cloud-init has {len(encoded):,} bytes; at most {_MAX_VALUE:,} fit")
    return GuestInfo(values)


def save_guestinfo(guest: Guest, vm: Vm, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write what scripts of other tools hand to a machine: ``NAME.metadata`` and ``NAME.userdata``, encoded, mode 0600.

    Raises
    ------
    SpecError
        As of `guestinfo`, or a file cannot be written.
    """
    info = guestinfo(guest, vm)
    paths = []
    for key in ("metadata", "userdata"):
        path = Path(folder) / f"{vm.name}.{key}"
        try:
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(info[f"guestinfo.{key}"])
        except OSError as error:
            raise SpecError(Problem(f"cannot be written: {error.strerror}", os.fspath(path))) from error
        paths.append(path)
    return paths[0], paths[1]


def _encoded(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
