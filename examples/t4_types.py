"""The vGPU types of the Tesla T4, and how many T4s a set of VMs needs.

The types and their maxima are those of Table 2 of "MLPerf Inference Virtualization in VMware vSphere Using NVIDIA
vGPUs" (VMware). A T4 shares its compute in time and its 16 GB of memory in equal parts: all vGPUs of one T4 have the
same size, and compute-only types (C) do not share a T4 with graphics types (Q).

    python examples/t4_types.py
"""

from partitioner import catalog, plan_vgpu

MAXIMA = {
    "GRID T4-1q": 16,
    "GRID T4-2q": 8,
    "GRID T4-4q": 4,
    "GRID T4-4c": 4,
    "GRID T4-8q": 2,
    "GRID T4-8c": 2,
    "GRID T4-16q": 1,
    "GRID T4-16c": 1,
}
VMS = {
    "classroom": {"T4-1Q": 30, "T4-2Q": 4},
    "sizes do not mix": {"T4-8Q": 1, "T4-4Q": 2},  # 16 GB in all, but one T4 has one size
    "series do not mix": {"T4-4Q": 2, "T4-4C": 2},  # 16 GB in all, of one size, but Q and C stay apart
    "office and inference": {"T4-1Q": 20, "T4-2Q": 10, "T4-4C": 6, "T4-16C": 2},
}


def main() -> None:
    """Compare the maxima with the catalogue, then plan the VMs."""
    print("Type           document  catalogue  GPUs for one more")
    for name, most in MAXIMA.items():
        known = catalog.gpu("T4").profile(name).max_count
        one_more = plan_vgpu({name: most + 1}, gpu="T4")
        print(f"{name:14} {most:8}  {known:9}  {one_more.gpus_used}")

    print("\nHow many T4s for these VMs?")
    for title, vms in VMS.items():
        plan = plan_vgpu(vms, gpu="T4")
        wanted = " + ".join(f"{count} x {name}" for name, count in vms.items())
        print(f"{title}: {wanted}")
        print(f"  {plan.gpus_used} T4s, at least {plan.lower_bound} needed ({plan.status})")
        for gpu in plan.layout:
            print(f"  gpu{gpu.gpu}: {gpu.mode}, " + ", ".join(slot.profile for slot in gpu.slots))


if __name__ == "__main__":
    main()
