"""What LoadGen says of its run: its verdict and figures, from the ``:::MLLOG`` lines of its detailed log. Knows no LoadGen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.errors import LoadGeneratorError

_MARK = ":::MLLOG "
_FIGURES = ("result_", "early_stopping_", "generated_query_count")
_LONGER = "run longer, or at a higher rate, so that more queries count"


@dataclass(frozen=True, slots=True)
class LoadGenVerdict:
    """Whether LoadGen counts its run.

    Parameters
    ----------
    valid : whether it does.
    reasons : why not, in one sentence each; empty where it does.
    advice : what to do about each reason, in the same order.
    figures : what it measured, under its own names, e.g. ``result_completed_samples_per_sec``.
    """

    valid: bool
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


def read_verdict(path: Path) -> LoadGenVerdict:
    """Read LoadGen's verdict from its detailed log.

    Parameters
    ----------
    path : the log, ``mlperf_log_detail.txt``.

    Raises
    ------
    LoadGeneratorError
        The log is not there.
    """
    said: dict[str, Any] = {}
    errors: list[str] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for entry in _entries(file):
                said[entry["key"]] = entry.get("value")
                if entry.get("metadata", {}).get("is_error"):
                    errors.append(str(entry.get("value")))
    except OSError as error:
        message = f"LoadGen - its log {path} cannot be read: {error.strerror}; give a folder that can be written"
        raise LoadGeneratorError(message) from error
    findings = [*_findings(said, path), *((f"LoadGen: {_sentence(text)}", _advice_on(text)) for text in errors)]
    figures = {key: float(value) for key, value in said.items() if key.startswith(_FIGURES) and _is_number(value)}
    reasons, advice = tuple(reason for reason, _ in findings), tuple(advice for _, advice in findings)
    return LoadGenVerdict(said.get("result_validity") == "VALID" and not reasons, reasons, advice, figures)


def _entries(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith(_MARK):
            continue
        try:
            entry = json.loads(line[len(_MARK) :])
        except json.JSONDecodeError:
            continue  # the last line of a log on a full disk; texts that LoadGen quotes without escaping them
        if isinstance(entry, dict) and "key" in entry:
            yield entry


def _findings(said: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """Yield a reason and an advice for each test that LoadGen made and that failed."""
    if "result_validity" not in said:
        yield f"LoadGen: its log {path} has no verdict", "see whether the disk is full or the run was broken off; run again"
        return
    if said.get("result_perf_constraints_met") is False:
        late, total = said.get("result_overlatency_query_count"), said.get("result_query_count")
        bound_ms = said.get("effective_target_latency_ns", 0) / 1e6
        yield f"LoadGen: {late} of {total} queries took longer than the bound of {bound_ms:g} ms", "ask for a lower rate"
    if said.get("result_min_duration_met") is False:
        least_s = said.get("effective_min_duration_ms", 0) / 1000
        yield f"LoadGen: the run was shorter than {least_s:g} s", "warm up longer, so that the rate that comes is expected"
    if said.get("result_min_queries_met") is False:
        least = said.get("effective_min_query_count")
        yield f"LoadGen: {said.get('result_query_count')} queries are fewer than the {least} that were asked for", _LONGER
    if said.get("early_stopping_met") is False:
        yield f"LoadGen: early stopping: {_sentence(str(said.get('early_stopping_result')))}", _LONGER
    if said["result_validity"] != "VALID" and all(said.get(key) is not False for key in _TESTS):
        yield f"LoadGen: the run is {said['result_validity']}: {said.get('result_invalid_reason')}", "read its log"


_TESTS = ("result_perf_constraints_met", "result_min_duration_met", "result_min_queries_met", "early_stopping_met")


def _sentence(text: str) -> str:
    """Return LoadGen's text, which is a list with stars, as one line."""
    parts = (" ".join(part.split()).rstrip(".") for part in text.split(" * "))
    return "; ".join(part for part in parts if part)


def _advice_on(error: str) -> str:
    if "Ran out of generated queries" in error:
        return "expect a higher rate: the system was more than twice as fast as LoadGen was told"
    if "Too many outstanding queries" in error:
        return "ask for a lower rate: queries pile up faster than they are answered"
    return "see the end of LoadGen's detailed log"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
