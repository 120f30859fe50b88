"""What hosts and their NUMA nodes have, against what stands there, in exact numbers. Must not know rules on affinity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import lcm

import numpy as np

from partitioner.solver.verification.books import MOST_FINDINGS, Books, Column, Site, Terms, tally
from partitioner.solver.verification.rules import Standing

_RESOURCES = ("vcpus", "ram_gib", "max_vms")
_UNITS = {"vcpus": "vCPUs", "ram_gib": "GiB of memory", "max_vms": "VMs"}


def check_limits(standing: Standing) -> Iterator[str]:
    """Yield hosts and NUMA nodes on which more is taken than they have.

    A replica of k GPUs takes a k-th of its vCPUs and memory from the node of each; GPUs of no node count to the host only.
    """
    books = standing.books
    for limits in _limits(books.site):
        shares = [_share(terms, limits.resource) for terms in books.terms]
        if any(shares):
            yield from islice(_overloads(standing, limits, shares), MOST_FINDINGS)


@dataclass(frozen=True, slots=True)
class _Limits:
    """Limits of one resource at places of one sort: hosts, or NUMA nodes.

    Parameters
    ----------
    resource : name of the limit.
    place_of : the place of each GPU of the layout, -1 where none is limited; shape ``(n_gpus,)``.
    names : names of the places.
    amounts : what each place has.
    """

    resource: str
    place_of: Column
    names: tuple[str, ...]
    amounts: tuple[Fraction, ...]


def exact(number: float) -> Fraction:
    """Return the number that a user wrote, in decimals: 0.1 is a tenth."""
    return Fraction(str(number))


def _share(terms: Terms, resource: str) -> Fraction:
    """Return what one placement of a replica takes."""
    amount: float | None = 1 if resource == "max_vms" else getattr(terms, resource)
    return Fraction(0) if amount is None else exact(amount) / terms.gpus_per_replica


def _limits(site: Site) -> Iterator[_Limits]:
    for resource in _RESOURCES:
        of_hosts = {row: getattr(host, resource) for row, host in site.described() if getattr(host, resource) is not None}
        if of_hosts:
            names = tuple(site.host_name(row) for row in of_hosts)
            yield _Limits(resource, _places(of_hosts, site)[site.host_of], names, tuple(map(exact, of_hosts.values())))
        if resource != "max_vms" and any(host.numa for _, host in site.described()):
            yield from _node_limits(site, resource)


def _places(rows: Mapping[int, object], site: Site) -> Column:
    """Return the number of each host among those limited, -1 for others; shape ``(n_hosts,)``."""
    places = np.full(len(site.hosts), -1, dtype=np.int64)
    places[list(rows)] = np.arange(len(rows))
    return places


def _node_limits(site: Site, resource: str) -> Iterator[_Limits]:
    names: list[str] = []
    amounts: list[Fraction] = []
    places: dict[tuple[int, int], int] = {}
    for row, host in site.described():
        for number, node in enumerate(host.numa):
            amount = getattr(node, resource)
            if amount is not None:
                places |= {(row, gpu): len(names) for gpu in node.gpus}
                names.append(f"NUMA node {number} of {host.name}")
                amounts.append(exact(amount))
    if names:
        layout = site.plan.layout
        gpus = zip(layout.gpu_host.tolist(), layout.gpu_index.tolist(), strict=True)
        yield _Limits(resource, np.array([places.get(gpu, -1) for gpu in gpus], dtype=np.int64), tuple(names), tuple(amounts))


def _overloads(standing: Standing, limits: _Limits, shares: list[Fraction]) -> Iterator[str]:
    books: Books = standing.books
    world, gpu = np.divmod(standing.gpu, max(1, len(books.plan.layout)))
    place = limits.place_of[gpu]
    limited = place >= 0
    n_places, n_terms = len(limits.names), len(books.terms)
    cell = world[limited] * n_places + place[limited]
    keys, counts = tally(cell * n_terms + books.terms_of[standing.workload[limited]])
    scale = lcm(*(share.denominator for share in shares))
    units = [int(share * scale) for share in shares]
    load: dict[int, int] = {}
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        load[key // n_terms] = load.get(key // n_terms, 0) + count * units[key % n_terms]
    for at, taken in load.items():
        in_world, number = divmod(at, n_places)
        if taken > limits.amounts[number] * scale:
            yield (
                f"{limits.names[number]}{standing.when(in_world)}: {_plain(Fraction(taken, scale))} {_UNITS[limits.resource]}"
                f" are taken; there are {_plain(limits.amounts[number])}"
            )


def _plain(number: Fraction) -> str:
    return f"{number.numerator:,}" if number.denominator == 1 else f"{float(number):,.6g}"
