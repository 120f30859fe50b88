"""The planner's benchmarks: the peers play by the rules and never beat a proven optimum; the commands run and can fail."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import independent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.planner.__main__ import main
from benchmarks.planner.direct import solve_direct
from benchmarks.planner.fleets import (
    CASES,
    HOST_RAM_GIB,
    HOST_VCPUS,
    HOSTS_FIRST,
    SPREADS,
    Case,
    Outcome,
    asked_of_hosts,
    cases,
    exclusions,
    inventory,
    limited_hosts,
    many_demands,
    run,
    spread,
)
from benchmarks.planner.formula import PROFILES, fewest_gpus, random_demands
from benchmarks.planner.mixes import EVERY_PROFILE, GPU, MIXES, mixes
from benchmarks.planner.peers import BEST_FIT_STARTS, best_fit_decreasing, first_fit
from benchmarks.planner.quality import PEERS, Rival, compare
from benchmarks.planner.service_peers import SERVICE_PEERS, ServicePacking, mig_serving, short_of_rate
from benchmarks.planner.service_quality import ServiceComparison, compare_services
from benchmarks.planner.services import BY_SIZE, MIG, SCENARIOS, SIZES, Ratings, Service, Size, draw, sizes, slice_share
from benchmarks.planner.speed import FORMS, TARGETS, Timing, measure_apart
from benchmarks.planner.tables import seconds, table
from partitioner import GeometryError, PartitionerError, SpecError, Workload, catalog, plan, plan_mig

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


# -- services ----------------------------------------------------------------------------------------------------------

RATINGS = Ratings()
SMALL = Size(3, 3, 20.0, 0.0)

service_peers = pytest.mark.parametrize("peer", SERVICE_PEERS.values(), ids=SERVICE_PEERS)


def test_services_are_repeatable_and_of_the_size_asked_for():
    size = SIZES["100"]
    services = draw(size, scenario="batch", ratings=RATINGS, seed=3)
    assert (
        services == draw(size, scenario="batch", ratings=RATINGS, seed=3) != draw(size, scenario="batch", ratings=RATINGS, seed=4)
    )
    assert len(services) == len({service.name for service in services}) == 100
    assert {service.model for service in services} == set(RATINGS.models)
    needed = sum(
        service.rate / max(served / slice_share(profile) for profile, served in RATINGS.throughputs(service).items())
        for service in services
    )
    assert needed == pytest.approx(size.gpus, rel=0.005)  # rates are rounded


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_services_can_be_served_and_become_workloads(scenario):
    for service in draw(SMALL, scenario=scenario, ratings=RATINGS, seed=1):
        assert RATINGS.throughputs(service)
        assert service.latency_ms >= RATINGS.lowest_latency(service.model, scenario)
        workload = service.workload()
        assert (workload.model, workload.rate, workload.latency_ms) == (service.model, service.rate, service.latency_ms)
        assert (workload.name, workload.scenario, workload.count) == (service.name, scenario, 1)


def test_ratings_are_the_calibrations():
    service = Service("a", "resnet50", 100.0, 30.0, "batch")
    served = RATINGS.throughputs(service)
    assert list(served) == [profile for profile in BY_SIZE if profile in served]
    for profile in BY_SIZE:
        rating = RATINGS.calibration.best("resnet50", GPU, profile, latency_ms=30.0, scenario="batch")
        assert served.get(profile) == (rating.throughput_rps if rating else None)


def test_an_unreachable_latency_is_refused():
    with pytest.raises(SpecError, match=r"service 'a'.*'resnet50' in 0\.1 ms"):
        RATINGS.throughputs(Service("a", "resnet50", 100.0, 0.1, "batch"))
    for peer in SERVICE_PEERS.values():
        with pytest.raises(SpecError, match="service 'a'"):
            peer([Service("a", "resnet50", 100.0, 0.1, "batch")], RATINGS)


@service_peers
@given(services=st.integers(1, 12), gpus=st.integers(1, 25), seed=st.integers(0, 1000))
def test_service_peers_are_legal_and_meet_all_rates(peer, services, gpus, seed):
    asked = draw(Size(services, gpus, 1.0, 0.0), scenario="batch", ratings=RATINGS, seed=seed)
    packing = peer(asked, RATINGS)
    layout = packing.layout(asked)  # refuses what is not legal
    rules = independent.rules(GPU)
    assert all(independent.legal(rules[gpu.mode], [(slot.profile, slot.start) for slot in gpu.slots]) for gpu in layout)
    assert len(layout) == packing.gpus_used
    assert all(gpu.slots for gpu in layout)
    assert short_of_rate(layout, asked, RATINGS) == []


@service_peers
@pytest.mark.parametrize("seed", range(3))
def test_no_service_peer_is_below_the_proven_bound(peer, seed):
    asked = draw(SMALL, scenario="batch", ratings=RATINGS, seed=seed)
    answer = plan([service.workload() for service in asked], gpu=GPU, modes=("mig", "whole"))
    assert answer.status == "optimal"
    assert answer.lower_bound <= peer(asked, RATINGS).gpus_used
    assert short_of_rate(answer.layout, asked, RATINGS) == []


def test_what_is_served_too_little_is_found():
    asked = draw(SMALL, scenario="batch", ratings=RATINGS, seed=1)
    packing = mig_serving(asked, RATINGS)
    fewer = ServicePacking(packing.gpus[:-1])
    assert short_of_rate(fewer.layout(asked), asked, RATINGS)


def test_the_greedy_takes_the_gpu_that_scores_most():
    """By hand: every maximal configuration with every choice of services, for the first GPU of two services."""
    asked = draw(Size(2, 5, 1.0, 0.0), scenario="batch", ratings=RATINGS, seed=2)
    share = {(p, n): RATINGS.throughput(service, p) / service.rate for p in BY_SIZE for n, service in enumerate(asked)}

    def score(instances):
        added = [sum(share[profile, number] for profile, number in instances if number == n) for n in range(2)]
        return sum(min(1.0, one) for one in added)  # nothing is served yet, so what is missing weighs 1

    choices = [[p for p, count in c.items() for _ in range(count)] for c in (*MIG.configurations(maximal=True), {"whole": 1})]
    best = max(score(list(zip(c, who, strict=True))) for c in choices for who in product(range(2), repeat=len(c)))
    first = mig_serving(asked, RATINGS).gpus[0]
    assert score([(profile, number) for profile, _, number in first]) == pytest.approx(best)


def test_comparison_of_services_is_consistent():
    result = compare_services(SMALL, scenario="batch", seed=1)
    asked = draw(SMALL, scenario="batch", ratings=RATINGS, seed=1)
    assert result.holds
    assert (result.planner.gpus, result.gap) == (result.bound, 0.0)
    assert {name: peer.gpus for name, peer in result.peers.items()} == {
        name: peer(asked, RATINGS).gpus_used for name, peer in SERVICE_PEERS.items()
    }
    assert min(result.planner.seconds, result.rating_s) > 0


def test_a_comparison_of_services_fails_by_time_gap_proof_rates_or_a_peer_below_the_bound():
    peers = {"one": Rival(11, 0.1)}
    good = ServiceComparison(SIZES["11"], "batch", Rival(10, 1.05), 10, "optimal", "configuration LP", 0.1, peers, ())
    assert good.holds
    for wrong in (
        {"planner": Rival(10, 1.2)},
        {"planner": Rival(11, 1.0)},
        {"status": "feasible"},
        {"short": ("a",)},
        {"peers": {"one": Rival(9, 0.1)}},
    ):
        assert not replace(good, **wrong).holds
    near = replace(good, size=SIZES["100"], planner=Rival(10_005, 30.0), bound=10_000, status="feasible", peers={})
    assert near.holds
    assert not replace(near, planner=Rival(10_006, 30.0)).holds


def test_an_unknown_size_is_refused():
    assert sizes(["24", "11"]) == (SIZES["24"], SIZES["11"])
    with pytest.raises(SpecError, match="unknown size '12'"):
        sizes(["12"])


# -- fleets ------------------------------------------------------------------------------------------------------------


def test_demands_are_distinct_repeatable_and_as_many_as_asked_for():
    case = many_demands(seed=1, demands=200, replicas=1_010)
    assert case == many_demands(seed=1, demands=200, replicas=1_010) != many_demands(seed=2, demands=200, replicas=1_010)
    asked = {(w.memory_gib, w.compute_slices, w.gpu_share, w.isolation) for w in case.workloads}
    assert len(asked) == len(case.workloads) == 200
    assert case.replicas == 1_010
    assert {w.isolation for w in case.workloads} == {"any", "hardware"}
    assert len({gpu.model for _, _, gpu in case.fleet}) == 6


def test_an_inventory_has_whole_hosts_of_each_model():
    fleet = inventory(100)
    assert {len(host.gpus) for host in fleet.hosts} == {8}
    assert Counter(gpu.model for _, _, gpu in fleet) == {
        "A100-80GB": 40, "A100-40GB": 16, "H100-80GB": 24, "A30-24GB": 16, "L40S": 16, "T4": 16
    }  # fmt: skip


def test_limits_of_hosts_bind_before_gpus_do():
    case = limited_hosts(seed=1, replicas=20_000)
    assert case.replicas == 20_000
    assert len(case.workloads) == 72
    unlimited = plan_mig(profiles_of(case), gpu=GPU).lower_bound / 8
    vcpus, ram = asked_of_hosts(case.workloads)
    assert unlimited < 0.9 * min(vcpus / HOST_VCPUS, ram / HOST_RAM_GIB)
    assert max(vcpus / HOST_VCPUS, ram / HOST_RAM_GIB) < len(case.fleet.hosts)


def profiles_of(case: Case) -> Counter[str]:
    found: Counter[str] = Counter()
    for workload in case.workloads:
        found[workload.profile] += workload.count
    return found


def test_spreads_fit_and_some_need_more_gpus_than_without():
    for (gpus, profiles), case in zip(SPREADS, spread(), strict=True):
        assert case.gpus == gpus
        assert [(w.profile, w.count, w.spread) for w in case.workloads] == [(profile, 50, "gpu") for profile in profiles]
        assert plan_mig(profiles_of(case), gpu=GPU).gpus_used <= gpus
    assert [plan_mig(profiles_of(case), gpu=GPU).gpus_used for case in spread()] == [50, 50, 58, 58, 58]
    assert [run(case, seed=0).stages["gpus"][0] for case in spread()] == [50, 50, 58, 60, 59]


def test_exclusions_name_each_pair_once():
    case = exclusions(seed=1)
    assert case == exclusions(seed=1) != exclusions(seed=2)
    pairs = [frozenset((w.name, other)) for w in case.workloads for other in w.apart_from]
    assert len(pairs) == len(set(pairs))
    assert all(len(pair) == 2 for pair in pairs)
    assert 0.1 < len(pairs) / (30 * 29 / 2) < 0.3
    assert 70 < plan_mig(profiles_of(case), gpu=GPU).gpus_used < 100


@pytest.mark.parametrize(
    "case",
    [
        many_demands(seed=1, demands=20, replicas=100),
        limited_hosts(seed=1, replicas=20),
        limited_hosts(seed=1, replicas=20, objective=HOSTS_FIRST),
        spread(replicas=8)[2],
        exclusions(seed=1, workloads=6, gpus=10),
    ],
    ids=lambda case: case.name,
)
def test_small_fleets_are_planned_as_wanted(case):
    outcome = run(replace(case, seconds=30.0), seed=0)
    assert outcome.holds
    assert outcome.placed == case.replicas
    assert list(outcome.stages) == list(case.objective)
    assert all(bound <= value for name, (value, bound) in outcome.stages.items() if name != "placed")


def test_an_outcome_fails_by_time_gap_proof_or_what_is_left_out():
    case = exclusions(seed=1)
    good = Outcome(case, case.replicas, {"gpus": (102, 100)}, "feasible", "", 10.5)
    assert good.holds
    assert good.gap == pytest.approx(0.02)
    for wrong in (
        {"plan_s": 11.1},
        {"stages": {"gpus": (103, 100)}},
        {"placed": case.replicas - 1},
        {"case": replace(case, gap=0.0)},
    ):
        assert not replace(good, **wrong).holds


def test_an_unknown_case_is_refused_and_none_means_all():
    assert {case.name for case in cases([], seed=1)} >= {case.name for case in cases(["spread", "few-hosts"], seed=1)}
    with pytest.raises(SpecError, match=r"unknown case 'spraed'.*'spread'"):
        cases(["spraed"], seed=1)


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


def test_services_prints_the_planner_and_its_peers(capsys, monkeypatch):
    monkeypatch.setitem(SIZES, "3", SMALL)
    assert main(["services", "--sizes", "3", "--scenarios", "batch", "--seed", "1"]) == 0
    heads, row, rival_heads, rivals = cells(capsys.readouterr().out)
    assert len(heads) == len(row)
    assert len(rival_heads) == len(rivals)
    assert row[:2] == rivals[:2] == ["3", "batch"]
    assert row[2] == row[3] == rivals[2] == rivals[3]
    assert rivals[4] == "+0 (+0.00%)"
    assert all(name in rival_heads for name in SERVICE_PEERS)


def test_fleets_prints_a_row_for_each_case_and_ends_with_1_where_one_does_not_hold(capsys, monkeypatch):
    small = exclusions(seed=1, workloads=6, gpus=10)
    monkeypatch.setitem(CASES, "small", lambda _: (small,))
    assert main(["fleets", "--cases", "small"]) == 0
    heads, row = cells(capsys.readouterr().out)
    assert len(heads) == len(row)
    assert (row[0], row[2], row[3], row[-1]) == (small.name, str(small.replicas), str(small.replicas), "yes")
    monkeypatch.setitem(CASES, "small", lambda _: (replace(small, seconds=1e-6),))
    assert main(["fleets", "--cases", "small"]) == 1
    assert cells(capsys.readouterr().out)[1][-1] == "NO"


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
