"""The planning problem with everything equal counted once, and its solution. Values; must not know how one is found.

Replicas with the same options are one *class*; GPUs of one model and mode are one *kind*; a kind offers *slots* (a shape
in a mode) in *columns* (its maximal configurations).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from partitioner.solver.configurations import free_geometry, maximal_configurations
from partitioner.solver.reshaping import LISTED_UNITS, Stayer, shape_names, targets
from partitioner.topology import Level

PREFERENCES = 16
"""Slots of equal memory are told apart by a preference from 0 to this, exclusive."""
_COST_UNIT_MIB = 64


def exact(number: float) -> Fraction:
    """Return a number as it is written in decimals: 0.1 is one tenth."""
    return Fraction(repr(number))


def slot_cost(memory_mib: int, preference: int = 0) -> int:
    """Return the cost of memory for the last stage: its size, then a preference from 0 to `PREFERENCES` - 1."""
    return memory_mib // _COST_UNIT_MIB * PREFERENCES + preference


@dataclass(frozen=True, slots=True)
class Kind:
    """GPUs that are alike.

    Parameters
    ----------
    model : name of the GPU model.
    fixed : the mode they must stay in; None where it is free.
    modes : the modes they may be used in.
    available : how many there are; None: as many as needed.
    memory_mib : memory of one [MiB].
    kept : existing instances that stay, as (profile, start); such a GPU is in use whether the plan uses it or not.
    cost_micros : what one costs in an hour, in millionths of the currency.
    power_mw : power of one [mW].
    places : names of hosts and GPUs that workloads are pinned to or kept off, and that these GPUs are or stand in.
    standing : who stands on them now and may stay, where that tells GPUs apart: profile, start, class, and whether he has to.
    mode_now : the mode that they are in, where somebody stands on them.
    """

    model: str
    fixed: str | None
    modes: tuple[str, ...]
    available: int | None
    memory_mib: int
    kept: tuple[tuple[str, int], ...] = ()
    cost_micros: int = 0
    power_mw: int = 0
    places: tuple[str, ...] = ()
    standing: tuple[tuple[str, int, int, bool], ...] = ()
    mode_now: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether somebody on them has to stay."""
        return any(pinned for _, _, _, pinned in self.standing)


