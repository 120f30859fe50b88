"""What a plan claims of what ran before: moves, what is pinned, what is vacated. Must not know how layouts are made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from partitioner.layout import NOBODY, Layout, gpu_label
from partitioner.solver.verification.books import MOST_FINDINGS, Books

Place = tuple[str | None, int, str | None, str, int]
"""Host, GPU, mode, profile, start."""
Who = tuple[str, int]


def check_moves(books: Books) -> Iterator[str]:
    """Yield moves that are not counted right, who is pinned and moved, and what stands where nothing may."""
    plan = books.plan
    if plan.vacate:
        yield from islice(_occupied(books), MOST_FINDINGS)
    claimed = next((stage.value for stage in plan.objectives if stage.name == "moves"), None)
    if plan.current is None:
        if plan.pinned:
            yield f"pinned {plan.pinned[0]!r}, but the plan does not say where it was"
        if claimed is not None:
            yield f"moves is {claimed}, but the plan does not say what ran before"
        return
    now, then = _places(plan.current, books), _places(plan.layout, books)
    yield from islice(_moved_pins(books, now, then), MOST_FINDINGS)
    if claimed is not None:
        price = _price(books, now, then)
        if price != claimed:
            yield f"moves is {price}, not {claimed}"


def _occupied(books: Books) -> Iterator[str]:
    plan = books.plan
    names = set(plan.vacate)
    for row in range(len(plan.layout)):
        host, index = plan.layout.hosts[plan.layout.gpu_host[row]], int(plan.layout.gpu_index[row])
        if (host in names or gpu_label(host, index) in names) and plan.layout.used[row]:
            yield f"{gpu_label(host, index)} is to be vacated, but has placements"


def _places(layout: Layout, books: Books) -> dict[Who, set[Place]]:
    """Return the places of every replica of the workloads that are asked for."""
    asked = [books.rows.get(name) for name in layout.workloads]
    most = [None if books.services[row] else int(books.counts[row]) for row in range(len(books.names))]
    patterns = [[(p.mode, q.profile.name, q.start) for q in p.placements] for p in layout.patterns]
    occupants, replicas, at = layout.occupant.tolist(), layout.replica.tolist(), 0
    found: dict[Who, set[Place]] = {}
    for host, index, pattern in zip(
        layout.gpu_host.tolist(), layout.gpu_index.tolist(), layout.gpu_pattern.tolist(), strict=True
    ):
        for place in patterns[pattern]:
            who, replica = occupants[at], replicas[at]
            at += 1
            row = None if who == NOBODY else asked[who]
            if row is not None:
                limit = most[row]
                if limit is None or replica < limit:
                    found.setdefault((books.names[row], replica), set()).add((layout.hosts[host], index, *place))
    return found


def _price(books: Books, now: dict[Who, set[Place]], then: dict[Who, set[Place]]) -> int:
    """Return what all moves cost: of a replica as many instances as ran and do not stay; of services see below."""
    total = 0
    services: dict[str, list[int]] = {}
    there: dict[str, set[Place]] = {}
    for (name, _), places in then.items():
        if books.services[books.rows[name]]:
            there.setdefault(name, set()).update(places)
    prices = [workload.move_price for workload in books.plan.workloads]
    for (name, replica), places in now.items():
        row = books.rows[name]
        if books.services[row]:
            tally = services.setdefault(name, [0, 0])
            tally[0] += len(places)
            tally[1] += len(places & there.get(name, set()))
            continue
        stay = len(places & then.get((name, replica), set()))
        total += prices[row] * max(0, min(len(places), int(books.gpus_per_replica[row])) - stay)
    for name, (ran, stay) in services.items():
        row = books.rows[name]
        runs = len(there.get(name, ()))  # one that is left out stops everywhere; else fewer instances are no move
        total += prices[row] * max(0, (min(ran, runs) if runs else ran) - stay)
    return total


def _moved_pins(books: Books, now: dict[Who, set[Place]], then: dict[Who, set[Place]]) -> Iterator[str]:
    for text in books.plan.pinned:
        name, _, number = text.rpartition("/")
        if text in books.rows:
            mine = [who for who in now if who[0] == text]
        elif name in books.rows and number.isdecimal():
            mine = [who for who in now if who == (name, int(number))]
        else:
            yield f"pinned {text!r} is no workload that was asked for"
            continue
        for who in mine:
            held, row = then.get(who, set()), books.rows[who[0]]
            stay = min(len(now[who]), int(books.gpus_per_replica[row]))
            if books.services[row]:
                held = {place for other, places in then.items() if other[0] == who[0] for place in places}
            if len(now[who] & held) < stay:
                host, gpu, _, profile, start = min(now[who] - held, key=str)
                yield f"pinned {text!r}: {who[0]}/{who[1]} is no longer on {gpu_label(host, gpu)} at {profile}@{start}"
