"""Files of results: strict, versioned JSON, and the latencies of single queries in an NPZ file beside it.

The JSON names that file with its digest, and its name holds a part of the digest, so that a new result and its latencies
replace the old ones together or not at all. Knows no runs and no comparison.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from benchmarks.errors import BenchmarkError
from benchmarks.results.form import FORMAT, VERSION, LatencyFile, Record, record_of, result_of
from benchmarks.results.values import Result
from partitioner.documents import Document, format_location, json_lines, json_text, parse, problems_of, read, write
from partitioner.errors import Problem, SpecError

MAX_RESULT_MIB = 256
"""Largest file of a result read [MiB]: a thousand instances in a hundred repeats."""
MAX_LATENCIES_MIB = 16384
"""Largest file of latencies read [MiB]."""
_Arrays = dict[str, npt.NDArray[np.float64]]


def to_json(result: Result) -> str:
    """Return a result as JSON, one instance of a repeat to a line, without the latencies of single queries.

    Raises
    ------
    SpecError
        A figure is no finite number.
    """
    return _text(result, None)


def from_json(text: str, *, origin: str = "<json>") -> Result:
    """Return the result that `to_json` wrote.

    Raises
    ------
    SpecError
        The text is no such result, is of another version, or contradicts itself; each problem with its line.
    """
    return _result(parse(text, origin=origin, syntax="json"))[0]


def save(result: Result, path: str | os.PathLike[str]) -> None:
    """Write a result, and the latencies of its queries where they were kept, each file as a whole or not at all.

    Raises
    ------
    BenchmarkError
        It cannot be written (disk full, no permission); what stood there before still stands.
    SpecError
        A figure is no finite number.
    """
    target = Path(os.path.realpath(path))
    arrays = {} if target.exists() and not target.is_file() else dict(_arrays(result))  # beside a pipe there is no place
    raw = _npz(arrays) if arrays else b""
    digest = hashlib.sha256(raw).hexdigest()
    named = LatencyFile(name=f"{target.stem}.{digest[:12]}.npz", sha256=digest) if arrays else None
    text = _text(result, named)
    try:
        if named is not None:
            write(target.with_name(named.name), raw)
        write(path, text)
    except SpecError as error:
        raise BenchmarkError(
            f"{error}; the result is not saved and what stood there before still stands; make room, or save it elsewhere"
        ) from error
    _remove_older(target, None if named is None else named.name)


def load(path: str | os.PathLike[str], *, latencies: bool = True) -> Result:
    """Return the result saved in a file.

    Parameters
    ----------
    path : the JSON file.
    latencies : read the latencies of single queries too, where they were kept.

    Raises
    ------
    SpecError
        The file is no result, or the file of latencies beside it is missing, damaged or another result's.
    """
    document = read(path, max_mib=MAX_RESULT_MIB, syntax="json")
    result, named = _result(document)
    if named is None or not latencies:
        return result
    return _with_latencies(result, _read_npz(Path(os.path.realpath(path)).with_name(named.name), named))


def _text(result: Result, latencies: LatencyFile | None) -> str:
    try:
        data = record_of(result, latencies).model_dump()
    except ValidationError as error:
        who = f"result {result.metadata.scenario}"
        problems = [Problem(message, field=f"{who}: {format_location(place)}") for message, place in problems_of(error)]
        raise SpecError(problems) from error
    repeats = data.pop("repeats")
    lines = [f"{json.dumps(key)}: {json_text(value)}" for key, value in data.items()]
    lines.append('"repeats": [\n' + ",\n".join(map(_repeat_text, repeats)) + "\n]")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    return text.encode(errors="backslashreplace").decode()  # half a surrogate, of a server's broken text, as JSON writes it


def _repeat_text(repeat: dict[str, Any]) -> str:
    instances = repeat.pop("instances")
    return json_text(repeat)[:-1] + ', "instances": ' + json_lines(instances) + "}"


def _result(document: Document) -> tuple[Result, LatencyFile | None]:
    content = document.content(FORMAT, VERSION, what="a result of a benchmark")
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        raise SpecError([document.problem(message, place) for message, place in problems_of(error)]) from error
    try:
        result = result_of(record)
    except SpecError as error:
        raise SpecError(document.problem(str(error), ("repeats",))) from error
    claimed = (record.label, record.valid, record.system_throughput_per_s)
    if claimed != (result.label, result.valid, result.system_throughput):
        message = (
            f"label, valid and system_throughput_per_s are {claimed}; the repeats say"
            f" {(result.label, result.valid, result.system_throughput)}; take the file as it was written"
        )
        raise SpecError(document.problem(message))
    return result, record.latencies


# -- latencies of single queries ---------------------------------------------------------------------------------------


def _arrays(result: Result) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    for number, repeat in enumerate(result.repeats):
        for position, run in enumerate(repeat.instances):
            if run.latencies_ms is not None:
                yield f"repeat{number}.instance{position}", np.ascontiguousarray(run.latencies_ms, dtype=np.float64)


def _npz(arrays: _Arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _read_npz(path: Path, named: LatencyFile) -> _Arrays:
    try:
        if path.stat().st_size > MAX_LATENCIES_MIB * 2**20:
            raise SpecError(Problem(f"larger than {MAX_LATENCIES_MIB} MiB; load without latencies", os.fspath(path)))
        raw = path.read_bytes()
    except OSError as error:
        message = f"latencies of single queries cannot be read: {error.strerror}; put the file beside the result,"
        raise SpecError(Problem(f"{message} or load without them (latencies=False)", os.fspath(path))) from error
    if hashlib.sha256(raw).hexdigest() != named.sha256:
        message = "is not the file that was written with the result (its digest differs); put the right one beside it,"
        raise SpecError(Problem(f"{message} or load without latencies (latencies=False)", os.fspath(path)))
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, KeyError, EOFError) as error:
        raise SpecError(Problem(f"is no NPZ file of latencies: {error}; load without them", os.fspath(path))) from error


def _with_latencies(result: Result, arrays: _Arrays) -> Result:
    repeats = []
    for number, repeat in enumerate(result.repeats):
        runs = (
            replace(run, latencies_ms=arrays.get(f"repeat{number}.instance{position}"))
            for position, run in enumerate(repeat.instances)
        )
        repeats.append(replace(repeat, instances=tuple(runs)))
    return replace(result, repeats=tuple(repeats))


def _remove_older(target: Path, keep: str | None) -> None:
    """Remove the latencies of the result that stood here before; one that a kill left behind goes with the next saving."""
    ours = re.compile(rf"{re.escape(target.stem)}\.[0-9a-f]{{12}}\.npz")
    try:
        for path in target.parent.iterdir():
            if ours.fullmatch(path.name) and path.name != keep:
                path.unlink(missing_ok=True)
    except OSError:  # the result is written; a file too many does no harm
        return
