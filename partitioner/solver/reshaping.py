"""What one GPU can become, given what stands on it: counts of shapes, and how much of what stands there can stay.

A *target* is a set of placements to which none can be added; it keeps a placement that stands there when it has the same
shape at the same start. Of targets only their counts and what they keep matter, and only those that no other is at least as
good as. This module must not know workloads, fleets or solvers of integer programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product

import numpy as np
import numpy.typing as npt

from partitioner.solver.configurations import Kept, Vector, free_geometry, maximal_configurations, shapes

LISTED_UNITS = 12
"""Units of a geometry up to which all its layouts are listed; beyond, targets are tried that keep much, or nothing."""
_MOST_LISTED = 60_000  # layouts
_MOST_TRIED = 64  # sets of placements to keep, where layouts are too many to be listed


@dataclass(frozen=True, slots=True)
class Stayer:
    """A placement whose occupant may stay.

    Parameters
    ----------
    shape : its shape, by the profile that stands for it.
    start : its start.
    tag : who is there; occupants with one tag are alike.
    pinned : whether it has to stay.
    """

    shape: str
    start: int
    tag: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What a GPU may become.

    Parameters
    ----------
    counts : placements of each shape.
    kept : (tag, shape, number) of the placements among them that stand there already and stay.
    """

    counts: Vector
    kept: tuple[tuple[int, str, int], ...] = ()


@dataclass(frozen=True)
class Listed:
    """All maximal layouts of a geometry, as bits.

    Parameters
    ----------
    bits : (shape, start) to its bit.
    masks : the placements of each layout, shape ``(n_layouts,)``.
    counts : placements of each shape, shape ``(n_layouts, n_shapes)``.
    """

    bits: dict[tuple[str, int], int]
    masks: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]


@lru_cache(maxsize=1024)
def listed(model: str, mode: str, names: tuple[str, ...], existing: Kept) -> Listed | None:
    """Return all maximal layouts of some shapes beside existing instances; None where they are too many."""
    geometry = free_geometry(model, mode, existing).subset(names)
    if geometry.units > LISTED_UNITS or len(geometry.placements) > 64:
        return None
    layouts = list(islice(geometry.layouts(maximal=True), _MOST_LISTED + 1))
    if len(layouts) > _MOST_LISTED:
        return None
    bits = {(p.profile.name, p.start): 1 << number for number, p in enumerate(geometry.placements)}
    masks = np.array([sum(bits[p.profile.name, p.start] for p in layout) for layout in layouts], dtype=np.uint64)
    counts = [[sum(p.profile.name == name for p in layout) for name in names] for layout in layouts]
    return Listed(bits, masks, np.array(counts, dtype=np.int64).reshape(len(layouts), len(names)))


@lru_cache(maxsize=1024)
def shape_names(model: str, mode: str, existing: Kept = ()) -> dict[str, str]:
    """Return the name of the shape of each profile that a GPU offers in a mode beside existing instances."""
    return {profile.name: shape.name for shape in shapes(model, mode, existing) for profile in shape.profiles}


@lru_cache(maxsize=65536)
def targets(
    model: str, mode: str, names: tuple[str, ...], existing: Kept, stayers: tuple[Stayer, ...]
) -> tuple[tuple[Target, ...], bool]:
    """Return what a GPU may become in a mode, without what is never better, and whether that is all.

    Parameters
    ----------
    model, mode : the GPU and the mode that it will have.
    names : the shapes that are wanted.
    existing : instances that stay and belong to nobody.
    stayers : what stands there in that mode and may stay; pinned ones are kept by every target.

    Notes
    -----
    For an A100, at most 29 targets for each of its 723 layouts.
    """
    if not stayers:
        return tuple(map(Target, maximal_configurations(model, mode, names, existing))), True
    known = listed(model, mode, names, existing)
    if known is not None:
        return _of_listed(known, names, stayers), True
    return _of_tried(model, mode, names, existing, stayers)


