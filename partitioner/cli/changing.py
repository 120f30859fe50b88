"""`partitioner diff`, `apply` and `rollback`: from a plan to steps, and from steps to hardware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from partitioner.cli.asking import DryRun, Yes, ask, check_can_ask, progress_bar
from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.codes import DIFFERENT
from partitioner.cli.goals import changes_to, read_goal
from partitioner.cli.inuse import in_the_way
from partitioner.cli.output import check_files, counted, note, print_json, print_text, some, write_file
from partitioner.cli.reports import present, question, reporting
from partitioner.cli.target import TargetName, opened
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.applying import Report
    from partitioner.changes import Changes

DIFF_HELP = """Show the steps that lead from what is on a target to a plan. Changes nothing.

\b
Each line begins with what it does:
  +  an instance is created, a replica starts
  ~  a replica moves: it runs in the new instance before it leaves the old one
  -  an instance is destroyed, a replica leaves for good
  !  something that should go on running is interrupted, or a GPU changes its mode
  =  an instance stays as it is

Exits with 0; with --exit-code 5 where there is something to do.

\b
Examples:
  partitioner diff plan.json --target nvml
  partitioner diff plan.json --target sim:fleet.yaml --max-interruptions 1 --out changes.json
"""
APPLY_HELP = """Carry out a plan, or changes that were saved, on a target.

Shows the steps and asks; reads the target again before and after, changes nothing where it is not as expected, and takes
back what was done where a step fails. Killed or stopped with Ctrl-C, the same command goes on. GPUs that the plan does not
name, and hosts that the target does not have, are left alone.

\b
Examples:
  partitioner apply plan.json --target nvml --dry-run
  partitioner apply plan.json --target sim:fleet.yaml --yes
  sudo partitioner apply changes.json --target nvml --drain --drain-timeout 600

Exit codes: 0 done, 2 bad input, 4 the target refused or a step failed, 130 Ctrl-C or not confirmed.
"""
ROLLBACK_HELP = """Bring the GPUs that the last apply touched back to what was on them before it.

\b
Examples:
  partitioner rollback --target sim:fleet.yaml --dry-run
  partitioner rollback --target nvml

Exit codes: 0 done, 2 bad input, 4 nothing to roll back, or the target refused, 130 Ctrl-C or not confirmed.
"""
MaxInterruptions = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Most replicas interrupted at one time. Default: any number.")
]
DRAIN_S = 300.0


def diff(
    plan: Annotated[str, typer.Argument(metavar="PLAN", show_default=False, help="A plan, or a status, in JSON.")],
    *,
    target: TargetName = None,
    max_interruptions: MaxInterruptions = None,
    catalog_files: CatalogFiles = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 5 where there is something to do.")] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the changes, for apply.")] = None,
) -> None:
    """Show the steps that lead from what is on a target to a plan."""
    from partitioner.changes import Changes

    check_files([out])
    add_catalog_files(catalog_files)
    with opened(target) as there:
        now = there.layout()  # first: it puts GPUs that only this driver knows into the catalogue
        goal = read_goal(plan)
        if isinstance(goal, Changes):
            raise SpecError(f"{plan}: holds changes already; `partitioner apply {plan}` carries them out, diff takes a plan")
        changes, notes = changes_to(goal, now, target=str(there), max_interruptions=max_interruptions)
        notes += in_the_way(there, changes.steps)
    _say(notes)
    if out:
        write_file(out, changes.to_json())
    if as_json:
        print_json(changes.to_json())
    else:
        print_text(changes.to_text())
    if exit_code and changes:
        raise typer.Exit(DIFFERENT)


def apply(
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="A plan, a status, or changes, in JSON.")],
    *,
    target: TargetName = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    max_interruptions: MaxInterruptions = None,
    drain: Annotated[bool, typer.Option("--drain", help="Wait for processes to end where a step needs them gone.")] = False,
    drain_timeout: Annotated[
        float | None, typer.Option(metavar="S", min=0, help=f"How long, for each step. Default: {DRAIN_S:g}.")
    ] = None,
    rollback_on_error: Annotated[
        bool, typer.Option("--rollback/--no-rollback", help="Whether what was done is taken back where a step fails.")
    ] = True,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the report as JSON.")] = None,
) -> None:
    """Carry out a plan, or changes that were saved, on a target."""
    if drain_timeout is not None and not drain:
        raise SpecError(f"--drain-timeout {drain_timeout:g} is given without --drain; give both to wait for processes")
    check_can_ask("apply", yes=yes, dry_run=dry_run)
    check_files([out])
    add_catalog_files(catalog_files)
    from partitioner import applying

    wait_s = (DRAIN_S if drain_timeout is None else drain_timeout) if drain else 0.0
    with opened(target, drain_timeout_s=wait_s) as there, reporting(out, as_json=as_json):
        now = there.layout()  # first, as in diff
        changes, notes = changes_to(read_goal(file), now, target=str(there), max_interruptions=max_interruptions)
        _say(notes)
        report = applying.apply(changes, there, dry_run=True)
        _say(in_the_way(there, report.steps))
        if not as_json:
            _show(changes, report)
        if not dry_run:
            if report:
                if as_json and not yes:
                    note(changes.to_text())
                ask(_question("apply", report), yes=yes)
            with progress_bar("applying") as progress:
                report = applying.apply(changes, there, rollback_on_error=rollback_on_error, progress=progress)
    present(report, as_json=as_json, out=out)


def rollback(
    *,
    target: TargetName = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the report as JSON.")] = None,
) -> None:
    """Bring the GPUs that the last apply touched back to what was on them before it."""
    check_can_ask("rollback", yes=yes, dry_run=dry_run)
    check_files([out])
    add_catalog_files(catalog_files)
    from partitioner import applying

    with opened(target) as there, reporting(out, as_json=as_json):
        there.layout()
        report = applying.rollback(there, dry_run=True)
        _say(in_the_way(there, report.steps))
        if not as_json:
            _show_steps(report)
        if not dry_run:
            if report:
                ask(_question("roll back", report), yes=yes)
            with progress_bar("rolling back") as progress:
                report = applying.rollback(there, progress=progress)
    present(report, as_json=as_json, out=out)


# -- words -------------------------------------------------------------------------------------------------------------


def _say(notes: tuple[str, ...]) -> None:
    for text in notes:
        note(text)


def _show(changes: Changes, report: Report) -> None:
    """Show what will be done; of changes that a run before left half done, the rest."""
    if report.skipped:
        _show_steps(report)
    elif changes:
        print_text(changes.to_text())


def _show_steps(report: Report) -> None:
    if report.steps:
        print_text("\n".join(map(str, report.steps)))


def _question(verb: str, report: Report) -> str:
    warnings = []
    modes = sum(step.kind == "mode" for step in report.steps)
    if modes:
        warnings.append(f"{counted(modes, 'GPU')} will change the mode")
    if any(step.restart == "host reboot" for step in report.steps):
        warnings.append("a reboot of the host is needed")
    if report.interruptions:
        warnings.append(f"{some(report.interruptions)} will be interrupted")
    if report.endings:
        warnings.append(f"{some(report.endings)} will be stopped for good")
    return question(verb, report, warnings)
