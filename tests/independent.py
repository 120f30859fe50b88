"""A second opinion on what may coexist on one GPU, written from NVIDIA's rules and the catalogue's files alone.

It reads the TOML files with the standard library and shares no code with the package: sets of units instead of bit
masks, and recursion over a list of placements instead of over units.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "partitioner" / "catalog" / "gpus"

Placed = tuple[str, int]


@dataclass(frozen=True)
class Shape:
    name: str
    starts: tuple[int, ...]
    extent: int
    most: int
    takes: tuple[tuple[str, int], ...] = ()
    compute_series: bool | None = None


@dataclass(frozen=True)
class Rules:
    shapes: tuple[Shape, ...]
    has: tuple[tuple[str, int], ...] = ()

    def only(self, names: Iterable[str]) -> Rules:
        wanted = set(names)
        return Rules(tuple(shape for shape in self.shapes if shape.name in wanted), self.has)


@cache
def records() -> dict[str, dict[str, Any]]:
    """Name of every GPU to what its file says."""
    found = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))]
    return {record["name"]: record for record in found}


@cache
def rules(gpu: str) -> dict[str, Rules]:
    """Mode of a GPU to its rules."""
    record = records()[gpu]
    found = {"whole": Rules((Shape("whole", (0,), 1, 1),))}
    if "mig" in record:
        found["mig"] = _mig(record["mig"])
    types: dict[str, dict[str, Any]] = {}  # 4Q to the first board's type
    for board in record.get("boards", ()):
        for entry in board.get("types", ()):
            if "gi_profile" not in entry and "alias_of" not in entry:
                types.setdefault(entry["name"].removeprefix(board["prefix"] + "-"), entry)
    for size in {_gb(suffix) for suffix in types}:
        shapes = [
            Shape(t["name"], tuple(range(t["max_per_gpu"])), 1, t["max_per_gpu"], compute_series=t["series"] == "C")
            for suffix, t in types.items()
            if _gb(suffix) == size
        ]
        found[f"vgpu-equal-{size}"] = Rules(tuple(shapes))
    if "vgpu_mixed" in record and any(board.get("mixed_size") for board in record["boards"]):
        ids = {size["frame_buffer_mib"]: size for size in record["vgpu_mixed"]["sizes"]}
        shapes = []
        for t in types.values():
            size_row = ids.get(t["frame_buffer_mib"])
            if size_row and t.get("max_per_gpu_mixed"):
                most = min(size_row["max_count"], t["max_per_gpu_mixed"])
                shapes.append(Shape(t["name"], tuple(size_row["starts"]), size_row["extent"], most, (), t["series"] == "C"))
        if shapes:
            found["vgpu-mixed"] = Rules(tuple(shapes))
    return found


def _gb(suffix: str) -> int:
    found = re.match(r"\d+", suffix)
    assert found, suffix
    return int(found[0])


def _mig(mig: dict[str, Any]) -> Rules:
    limits = mig.get("instance_limits", {})
    shapes = []
    for profile in mig["profiles"]:
        takes = {**profile.get("engines", {}), "instances": 1}
        if limits:
            takes["limit gfx" if "gfx" in profile.get("attributes", ()) else "limit compute"] = 1
        shapes.append(
            Shape(profile["name"], tuple(profile["starts"]), profile["extent"], profile["max_count"], tuple(takes.items()))
        )
    has = {**mig.get("engine_totals", {}), "instances": mig["max_gpu_instances"]}
    has.update({f"limit {kind}": most for kind, most in limits.items()})
    return Rules(tuple(shapes), tuple(has.items()))


def legal(given: Rules, placed: Iterable[Placed]) -> bool:
    """Whether placements may coexist on one GPU."""
    shapes = {shape.name: shape for shape in given.shapes}
    taken: set[int] = set()
    counts: Counter[str] = Counter()
    for name, start in placed:
        if name not in shapes or start not in shapes[name].starts:
            return False
        units = set(range(start, start + shapes[name].extent))
        if units & taken:
            return False
        taken |= units
        counts[name] += 1
    return _within(given, shapes, counts)


def _within(given: Rules, shapes: dict[str, Shape], counts: Counter[str]) -> bool:
    if any(count > shapes[name].most for name, count in counts.items()):
        return False
    used: Counter[str] = Counter()
    for name, count in counts.items():
        for resource, amount in shapes[name].takes:
            used[resource] += amount * count
    if any(used[resource] > amount for resource, amount in given.has):
        return False
    return len({shapes[name].compute_series for name, count in counts.items() if count}) <= 1


def layouts(given: Rules) -> set[frozenset[Placed]]:
    """All legal sets of placements, the empty one included, by trying to take or leave one placement after another."""
    every = [(shape.name, start) for shape in given.shapes for start in shape.starts]
    extent = {shape.name: shape.extent for shape in given.shapes}
    shapes = {shape.name: shape for shape in given.shapes}
    found: set[frozenset[Placed]] = set()

    def decide(position: int, chosen: tuple[Placed, ...]) -> None:
        if position == len(every):
            found.add(frozenset(chosen))
            return
        decide(position + 1, chosen)
        name, start = every[position]
        apart = all(start + extent[name] <= s or s + extent[n] <= start for n, s in chosen)
        if apart and _within(given, shapes, Counter([*(n for n, _ in chosen), name])):
            decide(position + 1, (*chosen, (name, start)))

    decide(0, ())
    return found


def maximal(found: set[frozenset[Placed]]) -> set[frozenset[Placed]]:
    """The sets of which none of the others is a proper superset (all have subsets that are legal too)."""
    smaller = {layout - {placement} for layout in found for placement in layout}
    return found - smaller


def multiset(layout: Iterable[Placed]) -> frozenset[tuple[str, int]]:
    """Profile names with counts."""
    return frozenset(Counter(name for name, _ in layout).items())
