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
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Index = NDArray[np.intp]

QUANTILE = 0.99
MAX_LOAD = 0.97
"""Highest share of the capacity that is ever promised: beyond it a queue forgets its past too slowly to be trusted."""
ROUNDING = 1e-9
"""Share by which a bound may be missed: the lowest that can be kept is kept, whatever its unit was on the way."""
_STEPS = 256  # rates tried are capacity x (i / steps)^2: fine at low rates, where the lowest bounds can still be kept
_FIRST_WIDTH = 4  # steps that a search takes away from where it begins; then twice as many each time
_EXACT = 32  # queue lengths below are states of their own, those above share states
_GROWTH = 0.12  # width of the states above, as a share of their length
_MAX_STATES = 400  # the last stands for all longer queues, and counts as late
_AT_ONCE, _BLOCK, _PRODUCT = 48, 16, 600_000  # sizes of systems, of blocks and of products that BLAS leaves to one core
_PARTS = 16  # parts of a service interval in which an arrival may fall
_TABLED = 1024  # numbers of arrivals in an interval for which their cases are kept
_FEW = 256  # latencies that are sorted to find a quantile, after the others have been put aside
_HALVINGS = 12  # times that is done
_NEGLIGIBLE = 1e-9  # share of the arrivals below which a move from state to state is not looked at
_RESTART = 1e-10  # chance to begin again empty, after each batch: of chains that fall apart, the part reached from there counts

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
        self._found: dict[tuple[int, float], tuple[float, bool]] = {}  # (step, quantile) to what `_quantile` returned

    @cached_property
    def capacity(self) -> float:
        """Requests per second with full batches all the time."""
        return float(self.processes * self.most / self.full_s)

    @cached_property
    def _single_s(self) -> float:
        return float(self.service_s(1.0))

    @cached_property
    def full_s(self) -> float:
        """Seconds that a full batch takes."""
        return float(self.service_s(float(self.most)))

    def late(self, rate: float, latency_s: float) -> float:
        """Return the share of requests that take longer than `latency_s` at `rate` [requests/s].

        Notes
        -----
        O(s^3) for s states of the queue, below a hundred.
        """
        if rate >= self.capacity:
            return 1.0
        return self._latencies(rate, latency_s).above(latency_s)

    def quantile_s(self, rate: float, quantile: float = QUANTILE) -> float:
        """Return the latency that a share `quantile` of the requests stays under at `rate` [s]; infinite when overloaded."""
        if rate >= self.capacity:
            return math.inf
        return self._quantile(rate, quantile)[0]

    def highest_rate(self, latency_s: float, quantile: float = QUANTILE, above: float = 0.0) -> float:
        """Return the highest rate at which a share `quantile` of the requests takes `latency_s` at most [requests/s].

        Parameters
        ----------
        latency_s : the bound.
        quantile : share of requests that must keep it.
        above : rates up to this are of no interest; 0 is returned where the highest is not above it.

        Notes
        -----
        Searches rates that hang on the server alone, from a likely one, and remembers their quantiles for other bounds.
        """
        top = MAX_LOAD * self.capacity
        latency_s *= 1 + ROUNDING
        if above >= top or self._single_s > latency_s:
            return 0.0
        least = math.floor(_STEPS * math.sqrt(above / top)) + 1 if above > 0 else 0
        if least > _STEPS or (least and not self._keeps(least, latency_s, quantile)):
            return 0.0
        good, bad, width = least, _STEPS + 1, _FIRST_WIDTH
        middle = math.ceil(_STEPS * math.sqrt(self.likely_rate(latency_s) / top))
        while bad - good > 1:
            middle = min(max(middle, good + 1), bad - 1)
            kept = self._keeps(middle, latency_s, quantile)
            good, bad = (middle, bad) if kept else (good, middle)
            middle = (good + bad) // 2
            if bad > _STEPS:
                middle = min(middle, good + width)
            elif good == least:
                middle = max(middle, bad - width)
            width *= 2
        return self._rate(good)

    def likely_rate(self, latency_s: float) -> float:
        """Return a rate near that at which the 99th percentile is `latency_s`, quickly [requests/s].

        Good for an order in which to look, and to begin a search: within some percent mostly, anything at worst.
        """
        rates, latencies = self._likely
        return float(rates[latencies <= latency_s].max(initial=0.0))

    @cached_property
    def _likely(self) -> tuple[Array, Array]:
        """Rates up to the highest tried, and 99th percentiles of the latency that are likely there, both ascending.

        A rate goes with the batch that is served while as many arrive. A request waits for most of a batch and is in the
        next, both longer than that by chance, after full batches that a random walk with the same drift leaves.
        """
        import numpy as np

        batch = np.geomspace(0.05, self.most, 64)
        rates = self.processes * batch / self.service_s(np.maximum(batch, 1))
        load = np.minimum(rates / self.capacity, MAX_LOAD)
        larger = self.service_s(np.clip(batch + 2 * np.sqrt(batch), 1, self.most))
        queue = math.log(100) * load / (2 * (1 - load)) / self.most
        latencies = 1.8 * larger + 0.75 * queue * self.full_s
        return np.maximum.accumulate(load * self.capacity), np.maximum.accumulate(latencies)

    def _rate(self, step: int) -> float:
        return MAX_LOAD * self.capacity * (step / _STEPS) ** 2

    def _keeps(self, step: int, latency_s: float, quantile: float) -> bool:
        """Whether a quantile at one of the rates tried keeps a bound."""
        found, known = self._found.get((step, quantile), (0.0, False))
        if not known and found < latency_s:
            found, known = self._found[step, quantile] = self._quantile(self._rate(step), quantile, latency_s, found)
        return known and found <= latency_s

    def _quantile(self, rate: float, quantile: float, enough_s: float = math.inf, beyond_s: float = 0.0) -> tuple[float, bool]:
        """Return a quantile of the latency [s] and True; or a latency that it is beyond, at least `enough_s`, and False.

        Lengths of the queue are looked at as far as they matter for ever longer latencies. How far is settled by the
        server and the rate, so that the answer does not hang on what was asked before.

        Parameters
        ----------
        rate : below the capacity [requests/s].
        quantile : share of requests.
        enough_s : beyond this it is not asked [s].
        beyond_s : what an earlier call returned with False [s].
        """
        import numpy as np

        reach = 2 * beyond_s if beyond_s else 1.2 * float(np.interp(rate, *self._likely))
        while True:
            latencies = self._latencies(rate, reach)
            if latencies.above(reach) <= 1 - quantile or latencies.cut:
                return max(latencies.quantile(quantile), beyond_s), True
            if reach >= enough_s:
                return reach, False
            beyond_s, reach = reach, 2 * reach

    # -- the chain -------------------------------------------------------------------------------------------------

    @cached_property
    def _intervals(self) -> Array:
        """Seconds of the interval that begins in each state."""
        import numpy as np

        lengths = _states(math.inf, self.most)[1]
        below = lengths[1 : int(np.searchsorted(lengths, self.most))]
        spent = np.concatenate([[self._single_s], self.service_s(below), [self.full_s]])
        return spent[np.minimum(np.arange(len(lengths)), len(spent) - 1)]

    def _latencies(self, rate: float, longest_s: float) -> _Latencies:
        """Return how long requests take at a rate, where latencies up to `longest_s` are of interest."""
        import numpy as np

        rate /= self.processes
        waiting = rate * longest_s
        edges, lengths = _states(2 * waiting + 4 * math.sqrt(waiting) + 2 * self.most + 8, self.most)
        left = np.maximum(lengths - np.clip(lengths, 1, self.most), 0)
        arrivals = rate * self._intervals[: len(edges)]
        moves = _transitions(edges, left, arrivals)
        share = _stationary(moves)
        weight = share * arrivals  # arrivals during the interval that begins in each state
        mass = weight[:, None] * moves
        start, end = np.nonzero(mass[:, :-1] > _NEGLIGIBLE * weight.sum())
        seconds = self._seconds(start, end, lengths, left, rate)
        return _Latencies(
            np.append(seconds.ravel(), self._single_s),
            np.append(np.repeat(mass[start, end] / _PARTS, _PARTS), share[0]),
            float(mass[:, -1].sum()),
            float(weight.sum() + share[0]),
            cut=len(edges) == _MAX_STATES,
        )

    def _seconds(self, start: Index, end: Index, lengths: Array, left: Array, rate: float) -> Array:
        """Return latencies of arrivals in intervals that go from one state to another, (moves, parts)."""
        import numpy as np

        earlier, waited = _arrivals(np.maximum(lengths[end] - left[start], 0))
        before = np.floor((left[start, None] + earlier) / self.most)  # full batches that go first
        joining = rate * self.full_s - self.most  # what comes while a full batch is served, less what the batch took
        own = self._own_s(end, before, lengths, joining)
        result: Array = waited * self._intervals[start, None] + before * self.full_s + own
        return result

    def _own_s(self, end: Index, before: Array, lengths: Array, joining: float) -> Array:
        """Return what the batch of a request itself takes; equal ones are looked up once, for `service_s` is slow."""
        import numpy as np

        deepest = int(before.max(initial=0)) + 1
        place = end[:, None] * deepest + before.astype(np.intp)
        seconds = np.zeros(len(lengths) * deepest)
        seconds[place.ravel()] = 1
        used = np.flatnonzero(seconds)
        mates = np.clip(lengths[used // deepest] + 1 + used % deepest * joining, 1, self.most)
        seconds[used] = self.service_s(mates)
        result: Array = seconds[place]
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Latencies:
    """How long requests take.

    Parameters
    ----------
    seconds : latencies [s].
    mass : requests that take each, in any unit.
    longer : requests that meet a queue longer than was looked at, in the same unit; they count as late.
    total : all requests, in the same unit.
    cut : no longer queue can be looked at.
    """

    seconds: Array
    mass: Array
    longer: float
    total: float
    cut: bool

    def above(self, latency_s: float) -> float:
        """Return the share of requests that take longer."""
        return float((self.mass[self.seconds > latency_s].sum() + self.longer) / self.total)

    def quantile(self, quantile: float) -> float:
        """Return the least latency that a share of requests does not exceed [s]; infinite where the queue is too long."""
        import numpy as np

        seconds, mass = self.seconds, self.mass
        above = (1 - quantile) * self.total - self.longer  # what may still take longer
        if above < 0:
            return math.inf
        for _ in range(_HALVINGS):  # the quantile is among these
            if len(seconds) <= _FEW:
                break
            longer = seconds > seconds.mean()
            much = float(mass[longer].sum())
            kept, above = (longer, above) if much > above else (~longer, above - much)
            seconds, mass = seconds[kept], mass[kept]
        order = np.argsort(-seconds)
        before = np.append(0.0, mass[order].cumsum()[:-1])  # in this order all that is before one takes longer
        return float(seconds[order[int(np.searchsorted(before, above, side="right")) - 1]])


def _arrivals(others: Array) -> tuple[Array, Array]:
    """Return how many come earlier than a request and how long it waits for the end of its interval.

    Of m others that arrive in the interval, j come before a request with equal chance for each j in 0..m; the moment of
    its arrival is then Beta(j + 1, m - j + 1), taken as uniform with the same mean and deviation.

    Parameters
    ----------
    others : numbers of other arrivals in the interval, whole.

    Returns
    -------
    Numbers of requests, and waits as shares of the interval, for equally likely cases, (others, parts).
    """
    if others.max(initial=0) < _TABLED:
        earlier, waited = _tabled_arrivals()
        at = others.astype(int)
        return earlier[at], waited[at]
    return _cases(others)


@cache
def _tabled_arrivals() -> tuple[Array, Array]:
    import numpy as np

    return _cases(np.arange(_TABLED, dtype=float))


def _cases(others: Array) -> tuple[Array, Array]:
    import numpy as np

    order, moment = (np.arange(_PARTS) + 0.5) / _PARTS, _spread(_PARTS)
    others = others[:, None]
    earlier = np.floor(order * (others + 1))
    mean = (earlier + 1) / (others + 2)
    deviation = np.sqrt(mean * (1 - mean) / (others + 3))
    arrival = (mean + math.sqrt(12) * deviation * (moment - 0.5)).clip(0, 1)
    return earlier, 1 - arrival


def _spread(count: int) -> Array:
    """Return numbers that fill (0, 1) evenly in an order of their own (van der Corput's sequence)."""
    import numpy as np

    bits = count.bit_length() - 1
    return (np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(count)]) + 0.5) / count


