"""Reconfiguration of a fragmented fleet: GPUs and moves of the planner against greedy evacuation, on the same input."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.planner.mixes import GPU, Mix
from partitioner import Fleet, Layout, catalog, plan
from partitioner.geometry import Placement
from partitioner.layout import GpuLayout, Slot
from partitioner.planning import workloads_of
from partitioner.solver.demand import build
from partitioner.solver.integer import solve
from partitioner.solver.regrouped import groups_of, regroup
from partitioner.solver.standing import contents_of, read_standing
from partitioner.solver.supply import supply_of_fleet

_CHURN = 2  # rounds of departures and arrivals after the fleet was filled
PER_HOST = 8
"""GPUs in a host."""

Gpus = list[tuple[Placement, ...]]


def fragmented(mix: Mix, n_gpus: int, *, occupancy: float, seed: int) -> Gpus:
    """Return the placements of GPUs after arrivals and departures.

    Parameters
    ----------
    mix : what arrives.
    n_gpus : how many GPUs there are.
    occupancy : share of memory slices taken in the end, from 0 to 1.
    seed : of the random numbers.

    Notes
    -----
    Every GPU takes what arrives until something does not fit, at the start that leaves the most useful room; then half of
    everything departs, and so on; last, random departures bring the fleet down to its occupancy.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    geometry = catalog.gpu(GPU).geometry("mig")
    names, weights = list(mix.weights), list(mix.weights.values())
    starts: dict[tuple[frozenset[tuple[str, int]], str], Placement | None] = {}

    def place(standing: tuple[Placement, ...], name: str) -> Placement | None:
        key = (frozenset((p.profile.name, p.start) for p in standing), name)
        if key not in starts:
            free = [p for p in geometry.free(standing) if p.profile.name == name]
            starts[key] = max(free, key=lambda p: sum(q.profile.extent for q in geometry.free((*standing, p))), default=None)
        return starts[key]

    gpus: Gpus = [()] * n_gpus
    for round_number in range(_CHURN + 1):
        for row in range(n_gpus):
            standing = tuple(p for p in gpus[row] if numbers.random() < 0.5) if round_number else ()
            while (found := place(standing, numbers.choices(names, weights)[0])) is not None:
                standing = (*standing, found)
            gpus[row] = standing
    everything = [(row, p) for row, standing in enumerate(gpus) for p in standing]
    numbers.shuffle(everything)
    left = sum(p.profile.extent for _, p in everything)
    gone: set[tuple[int, int]] = set()
    for row, p in everything:
        if left <= occupancy * geometry.units * n_gpus:
            break
        gone.add((row, p.start))
        left -= p.profile.extent
    return [tuple(p for p in standing if (row, p.start) not in gone) for row, standing in enumerate(gpus)]


def layout_of(gpus: Gpus) -> Layout:
    """Return GPUs as a layout of hosts with eight GPUs each; every profile is one workload."""
    number: Counter[str] = Counter()
    entries = []
    for row, standing in enumerate(gpus):
        slots = []
        for p in sorted(standing, key=lambda placement: placement.start):
            slots.append(Slot(p.profile.name, p.start, p.profile.name, number[p.profile.name]))
            number[p.profile.name] += 1
        entries.append(GpuLayout(f"host-{row // PER_HOST}", row % PER_HOST, GPU, "mig", tuple(slots)))
    return Layout.of(entries)


@dataclass(frozen=True, slots=True)
class Result:
    """GPUs in use and instances moved after a reconfiguration, and the time that it took [s]."""

    gpus: int
    moves: int
    seconds: float


class _States:
    """What a GPU may hold, by number: what it takes, and what it becomes with one placement more."""

    def __init__(self) -> None:
        self.geometry = catalog.gpu(GPU).geometry("mig")
        self.numbers: dict[frozenset[tuple[str, int]], int] = {}
        self.held: list[tuple[Placement, ...]] = []
        self.taken: list[int] = []
        self.after: dict[tuple[int, str], int | None] = {}
        self.fullest: list[int] = []

    def number(self, standing: Sequence[Placement]) -> int:
        """Return the number of what stands on a GPU."""
        key = frozenset((p.profile.name, p.start) for p in standing)
        if key not in self.numbers:
            self.numbers[key] = len(self.held)
            self.held.append(tuple(sorted(standing, key=lambda p: -p.profile.extent)))
            self.taken.append(sum(p.profile.extent for p in standing))
            self.fullest = sorted(range(len(self.held)), key=lambda state: (-self.taken[state], state))
        return self.numbers[key]

    def with_one(self, state: int, profile: str) -> int | None:
        """Return what a GPU becomes with one placement more, where that leaves the most useful room; None without room."""
        key = (state, profile)
        if key not in self.after:
            held = self.held[state]
            free = [p for p in self.geometry.free(held) if p.profile.name == profile]
            best = max(free, key=lambda p: sum(q.profile.extent for q in self.geometry.free((*held, p))), default=None)
            self.after[key] = None if best is None else self.number((*held, best))
        return self.after[key]


