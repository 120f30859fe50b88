"""One scenario at a time, as programs ask for it. Everything is done by `benchmarks.runner.studies`."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.results import Result
from benchmarks.runner.hosts import Hosts
from benchmarks.runner.searching import TOLERANCE, MaxRate
from benchmarks.runner.studies import Watcher, find_rates, run_study
from benchmarks.scenarios import Scenario, Study
from partitioner.performance import Calibration


def run(
    scenario: Scenario | str,
    *,
    model: str = "resnet50",
    mode: str = "offline",
    engine: str = "asyncio",
    servers: str = "triton",
    repeats: int = 3,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    hosts: Hosts | None = None,
    calibration: Calibration | None = None,
    dcgm_url: str | None = None,
    progress: Watcher | None = None,
    **settings: Any,
) -> Result:
    """Measure one scenario: real inference on all of its instances at the same time.

    Parameters
    ----------
    scenario : what is measured, or its text (on an A100-80GB, or ``gpu=``).
    model : name of the model.
    mode : ``offline``, ``server``, ``single_stream`` or ``multi_stream``. A server without ``rate_per_s=`` is measured at the
        highest rates that are valid, which are searched first.
    engine : ``asyncio``, or ``loadgen`` for MLPerf's LoadGen.
    servers : ``triton``: one tritonserver for each instance; ``external``: those that run at ``addresses=``; ``emulated``: the
        calibration's service times; ``inprocess``: ONNX Runtime in the load generators.
    repeats : how often.
    seed : of arrivals and samples.
    out : folder in which every repeat is kept; what is there is not measured again.
    hosts, calibration, dcgm_url, progress : as of `run_study`.
    settings : further fields of `Study`: ``duration_s``, ``warmup_s``, ``batch``, ``rate_per_s``, ``latency_ms``, ``device``, ...

    Raises
    ------
    SpecError
        Something that was asked for does not exist; nothing was started.
    BenchmarkError
        It cannot be measured; what was measured of it is kept in `out`.
    """
    study = _study(scenario, settings, models=(model,), modes=(mode,), engine=engine, servers=servers, repeats=repeats, seed=seed)
    (result,) = run_study(study, out=out, hosts=hosts, calibration=calibration, dcgm_url=dcgm_url, progress=progress)
    return result


def find_max_rate(
    scenario: Scenario | str,
    *,
    model: str = "resnet50",
    engine: str = "asyncio",
    servers: str = "triton",
    seed: int = 0,
    tolerance: float = TOLERANCE,
    hosts: Hosts | None = None,
    calibration: Calibration | None = None,
    progress: Watcher | None = None,
    **settings: Any,
) -> MaxRate:
    """Find the highest rate at which every instance keeps the latency bound, with all of them at work.

    A bisection for each instance, all measured together in every trial; a rate has failed when two of three trials did. It
    ends when the highest valid and the lowest failed rate are within `tolerance` of each other.
    Parameters and errors as of `run`; ``latency_ms=`` is the bound, without it MLPerf's.
    """
    study = _study(scenario, settings, models=(model,), engine=engine, servers=servers, seed=seed)
    (found,) = find_rates(study, tolerance=tolerance, hosts=hosts, calibration=calibration, progress=progress)
    return found


def _study(scenario: Scenario | str, settings: dict[str, Any], **fields: Any) -> Study:
    gpu = {"gpu": scenario.gpu} if isinstance(scenario, Scenario) and "gpu" not in settings else {}
    return Study.from_data({"scenarios": (scenario,), **fields, **gpu, **settings})
