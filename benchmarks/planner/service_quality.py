"""The planner and its peers on the same services, with the same figures, in one run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.planner.mixes import GPU
from benchmarks.planner.quality import Rival
from benchmarks.planner.service_peers import SERVICE_PEERS, short_of_rate
from benchmarks.planner.services import Ratings, Scenario, Service, Size, draw
from partitioner import plan
from partitioner.performance import Calibration

MODES = ("mig", "whole")
"""What planner and peers may do to a GPU."""

LATE = 1.1
"""A deadline is kept when the plan comes within this multiple of it."""
ROUNDING = 1e-9
"""Gaps are compared with this tolerance: they are quotients."""


@dataclass(frozen=True, slots=True)
class ServiceComparison:
    """The planner and its peers on one instance of the problem.

    Parameters
    ----------
    size, scenario : the instance, and what is wanted.
    planner : GPUs planned, and seconds from the services to the verified plan.
    bound : no plan uses fewer GPUs.
    status, certificate : of the plan.
    rating_s : what looking the figures up takes alone, in a calibration that has answered nothing yet [s]; the planner,
        whose time includes it, gets such a one too.
    peers : name of each peer to what it made of the same services.
    short : names of services that somebody serves less than their rate; always empty, or something is wrong.
    """

    size: Size
    scenario: Scenario
    planner: Rival
    bound: int
    status: str
    certificate: str
    rating_s: float
    peers: dict[str, Rival]
    short: tuple[str, ...]

    @property
    def gap(self) -> float:
        """How far the plan is above its bound, as a share of the bound."""
        return self.planner.gpus / self.bound - 1

    @property
    def in_time(self) -> bool:
        """Whether the deadline was kept within 10%."""
        return self.planner.seconds <= LATE * self.size.seconds

    @property
    def good(self) -> bool:
        """Whether the plan is as close to its bound as is wanted; where proof is wanted, of every stage."""
        return self.gap <= self.size.gap + ROUNDING and (self.size.gap > 0 or self.status == "optimal")

    @property
    def sound(self) -> bool:
        """Whether every rate is met and no peer is below the bound."""
        return not self.short and all(self.bound <= rival.gpus for rival in (self.planner, *self.peers.values()))

    @property
    def holds(self) -> bool:
        """Whether everything wanted holds."""
        return self.in_time and self.good and self.sound


def compare_services(size: Size, *, scenario: Scenario, seed: int) -> ServiceComparison:
    """Serve one instance of the problem with every method, one after another in this process.

    Parameters
    ----------
    size : of the instance.
    scenario : of all its services.
    seed : of the draw and of the planner.

    Raises
    ------
    SpecError
        A peer's layout is not legal.
    """
    services = draw(size, scenario=scenario, ratings=Ratings(), seed=seed)
    warm_up(services[0])
    calibration = _unused()
    workloads = [service.workload() for service in services]
    started = time.perf_counter()
    answer = plan(workloads, gpu=GPU, modes=MODES, calibration=calibration, time_limit_s=size.seconds, seed=seed)
    planner = Rival(answer.gpus_used, time.perf_counter() - started)

    ratings = Ratings(_unused())
    started = time.perf_counter()
    for service in services:
        ratings.throughputs(service)
    rating_s = time.perf_counter() - started
    peers, short = {}, short_of_rate(answer.layout, services, ratings)
    for name, peer in SERVICE_PEERS.items():
        started = time.perf_counter()
        packing = peer(services, ratings)
        peers[name] = Rival(packing.gpus_used, time.perf_counter() - started)
        short += short_of_rate(packing.layout(services), services, ratings)
    certificate = answer.certificate
    return ServiceComparison(
        size, scenario, planner, answer.lower_bound, answer.status, certificate, rating_s, peers, tuple(short)
    )


def warm_up(service: Service) -> None:
    """Plan one service, so that what is measured next does not import the engines or read the catalogue."""
    plan([service.workload()], gpu=GPU, modes=MODES)


def _unused() -> Calibration:
    """Return the shipped calibration without the answers that it remembers."""
    return Calibration(Calibration.default().points)
