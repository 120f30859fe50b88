"""An independent check of a plan: from the catalogue's tables, the workloads and the fleet, with no code of the solvers.

What is checked: every GPU exists and stands in one legal set of placements, existing instances among them; every replica
is placed once or reported, on what satisfies its demand; services reach their rate; jobs of several GPUs have their links;
rules between workloads and the limits of hosts hold, after the failure of a host, too, where the plan claims to survive
one; what is said to move, to stay or to be vacated is so; the figures are those of the layout; and where the bound rests on
prices, that they prove it.
This package must not import any other module of the solver.
"""

from __future__ import annotations

from collections.abc import Iterator

from partitioner.errors import VerificationError
from partitioner.solver.verification.books import Books, read
from partitioner.solver.verification.claim import Claim, Failover, KindKey, OptionKey
from partitioner.solver.verification.failover import check_failover
from partitioner.solver.verification.figures import check_figures
from partitioner.solver.verification.gpus import check_gpus
from partitioner.solver.verification.jobs import check_jobs
from partitioner.solver.verification.limits import check_limits
from partitioner.solver.verification.moves import check_moves
from partitioner.solver.verification.prices import check_bound
from partitioner.solver.verification.replicas import check_demands, check_ratings, check_replicas, check_services
from partitioner.solver.verification.rules import as_planned, check_rules

__all__ = ["Claim", "Failover", "KindKey", "OptionKey", "verify"]


def verify(plan: Claim) -> None:
    """Check a plan against the catalogue, its workloads, its fleet and its own figures.

    Parameters
    ----------
    plan : what is claimed; a `partitioner.Plan`.

    Raises
    ------
    VerificationError
        Everything that is wrong with it; what builds on something wrong is not looked at.

    Notes
    -----
    Legality is checked once for each distinct pattern, demands once for each distinct set of terms; the rest is linear
    in GPUs and replicas, by columns. Rules that no workload has cost nothing.
    """
    books = read(plan)
    if isinstance(books, str):
        raise VerificationError([books])
    for check in (check_gpus, _check_contents, check_bound):
        findings = list(check(books))
        if findings:
            raise VerificationError(findings)


def _check_contents(books: Books) -> Iterator[str]:
    yield from check_figures(books)
    single = [*check_replicas(books), *check_demands(books), *check_ratings(books)]
    yield from single
    if not single:
        yield from _check_together(books)


def _check_together(books: Books) -> Iterator[str]:
    """Check what concerns several placements at once, of a layout in which each of them is sound."""
    standing = as_planned(books)
    yield from check_services(books)
    yield from check_jobs(books)
    yield from check_rules(standing)
    yield from check_limits(standing)
    yield from check_failover(books)
    yield from check_moves(books)
