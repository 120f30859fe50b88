"""Exit codes of the command line, the same for every command. Must not know the commands."""

from __future__ import annotations

OUTPUT_CLOSED = 1
"""The reader of the output went away."""
BAD_INPUT = 2
"""An option or a file is not right; nothing was done."""
LEFT_OUT = 3
"""The plan leaves something out."""
FAILED = 4
"""The target failed, is not as expected, or a step failed; the message says what was done."""
DIFFERENT = 5
"""There are differences, where a command is asked whether there are any."""
INTERRUPTED = 130
"""Ctrl-C, or a question was not answered with yes."""
