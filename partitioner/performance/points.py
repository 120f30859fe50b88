"""Measured points, and what is said about performance. Knows names of GPUs and profiles, no laws and no files."""

from __future__ import annotations

from dataclasses import dataclass, replace

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import SpecError, did_you_mean
from partitioner.geometry import Profile

MEASURED_ERROR = 0.05
"""Relative error of a measured figure that comes without one: throughput times latency of the published tables agrees
with batch times processes within 5% in 95% of their rows."""

SCENARIOS = ("offline", "server")
"""Scenarios of MLPerf in which a point may be measured instead of at a batch size."""


RATED = ("server", "offline", "batch")
"""Scenarios in which an instance is rated."""


class CalibrationError(SpecError):
    """A figure was asked for that the calibration does not hold and that cannot be derived from it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement of a model on a profile.

    Parameters
    ----------
    gpu : name of the GPU model in the catalogue.
    profile : name of the profile in the catalogue, ``whole`` for a GPU that is not cut.
    model : name of the model.
    throughput_per_s : samples or requests per second, all processes on the instance together; 0: it did not fit.
    latency_ms : of one batch [ms]; for the scenario ``server`` the bound on the 99th percentile; None where not measured.
    batch : batch size of each process; None in a scenario.
    processes : processes that share the instance; None in a scenario.
    scenario : empty for a batch size, else ``offline`` or ``server``.
    busy : all instances of the GPU were at work, not this one alone.
    error : relative error of the throughput, None where not known.
    source : where it was measured.
    """

    gpu: str
    profile: str
    model: str
    throughput_per_s: float
    latency_ms: float | None = None
    batch: int | None = None
    processes: int | None = None
    scenario: str = ""
    busy: bool = False
    error: float | None = None
    source: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What no two points of a calibration share."""
        bound = self.latency_ms if self.scenario == "server" else None
        return (self.gpu, self.profile, self.model, self.scenario, bound, self.batch, self.processes, self.busy)

    @property
    def fits(self) -> bool:
        """Whether the model fitted into the memory of the profile."""
        return self.throughput_per_s > 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, how far to trust it, and where it comes from.

    Parameters
    ----------
    value : the figure.
    unit : its unit.
    error : relative error to expect, e.g. 0.05.
    measured : measured just so; otherwise derived from measurements.
    sources : where the measurements stand.
    """

    value: float
    unit: str
    error: float
    measured: bool
    sources: tuple[str, ...]

    def scaled(self, factor: float, error: float, source: str) -> Estimate:
        """Return the figure times a factor that has an error and a source of its own."""
        sources = tuple(dict.fromkeys((*self.sources, source)))
        return replace(self, value=self.value * factor, error=_both(self.error, error), measured=False, sources=sources)


@dataclass(frozen=True, slots=True)
class Rating:
    """The best that one instance does for a model.

    Parameters
    ----------
    throughput_rps : requests per second [1/s].
    latency_ms : of a batch, or the 99th percentile under Poisson arrivals (scenario ``server``) [ms]; None offline
        where no latency was measured.
    batch : batch size, the largest one for servers; None where a published figure does not tell it.
    processes : processes on the instance; None where a published figure does not tell them.
    error : relative error of the throughput to expect.
    sources : where the measurements stand.
    measured : measured just so; otherwise derived from measurements.
    """

    throughput_rps: float
    latency_ms: float | None
    batch: int | None
    processes: int | None
    error: float
    sources: tuple[str, ...]
    measured: bool


def _both(first: float, second: float) -> float:
    """Relative error of a product of two independent figures."""
    return float((first * first + second * second) ** 0.5)


def resolve(gpu: str | GpuModel, profile: str) -> tuple[GpuModel, Profile]:
    """Return the GPU model and the profile that two spellings mean.

    Raises
    ------
    SpecError
        One of them is not in the catalogue; names near matches.
    """
    found = catalog.gpu(gpu)
    return found, found.profile(profile)


def shares(gpu: GpuModel, profile: Profile) -> tuple[float, float] | None:
    """Return the shares of the GPU's compute and memory slices that a profile owns; None where compute is time-sliced."""
    if profile.name == "whole":
        return 1.0, 1.0
    if not profile.compute_slices or not gpu.compute_slices:
        return None
    return profile.compute_slices / gpu.compute_slices, profile.extent / gpu.memory_slices


def check_scenario(scenario: str) -> None:
    """Refuse a scenario that does not exist."""
    if scenario not in RATED:
        raise SpecError(f"scenario {scenario!r} is unknown; {did_you_mean(scenario, RATED)}")


def check_bound(scenario: str, latency_ms: float | None) -> None:
    """Refuse a latency bound where there is none to keep, and the lack of one where there is."""
    if scenario == "offline":
        if latency_ms is not None:
            raise SpecError(f"latency_ms {latency_ms!r} - the scenario offline has no latency; ask for 'server' or 'batch'")
    elif latency_ms is None:
        raise SpecError(f"latency_ms is missing; the scenario {scenario} needs a bound [ms], or ask for scenario='offline'")
    elif not 0 < latency_ms < float("inf"):
        raise SpecError(f"latency_ms {latency_ms!r} - a finite number above 0 is wanted [ms]")


def check_counts(**counts: int) -> None:
    """Refuse batch sizes and numbers of processes that are none."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SpecError(f"{name} {value!r} - a whole number of at least 1 is wanted")
