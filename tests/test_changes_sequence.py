"""The order of steps: as good as the best of all orders where few replicas move, and sound wherever many do."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fewest import Cost, TooLargeError, fewest
from golden_changes import layout
from hypothesis import given
from hypothesis import strategies as st
from strategies import layout_pairs

from partitioner import catalog
from partitioner.changes import Changes, State, diff
from partitioner.errors import InfeasibleError
from partitioner.geometry import Placement
from partitioner.layout import GpuLayout, Layout, Slot

Who = tuple[str, int] | tuple[None, None]
KINDS = (
    ("A30-24GB", ("mig",)),
    ("A30-24GB", ("mig", "whole", "vgpu-equal-12")),
    ("A100-80GB", ("mig",)),
    ("A100-80GB", ("mig", "whole")),
    ("T4", ("vgpu-equal-4", "vgpu-equal-8")),
    ("T4", ("vgpu-equal-8",)),
)


def crowded(rng: random.Random, *, gpus: int = 3, most: int = 6) -> tuple[Layout, Layout]:
    """Two layouts with little room: full GPUs, exchanges, changes of mode, engines, jobs on several GPUs, GPUs left out."""
    model, modes = rng.choice(KINDS)
    number, fill, held = rng.randint(1, gpus), rng.choice((0.3, 0.7, 1.0)), rng.choice((0.6, 0.9, 1.0))
    cut = [_cut(rng, model, rng.choice(modes), fill) for _ in range(number)]
    again = cut if rng.random() < 0.3 else [_cut(rng, model, rng.choice(modes), fill) for _ in range(number)]
    pieces = 2 if rng.random() < 0.15 else 1
    sides = []
    for goal, side in ((False, cut), (True, again)):
        crew: list[Who] = [("w", replica // pieces) for replica in range(most)]
        rng.shuffle(crew)
        who = {(row, p): crew.pop() if crew and rng.random() < held else (None, None) for row, p in _shuffled(rng, side)}
        found = []
        for row, (mode, placed) in enumerate(side):
            slots = []
            for p in placed:
                ready = goal or who[row, p][0] is not None or rng.random() > 0.1
                slots.append(Slot(p.profile.name, p.start, *who[row, p], ready))
            found.append(GpuLayout("h", row, model, None if goal and not slots and rng.random() < 0.3 else mode, tuple(slots)))
        sides.append(Layout.of(found[:-1] if goal and number > 1 and rng.random() < 0.1 else found))
    return sides[0], sides[1]


def _shuffled(rng: random.Random, side: list[tuple[str, list[Placement]]]) -> list[tuple[int, Placement]]:
    found = [(row, p) for row, (_, placed) in enumerate(side) for p in placed]
    return rng.sample(found, len(found))


def _cut(rng: random.Random, model: str, mode: str, fill: float) -> tuple[str, list[Placement]]:
    geometry = catalog.gpu(model).geometry(mode)
    placed: list[Placement] = []
    for placement in sorted(geometry.placements, key=lambda p: -p.profile.extent * rng.random()):
        if ("+" not in placement.profile.name or rng.random() < 0.3) and rng.random() < fill:
            placed += [placement] if geometry.is_legal([*placed, placement]) else []
    return mode, sorted(placed, key=lambda p: p.start)


def same(found: Layout, goal: Layout) -> bool:
    """Whether a layout is the goal on the GPUs that the goal names."""
    wanted = {(gpu.host, gpu.gpu): gpu for gpu in goal}
    return all(
        gpu.slots == tuple(Slot(s.profile, s.start, s.workload, s.replica) for s in wanted[gpu.host, gpu.gpu].slots)
        and wanted[gpu.host, gpu.gpu].mode in (None, gpu.mode)
        for gpu in found
        if (gpu.host, gpu.gpu) in wanted
    )


def carried_out(changes: Changes, base: Layout, goal: Layout, most: int | None) -> Cost:
    """Carry the steps out, watch what must hold at every moment, and return what they cost."""
    state, down, peak = State(base), Counter[tuple[str | None, int | None]](), 0
    wanted = {(gpu.host, gpu.gpu): gpu for gpu in goal}
    stays = {
        (a.host, a.gpu, s.profile, s.start): (s.workload, s.replica)
        for a in base
        for s in a.slots
        for b in [wanted.get((a.host, a.gpu), a)]
        if s.ready and a.mode == (b.mode or a.mode) and (s.profile, s.start) in {(t.profile, t.start) for t in b.slots}
    }
    ends = {(b.host, b.gpu, s.profile, s.start): (s.workload, s.replica) for b in goal for s in b.slots}
    quiet = {at for at, who in stays.items() if who[0] is not None and ends.get(at, who) == who}
    for step in changes.steps:
        at = (step.host, step.gpu, step.profile, step.start)
        assert step.kind not in ("create", "destroy") or at not in stays
        assert step.kind not in ("drain", "start", "move") or at not in quiet
        state.perform(step)
        who = (step.workload, step.replica)
        if step.kind == "drain" and step.interrupts:
            down[who] += 1
        elif step.kind == "start" and down[who]:
            down[who] -= 1
        peak = max(peak, len(+down))
        assert most is None or len(+down) <= most
    assert not +down
    assert same(state.layout(), goal)
    assert not diff(state.layout(), goal)
    assert peak == changes.peak_interruptions
    return Cost(len(changes.interruptions), changes.moved, peak)


@pytest.mark.parametrize("seed", range(8))
def test_no_order_is_better(seed: int) -> None:
    """Against a search through all orders that shares no code, on pairs with little room."""
    rng = random.Random(seed)
    compared = 0
    for _ in range(40):
        base, goal = crowded(rng, most=5)
        most = rng.choice((None, None, 0, 1, 2))
        try:
            best = fewest(base, goal, most=most, states=4_000)
        except TooLargeError:
            continue
        try:
            found = carried_out(diff(base, goal, max_interruptions=most), base, goal, most)
        except InfeasibleError:
            found = None
        assert found == best, (most, base.to_data(), goal.to_data())
        compared += 1
    assert compared > 30


@given(layout_pairs(models=["A30-24GB", "T4"], most_gpus=2), st.sampled_from((None, 0, 1)))
def test_no_order_is_better_on_any_small_pair(pair: tuple[Layout, Layout], most: int | None) -> None:
    try:
        best = fewest(*pair, most=most, states=500)
    except TooLargeError:
        return
    try:
        found = carried_out(diff(*pair, max_interruptions=most), *pair, most)
    except InfeasibleError:
        found = None
    assert found == best


@pytest.mark.parametrize("seed", range(8))
def test_a_second_diff_from_anywhere_on_the_way_ends_at_the_goal(seed: int) -> None:
    rng = random.Random(100 + seed)
    for _ in range(15):
        base, goal = crowded(rng)
        state = State(base)
        steps = diff(base, goal).steps
        for step in steps[: rng.randint(0, len(steps))]:
            state.perform(step)
        now = state.layout()
        carried_out(diff(now, goal), now, goal, None)


@pytest.mark.parametrize(("seed", "most"), [(0, None), (1, None), (2, 3), (3, 1)])
def test_many_gpus(seed: int, most: int | None) -> None:
    """Many replicas move between many GPUs: no longer the best order, but a legal one that ends."""
    rng = random.Random(seed)
    base, goal = fleet_pair(rng, 60)
    try:
        carried_out(diff(base, goal, max_interruptions=most), base, goal, most)
    except InfeasibleError:
        assert most is not None


def fleet_pair(rng: random.Random, gpus: int) -> tuple[Layout, Layout]:
    sides = []
    for _ in range(2):
        cut = [_cut(rng, "A100-80GB", "mig", 0.9) for _ in range(gpus)]
        held: dict[str, list[tuple[int, Placement]]] = {}
        for row, placement in _shuffled(rng, cut):
            held.setdefault(placement.profile.name, []).append((row, placement))
        who = {place: (name, number) for name, places in held.items() for number, place in enumerate(places)}
        sides.append(
            Layout.of(
                GpuLayout("h", row, "A100-80GB", "mig", tuple(Slot(p.profile.name, p.start, *who[row, p]) for p in placed))
                for row, (_, placed) in enumerate(cut)
            )
        )
    return sides[0], sides[1]


def test_independent_exchanges_cost_an_interruption_each_and_one_at_a_time() -> None:
    pairs = range(20)
    seven = "A100-80GB mig 7g.80gb@0=w."
    base = layout({f"a/gpu{i}": f"{seven}{i}" for i in range(2 * len(pairs))})
    goal = layout({f"a/gpu{i}": f"{seven}{i ^ 1}" for i in range(2 * len(pairs))})
    assert carried_out(diff(base, goal, max_interruptions=1), base, goal, 1) == Cost(20, 20, 1)
    with pytest.raises(InfeasibleError, match="interrupts at most 0 at a time"):
        diff(base, goal, max_interruptions=0)


def test_a_quiet_gpu_lends_room_to_every_exchange_of_a_fleet() -> None:
    seven = "A100-80GB mig 7g.80gb@0=w."
    quiet = {"a/gpu99": "A100-80GB mig"}
    base = layout({f"a/gpu{i}": f"{seven}{i}" for i in range(40)} | quiet)
    goal = layout({f"a/gpu{i}": f"{seven}{i ^ 1}" for i in range(40)} | quiet)
    changes = diff(base, goal, max_interruptions=0)
    assert carried_out(changes, base, goal, 0) == Cost(0, 60, 0)


def test_a_circle_with_room_is_broken_before_anybody_is_interrupted() -> None:
    """The exchange of two 7g has room only after the two small ones, in another group, have left the third GPU."""
    base = {f"b/gpu{i}": f"A100-80GB mig 7g.80gb@0=w.{i}" for i in range(2)}
    goal = {f"b/gpu{i}": f"A100-80GB mig 7g.80gb@0=w.{1 - i}" for i in range(2)}
    base |= {"c/gpu0": "A100-80GB mig " + " ".join(f"1g.10gb@{i}=s.{i}" for i in range(7)), "c/gpu1": "A100-80GB mig"}
    goal |= {"c/gpu0": "A100-80GB mig", "c/gpu1": "A100-80GB mig " + " ".join(f"1g.10gb@{i}=s.{i}" for i in range(7))}
    filler = {f"d/gpu{i}": f"A100-80GB mig 1g.10gb@0=f.{i}" for i in range(20)}
    turned = {f"d/gpu{i}": f"A100-80GB mig 1g.10gb@1=f.{i}" for i in range(20)}
    changes = diff(layout(base | filler), layout(goal | turned), max_interruptions=0)
    assert not changes.interruptions


def test_the_same_bytes_in_every_process() -> None:
    """Sets of names have another order in every process; nothing may follow it."""
    script = "import test_changes_sequence as t; print(t.digest())"
    root = Path(__file__).parent
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((str(root), str(root.parent)))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1


def digest() -> str:
    rng = random.Random(5)
    pairs = [crowded(rng) for _ in range(25)] + [fleet_pair(rng, 40)]
    return hashlib.sha256("".join(diff(*pair).to_json() for pair in pairs).encode()).hexdigest()
