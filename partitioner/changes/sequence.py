"""The order of steps: every one legal when its turn comes, as few interruptions as can be found.

What can be done without interrupting anyone is done first. When nothing more can, the replicas that are left wait for each
other's places in a circle. One of them is moved to a spare instance, or, where no circle can be broken like that, drained
until its new place is there. GPUs on which few replicas move can be held back, for an order that was searched for. Must
not know files or targets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import takewhile

from partitioner.changes.gpus import At, GpuChange, Instance, Journey, Who, geometry_of
from partitioner.changes.search import ALL_STATES, MOST_STATES, Hop, best_order
from partitioner.changes.spare import Spares
from partitioner.changes.writer import Writer
from partitioner.errors import InfeasibleError
from partitioner.layout import GpuKey

Group = dict[GpuKey, GpuChange]
"""GPUs between which replicas move, and no others."""

_LOOKED_AT = 64  # replicas of a long circle among which the smallest is interrupted


class Sequencer:
    """Puts steps in order.

    Parameters
    ----------
    gpus : the GPUs that change; those that lend a spare instance are added.
    journeys : who goes where.
    spares : finds instances where a replica can wait.
    max_interruptions : most replicas that may be interrupted at one time; None for any number.
    """

    def __init__(
        self, gpus: dict[GpuKey, GpuChange], journeys: Sequence[Journey], spares: Spares, max_interruptions: int | None
    ) -> None:
        self.writer = Writer()
        self.detours: dict[GpuKey, None] = {}  # GPUs with a replica that was moved to a spare instance, or interrupted
        self._gpus = gpus
        self._journeys = journeys
        self._spares = spares
        self._most = max_interruptions
        self._held: Group = {}
        self._parked: set[Instance] = set()  # each piece waits in a spare instance once, so that this comes to an end
        self._waiting: deque[Instance] = deque()
        self._gentle = True  # whether circles that would cost an interruption are left for later
        self._hard: set[Instance] = set()  # instances in circles that were left, or waiting for such
        self._path: list[Instance] = []  # of who is in the way of whom, from the last place that somebody waited for
        self._way_to: Instance | None = None
        self._dirty: deque[GpuChange] = deque()
        self._queued: set[GpuKey] = set()

    def run(self, groups: Iterable[Group] = ()) -> None:
        """Write all steps.

        Parameters
        ----------
        groups : GPUs for which the best order is looked for.

        Raises
        ------
        InfeasibleError
            More replicas would have to be interrupted at one time than may be.
        """
        for gpu in self._gpus.values():
            self.writer.keep(gpu)
        held = [(group, self._of(group)) for group in groups]
        self._held = {key: gpu for group, _ in held for key, gpu in group.items()}
        free = [journey for journey in self._journeys if _gpu(journey).key not in self._held]
        for journey in free:
            if journey.begin is not None and journey.end is None:
                self.writer.leave(journey.who, journey.begin)
        self._settle([gpu for key, gpu in self._gpus.items() if key not in self._held], free)
        for group, ways, hops in self._searched(held):
            self._follow(group, hops)
            self._settle(group.values(), ways)

    def _settle(self, gpus: Iterable[GpuChange], ways: Iterable[Journey]) -> None:
        """Bring GPUs to their end."""
        for gpu in gpus:
            self._touch(gpu)
        everyone = [journey.end for journey in ways if journey.end is not None and journey.begin is not None]
        for self._gentle in (True, False):
            self._waiting = deque(everyone)
            self._hard.clear()
            self._path = []
            while True:
                while self._dirty:
                    gpu = self._dirty.popleft()
                    self._queued.discard(gpu.key)
                    self._advance(gpu)
                end = self._next_waiting()
                if end is None:
                    break
                self._break(end)

    # -- what needs no room ----------------------------------------------------------------------------------------

    def _advance(self, gpu: GpuChange) -> None:
        """Do all that this GPU's present state allows."""
        if gpu.doomed and self.writer.clear(gpu):
            self._spares.freed(gpu)
        if gpu.mode != gpu.goal_mode:
            if gpu.present:
                return
            self.writer.change_mode(gpu)
        for at in list(gpu.pending):
            if not gpu.doomed or gpu.fits(at):  # without doomed ones only the goal's are there, beside which all of it fits
                self.writer.create(gpu, at)
        for at, who in gpu.wanted.items():
            if who is not None and at not in gpu.pending and gpu.present[at] is None:
                self._fill(gpu, at, who)

    def _fill(self, gpu: GpuChange, at: At, who: Who) -> None:
        """Let a replica into its instance of the end."""
        begin = gpu.comes_from.pop(at, None)
        if begin is None:
            self.writer.start(who, (gpu, at))
            return
        self.writer.move(who, begin, (gpu, at))
        del begin[0].goes_to[begin[1]]
        self._touch(begin[0])

    def _touch(self, gpu: GpuChange) -> None:
        if gpu.key not in self._queued and gpu.key not in self._held:
            self._queued.add(gpu.key)
            self._dirty.append(gpu)

    # -- circles ---------------------------------------------------------------------------------------------------

    def _next_waiting(self) -> Instance | None:
        """Return a place that somebody waits for, the interrupted first; None where nobody does."""
        for end in self.writer.down:
            return end
        while self._waiting and self._waiting[0][1] not in self._waiting[0][0].comes_from:
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _break(self, end: Instance) -> None:
        """Move one replica of a circle out of the way, or interrupt it."""
        circle = self._circle(end)
        tried = set()  # what one cannot find for its profile another cannot find either
        for begin in circle:
            kind = (begin[0].model, begin[0].mode, begin[1][0])
            if kind not in tried and self._park(begin):
                return
            if begin[0].goes_to[begin[1]] not in self._parked:
                tried.add(kind)
        if self._gentle:
            self._hard.update(self._path)
            self._path = []
            self._waiting.popleft()
            return
        self._interrupt(circle)

    def _interrupt(self, circle: list[Instance]) -> None:
        down = self.writer.pieces_down
        gpu, at = min(circle[:_LOOKED_AT], key=lambda begin: (_holder(begin) not in down, _extent(begin)))
        who = _holder((gpu, at))
        if self._most is not None and len(down.keys() | {who}) > self._most:
            names = ", ".join(sorted(f"{name}/{number}" for name, number in down.keys() | {who}))
            raise InfeasibleError(
                f"no order of steps was found that interrupts at most {self._most} at a time: {names} would be;"
                " allow more interruptions, or leave room for a spare instance"
            )
        end = gpu.goes_to.pop(at)
        del end[0].comes_from[end[1]]
        self.detours[gpu.key] = None
        self.writer.interrupt(who, (gpu, at), end)
        self._touch(gpu)

    def _circle(self, end: Instance) -> list[Instance]:
        """Return instances whose replicas wait for each other in a circle, following who is in the way of whom.

        The way to the last circle is gone on from as far as its replicas still wait. Nothing is returned where the way
        leads to a circle that was left for later.
        """
        again = not self.writer.down or end == self._way_to
        path = list(takewhile(lambda begin: begin[1] in begin[0].goes_to, self._path)) if again else []
        self._way_to = end
        if path:
            end = path[-1][0].goes_to[path[-1][1]]
        order = {begin: position for position, begin in enumerate(path)}
        self._path = path
        while True:
            begin = self._in_the_way(*end)
            if begin in order:
                return path[order[begin] :]
            if begin in self._hard:
                return []
            order[begin] = len(path)
            path.append(begin)
            end = begin[0].goes_to[begin[1]]

    def _in_the_way(self, gpu: GpuChange, at: At) -> Instance:
        """Return an instance whose replica keeps another one from its place."""
        if gpu.mode == gpu.goal_mode:
            if at in gpu.goes_to and at not in gpu.pending:
                return gpu, at
            other = gpu.in_the_way(at)
            if other is not None:
                return gpu, other
        return gpu, next(iter(gpu.goes_to))

    def _park(self, begin: Instance) -> bool:
        """Move a replica to a spare instance; False where there is none."""
        gpu, at = begin
        end = gpu.goes_to[at]
        if end in self._parked:
            return False
        found = self._spares.find(gpu, at[0], self._held)
        if found is None:
            return False
        self._parked.add(end)
        self.detours[gpu.key] = None
        who = _holder(begin)
        reason = _spare_reason(who)
        if found[1] not in found[0].present:
            self.writer.create_spare(*found, reason)
        self._gpus.setdefault(found[0].key, found[0])
        self.writer.move(who, begin, found, reason)
        del gpu.goes_to[at]
        found[0].goes_to[found[1]] = end
        end[0].comes_from[end[1]] = found
        self._touch(gpu)
        return True

    # -- groups ----------------------------------------------------------------------------------------------------

    def _of(self, group: Group) -> list[Journey]:
        """Return the journeys on the GPUs of a group."""
        return [self._journeys[number] for number in sorted(number for key in group for number in self._ways_on[key])]

    @cached_property
    def _ways_on(self) -> dict[GpuKey, list[int]]:
        found: dict[GpuKey, list[int]] = {key: [] for key in self._gpus}
        for number, journey in enumerate(self._journeys):
            found[_gpu(journey).key].append(number)
        return found

    def _searched(self, held: list[tuple[Group, list[Journey]]]) -> Iterator[tuple[Group, list[Journey], list[Hop]]]:
        """Iterate over groups with their best orders; those that interrupt somebody wait for what the others make free."""
        states = min(MOST_STATES, ALL_STATES // max(len(held), 1))
        for last in (False, True):
            later = []
            for group, ways in held:
                lenders = self._spares.lenders(group)
                hops = best_order(ways, group.values(), lenders, max_interruptions=self._most, max_states=states) or []
                if last or (hops and all(hop.to or hop.ends for hop in hops)):
                    ends = [Hop(j.who, j.begin, ends=True) for j in ways if j.begin is not None and j.end is None]
                    yield group, ways, hops or ends
                else:
                    later.append((group, ways))
            held = later

    def _follow(self, group: Group, hops: list[Hop]) -> None:
        """Write the steps of an order that was found."""
        here: dict[Instance, Instance | None] = {}
        for hop in hops:
            if hop.ends:
                self.writer.leave(hop.who, hop.begin)
            else:
                here[hop.begin] = hop.begin
        for gpu in group.values():
            self.writer.clear(gpu)
            del self._held[gpu.key]
            if here:
                gpu.goes_to.clear()
                gpu.comes_from.clear()
        for hop in hops:
            if not hop.ends:
                self._hop(hop, here[hop.begin], own=hop.to is not None and hop.to[0].key in group)
                here[hop.begin] = hop.to
        for gpu in group.values():
            self._spares.freed(gpu)

    def _hop(self, hop: Hop, here: Instance | None, *, own: bool) -> None:
        if hop.to is None:
            assert here is not None
            self.writer.interrupt(hop.who, here, hop.begin)
        else:
            reason = self._ready(hop.who, *hop.to, hop.mode, own=own)
            if here is None:
                self.writer.start(hop.who, hop.to, hop.begin)
            else:
                self.writer.move(hop.who, here, hop.to, reason)
        if here is not None:
            self.writer.clear(here[0])

    def _ready(self, who: Who, gpu: GpuChange, at: At, mode: str | None, *, own: bool) -> str:
        """See to it that there is an instance; return why a replica comes there."""
        if gpu.mode != mode:
            self.writer.clear(gpu)
            self.writer.change_mode(gpu)
        self._gpus.setdefault(gpu.key, gpu)
        of_goal = own and gpu.mode == gpu.goal_mode and at in gpu.wanted
        reason = "" if of_goal and gpu.wanted[at] == who else _spare_reason(who)
        if at in gpu.present and at not in gpu.unready:
            return reason
        self.writer.make_room(gpu, at)
        if of_goal:
            self.writer.create(gpu, at)
        else:
            self.writer.create_spare(gpu, at, reason)
        return reason


def _gpu(journey: Journey) -> GpuChange:
    """Return a GPU of a journey; those of one that begins and ends are in one group."""
    instance = journey.begin or journey.end
    assert instance is not None
    return instance[0]


def _holder(begin: Instance) -> Who:
    who = begin[0].present[begin[1]]
    assert who is not None
    return who


def _spare_reason(who: Who) -> str:
    return f"spare place for {who[0]}/{who[1]} until its own is free"


def _extent(begin: Instance) -> int:
    gpu, (profile, _) = begin
    assert gpu.mode is not None
    return geometry_of(gpu.model, gpu.mode).profile(profile).extent
