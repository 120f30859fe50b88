"""The command line: `partitioner`.

Reads arguments, calls the library, prints, and turns errors into messages and exit codes; nothing is decided here. The
only part of the package that prints or exits. Everything heavy is imported inside the commands, so that help is instant.

Exit codes: 0 done, 2 bad input, 3 something was left out of the plan, 4 the target failed, 5 there are differences (where
asked for), 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from partitioner.cli import calibration, catalog, changing, explain, export, plan, status, watch
from partitioner.cli.attached import Commands
from partitioner.cli.codes import BAD_INPUT, FAILED, INTERRUPTED, OUTPUT_CLOSED
from partitioner.cli.output import printable
from partitioner.errors import PartitionerError

_HELP = """Cut NVIDIA GPUs (MIG, vGPU, whole) for what has to run, provably best.

\b
Plan:
  partitioner plan workloads.yaml --gpu A100-80GB           fewest GPUs that hold everything
  partitioner plan 4g+2g+3x1g --gpu A100-80GB --gpus 1      does this fit on one GPU, and where?
  partitioner catalog show A100-80GB                        what can be cut from this GPU
  partitioner schema workloads                              the form of a workload file

\b
Make it so; --target nvml is this machine, sim:fleet.yaml a simulated fleet to try it on:
  partitioner plan workloads.yaml --target sim:fleet.yaml --out plan.json
  partitioner diff plan.json --target sim:fleet.yaml        which steps, and whom they interrupt
  partitioner apply plan.json --target sim:fleet.yaml       carry them out; asks first
  partitioner rollback --target sim:fleet.yaml              back to what was before
  partitioner vsphere --help                                on vSphere: inventory, plan, diff, apply, status, ...
  partitioner bench --help                                  measure inference on every piece, compare, report

\b
A workload file: [{name: chat, profile: 3g.40gb, count: 2}, {name: embed, memory_gib: 8, count: 9}]
Exit codes: 0 done, 2 bad input, 3 left out of the plan, 4 the target failed, 5 differences, 130 interrupted.
"""

app = typer.Typer(
    name="partitioner",
    cls=Commands,
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help keeps the lines of the examples, and needs no rich to be loaded
    pretty_exceptions_enable=False,  # an unexpected error is a bug: Python's own traceback, without local variables
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(catalog.app)
app.add_typer(calibration.app)
app.command("plan", help=plan.PLAN_HELP, short_help="Plan which GPU is cut how, and what runs where.")(plan.plan)
app.command("show")(plan.show)
app.command("explain", help=explain.EXPLAIN_HELP, short_help="Say why a workload is placed as it is, or left out.")(
    explain.explain
)
app.command("status", help=status.STATUS_HELP, short_help="Show what is on a target, and who uses it.")(status.status)
app.command("diff", help=changing.DIFF_HELP, short_help="Show the steps from what is there to a plan.")(changing.diff)
app.command("apply", help=changing.APPLY_HELP, short_help="Carry out a plan or saved changes.")(changing.apply)
app.command("rollback", help=changing.ROLLBACK_HELP, short_help="Undo the last apply.")(changing.rollback)
app.command("watch", help=watch.WATCH_HELP, short_help="Say what changes on a target, as it happens.")(watch.watch)
app.command("export", help=export.EXPORT_HELP, short_help="Write a plan in the form of another tool.")(export.export)
app.command("schema", short_help="Print the JSON schema of a file, for editors.")(plan.schema)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the form that typer calls
    if wanted:
        from importlib.metadata import version

        typer.echo(f"partitioner {version('gpu-partitioner')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version  # its callback has done the work


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # What a stream cannot encode is replaced: a report with a question mark is better than a traceback.
        stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            app(prog_name="partitioner")
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be handled, not at the interpreter's end
    except PartitionerError as error:
        _complain(str(error))
        sys.exit(FAILED if isinstance(error, RuntimeError) else BAD_INPUT)
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer saw Ctrl-C first
            _end_interrupted()
        raise
    except BrokenPipeError:  # the reader, `head` for one, has had enough
        _drop_output()
        sys.exit(OUTPUT_CLOSED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        _complain(f"output cannot be written: {error.strerror}")
        sys.exit(BAD_INPUT)


def _end_interrupted() -> NoReturn:
    """Leave after Ctrl-C; another one while the interpreter ends would only print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(INTERRUPTED)


def _complain(message: str) -> None:
    for line in message.splitlines() or ["unknown"]:
        print(f"error: {printable(line)}", file=sys.stderr)  # noqa: T201 - this is the command line


def _drop_output() -> None:
    """Let the interpreter's last flush of standard output go nowhere instead of failing once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
