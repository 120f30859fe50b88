"""Fleets in every form in which people write them, and every way to get them wrong."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from partitioner.errors import SpecError
from partitioner.fleet import MAX_GPUS, Fleet, Gpu, Host, read_fleet

FLEET = Fleet(hosts=(Host("esx-01", (Gpu("A100-80GB"), Gpu("A100-80GB"))), Host("esx-02", (Gpu("T4", "vgpu-equal-4"),))))

T4 = {"model": "Tesla T4", "mode": "vgpu-equal-4"}
FORMS = {
    "fleet": FLEET,
    "mapping": {"hosts": {"esx-01": {"A100-80GB": 2}, "esx-02": T4}},
    "names": {"hosts": {"esx-01": ["A100-80GB", "NVIDIA A100-SXM4-80GB"], "esx-02": [T4]}},
    "list": {"hosts": [{"name": "esx-01", "gpus": {"A100D": 2}}, {"name": "esx-02", "gpus": [T4]}]},
    "counts": {"hosts": {"esx-01": {"model": "0x20B2", "count": 2}, "esx-02": [{**T4, "count": 1}]}},
    "values": {"hosts": list(FLEET.hosts)},
    "saved": {"format": "gpu-partitioner/fleet", "version": 1, **json.loads(TypeAdapter(Fleet).dump_json(FLEET))},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_fleet(form):
    assert read_fleet(FORMS[form]) == FLEET


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
@pytest.mark.parametrize("form", ["mapping", "names", "list", "counts", "saved"])
def test_every_file_gives_the_same_fleet(tmp_path, form, suffix):
    path = tmp_path / f"fleet{suffix}"
    path.write_text(json.dumps(FORMS[form], indent=1))
    assert read_fleet(path) == read_fleet(str(path)) == FLEET


def test_a_fleet_counts_and_names_its_gpus():
    assert len(FLEET) == 3
    assert list(FLEET) == [
        ("esx-01", 0, Gpu("A100-80GB")),
        ("esx-01", 1, Gpu("A100-80GB")),
        ("esx-02", 0, Gpu("T4", "vgpu-equal-4")),
    ]
    assert hash(FLEET) == hash(read_fleet(FORMS["mapping"]))


def test_equal_hosts():
    fleet = Fleet.of("A100D", hosts=2, gpus_per_host=3, mode="mig")
    assert [(host, index, gpu.model, gpu.mode) for host, index, gpu in fleet] == [
        (f"host-{host}", index, "A100-80GB", "mig") for host in range(2) for index in range(3)
    ]
    assert [host.name for host in Fleet.of("T4", hosts=["a", "b"]).hosts] == ["a", "b"]


GPUS = st.lists(st.sampled_from(["T4", "A40", "A30-24GB"]), min_size=1, max_size=4)


@given(st.dictionaries(st.text("abc-", min_size=1, max_size=5), GPUS, min_size=1))
def test_fleets_survive_json(hosts):
    fleet = read_fleet({"hosts": hosts})
    assert read_fleet(json.loads(TypeAdapter(Fleet).dump_json(fleet))) == fleet
    assert len(fleet) == sum(map(len, hosts.values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hosts": 0}, "hosts is 0, not a number from 1 to 1,000,000"),
        ({"hosts": -1}, "hosts is -1"),
        ({"hosts": True}, "hosts is True"),
        ({"hosts": 2.5}, "hosts is 2.5"),
        ({"hosts": "esx-01"}, "hosts is 'esx-01'"),
        ({"hosts": 10**30}, "hosts is 1000"),
        ({"gpus_per_host": 0}, "gpus_per_host is 0"),
        ({"gpus_per_host": 2.0}, "gpus_per_host is 2.0"),
        ({"gpus_per_host": None}, "gpus_per_host is None"),
        ({"hosts": []}, "hosts: nothing is listed; name at least one"),
        ({"hosts": ["a", "a"]}, "host name 'a' is used twice"),
        ({"hosts": [1]}, "name: input should be a valid string, not 1"),
        ({"hosts": 1000, "gpus_per_host": 1001}, "1,001,000 GPUs in all; at most 1,000,000"),
        ({"mode": "mig"}, "T4 has no mode 'mig'; its modes are vgpu-equal-1"),
    ],
)
def test_equal_hosts_with_wrong_numbers_are_refused(arguments, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Fleet.of("T4", **arguments)


@pytest.mark.parametrize(
    ("model", "mode", "message"),
    [
        ("A100-90GB", None, "unknown GPU 'A100-90GB'; did you mean 'A100-80GB'"),
        ("A100", None, "GPU 'A100' is ambiguous; name one of A100-40GB, A100-80GB"),
        (None, None, "GPU None is not a name or a PCI device id"),
        ("T4", "MIG", "T4 has no mode 'MIG'; its modes are vgpu-equal-1"),
        ("T4", 5, "mode: input should be a valid string, not 5"),
    ],
)
def test_a_wrong_gpu_is_refused(model, mode, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Gpu(model, mode)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "a fleet is a mapping with hosts, not int; write e.g. {hosts: {esx-01: {A100-80GB: 4}}}"),
        (None, "a fleet is a mapping with hosts, not NoneType"),
        (["T4"], "a fleet is a mapping with hosts, not list"),
        ({}, "hosts: field 'hosts' is missing"),
        ({"host": {}}, "unknown field 'host'; did you mean 'hosts'"),
        ({1: 2}, "keys should be strings, not 1"),
        ({"hosts": None}, "hosts: input should be a valid tuple, not None"),
        ({"hosts": {}}, "hosts: nothing is listed; name at least one"),
        ({"hosts": {"a": None}}, "hosts.a: input should be a valid tuple, not None"),
        ({"hosts": {"a": []}}, "hosts.a: nothing is listed; name at least one"),
        ({"hosts": {"a": 4}}, "hosts.a: input should be a valid tuple, not 4"),
        ({"hosts": {"": "T4"}}, "string should have at least 1 character"),
        ({"hosts": {1: "T4"}}, "input should be a valid string, not 1"),
        ({"hosts": {"a": {"T4": 0}}}, "hosts.a: count of 'T4' is 0, not a number of GPUs from 1 to 1,000,000"),
        ({"hosts": {"a": {"T4": -1}}}, "count of 'T4' is -1"),
        ({"hosts": {"a": {"T4": True}}}, "count of 'T4' is True"),
        ({"hosts": {"a": {"T4": 1.5}}}, "count of 'T4' is 1.5"),
        ({"hosts": {"a": {"T4": float("nan")}}}, "count of 'T4' is nan"),
        ({"hosts": {"a": {"T4": 10**30}}}, "count of 'T4' is 1000"),
        ({"hosts": {"a": {"T4": None}}}, "count of 'T4' is None"),
        ({"hosts": {"a": {"T4": MAX_GPUS}, "b": "T4"}}, "1,000,001 GPUs in all; at most 1,000,000"),
        ({"hosts": {"a": [{"model": "T4", "mod": "whole"}]}}, "hosts.a[0].mod: unknown field 'mod'; did you mean 'mode'"),
        ({"hosts": {"a": [{"model": ["T4"]}]}}, "hosts.a[0].model: GPU ['T4'] is not a name"),
        ({"hosts": {"a": [{"mode": "whole", "count": 2}]}}, "hosts.a[0].model: field 'model' is missing"),
        ({"hosts": [{"name": "a", "gpus": "T4"}, {"name": "a", "gpus": "T4"}]}, "host name 'a' is used twice; names are unique"),
        ({"hosts": [{"gpus": "T4"}]}, "hosts[0].name: field 'name' is missing"),
        ({"hosts": ["a"]}, "hosts[0]: input should be a dictionary or an instance of Host, not 'a'"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_wrong_sources_are_refused(source, message):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        read_fleet(source)
    assert "after validation" not in str(caught.value)


def test_all_problems_of_a_file_come_at_once_with_their_lines(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "hosts:\n"
        "  - name: esx-01\n"
        "    gpus:\n"
        "      - {model: T4, count: 3}\n"
        "      - A100-90GB\n"
        "      - model: T4\n"
        "        mode: mig\n"
        "        count: 5\n"
        "      - T5\n"
        "  - name: esx-02\n"
        "    gpus: {T4: 2, T6: 2}\n"
        "    rack: 5\n"
        "colour: red\n"
    )
    with pytest.raises(SpecError) as caught:
        read_fleet(path)
    assert [(p.line, p.field, re.split("[;,]", p.message)[0]) for p in caught.value.problems] == [
        (5, "hosts[0].gpus[1]", "unknown GPU 'A100-90GB'"),
        (6, "hosts[0].gpus[2]", "T4 has no mode 'mig'"),
        (9, "hosts[0].gpus[3]", "unknown GPU 'T5'"),
        (11, "hosts[1].gpus.T6", "unknown GPU 'T6'"),
        (12, "hosts[1].rack", "unknown field 'rack'"),
        (13, "colour", "unknown field 'colour'"),
    ]


def test_problems_of_hosts_by_name_name_their_lines(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "hosts:\n  esx-01: {T4: 2}\n  esx-02:\n    A40: 1\n    T7: 1\n  esx-03:\n  - T4\n  - {model: T8,\n     count: 2}\n"
    )
    with pytest.raises(SpecError) as caught:
        read_fleet(path)
    assert [(p.line, p.field) for p in caught.value.problems] == [(5, "hosts.esx-02.T7"), (8, "hosts.esx-03[1].model")]


def test_thousands_of_problems_are_counted(tmp_path):
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps({"hosts": {f"h{i}": ["T5"] for i in range(2_000)}}))
    with pytest.raises(SpecError) as caught:
        read_fleet(path)
    assert len(caught.value.problems) == 51
    assert caught.value.problems[-1].message == "and 1950 more problems"
