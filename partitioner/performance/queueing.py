"""Latency of a batching server under Poisson arrivals: what rate keeps the 99th percentile under a bound.

The system: `processes` servers share one instance, each with a queue of its own; arrivals are Poisson and go to one of
them at random. A free server takes all that waits, up to `most` requests, as one batch, and serves a batch of n in
``service_s(n)`` seconds, the figure measured with all processes at work. Both are cautious: one common queue, or idle
neighbours, only make it faster. Each server is then an M/D[b]/1 queue whose service depends on the batch: the queue
left at ends of batches is a Markov chain (Bailey's bulk queue, J. R. Stat. Soc. B 16, 1954), solved on a grid of queue
lengths; the latency of an arrival follows from the state it meets. This module must not know GPUs or calibrations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

QUANTILE = 0.99
MAX_LOAD = 0.97
"""Highest share of the capacity that is ever promised: beyond it a queue forgets its past too slowly to be trusted."""
_STEPS = 256  # rates tried are capacity x (i / steps)^2: fine at low rates, where the lowest bounds can still be kept
_EXACT = 32  # queue lengths below are states of their own, those above share states
_GROWTH = 0.12  # width of the states above, as a share of their length
_MAX_STATES = 400  # the last stands for all longer queues, and counts as late
_PARTS = 16  # parts of a service interval in which an arrival may fall

Service = Callable[[Any], Any]
"""Seconds that a batch takes, for an array of batch sizes."""


class BatchServer:
    """Servers on one instance that batch what waits.

    Parameters
    ----------
    service_s : seconds that a batch of n takes, with all processes at work; grows with n, for arrays.
    most : largest batch.
    processes : servers with queues of their own, between which arrivals are split at random.
    """

    def __init__(self, service_s: Service, most: int, processes: int = 1) -> None:
        self.service_s, self.most, self.processes = service_s, most, processes

    @property
    def capacity(self) -> float:
        """Requests per second with full batches all the time."""
        return float(self.processes * self.most / self.service_s(float(self.most)))

    def late(self, rate: float, latency_s: float) -> float:
        """Return the share of requests that take longer than `latency_s` at `rate` [requests/s].

        Notes
        -----
        O(s^3) for s states of the queue, below a hundred.
        """
        import numpy as np

        if rate >= self.capacity:
            return 1.0
        rate /= self.processes
        waiting = rate * latency_s
        edges, lengths = _states(2 * waiting + 4 * math.sqrt(waiting) + 2 * self.most + 8, self.most)
        taken = np.clip(lengths, 1, self.most)
        left = np.maximum(lengths - taken, 0)
        interval = self.service_s(taken)
        moves = _transitions(edges, left, rate * interval)
        share = _stationary(moves)
        weight = share * rate * interval  # arrivals during the interval that begins in each state
        late = (weight[:, None] * moves * self._late_share(lengths, left, rate, latency_s)).sum()
        alone = float(self.service_s(1.0)) > latency_s
        return float((late + share[0] * alone) / (weight.sum() + share[0]))

    def _late_share(self, lengths: Array, left: Array, rate: float, latency_s: float) -> Array:
        """Return the share of arrivals that are late, by state at the start of the interval (rows) and at its end (columns).

        Of m others that arrive in the interval, j come before a request with equal chance for each j in 0..m; the
        moment of its arrival is then Beta(j + 1, m - j + 1), taken as uniform with the same mean and deviation.
        """
        import numpy as np

        order, moment = (np.arange(_PARTS) + 0.5) / _PARTS, _spread(_PARTS)
        others = np.maximum(lengths[None, :] - left[:, None], 0)[:, :, None]
        earlier = np.floor(order * (others + 1))
        mean = (earlier + 1) / (others + 2)
        deviation = np.sqrt(mean * (1 - mean) / (others + 3))
        arrival = (mean + math.sqrt(12) * deviation * (moment - 0.5)).clip(0, 1)
        before = np.floor((left[:, None, None] + earlier) / self.most)  # full batches that go first
        full = float(self.service_s(float(self.most)))
        joining = rate * full - self.most  # what comes while a full batch is served, less what the batch took
        mates = np.clip(lengths[None, :, None] + 1 + before * joining, 1, self.most)
        interval = self.service_s(np.clip(lengths, 1, self.most))[:, None, None]
        latency = (1 - arrival) * interval + before * full + self.service_s(mates)
        latency[:, -1, :] = np.inf  # the last state stands for all longer queues
        result: Array = (latency > latency_s).mean(axis=2)
        return result

    def quantile_s(self, rate: float, quantile: float = QUANTILE) -> float:
        """Return the latency that a share `quantile` of the requests stays under at `rate` [s]; infinite when overloaded."""
        if rate >= self.capacity:
            return math.inf
        low = high = float(self.service_s(1.0))
        while self.late(rate, high) > 1 - quantile:
            low, high = high, high * 2
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.late(rate, middle) <= 1 - quantile else (middle, high)
        return high

    def highest_rate(self, latency_s: float, quantile: float = QUANTILE, above: float = 0.0) -> float:
        """Return the highest rate at which a share `quantile` of the requests takes `latency_s` at most [requests/s].

        Parameters
        ----------
        latency_s : the bound.
        quantile : share of requests that must keep it.
        above : rates up to this are of no interest; 0 is returned where the highest is not above it.
        """
        top = MAX_LOAD * self.capacity
        good, bad = 0, _STEPS + 1
        if above >= top or float(self.service_s(1.0)) > latency_s:
            return 0.0

        def kept(step: int) -> bool:
            return self.late(top * (step / _STEPS) ** 2, latency_s) <= 1 - quantile

        if above > 0:
            good = math.floor(_STEPS * math.sqrt(above / top)) + 1
            if good > _STEPS or not kept(good):
                return 0.0
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if kept(middle) else (good, middle)
        return top * (good / _STEPS) ** 2


def _spread(count: int) -> Array:
    """Return numbers that fill (0, 1) evenly in an order of their own (van der Corput's sequence)."""
    import numpy as np

    bits = count.bit_length() - 1
    return (np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(count)]) + 0.5) / count


