"""Workloads in every form in which people write them, and every way to get them wrong."""

import gc
import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from partitioner.errors import SpecError
from partitioner.workload import FIELDS, MAX_COUNT, Workload, Workloads, read_workloads

CHAT = Workload("chat", profile="3g.40gb", count=2)
EMBED = Workload("embed", memory_gib=8, count=9)
SEARCH = Workload("search", model="bert-99", rate=2500, latency_ms=130)


# -- one workload ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nothing is asked for; give profile, or memory_gib, compute_slices or gpu_share"),
        ({"profile": "4g", "memory_gib": 8}, "profile '4g' and memory_gib are both given"),
        ({"profile": "4g", "gpu_share": 0.5}, "profile '4g' and gpu_share are both given"),
        ({"profile": ""}, "profile: string should have at least 1 character"),
        ({"profile": 4}, "profile: input should be a valid string, not 4"),
        ({"profile": "4g", "count": 0}, "count: input should be greater than or equal to 1, not 0"),
        ({"profile": "4g", "count": -3}, "count: input should be greater than or equal to 1, not -3"),
        ({"profile": "4g", "count": 10**30}, "count: input should be less than or equal to 10000000, not 10"),
        ({"profile": "4g", "count": MAX_COUNT + 1}, "count: input should be less than or equal to 10000000"),
        ({"profile": "4g", "count": 1.5}, "count: input should be a valid integer, got a number with a fractional part, not 1.5"),
        ({"profile": "4g", "count": True}, "count: a number is wanted, not True"),
        ({"profile": "4g", "count": np.True_}, "count: a number is wanted, not True"),
        ({"profile": "4g", "count": float("nan")}, "count: input should be a finite number, not nan"),
        ({"profile": "4g", "count": float("inf")}, "count: input should be a finite number, not inf"),
        ({"profile": "4g", "count": None}, "count: input should be a valid integer, not None"),
        ({"profile": "4g", "count": "many"}, "count: input should be a valid integer"),
        ({"profile": "4g", "count": [1]}, "count: input should be a valid integer, not [1]"),
        ({"memory_gib": 0}, "memory_gib: input should be greater than 0, not 0"),
        ({"memory_gib": -8}, "memory_gib: input should be greater than 0, not -8"),
        ({"memory_gib": float("nan")}, "memory_gib: input should be a finite number, not nan"),
        ({"memory_gib": float("inf")}, "memory_gib: input should be a finite number, not inf"),
        ({"memory_gib": float("-inf")}, "memory_gib: input should be a finite number, not -inf"),
        ({"memory_gib": 1e300}, "memory_gib: input should be less than or equal to 1000000, not 1e+300"),
        ({"memory_gib": 10**400}, "memory_gib: input should be a valid number, not 1000"),
        ({"memory_gib": True}, "memory_gib: a number is wanted, not True"),
        ({"compute_slices": 0}, "compute_slices: input should be greater than or equal to 1, not 0"),
        ({"compute_slices": False}, "compute_slices: a number is wanted, not False"),
        ({"gpu_share": 1.01}, "gpu_share: input should be less than or equal to 1, not 1.01"),
        ({"gpu_share": 0}, "gpu_share: input should be greater than 0, not 0"),
        ({"profile": "4g", "priority": 10**12}, "priority: input should be less than or equal to 1000000000"),
        ({"profile": "4g", "priority": True}, "priority: a number is wanted, not True"),
        ({"profile": "4g", "labels": {"a": 1}}, "labels.a: input should be a valid string, not 1"),
        ({"profile": "4g", "vcpus": 0}, "vcpus: input should be greater than or equal to 1, not 0"),
        ({"profile": "4g", "ram_gib": 0}, "ram_gib: input should be greater than 0, not 0"),
        ({"profile": "4g", "ram_gib": float("inf")}, "ram_gib: input should be a finite number, not inf"),
        ({"profile": "4g", "gpus_per_replica": 0}, "gpus_per_replica: input should be greater than or equal to 1, not 0"),
        ({"profile": "4g", "gpus_per_replica": True}, "gpus_per_replica: a number is wanted, not True"),
        (
            {"profile": "4g", "gpu_link": "NV4"},
            "gpu_link: input should be 'NVLINK', 'PIX', 'PXB', 'PHB', 'NODE' or 'SYS', not 'NV4'",
        ),
        ({"profile": "4g", "rdma": "maybe"}, "rdma: input should be a valid boolean"),
        ({"profile": "4g", "spread": "rack"}, "spread: input should be 'gpu' or 'host', not 'rack'"),
        ({"profile": "4g", "apart_on": "rack"}, "apart_on: input should be 'gpu' or 'host', not 'rack'"),
        ({"profile": "4g", "together_on": None}, "together_on: input should be 'gpu' or 'host', not None"),
        ({"profile": "4g", "isolation": "soft"}, "isolation: input should be 'any' or 'hardware', not 'soft'"),
        ({"profile": "4g", "tenant": ""}, "tenant: string should have at least 1 character"),
        ({"profile": "4g", "apart_from": 5}, "apart_from: input should be a valid tuple, not 5"),
        ({"profile": "4g", "only_on": [7]}, "only_on[0]: input should be a valid string, not 7"),
        ({"profile": "4g", "only_on": "a", "never_on": ["b", "a"]}, "only_on 'a' and never_on 'a' exclude each other; drop one"),
        ({"profile": "4g", "only_on": ["b", "a/gpu1"], "never_on": "a"}, "only_on 'a/gpu1' and never_on 'a' exclude each other"),
        ({"profile": "4g", "rate": 5}, "rate 5.0 is given without a model; name one, e.g. model='bert-99'"),
        ({"memory_gib": 8, "latency_ms": 5}, "latency_ms 5.0 is given without a model"),
        ({"profile": "4g", "scenario": "offline"}, "scenario 'offline' is given without a model"),
        ({"profile": "4g", "max_batch": 2}, "max_batch 2 is given without a model"),
        ({"profile": "4g", "max_processes": 2}, "max_processes 2 is given without a model"),
        ({"rate": 5}, "nothing is asked for; give profile, or memory_gib, compute_slices or gpu_share, or a model and its rate"),
        ({"model": "m"}, "model 'm' is given without a rate; say how many requests/s it has to serve"),
        ({"model": "m", "rate": 0, "latency_ms": 5}, "rate: input should be greater than 0, not 0"),
        ({"model": "m", "rate": -1, "latency_ms": 5}, "rate: input should be greater than 0, not -1"),
        ({"model": "m", "rate": float("inf"), "latency_ms": 5}, "rate: input should be a finite number, not inf"),
        ({"model": "m", "rate": float("nan"), "latency_ms": 5}, "rate: input should be a finite number, not nan"),
        ({"model": "m", "rate": True, "latency_ms": 5}, "rate: a number is wanted, not True"),
        ({"model": "m", "rate": 5, "latency_ms": 0}, "latency_ms: input should be greater than 0, not 0"),
        ({"model": "m", "rate": 5, "latency_ms": float("inf")}, "latency_ms: input should be a finite number, not inf"),
        ({"model": "m", "rate": 5}, "scenario 'server' needs latency_ms; give it, or choose scenario 'offline'"),
        ({"model": "m", "rate": 5, "scenario": "batch"}, "scenario 'batch' needs latency_ms"),
        (
            {"model": "m", "rate": 5, "scenario": "offline", "latency_ms": 9},
            "latency_ms 9 is given, but scenario 'offline' has none",
        ),
        (
            {"model": "m", "rate": 5, "scenario": "stream"},
            "scenario: input should be 'server', 'offline' or 'batch', not 'stream'",
        ),
        (
            {"model": "m", "rate": 5, "latency_ms": 9, "max_batch": 0},
            "max_batch: input should be greater than or equal to 1, not 0",
        ),
        ({"model": "m", "rate": 5, "latency_ms": 9, "count": 2}, "count is 2 with a model; the planner chooses the number"),
        ({"model": "m", "rate": 5, "latency_ms": 9, "gpus_per_replica": 2}, "gpus_per_replica is 2 with a model"),
        ({"profile": "4g", "memory_gb": 8}, "unknown field 'memory_gb'; did you mean 'memory_gib'"),
        ({"profile": "4g", "cuont": 8}, "unknown field 'cuont'; did you mean 'count'"),
    ],
)
def test_a_wrong_value_is_refused_with_the_value(fields, message):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        Workload("chat", **fields)
    assert str(caught.value).startswith("Workload 'chat': ")
    with pytest.raises(SpecError) as caught:
        read_workloads([{"name": "fine", "profile": "4g"}, {"name": "chat", **fields}])
    *field, words = message.split(": ")
    assert str(caught.value).startswith(".".join(["workloads[1]", *field]))
    assert f": workload 'chat': {words}" in str(caught.value)


