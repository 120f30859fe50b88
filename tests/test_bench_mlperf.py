"""The MLPerf export: its Python is read by stand-ins of the harness's classes, which have their signatures and make their ids.

The stand-ins follow ``code/common/system_list.py``, ``code/common/constants.py`` and ``code/common/submission.py`` of
mlcommons/inference_results_v1.1, closed/NVIDIA (commit 7fc4335), in what the export depends on; they are not the harness.
LoadGen, which reads ``user.conf``, is the real one.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.mlperf import export_mlperf, write_mlperf
from benchmarks.mlperf.harness import BENCHMARKS, BOARDS, SCENARIOS
from benchmarks.scenarios import TABLE_2, Scenario
from partitioner import catalog
from partitioner.errors import SpecError

# -- stand-ins ---------------------------------------------------------------------------------------------------------

# A line of nvidia-smi -L, as NVIDIA_SMI_MIG_REGEX of the harness reads it.
MIG_LINE = re.compile(r"\s+MIG\s+(\d+)g.(\d+)gb\s+Device\s+(\d+):\s+\(UUID:\s+(MIG-[0-9a-f\-]+)\)")


class MIGSlice:
    def __init__(self, num_gpcs: int, mem_gb: int, device_id: str | None = None, uuid: str | None = None) -> None:
        self.name = f"{num_gpcs:d}g.{mem_gb:d}gb"

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)


class MIGConfiguration:
    def __init__(self, conf: Mapping[object, Mapping[MIGSlice, int]]) -> None:
        self.conf = conf

    def __str__(self) -> str:
        counts: dict[MIGSlice, int] = {}
        for slices in self.conf.values():
            for one, count in slices.items():
                counts[one] = counts.get(one, 0) + count
        (name, total), *others = counts.items()
        assert not others, "the harness names the last profile of a mix only"
        return f"{total}x{name}"


class System:
    def __init__(self, gpu: str, arch: object, count: int, pci_id: object = None, mig_conf: object = None) -> None:
        self.gpu, self.count, self.mig_conf = gpu, count, mig_conf

    def get_id(self) -> str:
        return f"{self.gpu}-MIG_{self.mig_conf}"


class SystemClass:
    def __init__(
        self,
        gpu: str,
        aliases: list[str],
        pci_ids: list[str],
        arch: object,
        supported_counts: list[int],
        valid_mig_slices: list[MIGSlice] | None = None,
    ) -> None:
        self.gpu, self.aliases, self.pci_ids, self.arch = gpu, aliases, pci_ids, arch
        self.supported_counts, self.valid_mig_slices = supported_counts, valid_mig_slices

    def get_match(self, name: str, count: int, pci_id: str, mig_conf: MIGConfiguration) -> System | None:
        valid = {str(one) for one in self.valid_mig_slices or ()}
        used = {str(one) for slices in mig_conf.conf.values() for one in slices}
        fits = pci_id in self.pci_ids and count in self.supported_counts and used <= valid
        return System(self.gpu, self.arch, count, pci_id=pci_id, mig_conf=mig_conf) if fits else None


Architecture = Enum("Architecture", ["Turing", "Xavier", "Ampere"])
Benchmark = Enum("Benchmark", ["BERT", "DLRM", "RNNT", "ResNet50", "SSDMobileNet", "SSDResNet34", "UNET3D"])
MLPerfScenario = Enum("MLPerfScenario", ["Offline", "Server", "SingleStream"])
HarnessType = Enum("HarnessType", ["LWIS", "Custom", "Triton", "HeteroMIG"])
AccuracyTarget = Enum("AccuracyTarget", ["k_99", "k_99_9"])
PowerSetting = Enum("PowerSetting", ["MaxP", "MaxQ"])


class Harness:
    """Stand-in of the harness with one exported scenario in it."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.registered: list[tuple[object, object, object, Any]] = []
        self.known = SimpleNamespace()
        names = list(files)
        common = {"System": System, "SystemClass": SystemClass, "MIGSlice": MIGSlice, "Architecture": Architecture}
        exec(compile(files[names[0]], names[0], "exec"), {"KnownSystems": self.known, **common})
        modules = {
            "code.common.constants": SimpleNamespace(
                AccuracyTarget=AccuracyTarget,
                Benchmark=Benchmark,
                HarnessType=HarnessType,
                PowerSetting=PowerSetting,
                Scenario=MLPerfScenario,
            ),
            "code.common.system_list": SimpleNamespace(MIGConfiguration=MIGConfiguration, **common),
            "configs.configuration": SimpleNamespace(
                BenchmarkConfiguration=type("BenchmarkConfiguration", (), {}),
                ConfigRegistry=SimpleNamespace(register=self._register),
            ),
        }

        def imported(name: str, *_others: object) -> object:
            return modules[name]

        scope = {"__builtins__": {**vars(builtins), "__import__": imported}, "__name__": "configs"}
        exec(compile(files[names[1]], names[1], "exec"), scope)

    def _register(self, harness: object, accuracy: object, power: object) -> Any:
        def register(config: Any) -> Any:
            self.registered.append((harness, accuracy, power, config))
            return config

        return register


