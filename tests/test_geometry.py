"""NVIDIA's rules of MIG and vGPU geometry, and every layout of every GPU against the independent checker."""

from collections import Counter
from itertools import permutations

import independent
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from partitioner import catalog
from partitioner.errors import GeometryError
from partitioner.geometry import Configuration, Geometry, Placement, Profile, parse_terms

MIG = [name for name in catalog.names() if "mig" in catalog.gpu(name).modes]
EIGHT = [name for name in MIG if catalog.gpu(name).memory_slices == 8]
A100 = catalog.gpu("A100-80GB").geometry("mig")
PRO_6000 = catalog.gpu("RTX-PRO-6000-96GB").geometry("mig")

BASE = ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]
WITH_DOUBLE = [*BASE, "1g.20gb"]


def pairs(layout):
    return frozenset((placement.profile.name, placement.start) for placement in layout)


def multisets(layouts):
    return {Configuration(Counter(placement.profile.name for placement in layout)) for layout in layouts}


# -- law 1 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIG)
def test_every_mig_layout_is_what_the_rules_say(name):
    geometry, rules = catalog.gpu(name).geometry("mig"), independent.rules(name)["mig"]
    listed = [pairs(layout) for layout in geometry.layouts()]
    assert len(listed) == len(set(listed))
    expected = independent.layouts(rules)
    assert set(listed) == expected
    largest = {pairs(layout) for layout in geometry.layouts(maximal=True)}
    assert largest == independent.maximal(expected)
    found = geometry.configurations()
    assert len(found) == len(set(found))
    assert {frozenset(c.items()) for c in found} == {independent.multiset(layout) for layout in expected}


@pytest.mark.parametrize("name", MIG)
def test_maximal_configurations_are_those_without_a_larger_one(name):
    geometry = catalog.gpu(name).geometry("mig")
    every = [Counter(configuration) for configuration in geometry.configurations()]
    largest = {Configuration(one) for one in every if not any(one < other for other in every)}
    assert set(geometry.configurations(maximal=True)) == largest


def test_the_rules_cover_every_mode_of_every_gpu():
    assert {name: set(catalog.gpu(name).modes) for name in catalog.names()} == {
        name: set(independent.rules(name)) for name in independent.records()
    }


# -- known counts, rule 11 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "profiles", "maximal", "distinct", "layouts"),
    [
        ("A100-80GB", BASE, 19, 14, 298),
        ("A100-80GB", WITH_DOUBLE, 78, 38, 723),
        ("A100-80GB", None, 239, 64, 2319),
        ("H100-80GB", BASE, 19, 14, 298),
        ("H100-80GB", WITH_DOUBLE, 78, 38, 723),
        ("H100-80GB", None, 239, 64, 2319),
        ("A100-40GB", None, 239, 64, 2319),
        ("A30-24GB", ["1g.6gb", "2g.12gb", "4g.24gb"], 5, 4, None),
        ("RTX-PRO-6000-96GB", ["1g.24gb", "2g.48gb", "4g.96gb"], 5, None, None),
        ("RTX-PRO-6000-96GB", None, 302, None, None),
    ],
)
def test_known_counts(name, profiles, maximal, distinct, layouts):
    geometry = catalog.gpu(name).geometry("mig")
    geometry = geometry.subset(profiles) if profiles else geometry
    largest = list(geometry.layouts(maximal=True))
    assert len(largest) == maximal
    assert distinct is None or len(multisets(largest)) == distinct
    assert layouts is None or sum(1 for _ in geometry.layouts()) == layouts


def test_an_a100_has_78_multisets_of_which_28_are_maximal():
    geometry = A100.subset(WITH_DOUBLE)
    assert len(geometry.configurations()) == 78
    assert len(geometry.configurations(maximal=True)) == 28


