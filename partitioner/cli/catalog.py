"""`partitioner catalog`: what the product knows about GPUs. Looks up and prints; all facts come from the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.cli.codes import DIFFERENT
from partitioner.cli.output import check_files, console, counted, note, print_json, print_text, write_file
from partitioner.cli.target import TargetName, opened
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.catalog import GpuModel
    from partitioner.geometry import Geometry, Profile

app = typer.Typer(name="catalog", help="The GPUs known: list, show, check a file of your own or a driver.", no_args_is_help=True)

CatalogFiles = Annotated[
    list[Path] | None, typer.Option("--catalog", metavar="FILE", help="Your own GPU in TOML; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def add_catalog_files(files: list[Path] | None) -> None:
    """Add users' own GPUs to the catalogue of this process.

    Raises
    ------
    SpecError
        A file is not valid, or a name in it is taken.
    """
    from partitioner import catalog

    for file in files or ():
        catalog.add(file)


@app.command("list")
def list_(*, catalog_files: CatalogFiles = None, as_json: AsJson = False) -> None:
    """List all GPUs known, with their modes."""
    add_catalog_files(catalog_files)
    from partitioner import catalog
    from partitioner.cli import tables

    models = [catalog.gpu(name) for name in catalog.names()]
    if as_json:
        print_json([summary_data(model) for model in models])
    else:
        console().print(tables.overview(models))


@app.command()
def show(
    gpu: Annotated[str, typer.Argument(metavar="GPU", help="Name, alias, product name or PCI device id, e.g. A100-80GB.")],
    *,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a drawing of the legal starts.")] = None,
) -> None:
    """Show what can be cut from a GPU: profiles, legal starts, vGPU types, and the sources of the numbers."""
    check_files([svg])
    add_catalog_files(catalog_files)
    from partitioner import catalog
    from partitioner.cli import tables

    model = catalog.gpu(gpu)
    if svg:
        from partitioner.drawing import geometry_svg

        geometry = _geometry_to_draw(model)
        write_file(svg, geometry_svg(geometry, title=f"{model.name}: {geometry.mode}"))
    if as_json:
        print_json(model_data(model))
    else:
        out = console()
        for part in tables.description(model, width=out.width):
            out.print(part)


CHECK_HELP = """Check your own GPU file, and show what it offers; or compare a driver with the catalogue.

With --target nvml, lists where the profiles and possible placements that this machine's driver reports are not those of the
catalogue. Possible placements take root. Exits with 5 where there are differences.

\b
Examples:
  partitioner catalog check mine.toml
  sudo partitioner catalog check --target nvml
"""


@app.command(help=CHECK_HELP, short_help="Check your own GPU file, or compare a driver with the catalogue.")
def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A GPU in TOML.", show_default=False)] = None,
    *,
    target: TargetName = None,
    catalog_files: CatalogFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --target: print JSON and nothing else.")] = False,
) -> None:
    """Check your own GPU file, and show what it offers; or compare a driver with the catalogue."""
    if (file is None) == (target is None):
        raise SpecError("give either a FILE to check, or --target nvml to compare this machine's driver with the catalogue")
    add_catalog_files(catalog_files)
    if file is None:
        _check_driver(target, as_json=as_json)
        return
    if as_json:
        raise SpecError("--json goes with --target; `partitioner catalog show GPU --catalog FILE --json` gives all of a file")
    from partitioner import catalog
    from partitioner.cli import tables

    model = catalog.add(file)  # beyond `catalog.check`, this finds names that are taken
    out = console()
    out.print(f"{file} is valid. Use it with --catalog {file}.\n")
    for part in tables.description(model, width=out.width):
        out.print(part)


def _check_driver(name: str | None, *, as_json: bool) -> None:
    from partitioner.nvml import NvmlTarget, compare_with_catalogue

    with opened(name) as target:
        if not isinstance(target, NvmlTarget):
            raise SpecError(
                f"{target}: a simulated fleet is made of the catalogue, there is nothing to compare; use --target nvml"
            )
        reading = target.status()
        found = compare_with_catalogue(target)
    untold = [gpu.index for gpu in reading.gpus if gpu.profiles and all(offered.places is None for offered in gpu.profiles)]
    unread = [gpu for gpu in reading.gpus if gpu.problem]
    if as_json:
        checked = [
            {"index": gpu.index, "product": gpu.name, "profiles": len(gpu.profiles), "placements": gpu.index not in untold}
            | {"problem": gpu.problem}
            for gpu in reading.gpus
        ]
        differences = [difference.to_data() for difference in found]
        print_json({"host": reading.host, "driver": reading.driver_version, "gpus": checked, "differences": differences})
    else:
        for difference in found:
            print_text(str(difference))
        gpus, profiles = counted(len(reading.gpus), "GPU"), counted(sum(len(gpu.profiles) for gpu in reading.gpus), "profile")
        said = counted(len(found), "difference") if found else "no differences"
        print_text(f"{target}, driver {reading.driver_version}: {gpus}, {profiles} compared, {said}")
    for gpu in unread:
        note(gpu.problem or "")
    if untold:
        names = ", ".join(f"gpu{index}" for index in untold)
        note(f"{names}: the driver tells possible placements to root only; starts were not compared, run it with sudo")
    if found:
        raise typer.Exit(DIFFERENT)


def _geometry_to_draw(model: GpuModel) -> Geometry:
    """Return the geometry with the most to see: MIG, else mixed sizes, else the first."""
    return next((model.geometry(mode) for mode in ("mig", "vgpu-mixed") if mode in model.modes), model.geometries[0])


def summary_data(model: GpuModel) -> dict[str, Any]:
    """Return one GPU of ``catalog list --json``."""
    record = model.record
    return {
        "name": model.name,
        "architecture": record.architecture,
        "memory_gib": record.memory_gib,
        "modes": list(model.modes),
        "mig_profiles": len(record.mig.profiles) if record.mig else 0,
        "pci_device_ids": list(record.pci_device_ids),
        "product_names": list(record.product_names),
        "aliases": list(record.aliases),
    }


def model_data(model: GpuModel) -> dict[str, Any]:
    """Return all that is known of a GPU and all that is computed from it, for ``catalog show --json``."""
    from partitioner.cli.tables import maximal_configurations

    found = maximal_configurations(model)
    return {
        **summary_data(model),
        "maximal_mig_configurations": None if found is None else [dict(configuration) for configuration in found],
        "geometries": [
            {
                "mode": geometry.mode,
                "units": geometry.units,
                "exclusive": geometry.exclusive,
                "totals": dict(geometry.totals),
                "profiles": [_profile_data(profile) for profile in geometry.profiles],
            }
            for geometry in model.geometries
        ],
        "record": model.record.model_dump(mode="json"),
    }


def _profile_data(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "starts": list(profile.starts),
        "extent": profile.extent,
        "max_count": profile.max_count,
        "compute_slices": profile.compute_slices,
        "memory_mib": profile.memory_mib,
        "multiprocessors": profile.multiprocessors,
        "gi_profile_id": profile.gi_profile_id,
        "attributes": list(profile.attributes),
        "family": profile.family,
        "uses": dict(profile.uses),
        "aliases": list(profile.aliases),
        "compute_instances": [_profile_data(instance) for instance in profile.compute_instances],
    }
