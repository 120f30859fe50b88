"""The order of steps: every one legal when its turn comes, as few interruptions as can be found.

What can be done without interrupting anyone is done first. When nothing more can, the replicas that are left wait for each
other's places in a circle. One of them is moved to a spare instance, or, where there is none, drained until its new
place is there. Must not know files or targets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import takewhile

from partitioner import catalog
from partitioner.changes.gpus import At, GpuChange, Journeys, Who
from partitioner.changes.spare import Spares
from partitioner.changes.step import Place, Restart, Step
from partitioner.errors import InfeasibleError
from partitioner.layout import GpuKey

_Instance = tuple[GpuKey, At]


def restart_of(model: str, before: str | None, after: str) -> Restart | None:
    """Return what a change of mode takes besides, where an instance of the mode is not all that it touches.

    Notes
    -----
    Turning MIG on or off resets Ampere GPUs (A100, A30); Hopper and later need no reset (NVIDIA MIG User Guide, "Enable
    MIG Mode").
    """
    if "mig" in (before, after) and catalog.gpu(model).record.architecture == "Ampere":
        return "gpu reset"
    return None


class Sequencer:
    """Puts steps in order, keeping account of what each leaves behind.

    Parameters
    ----------
    gpus : the GPUs that change; those that lend a spare instance are added.
    routes : who goes where.
    spares : finds instances where a replica can wait.
    max_interruptions : most replicas that may be interrupted at one time; None for any number.
    """

    def __init__(self, gpus: dict[GpuKey, GpuChange], routes: Journeys, spares: Spares, max_interruptions: int | None) -> None:
        self.steps: list[Step] = []
        self.peak = 0
        self._gpus = gpus
        self._comes_from = {end: begin for end, begin in routes.comes_from.items() if begin is not None}
        self._waiting = deque(self._comes_from)
        self._goes_to = {begin: end for begin, end in routes.goes_to.items() if end is not None}
        self._leavers = [begin for begin, end in routes.goes_to.items() if end is None]
        self._spares = spares
        self._most = max_interruptions
        self._down: dict[_Instance, _Instance] = {}  # where an interrupted piece goes, to where it came from
        self._parked: set[_Instance] = set()  # each piece waits in a spare instance once, so that this comes to an end
        self._path: list[_Instance] = []
        self._dirty: deque[GpuKey] = deque(gpus)
        self._queued = set(gpus)

    def run(self) -> list[Step]:
        """Return all steps.

        Raises
        ------
        InfeasibleError
            More replicas would have to be interrupted at one time than may be.
        """
        self._keep()
        self._drain_leavers()
        while True:
            while self._dirty:
                key = self._dirty.popleft()
                self._queued.discard(key)
                self._advance(self._gpus[key])
            stuck = self._stuck()
            if stuck is None:
                return self.steps
            self._break(stuck)

    # -- what needs no room ----------------------------------------------------------------------------------------

    def _keep(self) -> None:
        for gpu in self._gpus.values():
            for at, who in gpu.present.items():
                if at not in gpu.doomed and at not in gpu.unready:
                    self._add("keep", gpu, at, who if gpu.wanted[at] == who else None)

    def _drain_leavers(self) -> None:
        for key, at in self._leavers:
            gpu = self._gpus[key]
            self._add("drain", gpu, at, gpu.present[at], reason="not in the goal")
            gpu.present[at] = None

    def _advance(self, gpu: GpuChange) -> None:
        """Do all that this GPU's present state allows."""
        if gpu.doomed:
            self._destroy(gpu)
        if gpu.mode != gpu.goal_mode and not gpu.present:
            self._change_mode(gpu)
        if gpu.pending and gpu.mode == gpu.goal_mode:
            self._create(gpu)
        if gpu.mode == gpu.goal_mode:
            for at, who in gpu.wanted.items():
                if who is not None and at not in gpu.pending and gpu.present.get(at) is None:
                    self._fill(gpu, at, who)

    def _destroy(self, gpu: GpuChange) -> None:
        for at in sorted(gpu.doomed, key=lambda at: at[1]):
            if gpu.present[at] is None:
                if at in gpu.spare:
                    reason = "spare place, not needed any longer"
                else:
                    reason = "not in the goal" if gpu.mode == gpu.goal_mode else f"the GPU changes to mode {gpu.goal_mode}"
                self._add("destroy", gpu, at, reason=reason)
                del gpu.present[at]
                gpu.doomed.discard(at)
                gpu.spare.discard(at)
                gpu.unready.discard(at)
                self._spares.freed(gpu)

    def _change_mode(self, gpu: GpuChange) -> None:
        assert gpu.goal_mode is not None
        waiting = dict.fromkeys(f"{who[0]}/{who[1]}" for who in map(self._who_waits, self._waiting_since(gpu)))
        restart = restart_of(gpu.model, gpu.mode, gpu.goal_mode)
        host, index = gpu.key
        self.steps.append(
            Step(
                "mode",
                host,
                index,
                gpu.model,
                gpu.goal_mode,
                before=gpu.mode or "unset",
                restart=restart,
                interrupts=tuple(waiting),
                reason="the goal uses this mode",
            )
        )
        gpu.mode = gpu.goal_mode

    def _waiting_since(self, gpu: GpuChange) -> Iterator[_Instance]:
        return (end for end, begin in self._down.items() if begin[0] == gpu.key)

    def _who_waits(self, end: _Instance) -> Who:
        who = self._gpus[end[0]].wanted[end[1]]
        assert who is not None
        return who

    def _create(self, gpu: GpuChange) -> None:
        crowded = bool(gpu.doomed)  # else nothing is there that does not belong to the goal, beside which all of it fits
        for at in list(gpu.pending):
            if crowded and not self._fits(gpu, at):
                continue
            unfinished = at in gpu.unready
            self._add("create", gpu, at, reason="its compute instance is missing" if unfinished else "")
            gpu.present[at] = None
            gpu.unready.discard(at)
            gpu.doomed.discard(at)
            del gpu.pending[at]

    def _fits(self, gpu: GpuChange, at: At) -> bool:
        if any(other != at for other in gpu.in_the_way(at)):
            return False
        there = [other for other in gpu.present if other != at]
        return gpu.geometry.violation([*there, at]) is None

    def _fill(self, gpu: GpuChange, at: At, who: Who) -> None:
        """Let a replica into its instance of the end, where it can come already."""
        end = (gpu.key, at)
        begin = self._comes_from.pop(end, None)
        if end in self._down:
            del self._down[end]
            self._add("start", gpu, at, who, reason="runs again")
        elif begin is None:
            self._add("start", gpu, at, who)
        else:
            self._move(who, begin, end)
            return
        gpu.present[at] = who

    def _move(self, who: Who, begin: _Instance, end: _Instance, reason: str = "") -> None:
        origin, goal = self._gpus[begin[0]], self._gpus[end[0]]
        host, index = begin[0]
        self._add("move", goal, end[1], who, source=Place(host, index, *begin[1]), reason=reason)
        goal.present[end[1]] = who
        origin.present[begin[1]] = None
        self._goes_to.pop(begin, None)
        self._touch(origin.key)

    # -- circles ---------------------------------------------------------------------------------------------------

    def _stuck(self) -> _Instance | None:
        """Return the place that somebody waits for, the interrupted first; None where nobody does."""
        for end in self._down:
            return end
        while self._waiting and self._waiting[0] not in self._comes_from:
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _break(self, end: _Instance) -> None:
        """Move one replica of a circle out of the way, or interrupt it."""
        circle = self._circle(end)
        for begin in circle:
            if self._park(begin):
                return
        down = {self._who_waits(end) for end in self._down}
        begin = min(circle, key=lambda at: self._gpus[at[0]].geometry.profile(at[1][0]).extent)
        gpu = self._gpus[begin[0]]
        who = gpu.present[begin[1]]
        assert who is not None
        down.add(who)
        if self._most is not None and len(down) > self._most:
            names = ", ".join(sorted(f"{name}/{number}" for name, number in down))
            raise InfeasibleError(
                f"no order of steps was found that interrupts at most {self._most} at a time: {names} would be;"
                " allow more interruptions, or leave room for a spare instance"
            )
        self.peak = max(self.peak, len(down))
        onward = self._goes_to.pop(begin)
        reason = f"no spare {begin[1][0]} is free while its place makes room"
        self._add("drain", gpu, begin[1], who, interrupted=True, reason=reason)
        gpu.present[begin[1]] = None
        del self._comes_from[onward]
        self._down[onward] = begin
        self._touch(gpu.key)

    def _circle(self, end: _Instance) -> list[_Instance]:
        """Return instances whose replicas wait for each other in a circle, following who is in the way of whom.

        The way to the last circle is gone on from as far as its replicas still wait.
        """
        path = list(takewhile(self._goes_to.__contains__, self._path)) if not self._down else []
        end = self._goes_to[path[-1]] if path else end
        order = {begin: position for position, begin in enumerate(path)}
        while True:
            begin = self._in_the_way(end)
            if begin in order:
                self._path = path
                return path[order[begin] :]
            order[begin] = len(path)
            path.append(begin)
            end = self._goes_to[begin]

    def _in_the_way(self, end: _Instance) -> _Instance:
        """Return an instance whose replica keeps another one from its place."""
        gpu, at = self._gpus[end[0]], end[1]
        if gpu.mode == gpu.goal_mode:
            if at in gpu.present and at not in gpu.pending:
                return gpu.key, at
            for other in gpu.in_the_way(at):
                if (gpu.key, other) in self._goes_to:
                    return gpu.key, other
        return gpu.key, next(other for other in gpu.present if (gpu.key, other) in self._goes_to)

    def _park(self, begin: _Instance) -> bool:
        """Move a replica to a spare instance; False where there is none."""
        gpu = self._gpus[begin[0]]
        who, end = gpu.present[begin[1]], self._goes_to[begin]
        if who is None or end in self._parked:
            return False
        found = self._spares.find(gpu, begin[1][0])
        if found is None:
            return False
        host, at, exists = found
        self._parked.add(end)
        reason = f"spare place for {who[0]}/{who[1]} until its own is free"
        if not exists:
            self._add("create", host, at, reason=reason)
            host.doomed.add(at)
            host.spare.add(at)
        waiting = (host.key, at)
        self._move(who, begin, waiting, reason=reason)
        self._goes_to[waiting] = end
        self._comes_from[end] = waiting
        return True

    # -- writing ---------------------------------------------------------------------------------------------------

    def _touch(self, key: GpuKey) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._dirty.append(key)

    def _add(
        self,
        kind: str,
        gpu: GpuChange,
        at: At,
        who: Who | None = None,
        *,
        source: Place | None = None,
        interrupted: bool = False,
        reason: str = "",
    ) -> None:
        host, index = gpu.key
        workload, replica = who or (None, None)
        assert gpu.mode is not None
        self.steps.append(
            Step(
                kind,  # type: ignore[arg-type]
                host,
                index,
                gpu.model,
                gpu.mode,
                at[0],
                at[1],
                workload,
                replica,
                source,
                interrupts=(f"{workload}/{replica}",) if interrupted else (),
                reason=reason,
            )
        )
