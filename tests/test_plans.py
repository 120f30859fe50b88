"""The plan as a value: figures, frames, files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

import partitioner as gp
from partitioner import planning
from partitioner.fleet import NumaNode
from partitioner.topology import Topology


@pytest.fixture
def plan() -> gp.Plan:
    fleet = gp.Fleet((gp.Host("esx-01", {"A100-80GB": 2}), gp.Host("esx-02", {"T4": 2})))
    workloads = [
        gp.Workload("chat", 2, "3g.40gb", labels={"team": "a"}),
        gp.Workload("embed", 3, memory_gib=8, compute_slices=1),
        gp.Workload("desk", 5, "T4-4Q"),
        gp.Workload("big", 1, memory_gib=200),
    ]
    return gp.plan(workloads, fleet=fleet)


def test_figures_say_what_the_layout_says(plan) -> None:
    assert (plan.complete, plan.status, plan.placed) == (False, "optimal", 10)
    assert plan.gpus_used == plan.lower_bound == len({(a.host, a.gpu) for a in plan.assignments()})
    assert plan.summary.startswith("10 replicas on 4 GPUs, proven optimal")
    assert "1 left out" in plan.summary


def test_require_complete_raises_with_reasons(plan) -> None:
    with pytest.raises(gp.InfeasibleError) as caught:
        plan.require_complete()
    assert "1 of 11 replicas cannot be placed" in str(caught.value)
    assert [reason.split(":")[0] for reason in caught.value.reasons] == ["big"]
    complete = gp.plan_mig("4g+2g+1g")
    assert complete.require_complete() is complete


def test_the_frame_has_a_row_for_each_replica(plan) -> None:
    frame = plan.to_frame()
    assert list(frame.columns) == ["workload", "replica", "host", "gpu", "mode", "profile", "start"]
    assert frame.groupby("workload").size().to_dict() == {"chat": 2, "embed": 3, "desk": 5}


def test_pictures_are_well_formed_and_name_the_workloads(plan) -> None:
    picture = plan.to_svg()
    assert ET.fromstring(picture).tag.endswith("svg")
    assert plan._repr_html_() == picture
    assert "chat" in picture
    assert "big" in picture
    assert "chat" in plan.to_html()


def test_text_names_groups_left_out_and_notes(plan) -> None:
    text = plan.to_text(width=160)
    assert str(plan) == plan.to_text()
    for word in ("esx-01/gpu0", "3g.40gb", "desk", "big", "200 GiB are more than the largest here"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 160


def test_save_and_load(plan, tmp_path) -> None:
    path = tmp_path / "plan.json"
    plan.save(path)
    assert gp.Plan.load(path) == plan
    assert gp.Plan.load(path).to_json() == path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


@pytest.fixture(scope="module")
def service_plan() -> gp.Plan:
    """Services, hosts with links and NUMA nodes, costs, and room for the loss of a host."""
    links = Topology((("X", "NV12"), ("NV12", "X")), {"mlx5_0": ("PIX", "SYS")}, (0, 1))
    nodes = (NumaNode((0,), vcpus=32, ram_gib=128.0), NumaNode((1,), vcpus=32))
    gpu = gp.Gpu("A100-80GB", cost_per_hour=3.5, power_w=400)
    hosts = tuple(gp.Host(f"esx-{n}", (gpu, gpu), max_vms=16, numa=nodes, links=links) for n in range(3))
    workloads = [
        gp.Workload("search", model="bert-99", rate=1500, latency_ms=130, isolation="hardware"),
        gp.Workload("train", 1, "3g.40gb", gpus_per_replica=2, gpu_link="NVLINK", vcpus=8),
        gp.Workload("a", 2, "1g.10gb", spread="host", apart_from="b", tenant="x"),
        gp.Workload("b", 1, "1g.10gb", never_on="esx-0/gpu1"),
    ]
    return gp.plan(workloads, fleet=gp.Fleet(hosts), objective=("placed", "cost", "waste"), host_failures=1)


def test_all_that_a_plan_says_of_services_and_failures_is_saved(service_plan, tmp_path) -> None:
    assert service_plan.ratings
    assert service_plan.failover
    path = tmp_path / "plan.json"
    service_plan.save(path)
    loaded = gp.Plan.load(path)
    assert loaded == service_plan
    assert (loaded.objective, loaded.host_failures) == (("placed", "cost", "waste", "gpus"), 1)
    assert list(loaded.assignments()) == list(service_plan.assignments())
    assert loaded.calibration is None
    assert loaded.to_json() == path.read_text()


def test_sources_of_ratings_are_written_once(service_plan) -> None:
    data = json.loads(service_plan.to_json())
    used = {source for rating in service_plan.ratings.values() for source in rating.sources}
    assert len(data["sources"]) == len(used)
    assert set(data["sources"]) == used


def test_cost_power_and_hosts(service_plan, plan) -> None:
    assert service_plan.cost_per_hour == 3.5 * service_plan.gpus_used
    assert service_plan.power_w == 400 * service_plan.gpus_used
    assert service_plan.hosts_used == len({gpu.host for gpu in service_plan.layout if gpu.slots})
    assert (plan.cost_per_hour, plan.power_w, plan.hosts_used) == (None, None, 2)
    alone = gp.plan_mig("4g+2g+1g")
    assert (alone.cost_per_hour, alone.power_w, alone.hosts_used) == (None, None, None)


def test_a_plan_saved_before_there_were_services_is_still_read(plan) -> None:
    data = json.loads(plan.to_json())
    for name in ("objective", "host_failures"):
        del data[name]
    assert gp.Plan.from_json(json.dumps(data)) == plan
    assert not {"sources", "ratings", "failover"} & set(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("objective",), ["placed", "gpus", "cost"], "the objective is placed, gpus, cost"),
        (("objective",), [], "objective"),
        (("host_failures",), 2, "host_failures"),
        (("failover",), [], "esx-"),
        (("failover", 0, "host"), "esx-9", "esx-9"),
        (("failover", 0, "start"), -1, "start"),
        (("ratings", 0, "sources"), [99], "names source 99; there are"),
        (("ratings", 0, "throughput_rps"), 0, "throughput_rps"),
        (("ratings", 0, "batch"), 0, "batch"),
        (("ratings", 0, "workload"), "nobody", "nobody"),
        (("workloads", 0, "rate"), 1e6, "requests/s"),
        (("fleet", "hosts", 0, "max_vms"), 1, "esx-0"),
    ],
)
def test_services_and_failures_that_were_tampered_with_are_refused(service_plan, path, value, message) -> None:
    data = json.loads(service_plan.to_json())
    change(data, path, value)
    with pytest.raises(gp.SpecError) as caught:
        gp.Plan.from_json(json.dumps(data))
    assert message in str(caught.value)


def test_a_rating_that_stands_twice_and_a_plan_without_gpus_are_refused(service_plan) -> None:
    data = json.loads(service_plan.to_json())
    data["ratings"].append(data["ratings"][0])
    with pytest.raises(gp.SpecError, match="stands twice"):
        gp.Plan.from_json(json.dumps(data))
    data = json.loads(service_plan.to_json())
    data["objective"] = ["placed", "cost", "waste"]
    data["objectives"] = [stage for stage in data["objectives"] if stage["name"] != "gpus"]
    with pytest.raises(gp.SpecError, match="no stage 'gpus'"):
        gp.Plan.from_json(json.dumps(data))


def test_the_schema_names_every_field_of_a_saved_plan(service_plan) -> None:
    assert set(json.loads(service_plan.to_json())) <= set(planning.schema("plan")["properties"])


def test_a_plan_is_read_back_whatever_its_file_is_called(tmp_path) -> None:
    plan = gp.plan_mig([gp.Workload("delete\x7f\x85", profile="3g")])  # characters that JSON allows and YAML does not
    for name in ("plan", "plan.txt", "plan.yaml"):
        plan.save(tmp_path / name)
        assert gp.Plan.load(tmp_path / name) == plan == gp.load(tmp_path / name)


def test_saving_where_nothing_can_be_written_is_a_typed_error(plan, tmp_path) -> None:
    with pytest.raises(gp.SpecError, match="cannot be written"):
        plan.save(tmp_path / "no" / "plan.json")


def change(data, path, value):
    *parents, last = path
    for key in parents:
        data = data[key]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other", "not a plan"),
        (("version",), 9, "version 9 of the format"),
        (("status",), "best", "optimal"),
        (("surprise",), 1, "unknown field 'surprise'"),
        (("gpus_used",), 3, "complete, gpus_used"),
        (("lower_bound",), 1, "complete, gpus_used"),
        (("objectives", 1, "value"), 3, "gpus is 4, not 3"),
        (("objectives", 1, "bound"), 2, "status is optimal, but gpus is 4 with a bound of 2"),
        (("workloads", 0, "count"), 3, "'chat': 1 replicas are not placed, 0 are reported"),
        (("workloads", 1, "memory_gib"), 20, "does not satisfy"),
        (("layout", 0, "placements", 0, "start"), 3, "cannot start at 3"),
        (("layout", 0, "placements", 0, "profile"), "9g", "unknown profile '9g'"),
        (("layout", 0, "placements", 0, "workload"), "nobody", "not asked for"),
        (("layout", 0, "placements", 0, "replica"), 7, "replica"),
        (("layout", 0, "model"), "T4", "T4"),
        (("layout", 0, "host"), "esx-09", "not in the fleet"),
        (("layout", 0, "extra"), 1, "unknown field 'extra'"),
        (("prices",), [], "the prices prove 0 GPUs, not 4"),
        (("prices", 0, "price"), "9/1", "costs"),
        (("prices", 0, "price"), "one", "price"),
        (("fleet",), None, "give one of fleet and gpu"),
        (("workloads", 0, "profile"), "4g.40gb", "does not satisfy"),
    ],
)
def test_a_plan_that_was_tampered_with_is_refused(plan, path, value, message) -> None:
    data = json.loads(plan.to_json())
    change(data, path, value)
    with pytest.raises(gp.SpecError) as caught:
        gp.Plan.from_json(json.dumps(data))
    assert message in str(caught.value)


def test_text_that_is_no_plan_is_refused() -> None:
    for text in ("", "[]", "{", "null", '{"format": "gpu-partitioner/plan"}'):
        with pytest.raises(gp.SpecError):
            gp.Plan.from_json(text)


def test_a_plan_of_many_gpus_is_a_line_for_each() -> None:
    lines = gp.plan_mig({"7g.80gb": 50}).to_json().splitlines()
    assert sum(line.startswith('{"host"') for line in lines) == 50


def test_batches_stay_whole_numbers_in_a_frame_where_some_are_not_known() -> None:
    services = [
        gp.Workload("search", model="bert-99", rate=300, latency_ms=130),
        gp.Workload("video", model="inceptionv3", rate=500, latency_ms=60, scenario="batch"),
    ]
    frame = gp.plan(services, gpu="A100-80GB", modes=("mig", "whole")).to_frame()
    assert str(frame.dtypes["batch"]) == "Int64"
    assert frame.batch.isna().any()
    assert frame.batch.notna().any()
