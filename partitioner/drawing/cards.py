"""Which GPUs share a card: equal ones, so that a hundred thousand GPUs stay readable. Must not know how cards are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partitioner.geometry import Placement
from partitioner.layout import NOBODY, Group, Index, Layout, Pattern, gpu_label

MOST_BY_WORKLOAD = 60
"""Most cards whose GPUs have equal workloads; with more, GPUs with equal placements share a card."""
MOST_SHOWN = 200
"""Most cards drawn."""
_NAMED = 8  # GPUs of a card that its tooltip names


@dataclass(frozen=True, slots=True)
class Block:
    """One placement of all GPUs of a card, with who holds it.

    Parameters
    ----------
    placement : the placement.
    workload : who holds it, where it is held by one workload on every GPU of the card.
    replica : which replica, where the card has one GPU and the workload several replicas.
    n_workloads : distinct workloads that hold it on the GPUs of the card.
    n_unheld : GPUs of the card on which nobody holds it.
    """

    placement: Placement
    workload: str | None
    replica: int | None
    n_workloads: int
    n_unheld: int


@dataclass(frozen=True, slots=True)
class Card:
    """GPUs drawn as one: their pattern, their number and names, their blocks by start."""

    pattern: Pattern
    n_gpus: int
    first: str
    last: str
    named: tuple[str, ...]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Cards:
    """What is drawn of a layout.

    Parameters
    ----------
    shown : cards in order of their first GPU.
    unused : GPUs without placements, a card for each model.
    by_workload : whether the GPUs of a card have equal workloads, or only equal placements.
    n_left_out, n_gpus_left_out : cards beyond `MOST_SHOWN`, and their GPUs.
    """

    shown: tuple[Card, ...]
    unused: tuple[Card, ...]
    by_workload: bool
    n_left_out: int
    n_gpus_left_out: int


def deal(layout: Layout) -> Cards:
    """Put the GPUs of a layout on cards.

    Parameters
    ----------
    layout : any layout.

    Returns
    -------
    The cards; the numbers of GPUs shown, unused and left out add up to the layout's.

    Notes
    -----
    Sorts the occupants of each pattern, O(placements log GPUs) in numpy; Python's loops run over cards only.
    """
    groups = layout.groups()
    held = [group for group in groups if group.pattern.placements]
    by_workload = _split_all(layout, held)
    hands = held if by_workload is None else by_workload
    shown, rest = hands[:MOST_SHOWN], hands[MOST_SHOWN:]
    several = _with_several_replicas(layout)
    return Cards(
        tuple(_card(layout, hand, several) for hand in shown),
        _unused(layout, groups),
        by_workload is not None,
        len(rest),
        sum(len(hand) for hand in rest),
    )


def _split_all(layout: Layout, groups: Sequence[Group]) -> list[Group] | None:
    """Split groups of equal placements into groups of equal workloads, or None where these are too many."""
    found: list[Group] = []
    for group in groups:
        if len(found) >= MOST_BY_WORKLOAD:
            return None
        order, bounds = _equal_rows(_occupants(layout, group))
        if len(found) + len(bounds) + 1 > MOST_BY_WORKLOAD:
            return None
        found += [Group(group.pattern, group.gpus[rows]) for rows in np.split(order, bounds)]
    return sorted(found, key=lambda group: int(group.gpus[0]))


def _occupants(layout: Layout, group: Group) -> Index:
    """Occupants of the GPUs of a group; shape ``(n_gpus, n_placements)``."""
    matrix: Index = layout.occupant[layout.offsets[group.gpus][:, None] + np.arange(len(group.pattern.placements))]
    return matrix


def _equal_rows(matrix: Index) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Order in which equal rows are neighbours, ascending among equals, and where a new row begins."""
    order = np.lexsort(matrix.T[::-1])
    ordered = matrix[order]
    return order, np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1


def _with_several_replicas(layout: Layout) -> npt.NDArray[np.bool_]:
    """Whether a workload has more than one replica; shape ``(n_workloads,)``."""
    held = layout.occupant != NOBODY
    several: npt.NDArray[np.bool_] = np.bincount(layout.occupant[held], minlength=len(layout.workloads)) > 1
    several[layout.occupant[held & (layout.replica > 0)]] = True
    return several


def _card(layout: Layout, group: Group, several: npt.NDArray[np.bool_]) -> Card:
    occupants = _occupants(layout, group)
    replicas = layout.replica[layout.offsets[group.gpus[0]] :]
    blocks = []
    for column, placement in enumerate(group.pattern.placements):
        who = np.unique(occupants[:, column])
        holders = who[who != NOBODY]
        n_unheld = int((occupants[:, column] == NOBODY).sum())
        one = len(holders) == 1 and n_unheld == 0
        numbered = one and len(group) == 1 and several[holders[0]]
        blocks.append(
            Block(
                placement,
                layout.workloads[holders[0]] if one else None,
                int(replicas[column]) if numbered else None,
                len(holders),
                n_unheld,
            )
        )
    return _named_card(layout, group, tuple(blocks))


def _named_card(layout: Layout, group: Group, blocks: tuple[Block, ...] = ()) -> Card:
    def label(row: int) -> str:
        return gpu_label(layout.hosts[layout.gpu_host[row]], int(layout.gpu_index[row]))

    named = tuple(label(row) for row in group.gpus[:_NAMED])
    return Card(group.pattern, len(group), named[0], label(group.gpus[-1]), named, blocks)


def _unused(layout: Layout, groups: Sequence[Group]) -> tuple[Card, ...]:
    by_model: dict[str, list[Group]] = {}
    for group in groups:
        if not group.pattern.placements:
            by_model.setdefault(group.pattern.model, []).append(group)
    cards = []
    for model, same in by_model.items():
        rows = np.sort(np.concatenate([group.gpus for group in same]))
        cards.append(_named_card(layout, Group(Pattern(model, None), rows)))
    return tuple(cards)
