"""Reading YAML, JSON and TOML files so that every complaint can name a line.

Data comes back plain (dicts, lists, numbers, strings). Lines are looked up only when something is wrong, from the text.
This module must not know what the data means.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import secrets
import stat
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from partitioner.errors import Problem, SpecError, did_you_mean

MAX_INPUT_MIB = 64
"""Largest input file read [MiB]; saved plans may be larger."""
_MAX_EXPANDED_NODES = 20_000_000  # a YAML file that grows beyond this through aliases is an attack, not an input

MAX_DEPTH = 100
"""Deepest nesting of an input; what people write stays below ten, and the YAML library crashes on 100,000."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Location = Sequence[str | int]


@dataclass(frozen=True)
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
        node, line = self._root, None
        for key in location:
            if node is None:
                break
            line = int(node.start_mark.line) + 1
            node = _yaml_child(node, key)
        return line if node is None else int(node.start_mark.line) + 1

    @cached_property
    def _root(self) -> yaml.Node | None:
        """Marked nodes of a YAML or JSON text, read once for all problems of a file."""
        try:
            node: yaml.Node | None = yaml.compose(self.text, Loader=_Loader)
        except yaml.YAMLError:  # JSON is not quite a part of YAML: escaped surrogates, keys over 1,024 characters
            return None
        return node

    def content(self, form: str, version: int, *, what: str) -> Mapping[str, Any]:
        """Return the content of a file of this program, which says its format and version.

        Parameters
        ----------
        form, version : what it has to say, e.g. ``gpu-partitioner/plan`` and 1.
        what : what such a file is, for messages, e.g. ``a plan``.

        Raises
        ------
        SpecError
            It is of another format or version.
        """
        if not isinstance(self.data, Mapping) or self.data.get("format") != form:
            raise SpecError(self.problem(f"not {what}; such a file has {self._written('format', form)}", ()))
        if self.data.get("version") != version:
            message = f"version {self.data.get('version')!r} of the format; this release reads {version}"
            raise SpecError(self.problem(message, ("version",)))
        return self.data

    def _written(self, key: str, value: str) -> str:
        return f"'{key}: {value}'" if self.syntax == "yaml" else f'"{key}": "{value}"'

    def problem(self, message: str, location: Location = ()) -> Problem:
        """Return a problem of this document at `location`."""
        return Problem(message, self.origin, self.line_of(location), format_location(location) or None)


