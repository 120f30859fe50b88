"""Steps between two layouts of a fleet: time, and who is interrupted, against clearing every GPU that differs.

The peer is what nvidia-mig-parted does: a GPU whose instances are not the wanted ones is emptied and cut anew, so everything
that runs on it is interrupted.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from benchmarks.planner.mixes import GPU, Mix
from benchmarks.planner.reconfigure import PER_HOST, fragmented, layout_of
from partitioner import catalog
from partitioner.changes import Changes, diff
from partitioner.current import workloads_of
from partitioner.fleet import Fleet
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.planning import plan

DEADLINE_S = 1.0
"""Within which 10,000 GPUs are wanted."""
CASES = ("compaction", "growth", "everything")


@dataclass(frozen=True, slots=True)
class Way:
    """One pair of layouts and the steps between them.

    Parameters
    ----------
    case : what the goal is.
    gpus, changed : GPUs of the fleet, and of them those that steps touch.
    steps, moved : steps that do something, and moves among them.
    interrupted, ended : replicas that do not run for a while, and those that the goal does not have.
    cleared : replicas that run on GPUs which the peer empties and that the goal has.
    seconds, reading_s : of `diff`, and of iterating over both layouts once, best of three [s].
    """

    case: str
    gpus: int
    changed: int
    steps: int
    moved: int
    interrupted: int
    ended: int
    cleared: int
    seconds: float
    reading_s: float


def compare(case: str, mix: Mix, gpus: int, *, occupancy: float = 0.7, seed: int = 0) -> Way:
    """Find the steps of one case.

    Parameters
    ----------
    case : ``compaction``: what a fleet fragmented by arrivals and departures becomes when it is planned with fewest GPUs, then
        fewest moves; ``growth``: the same with a tenth more replicas; ``everything``: every GPU is cut anew at random and every
        replica gets another place.
    mix : what runs.
    gpus : GPUs of the fleet.
    occupancy : share of the memory slices that is taken.
    seed : of the fleet.
    """
    now, goal = _shuffled(gpus, seed) if case == "everything" else _planned(case, mix, gpus, occupancy, seed)
    found, seconds = _timed(now, goal)
    started = time.perf_counter()
    for layout in (now, goal):
        for _ in layout:
            pass
    reading_s = time.perf_counter() - started
    interrupted, ended = len(found.interruptions), len(found.endings)
    cleared = _cleared(now, goal)
    return Way(case, gpus, len(found.gpus), len(found), found.moved, interrupted, ended, cleared, seconds, reading_s)


def _timed(now: Layout, goal: Layout) -> tuple[Changes, float]:
    best, found = float("inf"), diff(now, goal)
    for _ in range(3):
        started = time.perf_counter()
        found = diff(now, goal)
        best = min(best, time.perf_counter() - started)
    return found, best


def _planned(case: str, mix: Mix, gpus: int, occupancy: float, seed: int) -> tuple[Layout, Layout]:
    now = layout_of(fragmented(mix, gpus, occupancy=occupancy, seed=seed))
    fleet = Fleet.of(GPU, hosts=-(-gpus // PER_HOST), gpus_per_host=PER_HOST)
    wanted = {
        w.name: {"profile": w.profile, "count": w.count + (w.count // 10 if case == "growth" else 0)} for w in workloads_of(now)
    }
    found = plan(wanted, fleet=fleet, modes=("mig",), current=now, time_limit_s=60, seed=seed)
    return now, found.layout


def _shuffled(gpus: int, seed: int) -> tuple[Layout, Layout]:
    """Two random layouts of full GPUs, whose replicas have nothing to do with each other's places."""
    numbers = random.Random(seed)  # noqa: S311 - layouts are drawn, nothing is encrypted
    sets = [layout for layout in catalog.gpu(GPU).geometry("mig").layouts(maximal=True) if layout]
    sides = []
    for _ in range(2):
        placed = [numbers.choice(sets) for _ in range(gpus)]
        numbered = {}
        for name in {p.profile.name for placements in placed for p in placements}:
            replicas = list(range(sum(p.profile.name == name for placements in placed for p in placements)))
            numbers.shuffle(replicas)
            numbered[name] = iter(replicas)
        rows = []
        for row, placements in enumerate(placed):
            slots = tuple(Slot(p.profile.name, p.start, p.profile.name, next(numbered[p.profile.name])) for p in placements)
            rows.append(GpuLayout(f"host-{row // PER_HOST}", row % PER_HOST, GPU, "mig", slots))
        sides.append(Layout.of(rows))
    return sides[0], sides[1]


def _cleared(now: Layout, goal: Layout) -> int:
    """Count the replicas that emptying every GPU with other instances than wanted interrupts."""
    stays = {(a.workload, a.replica) for a in goal.assignments()}
    wanted = {(gpu.host, gpu.gpu): {(s.profile, s.start) for s in gpu.slots} for gpu in goal}
    hit: set[tuple[str | None, int | None]] = set()
    for gpu in now:
        if {(s.profile, s.start) for s in gpu.slots} != wanted[gpu.host, gpu.gpu]:
            hit |= {(s.workload, s.replica) for s in gpu.slots if (s.workload, s.replica) in stays}
    return len(hit)
