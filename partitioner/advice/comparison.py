"""Two plans side by side: what each places, what it takes, what runs elsewhere, and which is better. Must not know the solver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from partitioner.advice.figures import Figures, figures_of
from partitioner.advice.whatif import placed_of
from partitioner.layout import Layout
from partitioner.metrics import Metrics
from partitioner.solver.inquiry import Answer, Inquiry
from partitioner.solver.stages import MAXIMISED
from partitioner.solver.supply import COST_UNITS, POWER_UNITS

_NAMES_SHOWN = 6
Better = Literal["first", "second"]
Place = tuple[str | None, int, str, str, int]


@dataclass(frozen=True, slots=True)
class Moved:
    """Replicas of a workload that do not run in the same place in both plans.

    Parameters
    ----------
    workload : its name.
    elsewhere : replicas that both place, in different places (GPU, mode, profile or start).
    only_first, only_second : replicas that only one of them places.
    """

    workload: str
    elsewhere: int
    only_first: int
    only_second: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the first plan's objective in both plans; None where a plan does not tell."""

    name: str
    first: int | None
    second: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two plans side by side.

    Parameters
    ----------
    only_first, only_second, changed : names of workloads that one plan alone was asked for, or both in different terms.
    first, second : what is placed and what that takes.
    first_metrics, second_metrics : what is used and wasted.
    stages : the stages of the first plan's objective, as far as they are compared.
    better : which plan is better by them; None where neither is, or they cannot be compared.
    stage : the stage that decides; None where none does.
    moved : replicas that run elsewhere, by workload, in the order of the first plan.
    """

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changed: tuple[str, ...]
    first: Figures
    second: Figures
    first_metrics: Metrics
    second_metrics: Metrics
    stages: tuple[Stage, ...]
    better: Better | None
    stage: str | None
    moved: tuple[Moved, ...]

    @property
    def same_workloads(self) -> bool:
        """Whether both plans were asked for the same."""
        return not (self.only_first or self.only_second or self.changed)

    def to_data(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(_lines(self)) + "\n"


@dataclass(frozen=True, slots=True)
class Side:
    """A plan to compare: what was asked, what was answered, and the metrics of the layout."""

    inquiry: Inquiry
    found: Answer
    metrics: Metrics


def compare(first: Side, second: Side) -> Comparison:
    """Return two plans side by side; which is better goes by the first one's objective."""
    asked = [{w.name: w for w in side.inquiry.workloads} for side in (first, second)]
    placed = [placed_of(side.inquiry, side.found) for side in (first, second)]
    figures = [
        figures_of(side.found.layout, side.inquiry.fleet, sum(counts.values()))
        for side, counts in zip((first, second), placed, strict=True)
    ]
    stages, better = _stages(first, second, placed)
    return Comparison(
        tuple(name for name in asked[0] if name not in asked[1]),
        tuple(name for name in asked[1] if name not in asked[0]),
        tuple(name for name, w in asked[0].items() if name in asked[1] and asked[1][name] != w),
        figures[0],
        figures[1],
        first.metrics,
        second.metrics,
        stages,
        better,
        stages[-1].name if better is not None else None,
        tuple(_moved(first.found.layout, second.found.layout)),
    )


# -- which is better -----------------------------------------------------------------------------------------------------


def _stages(first: Side, second: Side, placed: list[dict[str, int]]) -> tuple[tuple[Stage, ...], Better | None]:
    """Return the stages of the first plan's objective up to the one that decides, and the better plan."""
    stages: list[Stage] = []
    for name in first.inquiry.objective:
        stage = Stage(name, _value(first, name), _value(second, name))
        stages.append(stage)
        if name == "placed":
            ahead = _by_priority(first, placed[0], second, placed[1])
        elif stage.first is None or stage.second is None:
            return tuple(stages), None
        else:
            ahead = (stage.first - stage.second) * (1 if name in MAXIMISED else -1)
        if ahead:
            return tuple(stages), "first" if ahead > 0 else "second"
    return tuple(stages), None


def _by_priority(first: Side, mine: Mapping[str, int], second: Side, yours: Mapping[str, int]) -> int:
    """Return what the first plan places more than the second, in the highest of its priorities in which they differ."""
    priorities = {w.name: w.priority for side in (second, first) for w in side.inquiry.workloads}
    more: dict[int, int] = {}
    for counts, sign in ((mine, 1), (yours, -1)):
        for name, count in counts.items():
            more[priorities[name]] = more.get(priorities[name], 0) + sign * count
    return next((more[priority] for priority in sorted(more, reverse=True) if more[priority]), 0)


