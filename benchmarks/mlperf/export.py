"""Files with which NVIDIA's MLPerf Inference v1.1 harness measures a scenario of equal MIG instances.

That is what Figures 2 to 4 and 6 of "MLPerf v1.1 Inference on Virtualized and Multi-Instance GPUs" (Dell Technologies, May
2022) show: an entry in the list of systems, a configuration of the benchmark, and LoadGen's settings. Writes text; runs nothing.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from benchmarks.mlperf.harness import BENCHMARKS, BOARDS, SCENARIOS, Benchmark, Board
from benchmarks.mlperf.texts import SYSTEM_LIST, Target
from benchmarks.scenarios import Scenario
from partitioner import catalog
from partitioner.catalog.naming import fold, parse_mig
from partitioner.documents import write
from partitioner.errors import SpecError, did_you_mean
from partitioner.geometry import Profile


def export_mlperf(
    scenario: Scenario,
    *,
    model: str,
    mode: str = "offline",
    rate_per_s: float,
    board: str | None = None,
    printed: str | None = None,
    batch: int | None = None,
    latency_ms: float | None = None,
    min_duration_s: float | None = None,
    min_queries: int | None = None,
) -> Mapping[str, str]:
    """Return the files of the harness's folder ``closed/NVIDIA`` for a scenario, name to text.

    Parameters
    ----------
    scenario : of one MIG profile; for virtual machines with one instance each, one of its instances (`Scenario.only`).
    model : benchmark by MLPerf's name: ``resnet50``, ``bert-99`` or ``-99.9``, ``ssd-resnet34``, ``3d-unet-99`` or ``-99.9``.
    mode : ``offline``, ``server`` or ``single_stream``.
    rate_per_s : expected (offline) or target rate (server) of each instance [1/s]; the harness gets that of all together.
    board : id of the board in the harness, e.g. ``A100-SXM-80GB``; None: the PCIe one.
    printed : the profile as ``nvidia-smi -L`` prints it there, where that is not the catalogue's name, e.g. ``7g.79gb``.
    batch : samples in one batch; None: NVIDIA's for 1g times the slices, at most NVIDIA's for the whole GPU.
    latency_ms : bound on the latency in mode server, or what is expected in mode single_stream [ms]; None: the harness's own.
    min_duration_s, min_queries : of a run [s]; None: as MLPerf's rules have them.

    Raises
    ------
    SpecError
        The profiles are mixed, or the harness does not know the GPU, the profile, the benchmark or the mode.

    Notes
    -----
    Several instances are run by its Multi-MIG harness, which is Triton's only, and takes one profile only (README.md of
    closed/NVIDIA, "Using Multiple MIG slices"); ``MIGConfiguration.__str__`` would give a mix a wrong id.
    """
    if mode not in SCENARIOS:
        raise SpecError(f"MLPerf export - mode {mode!r} is not in NVIDIA's v1.1 harness; it has {', '.join(SCENARIOS)}")
    for name, value in (
        ("rate_per_s", rate_per_s),
        ("batch", batch),
        ("latency_ms", latency_ms),
        ("min_duration_s", min_duration_s),
        ("min_queries", min_queries),
    ):
        if value is not None and not 0 < value < math.inf:
            raise SpecError(f"MLPerf export - {name} is {value}; give a number above 0")
    target = _target(scenario, _benchmark(model, SCENARIOS[mode]), SCENARIOS[mode], board=board, printed=printed)
    fields = dict(target.settings(batch))
    total = rate_per_s * len(scenario.instances)
    if mode != "single_stream":
        fields["offline_expected_qps" if mode == "offline" else "server_target_qps"] = _whole(total)
    if latency_ms is not None and mode != "offline":
        name = "server_target_latency_ns" if mode == "server" else "single_stream_expected_latency_ns"
        fields[name] = round(latency_ms * 1e6)
    if min_duration_s is not None:
        fields["min_duration"] = round(min_duration_s * 1000)
    if min_queries is not None:
        fields["min_query_count"] = min_queries
    return {
        SYSTEM_LIST: target.system_list(),
        f"configs/{target.benchmark.folder}/{target.scenario}/__init__.py": target.configuration(fields),
        f"measurements/{target.system_name}/{target.benchmark.full_name}/{target.scenario}/user.conf": target.user_conf(fields),
        "README.md": target.readme(),
    }


def write_mlperf(folder: str | os.PathLike[str], files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write exported files under a folder and return their paths.

    Raises
    ------
    SpecError
        A file cannot be written.
    """
    paths = []
    for name, text in files.items():
        path = Path(folder, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"{path.parent} - cannot be made: {error.strerror or error}; name another folder") from error
        write(path, text)
        paths.append(path)
    return tuple(paths)


