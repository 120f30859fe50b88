"""What is asked of a system, under which rules, and who asks. Knows no network and no servers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.load.log import RequestLog
from partitioner.errors import SpecError

MODES = ("offline", "server", "single_stream", "multi_stream")
"""Scenarios of MLPerf Inference, called modes here: a scenario is a configuration of a GPU."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a run counts.

    Parameters
    ----------
    min_duration_s : shortest run [s]; MLPerf asks for 600.
    min_samples : fewest samples; MLPerf asks for 24,576 offline.
    min_queries : fewest queries of the other modes; early stopping may ask for more.
    latency_bound_ms : bound on the latency at `percentile` in mode server [ms]; None: none is set.
    percentile : share of the queries that have to keep the bound.
    confidence : of early stopping; LoadGen's is 99%.
    max_slip_ms : bound on the 99th percentile of the issue slip, the time by which queries leave late [ms].
    """

    min_duration_s: float = 10.0
    min_samples: int = 1
    min_queries: int = 1
    latency_bound_ms: float | None = None
    percentile: float = 0.99
    confidence: float = 0.99
    max_slip_ms: float = 5.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min_duration_s) and self.min_duration_s >= 0):
            raise SpecError(f"rules - a run of {self.min_duration_s:g} s cannot be waited for; give min_duration_s=, 0 or more")
        if self.latency_bound_ms is not None and not self.latency_bound_ms > 0:
            raise SpecError(f"rules - no latency keeps a bound of {self.latency_bound_ms:g} ms; give more than 0, or none")
        if not (0 < self.percentile < 1 and 0.5 <= self.confidence < 1):
            raise SpecError(
                f"rules - percentile {self.percentile:g}, confidence {self.confidence:g}; give shares, as 0.99 and 0.99"
            )


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of one instance.

    Parameters
    ----------
    mode : one of `MODES`.
    rules : when the run counts; it also says how long it lasts.
    rate_per_s : queries a second in mode server [1/s]; offline what is expected, for LoadGen (None: what the warm-up showed).
    batch : samples in one request, offline.
    concurrency : requests in flight, offline.
    samples_per_query : of mode multi_stream.
    timeout_s : after which a request has failed [s].
    seed : of the arrivals and of the samples' order.
    """

    mode: str
    rules: Rules
    rate_per_s: float | None = None
    batch: int = 1
    concurrency: int = 1
    samples_per_query: int = 8
    timeout_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise SpecError(f"mode {self.mode!r} is unknown; known: {', '.join(MODES)}")
        if self.mode == "server" and self.rate_per_s is None:
            raise SpecError("mode server - no rate is given; give rate_per_s=, queries a second")
        for name in ("batch", "concurrency", "samples_per_query"):
            if getattr(self, name) < 1:
                raise SpecError(f"mode {self.mode} - {name} is {getattr(self, name)}; give 1 or more")
        if not self.timeout_s > 0:
            raise SpecError(
                f"mode {self.mode} - no request is answered within {self.timeout_s:g} s; give timeout_s=, more than 0"
            )


class System(Protocol):
    """What answers requests: a model behind a server, or in this process. MLPerf calls it the system under test.

    `infer` may be called again while earlier calls wait. Samples are numbers from 0 to `n_samples` - 1, each with inputs of
    its own that were prepared in `open`, so that nothing but the request itself is measured.
    """

    n_samples: int

    async def open(self) -> dict[str, str]:
        """Connect, check that the model is the one meant, prepare inputs; return facts of the server by name."""
        ...

    async def infer(self, samples: Sequence[int]) -> None:
        """Send one request with these samples and wait for the checked answer; raises `RequestError` where it fails."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


Progress = Callable[[int], None]
"""Told from time to time how many samples are done."""


class Engine(Protocol):
    """What sends the load."""

    async def run(self, system: System, load: Load, *, start_s: float, progress: Progress) -> RequestLog:
        """Wait for `start_s` (of `time.monotonic`), send the load, and return what was seen of each query.

        Raises
        ------
        LoadGeneratorError
            The load cannot be generated.
        """
        ...
