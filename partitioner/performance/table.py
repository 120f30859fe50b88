"""Calibration files: CSV with one measurement a line, checked strictly, all problems of a file at once.

Columns: gpu, profile, model, batch, processes, busy (yes or no), throughput_per_s (1/s, all processes together),
latency_ms (of one batch), source; and, where wanted, scenario (empty, offline or server; then batch and processes stay
empty and latency_ms is the p99 bound of server) and error (relative). Lines that begin with ``#`` are comments. Zero
throughput with zero latency says that the model did not fit. Knows the form of the files, not what is made of them.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from partitioner import catalog
from partitioner.errors import Problem, SpecError, did_you_mean
from partitioner.performance.points import SCENARIOS, Point

COLUMNS = ("gpu", "profile", "model", "batch", "processes", "busy", "throughput_per_s", "latency_ms", "source")
OPTIONAL = ("scenario", "error")
MAX_INPUT_MIB = 64
"""Largest calibration file read [MiB]."""
_MAX_PROBLEMS = 50
_MAX_COUNT = 1_000_000  # largest batch and number of processes
_UNITS = {
    "throughput": "throughput_per_s",
    "throughput_per_ms": "throughput_per_s",
    "samples_per_second": "throughput_per_s",
    "latency": "latency_ms",
    "latency_s": "latency_ms",
    "latency_us": "latency_ms",
    "mig_profile": "profile",
    "batch_size": "batch",
}  # names met in other tables, and what to call them, in the unit that the new name says


class _Row:
    """One line of a file, read field by field; collects what is wrong with it."""

    def __init__(self, line: int, fields: Mapping[str, str], origin: str) -> None:
        self.line, self._fields, self._origin = line, fields, origin
        self.problems: list[Problem] = []

    def text(self, name: str) -> str:
        return self._fields.get(name, "").strip()

    def complain(self, name: str, message: str) -> None:
        self.problems.append(Problem(message, self._origin, self.line, name))

    def number(self, name: str, *, lowest: float = 0.0, above: bool = False) -> float | None:
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            self.complain(name, f"{text!r} is not a number" if text else "is empty; a number is wanted")
            return None
        if not math.isfinite(value) or value < lowest or (above and value <= lowest):
            self.complain(
                name, f"{text} is out of range; a finite number {'above' if above else 'of at least'} {lowest:g} is wanted"
            )
            return None
        return value

    def count(self, name: str) -> int | None:
        text = self.text(name)
        if not text.isdecimal() or not text.isascii() or not 1 <= len(text) <= 9 or not 1 <= int(text) <= _MAX_COUNT:
            self.complain(name, f"{text!r} is not a whole number from 1 to {_MAX_COUNT:,}")
            return None
        return int(text)

    def flag(self, name: str) -> bool:
        text = self.text(name).casefold()
        if text not in ("yes", "no", "true", "false", "1", "0"):
            self.complain(name, f"{self.text(name)!r} is neither yes nor no")
        return text in ("yes", "true", "1")


def read(path: str | os.PathLike[str]) -> tuple[Point, ...]:
    """Read a calibration file.

    Raises
    ------
    SpecError
        The file cannot be read, or all that is wrong with it: columns, units, numbers, unknown GPUs and profiles,
        points that stand twice; each with its line.
    """
    if not isinstance(path, str | os.PathLike):
        raise SpecError(f"a calibration file is a path, not {type(path).__name__}; name a CSV file")
    origin = os.fspath(path)
    try:
        if Path(path).stat().st_size > MAX_INPUT_MIB * 2**20:
            raise SpecError(Problem(f"larger than {MAX_INPUT_MIB} MiB", origin))
        if not Path(path).is_file():
            raise SpecError(Problem("not a regular file; name a CSV file", origin))
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SpecError(Problem("no such file", origin)) from error
    except UnicodeDecodeError as error:
        raise SpecError(Problem("is not UTF-8 text; write the table as CSV", origin)) from error
    except (OSError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", origin)) from error
    return parse(text, origin=origin)


def parse(text: str, *, origin: str) -> tuple[Point, ...]:
    """Read the text of a calibration file; `origin` names it in messages.

    Raises
    ------
    SpecError
        As `read`.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not lines:
        raise SpecError(Problem(f"is empty; the first line names the columns: {','.join(COLUMNS)}", origin))
    try:
        rows = list(csv.reader([line for _, line in lines], strict=True))
    except csv.Error as error:
        raise SpecError(Problem(f"is not CSV with one measurement a line: {error}", origin)) from error
    if len(rows) != len(lines):
        raise SpecError(Problem("is not CSV with one measurement a line: a quoted value runs over lines", origin))
    header = [name.strip() for name in rows[0]]
    _check_header(header, Problem("", origin, lines[0][0]))
    problems: list[Problem] = []
    points: dict[tuple[object, ...], tuple[Point, int]] = {}
    for (line, _), values in zip(lines[1:], rows[1:], strict=True):
        if len(values) != len(header):
            problems.append(Problem(f"{len(values)} values for {len(header)} columns", origin, line))
            continue
        row = _Row(line, dict(zip(header, values, strict=True)), origin)
        point = _point(row)
        problems += row.problems
        if point is None or row.problems:
            continue
        if point.key in points:
            first = points[point.key][1]
            problems.append(Problem(f"the same point as in line {first}; keep one of them", origin, line))
        points.setdefault(point.key, (point, line))
    if not points and not problems:
        problems.append(Problem("holds no measurement", origin))
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        raise SpecError(problems[:_MAX_PROBLEMS] + ([Problem(f"and {more} more", origin)] if more > 0 else []))
    return tuple(point for point, _ in points.values())


