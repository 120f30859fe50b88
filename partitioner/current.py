"""What runs now, as a user hands it to the planner: layouts, who is pinned, what is to be vacated; and workloads made of it.

Everything is checked against the fleet here, so that solvers need not. This module must not know plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from partitioner import catalog
from partitioner.errors import Problem, SpecError, did_you_mean
from partitioner.fleet import Fleet, Gpu
from partitioner.geometry import Profile
from partitioner.layout import NOBODY, Layout, Pattern, gpu_label
from partitioner.solver.question import pins
from partitioner.workload import Workload, Workloads, read_workloads

_MAX_PROBLEMS = 20  # of what runs now that are listed
_MAX_HINTED = 10_000  # names among which near matches are looked for


def workloads_of(layout: object) -> Workloads:
    """Return what runs in a layout as workloads, for planning it anew.

    Parameters
    ----------
    layout : a `Layout`, or anything with a ``layout`` such as a `Plan`.

    Returns
    -------
    For each occupant its profile and its number of replicas; one that stands on several profiles asks for the memory and
    the compute slices of the least of them.

    Raises
    ------
    SpecError
        It is no layout, or nobody stands in it.

    Examples
    --------
    >>> from partitioner import plan_mig
    >>> before = plan_mig({"3g.40gb": 2}, gpus=2)
    >>> plan_mig(workloads_of(before), gpus=2, current=before).moves
    ()
    """
    found = _layout_in(layout)
    places: dict[str, dict[Profile, int]] = {}
    modes: dict[str, set[str]] = {}
    replicas: dict[str, dict[int, int]] = {}
    occupants, numbers, position = found.occupant.tolist(), found.replica.tolist(), 0
    for row in found.gpu_pattern.tolist():
        pattern = found.patterns[row]
        for placement in pattern.placements:
            if occupants[position] != NOBODY:
                name = found.workloads[occupants[position]]
                profiles = places.setdefault(name, {})
                profiles[placement.profile] = profiles.get(placement.profile, 0) + 1
                modes.setdefault(name, set()).add(pattern.mode or "")
                of = replicas.setdefault(name, {})
                of[numbers[position]] = of.get(numbers[position], 0) + 1
            position += 1
    if not places:
        raise SpecError("workloads_of: nobody stands in the layout; there is nothing to plan anew")
    return read_workloads([_occupant(name, places[name], modes[name], replicas[name]) for name in places])


def _occupant(name: str, profiles: dict[Profile, int], modes: set[str], replicas: dict[int, int]) -> Workload:
    """Return a workload that asks for what it has."""
    several = max(replicas.values())
    names = {profile.name for profile in profiles}
    if len(names) == 1:
        return Workload(name, len(replicas), names.pop(), gpus_per_replica=several)
    slices = min(profile.compute_slices for profile in profiles)
    return Workload(
        name,
        len(replicas),
        memory_gib=min(profile.memory_mib for profile in profiles) / 1024,
        compute_slices=slices or None,
        isolation="hardware" if modes <= {"mig", "whole"} else "any",
        gpus_per_replica=several,
    )


def _layout_in(value: object) -> Layout:
    """Return a layout, or the one that a plan or another value has."""
    found = value if isinstance(value, Layout) else getattr(value, "layout", None)
    found = found() if callable(found) else found  # a target reads it
    if not isinstance(found, Layout):
        raise SpecError(f"current is a {type(value).__name__}, not a Layout, nor anything with a layout such as a Plan")
    return found


def read_current(current: object, there: Fleet | str, gpus: int | None) -> Layout | None:
    """Return what runs now, on GPUs that are there.

    Parameters
    ----------
    current : a `Layout`, anything that has one, or None.
    there : the fleet, or the model of GPUs without hosts.
    gpus : how many of that model there are; None: as many as needed.

    Raises
    ------
    SpecError
        It is no layout, or contradicts the fleet; every such GPU, up to 20.
    """
    if current is None:
        return None
    layout = _layout_in(current)
    if isinstance(there, Fleet):
        problems = list(islice(_unlike_fleet(layout, there), _MAX_PROBLEMS))
    else:
        problems = list(islice(_unlike_pool(layout, there, gpus), _MAX_PROBLEMS))
    if problems:
        raise SpecError([Problem(message, field="current") for message in problems])
    return layout


def _unlike_pool(layout: Layout, model: str, gpus: int | None) -> Iterator[str]:
    for host, index, pattern in _gpus_of(layout):
        who = gpu_label(host, index)
        if host is not None:
            yield f"{who} stands in a host, but the plan is for {model} without hosts; plan for a fleet, with fleet="
        elif layout.patterns[pattern].model != model:
            yield f"{who} is a {layout.patterns[pattern].model}, but the plan is for {model}; give the same model"
        elif gpus is not None and index >= gpus:
            yield f"{who} is beyond the {gpus} GPUs that there are; give gpus={index + 1} or more"


def _unlike_fleet(layout: Layout, fleet: Fleet) -> Iterator[str]:
    hosts = {host.name: host.gpus for host in fleet.hosts}
    checked: set[tuple[int, int]] = set()
    for host, index, pattern in _gpus_of(layout):
        gpus = hosts.get(host) if host is not None else None
        who = gpu_label(host, index)
        if gpus is None:
            hint = did_you_mean(host or "", hosts) if len(hosts) < _MAX_HINTED else ""
            yield f"{who} stands in a host that the fleet has not" + (f"; {hint}" if hint else "; give the fleet that it is of")
        elif index >= len(gpus):
            yield f"{who} is not in the fleet; {host} has GPUs 0 to {len(gpus) - 1}"
        elif (id(gpus[index]), pattern) not in checked:  # equal GPUs are mostly one object
            checked.add((id(gpus[index]), pattern))
            reason = _unlike_gpu(layout.patterns[pattern], gpus[index])
            if reason:
                checked.discard((id(gpus[index]), pattern))
                yield f"{who} {reason}"


def _gpus_of(layout: Layout) -> Iterator[tuple[str | None, int, int]]:
    """Iterate over host, index and pattern of every GPU."""
    names = layout.hosts
    for host, index, pattern in zip(
        layout.gpu_host.tolist(), layout.gpu_index.tolist(), layout.gpu_pattern.tolist(), strict=True
    ):
        yield names[host], index, pattern


def _unlike_gpu(pattern: Pattern, gpu: Gpu) -> str | None:
    """Return how a GPU of the fleet contradicts what stands on it now; None where it does not."""
    if pattern.model != gpu.model:
        return f"is a {pattern.model} in current and a {gpu.model} in the fleet; they must be the same"
    if not pattern.placements:
        return None
    if gpu.mode is not None and pattern.mode != gpu.mode:
        return f"({gpu.model}) is in mode {pattern.mode}, but the fleet says that it must stay in {gpu.mode}; leave its mode open"
    existing = [text for text in gpu.instances if text not in {str(placement) for placement in pattern.placements}]
    if existing:
        geometry = catalog.gpu(gpu.model).geometry(pattern.mode or "")
        both = [(name, int(start)) for name, _, start in (text.rpartition("@") for text in existing)]
        reason = geometry.violation([*both, *((p.profile.name, p.start) for p in pattern.placements)])
        if reason:
            return (
                f"({gpu.model}) has {', '.join(existing)} in the fleet and other placements in current: {reason}; make them agree"
            )
    return None


def _names(value: object, what: str, example: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise SpecError(f"{what} is {value!r}, not names; e.g. {example}")
    return tuple(dict.fromkeys(names))


def read_pinned(pinned: object, workloads: Workloads, current: Layout | None) -> tuple[str, ...]:
    """Return the workloads, or ``workload/replica``, that have to stay where they are.

    Parameters
    ----------
    pinned : names.
    workloads : what is asked for.
    current : what runs now.

    Raises
    ------
    SpecError
        A name is of no workload or replica that is asked for, or nothing says what runs now.
    """
    names = _names(pinned, "pinned", "('chat', 'embed/0')")
    if names and current is None:
        raise SpecError(f"pinned {names[0]!r} has to stay where it is, but nothing says where that is; give current=")
    known = pins(names, workloads)
    counts = {workload.name: workload.count for workload in workloads if workload.model is None}
    for text in names:
        name, _, number = text.rpartition("/")
        if text in known:
            continue
        if name not in known or not number.isdecimal():
            every = [workload.name for workload in islice(workloads, _MAX_HINTED)]
            hint = did_you_mean(text, every) or "write the name of a workload, or workload/replica"
            raise SpecError(f"pinned {text!r} is no workload of this plan, and no replica of one; {hint}")
        if int(number) >= counts.get(name, 2**31):
            raise SpecError(f"pinned {text!r}: {name!r} has replicas 0 to {counts[name] - 1}")
    return names


def read_vacate(vacate: object, fleet: Fleet | None) -> tuple[str, ...]:
    """Return the hosts and GPUs on which nothing may stand.

    Parameters
    ----------
    vacate : names of hosts and GPUs (``esx-01/gpu0``).
    fleet : the GPUs.

    Raises
    ------
    SpecError
        A name is of no host or GPU, or an instance has to stay there.
    """
    names = _names(vacate, "vacate", "('esx-01', 'esx-02/gpu3')")
    if names and fleet is None:
        raise SpecError(f"vacate {names[0]!r} names hosts and GPUs; plan for a fleet, with fleet=")
    if not names or fleet is None:
        return ()
    there = {host.name: host.gpus for host in fleet.hosts}
    for name in names:
        host, _, index = name.rpartition("/gpu")
        gpus = there.get(name)
        if gpus is None and host in there and index.isdecimal() and int(index) < len(there[host]):
            gpus = (there[host][int(index)],)
        if gpus is None:
            hint = did_you_mean(name, there) if len(there) < _MAX_HINTED else ""
            message = f"vacate {name!r} is no host and no GPU (written 'host/gpu0') of the fleet"
            raise SpecError(message + (f"; {hint}" if hint else ""))
        busy = next((gpu for gpu in gpus if gpu.instances), None)
        if busy is not None:
            raise SpecError(f"vacate {name!r}: instance {busy.instances[0]} exists there and must stay, says the fleet; drop one")
    return names
