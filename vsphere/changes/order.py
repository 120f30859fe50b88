"""In which order the machines of one host are switched on, so that its GPU manager puts each vGPU where the plan has it.

Nobody can tell ESXi which GPU a vGPU shall get: it chooses, at power-on, the fullest GPU with room (consolidation) or the one
with the fewest machines (performance). So that choice is simulated, and the order is found in which it comes out as planned.
Must not know pyVmomi.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from partitioner import catalog
from partitioner.errors import GeometryError, SpecError
from partitioner.geometry import Placement
from vsphere.occupancy.placements import chosen_start
from vsphere.occupancy.usage import usage
from vsphere.values import HostInfo, Place, VmInfo


@dataclass(frozen=True, slots=True)
class Start:
    """A machine to be switched on: its `key`, and for each of its vGPUs what it is for; none where that is not known."""

    key: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A machine in its turn, and the GPU that each of its vGPUs is expected to get; None where no room is seen."""

    key: str
    gpus: tuple[int | None, ...]


@dataclass(slots=True)
class _Card:
    """One GPU while machines are switched on: its mode, None while that is open, and what is on it as (profile, start)."""

    model: str
    mode: str | None
    taken: tuple[tuple[str, int], ...] = ()
    machines: int = 0

    def room(self, mode: str, profile: str) -> int | None:
        """Return the start that the driver gives a profile; None where it has no room for it."""
        if self.mode is not None and self.mode != mode and not (mode.startswith(f"{self.mode}-") and not self.taken):
            return None
        return _start(self.model, mode, self.taken, profile)

    def with_one(self, mode: str, profile: str, start: int) -> _Card:
        """Return the GPU with one more on it."""
        return _Card(self.model, mode, tuple(sorted((*self.taken, (profile, start)))), self.machines)


def power_on_order(host: HostInfo, starts: Sequence[Start], staying: Iterable[VmInfo]) -> list[Turn]:
    """Return the machines in the order in which they are to be switched on.

    Parameters
    ----------
    host : the host, with its GPUs and its assignment policy.
    starts : the machines that are off and shall be on.
    staying : machines that run on it and go on running.

    Returns
    -------
    Of those whose vGPU comes out on the planned GPU the one with the largest profile is next; where there is none, the largest.

    Notes
    -----
    Quadratic in the machines of one host.
    """
    cards = _cards(host, staying)
    fullest = host.assignment_policy != "performance"
    remaining = sorted(starts, key=lambda start: (tuple(-_extent(cards, p) for p in start.places), _planned(start), start.key))
    turns: list[Turn] = []
    while remaining:
        best = remaining[0]
        chosen = _chosen(cards, best.places, fullest=fullest)
        for start in remaining if chosen != _planned(best) else ():
            trial = _chosen(cards, start.places, fullest=fullest)
            if trial == _planned(start):
                best, chosen = start, trial
                break
        remaining.remove(best)
        turns.append(Turn(best.key, chosen))
        cards |= _with(cards, best.places, chosen)
    return turns


def _planned(start: Start) -> tuple[int | None, ...]:
    return tuple(place.gpu for place in start.places)


def _chosen(cards: Mapping[int, _Card], places: Sequence[Place], *, fullest: bool) -> tuple[int | None, ...]:
    """Return the GPU that each vGPU of one machine gets."""
    now = dict(cards)
    chosen: list[int | None] = []
    for place in places:
        if place.mode == "whole":  # given by its PCI address, nobody chooses
            chosen.append(place.gpu)
            continue
        rooms = [(index, start) for index, card in now.items() if (start := card.room(place.mode, place.profile)) is not None]
        if not rooms:
            chosen.append(None)
            continue
        index, start = min(rooms, key=lambda room: (-now[room[0]].machines if fullest else now[room[0]].machines, room[0]))
        now[index] = now[index].with_one(place.mode, place.profile, start)
        chosen.append(index)
    return tuple(chosen)


def _with(cards: Mapping[int, _Card], places: Sequence[Place], chosen: Sequence[int | None]) -> dict[int, _Card]:
    """Return the GPUs that a machine came to, with it on them."""
    found: dict[int, _Card] = {}
    for place, gpu in zip(places, chosen, strict=True):
        card = found.get(gpu) or cards.get(gpu) if gpu is not None else None
        if gpu is not None and card is not None:
            start = card.room(place.mode, place.profile)
            found[gpu] = card if start is None else card.with_one(place.mode, place.profile, start)
    return {gpu: replace(card, machines=cards[gpu].machines + 1) for gpu, card in found.items()}


def _cards(host: HostInfo, staying: Iterable[VmInfo]) -> dict[int, _Card]:
    """Return the GPUs that give vGPUs, with what stays on them."""
    machines = list(staying)
    known = {info.moid for info in machines}
    alone = replace(host, gpus=tuple(replace(gpu, vms=tuple(m for m in gpu.vms if m in known)) for gpu in host.gpus))
    cards: dict[int, _Card] = {}
    for use in usage(alone, machines):
        gpu = use.gpu
        if gpu.model is None or gpu.passthrough_active or use.taken is not None:
            continue
        mode: str | None = None if gpu.mode == "vgpu-equal" else gpu.mode
        found = use.arrangement() if use.uses else None
        if found is not None:
            mode, placed = found
            cards[gpu.index] = _Card(gpu.model, mode, tuple(sorted((name, start) for _, name, start in placed)), len(use.uses))
        else:
            cards[gpu.index] = _Card(gpu.model, mode)
    return cards


@cache
def _start(model: str, mode: str, taken: tuple[tuple[str, int], ...], profile: str) -> int | None:
    """Return the start that the driver chooses; None where there is no room."""
    try:
        geometry = catalog.gpu(model).geometry(mode)
        placed = tuple(Placement(geometry.profile(name), start) for name, start in taken)
        return chosen_start(geometry, placed, geometry.profile(profile))
    except (SpecError, GeometryError):
        return None


def _extent(cards: Mapping[int, _Card], place: Place) -> float:
    card = cards.get(place.gpu)
    if card is None or place.mode == "whole":
        return 2.0
    return _share(card.model, place.mode, place.profile)


@cache
def _share(model: str, mode: str, profile: str) -> float:
    """Return what part of a GPU a profile takes, compute included."""
    try:
        geometry = catalog.gpu(model).geometry(mode)
        wanted = geometry.profile(profile)
    except (SpecError, GeometryError):
        return 0.0
    most = max((p.compute_slices for p in geometry.profiles), default=0) or 1
    units = max((p.extent for p in geometry.profiles), default=1)
    return wanted.extent / units + wanted.compute_slices / most / 16