def _states(longest: float, most: int) -> tuple[Array, Array]:
    """Return the first queue length of each state, and the length that stands for it.

    A state is narrower than a batch, or the queue could never leave it downwards.
    """
    import numpy as np

    edges = [float(n) for n in range(_EXACT)]
    while edges[-1] < longest and len(edges) < _MAX_STATES:
        edges.append(edges[-1] + max(1, min(math.floor(edges[-1] * _GROWTH), most // 4)))
    first = np.array(edges)
    return first, np.floor((first + np.append(first[1:], first[-1] + 1) - 1) / 2)


def _transitions(edges: Array, left: Array, mean: Array) -> Array:
    """Return the probability to go from each state to each: what was left and a Poisson number of arrivals more."""
    import numpy as np

    arrivals = edges[None, :] - 1 - left[:, None]  # fewer than an edge: at most so many arrivals
    below = _poisson_cdf(arrivals, mean[:, None])
    result: Array = np.diff(np.append(below, np.ones((len(left), 1)), axis=1), axis=1).clip(min=0)
    return result


def _poisson_cdf(count: Array, mean: Array) -> Array:
    """Return P(X <= count): exact for small counts, else by the cube root (Wilson and Hilferty 1931), within 0.001."""
    import numpy as np

    small = np.arange(_EXACT)
    log_factorial = np.array([math.lgamma(k + 1) for k in range(_EXACT)])
    exact = np.exp(small * np.log(mean) - mean - log_factorial).cumsum(axis=1)
    at = np.clip(count, 0, _EXACT - 1).astype(int)
    table = np.take_along_axis(exact, at, axis=1)
    n = np.maximum(count, _EXACT - 1) + 1
    z = (np.cbrt(mean / n) - (1 - 1 / (9 * n))) * 3 * np.sqrt(n)
    result: Array = np.where(count < 0, 0.0, np.where(count < _EXACT, table, _normal_cdf(-z)))
    return np.maximum.accumulate(result.clip(0, 1), axis=1)


def _normal_cdf(z: Array) -> Array:
    """Return the normal distribution function within 1e-5 (Abramowitz and Stegun 26.2.16)."""
    import numpy as np

    t = 1 / (1 + 0.33267 * np.abs(z))
    upper = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * t * (0.4361836 + t * (-0.1201676 + t * 0.9372980))
    result: Array = np.where(z > 0, 1 - upper, upper)
    return result


def _stationary(moves: Array) -> Array:
    import numpy as np

    n = len(moves)
    balance = moves.T - np.eye(n)
    balance[-1] = 1
    share: Array = np.linalg.solve(balance, np.append(np.zeros(n - 1), 1.0))
    positive: Array = share.clip(min=0)
    result: Array = positive / positive.sum()
    return result
