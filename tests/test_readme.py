"""The README's programs, files and commands do what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from nvml import Card, Machine

import partitioner as gp
from partitioner.performance import Calibration

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_programs_run(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(ROOT / "examples")
    names = {"frame": pd.DataFrame([{"name": "chat", "profile": "3g.40gb", "count": 2}])}
    programs = blocks("python")
    assert len(programs) == 8
    (tmp_path / "mine.csv").write_text(Calibration.default().to_csv(), encoding="utf-8")
    for number, program in enumerate(programs):
        program = program.replace("mine.csv", str(tmp_path / "mine.csv"))  # noqa: PLW2901
        if "NvmlTarget" in program:
            _run_on_hardware(program, names, tmp_path)
            continue
        exec(compile(program, "README.md", "exec"), names)
        if number == 0:
            assert (names["plan"].gpus_used, names["plan"].lower_bound) == (3, 3)
            names["other"] = names["plan"]
    assert {a.workload for a in names["plan"].assignments() if a.throughput} == {"search", "video", "archive"}


def _run_on_hardware(program: str, names: dict[str, object], folder: Path) -> None:
    """Run a program on two GPUs of the library that stands in for the driver."""
    program = program.replace("NvmlTarget()", "NvmlTarget(state=gp.StateFolder(state))").replace('"work', '"changing/work')
    own = dict(names, state=folder / "state")
    with Machine(folder / "machine", [Card("A100-80GB", mig=True), "A100-80GB"]) as machine:
        exec(compile(program, "README.md", "exec"), own)
        placed = sorted(profile for gpu in (0, 1) for profile, _ in machine.placed(gpu))
    assert placed == ["1g.10gb"] * 3 + ["3g.40gb"] * 2


def test_the_transcript_is_what_happens(tmp_path) -> None:
    [section] = re.findall(r"^## Changing what runs\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    section = re.sub(r"^```.*?^```", "", section, flags=re.MULTILINE | re.DOTALL)
    shown = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    shutil.copytree(ROOT / "examples" / "changing", tmp_path, dirs_exist_ok=True)
    commands = [line[2:] for line in shown if line.startswith("$ ")]
    script = "\n".join(f"echo {shlex.quote('$ ' + command)}; {command}" for command in commands)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=tmp_path, env=dict(os.environ, PATH=path), capture_output=True, text=True, check=True
    )
    assert _timeless(done.stdout.splitlines()) == _timeless(shown)


def _timeless(lines: list[str]) -> list[str]:
    return [re.sub(r"in [\d.]+ s", "in a while", line) for line in lines]


def test_the_files_are_read() -> None:
    [text] = blocks("yaml")
    workloads, fleet = text.split("# fleet.yaml")
    assert {w.name for w in gp.plan(yaml.safe_load(workloads), fleet=yaml.safe_load(fleet)).workloads} == {"chat", "embed"}


[USAGE] = re.findall(r"^## From the command line\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("$ ")[1].split("#")[0].strip() for line in USAGE.splitlines() if line.startswith("    $ partitioner")]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "catalog" not in c])
def test_the_commands_end_as_they_should(command, tmp_path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    gp.plan_mig([gp.Workload("chat", profile="4g.40gb")]).save(tmp_path / "plan.json")
    words = shlex.split(command.split(">")[0])[1:]
    done = subprocess.run(
        [sys.executable, "-m", "partitioner.cli", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == (3 if words[0] == "plan" else 0), done.stderr


def test_the_figures_of_the_catalogue_are_counted() -> None:
    models = [gp.catalog.gpu(name) for name in gp.catalog.names()]
    profiles = sum(len(m.record.mig.profiles) for m in models if m.record.mig)
    types = sum(len(board.types) for m in models for board in m.record.boards)
    assert f"{len(models)} GPU models with {profiles} MIG profiles and {types} vGPU types" in README


def test_the_picture_is_the_demo_s() -> None:
    fleet = ROOT / "examples" / "fleet.yaml"
    plan = gp.plan(ROOT / "examples" / "workloads.yaml", fleet=fleet)
    picture = (ROOT / "examples" / "plan.svg").read_text(encoding="utf-8")
    assert f"{plan.placed} replicas on {plan.gpus_used} GPUs" in picture
    assert all(workload.name in picture for workload in plan.workloads)


def test_the_closed_form_is_the_one_of_the_a100() -> None:
    from partitioner.solver.configurations import all_prices, maximal_configurations

    six = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
    found = re.search(r"ceil\(max\((.*?)\)\)`", README, re.DOTALL)
    assert found
    forms = set()
    for form in found[1].split(", "):
        sum_, _, divisor = form.partition("/")
        terms = dict.fromkeys(range(1, 7), 0)
        for coefficient, number in re.findall(r"(\d*)d(\d)", sum_):
            terms[int(number)] = int(coefficient or 1)
        forms.add((tuple(terms.values()), int(divisor or 1)))
    prices = all_prices(maximal_configurations("A100-80GB", "mig", six))
    assert prices is not None
    assert forms == {(price.numerators, price.denominator) for price in prices}
