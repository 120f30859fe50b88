"""Hosts in rows: what their replicas take of them, where replicas go when one fails, replicas on several GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from partitioner.fleet import Fleet, Host
from partitioner.layout import NOBODY, Assignment, Layout
from partitioner.report.section import Section, plain, rate
from partitioner.topology import LEVELS, Topology

if TYPE_CHECKING:
    from partitioner.plans import Plan
    from partitioner.workload import Workload

_RESOURCES = {"vcpus": "vCPUs", "ram_gib": "GiB RAM", "max_vms": "VMs"}

Taken = Mapping[str, npt.NDArray[np.float64]]
"""What each GPU's replicas take of its host, by resource; shape ``(n_gpus,)``."""


def _taken(layout: Layout, workloads: Sequence[Workload]) -> Taken:
    """Return what replicas take; one on k GPUs takes a k-th beside each of them."""
    held = layout.occupant != NOBODY
    gpu = np.repeat(np.arange(len(layout)), np.diff(layout.offsets))[held]
    by_name = {workload.name: workload for workload in workloads}
    asked = [by_name[name] for name in layout.workloads]
    amounts: dict[str, list[float]] = {
        "vcpus": [(w.vcpus or 0) / w.gpus_per_replica for w in asked],
        "ram_gib": [(w.ram_gib or 0) / w.gpus_per_replica for w in asked],
        "max_vms": [1 / w.gpus_per_replica for w in asked],
    }
    who = layout.occupant[held]
    weights = {name: np.array(each, dtype=np.float64)[who] for name, each in amounts.items()}
    return {name: np.bincount(gpu, each, minlength=len(layout)).astype(np.float64) for name, each in weights.items()}


def _limited(fleet: Fleet | None) -> bool:
    return any(
        limit is not None
        for host in (fleet.hosts if fleet else ())
        for limit in (host.vcpus, host.ram_gib, host.max_vms, *(n.vcpus for n in host.numa), *(n.ram_gib for n in host.numa))
    )


def hosts(plan: Plan) -> Section | None:
    """Return a table of what is taken of the hosts in use; None where no host has a limit."""
    if plan.fleet is None or not _limited(plan.fleet):
        return None
    layout, taken = plan.layout, _taken(plan.layout, plan.workloads)
    shown: list[dict[str, str]] = []
    for host, gpus in _gpus_of(layout, plan.fleet):
        used = int(layout.used[gpus].sum())
        if not used:
            continue
        figures = {heading: _of(taken[name][gpus].sum(), getattr(host, name)) for name, heading in _RESOURCES.items()}
        shown.append({"host": host.name, "GPUs": f"{used} of {len(host.gpus)}", **figures})
        for number, node in enumerate(host.numa):
            here = gpus[list(node.gpus)]
            figures = {
                heading: _of(taken[name][here].sum(), getattr(node, name)) if name != "max_vms" else ""
                for name, heading in _RESOURCES.items()
            }
            part = f"{int(layout.used[here].sum())} of {len(node.gpus)}"
            shown.append({"host": f"  NUMA node {number}", "GPUs": part, **figures})
    return Section.of("hosts in use", shown) if shown else None


def host_figures(plan: Plan) -> dict[str, str]:
    """Return what is taken of each host in short, by the host's name; empty where no host has a limit.

    Parameters
    ----------
    plan : a plan; ``{"esx-01": "48 of 64 vCPUs, 3 of 8 VMs"}`` for example.
    """
    if plan.fleet is None or not _limited(plan.fleet):
        return {}
    taken = _taken(plan.layout, plan.workloads)
    return {
        host.name: ", ".join(
            f"{_of(taken[name][gpus].sum(), getattr(host, name))} {heading}"
            for name, heading in _RESOURCES.items()
            if getattr(host, name) is not None
        )
        for host, gpus in _gpus_of(plan.layout, plan.fleet)
    }


def _gpus_of(layout: Layout, fleet: Fleet) -> Iterator[tuple[Host, npt.NDArray[np.intp]]]:
    """Yield each host with the rows of its GPUs, in the order of their indices."""
    rows: dict[str | None, list[tuple[int, int]]] = {}
    for row, (host, index) in enumerate(zip(layout.gpu_host.tolist(), layout.gpu_index.tolist(), strict=True)):
        rows.setdefault(layout.hosts[host], []).append((index, row))
    for described in fleet.hosts:
        yield described, np.array([row for _, row in sorted(rows.get(described.name, ()))], dtype=np.intp)


