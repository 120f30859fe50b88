"""Pictures: well-formed for any name, true to the layout, complete in their counts, small, always the same bytes."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import islice

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner import catalog
from partitioner.constraints import graph
from partitioner.drawing import Context, geometry_svg, graph_svg, html, svg
from partitioner.drawing.cards import MOST_BY_WORKLOAD, MOST_HOSTS, MOST_SHOWN, Cards, deal
from partitioner.drawing.colours import PALETTE, colours, text_on
from partitioner.drawing.marks import fit, text_width, wrap
from partitioner.drawing.picture import BAR_WIDTH, BAR_X
from partitioner.errors import SpecError
from partitioner.geometry import Geometry, Placement, Profile
from partitioner.layout import GpuLayout, Layout, Pattern, Slot

A100 = catalog.gpu("A100-80GB").geometry("mig")
A40_MIXED = catalog.gpu("A40").geometry("vgpu-mixed")
SEVEN = tuple(Slot("1g.10gb", start, "embeddings", start) for start in range(7))


def a100(gpu: int, *slots: Slot, host: str | None = "esx-01") -> GpuLayout:
    return GpuLayout(host, gpu, "A100-80GB", "mig", slots)


MIXED = Layout.of(
    [
        a100(0, Slot("4g.40gb", 0, "ranking"), Slot("2g.20gb", 4, "embeddings", 7), Slot("1g.10gb", 6)),
        a100(1, *SEVEN),
        GpuLayout("esx-02", 0, "T4", "vgpu-equal-4", (Slot("T4-4Q", 0, "desktops", 0), Slot("T4-4Q", 2, "desktops", 1))),
        GpuLayout("esx-02", 1, "A40", "vgpu-mixed", (Slot("A40-12Q", 0, "cad"), Slot("A40-24Q", 24, "rendering"))),
        GpuLayout("esx-03", 0, "V100", "whole", (Slot("whole", 0, "training"),)),
        GpuLayout("esx-03", 1, "T4", None),
    ]
)


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup.removeprefix("<!DOCTYPE html>\n"))


def elements(markup: str, name: str) -> list[ET.Element]:
    return list(parse(markup).iter(f"{{http://www.w3.org/2000/svg}}{name}"))


def tooltips(markup: str) -> list[str]:
    return [element.text or "" for element in elements(markup, "title")]


def blocks(markup: str) -> list[tuple[str, float, float]]:
    """Tooltip, x and width of every block: the nested svg elements."""
    return [
        (element[0].text or "", float(element.attrib["x"]), float(element.attrib["width"]))
        for element in elements(markup, "svg")[1:]
    ]


def gaps(markup: str) -> list[tuple[str, str]]:
    """Kind and units of every run of units that nothing occupies."""
    return [(e.attrib["class"], e.attrib["data-units"]) for e in elements(markup, "g") if "class" in e.attrib]


def random_layout(n_gpus: int, n_patterns: int, n_workloads: int, seed: int = 0) -> Layout:
    """Every eighth GPU unused; the rest with random patterns and occupants, some placements held by nobody."""
    rng = np.random.default_rng(seed)
    patterns = [Pattern("A100-80GB", "mig", placements) for placements in islice(A100.layouts(), n_patterns + 1)]
    gpu_pattern = rng.integers(1, n_patterns + 1, n_gpus).astype(np.int32)
    gpu_pattern[::8] = 0
    assert not patterns[0].placements
    n_placements = sum(len(patterns[row].placements) for row in gpu_pattern)
    rows = np.arange(n_gpus, dtype=np.int32)
    return Layout(
        tuple(f"host-{index}" for index in range(n_gpus // 8 + 1)),
        tuple(patterns),
        tuple(f"workload-{index}" for index in range(n_workloads)),
        rows // 8,
        rows % 8,
        gpu_pattern,
        rng.integers(-1, n_workloads, n_placements).astype(np.int32),
        np.arange(n_placements, dtype=np.int32),  # no replica stands twice
    )


# -- the picture of a layout -------------------------------------------------------------------------------------------


def test_every_block_is_at_its_start_and_as_wide_as_its_extent() -> None:
    drawn = blocks(svg(MIXED))
    wanted = []
    for gpu in MIXED:
        geometry = None if gpu.mode is None else catalog.gpu(gpu.model).geometry(gpu.mode)
        for slot in gpu.slots:
            assert geometry is not None
            unit = BAR_WIDTH / geometry.units
            wanted.append((slot.profile, BAR_X + slot.start * unit, geometry.profile(slot.profile).extent * unit))
    assert len(drawn) == len(wanted) == 15
    for (tip, x, width), (profile, wanted_x, wanted_width) in zip(drawn, wanted, strict=True):
        assert tip.startswith(f"{profile} at ")
        assert x == pytest.approx(wanted_x, abs=0.01)
        assert width == pytest.approx(wanted_width, abs=0.01)


def test_blocks_name_workload_and_replica_where_there_are_several() -> None:
    tips = [tip for tip, _, _ in blocks(svg(MIXED))]
    assert tips[0].endswith(": ranking")
    assert tips[1].endswith(": embeddings #7")
    assert tips[2].endswith(": nobody")
    assert "T4-4Q at 2, 4 GiB: desktops #1" in tips


def test_free_and_stranded_units_are_told_apart() -> None:
    half, full = Slot("3g.40gb", 4, "chat"), (Slot("3g.40gb", 0, "a"), Slot("3g.40gb", 4, "b"))
    layout = Layout.of([a100(0, *SEVEN), a100(1, half), a100(2, *full)])
    # Seven 1g.10gb leave the eighth memory slice without compute; 3g beside 3g leaves compute without memory.
    assert gaps(svg(layout)) == [("gp-stranded", "7-7"), ("gp-free", "0-3")]


def test_a_run_of_units_can_be_free_in_part() -> None:
    # The C-series does not mix with the others, and after 4 GB at 0 the next of its types starts at 6.
    placed = (Placement(A40_MIXED.profile("A40-4C"), 0),)
    usable = {unit for placement in A40_MIXED.free(placed) for unit in range(placement.start, placement.end)}
    assert usable == {*range(6, 48)}
    layout = Layout.of([GpuLayout(None, 0, "A40", "vgpu-mixed", (Slot("A40-4C", 0, "a"),))])
    assert gaps(svg(layout)) == [("gp-stranded", "4-5"), ("gp-free", "6-47")]


def test_figures_at_the_right_add_up() -> None:
    texts = [element.text for element in elements(svg(MIXED), "text")]
    assert texts.count("7/7 compute") == 2
    assert "8 of 16 GiB" in texts
    assert "36 of 48 GiB" in texts
    assert "whole GPU" in texts


def test_mig_bars_number_their_slices() -> None:
    texts = [element.text for element in elements(svg(Layout.of([a100(0, *SEVEN)])), "text")]
    assert [text for text in texts if text and text.isdigit()] == [str(slice_) for slice_ in range(8)]


def test_title_facts_and_notes_appear_and_the_legend_names_few_workloads() -> None:
    markup = svg(MIXED, title="The lab", facts=["3 GPUs used", "proven optimal"], notes=["big: left out"])
    texts = [element.text for element in elements(markup, "text")]
    assert {"The lab", "3 GPUs used · proven optimal", "big: left out"} <= set(texts)
    assert {"ranking", "embeddings", "desktops", "cad", "rendering", "training"} <= set(texts)


def test_an_empty_layout_is_drawn() -> None:
    assert "No GPUs." in [element.text for element in elements(svg(Layout.of([])), "text")]


def test_many_notes_are_counted() -> None:
    texts = [element.text for element in elements(svg(MIXED, notes=[f"note {i}" for i in range(100)]), "text")]
    assert "note 39" in texts
    assert "note 40" not in texts
    assert "and 60 more notes" in texts


@pytest.mark.parametrize("mode", catalog.gpu("A100-80GB").modes)
def test_every_mode_is_drawn(mode: str) -> None:
    geometry = catalog.gpu("A100-80GB").geometry(mode)
    profile = geometry.profiles[-1]
    layout = Layout.of([GpuLayout(None, 0, "A100-80GB", mode, (Slot(profile.name, profile.starts[-1], "one"),))])
    ((tip, x, width),) = blocks(svg(layout))
    assert tip.startswith(profile.name)
    assert x + width <= BAR_X + BAR_WIDTH + 0.01


# -- many GPUs ---------------------------------------------------------------------------------------------------------


def counted(cards: Cards) -> int:
    return sum(card.n_gpus for card in (*cards.shown, *cards.unused)) + cards.n_gpus_left_out


def test_equal_gpus_share_a_card_whatever_their_replicas() -> None:
    gpus = [a100(gpu, Slot("3g.40gb", 0, "chat", gpu), host=f"host-{gpu % 3}") for gpu in range(37)]
    layout = Layout.of([*gpus, a100(0, Slot("3g.40gb", 0, "other"), host="last")])
    first, second = deal(layout).shown
    assert (first.n_gpus, first.first, first.last) == (37, "host-0/gpu0", "host-0/gpu36")
    assert (second.n_gpus, second.first) == (1, "last/gpu0")
    assert first.blocks[0].workload == "chat"
    assert first.blocks[0].replica is None
    texts = [element.text for element in elements(svg(layout), "text")]
    assert "37 \N{MULTIPLICATION SIGN} A100-80GB · mig" in texts
    assert "host-0/gpu0 … host-0/gpu36" in texts


def test_the_order_of_workloads_on_a_gpu_matters() -> None:
    ab, ba = (Slot("3g.40gb", 0, "a"), Slot("3g.40gb", 4, "b")), (Slot("3g.40gb", 0, "b"), Slot("3g.40gb", 4, "a"))
    cards = deal(Layout.of([a100(0, *ab), a100(1, *ba), a100(2, *ab)]))
    held = [(card.n_gpus, [block.workload for block in card.blocks]) for card in cards.shown]
    assert held == [(2, ["a", "b"]), (1, ["b", "a"])]


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_no_gpu_is_lost_in_grouping(n_gpus: int, n_patterns: int, n_workloads: int, seed: int) -> None:
    layout = random_layout(n_gpus, n_patterns, n_workloads, seed)
    cards = deal(layout)
    assert counted(cards) == n_gpus
    if cards.by_workload:
        hands = {(gpu.mode, tuple((s.profile, s.start, s.workload) for s in gpu.slots)) for gpu in layout if gpu.slots}
        assert len(cards.shown) == len(hands) <= MOST_BY_WORKLOAD
    else:
        patterns = {(gpu.mode, tuple((s.profile, s.start) for s in gpu.slots)) for gpu in layout if gpu.slots}
        assert len(cards.shown) + cards.n_left_out == len(patterns)


def test_blocks_of_pattern_cards_count_workloads() -> None:
    gpus = [a100(gpu, Slot("7g.80gb", 0, f"w{gpu % 90}" if gpu else None)) for gpu in range(200)]
    (card,) = deal(Layout.of(gpus)).shown
    (block,) = card.blocks
    assert (card.n_gpus, block.workload, block.n_workloads, block.n_unheld) == (200, None, 90, 1)
    (tip, _, _) = blocks(svg(Layout.of(gpus)))[0]
    assert tip.endswith("90 workloads, held by nobody on 1 GPU")


def test_unused_gpus_are_one_card_for_each_model() -> None:
    gpus = [GpuLayout("h", index, "T4" if index % 2 else "A100-80GB", "mig" if index == 0 else None) for index in range(9)]
    cards = deal(Layout.of(gpus))
    assert cards.shown == ()
    assert [(card.pattern.model, card.n_gpus, card.first, card.last) for card in cards.unused] == [
        ("A100-80GB", 5, "h/gpu0", "h/gpu8"),
        ("T4", 4, "h/gpu1", "h/gpu7"),
    ]
    assert any(element.text == "4 \N{MULTIPLICATION SIGN} T4 unused" for element in elements(svg(Layout.of(gpus)), "text"))


def test_cards_beyond_the_limit_are_counted() -> None:
    layout = random_layout(6_000, 600, 3)
    cards = deal(layout)
    assert len(cards.shown) == MOST_SHOWN
    assert counted(cards) == 6_000
    words = [element.text or "" for element in elements(svg(layout), "text")]
    assert any(f"{cards.n_left_out} more ({cards.n_gpus_left_out:,} GPUs) are not" in text for text in words)


def test_a_large_fleet_is_a_small_picture() -> None:
    markup = svg(random_layout(20_000, 100, 500))
    assert len(markup.encode()) < 300_000
    assert len(blocks(markup)) > 100


# -- what is known of a layout besides ---------------------------------------------------------------------------------


def test_existing_spare_and_held_instances_look_and_read_differently() -> None:
    layout = Layout.of([a100(0, Slot("3g.40gb", 0), Slot("1g.10gb", 4), Slot("1g.10gb", 5, "web", 0))])
    context = Context(existing=np.array([True, False, False]), spare=True)
    markup = svg(layout, context=context)
    tips = [tip for tip, _, _ in blocks(markup)]
    assert [tip.split(": ")[1] for tip in tips] == ["in use by others", "spare", "web"]
    legend = {element.text for element in elements(markup, "text")}
    assert {"in use by others", "spare: room for replicas of a host that fails", "web"} <= legend
    kept, spare, web = (block[1].attrib for block in elements(markup, "svg")[1:])  # after the tooltip
    assert kept["fill"].startswith("url(#gp-kept-")
    assert len({kept["fill"], spare["fill"], web["fill"]}) == 3
    assert "stroke-dasharray" in spare
    plain = svg(layout)
    assert [tip.split(": ")[1] for tip, _, _ in blocks(plain)] == ["nobody", "nobody", "web"]
    assert "gp-kept" not in plain


def test_gpus_with_and_without_existing_instances_do_not_share_a_card() -> None:
    layout = Layout.of([a100(gpu, Slot("3g.40gb", 0)) for gpu in range(3)])
    cards = deal(layout, Context(existing=np.array([False, True, False])))
    assert [(card.n_gpus, card.blocks[0].n_existing, card.blocks[0].n_unheld) for card in cards.shown] == [(2, 0, 2), (1, 1, 0)]


def test_blocks_of_a_replica_on_several_gpus_carry_one_label_and_a_knot() -> None:
    layout = Layout.of([GpuLayout("h", gpu, "T4", "whole", (Slot("whole", 0, "job", gpu // 2),)) for gpu in range(4)])
    cards = deal(layout)
    assert [(card.n_gpus, card.blocks[0].replica, card.blocks[0].span) for card in cards.shown] == [(2, 0, 2), (2, 1, 2)]
    markup = svg(layout)
    texts = [element.text for element in elements(markup, "text")]
    assert {f"job #{replica} \N{MULTIPLICATION SIGN}2" for replica in (0, 1)} <= set(texts)
    assert "one replica on several GPUs" in texts
    assert all("one replica on 2 GPUs" in tip for tip, _, _ in blocks(markup))


def test_a_single_replica_on_several_gpus_needs_no_number() -> None:
    gpus = [a100(gpu, Slot("3g.40gb", 0, "job", 0), Slot("3g.40gb", 4, f"web-{gpu}", 0)) for gpu in range(2)]
    markup = svg(Layout.of(gpus))
    assert [element.text for element in elements(markup, "text")].count("job \N{MULTIPLICATION SIGN}2") == 2


def test_with_too_many_replicas_on_several_gpus_equal_workloads_share_a_card() -> None:
    gpus = [GpuLayout("h", gpu, "T4", "whole", (Slot("whole", 0, "job", gpu // 2),)) for gpu in range(4 * MOST_BY_WORKLOAD)]
    cards = deal(Layout.of(gpus))
    assert cards.by_workload
    assert [(card.n_gpus, card.blocks[0].workload, card.blocks[0].span) for card in cards.shown] == [(240, "job", 1)]


def test_instances_of_a_service_say_what_they_serve() -> None:
    layout = Layout.of([a100(0, Slot("4g.40gb", 0, "search", 0), Slot("3g.40gb", 4, "search", 1))])
    rates = {("search", "A100-80GB", "mig", "4g.40gb"): 1585.5, ("search", "A100-80GB", "mig", "3g.40gb"): 12.345}
    texts = [element.text for element in elements(svg(layout, context=Context(rates=rates)), "text")]
    assert {"search 1,586/s", "search 12.3/s"} <= set(texts)


def test_cards_stand_under_their_hosts_where_something_is_said_of_them() -> None:
    gpus = [a100(gpu, Slot("7g.80gb", 0, "web", gpu), host=f"h{gpu // 2}") for gpu in range(4)]
    layout = Layout.of(gpus)
    cards = deal(layout, Context(hosts={"h0": "2 of 8 VMs", "h1": "2 of 8 VMs"}))
    assert [(card.host, card.n_gpus) for card in cards.shown] == [("h0", 2), ("h1", 2)]
    texts = [element.text for element in elements(svg(layout, context=Context(hosts={"h0": "2 of 8 VMs"})), "text")]
    assert texts.count("h0") == texts.count("h1") == texts.count("2 of 8 VMs") == 1
    assert [card.host for card in deal(layout).shown] == [None]


def test_many_hosts_are_not_told_apart() -> None:
    names = [f"h{number}" for number in range(MOST_HOSTS + 1)]
    layout = Layout.of([a100(0, Slot("7g.80gb", 0, "web", number), host=name) for number, name in enumerate(names)])
    assert [card.n_gpus for card in deal(layout, Context(hosts=dict.fromkeys(names, "full"))).shown] == [len(names)]


def test_further_tables_stand_under_their_titles() -> None:
    root = parse(html(MIXED, tables={"services": [{"service": "a"}], "empty": []}))
    assert [heading.text for heading in root.iter("h2")] == ["services"]
    assert [cell.text for cell in root.iter("td")] == ["a"]


# -- any text ----------------------------------------------------------------------------------------------------------

NASTY = ["<script>alert('x')</script>", 'a "b" & c', "]]>", "\x00\x01\x1b[31m", "\ud800", "\ufffe", "\u202egnp"]
LONG = ["🚀" * 40, "x" * 253, "e\u0301" * 50, "two words " * 20]


def names() -> st.SearchStrategy[str]:
    return st.sampled_from(NASTY + LONG) | st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)


@given(st.lists(names(), min_size=1, max_size=4), names(), names())
@settings(max_examples=100, deadline=None)
def test_any_name_gives_well_formed_pictures(workloads: list[str], host: str, title: str) -> None:
    starts = A100.profile("1g.10gb").starts
    slots = (Slot("1g.10gb", start, name) for start, name in zip(starts, workloads, strict=False))
    layout = Layout.of([a100(0, *slots, host=host)])
    markup = svg(layout, title=title, facts=[title, host], notes=workloads)
    assert len(blocks(markup)) == len(workloads)
    page = html(layout, title=title, facts=[host], notes=workloads, table=[{title: name} for name in workloads])
    assert parse(page).tag == "html"
    assert len(elements(geometry_svg(A100, title=title), "g")) > len(A100.placements)


def test_names_are_escaped_not_dropped() -> None:
    layout = Layout.of([a100(0, Slot("7g.80gb", 0, "<b>&\"'</b>"))])
    markup = svg(layout)
    assert "<b>" not in markup
    assert tooltips(markup).count("7g.80gb at 0, 78.8 GiB: <b>&\"'</b>") == 1
    assert "<b>" not in html(layout, title="<b>", facts=["<b>"], table=[{"<b>": "<b>"}])


@given(st.text(max_size=80), st.floats(5, 300), st.sampled_from([9.5, 11.0, 13.0]))
def test_fitted_text_fits(content: str, width: float, size: float) -> None:
    for bold, keep_end in ((False, False), (True, False), (False, True)):
        assert text_width(fit(content, width, size, bold=bold, keep_end=keep_end), size, bold=bold) <= width


def test_fit_keeps_the_end_where_names_differ_there() -> None:
    shown = fit("esx-prod-rack-17.datacentre.example.com/gpu3", 150, 12, keep_end=True)
    assert shown.startswith("esx-prod")
    assert shown.endswith("/gpu3")
    assert "…" in shown


def test_wrap_loses_no_word() -> None:
    content = "one two three four five six seven eight nine ten"
    lines = wrap(content, 90, 12)
    assert " ".join(lines) == content
    assert len(lines) > 2
    assert all(text_width(line, 12) <= 90 for line in lines)


# -- the same bytes, colours -------------------------------------------------------------------------------------------


def test_same_input_same_bytes() -> None:
    again = Layout.from_data(MIXED.to_data())
    for draw in (svg, html):
        assert draw(MIXED, title="t", facts=["f"], notes=["n"]) == draw(again, title="t", facts=["f"], notes=["n"])
    assert graph_svg(graph("T4")) == graph_svg(graph("T4"))
    assert geometry_svg(A100) == geometry_svg(A100)


def test_two_pictures_on_one_page_share_no_id() -> None:
    def ids(markup: str) -> Iterator[str]:
        return (element.attrib["id"] for element in parse(markup).iter() if "id" in element.attrib)

    a, b = set(ids(svg(MIXED))), set(ids(svg(Layout.of([a100(0, *SEVEN)]))))
    assert (len(a), len(b)) == (2, 1)  # free and stranded units; stranded ones alone
    assert not a & b


def test_every_reference_has_its_definition() -> None:
    markup = svg(MIXED)
    assert set(re.findall(r"url\(#([^)]+)\)", markup)) == set(re.findall(r'<pattern id="([^"]+)"', markup))


def test_up_to_a_dozen_names_have_distinct_colours_in_any_order() -> None:
    names = [f"service-{index}" for index in range(len(PALETTE))]
    found = colours(names)
    assert len({colour.fill for colour in found.values()}) == len(names)
    assert colours(reversed(names)) == found


def test_a_name_has_the_same_colour_in_every_picture() -> None:
    alone = {name: colours([name])[name] for name in (f"service-{index}" for index in range(100))}
    assert alone["service-0"].fill == "#009e73"  # by a hash that does not change from one process to the next
    apart = {colour.fill: name for name, colour in alone.items()}
    assert len(apart) == len(PALETTE)
    assert colours(apart.values()) == {name: alone[name] for name in apart.values()}


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        shares = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_on_every_colour_has_the_contrast_of_wcag_aa() -> None:
    for colour in colours(f"w{i}" for i in range(500)).values():
        assert contrast(colour.fill, colour.text) >= 4.5, colour
    assert text_on("#ffffff") != text_on("#000000")


# -- page, geometry, graph ---------------------------------------------------------------------------------------------


def test_page_has_picture_and_table_and_loads_nothing() -> None:
    table: list[dict[str, object]] = [{"workload": "a", "replicas": 1200}, {"workload": None, "GiB": 0.5}]
    page = html(MIXED, title="The lab", facts=["3 GPUs"], table=table)
    root = parse(page)
    assert [cell.text for cell in root.iter("th")] == ["workload", "replicas", "GiB"]
    assert [[cell.text for cell in row] for row in root.iter("tr")][1:] == [["a", "1,200", None], [None, None, "0.5"]]
    assert not re.search(r"<script|<link|<img|@import|src=|href=", page)
    assert len([element for element in root.iter() if element.tag.endswith("}svg")]) == 1 + 15


@pytest.mark.parametrize("gpu", ["A100-80GB mig", "A40 vgpu-mixed", "T4 vgpu-equal-4", "T4 whole"])
def test_every_legal_start_is_drawn(gpu: str) -> None:
    model, mode = gpu.split()
    geometry = catalog.gpu(model).geometry(mode)
    tips = tooltips(geometry_svg(geometry, title=model))
    assert sorted(tips) == sorted(f"{placement.profile.name} at {placement.start}" for placement in geometry.placements)


def test_overlapping_starts_lie_in_different_lanes() -> None:
    drawn = geometry_svg(Geometry("mig", 8, (Profile("2g", (0, 1, 2, 3), 2, 3),)))
    rectangles = [element.attrib for element in elements(drawn, "rect") if element.attrib.get("rx") == "4"]
    boxes = [(float(box["x"]), float(box["y"]), float(box["width"])) for box in rectangles]
    assert len(boxes) == 4
    for index, (x, y, width) in enumerate(boxes):
        for other_x, other_y, _ in boxes[index + 1 :]:
            assert y != other_y or other_x >= x + width


def test_graph_has_a_dot_for_each_placement_and_a_curve_for_each_conflict() -> None:
    conflicts = graph("A100-80GB", ["mig"])
    markup = graph_svg(conflicts, title="MIG")
    assert len(elements(markup, "circle")) == conflicts.number_of_nodes() == len(A100.placements)
    curves = sum(element.attrib["d"].count("q") for element in elements(markup, "path"))
    assert curves == conflicts.number_of_edges()
    assert "7g.80gb at 0 (mig): excludes 24 others" in tooltips(markup)


def test_large_graphs_leave_out_edges_between_modes_and_say_so() -> None:
    conflicts = graph("T4")
    across = sum(a.mode != b.mode for a, b in conflicts.edges)
    markup = graph_svg(conflicts)
    assert sum(element.attrib["d"].count("q") for element in elements(markup, "path")) == conflicts.number_of_edges() - across
    assert any(f"The {across:,} edges between modes are not drawn" in (e.text or "") for e in elements(markup, "text"))


def test_small_graphs_show_edges_between_modes() -> None:
    conflicts = graph("T4", ["vgpu-equal-16", "whole"])
    curves = sum(element.attrib["d"].count("q") for element in elements(graph_svg(conflicts), "path"))
    assert curves == conflicts.number_of_edges() == 6


def test_graph_without_attributes_is_refused() -> None:
    with pytest.raises(SpecError, match=r"node 'a' - lacks profile, start"):
        graph_svg(_bare())


def _bare() -> "nx.Graph[str]":
    bare: nx.Graph[str] = nx.Graph()
    bare.add_node("a", mode="mig", extent=1, units=8)
    return bare