@dataclass(frozen=True, slots=True)
class SlotType:
    """Room for one replica: a shape (by the profile that stands for it) of a mode of a kind.

    Parameters
    ----------
    kind : row in `Problem.kinds`.
    mode, shape : what it is; a shape has the name of the profile that stands for it.
    cost : what taking it costs when wasting as little as possible; smaller is better.
    memory_mib : its memory [MiB].
    tenant : the tenant whose GPUs offer it; 0 where it is nobody's. A GPU serves one tenant.
    """

    kind: int
    mode: str
    shape: str
    cost: int
    memory_mib: int = 0
    tenant: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a replica needs beside its slot, from the host it runs on and from its neighbours.

    Parameters
    ----------
    vcpus, ram_gib : what it takes of its host, in exact decimals as written.
    spread : ``gpu`` or ``host``: no two replicas of the class share one.
    apart : classes with which no ``gpu`` or ``host`` may be shared.
    together : classes of which a replica must be on the same ``gpu`` or ``host``.
    link : the worst link allowed between the GPUs of one replica.
    rdma : whether a NIC stands beside each GPU.
    """

    vcpus: int = 0
    ram_gib: Fraction = Fraction(0)
    spread: str | None = None
    apart: tuple[tuple[int, str], ...] = ()
    together: tuple[tuple[int, str], ...] = ()
    link: Level | None = None
    rdma: bool = False

    @property
    def levels(self) -> set[str]:
        """Whether GPUs, hosts or both have to be told apart for the neighbours."""
        found = {level for _, level in (*self.apart, *self.together)} | ({self.spread} if self.spread else set())
        return found | ({"gpu"} if self.link or self.rdma else set())


NOTHING = Needs()


@dataclass(frozen=True, slots=True)
class DemandClass:
    """Replicas that may take the same slots, or one service that needs throughput.

    Parameters
    ----------
    count : replicas wanted; of a service 1, or 0 where it is not to be served.
    priority : higher ones are placed first.
    options : rows of `Problem.slots`.
    profiles : name of the profile that it gets in each of `options`.
    need : throughput that a service needs in all, in units of its own; 0 for replicas.
    yields : throughput of one instance of a service in each of `options`, in the same units; empty for replicas.
    size : slots that one replica takes; of one shape, in one host.
    needs : what a replica needs of its host and neighbours.
    move_price : what it costs to move one of its instances.
    alternatives : for each of `options` the names of other profiles of that shape on which a replica may stay.
    """

    count: int
    priority: int
    options: tuple[int, ...]
    profiles: tuple[str, ...] = ()
    need: int = 0
    yields: tuple[int, ...] = ()
    size: int = 1
    needs: Needs = NOTHING
    move_price: int = 1
    alternatives: tuple[tuple[str, ...], ...] = ()

    @property
    def each(self) -> int:
        """What one replica, or the service, adds up to: slots, or units of throughput."""
        return self.need if self.yields else self.size

    @property
    def goal(self) -> int:
        """What all slots taken must add up to."""
        return self.each * self.count

    @property
    def linked(self) -> bool:
        """Whether a replica needs GPUs that are linked well, to each other or to NICs."""
        return (self.needs.link is not None and self.size > 1) or self.needs.rdma

    def profile(self, slot: int) -> str:
        """Return the name of the profile that it gets in a slot."""
        return self.profiles[self.options.index(slot)]

    def may_hold(self, slot: int) -> tuple[str, ...]:
        """Return the names of the profiles on which a replica that runs now may stay in a slot."""
        others = self.alternatives[self.options.index(slot)] if self.alternatives and self.size == 1 else ()
        return (self.profile(slot), *others)

    def gain(self, slot: int) -> int:
        """Return what one instance in a slot adds to the goal."""
        return self.yields[self.options.index(slot)] if self.yields else 1

    def most(self, slot: int) -> int:
        """Return the most instances that are ever needed in a slot."""
        return -(-self.goal // self.gain(slot))


@dataclass(frozen=True, slots=True)
class Column:
    """A configuration of a kind.

    Parameters
    ----------
    kind : the kind.
    slots : (slot, count) pairs.
    kept : ((class, slot), count) pairs: instances that stand there now and may stay.
    pinned : those among them that have to.
    """

    kind: int
    slots: tuple[tuple[int, int], ...]
    kept: Kept = ()
    pinned: Kept = ()


Kept = tuple[tuple[tuple[int, int], int], ...]
"""((class, slot), number) of instances that stay."""


@dataclass(frozen=True)
class Problem:
    """Kinds of GPUs, the slots they offer, and the classes that want them."""

    kinds: tuple[Kind, ...]
    slots: tuple[SlotType, ...]
    classes: tuple[DemandClass, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All maximal configurations over the slots that some class wants."""
        by_mode: dict[tuple[int, str, int], list[int]] = {}
        for number, slot in enumerate(self.slots):
            by_mode.setdefault((slot.kind, slot.mode, slot.tenant), []).append(number)
        columns: list[Column] = []
        for (kind, mode, _), slots in by_mode.items():
            names = tuple(self.slots[slot].shape for slot in slots)
            if self.kinds[kind].standing:
                columns += self._columns_beside(kind, mode, slots)
                continue
            columns += [
                Column(kind, tuple((slot, n) for slot, n in zip(slots, vector, strict=True) if n))
                for vector in maximal_configurations(self.kinds[kind].model, mode, names, self.kinds[kind].kept)
            ]
        return tuple(columns)

    def _columns_beside(self, kind: int, mode: str, slots: Sequence[int]) -> Iterator[Column]:
        """Iterate over what GPUs can become on which somebody stands."""
        of = self.kinds[kind]
        here = {
            (number, profile)
            for number, c in enumerate(self.classes)
            for slot in slots
            if slot in c.options
            for profile in c.may_hold(slot)
        }
        shape_of = shape_names(of.model, mode, of.kept)
        stayers = tuple(
            Stayer(shape_of[profile], start, number, pinned)
            for profile, start, number, pinned in of.standing
            if of.mode_now == mode and (number, profile) in here
        )
        if sum(stayer.pinned for stayer in stayers) < sum(pinned for _, _, _, pinned in of.standing):
            return
        slot_of = {self.slots[slot].shape: slot for slot in slots}
        must: dict[tuple[int, int], int] = {}
        for stayer in stayers:
            if stayer.pinned:
                place = (stayer.tag, slot_of[stayer.shape])
                must[place] = must.get(place, 0) + 1
        names = tuple(slot_of)
        for target in targets(of.model, mode, names, of.kept, stayers)[0]:
            counts = tuple((slot_of[name], n) for name, n in zip(names, target.counts, strict=True) if n)
            kept = tuple(((tag, slot_of[shape]), n) for tag, shape, n in target.kept)
            yield Column(kind, counts, kept, tuple(must.items()))

    @cached_property
    def columns_of_kind(self) -> dict[int, list[tuple[int, Column]]]:
        """Columns of each kind with their numbers."""
        found: dict[int, list[tuple[int, Column]]] = {}
        for number, column in enumerate(self.columns):
            found.setdefault(column.kind, []).append((number, column))
        return found

    @cached_property
    def wanted_beside(self) -> frozenset[int]:
        """Classes that replicas of others must be with."""
        return frozenset(other for c in self.classes for other, _ in c.needs.together)

    def with_counts(self, counts: Sequence[int]) -> Problem:
        """Return the problem with other numbers of replicas; its columns are the same."""
        classes = tuple(replace(c, count=n) for n, c in zip(counts, self.classes, strict=True))
        return Problem(self.kinds, self.slots, classes).knowing_columns(self.columns)

    def knowing_columns(self, columns: tuple[Column, ...]) -> Problem:
        """Return the problem itself, told its columns where they are known already; listing them takes the most time."""
        self.__dict__["columns"] = columns
        return self


