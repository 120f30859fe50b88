"""Where changes are carried out: the protocol, a simulated fleet, and the folder with what a target remembers.

Must not know plans, `apply` or any driver.
"""

from __future__ import annotations

from partitioner.targets.begun import begun
from partitioner.targets.protocol import Target, state_of
from partitioner.targets.simulated import Fault, SimulatedTarget
from partitioner.targets.state import Assignments, End, Instance, Journal, Occupant, Run, StateFolder
from partitioner.targets.stopping import stop_asked, stoppable

__all__ = [
    "Assignments",
    "End",
    "Fault",
    "Instance",
    "Journal",
    "Occupant",
    "Run",
    "SimulatedTarget",
    "StateFolder",
    "Target",
    "begun",
    "state_of",
    "stop_asked",
    "stoppable",
]
