"""`partitioner vsphere prepare-hosts`: GPUs into the modes that a plan has for them, one host at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.errors import SpecError
from vsphere.cli.site import Source, connected
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
    counted,
    note,
    print_json,
    print_text,
    progress_bar,
    say_interrupted,
    some,
    spinner,
    write_file,
)

if TYPE_CHECKING:
    from partitioner.plans import Plan
    from vsphere.hosts import HostChanges, HostFacts, HostReport, HostStep, SshAccess
    from vsphere.target import VSphereTarget
    from vsphere.values import Inventory


class Policy(StrEnum):
    """How a host chooses a GPU for a vGPU."""

    CONSOLIDATION = "consolidation"
    PERFORMANCE = "performance"
    KEEP = "keep"


class Evacuation(StrEnum):
    """What becomes of machines on a host that must be empty."""

    REFUSE = "refuse"
    MIGRATE = "migrate"


class Restart(StrEnum):
    """What makes new graphics types effective."""

    SERVICES = "services"
    HOST = "host"


PREPARE_HELP = """Bring GPUs into the modes that a plan has for them: graphics type and policy, vGPU mode, passthrough, MIG.

One host at a time; maintenance mode and a restart only where they are needed. vCenter cannot change MIG mode: that is
done in the host's shell by SSH (its key pinned in --ssh-known-hosts), or by you with --print-host-steps. Nobody's machine is
ever powered off; GPUs and hosts that are not in the plan are left alone. Without --ssh-known-hosts it stops before the first
step for a shell, and says so.

\b
Examples:
  partitioner vsphere prepare-hosts plan.json --from inventory.yaml --print-host-steps > steps.txt
  partitioner vsphere prepare-hosts plan.json --vcenter vc.example.com --user svc-gpu@vsphere.local \\
      --ssh-known-hosts hosts.keys --ssh-key ~/.ssh/esx

Exit codes: 0 done, 2 bad input, 4 a host cannot be prepared or a step failed, 5 steps are left for you, 130 not confirmed.
"""
KnownHosts = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Pinned keys of the hosts (OpenSSH's known_hosts); takes their shells."),
]


@connected
def prepare_hosts(
    site: Source,
    plan: Annotated[str, typer.Argument(metavar="PLAN", show_default=False, help="A plan saved with --out.")],
    *,
    print_host_steps: Annotated[
        bool, typer.Option("--print-host-steps", help="Print instructions for a person, with the commands; change nothing.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    policy: Annotated[Policy, typer.Option(help="How hosts shall choose a GPU for a vGPU.")] = Policy.CONSOLIDATION,
    evacuation: Annotated[
        Evacuation, typer.Option(help="Whether vCenter may move machines without GPUs off a host that must be empty.")
    ] = Evacuation.REFUSE,
    restart: Annotated[
        Restart, typer.Option(help="What makes new graphics types effective: the driver's services (takes a shell), or the host.")
    ] = Restart.SERVICES,
    ssh_known_hosts: KnownHosts = None,
    ssh_user: Annotated[str, typer.Option(metavar="NAME", help="Account in the hosts' shells.")] = "root",
    ssh_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key; default: those of ssh-agent.")] = None,
    ssh_port: Annotated[int, typer.Option(metavar="N", min=1, max=65_535, help="Port of the hosts' shells.")] = 22,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Save the steps, or the instructions.")] = None,
) -> None:
    """Bring GPUs into the modes that a plan has for them."""
    look_only = dry_run or print_host_steps
    if site.inventory_file is not None and not look_only:
        raise SpecError("--from asks no vCenter, so nothing can be changed; give --print-host-steps or --dry-run, or --vcenter")
    check_can_ask("prepare-hosts", yes=yes, dry_run=look_only)
    check_files([out])
    add_catalog_files(catalog_files)
    from vsphere.hosts import SshAccess

    goal = _read_plan(plan)
    access = None if ssh_known_hosts is None else SshAccess(ssh_known_hosts, ssh_user, ssh_key, ssh_port)
    how = {
        "policy": None if policy is Policy.KEEP else policy.value,
        "evacuation": evacuation.value,
        "restart": restart.value if access is not None or print_host_steps else Restart.HOST.value,
        "shell": access is not None,
    }
    if site.inventory_file is not None:
        _look(site.inventory(), goal, how, None, as_instructions=print_host_steps, as_json=as_json, out=out)
        return
    with site.connect() as target, _interruptible():
        with spinner("reading the inventory"):
            there, facts = target.inventory(), _facts(goal, access)
        if look_only:
            entered = _entered(target)
            _look(there, goal, how | {"entered": entered}, facts, as_instructions=print_host_steps, as_json=as_json, out=out)
            return
        _do(target, there, goal, how, facts, access, yes=yes, as_json=as_json, out=out)


def _look(
    there: Inventory,
    goal: Plan,
    how: dict[str, Any],
    facts: dict[str, HostFacts] | None,
    *,
    as_instructions: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Show the steps, or what a person is to do."""
    from vsphere.hosts import plan_host_steps, render_host_steps

    changes = plan_host_steps(there, goal, facts=facts, **how)
    text = render_host_steps(changes) if as_instructions else _steps(changes)
    if out:
        write_file(out, text if as_instructions else changes.to_json())
    if as_json:
        print_json(changes.to_json())
    elif not (as_instructions and out):
        print_text(text)
    _check_refused(changes)


