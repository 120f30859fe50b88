"""`partitioner vsphere diff`, `apply`, `rollback` and `destroy`: from machines that shall be to machines that run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.errors import SpecError
from vsphere.cli.goals import Datastore, Defaults, Hosts, PlanId, Shaping, changes_to, read_goal
from vsphere.cli.site import Site, Source, connected
from vsphere.cli.terminal import (
    DIFFERENT,
    AsJson,
    CatalogFiles,
    DryRun,
    Yes,
    add_catalog_files,
    ask,
    check_can_ask,
    check_files,
    note,
    present,
    print_json,
    print_text,
    progress_bar,
    question,
    reporting,
    some,
    spinner,
    write_file,
)

if TYPE_CHECKING:
    from vsphere.applying import VmReport
    from vsphere.machine import Vm

DIFF_HELP = """Show the steps that lead from what a vCenter has to machines that shall be. Changes nothing.

FILE holds machines (`partitioner vsphere plan ... --vms`, edited as you like) or a plan (--out).

\b
Each line begins with what it does:
  +  a machine is made, or switched on
  ~  a machine, or a rule of DRS, is changed
  -  a machine is destroyed, or switched off for good
  !  replicas that should go on running are interrupted: a change of GPUs takes the machine off
  =  a machine stays as it is

Exits with 0; with --exit-code 5 where there is something to do.

\b
Examples:
  partitioner vsphere diff vms.yaml --from inventory.yaml
  partitioner vsphere diff plan.json --vcenter vc.example.com --user svc-gpu@vsphere.local --out changes.json
"""
APPLY_HELP = """Make machines so: a file of machines, a plan, or changes that were saved.

Shows the steps and asks; reads the vCenter again before and after, changes nothing where it is not as expected, and takes
back what was done where a step fails. Killed or stopped with Ctrl-C, the same command goes on, and makes nothing twice.
Machines that do not carry our mark are never touched.

\b
Examples:
  partitioner vsphere apply vms.yaml --vcenter vc.example.com --user svc-gpu@vsphere.local --dry-run --verify
  partitioner vsphere apply vms.yaml --vcenter vc.example.com --user svc-gpu@vsphere.local --password-file ~/.vc-password

Exit codes: 0 done, 2 bad input, 4 vCenter refused or a step failed, 130 Ctrl-C or not confirmed.
"""
ROLLBACK_HELP = """Bring machines back to what they were before the last apply, whether it ended or not.

Machines that it made are destroyed, those that it changed are as before; those that it destroyed cannot come back.
"""
DESTROY_HELP = """Switch off and destroy the machines of one plan, their disks with them.

PLAN is the name under which they are ours (`partitioner vsphere status` shows it, `plan --id` chooses it), or a file: the
plan or the machines. Only machines that carry our mark and this name are touched.

\b
Examples:
  partitioner vsphere destroy inference --vcenter vc.example.com --user svc-gpu@vsphere.local --dry-run
  partitioner vsphere destroy vms.yaml --vcenter vc.example.com --user svc-gpu@vsphere.local
