"""The plan as a value: figures, frames, files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

import partitioner as gp


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
        (("version",), 9, "plan version 9"),
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