def _of_listed(known: Listed, names: tuple[str, ...], stayers: Sequence[Stayer]) -> tuple[Target, ...]:
    standing = [stayer for stayer in stayers if (stayer.shape, stayer.start) in known.bits]
    if any(stayer.pinned for stayer in stayers if stayer not in standing):
        return ()
    must = np.uint64(sum(known.bits[s.shape, s.start] for s in standing if s.pinned))
    chosen = (known.masks & must) == must
    masks, counts = known.masks[chosen], known.counts[chosen]
    tags = sorted({(s.tag, s.shape) for s in standing})
    overlaps = np.zeros((len(masks), len(tags)), dtype=np.int64)
    for column, tag in enumerate(tags):
        for stayer in standing:
            if (stayer.tag, stayer.shape) == tag:
                overlaps[:, column] += (masks & np.uint64(known.bits[stayer.shape, stayer.start])) != 0
    rows = undominated(np.hstack([counts, overlaps]))
    n = len(names)
    return tuple(
        Target(tuple(row[:n]), tuple((*tag, kept) for tag, kept in zip(tags, row[n:], strict=True) if kept))
        for row in rows.tolist()
    )


def undominated(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the distinct rows than which no other is at least as large everywhere, the largest sums first."""
    rows = np.unique(rows, axis=0)
    rows = rows[np.argsort(-rows.sum(axis=1), kind="stable")]
    at_least: npt.NDArray[np.bool_] = np.all(rows[:, None, :] <= rows[None, :, :], axis=2)
    at_least &= ~np.eye(len(rows), dtype=np.bool_)
    kept: npt.NDArray[np.int64] = rows[~np.any(at_least, axis=1)]
    return kept


# -- geometries with too many layouts to list --------------------------------------------------------------------------


def _of_tried(
    model: str, mode: str, names: tuple[str, ...], existing: Kept, stayers: tuple[Stayer, ...]
) -> tuple[tuple[Target, ...], bool]:
    """Try sets of placements to keep: all of them first. Where all can stay in every configuration, that is all there is."""
    geometry = free_geometry(model, mode, existing)
    profile_of = {shape: geometry.profile(shape) for shape in {s.shape for s in stayers}}
    complete = False
    rows: list[list[int]] = []
    tags = sorted({(s.tag, s.shape) for s in stayers})
    everywhere = maximal_configurations(model, mode, names, existing)
    for number, keep in enumerate(_tried(stayers)):
        places = tuple(sorted((profile_of[s.shape].name, s.start) for s in keep))
        beside = free_geometry(model, mode, tuple(sorted((*existing, *places))))
        offered = tuple(name for name in names if any(p.name == name for p in beside.profiles))
        held = [sum(s.shape == name for s in keep) for name in names]
        kept = [sum((s.tag, s.shape) == tag for s in keep) for tag in tags]
        found = maximal_configurations(model, mode, offered, tuple(sorted((*existing, *places)))) if offered else ((),)
        vectors = []
        for vector in found:
            counts = dict(zip(offered, vector, strict=True))
            vectors.append(tuple(counts.get(name, 0) + n for name, n in zip(names, held, strict=True)))
        rows += [[*vector, *kept] for vector in vectors]
        if number == 0 and set(everywhere) <= set(vectors):
            complete = True  # nothing is gained by moving anybody
            break
    n = len(names)
    result = undominated(np.array(rows, dtype=np.int64)).tolist()
    return (
        tuple(
            Target(tuple(row[:n]), tuple((*tag, kept) for tag, kept in zip(tags, row[n:], strict=True) if kept)) for row in result
        ),
        complete,
    )


def _tried(stayers: tuple[Stayer, ...]) -> Iterator[tuple[Stayer, ...]]:
    """Iterate over sets of placements to keep: all, all of some tags, all but one, none but those that must stay."""
    pinned = tuple(s for s in stayers if s.pinned)
    free = tuple(s for s in stayers if not s.pinned)
    seen: set[tuple[Stayer, ...]] = set()
    tags = sorted({(s.tag, s.shape) for s in free})
    some = ([tag for tag, keep in zip(tags, chosen, strict=True) if keep] for chosen in product((1, 0), repeat=min(4, len(tags))))
    by_tag = (tuple(s for s in free if (s.tag, s.shape) in keep) for keep in some)
    without_one = (tuple(s for s in free if s is not left) for left in free)
    for keep in (free, *without_one, *by_tag, ()):
        if keep not in seen and len(seen) < _MOST_TRIED:
            seen.add(keep)
            yield (*pinned, *keep)


# -- placements --------------------------------------------------------------------------------------------------------

_WHO_STAYS = 64  # instances that are used again weigh as much as one that stays
Placed = tuple[tuple[str, int, int | None], ...]
"""(shape, start, tag) of each placement; the tag of who stays, None where it is open who comes."""


@lru_cache(maxsize=65536)
def placed(
    model: str,
    mode: str,
    names: tuple[str, ...],
    existing: Kept,
    stayers: tuple[Stayer, ...],
    target: Target,
    there: tuple[tuple[str, int], ...] = (),
) -> tuple[Placed, int]:
    """Return placements of a target, and how much of what stands there is used again; who may stay counts most.

    Parameters
    ----------
    model, mode, names, existing, stayers, target : as of `targets`, and what it returned.
    there : shape and start of everything that stands there, occupied or not; taken again where that costs nothing.
    """
    known = listed(model, mode, names, existing)
    if known is None:
        found = _placed_by_trying(model, mode, names, existing, stayers, target)
        stay = sum(tag is not None for _, _, tag in found)
        return found, len({place[:2] for place in found} & set(there)) + (_WHO_STAYS - 1) * stay
    bit = known.bits
    masks = known.masks[(known.counts == np.array(target.counts, dtype=np.int64)).all(axis=1)]
    standing = [s for s in stayers if (s.shape, s.start) in bit]
    must = np.uint64(sum(bit[s.shape, s.start] for s in standing if s.pinned))
    masks = masks[(masks & must) == must]
    for tag, shape, number in target.kept:
        overlap = sum(
            ((masks & np.uint64(bit[s.shape, s.start])) != 0).astype(np.int64)
            for s in standing
            if (s.tag, s.shape) == (tag, shape)
        )
        masks = masks[overlap >= number]
    again = np.zeros(len(masks), dtype=np.int64)
    tags = {(s.shape, s.start): s.tag for s in standing}
    for place in there:
        if place in bit:
            again += ((masks & np.uint64(bit[place])) != 0) * (_WHO_STAYS if place in tags else 1)
    best = int(again.argmax())
    chosen = [place for place, mask in bit.items() if int(masks[best]) & mask]
    return tuple((*place, tags.get(place)) for place in sorted(chosen, key=lambda place: place[1])), int(again[best])


def _placed_by_trying(
    model: str, mode: str, names: tuple[str, ...], existing: Kept, stayers: tuple[Stayer, ...], target: Target
) -> Placed:
    wanted = dict(zip(names, target.counts, strict=True))
    for keep in _tried(stayers):
        kept: dict[tuple[int, str], int] = {}
        rest = dict(wanted)
        for s in keep:
            kept[s.tag, s.shape] = kept.get((s.tag, s.shape), 0) + 1
            rest[s.shape] -= 1
        if any(kept.get((tag, shape), 0) < number for tag, shape, number in target.kept) or min(rest.values()) < 0:
            continue
        places = tuple(sorted((s.shape, s.start) for s in keep))
        beside = free_geometry(model, mode, tuple(sorted((*existing, *places))))
        offered = {profile.name for profile in beside.profiles}
        if any(count and name not in offered for name, count in rest.items()):
            continue
        layout = beside.layout_of({name: count for name, count in rest.items() if count})
        if layout is not None:
            everything = [(s.shape, s.start, s.tag) for s in keep] + [(p.profile.name, p.start, None) for p in layout]
            return tuple(sorted(everything, key=lambda place: place[1]))
    raise AssertionError(f"{model} in mode {mode}: a target was listed that has no layout")