def _benchmark(model: str, scenario: str) -> Benchmark:
    if model not in BENCHMARKS:
        hint = did_you_mean(model, BENCHMARKS) or f"known: {', '.join(BENCHMARKS)}"
        raise SpecError(f"MLPerf export - benchmark {model!r} is unknown; {hint}")
    benchmark = BENCHMARKS[model]
    if scenario not in benchmark.batches:
        raise SpecError(f"MLPerf export - {model} has no scenario {scenario}; it has {', '.join(benchmark.batches)}")
    return benchmark


def _target(scenario: Scenario, benchmark: Benchmark, mlperf: str, *, board: str | None, printed: str | None) -> Target:
    """Check that the harness can measure the scenario, and return what its files are written from."""
    who = f"MLPerf export of {scenario.name!r}"
    if scenario.mode != "mig":
        raise SpecError(f"{who} - its GPUs are in mode {scenario.mode}, and MIG instances are exported; give e.g. '7x1g'")
    if not scenario.uniform:
        mixed = ", ".join(dict.fromkeys(scenario.profiles))
        raise SpecError(
            f"{who} - mixes {mixed}, and NVIDIA's harness runs instances of one profile only; measure the mix with"
            " `partitioner bench run`, or export each profile for itself, which has no common start"
        )
    if len({host for host, _ in scenario.gpus}) > 1:
        raise SpecError(f"{who} - is on several hosts, and the harness runs on one; export the instances of each host")
    chosen = _board(who, scenario.gpu, board)
    profile = catalog.gpu(scenario.gpu).geometry("mig").profile(scenario.profiles[0])
    memory_gb = _memory_gb(who, scenario.gpu, profile, printed)
    counts = Counter(instance.board for instance in scenario.instances)
    return Target(chosen, profile, memory_gb, tuple(counts.values()), benchmark, mlperf, _slices(scenario.gpu))


def _board(who: str, gpu: str, asked: str | None) -> Board:
    boards = {board.gpu_id: board for board in BOARDS.get(gpu, ())}
    if not boards or (asked is not None and asked not in boards):
        known = f"boards of it: {', '.join(boards)}" if boards else f"with MIG it has {', '.join(BOARDS)}"
        raise SpecError(f"{who} - the v1.1 harness does not have {asked or gpu}; {known}")
    return boards[asked or next(iter(boards))]


def _memory_gb(who: str, gpu: str, profile: Profile, printed: str | None) -> int:
    """Return the GB in the name that the driver prints for a profile."""
    if profile.attributes:
        plain = f"a profile without {profile.attributes[0]}"
        raise SpecError(f"{who} - the harness does not read the name {profile.name!r}; take {plain}")
    parsed = parse_mig(fold(printed or profile.name))
    if parsed is None or parsed[1] is None or ("mig", profile) not in catalog.gpu(gpu).find(printed or profile.name):
        right = f"copy it from nvidia-smi -L, e.g. {profile.name!r}"
        raise SpecError(f"{who} - printed is {printed!r}, no name of {profile.name}; {right}")
    return parsed[1]


def _slices(gpu: str) -> tuple[tuple[int, int], ...]:
    """Return (compute slices, GB) of all MIG profiles whose names the harness reads."""
    profiles = catalog.gpu(gpu).geometry("mig").profiles
    parsed = [parse_mig(profile.name) for profile in profiles if not profile.attributes]
    return tuple((found[0], found[1]) for found in parsed if found is not None and found[1] is not None)


def _whole(number: float) -> int | float:
    """Return a number as the harness's own files have it: without a fraction where it has none."""
    rounded = round(float(number), 6)
    return int(rounded) if rounded.is_integer() else rounded
