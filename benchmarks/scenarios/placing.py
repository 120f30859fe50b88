"""Where the instances of a scenario stand: the planner places what a text names, the geometry says what is legal.

Knows no scenarios, servers and load.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from partitioner import catalog
from partitioner.errors import GeometryError, InfeasibleError, SpecError
from partitioner.geometry import parse_terms

if TYPE_CHECKING:
    from partitioner.catalog import GpuModel
    from partitioner.layout import Layout

_MOST_HINTS = 3


def placed(text: str, *, gpu: str, gpus: int | None) -> Layout:
    """Return where the planner puts the profiles of a text.

    Parameters
    ----------
    text : e.g. ``4g+2g+1g``; see `Scenario.parse`.
    gpu : the GPU model, in any name the catalogue knows.
    gpus : GPUs that may be used; None: one for MIG instances, else the fewest that hold everything.

    Raises
    ------
    SpecError
        The text or the GPU is not understood, or the instances do not fit; with the planner's reasons.
    """
    from partitioner.planning import plan

    if not isinstance(text, str):
        raise SpecError(f"scenario {text!r} - is a {type(text).__name__}, not a text; write e.g. '4g+2g+1g'")
    model, counts = catalog.gpu(gpu), _counts(text)
    for profile in counts:
        if not model.find(profile):
            raise SpecError(f"scenario {text!r} - {model.name}: {model.unknown_profile(profile)}{_elsewhere(profile, model)}")
    if gpus is None and all(model.find(profile)[0][0] == "mig" for profile in counts):
        gpus = 1
    answer = plan(counts, gpu=model.name, gpus=gpus)
    try:
        return answer.require_complete().layout
    except InfeasibleError as error:
        reasons = "; ".join(error.reasons)
        where = f"{gpus or 1} x {model.name}"
        raise SpecError(f"scenario {text!r} - does not fit on {where}: {reasons}; take smaller profiles or give gpus=") from error


def _counts(text: str) -> dict[str, int]:
    try:
        terms = parse_terms(text)
    except GeometryError as error:
        raise SpecError(str(error)) from error
    counts: dict[str, int] = {}
    for profile, count in terms:
        counts[profile] = counts.get(profile, 0) + count
    return counts


def _elsewhere(profile: str, asked: GpuModel) -> str:
    """Return which other GPUs have a profile, as the end of a message."""
    others = [name for name in catalog.names() if name != asked.name and catalog.gpu(name).find(profile)]
    shown = ", ".join(others[:_MOST_HINTS]) + (", ..." if len(others) > _MOST_HINTS else "")
    return f"; GPUs that have it: {shown}" if others else ""


@lru_cache(maxsize=1024)  # a scenario is checked whenever one is made of another
def mode_of(gpu: str, modes: str, placements: tuple[tuple[str, int], ...]) -> str:
    """Return the one of some modes, with ``+`` between, in which placements are legal on one GPU.

    Raises
    ------
    SpecError
        There is none, or more than one.
    """
    model = catalog.gpu(gpu)
    reasons = {mode: model.geometry(mode).violation(placements) for mode in modes.split("+")}
    legal = [mode for mode, reason in reasons.items() if reason is None]
    if len(legal) == 1:
        return legal[0]
    shown = ", ".join(f"{profile}@{start}" for profile, start in placements)
    if legal:
        raise SpecError(f"scenario on {model.name} - {shown} can be in each of the modes {modes}; give a scenario for each mode")
    raise SpecError("; ".join(f"{model.name} in mode {mode} - {shown}: {reason}" for mode, reason in reasons.items()))
