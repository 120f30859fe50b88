"""The door of online placement: places requests that come and go on the GPUs of a fleet, for as long as they stay.

`books` and `records` know who holds what, `moving` makes room, `saved` writes and reads files. Must not know plans, targets
or changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from partitioner.errors import SpecError
from partitioner.fleet import Fleet, read_fleet
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.solver.online import moving, saved
from partitioner.solver.online.contents import SLOT
from partitioner.solver.online.demands import read_mix, read_modes
from partitioner.solver.online.placed import Migration, Placement
from partitioner.solver.online.records import Records
from partitioner.workload import Workload


class Allocator(Records):
    """Places requests on the GPUs of a fleet one at a time, without moving anything, and takes them back.

    Parameters
    ----------
    fleet : the GPUs, in any form that `read_fleet` takes. Fixed modes and existing instances stay; a GPU without a mode
        takes the one that its first placement needs, and is open again when it is empty.
    policy : which GPU and start a request gets: ``keep-room`` (the default: whatever costs the least room, now and after
        the next departures, for all that is being asked for), ``first-fit``, ``best-fit`` or ``fragmentation-aware``.
    layout : what is placed already; it can be released like everything else.
    mix : profile to its share of the requests; None: learnt from the requests as they come.
    modes : modes or families of modes that may be used (``mig``, ``vgpu``, ``whole``, ...); None means all.

    Raises
    ------
    SpecError
        The policy is unknown, the layout is not one of this fleet, or the mix is no mix of profiles of its GPUs.

    Notes
    -----
    Safe to use from several threads. A request takes constant time, whatever the number of GPUs; ``first-fit`` and GPUs in
    mixed-size vGPU mode take logarithmic time. A profile that is asked for the first time takes some milliseconds once.

    Examples
    --------
    >>> allocator = Allocator(Fleet.of("A100-80GB", gpus_per_host=2))
    >>> first = allocator.place("3g.40gb")
    >>> print(first)
    #0 host-0/gpu0 3g.40gb@4
    >>> allocator.would_fit("7g.80gb"), allocator.place("7g.80gb").gpu, allocator.place("7g.80gb")
    (True, 1, None)
    >>> allocator.release(first.id)
    """

    def __init__(
        self,
        fleet: object,
        policy: str = "keep-room",
        *,
        layout: Layout | None = None,
        mix: Mapping[str, float] | None = None,
        modes: str | Sequence[str] | None = None,
    ) -> None:
        shares = None if mix is None else read_mix(mix)
        super().__init__(read_fleet(fleet), policy, mix=shares, modes=read_modes(modes))
        if layout is not None:
            self.take_over(layout)

    # -- requests --------------------------------------------------------------------------------------------------

    def place(self, profile_or_workload: str | Workload) -> Placement | None:
        """Place one replica, or return None where it fits on no GPU as they are now.

        Parameters
        ----------
        profile_or_workload : a profile in any spelling in use, or a workload; one by size takes the least profile that
            satisfies it. Each call places one replica, whatever the workload's count.

        Raises
        ------
        SpecError
            No GPU of the fleet has that profile, the workload asks for more than any has, or for something that online
            placement does not know.
        """
        with self._lock:
            if profile_or_workload.__class__ is str:
                demand = self._texts.get(profile_or_workload)
                if demand is None:
                    demand = self._demand(profile_or_workload)
                workload = None
            else:
                demand = self._demand(profile_or_workload)
                workload = profile_or_workload.name if isinstance(profile_or_workload, Workload) else None
            if self._learns:
                demand.asked += 1
                self._until -= 1
                if not self._until:
                    self._learn()
            spot = (self._open & demand.field).bit_length()
            if spot:
                before, after, key, mode, profile, start = demand.moves[spot - demand.base]
                gpus = before.gpus
                gpu = gpus.popitem()[0]
            else:
                found = None if self._queues is None else self._queues.best(demand.number)
                if found is None:
                    return None
                gpu, (before, after, key, mode, profile, start) = found
                gpus = before.gpus
                del gpus[gpu]
            # Written out, since calls would take half of the time: the GPU goes from one bucket to another.
            if not gpus:
                self._open ^= before.bits
            gpus = after.gpus
            if not gpus:
                self._open ^= after.bits
            gpus[gpu] = None
            self._states[gpu] = after
            if start == SLOT:
                start = self._take_slot(gpu, after)
            if self._queues is not None:
                self._queues.changed(gpu)
            number = self._next
            self._next = number + 1
            host, index = self._names[gpu]
            if workload is None:
                placement = _tuple(Placement, (number, host, index, mode, profile, start, None, None))
            else:
                numbers = self._replicas.get(workload)
                if numbers is None:
                    numbers = self._new_workload(workload)
                replica = numbers.new()
                placement = _tuple(Placement, (number, host, index, mode, profile, start, workload, replica))
            self._live[number] = (placement, gpu, key, demand)
            return placement

    def release(self, id: int) -> None:  # noqa: A002 - the field of a placement has this name
        """Give an instance back.

        Parameters
        ----------
        id : of the placement.

        Raises
        ------
        SpecError
            No placement has that id, or it was released before.
        """
        with self._lock:
            found = self._live.pop(id, None) if id.__class__ is int else None
            if found is None:
                raise SpecError(f"release: no placement has id {id!r}; it is the id of one that place() gave and still stands")
            placement, gpu, key, _ = found
            before = self._states[gpu]
            after = before.back.get(key)
            if after is None:
                after = before.kind.before(before, key)
            if before.slots:
                self._taken[gpu] ^= 1 << placement[5]
            gpus = before.gpus
            del gpus[gpu]
            if not gpus:
                self._open ^= before.bits
            gpus = after.gpus
            if not gpus:
                self._open ^= after.bits
            gpus[gpu] = None
            self._states[gpu] = after
            if self._queues is not None:
                self._queues.changed(gpu)
            if placement[6] is not None:
                self._replicas[placement[6]].give_back(placement[7] or 0)

    def would_fit(self, profile_or_workload: str | Workload) -> bool:
        """Whether `place` would find room now; raises as it does."""
        with self._lock:
            demand = self._demand(profile_or_workload)
            if self._open & demand.field:
                return True
            return self._queues is not None and self._queues.best(demand.number) is not None

    def defragment(self, budget: int, profile_or_workload: str | Workload | None = None) -> tuple[Migration, ...]:
        """Make room by moving instances, each to a slot that is free at that time.

        Parameters
        ----------
        budget : most migrations.
        profile_or_workload : what room is to be made for, with as few migrations as were found, or none where they
            would not do; None: for everything asked for that does not fit, the largest first, and then for all of it in
            general while a move gains room.

        Returns
        -------
        The migrations in order; ids stay as they are.

        Raises
        ------
        SpecError
            The budget is no number from 0 up, or as `place` does.
        """
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            raise SpecError(f"defragment: budget is {budget!r}, not a number of migrations from 0 up")
        with self._lock:
            if profile_or_workload is not None:
                return tuple(moving.make_room(self, self._demand(profile_or_workload), budget))
            return tuple(moving.tidy(self, budget))

    # -- what there is ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of placements that stand."""
        return len(self._live)

    def __repr__(self) -> str:
        return f"<Allocator {self.policy} of {len(self._states)} GPUs, {len(self)} placements>"

    @property
    def placements(self) -> tuple[Placement, ...]:
        """All placements that stand, in order of their ids."""
        with self._lock:
            return tuple(live[0] for live in self._live.values())

    def layout(self) -> Layout:
        """Return what stands now, existing instances of the fleet included, as held by nobody."""
        with self._lock:
            slots: list[list[Slot]] = [[Slot(*kept) for kept in state.kind.kept] for state in self._states]
            for placement, gpu, _, _ in self._live.values():
                slots[gpu].append(Slot(placement.profile, placement.start, placement.workload, placement.replica))
            return Layout.of(
                GpuLayout(host, index, state.kind.model, state.mode, tuple(sorted(held, key=lambda slot: slot.start)))
                for (host, index), state, held in zip(self._names, self._states, slots, strict=True)
            )

    # -- files -----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the whole state as JSON; what reads it goes on exactly as this one would."""
        with self._lock:
            return saved.to_json(self.fleet, self.to_data())

    @classmethod
    def from_json(cls, text: str, *, origin: str = "<json>") -> Allocator:
        """Return the allocator that `to_json` described.

        Raises
        ------
        SpecError
            The text is no such state, of another version, or contradicts itself.
        """
        return saved.from_json(cls._from_data, text, origin)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file, as a whole or not at all.

        Raises
        ------
        SpecError
            The file cannot be written.
        """
        saved.save(self.to_json(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Allocator:
        """Return the allocator that `save` wrote.

        Raises
        ------
        SpecError
            The file cannot be read, is no such state, of another version, or contradicts itself.
        """
        return saved.load(cls._from_data, path)

    @classmethod
    def _from_data(cls, fleet: Fleet, data: Mapping[str, Any]) -> Allocator:
        allocator = cls(fleet, data["policy"], mix=data["mix"], modes=data["modes"])
        allocator.read_data(data)
        return allocator


_tuple = tuple.__new__
