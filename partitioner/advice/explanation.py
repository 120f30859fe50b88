"""Why a workload is placed as it is, or left out, and what would change that. The whole of `Plan.explain` in one function."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from partitioner.advice.clash import Clash, find_clash
from partitioner.advice.limits import Limit, Relaxation, relaxations
from partitioner.advice.remedies import Remedy, less_of, more_gpus, more_hosts, of_relaxations, one_mode_more
from partitioner.advice.services import Choice, choices
from partitioner.advice.whatif import Trials, placed_of, question
from partitioner.errors import SpecError, did_you_mean
from partitioner.report import counted
from partitioner.solver.inquiry import Answer, Inquiry
from partitioner.workload import Workload

MOST_CLASHING = 2000
"""Most workloads placed among which those that clash are looked for."""
_SHOWN, _CHOICES_SHOWN, _NAMES_SHOWN = 6, 5, 6


@dataclass(frozen=True, slots=True)
class Saved:
    """What would be saved without a workload.

    Parameters
    ----------
    gpus : GPUs fewer.
    proven : whether that is exactly so; otherwise it is what the time allowed to find.
    """

    gpus: int
    proven: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a workload is placed as it is, or left out, and what would change that.

    Parameters
    ----------
    workload : its name.
    demand : what it asks for, in words.
    asked, placed : replicas; a service counts 1.
    reason : why it is left out, in words of the plan; empty where it is placed.
    limits : limits and rules that concern it, each dropped alone: of a workload left out those are binding with which it
        then fits, of one placed those with which GPUs are saved.
    clash : workloads with which, together, it does not fit; None where it is placed, fits, or that was not settled.
    remedies : changes with which it fits beside all that is placed, the smallest first; each verified by a solve.
    saved : what a plan without it saves; None where it is left out, or that was not settled.
    where : of a workload placed, (GPU model, mode, profile) to number.
    choices : of a service, the profiles considered.
    unfinished : what was not settled in time.
    """

    workload: str
    demand: str
    asked: int
    placed: int
    reason: str
    limits: tuple[Limit, ...]
    clash: Clash | None
    remedies: tuple[Remedy, ...]
    saved: Saved | None
    where: Mapping[tuple[str, str, str], int]
    choices: tuple[Choice, ...]
    unfinished: tuple[str, ...]

    @property
    def binding(self) -> tuple[Limit, ...]:
        """The limits that, dropped alone, let the workload fit or save GPUs."""
        return tuple(limit for limit in self.limits if limit.fits or (limit.gpus_saved or 0) > 0)

    def to_data(self) -> dict[str, Any]:
        """Return the explanation as plain data; of remedies the words, not the changed questions."""
        return {
            "workload": self.workload,
            "demand": self.demand,
            "asked": self.asked,
            "placed": self.placed,
            "reason": self.reason,
            "limits": [asdict(limit) for limit in self.limits],
            "binding": [limit.name for limit in self.binding],
            "clash": None if self.clash is None else asdict(self.clash),
            "remedies": [{"kind": r.kind, "words": r.words, "change": r.change} for r in self.remedies],
            "saved": None if self.saved is None else asdict(self.saved),
            "where": [{"gpu": g, "mode": m, "profile": p, "count": n} for (g, m, p), n in self.where.items()],
            "choices": [asdict(choice) for choice in self.choices],
            "unfinished": list(self.unfinished),
        }

    def __str__(self) -> str:
        return "\n".join(_lines(self)) + "\n"


def explain(inquiry: Inquiry, found: Answer, name: str, *, time_limit_s: float, seed: int) -> Explanation:
    """Say why a workload is placed as it is, or left out, and what would change that.

    Parameters
    ----------
    inquiry, found : what was asked and answered.
    name : the workload.
    time_limit_s : for all what-if questions together [s].
    seed : for the engines.

    Raises
    ------
    SpecError
        There is no such workload; names near matches.
    """
    trials = Trials(time.monotonic() + time_limit_s, seed)
    workload = next((w for w in inquiry.workloads if w.name == name), None)
    if workload is None:
        hint = did_you_mean(name, (w.name for w in inquiry.workloads))
        raise SpecError(f"no workload {name!r} in the plan; {hint}".rstrip("; "))
    placed = placed_of(inquiry, found)
    where = _where(found, name)
    considered = choices(inquiry, found.ratings, found.layout, workload) if workload.model is not None else ()
    blank = Explanation(
        name, workload.demand, workload.count, placed[name], "", (), None, (), None, where, considered, unfinished=()
    )
    if placed[name] == workload.count:
        explained = _of_placed(blank, inquiry, found, placed, trials)
    else:
        reason = next(entry.reason for entry in found.unplaced if entry.workload == name)
        explained = _of_left_out(replace(blank, reason=reason), inquiry, workload, placed, trials)
    return replace(explained, unfinished=tuple(trials.unfinished))