def _do(
    target: VSphereTarget,
    there: Inventory,
    goal: Plan,
    how: dict[str, Any],
    facts: dict[str, HostFacts] | None,
    access: SshAccess | None,
    *,
    yes: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Show the steps, ask, and carry them out."""
    from vsphere.hosts import perform, plan_host_steps

    changes = plan_host_steps(there, goal, facts=facts, entered=_entered(target), **how)
    if not as_json:
        print_text(_steps(changes))
    _check_refused(changes)
    for text in changes.notes:
        note(text)
    if changes.steps:
        if as_json and not yes:
            note(_steps(changes))
        ask(_question(changes, target), yes=yes)
    with progress_bar("preparing hosts") as draw:
        report = perform(changes, target.session, access=access, state=target.state, progress=_progress(draw, len(changes.steps)))
    data = _report_data(report)
    if as_json:
        print_json(data)
    elif report.outcomes or report.by_hand:
        print_text(str(report))
    if out:
        import json

        write_file(out, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
    if report.by_hand:
        note("steps are left for a person: --print-host-steps says how; then run this again")
        raise typer.Exit(DIFFERENT)


def _read_plan(path: str) -> Plan:
    from vsphere.cli.goals import read_goal

    goal = read_goal(path)
    if goal.plan is None:
        raise SpecError(f"{path}: holds machines, which say no modes of GPUs; give the plan (partitioner vsphere plan ... --out)")
    return goal.plan


def _facts(goal: Plan, access: SshAccess | None) -> dict[str, HostFacts] | None:
    """Ask the shells of the plan's hosts what they know; None where they are not to be asked."""
    from vsphere.hosts import read_shells

    if access is None:
        return None
    facts, errors = read_shells(access, [gpu.host for gpu in goal.layout if gpu.host is not None and gpu.mode is not None])
    if errors:
        raise next(iter(errors.values()))
    return facts


def _entered(target: VSphereTarget) -> frozenset[str]:
    from vsphere.hosts import HostJournal

    return HostJournal(target.state).entered(target.session.who)


def _check_refused(changes: HostChanges) -> None:
    from vsphere.hosts import RefusedError

    if changes.refusals:
        raise RefusedError("hosts cannot be prepared as they are now; nothing was begun", changes.refusals)


def _steps(changes: HostChanges) -> str:
    if not changes.steps and not changes.refusals:
        return f"{changes.vcenter}: all hosts of the plan are as they should be"
    return "\n".join(map(str, changes.steps))


def _question(changes: HostChanges, target: VSphereTarget) -> str:
    warnings = []
    hosts = tuple(dict.fromkeys(step.host for step in changes.steps if step.kind == "enter maintenance"))
    if hosts:
        warnings.append(f"{some(hosts)} will enter maintenance mode")
    if changes.reboots:
        warnings.append(f"{some(changes.reboots)} may be restarted")
    said = f" DISRUPTIVE: {'; '.join(warnings)}." if warnings else ""
    return f"Prepare hosts: {counted(len(changes.steps), 'step')} on {target.session.who}.{said} Go on?"


def _progress(draw: Any, total: int) -> Callable[[HostStep, str], None] | None:
    if draw is None:
        return None
    done = 0

    def tell(step: HostStep, _outcome: str) -> None:
        nonlocal done
        done += 1
        draw(done, total, step)

    return tell


def _report_data(report: HostReport) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "outcomes": [{"outcome": outcome} | asdict(step) for step, outcome in report.outcomes],
        "by_hand": [asdict(step) for step in report.by_hand],
    }


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        raise say_interrupted(stop) from stop
