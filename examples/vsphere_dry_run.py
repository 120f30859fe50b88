"""From the inventory of a vCenter to the virtual machines that a plan asks for, without a vCenter.

`examples/vsphere_cluster/inventory.yaml` is what `partitioner vsphere inventory --out FILE` writes. Everything here only
computes; with a vCenter, `vsphere.connect(...)` gives the same inventory, and `vsphere.applying.apply` carries the steps out.
The same on the command line:

    partitioner vsphere plan workloads.yaml --from inventory.yaml --defaults defaults.yaml --vms vms.yaml
    partitioner vsphere diff vms.yaml --from inventory.yaml

    python examples/vsphere_dry_run.py
"""

from pathlib import Path

import partitioner as gp
import vsphere
from vsphere import inventory
from vsphere.machine import read_defaults

HERE = Path(__file__).parent / "vsphere_cluster"


def main() -> None:
    """Read, plan, show the machines and the steps that would make them."""
    there = inventory.load(HERE / "inventory.yaml")
    print(f"{there.vcenter}: {len(there.hosts)} hosts, {len(there.vms)} virtual machine, not ours")

    # The machine of somebody else is occupied space in the fleet; GPUs stay in the mode they are in.
    plan = gp.plan(HERE / "workloads.yaml", fleet=there.fleet(), current=there.layout())
    print(f"{plan.placed} replicas on {plan.gpus_used} GPUs, {plan.status}")

    # One machine for each replica, with vGPU types spelled as each host offers them. An administrator may edit them as YAML.
    vms = vsphere.layout_vms(plan, read_defaults(HERE / "defaults.yaml"), hosts=there)
    chat = vms[0]
    print(f"\n{chat.name} on {chat.host}: {', '.join(chat.vgpus)}, {chat.vcpus} vCPUs, {chat.ram_gib:g} GiB, {chat.firmware}")
    for key, value in chat.extra_config().items():
        print(f"  {key} = {value}")

    # + is made or switched on, ~ is changed, - goes, ! is interrupted; large profiles are switched on first.
    print(f"\n{vsphere.diff(there, vms)}")


if __name__ == "__main__":
    main()
