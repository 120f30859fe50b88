"""Machines whose settings fit and which have to be switched off and on all the same, since another needs their place.

vSphere chooses starts when machines are switched on, so one that runs keeps its start until it is switched off. Must not know in
which order steps come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from partitioner import catalog
from vsphere.changes.case import Case
from vsphere.machine.vm import Vm
from vsphere.values import Inventory, Mark, Place

_Where = tuple[str | None, int]


def making_room(current: Inventory, fresh: Sequence[Vm], cases: Sequence[Case]) -> list[Case]:
    """Return the cases, those with a reason to be off which stand where a machine that is switched on shall stand.

    Parameters
    ----------
    current : what there is.
    fresh : machines to be made.
    cases : machines that are there and shall be.
    """
    wanted: dict[_Where, int] = {}
    for vm in fresh:
        _want(current, wanted, vm.host, vm.mark.places if vm.power_on else ())
    found = list(cases)
    for case in cases:
        _want(current, wanted, case.settings.host, _goal(case) if case.goes_on else ())
    again = True
    while again:
        again = False
        for number, case in enumerate(found):
            if case.goes_off or not case.info.powered_on or not _stands_in_the_way(current, wanted, case):
                continue
            found[number] = replace(case, reason="makes room on its GPU, where it shall stand elsewhere")
            _want(current, wanted, case.settings.host, _goal(case))
            again = True
    return found


def _stands_in_the_way(current: Inventory, wanted: dict[_Where, int], case: Case) -> bool:
    """Whether a place of a machine that is not to stay there is wanted by another one."""
    host, goal = case.info.host, _goal(case)
    before = case.info.mark.places if case.info.mark is not None else ()
    leaves = [place for place in before if goal and (place.gpu, place.start) not in {(p.gpu, p.start) for p in goal}]
    return any(wanted.get((host, place.gpu), 0) & _units(current, host, place) for place in leaves)


def _goal(case: Case) -> tuple[Place, ...]:
    mark = Mark.of(dict(case.settings.options))
    return () if mark is None else mark.places


def _want(current: Inventory, wanted: dict[_Where, int], host: str | None, places: Sequence[Place]) -> None:
    for place in places:
        wanted[host, place.gpu] = wanted.get((host, place.gpu), 0) | _units(current, host, place)


def _units(current: Inventory, host: str | None, place: Place) -> int:
    """Return the units of a GPU that a place takes, as a bit mask; none where starts mean nothing to vSphere."""
    gpus = {} if host is None or host not in current.host else {gpu.index: gpu for gpu in current.host[host].gpus}
    model = gpus[place.gpu].model if place.gpu in gpus else None
    if model is None or place.mode != "mig":
        return 0
    profile = catalog.gpu(model).geometry(place.mode).profile(place.profile)
    return (1 << place.start + profile.extent) - (1 << place.start)
