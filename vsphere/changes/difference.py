"""`diff`: from what a vCenter has and the machines that shall be to the steps between them. Pure: asks no vCenter.

First all that interrupts nobody (new machines are made), then everybody who has to is switched off, changed and switched on
again, and only when all that runs are machines destroyed: up to there everything can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from partitioner.errors import SpecError, TargetError
from vsphere.changes.case import Case
from vsphere.changes.changes import VmChanges
from vsphere.changes.order import Start, Turn, power_on_order
from vsphere.changes.owners import pair, twice
from vsphere.changes.packing import rule_steps
from vsphere.changes.room import making_room
from vsphere.changes.settings import differences, found, wanted
from vsphere.changes.step import Kind, VmStep
from vsphere.machine.vm import Vm
from vsphere.values import HostInfo, Inventory, Mark, VmInfo


def diff(current: Inventory, vms: Sequence[Vm], *, hosts: Iterable[str] | None = None) -> VmChanges:
    """Return the steps that lead from what a vCenter has to the machines that shall be.

    Parameters
    ----------
    current : what it has.
    vms : what shall be.
    hosts : hosts whose machines of ours the goal replaces. None takes those that it names, and replaces besides, as a whole,
        each plan of which it takes a machine over (same name, workload and replica). Machines of ours that are replaced and
        are not in the goal are destroyed; machines of other plans elsewhere are left as they are.

    Returns
    -------
    Steps in an order in which they may be carried out one by one. A machine that fits already is kept. A change of GPUs, of
    vCPUs, memory or of the host takes a machine off and is marked ``!``.

    Raises
    ------
    SpecError
        A host is not known, or a name or UUID stands twice.
    TargetError
        The goal cannot be reached: a name or UUID belongs to a machine that is not ours, a host is disconnected or in
        maintenance mode, or does not offer a vGPU type. Names all of them.

    Notes
    -----
    Identity is the instance UUID, then workload and replica in the mark. Machines that do not carry our mark are never
    touched. Linear in machines, apart from the order of switching on, which is quadratic for each host.
    """
    vms = tuple(vms)
    area = tuple(sorted({vm.host for vm in vms if vm.host is not None} if hosts is None else set(hosts)))
    return _changes(current, vms, area, None, whole_plans=hosts is None)


def remaining(current: Inventory, changes: VmChanges) -> VmChanges:
    """Return what is still to be done of changes, from what there is now; nobody is destroyed who was not to be.

    Raises
    ------
    SpecError, TargetError
        As of `diff`.
    """
    doomed = {step.moid for step in changes.steps if step.kind == "destroy" and step.moid is not None}
    return _changes(current, changes.goal, changes.hosts, doomed, whole_plans=True)


def _changes(
    current: Inventory, vms: tuple[Vm, ...], area: tuple[str, ...], doomed: set[str] | None, *, whole_plans: bool
) -> VmChanges:
    _check_goal(current, vms, area)
    pairs = pair(current, vms, set(area), whole_plans=whole_plans)
    ends = [info for info in pairs.doomed if doomed is None or info.moid in doomed]
    gpus = _gpus_of(current)
    cases: list[Case] = []
    fresh: list[Vm] = []
    acting: list[Vm] = []
    for vm, info in zip(vms, pairs.known, strict=True):
        if info is None:
            fresh.append(vm)
            continue
        case = _case(vm, info, gpus.get(info.moid, ()))
        cases.append(case)
        if case.changed or case.moves or case.goes_on:
            acting.append(vm)
    cases = making_room(current, fresh, cases)
    problems = [*pairs.problems, *_unreachable(current, [*fresh, *acting])]
    if problems:
        raise TargetError("\n".join([f"{current.vcenter}: the machines cannot be made so", *problems[:_MAX_PROBLEMS]]))
    steps = sequence(current, fresh, cases, ends, goal=vms)
    touched = {step.moid for step in steps if step.kind != "keep"}
    base = tuple(info for info in current.vms if info.moid in touched)
    clusters = tuple(cluster for cluster in current.clusters if cluster.moid in touched)
    return VmChanges(current.vcenter, base, vms, steps, area, clusters, tuple(sorted(info.name for info in pairs.left)))


_MAX_PROBLEMS = 50


def sequence(
    current: Inventory, fresh: Sequence[Vm], cases: Sequence[Case], doomed: Sequence[VmInfo], *, goal: Sequence[Vm] = ()
) -> tuple[VmStep, ...]:
    """Return the steps for machines to be made, those that are there, and those to be destroyed, in order."""
    names = {vm.name for vm in fresh} | {case.settings.name for case in cases}
    early = [info for info in doomed if info.name in names]
    late = [info for info in doomed if info.name not in names]
    steps = [step for info in early for step in (*_ended(info), _destroy(info, "its name is needed"))]
    steps += [_create(vm) for vm in fresh]
    steps += [_off(case) for case in cases if case.goes_off]
    steps += [step for info in late for step in _ended(info)]
    known = {case.settings.name: case.info.moid for case in cases}
    steps += rule_steps(current, goal, known, {info.moid for info in doomed})
    steps += [_step("move", case, source=case.info.host) for case in cases if case.moves]
    for case in cases:
        if case.changed:
            steps.append(_step("reconfigure", case, what=tuple(map(str, case.changed))))
    steps += _starts(current, fresh, cases, doomed)
    steps += [_destroy(info, "not in the goal") for info in late]
    steps += [_step("keep", case) for case in cases if not case.changed and not case.moves and not case.goes_on]
    return tuple(steps)


def _case(vm: Vm, info: VmInfo, gpus: tuple[int, ...]) -> Case:
    goal, now = wanted(vm), found(info)
    changed = differences(now, goal)
    return Case(info, goal, vm.power_on, changed, _regrouped(vm, info, gpus), vm.workload, vm.replicas)


def _regrouped(vm: Vm, info: VmInfo, gpus: tuple[int, ...]) -> str:
    """Return why a machine with the right settings has to get its GPUs anew; empty where it need not.

    What was asked for at the last apply is compared, not what vSphere made of it: it would not choose otherwise now.
    """
    before, after = info.mark.places if info.mark is not None else (), vm.mark.places
    asked, wished = tuple(sorted(p.gpu for p in before)), tuple(sorted(p.gpu for p in after))
    if not before or not after or asked == wished or gpus == wished or vm.host != info.host:
        return ""
    return f"from GPU {_numbers(gpus or asked)} to GPU {_numbers(wished)}"


def _gpus_of(current: Inventory) -> dict[str, tuple[int, ...]]:
    """Return the GPUs that running machines use, by the machine's id."""
    gpus: dict[str, list[int]] = {}
    for host in current.hosts:
        for gpu in host.gpus:
            for moid in gpu.vms:
                gpus.setdefault(moid, []).append(gpu.index)
    return {moid: tuple(sorted(indices)) for moid, indices in gpus.items()}


