"""The rules of a GPU as a graph: a view for drawing, for study with networkx, and for checking the integer geometry.

A node is a profile at a start in one mode of a GPU model; an edge joins two nodes that cannot coexist on one GPU. Its
independent sets that also keep the maxima and totals, which the graph carries, are exactly the legal layouts of one GPU.

Everything after `graph` reads the graph alone, never the geometry, so the two views can be compared. This is the only
module that imports networkx; it must not know workloads, fleets or solvers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import networkx as nx

from partitioner import catalog
from partitioner.geometry import Geometry, Placement

OVERLAP, MODE, SERIES = "overlap", "mode", "series"
"""Why two nodes cannot coexist: they share a unit; they need different modes; their vGPU series do not mix."""


class Node(NamedTuple):
    """A profile at a start in a mode: the key of a node."""

    mode: str
    profile: str
    start: int

    def __str__(self) -> str:
        return f"{self.mode}:{self.profile}@{self.start}"


def graph(model: str | catalog.GpuModel, modes: Iterable[str] | None = None) -> nx.Graph[Node]:
    """Return the constraint graph of a GPU model.

    Parameters
    ----------
    model : GPU model, in any name the catalogue knows.
    modes : only these modes; None takes all of them.

    Returns
    -------
    A new graph. Each node has `mode`, `profile`, `start` [units], `extent` [units], `units` (all that the mode has),
    `memory_mib` [MiB], `compute_slices` and `uses` (counted resource to amount). Each edge has a `reason`: ``"overlap"``,
    ``"mode"`` or ``"series"``. The graph has `model`, `maxima` ((mode, profile) to the most on one GPU) and `totals`
    (mode to resource to amount).

    Raises
    ------
    SpecError
        The model is unknown or has no such mode.

    Notes
    -----
    Nodes of different modes are all joined, so the edges are quadratic in the nodes: 119 nodes for an A100-80GB with
    its ten modes, 572 for an A40.

    Examples
    --------
    >>> conflicts = graph("A100-80GB", ["mig"])
    >>> conflicts.edges[Node("mig", "4g.40gb", 0), Node("mig", "3g.40gb", 0)]["reason"]
    'overlap'
    >>> conflicts.has_edge(Node("mig", "4g.40gb", 0), Node("mig", "3g.40gb", 4))
    False
    """
    gpu = catalog.gpu(model)
    geometries = [gpu.geometry(mode) for mode in (gpu.modes if modes is None else dict.fromkeys(modes))]
    result: nx.Graph[Node] = nx.Graph(
        model=gpu.name,
        maxima={(geometry.mode, profile.name): profile.max_count for geometry in geometries for profile in geometry.profiles},
        totals={geometry.mode: dict(geometry.totals) for geometry in geometries},
    )
    for geometry in geometries:
        _add_geometry(result, geometry)
    by_mode: dict[str, list[Node]] = {}
    for node in result:
        by_mode.setdefault(node.mode, []).append(node)
    for first, second in combinations(by_mode.values(), 2):
        result.add_edges_from(((a, b) for a in first for b in second), reason=MODE)
    return result


def _add_geometry(result: nx.Graph[Node], geometry: Geometry) -> None:
    nodes = []
    for placement in geometry.placements:
        profile = placement.profile
        node = Node(geometry.mode, profile.name, placement.start)
        nodes.append((node, placement))
        result.add_node(
            node,
            mode=geometry.mode,
            profile=profile.name,
            start=placement.start,
            extent=profile.extent,
            units=geometry.units,
            memory_mib=profile.memory_mib,
            compute_slices=profile.compute_slices,
            uses=dict(profile.uses),
        )
    for (a, first), (b, second) in combinations(nodes, 2):
        reason = _conflict(first, second, exclusive=geometry.exclusive)
        if reason is not None:
            result.add_edge(a, b, reason=reason)


def _conflict(first: Placement, second: Placement, *, exclusive: bool) -> str | None:
    if first.start < second.end and second.start < first.end:
        return OVERLAP
    if exclusive and first.profile.family != second.profile.family:
        return SERIES
    return None


def violation(graph: nx.Graph[Node], nodes: Iterable[Node]) -> str | None:
    """Say why nodes of a constraint graph are no legal layout of one GPU, or None when they are one.

    Parameters
    ----------
    graph : what the function `graph` returned.
    nodes : keys of nodes, in any order.

    Notes
    -----
    Reads the graph alone: an independent set, within the maxima and the totals.
    """
    chosen: dict[Node, None] = {}
    for node in nodes:
        if node not in graph:
            return f"{Node(*node)} is not a placement of {graph.graph['model']}"
        if node in chosen:
            return f"{Node(*node)} stands twice"
        rival = next((other for other in chosen if graph.has_edge(node, other)), None)
        if rival is not None:
            return f"{Node(*node)} and {rival} do not coexist ({graph.edges[node, rival]['reason']})"
        chosen[Node(*node)] = None
    return _limit_broken(graph, chosen)


def _limit_broken(graph: nx.Graph[Node], chosen: Iterable[Node]) -> str | None:
    counts: Counter[tuple[str, str]] = Counter()
    used: Counter[tuple[str, str]] = Counter()
    for node in chosen:
        counts[node.mode, node.profile] += 1
        for resource, amount in graph.nodes[node]["uses"].items():
            used[node.mode, resource] += amount
    for key, count in counts.items():
        if count > graph.graph["maxima"][key]:
            return f"{count} x {key[1]}: at most {graph.graph['maxima'][key]} on one GPU"
    for (mode, resource), amount in used.items():
        total = graph.graph["totals"][mode].get(resource)
        if total is not None and amount > total:
            return f"{amount} {resource} used: the GPU has {total}"
    return None


def is_legal(graph: nx.Graph[Node], nodes: Iterable[Node]) -> bool:
    """Whether nodes of a constraint graph are a legal layout of one GPU; `violation` says why not."""
    return violation(graph, nodes) is None


def independent_sets(graph: nx.Graph[Node]) -> Iterator[frozenset[Node]]:
    """Iterate over all legal layouts of one GPU as sets of nodes, the empty one included, each once.

    Parameters
    ----------
    graph : what the function `graph` returned.

    Notes
    -----
    Lazy. Maxima and totals only ever forbid adding, so no branch is entered that yields nothing: the time is in
    proportion to the sets taken times the nodes. The number of sets is exponential in the units: 2,319 for the MIG
    placements of an A100, far too many to list for a GPU cut into 1 GB vGPUs.

    Examples
    --------
    >>> sum(1 for _ in independent_sets(graph("A30-24GB", ["whole"])))
    2
    """
    nodes = list(graph)
    position = {node: index for index, node in enumerate(nodes)}
    rivals = [sum(1 << position[other] for other in graph[node]) for node in nodes]
    chosen: list[Node] = []

    def visit(candidates: int) -> Iterator[frozenset[Node]]:
        yield frozenset(chosen)
        while candidates:
            lowest = candidates & -candidates
            candidates ^= lowest
            index = lowest.bit_length() - 1
            chosen.append(nodes[index])
            if _limit_broken(graph, chosen) is None:
                yield from visit(candidates & ~rivals[index])
            chosen.pop()

    return visit((1 << len(nodes)) - 1)
