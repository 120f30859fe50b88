"""Which GPUs share a card: equal ones, so that a hundred thousand GPUs stay readable. Must not know how cards are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from partitioner.geometry import Placement
from partitioner.layout import NOBODY, Group, Index, Layout, Pattern, gpu_label

MOST_BY_WORKLOAD = 60
"""Most cards whose GPUs have equal workloads; with more, GPUs with equal placements share a card."""
MOST_SHOWN = 200
"""Most cards drawn."""
MOST_HOSTS = 16
"""Most hosts under which cards stand one by one; with more, equal GPUs of different hosts share a card."""
_NAMED = 8  # GPUs of a card that its tooltip names
_EXISTING = -2  # stands for the holder of an instance that existed before

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a layout and does not stand in it.

    Parameters
    ----------
    existing : whether each placement is an instance that others use, shape ``(n_placements,)``; None where none is.
    rates : what one instance serves [requests/s], by workload, GPU model, mode and profile.
    hosts : what is to be said of each host, by its name; where there is something, cards stand under their hosts.
    spare : whether placements that nobody holds are kept free for the replicas of a host that fails.
    """

    existing: npt.NDArray[np.bool_] | None = None
    rates: Mapping[tuple[str, str, str, str], float] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One placement of all GPUs of a card, with who holds it.

    Parameters
    ----------
    placement : the placement.
    workload : who holds it, where it is held by one workload on every GPU of the card.
    replica : which replica, where the GPUs of the card have the same and the workload has several.
    n_workloads : distinct workloads that hold it on the GPUs of the card.
    n_unheld : GPUs of the card on which nobody holds it.
    n_existing : GPUs of the card on which others use it.
    span : placements that the replica has in all; more than one where it runs on several GPUs at once.
    rate : what the instance serves [requests/s], where it belongs to a service.
    """

    placement: Placement
    workload: str | None
    replica: int | None
    n_workloads: int
    n_unheld: int
    n_existing: int = 0
    span: int = 1
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """GPUs drawn as one: their pattern, their number and names, their blocks by start, their host where it is told apart."""

    pattern: Pattern
    n_gpus: int
    first: str
    last: str
    named: tuple[str, ...]
    blocks: tuple[Block, ...] = ()
    host: str | None = None


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


@dataclass(frozen=True, slots=True)
class _Holders:
    """Who holds each placement, as one number; numbers below 0 stand for nobody and for others.

    Parameters
    ----------
    codes : row of the workload; of a replica on several GPUs, also its number: ``row + n_workloads * (1 + replica)``.
    spans : code of such a replica to the placements that it has.
    several : whether a workload has more than one replica; shape ``(n_workloads,)``.
    """

    codes: Codes
    spans: Mapping[int, int]
    several: npt.NDArray[np.bool_]


def deal(layout: Layout, context: Context | None = None) -> Cards:
    """Put the GPUs of a layout on cards.

    Parameters
    ----------
    layout : any layout.
    context : what is known of it besides.

    Returns
    -------
    The cards; the numbers of GPUs shown, unused and left out add up to the layout's.

    Notes
    -----
    Sorts the occupants of each pattern, O(placements log GPUs) in numpy; Python's loops run over cards only.
    """
    context = context or Context()
    holders = _holders(layout, context)
    groups = layout.groups()
    held = [group for group in groups if group.pattern.placements]
    by_host = 0 < len(np.unique(layout.gpu_host[layout.used])) <= MOST_HOSTS and bool(context.hosts)
    hands = _split_all(layout, held, holders.codes, by_host=by_host)
    if hands is None and holders.spans:  # too many replicas on several GPUs to show which is which
        merged = np.where(holders.codes >= 0, holders.codes % max(1, len(layout.workloads)), holders.codes)
        holders = _Holders(merged, {}, holders.several)
        hands = _split_all(layout, held, holders.codes, by_host=by_host)
    by_host = by_host and hands is not None
    every = held if hands is None else hands
    shown, rest = every[:MOST_SHOWN], every[MOST_SHOWN:]
    return Cards(
        tuple(_card(layout, hand, holders, context, by_host=by_host) for hand in shown),
        _unused(layout, groups),
        hands is not None,
        len(rest),
        sum(len(hand) for hand in rest),
    )


def _holders(layout: Layout, context: Context) -> _Holders:
    """Read who holds what; a replica that stands more than once is one on several GPUs."""
    n = len(layout.workloads)
    codes: Codes = layout.occupant.astype(np.int64)
    numbered = codes + n * (1 + layout.replica.astype(np.int64))
    held = codes != NOBODY
    pairs, counts = np.unique(numbered[held], return_counts=True)
    wide = np.zeros(n, dtype=np.bool_)
    wide[pairs[counts > 1] % max(1, n)] = True
    several: npt.NDArray[np.bool_] = np.bincount(pairs % max(1, n), minlength=n) > 1
    several[layout.occupant[held & (layout.replica > 0)]] = True
    tied = held & wide[layout.occupant] if n else held
    spans = {int(pair): int(count) for pair, count in zip(pairs, counts, strict=True) if count > 1}
    codes = np.where(tied, numbered, codes)
    if context.existing is not None:
        codes = np.where(context.existing & ~held, _EXISTING, codes)
    return _Holders(codes, spans, several)


def _split_all(layout: Layout, groups: Sequence[Group], codes: Codes, *, by_host: bool) -> list[Group] | None:
    """Split groups of equal placements into groups of equal workloads, or None where these are too many."""
    found: list[Group] = []
    for group in groups:
        if len(found) >= MOST_BY_WORKLOAD:
            return None
        matrix = _rows(layout, group, codes)
        if by_host:
            matrix = np.column_stack((layout.gpu_host[group.gpus], matrix))
        order, bounds = _equal_rows(matrix)
        if len(found) + len(bounds) + 1 > MOST_BY_WORKLOAD:
            return None
        found += [Group(group.pattern, group.gpus[rows]) for rows in np.split(order, bounds)]
    return sorted(found, key=lambda group: int(group.gpus[0]))


def _rows(layout: Layout, group: Group, codes: Codes) -> Codes:
    """Holders on the GPUs of a group; shape ``(n_gpus, n_placements)``."""
    matrix: Codes = codes[layout.offsets[group.gpus][:, None] + np.arange(len(group.pattern.placements))]
    return matrix


def _equal_rows(matrix: Codes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Order in which equal rows are neighbours, ascending among equals, and where a new row begins."""
    order = np.lexsort(matrix.T[::-1])
    ordered = matrix[order]
    return order, np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1


