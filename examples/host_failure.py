"""N+1: a plan that survives the loss of any one host, and what that costs.

With `host_failures=1` the plan cuts spare instances such that whichever host fails, all its replicas find room on the
others, within their vCPUs, memory and numbers of VMs, and under the same rules: chat stays spread over hosts, the two
databases stay apart. The plan says where each replica goes.

    python examples/host_failure.py
"""

from collections import Counter
from pathlib import Path

import partitioner as gp

HERE = Path(__file__).with_name("host_failure")


def main() -> None:
    """Plan with and without regard to failures, and follow the replicas of each host."""
    workloads, fleet = HERE / "workloads.yaml", HERE / "fleet.yaml"
    plain = gp.plan(workloads, fleet=fleet)
    safe = gp.plan(workloads, fleet=fleet, host_failures=1)
    print(safe)

    for title, plan in (("as they are", plain), ("when any one host may fail", safe)):
        spare = sum(slot.workload is None for gpu in plan.layout for slot in gpu.slots)
        print(f"{title}: {plan.placed} replicas on {plan.gpus_used} GPUs (at least {plan.lower_bound}), {spare} spare instances")

    print("\nWhere they go:")
    for host in dict.fromkeys(move.failed_host for move in safe.failover):
        goes = Counter((move.workload, move.host) for move in safe.failover if move.failed_host == host)
        print(f"  {host} fails: " + ", ".join(f"{count} x {name} to {there}" for (name, there), count in goes.items()))


if __name__ == "__main__":
    main()