# NVIDIA's figure of the 19 valid configurations (MIG User Guide, A100/H100) as (compute slot, compute slices). Its last
# but one entry puts a 2g at slot 5, where no 2g may start, and stands where 2|2|1|1|1 is missing: a known defect.
FIGURE = [
    [(0, 7)],
    [(0, 4), (4, 3)],
    [(0, 4), (4, 2), (6, 1)],
    [(0, 4), (4, 1), (5, 1), (6, 1)],
    [(0, 3), (3, 3)],
    [(0, 3), (3, 2), (5, 1)],
    [(0, 3), (3, 1), (4, 1), (5, 1)],
    [(0, 2), (2, 2), (4, 3)],
    [(0, 2), (2, 1), (3, 1), (4, 3)],
    [(0, 1), (1, 1), (2, 2), (4, 3)],
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 3)],
    [(0, 2), (2, 2), (4, 2), (6, 1)],
    [(0, 2), (2, 1), (3, 1), (4, 2), (6, 1)],
    [(0, 1), (1, 1), (2, 2), (4, 2), (6, 1)],
    [(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)],
    [(0, 1), (1, 1), (2, 2), (4, 1), (5, 1), (6, 1)],
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (6, 1)],
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2)],
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)],
]


@pytest.mark.parametrize(("name", "profiles"), [("A100-80GB", BASE), ("H100-80GB", BASE)])
def test_nvidias_figure_of_19_configurations_but_for_its_known_defect(name, profiles):
    geometry = catalog.gpu(name).geometry("mig").subset(profiles)
    found = {tuple(p.profile.compute_slices for p in layout) for layout in geometry.layouts(maximal=True)}
    figure = {tuple(slices for _, slices in entry) for entry in FIGURE}
    assert len(found) == len(figure) == 19
    assert found - figure == {(2, 2, 1, 1, 1)}
    assert figure - found == {(1, 1, 1, 1, 1, 2)}


# -- MIG rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EIGHT)
def test_starts_and_extents_on_eight_slices(name):  # rules 2 and 4
    geometry = catalog.gpu(name).geometry("mig")
    shapes = {(p.compute_slices, p.extent, "me" in p.attributes): (p.starts, p.max_count) for p in geometry.profiles}
    assert shapes == {
        (1, 1, False): ((0, 1, 2, 3, 4, 5, 6), 7),
        (1, 1, True): ((0, 1, 2, 3, 4, 5, 6), 1),
        (1, 2, False): ((0, 2, 4, 6), 4),
        (2, 2, False): ((0, 2, 4), 3),
        (3, 4, False): ((0, 4), 2),
        (4, 4, False): ((0,), 1),
        (7, 8, False): ((0,), 1),
    }


@pytest.mark.parametrize("name", EIGHT)
def test_rules_that_follow_on_eight_slices(name):  # rules 1 and 4
    geometry = catalog.gpu(name).geometry("mig")
    four, three = (next(p for p in geometry.profiles if p.compute_slices == n) for n in (4, 3))
    both = [layout for layout in geometry.layouts() if {four, three} <= {p.profile for p in layout}]
    assert [[str(p) for p in layout] for layout in both] == [[f"{four}@0", f"{three}@4"]]
    assert not geometry.is_legal([(three.name, 0), (four.name, 0)])
    last = {(p.profile.compute_slices, p.profile.extent, p.start) for p in geometry.placements if p.end == 8}
    assert last == {(3, 4, 4), (7, 8, 0), (1, 2, 6)}
    for layout in geometry.layouts():
        assert sum(placement.profile.compute_slices for placement in layout) <= 7
    two_threes = [Placement(three, 0), Placement(three, 4)]
    assert sum(placement.profile.compute_slices for placement in two_threes) == 6
    assert geometry.free(two_threes) == ()  # one compute slice is stranded


def test_a30_and_rtx_pro_6000_have_shapes_of_their_own():  # rule 3
    a30 = catalog.gpu("A30-24GB").geometry("mig")
    assert (a30.units, a30.profile("1g.6gb").starts, a30.profile("2g.12gb").starts) == (4, (0, 1, 2, 3), (0, 2))
    assert (a30.profile("2g.12gb").extent, a30.profile("4g.24gb").extent) == (2, 4)
    shapes = {p.name: (p.starts, p.extent) for p in PRO_6000.profiles if not p.attributes}
    assert shapes == {"1g.24gb": ((0, 3, 6, 9), 3), "2g.48gb": ((0, 6), 6), "4g.96gb": ((0,), 12)}
    assert dict(PRO_6000.totals).items() >= {"decoders": 4, "encoders": 4, "jpeg": 4, "ofa": 1}.items()


