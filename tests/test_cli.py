"""The command line, through real processes: what people and scripts meet."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from partitioner import catalog
from partitioner.cli.tables import draw_starts, modes_text

COMMAND = [sys.executable, "-m", "partitioner.cli"]

OWN_GPU = """\
format = "gpu-partitioner/gpu"
version = 1
name = "Lab-20GB"
architecture = "Testing"
pci_device_ids = ["0xFFF1"]
memory_gib = 20
as_of = 2026-01-01
notes = ["für Übung"]

[sources]
made-up = { title = "invented for this test", as_of = 2025-12-31 }

[mig]
compute_slices = 2
memory_slices = 2
max_gpu_instances = 2
sources = ["made-up"]

[[mig.profiles]]
name = "1g.10gb"
compute_slices = 1
memory_mib = 10240
starts = [0, 1]
extent = 1
max_count = 2
inferred = ["placements"]

[[mig.profiles]]
name = "2g.20gb"
compute_slices = 2
memory_mib = 20480
starts = [0]
extent = 2
max_count = 1
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    keep = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR", "NO_COLOR")}
    return {**keep, "PYTHONIOENCODING": "utf-8", **changes}


def start(
    *args: str | Path,
    command: Sequence[str] = COMMAND,
    stdin: int | None = None,
    stdout: Any = None,
    cwd: Path | None = None,
    **env: str,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, *map(str, args)], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd=cwd, env=environment(**env)
    )


def partitioner(*args: str | Path, stdin: str = "", cwd: Path | None = None, **env: str) -> Outcome:
    process = start(*args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, **env)
    out, err = process.communicate(stdin.encode(), timeout=120)
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    return Outcome(process.returncode, out.decode(encoding), err.decode(encoding))


def assert_one_error(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.fixture
def own_gpu(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(OWN_GPU, encoding="utf-8")
    return path


# -- as a program ------------------------------------------------------------------------------------------------------


def test_help_is_short_shows_examples_and_loads_nothing_heavy() -> None:
    heavy = ("numpy", "ortools", "networkx", "pydantic", "yaml", "partitioner.catalog")
    report = f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules], file=sys.stderr))"
    code = f"import atexit, sys; from partitioner.cli import main; {report}; sys.argv = ['partitioner', '--help']; main()"
    process = start(command=[sys.executable, "-c", code], stdout=subprocess.PIPE)
    out, err = (stream.decode() for stream in process.communicate(timeout=60))
    assert process.returncode == 0
    assert err.strip() == "[]"
    assert "partitioner plan workloads.yaml --gpu A100-80GB" in out
    assert len(out.splitlines()) <= 40
    for command in ("plan", "show", "schema", "catalog"):
        assert re.search(rf"^  {command}\s", out, re.MULTILINE)


def test_help_keeps_the_lines_of_examples() -> None:
    lines = [line.strip() for line in partitioner("plan", "--help").out.splitlines()]
    assert "partitioner plan 4g+2g+3x1g --gpu H100-80GB --gpus 1" in lines


def test_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert partitioner("--version").out == f"partitioner {version('gpu-partitioner')}\n"


