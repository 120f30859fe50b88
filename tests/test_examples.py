"""What newcomers copy from: every example runs and says what it should; the notebook is short and clean."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import yaml

from benchmarks import Study
from partitioner import Plan, SpecError, Workload
from partitioner.geometry import parse_terms
from partitioner.workload import read_workloads

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
TOTAL_VMS = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 3, 7: 4, 8: 7}  # the document's Table 2, last column


def execute(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def output(*arguments: str | Path, cwd: Path = ROOT) -> str:
    done = execute(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


alibaba = module("alibaba_trace")


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_example_runs_from_any_folder(name: str, tmp_path: Path) -> None:
    assert output(EXAMPLES / name, cwd=tmp_path)


# -- Table 2 of the MIG study ------------------------------------------------------------------------------------------


def test_table_2_puts_each_scenario_on_one_gpu_with_proof() -> None:
    said = output(EXAMPLES / "table_2.py")
    parts = re.split(r"^Scenario (\d): ", said, flags=re.MULTILINE)[1:]
    found = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
    assert set(found) == set(TOTAL_VMS)
    for number, text in found.items():
        assert "1 GPU, at least 1 needed: optimal (" in text
        assert re.search(rf"\b{TOTAL_VMS[number]} VMs?: ", text)
        assert ", 0 compute slices" in text
    assert "4g.40gb at 0, 2g.20gb at 4, 1g.10gb at 6" in found[6]
    # Every full scenario with a 1g.10gb has 70 of 80 GB in use: the eighth memory slice is out of reach.
    assert all("stranded: 1 memory" in found[number] for number in (6, 7, 8))
    assert "stranded: 0 memory" in found[1]


@pytest.mark.parametrize("number", TOTAL_VMS)
def test_scenario_files_say_what_table_2_says(number: int) -> None:
    file = EXAMPLES / "scenarios" / f"scenario-{number}.yaml"
    terms: Counter[str] = Counter()
    for name, count in parse_terms(module("table_2").SCENARIOS[number].removeprefix("MIG ")):
        terms[name] += count
    assert Counter(workload.profile for workload in read_workloads(file)) == terms
    plan = json.loads(output("-m", "partitioner.cli", "plan", file, "--gpu", "A100-80GB", "--gpus", "1", "--json"))
    assert (plan["complete"], plan["gpus_used"], plan["lower_bound"], plan["status"]) == (True, 1, 1, "optimal")
    assert sum(len(gpu["placements"]) for gpu in plan["layout"]) == TOTAL_VMS[number]


def test_there_is_a_file_for_each_scenario_and_no_other() -> None:
    assert {path.name for path in (EXAMPLES / "scenarios").iterdir()} == {f"scenario-{number}.yaml" for number in TOTAL_VMS}


# -- Table 2 of the vGPU study -----------------------------------------------------------------------------------------


def test_t4_types_agree_with_the_document() -> None:
    said = output(EXAMPLES / "t4_types.py")
    rows = re.findall(r"^GRID (\S+) +(\d+) +(\d+) +(\d+)$", said, flags=re.MULTILINE)
    maxima = {"T4-1q": 16, "T4-2q": 8, "T4-4q": 4, "T4-4c": 4, "T4-8q": 2, "T4-8c": 2, "T4-16q": 1, "T4-16c": 1}
    assert {name: (int(document), int(catalogue), int(gpus)) for name, document, catalogue, gpus in rows} == {
        name: (most, most, 2) for name, most in maxima.items()
    }


def test_t4_sizes_and_series_take_gpus_of_their_own() -> None:
    said = output(EXAMPLES / "t4_types.py")
    counts = dict(re.findall(r"^([a-z ]+): \d+ x .*\n  (\d+) T4s, at least \2 needed \(optimal\)$", said, flags=re.MULTILINE))
    # A T4 holds one size of one series, so the GPUs of each type add up: 30 of 16 and 4 of 8 take 2 + 1, and so on.
    assert counts == {"classroom": "3", "sizes do not mix": "2", "series do not mix": "2", "office and inference": "8"}


# -- the cluster trace -------------------------------------------------------------------------------------------------

HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n"


def trace(folder: Path, *rows: str, header: str = HEADER, name: str = "pods.csv") -> Path:
    file = folder / name
    file.write_text(header + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def test_rows_of_a_trace_become_workloads(tmp_path: Path) -> None:
    file = trace(
        tmp_path,
        "part,4000,8192,1,460,,LS",
        "one,4000,8192,1,1000,,LS",
        "eight,4000,8192,8,1000,V100M16|V100M32,BE",
        "none,4000,8192,0,0,,BE",
        "least,4000,8192,1,1,,LS",
    )
    workloads, skipped = alibaba.read_trace(file)
    assert workloads == [
        Workload("part", gpu_share=0.46),
        Workload("one", profile="whole"),
        Workload("eight", profile="whole", count=8),
        Workload("least", gpu_share=0.001),
    ]
    assert skipped == 1


def test_a_folder_means_the_pod_list_in_it(tmp_path: Path) -> None:
    trace(tmp_path, "one,1,1,1,1000,,LS", name="openb_pod_list_default.csv")
    assert alibaba.read_trace(tmp_path) == ([Workload("one", profile="whole")], 0)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("x,1,1,1,0,,LS", "num_gpu 1 with gpu_milli 0"),
        ("x,1,1,1,1001,,LS", "num_gpu 1 with gpu_milli 1001"),
        ("x,1,1,2,500,,LS", "num_gpu 2 with gpu_milli 500"),
        ("x,1,1,0,500,,LS", "num_gpu 0 with gpu_milli 500"),
        ("x,1,1,,500,,LS", "num_gpu '' is not a whole number"),
        ("x,1,1,-1,500,,LS", "num_gpu '-1' is not a whole number"),
        ("x,1,1,1,0.5,,LS", "gpu_milli '0.5' is not a whole number"),
        ("x,1,1,1,²,,LS", "gpu_milli '²' is not a whole number"),
        ("x,1,1,99999999,1000,,LS", "less than or equal to 10000000"),
        (",1,1,1,500,,LS", "name"),
        ("good,1,1,1,500,,LS", "name 'good' stands in line 2 too"),
        ("x,1,1,1", "more or fewer values"),
        ("x,1,1,1,500,,LS,extra", "more or fewer values"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(row: str, complaint: str, tmp_path: Path) -> None:
    file = trace(tmp_path, "good,1,1,1,500,,LS", row, "also-good,1,1,1,500,,LS")
    with pytest.raises(SpecError) as caught:
        alibaba.read_trace(file)
    (problem,) = caught.value.problems
    assert (problem.origin, problem.line) == (str(file), 3)
    assert complaint in str(problem)


def test_all_bad_rows_are_named_and_the_exit_code_is_2(tmp_path: Path) -> None:
    file = trace(tmp_path, "a,1,1,1,0,,LS", "b,1,1,x,1,,LS")
    out = tmp_path / "workloads.yaml"
    done = execute(EXAMPLES / "alibaba_trace.py", file, "--out", out)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{file}:2", f"{file}:3"]
    assert all(line.startswith("error: ") for line in lines)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"name,num_gpus\n", ":1: no column 'num_gpu', 'gpu_milli'"),
        (b"", ":1: no column 'name', 'num_gpu', 'gpu_milli'"),
        (b"name,num_gpu,gpu_milli\n", "no pod asks for a GPU"),
        (b"name,num_gpu,gpu_milli\na,0,0\n", "no pod asks for a GPU"),
        (b"name,num_gpu,gpu_milli\n\xff,1,1\n", "cannot be read"),
        (b'name,num_gpu,gpu_milli\n"a"b,1,1\n', "cannot be read"),
    ],
)
def test_what_is_no_trace_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "pods.csv"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=re.escape(complaint)):
        alibaba.read_trace(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        alibaba.read_trace(tmp_path)


def test_first_fit_decreasing() -> None:
    assert alibaba.first_fit_decreasing([300, 500, 600, 400, 500]) == 3  # 600+400, 500+500, 300
    assert alibaba.first_fit_decreasing([]) == 0


def test_the_made_up_trace_is_planned_and_compared(tmp_path: Path) -> None:
    out, page = tmp_path / "workloads.yaml", tmp_path / "plan.html"
    said = output(EXAMPLES / "alibaba_trace.py", "--out", out, "--html", page)
    assert "27 pods with GPUs (22 with part of one), 3 without skipped" in said
    gpus = [int(number) for number in re.findall(r"^ +(\d+) GPUs, ", said, flags=re.MULTILINE)]
    planned, entire, anywhere = gpus
    assert (planned, entire, anywhere) == (20, 31, 17)
    assert "20 GPUs, cut as planned (mig and whole); at least 20" in said
    assert "<svg" in page.read_text(encoding="utf-8")
    assert list(read_workloads(out)) == alibaba.read_trace(EXAMPLES / "made_up_trace.csv")[0]
    again = execute("-m", "partitioner.cli", "plan", out, "--gpu", "A100-80GB", "--mode", "any", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["gpus_used"] <= planned  # it may share in time as well


def test_a_gpu_without_mig_is_shared_by_vgpus() -> None:
    said = output(EXAMPLES / "alibaba_trace.py", "--gpu", "T4")
    assert "20 GPUs, cut as planned (vgpu and whole); at least 20" in said


def test_the_made_up_trace_says_that_it_is() -> None:
    workloads, _ = alibaba.read_trace(EXAMPLES / "made_up_trace.csv")
    assert all(workload.name.startswith("made-up-") for workload in workloads)
    assert len(workloads) < 50


# -- the demonstration -------------------------------------------------------------------------------------------------


def test_the_demo_writes_a_picture_a_page_and_a_plan(tmp_path: Path) -> None:
    said = output(EXAMPLES / "demo.py", tmp_path / "new" / "demo", cwd=tmp_path)
    folder = tmp_path / "new" / "demo"
    assert {path.name for path in folder.iterdir()} == {"plan.svg", "plan.html", "plan.json"}
    assert all(str(path) in said for path in folder.iterdir())
    assert ElementTree.parse(folder / "plan.svg").getroot().tag.endswith("svg")
    plan = Plan.load(folder / "plan.json")
    assert (plan.status, plan.placed, plan.gpus_used, plan.lower_bound) == ("optimal", 54, 16, 16)
    assert [(entry.workload, entry.count) for entry in plan.unplaced] == [("pretraining", 1)]
    assert {group.pattern.model for group in plan.layout.groups()} == {"A100-80GB", "H100-80GB", "A40", "T4"}
    page = (folder / "plan.html").read_text(encoding="utf-8")
    assert all(workload.name in page for workload in plan.workloads)


def test_the_demo_is_what_the_command_line_plans(tmp_path: Path) -> None:
    output(EXAMPLES / "demo.py", tmp_path)
    files = (EXAMPLES / "workloads.yaml", "--fleet", EXAMPLES / "fleet.yaml", "--out", tmp_path / "again.json")
    done = execute("-m", "partitioner.cli", "plan", *files)
    assert done.returncode == 3  # one workload is left out on purpose
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "plan.json").read_bytes()


def test_every_kind_of_demand_is_shown() -> None:
    text = (EXAMPLES / "workloads.yaml").read_text(encoding="utf-8")
    shown = {key for workload in yaml.safe_load(text)["workloads"] for key in workload}
    assert shown == {"name", "count", "profile", "memory_gib", "compute_slices", "gpu_share", "priority"}


# -- services, mixed fleets, hosts that fail, training -----------------------------------------------------------------


def test_services_get_their_rates_and_cut_gpus_are_fewer_than_entire_ones() -> None:
    said = output(EXAMPLES / "services.py")
    wanted = {w.name: w.rate for w in read_workloads(EXAMPLES / "services" / "workloads.yaml")}
    given = dict(re.findall(r"^(\w+) .* gets +([\d,]+)/s$", said, flags=re.MULTILINE))
    assert set(given) == set(wanted)
    assert all(float(rate.replace(",", "")) >= wanted[name] for name, rate in given.items())
    [(cut, least, entire)] = re.findall(
        r"^(\d+) GPUs, at least (\d+): optimal; entire GPUs would be (\d+)\.$", said, re.MULTILINE
    )
    assert cut == least
    assert int(cut) < int(entire)
    faster = [int(gpus) for gpus in re.findall(r"%: (\d+) GPUs, at least", said)]
    assert faster == sorted(faster)
    assert int(cut) <= faster[0] < faster[-1]  # less time takes more GPUs,
    assert "the lowest that 'inceptionv3' reaches here is" in said  # until there is none that is fast enough


def test_each_goal_wins_in_its_own_figure() -> None:
    said = output(EXAMPLES / "mixed_fleet.py")
    rows = re.findall(r"^(fewest GPUs|lowest cost|least power) +(\d+) +([\d.]+) +([\d,]+)  .*\(optimal\)$", said, re.MULTILINE)
    gpus, cost, power = ({goal: float(row[at].replace(",", "")) for goal, *row in rows} for at in range(3))
    assert set(gpus) == {"fewest GPUs", "lowest cost", "least power"}
    for goal, figure in {"fewest GPUs": gpus, "lowest cost": cost, "least power": power}.items():
        assert figure[goal] == min(figure.values())
        assert min(value for other, value in figure.items() if other != goal) > figure[goal]


def test_a_plan_that_survives_a_failure_moves_all_replicas_of_a_host() -> None:
    said = output(EXAMPLES / "host_failure.py")
    lines = re.findall(r"^(as they are|when any one host may fail): (\d+) replicas .* (\d+) spare instances$", said, re.MULTILINE)
    (_, plain, none), (_, safe, spare) = lines
    assert (plain, none) == (safe, "0")
    assert int(spare) > 0
    moved = [sum(map(int, re.findall(r"(\d+) x", line))) for line in re.findall(r"^  esx-\d\d fails: (.*)$", said, re.MULTILINE)]
    assert sum(moved) == int(safe)  # each replica runs on one host, and each host may be the one that fails


def test_training_jobs_stand_on_linked_gpus_of_one_board() -> None:
    said = output(EXAMPLES / "training.py")
    jobs = re.findall(r"^pretraining #\d: 4 x whole on (node-\d) (.*), beside (.*)$", said, re.MULTILINE)
    assert len(jobs) == 2
    boards = {"gpu0, gpu1, gpu2, gpu3": "mlx5_0, mlx5_1", "gpu4, gpu5, gpu6, gpu7": "mlx5_2, mlx5_3"}
    assert all(boards[gpus] == nics for _, gpus, nics in jobs)
    assert "8 GPUs linked by NVLINK at worst: left out" in said
    assert "8 GPUs linked by SYS at worst: placed" in said


# -- the notebook ------------------------------------------------------------------------------------------------------


def test_the_notebook_is_short_and_stored_without_outputs() -> None:
    notebook = json.loads((ROOT / "notebooks" / "quick_start.ipynb").read_text(encoding="utf-8"))
    assert len(notebook["cells"]) < 35
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_the_study_shows_every_field_and_what_it_says_can_be_read() -> None:
    text = (EXAMPLES / "measure" / "study.yaml").read_text(encoding="utf-8")
    shown = {found[1]: yaml.safe_load(found[2]) for found in re.finditer(r"^# ([a-z_]+): (.*?)\s+#", text, re.MULTILINE)}
    assert {"scenarios", *shown} == {field.name for field in dataclasses.fields(Study)}
    needs = {"addresses": {"servers": "external", "scenarios": ["7g", "1g"]}, "rate_per_s": {"modes": "server"}}
    for key, value in shown.items():
        Study.from_data({**yaml.safe_load(text), key: value, **needs.get(key, {})})
