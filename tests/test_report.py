"""Plans in words: services, hosts, failures, jobs and stages say what the layout says."""

from __future__ import annotations

import pytest

import partitioner as gp
from partitioner import report
from partitioner.report import Section


def section(plan: gp.Plan, title: str) -> Section:
    [found] = [section for section in report.sections(plan) if section.title == title]
    return found


def limited(*names: str, gpus: int = 2, **limits: int) -> gp.Fleet:
    return gp.Fleet(tuple(gp.Host(name, ("A100-80GB",) * gpus, **limits) for name in names))


def test_a_plain_plan_needs_no_further_tables() -> None:
    assert report.sections(gp.plan_mig({"3g.40gb": 2, "1g.10gb": 3})) == ()


# -- services ----------------------------------------------------------------------------------------------------------


def test_a_service_says_what_serves_it_and_how_much_more_than_asked() -> None:
    wanted = [gp.Workload("search", model="bert-99", rate=700, latency_ms=130), gp.Workload("web", profile="3g.40gb")]
    plan = gp.plan(wanted, gpu="A100-80GB", modes=("mig",))
    rows = section(plan, "services, in requests/s").rows
    assert {row["service"] for row in rows} == {"search", ""} - ({""} if len(rows) == 1 else set())
    given = sum(a.throughput or 0 for a in plan.assignments())
    assert given >= 700
    assert rows[0]["given"] == f"{given:,.0f} ({given / 700 - 1:+.0%})"
    assert (rows[0]["asked for"], rows[0]["model"]) == ("700", "bert-99")
    assert rows[0]["latency"] == "p99 130 of 130 ms"
    placed = [int(row["instances"].split(" x ")[0]) for row in rows]
    assert sum(placed) == sum(a.workload == "search" for a in plan.assignments())


def test_batches_and_processes_are_told_where_they_were_measured() -> None:
    wanted = [gp.Workload("photos", model="resnet50", rate=100, latency_ms=25, scenario="batch")]
    plan = gp.plan(wanted, gpu="A100-80GB", modes=("mig",))
    [row] = section(plan, "services, in requests/s").rows
    [assignment] = plan.assignments()
    assert row["batch"] == f"{assignment.batch} x {assignment.processes}"
    assert row["latency"].endswith(" of 25 ms")
    assert "p99" not in row["latency"]


# -- hosts -------------------------------------------------------------------------------------------------------------


def test_hosts_in_use_say_what_is_taken_of_their_limits() -> None:
    fleet = limited("a", "b", vcpus=64, ram_gib=256, max_vms=4)
    plan = gp.plan([gp.Workload("web", 3, "7g.80gb", vcpus=8, ram_gib=40)], fleet=fleet)
    rows = section(plan, "hosts in use").rows
    taken = {row["host"]: (row["GPUs"], row["vCPUs"], row["GiB RAM"], row["VMs"]) for row in rows}
    full, half = ("2 of 2", "16 of 64", "80 of 256", "2 of 4"), ("1 of 2", "8 of 64", "40 of 256", "1 of 4")
    assert sorted(taken.values(), reverse=True) == [full, half]
    assert report.host_figures(plan)["a"] == "{1} vCPUs, {2} GiB RAM, {3} VMs".format(*taken["a"])


def test_a_replica_on_several_gpus_takes_its_share_of_each_numa_node_and_is_one_vm() -> None:
    nodes = (gp.NumaNode((0,), vcpus=32), gp.NumaNode((1,), vcpus=32))
    fleet = gp.Fleet((gp.Host("a", ("A100-80GB",) * 2, numa=nodes, max_vms=2),))
    plan = gp.plan([gp.Workload("job", profile="whole", gpus_per_replica=2, vcpus=24)], fleet=fleet)
    host, *here = section(plan, "hosts in use").rows
    assert (host["vCPUs"], host["VMs"]) == ("24", "1 of 2")
    assert [row["vCPUs"] for row in here] == ["12 of 32", "12 of 32"]


