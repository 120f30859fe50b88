"""vSphere as a target of plans: what a vCenter has, virtual machines that carry a plan out, and how they get there.

Names are imported when they are first used, so that ``import vsphere`` costs next to nothing; pyVmomi is loaded only by what
talks to a vCenter or builds its requests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsphere.applying import VmReport as VmReport
    from vsphere.applying import apply as apply
    from vsphere.applying import destroy as destroy
    from vsphere.applying import rollback as rollback
    from vsphere.changes import VmChanges as VmChanges
    from vsphere.changes import diff as diff
    from vsphere.errors import CertificateError as CertificateError
    from vsphere.errors import ConnectError as ConnectError
    from vsphere.errors import LoginError as LoginError
    from vsphere.errors import PrivilegeError as PrivilegeError
    from vsphere.errors import VersionError as VersionError
    from vsphere.errors import VSphereError as VSphereError
    from vsphere.machine import Vm as Vm
    from vsphere.machine import VmDefaults as VmDefaults
    from vsphere.machine import layout_vms as layout_vms
    from vsphere.machine import mmio_size_gb as mmio_size_gb
    from vsphere.machine import to_config_spec as to_config_spec
    from vsphere.names import vgpu_type as vgpu_type
    from vsphere.target import VSphereTarget as VSphereTarget
    from vsphere.target import connect as connect
    from vsphere.values import GpuInfo as GpuInfo
    from vsphere.values import HostInfo as HostInfo
    from vsphere.values import Inventory as Inventory
    from vsphere.values import Mark as Mark
    from vsphere.values import VmInfo as VmInfo

_HOMES = {
    "applying": ("VmReport", "apply", "destroy", "rollback"),
    "changes": ("VmChanges", "diff"),
    "errors": ("CertificateError", "ConnectError", "LoginError", "PrivilegeError", "VSphereError", "VersionError"),
    "machine": ("Vm", "VmDefaults", "layout_vms", "mmio_size_gb", "to_config_spec"),
    "names": ("vgpu_type",),
    "target": ("VSphereTarget", "connect"),
    "values": ("GpuInfo", "HostInfo", "Inventory", "Mark", "VmInfo"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - all are strings


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vsphere' has no attribute {name!r}")
    value = getattr(import_module(f"vsphere.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
