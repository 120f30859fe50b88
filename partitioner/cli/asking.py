"""Questions before something is changed, and bars while it is. Must not know what is changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from partitioner.cli.codes import INTERRUPTED
from partitioner.cli.output import note, printable
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.applying import Progress
    from partitioner.changes import Step

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, show what would be done, change nothing.")]


def check_can_ask(verb: str, *, yes: bool, dry_run: bool) -> None:
    """Complain where a question could not be answered, before any work is done.

    Raises
    ------
    SpecError
        There is no terminal, and nobody said yes in advance.
    """
    if not (yes or dry_run or sys.stdin.isatty()):
        raise SpecError(
            f"{verb} asks before it changes anything, and there is no terminal to answer on; nothing was changed."
            " Give --yes to go on without a question, or --dry-run to look only"
        )


def ask(question: str, *, yes: bool) -> None:
    """Ask on standard error, and leave where the answer is not yes.

    Raises
    ------
    typer.Exit
        The answer was not yes.
    """
    if yes:
        return
    sys.stdout.flush()
    sys.stderr.write(printable(f"{question} [y/N] "))
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline().strip().casefold()
    except KeyboardInterrupt:
        answer = ""
        sys.stderr.write("\n")
    if answer not in ("y", "yes"):
        note("nothing was changed")
        raise typer.Exit(INTERRUPTED)


@contextmanager
def progress_bar(verb: str) -> Iterator[Progress | None]:
    """Give a function for `apply` that draws how far it is on standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    plain = TextColumn("{task.description}", markup=False)
    columns = (MofNCompleteColumn(), BarColumn(bar_width=24), TimeElapsedColumn(), plain)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None)

        def draw(done: int, total: int, step: Step | None) -> None:
            bar.update(task, completed=done, total=total, description=printable(str(step)) if step else verb)

        yield draw


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show on standard error, where that is a terminal, that something goes on and for how long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def say_interrupted(stop: KeyboardInterrupt) -> typer.Exit:
    """Say what Ctrl-C stopped, and return how to leave."""
    if str(stop):
        note(str(stop))
    return typer.Exit(INTERRUPTED)
