"""GPUs of the catalogue as tables and drawings in text. Returns what is to be printed; prints nothing itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from partitioner.catalog import GpuModel
from partitioner.catalog.records import BoardRecord, MigProfileRecord, MigRecord, VgpuTypeRecord
from partitioner.errors import GeometryError
from partitioner.geometry import Configuration, Geometry

# Fields that records call inferred, and the column of the profile table in which each is seen. What else a file says in
# words ("engines not found") marks the profile's name.
_COLUMN_OF_FIELD = {
    "gi_profile_id": "GI id",
    "compute_slices": "Compute slices",
    "memory_mib": "Memory GiB",
    "multiprocessors": "SMs",
    "placements": "Starts",
    "starts": "Starts",
    "extent": "Starts",
    "max_count": "Max",
    "engines": "Engines",
    "copy_engines": "Engines",
}
_NOT_IN_TABLE = ("compute_instances", "compute_instances.starts")
_INFERRED = "*"
_FOOTNOTE = f"{_INFERRED} concluded, not read off a driver or a table"


def modes_text(model: GpuModel) -> str:
    """Return a GPU's modes in short: ``mig, vgpu-equal 4-80 GB, vgpu-mixed, whole``."""
    sizes = [int(mode.removeprefix("vgpu-equal-")) for mode in model.modes if mode.startswith("vgpu-equal-")]
    span = f"vgpu-equal {min(sizes)}-{max(sizes)} GB" if len(sizes) > 1 else "".join(f"vgpu-equal {gb} GB" for gb in sizes)
    words = [span if mode.startswith("vgpu-equal-") else mode for mode in model.modes]
    return ", ".join(dict.fromkeys(words))


def maximal_configurations(model: GpuModel) -> tuple[Configuration, ...] | None:
    """Return the MIG configurations to which nothing can be added; None without MIG or where they are too many."""
    if "mig" not in model.modes:
        return None
    try:
        return model.geometry("mig").configurations(maximal=True)
    except GeometryError:
        return None


def overview(models: Iterable[GpuModel]) -> Table:
    """Return the table of ``catalog list``."""
    table = _table("GPU", "Architecture", "Memory GiB>", "Modes", "MIG profiles>", "PCI device ids")
    for model in models:
        record = model.record
        table.add_row(
            model.name,
            record.architecture,
            str(record.memory_gib or "shared"),
            modes_text(model),
            str(len(record.mig.profiles)) if record.mig else "-",
            ", ".join(record.pci_device_ids) or "-",
        )
    return table


def description(model: GpuModel, *, width: int) -> Iterator[RenderableType]:
    """Iterate over the parts of ``catalog show``, top to bottom.

    Parameters
    ----------
    width : columns that drawings may use.
    """
    yield Text(model.name, style="bold")
    yield _facts(model)
    if model.record.mig:
        yield from _mig_parts(model, model.record.mig, width)
    if "vgpu-mixed" in model.modes:
        yield _heading("Mixed-size vGPU: legal placement ids, unit 1 GB")
        yield _drawing(_mixed_rows(model.geometry("vgpu-mixed")), model.geometry("vgpu-mixed").units, width)
    yield from _vgpu_parts(model)
    yield _heading("Sources")
    for key, source in model.record.sources.items():
        yield Padding(Text(f"[{key}] {source.title} (as of {source.as_of})"), (0, 0, 0, 2))


