"""gpu-partitioner: say what has to run; get a provably best way to cut NVIDIA GPUs for it.

Names are imported when they are first used, so that ``import partitioner`` costs next to nothing and loads no solver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partitioner import catalog as catalog
    from partitioner import constraints as constraints
    from partitioner import drawing as drawing
    from partitioner.errors import GeometryError as GeometryError
    from partitioner.errors import InfeasibleError as InfeasibleError
    from partitioner.errors import PartitionerError as PartitionerError
    from partitioner.errors import SpecError as SpecError
    from partitioner.errors import VerificationError as VerificationError
    from partitioner.fleet import Fleet as Fleet
    from partitioner.fleet import Gpu as Gpu
    from partitioner.fleet import Host as Host
    from partitioner.fleet import NumaNode as NumaNode
    from partitioner.layout import Assignment as Assignment
    from partitioner.layout import Layout as Layout
    from partitioner.metrics import Metrics as Metrics
    from partitioner.performance import Calibration as Calibration
    from partitioner.performance import CalibrationError as CalibrationError
    from partitioner.planning import dump as dump
    from partitioner.planning import load as load
    from partitioner.planning import plan as plan
    from partitioner.planning import plan_mig as plan_mig
    from partitioner.planning import plan_vgpu as plan_vgpu
    from partitioner.plans import Plan as Plan
    from partitioner.solver.explain import Unplaced as Unplaced
    from partitioner.solver.placing import Failover as Failover
    from partitioner.topology import Topology as Topology
    from partitioner.topology import read_topology as read_topology
    from partitioner.workload import Workload as Workload

_HOMES = {
    "errors": ("GeometryError", "InfeasibleError", "PartitionerError", "SpecError", "VerificationError"),
    "fleet": ("Fleet", "Gpu", "Host", "NumaNode"),
    "layout": ("Assignment", "Layout"),
    "metrics": ("Metrics",),
    "performance": ("Calibration", "CalibrationError"),
    "planning": ("dump", "load", "plan", "plan_mig", "plan_vgpu"),
    "plans": ("Plan",),
    "solver.explain": ("Unplaced",),
    "solver.placing": ("Failover",),
    "topology": ("Topology", "read_topology"),
    "workload": ("Workload",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

_MODULES = ("catalog", "constraints", "drawing")

__all__ = [*_MODULES, *sorted(_HOME_OF)]  # noqa: PLE0604 - all are strings
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"partitioner.{name}")
    if name in _HOME_OF:
        value = getattr(import_module(f"partitioner.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'partitioner' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
