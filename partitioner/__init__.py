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
    from partitioner import export as export
    from partitioner.applying import Report as Report
    from partitioner.applying import apply as apply
    from partitioner.applying import changes_here as changes_here
    from partitioner.applying import rollback as rollback
    from partitioner.changes import Changes as Changes
    from partitioner.changes import Step as Step
    from partitioner.changes import diff as diff
    from partitioner.changes import renumbered as renumbered
    from partitioner.current import workloads_of as workloads_of
    from partitioner.errors import DriftError as DriftError
    from partitioner.errors import GeometryError as GeometryError
    from partitioner.errors import InfeasibleError as InfeasibleError
    from partitioner.errors import InUseError as InUseError
    from partitioner.errors import PartitionerError as PartitionerError
    from partitioner.errors import SpecError as SpecError
    from partitioner.errors import StepError as StepError
    from partitioner.errors import TargetError as TargetError
    from partitioner.errors import VerificationError as VerificationError
    from partitioner.export import from_mig_parted as from_mig_parted
    from partitioner.fleet import Fleet as Fleet
    from partitioner.fleet import Gpu as Gpu
    from partitioner.fleet import Host as Host
    from partitioner.fleet import NumaNode as NumaNode
    from partitioner.layout import Assignment as Assignment
    from partitioner.layout import Layout as Layout
    from partitioner.metrics import Metrics as Metrics
    from partitioner.nvml import NvmlTarget as NvmlTarget
    from partitioner.performance import Calibration as Calibration
    from partitioner.performance import CalibrationError as CalibrationError
    from partitioner.planning import dump as dump
    from partitioner.planning import load as load
    from partitioner.planning import plan as plan
    from partitioner.planning import plan_mig as plan_mig
    from partitioner.planning import plan_vgpu as plan_vgpu
    from partitioner.plans import Plan as Plan
    from partitioner.solver.explain import Unplaced as Unplaced
    from partitioner.solver.migration import Move as Move
    from partitioner.solver.online import Allocator as Allocator
    from partitioner.solver.online import Placement as Placement
    from partitioner.solver.placing import Failover as Failover
    from partitioner.targets import Fault as Fault
    from partitioner.targets import SimulatedTarget as SimulatedTarget
    from partitioner.targets import StateFolder as StateFolder
    from partitioner.targets import Target as Target
    from partitioner.topology import Topology as Topology
    from partitioner.topology import read_topology as read_topology
    from partitioner.workload import Workload as Workload

_HOMES = {
    "applying": ("Report", "apply", "changes_here", "rollback"),
    "changes": ("Changes", "Step", "diff", "renumbered"),
    "current": ("workloads_of",),
    "errors": (
        "DriftError",
        "GeometryError",
        "InUseError",
        "InfeasibleError",
        "PartitionerError",
        "SpecError",
        "StepError",
        "TargetError",
        "VerificationError",
    ),
    "export": ("from_mig_parted",),
    "fleet": ("Fleet", "Gpu", "Host", "NumaNode"),
    "layout": ("Assignment", "Layout"),
    "metrics": ("Metrics",),
    "nvml": ("NvmlTarget",),
    "performance": ("Calibration", "CalibrationError"),
    "planning": ("dump", "load", "plan", "plan_mig", "plan_vgpu"),
    "plans": ("Plan",),
    "solver.explain": ("Unplaced",),
    "solver.migration": ("Move",),
    "solver.online": ("Allocator", "Placement"),
    "solver.placing": ("Failover",),
    "targets": ("Fault", "SimulatedTarget", "StateFolder", "Target"),
    "topology": ("Topology", "read_topology"),
    "workload": ("Workload",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

_MODULES = ("catalog", "constraints", "drawing", "export")

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