"""
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Have vCenter check new and changed machines first, where it can; with --dry-run too."),
]
Report = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Save the report as JSON.")]
GoalFile = Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="Machines in YAML, a plan, or saved changes.")]


@connected
def diff(
    site: Source,
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="Machines in YAML, or a plan.")],
    *,
    defaults: Defaults = None,
    plan_id: PlanId = None,
    datastore: Datastore = None,
    hosts: Hosts = None,
    catalog_files: CatalogFiles = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 5 where there is something to do.")] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the changes, for apply.")] = None,
) -> None:
    """Show the steps that lead from what a vCenter has to machines that shall be."""
    check_files([out])
    add_catalog_files(catalog_files)
    goal = read_goal(file)
    if goal.saved is not None:
        raise SpecError(f"{file}: holds changes already; `partitioner vsphere apply {file}` carries them out")
    changes = changes_to(goal, site.inventory(), Shaping(defaults, plan_id, datastore), hosts)
    if out:
        write_file(out, changes.to_json())
    if as_json:
        print_json(changes.to_json())
    else:
        print_text(changes.to_text())
    if exit_code and changes:
        raise typer.Exit(DIFFERENT)


@connected
def apply(
    site: Site,
    file: GoalFile,
    *,
    defaults: Defaults = None,
    plan_id: PlanId = None,
    datastore: Datastore = None,
    hosts: Hosts = None,
    dry_run: DryRun = False,
    verify: Verify = False,
    yes: Yes = False,
    exact_gpus: Annotated[
        bool, typer.Option("--exact-gpus", help="Fail where a machine got another GPU of its host than planned.")
    ] = False,
    rollback_on_error: Annotated[
        bool, typer.Option("--rollback/--no-rollback", help="Whether what was done is taken back where a step fails.")
    ] = True,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    out: Report = None,
) -> None:
    """Make machines so: a file of machines, a plan, or changes that were saved."""
    check_can_ask("apply", yes=yes, dry_run=dry_run)
    check_files([out])
    add_catalog_files(catalog_files)
    from vsphere import applying

    goal, shaping = read_goal(file), Shaping(defaults, plan_id, datastore)
    with site.connect() as target, reporting(out, as_json=as_json):
        with spinner("reading the inventory"):
            changes = changes_to(goal, target.inventory(), shaping, hosts)
        target.guestinfo = _guests(changes.goal)
        with spinner("checking"):
            report = applying.apply(changes, target, dry_run=True, verify=verify)
        _say(report)
        if not as_json:
            _show(report.steps)
        if not dry_run:
            if report:
                if as_json and not yes:
                    note(changes.to_text())
                ask(_question("apply", report, endings=changes.endings), yes=yes)
            with progress_bar("applying") as progress:
                report = applying.apply(
                    changes, target, rollback_on_error=rollback_on_error, exact_gpus=exact_gpus, progress=progress
                )
            _say(report)
    present(report, as_json=as_json, out=out)


@connected
def rollback(site: Site, *, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False, out: Report = None) -> None:
    """Bring machines back to what they were before the last apply."""
    from vsphere import applying

    _carry(site, "rollback", "roll back", applying.rollback, dry_run=dry_run, yes=yes, as_json=as_json, out=out)


@connected
def destroy(
    site: Site,
    plan: Annotated[str, typer.Argument(metavar="PLAN", show_default=False, help="Name of the plan, or its file.")],
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    out: Report = None,
) -> None:
    """Switch off and destroy the machines of one plan, their disks with them."""
    from vsphere import applying

    def run(target: Any, **options: Any) -> VmReport:
        report = applying.destroy(target, name, **options)
        if not report and options.get("dry_run"):  # the first of two calls
            known = sorted({mark.plan for _, mark in target.inventory().ours()})
            note(f"no machine is of plan {name!r}; there are machines of {some(known) or 'no plan'}")
        return report

    name = _plan_of(plan)
    _carry(site, "destroy", f"destroy {name}", run, dry_run=dry_run, yes=yes, as_json=as_json, out=out)


def _carry(
    site: Site,
    verb: str,
    words: str,
    run: Callable[..., VmReport],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Show what a verb would do, ask, and do it."""
    check_can_ask(verb, yes=yes, dry_run=dry_run)
    check_files([out])
    with site.connect() as target, reporting(out, as_json=as_json):
        with spinner("reading the inventory"):
            report = run(target, dry_run=True)
        _say(report)
        if not as_json:
            _show(report.steps)
        if not dry_run:
            if report:
                if as_json and not yes:
                    note("\n".join(map(str, report.steps)))
                ask(_question(words, report, endings=_ended(report)), yes=yes)
            with progress_bar(verb) as progress:
                report = run(target, progress=progress)
    present(report, as_json=as_json, out=out)


def _plan_of(name: str) -> str:
    """Return the name of a plan, which may be given by the file that was applied.

    Raises
    ------
    SpecError
        The file is none of machines or a plan, or its machines are of several plans.
    """
    if not Path(name).is_file():
        return name
    plans = sorted({vm.plan for vm in read_goal(name).vms(Shaping(), None)})
    if len(plans) != 1:
        raise SpecError(f"{name}: its machines are of {', '.join(plans) or 'no plan'}; give the name of one plan")
    return plans[0]


def _guests(vms: tuple[Vm, ...]) -> Callable[[Vm], Mapping[str, str]]:
    """Return what gives each machine's guest what it reads; the files of all guests are read now, not half way."""
    from vsphere.guest import guestinfo, load_guest

    known = {path: load_guest(path) for path in dict.fromkeys(vm.guest for vm in vms) if path is not None}
    return lambda vm: {} if vm.guest is None else guestinfo(known[vm.guest], vm)


# -- words -------------------------------------------------------------------------------------------------------------


def _say(report: VmReport) -> None:
    for text in (*report.warnings, *report.gpus):
        note(text)


def _show(steps: tuple[Any, ...]) -> None:
    if steps:
        print_text("\n".join(map(str, steps)))


def _ended(report: VmReport) -> tuple[str, ...]:
    return tuple(dict.fromkeys(who for step in report.steps if step.kind == "destroy" for who in step.who))


def _question(verb: str, report: VmReport, *, endings: tuple[str, ...]) -> str:
    warnings = []
    stopped = tuple(who for who in report.interruptions if who not in endings)
    if stopped:
        warnings.append(f"{some(stopped)} will be interrupted")
    if endings:
        warnings.append(f"{some(endings)} will be stopped for good, the disks destroyed")
    return question(verb, report, warnings)
