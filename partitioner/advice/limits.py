"""What may bind a workload: each limit and rule with the question in which it alone does not hold.

Values only; the questions are asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from partitioner.advice.fleets import change_gpus, change_hosts
from partitioner.advice.whatif import change_workload
from partitioner.fleet import Fleet, Host
from partitioner.solver.inquiry import Inquiry
from partitioner.workload import Workload

SMALLEST_GIB = 0.001


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit or rule, and what happens without it.

    Parameters
    ----------
    name : the field that says it, e.g. ``vcpus``, ``spread``; ``gpus`` for the number of GPUs and how they can be cut.
    words : what limits, in words.
    fits : of a workload left out, whether it fits once this alone is dropped; None where that was not settled.
    gpus_saved : of a workload placed, GPUs saved once this alone is dropped; None where it was not settled.
    """

    name: str
    words: str
    fits: bool | None = None
    gpus_saved: int | None = None


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One limit dropped.

    Parameters
    ----------
    limit : the limit.
    inquiry : the question without it.
    remedy : how to drop it, in words; empty where it is not the user's to drop, as what hardware has.
    """

    limit: Limit
    inquiry: Inquiry
    remedy: str = ""


def relaxations(inquiry: Inquiry, name: str) -> Iterator[Relaxation]:
    """Iterate over the limits and rules that concern a workload, each dropped alone.

    Parameters
    ----------
    inquiry : the question whether everything fits; see `whatif.question`.
    name : the workload.
    """
    workload = next(w for w in inquiry.workloads if w.name == name)
    yield from _of_neighbours(inquiry, workload)
    yield from _of_the_workload(inquiry, workload)
    yield from _of_the_service(inquiry, workload)
    if inquiry.fleet is not None:
        yield from _of_hosts(inquiry, inquiry.fleet)
        yield from _of_gpus(inquiry, inquiry.fleet)
    if inquiry.modes != inquiry.widest_modes:
        words = f"modes: only {', '.join(inquiry.modes or ())}"
        yield Relaxation(Limit("modes", words), replace(inquiry, modes=inquiry.widest_modes), "allow all modes")
    if inquiry.host_failures:
        words = "host_failures: room for the replicas of a host that fails"
        yield Relaxation(Limit("host_failures", words), replace(inquiry, host_failures=0), "plan without host_failures")


def _of_neighbours(inquiry: Inquiry, workload: Workload) -> Iterator[Relaxation]:
    name = workload.name
    asked_by = [w.name for w in inquiry.workloads if name in w.apart_from]
    apart = dict.fromkeys((*workload.apart_from, *asked_by))
    groups = [(other,) for other in apart] + ([tuple(apart)] if len(apart) > 1 else [])
    for group in groups:
        listed = ", ".join(map(repr, group))
        limit = Limit("apart_from", f"apart_from: no {_shared(inquiry, name, group)} shared with {listed}")
        yield Relaxation(limit, _without_apart(inquiry, name, group), f"let it share with {listed}")
    groups = [(other,) for other in workload.together_with]
    groups += [workload.together_with] if len(groups) > 1 else []
    for group in groups:
        listed = ", ".join(map(repr, group))
        rest = tuple(other for other in workload.together_with if other not in group)
        limit = Limit("together_with", f"together_with: on the same {workload.together_on} as {listed}")
        yield Relaxation(limit, _changed(inquiry, name, together_with=rest), f"let it run without {listed} beside it")


def _shared(inquiry: Inquiry, name: str, others: tuple[str, ...]) -> str:
    levels = {
        w.apart_on for w in inquiry.workloads if (w.name == name and set(others) & set(w.apart_from)) or _names(w, name, others)
    }
    return "host" if "host" in levels else "GPU"


def _names(workload: Workload, name: str, others: tuple[str, ...]) -> bool:
    return workload.name in others and name in workload.apart_from


def _without_apart(inquiry: Inquiry, name: str, others: tuple[str, ...]) -> Inquiry:
    def dropped(workload: Workload, names: tuple[str, ...]) -> Workload:
        return replace(workload, apart_from=tuple(other for other in workload.apart_from if other not in names))

    inquiry = change_workload(inquiry, name, lambda workload: dropped(workload, others))
    for other in others:
        inquiry = change_workload(inquiry, other, lambda workload: dropped(workload, (name,)))
    return inquiry


def _changed(inquiry: Inquiry, name: str, **fields: Any) -> Inquiry:
    return change_workload(inquiry, name, lambda workload: replace(workload, **fields))


def _of_the_workload(inquiry: Inquiry, w: Workload) -> Iterator[Relaxation]:
    """Iterate over what the workload asks for beside its neighbours."""
    rules: list[tuple[str, bool, object, str, str]] = [
        ("spread", w.spread is not None, None, f"spread: each replica on a {_noun(w.spread)} of its own", "drop spread"),
        ("tenant", w.tenant is not None, None, f"tenant: no GPU shared with others than {w.tenant!r}", "drop tenant"),
        ("only_on", bool(w.only_on), (), f"only_on: {', '.join(w.only_on)}", "drop only_on"),
        ("never_on", bool(w.never_on), (), f"never_on: {', '.join(w.never_on)}", "drop never_on"),
        ("isolation", w.isolation != "any", "any", "isolation: MIG and whole GPUs only", "allow time-sliced vGPUs"),
        ("rdma", w.rdma, False, "rdma: a NIC beside each GPU", "drop rdma"),
    ]
    for field, holds, free, words, remedy in rules:
        if holds:
            yield Relaxation(Limit(field, words), _changed(inquiry, w.name, **{field: free}), remedy)
    if w.gpu_link is not None:
        limit = Limit("gpu_link", f"gpu_link: GPUs of a replica linked by {w.gpu_link} or better")
        yield Relaxation(limit, _changed(inquiry, w.name, gpu_link=None), "drop gpu_link")
    if w.memory_gib is not None:
        limit = Limit("memory_gib", f"memory_gib: {w.memory_gib:g} GiB in one profile")
        yield Relaxation(limit, _changed(inquiry, w.name, memory_gib=None if w.model else SMALLEST_GIB))
    if w.compute_slices is not None:
        limit = Limit("compute_slices", f"compute_slices: {w.compute_slices} in one profile")
        yield Relaxation(limit, _changed(inquiry, w.name, compute_slices=None, memory_gib=w.memory_gib or SMALLEST_GIB))


def _noun(level: str | None) -> str:
    return "GPU" if level == "gpu" else "host"


def _of_the_service(inquiry: Inquiry, w: Workload) -> Iterator[Relaxation]:
    if w.model is None:
        return
    if w.latency_ms is not None:
        limit = Limit("latency_ms", f"latency_ms: {w.latency_ms:g} ms")
        yield Relaxation(limit, _changed(inquiry, w.name, scenario="offline", latency_ms=None))
    for field in ("max_batch", "max_processes"):
        if getattr(w, field) is not None:
            limit = Limit(field, f"{field}: {getattr(w, field)}")
            yield Relaxation(limit, _changed(inquiry, w.name, **{field: None}), f"drop {field}")
    if w.profile is not None:
        limit = Limit("profile", f"profile: {w.profile} only")
        yield Relaxation(limit, _changed(inquiry, w.name, profile=None), "leave the profile open")


def _of_hosts(inquiry: Inquiry, fleet: Fleet) -> Iterator[Relaxation]:
    """Iterate over the limits of hosts that something placed, or to be placed, counts against."""
    takes = {field: any(getattr(w, field) for w in inquiry.workloads) for field in ("vcpus", "ram_gib")}
    changes: list[tuple[str, bool, str, Callable[[Host], Host]]] = [
        ("vcpus", takes["vcpus"], "vCPUs of hosts", lambda host: _without(host, "vcpus")),
        ("ram_gib", takes["ram_gib"], "memory of hosts", lambda host: _without(host, "ram_gib")),
        ("numa", any(takes.values()), "vCPUs and memory of single NUMA nodes", lambda host: replace(host, numa=())),
        ("max_vms", True, "the number of VMs on a host (max_vms)", lambda host: replace(host, max_vms=None)),
    ]
    for name, counts, words, change in changes:
        if counts and (changed := change_hosts(fleet, change)) != fleet:
            yield Relaxation(Limit(name, words), replace(inquiry, fleet=changed))


def _without(host: Host, field: str) -> Host:
    free: dict[str, Any] = {field: None}
    return replace(host, **free, numa=tuple(replace(node, **free) for node in host.numa))


def _of_gpus(inquiry: Inquiry, fleet: Fleet) -> Iterator[Relaxation]:
    opened = change_gpus(fleet, lambda gpu: gpu if gpu.instances else replace(gpu, mode=None))
    if opened != fleet:
        limit = Limit("mode", "mode: GPUs that stay in their mode")
        yield Relaxation(limit, replace(inquiry, fleet=opened), "leave the modes of GPUs open")
    cleared = change_gpus(fleet, lambda gpu: replace(gpu, instances=()))
    if cleared != fleet:
        limit = Limit("instances", "instances: existing instances that stay")
        yield Relaxation(limit, replace(inquiry, fleet=cleared), "remove existing instances")