def _facts(model: GpuModel) -> Table:
    record = model.record
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    facts = {
        "products": ", ".join(record.product_names),
        "aliases": ", ".join(record.aliases),
        "architecture": record.architecture,
        "memory": f"{record.memory_gib} GiB" if record.memory_gib else "shared with the CPU",
        "PCI device ids": ", ".join(record.pci_device_ids),
        "modes": modes_text(model),
        "as of": str(record.as_of),
        "notes": "\n".join(record.notes),
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    return table


# -- MIG ---------------------------------------------------------------------------------------------------------------


def _mig_parts(model: GpuModel, mig: MigRecord, width: int) -> Iterator[RenderableType]:
    totals = _amounts(mig.engine_totals)
    limits = "".join(f", at most {most} with {kind}" for kind, most in mig.instance_limits.items())
    yield _heading(
        f"MIG: {mig.compute_slices} compute slices, {mig.memory_slices} memory slices,"
        f" at most {mig.max_gpu_instances} GPU instances{limits}{f'; {totals}' if totals else ''}"
    )
    yield _mig_table(mig)
    yield from _mig_footnotes(mig)
    yield _heading("Legal starts, unit 1 memory slice")
    geometry = model.geometry("mig")
    yield _drawing([(p.name, p.starts, p.extent) for p in geometry.profiles], geometry.units, width)
    found = maximal_configurations(model)
    count = "too many to list" if found is None else f"{len(found):,}"
    yield Text(f"Maximal configurations (nothing can be added): {count}")


def _mig_table(mig: MigRecord) -> Table:
    table = _table("Profile", "GI id>", "Compute slices>", "Memory GiB>", "SMs>", "Starts", "Max>", "Engines")
    for profile in mig.profiles:
        marked = _marked_columns(profile)
        cells = {
            "Profile": profile.name,
            "GI id": _or_dash(profile.gi_profile_id),
            "Compute slices": str(profile.compute_slices),
            "Memory GiB": _gib(profile.memory_mib),
            "SMs": _or_dash(profile.multiprocessors),
            "Starts": _ranges(profile.starts),
            "Max": str(profile.max_count),
            "Engines": _engines(profile),
        }
        table.add_row(*(text + (_INFERRED if column in marked and text != "-" else "") for column, text in cells.items()))
    return table


def _marked_columns(profile: MigProfileRecord) -> set[str]:
    return {_COLUMN_OF_FIELD.get(what, "Profile") for what in profile.inferred if what not in _NOT_IN_TABLE}


def _mig_footnotes(mig: MigRecord) -> Iterator[RenderableType]:
    shown: dict[str, list[str]] = {}
    for profile in mig.profiles:
        for what in profile.inferred:
            if what not in _NOT_IN_TABLE:
                shown.setdefault(what, []).append(profile.name)
    if shown:
        yield Text(f"{_FOOTNOTE}:", style="dim")
    for what, names in shown.items():
        who = "all profiles" if len(names) == len(mig.profiles) > 1 else ", ".join(names)
        yield Padding(Text(f"{what}: {who}", style="dim"), (0, 0, 0, 2))
    hidden = {what for profile in mig.profiles for what in profile.inferred if what in _NOT_IN_TABLE}
    if hidden or mig.inferred:
        words = ", ".join((*mig.inferred, *sorted(hidden)))
        yield Text(f"Also concluded: {words}", style="dim")


def _engines(profile: MigProfileRecord) -> str:
    copies = {"copy engines": profile.copy_engines} if profile.copy_engines else {}
    return _amounts({**profile.engines, **copies}) or "-"


def _amounts(amounts: dict[str, int]) -> str:
    """Return ``2 decoders, 1 jpeg``: what there is none of is left out."""
    return ", ".join(f"{n} {name[:-1] if n == 1 and name.endswith('s') else name}" for name, n in amounts.items() if n)


# -- drawings ----------------------------------------------------------------------------------------------------------

_Row = tuple[str, Sequence[int], int]  # label, starts, extent


def _mixed_rows(geometry: Geometry) -> list[_Row]:
    """Types of one size start at the same places, whatever their series: one row for all of them."""
    rows: dict[tuple[tuple[int, ...], int], _Row] = {}
    for profile in geometry.profiles:
        label = f"{_gib(profile.memory_mib)} GB"
        rows.setdefault((profile.starts, profile.extent), (label, profile.starts, profile.extent))
    return list(rows.values())


def _drawing(rows: Sequence[_Row], units: int, width: int) -> Text:
    return Text("\n".join(draw_starts(rows, units, width=width)), no_wrap=True, overflow="crop")


def draw_starts(rows: Sequence[_Row], units: int, *, width: int = 120) -> list[str]:
    r"""Draw every legal start of every profile as a block over the units of a GPU, labelled with the start.

    Parameters
    ----------
    rows : label, starts and extent of each profile; starts that overlap are drawn one line below the other.
    units : units of the GPU.
    width : columns to use; where they do not suffice, units are drawn narrower and blocks lose their labels.

    Examples
    --------
    >>> print("\n".join(draw_starts([("3g.40gb", (0, 4), 4), ("2g.20gb", (0, 1), 2)], 8)))
              0 1 2 3 4 5 6 7
    3g.40gb |[0=====][4=====]|
    2g.20gb |[0=]            |
            |  [1=]          |
    """
    margin = max((len(label) for label, _, _ in rows), default=0) + 1
    smallest = min((extent for _, _, extent in rows), default=1)
    digits = len(str(units - 1))
    ideal = -(-(digits + 2) // smallest)  # the smallest block holds two brackets and its start
    cell = max(1, min(ideal, (width - margin - 2) // units))
    lines = [" " * (margin + 1) + _ruler(units, cell)]
    for label, starts, extent in rows:
        for number, lane in enumerate(_lanes(starts, extent)):
            canvas = [" "] * (units * cell)
            for start in lane:
                block = _block(start, extent * cell)
                canvas[start * cell : start * cell + len(block)] = block
            lines.append(f"{label if number == 0 else '':<{margin}}|{''.join(canvas)}|")
    return lines


def _ruler(units: int, cell: int) -> str:
    """Return the numbers of the units, leaving out numbers that would touch their neighbours."""
    ruler, column = "", 0
    step = next(step for step in (1, 2, 4, 5, 8, 10, 20, 50, 100, 1000, 10_000) if step * cell > len(str(units - 1)))
    for unit in range(0, units, step):
        column = unit * cell + (cell > 1)
        ruler = ruler.ljust(column) + str(unit)
    return ruler.rstrip()


def _lanes(starts: Sequence[int], extent: int) -> list[list[int]]:
    """Share starts among as few lines as possible, such that no two blocks of a line overlap."""
    lanes: list[list[int]] = []
    for start in sorted(starts):
        free = next((lane for lane in lanes if lane[-1] + extent <= start), None)
        if free is None:
            lanes.append([start])
        else:
            free.append(start)
    return lanes


def _block(start: int, width: int) -> str:
    if width < 2:
        return "#"
    label = str(start) if len(str(start)) <= width - 2 else ""
    return f"[{label:=<{width - 2}}]"


# -- vGPU --------------------------------------------------------------------------------------------------------------


def _vgpu_parts(model: GpuModel) -> Iterator[RenderableType]:
    types = [(board, vgpu_type) for board in model.record.boards for vgpu_type in board.types]
    backed = [entry for entry in types if entry[1].gi_profile]
    sliced = [entry for entry in types if not entry[1].gi_profile]
    if backed and model.record.mig:
        order = [profile.name for profile in model.record.mig.profiles]
        backed.sort(key=lambda entry: order.index(entry[1].gi_profile) if entry[1].gi_profile in order else len(order))
        yield from _type_table("MIG-backed vGPU types", "GI profile", [(t.gi_profile or "", b, t) for b, t in backed])
    if sliced:
        sliced.sort(key=lambda entry: _mode_gb(entry[1]))
        rows = [(f"vgpu-equal-{_mode_gb(t)}", b, t) for b, t in sliced]
        yield from _type_table("Time-sliced vGPU types", "Mode", rows)


def _type_table(title: str, group: str, rows: Sequence[tuple[str, BoardRecord, VgpuTypeRecord]]) -> Iterator[RenderableType]:
    shared = any(t.vgpus_per_gpu_instance > 1 for _, _, t in rows)
    mixed = any(t.max_per_gpu_mixed for _, _, t in rows)
    boards = len({board.product for _, board, _ in rows}) > 1
    columns = [group, "Type", "Frame buffer GiB>", "Max per GPU>"]
    columns += ["Max mixed>"] * mixed + ["Per GI>"] * shared + ["ESXi name"] + ["Board"] * boards
    table = _table(*columns)
    previous, marked = None, False
    for name, board, vgpu_type in rows:
        inferred = board.inferred if vgpu_type.inferred is None else vgpu_type.inferred
        alias = f" = {vgpu_type.alias_of}" if vgpu_type.alias_of else ""
        cells = [
            ("gi_profile" if group == "GI profile" else "", name if name != previous else ""),
            ("type", vgpu_type.name + alias),
            ("frame_buffer_mib", _gib(vgpu_type.frame_buffer_mib)),
            ("max_per_gpu", str(vgpu_type.max_per_gpu)),
            *([("max_per_gpu_mixed", _or_dash(vgpu_type.max_per_gpu_mixed))] * mixed),
            *([("vgpus_per_gpu_instance", str(vgpu_type.vgpus_per_gpu_instance))] * shared),
            ("esxi_name", _or_dash(vgpu_type.esxi_name)),
            *([("", board.product)] * boards),
        ]
        known = {field for field, _ in cells}
        doubtful = {field if field in known else "type" for field in inferred}
        texts = [text + (_INFERRED if field in doubtful and text not in ("-", "") else "") for field, text in cells]
        marked = marked or any(text.endswith(_INFERRED) for text in texts)
        if previous is not None and name != previous:
            table.add_section()
        table.add_row(*texts)
        previous = name
    yield _heading(title)
    yield table
    if marked:
        yield Text(_FOOTNOTE, style="dim")


def _mode_gb(vgpu_type: VgpuTypeRecord) -> int:
    """Return the size in the name of the type [GB], which names its mode."""
    match = re.search(r"-(\d+)[ABCQ]\d?$", vgpu_type.name)
    return int(match[1]) if match else vgpu_type.frame_buffer_mib // 1024


# -- words -------------------------------------------------------------------------------------------------------------


def _table(*columns: str) -> Table:
    """Return an empty table; a ``>`` after a column's name aligns it right. The first column is never cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        right = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if right else "left", no_wrap=position == 0, overflow="fold")
    return table


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _gib(mib: int) -> str:
    return f"{mib / 1024:.2f}".rstrip("0").rstrip(".")


def _ranges(starts: Sequence[int]) -> str:
    """Return ``0-6`` for seven starts in a row, ``0, 4`` for two apart."""
    if len(starts) > 2 and list(starts) == list(range(starts[0], starts[-1] + 1)):
        return f"{starts[0]}-{starts[-1]}"
    return ", ".join(map(str, starts))
