"""`verify` accepts every plan and rejects every corrupted one."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_planning import random_case

import partitioner as gp
from partitioner.layout import NOBODY, Pattern
from partitioner.solver import verify
from partitioner.solver.problem import Objective


@pytest.fixture(scope="module")
def plan() -> gp.Plan:
    return gp.plan_mig({"3g.40gb": 3, "2g.20gb": 2, "1g.10gb": 5}, fleet=gp.Fleet.of("A100-80GB", hosts=2, gpus_per_host=3))


def with_layout(plan: gp.Plan, **columns: object) -> gp.Plan:
    return replace(plan, layout=replace(plan.layout, **columns))


def moved(plan: gp.Plan) -> gp.Plan:
    """The first pattern with its placements at starts that overlap."""
    patterns = list(plan.layout.patterns)
    row = next(i for i, p in enumerate(patterns) if len(p.placements) > 1)
    a, b, *rest = patterns[row].placements
    patterns[row] = Pattern(patterns[row].model, patterns[row].mode, (a, replace(b, start=a.start), *rest))
    return with_layout(plan, patterns=tuple(patterns))


def column(plan: gp.Plan, name: str, index: int, value: int) -> gp.Plan:
    changed = getattr(plan.layout, name).copy()
    changed[index] = value
    return with_layout(plan, **{name: changed})


def other_stage(plan: gp.Plan, name: str, value: int, bound: int) -> gp.Plan:
    stages = tuple(Objective(name, value, bound) if s.name == name else s for s in plan.objectives)
    return replace(plan, objectives=stages)


CORRUPTIONS = {
    "overlap": moved,
    "replica twice": lambda p: column(
        column(p, "occupant", 0, int(p.layout.occupant[1])), "replica", 0, int(p.layout.replica[1])
    ),
    "replica too many": lambda p: column(p, "replica", 0, 99),
    "replica dropped": lambda p: column(p, "occupant", 0, NOBODY),
    "occupant out of range": lambda p: column(p, "occupant", 0, 99),
    "GPU twice": lambda p: column(p, "gpu_index", 1, 0),
    "GPU not there": lambda p: column(p, "gpu_index", 1, 7),
    "wrong model": lambda p: with_layout(p, patterns=tuple(replace(x, model="H100-80GB") for x in p.layout.patterns)),
    "fewer GPUs claimed": lambda p: other_stage(p, "gpus", p.gpus_used - 1, p.gpus_used - 1),
    "bound too high": lambda p: other_stage(p, "gpus", p.gpus_used, p.gpus_used + 1),
    "bound not met": lambda p: other_stage(p, "gpus", p.gpus_used, p.gpus_used - 1),
    "more placed claimed": lambda p: other_stage(p, "placed", p.placed + 1, p.placed + 1),
    "no stages": lambda p: replace(p, objectives=()),
    "unknown status": lambda p: replace(p, status="best"),
    "left out, yet placed": lambda p: replace(p, unplaced=(gp.Unplaced("3g.40gb", 1, "", ""),)),
    "left out, never asked for": lambda p: replace(p, unplaced=(gp.Unplaced("x", 1, "", ""),)),
    "other demand": lambda p: replace(p, workloads=(replace(p.workloads[0], profile="4g.40gb"), *p.workloads[1:])),
    "fewer asked for": lambda p: replace(p, workloads=(replace(p.workloads[0], count=1), *p.workloads[1:])),
    "name twice": lambda p: replace(p, workloads=(p.workloads[0], p.workloads[0], *p.workloads[1:])),
    "mode not allowed": lambda p: replace(p, modes=("whole",)),
    "mode fixed": lambda p: replace(p, fleet=gp.Fleet.of("A100-80GB", hosts=2, gpus_per_host=3, mode="whole")),
    "smaller fleet": lambda p: replace(p, fleet=gp.Fleet.of("A100-80GB", gpus_per_host=1)),
    "prices too low": lambda p: replace(p, prices={k: v / 2 for k, v in p.prices.items()}),
    "prices too high": lambda p: replace(p, prices={k: v * 2 for k, v in p.prices.items()}),
    "negative rent": lambda p: replace(p, rents={("A100-80GB", None): Fraction(-1)}),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_plan_is_rejected(plan, name) -> None:
    corrupted = CORRUPTIONS[name](plan)
    with pytest.raises(gp.VerificationError) as caught:
        verify(corrupted)
    assert caught.value.findings


def test_the_plan_itself_is_accepted(plan) -> None:
    verify(plan)


def test_a_rent_proves_nothing_where_gpus_are_unlimited() -> None:
    plan = gp.plan_mig("4g+2g")
    with pytest.raises(gp.VerificationError, match="proves nothing"):
        verify(replace(plan, rents={("A100-80GB", None): Fraction(1)}))


@given(st.integers(0, 10**9))
def test_every_plan_is_accepted_and_its_corruptions_are_rejected(seed) -> None:
    """Whatever the plan, moving one occupant or one count makes it wrong."""
    rng = random.Random(seed)
    workloads, fleet = random_case(rng)
    plan = gp.plan(workloads, fleet=fleet)
    verify(plan)
    if not len(plan.layout.occupant):
        return
    row = rng.randrange(len(plan.layout.occupant))
    wrong = [
        column(plan, "occupant", row, NOBODY),
        column(plan, "replica", row, 1_000),
        other_stage(plan, "placed", plan.placed - 1, plan.placed - 1),
        other_stage(plan, "gpus", plan.gpus_used + 1, plan.gpus_used + 1),
        replace(plan, workloads=tuple(replace(w, count=w.count + 1) for w in plan.workloads)),
    ]
    for corrupted in wrong:
        with pytest.raises(gp.VerificationError):
            verify(corrupted)


def test_a_search_in_one_part_of_a_fleet_and_prices_in_another_make_one_accepted_proof() -> None:
    """The A30 is proven by prices, the A100s (whose prices prove 1 GPU only) by a search."""
    fleet = gp.Fleet((gp.Host("h", {"A30-24GB": 1, "A100-40GB": 2}),))
    plan = gp.plan({"A30-24C": 2, "A30-4C": 2, "3g.20gb": 1, "A100-20C": 1}, fleet=fleet)
    assert (plan.gpus_used, plan.lower_bound, plan.placed, plan.status) == (3, 3, 4, "optimal")
    assert plan.certificate == "configuration LP and branch and bound (SCIP)"


def test_verification_shares_no_code_with_the_solvers() -> None:
    import ast
    from pathlib import Path

    import partitioner.solver.verification as module

    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name for name in imported if name.startswith("partitioner.solver")}
    assert "is_legal" not in ast.dump(tree)
    assert "violation" not in ast.dump(tree)


def test_columns_of_another_length_are_rejected(plan) -> None:
    shorter = with_layout(plan, occupant=plan.layout.occupant[:-1], replica=plan.layout.replica[:-1])
    with pytest.raises(gp.VerificationError):
        verify(shorter)
    assert isinstance(plan.layout.occupant, np.ndarray)
