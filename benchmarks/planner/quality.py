"""How good the planner's answers are: against heuristics on the same input, and against the direct model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.planner.direct import DirectAnswer, solve_direct
from benchmarks.planner.mixes import GPU, Mix
from benchmarks.planner.peers import Packing, best_fit_decreasing, first_fit
from partitioner import Workload, plan_mig

_T = TypeVar("_T")

PEERS: dict[str, Callable[..., Packing]] = {"first fit": first_fit, "best fit decreasing": best_fit_decreasing}


@dataclass(frozen=True, slots=True)
class Rival:
    """What one method made of an input: GPUs used and seconds taken, the best of three."""

    gpus: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The planner and the heuristics on one input.

    Parameters
    ----------
    mix, size : the input.
    bound : no plan uses fewer GPUs.
    status : of the plan.
    planner : the planner, from separately named workloads to the verified plan.
    peers : name of each heuristic to what it made of the same replicas in the same order.
    """

    mix: str
    size: int
    bound: int
    status: str
    planner: Rival
    peers: dict[str, Rival]


@dataclass(frozen=True, slots=True)
class DirectComparison:
    """The planner and the direct model on one input.

    Parameters
    ----------
    mix, size, totals : the input, and whether the direct model has the totals.
    bound : no plan uses fewer GPUs.
    planner : the planner, from separately named workloads to the verified plan.
    direct, direct_s : what CP-SAT knows when it stops, and the seconds it took, building the model included [s].
    """

    mix: str
    size: int
    totals: bool
    bound: int
    planner: Rival
    direct: DirectAnswer
    direct_s: float


def compare(mix: Mix, size: int, *, seed: int) -> Comparison:
    """Pack one input with every method, one after another in this process.

    Parameters
    ----------
    mix : what is asked for.
    size : number of replicas.
    seed : of the draw.
    """
    profiles = mix.draw(size, seed=seed)
    workloads = _workloads(profiles)
    plan, planner_s = _best(lambda: plan_mig(workloads, gpu=GPU))
    peers = {}
    for name, peer in PEERS.items():
        packing, peer_s = _best(lambda peer=peer: peer(profiles, model=GPU))  # type: ignore[misc]
        peers[name] = Rival(packing.gpus_used, peer_s)
    return Comparison(mix.name, size, plan.lower_bound, plan.status, Rival(plan.gpus_used, planner_s), peers)


def compare_direct(mix: Mix, size: int, *, totals: bool, seed: int, time_limit_s: float) -> DirectComparison:
    """Plan one input, and solve its direct model with as many GPUs as best fit needs.

    Parameters
    ----------
    mix : what is asked for.
    size : number of replicas.
    totals : see `solve_direct`.
    seed : of the draw and of CP-SAT.
    time_limit_s : for CP-SAT [s].
    """
    profiles = mix.draw(size, seed=seed)
    workloads = _workloads(profiles)
    plan, planner_s = _best(lambda: plan_mig(workloads, gpu=GPU))
    gpus = best_fit_decreasing(profiles, model=GPU).gpus_used
    direct, direct_s = _timed(
        lambda: solve_direct(profiles, model=GPU, gpus=gpus, totals=totals, time_limit_s=time_limit_s, seed=seed)
    )
    return DirectComparison(mix.name, size, totals, plan.lower_bound, Rival(plan.gpus_used, planner_s), direct, direct_s)


def _workloads(profiles: list[str]) -> list[Workload]:
    return [Workload(f"w{number}", profile=profile) for number, profile in enumerate(profiles)]


def _best(work: Callable[[], _T]) -> tuple[_T, float]:
    """Do the same three times and return the shortest time; the first time reads the catalogue and fills caches."""
    results = [_timed(work) for _ in range(3)]
    return results[0][0], min(taken for _, taken in results)


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
