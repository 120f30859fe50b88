"""The one door from here to the command line of the planner: how it asks, writes and ends is the same for all commands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from partitioner.cli.asking import DryRun, Yes, ask, check_can_ask, say_interrupted, spinner
from partitioner.cli.asking import progress_bar as _progress_bar
from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.codes import DIFFERENT, LEFT_OUT
from partitioner.cli.output import check_files, console, counted, note, print_json, print_text, printable, some, write_file
from partitioner.cli.reports import present, question, reporting

__all__ = [
    "DIFFERENT",
    "LEFT_OUT",
    "AsJson",
    "CatalogFiles",
    "DryRun",
    "Yes",
    "add_catalog_files",
    "ask",
    "check_can_ask",
    "check_files",
    "console",
    "counted",
    "note",
    "present",
    "print_json",
    "print_text",
    "printable",
    "progress_bar",
    "question",
    "reporting",
    "say_interrupted",
    "some",
    "spinner",
    "write_file",
]


@contextmanager
def progress_bar(verb: str) -> Iterator[Callable[[int, int, Any], None] | None]:
    """Give a function that draws how far it is on standard error, whatever the steps are; None where that is no terminal."""
    with _progress_bar(verb) as draw:
        yield draw
