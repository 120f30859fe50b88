"""Fewest GPUs, lowest cost, or least power? One fleet of four GPU models, planned for each.

An A100 is the fewest GPUs and seldom the cheapest: what fits on a T4 or an A40 may cost less there. Each answer is proven
best in what it was asked for; the table shows what the others give away.

    python examples/mixed_fleet.py
"""

from collections import Counter
from pathlib import Path

import partitioner as gp

HERE = Path(__file__).with_name("mixed_fleet")
GOALS = {
    "fewest GPUs": ("placed", "gpus", "cost"),
    "lowest cost": ("placed", "cost", "gpus"),
    "least power": ("placed", "power", "gpus"),
}


def main() -> None:
    """Plan the same workloads for three goals."""
    fleet = gp.load(HERE / "fleet.yaml")
    gpus = {(host, index): gpu for host, index, gpu in fleet}
    plans = {goal: gp.plan(HERE / "workloads.yaml", fleet=fleet, objective=stages) for goal, stages in GOALS.items()}
    print(plans["lowest cost"])

    print(f"{'':12} {'GPUs':>5} {'per hour':>9} {'W':>6}  on")
    for goal, plan in plans.items():
        used = [gpus[gpu.host, gpu.gpu] for gpu in plan.layout if gpu.slots]
        models = ", ".join(f"{count} x {model}" for model, count in sorted(Counter(gpu.model for gpu in used).items()))
        cost, power = sum(gpu.cost_per_hour for gpu in used), sum(gpu.power_w for gpu in used)
        print(f"{goal:12} {len(used):5} {cost:9.2f} {power:6,.0f}  {models} ({plan.status})")


if __name__ == "__main__":
    main()