def _where(found: Answer, name: str) -> dict[tuple[str, str, str], int]:
    counts: dict[tuple[str, str, str], int] = {}
    layout = found.layout
    if name in layout.workloads:
        number = layout.workloads.index(name)
        rows = layout.offsets.searchsorted((layout.occupant == number).nonzero()[0], side="right") - 1
        for row, position in zip(rows.tolist(), (layout.occupant == number).nonzero()[0].tolist(), strict=True):
            pattern = layout.patterns[layout.gpu_pattern[row]]
            profile = pattern.placements[position - int(layout.offsets[row])].profile.name
            key = (pattern.model, pattern.mode or "", profile)
            counts[key] = counts.get(key, 0) + 1
    return counts


# -- left out ------------------------------------------------------------------------------------------------------------


def _of_left_out(blank: Explanation, inquiry: Inquiry, workload: Workload, placed: dict[str, int], trials: Trials) -> Explanation:
    name = workload.name
    wanted = {**placed, name: workload.count}
    base = question(inquiry, wanted, single=(name,))
    target = next(w for w in base.workloads if w.name == name)
    fits = trials.until(0.2).fits(base, "whether it fits as it is")
    if fits:
        return replace(blank, remedies=(Remedy("time", "plan with a longer time limit", 0.0, base),))
    limits, dropped = _try_limits(base, name, trials.until(0.35))
    remedies = list(of_relaxations(dropped))
    gpus, enough = more_gpus(base, target, trials.until(0.3))
    one_mode = list(one_mode_more(base, trials.until(0.2))) if _may_be(limits, "modes") else []
    if one_mode:  # says more than that all modes would do
        remedies = [*one_mode, *(remedy for remedy in remedies if remedy.inquiry.modes != base.widest_modes)]
    remedies += [*gpus, *less_of(base, target, placed[name], trials.until(0.4)), *more_hosts(base, target, trials.until(0.4))]
    if base.fleet is not None or base.gpus is not None:
        limits.append(Limit("gpus", "the GPUs: how many, and how they can be cut", enough))
    clash = _clash(inquiry, wanted, name, trials) if fits is False else None
    remedies.sort(key=lambda remedy: remedy.change)
    return replace(blank, limits=tuple(limits), clash=clash, remedies=tuple(remedies))


def _may_be(limits: Sequence[Limit], name: str) -> bool:
    """Whether a limit binds, as far as is known."""
    return any(limit.name == name and limit.fits is not False for limit in limits)


def _try_limits(base: Inquiry, name: str, trials: Trials) -> tuple[list[Limit], list[Relaxation]]:
    """Return the limits with what happens without each, and those without which everything fits."""
    limits, dropped = [], []
    for relaxation in relaxations(base, name):
        fits = trials.fits(relaxation.inquiry, f"without {relaxation.limit.words}")
        limits.append(replace(relaxation.limit, fits=fits))
        if fits:
            dropped.append(relaxation)
    return limits, dropped


def _clash(inquiry: Inquiry, wanted: Mapping[str, int], name: str, trials: Trials) -> Clash | None:
    others = [other for other, count in wanted.items() if count and other != name]
    if len(others) > MOST_CLASHING:
        trials.unfinished[f"which of {len(others):,} workloads clash"] = None
        return None

    def fits(names: frozenset[str]) -> bool | None:
        counts = {other: wanted[other] for other in others if other in names} | {name: wanted[name]}
        return trials.fits(question(inquiry, counts, single=(name,)), "the smallest set of workloads that clash")

    return find_clash(others, fits)


# -- placed --------------------------------------------------------------------------------------------------------------


def _of_placed(blank: Explanation, inquiry: Inquiry, found: Answer, placed: dict[str, int], trials: Trials) -> Explanation:
    name = blank.workload
    stage = next(stage for stage in found.objectives if stage.name == "gpus")
    stages = tuple(inquiry.objective[: inquiry.objective.index("gpus") + 1])
    others = {other: count for other, count in placed.items() if other != name}
    saved: Saved | None = Saved(stage.value, stage.proven)
    if any(others.values()):
        without = _gpus(replace(question(inquiry, others), objective=stages), trials.until(0.4), "what a plan without it takes")
        saved = None if without is None else Saved(max(0, stage.value - without[0]), stage.proven and without[1])
    base = replace(question(inquiry, placed, single=(name,)), objective=stages)
    limits = []
    for relaxation in relaxations(base, name):
        fewer = _gpus(relaxation.inquiry, trials, f"without {relaxation.limit.words}")
        limits.append(replace(relaxation.limit, gpus_saved=None if fewer is None else max(0, stage.value - fewer[0])))
    return replace(blank, saved=saved, limits=tuple(limits))


