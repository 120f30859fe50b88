"""Fleets in every form in which people write them, and every way to get them wrong."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from partitioner.errors import SpecError
from partitioner.fleet import MAX_GPUS, Fleet, Gpu, Host, NumaNode, read_fleet
from partitioner.topology import Topology

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


def test_equal_hosts_with_limits_and_costs():
    fleet = Fleet.of("T4", hosts=2, gpus_per_host=2, vcpus=64, ram_gib=512, max_vms=10, cost_per_hour=0.35, power_w=70)
    gpu = Gpu("T4", cost_per_hour=0.35, power_w=70)
    assert fleet.hosts[1] == Host("host-1", (gpu, gpu), vcpus=64, ram_gib=512, max_vms=10)


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
    ("fields", "message"),
    [
        ({"cost_per_hour": -1}, "cost_per_hour: input should be greater than or equal to 0, not -1"),
        ({"cost_per_hour": float("inf")}, "cost_per_hour: input should be a finite number, not inf"),
        ({"cost_per_hour": float("nan")}, "cost_per_hour: input should be a finite number, not nan"),
        ({"cost_per_hour": True}, "cost_per_hour: a number is wanted, not True"),
        ({"power_w": 0}, "power_w: input should be greater than 0, not 0"),
        ({"power_w": float("inf")}, "power_w: input should be a finite number, not inf"),
        ({"instances": 3}, "instances: input should be a valid tuple, not 3"),
        ({"instances": "3g.40gb"}, "instances: '3g.40gb' is not profile@start; write e.g. '3g.40gb@4'"),
        ({"instances": "@4"}, "instances: '@4' is not profile@start"),
        ({"instances": "3g.40gb@-1"}, "instances: '3g.40gb@-1' is not profile@start"),
        ({"instances": "3g.40gb@" + "9" * 5000}, "is not profile@start"),
        ({"instances": "5g.40gb@0"}, "instances: A100-80GB: unknown profile '5g.40gb'; did you mean '4g.40gb'"),
        ({"instances": "3g.40gb@2"}, "A100-80GB in mode mig: profile '3g.40gb' cannot start at 2; legal starts are 0, 4"),
        ({"instances": ["4g@0", "1g@3"]}, "A100-80GB in mode mig: profile '1g.10gb' at start 3 overlaps another placement"),
        ({"instances": ["whole@0", "1g@0"]}, "no mode of A100-80GB has all of them: 'whole' in whole; '1g' in mig"),
        ({"instances": "1g@0", "mode": "whole"}, "A100-80GB has '1g' in mode mig, not in mode 'whole'"),
        ({"instances": "A100D-8C@0"}, "legal in each of the modes vgpu-equal-8 and vgpu-mixed of A100-80GB; give mode"),
        ({"instance": "1g@0"}, "unknown field 'instance'; did you mean 'instances'"),
    ],
)
def test_wrong_fields_of_a_gpu_are_refused(fields, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Gpu("A100-80GB", **fields)
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        read_fleet({"hosts": {"a": ["T4", {"model": "A100-80GB", **fields}]}})
    assert str(caught.value).startswith("hosts.a[1]")


def test_existing_instances_have_the_catalogues_names_and_say_the_mode():
    gpu = Gpu("A100D", instances=("MIG 3g.40gb@4", "grid_a100d-1-10c@0"))
    assert gpu == Gpu("A100-80GB", "mig", instances=("1g.10gb@0", "3g.40gb@4"))
    assert (gpu.mode, gpu.instances) == ("mig", ("1g.10gb@0", "3g.40gb@4"))
    assert hash(gpu) == hash(Gpu("A100-80GB", "mig", instances=("1g.10gb@0", "3g.40gb@4")))
    assert Gpu("T4", instances="whole@0").mode == "whole"
    assert Gpu("T4", instances=("grid_t4-4q@3", "T4-4Q@0")).instances == ("T4-4Q@0", "T4-4Q@3")
    assert Gpu("L40S", instances=("L40S-4Q@12", "L40S-8Q@0")).mode == "vgpu-mixed"  # two sizes: no equal-size mode has both
    assert Gpu("A100-80GB", "vgpu-mixed", instances="A100D-8C@0").mode == "vgpu-mixed"


# -- hosts -------------------------------------------------------------------------------------------------------------

TOPO = "\t\x1b[4mGPU0\tGPU1\tmlx5_0\tCPU Affinity\tNUMA Affinity\x1b[0m\n"
TOPO += "GPU0\t X \tSYS\tPIX\t0-31\t0\nGPU1\tSYS\t X \tSYS\t32-63\t1\n"
LINKS = Topology((("X", "SYS"), ("SYS", "X")), (("mlx5_0", ("PIX", "SYS")),), (0, 1))
LIMITED = Host(
    "esx-01",
    (Gpu("T4"), Gpu("T4")),
    vcpus=64,
    ram_gib=512.5,
    max_vms=12,
    numa=(NumaNode((0,), 32, 256), NumaNode((1,), ram_gib=256)),
    links=LINKS,
)


def test_hosts_in_every_form(tmp_path):
    nodes = [{"gpus": [0], "vcpus": 32, "ram_gib": 256}, {"gpus": [1], "ram_gib": 256}]
    fields = {"gpus": {"T4": 2}, "vcpus": 64, "ram_gib": 512.5, "max_vms": 12, "numa": nodes, "links": TOPO}
    assert read_fleet({"hosts": [{"name": "esx-01", **fields}]}).hosts == (LIMITED,)
    assert read_fleet({"hosts": {"esx-01": fields, "esx-02": "T4"}}).hosts == (LIMITED, Host("esx-02", "T4"))
    assert read_fleet({"hosts": {"esx-01": {**fields, "links": LINKS}}}).hosts == (LIMITED,)
    path = tmp_path / "fleet.yaml"
    block = TOPO.replace("\x1b[4m", "").replace("\x1b[0m", "").replace("\n", "\n      ")
    path.write_text(
        "hosts:\n"
        "  esx-01:\n"
        "    gpus: {T4: 2}\n"
        "    vcpus: 64\n"
        "    ram_gib: 512.5\n"
        "    max_vms: 12\n"
        f"    numa: {json.dumps(nodes)}\n"
        f"    links: |2\n      {block}\n"
    )
    assert read_fleet(path).hosts == (LIMITED,)


def test_what_is_dumped_is_read_back():
    busy = Gpu("A100-80GB", cost_per_hour=2.5, power_w=400, instances=("3g.40gb@4",))
    fleet = Fleet(hosts=(LIMITED, Host("esx-02", (busy, Gpu("T4", "vgpu-equal-4"))), Host("esx-03", "A30-24GB", max_vms=3)))
    data = TypeAdapter(Fleet).dump_python(fleet, mode="json", exclude_defaults=True)
    assert read_fleet(json.loads(json.dumps(data))) == fleet
    assert hash(read_fleet(data)) == hash(fleet)
    assert data["hosts"][2] == {"name": "esx-03", "gpus": [{"model": "A30-24GB"}], "max_vms": 3}
    assert data["hosts"][1]["gpus"][0]["instances"] == ["3g.40gb@4"]


def test_the_schema_of_links_takes_text_too():
    host = TypeAdapter(Fleet).json_schema()["$defs"]["Host"]
    assert {"$ref": "#/$defs/Topology"} in host["properties"]["links"]["anyOf"]
    assert "string" in [option.get("type") for option in host["properties"]["links"]["anyOf"]]


def test_a_million_equal_gpus_are_one_value():
    fleet = read_fleet({"hosts": {"a": {"model": "A100-80GB", "instances": "3g.40gb@4", "count": MAX_GPUS}}})
    assert len({id(gpu) for gpu in fleet.hosts[0].gpus}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpus": []}, "gpus: nothing is listed; name at least one"),
        ({"vcpus": 0}, "vcpus: input should be greater than or equal to 1, not 0"),
        ({"vcpus": 1.5}, "vcpus: input should be a valid integer"),
        ({"vcpus": True}, "vcpus: a number is wanted, not True"),
        ({"ram_gib": 0}, "ram_gib: input should be greater than 0, not 0"),
        ({"ram_gib": float("inf")}, "ram_gib: input should be a finite number, not inf"),
        ({"max_vms": 0}, "max_vms: input should be greater than or equal to 1, not 0"),
        ({"numa": [{"gpus": [0, 2]}]}, "numa[0] names GPU 2, but the host has GPUs 0 to 1"),
        ({"numa": [{"gpus": [0, 1]}, {"gpus": [1]}]}, "GPU 1 stands in numa[0] and in numa[1]; it belongs to one node"),
        ({"numa": [{"gpus": [0, 0]}]}, "GPU 0 stands in numa[0] and in numa[0]"),
        ({"numa": [{"gpus": [1]}, {"gpus": []}]}, "GPU 0 is in no NUMA node; with numa given, each GPU is in exactly one"),
        ({"numa": [{"gpus": [-1]}]}, "numa[0].gpus[0]: input should be greater than or equal to 0, not -1"),
        ({"numa": [{"gpus": [0, 1], "vcpus": 0}]}, "numa[0].vcpus: input should be greater than or equal to 1, not 0"),
        ({"numa": [{"vcpus": 4}]}, "field 'gpus' is missing"),
        ({"numa": [{"gpus": [0, 1], "ram": 4}]}, "unknown field 'ram'"),
        ({"links": "none"}, "no header with GPU0 was found; give the whole output of `nvidia-smi topo -m`"),
        ({"links": 5}, "links: input should be a dictionary or an instance of Topology, not 5"),
        ({"links": Topology((("X",),))}, "links are of 1 GPUs, but the host has 2; they must be the same"),
        ({"links": {"gpu_links": [["X", "SYS"], ["PIX", "X"]]}}, "GPU0 to GPU1 is SYS, but GPU1 to GPU0 is PIX"),
        ({"vcpu": 8}, "unknown field 'vcpu'; did you mean 'vcpus'"),
    ],
)
def test_a_wrong_host_is_refused(fields, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Host(**{"name": "a", "gpus": {"T4": 2}, **fields})
    for hosts in ([{"name": "a", "gpus": {"T4": 2}, **fields}], {"a": {"gpus": {"T4": 2}, **fields}}):
        with pytest.raises(SpecError, match=re.escape(message)) as caught:
            read_fleet({"hosts": hosts})
        assert str(caught.value).startswith("hosts[0]" if isinstance(hosts, list) else "hosts.a")


def test_problems_in_fields_of_hosts_name_their_lines(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "hosts:\n"
        "  esx-01:\n"
        "    vcpus: 0\n"
        "    gpus:\n"
        "      T4: 1\n"
        "      T7: 1\n"
        "  esx-02:\n"
        "    vcpus: 8\n"
        "  esx-03:\n"
        "    gpus: [T4]\n"
        "    numa:\n"
        "    - {gpus: [0],\n"
        "       vcpus: 0}\n"
    )
    with pytest.raises(SpecError) as caught:
        read_fleet(path)
    assert [(p.line, p.field) for p in caught.value.problems] == [
        (6, "hosts.esx-01.gpus.T7"),
        (3, "hosts.esx-01.vcpus"),
        (8, "hosts.esx-02.gpus"),
        (13, "hosts.esx-03.numa[0].vcpus"),
    ]


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
