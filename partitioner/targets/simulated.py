"""A fleet that exists in memory, or in a folder, and obeys the rules of hardware; with faults and delays on demand.

It is a product, not a test double: the command line changes it by default. Must not know drivers or `apply`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from partitioner import catalog
from partitioner.changes.state import State
from partitioner.changes.step import Step
from partitioner.errors import SpecError, TargetError
from partitioner.fleet import Fleet, Gpu, read_fleet
from partitioner.layout import GpuLayout, Layout, Slot, gpu_label
from partitioner.targets.begun import begun
from partitioner.targets.saved import SavedLayout
from partitioner.targets.state import StateFolder

Way = Literal["before", "half", "after", "nothing", "hang"]
_WAYS = ("before", "half", "after", "nothing", "hang")


@dataclass(frozen=True, slots=True)
class Fault:
    """A step that goes wrong.

    Parameters
    ----------
    at : number of the call of `perform`, from 1, or which steps.
    way : ``before``: refused, nothing done; ``half``: begun, then refused (a GPU instance without its compute instance);
        ``after``: done, and answered with an error; ``nothing``: answered with success, and nothing done; ``hang``: no
        answer within the target's delay, nothing done.

    Raises
    ------
    SpecError
        The number is not positive, or there is no such way.
    """

    at: int | Callable[[Step], bool]
    way: Way = "before"

    def __post_init__(self) -> None:
        if self.way not in _WAYS:
            raise SpecError(f"Fault: way is {self.way!r}; ways are {', '.join(_WAYS)}")
        if not callable(self.at) and (isinstance(self.at, bool) or not isinstance(self.at, int) or self.at < 1):
            raise SpecError(f"Fault: at is {self.at!r}, not the number of a step from 1, nor a function of a step")

    def hits(self, call: int, step: Step) -> bool:
        """Whether the step of this call goes wrong."""
        return self.at(step) if callable(self.at) else self.at == call


class SimulatedTarget:
    """A fleet to try changes on; every step is held to the rules of the GPU.

    Parameters
    ----------
    fleet : its hosts and GPUs, or what `read_fleet` takes.
    layout : what is on the GPUs; those it does not name are as the fleet says: in their mode (``whole`` where it says
        none), with their instances, and nobody in them. None: all as the fleet says, or as `state` has it.
    fail_at : number of the call of `perform` that fails, from 1, or a function that says of a step whether it fails, or a
        `Fault` for other ways to fail.
    delay_s : what each step takes [s].
    state : a folder where the layout is kept from one process to the next, and where `apply` keeps its lock and journal.

    Raises
    ------
    SpecError
        The fleet is not valid, or the layout is not one of this fleet.
    TargetError
        What is kept in the folder is damaged or of another fleet.

    Examples
    --------
    >>> target = SimulatedTarget(Fleet.of("A100-80GB", gpus_per_host=1, mode="mig"))
    >>> target.perform(Step("create", "host-0", 0, "A100-80GB", "mig", "3g.40gb", 4))
    >>> target.layout().gpu(0).slots[0].start
    4
    """

    def __init__(
        self,
        fleet: object,
        layout: Layout | None = None,
        fail_at: int | Callable[[Step], bool] | Fault | None = None,
        delay_s: float = 0.0,
        *,
        state: StateFolder | None = None,
    ) -> None:
        if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not 0 <= delay_s <= _MOST_SECONDS:
            raise SpecError(f"SimulatedTarget: delay_s is {delay_s!r}, not a number of seconds from 0 to {_MOST_SECONDS:,}")
        self.state = state
        self.delay_s = float(delay_s)
        self.fault = fail_at if fail_at is None or isinstance(fail_at, Fault) else Fault(fail_at)
        self.calls = 0
        self._name = "simulated fleet"
        self._fleet = read_fleet(fleet)
        first = _first_layout(self._fleet)
        self._saved = None if state is None else SavedLayout(state.path / "layout.jsonl", first)
        self._gpus = State(first if layout is None else _overlaid(first, layout))
        if self._saved is not None and layout is not None:
            self._saved.replace(self._gpus.layout())

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, fail_at: Fault | int | None = None, delay_s: float = 0.0) -> SimulatedTarget:
        """Return the fleet of a file, going on from what was done to it before.

        Parameters
        ----------
        path : a fleet as YAML or JSON; what is done to it is kept beside it, in the folder ``<path>.state``.
        fail_at, delay_s : as of the constructor.

        Raises
        ------
        SpecError
            The file is not a fleet.
        TargetError
            What is kept beside it is damaged, or the file was changed so that it is another fleet now.
        """
        target = cls(read_fleet(os.fspath(path)), None, fail_at, delay_s, state=StateFolder(f"{os.fspath(path)}.state"))
        target._name = f"sim:{os.fspath(path)}"
        target.layout()
        return target

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<SimulatedTarget {self._name} of {len(self._fleet)} GPUs>"

    def fleet(self) -> Fleet:
        """Return the fleet as it was given."""
        return self._fleet

    def layout(self) -> Layout:
        """Return what is on each GPU now, in the order of the fleet.

        Raises
        ------
        TargetError
            What is kept in the folder is damaged or of another fleet.
        """
        self._refresh()
        return self._gpus.layout()

    def perform(self, step: Step) -> None:
        """Carry one step out, as the rules of the GPU allow; a step begun before is finished.

        Raises
        ------
        TargetError
            The step is not legal now, a fault was asked for, or the layout cannot be saved; then nothing was done, unless
            the fault says otherwise.
        """
        self._refresh()
        self.calls += 1
        way = self.fault.way if self.fault is not None and self.fault.hits(self.calls, step) else None
        if self.delay_s:
            time.sleep(self.delay_s)
        if way in ("before", "hang"):
            said = f"no answer within {self.delay_s:g} s" if way == "hang" else "refused, as asked for"
            raise TargetError(f"{step.label} ({step.model}): {step.kind}: {said}")
        if way == "nothing":
            return
        if way == "half":
            self._begin(step)
            raise TargetError(f"{step.label} ({step.model}): {step.kind}: stopped half way, as asked for")
        self._carry_out(step)
        if way == "after":
            raise TargetError(f"{step.label} ({step.model}): {step.kind}: an error, as asked for, although done")

    def _carry_out(self, step: Step) -> None:
        touched = [(step.host, step.gpu)] if step.source is None else [(step.host, step.gpu), (step.source.host, step.source.gpu)]
        before = [self._gpus.gpu(key) for key in dict.fromkeys(touched)]
        self._gpus.perform(step)
        after = [self._gpus.gpu((gpu.host, gpu.gpu)) for gpu in before]
        self._save(after, before)

    def _begin(self, step: Step) -> None:
        before = self._gpus.gpu((step.host, step.gpu))
        half = begun(before, step)
        if half is not None:
            self._replace([half])
            self._save([half], [before])

    def _replace(self, gpus: list[GpuLayout]) -> None:
        put = {(gpu.host, gpu.gpu): gpu for gpu in gpus}
        self._gpus = State(put.get((gpu.host, gpu.gpu), gpu) for gpu in self._gpus.layout())

    def _save(self, after: list[GpuLayout], before: list[GpuLayout]) -> None:
        if self._saved is None:
            return
        try:
            self._saved.add(after, self._gpus.layout)
        except TargetError:
            self._replace(before)
            raise

    def _refresh(self) -> None:
        """Take over what another process did to the saved layout."""
        layout = None if self._saved is None else self._saved.read_if_changed()
        if layout is not None:
            self._gpus = State(layout)


_MOST_SECONDS = 3600


def _first_layout(fleet: Fleet) -> Layout:
    return Layout.of(_first(host, index, gpu) for host, index, gpu in fleet)


def _first(host: str, index: int, gpu: Gpu) -> GpuLayout:
    """Return a GPU as a fleet describes it; hardware that was never set up is there as a whole."""
    mode = gpu.mode or ("whole" if "whole" in catalog.gpu(gpu.model).modes else None)
    written = [instance.rpartition("@") for instance in gpu.instances]
    return GpuLayout(host, index, gpu.model, mode, tuple(Slot(profile, int(start)) for profile, _, start in written))


def _overlaid(first: Layout, layout: Layout) -> list[GpuLayout]:
    put = {(gpu.host, gpu.gpu): gpu for gpu in layout}
    models = {(gpu.host, gpu.gpu): gpu.model for gpu in first}
    for key, gpu in put.items():
        model = models.get(key)
        if model is None:
            raise SpecError(f"SimulatedTarget: the layout has {gpu_label(*key)}, which the fleet has not")
        if model != gpu.model:
            raise SpecError(f"SimulatedTarget: {gpu_label(*key)} is a {gpu.model} in the layout and a {model} in the fleet")
    return [put.get((gpu.host, gpu.gpu), gpu) for gpu in first]
