"""Scenarios and studies: every spelling of the sources is read, files read back the same, all that is wrong is said at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.load.values import MODES
from benchmarks.scenarios import T4_VGPU, TABLE_2, Instance, Scenario, Study
from benchmarks.scenarios.entries import Modes
from benchmarks.scenarios.study import schema
from partitioner import Fleet, Workload, catalog, plan, plan_mig
from partitioner.errors import GeometryError, SpecError
from partitioner.layout import GpuLayout, Layout, Slot

SPELLINGS = [
    ("4g+2g+1g", "4g+2g+1g", ("4g.40gb", "2g.20gb", "1g.10gb"), (0, 4, 6)),
    ("1g + 4g + 2g", "4g+2g+1g", ("4g.40gb", "2g.20gb", "1g.10gb"), (0, 4, 6)),
    ("7x1g", "7x1g", ("1g.10gb",) * 7, tuple(range(7))),
    ("1g*7", "7x1g", ("1g.10gb",) * 7, tuple(range(7))),
    ("MIG nvidia-1-10c* 7", "7x1g", ("1g.10gb",) * 7, tuple(range(7))),
    ("3 x 2g + 1g", "2g+2g+2g+1g", ("2g.20gb", "2g.20gb", "2g.20gb", "1g.10gb"), (0, 2, 4, 6)),
    ("MIG nvidia-4-40c + nvidia-2-20c + nvidia-1-10c", "4g+2g+1g", ("4g.40gb", "2g.20gb", "1g.10gb"), (0, 4, 6)),
    ("3g.39gb + 1g.20gb", "3g+1g.20gb", ("1g.20gb", "3g.40gb"), None),
    ("7g.79gb", "7g", ("7g.80gb",), (0,)),
    ("whole", "whole", ("whole",), (0,)),
]


@pytest.mark.parametrize(("text", "name", "profiles", "starts"), SPELLINGS)
def test_every_spelling_of_a_mig_scenario(
    text: str, name: str, profiles: tuple[str, ...], starts: tuple[int, ...] | None
) -> None:
    scenario = Scenario.parse(text, gpu="NVIDIA A100 80GB PCIe")
    assert (str(scenario), scenario.gpu) == (name, "A100-80GB")
    assert sorted(scenario.profiles) == sorted(profiles)
    if starts is not None:
        assert (scenario.profiles, tuple(i.start for i in scenario.instances)) == (profiles, starts)


def test_table_2_of_the_source_in_its_order() -> None:
    assert [str(scenario) for scenario in TABLE_2] == ["7g", "4g", "3g", "2g", "1g", "4g+2g+1g", "2g+2g+2g+1g", "7x1g"]
    assert [len(scenario.instances) for scenario in TABLE_2] == [1, 1, 1, 1, 1, 3, 4, 7]
    assert [scenario.uniform for scenario in TABLE_2] == [True] * 5 + [False, False, True]
    geometry = catalog.gpu("A100-80GB").geometry("mig")
    for scenario in TABLE_2:
        assert geometry.is_legal((instance.profile, instance.start) for instance in scenario.instances)


def test_vgpus_of_a_t4_take_the_fewest_gpus_and_each_gpu_keeps_to_one_size() -> None:
    by_name = {str(scenario): scenario for scenario in T4_VGPU}
    assert len(by_name["T4-16Q"].gpus) == 1
    assert len(by_name["4xT4-16Q"].gpus) == 4
    assert by_name["16xT4-1Q"].shares() == (1 / 16,) * 16
    mixed = by_name["2xT4-16Q+2xT4-8Q+4xT4-4Q"]
    assert len(mixed.gpus) == 4
    assert mixed.shares() == (1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25)
    for gpu in mixed.gpus:
        assert len({instance.profile for instance in mixed.instances if instance.board == gpu}) == 1


@pytest.mark.parametrize("scenario", [*TABLE_2, *T4_VGPU], ids=str)
def test_names_read_back_and_shares_fill_at_most_their_gpus(scenario: Scenario) -> None:
    assert Scenario.parse(scenario.name, gpu=scenario.gpu) == scenario
    assert Scenario.from_data(json.loads(json.dumps(scenario.to_data()))) == scenario
    for gpu in scenario.gpus:
        shares = [share for share, i in zip(scenario.shares(), scenario.instances, strict=True) if i.board == gpu]
        assert 0 < sum(shares) <= 1 + 1e-9
    assert len({instance.name for instance in scenario.instances}) == len(scenario.instances)


def test_shares_are_compute_slices_of_mig_and_units_of_vgpus() -> None:
    assert Scenario.parse("4g+2g+1g").shares() == (4 / 7, 2 / 7, 1 / 7)
    assert Scenario.parse("1g.20gb").shares() == (1 / 7,)
    assert Scenario.parse("2g", gpu="A30").shares() == (0.5,)
    assert Scenario.parse("2xA100D-10C + A100D-40C").shares() == (0.5, 0.125, 0.125)


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("4g+4g", {}, ["'4g+4g'", "does not fit on 1 x A100-80GB", "4g: 1 left out", "gpus="]),
        ("8x1g", {}, ["8x1g", "1 left out"]),
        ("5g", {}, ["unknown profile '5g'", "4g.40gb"]),
        ("4xT4-16Q", {}, ["unknown profile 'T4-16Q'", "GPUs that have it: T4"]),
        ("4xT4-16Q", {"gpu": "T4", "gpus": 2}, ["2 x T4", "2 left out"]),
        ("4g+", {}, ["'4g+'", "write e.g."]),
        ("1c.3g.40gb", {}, ["compute instance", "3g.40gb"]),
        ("7g", {"gpu": "A100-81GB"}, ["unknown GPU 'A100-81GB'", "A100-80GB"]),
        ("workloads.yaml", {}, ["unknown profile 'workloads.yaml'"]),
        (7, {}, ["7", "int", "write e.g."]),
    ],
)
def test_what_does_not_fit_or_is_not_understood_is_said(text: str, arguments: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        Scenario.parse(text, **arguments)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


def test_several_gpus_only_where_they_are_given_for_mig() -> None:
    scenario = Scenario.parse("28x1g", gpus=4)
    assert scenario.gpus == ((None, 0), (None, 1), (None, 2), (None, 3))
    assert [instance.start for instance in scenario.instances] == [*range(7)] * 4
    assert scenario.instances[-1].name == "1g.10gb#28"


@given(st.sampled_from(catalog.gpu("A100-80GB").geometry("mig").configurations()[:-1]))
@settings(max_examples=25, deadline=None)
def test_every_configuration_of_an_a100_is_a_scenario_that_reads_back(configuration: dict[str, int]) -> None:
    scenario = Scenario.parse("+".join(f"{count}x{name}" for name, count in configuration.items()))
    assert sorted(scenario.profiles) == sorted(name for name, count in configuration.items() for _ in range(count))
    assert Scenario.parse(str(scenario)) == scenario


def test_a_plan_with_hosts_is_a_scenario_sorted_by_host_gpu_and_start() -> None:
    fleet = Fleet.of("A100-80GB", hosts=("esx-02", "esx-01"), gpus_per_host=1)
    answer = plan([Workload("chat", profile="4g.40gb", count=2), Workload("embed", profile="3g.40gb", count=2)], fleet=fleet)
    scenario = Scenario.from_plan(answer, name="two hosts")
    assert [(i.host, i.gpu, i.profile, i.start) for i in scenario.instances] == [
        ("esx-01", 0, "4g.40gb", 0),
        ("esx-01", 0, "3g.40gb", 4),
        ("esx-02", 0, "4g.40gb", 0),
        ("esx-02", 0, "3g.40gb", 4),
    ]
    assert scenario.name == "two hosts"
    assert [i.name for i in scenario.instances] == ["4g.40gb", "3g.40gb", "4g.40gb#2", "3g.40gb#2"]
    assert Scenario.from_data(scenario.to_data()) == scenario
    assert Scenario.from_layout(answer.layout.only([("esx-01", 0)])).name == "4g+3g"


def test_a_layout_of_several_models_is_taken_one_model_at_a_time() -> None:
    layout = Layout.of(
        [
            GpuLayout("a", 0, "A100-80GB", "mig", (Slot("7g.80gb", 0),)),
            GpuLayout("a", 1, "T4", "whole", (Slot("whole", 0),), uuid="GPU-1"),
            GpuLayout("a", 2, "T4", None),
        ]
    )
    with pytest.raises(SpecError, match="several models, A100-80GB and T4; take one of them with gpu="):
        Scenario.from_layout(layout)
    assert str(Scenario.from_layout(layout, gpu="A100D")) == "7g"
    whole = Scenario.from_layout(layout, gpu="T4")
    assert (whole.instances[0].uuid, whole.instances[0].gpu, whole.mode) == ("GPU-1", 1, "whole")
    with pytest.raises(SpecError, match="no instances on L4"):
        Scenario.from_layout(layout, gpu="L4")


@pytest.mark.parametrize(("state", "word"), [({"ready": False}, "is not finished"), ({"busy": True}, "is used by a process")])
def test_an_instance_that_cannot_be_measured_is_named(state: dict[str, bool], word: str) -> None:
    layout = Layout.of([GpuLayout("a", 3, "A100-80GB", "mig", (Slot("3g.40gb", 4, **state),))])  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=rf"a/gpu3 \(A100-80GB\) - 3g\.40gb@4 {word}"):
        Scenario.from_layout(layout)


def test_modes_that_cannot_be_told_apart_are_refused() -> None:
    layout = Layout.of(
        [
            GpuLayout(None, 0, "L4", "vgpu-equal-12", (Slot("L4-12Q", 0),)),
            GpuLayout(None, 1, "L4", "vgpu-mixed", (Slot("L4-12Q", 0),)),
        ]
    )
    with pytest.raises(SpecError, match=r"L4-12Q@0 can be in each of the modes vgpu-equal-12\+vgpu-mixed"):
        Scenario.from_layout(layout)


def test_uuids_by_name_or_by_place() -> None:
    scenario = Scenario.parse("4g+2g+1g")
    named = scenario.with_uuids({"4g.40gb": "MIG-a", (0, 4): "MIG-b", (None, 0, 6): "MIG-c"})
    assert [instance.uuid for instance in named.instances] == ["MIG-a", "MIG-b", "MIG-c"]
    assert Scenario.from_data(named.to_data()) == named
    for uuids, words in (
        ({"4g.40gb": "MIG-a"}, "instance '2g.20gb' has no UUID"),
        ({"4g.40gb": "MIG-a", "2g.20gb": "MIG-a"}, "'MIG-a' is given to two instances"),
        ({"4g.40gb": "a", "2g.20gb": "b", "1g.10gb": "c", "3g": "d"}, "UUID of 3g belongs to no instance"),
    ):
        with pytest.raises(SpecError, match=words):
            scenario.with_uuids(uuids)


def test_some_instances_alone_keep_their_place() -> None:
    alone = Scenario.parse("2g+2g+2g+1g").only("2g.20gb#2")
    assert (alone.name, alone.instances) == ("2g+2g+2g+1g[2g.20gb#2]", (Instance("2g.20gb#2", "2g.20gb", 0, 2),))
    mixed = Scenario.parse("2xT4-8Q+4xT4-4Q", gpu="T4").only("T4-4Q")
    assert (mixed.mode, mixed.shares()) == ("vgpu-equal-4", (0.25,))
    with pytest.raises(SpecError, match="no instance '1g'"):
        alone.only("1g")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instances": []}, "has no instances"),
        ({"mode": "migg"}, "has no mode 'migg'"),
        ({"name": "a/b"}, "take text without slashes"),
        ({"name": ""}, "take text without slashes"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"instances": [{"name": "a", "profile": "4g.40gb", "start": 4}]}, "cannot start at 4; legal starts are 0"),
        ({"instances": [{"name": "a", "profile": "1g.10gb"}, {"name": "a", "profile": "1g.10gb", "start": 1}]}, "stands twice"),
        ({"instances": [{"name": "a", "profile": "1g.10gb"}, {"name": "b", "profile": "1g.10gb"}]}, "overlaps"),
        ({"instances": [{"name": "a"}]}, "field 'profile' is missing"),
    ],
)
def test_data_that_cannot_be_a_scenario(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Scenario.from_data(Scenario.parse("4g").to_data() | change)


# -- studies -----------------------------------------------------------------------------------------------------------


def test_modes_of_a_study_are_those_of_the_load() -> None:
    assert get_args(get_args(get_args(Modes)[0])[0]) == MODES


def test_a_study_has_defaults_that_run() -> None:
    study = Study(scenarios="7x1g")  # type: ignore[arg-type]
    assert [(str(s), model, mode) for s, model, mode in study] == [("7x1g", "resnet50", "offline")]
    assert (study.repeats, study.duration_s, study.warmup_s, study.servers, study.engine) == (3, 10, 2, "triton", "asyncio")
    assert study.to_data() == {"format": "gpu-partitioner/study", "version": 1, "scenarios": ["7x1g"]}


@pytest.mark.parametrize("name", ["study.yaml", "study.json"])
def test_a_study_survives_its_file(tmp_path: Path, name: str) -> None:
    plan_mig("3g+3g").save(tmp_path / "plan.json")
    study = Study.from_data(
        {
            "gpu": "A100D",
            "scenarios": [
                *TABLE_2,
                {"profiles": "4xT4-16Q", "gpu": "T4"},
                {"plan": str(tmp_path / "plan.json"), "name": "halves"},
                Scenario.parse("28x1g", gpus=4),
                Scenario.parse("2g", name="bound").with_uuids({"2g.20gb": "MIG-1"}),
            ],
            "models": ["resnet50", "bert-99"],
            "modes": ["offline", "server"],
            "rate_per_s": {"*": 10, "bert-99": 2, "resnet50/1g": 5.5},
            "latency_ms": 15,
            "cost_per_gpu_hour": 2.5,
            "baseline": "7g",
            "seed": 11,
        }
    )
    study.save(tmp_path / name)
    assert Study.load(tmp_path / name) == study
    written = yaml.safe_load((tmp_path / name).read_text(encoding="utf-8"))
    assert written["scenarios"][:2] == ["7g", "4g"]
    assert written["scenarios"][8:10] == [{"profiles": "4xT4-16Q", "gpu": "T4"}, {"profiles": "3g+3g", "name": "halves"}]
    assert written["latency_ms"] == 15
    jsonschema.validate(written, schema())


def test_all_problems_of_a_file_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "gpu: A100 80GB\nscenarios:\n  - 7g\n  - 4g+4g\n  - profiles: 5g\n    nam: x\nmodel: resnet50\nmodes: [offline, sever]\n"
        "repeats: 0\nduration_s: yes\nrate_per_s: {1g: -3}\n",
        encoding="utf-8",
    )
    with pytest.raises(SpecError) as caught:
        Study.load(path)
    found = {problem.line or 0: str(problem) for problem in caught.value.problems}
    assert sorted(found) == [4, 5, 7, 8, 9, 10, 11]
    for line, words in (
        (4, "does not fit"),
        (5, "did you mean 'name'"),
        (7, "did you mean 'models'"),
        (8, "not 'sever'"),
        (11, "not -3"),
    ):
        assert words in found[line]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scenarios": ["7g", "MIG nvidia-7-80c"]}, "'7g' stands twice"),
        ({"scenarios": []}, "nothing is listed"),
        ({"version": 2}, "version is 2, not 1"),
        ({"format": "gpu-partitioner/plan"}, "format is 'gpu-partitioner/plan'"),
        ({"baseline": "7x1g"}, "baseline '7x1g' is no scenario"),
        ({"device": "emulated"}, "device 'emulated' with servers 'triton'"),
        ({"modes": "server", "rate_per_s": {"1g": 3}}, "no rate for '7g.80gb' of scenario '7g' with resnet50"),
        ({"rate_per_s": {"7g": 3, "8g": 3}}, "'8g' is no instance, profile or model"),
        ({"latency_ms": {"bert": 3}}, "'bert' is no model of the study"),
        ({"servers": "external"}, "servers are 'external' without addresses"),
        ({"addresses": {"7g.80gb": "vm:8001"}}, "servers are 'triton', which we start, with addresses"),
        ({"servers": "external", "addresses": {"7g.80gb": "vm"}}, "'vm' of '7g.80gb' is not host:port"),
        ({"servers": "external", "addresses": {"1g": "vm:8001"}}, "addresses has none for '7g/7g.80gb'"),
        ({"scenarios": [{"name": "x"}]}, "either 'profiles'"),
        ({"scenarios": [{"profiles": "7g", "name": 7}]}, "name 7 is no text"),
        ({"repeats": True}, "a number is wanted, not True"),
    ],
)
def test_what_a_study_refuses(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Study.from_data({"scenarios": ["7g"]} | fields)


def test_the_most_special_rate_counts() -> None:
    study = Study.from_data(
        {
            "scenarios": ["4g+2g+1g", "2g+2g+2g+1g"],
            "models": ["resnet50", "bert-99"],
            "modes": "server",
            "rate_per_s": {"*": 1, "2g": 2, "2g.20gb#2": 3, "bert-99": 4, "bert-99/2g.20gb": 5},
            "latency_ms": {"resnet50": 15},
        }
    )
    rates = {model: [study.rate_of(i, model, gpu="A100-80GB") for i in study.scenarios[1].instances] for model in study.models}
    assert rates == {"resnet50": [2, 3, 2, 1], "bert-99": [5, 5, 5, 4]}
    assert (study.latency_of("resnet50"), study.latency_of("bert-99")) == (15, None)
    assert study.rate_of(study.scenarios[0].instances[0], "resnet50", gpu="A100-80GB") == 1


def test_addresses_of_external_servers_by_scenario_or_for_all() -> None:
    study = Study.from_data(
        {
            "scenarios": ["1g", "2x1g"],
            "servers": "external",
            "addresses": {"1g.10gb": "a:1", "1g+1g/1g.10gb": "b:2", "1g.10gb#2": "c:3"},
        }
    )
    found = [[study.address_of(scenario, instance) for instance in scenario.instances] for scenario in study.scenarios]
    assert found == [["a:1"], ["b:2", "c:3"]]


def test_a_configuration_that_cannot_be_is_no_scenario_either() -> None:
    """The planner and the geometry agree about what fits on one GPU."""
    geometry = catalog.gpu("A30").geometry("mig")
    for text, counts in (
        ("2g+2g", {"2g.12gb": 2}),
        ("4g+1g", {"4g.24gb": 1, "1g.6gb": 1}),
        ("2g+1g+1g", {"2g.12gb": 1, "1g.6gb": 2}),
    ):
        try:
            fits = geometry.layout_of(counts) is not None
        except GeometryError:
            fits = False
        if fits:
            assert len(Scenario.parse(text, gpu="A30").gpus) == 1
        else:
            with pytest.raises(SpecError, match="does not fit"):
                Scenario.parse(text, gpu="A30")
