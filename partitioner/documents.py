"""Reading YAML, JSON and TOML files so that every complaint can name a line.

Data comes back plain (dicts, lists, numbers, strings). Lines are looked up only when something is wrong, from the text.
This module must not know what the data means.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from partitioner.errors import Problem, SpecError, did_you_mean

MAX_INPUT_MIB = 64
"""Largest input file read [MiB]; saved plans may be larger."""
_MAX_EXPANDED_NODES = 20_000_000  # a YAML file that grows beyond this through aliases is an attack, not an input

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Location = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where.

    Parameters
    ----------
    data : the parsed content.
    origin : name of the file for messages.
    text : the file's text.
    syntax : ``yaml``, ``json`` or ``toml``.
    """

    data: Any
    origin: str
    text: str
    syntax: str

    def line_of(self, location: Location) -> int | None:
        """Return the 1-based line where the value at `location` stands, or of its nearest enclosing value."""
        if self.syntax == "toml":
            return _toml_line(self.text, location)
        node = yaml.compose(self.text, Loader=_Loader)
        line = None
        for key in (None, *location):
            child = node if key is None else _yaml_child(node, key)
            if child is None:
                break
            node = child
            line = node.start_mark.line + 1
        return line

    def problem(self, message: str, location: Location = ()) -> Problem:
        """Return a problem of this document at `location`."""
        return Problem(message, self.origin, self.line_of(location), format_location(location) or None)


