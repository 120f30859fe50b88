"""Which physical GPU each vGPU got, compared with the plan: vSphere chooses, so that only afterwards it is known.

Must not know pyVmomi.
"""

from __future__ import annotations

from collections.abc import Iterable

from vsphere.machine.vm import Vm
from vsphere.values import Inventory


def other_gpus(now: Inventory, vms: Iterable[Vm]) -> tuple[str, ...]:
    """Return one line for each running machine that is on other GPUs than planned; none where vCenter does not say.

    GPUs of a host that are planned alike may be exchanged: then nothing was lost, and the line says so.
    """
    by_uuid = {info.instance_uuid: info for info in now.vms}
    by_name = {info.name: info for info in now.vms if info.mark is not None}
    used: dict[str, set[int]] = {}
    for host in now.hosts:
        for gpu in host.gpus:
            for moid in gpu.vms:
                used.setdefault(moid, set()).add(gpu.index)
    rows: list[tuple[Vm, set[int], set[int]]] = []
    for vm in vms:
        info = by_uuid.get(vm.instance_uuid) or by_name.get(vm.name)
        planned = {place.gpu for place in vm.mark.places}
        got = used.get(info.moid) if info is not None and info.powered_on else None
        if planned and got is not None:
            rows.append((vm, planned, got))
    alike = _exchanged(rows)
    lines = []
    for vm, planned, got in rows:
        if planned != got:
            note = "; its neighbours are as planned" if vm.host in alike else ""
            lines.append(f"VM {vm.name!r} on {vm.host}: got GPU {_listed(got)}, planned GPU {_listed(planned)}{note}")
    return tuple(lines)


def _exchanged(rows: list[tuple[Vm, set[int], set[int]]]) -> set[str | None]:
    """Return the hosts where who shares a GPU with whom is as planned, though on other GPUs."""
    groups: dict[str | None, tuple[dict[int, set[str]], dict[int, set[str]]]] = {}
    for vm, planned, got in rows:
        wished, real = groups.setdefault(vm.host, ({}, {}))
        for gpu in planned:
            wished.setdefault(gpu, set()).add(vm.name)
        for gpu in got:
            real.setdefault(gpu, set()).add(vm.name)
    return {
        host
        for host, (wished, real) in groups.items()
        if sorted(map(sorted, wished.values())) == sorted(map(sorted, real.values()))
    }


def _listed(gpus: set[int]) -> str:
    return ", ".join(map(str, sorted(gpus)))
