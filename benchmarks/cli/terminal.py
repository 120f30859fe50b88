"""The one door from here to the command line of the planner: how it writes and ends is the same for all commands."""

from partitioner.cli.catalog import AsJson
from partitioner.cli.codes import FAILED
from partitioner.cli.output import check_files, note, print_json, print_text, printable, write_file

__all__ = [
    "FAILED",
    "AsJson",
    "check_files",
    "note",
    "print_json",
    "print_text",
    "printable",
    "write_file",
]
