"""Writes a systemd unit, and its script, that restores a host's layout after a reboot. Must not know other formats.

Ordering follows nvidia-mig-manager.service (NVIDIA/mig-parted, deployments/systemd, read at bd7160f4, 2026-08-21), and adds
what starts programs that would use a GPU before its instances are there.
"""

from __future__ import annotations

import re

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.export.commands import gpu_argument, specifiers
from partitioner.export.files import Files, file_stem
from partitioner.export.machines import Machine, Source, machines, occupants, plain
from partitioner.export.restore import RESTORE
from partitioner.layout import GpuLayout, gpu_label

SCRIPT = "/usr/local/sbin/gpu-partitioner-layout"
"""Where the unit expects the script, unless told otherwise."""
NAME = "gpu-partitioner-layout"

_UNIT = """\
# Written by gpu-partitioner: restores the MIG layout of @HOST@ at boot.
#
# Install, as root:
#   install -m 0755 @NAME@.sh @SCRIPT@
#   install -m 0644 @NAME@.service /etc/systemd/system/
#   systemctl daemon-reload && systemctl enable @NAME@.service
# nvidia-mig-manager.service, where installed, changes MIG too: disable one of the two.
# What must not start without the instances: add Requires= and After=@NAME@.service to its unit.

[Unit]
Description=Restore the planned MIG layout
After=systemd-modules-load.service nvidia-persistenced.service nvidia-fabricmanager.service
Before=nvidia-gpu-reset.target nvidia-dcgm.service containerd.service docker.service kubelet.service slurmd.service

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=480
ExecStart=/bin/sh @SCRIPT@

[Install]
WantedBy=multi-user.target
"""
_PATH = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+")


def systemd(source: Source, *, host: str | None = None, script: str = SCRIPT) -> Files:
    """Return a systemd unit and the shell script that it runs, which restore a host's layout after a reboot.

    The script needs nothing but nvidia-smi and a POSIX shell. It does nothing where the layout is as planned, creates only
    what is missing, each instance at its placement, verifies, and refuses, changing nothing, where an instance stands that
    is not in the plan or the GPU is another model. With ``check`` as its argument it only says whether the layout is as
    planned. GPUs that are not used and may keep their mode are not looked at.

    Parameters
    ----------
    source : a `Plan`, a `Layout`, or anything with a ``layout``.
    host : the only host wanted; None for all, each host's files then in a folder of its own where there are several.
    script : absolute path where the script will lie on the host.

    Returns
    -------
    ``gpu-partitioner-layout.service``, whose comments say how to install both, and ``gpu-partitioner-layout.sh``.

    Raises
    ------
    SpecError
        The host is not in the layout, a GPU is in a vGPU mode, or the path is not absolute and plain.
    """
    if not _PATH.fullmatch(script):
        raise SpecError(f"script {script!r}: an absolute path of letters, digits and ._- is wanted, e.g. {SCRIPT}")
    every = machines(source, host)
    folders = _folders(every)
    contents = {}
    for machine, folder in zip(every, folders, strict=True):
        whom = plain(machine.label)
        unit = _UNIT.replace("@NAME@", NAME).replace("@SCRIPT@", script).replace("@HOST@", whom)
        lines = [line for gpu in machine.gpus for line in _gpu_lines(gpu)]
        body = "\n".join(lines or ["    :  # no GPU is used"])
        if not any(line.startswith('    "$1"') for line in lines):
            body += "\n    :"
        contents[f"{folder}{NAME}.service"] = unit
        contents[f"{folder}{NAME}.sh"] = RESTORE.replace("@PLAN@", body).replace("@HOST@", whom)
    return Files(contents)


def _folders(every: tuple[Machine, ...]) -> list[str]:
    """Return a folder for each host, none where there is only one."""
    if len(every) == 1:
        return [""]
    taken: set[str] = set()
    found = []
    for machine in every:
        stem = name = file_stem(machine.host or "host")
        number = 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        found.append(f"{name}/")
    return found


def _gpu_lines(gpu: GpuLayout) -> list[str]:
    label = plain(f"{gpu_label(gpu.host, gpu.gpu)} ({gpu.model})")
    if gpu.mode is None:
        return [f"    # {label}: not in use, left as it is"]
    ids = " ".join(f"0x{device_id:04X}10DE" for device_id in catalog.gpu(gpu.model).pci_device_ids) or "-"
    mode, wanted = ("Enabled", specifiers(gpu)) if gpu.mode == "mig" else ("Disabled", [])
    return [f"    # {label} {gpu.mode}: {occupants(gpu)}", " ".join([f'    "$1" {gpu_argument(gpu)} {mode} "{ids}"', *wanted])]