def test_engine_totals_bind_on_rtx_pro_6000():
    assert not PRO_6000.is_legal([("1g.24gb+me.all", 0), ("1g.24gb", 3)])
    assert PRO_6000.is_legal([("1g.24gb+me.all", 0), ("1g.24gb-me", 3)])
    assert "used: the GPU has" in PRO_6000.violation([("1g.24gb+me.all", 0), ("1g.24gb", 3)])


def test_thor_takes_one_compute_and_one_graphics_instance():
    thor = catalog.gpu("Thor-iGPU").geometry("mig")
    assert "compute instances used: the GPU has 1" in thor.violation([("1g.0gb", 0), ("1g.0gb+me", 1)])
    assert thor.is_legal([("1g.0gb", 0), ("1g.0gb+gfx", 1)])


def test_the_order_of_placements_does_not_matter():  # rule 6: only a driver that chooses starts itself depends on it
    layout = [("1g.10gb", 2), ("1g.10gb", 3), ("2g.20gb", 0), ("3g.40gb", 4)]
    assert all(A100.is_legal(order) for order in permutations(layout))
    wanted = {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
    assert {A100.layout_of(dict(order)) for order in permutations(wanted.items())} == {A100.layout_of(wanted)}
    assert A100.layout_of(wanted) is not None


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("A100-80GB", {(1, 1): 14, (1, 2): 14, (2, 2): 28, (3, 4): 42, (4, 4): 56, (7, 8): 98}),
        ("H100-80GB", {(1, 1): 16, (1, 2): 26, (2, 2): 32, (3, 4): 60, (4, 4): 64, (7, 8): 132}),
    ],
)
def test_multiprocessors_are_not_proportional(name, counts):  # rule 9
    profiles = [p for p in catalog.gpu(name).geometry("mig").profiles if not p.attributes]
    assert {(p.compute_slices, p.extent): p.multiprocessors for p in profiles} == counts


def test_compute_instances_cut_a_gpu_instance():
    inside = A100.profile("3g.40gb").compute_geometry()
    assert (inside.units, [p.name for p in inside.profiles]) == (3, ["1c.3g.40gb", "2c.3g.40gb", "3g.40gb"])
    assert inside.is_legal([("1c.3g.40gb", 0), ("1c.3g.40gb", 1), ("1c.3g.40gb", 2)])
    assert not inside.is_legal([("3g.40gb", 0), ("1c.3g.40gb", 2)])
    with pytest.raises(GeometryError, match="'whole' has no compute instances"):
        catalog.gpu("T4").profile("whole").compute_geometry()