# -- what cannot be -------------------------------------------------------------------------------------------------------


def _check_goal(current: Inventory, vms: Sequence[Vm], hosts: Iterable[str]) -> None:
    known = set(current.host)
    problems = twice(vms)
    listed = ", ".join(sorted(known)[:8]) or "none"
    for name in sorted({vm.host for vm in vms if vm.host is not None} | set(hosts)):
        if name not in known:
            problems.append(f"host {name!r} is not in {current.vcenter}; hosts are {listed}")
    if problems:
        raise SpecError("\n".join(problems[:_MAX_PROBLEMS]))


def _unreachable(current: Inventory, vms: Sequence[Vm]) -> list[str]:
    """Return one line for each host that cannot take machines, and each vGPU type that its host does not offer."""
    lines: list[str] = []
    for vm in vms:
        host = None if vm.host is None else current.host[vm.host]
        if host is None:
            continue
        if not host.usable:
            state = "is in maintenance mode" if host.connected else "is disconnected"
            lines.append(f"{vm.name}: host {host.name} {state}; bring it back, or plan without it")
            continue
        missing = [name for name in dict.fromkeys(vm.vgpus) if name not in host.vgpu_types]
        lines += [f"{vm.name}: host {host.name} does not offer {name}; it offers {_offer(host)}" for name in missing]
    return lines


def _offer(host: HostInfo) -> str:
    return ", ".join(host.vgpu_types) or "none: its graphics type must be sharedDirect, see prepare-hosts"


# -- steps ----------------------------------------------------------------------------------------------------------------