def evacuate(gpus: Gpus) -> Result:
    """Drain the emptiest GPU into others, then the next, while that is possible.

    Best fit: what leaves goes, largest first, to the fullest GPU in use with room for it, at the start that leaves the most
    useful room. A GPU of which something finds no room stays as it is.
    """
    started = time.perf_counter()
    states = _States()
    now = [states.number(standing) for standing in gpus]
    empty = states.number(())
    alike: dict[int, set[int]] = {}
    for row, state in enumerate(now):
        alike.setdefault(state, set()).add(row)
    moves = 0
    for row in sorted(range(len(gpus)), key=lambda row: (states.taken[now[row]], row)):
        before = now[row]
        if before == empty:
            continue
        alike[before].discard(row)
        done: list[tuple[int, int]] = []
        for placement in states.held[before]:
            there = _fullest(states, alike, placement.profile.name)
            if there is None:
                break
            target = alike[there].pop()
            done.append((target, there))
            now[target] = states.with_one(there, placement.profile.name) or 0
            alike.setdefault(now[target], set()).add(target)
        if len(done) == len(states.held[before]):
            moves += len(done)
            now[row] = empty
            continue
        for target, there in reversed(done):
            alike[now[target]].discard(target)
            now[target] = there
            alike[there].add(target)
        alike[before].add(row)
    used = sum(state != empty for state in now)
    return Result(used, moves, time.perf_counter() - started)


def _fullest(states: _States, alike: Mapping[int, set[int]], profile: str) -> int | None:
    """Return what the fullest GPU in use with room for a profile holds."""
    for state in states.fullest:
        if states.taken[state] and alike.get(state) and states.with_one(state, profile) is not None:
            return state
    return None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One fleet, reconfigured by the planner and by evacuation.

    Parameters
    ----------
    mix, gpus, occupancy : the fleet: what runs on it, GPUs, and the share of their memory slices taken.
    instances, used : instances on it, and GPUs in use, before.
    planner, evacuation : what came out.
    bounds : the fewest GPUs, and the fewest moves with those.
    status, certificate : of the plan.
    sequential : moves of the plan that have to wait for another one.
    as_many : the fewest moves with as many GPUs as evacuation leaves in use; None where that is not proven.
    """

    mix: str
    gpus: int
    occupancy: float
    instances: int
    used: int
    planner: Result
    evacuation: Result
    bounds: tuple[int, int]
    status: str
    certificate: str
    sequential: int
    as_many: int | None

    @property
    def deadline_s(self) -> float | None:
        """What is wanted of the planner [s]."""
        return next((seconds for gpus, seconds in DEADLINES if self.gpus <= gpus), None)

    @property
    def proven(self) -> bool:
        """Whether GPUs and moves are proven fewest."""
        return self.bounds == (self.planner.gpus, self.planner.moves)

    @property
    def holds(self) -> bool:
        """Whether both stages are proven, in time, with no more GPUs than evacuation has."""
        in_time = self.deadline_s is None or self.planner.seconds <= self.deadline_s
        return self.proven and in_time and self.planner.gpus <= self.evacuation.gpus


DEADLINES = ((10_000, 5.0), (100_000, 10.0))
"""GPUs, and the time in which their reconfiguration has to be proven [s]."""


def compare(mix: Mix, gpus: int, *, occupancy: float, seed: int) -> Comparison:
    """Reconfigure one fragmented fleet by the planner and by evacuation.

    Parameters
    ----------
    mix : what runs.
    gpus : how many GPUs there are.
    occupancy : share of their memory slices taken.
    seed : of the fleet and of the planner.

    Notes
    -----
    The planner's time is from layout and fleet, made before, to the verified plan: once, after a first small plan that
    imports the engines and reads the catalogue.
    """
    plan({"1g.10gb": 1}, gpu=GPU, modes=("mig",))
    standing = fragmented(mix, gpus, occupancy=occupancy, seed=seed)
    current = layout_of(standing)
    fleet = Fleet.of(GPU, hosts=-(-gpus // PER_HOST), gpus_per_host=PER_HOST)
    evacuation = evacuate(standing)
    started = time.perf_counter()
    found = plan(workloads_of(current), fleet=fleet, modes=("mig",), current=current, time_limit_s=60, seed=seed)
    seconds = time.perf_counter() - started
    stages = {stage.name: stage for stage in found.objectives}
    return Comparison(
        mix.name,
        gpus,
        occupancy,
        sum(map(len, standing)),
        sum(map(bool, standing)),
        Result(stages["gpus"].value, stages["moves"].value, seconds),
        evacuation,
        (stages["gpus"].bound, stages["moves"].bound),
        found.status,
        found.certificate,
        found.metrics.sequential_migrations,
        fewest_moves(current, fleet, evacuation.gpus, seed=seed),
    )


def fewest_moves(current: Layout, fleet: Fleet, gpus: int, *, seed: int) -> int | None:
    """Return the fewest moves after which no more than some number of GPUs are in use; None where that is not proven.

    Parameters
    ----------
    current, fleet : what runs, on which GPUs.
    gpus : GPUs that may be in use.
    seed : of the engines.
    """
    workloads, supply = workloads_of(current), supply_of_fleet(fleet, ("mig",))
    demand = build(workloads, supply, None)
    standing = read_standing(current, workloads, supply, demand, {})
    groups, _ = groups_of(demand, contents_of(standing, supply, len(fleet)))
    form = regroup(demand.problem, groups, standing.by_class, everything=True)
    form.program.row([(v, c) for v, c in enumerate(form.costs("gpus")) if c], high=gpus)
    form.program.cost = form.costs("moves")
    answer = solve(form.program, deadline=time.monotonic() + 60, seed=seed)
    return (answer.objective or 0) + form.standing if answer.optimal else None
