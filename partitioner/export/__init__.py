"""A plan for other tools: nvidia-mig-parted, nvidia-smi, systemd, Kubernetes, CUDA.

Each export takes a plan or a layout, of one host (``host=``) or of all. Only MIG and whole GPUs can be exported:
time-sliced vGPUs are a hypervisor's. This package must not know targets or the driver.
"""

from __future__ import annotations

from partitioner.export.commands import nvidia_smi
from partitioner.export.counts import mig_config_names, mig_parted
from partitioner.export.files import Files
from partitioner.export.manifests import Manifests, kubernetes
from partitioner.export.parted_file import ConfigEntry, MigConfigs, from_mig_parted
from partitioner.export.units import systemd
from partitioner.export.visible import VisibleDevices, cuda_visible_devices

__all__ = [
    "ConfigEntry",
    "Files",
    "Manifests",
    "MigConfigs",
    "VisibleDevices",
    "cuda_visible_devices",
    "from_mig_parted",
    "kubernetes",
    "mig_config_names",
    "mig_parted",
    "nvidia_smi",
    "systemd",
]
