"""`partitioner vsphere inventory`: what a vCenter has, as a table, JSON or the file to work from without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsphere.cli.site import Source, connected
from vsphere.cli.tables import columns, gpu_rows
from vsphere.cli.terminal import (
    AsJson,
    CatalogFiles,
    add_catalog_files,
    check_files,
    counted,
    note,
    print_json,
    print_text,
)

if TYPE_CHECKING:
    from vsphere.values import Inventory

INVENTORY_HELP = """Read hosts, GPUs, virtual machines, clusters, datastores and networks, in three round trips.

Changes nothing. What --out writes stands for the vCenter in `plan`, `diff`, `status` and `render`: give it with --from.
Machines that do not carry our mark are somebody else's: space that plans work around.

\b
Examples:
  export PARTITIONER_VCENTER=vc.example.com PARTITIONER_VCENTER_USER=svc-gpu@vsphere.local
  partitioner vsphere inventory --password-file ~/.vc-password --out inventory.yaml
  partitioner vsphere inventory --from inventory.yaml --json
"""


@connected
def inventory(
    site: Source,
    *,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save it, as JSON where the name ends so, else YAML.")] = None,
) -> None:
    """Read hosts, GPUs, virtual machines, clusters, datastores and networks."""
    from vsphere.inventory import dump

    check_files([out])
    add_catalog_files(catalog_files)
    found = site.inventory()
    if out:
        dump(found, out)
        typer.echo(f"wrote {out}", err=True)
    if as_json:
        from vsphere.inventory.files import to_data

        print_json(to_data(found))
        return
    print_text(heading(found))
    print_text(columns(gpu_rows(found)))
    say_unusable(found)


def heading(found: Inventory) -> str:
    """Return an inventory in one line."""
    ours = sum(1 for _ in found.ours())
    gpus = sum(len(host.gpus) for host in found.hosts)
    counts = f"{counted(len(found.hosts), 'host')}, {counted(gpus, 'GPU')}, {counted(len(found.vms), 'VM')}"
    read = f", read {found.read_at}" if found.read_at else ""
    return f"{found.vcenter}, API {found.api_version}: {counts}, {ours:,} of ours{read}"


def say_unusable(found: Inventory) -> None:
    """Say which hosts and GPUs take no part in plans, and why."""
    from vsphere.occupancy import unusable

    for name, reason in unusable(found).items():
        note(f"{name}: {reason}")