@pytest.mark.parametrize("name", ["", "   ", "x" * 254, 5, None])
def test_a_workload_needs_a_name(name):
    with pytest.raises(SpecError, match="name: "):
        Workload(name, profile="4g")


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(SpecError, match="not a number of thousands of digits"):
        Workload("chat", profile="4g", count=10**5000)


def test_all_problems_of_one_workload_come_at_once():
    with pytest.raises(SpecError) as caught:
        Workload("chat", count=0, memory_gib=-1, colour="red")
    assert len(caught.value.problems) == 3


def test_workloads_are_values():
    same = Workload("chat", profile=" 3g.40gb ", count=2)
    assert same == CHAT
    assert hash(same) == hash(CHAT)
    assert len({CHAT, same, EMBED}) == 2
    with pytest.raises(AttributeError):
        CHAT.count = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("workload", "demand"),
    [
        (CHAT, "3g.40gb"),
        (EMBED, "8 GiB"),
        (Workload("x", memory_gib=7.5, compute_slices=2), "7.5 GiB, 2 compute slices"),
        (Workload("x", compute_slices=1, gpu_share=0.25), "1 compute slice, 0.25 of a GPU"),
        (Workload("x", profile="whole", gpus_per_replica=4), "4 x whole"),
        (Workload("x", memory_gib=40, gpus_per_replica=2), "2 x 40 GiB"),
        (Workload("x", memory_gib=40, compute_slices=3, gpus_per_replica=2), "2 x (40 GiB, 3 compute slices)"),
        (SEARCH, "bert-99 at 2500/s within 130 ms"),
        (Workload("x", model="bert-99", rate=0.5, latency_ms=7.5, profile="1g"), "bert-99 at 0.5/s within 7.5 ms, 1g"),
        (Workload("x", model="bert-99", rate=12_500_000, scenario="offline", memory_gib=8), "bert-99 at 12500000/s, 8 GiB"),
        (Workload("x", model="m", rate=1234567.8, latency_ms=1_500_000), "m at 1234568/s within 1500000 ms"),
        (Workload("x", model="m", rate=9, latency_ms=50, scenario="batch"), "m at 9/s with batches within 50 ms"),
    ],
)
def test_the_demand_in_words(workload, demand):
    assert workload.demand == demand


