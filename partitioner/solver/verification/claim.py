"""What a plan claims, as the check reads it: `partitioner.Plan` is one such claim. Must not know how a claim is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Protocol

from partitioner.fleet import Fleet
from partitioner.layout import Layout
from partitioner.workload import Workload

KindKey = tuple[str, str | None]
"""GPU model and the mode it must stay in, None where it is free."""
OptionKey = tuple[str, str, str, str]
"""Name of a service, GPU model, mode, profile."""


class LeftOut(Protocol):
    """A workload of which replicas were left out."""

    @property
    def workload(self) -> str:
        """Name of the workload."""

    @property
    def count(self) -> int:
        """Replicas left out; of a service 1."""


class Stage(Protocol):
    """One stage of the objective."""

    @property
    def name(self) -> str:
        """Name of the stage."""

    @property
    def value(self) -> int:
        """Its value."""

    @property
    def bound(self) -> int:
        """The best possible value."""


class Rated(Protocol):
    """What one instance of a service does on a profile; `partitioner.performance.Rating` is one."""

    @property
    def throughput_rps(self) -> float:
        """Requests per second [1/s]."""

    @property
    def latency_ms(self) -> float | None:
        """Of a batch, or the 99th percentile [ms]; None where it is not known."""

    @property
    def batch(self) -> int | None:
        """Batch size; None where it is not known."""

    @property
    def processes(self) -> int | None:
        """Processes on the instance; None where they are not known."""


class Failover(Protocol):
    """Where one placement of a replica goes when its host fails; a replica of k GPUs has k of them."""

    @property
    def failed_host(self) -> str:
        """Name of the host that fails."""

    @property
    def workload(self) -> str:
        """Name of the workload."""

    @property
    def replica(self) -> int:
        """Number of the replica."""

    @property
    def host(self) -> str:
        """Name of the host that takes it."""

    @property
    def gpu(self) -> int:
        """Index of the GPU in that host."""

    @property
    def start(self) -> int:
        """Start of the placement on that GPU."""

    @property
    def mode(self) -> str:
        """Mode of that GPU."""

    @property
    def profile(self) -> str:
        """Profile of the placement."""


class Claim(Protocol):
    """What a plan claims; `partitioner.Plan` is one."""

    @property
    def workloads(self) -> Sequence[Workload]:
        """What was asked for."""

    @property
    def fleet(self) -> Fleet | None:
        """The GPUs; None where GPUs of one model without hosts were planned."""

    @property
    def gpu(self) -> str | None:
        """That model."""

    @property
    def gpus(self) -> int | None:
        """How many of them; None: as many as needed."""

    @property
    def modes(self) -> tuple[str, ...] | None:
        """Modes or families of modes that the plan may use; None: all."""

    @property
    def status(self) -> str:
        """``optimal`` or ``feasible``."""

    @property
    def objective(self) -> tuple[str, ...]:
        """Names of the stages in their order."""

    @property
    def objectives(self) -> Sequence[Stage]:
        """The stages with their figures."""

    @property
    def certificate(self) -> str:
        """What proves the bound on the GPUs; it names the search where one has a part in it."""

    @property
    def unplaced(self) -> Sequence[LeftOut]:
        """What was left out."""

    @property
    def layout(self) -> Layout:
        """Placements and occupants."""

    @property
    def prices(self) -> Mapping[tuple[KindKey, str, str], Fraction]:
        """(kind, mode, profile) to price; empty where the bound rests on a search."""

    @property
    def rents(self) -> Mapping[KindKey, Fraction]:
        """What one GPU of a kind may cost above 1."""

    @property
    def ratings(self) -> Mapping[OptionKey, Rated]:
        """Every option that a service could take, used or not, to what one instance does there."""

    @property
    def host_failures(self) -> int:
        """Hosts that may fail, any of them: 0 or 1."""

    @property
    def failover(self) -> Sequence[Failover]:
        """Where replicas go when their host fails."""

    @property
    def current(self) -> Layout | None:
        """What ran before, where the plan starts from it."""

    @property
    def pinned(self) -> Sequence[str]:
        """Workloads, or ``workload/replica``, that stay where they were."""

    @property
    def vacate(self) -> Sequence[str]:
        """Hosts and GPUs on which nothing may stand."""