def format_location(location: Location) -> str:
    """Return ``workloads[3].profile`` for ``("workloads", 3, "profile")``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read(path: str | os.PathLike[str], *, max_mib: int = MAX_INPUT_MIB, syntax: str | None = None) -> Document:
    """Read and parse a YAML, JSON or TOML file; ``-`` reads standard input (YAML or JSON).

    Parameters
    ----------
    path : the file.
    max_mib : refuse files larger than this [MiB].
    syntax : ``yaml``, ``json`` or ``toml``; None lets the suffix decide, with YAML (of which JSON is a part) for others.

    Raises
    ------
    SpecError
        The file is missing, not a regular file, too large, not UTF-8 text, or not well formed.
    """
    origin, text = _text(path, max_mib)
    by_suffix = {".toml": "toml", ".json": "json"}.get(Path(origin).suffix.casefold(), "yaml")
    return parse(text, origin=origin, syntax=syntax or by_suffix)


def _text(path: str | os.PathLike[str], max_mib: int) -> tuple[str, str]:
    limit = max_mib * 2**20
    try:
        if os.fspath(path) == "-":
            origin, raw = "<stdin>", sys.stdin.buffer.read(limit + 1)
        else:
            origin = os.fspath(path)
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(limit + 1) if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) else None
    except FileNotFoundError as error:
        raise SpecError(Problem("no such file", os.fspath(path))) from error
    except IsADirectoryError as error:
        raise SpecError(Problem("is a directory; name a YAML, JSON or TOML file", os.fspath(path))) from error
    except (OSError, ValueError) as error:
        raise SpecError(Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", os.fspath(path))) from error
    if raw is None:
        raise SpecError(Problem("not a regular file", origin))
    if len(raw) > limit:
        raise SpecError(Problem(f"larger than {max_mib} MiB; give fewer entries, or a count for each", origin))
    try:
        return origin, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpecError(Problem(f"byte {raw[error.start]:#04x} is not UTF-8 text", origin, line)) from error


def parse(text: str, *, origin: str, syntax: str = "yaml") -> Document:
    """Parse text.

    Parameters
    ----------
    text : what to parse.
    origin : name of its source for messages.
    syntax : ``yaml`` (of which JSON is a part), ``json`` or ``toml``.

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
        if syntax != "yaml":
            _check_depth(data)
    except json.JSONDecodeError as error:
        raise SpecError(Problem(f"not JSON: {error.msg}", origin, error.lineno)) from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise SpecError(Problem(f"not TOML: {error}", origin, int(found[1]) if found else None)) from error
    except _RepeatedKeyError as error:
        line = error.line or _line_of_repeated_key(text, str(error))
        raise SpecError(Problem(f"key {str(error)!r} stands twice; each name may stand once", origin, line)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
        raise SpecError(Problem(f"not YAML: {what}", origin, mark.line + 1 if mark else None)) from error
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise SpecError(Problem(f"not YAML: {error.reason}, character {error.character:#04x}", origin, line)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(Problem(f"not {syntax.upper()}: {error}", origin)) from error
    except (RecursionError, _TooDeepError) as error:
        message = f"nested too deep to be read; at most {MAX_DEPTH} levels"
        raise SpecError(Problem(message, origin, getattr(error, "line", None))) from error
    return Document(data, origin, text, syntax)


class _RepeatedKeyError(Exception):
    def __init__(self, key: str, line: int | None = None) -> None:
        super().__init__(key)
        self.line = line


class _TooDeepError(Exception):
    def __init__(self, line: int | None = None) -> None:
        super().__init__()
        self.line = line


def _check_depth(data: object) -> None:
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(MAX_DEPTH):
        inner = chain.from_iterable(parts.values() if isinstance(parts, dict) else parts for parts in level)
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return
    raise _TooDeepError


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedKeyError(key)
            seen.add(key)
    return result


def _line_of_repeated_key(text: str, key: str) -> int | None:
    """Find the second occurrence of a key in JSON text."""
    found = list(re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text))
    return text.count("\n", 0, found[1].start()) + 1 if len(found) > 1 else None


def _load_yaml(text: str) -> Any:
    _check_yaml_depth(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        try:
            return loader.construct_document(node)
        except (AttributeError, IndexError, KeyError) as error:  # what PyYAML raises for `!!bool maybe`, `!!int ""`
            raise yaml.YAMLError(f"a value does not suit its tag ({error!r})") from error
    finally:
        loader.dispose()


def _check_yaml_depth(text: str) -> None:
    """Refuse deep nesting from the flat stream of events: building the nodes recurses in C and would crash Python."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                raise _TooDeepError(mark.line + 1 if mark else None)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_nodes(root: yaml.Node) -> None:
    """Refuse repeated keys and documents that aliases blow up; each node is visited once."""
    size: dict[int, int] = {}
    height: dict[int, int] = {}  # aliases can nest deeper than the text does
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
            height[id(node)] = 1 + max((height[id(child)] for child in children), default=0)
            if height[id(node)] > MAX_DEPTH + 1:
                raise _TooDeepError(node.start_mark.line + 1)
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
                        raise _RepeatedKeyError(key.value, key.start_mark.line + 1)
                    seen.add(key.value)
        open_nodes.add(id(node))
        pending.append((node, True))
        pending.extend((child, False) for child in children if id(child) not in size)


def _yaml_child(node: yaml.Node, key: str | int) -> yaml.Node | None:
    child: yaml.Node | None = None
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == str(key):
                # A scalar's own line is its key's line; that is where people look.
                child = yaml.ScalarNode("", "", name.start_mark) if isinstance(value, yaml.ScalarNode) else value
                break
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        child = node.value[key]
    return child


_TOML_HEADER = re.compile(r"^\s*\[\[?\s*([\w.\"'-]+)\s*\]\]?\s*(?:#.*)?$")


def _toml_line(text: str, location: Location) -> int | None:
    """Find a TOML value's line: follow table headers as far as they go, then the key."""
    lines = text.splitlines()
    headers = {i: match[1] for i, line in enumerate(lines) if (match := _TOML_HEADER.match(line))}
    first, best, table = 0, None, ""
    for part in location:
        end = min((i for i in headers if i > first), default=len(lines))  # a table's keys end at the next header
        found: int | None
        if isinstance(part, int):
            elements = [i for i, name in headers.items() if i >= first and name == table]
            if not elements:  # an array of inline tables, one to a line
                rows = [i for i in range(first + 1, end) if lines[i].lstrip().startswith("{")]
                best = rows[part] + 1 if part < len(rows) else best
                break
            found = elements[part] if part < len(elements) else None
        else:
            table = f"{table}.{part}" if table else part
            key = re.compile(rf"\s*(?:{re.escape(part)}|\"{re.escape(part)}\")\s*=")
            found = next((i for i in range(first, end) if key.match(lines[i])), None)
            if found is None:
                found = next((i for i, name in headers.items() if i >= first and name == table), None)
        if found is None:
            break
        first, best = found, found + 1
    return best


def problems_of(error: ValidationError, fields: Sequence[str] = ()) -> list[tuple[str, tuple[str | int, ...]]]:
    """Turn a pydantic error into (message, location) pairs in the style of this package.

    Parameters
    ----------
    error : what pydantic raised.
    fields : known field names, for near matches of unknown ones.
    """
    result = []
    entries = error.errors(include_url=False)
    for entry in entries:
        if entry["type"] == "too_short" and entry["input"]:
            continue  # entries were there, and have problems of their own
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
            case "too_short":
                message = "nothing is listed; name at least one"
            case _:
                message = f"{entry['msg'][:1].lower()}{entry['msg'][1:]}, not {_shown(given)}"
        result.append((message, location))
    return result


def _shown(value: object) -> str:
    try:
        text = _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python converts
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 1000  # cut at the end, by `_shown`, not in the middle


def json_text(value: object) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def json_lines(entries: Sequence[object]) -> str:
    """Return a JSON list with one entry to a line, for files that people compare."""
    return "[\n" + ",\n".join(map(json_text, entries)) + "\n]" if entries else "[]"


def write(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a file of text (or bytes) as a whole or not at all: beside the target first, then renamed over it.

    What is no regular file (``/dev/stdout``, ``/dev/null``, a named pipe) is written to, never replaced; of a link,
    the file that it leads to is.

    Raises
    ------
    SpecError
        The file cannot be written; what stood there before still stands.
    """
    raw = text.encode() if isinstance(text, str) else text
    try:
        if _is_stream(path):
            with open(path, "wb") as stream:
                stream.write(raw)
            return
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(raw)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SpecError(Problem(f"cannot be written: {error.strerror or error}", os.fspath(path))) from error


def _is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a device, a pipe or a socket."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:  # nothing there yet, or not to be seen: opening it says more
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