@given(strategies.workloads())
def test_workloads_survive_json(workload):
    adapter = TypeAdapter(Workload)
    data = json.loads(adapter.dump_json(workload))
    assert adapter.validate_python(data) == workload
    assert list(read_workloads([data])) == [workload]


RICH = st.fixed_dictionaries(
    {"name": strategies.names, "profile": st.sampled_from(("3g.40gb", "whole", "T4-4Q"))},
    optional={
        "count": st.integers(1, 9),
        "labels": st.dictionaries(strategies.names, strategies.names, max_size=2),
        "spread": st.sampled_from((None, "gpu", "host")),
        "apart_from": st.lists(strategies.names, max_size=2),
        "apart_on": st.sampled_from(("gpu", "host")),
        "together_with": st.lists(strategies.names, max_size=2),
        "together_on": st.sampled_from(("gpu", "host")),
        "tenant": st.none() | strategies.names,
        "isolation": st.sampled_from(("any", "hardware")),
        "gpus_per_replica": st.integers(1, 8),
        "gpu_link": st.none() | st.sampled_from(("NVLINK", "PIX", "SYS")),
        "rdma": st.booleans(),
        "vcpus": st.none() | st.integers(1, 256),
        "ram_gib": st.none() | st.floats(0.5, 4096),
        "only_on": st.lists(strategies.names, max_size=2),
        "never_on": st.lists(strategies.names.map("x{}".format), max_size=2),
    },
)
SERVICES = st.fixed_dictionaries(
    {"name": strategies.names, "model": strategies.names, "rate": st.floats(0.1, 1e6)},
    optional={"max_batch": st.integers(1, 64), "max_processes": st.integers(1, 8), "memory_gib": st.floats(1, 80)},
)
LATENCIES = st.sampled_from(({"scenario": "offline"}, {"latency_ms": 9.5}, {"scenario": "batch", "latency_ms": 1.0}))


