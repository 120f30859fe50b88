"""How fast online placement decides, beside a plain scan for the first GPU that fits and entries of a dict."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.planner.mixes import GPU, Mix
from benchmarks.planner.online import ONLINE_MIXES, OURS, fleet_of, slices_of
from partitioner import catalog
from partitioner.solver.online import Allocator

TARGETS: Mapping[int, int] = {1_000: 500_000, 100_000: 200_000}
"""GPUs to the operations per second that are wanted."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast places and releases are decided.

    Parameters
    ----------
    gpus : number of GPUs.
    policy : of the allocator.
    operations : places and releases timed.
    accepted : share of the places that found room.
    per_s : places and releases per second, the best of several rounds [1/s].
    scan_per_s : the same of a plain scan for the first GPU that fits, in the same process [1/s].
    dict_per_s : an entry put into a dict and taken out again, each counted as one [1/s].
    """

    gpus: int
    policy: str
    operations: int
    accepted: float
    per_s: float
    scan_per_s: float
    dict_per_s: float

    @property
    def holds(self) -> bool:
        """Whether it is as fast as wanted; where nothing is wanted, yes."""
        return self.per_s >= TARGETS.get(self.gpus, 0)


def measure_speed(gpus: int, *, policy: str = OURS, operations: int = 200_000, rounds: int = 3, seed: int = 1) -> Speed:
    """Time places and releases in turn on GPUs that are about nine tenths full.

    Parameters
    ----------
    gpus : number of GPUs.
    policy : of the allocator.
    operations : places and releases in one round.
    rounds : how often; the fastest counts.
    seed : of the random numbers.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    mix = ONLINE_MIXES[0]
    allocator = Allocator(fleet_of(gpus), policy)
    live = _fill(allocator, mix, gpus, seed)
    names = numbers.choices(list(mix.weights), weights=list(mix.weights.values()), k=operations // 2)
    victims = [numbers.random() for _ in names]
    fastest, accepted = float("inf"), 0
    for _ in range(rounds):
        started = time.perf_counter()
        found = _take_turns(allocator, live, names, victims)
        fastest, accepted = min(fastest, time.perf_counter() - started), accepted + found
    total = 2 * len(names)
    scan = _scan_per_s(gpus, numbers, mix)
    return Speed(gpus, policy, total, accepted / rounds / len(names), total / fastest, scan, _dict_per_s(operations))


def _fill(allocator: Allocator, mix: Mix, gpus: int, seed: int) -> list[int]:
    wanted = int(gpus * 7.2)
    slices, live = slices_of(mix.weights), []
    for name in mix.draw(wanted, seed=seed):
        wanted -= slices[name]
        placement = allocator.place(name) if wanted >= 0 else None
        if placement is not None:
            live.append(placement.id)
    return live


def _take_turns(allocator: Allocator, live: list[int], names: Sequence[str], victims: Sequence[float]) -> int:
    place, release, found = allocator.place, allocator.release, 0
    for name, victim in zip(names, victims, strict=True):
        position = int(victim * len(live))
        number = live[position]
        live[position] = live[-1]
        live.pop()
        release(number)
        placement = place(name)
        if placement is not None:
            live.append(placement.id)
            found += 1
    return found


def _scan_per_s(gpus: int, numbers: random.Random, mix: Mix) -> float:
    """Places and releases per second of a scan over masks for the first GPU with a free start, the first nine tenths full."""
    geometry = catalog.gpu(GPU).geometry("mig")
    bits = {
        name: [((1 << geometry.profile(name).extent) - 1) << start for start in geometry.profile(name).starts]
        for name in mix.weights
    }
    masks = [0b1111_1111 if gpu < 0.9 * gpus else 0 for gpu in range(gpus)]
    names = numbers.choices(list(mix.weights), k=max(20, 200_000 // gpus))
    started = time.perf_counter()
    for name in names:
        found = next(((gpu, bit) for gpu, mask in enumerate(masks) for bit in bits[name] if not mask & bit), None)
        if found is not None:
            masks[found[0]] |= found[1]
            masks[found[0]] ^= found[1]
    return 2 * len(names) / (time.perf_counter() - started)


def _dict_per_s(operations: int) -> float:
    entries: dict[int, int] = {}
    started = time.perf_counter()
    for number in range(operations):
        entries[number] = number
        del entries[number]
    return 2 * operations / (time.perf_counter() - started)
