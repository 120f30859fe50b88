"""Command line of the quality figures; prints tables in Markdown, ends with 1 where something does not hold."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.planner.tables import head, table
from benchmarks.quality.client import client_keeps_up
from benchmarks.quality.engines import engines_agree
from benchmarks.quality.figures import Bounded, Figure, Near
from benchmarks.quality.truth import against_truth
from partitioner.errors import PartitionerError

_PACKAGES = ("gpu-partitioner", "numpy", "tritonclient", "grpcio", "mlcommons-loadgen")
_TITLES = {
    "truth": "Asyncio engine against an emulated server of known service time (over gRPC)",
    "engines": "Asyncio engine against MLPerf's LoadGen, on one emulated server",
    "client": "One load generator process against a real tritonserver with a model that does nothing",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables.

    Parameters
    ----------
    arguments : command line without the program; None takes the process's own.

    Returns
    -------
    0 when everything holds, 1 when something does not, 2 where it cannot be measured.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="How far measurements can be trusted.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(_TITLES)} (all)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run [s]")
    parser.add_argument("--repeats", type=int, default=3, help="of each run, of which the best counts")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals")
    given = parser.parse_args(arguments)
    if unknown := set(given.what) - set(_TITLES):
        parser.error(f"{', '.join(sorted(unknown))} - unknown; known: {', '.join(_TITLES)}")
    measures: dict[str, Callable[..., Iterator[Figure]]]
    measures = {"truth": against_truth, "engines": engines_agree, "client": client_keeps_up}
    holds = True
    try:
        print(head(shlex.join(arguments), program="benchmarks.quality", packages=_PACKAGES))
        for what in given.what or _TITLES:
            figures = list(measures[what](given.seconds, repeats=given.repeats, seed=given.seed))
            holds &= all(figure.holds for figure in figures)
            print(f"\n{_TITLES[what]}\n\n{_table(figures, against='LoadGen' if what == 'engines' else 'truth')}")
    except PartitionerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if holds else 1


def _table(figures: Iterable[Figure], *, against: str) -> str:
    near: list[tuple[str, ...]] = []
    bounded: list[tuple[str, ...]] = []
    for figure in figures:
        mark = "yes" if figure.holds else "NO"
        if isinstance(figure, Near):
            shares = f"{figure.error:+.2%}", f"{figure.within:.0%}"
            near.append((figure.case, figure.figure, f"{figure.measured:.5g}", f"{figure.truth:.5g}", *shares, mark))
        elif isinstance(figure, Bounded):
            bound = f"{'at least' if figure.least else 'at most'} {figure.bound:.4g}"
            bounded.append((figure.case, figure.figure, f"{figure.measured:.4g}", bound, mark))
    if near:
        return table(("case", "figure", "measured", against, "difference", "allowed", "holds"), near)
    return table(("case", "figure", "measured", "bound", "holds"), bounded)


if __name__ == "__main__":
    sys.exit(main())
