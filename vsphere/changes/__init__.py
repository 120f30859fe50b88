"""What has to happen to virtual machines: ordered steps between what a vCenter has and what shall be. Must not know pyVmomi."""

from __future__ import annotations

from vsphere.changes.changes import FORMAT, VmChanges
from vsphere.changes.difference import diff
from vsphere.changes.step import Kind, VmStep

__all__ = ["FORMAT", "Kind", "VmChanges", "VmStep", "diff"]
