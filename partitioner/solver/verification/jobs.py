"""Replicas of several GPUs: equal profiles in one host, links as asked, NICs beside. Must not know who else is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from partitioner.solver.verification.books import MOST_FINDINGS, Books, Kind, Terms
from partitioner.topology import Topology

_LEVELS = ("NVLINK", "PIX", "PXB", "PHB", "NODE", "SYS")  # best first
_RDMA = ("PIX", "PXB")
_NVLINK = re.compile(r"NV[1-9]\d*")

Part = tuple[int, Kind]
"""Row of a GPU in the layout, and what stands on it."""


def check_jobs(books: Books) -> Iterator[str]:
    """Yield replicas whose placements are not equal, not in one host, or not linked as asked."""
    concerned = (books.gpus_per_replica > 1) | books.having("gpu_link", "rdma")
    if not concerned.any():
        return
    parts: dict[tuple[int, int], list[Part]] = {}
    mine = concerned[books.workload]
    columns = (books.workload, books.replica, books.gpu, books.kind)
    for row, replica, gpu, kind in zip(*(column[mine].tolist() for column in columns), strict=True):
        parts.setdefault((row, replica), []).append((gpu, books.kinds[kind]))
    listed = Counter[int]()
    for (row, replica), found in parts.items():
        for finding in job_findings(books, row, found):
            listed[row] += 1
            if listed[row] <= MOST_FINDINGS:
                yield f"workload {books.names[row]!r}: replica {replica} {finding}"


def job_findings(books: Books, row: int, parts: Sequence[Part]) -> Iterator[str]:
    """Yield what is wrong with the places of one replica."""
    terms, site = books.of(row), books.site
    kinds = sorted({kind for _, kind in parts})
    if len(kinds) > 1:
        yield "takes unequal profiles: " + ", ".join(f"{k.profile} on {k.model} in mode {k.mode}" for k in kinds)
    hosts = sorted({int(site.host_of[gpu]) for gpu, _ in parts})
    if len(hosts) > 1:
        yield f"stands on {len(hosts)} hosts: {', '.join(map(site.host_name, hosts))}"
    elif terms.gpu_link is not None or terms.rdma:
        yield from _link_findings(books, terms, [gpu for gpu, _ in parts])


def _link_findings(books: Books, terms: Terms, gpus: list[int]) -> Iterator[str]:
    site = books.site
    host = site.hosts[int(site.host_of[gpus[0]])]
    indices = [site.index(gpu) for gpu in gpus]
    if (terms.gpu_link is not None or terms.rdma) and len(set(indices)) < len(indices):
        what = "gpu_link" if terms.gpu_link is not None else "rdma"
        yield f"stands twice on one GPU of {', '.join(map(site.gpu_name, sorted(gpus)))}; {what} wants different ones"
    links = host.links if host is not None else None
    if links is None:
        if terms.rdma or len(indices) > 1:
            yield f"needs links, but none are known of {site.host_name(int(site.host_of[gpus[0]]))}"
        return
    if terms.gpu_link is not None:
        for one, other in combinations(sorted(set(indices)), 2):
            if not _near(_level(links, one, other), terms.gpu_link):
                yield f"has link {links.gpu_links[one][other]} between GPUs {one} and {other}; gpu_link is {terms.gpu_link}"
    for index in sorted(set(indices)) if terms.rdma else ():
        if not any(row[index] in _RDMA for _, row in links.nics):
            yield f"has no NIC at PIX or PXB beside GPU {index}; rdma needs one"


def _level(links: Topology, one: int, other: int) -> str:
    link = links.gpu_links[one][other]
    return "NVLINK" if _NVLINK.fullmatch(link) else link


def _near(level: str, worst: str) -> bool:
    return level in _LEVELS and _LEVELS.index(level) <= _LEVELS.index(worst)
