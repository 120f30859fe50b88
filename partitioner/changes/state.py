"""A layout that steps are carried out on, one at a time. Knows the rules of every step, not why steps are taken."""

from __future__ import annotations

from collections.abc import Iterable

from partitioner import catalog
from partitioner.changes.step import Place, Step
from partitioner.errors import SpecError, TargetError
from partitioner.layout import GpuKey, GpuLayout, Layout, Slot, gpu_label


class State:
    """A legal layout that changes by legal steps.

    Parameters
    ----------
    layout : where it begins.

    Examples
    --------
    >>> from partitioner.layout import GpuLayout, Layout
    >>> state = State(Layout.of([GpuLayout("esx-01", 0, "A100-80GB", "mig")]))
    >>> state.perform(Step("create", "esx-01", 0, "A100-80GB", "mig", "3g.40gb", 4))
    >>> [str(slot.start) for slot in state.gpu(("esx-01", 0)).slots]
    ['4']
    """

    def __init__(self, layout: Layout | Iterable[GpuLayout]) -> None:
        self._gpus: dict[GpuKey, GpuLayout] = {(gpu.host, gpu.gpu): gpu for gpu in layout}

    def gpu(self, key: GpuKey) -> GpuLayout:
        """Return one GPU as it is now.

        Raises
        ------
        TargetError
            There is no such GPU.
        """
        found = self._gpus.get(key)
        if found is None:
            known = ", ".join(gpu_label(*key) for key in list(self._gpus)[:8])
            raise TargetError(f"{gpu_label(*key)}: no such GPU here; there are {known or 'none'}")
        return found

    def layout(self) -> Layout:
        """Return the layout as it is now."""
        return Layout.of(self._gpus.values())

    def perform(self, step: Step) -> None:
        """Carry out one step.

        Raises
        ------
        TargetError
            The step is not legal now; nothing was changed.
        """
        gpu = self.gpu((step.host, step.gpu))
        if gpu.model != step.model:
            raise TargetError(f"{step.label}: is of model {gpu.model}; the step was made for {step.model}")
        if step.kind == "mode":
            self._put(gpu, self._in_mode(gpu, step), ())
            return
        if gpu.mode != step.mode:
            raise TargetError(f"{step.label} ({gpu.model}): is in mode {gpu.mode or 'unset'}; {step.kind} needs {step.mode}")
        match step.kind:
            case "create":
                self._put(gpu, gpu.mode, self._with_created(gpu, step))
            case "destroy":
                self._destroy(gpu, step)
            case "start":
                self._occupy(step)
            case "drain":
                self._vacate(self._held(gpu, step, step.profile, step.start), gpu)
            case "move":
                self._move(step)
            case "keep":
                self._slot(gpu, step.profile, step.start)

    # -- what each step does ---------------------------------------------------------------------------------------

    def _put(self, gpu: GpuLayout, mode: str | None, slots: Iterable[Slot]) -> None:
        ordered = tuple(sorted(slots, key=lambda slot: slot.start))
        self._gpus[gpu.host, gpu.gpu] = GpuLayout(gpu.host, gpu.gpu, gpu.model, mode, ordered, gpu.uuid)

    def _in_mode(self, gpu: GpuLayout, step: Step) -> str:
        if gpu.slots:
            there = ", ".join(f"{slot.profile}@{slot.start}" for slot in gpu.slots)
            raise TargetError(f"{step.label} ({gpu.model}): cannot change to mode {step.mode} with {there} on it; destroy first")
        try:
            return catalog.gpu(gpu.model).geometry(step.mode).mode
        except SpecError as error:
            raise TargetError(f"{step.label}: {error}") from error

    def _with_created(self, gpu: GpuLayout, step: Step) -> list[Slot]:
        assert step.profile is not None
        assert step.start is not None
        slots = [slot for slot in gpu.slots if (slot.profile, slot.start) != (step.profile, step.start) or slot.ready]
        geometry = catalog.gpu(gpu.model).geometry(step.mode)
        created = Slot(step.profile, step.start)
        reason = geometry.violation([(slot.profile, slot.start) for slot in (*slots, created)])
        if reason is not None:
            raise TargetError(f"{step.label} ({gpu.model}): {reason}")
        return [*slots, created]

    def _destroy(self, gpu: GpuLayout, step: Step) -> None:
        gone = self._slot(gpu, step.profile, step.start)
        if gone.workload is not None:
            holder = f"{gone.workload}/{gone.replica}"
            raise TargetError(f"{step.label} ({gpu.model}): {step.profile}@{step.start} is held by {holder}; drain it first")
        self._put(gpu, gpu.mode, (slot for slot in gpu.slots if slot is not gone))

    def _occupy(self, step: Step) -> None:
        gpu = self.gpu((step.host, step.gpu))
        free = self._slot(gpu, step.profile, step.start)
        where = f"{step.label} ({gpu.model}): {step.profile}@{step.start}"
        if free.workload is not None:
            raise TargetError(f"{where} is held by {free.workload}/{free.replica}; {step.who} finds no room there")
        if free.busy:
            raise TargetError(f"{where} is used by somebody else; {step.who} cannot start there")
        if not free.ready:
            raise TargetError(f"{where} is not finished, its compute instance is missing; {step.who} cannot start there")
        taken = Slot(free.profile, free.start, step.workload, step.replica)
        self._put(gpu, gpu.mode, (taken if slot is free else slot for slot in gpu.slots))

    def _vacate(self, held: Slot, gpu: GpuLayout) -> None:
        freed = Slot(held.profile, held.start)
        self._put(gpu, gpu.mode, (freed if slot is held else slot for slot in gpu.slots))

    def _move(self, step: Step) -> None:
        assert step.source is not None
        source = step.source
        origin = self.gpu((source.host, source.gpu))
        self._held(origin, step, source.profile, source.start)
        if source == step.place:
            raise TargetError(f"{step.label} ({step.model}): {step.who} is on {step.profile}@{step.start} already")
        self._occupy(step)
        origin = self.gpu((source.host, source.gpu))  # read again: it may be the GPU that the replica moved to
        self._vacate(self._held(origin, step, source.profile, source.start), origin)

    # -- what there is ---------------------------------------------------------------------------------------------

    def _slot(self, gpu: GpuLayout, profile: str | None, start: int | None) -> Slot:
        for slot in gpu.slots:
            if (slot.profile, slot.start) == (profile, start):
                return slot
        there = ", ".join(f"{slot.profile}@{slot.start}" for slot in gpu.slots) or "none"
        raise TargetError(f"{gpu_label(gpu.host, gpu.gpu)} ({gpu.model}): no instance {profile}@{start}; there is {there}")

    def _held(self, gpu: GpuLayout, step: Step, profile: str | None, start: int | None) -> Slot:
        slot = self._slot(gpu, profile, start)
        if (slot.workload, slot.replica) != (step.workload, step.replica):
            holder = "nobody" if slot.workload is None else f"{slot.workload}/{slot.replica}"
            place = Place(gpu.host, gpu.gpu, slot.profile, slot.start)
            raise TargetError(f"{place}: is held by {holder}, not by {step.who}")
        return slot