def test_hosts_without_limits_are_not_told() -> None:
    plan = gp.plan({"7g.80gb": 1}, fleet=limited("a"))
    assert report.sections(plan) == ()
    assert report.host_figures(plan) == {}


# -- the loss of a host ------------------------------------------------------------------------------------------------


def test_every_host_in_use_says_where_its_replicas_go() -> None:
    plan = gp.plan([gp.Workload("web", 3, "3g.40gb")], fleet=limited("a", "b"), host_failures=1)
    rows = section(plan, "the loss of a host").rows
    hosts = {a.host for a in plan.assignments()}
    assert {row["when it fails"] for row in rows} == hosts
    on = {host: sum(a.host == host for a in plan.assignments()) for host in hosts}
    for row in rows:
        [other] = {"a", "b"} - {row["when it fails"]}
        assert row["replicas go"] == f"{on[row['when it fails']]} web to {other}"


# -- replicas on several GPUs ------------------------------------------------------------------------------------------

LINKED = """\
\tGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity
GPU0\t X \tNV4\tSYS\tPXB\t0-7
GPU1\tNV4\t X \tSYS\tPXB\t0-7
GPU2\tSYS\tSYS\t X \tSYS\t8-15
NIC0\tPXB\tPXB\tSYS\t X \t
"""


def test_a_job_is_one_line_with_its_gpus_link_and_nics() -> None:
    fleet = gp.Fleet((gp.Host("a", ("A100-80GB",) * 3, links=LINKED),))
    wanted = [gp.Workload("job", profile="whole", gpus_per_replica=2, gpu_link="NVLINK", rdma=True)]
    [row] = section(gp.plan(wanted, fleet=fleet), "replicas on several GPUs").rows
    assert row == {
        "replica": "job #0",
        "takes": "2 x whole",
        "host": "a",
        "on": "gpu0, gpu1",
        "worst link": "NVLINK",
        "NICs beside": "NIC0",
    }


# -- stages and GPUs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power_w", "words"), [(400.0, "400 W"), (12_500.0, "12.5 kW")])
def test_stages_are_told_in_their_units(power_w, words) -> None:
    fleet = gp.Fleet((gp.Host("a", (gp.Gpu("A100-80GB", cost_per_hour=3.25, power_w=power_w),)),))
    plan = gp.plan({"7g.80gb": 1}, fleet=fleet, objective=("placed", "cost", "power", "hosts"))
    told = {row["stage"]: (row["value"], row["bound"]) for row in section(plan, "objective").rows}
    assert told == {
        "placed": ("1 replica", "proven"),
        "cost of GPUs in use": ("3.25 per hour", "proven"),
        "power of GPUs in use": (words, "proven"),
        "hosts in use": ("1", "proven"),
        "GPUs in use": ("1", "proven"),
    }


def test_existing_instances_are_told_as_such_and_apart() -> None:
    busy = gp.Gpu("A100-80GB", instances=("3g.40gb@4",))
    plan = gp.plan({"3g.40gb": 3}, fleet=gp.Fleet((gp.Host("a", (busy, gp.Gpu("A100-80GB"))),)), modes=("mig",))
    rows = report.rows(plan.layout, plan.fleet)
    assert [(row["where"], row["workloads"]) for row in rows] == [
        ("a/gpu0", "3g.40gb; in use by others: 3g.40gb@4"),
        ("a/gpu1", "3g.40gb"),
    ]
    text = report.text(plan.summary, plan.layout, plan.metrics, (), (), fleet=plan.fleet, width=200)
    assert "in use by others: 3g.40gb@4" in text


def test_many_rows_are_counted() -> None:
    many = Section.of("many", [{"row": str(number)} for number in range(100)])
    plan = gp.plan_mig("4g")
    text = report.text(plan.summary, plan.layout, plan.metrics, (), (), sections=[many])
    assert "many (the first 60 rows; 40 more)" in text
    assert len(many.rows) == 60


def test_text_is_text_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert "3g.40gb" in gp.plan_mig({"3g.40gb": 1}).to_text()
