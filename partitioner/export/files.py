"""A few text files as one value. Must not know what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from partitioner.documents import write
from partitioner.errors import Problem, SpecError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,200}(?:/[A-Za-z0-9_][A-Za-z0-9_.@-]{0,200})?")


class Files(Mapping[str, str]):
    """File name to content; immutable. Names have at most one folder, ``esx-01/gpu-partitioner-layout.service``.

    Examples
    --------
    >>> files = Files({"a.env": "X=1"})
    >>> files["a.env"], list(files)
    ('X=1', ['a.env'])
    """

    __slots__ = ("_contents",)

    def __init__(self, contents: Mapping[str, str]) -> None:
        for name in contents:
            if not _NAME.fullmatch(name):
                raise SpecError(f"file name {name!r}: letters, digits and ._@- are wanted, with at most one folder")
        self._contents = dict(contents)

    def __getitem__(self, name: str) -> str:
        return self._contents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)

    def __hash__(self) -> int:
        return hash(frozenset(self._contents.items()))

    def __repr__(self) -> str:
        return f"<Files {', '.join(self._contents)}>"

    def __str__(self) -> str:
        """All files, one after the other, each under its name."""
        return "\n".join(f"# ==> {name} <==\n{content}" for name, content in self._contents.items())

    def write(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the files into a folder, which is made where it does not exist; each file as a whole or not at all.

        Returns
        -------
        The paths written.

        Raises
        ------
        SpecError
            A file or folder cannot be written.
        """
        paths = []
        for name, content in self._contents.items():
            path = Path(folder) / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SpecError(Problem(f"cannot be made: {error.strerror or error}", os.fspath(path.parent))) from error
            write(path, content)
            paths.append(path)
        return tuple(paths)


def file_stem(text: str) -> str:
    """Return text as a part of a file name: what is not a letter, digit or ``._-`` becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".-")[:100] or "_"
