"""How many A100s do these services need, and how are they cut? From rates and latencies, with proof.

Plans examples/services/workloads.yaml with the measurements that come with the package, then asks what entire GPUs would
take, and what faster answers would cost.

    python examples/services.py
"""

from dataclasses import replace
from pathlib import Path

import partitioner as gp

GPU = "A100-80GB"
CUT = ("mig", "whole")  # what bare metal can do; time-sliced vGPUs need a hypervisor


def main() -> None:
    """Plan the services, with MIG and without, and with less and less time for an answer."""
    services = list(gp.load(Path(__file__).with_name("services") / "workloads.yaml"))
    plan = gp.plan(services, gpu=GPU, modes=CUT)
    print(plan)

    served: dict[str, float] = {}
    for assignment in plan.assignments():
        served[assignment.workload] = served.get(assignment.workload, 0.0) + (assignment.throughput or 0.0)
    for service in services:
        print(f"{service.name:8} {service.demand:49} gets {served[service.name]:6,.0f}/s")

    entire = gp.plan(services, gpu=GPU, modes=("whole",))
    print(f"\n{plan.gpus_used} GPUs, at least {plan.lower_bound}: {plan.status}; entire GPUs would be {entire.gpus_used}.")

    print("\nThe price of a fast answer, with batches in part of the time they may take:")
    for share in (0.5, 0.25, 0.125):
        faster = [replace(s, latency_ms=s.latency_ms * share) if s.scenario == "batch" else s for s in services]
        try:
            answer = gp.plan(faster, gpu=GPU, modes=CUT)
            print(f"  {share:6.1%}: {answer.gpus_used} GPUs, at least {answer.lower_bound}")
        except gp.SpecError as error:  # no profile is that fast, or nobody has measured it
            print(f"  {share:6.1%}:", *(problem.message for problem in error.problems), sep="\n    ")


if __name__ == "__main__":
    main()
