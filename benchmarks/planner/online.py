"""Online placement measured: requests arrive and leave at random; how many are accepted, and how fast that is decided.

Arrivals are a Poisson process, lifetimes exponential with mean 1; the offered load is what would run at a time if everything
were accepted, in memory slices, as a share of the slices there are. All contestants get the same arrivals.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from benchmarks.planner.mixes import GPU, Mix
from partitioner import Fleet, catalog
from partitioner.errors import SpecError, did_you_mean
from partitioner.fleet import read_fleet
from partitioner.solver.configurations import all_prices, maximal_configurations
from partitioner.solver.online import Allocator

ONLINE_MIXES = (
    Mix("uniform", {"1g.10gb": 1, "1g.20gb": 1, "2g.20gb": 1, "3g.40gb": 1, "4g.40gb": 1, "7g.80gb": 1}),
    Mix("skewed big", {"1g.10gb": 1, "1g.20gb": 1, "2g.20gb": 1, "3g.40gb": 2, "4g.40gb": 3, "7g.80gb": 3}),
    Mix("skewed small", {"1g.10gb": 50, "1g.20gb": 15, "2g.20gb": 20, "3g.40gb": 10, "4g.40gb": 4, "7g.80gb": 1}),
    Mix("bimodal", {"1g.10gb": 8, "7g.80gb": 1}),
)
"""What is asked for. In ``bimodal`` half of the slices are asked for one at a time and half by the whole GPU."""
RIVALS = ("first-fit", "best-fit", "fragmentation-aware")
OURS = "keep-room"
KNOWN_BEST: Mapping[str, float] = {"uniform": 0.953, "skewed big": 0.935}
"""The best share of requests that was known to be accepted at load 1 without migration, on 100 GPUs."""
BOUND = "unlimited migration"
_GPUS = 100
_MARGIN = 0.0005  # of acceptances, half a tenth of a percent: below, contestants are equal


@dataclass(frozen=True, slots=True)
class Request:
    """One arrival.

    Parameters
    ----------
    at, until : when it arrives, and when it leaves if it is accepted [mean lifetimes].
    profile : what it asks for.
    """

    at: float
    until: float
    profile: str


def arrivals(mix: Mix, n: int, *, load: float, gpus: int, seed: int) -> list[Request]:
    """Draw requests in order of arrival.

    Parameters
    ----------
    mix : what is asked for.
    n : number of requests.
    load : slices that would run at a time, as a share of all.
    gpus : number of GPUs.
    seed : of the random numbers.
    """
    numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
    slices = slices_of(mix.weights)
    mean = sum(weight * slices[name] for name, weight in mix.weights.items()) / sum(mix.weights.values())
    rate = load * gpus * catalog.gpu(GPU).geometry("mig").units / mean
    times = accumulate(numbers.expovariate(rate) for _ in range(n))
    names = numbers.choices(list(mix.weights), weights=list(mix.weights.values()), k=n)
    return [Request(at, at + numbers.expovariate(1), name) for at, name in zip(times, names, strict=True)]


def slices_of(names: Mapping[str, object]) -> dict[str, int]:
    """Return the memory slices of each profile."""
    geometry = catalog.gpu(GPU).geometry("mig")
    return {name: geometry.profile(name).extent for name in names}


@dataclass(slots=True)
class Score:
    """What was accepted.

    Attributes
    ----------
    offered, accepted : requests.
    offered_slices, accepted_slices : their memory slices.
    migrations : how often an instance was moved.
    """

    offered: int = 0
    accepted: int = 0
    offered_slices: int = 0
    accepted_slices: int = 0
    migrations: int = 0

    @property
    def requests(self) -> float:
        """Share of the requests that was accepted."""
        return self.accepted / self.offered

    @property
    def slices(self) -> float:
        """Share of the slices that was accepted."""
        return self.accepted_slices / self.offered_slices

    @property
    def migrations_per_accepted(self) -> float:
        """Migrations for each request accepted."""
        return self.migrations / self.accepted

    def add(self, other: Score) -> None:
        """Add what was accepted in another run."""
        self.offered += other.offered
        self.accepted += other.accepted
        self.offered_slices += other.offered_slices
        self.accepted_slices += other.accepted_slices
        self.migrations += other.migrations


class Placing:
    """An allocator as a contestant; with a budget, it may move instances where a request does not fit.

    Parameters
    ----------
    policy : of the allocator.
    gpus : number of GPUs.
    mix : told to the policy that is made for a given mix; the others learn what they need.
    budget : most migrations to make room for one request.
    """

    def __init__(self, policy: str, gpus: int, mix: Mix, *, budget: int = 0) -> None:
        given = dict(mix.weights) if policy == "fragmentation-aware" else None
        self._allocator = Allocator(fleet_of(gpus), policy, mix=given)
        self._budget = budget
        self.migrations = 0

    def arrive(self, profile: str) -> int | None:
        """Return the id of what was placed, None where it was refused."""
        placement = self._allocator.place(profile)
        if placement is None and self._budget:
            moved = self._allocator.defragment(self._budget, profile)
            self.migrations += len(moved)
            placement = self._allocator.place(profile) if moved else None
        return None if placement is None else placement.id

    def leave(self, number: int) -> None:
        """Give back."""
        self._allocator.release(number)


class Unlimited:
    """Accepts whenever what runs and the request fit on the GPUs at all, however much would have to move.

    Notes
    -----
    A demand fits on g GPUs exactly where it costs at most g at each extreme price of the geometry (see
    `partitioner.solver.configurations.all_prices`; rounding up is exact for this GPU).
    """

    def __init__(self, gpus: int, mix: Mix) -> None:
        names = tuple(mix.weights)
        prices = all_prices(maximal_configurations(GPU, "mig", names))
        if prices is None:
            raise SpecError(f"{GPU}: too many prices of {', '.join(names)} for an exact test")
        self._left = [price.denominator * gpus for price in prices]
        self._cost = {name: [price.numerators[place] for price in prices] for place, name in enumerate(names)}
        self._running: dict[int, str] = {}
        self._next = 0
        self.migrations = 0

    def arrive(self, profile: str) -> int | None:
        """Return a number where the request fits, else None."""
        left = [have - cost for have, cost in zip(self._left, self._cost[profile], strict=True)]
        if min(left) < 0:
            return None
        self._left, self._next = left, self._next + 1
        self._running[self._next] = profile
        return self._next

    def leave(self, number: int) -> None:
        """Give back."""
        cost = self._cost[self._running.pop(number)]
        self._left = [have + more for have, more in zip(self._left, cost, strict=True)]


Contestant = Placing | Unlimited


def simulate(contestant: Contestant, requests: Sequence[Request], *, warm_up: int) -> Score:
    """Let requests arrive and leave, and count what is accepted after the first `warm_up` of them."""
    score, running = Score(), list[tuple[float, int]]()
    slices = slices_of({request.profile: None for request in requests})
    migrations = 0
    for position, request in enumerate(requests):
        while running and running[0][0] <= request.at:
            contestant.leave(heapq.heappop(running)[1])
        number = contestant.arrive(request.profile)
        if number is not None:
            heapq.heappush(running, (request.until, number))
        if position < warm_up:
            migrations = contestant.migrations
            continue
        score.offered += 1
        score.offered_slices += slices[request.profile]
        if number is not None:
            score.accepted += 1
            score.accepted_slices += slices[request.profile]
    score.migrations = contestant.migrations - migrations
    return score


def fleet_of(gpus: int) -> Fleet:
    """Return a fleet of that many GPUs in MIG mode, eight in a host, the last host with the rest."""
    whole, rest = divmod(gpus, 8)
    hosts = {f"h{number}": {"gpus": [{"model": GPU, "mode": "mig", "count": 8}]} for number in range(whole)}
    if rest:
        hosts["rest"] = {"gpus": [{"model": GPU, "mode": "mig", "count": rest}]}
    return read_fleet({"hosts": hosts})


@dataclass(frozen=True, slots=True)
class Contest:
    """Acceptance of one mix at one load.

    Parameters
    ----------
    mix, load, gpus, budget : what was measured; `budget` are the migrations allowed to make room for one request.
    scores : contestant to its score over all seeds; ``keep-room, moving`` is ours with the budget.
    """

    mix: str
    load: float
    gpus: int
    budget: int
    scores: Mapping[str, Score] = field(repr=False)

    @property
    def moving(self) -> Score:
        """Ours with migrations."""
        return self.scores[f"{OURS}, moving"]

    @property
    def best_rival(self) -> float:
        """The best share of requests accepted by a policy that is not ours."""
        return max(self.scores[name].requests for name in RIVALS)

    @property
    def gap_closed(self) -> float:
        """How much of the gap between ours and unlimited migration, in slices, the budget closes."""
        still, bound = self.scores[OURS].slices, self.scores[BOUND].slices
        return (self.moving.slices - still) / (bound - still) if bound > still else 1.0

    @property
    def judged(self) -> bool:
        """Whether anything is promised: at load 1, on the number of GPUs for which the best is known."""
        return self.load == 1 and self.gpus == _GPUS

    @property
    def holds(self) -> bool:
        """Whether ours accepts at least as much as each rival and as was known before, and half of the gap is closed."""
        ours = self.scores[OURS].requests
        best = max(self.best_rival, KNOWN_BEST.get(self.mix, 0.0))
        return not self.judged or (ours >= best - _MARGIN and self.gap_closed >= 0.5)


def contest(mix: Mix, *, load: float, gpus: int, n: int, seeds: Sequence[int], budget: int) -> Contest:
    """Let all contestants decide over the same requests.

    Parameters
    ----------
    mix : what is asked for.
    load : offered load in slices, 1 being all there are.
    gpus : number of GPUs.
    n : requests counted for each seed; a quarter as many come before, to fill the GPUs.
    seeds : of the arrivals; results are added up.
    budget : most migrations to make room for one request.
    """
    makers: dict[str, Callable[[], Contestant]] = {name: _maker(name, gpus, mix) for name in (*RIVALS, OURS)}
    makers[f"{OURS}, moving"] = lambda: Placing(OURS, gpus, mix, budget=budget)
    makers[BOUND] = lambda: Unlimited(gpus, mix)
    scores = {name: Score() for name in makers}
    for seed in seeds:
        requests = arrivals(mix, n + n // 4, load=load, gpus=gpus, seed=seed)
        for name, make in makers.items():
            scores[name].add(simulate(make(), requests, warm_up=n // 4))
    return Contest(mix.name, load, gpus, budget, scores)


def _maker(policy: str, gpus: int, mix: Mix) -> Callable[[], Contestant]:
    return lambda: Placing(policy, gpus, mix)


def online_mixes(names: Sequence[str]) -> tuple[Mix, ...]:
    """Return the mixes of the given names, all where none is given.

    Raises
    ------
    SpecError
        A name is unknown.
    """
    known = {mix.name: mix for mix in ONLINE_MIXES}
    for name in names:
        if name not in known:
            raise SpecError(f"unknown mix {name!r}; {did_you_mean(name, known) or 'known: ' + ', '.join(known)}")
    return tuple(known[name] for name in names) or ONLINE_MIXES
