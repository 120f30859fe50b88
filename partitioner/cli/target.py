"""The option `--target`, and the target that it means. Must not know what is done with one.

Environment variables: PARTITIONER_TARGET, the target where none is given; PARTITIONER_STATE, the folder in which what runs on
this machine is remembered; PARTITIONER_SIM_DELAY_S, what each step of a simulated fleet takes [s]; PARTITIONER_SIM_FAIL_AT, the
number of the step that fails there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.nvml import NvmlTarget
    from partitioner.targets import SimulatedTarget, Target

VARIABLE = "PARTITIONER_TARGET"
STATE = "PARTITIONER_STATE"
DELAY = "PARTITIONER_SIM_DELAY_S"
FAULT = "PARTITIONER_SIM_FAIL_AT"
FORMS = "nvml for the GPUs of this machine, or sim:FILE for a simulated fleet, e.g. sim:fleet.yaml"

TargetName = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        show_default=False,
        help=f"nvml: the GPUs of this machine (nvml:NAME where plans call it NAME); sim:FILE: the fleet in FILE, simulated."
        f" Default: the variable {VARIABLE}.",
    ),
]


def target_named(name: str | None) -> str:
    """Return the target that was named, or the one of the environment.

    Raises
    ------
    SpecError
        None was named.
    """
    found = name or os.environ.get(VARIABLE)
    if not found:
        raise SpecError(f"no target given; give --target, or set {VARIABLE}: {FORMS}")
    return found


def is_hardware(name: str) -> bool:
    """Whether a target of this name is this machine."""
    return name.partition(":")[0] == "nvml"


@contextmanager
def opened(name: str | None, *, drain_timeout_s: float = 0.0) -> Iterator[Target]:
    """Open a target, and close it afterwards.

    Parameters
    ----------
    name : as given with ``--target``; None takes that of the environment.
    drain_timeout_s : how long steps wait for processes to end [s]; a simulated fleet has none.

    Raises
    ------
    SpecError
        No target has this name, or the fleet's file is not valid.
    TargetError
        The driver does not answer, or what was kept of the simulated fleet is damaged.
    """
    name = target_named(name)
    kind, colon, rest = name.partition(":")
    if kind == "sim" and rest:
        yield _simulated(rest)
    elif kind == "nvml" and (rest or not colon):
        with _hardware(rest or None, drain_timeout_s) as target:
            yield target
    else:
        raise SpecError(f"target {name!r} is none; write {FORMS}")


def _hardware(host: str | None, drain_timeout_s: float) -> NvmlTarget:
    from partitioner.nvml import NvmlTarget
    from partitioner.targets import StateFolder

    folder = os.environ.get(STATE)
    return NvmlTarget(host=host, drain_timeout_s=drain_timeout_s, state=StateFolder(folder) if folder else None)


def _simulated(path: str) -> SimulatedTarget:
    """Return a simulated fleet; delays and a fault come from the environment, to try out what happens then."""
    from partitioner.targets import SimulatedTarget

    if not os.path.lexists(path):
        raise SpecError(
            f"{path}: no such file; to begin with, write into it hosts: {{esx-01: [{{model: A100-80GB, count: 2}}]}} - all that"
            " it may say is in `partitioner schema fleet`"
        )
    at = _number(FAULT)
    if at is not None and not at.is_integer():
        raise SpecError(f"environment variable {FAULT} is {os.environ[FAULT]!r}, not the number of a step")
    return SimulatedTarget.open(path, delay_s=_number(DELAY) or 0.0, fail_at=None if at is None else int(at))


def _number(variable: str) -> float | None:
    text = os.environ.get(variable)
    try:
        return float(text) if text else None
    except ValueError as error:
        raise SpecError(f"environment variable {variable} is {text!r}, not a number") from error