def _gpus(inquiry: Inquiry, trials: Trials, words: str) -> tuple[int, bool] | None:
    """Return the GPUs that everything in a question takes, and whether no fewer do; None where that was not found."""
    try:
        found = trials.solve(inquiry) if trials.left else None
    except SpecError:
        return None  # the rest of what is placed is not to be had that way
    if found is None or found.unplaced:
        trials.unfinished[words] = None
        return None
    stage = next(stage for stage in found.objectives if stage.name == "gpus")
    return stage.value, stage.proven


# -- words ---------------------------------------------------------------------------------------------------------------


def _lines(explained: Explanation) -> Iterator[str]:
    yield f"{explained.workload}: {explained.demand}: {_state(explained)}"
    yield from _placed_lines(explained) if explained.placed == explained.asked else _left_out_lines(explained)
    yield from _choice_lines(explained.choices)
    if explained.unfinished:
        yield f"not settled in time: {_listed(explained.unfinished)}"


def _state(explained: Explanation) -> str:
    if explained.placed < explained.asked:
        left = explained.asked - explained.placed
        return "left out" if left == explained.asked else f"{left:,} of {counted(explained.asked, 'replica')} left out"
    parts = [f"{count:,} x {profile} on {gpu}" for (gpu, _, profile), count in explained.where.items()]
    return f"placed, {_listed(parts)}"


def _placed_lines(explained: Explanation) -> Iterator[str]:
    if explained.saved is not None:
        proof = "proven" if explained.saved.proven else "as far as found in time"
        yield f"cost: without it {counted(explained.saved.gpus, 'GPU')} fewer ({proof})"
    for limit in explained.binding:
        yield f"binding: {limit.words}; without it {counted(limit.gpus_saved or 0, 'GPU')} fewer"
    idle = [limit.words for limit in explained.limits if limit.gpus_saved == 0]
    if idle:
        yield f"costs no GPU: {_listed(idle)}"


def _left_out_lines(explained: Explanation) -> Iterator[str]:
    if explained.reason:
        yield f"why: {explained.reason}"
    binding = [limit.words for limit in explained.binding]
    if binding:
        yield f"binding: {binding[0]}; it fits when this alone is dropped"
        yield from (f"         {words}; the same" for words in binding[1:_SHOWN])
    elif explained.limits and all(limit.fits is False for limit in explained.limits):
        yield "binding: no limit alone; it does not fit when only one of them is dropped"
    slack = [limit.words for limit in explained.limits if limit.fits is False]
    if slack:
        yield f"dropped alone, no help: {_listed(slack)}"
    if explained.clash is not None:
        yield _clash_line(explained.clash)
    if explained.remedies:
        yield "remedies, each verified beside all that is placed, the smallest change first:"
        yield from (f"  {remedy.words}" for remedy in explained.remedies[:_SHOWN])
        if len(explained.remedies) > _SHOWN:
            yield f"  and {len(explained.remedies) - _SHOWN} more"


def _clash_line(clash: Clash) -> str:
    if not clash.names:
        return "clash: it does not fit even alone"
    kind = (
        "the smallest such set" if clash.smallest else "without any one of them it fits" if clash.irreducible else "not reduced"
    )
    return f"clash: it does not fit together with {_listed(clash.names)} ({kind})"


def _choice_lines(considered: Sequence[Choice]) -> Iterator[str]:
    if considered:
        yield "profiles considered (requests/s for one instance, for a GPU full of them):"
    for choice in considered[:_CHOICES_SHOWN]:
        figures = f"{choice.throughput_rps:,.4g}, {choice.per_gpu_rps:,.4g} per GPU; " if choice.throughput_rps else ""
        yield f"  {choice.profile} of {choice.gpu} ({choice.mode}): {figures}{_used(choice)}"
    if len(considered) > _CHOICES_SHOWN:
        yield (
            f"  and {len(considered) - _CHOICES_SHOWN} more, none of them in use"
            if not any(choice.instances for choice in considered[_CHOICES_SHOWN:])
            else f"  and {len(considered) - _CHOICES_SHOWN} more"
        )


def _used(choice: Choice) -> str:
    return f"{choice.instances:,} in use" if choice.instances else choice.why


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _NAMES_SHOWN
    return ", ".join(words[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
