"""The GPUs of this machine as a target: read through NVML, changed one step at a time, each step finished when repeated.

Before it acts it looks: the GPU is the one that was read, the driver offers the profile there, nothing that runs is hit.
Nothing is ever killed. After it acted it looks again, because drivers have claimed success where nothing was created.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from types import TracebackType

from partitioner.changes.step import Place, Step
from partitioner.errors import TargetError
from partitioner.fleet import Fleet
from partitioner.layout import GpuLayout, Layout, gpu_label
from partitioner.nvml import instances, ledger
from partitioner.nvml.folders import default_state
from partitioner.nvml.layouts import WHOLE, fleet_of, gpu_layout, identifiers_of, layout_of
from partitioner.nvml.library import Library
from partitioner.nvml.mode import change_mode
from partitioner.nvml.models import model_of, profile_names
from partitioner.nvml.reading import handle_of, read_gpu, read_host
from partitioner.nvml.values import GpuReading, OfferedProfile, Process, Reading
from partitioner.nvml.waiting import Watch, obstacles
from partitioner.targets import StateFolder


class NvmlTarget:
    """The GPUs of this machine. Close it, or use it in ``with``.

    Parameters
    ----------
    host : name of this machine in layouts; None takes the machine's own.
    timeout_s : longest wait for one call into the driver and for one reset [s].
    drain_timeout_s : how long to wait for processes to end before a step that needs them gone is refused [s].
    state : where the ledger of replicas is kept; None takes the folder of the system or of the user.

    Raises
    ------
    TargetError
        pynvml or the driver is missing, not loaded, or of mixed versions.

    Examples
    --------
    ``with NvmlTarget() as target: print(target.layout())``
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        timeout_s: float = 60.0,
        drain_timeout_s: float = 0.0,
        state: StateFolder | None = None,
    ) -> None:
        self.host = socket.gethostname() if host is None else host
        self.drain_timeout_s = drain_timeout_s
        self.state = default_state() if state is None else state
        self._profiles: dict[str, tuple[OfferedProfile, ...]] = {}
        self._uuids: dict[int, str] = {}
        self._library = Library(timeout_s=timeout_s, host=self.host)

    def __str__(self) -> str:
        return f"NVML on {self.host}"

    def __enter__(self) -> NvmlTarget:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Shut NVML down.

        Raises
        ------
        TargetError
            The driver refused.
        """
        self._library.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    def status(self) -> Reading:
        """Return all that the driver says of the GPUs; of one that does not answer, why.

        Raises
        ------
        TargetError
            The driver does not answer.
        """
        reading = read_host(self._library, self._profiles)
        self._uuids = {gpu.index: gpu.uuid for gpu in reading.gpus if gpu.uuid is not None}
        return reading

    def fleet(self) -> Fleet:
        """Return this host with its GPUs in the order of NVML.

        Instances with processes of which the ledger knows no occupant stand in `Gpu.instances`, so that planners work
        around them. A GPU that does not answer keeps its index and is taken as a whole.

        Raises
        ------
        TargetError
            There is no GPU, or the instances of one cannot be read (it takes root).
        """
        return fleet_of(self.status(), self.state.assignments.read())

    def layout(self) -> Layout:
        """Return what is on each GPU, with the occupants that the ledger knows.

        Raises
        ------
        TargetError
            The instances of a GPU cannot be read (it takes root), or the ledger is damaged.
        """
        return layout_of(self.status(), self.state.assignments.read())

    def identifiers(self) -> dict[Place, str]:
        """Return what CUDA_VISIBLE_DEVICES takes for each instance: ``MIG-...``, of a whole GPU ``GPU-...``.

        Raises
        ------
        TargetError
            The instances of a GPU cannot be read.
        """
        return identifiers_of(self.status(), self.state.assignments.read())

    def in_the_way(self, steps: Iterable[Step]) -> dict[Place | str, tuple[Process, ...]]:
        """Return what steps need free and processes use now: instances and GPUs, by their names, with those processes.

        Raises
        ------
        TargetError
            The driver does not answer, or the processes of a GPU cannot be read.
        """
        return obstacles(self.status().gpus, self.host, steps)

    # -- doing -----------------------------------------------------------------------------------------------------

    def perform(self, step: Step) -> None:
        """Carry one step out; it is done when this returns, and finished where it was begun before.

        Raises
        ------
        InUseError
            Processes run where the step would interrupt them; names them.
        TargetError
            The step is for another host or GPU, is not legal now, or the driver refused.
        """
        if step.kind == "keep":
            return
        reading, gpu = self._look(step)
        if step.kind == "mode":
            self._change_mode(step, reading, gpu)
            return
        if gpu.mode != step.mode:
            raise TargetError(f"{step.label} ({gpu.model}): is in mode {gpu.mode}; {step.kind} needs mode {step.mode}")
        place = step.place
        if place is None:
            raise TargetError(f"{step.label} ({gpu.model}): {step.kind} names no instance; it needs profile and start")
        match step.kind:
            case "create":
                self._create(step, reading, gpu, place)
            case "destroy":
                self._destroy(step, reading, gpu, place)
            case "start":
                ledger.start(self.state.assignments, step, gpu, place)
            case "drain":
                self._drain(step, reading, gpu, place)
            case "move":
                self._move(step, gpu, place)

    # -- looking before ------------------------------------------------------------------------------------------

    def _look(self, step: Step) -> tuple[GpuReading, GpuLayout]:
        """Read the GPU of a step anew and make sure that it is the right one."""
        reading = self._read(step.host, step.gpu)
        gpu = gpu_layout(self.host, reading, self.state.assignments.read())
        if not reading.reachable:
            raise TargetError(reading.problem or f"{step.label}: does not answer; reset it or reboot the host")
        if gpu.model != step.model:
            raise TargetError(f"{step.label}: is a {gpu.model}; the step was made for {step.model}; diff again")
        return reading, gpu

    def _read(self, host: str | None, index: int) -> GpuReading:
        if host != self.host:
            raise TargetError(f"{gpu_label(host, index)}: the step is for host {host!r}, this is {self.host!r}; apply it there")
        count = int(self._library.call("nvmlDeviceGetCount"))
        if not 0 <= index < count:
            raise TargetError(f"{gpu_label(host, index)}: no such GPU; the host has {count}, check `nvidia-smi -L`")
        reading = read_gpu(self._library, index, self._profiles)
        if reading.uuid is not None:
            was = self._uuids.setdefault(index, reading.uuid)
            if was != reading.uuid:
                raise TargetError(
                    f"{gpu_label(host, index)}: is {reading.uuid} now and was {was}; indices have moved, diff again"
                )
        return reading

    def _offered(self, step: Step, reading: GpuReading) -> OfferedProfile:
        """Return the driver's profile that a step means, where it may start there."""
        names = profile_names(reading, model_of(reading))
        for offered in reading.profiles:
            if names.get(offered.profile_id) == step.profile:
                if offered.places is not None and step.start not in offered.starts:
                    legal = ", ".join(map(str, offered.starts))
                    raise TargetError(
                        f"{step.label}: profile {step.profile!r} cannot start at {step.start}; legal starts are {legal}"
                    )
                return offered
        known = ", ".join(names.values()) or "none"
        raise TargetError(f"{step.label}: the driver does not offer profile {step.profile!r} on this GPU; it offers {known}")

    def _watch(self, step: Step) -> Watch:
        return Watch(step, lambda: self._read(step.host, step.gpu), self.drain_timeout_s)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _create(self, step: Step, reading: GpuReading, gpu: GpuLayout, place: Place) -> None:
        slot = ledger.slot_at(gpu, place)
        if step.mode == WHOLE:
            entry = ledger.entry(gpu, place)
            if entry not in self.state.assignments.read():
                self._watch(step).until_idle(reading)
                self.state.assignments.update({entry: None})
            return
        offered = self._offered(step, reading)
        if slot is None:  # what the ledger says of an instance that was here once is not true of the new one
            self.state.assignments.update({}, drop=[ledger.entry(gpu, place)])
        library, who = self._library, step.label

        def act() -> None:
            device = handle_of(library, reading.index, reading.uuid or "", who=who)
            instances.create(library, device, reading.profiles, offered, place.start, who=who)

        self._watch(step).perform(lambda: library.run(act))

    def _destroy(self, step: Step, reading: GpuReading, gpu: GpuLayout, place: Place) -> None:
        slot = ledger.slot_at(gpu, place)
        if slot is not None and slot.workload is not None:
            raise TargetError(f"{place}: is held by {slot.workload}/{slot.replica}; drain it first")
        watch = self._watch(step)
        if slot is not None:
            watch.until_idle(reading)
        if slot is not None and step.mode != WHOLE:
            offered = self._offered(step, reading)
            library, who = self._library, step.label

            def act() -> None:
                device = handle_of(library, reading.index, reading.uuid or "", who=who)
                instances.destroy(library, device, offered, place.start, who=who)

            watch.perform(lambda: library.run(act))
        self.state.assignments.update({}, drop=[ledger.entry(gpu, place)])

    def _drain(self, step: Step, reading: GpuReading, gpu: GpuLayout, place: Place) -> None:
        slot = ledger.slot_at(gpu, place)
        if slot is not None and slot.workload is not None:
            self._watch(step).until_idle(reading)
        ledger.drain(self.state.assignments, step, gpu, place)

    def _move(self, step: Step, gpu: GpuLayout, place: Place) -> None:
        source = step.source
        if source is None:
            raise TargetError(f"{step.label}: move of {step.who} names no source; it needs the instance that is left")
        if source == place:
            raise TargetError(f"{place}: {step.who} is there already; a move needs another instance")
        origin = gpu_layout(self.host, self._read(source.host, source.gpu), self.state.assignments.read())
        ledger.move(self.state.assignments, step, origin, gpu, place)

    def _change_mode(self, step: Step, reading: GpuReading, gpu: GpuLayout) -> None:
        who, mig, uuid = f"{step.label} ({gpu.model})", step.mode == "mig", reading.uuid or ""
        if step.mode not in ("mig", WHOLE):
            raise TargetError(f"{who}: mode {step.mode} is not set through this driver; NVML switches between mig and whole")

        def act() -> None:
            change_mode(self._library, reading.index, uuid, mig=mig, who=step.label)

        if bool(reading.mig) == mig:  # at most another mode is pending, which is taken back and interrupts nobody
            if reading.mig_pending not in (None, mig):
                act()
            return
        entries = [entry for entry in self.state.assignments.read() if entry.gpu == uuid]
        held = not reading.mig and ledger.entry(gpu, Place(self.host, gpu.gpu, WHOLE, 0)) in entries
        if gpu.slots and (reading.mig or held):  # else it counts as taken for the processes on it, which are named below
            there = ", ".join(f"{slot.profile}@{slot.start}" for slot in gpu.slots)
            raise TargetError(f"{who}: cannot change to mode {step.mode} with {there} on it; destroy first")
        watch = self._watch(step)
        watch.until_idle(reading)
        self.state.assignments.update({}, drop=entries)  # of instances that are no more
        watch.perform(act)
        self._profiles.pop(uuid, None)