def _check_header(header: list[str], place: Problem) -> None:
    known = (*COLUMNS, *OPTIONAL)
    messages = []
    for name in header:
        if name not in known:
            right = _UNITS.get(name.casefold())
            hint = f"call it {right!r} and give it in that unit" if right else did_you_mean(name, known)
            messages.append(f"unknown column {name!r}; {hint}".removesuffix("; "))
    messages += [f"column {name!r} stands twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        messages.append(f"columns missing: {', '.join(missing)}")
    if messages:
        raise SpecError([Problem(message, place.origin, place.line) for message in messages])


def _point(row: _Row) -> Point | None:
    place = _place(row)
    model = row.text("model")
    if not model or len(model) > 120:
        row.complain("model", "a name of 1 to 120 characters is wanted")
    scenario = row.text("scenario").casefold()
    if scenario and scenario not in SCENARIOS:
        row.complain("scenario", f"{scenario!r}; leave it empty for a batch size, or write {' or '.join(SCENARIOS)}")
    throughput = row.number("throughput_per_s", lowest=0.0, above=bool(scenario))
    batch = processes = None
    if not scenario:
        batch, processes = row.count("batch"), row.count("processes")
    elif row.text("batch") or row.text("processes"):
        row.complain("scenario", f"batch and processes stay empty in the scenario {scenario}")
    latency = _latency(row, scenario, throughput)
    error = row.number("error") if row.text("error") else None
    busy = row.flag("busy")
    if row.problems or place is None or throughput is None:
        return None
    return Point(*place, model, throughput, latency, batch, processes, scenario, busy, error, row.text("source"))


def _latency(row: _Row, scenario: str, throughput: float | None) -> float | None:
    if scenario == "offline" and not row.text("latency_ms"):
        return None
    if not scenario and throughput == 0:
        latency = row.number("latency_ms")
        if latency:
            row.complain("latency_ms", "a latency without throughput; write 0 and 0 where the model did not fit")
        return 0.0
    return row.number("latency_ms", above=True)


def _place(row: _Row) -> tuple[str, str] | None:
    """Return the names in the catalogue of GPU and profile."""
    found = _known(row.text("gpu"), row.text("profile"))
    if isinstance(found, tuple):
        return found
    row.complain(*found.split("\0", 1))
    return None


def _known(gpu: str, profile: str) -> tuple[str, str] | str:
    """Return both names, or the field at fault and the message."""
    key = (gpu, profile, len(catalog.names()))
    if key not in _PLACES:
        _PLACES[key] = _look_up(gpu, profile)
    return _PLACES[key]


_PLACES: dict[tuple[str, str, int], tuple[str, str] | str] = {}  # look-ups repeat for thousands of lines


def _look_up(gpu: str, profile: str) -> tuple[str, str] | str:
    try:
        model = catalog.gpu(gpu)
    except SpecError as error:
        return f"gpu\0{error}"
    try:
        return model.name, model.profile(profile).name
    except SpecError as error:
        return f"profile\0{error}"


def dump(points: Iterable[Point]) -> str:
    """Return the text of a calibration file with all columns; `parse` gives the same points back."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, *OPTIONAL))
    for point in points:
        writer.writerow([_cell(getattr(point, name)) for name in (*COLUMNS, *OPTIONAL)])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return " ".join(value.split())
    return "" if value is None else repr(value) if isinstance(value, float) else value
