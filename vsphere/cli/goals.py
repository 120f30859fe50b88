"""Files that say which machines shall be: machines in YAML, plans, saved changes; and where they are to be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.plans import Plan
    from vsphere.changes import VmChanges
    from vsphere.machine import Vm, VmDefaults
    from vsphere.values import Inventory

_MAX_MIB = 2048

Defaults = Annotated[
    Path | None,
    typer.Option("--defaults", metavar="FILE", help="What machines of a plan are like (YAML): template, vcpus, ram_gib, ..."),
]
PlanId = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="NAME",
        help="Name under which the machines are ours; a later plan of the same name changes them instead of replacing them."
        " Default: a digest of the plan.",
    ),
]
Datastore = Annotated[str | None, typer.Option(metavar="NAME", help="Datastore of the files of a plan's machines.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="NAME",
        help="Host whose machines of ours the goal replaces; may be repeated. Default: all hosts that it names.",
    ),
]


@dataclass(frozen=True, slots=True)
class Shaping:
    """How machines are made of a plan: a file of defaults, and what options say in its place."""

    defaults: Path | None = None
    plan_id: str | None = None
    datastore: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.defaults, self.plan_id, self.datastore))

    def read(self) -> VmDefaults:
        """Return the defaults.

        Raises
        ------
        SpecError
            The file or a value is not valid.
        """
        from vsphere.machine import VmDefaults, read_defaults

        found = VmDefaults() if self.defaults is None else read_defaults(self.defaults)
        given: dict[str, Any] = {"plan": self.plan_id, "datastore": self.datastore}
        return replace(found, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Goal:
    """What a file says: one of a plan, machines, and changes.

    Parameters
    ----------
    origin : name of the file.
    plan : a plan, of which machines are made once the hosts are known.
    machines : machines as they stand in a file.
    saved : changes as they stand in a file.
    """

    origin: str
    plan: Plan | None = None
    machines: tuple[Vm, ...] | None = None
    saved: VmChanges | None = None

    def vms(self, shaping: Shaping, inventory: Inventory | None) -> tuple[Vm, ...]:
        """Return the machines that shall be.

        Parameters
        ----------
        shaping : what machines of a plan are like.
        inventory : the hosts; None takes what the catalogue says of them.

        Raises
        ------
        SpecError
            A machine cannot be made so, or defaults are given for machines that say all themselves.
        """
        from vsphere.machine import layout_vms

        if self.saved is not None:
            return self.saved.goal
        if self.machines is not None:
            if shaping:
                raise SpecError(
                    f"{self.origin}: holds machines, which say all themselves; --defaults, --id and --datastore go with a plan"
                )
            return self.machines
        assert self.plan is not None
        return layout_vms(self.plan, shaping.read(), hosts=() if inventory is None else inventory)


def read_goal(path: str | os.PathLike[str]) -> Goal:
    """Return what a file says: machines, a plan, or changes of machines.

    Raises
    ------
    SpecError
        The file is none of them, or not valid.
    """
    from partitioner.documents import read
    from partitioner.plans import FORMAT as PLAN
    from partitioner.plans import Plan
    from vsphere.changes import FORMAT as CHANGES
    from vsphere.changes import VmChanges
    from vsphere.machine import vms_from_yaml
    from vsphere.machine.files import FORMAT as VMS

    document = read(path, max_mib=_MAX_MIB)
    kind = document.data.get("format") if isinstance(document.data, Mapping) else None
    if kind == VMS:
        return Goal(document.origin, machines=vms_from_yaml(document.text, origin=document.origin))
    if kind == PLAN:
        return Goal(document.origin, plan=Plan.from_json(document.text, origin=document.origin))
    if kind == CHANGES:
        return Goal(document.origin, saved=VmChanges.from_document(document))
    raise SpecError(
        document.problem(
            f"its format is {kind!r}; machines (partitioner vsphere plan ... --vms FILE), a plan (--out FILE) or changes"
            " (partitioner vsphere diff ... --out FILE) are wanted"
        )
    )


def changes_to(goal: Goal, inventory: Inventory, shaping: Shaping, hosts: Iterable[str] | None) -> VmChanges:
    """Return the changes that lead from what there is to what a file says; changes are returned as they are.

    Raises
    ------
    SpecError
        The goal is not for these hosts, or options are given that saved changes have settled.
    TargetError
        The goal cannot be reached.
    """
    from vsphere.changes import diff

    if goal.saved is not None:
        if shaping or hosts:
            raise SpecError(f"{goal.origin}: holds changes, in which all is settled; give options to `partitioner vsphere diff`")
        return goal.saved
    return diff(inventory, goal.vms(shaping, inventory), hosts=hosts or None)


def vms_data(vms: Iterable[Vm]) -> list[Any]:
    """Return machines as plain data, what is as it is by default left out."""
    from pydantic import TypeAdapter

    from vsphere.machine import Vm

    data: list[Any] = TypeAdapter(tuple[Vm, ...]).dump_python(tuple(vms), mode="json", exclude_defaults=True)
    return data
