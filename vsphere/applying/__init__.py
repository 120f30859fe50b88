"""Carrying changes of machines out on a vCenter, all of them or none, also across kills."""

from __future__ import annotations

from vsphere.applying.carrying import VmProgress
from vsphere.applying.report import VmReport
from vsphere.applying.runs import apply, destroy, rollback

__all__ = ["VmProgress", "VmReport", "apply", "destroy", "rollback"]
