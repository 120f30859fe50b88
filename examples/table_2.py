"""The eight scenarios of Table 2 of "MLPerf v1.1 Inference on Virtualized and Multi-Instance GPUs" (Dell, 16 May 2022).

Each scenario is one A100 80GB, cut for one VM up to seven. The profiles are written as the document writes them; the
planner reads that spelling, NVIDIA's (4g.40gb) and vSphere's (grid_a100d-4-40c) alike.

    python examples/table_2.py
"""

from partitioner import plan_mig

GPU = "A100-80GB"
SCENARIOS = {
    1: "MIG nvidia-7-80c",
    2: "MIG nvidia-4-40c",
    3: "MIG nvidia-3-40c",
    4: "MIG nvidia-2-20c",
    5: "MIG nvidia-1-10c",
    6: "MIG nvidia-4-40c + nvidia-2-20c + nvidia-1-10c",
    7: "MIG nvidia-2-20c + nvidia-2-20c + nvidia-2-20c + nvidia-1-10c",
    8: "MIG nvidia-1-10c* 7",
}


def main() -> None:
    """Plan every scenario and print where its instances stand."""
    for number, profiles in SCENARIOS.items():
        # Without `gpus` the planner finds how many are needed; `verify` inside it has checked the answer already.
        plan = plan_mig(profiles, gpu=GPU)
        instances = ", ".join(f"{a.profile} at {a.start}" for a in plan.assignments())
        print(f"Scenario {number}: {profiles}")
        print(f"  {plan.gpus_used} GPU, at least {plan.lower_bound} needed: {plan.status} ({plan.certificate})")
        print(f"  {plan.placed} VM{'s' * (plan.placed > 1)}: {instances}")
        # Stranded slices are free, but no profile can reach them any more.
        metrics = plan.metrics
        print(f"  stranded: {metrics.stranded_memory_slices} memory, {metrics.stranded_compute_slices} compute slices")


if __name__ == "__main__":
    main()
