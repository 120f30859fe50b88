"""Which machine that is there is which machine of the goal, and whom we may touch.

Identity is the instance UUID, then the mark: workload and replica. Machines without our mark are never touched. Must not know
settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from vsphere.machine.identity import instance_uuid
from vsphere.machine.vm import Vm
from vsphere.values import Inventory, Mark, VmInfo


@dataclass(frozen=True, slots=True)
class Pairs:
    """Who is who.

    Parameters
    ----------
    known : for each machine of the goal the one that is there, None where it is to be made.
    doomed : machines of ours that the goal does not have.
    left : machines of ours elsewhere, which are no part of this goal.
    problems : why the goal cannot be reached, one line each.
    """

    known: tuple[VmInfo | None, ...]
    doomed: tuple[VmInfo, ...]
    left: tuple[VmInfo, ...]
    problems: tuple[str, ...]


def pair(current: Inventory, vms: Sequence[Vm], hosts: Collection[str], *, whole_plans: bool) -> Pairs:
    """Match the machines that are there with those that shall be.

    Parameters
    ----------
    current : what there is.
    vms : what shall be.
    hosts : hosts whose machines of ours the goal replaces.
    whole_plans : whether the goal also replaces, as a whole, each plan of which it takes a machine over: one of the same name,
        workload and replica.

    Notes
    -----
    Machines of one of the goal's own plans always belong to it. Linear.
    """
    plans = {vm.plan for vm in vms}
    if whole_plans:
        meant = {(vm.name, vm.workload, vm.replicas[0]) for vm in vms}
        plans |= {mark.plan for info, mark in current.ours() if (info.name, mark.workload, mark.replica) in meant}
    ours: dict[str, tuple[VmInfo, Mark]] = {}
    left: list[VmInfo] = []
    copies = copied(current)
    for info, mark in current.ours():
        if info.moid in copies or info.template:
            continue
        if info.host in hosts or mark.plan in plans:
            ours[info.moid] = (info, mark)
        else:
            left.append(info)
    found = _by_uuid(current, vms)
    problems = [f"{vm.name}: {problem}" for vm, info in zip(vms, found, strict=True) if (problem := _stranger(vm, info))]
    for partner in found:
        if partner is not None:
            ours.pop(partner.moid, None)
    _by_mark(ours, vms, found)
    problems += _taken_names(current, vms, found, ours)
    gone = tuple(info for info, _ in ours.values())
    return Pairs(tuple(found), gone, tuple(left), tuple(problems))


def copied(current: Inventory) -> set[str]:
    """Return the ids of machines that carry our mark because somebody copied one of ours: a clone has the marks of its origin.

    Of machines with the same plan, workload and replica the one whose instance UUID comes from them is ours; where none has it,
    which is the copy is not known, and none of them is touched.
    """
    alike: dict[tuple[str, str, int], list[VmInfo]] = {}
    for info, mark in current.ours():
        alike.setdefault((mark.plan, mark.workload, mark.replica), []).append(info)
    found: set[str] = set()
    for (plan, workload, replica), infos in alike.items():
        if len(infos) > 1:
            found |= {info.moid for info in infos if info.instance_uuid != _derived(info, plan, workload, replica)}
    return found


def _derived(info: VmInfo, plan: str, workload: str, replica: int) -> str:
    places = info.mark.places if info.mark is not None else ()
    return instance_uuid(plan, workload, {place.replica for place in places if place.workload == workload} or [replica])


def _by_uuid(current: Inventory, vms: Sequence[Vm]) -> list[VmInfo | None]:
    known = {info.instance_uuid: info for info in current.vms if info.instance_uuid}
    return [known.get(vm.instance_uuid) for vm in vms]


def _stranger(vm: Vm, info: VmInfo | None) -> str | None:
    if info is None:
        return None
    if info.mark is None:
        return (
            f"the machine {info.name!r} ({info.moid}) has its instance UUID {vm.instance_uuid} and does not carry our mark; "
            "it is not touched: remove it, or put its marks back"
        )
    if info.template:
        return f"the machine {info.name!r} ({info.moid}) was made a template; turn it back into a machine"
    return None


def _by_mark(ours: dict[str, tuple[VmInfo, Mark]], vms: Sequence[Vm], found: list[VmInfo | None]) -> None:
    """Give machines of the goal that have no partner one of the same workload and replica; takes it out of `ours`."""
    serving: dict[tuple[str, int], list[VmInfo]] = {}
    for info, mark in ours.values():
        if not info.template:
            serving.setdefault((mark.workload, mark.replica), []).append(info)
    for row, vm in enumerate(vms):
        if found[row] is not None:
            continue
        candidates = serving.get((vm.workload, vm.replicas[0]), [])
        if candidates:  # of several, one that need not be renamed or moved
            best = min(candidates, key=lambda info: (info.name != vm.name, info.host != vm.host, info.moid))
            candidates.remove(best)
            found[row] = ours.pop(best.moid)[0]


def _taken_names(
    current: Inventory, vms: Sequence[Vm], found: Sequence[VmInfo | None], ours: dict[str, tuple[VmInfo, Mark]]
) -> list[str]:
    """Return one line for each name that a machine shall get and another one has."""
    partners = {info.moid for info in found if info is not None}
    holders: dict[str, list[VmInfo]] = {}
    for info in current.vms:
        holders.setdefault(info.name, []).append(info)
    lines = []
    for vm, own in zip(vms, found, strict=True):
        if own is not None and own.name == vm.name:
            continue
        for other in holders.get(vm.name, []):
            if own is not None and other.moid == own.moid:
                continue
            where = f"on {other.host}" if other.host else "elsewhere"
            if other.mark is None:
                lines.append(
                    f"{vm.name}: a machine of that name ({other.moid}, {where}) is there and is not ours; it is not touched: "
                    "give ours another name, or rename that one"
                )
            elif other.moid in partners:
                lines.append(
                    f"{vm.name}: the machine of ours of that name ({other.moid}, {where}, for {_served(other)}) gets another "
                    "name by these changes; give this one a name that nobody has"
                )
            elif other.moid not in ours:  # one that is doomed goes before its name is needed
                lines.append(
                    f"{vm.name}: a machine of that name ({other.moid}, {where}) belongs to another plan, {_plan(other)}; "
                    "destroy that plan, name its host in hosts, or give this one another name"
                )
    return lines


def _served(info: VmInfo) -> str:
    return "nobody" if info.mark is None else f"{info.mark.workload}/{info.mark.replica}"


def _plan(info: VmInfo) -> str:
    return "none" if info.mark is None else info.mark.plan


def twice(vms: Iterable[Vm]) -> list[str]:
    """Return one line for each name or UUID that stands twice in a goal."""
    lines, names, uuids = [], set(), set()
    for vm in vms:
        if vm.name in names:
            lines.append(f"{vm.name}: the name stands twice; each machine has its own")
        elif vm.instance_uuid in uuids:
            lines.append(f"{vm.name}: its instance UUID {vm.instance_uuid} stands twice; each machine has its own")
        names.add(vm.name)
        uuids.add(vm.instance_uuid)
    return lines
