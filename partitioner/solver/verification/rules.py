"""Rules on who stands where: spread, apart, together, tenants, pins and exclusions. Every rule holds within one host.

They are checked of the plan itself and, in *worlds* of their own, of what runs after each host has failed. Must not know
how replicas came to stand where they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from partitioner.solver.verification.books import MOST_FINDINGS, Books, Column, Flags, tally


@dataclass(frozen=True, slots=True)
class Standing:
    """Replicas and where they stand, in columns of shape ``(n,)``, in one world or several.

    Parameters
    ----------
    books : the books of the plan.
    workload, replica : rows of workloads and numbers of replicas.
    gpu, host : cells: the row in the layout, plus the number of GPUs (hosts) times the world. World 0 is the plan, world
        h + 1 what runs after the failure of the host in row h.
    """

    books: Books
    workload: Column
    replica: Column
    gpu: Column
    host: Column

    def cells(self, where: str) -> Column:
        """Return the cells of GPUs or of hosts."""
        return self.gpu if where == "gpu" else self.host

    def name(self, where: str, cell: int) -> str:
        """Return the name of a cell for people, e.g. ``esx-03/gpu0 when esx-01 fails``."""
        site = self.books.site
        if where == "gpu":
            world, row = divmod(cell, len(self.books.plan.layout))
            return site.gpu_name(row) + self.when(world)
        world, row = divmod(cell, len(site.hosts))
        return site.host_name(row) + self.when(world)

    def when(self, world: int) -> str:
        """Return the words for a world; none for the plan itself."""
        return f" when {self.books.site.host_name(world - 1)} fails" if world else ""


def as_planned(books: Books) -> Standing:
    """Return where everything stands in the plan itself."""
    return Standing(books, books.workload, books.replica, books.gpu, books.site.host_of[books.gpu])


def check_rules(standing: Standing, *, together: bool = True) -> Iterator[str]:
    """Yield breaches of rules.

    Parameters
    ----------
    standing : where everything stands.
    together : whether `together_with` has to hold, too; after a failure it need not.

    Notes
    -----
    Rules that no workload has cost nothing; of the others only the replicas concerned are looked at.
    """
    yield from _check_spread(standing)
    yield from _check_apart(standing)
    if together:
        yield from _check_together(standing)
    yield from islice(_shared_by_tenants(standing), MOST_FINDINGS)
    yield from islice(_out_of_place(standing), MOST_FINDINGS)


def _check_spread(standing: Standing) -> Iterator[str]:
    books = standing.books
    if not books.having("spread").any():
        return
    for where in ("gpu", "host"):
        chosen = np.array([terms.spread == where for terms in books.terms], dtype=np.bool_)[books.terms_of]
        mine = chosen[standing.workload]
        cell, workload, replica = standing.cells(where)[mine], standing.workload[mine], standing.replica[mine]
        order = np.lexsort((replica, workload, cell))
        cell, workload, replica = cell[order], workload[order], replica[order]
        clash = (cell[1:] == cell[:-1]) & (workload[1:] == workload[:-1])
        if where == "host":  # what one replica takes is in one host anyway; on GPUs it counts as well
            clash &= replica[1:] != replica[:-1]
        for at in np.flatnonzero(clash)[:MOST_FINDINGS].tolist():
            yield (
                f"workload {books.names[workload[at]]!r}: replicas {replica[at]} and {replica[at + 1]} share"
                f" {standing.name(where, int(cell[at]))}; spread={where!r} forbids it"
            )


def _present(standing: Standing, where: str, concerned: Flags) -> Iterator[tuple[int, set[int]]]:
    """Iterate over (cell, workloads concerned that stand there)."""
    mine = concerned[standing.workload]
    n = len(standing.books.names)
    keys, _ = tally(standing.cells(where)[mine] * n + standing.workload[mine])
    cells, counts = tally(keys // n)
    ends = np.cumsum(counts).tolist()
    rows = (keys % n).tolist()
    for cell, first, end in zip(cells.tolist(), [0, *ends], ends, strict=False):
        yield cell, set(rows[first:end])


def _partners(books: Books, rule: str, where: str) -> dict[int, set[int]]:
    """Return the workloads that each workload names in a rule on GPUs or on hosts; -1 for one that was not asked for."""
    found: dict[int, set[int]] = {}
    for row in np.flatnonzero(books.having(f"{rule}_{'from' if rule == 'apart' else 'with'}")).tolist():
        terms = books.of(row)
        names, on = (terms.apart_from, terms.apart_on) if rule == "apart" else (terms.together_with, terms.together_on)
        if on == where:
            found[row] = {books.rows.get(name, -1) for name in names}
    return found


def _flags(books: Books, partners: dict[int, set[int]]) -> Flags:
    flags = np.zeros(len(books.names), dtype=np.bool_)
    flags[sorted({*partners, *(other for others in partners.values() for other in others if other >= 0)})] = True
    return flags


def _check_apart(standing: Standing) -> Iterator[str]:
    books = standing.books
    for where in ("gpu", "host"):
        partners = _partners(books, "apart", where)
        if not partners:
            continue
        found = (
            f"workloads {books.names[row]!r} and {books.names[other]!r} share {standing.name(where, cell)};"
            f" apart_from of {books.names[row]!r} forbids it"
            for cell, present in _present(standing, where, _flags(books, partners))
            for row in sorted(present & partners.keys())
            for other in sorted(present & partners[row])
        )
        yield from islice(found, MOST_FINDINGS)


def _check_together(standing: Standing) -> Iterator[str]:
    books = standing.books
    for where in ("gpu", "host"):
        partners = _partners(books, "together", where)
        if not partners:
            continue
        found = (
            f"workload {books.names[row]!r} stands on {standing.name(where, cell)} without"
            f" {', '.join(_named(books, partners[row] - present))}; together_with wants all of them there"
            for cell, present in _present(standing, where, _flags(books, partners))
            for row in sorted(present & partners.keys())
            if not partners[row] <= present
        )
        yield from islice(found, MOST_FINDINGS)


def _named(books: Books, rows: set[int]) -> list[str]:
    return [repr(books.names[row]) if row >= 0 else "a workload that was not asked for" for row in sorted(rows)]


def _shared_by_tenants(standing: Standing) -> Iterator[str]:
    books = standing.books
    with_tenant = books.having("tenant")
    if not with_tenant.any():
        return
    for cell, present in _present(standing, "gpu", with_tenant):
        tenants = sorted({books.of(row).tenant or "" for row in present})
        if len(tenants) > 1:
            yield f"{standing.name('gpu', cell)} is shared by tenants {', '.join(map(repr, tenants))}"


def _out_of_place(standing: Standing) -> Iterator[str]:
    books = standing.books
    pinned = books.having("only_on", "never_on")
    if not pinned.any():
        return
    n_gpus = len(books.plan.layout)
    for cell, present in _present(standing, "gpu", pinned):
        world, gpu = divmod(cell, n_gpus)
        places = {books.site.gpu_name(gpu), books.site.host_name(int(books.site.host_of[gpu]))}
        for row in sorted(present):
            terms = books.of(row)
            who = f"workload {books.names[row]!r} stands on {books.site.gpu_name(gpu)}{standing.when(world)}"
            if terms.only_on and not places & set(terms.only_on):
                yield f"{who}; it may be on {', '.join(terms.only_on)} only"
            if places & set(terms.never_on):
                yield f"{who}; it may never be on {', '.join(sorted(places & set(terms.never_on)))}"
