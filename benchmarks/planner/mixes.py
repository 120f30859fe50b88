"""Demands to plan: which profiles arrive, in which order. Values only; must not know planners."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partitioner import catalog
from partitioner.errors import SpecError, did_you_mean

GPU = "A100-80GB"
"""The GPU model of all benchmarks."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each profile is asked for.

    Parameters
    ----------
    name : for tables and the command line.
    weights : profile to its relative frequency.
    """

    name: str
    weights: Mapping[str, int]

    def draw(self, n: int, *, seed: int) -> list[str]:
        """Return the profiles of `n` replicas in order of arrival; the same seed draws the same.

        Parameters
        ----------
        n : number of replicas.
        seed : of the random numbers.
        """
        numbers = random.Random(seed)  # noqa: S311 - demands are drawn, nothing is encrypted
        return numbers.choices(list(self.weights), weights=list(self.weights.values()), k=n)


EVERY_PROFILE = Mix("every profile", {profile.name: 1 for profile in catalog.gpu(GPU).geometry("mig").profiles})

MIXES = (
    Mix("uniform", {"1g.10gb": 1, "1g.20gb": 1, "2g.20gb": 1, "3g.40gb": 1, "4g.40gb": 1, "7g.80gb": 1}),
    Mix("small-heavy", {"1g.10gb": 50, "1g.20gb": 15, "2g.20gb": 20, "3g.40gb": 10, "4g.40gb": 4, "7g.80gb": 1}),
    Mix("large-heavy", {"1g.10gb": 5, "1g.20gb": 5, "2g.20gb": 15, "3g.40gb": 35, "4g.40gb": 30, "7g.80gb": 10}),
    Mix("awkward", {"1g.20gb": 1, "2g.20gb": 1, "3g.40gb": 1}),
    Mix("adverse", {"1g.10gb": 4, "3g.40gb": 1}),
)
"""Mixes of the comparison with heuristics. In ``awkward`` every profile alone strands compute, yet memory decides and
heuristics do well; ``adverse`` is chosen against them: two 3g.40gb fill the memory of a GPU and strand a compute slice,
while one with four 1g.10gb fills both."""


def mixes(names: Sequence[str]) -> tuple[Mix, ...]:
    """Return the mixes of the given names, all where none is given.

    Raises
    ------
    SpecError
        A name is unknown.
    """
    known = {mix.name: mix for mix in MIXES}
    for name in names:
        if name not in known:
            raise SpecError(f"unknown mix {name!r}; {did_you_mean(name, known) or 'known: ' + ', '.join(known)}")
    return tuple(known[name] for name in names) or MIXES