def _card(layout: Layout, group: Group, holders: _Holders, context: Context, *, by_host: bool) -> Card:
    matrix = _rows(layout, group, holders.codes)
    replicas = layout.replica[layout.offsets[group.gpus[0]] :]
    blocks = tuple(
        _block(layout, group, placement, matrix[:, column], int(replicas[column]), holders, context)
        for column, placement in enumerate(group.pattern.placements)
    )
    return _named_card(layout, group, blocks, by_host=by_host)


def _block(
    layout: Layout, group: Group, placement: Placement, codes: Codes, replica: int, holders: _Holders, context: Context
) -> Block:
    who, n = np.unique(codes), max(1, len(layout.workloads))
    names = np.unique(who[who >= 0] % n)
    n_existing = int((codes == _EXISTING).sum())
    n_unheld = int((codes < 0).sum()) - n_existing
    if len(names) != 1 or who[0] < 0:
        return Block(placement, None, None, len(names), n_unheld, n_existing)
    name, span = layout.workloads[names[0]], holders.spans.get(int(who[0]), 1)
    numbered = holders.several[names[0]] and len(who) == 1 and (len(group) == 1 or span > 1)
    rate = context.rates.get((name, group.pattern.model, group.pattern.mode or "", placement.profile.name))
    return Block(placement, name, replica if numbered else None, 1, 0, 0, span, rate)


def _named_card(layout: Layout, group: Group, blocks: tuple[Block, ...] = (), *, by_host: bool = False) -> Card:
    def label(row: int) -> str:
        return gpu_label(layout.hosts[layout.gpu_host[row]], int(layout.gpu_index[row]))

    named = tuple(label(row) for row in group.gpus[:_NAMED])
    host = layout.hosts[layout.gpu_host[group.gpus[0]]] if by_host else None
    return Card(group.pattern, len(group), named[0], label(group.gpus[-1]), named, blocks, host)


def _unused(layout: Layout, groups: Sequence[Group]) -> tuple[Card, ...]:
    by_model: dict[str, list[Index]] = {}
    for group in groups:
        if not group.pattern.placements:
            by_model.setdefault(group.pattern.model, []).append(group.gpus)
    return tuple(
        _named_card(layout, Group(Pattern(model, None), np.sort(np.concatenate(rows)))) for model, rows in by_model.items()
    )
