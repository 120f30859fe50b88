"""Writes steps down and keeps GPUs as each step leaves them. Must not know why a step is taken."""

from __future__ import annotations

from collections import Counter

from partitioner import catalog
from partitioner.changes.gpus import At, GpuChange, Instance, Who
from partitioner.changes.step import Kind, Place, Restart, Step


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


class Writer:
    """Steps in the order in which they are asked for.

    Attributes
    ----------
    steps : what was written.
    down : where interrupted pieces go, each with who it is and where it came from.
    pieces_down : replicas that are interrupted, each with the number of its pieces.
    peak : most replicas that were down at one time.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.down: dict[Instance, tuple[Who, Instance]] = {}
        self.pieces_down: Counter[Who] = Counter()
        self.peak = 0

    @property
    def cost(self) -> tuple[int, int, int]:
        """Replicas interrupted, moves, most replicas down at one time."""
        interrupted = {(step.workload, step.replica) for step in self.steps if step.kind == "drain" and step.interrupts}
        return len(interrupted), sum(step.kind == "move" for step in self.steps), self.peak

    def keep(self, gpu: GpuChange) -> None:
        """Say what stays."""
        for at, who in gpu.present.items():
            if at not in gpu.doomed and at not in gpu.unready:
                self._write("keep", gpu, at, who if gpu.wanted[at] == who else None)

    def create(self, gpu: GpuChange, at: At) -> None:
        """Make an instance of the end, or finish one."""
        if at in gpu.unready:
            self._write("create", gpu, at, reason="its compute instance is missing")
            gpu.unready.discard(at)
        else:
            self._write("create", gpu, at)
            gpu.made[at] = None
        gpu.present[at] = None
        del gpu.pending[at]

    def create_spare(self, gpu: GpuChange, at: At, reason: str) -> None:
        """Make an instance that does not stay."""
        self._write("create", gpu, at, reason=reason)
        gpu.present[at] = None
        gpu.doomed[at] = None
        gpu.spare.add(at)

    def clear(self, gpu: GpuChange) -> bool:
        """Destroy what does not stay and nobody holds; say whether there was any."""
        idle = [at for at in gpu.doomed if gpu.present[at] is None]
        for at in idle:
            self._write("destroy", gpu, at, reason=_why_destroyed(gpu, at))
            del gpu.present[at], gpu.doomed[at]
            gpu.spare.discard(at)
            gpu.made.pop(at, None)
            gpu.unready.discard(at)
        return bool(idle)

    def make_room(self, gpu: GpuChange, at: At) -> None:
        """Destroy what can go for a while, where an instance does not fit beside it."""
        if not gpu.fits(at):
            again = {other: None for other in gpu.made if gpu.present[other] is None}
            gpu.doomed |= again
            gpu.pending |= again
            self.clear(gpu)

    def change_mode(self, gpu: GpuChange) -> None:
        """Bring an empty GPU into the mode of the end."""
        assert gpu.goal_mode is not None
        waiting = dict.fromkeys(_name(who) for who, begin in self.down.values() if begin[0] is gpu)
        host, index = gpu.key
        self.steps.append(
            Step(
                "mode",
                host,
                index,
                gpu.model,
                gpu.goal_mode,
                before=gpu.mode or "unset",
                restart=restart_of(gpu.model, gpu.mode, gpu.goal_mode),
                interrupts=tuple(waiting),
                reason="the goal uses this mode",
            )
        )
        gpu.mode = gpu.goal_mode

    def start(self, who: Who, end: Instance, due: Instance | None = None) -> None:
        """Let a replica begin, or begin again; `due`: where it was interrupted for, where another piece of it goes now."""
        again = self.down.pop(due or end, None)
        if again is not None:
            self.pieces_down[again[0]] -= 1
            if not self.pieces_down[again[0]]:
                del self.pieces_down[again[0]]
        self._write("start", *end, who, reason="" if again is None else "runs again")
        end[0].present[end[1]] = who

    def move(self, who: Who, begin: Instance, end: Instance, reason: str = "") -> None:
        """Let a replica go to another instance."""
        (origin, left), (gpu, at) = begin, end
        host, index = origin.key
        self._write("move", gpu, at, who, Place(host, index, *left), reason=reason)
        gpu.present[at] = who
        origin.present[left] = None

    def leave(self, who: Who, begin: Instance) -> None:
        """Let a replica end."""
        self._write("drain", *begin, who, reason="not in the goal")
        begin[0].present[begin[1]] = None

    def interrupt(self, who: Who, begin: Instance, end: Instance) -> None:
        """Let a replica wait, without running, for its instance of the end."""
        reason = f"no spare {begin[1][0]} is free while its place makes room"
        self._write("drain", *begin, who, interrupts=(_name(who),), reason=reason)
        begin[0].present[begin[1]] = None
        self.down[end] = who, begin
        self.pieces_down[who] += 1
        self.peak = max(self.peak, len(self.pieces_down))

    def _write(
        self,
        kind: Kind,
        gpu: GpuChange,
        at: At,
        who: Who | None = None,
        source: Place | None = None,
        *,
        interrupts: tuple[str, ...] = (),
        reason: str = "",
    ) -> None:
        host, index = gpu.key
        profile, start = at
        workload, replica = who or (None, None)
        assert gpu.mode is not None
        self.steps.append(
            Step(
                kind, host, index, gpu.model, gpu.mode, profile, start, workload, replica, source, None, None, interrupts, reason
            )
        )


def _name(who: Who) -> str:
    return f"{who[0]}/{who[1]}"


def _why_destroyed(gpu: GpuChange, at: At) -> str:
    if at in gpu.spare:
        return "spare place, not needed any longer"
    if gpu.mode != gpu.goal_mode:
        return f"the GPU changes to mode {gpu.goal_mode}"
    return "makes room for a while" if at in gpu.wanted else "not in the goal"
