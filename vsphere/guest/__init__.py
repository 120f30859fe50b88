"""What runs inside a virtual machine: cloud-init's files for the GPU driver, its licence, containers, Triton, and a check.

Built from values alone; nothing here talks to a vCenter or a guest. Secrets come from files and go into `GuestInfo` only.
"""

from vsphere.guest.check import read_report
from vsphere.guest.cloud import meta_data, network_config, user_data
from vsphere.guest.guestinfo import GuestInfo, guestinfo, save_guestinfo
from vsphere.guest.values import Guest, Nic, Triton, load_guest

__all__ = [
    "Guest",
    "GuestInfo",
    "Nic",
    "Triton",
    "guestinfo",
    "load_guest",
    "meta_data",
    "network_config",
    "read_report",
    "save_guestinfo",
    "user_data",
]
