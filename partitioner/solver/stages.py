"""The stages of the objective, as costs of GPUs and of instances. Must not know how they are minimised.

Every stage is linear: a configuration costs something for each GPU that takes it, an instance something for its slot.
"""

from __future__ import annotations

from partitioner.solver.problem import Column, Problem, slot_cost

STAGES = ("placed", "gpus", "moves", "cost", "power", "hosts", "waste", "spread", "headroom")
"""Names of stages: replicas placed, GPUs in use, what moves cost, cost of the GPUs [millionths of the currency per hour], their
power [mW], hosts in use, memory of GPUs and instances beyond what is needed, most GPUs in use on one host, room left in GPUs
in use."""
MAXIMISED = ("placed", "headroom")
"""Stages of which more is better."""
LOCATED = ("hosts", "spread")
"""Stages that need to know which host a GPU stands in."""
FOR_NOTHING = "moves for nothing"
"""After all stages: what costs nothing to move does not move without need. Reported nowhere."""
_GIB = 1024
_FAR = 2**62


def least(stage: str) -> int:
    """Return a bound on what a stage costs of which nothing is known; of moves, what stays costs less than nothing."""
    return -_FAR if stage in (*MAXIMISED, "moves", FOR_NOTHING) else 0


def column_cost(problem: Problem, stage: str, column: Column) -> int:
    """Return what one GPU of a configuration costs in a stage; what is maximised costs less than nothing.

    A GPU with existing instances is in use whatever the plan does, so using it costs no GPU.
    """
    kind = problem.kinds[column.kind]
    if stage == "gpus":
        return int(not kind.kept)
    if stage == "cost":
        return 0 if kind.kept else kind.cost_micros
    if stage == "power":
        return 0 if kind.kept else kind.power_mw
    if stage == "waste":
        return 0 if kind.kept else slot_cost(kind.memory_mib)
    if stage == "headroom":
        return -sum(count * _room(problem, slot) for slot, count in column.slots)
    return 0


def instance_cost(problem: Problem, stage: str, slot: int) -> int:
    """Return what one instance in a slot costs in a stage."""
    if stage == "waste":
        return problem.slots[slot].cost
    return _room(problem, slot) if stage == "headroom" else 0


def _room(problem: Problem, slot: int) -> int:
    """Return the square of a slot's memory in GiB: one large free instance is worth more than the same in pieces."""
    return max(1, round(problem.slots[slot].memory_mib / _GIB)) ** 2
