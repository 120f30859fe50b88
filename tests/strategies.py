"""Hypothesis strategies for the values that all tests share."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import NamedTuple

from hypothesis import strategies as st

from partitioner import catalog
from partitioner.fleet import Fleet, Gpu, Host, NumaNode
from partitioner.geometry import Geometry, Placement
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.topology import Topology
from partitioner.workload import Workload

names = st.text("abcdefghij-_.é", min_size=1, max_size=8)


@cache
def _modes() -> tuple[tuple[str, str], ...]:
    return tuple((name, mode) for name in catalog.names() for mode in catalog.gpu(name).modes)


def gpu_modes() -> st.SearchStrategy[tuple[str, str]]:
    """A GPU model and one of its modes."""
    return st.sampled_from(_modes())


def some_placements(geometry: Geometry, *, max_size: int = 12) -> st.SearchStrategy[list[Placement]]:
    """Placements of a geometry, legal together or not."""
    return st.lists(st.sampled_from(geometry.placements), max_size=max_size)


@st.composite
def legal_placements(draw: st.DrawFn, geometry: Geometry) -> tuple[Placement, ...]:
    """Placements that may coexist, sorted by start: each drawn one is kept where it still fits."""
    kept: list[Placement] = []
    for placement in draw(some_placements(geometry)):
        if geometry.is_legal([*kept, placement]):
            kept.append(placement)
    return tuple(sorted(kept, key=lambda placement: placement.start))


@st.composite
def gpu_layouts(draw: st.DrawFn, host: str | None, gpu: int) -> GpuLayout:
    """One GPU with legal placements, each held by a replica or by nobody."""
    model, mode = draw(gpu_modes())
    if draw(st.booleans()) and draw(st.booleans()):
        return GpuLayout(host, gpu, model, None)
    slots = []
    for placement in draw(legal_placements(catalog.gpu(model).geometry(mode))):
        holder = draw(st.none() | st.tuples(names, st.integers(0, 1_000)))
        slots.append(Slot(placement.profile.name, placement.start, *(holder or (None, None))))
    return GpuLayout(host, gpu, model, mode, tuple(slots))


@st.composite
def layouts(draw: st.DrawFn, *, max_gpus: int = 5) -> Layout:
    """A layout of a few GPUs on a few hosts, or on none."""
    places = draw(st.lists(st.tuples(st.none() | names, st.integers(0, 9)), max_size=max_gpus, unique=True))
    return Layout.of([draw(gpu_layouts(host, gpu)) for host, gpu in places])


@st.composite
def layout_pairs(draw: st.DrawFn, *, models: list[str] | None = None, most_gpus: int = 4) -> tuple[Layout, Layout]:
    """Two layouts of the same GPUs, with replicas that stay, move, begin and end; a replica has one or two pieces."""
    kinds = draw(st.lists(st.sampled_from(models or list(catalog.names())), min_size=1, max_size=2, unique=True))
    gpus = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most_gpus))
    pair = []
    for goal in (False, True):
        crew = [(name, replica) for name in ("a", "b", "c") for replica in range(6)] * (1 + draw(st.booleans()))
        crew = draw(st.permutations(crew))
        side = []
        for index, model in enumerate(gpus):
            modes = catalog.gpu(model).modes
            mode = draw(st.sampled_from(modes[:3] if "mig" in modes else modes))
            slots = []
            for placement in draw(legal_placements(catalog.gpu(model).geometry(mode))):
                who = crew.pop() if crew and draw(st.integers(0, 3)) else (None, None)
                ready = who[0] is not None or goal or draw(st.integers(0, 9)) > 0
                slots.append(Slot(placement.profile.name, placement.start, *who, ready))
            side.append(
                GpuLayout(f"h{index // 2}", index % 2, model, mode if slots or draw(st.booleans()) else None, tuple(slots))
            )
        pair.append(Layout.of(side))
    return pair[0], pair[1]


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """A workload with any legal demand."""
    fields: dict[str, object] = {}
    if draw(st.booleans()):
        fields["profile"] = draw(st.sampled_from(("3g.40gb", "T4-4Q", "whole", "1g")))
    else:
        options = {
            "memory_gib": st.floats(0.1, 500),
            "compute_slices": st.integers(1, 7),
            "gpu_share": st.floats(0.01, 1),
        }
        for name in draw(st.lists(st.sampled_from(sorted(options)), min_size=1, unique=True)):
            fields[name] = draw(options[name])
    fields["count"] = draw(st.integers(1, 50))
    fields["priority"] = draw(st.integers(-5, 5))
    return Workload(draw(names), **fields)


# -- questions with rules ----------------------------------------------------------------------------------------------

_LINKED = ("NV4", "PIX", "PXB", "PHB", "NODE", "SYS")
_SMALL = {
    "A30-24GB": ("1g.6gb", "2g.12gb", "4g.24gb", "A30-12C"),
    "T4": ("T4-4C", "T4-8Q", "T4-16C"),
    "A2": ("A2-4Q", "A2-8Q"),
    "A100-40GB": ("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb"),
}
_KEPT = {
    "A30-24GB": (("1g.6gb@0",), ("2g.12gb@2",), ("1g.6gb@1", "2g.12gb@2")),
    "T4": (("T4-8Q@0",),),
    "A2": (),
    "A100-40GB": (("3g.20gb@4",), ("1g.5gb@0", "2g.10gb@2")),
}
_FIXED = {"A30-24GB": ("mig", "whole"), "T4": ("vgpu-equal-4", "vgpu-equal-8"), "A2": ("vgpu-mixed",), "A100-40GB": ("mig",)}
_DEMANDS = {"memory_gib": (3, 5, 9.5, 15), "compute_slices": (1, 2, 3), "gpu_share": (0.25, 0.5, 1.0)}


class Question(NamedTuple):
    """What `plan` is asked."""

    workloads: tuple[Workload, ...]
    fleet: Fleet
    objective: tuple[str, ...]
    host_failures: int = 0


def _sometimes(draw: st.DrawFn, strategy: st.SearchStrategy[object], otherwise: object, chance: int = 4) -> object:
    """Draw a value once in `chance` times; what is otherwise comes first, so that examples shrink to it."""
    return draw(strategy) if draw(st.integers(0, chance - 1)) == chance - 1 else otherwise


@st.composite
def _gpus(draw: st.DrawFn, models: list[str], *, plain: bool) -> Gpu:
    model = draw(st.sampled_from(models))
    cost, power = draw(st.sampled_from((1, 2.5))), draw(st.sampled_from((70, 165)))
    if plain:
        return Gpu(model, cost_per_hour=cost, power_w=power)
    kept = _sometimes(draw, st.sampled_from(_KEPT[model] or ((),)), ())
    mode = None if kept else _sometimes(draw, st.sampled_from(_FIXED[model]), None)
    return Gpu(model, mode, cost, power, kept)


@st.composite
def _topologies(draw: st.DrawFn, size: int) -> Topology:
    links = {pair: draw(st.sampled_from(_LINKED)) for pair in combinations(range(size), 2)}
    rows = tuple(
        tuple("X" if one == other else links[min(one, other), max(one, other)] for other in range(size)) for one in range(size)
    )
    return Topology(rows, (("mlx5_0", tuple(draw(st.sampled_from(("PIX", "PXB", "SYS"))) for _ in range(size))),))


@st.composite
def _hosts(draw: st.DrawFn, name: str, models: list[str], most_gpus: int) -> Host:
    plain = draw(st.booleans())
    gpus = tuple(draw(_gpus(models, plain=plain)) for _ in range(draw(st.integers(1, most_gpus))))
    limits: dict[str, object] = {
        "vcpus": _sometimes(draw, st.integers(2, 12), None),
        "ram_gib": _sometimes(draw, st.sampled_from((8, 12.5, 20, 32)), None),
        "max_vms": _sometimes(draw, st.integers(1, 4), None),
    }
    numa: tuple[NumaNode, ...] = ()
    if draw(st.integers(0, 4)) == 4:
        numa = tuple(NumaNode((index,), draw(st.integers(2, 8)), draw(st.sampled_from((None, 16)))) for index in range(len(gpus)))
    links = _sometimes(draw, _topologies(len(gpus)), None, 3)
    return Host(name, gpus, numa=numa, links=links, **limits)


def _relations(draw: st.DrawFn, before: list[str], places: list[str]) -> dict[str, object]:
    """Draw rules between a workload and those before it, and on places."""
    level = st.sampled_from(("gpu", "host"))
    fields: dict[str, object] = {"spread": _sometimes(draw, level, None), "isolation": draw(st.sampled_from(("any", "hardware")))}
    fields["tenant"] = _sometimes(draw, st.sampled_from(("red", "blue")), None)
    if before:
        rule = draw(st.sampled_from((None, None, None, "apart", "apart", "together")))
        if rule:
            fields["apart_from" if rule == "apart" else "together_with"] = (draw(st.sampled_from(before)),)
            fields[f"{rule}_on"] = draw(level)
    where = _sometimes(draw, st.sampled_from(("only_on", "never_on")), None, 6)
    if where:
        fields[str(where)] = tuple(draw(st.lists(st.sampled_from(places), min_size=1, max_size=2, unique=True)))
    return fields


@st.composite
def questions(draw: st.DrawFn, *, most_hosts: int = 2, most_gpus: int = 2, most_replicas: int = 5) -> Question:
    """A few replicas on a few GPUs with all rules, limits and objectives mixed."""
    models = draw(st.lists(st.sampled_from(sorted(_SMALL)), min_size=1, max_size=2, unique=True))
    hosts = [draw(_hosts(f"h{number}", models, most_gpus)) for number in range(draw(st.integers(1, most_hosts)))]
    present = sorted({gpu.model for host in hosts for gpu in host.gpus})
    places = [name for host in hosts for name in (host.name, *(f"{host.name}/gpu{i}" for i in range(len(host.gpus))))]
    workloads: list[Workload] = []
    left = most_replicas
    while left and len(workloads) < draw(st.integers(1, 3)):
        name = f"w{len(workloads)}"
        fields = _relations(draw, [workload.name for workload in workloads], places)
        fields["count"] = draw(st.integers(1, min(3, left)))
        left -= fields["count"]
        profiles = [*(profile for model in present for profile in _SMALL[model]), "whole"]
        demand = _sometimes(draw, st.sampled_from(("memory_gib", "compute_slices", "gpu_share")), "profile")
        fields[str(demand)] = draw(st.sampled_from(_DEMANDS.get(str(demand), profiles)))
        fields["vcpus"] = _sometimes(draw, st.integers(1, 6), None, 3)
        fields["ram_gib"] = _sometimes(draw, st.sampled_from((4, 6.25, 8)), None, 3)
        fields["priority"] = _sometimes(draw, st.integers(1, 2), 0, 4)
        if draw(st.integers(0, 3)) == 3:
            fields["gpus_per_replica"] = 2
            fields["gpu_link"] = draw(st.sampled_from((None, "NVLINK", "PXB", "NODE")))
            fields["rdma"] = (fields.get("profile") == "whole" or fields["gpu_link"] is not None) and draw(st.booleans())
        workloads.append(Workload(name, **fields))
    stages = [draw(st.permutations(("gpus", "cost", "power", "hosts", "waste", "spread", "headroom")))]
    objective = ("placed", *stages[0][: draw(st.integers(1, 3))])
    if "headroom" in objective:
        objective = ("placed", "gpus", *(stage for stage in objective[1:] if stage != "gpus"))
    if draw(st.booleans()) or ("headroom" in objective and any(workload.profile is None for workload in workloads)):
        objective = ("placed", "gpus", "waste")  # headroom is room for the profiles asked for; sizes name none
    failures = int(draw(st.integers(0, 5)) == 5)
    return Question(tuple(workloads), Fleet(tuple(hosts)), objective, failures)
