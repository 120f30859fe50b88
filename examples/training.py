"""Training jobs on four linked GPUs each, beside inference on slices.

Reads what `nvidia-smi topo -m` prints (examples/training/topology.txt, made up: two boards of four GPUs with NVLink on
them, a NIC for each pair) and places jobs only on GPUs that are linked well enough and have a NIC for GPUDirect RDMA.

    python examples/training.py
"""

from dataclasses import replace
from pathlib import Path

import partitioner as gp

HERE = Path(__file__).with_name("training")


def main() -> None:
    """Place the jobs on two nodes, then ask for one over both boards."""
    links = gp.read_topology((HERE / "topology.txt").read_text(encoding="utf-8"))
    boards = (gp.NumaNode((0, 1, 2, 3), vcpus=64, ram_gib=512), gp.NumaNode((4, 5, 6, 7), vcpus=64, ram_gib=512))
    gpus = (gp.Gpu("A100-80GB"),) * 8
    fleet = gp.Fleet(tuple(gp.Host(name, gpus, numa=boards, links=links) for name in ("node-1", "node-2")))
    workloads = list(gp.load(HERE / "workloads.yaml"))

    plan = gp.plan(workloads, fleet=fleet, modes=("mig", "whole"))
    print(plan)

    for job in (workload for workload in workloads if workload.gpus_per_replica > 1):
        for replica in range(job.count):
            mine = [a for a in plan.assignments() if (a.workload, a.replica) == (job.name, replica)]
            nics = list(dict.fromkeys(nic for a in mine for nic in links.nics_beside(a.gpu)))
            on = ", ".join(f"gpu{a.gpu}" for a in mine)
            print(f"{job.name} #{replica}: {job.demand} on {mine[0].host} {on}, beside {', '.join(nics)}")

    # Eight GPUs of a node are not linked by NVLink all with each other: half of the pairs goes through the CPUs.
    wide = [replace(workloads[0], gpus_per_replica=8, count=1)]
    for link in ("NVLINK", "SYS"):
        answer = gp.plan([replace(job, gpu_link=link) for job in wide], fleet=fleet)
        print(f"8 GPUs linked by {link} at worst: " + ("placed" if answer.complete else "left out"))


if __name__ == "__main__":
    main()
