"""A thousand random kills: SIGKILL of the real process over the C stand-in, then a second run that ends at the goal.

Each point is a process of its own that applies changes through the real pynvml and is killed by the driver call that a fault
names, or at a random moment from outside. Some second runs are killed as well. The last one is not, and must find the
machine at the goal, every instance that stays never touched.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from nvml import Card, Machine

from partitioner import catalog
from partitioner.applying import apply, rollback
from partitioner.changes import Changes, diff
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.nvml import NvmlTarget
from partitioner.targets import Instance, Occupant, StateFolder

POINTS, BATCHES = 1000, 20
MODELS = [name for name in catalog.names() if "mig" in catalog.gpu(name).modes]
HOST = "bare-01"


def _gpu(rng: random.Random, index: int, model: str, crew: list[tuple[str, int]], uuid: str | None = None) -> GpuLayout:
    if rng.random() < 0.15:
        taken = rng.random() < 0.5
        return GpuLayout(HOST, index, model, "whole", (Slot("whole", 0, *crew.pop()),) if taken else (), uuid)
    geometry = catalog.gpu(model).geometry("mig")
    chosen: list[Slot] = []
    for placement in rng.sample(geometry.placements, len(geometry.placements)):
        there = [(slot.profile, slot.start) for slot in chosen]
        if rng.random() < 0.7 and geometry.is_legal([*there, (placement.profile.name, placement.start)]):
            who = crew.pop() if crew and rng.random() < 0.7 else (None, None)
            chosen.append(Slot(placement.profile.name, placement.start, *who))
    return GpuLayout(HOST, index, model, "mig", tuple(sorted(chosen, key=lambda slot: slot.start)), uuid)


class Case:
    """A machine, what is on it, and a goal."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = rng = random.Random(seed)
        models = [rng.choice(MODELS)] * rng.randint(1, 2) + [rng.choice(MODELS)] * rng.randint(0, 1)
        crew = [(name, number) for name in "ab" for number in range(8)]
        base = [_gpu(rng, index, model, crews) for crews in [rng.sample(crew, len(crew))] for index, model in enumerate(models)]
        if rng.random() < 0.5:  # most of it stays
            left = rng.sample(crew, len(crew))
            goal = [gpu if rng.random() < 0.5 else _gpu(rng, gpu.gpu, gpu.model, left) for gpu in base]
            held = {(s.workload, s.replica) for gpu in goal if gpu in base for s in gpu.slots}
            goal = [gpu if gpu in base else _without(gpu, held) for gpu in goal]
        else:
            left = rng.sample(crew, len(crew))
            goal = [_gpu(rng, index, model, left) for index, model in enumerate(models)]
        cards = [
            Card(g.model, mig=g.mode == "mig", layout=[(s.profile, s.start) for s in g.slots if g.mode == "mig"]) for g in base
        ]
        self.machine = Machine(folder / f"machine-{seed}", cards)
        self.state = StateFolder(folder / f"state-{seed}")
        uuids = [self.machine.uuid(index) for index in range(len(models))]
        self.base = Layout.of(GpuLayout(g.host, g.gpu, g.model, g.mode, g.slots, u) for g, u in zip(base, uuids, strict=True))
        self.goal = Layout.of(goal)
        entries = {
            Instance(uuids[gpu.gpu], slot.profile, slot.start): None
            if slot.workload is None
            else Occupant(slot.workload, slot.replica or 0)
            for gpu in base
            for slot in gpu.slots
            if slot.workload is not None or gpu.mode == "whole"
        }
        if entries:
            self.state.assignments.write(entries)

    def target(self) -> NvmlTarget:
        return NvmlTarget(host=HOST, state=self.state)

    def stays(self) -> dict[tuple[int, str, int], int]:
        """Instances that base and goal share, to the generation that the driver gave them."""
        goal = {(gpu.gpu, s.profile, s.start) for gpu in self.goal if gpu.mode == "mig" for s in gpu.slots}
        return {
            (index, found.profile, found.start): found.generation
            for index in range(len(self.base))
            for found in self.machine.instances(index)
            if (index, found.profile, found.start) in goal
        }


def _without(gpu: GpuLayout, held: set[tuple[str | None, int | None]]) -> GpuLayout:
    slots = tuple(Slot(s.profile, s.start) if (s.workload, s.replica) in held else s for s in gpu.slots)
    return GpuLayout(gpu.host, gpu.gpu, gpu.model, gpu.mode, slots)


def _fork(work: Callable[[], object], kill_after_s: float | None = None) -> int:
    """Run work in a process of its own; returns its status, -9 where it was killed."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as the test
            traceback.print_exc()
            os._exit(1)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _work(case: Case, changes: Changes, how: str) -> Callable[[], object]:
    def run() -> None:
        with case.target() as target:
            if how == "same":
                apply(changes, target)
            elif how == "fresh":
                apply(diff(target.layout(), case.goal), target)
            else:
                rollback(target)

    return run


def _killed_run(case: Case, changes: Changes, how: str) -> int:
    """Run until a fault kills it; a fault that comes too late lets it end."""
    rng, work = case.rng, _work(case, changes, how)
    calls = max(1, 2 * (changes.created + changes.destroyed) + changes.mode_changes)
    where = rng.random()
    if where < 0.6:
        case.machine.fail("change", rng.choice(("kill before", "kill after")), at=rng.randint(1, calls))
    elif where < 0.8:
        case.machine.fail("*", "kill before", at=rng.randint(1, 60 + 40 * len(changes)))
    status = _fork(work, rng.random() * (0.02 + 0.004 * len(changes)) if where >= 0.8 else None)
    case.machine.clear_faults()
    assert status in (0, -signal.SIGKILL)
    return status


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_run_after_a_kill_ends_at_the_goal(batch: int, tmp_path: Path) -> None:
    killed = seed = 0
    while killed < POINTS // BATCHES:
        case = Case(batch * 100_000 + seed, tmp_path)
        seed += 1
        with case.machine:
            killed += _one(case)
    assert killed >= POINTS // BATCHES


def _one(case: Case) -> int:
    """Kill one run, now and then its follower too, and look at where the last one ends; returns the number of kills."""
    changes, stays = diff(case.base, case.goal), case.stays()
    kills, how = 0, "same"
    for _ in range(case.rng.choice((1, 1, 2))):
        kills += _killed_run(case, changes, how) != 0
        how = case.rng.choice(("same", "fresh")) if how == "same" else how  # new changes leave the way of the old ones
    how = case.rng.choice((how, how, "back"))
    if how == "back" and case.state.journal.read() is None:  # killed before it began
        how = "fresh"
    assert _fork(_work(case, changes, how)) == 0
    wanted = case.base if how == "back" else case.goal
    assert _fork(lambda: _is(case, wanted)) == 0
    if how != "back":
        for (index, profile, start), generation in stays.items():
            (found,) = (i for i in case.machine.instances(index) if (i.profile, i.start) == (profile, start))
            assert found.generation == generation
    for index in range(len(case.base)):
        assert all(instance.compute for instance in case.machine.instances(index))
    return kills


def _is(case: Case, wanted: Layout) -> None:
    with case.target() as target:
        assert target.layout() == wanted, (target.layout().to_data(), wanted.to_data())
