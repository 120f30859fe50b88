"""`partitioner vsphere plan`: workloads onto the hosts of a vCenter, and the machines that come of it. Changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.errors import SpecError
from vsphere.cli.goals import Datastore, Defaults, PlanId, Shaping, vms_data
from vsphere.cli.inventory import say_unusable
from vsphere.cli.site import Source, connected
from vsphere.cli.tables import columns, vm_rows
from vsphere.cli.terminal import (
    LEFT_OUT,
    AsJson,
    CatalogFiles,
    add_catalog_files,
    check_files,
    console,
    note,
    print_json,
    print_text,
    some,
    spinner,
    write_file,
)

if TYPE_CHECKING:
    from partitioner.plans import Plan
    from vsphere.machine import Vm, VmDefaults
    from vsphere.values import Inventory

PLAN_HELP = """Plan which GPU of which host is cut how, and show the virtual machines that come of it.

Changes nothing. GPUs stay in the mode they are in, what runs stays where it is as far as that is best, and machines of
others are worked around. Save the plan (--out) for `diff` and `apply`; or save the machines (--vms), edit them, and give
that file instead. Exits with 0 when everything is placed, 3 when something is left out.

\b
Examples:
  partitioner vsphere plan workloads.yaml --from inventory.yaml --datastore nvme-1 --vms vms.yaml
  partitioner vsphere plan workloads.yaml --vcenter vc.example.com --user svc-gpu@vsphere.local --id inference --out plan.json
  partitioner vsphere plan workloads.yaml --from inventory.yaml --change-modes --out plan.json      then prepare-hosts
"""


@connected
def plan(
    site: Source,
    workloads: Annotated[
        str,
        typer.Argument(metavar="FILE", show_default=False, help="Workloads in YAML or JSON, - for standard input, or 4g+2g+1g."),
    ],
    *,
    defaults: Defaults = None,
    plan_id: PlanId = None,
    datastore: Datastore = None,
    change_modes: Annotated[
        bool, typer.Option("--change-modes", help="GPUs may be cut in another way than now; `prepare-hosts` changes their modes.")
    ] = False,
    mode: Annotated[
        list[str] | None, typer.Option(metavar="MODE", help="mig, vgpu (time-sliced) or whole; may be repeated. Default: any.")
    ] = None,
    pinned: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="NAME", help="A workload, or one replica as NAME/0, that stays in its place."),
    ] = None,
    vacate: Annotated[
        list[str] | None, typer.Option(metavar="HOST[/gpuN]", help="A host or GPU on which nothing may stay, for maintenance.")
    ] = None,
    objective: Annotated[
        list[str] | None, typer.Option(metavar="STAGES", help="What is best, the most important first, as in `partitioner plan`.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(metavar="S", min=0.01, max=1_000_000, help="Seconds to look for a proof; the best so far counts.")
    ] = 10.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="Same input and seed, same plan.")] = 0,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the plan as JSON.")] = None,
    vms: Annotated[Path | None, typer.Option("--vms", metavar="FILE", help="Save the machines as YAML, to be edited.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report with the picture.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture.")] = None,
) -> None:
    """Plan which GPU of which host is cut how, and show the virtual machines that come of it."""
    from partitioner import planning
    from vsphere.machine import layout_vms

    check_files([out, vms, html, svg])
    add_catalog_files(catalog_files)
    shape = Shaping(defaults, plan_id, datastore).read()
    asked = _with_memory(_read(workloads, site), shape)
    there = site.inventory()
    options: dict[str, Any] = {"modes": tuple(mode)} if mode else {}
    options |= {"objective": tuple(stage.strip() for part in objective for stage in part.split(","))} if objective else {}
    with spinner("planning"):
        found = planning.plan(
            asked,
            fleet=there.fleet(keep_modes=not change_modes),
            current=there.layout(),
            pinned=tuple(pinned or ()),
            vacate=tuple(vacate or ()),
            time_limit_s=time_limit,
            seed=seed,
            **options,
        )
    waiting = _unprepared(found, there)
    machines = () if waiting else layout_vms(found, shape, hosts=there)
    _write(found, machines, out=out, vms=None if waiting else vms, html=html, svg=svg)
    if as_json:
        print_json({"plan": json.loads(found.to_json()), "vms": vms_data(machines)})
    else:
        print_text(found.to_text(width=console().width))
        if machines:
            print_text("\n" + columns(vm_rows(machines)))
        say_unusable(there)
    if waiting:
        hint = "save the plan with --out, and give it to `partitioner vsphere prepare-hosts`"
        note(f"{some(waiting)}: in another mode than planned; machines can be made once they are prepared: {hint}")
        if vms:
            raise SpecError(f"--vms {vms}: there are no machines to write yet; prepare the hosts, then plan again")
    if not found.complete:
        raise typer.Exit(LEFT_OUT)


def _read(workloads: str, site: Source) -> Any:
    from partitioner.workload import read_workloads

    if workloads == "-" and site.inventory_file == "-":
        raise SpecError("workloads and --from both read standard input; put one of them in a file")
    is_file = workloads != "-" and os.path.exists(workloads)  # noqa: PTH110 - Path.exists would raise for absurd names
    return read_workloads(Path(workloads) if is_file else workloads)


def _unprepared(found: Plan, there: Inventory) -> list[str]:
    """Return the GPUs that a plan uses and that are in another mode than it has for them."""
    from partitioner.layout import gpu_label

    waiting = []
    for gpu in found.layout:
        if gpu.host is not None and gpu.mode is not None and gpu.slots:
            mode = there.host[gpu.host].gpus[gpu.gpu].mode
            if mode is None or not (gpu.mode == mode or gpu.mode.startswith(f"{mode}-")):
                waiting.append(gpu_label(gpu.host, gpu.gpu))
    return waiting


def _with_memory(asked: Any, shape: VmDefaults) -> Any:
    """Give replicas that do not say their memory that of their machines: all of it is reserved, so that hosts must have it."""
    from dataclasses import replace

    from partitioner.workload import Workloads

    items = [replace(workload, ram_gib=shape.ram_gib) if workload.ram_gib is None else workload for workload in asked]
    return Workloads(items, asked._document, asked._locate)  # noqa: SLF001 - messages go on naming file and line


def _write(
    found: Plan, machines: tuple[Vm, ...], *, out: Path | None, vms: Path | None, html: Path | None, svg: Path | None
) -> None:
    from vsphere.machine import vms_to_yaml

    if out:
        write_file(out, found.to_json())
    if vms:
        write_file(vms, vms_to_yaml(machines))
    if html:
        write_file(html, found.to_html())
    if svg:
        write_file(svg, found.to_svg())