# -- vGPU rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalog.names())
def test_equal_size_vgpus_have_one_frame_buffer_and_fill_to_the_maximum(name):
    for geometry in catalog.gpu(name).geometries:
        if geometry.mode.startswith("vgpu-equal-"):
            assert len({profile.memory_mib // 256 for profile in geometry.profiles}) == 1
            for profile in geometry.profiles:
                full = [(profile.name, start) for start in range(profile.max_count)]
                assert geometry.is_legal(full)
                assert not geometry.is_legal([*full, (profile.name, profile.max_count)])
                assert geometry.room([]).get(profile.name) == profile.max_count


def test_graphics_series_mix_but_not_with_compute():
    t4 = catalog.gpu("T4").geometry("vgpu-equal-4")
    assert t4.is_legal([("T4-4Q", 0), ("T4-4A", 1), ("T4-4Q", 2)])
    assert t4.violation([("T4-4Q", 0), ("T4-4C", 1)]) == "vGPU series C and Q/B/A do not share a GPU"
    assert set(t4.room([Placement(t4.profile("T4-4C"), 0)])) == {"T4-4C"}


def test_mixed_sizes_stand_at_listed_ids_and_may_be_fewer():
    model = catalog.gpu("A100-80GB")
    mixed, equal = model.geometry("vgpu-mixed"), model.geometry("vgpu-equal-4")
    assert mixed.units == 80
    assert mixed.profile("A100D-16C").starts == (0, 24, 40, 64)
    assert (mixed.profile("A100D-4C").max_count, equal.profile("A100D-4C").max_count) == (16, 20)
    assert mixed.is_legal([("A100D-40C", 0), ("A100D-20C", 40), ("A100D-16C", 64)])
    assert "legal starts are 0, 24, 40, 64" in mixed.violation([("A100D-16C", 16)])


# -- legality ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placements", "reason"),
    [
        ([("3g.40gb", 2)], "profile '3g.40gb' cannot start at 2; legal starts are 0, 4"),
        ([("3g.40gb", -1)], "profile '3g.40gb' cannot start at -1; legal starts are 0, 4"),
        ([("3g.40gb", 10**30)], "legal starts are 0, 4"),
        ([("3g.41gb", 0)], "unknown profile '3g.41gb'; did you mean '3g.40gb'"),
        ([("4g.40gb", 0), ("1g.10gb", 3)], "profile '1g.10gb' at start 3 overlaps another placement"),
        ([("1g.10gb+me", 0), ("1g.10gb+me", 1)], "2 x 1g.10gb+me: at most 1 on one GPU"),
        ([(7, 0)], "unknown profile 7"),
    ],
)
def test_violation_says_which_rule_is_broken(placements, reason):
    assert reason in A100.violation(placements)


def test_placements_and_pairs_are_the_same():
    layout = [Placement(A100.profile("4g.40gb"), 0), ("3g.40gb", 4)]
    assert A100.violation(layout) is None
    assert str(layout[0]) == "4g.40gb@0"
    assert layout[0].end == 4


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(GeometryError, match=r"mig: unknown profile '3g.40g'; did you mean '3g.40gb'"):
        A100.profile("3g.40g")
    with pytest.raises(GeometryError, match="unknown profile '9g'"):
        A100.subset(["9g"])
    with pytest.raises(GeometryError, match="unknown profile '9g'"):
        A100.layout_of({"9g": 1})


def test_a_subset_keeps_the_order_of_the_geometry():
    assert [p.name for p in A100.subset(["7g.80gb", "1g.10gb"]).profiles] == ["1g.10gb", "7g.80gb"]


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ((Profile("a", (), 1, 1),), "'a' needs a start"),
        ((Profile("a", (0,), 0, 1),), "'a' needs a start, an extent"),
        ((Profile("a", (0,), 1, 0),), "'a' needs a start, an extent and a maximum"),
        ((Profile("a", (1, 0), 1, 2),), r"starts \(1, 0\); they must ascend"),
        ((Profile("a", (0, 0), 1, 2),), r"starts \(0, 0\); they must ascend without repetition"),
        ((Profile("a", (0, 3), 2, 2),), "'a' at start 3 leaves the GPU's 4 units"),
        ((Profile("a", (-1,), 2, 2),), "leaves the GPU's 4 units"),
        ((Profile("a", (0,), 1, 1), Profile("a", (1,), 1, 1)), "'a' is listed twice"),
    ],
)
def test_a_geometry_that_contradicts_itself_is_refused(profiles, message):
    with pytest.raises(GeometryError, match=message):
        Geometry("odd", 4, profiles)


# -- one GPU: free, room, layout_of ------------------------------------------------------------------------------------


@given(st.data())
def test_free_and_room_agree_with_trying_everything(data):
    name = data.draw(st.sampled_from(["A100-80GB", "A30-24GB", "RTX-PRO-6000-96GB", "Thor-iGPU", "RTX-PRO-5000-48GB"]))
    geometry, rules = catalog.gpu(name).geometry("mig"), independent.rules(name)["mig"]
    placed = data.draw(strategies.legal_placements(geometry))
    free = [p for p in geometry.placements if independent.legal(rules, [*pairs(placed), (p.profile.name, p.start)])]
    assert list(geometry.free(placed)) == free
    room = Counter()
    for layout in layouts_of(name):
        added = layout - pairs(placed)
        kinds = {profile for profile, _ in added}
        if pairs(placed) <= layout and len(kinds) == 1:
            room[kinds.pop()] |= 0
            room |= Counter({profile: len(added) for profile, _ in added})
    assert geometry.room(placed) == dict(room)


LAYOUTS = {}


def layouts_of(name):
    if name not in LAYOUTS:
        LAYOUTS[name] = independent.layouts(independent.rules(name)["mig"])
    return LAYOUTS[name]


def test_free_and_room_refuse_what_is_not_legal():
    wrong = [Placement(A100.profile("4g.40gb"), 4)]
    for ask in (A100.free, A100.room):
        with pytest.raises(GeometryError, match="cannot start at 4; legal starts are 0"):
            ask(wrong)