@pytest.mark.parametrize("args", [["plan"], ["fly"], ["plan", "4g", "--gpu", "T4", "--gpus", "0"], ["plan", "4g", "--mode", "x"]])
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    outcome = partitioner(*args)
    assert outcome.code == 2
    assert "Usage:" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_reader_that_leaves_is_no_error() -> None:
    process = start("catalog", "list", stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1


def test_a_full_disk_is_named_without_traceback() -> None:
    with open("/dev/full", "w") as full:
        process = start("catalog", "list", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == b"error: output cannot be written: No space left on device\n"


def test_an_interrupt_exits_with_130_and_no_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "workloads.yaml"
    os.mkfifo(fifo)
    process = start("plan", fifo, "--gpu", "A100-80GB")
    writer = open_when_read(fifo)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 130
    os.close(writer)


def open_when_read(fifo: Path) -> int:
    """Open a pipe for writing once the process under test reads it, so that nothing depends on its speed."""
    for _ in range(600):
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: nobody reads yet
            time.sleep(0.1)
    raise AssertionError("nobody read the pipe")


# -- catalog -----------------------------------------------------------------------------------------------------------


def test_catalog_list_has_a_line_for_every_gpu() -> None:
    lines = partitioner("catalog", "list").out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(catalog.names())
    (a100,) = (line for line in lines if line.startswith("A100-80GB"))
    assert a100.split()[1:3] == ["Ampere", "80"]
    assert "mig, vgpu-equal 4-80 GB, vgpu-mixed, whole" in a100
    assert "0x20B2" in a100


def test_catalog_list_as_json_says_the_same_as_the_catalogue() -> None:
    entries = json.loads(partitioner("catalog", "list", "--json").out)
    assert [entry["name"] for entry in entries] == list(catalog.names())
    assert all(tuple(entry["modes"]) == catalog.gpu(entry["name"]).modes for entry in entries)


@pytest.mark.parametrize("name", ["A100-80GB", "NVIDIA A100-SXM4-80GB", "A100D", "0x20B2", "10DE:20B2"])
def test_catalog_show_takes_any_name(name: str) -> None:
    assert partitioner("catalog", "show", name).out.startswith("A100-80GB\n")


def test_catalog_show_draws_profiles_starts_and_vgpu_types() -> None:
    lines = partitioner("catalog", "show", "A100-80GB").out.splitlines()
    assert "3g.40gb    |[0=========][4=========]|" in lines
    assert "2g.20gb    |[0===][2===][4===]      |" in lines
    assert "16 GB |[0=============]        [24============][40============]        [64============]|" in lines
    assert "Maximal configurations (nothing can be added): 44" in lines
    (row,) = (line.split() for line in lines if line.startswith("3g.40gb") and "|" not in line and "copy" in line)
    assert row == ["3g.40gb", "9", "3", "39.25", "42", "0,", "4", "2", "2", "decoders,", "3", "copy", "engines"]
    (mixed,) = (line.split() for line in lines if " A100D-16C " in line)
    assert mixed[:6] == ["vgpu-equal-16", "A100D-16C", "16*", "5", "4", "grid_a100d-16c*"]
    assert any(line.startswith("  [lgip-a100-80] ") and line.rstrip().endswith("(as of 2026-11-20)") for line in lines)


def test_catalog_show_marks_what_was_concluded(own_gpu: Path) -> None:
    lines = partitioner("catalog", "show", "Lab-20GB", "--catalog", own_gpu).out.splitlines()
    (row,) = (line.split() for line in lines if line.startswith("1g.10gb") and "|" not in line)
    assert row[5:7] == ["0,", "1*"]
    (whole,) = (line.split() for line in lines if line.startswith("2g.20gb") and "|" not in line)
    assert whole[5] == "0"
    footnote = lines.index("* concluded, not read off a driver or a table:")
    assert lines[footnote + 1].strip() == "placements: 1g.10gb"
    assert "  [made-up] invented for this test (as of 2025-12-31)" in [line.rstrip() for line in lines]


def test_catalog_show_as_json_gives_everything() -> None:
    data = json.loads(partitioner("catalog", "show", "A100-80GB", "--json").out)
    model = catalog.gpu("A100-80GB")
    assert data["record"] == model.record.model_dump(mode="json")
    assert [geometry["mode"] for geometry in data["geometries"]] == list(model.modes)
    (profile,) = (p for p in data["geometries"][0]["profiles"] if p["name"] == "3g.40gb")
    assert (profile["starts"], profile["extent"], profile["gi_profile_id"]) == ([0, 4], 4, 9)
    assert {"4g.40gb": 1, "2g.20gb": 1, "1g.10gb": 1} in data["maximal_mig_configurations"]


def test_every_gpu_can_be_shown() -> None:
    from rich.console import Console

    from partitioner.cli.catalog import model_data
    from partitioner.cli.tables import description

    for name in catalog.names():
        model = catalog.gpu(name)
        json.dumps(model_data(model), allow_nan=False)
        for width in (60, 160):
            out = Console(width=width, markup=False, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
            with out.file:
                for part in description(model, width=width):
                    out.print(part)
            assert max(map(len, out.export_text().splitlines())) <= width


def test_catalog_show_writes_the_drawing(tmp_path: Path) -> None:
    outcome = partitioner("catalog", "show", "A100-80GB", "--svg", "a100.svg", cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.err == "wrote a100.svg\n"
    assert (tmp_path / "a100.svg").read_text(encoding="utf-8").startswith("<svg")


def test_catalog_check_shows_what_a_file_offers(own_gpu: Path) -> None:
    outcome = partitioner("catalog", "check", own_gpu)
    assert outcome.code == 0
    assert "is valid" in outcome.out
    assert "2g.20gb |[0===]|" in outcome.out


def test_catalog_check_names_every_problem_with_its_line(own_gpu: Path) -> None:
    text = OWN_GPU.replace("memory_gib = 20", "memory_gib = -1").replace("max_count = 2", "max_count = 2\ncolour = 1")
    own_gpu.write_text(text, encoding="utf-8")
    outcome = partitioner("catalog", "check", own_gpu)
    assert outcome.code == 2
    assert outcome.out == ""
    first, second = outcome.err.splitlines()
    lines = text.splitlines()
    assert first.startswith(f"error: {own_gpu}:{lines.index('memory_gib = -1') + 1}: memory_gib: ")
    assert second.startswith(f"error: {own_gpu}:{lines.index('colour = 1') + 1}: mig.profiles[0].colour: unknown field")


def test_catalog_check_finds_names_that_are_taken(own_gpu: Path) -> None:
    own_gpu.write_text(OWN_GPU.replace("Lab-20GB", "T4"), encoding="utf-8")
    assert_one_error(partitioner("catalog", "check", own_gpu), str(own_gpu), "'T4' is taken")


def test_own_gpus_stand_in_the_list(own_gpu: Path) -> None:
    entries = json.loads(partitioner("catalog", "list", "--json", "--catalog", own_gpu).out)
    assert "Lab-20GB" in {entry["name"] for entry in entries}


def test_modes_are_told_in_short() -> None:
    assert modes_text(catalog.gpu("T4")) == "vgpu-equal 1-16 GB, whole"
    assert modes_text(catalog.gpu("B200-180GB")) == "mig, vgpu-equal 180 GB, whole"


def test_drawn_starts_fit_any_width() -> None:
    rows = [("one", tuple(range(48)), 1), ("big", (0, 24), 24), ("over", (0, 4, 8), 12)]
    for width in (60, 80, 400):
        lines = draw_starts(rows, 48, width=width)
        assert max(map(len, lines)) <= width
        assert len({len(line) for line in lines[1:]}) == 1
        assert len(lines) == 1 + 1 + 1 + 3  # overlapping starts take a line each
    assert "[47]" in lines[1]


# -- bytes on the terminal ---------------------------------------------------------------------------------------------


def test_ascii_terminals_get_replacements_not_tracebacks(own_gpu: Path) -> None:
    outcome = partitioner("catalog", "show", "Lab-20GB", "--catalog", own_gpu, PYTHONIOENCODING="ascii")
    assert outcome.code == 0
    assert "f?r ?bung" in outcome.out
    planned = partitioner("plan", "3g.40gb", "--gpu", "A100-80GB", PYTHONIOENCODING="ascii")
    assert planned.code == 0
    assert "?" not in planned.out


def test_json_is_exact_in_every_encoding(own_gpu: Path) -> None:
    outcome = partitioner("catalog", "show", "Lab-20GB", "--catalog", own_gpu, "--json", PYTHONIOENCODING="ascii")
    assert json.loads(outcome.out)["record"]["notes"] == ["für Übung"]


def test_names_from_files_cannot_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text('"\\e[2J": {profile: 3g.40gb, count: 0}\n')
    assert_one_error(partitioner("plan", "w.yaml", "--gpu", "A100-80GB", cwd=tmp_path), "\\x1b[2J.count")


def test_pipes_get_no_escape_codes() -> None:
    assert "\x1b" not in partitioner("catalog", "show", "T4").out
    coloured = partitioner("catalog", "show", "T4", FORCE_COLOR="1", NO_COLOR="1").out
    assert not re.search(r"\x1b\[(?:[0-9]+;)*(?:3[0-7]|38|9[0-7])m", coloured)


# -- plan --------------------------------------------------------------------------------------------------------------

WORKLOADS = """\
- {name: chat, profile: 3g.40gb, count: 2}
- {name: embed, memory_gib: 8, count: 9}
"""


def test_a_plan_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKLOADS)
    outcome = partitioner("plan", "w.yaml", "--gpu", "A100-80GB", cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.err == ""
    assert "chat" in outcome.out


def test_json_is_the_plan_and_nothing_else() -> None:
    outcome = partitioner("plan", "-", "--gpu", "A100-80GB", "--json", stdin=WORKLOADS)
    assert outcome.code == 0
    assert outcome.err == ""
    from partitioner.planning import Plan

    plan = Plan.from_json(outcome.out)
    assert plan.status == "optimal"
    assert plan.complete
    assert plan.gpus_used == plan.lower_bound == 3  # 2 x 4 + 9 x 1 of 8 slices, and at most 7 instances on a GPU
    placed = [assignment.workload for assignment in plan.assignments()]
    assert (placed.count("chat"), placed.count("embed")) == (2, 9)


@pytest.mark.parametrize("form", ["a: {profile: 3g.40gb}", '[{"name": "a", "profile": "3g.40gb"}]', "3g.40gb: 1"])
def test_standard_input_in_every_form(form: str) -> None:
    assert partitioner("plan", "-", "--gpu", "A100-80GB", stdin=form).code == 0


def test_a_configuration_in_the_place_of_a_file() -> None:
    assert partitioner("plan", "4g+2g+1g", "--gpu", "A100-80GB", "--gpus", "1").code == 0


def test_files_need_no_suffix(tmp_path: Path) -> None:
    (tmp_path / "wanted").write_text(WORKLOADS)
    assert partitioner("plan", "wanted", "--gpu", "A100-80GB", cwd=tmp_path).code == 0


def test_something_left_out_exits_with_3() -> None:
    outcome = partitioner("plan", "3x3g", "--gpu", "A100-80GB", "--gpus", "1", "--json")
    assert outcome.code == 3
    assert outcome.err == ""
    from partitioner.planning import Plan

    (left_out,) = Plan.from_json(outcome.out).unplaced
    assert left_out.count == 1


def test_a_saved_plan_can_be_shown_and_drawn(tmp_path: Path) -> None:
    outputs = ("--out", "p.json", "--html", "p.html", "--svg", "p.svg")
    made = partitioner("plan", "-", "--gpu", "A100-80GB", *outputs, stdin=WORKLOADS, cwd=tmp_path)
    assert made.code == 0
    assert made.err.splitlines() == ["wrote p.json", "wrote p.html", "wrote p.svg"]
    assert (tmp_path / "p.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "<html" in (tmp_path / "p.html").read_text(encoding="utf-8")
    shown = partitioner("show", "p.json", cwd=tmp_path)
    assert (shown.code, shown.out) == (0, made.out)
    as_json = partitioner("show", "p.json", "--json", "--svg", "again.svg", cwd=tmp_path)
    assert json.loads(as_json.out) == json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "p.svg").read_bytes()


def modes_of(*args: str) -> set[str | None]:
    outcome = partitioner("plan", *args, "--json")
    assert outcome.code == 0, outcome
    from partitioner.planning import Plan

    return {assignment.mode for assignment in Plan.from_json(outcome.out).assignments()}


def test_the_mode_decides_how_gpus_are_cut(tmp_path: Path) -> None:
    wanted = tmp_path / "w.yaml"
    wanted.write_text("- {name: a, memory_gib: 4, count: 2}\n")
    assert modes_of(str(wanted), "--gpu", "A100-80GB") == {"mig"}
    assert modes_of(str(wanted), "--gpu", "T4") == {"vgpu-equal-4"}
    assert modes_of(str(wanted), "--gpu", "A100-80GB", "--mode", "whole") == {"whole"}
    assert all(mode and mode.startswith("vgpu-") for mode in modes_of(str(wanted), "--gpu", "A100-80GB", "--mode", "vgpu"))
    assert modes_of("3g.40gb", "--gpu", "A100-80GB", "--mode", "any") == {"mig"}


def test_a_fleet_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("hosts: {esx-01: {A100-80GB: 1, T4: 1}}\n")
    (tmp_path / "w.yaml").write_text("- {name: a, profile: 7g.80gb}\n- {name: b, profile: T4-4Q, count: 4}\n")
    outcome = partitioner("plan", "w.yaml", "--fleet", "fleet.yaml", "--json", cwd=tmp_path)
    assert outcome.code == 0
    from partitioner.planning import Plan

    placed = {(a.host, a.gpu, a.mode) for a in Plan.from_json(outcome.out).assignments()}
    assert placed == {("esx-01", 0, "mig"), ("esx-01", 1, "vgpu-equal-4")}


def test_own_gpus_can_be_planned_for_and_shown_again(own_gpu: Path, tmp_path: Path) -> None:
    made = partitioner("plan", "2x1g", "--gpu", "Lab-20GB", "--catalog", own_gpu, "--out", "p.json", cwd=tmp_path)
    assert made.code == 0
    assert partitioner("show", "p.json", "--catalog", own_gpu, cwd=tmp_path).out == made.out
    assert_one_error(partitioner("show", "p.json", cwd=tmp_path), "Lab-20GB")


def test_the_same_input_gives_the_same_bytes() -> None:
    args = ("plan", "-", "--gpu", "A100-80GB", "--json", "--seed", "7")
    assert partitioner(*args, stdin=WORKLOADS).out == partitioner(*args, stdin=WORKLOADS).out


SERVICES = "search: {model: bert-99, rate: 300, latency_ms: 130}\nweb: {profile: 3g.40gb, count: 2, vcpus: 8}\n"
HOSTS = """\
hosts:
  a: {gpus: [{model: A100-80GB, cost_per_hour: 3.2}], vcpus: 32}
  b: {gpus: [{model: A100-80GB, cost_per_hour: 2.5}], vcpus: 32}
"""
POINTS = """\
gpu,profile,model,batch,processes,busy,throughput_per_s,latency_ms,source
A100-80GB,1g.10gb,mine,8,1,true,100,80,bench
A100-80GB,7g.80gb,mine,8,1,true,700,12,bench
"""


@pytest.mark.parametrize("form", [["placed,cost,gpus"], ["placed", "cost", "gpus"], ["placed, cost", "gpus"]])
def test_the_objective_is_given_with_commas_or_again_and_again(form: list[str], tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(HOSTS)
    stages = [word for stage in form for word in ("--objective", stage)]
    outcome = partitioner("plan", "3g", "--fleet", "f.yaml", *stages, "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome
    plan = json.loads(outcome.out)
    assert [stage["name"] for stage in plan["objectives"]] == ["placed", "cost", "gpus"]
    [used] = [gpu["host"] for gpu in plan["layout"] if gpu["placements"]]
    assert used == "b"


def test_a_plan_for_the_loss_of_a_host_has_spare_instances(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(HOSTS)
    asked = ("plan", "3g.40gb", "--fleet", "f.yaml", "--json")
    cut = [
        [
            slot["workload"]
            for gpu in json.loads(partitioner(*asked, *more, cwd=tmp_path).out)["layout"]
            for slot in gpu["placements"]
        ]
        for more in ((), ("--host-failures", "1"))
    ]
    assert cut[0] == ["3g.40gb"]
    assert sorted(map(str, cut[1])) == ["3g.40gb", "None"]


def test_own_measurements_stand_alone_or_beside_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text(POINTS)
    own, both = tmp_path / "own.yaml", tmp_path / "both.yaml"
    own.write_text("a: {model: mine, rate: 150, latency_ms: 100, scenario: batch}\n")
    both.write_text(own.read_text() + "b: {model: bert-99, rate: 300, latency_ms: 130}\n")
    alone, beside = ("--calibration", "points.csv"), ("--extend-calibration", "points.csv")
    for file, option in ((own, alone), (own, beside), (both, beside)):
        assert partitioner("plan", file, "--gpu", "A100-80GB", *option, cwd=tmp_path).code == 0
    assert_one_error(partitioner("plan", both, "--gpu", "A100-80GB", *alone, cwd=tmp_path), "bert-99")
    assert_one_error(partitioner("plan", own, "--gpu", "A100-80GB", cwd=tmp_path), "'mine'")


# -- schema ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["workloads", "fleet", "plan", "gpu"])
def test_schemas_are_json_schema_of_draft_2020_12(kind: str) -> None:
    outcome = partitioner("schema", kind)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


# -- bad input ---------------------------------------------------------------------------------------------------------

GOOD = "- {name: good, profile: 3g.40gb}\n"
BAD_WORKLOADS = {
    "unknown profile": ("- {name: a, profile: 9g.99gb}", "w.yaml:2", "9g.99gb"),
    "profile of another GPU": ("- {name: a, profile: T4-4Q}", "w.yaml:2", "T4-4Q"),
    "unknown field": ("- {name: a, memroy_gib: 8}", "w.yaml:2", "'memory_gib'"),
    "negative count": ("- {name: a, profile: 3g.40gb, count: -1}", "w.yaml:2", "count", "-1"),
    "zero count": ("- {name: a, profile: 3g.40gb, count: 0}", "w.yaml:2", "count", "0"),
    "huge count": ("- {name: a, profile: 3g.40gb, count: 100000000000000000000000000}", "w.yaml:2", "count"),
    "count that is a bool": ("- {name: a, profile: 3g.40gb, count: true}", "w.yaml:2", "count"),
    "negative memory": ("- {name: a, memory_gib: -8}", "w.yaml:2", "memory_gib", "-8"),
    "zero memory": ("- {name: a, memory_gib: 0}", "w.yaml:2", "memory_gib", "0"),
    "memory that is not a number": ("- {name: a, memory_gib: .nan}", "w.yaml:2", "memory_gib", "nan"),
    "infinite memory": ("- {name: a, memory_gib: .inf}", "w.yaml:2", "memory_gib", "inf"),
    "huge memory": ("- {name: a, memory_gib: 1.0e+300}", "w.yaml:2", "memory_gib", "1e+300"),
    "share above the whole": ("- {name: a, gpu_share: 1.5}", "w.yaml:2", "gpu_share", "1.5"),
    "name twice": ("- {name: good, profile: 3g.40gb}", "w.yaml:2", "'good'", "twice"),
    "profile and memory": ("- {name: a, profile: 3g.40gb, memory_gib: 8}", "w.yaml:2", "3g.40gb", "memory_gib"),
    "nothing asked for": ("- {name: a}", "w.yaml:2", "memory_gib"),
    "key twice": ("- {name: a, profile: 3g.40gb, profile: 4g.40gb}", "w.yaml:2", "'profile'", "twice"),
    "broken YAML": ("- {name: a, profile: 3g.40gb", "w.yaml:", "not YAML"),
    "control character": ("- {name: a, profile: \x07}", "w.yaml:2", "not YAML", "0x07"),
    "text": ("- hello", "w.yaml:2", "hello"),
}


@pytest.mark.parametrize("case", BAD_WORKLOADS)
def test_bad_workloads_get_one_message_with_the_place(case: str, tmp_path: Path) -> None:
    entry, *words = BAD_WORKLOADS[case]
    (tmp_path / "w.yaml").write_text(f"{GOOD}{entry}\n", encoding="utf-8")
    assert_one_error(partitioner("plan", "w.yaml", "--gpu", "A100-80GB", cwd=tmp_path), *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", ["w.yaml", "no workloads"], id="empty file"),
        pytest.param(b"[]", ["w.yaml:1", "no workloads"], id="empty list"),
        pytest.param(b"workloads: []", ["w.yaml:1", "no workloads"], id="empty list under workloads"),
        pytest.param(b"17", ["w.yaml:1", "list or a mapping"], id="number"),
        pytest.param(b"- {name: a}\n\xff\xfe", ["w.yaml:2", "0xff", "UTF-8"], id="not text"),
        pytest.param(b"[" * 100_000, ["w.yaml:1", "nested too deep"], id="nested beyond reason"),
    ],
)
def test_bad_workload_files_get_one_message(content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(content)
    assert_one_error(partitioner("plan", "w.yaml", "--gpu", "A100-80GB", cwd=tmp_path), *words)


def test_a_file_of_100_mb_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "w.yaml", "wb") as file:
        file.truncate(100_000_000)
    assert_one_error(partitioner("plan", "w.yaml", "--gpu", "A100-80GB", cwd=tmp_path), "w.yaml", "larger than 64 MiB")


def test_all_problems_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("- {name: a, memory_gib: -8}\n- {name: b, count: 0, profile: 3g.40gb}\n")
    outcome = partitioner("plan", "w.yaml", "--gpu", "A100-80GB", cwd=tmp_path)
    assert outcome.code == 2
    assert [line.split(": ")[1] for line in outcome.err.splitlines()] == ["w.yaml:1", "w.yaml:2"]


FLEETS = {
    "bad-gpu.yaml": "hosts:\n  esx-01: {A100-90GB: 1}\n",
    "bad-count.yaml": "hosts:\n  esx-01: {T4: 0}\n",
    "bad-field.yaml": "hosts:\n  - {name: esx-01, gpu: [T4]}\n",
    "twice.yaml": "hosts:\n  - {name: esx-01, gpus: [T4]}\n  - {name: esx-01, gpus: [T4]}\n",
    "empty.yaml": "hosts: []\n",
    "plan.json": '{"not": "a plan"}\n',
    "gpu.toml": "name = \n",
}
PLAN = ["plan", "3g.40gb"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param(PLAN, ["--gpu", "--fleet"], id="no GPUs"),
        pytest.param([*PLAN, "--gpu", "T4", "--fleet", "f.yaml"], ["--gpu", "--fleet", "both"], id="GPU and fleet"),
        pytest.param([*PLAN, "--fleet", "f.yaml", "--gpus", "3"], ["--gpus 3"], id="fleet and number"),
        pytest.param(["plan", "-", "--fleet", "-"], ["standard input"], id="standard input twice"),
        pytest.param([*PLAN, "--gpu", "A100-90GB"], ["'A100-90GB'", "'A100-80GB'"], id="unknown GPU"),
        pytest.param([*PLAN, "--gpu", ""], ["GPU ''"], id="empty GPU"),
        pytest.param([*PLAN, "--gpu", "0xFFFF"], ["0xFFFF"], id="unknown PCI device id"),
        pytest.param([*PLAN, "--gpu", "T4", "--mode", "mig"], ["T4", "mig"], id="mode the GPU lacks"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--gpus", "9" * 20], ["9" * 20], id="huge number of GPUs"),
        pytest.param(["plan", "9g.99gb", "--gpu", "A100-80GB"], ["9g.99gb"], id="unknown profile"),
        pytest.param(["plan", "T4-4Q", "--gpu", "A100-80GB"], ["T4-4Q"], id="profile of another GPU"),
        pytest.param(["plan", "0x3g", "--gpu", "A100-80GB"], ["0"], id="none of a profile"),
        pytest.param(["plan", "", "--gpu", "A100-80GB"], ["''"], id="empty configuration"),
        pytest.param(["plan", "none.yaml", "--gpu", "T4"], ["none.yaml", "no such file"], id="missing file"),
        pytest.param(["plan", ".", "--gpu", "T4"], ["directory"], id="directory"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--time-limit", "nan"], ["--time-limit", "nan"], id="time NaN"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--time-limit", "-1"], ["--time-limit", "-1"], id="time negative"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--time-limit", "0"], ["--time-limit", "0"], id="time zero"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--time-limit", "inf"], ["--time-limit", "inf"], id="time without end"),
        pytest.param([*PLAN, "--gpu", "T4", "--objective", "placed,csot"], ["'csot'", "'cost'"], id="objective: unknown stage"),
        pytest.param([*PLAN, "--gpu", "T4", "--objective", "gpus"], ["starts with 'placed'"], id="objective: without placed"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--objective", "placed,cost"], ["cost_per_hour"], id="objective: no costs"),
        pytest.param([*PLAN, "--gpu", "T4", "--host-failures", "1"], ["--host-failures", "--fleet"], id="failures: no hosts"),
        pytest.param([*PLAN, "--gpu", "T4", "--calibration", "x.csv"], ["x.csv", "no such file"], id="calibration: missing"),
        pytest.param([*PLAN, "--gpu", "T4", "--extend-calibration", "x.csv"], ["x.csv", "no such file"], id="extension: missing"),
        pytest.param(
            [*PLAN, "--gpu", "T4", "--calibration", "x", "--extend-calibration", "y"], ["both given"], id="calibration: both"
        ),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--out", "no/p.json"], ["p.json", "'no'"], id="output without directory"),
        pytest.param([*PLAN, "--gpu", "A100-80GB", "--svg", "."], ["directory"], id="output is a directory"),
        pytest.param([*PLAN, "--gpu", "T4", "--svg", "x", "--html", "x"], ["x", "two outputs"], id="output twice"),
        pytest.param([*PLAN, "--fleet", "bad-gpu.yaml"], ["bad-gpu.yaml:2", "A100-90GB"], id="fleet: unknown GPU"),
        pytest.param([*PLAN, "--fleet", "bad-count.yaml"], ["bad-count.yaml:2", "T4", "0"], id="fleet: zero GPUs"),
        pytest.param([*PLAN, "--fleet", "twice.yaml"], ["twice.yaml", "'esx-01'", "twice"], id="fleet: host twice"),
        pytest.param([*PLAN, "--fleet", "empty.yaml"], ["empty.yaml:1", "hosts"], id="fleet: no hosts"),
        pytest.param([*PLAN, "--fleet", "none.yaml"], ["none.yaml", "no such file"], id="fleet: missing file"),
        pytest.param([*PLAN, "--gpu", "T4", "--catalog", "gpu.toml"], ["gpu.toml:1", "not TOML"], id="catalogue: broken"),
        pytest.param([*PLAN, "--gpu", "T4", "--catalog", "plan.json"], ["plan.json", ".toml"], id="catalogue: not TOML"),
        pytest.param(["catalog", "show", "A100-90GB"], ["'A100-90GB'", "did you mean"], id="show: unknown GPU"),
        pytest.param(["catalog", "show", "A100"], ["A100-40GB, A100-80GB"], id="show: ambiguous GPU"),
        pytest.param(["catalog", "check", "none.toml"], ["none.toml", "no such file"], id="check: missing file"),
        pytest.param(["catalog", "check", "."], ["directory"], id="check: directory"),
        pytest.param(["show", "plan.json"], ["plan.json"], id="saved plan: something else"),
        pytest.param(["show", "none.json"], ["none.json", "no such file"], id="saved plan: missing file"),
        pytest.param(["show", "."], ["directory"], id="saved plan: directory"),
    ],
)
def test_bad_arguments_get_one_message(args: list[str], words: list[str], tmp_path: Path) -> None:
    for name, content in FLEETS.items():
        (tmp_path / name).write_text(content)
    assert_one_error(partitioner(*args, cwd=tmp_path), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FLEETS)  # nothing half done


def test_an_unknown_field_of_a_fleet_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(FLEETS["bad-field.yaml"])
    outcome = partitioner(*PLAN, "--fleet", "f.yaml", cwd=tmp_path)
    assert outcome.code == 2
    assert any("f.yaml:2" in line and "unknown field 'gpu'" in line for line in outcome.err.splitlines())
