"""What a vCenter has, as far as GPUs are concerned: hosts, GPUs, virtual machines, and whose they are.

Values only. They say what was read, in vCenter's own names and spellings; `Inventory.fleet` and `Inventory.layout` say what
it means to a planner. They can be written to a file and read back without a vCenter. This package must not know pyVmomi.
"""

from vsphere.values.host import GpuInfo, HostInfo, NicInfo, NumaInfo
from vsphere.values.inventory import ClusterInfo, DatastoreInfo, GroupInfo, Inventory, NetworkInfo, RuleInfo
from vsphere.values.machine import UUID, Mark, Place, VmDevice, VmInfo
from vsphere.values.terms import PREFIX

__all__ = [
    "PREFIX",
    "UUID",
    "ClusterInfo",
    "DatastoreInfo",
    "GpuInfo",
    "GroupInfo",
    "HostInfo",
    "Inventory",
    "Mark",
    "NetworkInfo",
    "NicInfo",
    "NumaInfo",
    "Place",
    "RuleInfo",
    "VmDevice",
    "VmInfo",
]