@pytest.mark.parametrize("name", ["A100-80GB", "A30-24GB", "RTX-PRO-6000-96GB", "Thor-iGPU"])
def test_every_configuration_gets_a_legal_layout_of_its_own(name):
    geometry = catalog.gpu(name).geometry("mig")
    for configuration in geometry.configurations():
        layout = geometry.layout_of(configuration)
        assert layout is not None
        assert geometry.is_legal(layout)
        assert multisets([layout]) == {configuration}
        assert list(layout) == sorted(layout, key=lambda placement: placement.start)


@given(st.dictionaries(st.sampled_from([p.name for p in A100.profiles]), st.integers(0, 8)))
def test_a_layout_is_refused_exactly_where_none_exists(wanted):
    feasible = Configuration(wanted) in set(A100.configurations())
    assert (A100.layout_of(wanted) is not None) == feasible


@given(st.data())
def test_layouts_of_vgpu_configurations_are_legal_or_not_to_be_had(data):
    name, mode = data.draw(strategies.gpu_modes())
    geometry = catalog.gpu(name).geometry(mode)
    placed = data.draw(strategies.legal_placements(geometry))
    wanted = Counter(placement.profile.name for placement in placed)
    layout = geometry.layout_of(wanted)
    assert layout is not None, "these placements are themselves such a layout"
    assert independent.legal(independent.rules(name)[mode], pairs(layout))
    assert independent.multiset(pairs(layout)) == frozenset(wanted.items())
    most = placed[0].profile if placed else geometry.profiles[0]
    assert geometry.layout_of({most.name: most.max_count + 1}) is None


def test_of_several_layouts_the_one_with_the_most_room_is_taken():
    assert [str(p) for p in A100.layout_of({"1g.10gb": 1})] == ["1g.10gb@6"]  # slice 7 is lost to 1g anyway
    assert [str(p) for p in A100.layout_of({"3g.40gb": 1})] == ["3g.40gb@4"]  # leaves 4g


def test_counts_out_of_range():
    with pytest.raises(GeometryError, match=r"mig: count -1 of '1g.10gb' is negative"):
        A100.layout_of({"1g.10gb": -1})
    assert A100.layout_of({"1g.10gb": 0}) == ()
    assert A100.layout_of({"1g.10gb": 10**30}) is None


def test_too_many_configurations_are_refused():
    assert len(catalog.gpu("T4").geometry("vgpu-equal-1").configurations()) == 4_845
    wide = Geometry("wide", 20, tuple(Profile(f"p{i}", tuple(range(20)), 1, 20) for i in range(8)))
    with pytest.raises(GeometryError, match="more than 200,000 configurations of 8 profiles; take fewer profiles"):
        wide.configurations()


# -- configurations as text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("4g+2g+1g", (("4g", 1), ("2g", 1), ("1g", 1))),
        ("7x1g", (("1g", 7),)),
        ("7 X 1g", (("1g", 7),)),
        ("7 * 1g + 1g.10gb+me", (("1g", 7), ("1g.10gb+me", 1))),
        ("nvidia-1-10c* 7", (("nvidia-1-10c", 7),)),
        ("1g.24gb+me.all+1g.24gb-me", (("1g.24gb+me.all", 1), ("1g.24gb-me", 1))),
        ("2 x 1g.24gb+gfx + 1g", (("1g.24gb+gfx", 2), ("1g", 1))),
        ("1g+1g", (("1g", 1), ("1g", 1))),
    ],
)
def test_terms_as_people_write_them(text, terms):
    assert parse_terms(text) == terms


@pytest.mark.parametrize("text", ["", "+", "4g++1g", "7x", "0x1g", "0 x 1g", "2x1gx2", "9" * 5000 + "x1g", "99999999999x1g"])
def test_terms_that_are_none_are_refused(text):
    with pytest.raises(GeometryError, match=r"^configuration "):
        parse_terms(text)


def test_a_configuration_is_a_value():
    one, other = Configuration({"a": 1, "b": 2, "c": 0}), Configuration({"b": 2, "a": 1})
    assert one == other
    assert hash(one) == hash(other)
    assert (dict(one), str(one), str(Configuration({}))) == ({"a": 1, "b": 2}, "a + 2 x b", "empty")
    with pytest.raises(TypeError):
        one["a"] = 5  # type: ignore[index]
