"""The smallest set of workloads that cannot be placed together with one more. Must not know how a question is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

SMALL = 12
"""Most workloads among which the smallest set is looked for by size."""

Fits = Callable[[frozenset[str]], bool | None]
"""Whether some workloads fit together with the one in question; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Workloads that do not fit together with the one in question.

    Parameters
    ----------
    names : the workloads; none where the one in question does not fit alone.
    irreducible : without any one of them, the rest fits.
    smallest : no set of fewer workloads clashes.
    """

    names: tuple[str, ...]
    irreducible: bool
    smallest: bool


def find_clash(names: Sequence[str], fits: Fits) -> Clash:
    """Return a set of workloads that clash, out of all of them, which do.

    Parameters
    ----------
    names : workloads that do not fit all together with the one in question.
    fits : the test; a part of what fits must fit, too.

    Notes
    -----
    QuickXplain (Junker 2004) finds an irreducible set in about k log2(n / k) tests, k being its size; among few workloads
    all smaller sets are tried then, by size.
    """
    memory = _Memory(fits, [], [frozenset(names)])
    if memory.fits(frozenset()) is False:
        return Clash((), irreducible=True, smallest=True)
    found = _irreducible(frozenset(), False, list(names), memory)
    clash = Clash(tuple(found), memory.settled, len(found) <= 1 and memory.settled)
    if clash.smallest or len(names) > SMALL:
        return clash
    memory.settled = True
    for size in range(len(found)):
        for part in combinations(names, size):
            if memory.fits(frozenset(part)) is False:
                return Clash(part, irreducible=memory.settled, smallest=memory.settled)
        if not memory.settled:
            return clash
    return Clash(clash.names, clash.irreducible, smallest=True)


def _irreducible(given: frozenset[str], grown: bool, among: list[str], memory: _Memory) -> list[str]:  # noqa: FBT001 - as published
    """Return the part of `among` that, with `given`, clashes and cannot be reduced."""
    if grown and memory.fits(given) is False:
        return []
    if len(among) == 1:
        return among
    middle = len(among) // 2
    first, second = among[:middle], among[middle:]
    right = _irreducible(given | set(first), bool(first), second, memory)
    left = _irreducible(given | set(right), bool(right), first, memory)
    return left + right


@dataclass
class _Memory:
    """Remembers what is known to fit and to clash, and whether every test was settled."""

    test: Fits
    fitting: list[frozenset[str]] = field(default_factory=list)
    clashing: list[frozenset[str]] = field(default_factory=list)
    settled: bool = True

    def fits(self, names: frozenset[str]) -> bool | None:
        if any(names <= known for known in self.fitting):
            return True
        if any(names >= known for known in self.clashing):
            return False
        found = self.test(names)
        if found is None:
            self.settled = False
        else:
            (self.fitting if found else self.clashing).append(names)
        return found