@given(RICH | st.builds(lambda service, latency: service | latency, SERVICES, LATENCIES))
def test_every_field_survives_json(fields):
    adapter, workload = TypeAdapter(Workload), Workload(**fields)
    data = adapter.dump_python(workload, mode="json", exclude_defaults=True)
    assert adapter.validate_python(json.loads(json.dumps(data))) == workload
    assert hash(adapter.validate_python(data)) == hash(workload)
    assert data.keys() <= fields.keys()


def test_one_name_alone_is_a_list_of_one(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text("a: {profile: 1g, apart_from: b, together_with: c, only_on: esx-01/gpu2, never_on: esx-02}\nb: 1g\nc: 1g\n")
    a = read_workloads(path)[0]
    assert (a.apart_from, a.together_with, a.only_on, a.never_on) == (("b",), ("c",), ("esx-01/gpu2",), ("esx-02",))
    assert Workload("a", profile="1g", apart_from=["b", "c"]).apart_from == ("b", "c")
    offered = TypeAdapter(Workload).json_schema()["properties"]["apart_from"]["anyOf"]
    assert [option["type"] for option in offered] == ["string", "array"]


def test_a_gpu_may_be_pinned_on_a_host_of_which_another_is_excluded():
    fields = {"only_on": ["esx-01", "esx-02/gpu1"], "never_on": ["esx-01/gpu0", "esx-02/gpu0", "esx"]}
    assert Workload("a", profile="1g", **fields).never_on[0] == "esx-01/gpu0"


# -- many workloads, in every form -------------------------------------------------------------------------------------

RECORDS = [{"name": "chat", "profile": "3g.40gb", "count": 2}, {"name": "embed", "memory_gib": 8, "count": 9}]
LIST_YAML = "- {name: chat, profile: 3g.40gb, count: 2}\n- name: embed\n  memory_gib: 8\n  count: 9\n"
MAPPING_YAML = "chat: {profile: 3g.40gb, count: 2}\nembed: {memory_gib: 8, count: 9}\n"
FILES = {
    "list.yaml": LIST_YAML,
    "under.yaml": "format: x\nversion: 1\nworkloads:\n" + LIST_YAML,
    "mapping.yml": MAPPING_YAML,
    "under-mapping.yaml": "workloads:\n  " + MAPPING_YAML.replace("\nembed", "\n  embed"),
    "list.json": json.dumps(RECORDS),
    "under.json": json.dumps({"workloads": RECORDS}, indent="\t"),
}
FORMS = {
    "workloads": [CHAT, EMBED],
    "tuple": (CHAT, EMBED),
    "dicts": RECORDS,
    "mixed": [CHAT, RECORDS[1]],
    "mapping": {"chat": RECORDS[0], "embed": {"memory_gib": 8, "count": 9}},
    "frame": pd.DataFrame(
        {"name": ["chat", "embed"], "profile": ["3g.40gb", None], "memory_gib": [float("nan"), 8], "count": [2, 9]}
    ),
    "floats": pd.DataFrame(
        {"name": ["chat", "embed"], "profile": ["3g.40gb", None], "memory_gib": [None, 8.0], "count": [2.0, 9.0]}
    ),
    "nullable": pd.DataFrame(
        {"name": ["chat", "embed"], "profile": ["3g.40gb", None], "memory_gib": [None, 8], "count": [2, 9]}
    ).convert_dtypes(),
    "numpy": [
        {"name": np.str_("chat"), "profile": "3g.40gb", "count": np.int64(2)},
        {"name": "embed", "memory_gib": np.float32(8), "count": np.uint8(9)},
    ],
    "read": read_workloads([CHAT, EMBED]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_workloads(form):
    assert list(read_workloads(FORMS[form])) == [CHAT, EMBED]


@pytest.mark.parametrize("as_path", [str, Path])
@pytest.mark.parametrize("file", FILES)
def test_every_file_gives_the_same_workloads(tmp_path, file, as_path):
    path = tmp_path / file
    path.write_text(FILES[file])
    assert list(read_workloads(as_path(path))) == [CHAT, EMBED]


def test_generators_and_single_workloads():
    assert list(read_workloads(workload for workload in (CHAT, EMBED))) == [CHAT, EMBED]
    assert list(read_workloads(CHAT)) == [CHAT]


@pytest.mark.parametrize(
    "source",
    ["3g.40gb+2x1g.10gb", {"3g.40gb": 1, "1g.10gb": 2}, "1g.10gb + 3g.40gb + 1g.10gb", {"3g.40gb": np.int64(1), "1g.10gb": 2}],
)
def test_configurations_are_workloads_named_like_their_profiles(source):
    found = {workload.name: (workload.profile, workload.count) for workload in read_workloads(source)}
    assert found == {"3g.40gb": ("3g.40gb", 1), "1g.10gb": ("1g.10gb", 2)}


def test_a_configuration_may_stand_in_a_file(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text("workloads: 4g+2g+1g")
    assert [w.profile for w in read_workloads(path)] == ["4g", "2g", "1g"]


def test_names_may_be_given_profiles_alone():
    assert read_workloads({"chat": "3g.40gb"})[0] == Workload("chat", profile="3g.40gb")


def test_the_key_of_a_mapping_is_the_name():
    assert read_workloads({"chat": {"name": "other", "profile": "4g"}})[0].name == "chat"


def test_missing_values_of_frames_are_defaults():
    frame = pd.DataFrame({"name": ["a", "b"], "profile": ["4g", "2g"], "count": [3, None], "priority": [None, 2]})
    assert [(w.count, w.priority) for w in read_workloads(frame)] == [(3, 0), (1, 2)]


def test_whole_numbers_beside_missing_values_of_frames_are_integers():
    whole = {"gpus_per_replica": [None, 4], "vcpus": [8, None]}
    first, second = read_workloads(pd.DataFrame({"name": ["a", "b"], "profile": ["4g", "whole"], **whole}))
    assert (first.vcpus, first.gpus_per_replica, second.gpus_per_replica, second.vcpus) == (8, 1, 4, None)
    most = {"max_batch": [None, 16], "max_processes": [2, None], "rdma": [None, True], "apart_from": ["b", None]}
    served = {"name": ["a", "b"], "model": "bert-99", "rate": 5, "latency_ms": [9, 9.5], **most}
    first, second = read_workloads(pd.DataFrame(served))
    assert (first.max_processes, second.max_batch, second.rdma, first.apart_from) == (2, 16, True, ("b",))
    assert type(second.max_batch) is int


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": [None], "profile": ["4g"]}, "workloads[0].name: input should be a valid string"),
        ({"profile": ["4g"]}, "workloads[0].name: workload None: field 'name' is missing"),
        ({"name": ["a"], "profile": ["4g"], "count": [float("inf")]}, "workloads[0].count"),
        ({"name": ["a"], "profile": ["4g"], "count": [1.5]}, "workloads[0].count"),
        ({"name": ["a"], "profile": ["4g"], "count": [True]}, "a number is wanted, not True"),
        ({"name": ["a", "b"], "memory_gib": [8, float("nan")]}, "workloads[1]: workload 'b': nothing is asked for"),
        ({"name": ["a"], "profile": ["4g"], "cuont": [1]}, "unknown field 'cuont'; did you mean 'count'"),
        ({"name": [], "profile": []}, "no workloads; name at least one"),
    ],
)
def test_wrong_frames_are_refused(columns, message):
    with pytest.raises(SpecError, match=re.escape(message.replace("workload None: ", ""))):
        read_workloads(pd.DataFrame(columns))


@pytest.mark.parametrize("source", [[], (), {}, None, pd.DataFrame(), iter(())])
def test_no_workloads_are_refused(source):
    with pytest.raises(SpecError, match="no workloads; name at least one"):
        read_workloads(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "workloads are a list or a mapping, not int; write e.g. {3g.40gb: 2}"),
        (True, "workloads are a list or a mapping, not bool"),
        (b"4g", "workloads are a list or a mapping, not bytes"),
        ("", "configuration ''"),
        ("0x1g", "count 0 of '1g' is not between 1 and 1,000,000,000"),
        ("9" * 5000 + "x1g", "of '1g' is not between 1 and 1,000,000,000"),
        (["4g"], "workloads[0]: input should be a dictionary or an instance of Workload, not '4g'"),
        ([None], "workloads[0]: input should be a dictionary or an instance of Workload, not None"),
        ([{1: 2}], "workloads[0].name: field 'name' is missing"),
        ({1: 2}, "workloads[0].name: input should be a valid string, not 1"),
        ({"4g": None}, "workloads[0].count: workload '4g': input should be a valid integer, not None"),
        ({"4g": -1}, "workloads[0].count: workload '4g': input should be greater than or equal to 1, not -1"),
        ({"4g": True}, "workloads[0].count: workload '4g': a number is wanted, not True"),
        ({"4g": [1]}, "workloads[0].count: workload '4g': input should be a valid integer, not [1]"),
        ([CHAT, CHAT], "workload name 'chat' is used twice; names are unique"),
        ({f"w{i}": {"profile": "1g", "count": MAX_COUNT} for i in range(2)}, "20,000,000 replicas in all; at most 10,000,000"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        (Path("nowhere"), "nowhere: no such file"),
    ],
)
def test_wrong_sources_are_refused(source, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        read_workloads(source)


def test_all_problems_of_a_file_come_at_once_with_their_lines(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text(
        "workloads:\n"
        "  - name: chat\n"
        "    profile: 3g.40gb\n"
        "    memory_gib: 8\n"
        "  - name: embed\n"
        "    memory_gib: -8\n"
        "    cuont: 2\n"
        "  - {name: fine, profile: 1g}\n"
        "  - profile: 1g\n"
        "    count: .nan\n"
        "  - nonsense\n"
    )
    with pytest.raises(SpecError) as caught:
        read_workloads(path)
    assert [(p.line, p.field, p.message.split(";")[0]) for p in caught.value.problems] == [
        (2, "workloads[0]", "workload 'chat': profile '3g.40gb' and memory_gib are both given"),
        (6, "workloads[1].memory_gib", "workload 'embed': input should be greater than 0, not -8"),
        (7, "workloads[1].cuont", "workload 'embed': unknown field 'cuont'"),
        (9, "workloads[3].name", "field 'name' is missing"),
        (10, "workloads[3].count", "input should be a finite number, not nan"),
        (11, "workloads[4]", "input should be a dictionary or an instance of Workload, not 'nonsense'"),
    ]
    assert str(caught.value).startswith(f"{path}:2: workloads[0]: workload 'chat': ")


@pytest.mark.parametrize(
    ("name", "text", "line", "field"),
    [
        ("w.yaml", "chat: {profile: 4g}\nembed:\n  profile: 2g\n  count: 0\n", 4, "embed.count"),
        ("w.yaml", "4g: 1\n2g: -1\n", 2, "2g.count"),
        ("w.json", '[\n {"name": "a", "gpu_share": 1},\n {"name": "a", "gpu_share": 1}\n]', 3, "[1].name"),
        ("w.yaml", "workloads:\n- {name: a, profile: 1g}\nhosts: 3\n", 3, "hosts"),
        ("w.yaml", "workloads: 3\n", 1, "workloads"),
        ("w.yaml", "workloads: []\n", 1, "workloads"),
    ],
)
def test_problems_of_files_name_line_and_field(tmp_path, name, text, line, field):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_workloads(str(path))
    (problem,) = caught.value.problems
    assert (problem.origin, problem.line, problem.field) == (str(path), line, field)


def test_thousands_of_problems_are_counted(tmp_path):
    path = tmp_path / "w.json"
    path.write_text(json.dumps([{"name": f"w{i}", "profile": "4g", "count": 0} for i in range(2_000)], indent=1))
    with pytest.raises(SpecError) as caught:
        read_workloads(path)
    assert len(caught.value.problems) == 51
    assert caught.value.problems[49].line == 49 * 5 + 5
    assert caught.value.problems[-1].message == "and 1950 more problems"


def test_later_complaints_know_where_a_workload_stands(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text("chat: 3g.40gb\nembed: {profile: 2g,\n  count: 2}\n")
    workloads = read_workloads(path)
    assert str(workloads.problem(1, "does not fit", "count")) == f"{path}:3: embed.count: does not fit"
    assert str(workloads.problem(0, "does not fit")) == f"{path}:1: chat: does not fit"
    assert str(Workloads([CHAT]).problem(0, "does not fit", "count")) == "Workload 'chat'.count: does not fit"
    assert (len(workloads), [w.name for w in workloads], CHAT in Workloads([CHAT])) == (2, ["chat", "embed"], True)


def test_a_replica_on_several_gpus_counts_for_each():
    most = {"name": "a", "profile": "whole", "count": MAX_COUNT // 4}
    assert len(read_workloads([{**most, "gpus_per_replica": 4}])) == 1
    with pytest.raises(SpecError, match="12,500,000 replicas in all; at most 10,000,000"):
        read_workloads([{**most, "gpus_per_replica": 5}])


def test_the_garbage_collector_works_again_after_many_workloads():
    records = [{"name": f"w{i}", "profile": "1g"} for i in range(20_000)]
    assert len(read_workloads(records)) == 20_000
    assert gc.isenabled()
    with pytest.raises(SpecError):
        read_workloads([*records, {}])
    assert gc.isenabled()
    gc.disable()
    try:
        read_workloads(records)
        assert not gc.isenabled()
    finally:
        gc.enable()


# -- affinity ----------------------------------------------------------------------------------------------------------


def three(**fields):
    """Return workloads a, b and c; a field is named e.g. ``b_tenant``."""
    record = {name: {"name": name, "profile": "1g"} for name in "abc"}
    for key, value in fields.items():
        record[key[0]][key[2:]] = value
    return list(record.values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a_apart_from": "a"}, "Workload 'a'.apart_from: apart_from names 'a' itself; for its own replicas use spread"),
        ({"a_together_with": ["b", "a"]}, "together_with names 'a' itself; for its own replicas use spread"),
        ({"b_apart_from": "d"}, "apart_from of 'b': no workload 'd'; known: a, b, c"),
        ({"c_name": "chat", "b_together_with": "caht"}, "together_with of 'b': no workload 'caht'; did you mean 'chat'?"),
        (
            {"a_together_with": "b", "a_apart_from": "b"},
            "'a' must share a GPU with 'b' (together_with), but 'a' must not share a GPU with 'b' (apart_from); drop one",
        ),
        (
            {"a_together_with": "b", "b_apart_from": "a", "b_apart_on": "host"},
            "'a' must share a GPU with 'b' (together_with), but 'b' must not share a host with 'a' (apart_from)",
        ),
        (
            {"a_together_with": "b", "a_together_on": "host", "a_apart_from": "b", "a_apart_on": "host"},
            "'a' must share a host with 'b' (together_with), but 'a' must not share a host with 'b' (apart_from)",
        ),
        (
            {"a_together_with": ["b", "c"], "c_apart_from": "b"},
            "'a' must share a GPU with 'b', 'c' (together_with), but 'c' must not share a GPU with 'b' (apart_from)",
        ),
        (
            {"a_together_with": "b", "a_tenant": "x", "b_tenant": "y"},
            "but 'a' belongs to tenant 'x' and 'b' to 'y', and tenants never share a GPU; use together_on='host'",
        ),
        (
            {"a_together_with": ["b", "c"], "b_tenant": "x", "c_tenant": "y"},
            "but 'b' belongs to tenant 'x' and 'c' to 'y', and tenants never share a GPU",
        ),
        ({"a_together_with": "b", "b_profile": "whole"}, "but 'b' takes a whole GPU for itself; use together_on='host'"),
        ({"a_together_with": "b", "a_profile": "Whole"}, "but 'a' takes a whole GPU for itself; use together_on='host'"),
    ],
)
def test_contradictory_affinity_is_one_error(fields, message):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        read_workloads(three(**fields))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"a_together_with": "b", "a_together_on": "host", "a_apart_from": "b"},
        {"a_together_with": "b", "a_together_on": "host", "a_profile": "whole", "b_tenant": "x", "a_tenant": "y"},
        {"a_together_with": "b", "b_together_with": "a", "a_tenant": "x", "b_tenant": "x"},
        {"a_together_with": "b", "a_tenant": "x"},
        {"a_apart_from": ["b", "c"], "b_apart_from": "a", "a_spread": "host"},
        {"a_gpus_per_replica": 2, "a_spread": "gpu", "a_gpu_link": "NVLINK"},
    ],
)
def test_affinity_that_can_be_met_is_accepted(fields):
    assert len(read_workloads(three(**fields))) == 3


def test_mutual_contradictions_are_told_once():
    with pytest.raises(SpecError) as caught:
        read_workloads(three(a_together_with="b", b_together_with="a", a_apart_from="b", b_apart_from="a"))
    assert len(caught.value.problems) == 1


def test_contradictory_affinity_in_a_file_names_its_line(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text("a:\n  profile: 1g\n  apart_from: b\n  together_with: b\nb: 1g\n")
    with pytest.raises(SpecError, match=r"w\.yaml:4: a\.together_with: 'a' must share a GPU with 'b'"):
        read_workloads(path)
    path.write_text("a:\n  profile: 1g\n  apart_from: [d, e]\nb: 1g\n")
    with pytest.raises(SpecError) as caught:
        read_workloads(path)
    assert [(p.line, p.field) for p in caught.value.problems] == [(3, "a.apart_from")] * 2


def meets(workloads, places):
    """Whether one replica of each workload, at (host, GPU), keeps every rule."""
    at = {workload.name: place for workload, place in zip(workloads, places, strict=True)}

    def share(one, other, level):
        return at[one][: 1 if level == "host" else 2] == at[other][: 1 if level == "host" else 2]

    return all(
        all(share(w.name, other, w.together_on) for other in w.together_with)
        and not any(share(w.name, other, w.apart_on) for other in w.apart_from)
        and all(
            v is w or not share(w.name, v.name, "gpu") or (None in (w.tenant, v.tenant) or w.tenant == v.tenant)
            for v in workloads
        )
        and (w.profile != "whole" or not any(v is not w and share(w.name, v.name, "gpu") for v in workloads))
        for w in workloads
    )


@st.composite
def affinities(draw: st.DrawFn) -> list[Workload]:
    found = []
    for name in "abc":
        others = st.lists(st.sampled_from([other for other in "abc" if other != name]), max_size=2, unique=True)
        levels = st.sampled_from(("gpu", "host"))
        fields = {"apart_from": draw(others), "apart_on": draw(levels)}
        fields |= {"together_with": draw(others), "together_on": draw(levels)}
        fields |= {
            "tenant": draw(st.sampled_from((None, None, "x", "y"))),
            "profile": draw(st.sampled_from(("1g", "1g", "whole"))),
        }
        found.append(Workload(name, **fields))
    return found


@given(affinities())
def test_what_is_refused_can_be_met_nowhere(workloads):
    try:
        read_workloads(workloads)
    except SpecError:
        places = list(product(range(3), range(3)))
        assert not any(meets(workloads, chosen) for chosen in product(places, repeat=3))


@given(affinities())
def test_what_two_workloads_ask_is_refused_exactly_when_it_can_be_met_nowhere(workloads):
    pair = [replace(w, apart_from=set(w.apart_from) - {"c"}, together_with=set(w.together_with) - {"c"}) for w in workloads[:2]]
    possible = any(meets(pair, chosen) for chosen in product(list(product(range(2), range(2))), repeat=2))
    try:
        read_workloads(pair)
    except SpecError:
        assert not possible
    else:
        assert possible


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
        ),
    )
)
def test_anything_else_gives_workloads_or_a_spec_error(source):
    if isinstance(source, str) and (source == "-" or "/" in source):
        return
    try:
        found = read_workloads(source)
    except SpecError:
        return
    assert len(found) >= 1
    assert len({workload.name for workload in found}) == len(found)