def _value(side: Side, name: str) -> int | None:
    """Return what a plan's own stage says; for figures that every layout has, those."""
    for stage in side.found.objectives:
        if stage.name == name:
            return stage.value
    figures = figures_of(side.found.layout, side.inquiry.fleet, 0)
    if name == "cost":
        return None if figures.cost_per_hour is None else round(figures.cost_per_hour * COST_UNITS)
    if name == "power":
        return None if figures.power_w is None else round(figures.power_w * POWER_UNITS)
    if name == "spread" and side.inquiry.fleet is not None:
        hosts = side.found.layout.gpu_host[side.found.layout.used].tolist()
        return max((hosts.count(host) for host in set(hosts)), default=0)
    return {"gpus": figures.gpus, "hosts": figures.hosts}.get(name)


# -- what moved ----------------------------------------------------------------------------------------------------------


def _moved(first: Layout, second: Layout) -> Iterable[Moved]:
    mine, yours = _places(first), _places(second)
    for name in dict.fromkeys((*mine, *yours)):
        here, there = mine.get(name, {}), yours.get(name, {})
        both = here.keys() & there.keys()
        moved = Moved(name, sum(sorted(here[r]) != sorted(there[r]) for r in both), len(here) - len(both), len(there) - len(both))
        if moved.elsewhere or moved.only_first or moved.only_second:
            yield moved


def _places(layout: Layout) -> dict[str, dict[int, list[tuple[str, int, str, str, int]]]]:
    """Return workload to replica to its places."""
    found: dict[str, dict[int, list[tuple[str, int, str, str, int]]]] = {}
    for a in layout.assignments():
        places = found.setdefault(a.workload, {}).setdefault(a.replica, [])
        places.append((a.host or "", a.gpu, a.mode, a.profile, a.start))
    return found


# -- words ---------------------------------------------------------------------------------------------------------------


def _lines(c: Comparison) -> Iterable[str]:
    yield "workloads: the same" if c.same_workloads else f"workloads: {_differences(c)}"
    rows: list[tuple[str, float | None, float | None]] = [
        ("replicas placed", c.first.placed, c.second.placed),
        ("GPUs", c.first.gpus, c.second.gpus),
        ("cost per hour", c.first.cost_per_hour, c.second.cost_per_hour),
        ("power [W]", c.first.power_w, c.second.power_w),
        ("hosts", c.first.hosts, c.second.hosts),
        ("memory wasted [GiB]", c.first_metrics.memory_waste_mib / 1024, c.second_metrics.memory_waste_mib / 1024),
        ("MIG slices wasted", c.first_metrics.compute_waste_slices, c.second_metrics.compute_waste_slices),
        ("memory slices stranded", c.first_metrics.stranded_memory_slices, c.second_metrics.stranded_memory_slices),
        ("compute slices stranded", c.first_metrics.stranded_compute_slices, c.second_metrics.stranded_compute_slices),
    ]
    yield f"{'':<24} {'first':>14} {'second':>14} {'difference':>14}"
    for words, mine, yours in rows:
        if mine is not None or yours is not None:
            difference = "" if mine is None or yours is None else _number(yours - mine, sign="+")
            yield f"{words:<24} {_number(mine):>14} {_number(yours):>14} {difference:>14}".rstrip()
    yield _verdict(c)
    if c.moved:
        replicas = sum(moved.elsewhere for moved in c.moved)
        yield f"{replicas:,} replicas run elsewhere: " + _listed([_moved_words(moved) for moved in c.moved])
    else:
        yield "every replica runs in the same place"


def _differences(c: Comparison) -> str:
    parts = [("only in the first", c.only_first), ("only in the second", c.only_second), ("in other terms", c.changed)]
    return "; ".join(f"{words}: {_listed(names)}" for words, names in parts if names)


def _verdict(c: Comparison) -> str:
    if c.better is not None:
        last = c.stages[-1]
        more = "first" if (last.first or 0) > (last.second or 0) else "second"
        odd = last.name == "placed" and (last.first == last.second or more != c.better)
        by = f"{last.name} (higher priorities first)" if odd else last.name
        unit = {"cost": COST_UNITS, "power": POWER_UNITS}.get(last.name, 1)
        first, second = (f"{(value or 0) / unit:,.10g}" for value in (last.first, last.second))
        return f"the {c.better} plan is better, by {by}: {first} and {second}"
    last = c.stages[-1]
    if last.first is None or last.second is None:
        return f"equal up to {last.name}, which one of them does not tell"
    return "neither is better by the first plan's objective"


def _moved_words(moved: Moved) -> str:
    parts = [f"{moved.elsewhere:,}"] if moved.elsewhere else []
    parts += [f"{moved.only_first:,} only in the first"] if moved.only_first else []
    parts += [f"{moved.only_second:,} only in the second"] if moved.only_second else []
    return f"{moved.workload} ({', '.join(parts)})"


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign},.1f}"


def _listed(words: Iterable[str]) -> str:
    listed = list(words)
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
