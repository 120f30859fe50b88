"""What was seen of each query of one run. Knows numbers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RequestLog:
    """Every query of a run, in the order in which they were to be sent; arrays of shape ``(n_queries,)``.

    Parameters
    ----------
    began_s : when the engine really began, on `time.monotonic` of its host [s].
    due_s : when each query was to be sent, after the common start [s]; in closed loops when it was sent.
    sent_s : when it was sent [s].
    done_s : when its answer was there, or its failure [s].
    samples : how many samples it had.
    failed : whether it failed.
    cpu_s : CPU time of the generating process during the run [s].
    failures : messages of failed queries and how often each was met, the most frequent first.
    loop_cpu_s : of `cpu_s`, what the one thread took that sends the queries and takes the answers [s]; None where not known.
    """

    began_s: float
    due_s: Seconds
    sent_s: Seconds
    done_s: Seconds
    samples: npt.NDArray[np.int64]
    failed: npt.NDArray[np.bool_]
    cpu_s: float
    failures: tuple[tuple[str, int], ...] = ()
    loop_cpu_s: float | None = None

    def __len__(self) -> int:
        return len(self.due_s)

    @property
    def latency_s(self) -> Seconds:
        """From when each query was due to its answer, as LoadGen counts it [s], shape ``(n_queries,)``."""
        return self.done_s - self.due_s

    @property
    def slip_s(self) -> Seconds:
        """Time by which each query left late [s], shape ``(n_queries,)``."""
        return self.sent_s - self.due_s

    @property
    def end_s(self) -> float:
        """When the last answer was there [s]; 0 without queries."""
        return float(self.done_s.max()) if len(self) else 0.0