def _create(vm: Vm) -> VmStep:
    made = wanted(vm)
    counts = [str(device) for device in made.devices]
    what = (f"with {', '.join(counts)}", f"{vm.vcpus} vCPUs", f"{vm.ram_gib:g} GiB")
    return VmStep("create", vm.name, vm.instance_uuid, vm.host, None, vm.workload, vm.replicas, what=what)


def _step(kind: Kind, case: Case, *, source: str | None = None, what: tuple[str, ...] = (), reason: str = "") -> VmStep:
    name = case.settings.name if kind in ("reconfigure", "power on", "keep") else case.info.name
    host = case.settings.host if kind not in ("power off", "keep") else case.info.host
    uuid = case.info.instance_uuid
    host = host or case.info.host
    return VmStep(kind, name, uuid, host, case.info.moid, case.workload, case.replicas, source=source, what=what, reason=reason)


def _off(case: Case) -> VmStep:
    stays_off = not case.power_on
    if case.moves:
        reason = f"moves to {case.settings.host}"
    elif case.reason:
        reason = case.reason
    else:
        reason = f"changes {', '.join(d.setting for d in case.changed if d.off)}"
    step = _step("power off", case, reason=reason)
    return (
        step if case.info.suspended else replace(step, interrupts=step.who, reason=reason + ("; stays off" if stays_off else ""))
    )


def _ended(info: VmInfo) -> list[VmStep]:
    """Return the step that ends a machine for good, none where it is off."""
    return [_doomed("power off", info, "not in the goal")] if info.powered_on or info.suspended else []


def _destroy(info: VmInfo, reason: str) -> VmStep:
    return _doomed("destroy", info, reason)


def _doomed(kind: Kind, info: VmInfo, reason: str) -> VmStep:
    mark = info.mark
    replicas = () if mark is None else tuple(dict.fromkeys([mark.replica, *(place.replica for place in mark.places)]))
    workload = "" if mark is None else mark.workload
    return VmStep(kind, info.name, info.instance_uuid, info.host, info.moid, workload, replicas, reason=reason)


def _starts(
    current: Inventory,
    fresh: Sequence[Vm],
    cases: Sequence[Case],
    doomed: Sequence[VmInfo],
) -> list[VmStep]:
    """Return the steps that switch machines on, host after host, in the order that realises the packing."""
    waiting: dict[str | None, list[tuple[Start, VmStep]]] = {}
    for vm in fresh:
        if vm.power_on:
            step = VmStep("power on", vm.name, vm.instance_uuid, vm.host, None, vm.workload, vm.replicas)
            waiting.setdefault(vm.host, []).append((Start(vm.name, vm.mark.places), step))
    leaving = {case.info.moid for case in cases if case.goes_off} | {info.moid for info in doomed}
    for case in cases:
        if case.goes_on:
            step = _step("power on", case)
            mark = Mark.of(dict(case.settings.options))
            waiting.setdefault(step.host, []).append((Start(step.name, () if mark is None else mark.places), step))
    running: dict[str | None, list[VmInfo]] = {}
    for info in current.vms:
        if (info.powered_on or info.suspended) and info.moid not in leaving:
            running.setdefault(info.host, []).append(info)
    steps: list[VmStep] = []
    for name, entries in waiting.items():
        host = None if name is None else current.host.get(name)
        by_key = {start.key: (start, step) for start, step in entries}
        if host is None:
            steps += [step for _, step in entries]
            continue
        for turn in power_on_order(host, [start for start, _ in entries], running.get(name, ())):
            start, step = by_key[turn.key]
            steps.append(replace(step, reason=_expected(start, turn)))
    return steps


def _expected(start: Start, turn: Turn) -> str:
    """Say which GPUs a machine is expected to get, and where that is not as planned."""
    if not start.places:
        return ""
    planned = _numbers(place.gpu for place in start.places)
    if None in turn.gpus:
        return f"no GPU with room is seen; planned GPU {planned}"
    got = _numbers(gpu for gpu in turn.gpus if gpu is not None)
    return f"GPU {planned}" if got == planned else f"vSphere is expected to choose GPU {got}; planned GPU {planned}"


def _numbers(gpus: Iterable[int]) -> str:
    return ", ".join(map(str, gpus))
