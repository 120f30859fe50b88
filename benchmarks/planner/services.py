"""Services to plan: models with a latency bound and a rate, and what one instance of each profile serves of them.

Values and calibrated figures only; must not know planners.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from benchmarks.planner.mixes import GPU
from partitioner import Workload, catalog
from partitioner.errors import SpecError, did_you_mean
from partitioner.performance import Calibration

Scenario = Literal["batch", "server"]

SCENARIOS: tuple[Scenario, ...] = ("batch", "server")
"""``batch``: the latency of one batch, as MIG-Serving and ParvaGPU define it; ``server``: p99 under Poisson arrivals."""

MIG = catalog.gpu(GPU).geometry("mig").subset(p.name for p in catalog.gpu(GPU).geometry("mig").profiles if not p.attributes)
"""How the GPU may be cut: profiles without media extensions, which serve no more."""
PROFILES = (*(profile.name for profile in MIG.profiles), "whole")
"""What an instance may be: a MIG profile or the whole GPU."""

LATENCY_FACTORS: dict[Scenario, tuple[float, ...]] = {"batch": (1.5, 2.0, 3.0, 5.0, 8.0), "server": (3.0, 4.0, 6.0, 10.0, 15.0)}
"""Latency bounds as multiples of the lowest latency that a model reaches on any profile. Servers get more, for queueing:
MLPerf's bounds are 4 (ResNet50) and 10 (BERT) times the lowest latency measured."""


@dataclass(frozen=True, slots=True)
class Service:
    """A model to serve.

    Parameters
    ----------
    name : unique in an instance of the problem.
    model : name in the calibration.
    rate : requests in all [1/s].
    latency_ms : bound, as the scenario defines it [ms].
    scenario : one of `SCENARIOS`.
    """

    name: str
    model: str
    rate: float
    latency_ms: float
    scenario: Scenario

    def workload(self) -> Workload:
        """Return the service as the planner takes it."""
        return Workload(self.name, model=self.model, rate=self.rate, latency_ms=self.latency_ms, scenario=self.scenario)


class Ratings:
    """What one instance serves, each figure taken from the calibration once.

    Parameters
    ----------
    calibration : the figures; None takes the shipped ones.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration or Calibration.default()
        self._throughputs: dict[tuple[str, float, str, str], float] = {}
        self._lowest: dict[tuple[str, str], float] = {}

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models measured at batch sizes on the GPU, sorted: those of which every latency is known."""
        return tuple(name for name in self.calibration.models() if self.calibration.batches(name, GPU) is not None)

    def throughput(self, service: Service, profile: str) -> float:
        """Return what one instance serves of a service [1/s]; 0 where it cannot keep the latency."""
        key = (service.model, service.latency_ms, service.scenario, profile)
        if key not in self._throughputs:
            self._throughputs[key] = self._rate(service, profile)
        return self._throughputs[key]

    def _rate(self, service: Service, profile: str) -> float:
        if not self.calibration.knows(service.model, GPU, profile, scenario=service.scenario):
            return 0.0
        rating = self.calibration.best(service.model, GPU, profile, latency_ms=service.latency_ms, scenario=service.scenario)
        return rating.throughput_rps if rating else 0.0

    def throughputs(self, service: Service) -> dict[str, float]:
        """Return profile to what one instance serves [1/s], only profiles that keep the latency, smallest first.

        Raises
        ------
        SpecError
            There is none.
        """
        found = {profile: served for profile in BY_SIZE if (served := self.throughput(service, profile)) > 0}
        if not found:
            raise SpecError(
                f"service {service.name!r}: no profile of {GPU} serves {service.model!r} in {service.latency_ms:g} ms"
            )
        return found

    def lowest_latency(self, model: str, scenario: Scenario) -> float:
        """Return the lowest latency of a model on any profile [ms]."""
        if (model, scenario) not in self._lowest:
            known = [p for p in PROFILES if self.calibration.knows(model, GPU, p, scenario=scenario)]
            self._lowest[model, scenario] = min(
                self.calibration.lowest_latency(model, GPU, profile, scenario=scenario) for profile in known
            )
        return self._lowest[model, scenario]


@dataclass(frozen=True, slots=True)
class Size:
    """How large an instance of the problem is, and what is wanted of the planner.

    Parameters
    ----------
    services : how many.
    gpus : GPUs that they need about.
    seconds : the planner's deadline [s].
    gap : how far above its bound the planner may end; 0: proven.
    """

    services: int
    gpus: int
    seconds: float
    gap: float


SIZES = {
    "11": Size(11, 10, 1.0, 0.0),
    "24": Size(24, 1_000, 10.0, 0.0),
    "100": Size(100, 10_000, 30.0, 0.0005),
}
"""The instances, by the number of services."""


def sizes(names: Sequence[str]) -> tuple[Size, ...]:
    """Return the sizes of the given names.

    Raises
    ------
    SpecError
        A name is unknown.
    """
    for name in names:
        if name not in SIZES:
            raise SpecError(f"unknown size {name!r}; {did_you_mean(name, SIZES) or 'known: ' + ', '.join(SIZES)}")
    return tuple(SIZES[name] for name in names)


def slice_share(profile: str) -> float:
    """Return the share of a GPU's slices, of memory or compute whichever is more, that an instance takes.

    Examples
    --------
    >>> slice_share("1g.10gb") == 1 / 7, slice_share("3g.40gb"), slice_share("whole")
    (True, 0.5, 1.0)
    """
    if profile == "whole":
        return 1.0
    shape = MIG.profile(profile)
    return max(shape.extent / MIG.units, shape.compute_slices / catalog.gpu(GPU).compute_slices)


def memory_slices(profile: str) -> int:
    """Return the memory slices that an instance takes; the whole GPU takes all."""
    return MIG.units if profile == "whole" else MIG.profile(profile).extent


BY_SIZE = tuple(sorted(PROFILES, key=lambda name: (memory_slices(name), slice_share(name), name == "whole")))
"""`PROFILES`, smallest first."""


def draw(size: Size, *, scenario: Scenario, ratings: Ratings, seed: int) -> tuple[Service, ...]:
    """Draw services: all models in turn, each with a random bound, and rates of very different sizes.

    Parameters
    ----------
    size : how many services, and the GPUs that they need about.
    scenario : of all of them.
    ratings : figures that bounds and rates are derived from.
    seed : of the random numbers.

    Notes
    -----
    Rates are scaled so that, were GPUs cut without remainder and every service always on its best profile, they would
    need just `size.gpus`; what is really needed is a little more. Rates have three significant digits, bounds one
    decimal [ms].
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    parts = [numbers.lognormvariate(0.0, 1.0) for _ in range(size.services)]
    services = []
    for number, part in enumerate(parts):
        model = ratings.models[number % len(ratings.models)]
        bound = math.ceil(10 * numbers.choice(LATENCY_FACTORS[scenario]) * ratings.lowest_latency(model, scenario)) / 10
        service = Service(f"{model}-{number}", model, 1.0, bound, scenario)
        full_gpu = max(served / slice_share(profile) for profile, served in ratings.throughputs(service).items())
        rate = float(f"{full_gpu * size.gpus * part / sum(parts):.3g}")
        services.append(Service(service.name, model, rate, bound, scenario))
    return tuple(services)