def all_targets(problem: Problem) -> bool:
    """Whether the columns are all that GPUs can become on which somebody stands."""
    for kind in problem.kinds:
        if kind.standing and kind.mode_now is not None:
            geometry = free_geometry(kind.model, kind.mode_now, kind.kept)
            if geometry.units > LISTED_UNITS and any(p.extent > 1 for p in geometry.profiles):
                return False
    return True


@dataclass(frozen=True, slots=True)
class Proof:
    """Exact prices that prove a bound on the GPUs: any configuration of a kind costs at most 1 + the kind's rent.

    Parameters
    ----------
    slots : price of each slot, as fractions; shape ``(n_slots,)``.
    rents : what one GPU of each kind may cost above 1; 0 where as many as needed are to be had.
    """

    slots: tuple[Fraction, ...]
    rents: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Objective:
    """One stage of the objective: its value in the solution and the best that is possible at all."""

    name: str
    value: int
    bound: int

    @property
    def proven(self) -> bool:
        """Whether the value is proven best."""
        return self.value == self.bound


@dataclass(frozen=True, slots=True)
class Solution:
    """What is placed, on how many GPUs of which configuration.

    Parameters
    ----------
    gpus : (column, number of GPUs) pairs.
    served : (class, slot) to number of instances.
    placed : replicas placed of each class, of a service 1 or 0, shape ``(n_classes,)``.
    objectives : the stages in their order.
    certificate : what proves the bound on the GPUs.
    proof : exact prices behind the certificate, where it rests on prices.
    """

    gpus: tuple[tuple[int, int], ...]
    served: Mapping[tuple[int, int], int]
    placed: tuple[int, ...]
    objectives: tuple[Objective, ...]
    certificate: str
    proof: Proof | None = None

    @property
    def gpus_used(self) -> int:
        """Number of GPUs used."""
        return sum(count for _, count in self.gpus)
