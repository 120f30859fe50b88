"""Books that begin with something: what a layout says is placed, or what books said when they were saved.

Must not know files, nor how requests are placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from partitioner.errors import SpecError
from partitioner.layout import GpuLayout, Layout, Slot, gpu_label
from partitioner.solver.online.books import Books
from partitioner.solver.online.contents import SLOT
from partitioner.solver.online.demands import Demand
from partitioner.solver.online.placed import Placement, ReplicaNumbers
from partitioner.workload import Workload


class Records(Books):
    """Books that can take over placements and be written down; see `Books`."""

    # -- placements that stand already ---------------------------------------------------------------------------------

    def take_over(self, layout: Layout) -> None:
        """Take over what a layout says is placed."""
        if not isinstance(layout, Layout):
            raise SpecError(f"layout is {type(layout).__name__}, not a Layout")
        rows = {name: row for row, name in enumerate(self._names)}
        for gpu in layout:
            row = rows.get((gpu.host, gpu.gpu))  # type: ignore[arg-type]
            if row is None:
                raise SpecError(f"layout: {gpu_label(gpu.host, gpu.gpu)} is no GPU of the fleet")
            kind = self._states[row].kind
            if gpu.model != kind.model:
                raise SpecError(f"layout: {gpu_label(gpu.host, gpu.gpu)} is of model {gpu.model}, in the fleet {kind.model}")
            for slot in gpu.slots:
                if (slot.profile, slot.start) not in kind.kept:
                    self._take_over_slot(row, gpu, slot)
        self._rank()

    def _take_over_slot(self, row: int, gpu: GpuLayout, slot: Slot) -> None:
        assert gpu.mode is not None
        demand = self._texts.get(slot.profile) or self._know(slot.profile)
        self.restore(self._next, row, (gpu.mode, slot.profile, slot.start), demand, (slot.workload, slot.replica))
        self._next += 1

    def restore(
        self,
        number: int,
        row: int,
        what: tuple[str, str, int],
        demand: Demand,
        who: tuple[str | None, int | None],
    ) -> None:
        """Put a placement where it is known to be.

        Raises
        ------
        SpecError
            It cannot be there.
        """
        self._list_states()
        host, index = self._names[row]
        mode, profile, start = what
        state = self._states[row]
        found = next((add for add in state.adds.get((mode, profile), ()) if add[0] in (start, SLOT)), None)
        free = found is not None and (found[0] != SLOT or state.kind.slots(mode) & ~self._taken[row] & (1 << start))
        if found is None or not free:
            raise SpecError(
                f"{gpu_label(host, index)} ({state.kind.model}): {profile}@{start} in mode {mode} cannot be beside what stands"
                " there"
            )
        self.leave(row)
        after = state.kind.after(state, found[1])
        if after.slots:
            self._taken[row] |= 1 << start
        self.enter(row, after)
        workload, replica = who
        self._live[number] = (Placement(number, host, index, mode, profile, start, workload, replica), row, found[1], demand)
        if workload is not None:
            self._replicas.setdefault(workload, ReplicaNumbers()).take(replica or 0)

    # -- plain data -----------------------------------------------------------------------------------------------------

    def to_data(self) -> dict[str, Any]:
        """Return everything that decides what comes next as plain data."""
        rows = {state: list(state.gpus) for state in self.states_in_use()}
        return {
            "policy": self.policy,
            "mix": self._mix,
            "modes": self._modes,
            "next_id": self._next,
            "demands": [{**demand.origin, "asked": demand.asked} for demand in self._demands],
            "shares": [self._shares.get(demand.number) for demand in self._demands],
            "until": [self._until, self._interval],
            "order": [gpu for gpus in rows.values() for gpu in gpus],
            "placements": [
                [place.id, gpu, place.mode, place.profile, place.start, demand.number, place.workload, place.replica]
                for place, gpu, _, demand in self._live.values()
            ],
        }

    def read_data(self, data: Mapping[str, Any]) -> None:
        """Fill books that are new with what `to_data` returned.

        Raises
        ------
        SpecError
            A placement cannot be where it is said to be, or stands twice, or GPUs are missing from the order.
        """
        demands = [self._restored_demand(entry) for entry in data["demands"]]
        self._shares = {number: share for number, share in enumerate(data["shares"]) if share is not None}
        self._until, self._interval = data["until"]
        if not (_whole(data["next_id"]) and all(_whole(demand.asked) for demand in self._demands)):
            raise SpecError(f"next_id is {data['next_id']!r}; it and what was asked are whole numbers from 0 up")
        if not 0 < self._until <= self._interval or any(share < 0 for share in self._shares.values()):
            raise SpecError(f"until is {data['until']!r} and shares are {data['shares']!r}; none may be negative")
        for number, gpu, mode, profile, start, demand, workload, replica in data["placements"]:
            if number in self._live or not 0 <= number < data["next_id"]:
                raise SpecError(f"placement {number!r} stands twice, or its id is not from 0 to {data['next_id'] - 1}")
            self.restore(number, gpu, (mode, profile, start), demands[demand], (workload, replica))
        if sorted(data["order"]) != list(range(len(self._states))):
            raise SpecError(f"the order of the GPUs does not name each of the {len(self._states)} once")
        self._next = data["next_id"]
        for state in self.states_in_use():
            state.gpus.clear()
        for gpu in data["order"]:
            self._states[gpu].gpus[gpu] = None
        self._rank()

    def _restored_demand(self, entry: Mapping[str, Any]) -> Demand:
        origin = {name: value for name, value in entry.items() if name != "asked"}
        plain = set(origin) == {"profile"}
        demand = self._know(origin["profile"]) if plain else self._know_size(Workload("restored", **origin))
        demand.asked = entry["asked"]
        return demand


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
