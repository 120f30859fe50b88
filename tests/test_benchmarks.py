"""The planner's benchmarks: the peers play by the rules and never beat a proven optimum; the commands run and can fail."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import independent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.planner.__main__ import main
from benchmarks.planner.direct import solve_direct
from benchmarks.planner.formula import PROFILES, fewest_gpus, random_demands
from benchmarks.planner.mixes import EVERY_PROFILE, GPU, MIXES, mixes
from benchmarks.planner.peers import BEST_FIT_STARTS, best_fit_decreasing, first_fit
from benchmarks.planner.quality import PEERS, compare
from benchmarks.planner.speed import FORMS, TARGETS, Timing, measure_apart
from benchmarks.planner.tables import seconds, table
from partitioner import GeometryError, PartitionerError, SpecError, Workload, catalog, plan_mig

ARRIVALS = st.lists(st.sampled_from(tuple(EVERY_PROFILE.weights)), min_size=1, max_size=40)
TIMING = Timing("replicas", 1_000_000, 0.1, 0.1, 0.1, 0.9, 1.0, 500.0, 1_000_000, "optimal", 5, 5, "closed form")

peers = pytest.mark.parametrize("peer", [first_fit, best_fit_decreasing])


def asked(profiles: list[str]) -> list[Workload]:
    return [Workload(f"w{number}", profile=profile) for number, profile in enumerate(profiles)]


# -- peers -------------------------------------------------------------------------------------------------------------


@peers
@given(profiles=ARRIVALS)
def test_peers_place_every_replica_legally(peer, profiles):
    packing = peer(profiles, model=GPU)
    layout = packing.layout()  # refuses what is not legal
    rules = independent.rules(GPU)["mig"]
    assert all(independent.legal(rules, [(slot.profile, slot.start) for slot in gpu.slots]) for gpu in layout)
    assert {int(a.workload): a.profile for a in layout.assignments()} == dict(enumerate(profiles))
    assert all(gpu.slots for gpu in layout)
    assert len(layout) == packing.gpus_used


@peers
@given(profiles=ARRIVALS)
def test_no_heuristic_beats_a_proven_optimum(peer, profiles):
    plan = plan_mig(asked(profiles), gpu=GPU)
    assert plan.status == "optimal"
    assert plan.gpus_used == plan.lower_bound <= peer(profiles, model=GPU).gpus_used


@given(profiles=ARRIVALS)
def test_first_fit_is_what_its_definition_says(profiles):
    geometry = catalog.gpu(GPU).geometry("mig")
    gpus: list[list[tuple[str, int]]] = []
    expected = []
    for profile in profiles:
        choices = [
            (gpu, start)
            for gpu, held in enumerate([*gpus, []])
            for start in geometry.profile(profile).starts
            if geometry.is_legal([*held, (profile, start)])
        ]
        gpu, start = min(choices)
        if gpu == len(gpus):
            gpus.append([])
        gpus[gpu].append((profile, start))
        expected.append((gpu, start))
    packing = first_fit(profiles, model=GPU)
    assert list(zip(packing.gpus, packing.starts, strict=True)) == expected


@given(profiles=ARRIVALS)
def test_best_fit_takes_a_gpu_with_the_least_free_room_and_the_preferred_start(profiles):
    geometry = catalog.gpu(GPU).geometry("mig")
    packing = best_fit_decreasing(profiles, model=GPU)
    held: list[list[tuple[str, int]]] = [[] for _ in range(packing.gpus_used)]

    def size(replica: int) -> tuple[int, int]:
        profile = geometry.profile(profiles[replica])
        return -profile.extent, -profile.compute_slices

    def free(gpu: int) -> int:
        return geometry.units - sum(geometry.profile(name).extent for name, _ in held[gpu])

    def starts(gpu: int, name: str) -> list[int]:
        return [s for s in BEST_FIT_STARTS if s in geometry.profile(name).starts and geometry.is_legal([*held[gpu], (name, s)])]

    for replica in sorted(range(len(profiles)), key=size):
        name, gpu = profiles[replica], packing.gpus[replica]
        assert free(gpu) == min(free(g) for g in range(packing.gpus_used) if starts(g, name))
        assert packing.starts[replica] == starts(gpu, name)[0]
        held[gpu].append((name, packing.starts[replica]))


def test_heuristics_miss_the_optimum_where_pairs_strand_a_slice():
    profiles = ["3g.40gb"] * 10 + ["1g.10gb"] * 40
    assert plan_mig(asked(profiles), gpu=GPU).gpus_used == 10
    assert best_fit_decreasing(profiles, model=GPU).gpus_used == 11


@peers
def test_peers_refuse_a_profile_that_the_gpu_has_not(peer):
    with pytest.raises(GeometryError, match=r"5g\.50gb"):
        peer(["5g.50gb"], model=GPU)


@given(profiles=st.lists(st.sampled_from(tuple(EVERY_PROFILE.weights)), min_size=1, max_size=8), totals=st.booleans())
def test_direct_model_agrees_with_the_planner(profiles, totals):
    gpus = best_fit_decreasing(profiles, model=GPU).gpus_used
    answer = solve_direct(profiles, model=GPU, gpus=gpus, totals=totals, time_limit_s=30, seed=1)
    assert answer.proven
    assert answer.gpus == plan_mig(asked(profiles), gpu=GPU).gpus_used


def test_direct_model_says_when_the_gpus_are_too_few():
    assert solve_direct(["7g.80gb"] * 2, model=GPU, gpus=1, totals=False, time_limit_s=30, seed=1).gpus is None


def test_direct_model_keeps_to_the_engines_of_the_gpu():
    # Two 3g.40gb and a 1g.10gb+me would fit by slices; the geometry, not the model, says whether engines allow it.
    geometry = catalog.gpu(GPU).geometry("mig")
    for names in (["1g.10gb+me"] * 2, ["3g.40gb", "1g.20gb", "1g.20gb", "1g.10gb+me"], ["4g.40gb", "2g.20gb", "1g.10gb+me"]):
        answer = solve_direct(names, model=GPU, gpus=2, totals=True, time_limit_s=30, seed=1)
        assert (answer.gpus == 1) == (geometry.layout_of(Counter(names)) is not None)


# -- formula -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any))
def test_formula_gives_the_planners_optimum(demand):
    plan = plan_mig({name: count for name, count in zip(PROFILES, demand, strict=True) if count}, gpu=GPU)
    assert (plan.status, plan.gpus_used) == ("optimal", fewest_gpus(demand))


def test_random_demands_are_repeatable_and_of_all_sizes():
    demands = random_demands(500, seed=3)
    assert demands == random_demands(500, seed=3) != random_demands(500, seed=4)
    assert all(any(demand) for demand in demands)
    assert min(map(sum, demands)) < 10
    assert max(map(sum, demands)) > 100_000


# -- mixes -------------------------------------------------------------------------------------------------------------


def test_a_mix_draws_by_weight_and_seed():
    adverse = mixes(["adverse"])[0]
    drawn = adverse.draw(10_000, seed=1)
    assert drawn == adverse.draw(10_000, seed=1) != adverse.draw(10_000, seed=2)
    assert 7_800 < Counter(drawn)["1g.10gb"] < 8_200
    assert set(drawn) == {"1g.10gb", "3g.40gb"}


def test_an_unknown_mix_is_refused_with_a_hint():
    with pytest.raises(SpecError, match="'uniform'"):
        mixes(["unifrom"])


def test_comparison_reports_the_peers_own_figures():
    result = compare(MIXES[0], 60, seed=5)
    profiles = MIXES[0].draw(60, seed=5)
    assert result.status == "optimal"
    assert result.planner.gpus == result.bound
    assert {name: peer.gpus for name, peer in result.peers.items()} == {
        name: peer(profiles, model=GPU).gpus_used for name, peer in PEERS.items()
    }


# -- speed -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_speed_is_measured_in_a_process_of_its_own(form):
    timing = measure_apart(form, 10, seed=1)
    plan = plan_mig(asked(EVERY_PROFILE.draw(10, seed=1)), gpu=GPU)
    assert (timing.form, timing.size, timing.placements) == (form, 10, 10)
    assert (timing.gpus, timing.bound, timing.status) == (plan.gpus_used, plan.lower_bound, "optimal")
    assert 20 < timing.memory_mib < 1024
    assert min(timing.import_s, timing.first_s, timing.plan_s) > 0


def test_a_process_that_fails_is_reported_with_its_words():
    with pytest.raises(PartitionerError, match=r"speed of 0 replicas.*no workloads"):
        measure_apart("replicas", 0, seed=1)


def test_a_target_is_missed_by_time_memory_proof_or_placements():
    assert TIMING.target == TARGETS["replicas", 1_000_000]
    assert TIMING.holds
    for missed in ({"plan_s": 1.1}, {"memory_mib": 1025.0}, {"status": "feasible"}, {"bound": 4}, {"placements": 999_999}):
        assert not replace(TIMING, **missed).holds
    assert replace(TIMING, size=10, plan_s=1.1, placements=10).holds  # no target


# -- commands and tables -----------------------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]


def test_speed_prints_one_row_for_each_case(capsys):
    assert main(["speed", "--sizes", "1", "20", "--forms", "replicas", "workloads"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("`python -m benchmarks.planner speed --sizes 1 20 --forms replicas workloads`\n")
    assert [row[0] for row in cells(text)] == ["input", "1 replica", "20 replicas", "1 workload", "20 workloads"]
    assert {row[4] for row in cells(text)[1:]} == {"yes"}


def test_quality_prints_heuristics_and_direct_model(capsys):
    arguments = ["quality", "--sizes", "30", "--mixes", "adverse", "--direct", "6", "--time-limit-s", "20", "--seed", "2"]
    assert main(arguments) == 0
    heads, heuristics, direct_heads, plain, with_totals = cells(capsys.readouterr().out)
    assert len(heads) == len(heuristics)
    assert len(direct_heads) == len(plain) == len(with_totals)
    assert heuristics[:2] == ["adverse", "30"]
    assert heuristics[2] == heuristics[3]
    for row, kind in ((plain, "plain"), (with_totals, "with totals")):
        assert (row[0], row[1], row[4], row[7]) == ("adverse", "6", kind, "yes")
        assert row[2] == row[5] == row[6]


def test_quality_without_the_direct_model(capsys):
    assert main(["quality", "--sizes", "10", "--mixes", "uniform", "--direct"]) == 0
    assert len(cells(capsys.readouterr().out)) == 2


def test_closed_form_prints_how_many_agree(capsys):
    assert main(["closed-form", "--demands", "25"]) == 0
    assert cells(capsys.readouterr().out)[1][:2] == ["25", "25"]


def test_closed_form_ends_with_1_where_formula_and_planner_differ(capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.planner.formula.PRICES", (((1, 2, 2, 4, 4, 8), 8),))  # memory alone is no bound that is met
    assert main(["closed-form", "--demands", "25"]) == 1


def test_wrong_input_ends_with_2_and_one_line(capsys):
    assert main(["quality", "--mixes", "none"]) == 2
    assert capsys.readouterr().err.startswith("unknown mix 'none'")
    for arguments in (["speed", "--sizes", "0"], ["quality", "--time-limit-s", "nan"], ["closed-form", "--seed", "-1"], []):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


def test_tables_are_markdown():
    assert table(["a", "b"], [["x|y", 1234], ["z", "1 s"]]) == "| a | b |\n|---|--:|\n| x\\|y | 1,234 |\n| z | 1 s |"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00 ms"), (0.0123, "12.3 ms"), (0.5, "500 ms"), (1.0, "1.00 s"), (75.31, "75.3 s")]
)
def test_durations_have_the_unit_people_use(value, text):
    assert seconds(value) == text
