"""What people read of a machine in vCenter."""

from __future__ import annotations

from vsphere.machine.vm import Vm


def annotation(vm: Vm) -> str:
    """Return the notes of a machine."""
    replicas = ", ".join(map(str, vm.replicas))
    return f"gpu-partitioner: workload {vm.workload}, replica {replicas}, plan {vm.plan}"