def _states(longest: float, most: int) -> tuple[Array, Array]:
    """Return the first queue length of each state, and the length that stands for it.

    A state is narrower than a batch, or the queue could never leave it downwards. The last one stands for its first length.
    """
    import numpy as np

    edges, middles = _all_states(max(1, most // 4))
    count = min(max(_EXACT, int(np.searchsorted(edges, longest)) + 1), _MAX_STATES)
    return edges[:count], np.append(middles[: count - 1], edges[count - 1])


@lru_cache(maxsize=64)
def _all_states(widest: int) -> tuple[Array, Array]:
    """Return first and middle length of as many states as there may be."""
    import numpy as np

    edges = [float(n) for n in range(_EXACT)]
    while len(edges) < _MAX_STATES:
        edges.append(edges[-1] + max(1, min(math.floor(edges[-1] * _GROWTH), widest)))
    first = np.array(edges)
    middle = np.floor((first + np.append(first[1:], first[-1] + 1) - 1) / 2)
    first.flags.writeable = middle.flags.writeable = False  # shared by all that ask
    return first, middle


def _transitions(edges: Array, left: Array, mean: Array) -> Array:
    """Return the probability to go from each state to each: what was left and a Poisson number of arrivals more."""
    import numpy as np

    arrivals = edges[None, :] - 1 - left[:, None]  # fewer than an edge: at most so many arrivals
    below = np.ones((len(left), len(edges) + 1))
    below[:, :-1] = _poisson_cdf(arrivals, mean[:, None])
    result: Array = np.diff(below, axis=1).clip(min=0)
    return result


@cache
def _log_factorials() -> Array:
    import numpy as np

    return np.array([math.lgamma(k + 1) for k in range(_EXACT)])


def _poisson_cdf(count: Array, mean: Array) -> Array:
    """Return P(X <= count): exact for small counts, else by the cube root (Wilson and Hilferty 1931), within 0.001.

    Rows of `count` ascend by one at least, from below zero.
    """
    import numpy as np

    exact = np.exp(np.arange(_EXACT) * np.log(mean) - mean - _log_factorials()).cumsum(axis=1)
    at = np.clip(count, 0, _EXACT - 1).astype(np.intp)
    result: Array = np.where(count < 0, 0.0, np.take_along_axis(exact, at, axis=1))
    large = count[:, _EXACT:]  # the columns before have small counts alone
    n = np.maximum(large, _EXACT - 1) + 1
    z = (np.cbrt(mean / n) - (1 - 1 / (9 * n))) * 3 * np.sqrt(n)
    result[:, _EXACT:] = np.where(large < _EXACT, result[:, _EXACT:], _normal_cdf(-z))
    return np.maximum.accumulate(result.clip(0, 1), axis=1)


def _normal_cdf(z: Array) -> Array:
    """Return the normal distribution function within 1e-5 (Abramowitz and Stegun 26.2.16)."""
    import numpy as np

    t = 1 / (1 + 0.33267 * np.abs(z))
    upper = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * t * (0.4361836 + t * (-0.1201676 + t * 0.9372980))
    result: Array = np.where(z > 0, 1 - upper, upper)
    return result


def _stationary(moves: Array) -> Array:
    """Return the share of time in each state of a chain that now and then begins again in the first one.

    The longest queues are left out, some at a time, and what goes through them counts as moves between the others, until
    few are left. Larger systems at once would be split among all cores, which takes longer, and very long on busy ones.
    """
    import numpy as np

    kept = (1 - _RESTART) * moves
    count, passed = len(kept), []
    while count > _AT_ONCE:
        size = max(1, min(_BLOCK, _PRODUCT // count**2))
        rest = count - size
        through = kept[:rest, rest:count] @ np.linalg.inv(np.eye(size) - kept[rest:count, rest:count])
        kept[:rest, :rest] += through @ kept[rest:count, :rest]
        passed.append(through)
        count = rest
    start = np.zeros(count)
    start[0] = _RESTART
    result: Array = np.zeros(len(moves))
    result[:count] = np.linalg.solve(np.eye(count) - kept[:count, :count].T, start)
    for through in reversed(passed):
        before, size = through.shape
        result[before : before + size] = result[:before] @ through
    np.clip(result, 0, None, out=result)
    result /= result.sum()
    return result
