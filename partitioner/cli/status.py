"""`partitioner status`: what is on a target now, as a table, JSON or a picture. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from partitioner.cli.catalog import AsJson, CatalogFiles, add_catalog_files
from partitioner.cli.output import check_files, counted, note, print_json, print_text, printable, write_file
from partitioner.cli.reading import GpuStatus, Status, read_status
from partitioner.cli.target import TargetName, opened

STATUS_HELP = """Show every GPU of a target: model, mode, instances, who holds them, and who uses them.

What is printed with --json can be kept: `partitioner diff` and `partitioner apply` take it as a goal to come back to.

\b
Examples:
  partitioner status --target nvml
  partitioner status --target sim:fleet.yaml --html now.html
  partitioner status --target nvml --json > before.json
"""


def status(
    *,
    target: TargetName = None,
    catalog_files: CatalogFiles = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the picture.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture.")] = None,
) -> None:
    """Show every GPU of a target: model, mode, instances, who holds them, and who uses them."""
    check_files([html, svg])
    add_catalog_files(catalog_files)
    with opened(target) as there:
        found = read_status(there)
    _draw(found, html, svg)
    if as_json:
        print_json(found.to_data())
        return
    print_text(_heading(found))
    rows = [["GPU", "model", "mode", "instance", "held by", "processes"], *_instances(found)]
    print_text(_aligned(rows if found.driver else [row[:-1] for row in rows]))  # nothing runs on what is simulated
    if any(gpu.uuid for gpu in found.gpus):
        boards = [[gpu.label, gpu.product or "-", gpu.pci or "-", gpu.uuid or "-"] for gpu in found.gpus]
        print_text("\n" + _aligned([["GPU", "product", "PCI", "UUID"], *boards]))
    if found.ledger:
        print_text(f"\nwho holds what: {found.ledger}")
    if found.hidden:
        note(f"the ledger of the system, in {found.hidden}, is not for this user to read; run it as root to see who holds what")
    for gpu in found.gpus:
        if gpu.problem:
            note(gpu.problem if gpu.problem.startswith(gpu.label) else f"{gpu.label}: {gpu.problem}")


def _draw(found: Status, html: Path | None, svg: Path | None) -> None:
    if html or svg:
        from partitioner import drawing

        facts = (_heading(found), f"read {found.time}")
        notes = tuple(gpu.problem for gpu in found.gpus if gpu.problem)
        if html:
            write_file(html, drawing.html(found.layout, title=found.target, facts=facts, notes=notes))
        if svg:
            write_file(svg, drawing.svg(found.layout, title=found.target, facts=facts, notes=notes))


def _heading(found: Status) -> str:
    instances = [instance for gpu in found.gpus for instance in gpu.instances or ()]
    held = sum(instance.workload is not None for instance in instances)
    driver = f", driver {found.driver}" if found.driver else ""
    gpus, made = counted(len(found.gpus), "GPU"), counted(len(instances), "instance")
    unread = sum(gpu.instances is None for gpu in found.gpus)
    return f"{found.target}{driver}: {gpus}, {made}, {held:,} held" + (f"; {counted(unread, 'GPU')} not read" if unread else "")


def _instances(found: Status) -> Iterator[list[str]]:
    """Iterate over the rows of all GPUs; each row says its GPU, so that it can be searched."""
    for gpu in found.gpus:
        head = [gpu.label, gpu.model or gpu.product or "?", _mode(gpu)]
        rows = [[i.name, i.held, ", ".join(map(str, i.processes)) or "-"] for i in gpu.instances or ()]
        if gpu.instances is None:
            rows = [["unknown", "-", ", ".join(map(str, gpu.processes)) or "-"]]
        elif gpu.processes or not rows:
            rows.append(["-", "-", ", ".join(map(str, gpu.processes)) or "-"])
        for row in rows:
            yield [*head, *row]


def _mode(gpu: GpuStatus) -> str:
    if gpu.mode is None:
        return "-"
    return gpu.mode if gpu.mode_pending in (None, gpu.mode) else f"{gpu.mode}, {gpu.mode_pending} after a reset"


def _aligned(rows: Iterable[list[str]]) -> str:
    """Return rows in columns; nothing is cut, however narrow the terminal is: UUIDs and pids are there to be copied."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
