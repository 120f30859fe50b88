"""`partitioner export`: a plan in the form of other tools. Chooses the writer; what is written is theirs to say."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.cli.catalog import CatalogFiles, add_catalog_files
from partitioner.cli.goals import read_layout_goal
from partitioner.cli.output import check_files, note, print_text, write_file
from partitioner.cli.target import TargetName, opened
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.layout import Layout


class Format(StrEnum):
    """Forms in which a plan can be written."""

    MIG_PARTED = "mig-parted"
    NVIDIA_SMI = "nvidia-smi"
    KUBERNETES = "kubernetes"
    SYSTEMD = "systemd"
    CUDA_VISIBLE_DEVICES = "cuda-visible-devices"


EXPORT_HELP = """Write a plan in the form of another tool, to standard output or --out.

\b
Formats:
  mig-parted            configuration of nvidia-mig-parted (counts only: the driver chooses placements)
  nvidia-smi            a shell script with the commands that make the very placements
  systemd               a unit and its script that restore the layout after a reboot (--out names a folder)
  kubernetes            ConfigMap and labels for gpu-operator, DeviceClasses and claims for NVIDIA's DRA driver
  cuda-visible-devices  CUDA_VISIBLE_DEVICES of each replica; needs --target nvml, where the plan is applied

\b
Examples:
  partitioner export mig-parted plan.json --out mig-parted.yaml
  partitioner export nvidia-smi plan.json --host esx-01 > make-layout.sh
  partitioner export systemd plan.json --host esx-01 --out units/
  partitioner export cuda-visible-devices plan.json --target nvml --out env/
"""


def export(
    form: Annotated[Format, typer.Argument(metavar="FORMAT", show_default=False, help="One of those above.")],
    plan: Annotated[str, typer.Argument(metavar="PLAN", show_default=False, help="A plan, or a status, in JSON.")],
    *,
    host: Annotated[str | None, typer.Option(metavar="NAME", help="Only this host of the plan.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File to write; for several files the folder to write them in.")
    ] = None,
    target: TargetName = None,
    catalog_files: CatalogFiles = None,
) -> None:
    """Write a plan in the form of another tool."""
    add_catalog_files(catalog_files)
    layout, devices = _source(form, plan, target)
    found = _written(form, layout, host, devices)
    files = found.files() if form is Format.CUDA_VISIBLE_DEVICES and _is_folder(out) else found
    if out is None:
        print_text(str(found))
    elif hasattr(files, "write"):
        for path in files.write(out):
            typer.echo(f"wrote {path}", err=True)
    else:
        check_files([out])
        write_file(out, str(found))


def _source(form: Format, plan: str, target: str | None) -> tuple[Layout, Any]:
    """Return the layout to be written, and the driver's names of its instances where a target is asked for them."""
    needed = form is Format.CUDA_VISIBLE_DEVICES
    if target is None and not needed:
        return read_layout_goal(plan, wanted="export").layout, None
    with opened(target) as there:
        from partitioner.applying import goal_here

        now = there.layout()
        layout, notes = goal_here(read_layout_goal(plan, wanted="export"), now, target=str(there))
        for text in notes:
            note(text)
        if not needed:
            return layout, None
        if not hasattr(there, "identifiers"):
            raise SpecError(f"{there}: simulated instances have no UUIDs; CUDA_VISIBLE_DEVICES takes those of --target nvml")
        return layout, there.identifiers()


def _written(form: Format, layout: Layout, host: str | None, devices: Any) -> Any:
    from partitioner import export as exports

    match form:
        case Format.MIG_PARTED:
            return exports.mig_parted(layout, host=host)
        case Format.NVIDIA_SMI:
            return exports.nvidia_smi(layout, host=host)
        case Format.KUBERNETES:
            return exports.kubernetes(layout, host=host)
        case Format.SYSTEMD:
            return exports.systemd(layout, host=host)
        case Format.CUDA_VISIBLE_DEVICES:
            return exports.cuda_visible_devices(layout, devices, host=host)


def _is_folder(out: Path | None) -> bool:
    return out is not None and (out.is_dir() or not out.suffix)
