"""The text of each file of an MLPerf export, as NVIDIA's v1.1 harness reads it. Checks nothing; knows no scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.mlperf.harness import SYSTEM_PREFIXES, Benchmark, Board, Setting
from partitioner.geometry import Profile

SYSTEM_LIST = "code/common/system_list.append.py"
"""Name of the exported entry; it is appended to the harness's ``code/common/system_list.py``."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the files are written from: equal instances of a board's GPUs, and the benchmark they run.

    Parameters
    ----------
    board : as the harness lists it.
    profile : of all instances.
    memory_gb : in the profile's name as the driver prints it.
    counts : instances of each GPU.
    benchmark, scenario : by the harness's names.
    slices : (compute slices, GB) of all profiles of the GPU model whose names the harness reads.
    """

    board: Board
    profile: Profile
    memory_gb: int
    counts: tuple[int, ...]
    benchmark: Benchmark
    scenario: str
    slices: tuple[tuple[int, int], ...]

    @property
    def triton(self) -> bool:
        """Whether Triton is needed, as with several instances."""
        return sum(self.counts) > 1

    @property
    def slice_name(self) -> str:
        """What ``str`` makes of its ``MIGSlice``."""
        return f"{self.profile.compute_slices}g.{self.memory_gb}gb"

    @property
    def system_id(self) -> str:
        """What ``System.get_id`` makes of it."""
        return f"{self.board.gpu_id}-MIG_{sum(self.counts)}x{self.slice_name}"

    @property
    def system_name(self) -> str:
        """What ``get_system_name`` makes of it."""
        prefix = next((f"{name}_" for part, name in SYSTEM_PREFIXES if part in self.system_id), "")
        return f"{prefix}{self.system_id}_TRT" + ("_Triton" if self.triton else "")

    @property
    def class_name(self) -> str:
        """Name of its configuration, formed as the harness's own are."""
        shape = f"MIG_{sum(self.counts)}x{self.slice_name.replace('.', '')}"
        accuracy = "_HighAccuracy" if self.benchmark.high_accuracy else ""
        return f"{self.board.attribute}_{shape}{accuracy}" + ("_Triton" if self.triton else "")

    def settings(self, batch: int | None) -> Mapping[str, Setting]:
        """Return the fields of the configuration that do not say rates and times."""
        small, whole = self.benchmark.batches[self.scenario]
        size = batch if batch is not None else min(small * self.profile.compute_slices, whole)
        triton: Mapping[str, Setting] = {"use_triton": True} if self.triton else {}
        return {
            **self.benchmark.settings[""],
            **self.benchmark.settings[self.scenario],
            "gpu_batch_size": size,
            **triton,
        }

    def system_list(self) -> str:
        """Return the statement that puts the board with its MIG slices into ``KnownSystems``."""
        board = self.board
        slices = ", ".join(
            f"MIGSlice{pair}" for pair in dict.fromkeys((*self.slices, (self.profile.compute_slices, self.memory_gb)))
        )
        counts = sorted({*board.counts, len(self.counts)})
        return (
            f"# Append to code/common/system_list.py: the board with all its MIG slices; {self.system_id} is measured.\n"
            f"KnownSystems.{board.attribute} = SystemClass(\n"
            f"    {_quoted(board.gpu_id)}, {_listed(board.aliases)}, {_listed(board.pci_ids)}, Architecture.Ampere, {counts},\n"
            f"    valid_mig_slices=[{slices}],\n"
            ")\n"
        )

    def configuration(self, fields: Mapping[str, Setting]) -> str:
        """Return the module with the configuration of the benchmark."""
        harness = "Triton" if self.triton else self.benchmark.own_harness
        accuracy = "k_99_9" if self.benchmark.high_accuracy else "k_99"
        gpu_id, one = _quoted(self.board.gpu_id), f"MIGSlice({self.profile.compute_slices}, {self.memory_gb})"
        gpus = "".join(f"        {gpu}: {{{one}: {count}}},\n" for gpu, count in enumerate(self.counts))
        lines = "".join(f"    {name} = {_quoted(value)}\n" for name, value in fields.items())
        return (
            "from code.common.constants import AccuracyTarget, Benchmark, HarnessType, PowerSetting, Scenario\n"
            "from code.common.system_list import Architecture, MIGConfiguration, MIGSlice, System\n"
            "from configs.configuration import BenchmarkConfiguration, ConfigRegistry\n\n\n"
            f"@ConfigRegistry.register(HarnessType.{harness}, AccuracyTarget.{accuracy}, PowerSetting.MaxP)\n"
            f"class {self.class_name}(BenchmarkConfiguration):\n"
            f"    _mig_configuration = MIGConfiguration({{\n{gpus}    }})\n"
            f"    system = System({gpu_id}, Architecture.Ampere, {len(self.counts)}, mig_conf=_mig_configuration)\n"
            f"    benchmark = Benchmark.{self.benchmark.member}\n"
            f"    scenario = Scenario.{self.scenario}\n"
            f"{lines}"
        )

    def user_conf(self, fields: Mapping[str, Setting]) -> str:
        """Return LoadGen's settings, as ``generate_user_conf`` of the harness writes them from the configuration's fields."""
        conf: dict[str, Setting] = {}
        for field in ("offline_expected_qps", "server_target_qps"):
            if field in fields:
                conf["target_qps"] = fields[field]
        conf["performance_sample_count_override"] = self.benchmark.samples
        if "server_target_latency_ns" in fields:
            conf["target_latency"] = float(fields["server_target_latency_ns"]) * (1 / 1000000.0)
        conf |= {field: fields[field] for field in ("min_query_count", "min_duration") if field in fields}
        return "".join(f"*.{self.scenario}.{name} = {value}\n" for name, value in conf.items())

    def readme(self) -> str:
        """Return how to use the files."""
        version = "_".join(["high_accuracy"] * self.benchmark.high_accuracy + ["triton"] * self.triton) or "default"
        arguments = f"--benchmarks={self.benchmark.folder} --scenarios={self.scenario} --config_ver={version}"
        cuts = "".join(
            f"   `sudo nvidia-smi mig -i {gpu} -cgi {','.join([str(self.profile.gi_profile_id)] * count)} -C`\n"
            for gpu, count in enumerate(self.counts)
        )
        return f"""# {self.system_id}: {self.benchmark.full_name}, {self.scenario}

For NVIDIA's MLPerf Inference v1.1 harness, https://github.com/mlcommons/inference_results_v1.1, folder closed/NVIDIA.

1. Cut the GPUs: `sudo nvidia-smi -mig 1`, then
{cuts}   `nvidia-smi -L` has to name {self.slice_name} {sum(self.counts)} times; where it prints another size, export
   with that name.
2. In closed/NVIDIA: `cat {SYSTEM_LIST} >> code/common/system_list.py`.
3. Copy configs/ over the harness's, or append the class to the file that is there to keep its other systems.
4. `make run RUN_ARGS="{arguments}"`.

The harness writes measurements/{self.system_name}/{self.benchmark.full_name}/{self.scenario}/user.conf itself, from the
configuration; the exported one shows what it writes. Figures are of all instances together. It cannot mix profiles.
"""


def _quoted(value: Setting) -> str:
    return '"' + value + '"' if isinstance(value, str) else repr(value)


def _listed(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(_quoted, values)) + "]"
