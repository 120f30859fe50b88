"""How the command line writes: consoles, JSON, files. Must not know what is written."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from partitioner.errors import Problem, SpecError

if TYPE_CHECKING:
    from rich.console import Console

_ASCII_LINES = str.maketrans("─━│┃┼╇╪═", "--||+++=")  # for terminals without box drawing characters
_SHOWN = 6
_WIDTH_OF_PIPES = 160  # [columns]; rich would take 80, too narrow for tables that are to be searched


def console() -> Console:
    """Return a console on standard output: colours on terminals only and never against NO_COLOR, no markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_PIPES
    return Console(width=width, markup=False, highlight=False, emoji=False)


def print_json(value: object) -> None:
    """Print plain data, or text that is JSON already; valid JSON in any encoding of standard output.

    Parameters
    ----------
    value : a string is taken as JSON text, everything else is encoded.
    """
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    if not _can_show(text):
        # Outside of strings JSON is ASCII, so that escapes may stand wherever other characters do.
        text = re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], text)
    _print(text)


def print_text(text: str) -> None:
    """Print text that is laid out already, with lines of dashes where standard output has no better ones."""
    text = printable(text)
    _print(text if _can_show(text) else text.translate(_ASCII_LINES))


def _print(text: str) -> None:
    """Write to standard output in the encoding that its user chose; typer.echo takes UTF-8 instead of ASCII."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    r"""Return text with control characters written out: names come from files, and could steer a terminal.

    Examples
    --------
    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda match: repr(match[0])[1:-1], text)


def check_files(paths: Iterable[Path | None]) -> None:
    """Complain about files that could not be written, before any work is done for them.

    Raises
    ------
    SpecError
        A path is a directory, its directory does not exist, or it is named for two outputs.
    """
    problems: list[Problem] = []
    seen: set[Path] = set()
    for path in filter(None, paths):
        try:
            if path.is_dir():
                problems.append(Problem("is a directory; name a file to write", str(path)))
            elif not path.parent.is_dir():
                problems.append(Problem(f"cannot be written: there is no directory {str(path.parent)!r}", str(path)))
        except OSError as error:
            problems.append(Problem(f"cannot be written: {error.strerror}", str(path)))
        if path.absolute() in seen:
            problems.append(Problem("is named for two outputs; name two files", str(path)))
        seen.add(path.absolute())
    if problems:
        raise SpecError(problems)


def write_file(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all, and say so on standard error."""
    from partitioner.documents import write

    write(path, text)
    typer.echo(f"wrote {path}", err=True)


def counted(number: int, noun: str) -> str:
    """Return ``1 GPU``, ``2 GPUs``, ``1,000 GPUs``.

    Examples
    --------
    >>> counted(1, "step"), counted(2000, "step")
    ('1 step', '2,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """Return names with commas, the first six where there are more.

    Examples
    --------
    >>> some("abcdefgh")
    'a, b, c, d, e, f and 2 more'
    """
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def note(text: str) -> None:
    """Say something on standard error that is no error."""
    for line in text.splitlines():
        typer.echo(f"note: {printable(line)}", err=True)
