"""Benchmarks: real inference on every instance of a GPU that is cut, at the same time, and what follows from it.

Names are imported when they are first used, so that ``import benchmarks`` loads no server, no framework and no plots.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.comparing import Comparison as Comparison
    from benchmarks.comparing import compare as compare
    from benchmarks.errors import BenchmarkError as BenchmarkError
    from benchmarks.errors import IncomparableError as IncomparableError
    from benchmarks.errors import ServerError as ServerError
    from benchmarks.feedback import predict as predict
    from benchmarks.mlperf import export_mlperf as export_mlperf
    from benchmarks.reporting import report as report
    from benchmarks.results import Result as Result
    from benchmarks.runner import MaxRate as MaxRate
    from benchmarks.runner import find_max_rate as find_max_rate
    from benchmarks.runner import resume as resume
    from benchmarks.runner import run as run
    from benchmarks.runner import run_study as run_study
    from benchmarks.runner.ray_hosts import RayHosts as RayHosts
    from benchmarks.scenarios import T4_VGPU as T4_VGPU
    from benchmarks.scenarios import TABLE_2 as TABLE_2
    from benchmarks.scenarios import Instance as Instance
    from benchmarks.scenarios import Scenario as Scenario
    from benchmarks.scenarios import Study as Study

_HOMES = {
    "comparing": ("Comparison", "compare"),
    "errors": ("BenchmarkError", "IncomparableError", "ServerError"),
    "feedback": ("predict",),
    "mlperf": ("export_mlperf",),
    "reporting": ("report",),
    "results": ("Result",),
    "runner.ray_hosts": ("RayHosts",),
    "runner": ("MaxRate", "find_max_rate", "resume", "run", "run_study"),
    "scenarios": ("T4_VGPU", "TABLE_2", "Instance", "Scenario", "Study"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - all are strings


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        value = getattr(import_module(f"benchmarks.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
