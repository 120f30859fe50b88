"""The graph of constraints against the integer geometry and against the independent checker."""

from itertools import permutations

import independent
import networkx as nx
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from partitioner import catalog
from partitioner.constraints import Node, graph, independent_sets, is_legal, violation
from partitioner.errors import SpecError

EQUAL = ["vgpu-equal-4", "vgpu-equal-8", "vgpu-equal-16"]


def by_graph(model, modes):
    return [frozenset(nodes) for nodes in independent_sets(graph(model, modes))]


def by_geometry(model, modes):
    found = set()
    for mode in modes:
        for layout in catalog.gpu(model).geometry(mode).layouts():
            found.add(frozenset(Node(mode, p.profile.name, p.start) for p in layout))
    return found


def by_rules(model, modes):
    return {
        frozenset(Node(mode, name, start) for name, start in layout)
        for mode in modes
        for layout in independent.layouts(independent.rules(model)[mode])
    }


@pytest.mark.parametrize(
    ("model", "modes", "count"),
    # T4 in 4 GB: 3^4 ways to fill four slots with Q, A or nothing, 2^4 with C or nothing, the empty one twice.
    [
        ("T4", ["vgpu-equal-4"], 81 + 16 - 1),
        ("T4", ["vgpu-equal-8"], 9 + 4 - 1),
        ("T4", ["vgpu-equal-16"], 3 + 2 - 1),
        ("T4", [*EQUAL, "whole"], 95 + 11 + 3 + 1 + 1),
        ("A100-80GB", ["mig"], 2319),
        ("A100-80GB", ["mig", "whole"], 2320),
        ("RTX-PRO-6000-96GB", ["mig"], None),
        ("Thor-iGPU", ["mig"], None),
    ],
)
def test_three_views_have_the_same_layouts(model, modes, count):
    found = by_graph(model, modes)
    assert len(found) == len(set(found))
    assert set(found) == by_geometry(model, modes) == by_rules(model, modes)
    assert count is None or len(found) == count


def test_all_modes_of_a_model_build_one_graph():
    conflicts = graph("A100-80GB")
    model = catalog.gpu("A100-80GB")
    assert len(conflicts) == sum(len(geometry.placements) for geometry in model.geometries) == 119
    assert set(nx.get_node_attributes(conflicts, "mode").values()) == set(model.modes)
    for a, b, reason in conflicts.edges(data="reason"):
        assert (reason == "mode") == (a.mode != b.mode)
    apart = {(a.mode, b.mode) for a, b in permutations(conflicts, 2) if not conflicts.has_edge(a, b)}
    assert all(first == second for first, second in apart)


def test_nodes_and_the_graph_carry_the_numbers_of_the_geometry():
    conflicts = graph("NVIDIA A100-SXM4-80GB", ["mig"])
    assert conflicts.nodes[Node("mig", "3g.40gb", 4)] == {
        "mode": "mig",
        "profile": "3g.40gb",
        "start": 4,
        "extent": 4,
        "units": 8,
        "memory_mib": 40192,
        "compute_slices": 3,
        "uses": {"decoders": 2, "GPU instances": 1},
    }
    assert conflicts.graph["model"] == "A100-80GB"
    assert conflicts.graph["maxima"]["mig", "2g.20gb"] == 3
    assert conflicts.graph["totals"]["mig"]["decoders"] == 5


def test_edges_say_why():
    conflicts = graph("T4", EQUAL)
    edge = conflicts.edges
    assert edge[Node("vgpu-equal-4", "T4-4Q", 0), Node("vgpu-equal-4", "T4-4A", 0)]["reason"] == "overlap"
    assert edge[Node("vgpu-equal-4", "T4-4Q", 0), Node("vgpu-equal-4", "T4-4C", 1)]["reason"] == "series"
    assert edge[Node("vgpu-equal-4", "T4-4Q", 0), Node("vgpu-equal-8", "T4-8Q", 1)]["reason"] == "mode"
    assert not conflicts.has_edge(Node("vgpu-equal-4", "T4-4Q", 0), Node("vgpu-equal-4", "T4-4A", 1))


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([], None),
        ([("mig", "4g.40gb", 0), ("mig", "3g.40gb", 4)], None),
        ([("mig", "4g.40gb", 0), ("mig", "3g.40gb", 0)], "mig:3g.40gb@0 and mig:4g.40gb@0 do not coexist (overlap)"),
        ([("mig", "3g.40gb", 4), ("vgpu-equal-4", "A100D-4C", 0)], "do not coexist (mode)"),
        ([("mig", "1g.10gb+me", 0), ("mig", "1g.10gb+me", 1)], "2 x 1g.10gb+me: at most 1"),
        ([("mig", "1g.10gb", 0), ("mig", "1g.10gb", 0)], "mig:1g.10gb@0 stands twice"),
        ([("mig", "4g.40gb", 4)], "mig:4g.40gb@4 is not a placement of A100-80GB"),
        ([("mig", "9g.90gb", 0)], "mig:9g.90gb@0 is not a placement of A100-80GB"),
    ],
)
def test_violation_names_the_rule_and_the_nodes(nodes, reason):
    conflicts = graph("A100-80GB", ["mig", "vgpu-equal-4"])
    for order in permutations(nodes):
        found = violation(conflicts, order)
        assert is_legal(conflicts, order) == (found is None) == (reason is None)
    if reason is not None:
        assert reason in violation(conflicts, nodes)


def test_totals_bind_where_maxima_do_not():
    conflicts = graph("RTX-PRO-6000-96GB", ["mig"])
    nodes = [Node("mig", "1g.24gb+me.all", 0), Node("mig", "1g.24gb", 3)]
    assert not conflicts.has_edge(*nodes)
    assert violation(conflicts, nodes) is not None
    assert "used: the GPU has" in violation(conflicts, nodes)


@pytest.mark.parametrize("modes", [["vgpu-mixed"], ["mig"]])
def test_a_mode_that_a_gpu_lacks_is_refused(modes):
    with pytest.raises(SpecError, match=f"T4 has no mode '{modes[0]}'; its modes are vgpu-equal-1"):
        graph("T4", modes)


def test_enumeration_is_lazy():
    sets = independent_sets(graph("V100D", ["vgpu-equal-1"]))  # 2^32 and more: listing them would not end
    assert next(sets) == frozenset()
    assert len(next(sets)) == 1


def test_a_graph_belongs_to_its_caller():
    graph("T4", ["whole"]).clear()
    assert len(graph("T4", ["whole"])) == 1


@given(st.data())
def test_geometry_rules_and_graph_agree_on_any_placements(data):
    model, mode = data.draw(strategies.gpu_modes())
    geometry, rules = catalog.gpu(model).geometry(mode), independent.rules(model)[mode]
    conflicts = graph_of(model, mode)
    kept = []
    for placement in data.draw(strategies.some_placements(geometry)):
        tried = [*kept, (placement.profile.name, placement.start)]
        verdict = independent.legal(rules, tried)
        assert geometry.is_legal(tried) == verdict
        assert is_legal(conflicts, [Node(mode, *pair) for pair in tried]) == verdict
        if verdict:
            kept = tried


GRAPHS = {}


def graph_of(model, mode):
    if (model, mode) not in GRAPHS:
        GRAPHS[model, mode] = graph(model, [mode])
    return GRAPHS[model, mode]
