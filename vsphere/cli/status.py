"""`partitioner vsphere status`: the machines of ours, how they are, and what they use. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vsphere.cli.inventory import heading
from vsphere.cli.site import Source, connected
from vsphere.cli.tables import columns, power
from vsphere.cli.terminal import (
    AsJson,
    CatalogFiles,
    add_catalog_files,
    check_files,
    note,
    print_json,
    print_text,
    write_file,
)

if TYPE_CHECKING:
    from vsphere.values import Inventory, Mark, VmInfo

STATUS_HELP = """Show the machines of ours: whom they serve, whether they run, which GPU each got, and what its guest reports.

vSphere chooses the GPU of a vGPU itself when the machine is switched on; where it is another than planned, this says so.

\b
Examples:
  partitioner vsphere status --vcenter vc.example.com --user svc-gpu@vsphere.local
  partitioner vsphere status --from inventory.yaml --html now.html
"""


@connected
def status(
    site: Source,
    *,
    plan: Annotated[str | None, typer.Option("--plan", metavar="NAME", help="Only machines of the plan of this name.")] = None,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the picture.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture.")] = None,
) -> None:
    """Show the machines of ours: whom they serve, whether they run, which GPU each got, and what its guest reports."""
    check_files([html, svg])
    add_catalog_files(catalog_files)
    there = site.inventory()
    mine = [(vm, mark) for vm, mark in there.ours() if plan is None or mark.plan == plan]
    _draw(there, html, svg)
    if as_json:
        print_json({"vcenter": there.vcenter, "read_at": there.read_at, "vms": [_data(there, vm, mark) for vm, mark in mine]})
        return
    print_text(heading(there))
    if mine:
        print_text(columns(_rows(there, mine)))
    for vm, mark in mine:
        planned, got = _planned(mark), _got(there, vm)
        if planned and got is not None and planned != got:
            note(f"{vm.name} on {vm.host}: is on {_listed(got)}, planned was {_listed(planned)}")


def _draw(there: Inventory, html: Path | None, svg: Path | None) -> None:
    if html or svg:
        from partitioner import drawing

        facts = (heading(there),)
        if html:
            write_file(html, drawing.html(there.layout(), title=there.vcenter, facts=facts))
        if svg:
            write_file(svg, drawing.svg(there.layout(), title=there.vcenter, facts=facts))


def _rows(there: Inventory, mine: list[tuple[VmInfo, Mark]]) -> Iterator[tuple[str, ...]]:
    yield "VM", "plan", "runs", "host", "power", "GPUs", "on", "guest"
    for vm, mark in mine:
        devices = ", ".join(device.vgpu or device.pci_id or device.kind for device in vm.devices) or "-"
        report = _guest(vm)
        said = "-" if report is None else f"{'ok' if report.ok else 'FAILED'} {report.text}".strip()
        got = _got(there, vm)
        yield vm.name, mark.plan, ", ".join(_who(mark)), vm.host or "-", power(vm), devices, _listed(got) if got else "-", said


def _data(there: Inventory, vm: VmInfo, mark: Mark) -> dict[str, Any]:
    report, got = _guest(vm), _got(there, vm)
    return {
        "name": vm.name,
        "moid": vm.moid,
        "instance_uuid": vm.instance_uuid,
        "host": vm.host,
        "power": power(vm),
        "plan": mark.plan,
        "runs": list(_who(mark)),
        "vgpus": list(vm.vgpus),
        "passthrough": list(vm.passthrough),
        "gpus": None if got is None else sorted(got),
        "gpus_planned": sorted(_planned(mark)),
        "guest": None if report is None else {"ok": report.ok, "text": report.text},
    }


def _who(mark: Mark) -> tuple[str, ...]:
    """Return the replicas that a machine serves."""
    found = dict.fromkeys(f"{place.workload}/{place.replica}" for place in mark.places)
    return tuple(found) or (f"{mark.workload}/{mark.replica}",)


def _planned(mark: Mark) -> set[int]:
    return {place.gpu for place in mark.places}


def _got(there: Inventory, vm: VmInfo) -> set[int] | None:
    """Return the GPUs that a machine is on; None where it is off or vCenter does not say."""
    host = there.host.get(vm.host or "")
    if host is None or not vm.powered_on:
        return None
    return {gpu.index for gpu in host.gpus if vm.moid in gpu.vms} or None


def _listed(gpus: set[int]) -> str:
    return ", ".join(f"gpu{gpu}" for gpu in sorted(gpus))


def _guest(vm: VmInfo) -> Any:
    from vsphere.guest import read_report

    return read_report(dict(vm.options))
