"""Layouts: columns that say the same as the values they were built from, and that refuse what cannot be."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import given

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.geometry import Configuration
from partitioner.layout import NOBODY, Assignment, GpuLayout, Layout, Pattern, Slot, gpu_label

FOUR_THREE = (Slot("3g.40gb", 4, "embed", 7), Slot("4g.40gb", 0, "chat", 0))
GPUS = [
    GpuLayout("esx-01", 0, "A100-80GB", "mig", FOUR_THREE),
    GpuLayout("esx-01", 1, "A100-80GB", None),
    GpuLayout("esx-02", 0, "T4", "vgpu-equal-4", (Slot("T4-4Q", 1), Slot("T4-4A", 3, "chat", 1))),
    GpuLayout("esx-02", 1, "A100D", "mig", tuple(reversed(FOUR_THREE))),
]


@pytest.fixture
def layout():
    return Layout.of(GPUS)


def test_a_layout_gives_back_its_gpus_sorted_by_start(layout):
    sorted_slots = tuple(reversed(FOUR_THREE))
    assert list(layout) == [
        replace(GPUS[0], slots=sorted_slots),
        GPUS[1],
        GPUS[2],
        GpuLayout("esx-02", 1, "A100-80GB", "mig", sorted_slots),
    ]
    assert len(layout) == 4
    assert repr(layout) == "<Layout of 4 GPUs, 3 used, 6 placements>"


def test_the_columns(layout):
    assert (layout.hosts, layout.workloads) == (("esx-01", "esx-02"), ("chat", "embed"))
    assert len(layout.patterns) == 3
    assert layout.gpu_pattern.tolist() == [0, 1, 2, 0]
    assert layout.gpu_host.tolist() == [0, 0, 1, 1]
    assert layout.gpu_index.tolist() == [0, 1, 0, 1]
    assert layout.offsets.tolist() == [0, 2, 2, 4, 6]
    assert layout.used.tolist() == [True, False, True, True]
    assert layout.occupant.tolist() == [0, 1, NOBODY, 0, 0, 1]
    assert layout.replica.tolist() == [0, 7, NOBODY, 1, 0, 7]
    assert {column.dtype for column in (layout.gpu_host, layout.gpu_pattern, layout.occupant)} == {np.dtype(np.int32)}


def test_assignments_name_every_replica(layout):
    found = list(layout.assignments())
    assert found[0] == Assignment("chat", 0, "esx-01", 0, "mig", "4g.40gb", 0)
    assert [(a.workload, a.replica, a.host, a.gpu, a.start) for a in found] == [
        ("chat", 0, "esx-01", 0, 0),
        ("embed", 7, "esx-01", 0, 4),
        ("chat", 1, "esx-02", 0, 3),
        ("chat", 0, "esx-02", 1, 0),
        ("embed", 7, "esx-02", 1, 4),
    ]


def test_groups_have_the_gpus_of_one_pattern(layout):
    groups = layout.groups()
    assert [group.gpus.tolist() for group in groups] == [[0, 3], [1], [2]]
    assert [len(group) for group in groups] == [2, 1, 1]
    assert groups[0].pattern.configuration == Configuration({"4g.40gb": 1, "3g.40gb": 1})
    assert str(groups[0].pattern.configuration) == "4g.40gb + 3g.40gb"
    assert groups[0].pattern.geometry is catalog.gpu("A100-80GB").geometry("mig")
    assert groups[1].pattern == Pattern("A100-80GB", None)
    assert groups[1].pattern.geometry is None


@given(strategies.layouts())
def test_groups_cover_every_gpu_once(layout):
    groups = layout.groups()
    assert sorted(row for group in groups for row in group.gpus.tolist()) == list(range(len(layout)))
    assert [group.gpus.tolist() for group in groups] == sorted(group.gpus.tolist() for group in groups)
    for group in groups:
        for row in group.gpus.tolist():
            gpu = layout.gpu(row)
            assert (gpu.model, gpu.mode) == (group.pattern.model, group.pattern.mode)
            assert [(s.profile, s.start) for s in gpu.slots] == [(p.profile.name, p.start) for p in group.pattern.placements]


@given(strategies.layouts())
def test_layouts_survive_json(layout):
    text = json.dumps(layout.to_data())
    again = Layout.from_data(json.loads(text))
    assert again == layout
    assert json.dumps(again.to_data()) == text
    assert list(again.assignments()) == list(layout.assignments())


@given(strategies.layouts())
def test_a_layout_is_the_sum_of_its_gpus(layout):
    assert Layout.of(layout) == layout
    slots = [slot for gpu in layout for slot in gpu.slots]
    assert len(layout.occupant) == len(layout.replica) == layout.offsets[-1] == len(slots)
    assert sum(1 for _ in layout.assignments()) == sum(slot.workload is not None for slot in slots)


def test_equality_is_about_what_is_said_not_how_it_is_stored():
    plain = Layout.of([GpuLayout("a", 0, "T4", "whole"), GpuLayout("b", 0, "A40", "whole")])
    swapped = np.array([1, 0], dtype=np.int32)
    other = replace(
        plain, hosts=("b", "a"), patterns=plain.patterns[::-1], workloads=("unused",), gpu_host=swapped, gpu_pattern=swapped
    )
    assert other == plain
    assert plain != Layout.of(list(plain)[::-1])
    assert plain != Layout.of([GpuLayout("a", 0, "T4", "whole")])
    assert plain != Layout.of([GpuLayout("a", 0, "T4", None), GpuLayout("b", 0, "A40", "whole")])
    assert plain != "layout"
    with pytest.raises(TypeError, match="unhashable"):
        hash(plain)


def test_occupants_count_for_equality(layout):
    changed = [replace(gpu, slots=tuple(replace(s, workload=None, replica=None) for s in gpu.slots)) for gpu in GPUS]
    assert Layout.of(changed) != layout
    assert Layout.of(changed).patterns == layout.patterns


def test_an_empty_layout():
    empty = Layout.of([])
    assert (len(empty), list(empty), empty.groups(), list(empty.assignments()), empty.to_data()) == (0, [], (), [], [])
    assert Layout.from_data([]) == empty
    assert empty.offsets.tolist() == [0]


def test_gpus_without_a_host():
    layout = Layout.of([GpuLayout(None, 0, "T4", "whole", (Slot("whole", 0, "job", 0),))])
    assert layout.hosts == (None,)
    assert Layout.from_data(layout.to_data()) == layout
    assert (gpu_label(None, 3), gpu_label("esx-03", 0)) == ("gpu3", "esx-03/gpu0")


def test_a_hundred_thousand_equal_gpus_share_one_pattern():
    slots = (Slot("4g.40gb", 0, "chat", 0), Slot("3g.40gb", 4))
    layout = Layout.of(GpuLayout(f"h{i // 8}", i % 8, "A100-80GB", "mig", slots) for i in range(100_000))
    assert (len(layout), len(layout.patterns), len(layout.occupant)) == (100_000, 1, 200_000)


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ([GPUS[0], GPUS[0]], "esx-01/gpu0 stands twice in the layout"),
        ([GpuLayout(None, 0, "T4", None), GpuLayout(None, 0, "A40", None)], "gpu0 stands twice in the layout"),
        ([GpuLayout("h", 0, "T5", None)], "unknown GPU 'T5'"),
        ([GpuLayout("h", 0, "T4", "mig")], "h/gpu0 (T4): T4 has no mode 'mig'"),
        ([GpuLayout("h", 0, "T4", None, (Slot("whole", 0),))], "h/gpu0 (T4): has placements but no mode; modes are vgpu-equal-1"),
        ([GpuLayout("h", 0, "A100-80GB", "mig", (Slot("3g.41gb", 0),))], "h/gpu0 (A100-80GB): mig: unknown profile '3g.41gb'"),
        (
            [GpuLayout("h", 0, "A100-80GB", "mig", (Slot("3g.40gb", 2),))],
            "h/gpu0 (A100-80GB): profile '3g.40gb' cannot start at 2; legal starts are 0, 4",
        ),
        (
            [GpuLayout("h", 0, "A100-80GB", "mig", (Slot("4g.40gb", 0), Slot("1g.10gb", 3)))],
            "h/gpu0 (A100-80GB): profile '1g.10gb' at start 3 overlaps another placement",
        ),
        (
            [GpuLayout("h", 0, "T4", "vgpu-equal-4", (Slot("T4-4Q", 0), Slot("T4-4C", 1)))],
            "h/gpu0 (T4): vGPU series C and Q/B/A do not share a GPU",
        ),
    ],
)
def test_what_cannot_stand_on_a_gpu_is_refused(gpus, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Layout.of(gpus)


ENTRY = {"host": "h", "gpu": 0, "model": "T4", "mode": "whole", "placements": []}
SLOT = {"profile": "whole", "start": 0, "workload": "job", "replica": 0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "layout: a list of GPUs is wanted, not NoneType"),
        ({}, "layout: a list of GPUs is wanted, not dict"),
        ("T4", "layout: a list of GPUs is wanted, not str"),
        (["T4"], "layout[0]: a mapping is wanted, not str"),
        ([{}], "layout[0]: field 'host' is missing"),
        ([ENTRY, {**ENTRY, "gpu": 1, "colour": 1}], "layout[1]: unknown field 'colour'; fields are host, gpu, model"),
        ([{**ENTRY, "host": 5}], "layout[0].host: 5 is not str or NoneType"),
        ([{**ENTRY, "gpu": "0"}], "layout[0].gpu: '0' is not int"),
        ([{**ENTRY, "gpu": True}], "layout[0].gpu: True is not int"),
        ([{**ENTRY, "gpu": -1}], "layout[0].gpu: -1 is not between 0 and 2,147,483,647"),
        ([{**ENTRY, "gpu": 10**12}], "layout[0].gpu: 1000000000000 is not between"),
        ([{**ENTRY, "gpu": float("nan")}], "layout[0].gpu: nan is not int"),
        ([{**ENTRY, "model": None}], "layout[0].model: None is not str"),
        ([{**ENTRY, "placements": None}], "layout[0].placements: None is not list"),
        ([{**ENTRY, "placements": [5]}], "layout[0].placements[0]: a mapping is wanted, not int"),
        ([{**ENTRY, "placements": [{**SLOT, "start": -1}]}], "layout[0].placements[0].start: -1 is not between 0"),
        ([{**ENTRY, "placements": [{**SLOT, "start": 1.0}]}], "layout[0].placements[0].start: 1.0 is not int"),
        ([{**ENTRY, "placements": [{**SLOT, "replica": 2**31}]}], "layout[0].placements[0].replica: 2147483648 is not between"),
        ([{**ENTRY, "placements": [{**SLOT, "workload": None, "replica": 5}]}], "placements[0]: replica 5 of no workload"),
        ([{**ENTRY, "placements": [SLOT, SLOT]}], "h/gpu0 (T4): profile 'whole' at start 0 overlaps another placement"),
        ([ENTRY, ENTRY], "h/gpu0 stands twice in the layout"),
        ([{**ENTRY, "model": "T5"}], "h/gpu0: unknown GPU 'T5'; "),
    ],
)
def test_wrong_data_is_refused_with_its_place(data, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Layout.from_data(data)
