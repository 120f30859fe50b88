"""What a reader of a plan would not expect: time slicing, memory below its name, tables that were inferred."""

from __future__ import annotations

from partitioner import catalog
from partitioner.solver.demand import Demand
from partitioner.solver.problem import Solution
from partitioner.solver.supply import Supply
from partitioner.workload import Workloads


def notes(workloads: Workloads, supply: Supply, demand: Demand, solution: Solution) -> tuple[str, ...]:
    """Return what a reader would not expect, in words."""
    used = {
        (supply.kinds[demand.problem.slots[slot].kind].model, demand.problem.slots[slot].mode, demand.profiles[c, slot].name)
        for (c, slot), count in solution.served.items()
        if count
    }
    found = []
    sliced = sorted({model for model, mode, _ in used if mode.startswith("vgpu")})
    if supply.modes is None and sliced and any(catalog.gpu(model).compute_slices for model in sliced):
        found.append(
            f"time-sliced vGPUs on {', '.join(sliced)} need a hypervisor with NVIDIA's vGPU manager;"
            " for bare metal plan with modes=('mig', 'whole')"
        )
    found += _memory_below_its_name(workloads, supply, demand, solution)
    for model in sorted({model for model, mode, _ in used if mode == "mig"}):
        mig = catalog.gpu(model).record.mig
        inferred = {
            fact
            for profile in (mig.profiles if mig else ())
            if (model, "mig", profile.name) in used
            for fact in profile.inferred
            if fact in ("placements", "memory_mib")
        }
        if inferred:
            what = " and ".join({"placements": "starts", "memory_mib": "memory"}[fact] for fact in sorted(inferred, reverse=True))
            found.append(
                f"{model}: {what} of the profiles used are inferred, not read off a driver; check before relying on them"
            )
    return tuple(found)


def _memory_below_its_name(workloads: Workloads, supply: Supply, demand: Demand, solution: Solution) -> list[str]:
    """Explain demands that just miss a profile whose name promises enough: 10 GiB and 1g.10gb with 9.5 GiB usable.

    Only where it matters: replicas took a larger MIG profile, or were left out.
    """
    taken: dict[int, list[tuple[int, str, int]]] = {}
    for (number, slot), count in solution.served.items():
        if count:
            where = demand.problem.slots[slot]
            taken.setdefault(number, []).append((where.kind, where.mode, demand.profiles[number, slot].memory_mib))
    notes: dict[str, None] = {}
    seen: set[tuple[float, int]] = set()
    plain = [
        (kind, k.model, profile, 1024 * int(profile.name.split(".")[1].split("gb")[0]))
        for kind, k in enumerate(supply.kinds)
        for profile in (catalog.gpu(k.model).geometry("mig").profiles if "mig" in k.modes else ())
        if not profile.attributes
    ]
    for workload, number in zip(workloads, demand.class_of.tolist(), strict=True):
        if workload.memory_gib is None or (workload.memory_gib, number) in seen:
            continue
        seen.add((workload.memory_gib, number))
        missing = solution.placed[number] < demand.problem.classes[number].count
        for kind, model, profile, named_mib in plain:
            if profile.memory_mib < workload.memory_gib * 1024 <= named_mib:
                largest = max((mib for at, mode, mib in taken.get(number, ()) if at == kind and mode == "mig"), default=0)
                if missing or largest > profile.memory_mib:
                    usable = f"{profile.memory_mib / 1024:g} GiB of it are usable"
                    notes[f"{workload.memory_gib:g} GiB do not fit {profile.name} of {model}: {usable}"] = None
    return list(notes)[:5]
