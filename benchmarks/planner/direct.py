"""The direct model of placement, to compare with: a boolean for each (replica, GPU, placement), solved by CP-SAT.

It is what one writes down first, and what the planner avoids by counting configurations. This module must not know the
planner or its solvers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from partitioner import catalog

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """What CP-SAT knows of the direct model when it stops.

    Parameters
    ----------
    gpus : GPUs of the best solution; None where none was found.
    bound : no solution uses fewer GPUs.
    booleans : variables of the model.
    """

    gpus: int | None
    bound: int
    booleans: int

    @property
    def proven(self) -> bool:
        """Whether the solution is proven best."""
        return self.gpus == self.bound


def solve_direct(profiles: Sequence[str], *, model: str, gpus: int, totals: bool, time_limit_s: float, seed: int) -> DirectAnswer:
    """Place every replica on the fewest of `gpus` GPUs.

    Parameters
    ----------
    profiles : profile of each replica.
    model : GPU model.
    gpus : GPUs in the model; give what a heuristic needs, the model grows with it.
    totals : whether to add that all memory slices and all compute slices asked for fit on the GPUs used. The model is
        right without, but CP-SAT does not find the bound that adding up its rows would give.
    time_limit_s : when to stop [s].
    seed : for CP-SAT, which runs on all cores.

    Notes
    -----
    GPUs are used in order, which breaks the symmetry among empty ones. The model grows with replicas times GPUs: with
    the square of the size.
    """
    from ortools.sat.python import cp_model

    geometry = catalog.gpu(model).geometry("mig")
    program = cp_model.CpModel()
    used = [program.new_bool_var("") for _ in range(gpus)]
    covering: list[list[list[cp_model.IntVar]]] = [[[] for _ in range(geometry.units)] for _ in range(gpus)]
    taking: list[dict[str, list[cp_model.LinearExpr]]] = [{name: [] for name, _ in geometry.totals} for _ in range(gpus)]
    counting: list[dict[str, list[cp_model.IntVar]]] = [{profile.name: [] for profile in geometry.profiles} for _ in range(gpus)]
    for name in profiles:
        profile, choices = geometry.profile(name), []
        for gpu in range(gpus):
            for start in profile.starts:
                chosen = program.new_bool_var("")
                choices.append(chosen)
                counting[gpu][name].append(chosen)
                for unit in range(start, start + profile.extent):
                    covering[gpu][unit].append(chosen)
                for resource, amount in profile.uses:
                    if resource in taking[gpu]:
                        taking[gpu][resource].append(amount * chosen)
        program.add_exactly_one(choices)
    for gpu in range(gpus):
        for chosen_here in covering[gpu]:
            program.add(sum(chosen_here) <= used[gpu])
        for resource, total in geometry.totals:
            program.add(sum(taking[gpu][resource]) <= total * used[gpu])
        for profile in geometry.profiles:
            program.add(sum(counting[gpu][profile.name]) <= profile.max_count * used[gpu])
    if totals:
        asked = [geometry.profile(name) for name in profiles]
        program.add(geometry.units * sum(used) >= sum(profile.extent for profile in asked))
        program.add(catalog.gpu(model).compute_slices * sum(used) >= sum(profile.compute_slices for profile in asked))
    for earlier, later in pairwise(used):
        program.add(earlier >= later)
    program.minimize(sum(used))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit_s
    solver.parameters.random_seed = seed
    solver.parameters.num_workers = os.cpu_count() or 1
    status = solver.solve(program)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    bound = -int(-solver.best_objective_bound // 1)
    return DirectAnswer(round(solver.objective_value) if found else None, bound, len(program.proto.variables))
