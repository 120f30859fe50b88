"""N+1: whatever one host fails, its replicas go into instances that are cut and free on the others, within all rules.

Must not know how places were reserved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from partitioner.layout import NOBODY
from partitioner.solver.verification.books import MOST_FINDINGS, Books, Kind
from partitioner.solver.verification.claim import Failover
from partitioner.solver.verification.jobs import job_findings
from partitioner.solver.verification.limits import check_limits
from partitioner.solver.verification.replicas import falls_short, instances_of, satisfies, throughput, unfit
from partitioner.solver.verification.rules import Standing, check_rules

_ROWS_AT_ONCE = 1_000_000
"""Placements of worlds that are checked together."""

Replica = tuple[int, int]
"""Row of the workload, number of the replica."""


@dataclass(frozen=True, slots=True)
class _Move:
    """One entry that is sound by itself: a replica of the failed host and the free placement that takes it."""

    replica: Replica
    gpu: int
    kind: Kind


def check_failover(books: Books) -> Iterator[str]:
    """Yield hosts whose failure the plan does not survive, and entries that are not what they should be."""
    plan = books.plan
    if plan.host_failures not in (0, 1):
        yield f"host_failures is {plan.host_failures}; 0 and 1 can be checked"
    elif plan.host_failures == 0:
        if plan.failover:
            yield f"{len(plan.failover)} places are given for failures of hosts, but host_failures is 0"
    elif plan.fleet is None:
        yield "host_failures is 1, but the plan has no hosts"
    else:
        yield from _Check(books).findings()


@dataclass(frozen=True)
class _Check:
    books: Books

    def findings(self) -> Iterator[str]:
        """Yield what is wrong, host after host; rules and limits of all hosts' failures are checked at once."""
        site, listed = self.books.site, self._entries()
        for name in listed:
            if name not in self._rows_of:
                yield f"places are given for the failure of {name!r}, which holds no replicas"
        worlds: list[tuple[int, list[_Move]]] = []
        for name, host in self._rows_of.items():
            moves: list[_Move] = []
            found = list(self._moves(host, listed.get(name, ()), moves))
            found += self._uncovered(host, moves)
            yield from (f"when {site.host_name(host)} fails: {finding}" for finding in found[:MOST_FINDINGS])
            if not found:
                worlds.append((host, moves))
        for standing in self._afterwards(worlds):
            yield from check_rules(standing, together=False)
            yield from check_limits(standing)

    def _entries(self) -> Mapping[str, Sequence[Failover]]:
        listed: dict[str, list[Failover]] = {}
        for entry in self.books.plan.failover:
            listed.setdefault(entry.failed_host, []).append(entry)
        return listed

    # -- what stands where -----------------------------------------------------------------------------------------

    @cached_property
    def _by_host(self) -> list[np.ndarray]:
        """Rows of the books that stand on each host."""
        host = self.books.site.host_of[self.books.gpu]
        order = np.argsort(host, kind="stable")
        return np.split(order, np.searchsorted(host[order], np.arange(1, len(self.books.site.hosts))))

    @cached_property
    def _rows_of(self) -> dict[str, int]:
        """Names of the hosts that hold replicas, and their rows."""
        return {self.books.site.host_name(row): row for row, held in enumerate(self._by_host) if len(held)}

    @cached_property
    def _free(self) -> dict[tuple[str | None, int, int], tuple[int, Kind]]:
        """(host, GPU, start) of placements that are cut and free, to the row of the GPU and what is there."""
        layout, site = self.books.plan.layout, self.books.site
        at = np.flatnonzero(layout.occupant == NOBODY)
        gpus = np.searchsorted(layout.offsets, at, side="right") - 1
        free = {}
        for position, gpu in zip(at.tolist(), gpus.tolist(), strict=True):
            pattern = layout.patterns[layout.gpu_pattern[gpu]]
            placed = pattern.placements[position - int(layout.offsets[gpu])]
            if (gpu, placed.start) not in site.kept:
                place = (layout.hosts[layout.gpu_host[gpu]], site.index(gpu), placed.start)
                free[place] = gpu, Kind(pattern.model, pattern.mode or "", placed.profile.name)
        return free

    @cached_property
    def _instances(self) -> dict[int, dict[Kind, int]]:
        return instances_of(self.books)

    def _lost(self, host: int) -> Counter[Replica]:
        """Return the placements that each replica loses with a host."""
        held = self._by_host[host]
        return Counter(zip(self.books.workload[held].tolist(), self.books.replica[held].tolist(), strict=True))

    # -- one host --------------------------------------------------------------------------------------------------

    def _moves(self, host: int, entries: Sequence[Failover], moves: list[_Move]) -> Iterator[str]:
        """Yield what is wrong with single entries; the others go to `moves`."""
        lost, name = self._lost(host), self.books.site.host_name(host)
        taken: set[tuple[str, int, int]] = set()
        for entry in entries:
            who = f"workload {entry.workload!r}, replica {entry.replica}"
            place = (entry.host, entry.gpu, entry.start)
            where = f"{entry.host}/gpu{entry.gpu} at {entry.start}"
            replica = (self.books.rows.get(entry.workload, -1), entry.replica)
            free = self._free.get(place)
            if replica not in lost:
                yield f"{who} does not stand there, yet is given {where}"
            elif entry.host == name:
                yield f"{who} is given {where}, on the host that fails"
            elif free is None:
                yield f"{who} is given {where}, which is no free placement of the layout"
            elif place in taken:
                yield f"{who} is given {where}, which another one is given, too"
            elif (entry.mode, entry.profile) != (free[1].mode, free[1].profile):
                there = f"{free[1].profile} in mode {free[1].mode}"
                yield f"{who} is given {entry.profile} in mode {entry.mode} at {where}; that is {there}"
            else:
                unfit_there = list(self._unfit(replica[0], free[1]))
                yield from (f"{who} is given {where}: {reason}" for reason in unfit_there)
                if not unfit_there:
                    moves.append(_Move(replica, *free))
            taken.add(place)

    def _unfit(self, row: int, kind: Kind) -> Iterator[str]:
        if not satisfies(self.books.of(row), kind):
            yield f"{kind.profile} on {kind.model} in mode {kind.mode} does not satisfy {self.books.of(row).size}"
        elif self.books.services[row]:
            yield from unfit(self.books, self.books.plan.workloads[row], kind)

    def _uncovered(self, host: int, moves: Sequence[_Move]) -> Iterator[str]:
        """Yield replicas that are not taken in full, services that miss their rate, and jobs that are torn apart."""
        books, lost = self.books, self._lost(host)
        given = Counter(move.replica for move in moves)
        for (row, replica), placements in lost.items():
            found, who = given[row, replica], f"workload {books.names[row]!r}, replica {replica}"
            if found > placements if books.services[row] else found != placements:
                yield f"{who} loses {placements} placements and is given {found}"
        for row in sorted({row for row, _ in lost if books.services[row]}):
            workload = books.plan.workloads[row]
            reached = throughput(books, workload.name, self._running(host, row, moves))
            if falls_short(reached, workload):
                yield f"workload {workload.name!r} serves {reached:g} requests/s; the rate is {workload.rate:g}"
        yield from self._torn(moves)

    def _running(self, host: int, row: int, moves: Sequence[_Move]) -> Counter[Kind]:
        """Return the instances of a service that run after a failure."""
        held = self._by_host[host]
        gone = self.books.kind[held[self.books.workload[held] == row]].tolist()
        running = Counter(self._instances[row])
        running.subtract(self.books.kinds[kind] for kind in gone)
        running.update(move.kind for move in moves if move.replica[0] == row)
        return running

    def _torn(self, moves: Sequence[_Move]) -> Iterator[str]:
        jobs: dict[Replica, list[tuple[int, Kind]]] = {}
        for move in moves:
            terms = self.books.of(move.replica[0])
            if terms.gpus_per_replica > 1 or terms.rdma:
                jobs.setdefault(move.replica, []).append((move.gpu, move.kind))
        for (row, replica), parts in jobs.items():
            for finding in job_findings(self.books, row, parts):
                yield f"workload {self.books.names[row]!r}: replica {replica} {finding}"

    # -- all hosts -------------------------------------------------------------------------------------------------

    def _afterwards(self, worlds: Sequence[tuple[int, Sequence[_Move]]]) -> Iterator[Standing]:
        """Iterate over what runs on the hosts that take something, many failures at a time.

        On hosts that take nothing, and every rule holds within one host, nothing changes.
        """
        batch: list[np.ndarray] = []
        for host, moves in worlds:
            if moves:
                batch.append(self._world(host, moves))
            if sum(part.shape[1] for part in batch) > _ROWS_AT_ONCE:
                yield Standing(self.books, *np.concatenate(batch, axis=1))
                batch = []
        if batch:
            yield Standing(self.books, *np.concatenate(batch, axis=1))

    def _world(self, host: int, moves: Sequence[_Move]) -> np.ndarray:
        """Return the columns of `Standing` for the failure of one host; shape ``(4, n)``."""
        books, host_of = self.books, self.books.site.host_of
        added = np.array([(*move.replica, move.gpu) for move in moves], dtype=np.int64).T
        rows = np.concatenate([self._by_host[taker] for taker in np.unique(host_of[added[2]]).tolist()])
        workload, replica, gpu = np.concatenate((np.stack((books.workload, books.replica, books.gpu))[:, rows], added), axis=1)
        world = host + 1
        return np.stack((workload, replica, gpu + world * len(host_of), host_of[gpu] + world * len(books.site.hosts)))
