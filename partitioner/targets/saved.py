"""The layout of a simulated fleet in a file that grows by one line for each step.

The first line says of which fleet, the second has all GPUs, each other one the GPUs that a step changed. A line that a kill
cut off is as if never written. Must not know what a step is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from partitioner.errors import SpecError, TargetError
from partitioner.layout import GpuKey, GpuLayout, Layout, gpu_label
from partitioner.targets.files import write_text

_FORMAT = "gpu-partitioner/simulated"
_VERSION = 1
_Signature = tuple[int, int, int]


class SavedLayout:
    """The file of one simulated fleet.

    Parameters
    ----------
    path : the file.
    first : the layout that the fleet's own description gives; the file is of this fleet and no other.
    """

    def __init__(self, path: Path, first: Layout) -> None:
        self.path = path
        self._first = first
        self._seen: _Signature | None = None
        self._ours = False  # whether this process wrote all of the file, so that no line at its end is cut off

    def read_if_changed(self) -> Layout | None:
        """Return what the file says, or None where it says what it said when this last read or wrote it, or is not there.

        Raises
        ------
        TargetError
            The file cannot be read, is damaged, or of another fleet.
        """
        try:
            with open(self.path, "rb") as file:
                signature = _signature(file.fileno())
                if signature == self._seen:
                    return None
                raw = file.read()
        except FileNotFoundError:
            if self._seen is None:
                return None
            self._seen, self._ours = None, False  # removed: it begins anew
            return self._first
        except OSError as error:
            raise TargetError(f"{self.path}: cannot be read: {error.strerror}; run it as its owner") from error
        layout = self._parsed(raw)
        self._seen, self._ours = signature, False
        return layout

    def replace(self, layout: Layout) -> None:
        """Write all GPUs anew.

        Raises
        ------
        TargetError
            The file cannot be written; what stood there before still stands.
        """
        header = {"format": _FORMAT, "version": _VERSION, "fleet": self._first.to_data()}
        write_text(self.path, f"{_line(header)}{_line(layout.to_data())}")
        with open(self.path, "rb") as file:
            self._seen, self._ours = _signature(file.fileno()), True

    def add(self, gpus: Sequence[GpuLayout], everything: Callable[[], Layout]) -> None:
        """Add what a step changed.

        Parameters
        ----------
        gpus : the GPUs it changed, after it.
        everything : gives the layout after it; called where the file has to be written anew.

        Raises
        ------
        TargetError
            The file cannot be written; what stood there before still stands.
        """
        if not self._ours:
            self.replace(everything())
            return
        try:
            with open(self.path, "ab", buffering=0) as file:
                end = os.fstat(file.fileno()).st_size
                try:
                    _write_all(file.fileno(), _line([gpu.to_data() for gpu in gpus]).encode())
                except OSError:
                    self._ours = False
                    os.ftruncate(file.fileno(), end)
                    raise
                self._seen = _signature(file.fileno())
        except OSError as error:
            raise TargetError(f"{self.path}: cannot be written: {error.strerror}; make room and run it again") from error

    def _parsed(self, raw: bytes) -> Layout:
        lines = raw.split(b"\n")[:-1]  # what follows the last line end was cut off
        try:
            header, *rest = (json.loads(line) for line in lines)
            if not isinstance(header, dict) or header.get("format") != _FORMAT or header.get("version") != _VERSION:
                raise SpecError(f"the first line does not say format {_FORMAT}, version {_VERSION}")
            gpus: dict[GpuKey, Any] = {}
            for entries in rest:
                gpus.update({(entry["host"], entry["gpu"]): entry for entry in entries})
            first, layout = Layout.from_data(header.get("fleet")), Layout.from_data(list(gpus.values()))
        except (ValueError, TypeError, KeyError) as error:  # also SpecError, broken JSON and broken UTF-8
            raise TargetError(f"{self.path}: damaged: {error}; {self._remedy}") from error
        if first != self._first or set(layout.rows) != set(first.rows):
            raise TargetError(
                f"{self.path}: is of another fleet than the description: {_difference(first, self._first)}; "
                f"undo the change of the description, or {self._remedy}"
            )
        return layout

    @property
    def _remedy(self) -> str:
        return f"remove {self.path.parent} to begin anew with what the description of the fleet says"


def _line(data: object) -> str:
    return json.dumps(data, separators=(",", ":")) + "\n"


def _signature(descriptor: int) -> _Signature:
    found = os.fstat(descriptor)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _difference(saved: Layout, given: Layout) -> str:
    """Say the first difference between the fleet that a file is of and the one that is described."""
    before, after = ({(gpu.host, gpu.gpu): gpu for gpu in layout} for layout in (saved, given))
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if old != new:
            return f"{gpu_label(*key)} is {_shown(new)}, was {_shown(old)}"
    return "its GPUs stand in another order, or the saved GPUs are others"


def _shown(gpu: GpuLayout | None) -> str:
    if gpu is None:
        return "not there"
    instances = ", ".join(f"{slot.profile}@{slot.start}" for slot in gpu.slots)
    return f"{gpu.model} in mode {gpu.mode}" + (f" with {instances}" if instances else "")
