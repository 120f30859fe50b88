"""Reconfiguration as an integer program: GPUs that can become the same, and keep as much of it, are counted together.

The configuration model, with a column for each thing that a group of GPUs can become; an instance that stays where it is
counts as kept when its place is in the column and its class takes that many. This module must not know engines, names or
placements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from partitioner.solver.demand import Demand
from partitioner.solver.integer import Program
from partitioner.solver.problem import Column, Problem
from partitioner.solver.reshaping import targets
from partitioner.solver.stages import FOR_NOTHING, column_cost, instance_cost
from partitioner.solver.standing import Content, slots_by_place, stayers_of

Values = npt.NDArray[np.int64]
Kept = tuple[tuple[tuple[int, int], int], ...]
"""((class, slot), number) of the instances that stay."""


@dataclass(frozen=True, slots=True)
class Reshaped:
    """What a GPU becomes: a configuration, what may stay of what stands there, and what of it has to."""

    column: Column
    kept: Kept = ()
    pinned: Kept = ()


@dataclass(frozen=True, slots=True)
class Group:
    """GPUs that can become the same, and keep as much of what stands there.

    Parameters
    ----------
    columns : what they can become.
    contents : the GPUs, those that hold the same together.
    held : whether something on each of them has to stay.
    """

    columns: tuple[Reshaped, ...]
    contents: tuple[Content, ...]
    held: bool = False

    def __len__(self) -> int:
        return sum(len(content.rows) for content in self.contents)


def groups_of(demand: Demand, contents: Sequence[Content]) -> tuple[tuple[Group, ...], bool]:
    """Return the groups of GPUs, and whether their columns are all there are.

    Parameters
    ----------
    demand : what is wanted.
    contents : what stands on all GPUs now.
    """
    problem = demand.problem
    names: dict[tuple[int, str, int], list[int]] = {}
    for row, offered in enumerate(problem.slots):
        names.setdefault((offered.kind, offered.mode, offered.tenant), []).append(row)
    places = slots_by_place(demand)
    slot_for: dict[tuple[int, int, str, str, int], int] = {}
    for number, slot in demand.profiles:
        at = problem.slots[slot]
        slot_for[number, at.kind, at.mode, at.shape, at.tenant] = slot
    found: dict[tuple[int, bool, tuple[Reshaped, ...]], list[Content]] = {}
    complete = True
    for content in contents:
        kind = problem.kinds[content.kind]
        columns: list[Reshaped] = []
        for (of, mode, tenant), slots in names.items():
            if of != content.kind:
                continue
            stayers = stayers_of(content, problem, places, mode, tenant)
            if stayers is None:
                continue
            must: dict[tuple[int, int], int] = {}
            for stayer in stayers:
                if stayer.pinned:
                    place = (stayer.tag, slot_for[stayer.tag, of, mode, stayer.shape, tenant])
                    must[place] = must.get(place, 0) + 1
            shapes = tuple(problem.slots[slot].shape for slot in slots)
            possible, all_there_is = targets(kind.model, mode, shapes, kind.kept, stayers)
            complete &= all_there_is
            for target in possible:
                counted = tuple((slot, n) for slot, n in zip(slots, target.counts, strict=True) if n)
                kept = tuple(((tag, slot_for[tag, of, mode, shape, tenant]), n) for tag, shape, n in target.kept)
                columns.append(Reshaped(Column(content.kind, counted), kept, tuple(must.items())))
        found.setdefault((content.kind, content.held, tuple(columns)), []).append(content)
    groups = tuple(Group(columns, tuple(members), held) for (_, held, columns), members in found.items() if columns or held)
    return groups, complete


@dataclass
class Regrouped:
    """The program and where its parts are.

    Parameters
    ----------
    problem : classes and slots.
    groups : the GPUs.
    now : instances of each class that run now.
    program : the program, without costs.
    columns : for each group the variable of its first column.
    pairs : (class, slot) to the variable that counts instances.
    kept : (class, slot) to the variable that counts instances that stay.
    stopped : of services, the variable that counts instances that stop because fewer are needed.
    units : what is placed: variable, class.
    """

    problem: Problem
    groups: Sequence[Group]
    now: Mapping[int, int]
    program: Program = field(default_factory=Program)
    columns: list[int] = field(default_factory=list)
    pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    kept: dict[tuple[int, int], int] = field(default_factory=dict)
    stopped: dict[int, int] = field(default_factory=dict)
    units: list[tuple[int, int]] = field(default_factory=list)

    @property
    def standing(self) -> int:
        """What it would cost to move everything."""
        return sum(self.problem.classes[number].move_price * count for number, count in self.now.items())

    def costs(self, stage: str) -> list[int]:
        """Return the cost of every variable in a stage; moves cost what everything costs, less what stays."""
        cost = [0] * len(self.program.upper)
        if stage == "moves":
            for (number, _), variable in self.kept.items():
                cost[variable] = -self.problem.classes[number].move_price
            for number, variable in self.stopped.items():
                cost[variable] = -self.problem.classes[number].move_price
            return cost
        if stage == FOR_NOTHING:
            for (number, _), variable in self.kept.items():
                cost[variable] = -int(not self.problem.classes[number].move_price)
            return cost
        for first, group in zip(self.columns, self.groups, strict=True):
            for number, reshaped in enumerate(group.columns):
                cost[first + number] = column_cost(self.problem, stage, reshaped.column)
        for (_, slot), variable in self.pairs.items():
            cost[variable] = instance_cost(self.problem, stage, slot)
        return cost


def regroup(problem: Problem, groups: Sequence[Group], now: Mapping[int, int], *, everything: bool) -> Regrouped:
    """Return the program of a reconfiguration.

    Parameters
    ----------
    problem : classes and slots.
    groups : the GPUs.
    now : instances of each class that run now.
    everything : whether every replica is to be placed; else any number of each class may be.
    """
    form = Regrouped(problem, groups, now)
    program = form.program
    takers: list[list[tuple[int, int]]] = [[] for _ in problem.slots]
    keepers: dict[tuple[int, int], list[tuple[int, int]]] = {}
    pinned: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for group in groups:
        n = len(group)
        form.columns.append(len(program.upper))
        variables = []
        for reshaped in group.columns:
            variable = program.variable(n)
            variables.append((variable, 1))
            for slot, count in reshaped.column.slots:
                takers[slot].append((variable, count))
            for place, count in reshaped.kept:
                keepers.setdefault(place, []).append((variable, count))
            for place, count in reshaped.pinned:
                pinned.setdefault(place, []).append((variable, -count))
        program.row(variables, low=n if group.held else -np.inf, high=n)
    for number, c in enumerate(problem.classes):
        for slot in c.options if c.count else ():
            form.pairs[number, slot] = variable = program.variable(c.most(slot) + (form.now.get(number, 0) if c.yields else 0))
            takers[slot].append((variable, -1))
    for terms in takers:
        program.row(terms, low=0)
    for place, terms in keepers.items():
        if place in form.pairs:
            form.kept[place] = variable = program.variable(program.upper[form.pairs[place]])
            program.row([*terms, (variable, -1)], low=0)
            program.row([(form.pairs[place], 1), (variable, -1)], low=0)
    for place, terms in pinned.items():
        program.row([*terms, (form.kept[place], 1)], low=0)
    for number, c in enumerate(problem.classes):
        if c.count:
            _class_rows(form, number, everything=everything)
    return form


def _class_rows(form: Regrouped, number: int, *, everything: bool) -> None:
    """Add what a class wants, and of a service what it stops without need."""
    program, c = form.program, form.problem.classes[number]
    mine = [form.pairs[number, slot] for slot in c.options]
    terms = [(variable, c.gain(slot)) for slot, variable in zip(c.options, mine, strict=True)]
    if everything:
        program.row(terms, low=c.goal, high=np.inf if c.yields else c.goal)
    elif not c.yields:
        program.row(terms, high=c.goal)
        form.units += [(variable, number) for variable in mine]
    served: int | None = None
    most = sum(program.upper[variable] for variable in mine)
    if c.yields and not everything:
        served = program.variable(1)
        form.units.append((served, number))
        program.row([*terms, (served, -c.need)], low=0)
        program.row([*((variable, -1) for variable in mine), (served, most)], low=0)
    now = form.now.get(number, 0)
    if c.yields and now:
        form.stopped[number] = stopped = program.variable(now)
        fewer = program.variable(1)
        program.row([(stopped, 1), (fewer, -now)], high=0)
        # stopped <= now - instances, where fewer is 1
        program.row([(stopped, 1), *((variable, 1) for variable in mine), (fewer, most)], high=now + most)
        if served is not None:
            program.row([(fewer, 1), (served, -1)], high=0)
