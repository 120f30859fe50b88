"""The benchmark of online placement: arrivals are what they are said to be, the bound is one, verdicts can fail."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.planner.__main__ import main
from benchmarks.planner.formula import PROFILES, fewest_gpus
from benchmarks.planner.online import (
    BOUND,
    ONLINE_MIXES,
    OURS,
    RIVALS,
    Contest,
    Placing,
    Request,
    Score,
    Unlimited,
    arrivals,
    contest,
    fleet_of,
    online_mixes,
    simulate,
    slices_of,
)
from benchmarks.planner.online_speed import TARGETS, Speed, measure_speed
from partitioner import SpecError

UNIFORM = ONLINE_MIXES[0]


def score(accepted: int, slices: int, migrations: int = 0) -> Score:
    return Score(1_000, accepted, 1_000, slices, migrations)


def judged(**changes: Score) -> Contest:
    scores = {name: score(900, 800) for name in RIVALS}
    scores |= {OURS: score(960, 900), f"{OURS}, moving": score(955, 920, 30), BOUND: score(965, 930)}
    return Contest("uniform", 1.0, 100, 5, scores | {name.replace("_", "-"): value for name, value in changes.items()})


@pytest.mark.parametrize("mix", ONLINE_MIXES, ids=lambda mix: mix.name)
def test_arrivals_offer_the_load_that_was_asked_for(mix):
    requests = arrivals(mix, 20_000, load=0.8, gpus=50, seed=3)
    slices = slices_of(mix.weights)
    offered = sum((r.until - r.at) * slices[r.profile] for r in requests) / requests[-1].at / (50 * 8)
    assert offered == pytest.approx(0.8, rel=0.05)
    assert all(a.at <= b.at for a, b in pairwise(requests))
    assert requests == arrivals(mix, 20_000, load=0.8, gpus=50, seed=3)
    assert requests != arrivals(mix, 20_000, load=0.8, gpus=50, seed=4)


def test_the_bound_accepts_exactly_what_the_formula_says_fits():
    contestant, numbers, running = Unlimited(5, UNIFORM), random.Random(5), []
    refused = 0
    for _ in range(3_000):
        if running and numbers.random() < 0.45:
            contestant.leave(running.pop(numbers.randrange(len(running)))[0])
            continue
        profile = numbers.choice(PROFILES)
        demand = [sum(name == held for _, held in running) + (name == profile) for name in PROFILES]
        number = contestant.arrive(profile)
        assert (number is not None) == (fewest_gpus(demand) <= 5)
        refused += number is None
        if number is not None:
            running.append((number, profile))
    assert refused > 100


def test_a_simulation_counts_after_its_warm_up_and_frees_what_leaves():
    requests = [
        Request(0.0, 0.5, "7g.80gb"),
        Request(0.1, 9.0, "1g.10gb"),
        Request(0.6, 9.0, "7g.80gb"),
        Request(0.7, 1, "1g.10gb"),
    ]
    found = simulate(Placing("first-fit", 1, UNIFORM), requests, warm_up=1)
    assert (found.offered, found.accepted, found.offered_slices, found.accepted_slices) == (3, 1, 10, 8)
    assert (found.requests, found.slices) == (1 / 3, 0.8)


def test_moving_accepts_more_slices_at_the_price_of_migrations():
    found = contest(UNIFORM, load=1.0, gpus=20, n=3_000, seeds=(1, 2), budget=4)
    still, moving, bound = found.scores[OURS], found.moving, found.scores[BOUND]
    assert still.offered == moving.offered == bound.offered == 6_000
    assert still.migrations == 0 < moving.migrations <= 4 * (moving.offered - still.accepted)
    assert still.slices < moving.slices <= bound.slices
    assert found.gap_closed > 0.5
    assert found.scores[OURS].requests > found.scores["first-fit"].requests
    assert found.scores[OURS].slices > max(found.scores[name].slices for name in RIVALS)


def test_verdicts_can_fail():
    assert judged().holds
    assert not judged(best_fit=score(961, 800)).holds  # a rival accepts more
    assert not judged(keep_room=score(952, 900)).holds  # less than was known before
    assert not replace(judged(), scores={**judged().scores, f"{OURS}, moving": score(955, 914)}).holds
    assert judged(best_fit=score(961, 800)).judged
    assert replace(judged(best_fit=score(961, 800)), load=0.9).holds  # nothing is promised there
    assert judged().gap_closed == pytest.approx(2 / 3)
    assert judged().moving.migrations_per_accepted == pytest.approx(30 / 955)
    speed = Speed(1_000, OURS, 100, 1.0, TARGETS[1_000], 1.0, 1.0)
    assert speed.holds
    assert not replace(speed, per_s=TARGETS[1_000] - 1).holds
    assert replace(speed, gpus=7, per_s=1.0).holds


def test_speed_is_measured_beside_two_baselines():
    found = measure_speed(20, operations=400, rounds=1)
    assert found.operations == 400
    assert 0.5 < found.accepted <= 1
    assert min(found.per_s, found.scan_per_s, found.dict_per_s) > 0


def test_fleets_have_as_many_gpus_as_wanted():
    assert [len(fleet_of(gpus)) for gpus in (1, 8, 100)] == [1, 8, 100]


def test_the_command_prints_tables_and_refuses_what_it_does_not_know(capsys):
    small = ["--gpus", "10", "--requests", "300", "--seeds", "1", "--budget", "2", "--speed", "10"]
    assert main(["online", "--mixes", "bimodal", "--loads", "0.7", *small]) == 0
    out = capsys.readouterr().out
    assert "unlimited migration" in out
    assert "| bimodal | 0.7 |" in out
    assert out.count("| keep-room |") == 2 + 1
    assert main(["online", "--mixes", "tiny", "--speed"]) == 2
    assert "unknown mix 'tiny'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["online", "--loads", "0"])
    with pytest.raises(SpecError, match="unknown mix"):
        online_mixes(["x"])