def user_conf(scenario: str, config: Any, samples: int) -> str:
    """Stand-in of ``generate_user_conf``: required settings, then optional ones, renamed and scaled."""
    rate = {"Offline": "offline_expected_qps", "Server": "server_target_qps"}.get(scenario)
    lines = [f"target_qps = {getattr(config, rate)}"] if rate else []
    lines.append(f"performance_sample_count_override = {samples}")
    if hasattr(config, "server_target_latency_ns"):
        lines.append(f"target_latency = {config.server_target_latency_ns * (1 / 1000000.0)}")
    lines += [f"{name} = {getattr(config, name)}" for name in ("min_query_count", "min_duration") if hasattr(config, name)]
    return "".join(f"*.{scenario}.{line}\n" for line in lines)


# Fields without which a configuration is not registered, of code/common/fields.py.
REQUIRED = {"benchmark", "scenario", "system", "gpu_batch_size", "precision", "input_dtype", "input_format", "tensor_path"}


# -- the export --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "mode"),
    [(model, mode) for model, known in BENCHMARKS.items() for mode, mlperf in SCENARIOS.items() if mlperf in known.batches],
)
@pytest.mark.parametrize(
    ("text", "gpu", "gpus", "board", "expected"),
    [
        ("7x1g", "A100-80GB", None, None, "A100-PCIe-80GB-MIG_7x1g.10gb"),
        ("28x1g", "A100-80GB", 4, "A100-SXM-80GB", "A100-SXM-80GB-MIG_28x1g.10gb"),
        ("4g", "A100-80GB", None, None, "A100-PCIe-80GB-MIG_1x4g.40gb"),
        ("2g+2g", "A30", None, None, "A30-MIG_2x2g.12gb"),
    ],
)
def test_names_resolve_in_the_harness(
    model: str, mode: str, text: str, gpu: str, gpus: int | None, board: str | None, expected: str
) -> None:
    benchmark, mlperf = BENCHMARKS[model], SCENARIOS[mode]
    scenario = Scenario.parse(text, gpu=gpu, gpus=gpus)
    files = export_mlperf(scenario, model=model, mode=mode, rate_per_s=100, board=board, latency_ms=15, min_duration_s=60)
    harness = Harness(files)

    ((kind, accuracy, _, config),) = harness.registered
    several = len(scenario.instances) > 1
    assert kind is HarnessType["Triton" if several else benchmark.own_harness]
    assert accuracy is AccuracyTarget["k_99_9" if model.endswith("-99.9") else "k_99"]
    assert (config.benchmark, config.scenario) == (Benchmark[benchmark.member], MLPerfScenario[mlperf])
    assert config.system.get_id() == expected
    assert {name for name in vars(config) if not name.startswith("_")} >= REQUIRED
    assert getattr(config, "use_triton", False) is several
    assert hasattr(config, "map_path") is not (config.benchmark is Benchmark.BERT)
    assert not hasattr(config, "start_from_device")

    seen = MIGConfiguration(
        {f"GPU-{gpu}": {MIGSlice(*_slice(scenario)): len(scenario.instances) // len(scenario.gpus)} for gpu in scenario.gpus}
    )
    (entry,) = vars(harness.known).values()
    found = entry.get_match("", len(scenario.gpus), pci_id=entry.pci_ids[0], mig_conf=seen)
    assert found is not None
    assert found.get_id() == expected

    suffix = "_TRT_Triton" if several else "_TRT"
    prefix = "DGX-A100_" if "A100-SXM" in expected else ""
    conf = f"measurements/{prefix}{expected}{suffix}/{model}/{mlperf}/user.conf"
    assert files[conf] == user_conf(mlperf, config, benchmark.samples)


def _slice(scenario: Scenario) -> tuple[int, int]:
    slices, gb = scenario.profiles[0].removesuffix("gb").split("g.")
    return int(slices), int(gb)


def test_the_text_is_python_that_needs_no_cleaning() -> None:
    files = export_mlperf(Scenario.parse("7x1g"), model="bert-99.9", mode="server", rate_per_s=24, latency_ms=130)
    assert list(files) == [
        "code/common/system_list.append.py",
        "configs/bert/Server/__init__.py",
        "measurements/A100-PCIe-80GB-MIG_7x1g.10gb_TRT_Triton/bert-99.9/Server/user.conf",
        "README.md",
    ]
    tree = ast.parse(files["configs/bert/Server/__init__.py"])
    (config,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert config.name == "A100_PCIe_80GB_MIG_7x1g10gb_HighAccuracy_Triton"
    assert [base.id for base in config.bases if isinstance(base, ast.Name)] == ["BenchmarkConfiguration"]
    fields = [
        node.targets[0].id for node in config.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    assert len(fields) == len(set(fields))  # the harness refuses a field that is assigned twice
    assert files[list(files)[2]] == (
        "*.Server.target_qps = 168\n*.Server.performance_sample_count_override = 10833\n*.Server.target_latency = 130.0\n"
    )
    assert "--benchmarks=bert --scenarios=Server --config_ver=high_accuracy_triton" in files["README.md"]
    assert "-cgi 19,19,19,19,19,19,19 -C" in files["README.md"]


@pytest.mark.parametrize(
    ("mode", "rate"), [("offline", "offline_expected_qps"), ("server", "server_target_qps"), ("single_stream", None)]
)
def test_the_real_loadgen_reads_user_conf(tmp_path: Path, mode: str, rate: str | None) -> None:
    import mlperf_loadgen

    files = export_mlperf(
        Scenario.parse("7x1g"), model="bert-99", mode=mode, rate_per_s=55.5, latency_ms=110, min_duration_s=90, min_queries=77
    )
    conf = next(path for path in write_mlperf(tmp_path, files) if path.name == "user.conf")
    read = mlperf_loadgen.TestSettings()
    assert read.FromConfig(str(conf), "bert-99", SCENARIOS[mode]) == 0
    assert (read.performance_sample_count_override, read.min_duration_ms, read.min_query_count) == (10_833, 90_000, 77)
    if rate is not None:
        assert getattr(read, rate) == pytest.approx(388.5)
    if mode == "server":
        assert read.server_target_latency_ns == 110_000_000


def test_dells_own_system_of_28_instances() -> None:
    """Their published user.conf: measurements/R750xa_A100-PCIE-80GB-MIG_28x1g.10gb_TRT_Triton/resnet50/Offline."""
    files = export_mlperf(Scenario.parse("28x1g", gpus=4), model="resnet50", rate_per_s=155_600 / 28)
    conf = next(text for name, text in files.items() if name.endswith("user.conf"))
    assert conf == "*.Offline.target_qps = 155600\n*.Offline.performance_sample_count_override = 2048\n"
    config = files["configs/resnet50/Offline/__init__.py"]
    for gpu in range(4):
        assert f"        {gpu}: {{MIGSlice(1, 10): 7}},\n" in config
    assert "gpu_batch_size = 256\n" in config


@pytest.mark.parametrize(("text", "batch"), [("1g", 256), ("2g", 512), ("4g", 1024), ("7g", 1792)])
def test_batches_grow_with_the_slices(text: str, batch: int) -> None:
    files = export_mlperf(Scenario.parse(text), model="resnet50", rate_per_s=1)
    assert Harness(files).registered[0][3].gpu_batch_size == batch
    assert (
        Harness(export_mlperf(Scenario.parse(text), model="resnet50", rate_per_s=1, batch=7)).registered[0][3].gpu_batch_size == 7
    )


def test_the_profile_as_the_driver_prints_it() -> None:
    files = export_mlperf(Scenario.parse("7g"), model="resnet50", rate_per_s=37_000, printed="MIG 7g.79gb")
    harness = Harness(files)
    line = MIG_LINE.match("  MIG 7g.79gb     Device  0: (UUID: MIG-7fdeccba-6a8f-50a1-a833-e8e357d1bfd1)")
    assert line is not None
    seen = MIGConfiguration({"GPU-0": {MIGSlice(int(line[1]), int(line[2])): 1}})
    found = harness.known.A100_PCIe_80GB.get_match("", 1, pci_id="20B5", mig_conf=seen)
    assert found.get_id() == harness.registered[0][3].system.get_id() == "A100-PCIe-80GB-MIG_1x7g.79gb"


def test_every_scenario_of_table_2_is_exported_or_said_to_be_mixed() -> None:
    for scenario in TABLE_2:
        if scenario.uniform:
            assert len(Harness(export_mlperf(scenario, model="resnet50", rate_per_s=1)).registered) == 1
        else:
            with pytest.raises(SpecError, match=f"{re.escape(scenario.name)}.* - mixes .*one profile only; measure the mix with"):
                export_mlperf(scenario, model="resnet50", rate_per_s=1)
    alone = TABLE_2[5].only("2g.20gb")
    assert "MIG_1x2g.20gb" in "".join(export_mlperf(alone, model="resnet50", rate_per_s=1))


@pytest.mark.parametrize(
    ("scenario", "arguments", "words"),
    [
        (("4g", {}), {"model": "bert"}, "benchmark 'bert' is unknown"),
        (("4g", {}), {"mode": "multi_stream"}, "mode 'multi_stream' is not in"),
        (("4g", {}), {"model": "3d-unet-99", "mode": "server"}, "has no scenario Server"),
        (("4g", {}), {"rate_per_s": 0}, "rate_per_s is 0; give a number above 0"),
        (("4g", {}), {"rate_per_s": float("nan")}, "rate_per_s is nan"),
        (("4g", {}), {"batch": -1}, "batch is -1"),
        (("4g", {}), {"board": "A30"}, "boards of it: A100-PCIe-80GB, A100-SXM-80GB"),
        (("4g", {}), {"printed": "3g.40gb"}, "no name of 4g.40gb"),
        (("1g+me", {}), {}, r"does not read the name '1g.10gb\+me'"),
        (("7x1g", {"gpu": "H100-80GB"}), {}, "does not have H100-80GB"),
        (("whole", {}), {}, "are in mode whole"),
        (("4xT4-16Q", {"gpu": "T4"}), {}, "are in mode vgpu-equal-16"),
    ],
)
def test_what_the_harness_cannot_do_is_said(scenario: tuple[str, dict[str, str]], arguments: dict[str, Any], words: str) -> None:
    text, given = scenario
    with pytest.raises(SpecError, match=words):
        export_mlperf(Scenario.parse(text, **given), **{"model": "resnet50", "rate_per_s": 1, **arguments})  # type: ignore[arg-type]


def test_boards_are_of_the_catalogue() -> None:
    for gpu, boards in BOARDS.items():
        known = catalog.gpu(gpu)
        assert known.name == gpu
        for board in boards:
            assert int(board.pci_ids[0], 16) in known.pci_device_ids


def test_gpus_that_are_cut_differently_are_said_one_by_one() -> None:
    readme = export_mlperf(Scenario.parse("9x1g", gpus=2), model="resnet50", rate_per_s=1)["README.md"]
    assert "-i 0 -cgi 19,19,19,19,19,19,19 -C" in readme
    assert "-i 1 -cgi 19,19 -C" in readme
    assert "1g.10gb 9 times" in readme


def test_files_are_written_under_a_folder(tmp_path: Path) -> None:
    files = export_mlperf(Scenario.parse("7x1g"), model="resnet50", rate_per_s=5100)
    paths = write_mlperf(tmp_path / "export", files)
    assert [path.relative_to(tmp_path / "export").as_posix() for path in paths] == list(files)
    assert [path.read_text(encoding="utf-8") for path in paths] == list(files.values())
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be made"):
        write_mlperf(tmp_path / "file", files)