def format_location(location: Location) -> str:
    """Return ``workloads[3].profile`` for ``("workloads", 3, "profile")``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read(path: str | os.PathLike[str], *, max_mib: int = MAX_INPUT_MIB) -> Document:
    """Read and parse a YAML, JSON or TOML file; ``-`` reads standard input (YAML or JSON).

    Parameters
    ----------
    path : the file; the suffix decides the syntax, YAML (of which JSON is a part) is the default.
    max_mib : refuse files larger than this [MiB].

    Raises
    ------
    SpecError
        The file is missing, not a regular file, too large, not UTF-8 text, or not well formed.
    """
    origin, text = _text(path, max_mib)
    suffix = Path(origin).suffix.casefold()
    return parse(text, origin=origin, syntax="toml" if suffix == ".toml" else "json" if suffix == ".json" else "yaml")


def _text(path: str | os.PathLike[str], max_mib: int) -> tuple[str, str]:
    limit = max_mib * 2**20
    try:
        if os.fspath(path) == "-":
            origin, raw = "<stdin>", sys.stdin.buffer.read(limit + 1)
        else:
            origin = os.fspath(path)
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                    raise SpecError(Problem("not a regular file", origin))
                raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise SpecError(Problem("no such file", os.fspath(path))) from error
    except IsADirectoryError as error:
        raise SpecError(Problem("is a directory; name a YAML, JSON or TOML file", os.fspath(path))) from error
    except (OSError, ValueError) as error:
        raise SpecError(Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", os.fspath(path))) from error
    if len(raw) > limit:
        raise SpecError(Problem(f"larger than {max_mib} MiB; give fewer entries, or a count for each", origin))
    try:
        return origin, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpecError(Problem(f"byte {raw[error.start]:#04x} is not UTF-8 text", origin, line)) from error


def parse(text: str, *, origin: str, syntax: str = "yaml") -> Document:
    """Parse text; see `read`.

    Raises
    ------
    SpecError
        The text is not well formed, repeats a key, or is nested or expanded beyond reason.
    """
    try:
        if syntax == "toml":
            data: Any = tomllib.loads(text)
        elif syntax == "json":
            data = json.loads(text, object_pairs_hook=_unique_pairs)
        else:
            data = _load_yaml(text)
    except json.JSONDecodeError as error:
        raise SpecError(Problem(f"not JSON: {error.msg}", origin, error.lineno)) from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise SpecError(Problem(f"not TOML: {error}", origin, int(found[1]) if found else None)) from error
    except _RepeatedKey as error:
        line = error.line or _line_of_repeated_key(text, str(error))
        raise SpecError(Problem(f"key {str(error)!r} stands twice; each name may stand once", origin, line)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
        raise SpecError(Problem(f"not YAML: {what}", origin, mark.line + 1 if mark else None)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(Problem(f"not {syntax.upper()}: {error}", origin)) from error
    except RecursionError as error:
        raise SpecError(Problem("nested too deep to be read", origin)) from error
    return Document(data, origin, text, syntax)


class _RepeatedKey(Exception):
    def __init__(self, key: str, line: int | None = None) -> None:
        super().__init__(key)
        self.line = line


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedKey(key)
            seen.add(key)
    return result


def _line_of_repeated_key(text: str, key: str) -> int | None:
    """Find the second occurrence of a key in JSON text."""
    found = list(re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text))
    return text.count("\n", 0, found[1].start()) + 1 if len(found) > 1 else None


def _load_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_nodes(root: yaml.Node) -> None:
    """Refuse repeated keys and documents that aliases blow up; each node is visited once."""
    size: dict[int, int] = {}
    pending: list[tuple[yaml.Node, bool]] = [(root, False)]
    open_nodes: set[int] = set()
    while pending:
        node, done = pending.pop()
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        if done:
            open_nodes.discard(id(node))
            size[id(node)] = 1 + sum(size[id(child)] for child in children)
            if size[id(node)] > _MAX_EXPANDED_NODES:
                raise yaml.MarkedYAMLError(problem="aliases make the document too large", problem_mark=node.start_mark)
            continue
        if id(node) in size:
            continue
        if id(node) in open_nodes:
            raise yaml.MarkedYAMLError(problem="an alias refers to what encloses it", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in seen:
                        raise _RepeatedKey(key.value, key.start_mark.line + 1)
                    seen.add(key.value)
        open_nodes.add(id(node))
        pending.append((node, True))
        pending.extend((child, False) for child in children if id(child) not in size)


def _yaml_child(node: yaml.Node, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == str(key):
                # A scalar's own line is its key's line; that is where people look.
                return value if not isinstance(value, yaml.ScalarNode) else yaml.ScalarNode("", "", name.start_mark)
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key]
    return None


def _toml_line(text: str, location: Location) -> int | None:
    """Find a TOML value's line: follow table headers as far as they go, then the key."""
    lines = text.splitlines()
    first, best, table = 0, None, ""
    for part in location:
        if isinstance(part, int):
            headers = [i for i, line in enumerate(lines) if i >= first and line.strip() == f"[[{table}]]"]
            if headers:
                if part >= len(headers):
                    break
                first = headers[part]
            else:  # an element of an array of inline tables, one to a line
                rows = [i for i in range(first + 1, len(lines)) if lines[i].lstrip().startswith("{")]
                if part >= len(rows):
                    break
                first = rows[part]
            best = first
            continue
        table = f"{table}.{part}" if table else part
        pattern = re.compile(rf"^\s*(\[\[?{re.escape(table)}\]?\]|{re.escape(str(part))}\s*=|\"{re.escape(str(part))}\"\s*=)")
        found = next((i for i in range(first, len(lines)) if pattern.match(lines[i])), None)
        if found is None:
            break
        first = best = found
    return None if best is None else best + 1


def problems_of(error: ValidationError, fields: Sequence[str] = ()) -> list[tuple[str, tuple[str | int, ...]]]:
    """Turn a pydantic error into (message, location) pairs in the style of this package.

    Parameters
    ----------
    error : what pydantic raised.
    fields : known field names, for near matches of unknown ones.
    """
    result = []
    for entry in error.errors(include_url=False):
        location = tuple(part for part in entry["loc"] if not str(part).startswith("function-"))
        given = entry.get("input")
        match entry["type"]:
            case "extra_forbidden" | "unexpected_keyword_argument":
                hint = did_you_mean(str(location[-1]), fields)
                message = f"unknown field {str(location[-1])!r}" + (f"; {hint}" if hint else "")
            case "missing":
                message = f"field {str(location[-1])!r} is missing"
            case "value_error":
                message = str(entry["ctx"]["error"])
            case _:
                shown = repr(given)
                message = f"{entry['msg'][:1].lower()}{entry['msg'][1:]}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
        result.append((message, location))
    return result


def write(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file as a whole or not at all: beside the target first, then renamed over it.

    Raises
    ------
    SpecError
        The file cannot be written; what stood there before still stands.
    """
    target = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise SpecError(Problem(f"cannot be written: {error.strerror or error}", os.fspath(path))) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
