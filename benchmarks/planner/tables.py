"""Tables in Markdown, with the machine and the versions that the figures were measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("gpu-partitioner", "numpy", "pydantic", "ortools")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; the first column is text, the others are aligned to the right.

    Parameters
    ----------
    columns : headings.
    rows : cells, one for each heading; integers get thousands separators.
    """
    lines = [f"| {' | '.join(columns)} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|")


def seconds(value: float) -> str:
    """Return a duration [s] in the unit in which people say it, three digits.

    Examples
    --------
    >>> seconds(0.00734), seconds(1.5), seconds(12.34)
    ('7.34 ms', '1.50 s', '12.3 s')
    """
    number, unit = (value * 1000, "ms") if value < 1 else (value, "s")
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"


def head(command: str, *, program: str = "benchmarks.planner", packages: Iterable[str] = _PACKAGES) -> str:
    """Return what a reader needs to measure the same again: command, machine, versions.

    Parameters
    ----------
    command : the arguments after ``python -m`` and the program.
    program : the module that was run.
    packages : whose versions matter.
    """
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return (
        f"`python -m {program}{command and ' '}{command}`\n\n"
        f"{_cpu()}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, {versions}\n"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _cpu() -> str:
    """Return the processor's name; Linux alone knows it by more than its architecture."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
