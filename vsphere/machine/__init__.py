"""Virtual machines as they shall be: values, how they come from a plan, their YAML, and pure builders of vSphere's specs.

`spec`, `rules` and `versions` alone know pyVmomi, and are imported when first used. Nothing here talks to a vCenter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsphere.machine.defaults import VmDefaults as VmDefaults
    from vsphere.machine.defaults import read_defaults as read_defaults
    from vsphere.machine.dump import dump as dump
    from vsphere.machine.files import load_vms as load_vms
    from vsphere.machine.files import save_vms as save_vms
    from vsphere.machine.files import vms_from_yaml as vms_from_yaml
    from vsphere.machine.files import vms_to_yaml as vms_to_yaml
    from vsphere.machine.identity import instance_uuid as instance_uuid
    from vsphere.machine.identity import plan_id as plan_id
    from vsphere.machine.layout import layout_vms as layout_vms
    from vsphere.machine.layout import power_on_order as power_on_order
    from vsphere.machine.limits import max_vgpus as max_vgpus
    from vsphere.machine.mmio import mmio_size_gb as mmio_size_gb
    from vsphere.machine.rules import host_rules as host_rules
    from vsphere.machine.rules import to_rules_spec as to_rules_spec
    from vsphere.machine.spec import to_config_spec as to_config_spec
    from vsphere.machine.versions import needed_versions as needed_versions
    from vsphere.machine.vm import Device as Device
    from vsphere.machine.vm import Nic as Nic
    from vsphere.machine.vm import Vm as Vm

_HOMES = {
    "defaults": ("VmDefaults", "read_defaults"),
    "dump": ("dump",),
    "files": ("load_vms", "save_vms", "vms_from_yaml", "vms_to_yaml"),
    "identity": ("instance_uuid", "plan_id"),
    "layout": ("layout_vms", "power_on_order"),
    "limits": ("max_vgpus",),
    "mmio": ("mmio_size_gb",),
    "rules": ("host_rules", "to_rules_spec"),
    "spec": ("to_config_spec",),
    "versions": ("needed_versions",),
    "vm": ("Device", "Nic", "Vm"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - all are strings


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vsphere.machine' has no attribute {name!r}")
    value = getattr(import_module(f"vsphere.machine.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
