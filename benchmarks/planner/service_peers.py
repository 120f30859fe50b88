"""What others do for services, to compare the planner with: whole GPUs, the best profile for each service, MIG-Serving's
greedy idea, and first fit.

All but MIG-Serving's choose a profile for each service first and pack second. Like `peers` they may be as fast as the
planner at any size: what is compared is the idea, not its implementation. This module must not know the planner or its
solvers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.planner.mixes import GPU
from benchmarks.planner.peers import first_fit
from benchmarks.planner.services import BY_SIZE, MIG, Ratings, Service, memory_slices
from partitioner.geometry import Configuration
from partitioner.layout import GpuLayout, Layout, Slot

TOLERANCE = 1e-9
"""Share of a rate that may be missing: sums of throughputs are rounded."""

Instance = tuple[str, int, int]
"""Profile, start, number of the service."""

Filling = list[tuple[str, int]]
"""Instances of one GPU to be, as (profile, number of the service)."""


@dataclass(frozen=True, slots=True)
class ServicePacking:
    """Instances of services on GPUs.

    Parameters
    ----------
    gpus : the instances of each GPU used.
    """

    gpus: tuple[tuple[Instance, ...], ...]

    @property
    def gpus_used(self) -> int:
        """Number of GPUs."""
        return len(self.gpus)

    def layout(self, services: Sequence[Service]) -> Layout:
        """Return the packing as a layout, instances numbered service by service.

        Raises
        ------
        SpecError
            The instances of a GPU are not legal together.
        """
        number: dict[int, int] = defaultdict(int)
        gpus = []
        for index, instances in enumerate(self.gpus):
            slots = []
            for profile, start, service in instances:
                slots.append(Slot(profile, start, services[service].name, number[service]))
                number[service] += 1
            mode = "whole" if instances[0][0] == "whole" else "mig"
            gpus.append(GpuLayout(None, index, GPU, mode, tuple(slots)))
        return Layout.of(gpus)


def short_of_rate(layout: Layout, services: Sequence[Service], ratings: Ratings) -> list[str]:
    """Return the names of the services that a layout serves less than their rates."""
    by_name = {service.name: service for service in services}
    served = dict.fromkeys(by_name, 0.0)
    for assignment in layout.assignments():
        served[assignment.workload] += ratings.throughput(by_name[assignment.workload], assignment.profile)
    return [name for name, service in by_name.items() if served[name] < service.rate * (1 - TOLERANCE)]


# -- profile first, packing second -------------------------------------------------------------------------------------


def whole_gpus(services: Sequence[Service], ratings: Ratings) -> ServicePacking:
    """Give every service whole GPUs of its own.

    Raises
    ------
    SpecError
        A service cannot keep its latency.
    """
    return _packed(_replicas(services, ratings, lambda served: "whole" if "whole" in served else list(served)[-1]))


def best_per_slice(services: Sequence[Service], ratings: Ratings) -> ServicePacking:
    """Give every service the profile that serves the most for each memory slice; pack first fit, largest first.

    Raises
    ------
    SpecError
        A service cannot keep its latency.
    """
    replicas = _replicas(services, ratings, lambda served: max(served, key=lambda name: served[name] / memory_slices(name)))
    rank = {name: -position for position, name in enumerate(BY_SIZE)}
    return _packed(sorted(replicas, key=lambda replica: rank[replica[0]]))


def smallest_first_fit(services: Sequence[Service], ratings: Ratings) -> ServicePacking:
    """Give every service the smallest profile that keeps its latency; pack first fit in the order given.

    Raises
    ------
    SpecError
        A service cannot keep its latency.
    """
    return _packed(_replicas(services, ratings, lambda served: next(iter(served))))


def _replicas(services: Sequence[Service], ratings: Ratings, choose: Callable[[dict[str, float]], str]) -> Filling:
    """Return as many instances of the chosen profile as each service needs."""
    replicas: Filling = []
    for number, service in enumerate(services):
        served = ratings.throughputs(service)
        profile = choose(served)
        replicas += [(profile, number)] * math.ceil(service.rate / served[profile] - TOLERANCE)
    return replicas


def _packed(replicas: Filling) -> ServicePacking:
    """Pack MIG instances first fit in the order given; whole GPUs come after them."""
    cut = [(profile, service) for profile, service in replicas if profile != "whole"]
    packing = first_fit([profile for profile, _ in cut], model=GPU)
    gpus: list[list[Instance]] = [[] for _ in range(packing.gpus_used)]
    for (profile, service), gpu, start in zip(cut, packing.gpus, packing.starts, strict=True):
        gpus[gpu].append((profile, start, service))
    whole = [((profile, 0, service),) for profile, service in replicas if profile == "whole"]
    return ServicePacking((*map(tuple, gpus), *whole))


# -- one GPU after another ---------------------------------------------------------------------------------------------


def mig_serving(services: Sequence[Service], ratings: Ratings) -> ServicePacking:
    """Configure one GPU after another, each as scores best: the greedy idea of MIG-Serving (arXiv 2109.11067).

    Raises
    ------
    SpecError
        A service cannot keep its latency.

    Notes
    -----
    The score of a configured GPU is the sum over its services of (share of the service's rate that it adds) times (share
    of the rate that was still missing); no more is added than is missing. Configurations are maximal and filled from
    the largest profile on, each with the service that scores most. Before any is filled, the sum of its profiles' best
    scores bounds its score, so mostly one is filled for each GPU: GPUs times (services times profiles) in all. The
    article's genetic algorithm and tree search, which improve on the greedy answer, are not part of this.
    """
    for service in services:
        ratings.throughputs(service)  # refuses what cannot be served
    choices = [*MIG.configurations(maximal=True), Configuration({"whole": 1})]
    counts = np.array([[choice.get(profile, 0) for profile in BY_SIZE] for choice in choices])
    shares = np.array([[ratings.throughput(service, profile) / service.rate for service in services] for profile in BY_SIZE])
    missing = np.ones(len(services))
    gpus = []
    while (missing > TOLERANCE / 2).any():
        most = counts @ (missing * np.minimum(shares, missing)).max(axis=1)
        best, filling = 0.0, Filling()
        for choice in np.argsort(-most, kind="stable"):
            if most[choice] <= best:
                break
            score, candidate = _fill(choices[choice], shares, missing)
            if score > best:
                best, filling = score, candidate
        for profile, number in filling:
            missing[number] = max(0.0, missing[number] - shares[BY_SIZE.index(profile), number])
        gpus.append(_placed(filling))
    return ServicePacking(tuple(gpus))


def _fill(
    configuration: Configuration, shares: npt.NDArray[np.float64], missing: npt.NDArray[np.float64]
) -> tuple[float, Filling]:
    """Give each instance of a configuration the service that scores most; return the score and the instances used."""
    score, filling, left = 0.0, Filling(), missing.copy()
    for profile, count in configuration.items():
        row = shares[BY_SIZE.index(profile)]
        for _ in range(count):
            gains = missing * np.minimum(row, left)
            number = int(gains.argmax())
            if gains[number] > 0:
                score += float(gains[number])
                left[number] = max(0.0, left[number] - row[number])
                filling.append((profile, number))
    return score, filling


def _placed(filling: Filling) -> tuple[Instance, ...]:
    """Give the instances of one GPU their starts."""
    if filling[0][0] == "whole":
        return (("whole", 0, filling[0][1]),)
    waiting: dict[str, list[int]] = {}
    for profile, number in filling:
        waiting.setdefault(profile, []).append(number)
    placements = MIG.layout_of({profile: len(numbers) for profile, numbers in waiting.items()}) or ()
    return tuple((placement.profile.name, placement.start, waiting[placement.profile.name].pop()) for placement in placements)


SERVICE_PEERS: dict[str, Callable[[Sequence[Service], Ratings], ServicePacking]] = {
    "whole GPUs": whole_gpus,
    "best per slice": best_per_slice,
    "MIG-Serving's greedy": mig_serving,
    "first fit": smallest_first_fit,
}
"""Name to method; each returns a packing that meets all rates."""