def _of(taken: float, limit: float | None) -> str:
    amount = plain(round(float(taken), 2))
    return amount if limit is None else f"{amount} of {plain(limit)}"


# -- the loss of a host ------------------------------------------------------------------------------------------------

_Rates = dict[tuple[str, str], float]  # host and workload to what it serves there [requests/s]; 0 where it is no service


def failover(plan: Plan) -> Section | None:
    """Return a table of what happens when a host in use fails; None where the plan does not look at that."""
    if not plan.host_failures or plan.fleet is None:
        return None
    served: _Rates = {}
    for assignment in plan.assignments():
        key = (assignment.host or "", assignment.workload)
        served[key] = served.get(key, 0.0) + (assignment.throughput or 0.0)
    goes, moved = _moves(plan)
    shown = []
    for host in dict.fromkeys(name for name, _ in served):
        moves = [f"{len(who):,} {name} to {target}" for (name, target), who in goes.get(host, {}).items()]
        row = {"when it fails": host, "replicas go": ", ".join(moves) or "none has to"}
        shown.append(row | ({"services then": _rates_then(plan, host, served, moved)} if plan.ratings else {}))
    return Section.of("the loss of a host", shown) if shown else None


def _moves(plan: Plan) -> tuple[dict[str, dict[tuple[str, str], set[int]]], _Rates]:
    """Return for each failed host the replicas of each workload by where they go, and what services serve there."""
    models = {(host, index): gpu.model for host, index, gpu in plan.fleet or ()}
    goes: dict[str, dict[tuple[str, str], set[int]]] = {}
    moved: _Rates = {}
    for move in plan.failover:
        goes.setdefault(move.failed_host, {}).setdefault((move.workload, move.host), set()).add(move.replica)
        rating = plan.ratings.get((move.workload, models[move.host, move.gpu], move.mode, move.profile))
        if rating is not None:
            key = (move.failed_host, move.workload)
            moved[key] = moved.get(key, 0.0) + rating.throughput_rps
    return goes, moved


def _rates_then(plan: Plan, host: str, served: _Rates, moved: _Rates) -> str:
    """Return what the services of a host serve without it, e.g. ``search 1,585 of 1,500/s``."""
    rates = []
    for workload in plan.workloads:
        key = (host, workload.name)
        if workload.model is not None and key in served:
            total = sum(amount for (_, name), amount in served.items() if name == workload.name)
            then = total - served[key] + moved.get(key, 0.0)
            rates.append(f"{workload.name} {rate(then)} of {rate(workload.rate or 0)}/s")
    return ", ".join(rates) or "-"


# -- replicas on several GPUs ------------------------------------------------------------------------------------------


def jobs(plan: Plan) -> Section | None:
    """Return a table of the replicas that take several profiles, with the GPUs of each; None where there are none."""
    wide = {workload.name: workload for workload in plan.workloads if workload.gpus_per_replica > 1}
    if not wide:
        return None
    taken: dict[tuple[str, int], list[Assignment]] = {}
    for assignment in plan.layout.assignments():
        if assignment.workload in wide:
            taken.setdefault((assignment.workload, assignment.replica), []).append(assignment)
    order = {name: number for number, name in enumerate(wide)}
    links = {host.name: host.links for host in plan.fleet.hosts} if plan.fleet else {}
    shown = []
    for (name, replica), parts in sorted(taken.items(), key=lambda item: (order[item[0][0]], item[0][1])):
        host, gpus = parts[0].host or "", sorted({part.gpu for part in parts})
        here = links.get(host)
        row = {
            "replica": f"{name} #{replica}",
            "takes": f"{len(parts)} x {parts[0].profile}",
            "host": host,
            "on": ", ".join(f"gpu{gpu}" for gpu in gpus),
            "worst link": _worst(here, gpus),
        }
        if any(workload.rdma for workload in wide.values()):
            beside = dict.fromkeys(nic for gpu in gpus for nic in (here.nics_beside(gpu) if here else ()))
            row["NICs beside"] = ", ".join(beside) if wide[name].rdma else ""
        shown.append(row)
    return Section.of("replicas on several GPUs", shown) if shown else None


def _worst(links: Topology | None, gpus: Sequence[int]) -> str:
    if links is None or len(gpus) < 2:
        return "-"
    return next(level for level in LEVELS if links.allows(gpus, level))
