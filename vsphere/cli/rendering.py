"""`partitioner vsphere render`: machines for the tools of others. Chooses the writer; what is written is theirs to say."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from partitioner.errors import SpecError
from vsphere.cli.goals import Datastore, Defaults, PlanId, Shaping, read_goal
from vsphere.cli.site import Source, connected
from vsphere.cli.terminal import CatalogFiles, add_catalog_files, check_files, print_text, write_file

if TYPE_CHECKING:
    from vsphere.machine import Vm
    from vsphere.values import Inventory


class Form(StrEnum):
    """Forms in which machines can be written."""

    GOVC = "govc"
    ANSIBLE = "ansible"
    POWERCLI = "powercli"
    VMS = "vms"
    CLOUD_INIT = "cloud-init"


RENDER_HELP = """Write machines for people who stay with their own tool, to standard output or --out.

\b
Forms:
  govc        a Bash script; can be run again, makes what is missing
  ansible     a play for the collection community.vmware
  powercli    a PowerCLI script with the very requests that `apply` sends
  vms         the machines in YAML, to be edited
  cloud-init  NAME.metadata and NAME.userdata of each machine that has a guest; --out names a folder

FILE holds machines or a plan. With --from or --vcenter the names of vGPU types are those that each host offers; without, those
of the catalogue.

\b
Examples:
  partitioner vsphere render govc vms.yaml --out make-vms.sh
  partitioner vsphere render powercli plan.json --from inventory.yaml --datastore nvme-1 > make-vms.ps1
"""


@connected
def render(
    site: Source,
    form: Annotated[Form, typer.Argument(metavar="FORM", show_default=False, help="One of those above.")],
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="Machines in YAML, a plan, or saved changes.")],
    *,
    defaults: Defaults = None,
    plan_id: PlanId = None,
    datastore: Datastore = None,
    catalog_files: CatalogFiles = None,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="File to write; for cloud-init a folder.")] = None,
) -> None:
    """Write machines for people who stay with their own tool."""
    add_catalog_files(catalog_files)
    if form is Form.CLOUD_INIT and (out is None or not out.is_dir()):
        raise SpecError(f"cloud-init has two files for each machine; --out is {str(out or '')!r}, name a folder that is there")
    goal = read_goal(file)
    there = site.inventory() if site.inventory_file or site.vcenter else None  # offline unless it is asked for
    vms = goal.vms(Shaping(defaults, plan_id, datastore), there)
    if form is Form.CLOUD_INIT:
        assert out is not None
        _save_guests(vms, out)
        return
    text = _text(form, vms, there)
    if out is None:
        print_text(text)
    else:
        check_files([out])
        write_file(out, text)


def _text(form: Form, vms: tuple[Vm, ...], there: Inventory | None) -> str:
    from vsphere import render as renders
    from vsphere.machine import vms_to_yaml

    match form:
        case Form.GOVC:
            return renders.govc(vms)
        case Form.ANSIBLE:
            return renders.ansible(vms)
        case Form.POWERCLI:
            return renders.powercli(vms) if there is None else renders.powercli(vms, hosts=there.host, networks=there.networks)
        case _:
            return vms_to_yaml(vms)


def _save_guests(vms: tuple[Vm, ...], folder: Path) -> None:
    from vsphere.guest import load_guest, save_guestinfo

    having = [vm for vm in vms if vm.guest is not None]
    if not having:
        raise SpecError("no machine has a guest; name a file of it with guest: in the machines or in --defaults")
    for vm in having:
        assert vm.guest is not None
        for path in save_guestinfo(load_guest(vm.guest), vm, folder):
            typer.echo(f"wrote {path}", err=True)
